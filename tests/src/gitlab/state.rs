//! All that the simulated GitLab knows, behind one lock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::facts::ProjectState;
use super::fault::Faults;
use super::hooks::{Delivery, Hook};
use super::identity::Signer;
use super::job::JobState;
use super::limit::{Counter, Refusals};
use super::request::Request;
use super::token::Grant;

/// The first ids given out, so that no kind's ids look like another's.
const FIRST_PROJECT: u64 = 42;
const FIRST_JOB: u64 = 4711;

/// The lock. Poisoned, it still serves: the test that panicked has its own report.
#[derive(Debug, Default)]
pub(super) struct Shared(Mutex<State>);

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    /// What users call it, with a slash at the end: the start of every `web_url`.
    pub(super) url: String,
    pub(super) projects: Vec<ProjectState>,
    /// By project and job.
    pub(super) jobs: HashMap<(u64, u64), JobState>,
    pub(super) last_job_id: u64,
    pub(super) grants: Vec<Grant>,
    /// Faults of the whole instance.
    pub(super) faults: Faults,
    pub(super) refusals: Refusals,
    pub(super) counter: Counter,
    pub(super) log: Vec<Request>,
    pub(super) hooks: Vec<Hook>,
    pub(super) last_hook_id: u64,
    /// A GitLab before 19.0, which knows no signing tokens.
    pub(super) is_before_signing: bool,
    pub(super) deliveries: Vec<Delivery>,
    signer: Option<Signer>,
}

impl State {
    /// What signs ID tokens; made when it is needed, for that takes a while.
    pub(super) fn signer(&mut self) -> &Signer {
        self.signer.get_or_insert_with(Signer::new)
    }

    pub(super) fn next_project_id(&self) -> u64 {
        self.projects
            .iter()
            .map(|project| project.id + 1)
            .max()
            .unwrap_or(FIRST_PROJECT)
    }

    /// The wanted id, if it is free, or the next one. Job ids are unique in the instance, not only in the project.
    pub(super) fn take_job_id(&mut self, wanted: Option<u64>) -> u64 {
        let is_taken = |wanted: &u64| self.jobs.keys().any(|(_, id)| id == wanted);
        let id = wanted
            .filter(|id| !is_taken(id))
            .unwrap_or(self.last_job_id.max(FIRST_JOB - 1) + 1);
        self.last_job_id = self.last_job_id.max(id);
        id
    }

    /// By id or by path, as the API takes either.
    pub(super) fn project(&self, id_or_path: &str) -> Option<&ProjectState> {
        let id = id_or_path.parse::<u64>().ok();
        self.projects
            .iter()
            .find(|project| Some(project.id) == id || project.path == id_or_path)
    }

    /// What a token is good for, where it is one of ours.
    pub(super) fn token(&self, value: Option<&str>) -> Option<&Grant> {
        let mut grants = self.grants.iter();
        grants.find(|grant| Some(grant.token.value()) == value)
    }

    /// The job of this project, unless it was deleted.
    pub(super) fn job(&mut self, project_id: u64, id: &str) -> Option<&mut JobState> {
        let job = self.jobs.get_mut(&(project_id, id.parse().ok()?))?;
        (!job.is_deleted).then_some(job)
    }
}
