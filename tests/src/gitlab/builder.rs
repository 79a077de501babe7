//! Describing a job before it is there, and the handle to it afterwards.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::facts;
use super::fault::{Fault, Faults, On};
use super::generator::{ExpectedLine, Script};
use super::hooks;
use super::job::{JobState, Status};
use super::state::Shared;
use super::trace::{Content, LateTail, Texts, Trace};

const STAYS: &str = "a job is never taken out, only marked as deleted";
/// How long a job waits for its runner, unless a sample says otherwise.
const QUEUED: Duration = Duration::from_millis(984);

/// A job that is being described. It exists from `start`, `finished`, `finished_at` or `waiting` on.
#[derive(Debug)]
#[must_use = "the job exists from `start`, `finished`, `finished_at` or `waiting` on"]
pub struct JobBuilder {
    pub(super) shared: Arc<Shared>,
    pub(super) project_id: u64,
    pub(super) id: Option<u64>,
    pub(super) shape: Map<String, Value>,
    pub(super) overrides: Map<String, Value>,
    pub(super) trace: Trace,
    pub(super) outcome: Status,
    pub(super) failure_reason: String,
    pub(super) duration: Option<Duration>,
    pub(super) queued: Duration,
    pub(super) finish_after: Option<Duration>,
    pub(super) late_tail: Option<LateTail>,
}

impl JobBuilder {
    /// An ordinary job: succeeds, with a short trace.
    pub(super) fn new(shared: Arc<Shared>, project_id: u64, shape: Map<String, Value>) -> Self {
        Self {
            shared,
            project_id,
            id: None,
            shape,
            overrides: Map::new(),
            trace: Trace::Lines(20),
            outcome: Status::Success,
            failure_reason: "script_failure".into(),
            duration: None,
            queued: QUEUED,
            finish_after: None,
            late_tail: None,
        }
    }

    /// The job's id, if it is free; the next free one by default.
    pub fn id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }

    /// The job's name in `.gitlab-ci.yml`.
    pub fn name(self, name: &str) -> Self {
        self.shaped("name", name)
    }

    /// The stage.
    pub fn stage(self, stage: &str) -> Self {
        self.shaped("stage", stage)
    }

    /// The branch or tag.
    pub fn git_ref(self, git_ref: &str) -> Self {
        self.shaped("ref", git_ref)
    }

    /// Any field of the job's JSON, whatever the rest says: `.fact("user", Value::Null)`.
    pub fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.overrides.insert(name.into(), value.into());
        self
    }

    /// What it writes; 20 lines by default.
    pub fn trace(mut self, trace: Trace) -> Self {
        self.trace = trace;
        self
    }

    /// How it ends when nobody says otherwise; `Success` by default.
    pub fn outcome(mut self, outcome: Status) -> Self {
        self.outcome = outcome;
        self
    }

    /// Fails, for this reason.
    pub fn fails(mut self, failure_reason: &str) -> Self {
        self.outcome = Status::Failed;
        self.failure_reason = failure_reason.into();
        self
    }

    /// Ends by itself this long after `start`, its trace growing evenly until then. Without it, `Job::finish` ends it.
    pub fn finish_after(mut self, duration: Duration) -> Self {
        self.finish_after = Some(duration);
        self
    }

    /// The last `bytes` of the trace can be read only `after` the job's end: its status is ahead of its log.
    pub fn tail_after(mut self, bytes: usize, after: Duration) -> Self {
        self.late_tail = Some(LateTail { bytes, after });
        self
    }

    /// It runs, from now on.
    pub fn start(self) -> Job {
        let now = Timestamp::now();
        let ends_at = self.finish_after.map(|duration| now + duration);
        self.register(Status::Running, Some(now), ends_at)
    }

    /// It is over, just now.
    pub fn finished(self) -> Job {
        self.finished_at(Timestamp::now())
    }

    /// It is over since then.
    pub fn finished_at(self, finished_at: Timestamp) -> Job {
        let duration = self.duration.unwrap_or(match self.trace {
            Trace::Lines(lines) | Trace::PlainLines(lines) | Trace::Noise { lines, .. } => {
                Script::duration(lines)
            }
            _ => Duration::from_secs(2),
        });
        let has_run = !matches!(self.trace, Trace::None);
        let started_at = has_run.then(|| finished_at - duration);
        self.register(Status::Running, started_at, Some(finished_at))
    }

    /// It has not got a runner yet, and this status until `Job::enter` moves it on.
    pub fn waiting(self, status: Status) -> Job {
        self.register(status, None, None)
    }

    fn shaped(mut self, name: &str, value: &str) -> Self {
        self.shape.insert(name.into(), value.into());
        self
    }

    fn register(
        self,
        status: Status,
        started_at: Option<Timestamp>,
        ends_at: Option<Timestamp>,
    ) -> Job {
        let time = started_at.or(ends_at).unwrap_or_else(Timestamp::now);
        // The id is taken before the trace is measured, which may take a while and needs it.
        let id = self.shared.lock().take_job_id(self.id);
        let state = JobState {
            id,
            shape: self.shape,
            overrides: self.overrides,
            created_at: time - self.queued,
            started_at,
            before_end: status,
            ends_at,
            outcome: self.outcome,
            failure_reason: self.failure_reason,
            erased_at: None,
            is_deleted: false,
            content: Content::new(self.trace, id, time),
            received: None,
            late_tail: self.late_tail,
            faults: Faults::default(),
        };
        self.shared.lock().jobs.insert((self.project_id, id), state);
        Job {
            shared: self.shared,
            project_id: self.project_id,
            id,
        }
    }
}

