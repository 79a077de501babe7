//! As whom we come to Elasticsearch and Kibana.

use anyhow::{Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use elasticsearch::auth::Credentials;
use reqwest::RequestBuilder;
use secrecy::{ExposeSecret, SecretString};

/// A user with a password, or an API key, which stands for both.
#[derive(Debug, Clone)]
pub(crate) enum Login {
    /// A user.
    Password {
        /// Its name.
        user: String,
        /// Its password.
        password: SecretString,
    },
    /// An API key.
    ApiKey(ApiKey),
}

impl Login {
    /// For Elasticsearch's client.
    pub(crate) fn credentials(&self) -> Credentials {
        match self {
            Self::Password { user, password } => {
                Credentials::Basic(user.clone(), password.expose_secret().to_owned())
            }
            Self::ApiKey(key) => Credentials::EncodedApiKey(key.encoded().to_owned()),
        }
    }

    /// The request with our credentials.
    pub(crate) fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Password { user, password } => {
                request.basic_auth(user, Some(password.expose_secret()))
            }
            Self::ApiKey(key) => {
                request.header("authorization", format!("ApiKey {}", key.encoded()))
            }
        }
    }
}

/// We without the secret, as errors name us.
impl std::fmt::Display for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "the user {user}"),
            Self::ApiKey(key) => write!(f, "the API key {}", key.id()),
        }
    }
}

/// An API key of Elasticsearch's, in the form that it calls `encoded`: base64 of its id, a colon and the secret.
#[derive(Debug, Clone)]
pub(crate) struct ApiKey {
    encoded: SecretString,
    id: String,
}

impl ApiKey {
    /// Takes it apart; the error does not hold it.
    pub(crate) fn parse(encoded: SecretString) -> Result<Self> {
        let decoded = STANDARD.decode(encoded.expose_secret()).ok();
        let decoded = decoded.and_then(|it| String::from_utf8(it).ok());
        let id = decoded.as_deref().and_then(|it| {
            let (id, secret) = it.split_once(':')?;
            let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            (!id.is_empty() && id.chars().all(is_id) && !secret.is_empty()).then(|| id.to_owned())
        });
        match id {
            Some(id) => Ok(Self { encoded, id }),
            None => bail!(
                "must be an API key of Elasticsearch's in the form that it calls encoded: base64 of the key's id, a colon and the key"
            ),
        }
    }

    /// As it is sent, and kept in files.
    pub(crate) fn encoded(&self) -> &str {
        self.encoded.expose_secret()
    }

    /// By which Elasticsearch names it.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}
