//! What every message needs, and where one stands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use failure::Rules;
use notice::{Instances, JobId, SealKeys};
use service::secret::Changing;

use crate::{
    elasticsearch::Elasticsearch, gitlab::Gitlab, indices::Naming, job::Job, places::Places,
    sink::Budget,
};

/// What every message needs.
pub(crate) struct Context {
    /// The GitLabs that messages may be about.
    pub(crate) instances: Instances,
    /// Their APIs.
    pub(crate) forges: Vec<Forge>,
    /// Where lines go.
    pub(crate) elasticsearch: Elasticsearch,
    /// What all jobs together may have on their way there.
    pub(crate) budget: Budget,
    /// For the traces that are being read. Waiting for a job's end needs none of them.
    pub(crate) places: Places,
    /// How indices are named.
    pub(crate) naming: Naming,
    /// What is known of why jobs fail.
    pub(crate) rules: Arc<Rules>,
    /// A failure is new that a project has not seen for so many days.
    pub(crate) novel_days: u32,
    /// Keys that open callers' tokens.
    pub(crate) seal_keys: SealKeys,
}

/// One GitLab as the consumer uses it.
pub(crate) struct Forge {
    /// Its API.
    pub(crate) gitlab: Gitlab,
    /// The operator's token.
    pub(crate) token: Option<Changing>,
}

/// Where a message is, for whoever finds out that its work panicked or took too long.
#[derive(Clone, Default)]
pub(crate) struct Progress(Arc<Mutex<Reached>>);

struct Reached {
    step: &'static str,
    job: Option<Job>,
    linked_bytes: Option<u64>,
}

impl Default for Reached {
    fn default() -> Self {
        Self {
            step: "begin",
            job: None,
            linked_bytes: None,
        }
    }
}

impl Progress {
    /// The name of the step.
    pub(crate) fn step(&self) -> &'static str {
        self.reached().step
    }

    /// It is at this step now.
    pub(crate) fn enter(&self, step: &'static str, job: JobId) {
        self.reached().step = step;
        if cfg!(debug_assertions) {
            panic_on_demand(step, job);
        }
    }

    /// The job, once GitLab has told that it is over.
    pub(crate) fn job(&self) -> Option<Job> {
        self.reached().job.clone()
    }

    /// From now on it is known.
    pub(crate) fn found(&self, job: &Job) {
        self.reached().job = Some(job.clone());
    }

    /// The size of the trace that links to lines are computed from, once some may have been written.
    pub(crate) fn linked_bytes(&self) -> Option<u64> {
        self.reached().linked_bytes
    }

    /// From now on lines are written with links that are computed from this size.
    pub(crate) fn link(&self, bytes: u64) {
        self.reached().linked_bytes = Some(bytes);
    }

    fn reached(&self) -> MutexGuard<'_, Reached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In debug builds `JOBLOGS_PANIC_AT=STEP:JOB_ID` makes a step panic: no input is known that would, and
/// what becomes of a message then has to be tested all the same.
fn panic_on_demand(step: &str, job: JobId) {
    let Ok(wanted) = std::env::var("JOBLOGS_PANIC_AT") else {
        return;
    };
    assert!(
        wanted != format!("{step}:{job}"),
        "asked for by JOBLOGS_PANIC_AT"
    );
}
