//! The GitLabs that notices may be about, and by what the callers of each are known.
//!
//! INVARIANT: no caller names a host. A credential proves for which of them it is; a name, an issuer or a
//! header only chooses among those.

use jiff::Timestamp;
use notice::Instance;
use secrecy::SecretString;

use crate::{
    identity::{self, IdTokens, Identity, Unproven},
    intake::{self, Fields},
    secrets::Secrets,
    ways::{Way, Ways},
    webhook::{Callers, Credentials},
};

/// One GitLab.
pub(crate) struct Origin {
    pub(crate) instance: Instance,
    /// Callers of `POST /v1/jobs` that share a secret with us.
    pub(crate) api_secrets: Secrets,
    /// And those that are known by this GitLab.
    pub(crate) id_tokens: Option<IdTokens>,
    pub(crate) webhook_callers: Callers,
}

/// All of them, at least one; where nothing chooses, the first one counts.
pub(crate) struct Origins(Vec<Origin>);

/// Who calls `POST /v1/jobs`, and about which GitLabs they may speak.
pub(crate) struct Caller<'a> {
    pub(crate) instances: Vec<&'a Instance>,
    credential: Credential,
}

enum Credential {
    /// A GitLab token, with which the log is fetched.
    Token(SecretString),
    /// A secret that is shared with us.
    Shared,
    /// It is this job.
    Job(Identity),
}

/// Why it is not known which GitLab an event is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// Nothing proves that it is from one of ours.
    Unproven,
    /// Several of ours have its secret, and `X-Gitlab-Instance` names none of them.
    Ambiguous,
}

impl Origins {
    pub(crate) fn new(origins: Vec<Origin>) -> Self {
        Self(origins)
    }

    /// All of them, for a caller whose token any of them may have made.
    pub(crate) fn instances(&self) -> Vec<&Instance> {
        self.0.iter().map(|origin| &origin.instance).collect()
    }

    /// Who brings these headers. Where there is an `Authorization`, it counts alone.
    pub(crate) async fn caller(
        &self,
        ways: &Ways,
        private_token: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Caller<'_>, Unproven> {
        let Some(authorization) = authorization else {
            let token = private_token.filter(|_| ways.opens(Way::PrivateToken));
            let token = token.and_then(intake::token).ok_or(Unproven::Refused)?;
            return Ok(Caller {
                instances: self.instances(),
                credential: Credential::Token(token),
            });
        };
        // The scheme's case does not matter, as RFC 9110 has it.
        let (scheme, credential) = authorization.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unproven::Refused);
        }
        let sharing = self
            .0
            .iter()
            .filter(|origin| origin.api_secrets.allow(credential));
        let instances: Vec<_> = sharing.map(|origin| &origin.instance).collect();
        if !instances.is_empty() {
            return Ok(Caller {
                instances,
                credential: Credential::Shared,
            });
        }
        self.job(credential).await
    }

    /// The job that an ID token is of.
    async fn job(&self, token: &str) -> Result<Caller<'_>, Unproven> {
        let issuer = identity::claimed_issuer(token).ok_or(Unproven::Refused)?;
        let mut origins = self.0.iter();
        let origin = origins.find(|origin| origin.instance.is_at(&issuer));
        let known = origin.and_then(|origin| Some((origin, origin.id_tokens.as_ref()?)));
        let (origin, id_tokens) = known.ok_or(Unproven::Refused)?;
        let identity = id_tokens.identify(token).await?;
        Ok(Caller {
            instances: vec![&origin.instance],
            credential: Credential::Job(identity),
        })
    }

    /// Whether a webhook with this secret token is from any of them.
    pub(crate) fn know_secret(&self, token: &str) -> bool {
        // All are compared, so that the time says nothing.
        let known = self.0.iter();
        known.fold(false, |is_known, it| {
            it.webhook_callers.secrets.allow(token) | is_known
        })
    }

    /// The GitLab that sent an event. Its secret proves it, and `X-Gitlab-Instance` chooses where several have
    /// the same one; a single one may be known to itself by another address than to us.
    pub(crate) fn sender(
        &self,
        given: &Credentials<'_>,
        body: &[u8],
        url: Option<&str>,
    ) -> Result<&Instance, Unknown> {
        let now = Timestamp::now();
        let is_named = |origin: &Origin| url.is_some_and(|url| origin.instance.is_on(url));
        let proven: Vec<&Origin> = self
            .0
            .iter()
            .filter(|origin| origin.webhook_callers.know(given, body, now))
            .collect();
        let named: Vec<&Origin> = proven.iter().copied().filter(|it| is_named(it)).collect();
        match (named.as_slice(), proven.as_slice()) {
            ([], _) if self.0.iter().any(is_named) => Err(Unknown::Unproven),
            ([], []) => Err(Unknown::Unproven),
            ([origin], _) | ([], [origin]) => Ok(&origin.instance),
            _ => Err(Unknown::Ambiguous),
        }
    }
}

impl Caller<'_> {
    pub(crate) fn token(&self) -> Option<&SecretString> {
        match &self.credential {
            Credential::Token(token) => Some(token),
            Credential::Shared | Credential::Job(_) => None,
        }
    }

    /// A job speaks of itself alone. What can't be read is for others to refuse.
    pub(crate) fn may_speak_of(&self, fields: &Fields) -> bool {
        match &self.credential {
            Credential::Job(job) => job.may_be(fields),
            Credential::Token(_) | Credential::Shared => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets;

    const SHARED: &str = "shared-0123456789abcdef";

    fn origin(url: &str, secrets: &str) -> Origin {
        let (secrets, keys) = secrets::parse(&secrets.to_owned().into()).unwrap();
        Origin {
            instance: Instance::parse(url).unwrap(),
            api_secrets: Secrets::default(),
            id_tokens: None,
            webhook_callers: Callers { secrets, keys },
        }
    }

    #[test]
    fn a_secret_proves_which_gitlab_it_is_and_the_header_chooses_only_among_those() {
        let origins = Origins::new(vec![
            origin(
                "https://a.example/gitlab",
                &format!("{SHARED}\na-0123456789abcdef"),
            ),
            origin(
                "https://b.example",
                &format!("{SHARED}\nb-0123456789abcdef"),
            ),
        ]);
        let sender = |token, url| {
            let given = Credentials {
                token: Some(token),
                ..Credentials::default()
            };
            let sender = origins.sender(&given, b"{}", url);
            sender.map(|instance| instance.name().as_str().to_owned())
        };
        let a = Ok("a.example-gitlab".to_owned());
        let b = Ok("b.example".to_owned());
        for (token, url, right) in [
            // GitLab names itself without the path that it may have.
            (SHARED, Some("https://a.example"), a.clone()),
            (SHARED, Some("https://A.example:443/"), a.clone()),
            (SHARED, Some("https://b.example/"), b.clone()),
            (
                SHARED,
                Some("https://evil.example"),
                Err(Unknown::Ambiguous),
            ),
            (SHARED, None, Err(Unknown::Ambiguous)),
            ("a-0123456789abcdef", None, a.clone()),
            ("a-0123456789abcdef", Some("http://10.0.0.1"), a),
            (
                "a-0123456789abcdef",
                Some("https://b.example"),
                Err(Unknown::Unproven),
            ),
            ("b-0123456789abcdef", Some("https://b.example"), b),
            ("wrong", Some("https://b.example"), Err(Unknown::Unproven)),
            ("wrong", None, Err(Unknown::Unproven)),
        ] {
            assert_eq!(sender(token, url), right, "{token} {url:?}");
        }
    }
}
