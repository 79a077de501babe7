//! What GitLab's webhooks send: who sent it, and which jobs it says are over.

use std::{fmt, marker::PhantomData};

use jiff::Timestamp;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    intake::{self, Fields, LARGEST_ID},
    noted,
    secrets::{Secrets, SigningKeys},
};

/// Seconds by which a signed delivery may be older or newer than our clock says.
const TOLERANCE: i64 = 5 * 60;
/// Rightly signed, and too old or too new: two clocks differ, or it was sent before.
const WRONG_TIME: &str = "webhook: timestamp outside of five minutes (do the clocks differ?)";
/// Jobs of one pipeline that are taken from one delivery; GitLab's own limit is 500 in most plans.
const MOST_JOBS: usize = 5_000;
/// Why most events have nothing for us.
pub(crate) const NOT_ABOUT_JOBS: &str = "it is not about jobs";

/// Who may call.
pub(crate) struct Callers {
    pub(crate) secrets: Secrets,
    pub(crate) keys: SigningKeys,
}

/// The credentials of one delivery, as they stand in its headers.
#[derive(Default)]
pub(crate) struct Credentials<'a> {
    /// `X-Gitlab-Token`.
    pub(crate) token: Option<&'a str>,
    /// `webhook-id`.
    pub(crate) id: Option<&'a str>,
    /// `webhook-timestamp`.
    pub(crate) timestamp: Option<&'a str>,
    /// `webhook-signature`.
    pub(crate) signature: Option<&'a str>,
}

/// What a delivery says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// These jobs are over.
    Ended(Vec<Fields>),
    /// Nothing for us, and why.
    Irrelevant(&'static str),
}

/// A body that is none of GitLab's, in one fixed sentence.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// It is no JSON object.
    NoJson,
    /// This field is missing, or of another type.
    Field(&'static str),
}

impl Callers {
    /// Whether nobody may call.
    pub(crate) fn are_none(&self) -> bool {
        self.secrets.is_empty() && self.keys.is_empty()
    }

    /// Whether the delivery is from whom it should be. Where it is signed, the signature counts alone.
    pub(crate) fn know(&self, given: &Credentials<'_>, body: &[u8], now: Timestamp) -> bool {
        let checked = self.check(given, body, now);
        // Of several GitLabs only the one that sent it can tell that it comes at a wrong time.
        if let Err(fault) = checked
            && noted::noted_fault() != Some(WRONG_TIME)
        {
            noted::fault(fault);
        }
        checked.is_ok()
    }

    fn check(
        &self,
        given: &Credentials<'_>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), &'static str> {
        let is_true = |is_true: bool, fault| is_true.then_some(()).ok_or(fault);
        let Some(signature) = given.signature else {
            let token = given.token.ok_or("webhook: neither token nor signature")?;
            return is_true(self.secrets.allow(token), "webhook: token wrong");
        };
        let (Some(id), Some(timestamp)) = (given.id, given.timestamp) else {
            return Err("webhook: webhook-id or webhook-timestamp missing");
        };
        let content: [&[u8]; 5] = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body];
        let is_signed = self.keys.signed(&content, signature);
        is_true(is_signed, "webhook: signature wrong")?;
        let is_fresh = timestamp
            .parse()
            .is_ok_and(|at: i64| now.as_second().abs_diff(at) <= TOLERANCE.unsigned_abs());
        is_true(is_fresh, WRONG_TIME)
    }
}

/// An id as GitLab has them.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "u64")]
struct Id(u64);

impl TryFrom<u64> for Id {
    type Error = &'static str;
    fn try_from(id: u64) -> Result<Self, Self::Error> {
        let is_id = (1..=LARGEST_ID).contains(&id);
        is_id.then_some(Self(id)).ok_or("no id")
    }
}

/// An object. To serde's derived structs a list is one too, whose values have no names.
struct Named<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Names<T> {
            type Value = Named<T>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Named<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Named)
            }
        }
        deserializer.deserialize_map(Names(PhantomData))
    }
}

#[derive(Deserialize)]
struct Kind {
    object_kind: Option<String>,
}

/// A Job Hook. GitLab's other fields pass, here and below.
#[derive(Deserialize)]
struct JobHook {
    build_id: Option<Id>,
    build_status: Option<String>,
    build_name: Option<String>,
    project_id: Option<Id>,
    runner: Option<Named<Runner>>,
    project: Option<Named<Project>>,
}

/// A Pipeline Hook.
#[derive(Deserialize)]
struct PipelineHook {
    object_attributes: Option<Named<Pipeline>>,
    project: Option<Named<Project>>,
    builds: Option<Vec<Named<Build>>>,
}

#[derive(Deserialize)]
struct Pipeline {
    status: Option<String>,
}

#[derive(Deserialize)]
struct Build {
    id: Option<Id>,
    status: Option<String>,
    name: Option<String>,
    runner: Option<Named<Runner>>,
}

#[derive(Deserialize)]
struct Runner {
    id: Option<Id>,
}

