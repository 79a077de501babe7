//! The GitLab API: a job's facts and its trace, as a stream.
//!
//! INVARIANT: the token goes only to the configured origin, in the header `PRIVATE-TOKEN`, and
//! redirects are never followed (reqwest would carry that header to another host).

use std::time::Duration;

use jiff::Timestamp;
use notice::{Instance, JobId, ProjectId};
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderValue},
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};

use crate::{causes, job::Job};

const CONNECT: Duration = Duration::from_secs(10);
/// For a whole answer with a job's facts.
const FACTS: Duration = Duration::from_secs(30);
/// Between two pieces of a trace: Rails may take a minute before the first byte of a large one.
const SILENCE: Duration = Duration::from_secs(90);
/// A job's facts have a few KiB.
const LARGEST_FACTS: usize = 1 << 20;

/// Why GitLab did not give what was asked for, named by what the caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GitlabError {
    /// 401 or 403: the token is wrong, expired, or has too small a scope. Final.
    #[error("GitLab refused the token ({0})")]
    TokenRefused(u16),
    /// 404: no such job, or not visible with this token. Final.
    #[error("GitLab knows no such job, or the token can't see it")]
    NotFound,
    /// 429: not before this long.
    #[error("GitLab limits the rate; not before {0:?}")]
    RateLimited(Duration),
    /// 5xx, a reset, a time-out, or an answer that is none of the API's: try again.
    #[error("GitLab gave no usable answer: {0}")]
    Unavailable(String),
}

/// A client of one instance; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Gitlab {
    instance: Instance,
    http: Client,
}

impl Gitlab {
    /// A client of this instance.
    pub(crate) fn new(instance: Instance) -> reqwest::Result<Self> {
        let http = Client::builder()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(concat!("joblogs/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { instance, http })
    }

    /// Which GitLab it asks.
    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    /// `GET /projects/:id/jobs/:job_id`.
    pub(crate) async fn job(
        &self,
        project: ProjectId,
        job: JobId,
        token: &SecretString,
    ) -> Result<Job, GitlabError> {
        let request = async {
            let mut answer = self.get(self.instance.job_url(project, job), token).await?;
            let mut facts = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                facts.extend_from_slice(&chunk);
                if facts.len() > LARGEST_FACTS {
                    return Err(GitlabError::Unavailable(
                        "the job's facts are too large".into(),
                    ));
                }
            }
            Job::parse(&facts)
                .map_err(|_| GitlabError::Unavailable("the answer is not a job's facts".into()))
        };
        tokio::time::timeout(FACTS, request)
            .await
            .unwrap_or_else(|_| {
                Err(GitlabError::Unavailable(format!(
                    "no answer within {FACTS:?}"
                )))
            })
    }

    /// `GET /projects/:id/jobs/:job_id/trace`, to be read as a stream. An answer that is not
    /// plain text (a login page, JSON of an error) is refused: it is no trace.
    pub(crate) async fn trace(
        &self,
        project: ProjectId,
        job: JobId,
        token: &SecretString,
    ) -> Result<Response, GitlabError> {
        let answer = self
            .get(self.instance.trace_url(project, job), token)
            .await?;
        let kind = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if !kind.starts_with("text/plain") {
            return Err(GitlabError::Unavailable(
                "the answer is no trace but a page".into(),
            ));
        }
        Ok(answer)
    }

    async fn get(&self, url: url::Url, token: &SecretString) -> Result<Response, GitlabError> {
        let mut token = HeaderValue::from_str(token.expose_secret())
            .map_err(|_| GitlabError::TokenRefused(StatusCode::UNAUTHORIZED.as_u16()))?;
        token.set_sensitive(true);
        let answer = self
            .http
            .get(url)
            .header("PRIVATE-TOKEN", token)
            .send()
            .await?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                Err(GitlabError::TokenRefused(status.as_u16()))
            }
            StatusCode::NOT_FOUND => Err(GitlabError::NotFound),
            StatusCode::TOO_MANY_REQUESTS => Err(GitlabError::RateLimited(retry_after(&answer))),
            status if status.is_redirection() => Err(GitlabError::Unavailable(format!(
                "it redirects ({}) to {}; if that is where it really is, give --gitlab that address",
                status.as_u16(),
                origin_of_redirect(&answer)
            ))),
            status => Err(GitlabError::Unavailable(format!(
                "status {}",
                status.as_u16()
            ))),
        }
    }
}

/// Scheme, host and port of the `Location`; the rest of it may hold anything.
fn origin_of_redirect(answer: &Response) -> String {
    let location = answer.headers().get(header::LOCATION);
    let url = location
        .and_then(|location| location.to_str().ok())
        .and_then(|location| answer.url().join(location).ok());
    url.map_or_else(
        || "nowhere".to_owned(),
        |url| url.origin().ascii_serialization(),
    )
}

/// `Retry-After` in seconds, or `RateLimit-Reset` (seconds since the epoch), or a minute.
fn retry_after(answer: &Response) -> Duration {
    let number = |name: &str| -> Option<i64> {
        answer
            .headers()
            .get(name)?
            .to_str()
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let until_reset = number("ratelimit-reset").map(|at| at - Timestamp::now().as_second());
    let seconds = number("retry-after").into_iter().chain(until_reset).max();
    Duration::from_secs(seconds.unwrap_or(60).clamp(1, 3600).unsigned_abs())
}

impl From<reqwest::Error> for GitlabError {
    /// Without its URL: ours hold no secret, but they are long.
    fn from(error: reqwest::Error) -> Self {
        Self::Unavailable(causes(&error.without_url()))
    }
}
