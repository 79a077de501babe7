//! The one way by which every notice goes: checked, sealed, confirmed by the broker; and how it is refused.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use broker::Publisher;
use metrics::counter;
use notice::{Instance, Source};
use poem::Request;
use poem_openapi::{Object, payload::Json, types::Example};
use secrecy::SecretString;

use crate::{
    intake::{Fields, Refusal, Rules},
    kibana::Kibana,
    noted,
    origins::Origins,
    ways::Ways,
};

/// How long the broker may take to confirm before the caller is told to come again: callers wait 5 s themselves.
const CONFIRM: Duration = Duration::from_secs(4);
/// After how many seconds a refused caller may come again.
pub(crate) const RETRY_AFTER: u32 = 10;
pub(crate) const UNAVAILABLE: &str = "the message could not be confirmed in the queue; try again";

/// What the calls need.
pub(crate) struct Api {
    pub(crate) ways: Ways,
    pub(crate) origins: Origins,
    pub(crate) rules: Rules,
    pub(crate) publisher: Publisher,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) kibana: Option<Kibana>,
}

/// What was accepted.
#[derive(Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Accepted {
    /// The GitLab instance, by its configured name.
    instance: String,
    /// The project's id.
    project_id: u64,
    /// The job's id.
    job_id: u64,
    /// How to find the job's lines in Kibana.
    query: String,
    /// The job's lines in Kibana, where the operator says where that is (`--kibana`). They are there once the job is over.
    kibana_url: Option<String>,
}

impl Example for Accepted {
    fn example() -> Self {
        Self {
            instance: "gitlab.com".to_owned(),
            project_id: 42,
            job_id: 4711,
            query: "project_id:42 and job_id:4711".to_owned(),
            kibana_url: Some("https://kibana.example.com/app/discover#/?_g=…&_a=…".to_owned()),
        }
    }
}

/// A refusal, as RFC 9457 has it.
#[derive(Object)]
pub(crate) struct Problem {
    /// The HTTP status.
    status: u16,
    /// What the status means.
    title: String,
    /// One sentence that names the fields; no value is repeated.
    detail: String,
}

pub(crate) enum Failure {
    Refused(Refusal),
    Unavailable,
}

impl Api {
    /// Checks, seals, and publishes with a confirm.
    pub(crate) async fn accept(
        &self,
        instances: &[&Instance],
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let way = match source {
            Source::Webhook => "webhook",
            Source::AfterScript => "get",
            _ => "post",
        };
        let outcome = self.confirm(instances, fields, token, source).await;
        let name = match &outcome {
            Ok(_) => "accepted",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::Unavailable) => "unavailable",
        };
        counter!("joblogs_notices_total", "way" => way, "outcome" => name).increment(1);
        outcome
    }

    async fn confirm(
        &self,
        instances: &[&Instance],
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let message = self
            .rules
            .message(instances, fields, token, source)
            .map_err(Failure::Refused)?;
        let headers = lapin::types::FieldTable::default();
        let patience = noted::left(CONFIRM);
        self.publisher
            .publish_confirmed(&self.exchange, &self.routing_key, &message.to_body(), headers, patience)
            .await
            .map_err(|error| {
                tracing::error!(%error, project_id = %message.project_id, job_id = %message.job_id, "notice refused");
                Failure::Unavailable
            })?;
        noted::accepted(&message);
        Ok(Accepted {
            instance: message.instance.to_string(),
            project_id: message.project_id.get(),
            job_id: message.job_id.get(),
            query: format!(
                "project_id:{} and job_id:{}",
                message.project_id, message.job_id
            ),
            kibana_url: self.kibana.as_ref().and_then(|it| it.lines_of(&message)),
        })
    }
}

/// Refusals that the log has not told of yet, by what was wrong, and when it last did.
struct Untold {
    faults: BTreeMap<&'static str, u64>,
    told_at: Option<Instant>,
}

static UNTOLD: Mutex<Untold> = Mutex::new(Untold {
    faults: BTreeMap::new(),
    told_at: None,
});
/// How long the log says no more of them: anybody can make them.
const QUIET: Duration = Duration::from_secs(10);

/// A request is answered 401 for the fault that was noted, or else for this one: it is counted, and the log says so.
/// The caller learns nothing of it.
pub(crate) fn refused(fault: &'static str) {
    counter!("joblogs_requests_refused_total", "reason" => "credential").increment(1);
    let fault = noted::noted_fault().unwrap_or(fault);
    let mut untold = UNTOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(faults) = untold.tell(fault, Instant::now()) {
        tracing::warn!(faults, "requests were refused for their credentials");
    }
}

impl Untold {
    /// One more; all of them, with how often each came, unless the log told of some a moment ago.
    fn tell(&mut self, fault: &'static str, now: Instant) -> Option<String> {
        *self.faults.entry(fault).or_default() += 1;
        if self.told_at.is_some_and(|at| now - at < QUIET) {
            return None;
        }
        self.told_at = Some(now);
        let faults = std::mem::take(&mut self.faults).into_iter();
        let faults: Vec<String> = faults
            .map(|(it, times)| format!("{it} ({times}×)"))
            .collect();
        Some(faults.join(", "))
    }
}

/// A header; an empty one is absent, as a shell writes it so where the variable is unset. What is no text, or
/// stands there twice, is text that nothing takes: poem's own extractor would drop it.
pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    const NOTHING_TAKES: &str = "\0";
    let mut values = request.headers().get_all(name).iter();
    let value = values.next()?;
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    Some(text.unwrap_or(NOTHING_TAKES)).filter(|text| !text.is_empty())
}

/// Problem JSON.
pub(crate) fn problem(status: u16, title: &str, detail: &str) -> Json<Problem> {
    Json(Problem {
        status,
        title: title.to_owned(),
        detail: detail.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_of_refusals_now_and_then_and_forgets_none() {
        let mut untold = Untold {
            faults: BTreeMap::new(),
            told_at: None,
        };
        let begin = Instant::now();
        assert_eq!(untold.tell("a", begin).as_deref(), Some("a (1×)"));
        for seconds in 1..10 {
            let now = begin + Duration::from_secs(seconds);
            assert_eq!(untold.tell("b", now), None);
        }
        let told = untold.tell("a", begin + QUIET);
        assert_eq!(told.as_deref(), Some("a (1×), b (9×)"));
        assert_eq!(untold.tell("a", begin + QUIET), None);
    }
}
