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
    // Of shards that are away nobody knows what they hold: no answer is better than that of the others.
    let path = format!(
        "{manifests}/_search?ignore_unavailable=true&allow_no_indices=true&allow_partial_search_results=false"
    );
    let body = question(message, job, finding, days);
    let ask = elasticsearch.json(Method::Post, &path, Some(&body)).await;
    match ask {
        Ok(answer) => read(&answer?),
        Err(error) => {
            tracing::warn!(%error, "nobody says whether this failure is new");
            None
        }
    }
}

/// What an answer says, if all shards gave theirs.
fn read(answer: &Value) -> Option<bool> {
    let is_whole = answer["timed_out"] != true && answer["_shards"]["failed"] == 0;
    let hits = answer["hits"]["total"]["value"].as_u64();
    hits.filter(|_| is_whole).map(|hits| hits == 0)
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
    fn an_answer_of_some_shards_says_nothing() {
        let answer = |failed: u32, timed_out: bool, hits: u32| {
            json!({
                "timed_out": timed_out,
                "_shards": {"total": 3, "successful": 3 - failed, "skipped": 0, "failed": failed},
                "hits": {"total": {"value": hits, "relation": "eq"}, "hits": []},
            })
        };
        assert_eq!(read(&answer(0, false, 0)), Some(true));
        assert_eq!(read(&answer(0, false, 1)), Some(false));
        assert_eq!(read(&answer(1, false, 0)), None);
        assert_eq!(read(&answer(0, true, 0)), None);
        assert_eq!(read(&json!({})), None);
    }

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
