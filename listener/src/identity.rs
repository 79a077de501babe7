//! GitLab's ID tokens: a job proves which one it is, and its pipeline needs no secret.
//!
//! INVARIANT: keys come from the configured GitLab alone, never from where a token says.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{Jwk, JwkSet},
};
use notice::{Instance, JobId, ProjectId};
use reqwest::{Client, Url};
use serde::Deserialize;
use tokio::{sync::Mutex, time::Instant};

/// Seconds by which GitLab's clock may differ from ours.
const LEEWAY: u64 = 60;
/// How long GitLab may take over its keys.
const FETCH: Duration = Duration::from_secs(3);
/// Of a document that has a few KiB.
const LARGEST_KEYS: usize = 256 * 1024;
/// How long keys are used before they are fetched again, and how long an attempt is not repeated.
const FRESH: Duration = Duration::from_hours(1);
const NOT_AGAIN: Duration = Duration::from_mins(1);

/// What knows the tokens of one GitLab; clones share its keys.
#[derive(Clone)]
pub(crate) struct IdTokens(Arc<Inner>);

struct Inner {
    audience: String,
    issuer: String,
    keys_url: Url,
    http: Client,
    keys: Mutex<Keys>,
}

#[derive(Default)]
struct Keys {
    set: Option<JwkSet>,
    fetched_at: Option<Instant>,
    tried_at: Option<Instant>,
}

/// Why a token proves nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unproven {
    /// It is none of GitLab's, not for us, or its time is over.
    Refused,
    /// GitLab has not given its keys yet.
    NoKeys,
}

/// Which job it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) project_id: ProjectId,
    pub(crate) job_id: JobId,
}

/// What is read of a token's claims. Source: GitLab's documentation of ID tokens.
#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "GitLab's names")]
struct Claims {
    job_id: String,
    project_id: String,
    /// The project that runs the job: in a merge request's pipeline `project_id` is the fork.
    job_project_id: Option<String>,
}

impl IdTokens {
    /// What knows this GitLab's tokens, if they are for this audience. Nothing is fetched yet.
    pub(crate) fn new(instance: &Instance, audience: &str) -> reqwest::Result<Self> {
        let http = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(FETCH)
            .build()?;
        Ok(Self(Arc::new(Inner {
            audience: audience.to_owned(),
            issuer: instance.issuer(),
            keys_url: instance.keys_url(),
            http,
            keys: Mutex::default(),
        })))
    }

    /// The job that a token is of.
    pub(crate) async fn identify(&self, token: &str) -> Result<Identity, Unproven> {
        let refused = |_| Unproven::Refused;
        let header = decode_header(token).map_err(refused)?;
        let id = header.kid.ok_or(Unproven::Refused)?;
        let key = self.key(&id).await?;
        // Whatever algorithm its header names: none but this one is GitLab's.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.0.audience]);
        validation.set_issuer(&[&self.0.issuer]);
        validation.set_required_spec_claims(&["exp", "aud", "iss"]);
        let claims = decode::<Claims>(token, &key, &validation)
            .map_err(refused)?
            .claims;
        let project = claims.job_project_id.unwrap_or(claims.project_id);
        Ok(Identity {
            project_id: ProjectId::parse(&project).map_err(|_| Unproven::Refused)?,
            job_id: JobId::parse(&claims.job_id).map_err(|_| Unproven::Refused)?,
        })
    }

    /// The key of this id. One that is not known may be new; GitLab is asked once a minute at most, and while it
    /// does not answer the keys that are known stay.
    async fn key(&self, id: &str) -> Result<DecodingKey, Unproven> {
        let mut keys = self.0.keys.lock().await;
        let is_over = |at: Option<Instant>, after| at.is_none_or(|at| at.elapsed() >= after);
        let is_known = keys.find(id).is_some();
        if (!is_known || is_over(keys.fetched_at, FRESH)) && is_over(keys.tried_at, NOT_AGAIN) {
            keys.tried_at = Some(Instant::now());
            match self.fetch().await {
                Ok(set) => {
                    keys.set = Some(set);
                    keys.fetched_at = Some(Instant::now());
                }
                Err(why) => tracing::warn!(why, "GitLab's keys for ID tokens can't be fetched"),
            }
        }
        match (keys.find(id), &keys.set) {
            (Some(key), _) => DecodingKey::from_jwk(key).map_err(|_| Unproven::Refused),
            (None, Some(_)) => Err(Unproven::Refused),
            (None, None) => Err(Unproven::NoKeys),
        }
    }

    async fn fetch(&self) -> Result<JwkSet, String> {
        let text = |error: reqwest::Error| error.without_url().to_string();
        let mut answer = self
            .0
            .http
            .get(self.0.keys_url.clone())
            .send()
            .await
            .map_err(text)?;
        if !answer.status().is_success() {
            return Err(format!("status {}", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(text)? {
            body.extend_from_slice(&piece);
            if body.len() > LARGEST_KEYS {
                return Err("the answer is too large".to_owned());
            }
        }
        serde_json::from_slice(&body).map_err(|_| "the answer holds no keys".to_owned())
    }
}

impl Keys {
    fn find(&self, id: &str) -> Option<&Jwk> {
        self.set.as_ref()?.find(id)
    }
}
