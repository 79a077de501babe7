//! The GitLab API: a job's facts and its trace, as a stream.
//!
//! INVARIANT: the token goes only to the configured origin, in the header `PRIVATE-TOKEN`, and
//! redirects are never followed (reqwest would carry that header to another host).

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use jiff::Timestamp;
use metrics::counter;
use notice::{Instance, JobId, ProjectId};
use reqwest::{
    Client, Response, StatusCode,
    header::{self, HeaderValue},
    redirect::Policy,
};
use secrecy::{ExposeSecret, SecretString};
use service::{admin::Readiness, gitlabs::Configured};

use crate::{
    causes,
    circuit::{Circuit, Pass, StayAway},
    job::Job,
    rate::Rate,
};

const CONNECT: Duration = Duration::from_secs(10);
/// Of several hundred KiB each: more are not kept.
const MOST_IDLE: usize = 4;
/// For a whole answer with a job's facts.
const FACTS: Duration = Duration::from_secs(15);
/// Before the first byte: Rails may take a minute over a large trace, after which it gives up itself.
const SILENCE: Duration = Duration::from_mins(1);
/// A connection that is not used for longer may have died in silence.
const IDLE: Duration = Duration::from_secs(5);
/// For the request that goes ahead after an outage, before others come back later.
const TRIAL: Duration = Duration::from_secs(10);
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
    /// 429, or 503 with `Retry-After`: not before this long.
    #[error("GitLab wants no more requests for {0:?}")]
    RateLimited(Duration),
    /// 5xx, a reset, a time-out, or an answer that is none of the API's: try again.
    #[error("GitLab gave no usable answer: {0}")]
    Unavailable(String),
    /// It was not asked at all: others had no usable answer from it. Not before this long.
    #[error("GitLab is not asked for a while: {}", .0.why)]
    NotAsked(StayAway),
}

/// What a status means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Usable,
    TokenRefused,
    NotFound,
    RateLimited,
    Redirects,
    Unavailable,
}

/// By the status; the first row that fits counts.
const ANSWERS: [(RangeInclusive<u16>, Answer); 7] = [
    (200..=200, Answer::Usable),
    (300..=399, Answer::Redirects),
    (401..=401, Answer::TokenRefused),
    (403..=403, Answer::TokenRefused),
    (404..=404, Answer::NotFound),
    (429..=429, Answer::RateLimited),
    (0..=u16::MAX, Answer::Unavailable),
];

/// A client of one instance; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Gitlab {
    instance: Instance,
    http: Client,
    rate: Arc<Rate>,
    circuit: Circuit,
}

impl Gitlab {
    /// A client of this instance, which asks only so often in a second (0: as often as it wants) and
    /// whose circuit `readiness` hears of.
    pub(crate) fn new(
        configured: &Configured,
        per_second: u32,
        readiness: Readiness,
    ) -> reqwest::Result<Self> {
        let http = Client::builder()
            .redirect(Policy::none())
            // Traces that wait for Elasticsearch would fill the one window of an HTTP/2 connection.
            .http1_only()
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MOST_IDLE)
            .user_agent(concat!("joblogs/", env!("CARGO_PKG_VERSION")))
            .tls_certs_merge(configured.authorities.clone())
            .build()?;
        let instance = configured.instance.clone();
        let circuit = Circuit::new(instance.name().as_str(), "gitlab", readiness);
        Ok(Self {
            instance,
            http,
            rate: Arc::new(Rate::new(per_second)),
            circuit,
        })
    }

    /// Whether work that needs it is begun.
    pub(crate) fn circuit(&self) -> &Circuit {
        &self.circuit
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
        let url = self.instance.job_url(project, job);
        let mut answer = self.get(url, Some(token), Some(FACTS)).await?;
        let mut facts = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            facts.extend_from_slice(&chunk);
            if facts.len() > LARGEST_FACTS {
                let why = "the job's facts are too large";
                return Err(GitlabError::Unavailable(why.into()));
            }
        }
        Job::parse(&facts)
            .map_err(|_| GitlabError::Unavailable("the answer is not a job's facts".into()))
    }

    /// `GET /projects/:id/jobs/:job_id/trace`, to be read as a stream. An answer that is not
    /// plain text (a login page, JSON of an error) is refused: it is no trace.
    pub(crate) async fn trace(
        &self,
        project: ProjectId,
        job: JobId,
        token: &SecretString,
    ) -> Result<Response, GitlabError> {
        let url = self.instance.trace_url(project, job);
        let answer = self.get(url, Some(token), None).await?;
        if !content_type(&answer).starts_with("text/plain") {
            return Err(GitlabError::Unavailable(
                "the answer is no trace but a page".into(),
            ));
        }
        Ok(answer)
    }

    /// Looks whether it works again, where that is not known; the circuit hears of it.
    pub(crate) async fn look(&self) {
        if self.circuit.why().is_some() {
            // Without a token, who works says 401.
            let _ = self
                .get(self.instance.version_url(), None, Some(FACTS))
                .await;
        }
    }

    /// Asks once, when it is our turn and unless the circuit is open. A deadline is for the whole
    /// answer.
    async fn get(
        &self,
        url: url::Url,
        token: Option<&SecretString>,
        deadline: Option<Duration>,
    ) -> Result<Response, GitlabError> {
        let token = token.map(header_of).transpose()?;
        if let Some(stay) = self.circuit.rests() {
            return Err(GitlabError::NotAsked(stay));
        }
        self.rate.turn().await.map_err(|after| {
            let why = "its own limit leaves no request until then".to_owned();
            GitlabError::NotAsked(StayAway { after, why })
        })?;
        // It may have opened meanwhile.
        let pass = self.pass().await.map_err(GitlabError::NotAsked)?;
        let mut request = self.http.get(url);
        if let Some(token) = token {
            request = request.header("PRIVATE-TOKEN", token);
        }
        if let Some(deadline) = deadline {
            request = request.timeout(deadline);
        }
        let outcome = match tokio::time::timeout(SILENCE, request.send()).await {
            Ok(Ok(answer)) => {
                self.rate.heed(answer.headers());
                read_status(answer)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(GitlabError::Unavailable(format!(
                "no answer within {SILENCE:?}"
            ))),
        };
        counter!("joblogs_gitlab_requests_total", "outcome" => name_of(&outcome)).increment(1);
        match &outcome {
            Err(error @ GitlabError::Unavailable(_)) => pass.failed(&error.to_string(), None),
            Err(error @ GitlabError::RateLimited(after)) => {
                pass.failed(&error.to_string(), Some(*after));
            }
            _ => pass.succeeded(),
        }
        outcome
    }

    /// Leave to ask. Where another one has gone ahead, its outcome is waited for.
    async fn pass(&self) -> Result<Pass, StayAway> {
        match self.circuit.try_pass() {
            Err(stay) if stay.after.is_zero() => {
                let pass = tokio::time::timeout(TRIAL, self.circuit.pass()).await;
                pass.map_err(|_| stay)
            }
            pass => pass,
        }
    }
}

