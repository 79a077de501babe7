//! A webhook of GitLab's, as a project has it: what it sends about jobs and pipelines, and how it proves who it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::gitlab::Job;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use sha2::Sha256;

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
            let signature = sign(key, &format!("{ID}.{at}.{body}"));
            request
                .header("webhook-id", ID)
                .header("webhook-timestamp", at)
                .header("webhook-signature", signature)
        }
    };
    request.body(body)
}

/// As Standard Webhooks has it.
fn sign(key: &str, content: &str) -> String {
    let key = key.trim_start_matches("whsec_");
    let key = STANDARD.decode(key).expect("a signing token is base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(content.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    format!("v1,{signature}")
}

/// A job event. Source: GitLab's documentation of webhook events.
pub(crate) fn job_event(job: &Job) -> Value {
    let facts = job.facts();
    json!({
        "object_kind": "build",
        "ref": facts["ref"],
        "tag": false,
        "before_sha": "0000000000000000000000000000000000000000",
        "sha": facts["commit"]["id"],
        "build_id": job.id(),
        "build_name": facts["name"],
        "build_stage": facts["stage"],
        "build_status": facts["status"],
        "build_created_at": facts["created_at"],
        "build_started_at": facts["started_at"],
        "build_finished_at": facts["finished_at"],
        "build_duration": facts["duration"],
        "build_queued_duration": facts["queued_duration"],
        "build_allow_failure": false,
        "build_failure_reason": "unknown_failure",
        "retries_count": 0,
        "pipeline_id": facts["pipeline"]["id"],
        "runner": {"id": facts["runner"]["id"], "active": true, "is_shared": false, "tags": []},
        "project_id": job.project_id(),
        "project_name": "Acme / Demo",
        "user": {"id": 3, "name": "Ann", "username": "ann", "email": "[REDACTED]"},
        "commit": {"id": facts["pipeline"]["id"], "sha": facts["commit"]["id"], "status": "running"},
        "project": project(job),
        "environment": null,
    })
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
        "project": jobs.first().map(project),
        "builds": builds,
    })
}

fn project(job: &Job) -> Value {
    json!({"id": job.project_id(), "name": "Demo", "namespace": "Acme", "path_with_namespace": "acme/demo"})
}