/// A handle to a job in the simulated GitLab.
#[derive(Clone, Debug)]
pub struct Job {
    shared: Arc<Shared>,
    project_id: u64,
    id: u64,
}

impl Job {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The id of its project.
    pub fn project_id(&self) -> u64 {
        self.project_id
    }

    /// It ends now, with this status.
    ///
    /// # Panics
    /// When the status is not a final one.
    pub fn finish(&self, status: Status) {
        assert!(status.is_final(), "{} is no end of a job", status.as_str());
        self.enter(status);
    }

    /// It moves on to this status now, and webhooks are told.
    pub fn enter(&self, status: Status) {
        self.with(|job| job.enter(status, Timestamp::now()));
        hooks::deliver(&self.shared, self);
    }

    /// While it runs, GitLab has got so many bytes of its trace, until said otherwise.
    pub fn receive(&self, bytes: usize) {
        self.with(|job| job.received = Some(bytes));
    }

    /// Somebody erases its trace.
    pub fn erase(&self) {
        self.with(|job| job.erased_at = Some(Timestamp::now()));
    }

    /// Somebody deletes it: from now on it is not found.
    pub fn delete(&self) {
        self.with(|job| job.is_deleted = true);
    }

    /// The next so many answers about it (or `ALWAYS`) are this fault's.
    pub fn fault(&self, on: On, fault: Fault, times: usize) {
        self.with(|job| job.faults.plan(on, fault, times));
    }

    /// No more faults.
    pub fn clear_faults(&self) {
        self.with(|job| job.faults.clear());
    }

    /// Its status at this moment.
    pub fn status(&self) -> Status {
        self.with(|job| job.status(Timestamp::now()))
    }

    /// Its facts at this moment, as the API gives them, without a request that would stand in the log.
    pub fn facts(&self) -> Value {
        let state = self.shared.lock();
        let job = state.jobs.get(&self.key()).expect(STAYS);
        let project = state.project(&self.project_id.to_string());
        let project = project.expect("a job belongs to a project");
        facts::job(job, project, &state.url, Timestamp::now())
    }

    /// Its end, once it is over.
    pub fn finished_at(&self) -> Option<Timestamp> {
        self.with(|job| job.finished_at(Timestamp::now()))
    }

    /// Whether `expected_lines` knows its lines.
    pub fn is_generated(&self) -> bool {
        self.content().0.is_generated()
    }

    /// The whole trace, as it can be read when all has arrived. A huge one is better read in pieces.
    pub fn trace(&self) -> Vec<u8> {
        self.trace_pieces().collect::<Vec<_>>().concat()
    }

    /// The same piece by piece, each made when it is asked for.
    pub fn trace_pieces(&self) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        let (content, outcome) = self.content();
        content.body(usize::MAX, outcome).into_pieces()
    }

    /// Size of the whole trace.
    pub fn trace_size(&self) -> usize {
        let (content, outcome) = self.content();
        content.size(outcome)
    }

    /// Every line that a person sees, with all that is known of it, made as the iterator goes.
    ///
    /// # Panics
    /// When the trace is not a generated one: see `expected_texts`.
    pub fn expected_lines(&self) -> impl Iterator<Item = ExpectedLine> + Send + use<> {
        let (content, outcome) = self.content();
        content
            .expected_lines(outcome)
            .expect("the trace is generated")
    }

    /// The texts of these lines; of samples too, where somebody wrote them down.
    pub fn expected_texts(&self) -> anyhow::Result<Texts> {
        let (content, outcome) = self.content();
        content.expected_texts(outcome)
    }

    pub(super) fn key(&self) -> (u64, u64) {
        (self.project_id, self.id)
    }

    fn content(&self) -> (Content, Status) {
        self.with(|job| (job.content.clone(), job.outcome))
    }

    fn with<T>(&self, change: impl FnOnce(&mut JobState) -> T) -> T {
        let mut state = self.shared.lock();
        let job = state.jobs.get_mut(&self.key());
        change(job.expect(STAYS))
    }
}
