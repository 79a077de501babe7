//! The manifest: what we know about the ingestion of one job, written last, by this one code path.

use std::{cmp::Ordering, fmt::Write as _};

use jiff::Timestamp;
use serde_json::{Value, json};
use trace::{Section, Summary, Trailer};

use crate::{
    elasticsearch::{Elasticsearch, ElasticsearchError},
    job::Job,
    sink::Tally,
};

/// Sections in a manifest; jobs have dozens.
const MOST_SECTIONS: usize = 1_000;
/// How often the manifest is written anew when somebody else writes it too.
const ATTEMPTS: usize = 10;

/// What there is of a job's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// All of it.
    Complete,
    /// All that GitLab's or the runner's limit left of it.
    Truncated,
    /// Its end is missing.
    Incomplete,
    /// Somebody erased it.
    Erased,
    /// There is none.
    NoTrace,
    /// The token may not read it.
    Forbidden,
    /// GitLab knows no such job.
    Gone,
}

impl State {
    /// The name in a document.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::Incomplete => "incomplete",
            Self::Erased => "erased",
            Self::NoTrace => "no_trace",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
        }
    }
}

/// What a trace that was read to its end says of itself, and whether GitLab will ever have more.
pub(crate) fn state_of(job: &Job, summary: &Summary) -> (State, bool) {
    let is_cut = matches!(summary.trailer, Some(Trailer::LimitExceeded { .. }))
        || job.failure_reason.as_deref() == Some("trace_size_exceeded");
    let is_whole = is_cut || summary.trailer.is_some() || job.ends_without_trailer();
    match (is_cut, is_whole) {
        _ if summary.lines == 0 => (State::NoTrace, is_whole),
        (true, _) => (State::Truncated, true),
        (_, true) => (State::Complete, true),
        (_, false) => (State::Incomplete, false),
    }
}

/// A manifest that is being put together.
pub(crate) struct Manifest(Value);

impl Manifest {
    /// Of a job with these facts; `attempts` deliveries so far.
    pub(crate) fn new(facts: Value, received_at: Timestamp, attempts: u32) -> Self {
        let mut manifest = facts;
        let now = Timestamp::now();
        manifest["attempts"] = attempts.into();
        manifest["received_at"] = received_at.to_string().into();
        manifest["ingested_at"] = now.to_string().into();
        // Where the job's own end is not known, Kibana's time axis takes this.
        manifest["@timestamp"] = now.to_string().into();
        for count in ["bytes", "lines", "indexed", "rejected"] {
            manifest[count] = 0.into();
        }
        Self(manifest)
    }

    /// What there is of the log, and whether that is all that GitLab will ever have.
    pub(crate) fn state(mut self, state: State, complete: bool) -> Self {
        self.0["state"] = state.as_str().into();
        self.0["complete"] = complete.into();
        self
    }

    /// The job's times.
    pub(crate) fn job(mut self, job: &Job) -> Self {
        let manifest = &mut self.0;
        let times = [
            ("created_at", Some(job.created_at)),
            ("started_at", job.started_at),
            ("finished_at", job.finished_at),
            ("erased_at", job.erased_at),
            ("@timestamp", job.finished_at),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                manifest[name] = time.to_string().into();
            }
        }
        for (name, seconds) in [
            ("duration", job.duration),
            ("queued_duration", job.queued_duration),
        ] {
            if let Some(seconds) = seconds {
                manifest[name] = seconds.into();
            }
        }
        self
    }

    /// That the job's log is here now; of a job that is given up it never came.
    pub(crate) fn arrived(mut self, job: &Job) -> Self {
        if let Some(end) = job.finished_at {
            let delay = Timestamp::now().duration_since(end).as_secs_f64();
            self.0["delay_seconds"] = ((delay.max(0.0) * 1000.0).round() / 1000.0).into();
        }
        self
    }

    /// What went through the parser.
    pub(crate) fn summary(mut self, summary: &Summary) -> Self {
        let sections: Vec<Value> = summary
            .sections
            .iter()
            .take(MOST_SECTIONS)
            .map(section)
            .collect();
        let manifest = &mut self.0;
        manifest["bytes"] = summary.bytes.into();
        manifest["sha256"] = hex(&summary.sha256).into();
        manifest["sections"] = sections.into();
        if let Some(trailer) = &summary.trailer {
            manifest["trailer"] = trailer.as_str().into();
            if let Some(reason) = trailer.reason() {
                manifest["trailer_reason"] = reason.into();
            }
        }
        self
    }

    /// What became of the lines.
    pub(crate) fn lines(mut self, lines: u64, tally: Tally) -> Self {
        let manifest = &mut self.0;
        manifest["lines"] = lines.into();
        manifest["indexed"] = tally.indexed().into();
        manifest["rejected"] = tally.rejected.into();
        self
    }

    /// A fact more, unless there is none.
    pub(crate) fn with(mut self, name: &str, value: Value) -> Self {
        if !value.is_null() {
            self.0[name] = value;
        }
        self
    }

    /// How long the ingestion took.
    pub(crate) fn took(mut self, started: std::time::Instant) -> Self {
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0["ingestion_ms"] = milliseconds.into();
        self
    }

    /// Writes it, unless a better one is there: one that is complete where this is not, or that
    /// knows more of the log. Two consumers of the same job can't undo each other's.
    pub(crate) async fn write(
        &self,
        elasticsearch: &Elasticsearch,
        index: &str,
        key: &str,
    ) -> Result<(), ElasticsearchError> {
        let write = || async {
            let Some(there) = elasticsearch.document(index, key).await? else {
                let path = format!("{index}/_create/{key}");
                return elasticsearch.put(&path, &self.0).await;
            };
            let Some(manifest) = self.in_place_of(there.source) else {
                return Ok(());
            };
            let path = format!(
                "{index}/_doc/{key}?if_seq_no={}&if_primary_term={}",
                there.seq_no, there.primary_term
            );
            elasticsearch.put(&path, &manifest).await
        };
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = elasticsearch.persist(&write).await;
            if outcome != Err(ElasticsearchError::Conflict) {
                break;
            }
        }
        outcome
    }

    /// What is to stand where this one is, if anything else. A better one that is not complete gets the
    /// reason why nobody looks for more.
    fn in_place_of(&self, mut there: Value) -> Option<Value> {
        if !is_better(&there, &self.0) {
            return Some(self.0.clone());
        }
        let reason = self.0.get("reason")?;
        if there["complete"] == true || there["reason"] == *reason {
            return None;
        }
        there["reason"] = reason.clone();
        Some(there)
    }

    /// Why it says no more than it does.
    pub(crate) fn reason(mut self, reason: &str) -> Self {
        self.0["reason"] = reason.into();
        self
    }
}

