//! Projects and jobs in the shape in which the API gives them.

use std::sync::LazyLock;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::job::{JobState, Status, elapsed};
use crate::samples;

/// GitLab archives a trace two minutes after the job's end; from then on the job has an artifact of that type.
const ARCHIVED_AFTER: Duration = Duration::from_mins(2);

/// A job in GitLab's own shape, all fields there: a real one from the samples.
static SHAPE: LazyLock<Map<String, Value>> =
    LazyLock::new(|| shape(&samples::named("hello.ts").facts));

/// A project as GitLab keeps it.
#[derive(Clone, Debug)]
pub(super) struct ProjectState {
    pub(super) id: u64,
    pub(super) path: String,
    pub(super) build_timeout: Duration,
}

/// The shape of an ordinary job.
pub(super) fn ordinary() -> Map<String, Value> {
    SHAPE.clone()
}

/// The fields of a sample that GitLab would give.
pub(super) fn shape(facts: &Value) -> Map<String, Value> {
    let mut shape = facts.as_object().cloned().unwrap_or_default();
    shape.remove("trace_size");
    shape.remove("sha256");
    shape
}

/// `GET /projects/:id`.
pub(super) fn project(project: &ProjectState, url: &str) -> Value {
    let name = project.path.rsplit('/').next().unwrap_or_default();
    let namespace = project
        .path
        .rsplit_once('/')
        .map_or("", |(namespace, _)| namespace);
    json!({
        "id": project.id,
        "description": null,
        "name": name,
        "name_with_namespace": project.path.replace('/', " / "),
        "path": name,
        "path_with_namespace": project.path,
        "created_at": "2024-01-01T00:00:00.000Z",
        "default_branch": "main",
        "tag_list": [],
        "topics": [],
        "web_url": format!("{url}{}", project.path),
        "readme_url": null,
        "namespace": {
            "id": 5, "name": namespace, "path": namespace, "kind": "group", "full_path": namespace,
            "parent_id": null, "avatar_url": null, "web_url": format!("{url}groups/{namespace}"),
        },
        "archived": false,
        "visibility": "private",
        "jobs_enabled": true,
        "builds_access_level": "enabled",
        "public_jobs": true,
        "shared_runners_enabled": true,
        "build_timeout": project.build_timeout.as_secs(),
        "auto_cancel_pending_pipelines": "enabled",
        "ci_config_path": null,
    })
}

/// `GET /projects/:id/jobs/:job_id`, as of now.
pub(super) fn job(job: &JobState, project: &ProjectState, url: &str, now: Timestamp) -> Value {
    let status = job.status(now);
    let finished_at = job.finished_at(now);
    let web_url = format!("{url}{}", project.path);
    let mut facts = job.shape.clone();
    let mut set = |name: &str, value: Value| facts.insert(name.to_owned(), value);
    set("id", json!(job.id));
    set("status", json!(status.as_str()));
    set("created_at", time(Some(job.created_at)));
    set("started_at", time(job.started_at));
    // Rails sets it for success, failed and canceled only.
    set(
        "finished_at",
        time(finished_at.filter(|_| status != Status::Skipped)),
    );
    set("erased_at", time(job.erased_at));
    set(
        "duration",
        seconds(job.started_at, finished_at.unwrap_or(now)),
    );
    set(
        "queued_duration",
        seconds(Some(job.created_at), job.started_at.unwrap_or(now)),
    );
    set("web_url", json!(format!("{web_url}/-/jobs/{}", job.id)));
    set("artifacts", artifacts(job, now));
    if status == Status::Failed {
        set("failure_reason", json!(job.failure_reason));
    } else {
        facts.remove("failure_reason");
    }
    if job.started_at.is_none() {
        facts.insert("runner".into(), Value::Null);
        facts.insert("runner_manager".into(), Value::Null);
    }
    pipeline(&mut facts, job, project.id, &web_url, now);
    facts.extend(job.overrides.clone());
    Value::Object(facts)
}

fn pipeline(
    facts: &mut Map<String, Value>,
    job: &JobState,
    project: u64,
    web_url: &str,
    now: Timestamp,
) {
    let git_ref = facts.get("ref").cloned().unwrap_or_default();
    let commit = facts
        .get("commit")
        .and_then(|commit| commit["id"].as_str())
        .map(str::to_owned);
    if let (Some(commit), Some(id)) = (facts.get_mut("commit"), commit) {
        commit["web_url"] = json!(format!("{web_url}/-/commit/{id}"));
    }
    if let Some(pipeline) = facts
        .get_mut("pipeline")
        .filter(|pipeline| pipeline.is_object())
    {
        pipeline["web_url"] = json!(format!("{web_url}/-/pipelines/{}", pipeline["id"]));
        pipeline["project_id"] = json!(project);
        pipeline["ref"] = git_ref;
        pipeline["created_at"] = time(Some(job.created_at));
        pipeline["updated_at"] = time(Some(job.finished_at(now).unwrap_or(now)));
    }
}

/// The artifacts of the shape, once the job is over; the trace among them only when it is archived.
fn artifacts(job: &JobState, now: Timestamp) -> Value {
    let mut artifacts = job
        .shape
        .get("artifacts")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let has_ended = job.finished_at(now).is_some();
    artifacts.retain(|artifact| has_ended && artifact["file_type"] != "trace");
    let is_archived = job
        .finished_at(now)
        .is_some_and(|end| elapsed(end, now) >= ARCHIVED_AFTER);
    let size = job.readable(now);
    if is_archived && size > 0 {
        artifacts.push(json!({
            "file_type": "trace", "size": size, "filename": "job.log", "file_format": null,
        }));
    }
    Value::Array(artifacts)
}

/// Milliseconds, as GitLab writes times.
fn time(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| json!(format!("{time:.3}")))
}

fn seconds(from: Option<Timestamp>, to: Timestamp) -> Value {
    from.map_or(Value::Null, |from| json!(elapsed(from, to).as_secs_f64()))
}
