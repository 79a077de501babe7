//! The facts of a job, as `GET /projects/:id/jobs/:job_id` gives them.

use jiff::{Timestamp, civil::Date, tz::TimeZone};
use serde::Deserialize;

/// What we use of a job's facts; GitLab's other fields pass.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Job {
    /// The job's id.
    pub id: u64,
    /// The job's name.
    #[serde(default)]
    pub name: String,
    /// The stage.
    #[serde(default)]
    pub stage: String,
    /// One of GitLab's job statuses.
    pub status: String,
    /// Branch or tag.
    #[serde(default, rename = "ref")]
    pub git_ref: String,
    /// When the job was made.
    pub created_at: Timestamp,
    /// When a runner took it.
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// When somebody erased its log.
    #[serde(default)]
    pub erased_at: Option<Timestamp>,
    /// Seconds that it ran.
    #[serde(default)]
    pub duration: Option<f64>,
    /// Seconds that it waited.
    #[serde(default)]
    pub queued_duration: Option<f64>,
    /// Why it failed, an open list.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// The job's page.
    #[serde(default)]
    pub web_url: String,
    /// The runner's tags.
    #[serde(default)]
    pub tag_list: Vec<String>,
    /// The pipeline.
    #[serde(default)]
    pub pipeline: Option<Pipeline>,
    /// Who started it.
    #[serde(default)]
    pub user: Option<User>,
    /// Which runner ran it.
    #[serde(default)]
    pub runner: Option<Runner>,
    /// The commit.
    #[serde(default)]
    pub commit: Option<Commit>,
}

/// The pipeline of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pipeline {
    /// Its id.
    pub id: u64,
}

/// The user of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct User {
    /// Login name.
    pub username: String,
}

/// The runner of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Runner {
    /// Its id.
    pub id: u64,
}

/// The commit of a job.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Commit {
    /// The SHA.
    pub id: String,
}

/// What server-side ends never bring a trailer (GitLab's `failure_reason`).
const ENDS_WITHOUT_TRAILER: [&str; 5] = [
    "stuck_or_timeout_failure",
    "runner_system_failure",
    "job_execution_server_timeout",
    "trace_size_exceeded",
    "ci_quota_exceeded",
];

impl Job {
    /// Reads GitLab's JSON.
    pub(crate) fn parse(json: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json)
    }

    /// Whether the job has ended for good; a retried job is a new one.
    pub(crate) fn is_final(&self) -> bool {
        matches!(
            self.status.as_str(),
            "success" | "failed" | "canceled" | "skipped"
        )
    }

    /// Whether no trailer can be waited for: the runner was told to stop, or never began.
    pub(crate) fn ends_without_trailer(&self) -> bool {
        matches!(self.status.as_str(), "canceled" | "skipped")
            || self.started_at.is_none()
            || self
                .failure_reason
                .as_deref()
                .is_some_and(|reason| ENDS_WITHOUT_TRAILER.contains(&reason))
    }

    /// The day that names the index: on which the job ended, in UTC.
    /// INVARIANT: it depends on the job alone. A job that never ran has no end; its day is the
    /// one on which it was made.
    pub(crate) fn day(&self) -> Date {
        let at = self.finished_at.unwrap_or(self.created_at);
        at.to_zoned(TimeZone::UTC).date()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(status: &str, more: &str) -> Job {
        let json = format!(
            r#"{{"id":1,"status":"{status}","created_at":"2026-11-22T23:59:59.9Z"{more}}}"#
        );
        Job::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn the_day_is_that_of_the_end_in_utc() {
        let finished = job(
            "success",
            r#","finished_at":"2026-11-24T00:30:00.000+01:00""#,
        );
        assert_eq!(finished.day().to_string(), "2026-11-23");
        assert_eq!(job("skipped", "").day().to_string(), "2026-11-22");
    }

    #[test]
    fn only_ended_jobs_are_final() {
        for status in ["success", "failed", "canceled", "skipped"] {
            assert!(job(status, "").is_final(), "{status}");
        }
        for status in [
            "created",
            "pending",
            "running",
            "canceling",
            "manual",
            "scheduled",
            "new",
        ] {
            assert!(!job(status, "").is_final(), "{status}");
        }
    }
}