#[derive(Deserialize)]
struct Project {
    id: Option<Id>,
    path_with_namespace: Option<String>,
}

/// Reads a body.
pub(crate) fn read(body: &[u8]) -> Result<Event, Malformed> {
    let Named(kind) = serde_json::from_slice::<Named<Kind>>(body).map_err(|_| Malformed::NoJson)?;
    match kind.object_kind.as_deref() {
        Some("build") => serde_json::from_slice::<Named<JobHook>>(body)
            .map_err(|_| Malformed::Field("a field of the job"))?
            .0
            .event(),
        Some("pipeline") => serde_json::from_slice::<Named<PipelineHook>>(body)
            .map_err(|_| Malformed::Field("a field of the pipeline"))?
            .0
            .event(),
        Some(_) => Ok(Event::Irrelevant(NOT_ABOUT_JOBS)),
        // System Hooks about users and groups have `event_name` instead.
        None => Ok(Event::Irrelevant("it has no object_kind")),
    }
}

impl JobHook {
    fn event(self) -> Result<Event, Malformed> {
        let status = self.build_status.ok_or(Malformed::Field("build_status"))?;
        let job = self.build_id.ok_or(Malformed::Field("build_id"))?;
        let project = self.project.as_ref().map(|it| &it.0);
        let project_id = self.project_id.or(project.and_then(|it| it.id));
        let project_id = project_id.ok_or(Malformed::Field("project_id"))?;
        if !is_over(&status) {
            return Ok(Event::Irrelevant("the job is not over"));
        }
        let fields = fields(
            project_id,
            project,
            job,
            self.build_name,
            self.runner.as_ref().map(|it| &it.0),
        );
        Ok(Event::Ended(vec![fields]))
    }
}

impl PipelineHook {
    fn event(self) -> Result<Event, Malformed> {
        let status = self.object_attributes.and_then(|it| it.0.status);
        let status = status.ok_or(Malformed::Field("object_attributes.status"))?;
        let project = self.project.as_ref().map(|it| &it.0);
        let project_id = project.and_then(|it| it.id);
        let project_id = project_id.ok_or(Malformed::Field("project.id"))?;
        let builds = self.builds.ok_or(Malformed::Field("builds"))?;
        if builds.len() > MOST_JOBS {
            return Err(Malformed::Field("builds (too many)"));
        }
        let mut jobs = Vec::new();
        for Named(build) in builds {
            let id = build.id.ok_or(Malformed::Field("builds.id"))?;
            // A job that was skipped or waits for a person has no log.
            let status = build.status.as_deref().unwrap_or_default();
            if is_over(status) && status != "skipped" {
                jobs.push(fields(
                    project_id,
                    project,
                    id,
                    build.name,
                    build.runner.as_ref().map(|it| &it.0),
                ));
            }
        }
        // One that waits for a person, or for its time, may never end.
        if !is_over(&status) && !matches!(status.as_str(), "manual" | "scheduled") {
            return Ok(Event::Irrelevant("the pipeline is not over"));
        }
        if jobs.is_empty() {
            return Ok(Event::Irrelevant("no job of the pipeline has ended"));
        }
        Ok(Event::Ended(jobs))
    }
}

fn fields(
    project_id: Id,
    project: Option<&Project>,
    job: Id,
    name: Option<String>,
    runner: Option<&Runner>,
) -> Fields {
    // As `CI_PROJECT_NAME` has it.
    let path = project.and_then(|it| it.path_with_namespace.as_deref());
    let project_name = path.and_then(|path| path.rsplit('/').next());
    // What is no name is left out: GitLab tells the consumer anyway, and an event that fails is one step towards
    // the end of its webhook.
    let named = |name: &&str| intake::name(name).is_ok();
    Fields {
        instance: None,
        project_id: Some(project_id.0.to_string()),
        job_id: Some(job.0.to_string()),
        runner_id: runner.and_then(|it| it.id).map(|id| id.0.to_string()),
        job_name: name.filter(|name| named(&name.as_str())),
        project_name: project_name.filter(named).map(str::to_owned),
        index_name: None,
    }
}

