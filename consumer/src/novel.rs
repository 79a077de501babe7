//! Whether a project has failed in this way before: one question to Elasticsearch for each failed job.

use elasticsearch::http::Method;
use failure::Finding;
use jiff::{SignedDuration, Timestamp};
use notice::Message;
use serde_json::{Value, json};

use crate::{elasticsearch::Elasticsearch, job::Job};

/// Whether no job of the project that ended in the `days` before this one has a failure of this signature.
/// `None` where Elasticsearch does not say: the manifest is written all the same.
pub(crate) async fn is_novel(
    elasticsearch: &Elasticsearch,
    manifests: &str,
    message: &Message,
    job: &Job,
    finding: &Finding,
    days: u32,
) -> Option<bool> {
    let path = format!("{manifests}/_search?ignore_unavailable=true&allow_no_indices=true");
    let body = question(message, job, finding, days);
    let ask = elasticsearch.json(Method::Post, &path, Some(&body)).await;
    match ask {
        Ok(answer) => answer?["hits"]["total"]["value"]
            .as_u64()
            .map(|hits| hits == 0),
        Err(error) => {
            tracing::warn!(%error, "nobody says whether this failure is new");
            None
        }
    }
}

fn question(message: &Message, job: &Job, finding: &Finding, days: u32) -> Value {
    let end = job.finished_at.unwrap_or_else(Timestamp::now);
    let since = end
        .checked_sub(SignedDuration::from_hours(24 * i64::from(days)))
        .unwrap_or(Timestamp::MIN);
    json!({
        "size": 0,
        "track_total_hits": 1,
        "query": {"bool": {
            "filter": [
                {"term": {"instance": message.instance.as_str()}},
                {"term": {"project_id": message.project_id.to_string()}},
                {"term": {"failure.signature": finding.signature}},
                {"range": {"@timestamp": {"gte": since.to_string(), "lt": end.to_string()}}},
            ],
            "must_not": [{"term": {"job_id": message.job_id.to_string()}}],
        }},
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use failure::{Ending, Investigation, Rules};
    use notice::{InstanceName, JobId, ProjectId, Source};

    use super::*;

    #[test]
    fn what_is_asked_for_ended_before_the_job_in_its_own_project() {
        let message = Message::new(
            InstanceName::parse("i").unwrap(),
            ProjectId::parse("42").unwrap(),
            JobId::parse("4711").unwrap(),
            Source::Api,
        );
        let job = br#"{"id":4711,"status":"failed","created_at":"2026-11-22T10:00:00Z","finished_at":"2026-11-23T10:00:00Z"}"#;
        let job = Job::parse(job).unwrap();
        let ending = Ending {
            status: "failed",
            failure_reason: None,
        };
        let finding = Investigation::new(Arc::new(Rules::ours().unwrap())).conclude(&ending);
        let question = question(&message, &job, &finding, 3);
        assert_eq!(
            question["query"]["bool"],
            json!({
                "filter": [
                    {"term": {"instance": "i"}},
                    {"term": {"project_id": "42"}},
                    {"term": {"failure.signature": finding.signature}},
                    {"range": {"@timestamp": {"gte": "2026-11-20T10:00:00Z", "lt": "2026-11-23T10:00:00Z"}}},
                ],
                "must_not": [{"term": {"job_id": "4711"}}],
            })
        );
    }
}
