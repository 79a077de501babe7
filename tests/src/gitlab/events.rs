//! What GitLab's webhooks deliver, and how a delivery proves where it comes from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::builder::Job;

/// A job event. Source: GitLab's documentation of webhook events.
pub fn job_event(job: &Job) -> Value {
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
        "project": project_of(job),
        "environment": null,
    })
}

/// The project of a job, as events have it.
pub fn project_of(job: &Job) -> Value {
    json!({"id": job.project_id(), "name": "Demo", "namespace": "Acme", "path_with_namespace": "acme/demo"})
}

/// The key of a signing token: `whsec_` and 32 bytes in base64.
pub(super) fn signing_key(token: &str) -> Option<Vec<u8>> {
    let key = STANDARD.decode(token.strip_prefix("whsec_")?).ok()?;
    (key.len() == 32).then_some(key)
}

/// The signature of a delivery, as Standard Webhooks has it.
///
/// # Panics
/// When that is no signing token.
pub fn sign(token: &str, id: &str, timestamp: i64, body: &str) -> String {
    let key = signing_key(token).expect("it is a signing token");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.{body}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    format!("v1,{signature}")
}