/// Whether a job, or a pipeline, of this status has ended for good.
fn is_over(status: &str) -> bool {
    matches!(status, "success" | "failed" | "canceled" | "skipped")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(body: &Value) -> Result<Event, Malformed> {
        super::read(body.to_string().as_bytes())
    }

    /// After GitLab's documentation of job events.
    fn job_hook(status: &str) -> Value {
        json!({
            "object_kind": "build", "ref": "main", "tag": false, "build_id": 1977, "build_name": "test",
            "build_stage": "test", "build_status": status, "build_created_at": "2021-02-23T02:41:37.886Z",
            "build_failure_reason": "unknown_failure", "pipeline_id": 2366, "project_id": 380,
            "project_name": "GitLab Org / GitLab Test", "user": {"id": 3, "name": "User"},
            "commit": {"id": 2366, "status": "running"},
            "project": {"id": 380, "path_with_namespace": "gitlab-org/gitlab-test"},
            "runner": {"active": true, "id": 380_987, "tags": ["linux", "docker"]}, "environment": null,
        })
    }

    fn pipeline_hook(status: &str) -> Value {
        json!({
            "object_kind": "pipeline",
            "object_attributes": {"id": 31, "status": status, "stages": ["build", "test"]},
            "project": {"id": 1, "path_with_namespace": "gitlab-org/gitlab-test"},
            "builds": [
                {"id": 380, "stage": "deploy", "name": "production", "status": "skipped", "runner": null},
                {"id": 377, "name": "test-image", "status": "success", "runner": {"id": 380_987}},
                {"id": 378, "name": "test-build", "status": "failed", "runner": null},
                {"id": 379, "name": "staging", "status": "manual"},
            ],
        })
    }

    #[test]
    fn a_job_that_is_over_is_a_notice() {
        for status in ["success", "failed", "canceled"] {
            let Ok(Event::Ended(jobs)) = read(&job_hook(status)) else {
                panic!("{status}");
            };
            let job = &jobs[0];
            assert_eq!(job.job_id.as_deref(), Some("1977"));
            assert_eq!(job.project_id.as_deref(), Some("380"));
            assert_eq!(job.runner_id.as_deref(), Some("380987"));
            assert_eq!(job.job_name.as_deref(), Some("test"));
            assert_eq!(job.project_name.as_deref(), Some("gitlab-test"));
        }
        for status in ["created", "pending", "running", "canceling", "manual"] {
            let event = read(&job_hook(status));
            assert!(matches!(event, Ok(Event::Irrelevant(_))), "{status}");
        }
    }

    #[test]
    fn a_job_without_a_name_is_a_job() {
        let mut hook = job_hook("failed");
        hook["build_name"] = Value::Null;
        assert!(matches!(read(&hook), Ok(Event::Ended(_))));
        let mut hook = pipeline_hook("failed");
        hook["builds"][1]["name"] = Value::Null;
        assert!(matches!(read(&hook), Ok(Event::Ended(_))));
    }

    #[test]
    fn a_pipeline_that_is_over_is_a_notice_of_each_job_that_ran() {
        let Ok(Event::Ended(jobs)) = read(&pipeline_hook("failed")) else {
            panic!("no jobs");
        };
        let ids: Vec<_> = jobs
            .iter()
            .filter_map(|job| job.job_id.as_deref())
            .collect();
        assert_eq!(ids, ["377", "378"]);
        for status in ["manual", "scheduled"] {
            let event = read(&pipeline_hook(status));
            assert!(matches!(event, Ok(Event::Ended(_))), "{status}");
        }
        let event = read(&pipeline_hook("running"));
        assert!(matches!(event, Ok(Event::Irrelevant(_))));
    }

    #[test]
    fn what_is_no_name_is_left_out() {
        let mut hook = job_hook("success");
        hook["build_name"] = json!("a\nb");
        hook["project"]["path_with_namespace"] = json!(format!("a/{}", "x".repeat(256)));
        let Ok(Event::Ended(jobs)) = read(&hook) else {
            panic!("no job");
        };
        assert_eq!((&jobs[0].job_name, &jobs[0].project_name), (&None, &None));
    }

    #[test]
    fn what_is_not_about_jobs_is_no_fault() {
        for body in [
            json!({"object_kind": "push"}),
            json!({"object_kind": "deployment", "status": "success"}),
            json!({"event_name": "user_create"}),
            json!({}),
        ] {
            assert!(matches!(read(&body), Ok(Event::Irrelevant(_))), "{body}");
        }
    }

    #[test]
    fn a_field_that_is_missing_is_named() {
        for field in ["build_id", "build_status"] {
            let mut hook = job_hook("success");
            hook[field] = Value::Null;
            assert_eq!(read(&hook), Err(Malformed::Field(field)));
        }
        let mut hook = job_hook("success");
        hook["project_id"] = Value::Null;
        assert!(read(&hook).is_ok(), "it stands in the project, too");
        hook["project"] = Value::Null;
        assert_eq!(read(&hook), Err(Malformed::Field("project_id")));
        hook["project"] = json!([380, "a/b"]);
        assert_eq!(read(&hook), Err(Malformed::Field("a field of the job")));
        let mut lists = pipeline_hook("failed");
        lists["builds"][0] = json!([380, "failed", "no names", null]);
        let fault = Malformed::Field("a field of the pipeline");
        assert_eq!(read(&lists), Err(fault));
        hook["build_id"] = json!("1977");
        assert_eq!(read(&hook), Err(Malformed::Field("a field of the job")));
        for body in ["", "[1]", "[\"build\"]", "\"build\"", "{\"object_kind\":"] {
            assert_eq!(
                super::read(body.as_bytes()),
                Err(Malformed::NoJson),
                "{body}"
            );
        }
    }
}
