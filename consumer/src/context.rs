//! What every message needs, and where one stands.

use std::sync::{Arc, Mutex, PoisonError};

use notice::{Instances, SealKeys};
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::{elasticsearch::Elasticsearch, flags::Naming, gitlab::Gitlab, sink::Budget};

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
    /// How many traces may be read at the same time. Waiting for a job's end needs none of it.
    pub(crate) reading: Semaphore,
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

    pub(crate) fn enter(&self, name: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = name;
    }
}
