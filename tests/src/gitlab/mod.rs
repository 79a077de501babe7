//! A simulated GitLab: projects, jobs, traces and tokens over HTTP, for the tests and the demo.
//!
//! It is strict, so that a client that passes here has nothing to fear from a real one: it refuses what GitLab refuses
//! (`docs/GITLAB.md`, sections 3 and 4) and notes what no client should do. And it is the oracle: it knows every line
//! that it has written, without the project's own parser. A trace is made as it goes out: its size costs no memory.

mod answer;
mod api;
mod body;
mod builder;
mod entry;
mod events;
mod facts;
mod fault;
mod generator;
mod head;
mod hooks;
mod identity;
mod job;
mod limit;
mod noise;
mod request;
mod server;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod trace;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

pub use builder::{Job, JobBuilder};
pub use events::{job_event, project_of, sign};
pub use fault::{ALWAYS, At, Fault, On};
pub use generator::{ExpectedLine, Stream};
pub use hooks::Delivery;
pub use job::Status;
pub use request::{Request, Violation};
pub use token::{Scope, Token, TokenId};
pub use trace::{Texts, Trace};

use crate::samples::Sample;
use facts::ProjectState;
use limit::Limit;
use server::Server;
use state::Shared;
use token::Grant;

/// One instance. Clones are the same instance; it ends with the last of them.
#[derive(Clone)]
pub struct Gitlab {
    shared: Arc<Shared>,
    server: Arc<Server>,
}

/// A project in the simulated GitLab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    id: u64,
    path: String,
}

impl Project {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its path: `acme/demo`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl Gitlab {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start() -> Self {
        let gitlab = Self::start_on("127.0.0.1:0").await;
        gitlab.expect("the loopback interface has a free port")
    }

    /// Starts one on this address.
    pub async fn start_on(address: &str) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let server = Server::start(address, shared.clone()).await?;
        shared.lock().url = format!("http://{}/", server.address);
        Ok(Self {
            shared,
            server: Arc::new(server),
        })
    }

    /// The address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// What users call it, with a slash at the end; the start of every `web_url`.
    pub fn url(&self) -> String {
        self.shared.lock().url.clone()
    }

    /// GitLab's `external_url`, where users call it otherwise than the address it is bound to.
    pub fn set_external_url(&self, url: &str) {
        self.shared.lock().url = format!("{}/", url.trim_end_matches('/'));
    }

    /// The ID token of a job whose pipeline asks for one with this audience, some of its claims in place of the right
    /// ones.
    pub fn id_token(&self, job: &Job, audience: &str, others: &serde_json::Value) -> String {
        let mut state = self.shared.lock();
        let id = job.project_id().to_string();
        let path = state
            .project(&id)
            .map(|it| it.path.clone())
            .unwrap_or_default();
        let project = (job.project_id(), path.as_str());
        let mut claims = identity::claims(&state.url, audience, project, job.id());
        for (name, value) in others.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        state.signer().sign(&claims)
    }

    /// The project of this path, made if there is none.
    pub fn project(&self, path: &str) -> Project {
        let mut state = self.shared.lock();
        let id = match state.project(path) {
            Some(project) => project.id,
            None => state.next_project_id(),
        };
        if state.project(path).is_none() {
            state.projects.push(ProjectState {
                id,
                path: path.to_owned(),
                build_timeout: Duration::from_hours(1),
            });
        }
        Project {
            id,
            path: path.to_owned(),
        }
    }

    /// How long a job of the project may run; an hour by default.
    pub fn set_build_timeout(&self, project: &Project, timeout: Duration) {
        let mut state = self.shared.lock();
        for known in state
            .projects
            .iter_mut()
            .filter(|known| known.id == project.id)
        {
            known.build_timeout = timeout;
        }
    }

    /// A new access token; projects other than these do not exist for it.
    pub fn token(&self, scope: Scope, projects: &[&Project]) -> Token {
        let mut state = self.shared.lock();
        let token = Token::random(state.grants.len() as u64 + 1);
        state.grants.push(Grant {
            token: token.clone(),
            scope,
            projects: projects.iter().map(|project| project.id).collect(),
        });
        token
    }

    /// From now on the token is of another scope: `Scope::Revoked`, say.
    pub fn set_scope(&self, token: &Token, scope: Scope) {
        let mut state = self.shared.lock();
        for grant in state
            .grants
            .iter_mut()
            .filter(|grant| grant.token == *token)
        {
            grant.scope = scope;
        }
    }

    /// A new job, to be described and started.
    pub fn job(&self, project: &Project) -> JobBuilder {
        JobBuilder::new(self.shared.clone(), project.id, facts::ordinary())
    }

    /// A new job that is this sample: its facts, its outcome, its trace, its id if that is free. Its times are those of
    /// the builder's `start` or `finished`; over, it took as long as it did.
    pub fn sample_job(&self, project: &Project, sample: &Sample) -> JobBuilder {
        let fact = |name: &str| &sample.facts[name];
        let seconds = |name: &str| fact(name).as_f64().map(Duration::from_secs_f64);
        let shape = facts::shape(&sample.facts);
        let mut job = JobBuilder::new(self.shared.clone(), project.id, shape);
        job.id = fact("id").as_u64();
        job.outcome = fact("status")
            .as_str()
            .and_then(Status::named)
            .unwrap_or(Status::Success);
        job.failure_reason = String::from(fact("failure_reason").as_str().unwrap_or_default());
        job.duration = seconds("duration");
        job.queued = seconds("queued_duration").unwrap_or(job.queued);
        job.trace(Trace::Sample(sample.clone()))
    }

    /// From now on each token is good for so many requests in each period, which is of whole seconds. Every answer says how its
    /// client stands; once it has had its share it is refused until the period ends, and a request until then is a
    /// violation.
    pub fn limit_rate(&self, requests: u64, period: Duration) {
        let since = Timestamp::now();
        self.shared.lock().counter.limit = Some(Limit {
            requests,
            period,
            since,
        });
    }

    /// The next so many answers (or `ALWAYS`) are this fault's, whatever they are about.
    pub fn fault(&self, on: On, fault: Fault, times: usize) {
        self.shared.lock().faults.plan(on, fault, times);
    }

    /// No more faults of the whole instance.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// From now on it is one of before 19.0, which ignores signing tokens.
    pub fn ignore_signing_tokens(&self) {
        self.shared.lock().is_before_signing = true;
    }

    /// What was delivered to webhooks so far.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.shared.lock().deliveries.clone()
    }

    /// Every request so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().log.clone()
    }

    /// The requests about this job.
    pub fn requests_for(&self, job: &Job) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| request.job == Some(job.key()));
        requests
    }

    /// The requests that no client should have sent.
    pub fn violations(&self) -> Vec<Request> {
        let mut requests = self.requests();
        requests.retain(|request| !request.violations.is_empty());
        requests
    }

    /// For the end of a test.
    ///
    /// # Panics
    /// When there was any violation, naming them all.
    pub fn assert_no_violations(&self) {
        let violations = self.violations();
        assert!(
            violations.is_empty(),
            "requests that GitLab should never see: {violations:#?}"
        );
    }
}
