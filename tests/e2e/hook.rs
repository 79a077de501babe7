//! A webhook of GitLab's, as a project has it: what it sends about jobs and pipelines, and how it proves who it is.

pub(crate) use e2e::gitlab::job_event;
use e2e::gitlab::{Job, project_of, sign};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::listener::Listener;

/// By what a webhook is known.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    Nothing,
    /// `X-Gitlab-Token`.
    Token(String),
    /// A signature with this signing token, made at this time.
    Signature(String, Timestamp),
}

impl Proof {
    /// Signed now.
    pub(crate) fn signature(key: &str) -> Self {
        Self::Signature(key.to_owned(), Timestamp::now())
    }
}

/// One delivery of this event.
pub(crate) fn delivery(
    listener: &Listener,
    event: &str,
    body: &Value,
    proof: &Proof,
) -> RequestBuilder {
    const ID: &str = "b8a0a5c6-6c7f-4b0e-9a25-2f6e3fd1f2ab";
    let body = body.to_string();
    let url = format!("{}v1/webhooks/gitlab", listener.url);
    let request = listener
        .http()
        .post(url)
        .header("Content-Type", "application/json")
        .header("User-Agent", "GitLab/18.6.0")
        .header("X-Gitlab-Event", event)
        .header("X-Gitlab-Event-UUID", ID)
        .header("X-Gitlab-Webhook-UUID", ID)
        .header("Idempotency-Key", ID);
    let request = match proof {
        Proof::Nothing => request,
        Proof::Token(token) => request.header("X-Gitlab-Token", token),
        Proof::Signature(key, at) => {
            let at = at.as_second();
            let signature = sign(key, ID, at, &body);
            request
                .header("webhook-id", ID)
                .header("webhook-timestamp", at)
                .header("webhook-signature", signature)
        }
    };
    request.body(body)
}

/// A pipeline event about these jobs.
pub(crate) fn pipeline_event(jobs: &[Job], status: &str) -> Value {
    let builds: Vec<Value> = jobs
        .iter()
        .map(|job| {
            let facts = job.facts();
            json!({
                "id": job.id(), "stage": facts["stage"], "name": facts["name"], "status": facts["status"],
                "when": "on_success", "manual": false, "allow_failure": false,
                "runner": {"id": facts["runner"]["id"]}, "environment": null,
            })
        })
        .collect();
    json!({
        "object_kind": "pipeline",
        "object_attributes": {"id": 31, "status": status, "detailed_status": status, "stages": ["build"]},
        "project": jobs.first().map(project_of),
        "builds": builds,
    })
}
