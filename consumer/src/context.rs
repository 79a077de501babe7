//! What every message needs, and where one stands.

use std::sync::{Arc, Mutex, PoisonError};

use notice::{Instances, JobId, SealKeys};
use secrecy::SecretString;

use crate::{
    elasticsearch::Elasticsearch, flags::Naming, gitlab::Gitlab, places::Places, sink::Budget,
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
    /// Keys that open callers' tokens.
    pub(crate) seal_keys: SealKeys,
}

/// One GitLab as the consumer uses it.
pub(crate) struct Forge {
    /// Its API.
    pub(crate) gitlab: Gitlab,
    /// The operator's token.
    pub(crate) token: Option<SecretString>,
}

/// The step that a message is at, for whoever finds out that it panicked.
#[derive(Clone)]
pub(crate) struct Step(Arc<Mutex<&'static str>>);

impl Default for Step {
    fn default() -> Self {
        Self(Arc::new(Mutex::new("begin")))
    }
}

impl Step {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is at this step now.
    pub(crate) fn enter(&self, name: &'static str, job: JobId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
        if cfg!(debug_assertions) {
            panic_on_demand(name, job);
        }
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