/// Whether a manifest that is there stays. Of two that know the same, the first whole one does: its
/// times are those of the ingestion, and not of a repeated notice.
fn is_better(there: &Value, new: &Value) -> bool {
    match worth(there).cmp(&worth(new)) {
        Ordering::Greater => true,
        Ordering::Equal => there["complete"] == true,
        Ordering::Less => false,
    }
}

/// Manifests in the order of what they know.
fn worth(manifest: &Value) -> (bool, bool, u64) {
    (
        manifest["complete"].as_bool().unwrap_or(false),
        // One that knows of no job is the least.
        manifest["status"].is_string(),
        manifest["bytes"].as_u64().unwrap_or(0),
    )
}

/// A section with its start (RFC 3339), seconds (`null`: never closed) and lines.
pub(crate) fn section(section: &Section) -> Value {
    json!({
        "name": section.name,
        "ordinal": section.ordinal,
        "started": Timestamp::from_second(section.started).ok().map(|at| at.to_string()),
        "seconds": section.seconds,
        "lines": section.lines(),
        "first_line": section.first_line,
        "last_line": section.last_line,
    })
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(trace: &str) -> Summary {
        let mut parser = trace::Parser::new(trace::Options::default());
        parser.push(trace.as_bytes(), &mut |_| {});
        parser.finish(&mut |_| {})
    }

    fn job(status: &str, more: &str) -> Job {
        let json = format!(
            r#"{{"id":1,"status":"{status}","created_at":"2026-11-22T10:00:00Z","started_at":"2026-11-22T10:00:01Z"{more}}}"#
        );
        Job::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn states_go_by_trailer_limit_and_status() {
        let success = job("success", "");
        let too_large = job("failed", r#","failure_reason":"trace_size_exceeded""#);
        let limit = "a\n\u{1b}[33;1mJob's log exceeded limit of 4 bytes.\nJob execution will continue but no more output will be collected.\u{1b}[0;m\n";
        for (job, trace, state, complete) in [
            (
                &success,
                "a\n\u{1b}[32;1mJob succeeded\u{1b}[0;m\n",
                State::Complete,
                true,
            ),
            (&success, "a\n", State::Incomplete, false),
            (&success, limit, State::Truncated, true),
            (&too_large, "a\n", State::Truncated, true),
            (&job("canceled", ""), "a\n", State::Complete, true),
            (&success, "", State::NoTrace, false),
            (&job("canceled", ""), "", State::NoTrace, true),
        ] {
            assert_eq!(
                state_of(job, &summary(trace)),
                (state, complete),
                "{trace:?} {}",
                job.status
            );
        }
    }

    #[test]
    fn a_manifest_that_knows_more_is_worth_more() {
        let gone = json!({"complete": false, "state": "gone", "bytes": 0});
        let short = json!({"complete": false, "status": "success", "bytes": 5});
        let long = json!({"complete": false, "status": "success", "bytes": 6});
        let whole = json!({"complete": true, "status": "success", "bytes": 4});
        for (worse, better) in [(&gone, &short), (&short, &long), (&long, &whole)] {
            assert!(
                is_better(better, worse) && !is_better(worse, better),
                "{worse} {better}"
            );
        }
        assert!(is_better(&whole, &whole) && !is_better(&short, &short));
    }

    #[test]
    fn why_nobody_looks_for_more_stands_in_what_is_known_so_far() {
        let facts = json!({"state": "incomplete", "complete": false, "bytes": 0});
        let death = Manifest(facts).reason("given up");
        let short = json!({"complete": false, "status": "success", "bytes": 5});
        let kept = death.in_place_of(short.clone()).unwrap();
        assert_eq!(kept["reason"], "given up");
        assert_eq!(kept["bytes"], 5);
        assert_eq!(death.in_place_of(kept), None, "it is said already");
        let whole = json!({"complete": true, "status": "success", "bytes": 4});
        assert_eq!(
            death.in_place_of(whole),
            None,
            "there is no more to look for"
        );
        let nothing = json!({"complete": false, "bytes": 0});
        assert_eq!(death.in_place_of(nothing), Some(death.0.clone()));
    }
}