fn header_of(token: &SecretString) -> Result<HeaderValue, GitlabError> {
    let mut token = HeaderValue::from_str(token.expose_secret())
        .map_err(|_| GitlabError::TokenRefused(StatusCode::UNAUTHORIZED.as_u16()))?;
    token.set_sensitive(true);
    Ok(token)
}

fn read_status(answer: Response) -> Result<Response, GitlabError> {
    let status = answer.status().as_u16();
    let row = ANSWERS
        .iter()
        .find(|(statuses, _)| statuses.contains(&status));
    match row.map_or(Answer::Unavailable, |(_, answer)| *answer) {
        Answer::Usable => Ok(answer),
        Answer::TokenRefused | Answer::NotFound if !is_json(&answer) => {
            // The API says so in JSON; a proxy before it, or GitLab's own ban of an address, does not.
            let why = format!("status {status}, and it is not the API that says so");
            Err(GitlabError::Unavailable(why))
        }
        Answer::TokenRefused => Err(GitlabError::TokenRefused(status)),
        Answer::NotFound => Err(GitlabError::NotFound),
        Answer::RateLimited => Err(GitlabError::RateLimited(retry_after(&answer))),
        Answer::Redirects => Err(GitlabError::Unavailable(format!(
            "it redirects ({status}) to {}; if that is where it really is, give --gitlab that address",
            origin_of_redirect(&answer)
        ))),
        Answer::Unavailable if answer.headers().contains_key(header::RETRY_AFTER) => {
            Err(GitlabError::RateLimited(retry_after(&answer)))
        }
        Answer::Unavailable => Err(GitlabError::Unavailable(format!("status {status}"))),
    }
}

fn is_json(answer: &Response) -> bool {
    content_type(answer).starts_with("application/json")
}

fn content_type(answer: &Response) -> &str {
    let kind = answer.headers().get(header::CONTENT_TYPE);
    kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default()
}

/// The value of a metric's label.
fn name_of(outcome: &Result<Response, GitlabError>) -> &'static str {
    match outcome {
        Ok(_) => "ok",
        Err(GitlabError::TokenRefused(_)) => "token_refused",
        Err(GitlabError::NotFound) => "not_found",
        Err(GitlabError::RateLimited(_)) => "rate_limited",
        Err(GitlabError::Unavailable(_) | GitlabError::NotAsked(_)) => "unavailable",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_go_by_their_status() {
        for (status, answer) in [
            (200, Answer::Usable),
            (204, Answer::Unavailable),
            (206, Answer::Unavailable),
            (302, Answer::Redirects),
            (400, Answer::Unavailable),
            (401, Answer::TokenRefused),
            (403, Answer::TokenRefused),
            (404, Answer::NotFound),
            (408, Answer::Unavailable),
            (429, Answer::RateLimited),
            (500, Answer::Unavailable),
            (503, Answer::Unavailable),
        ] {
            let row = ANSWERS
                .iter()
                .find(|(statuses, _)| statuses.contains(&status));
            assert_eq!(row.unwrap().1, answer, "{status}");
        }
    }
}
