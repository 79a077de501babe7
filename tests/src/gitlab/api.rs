//! One request in, one answer out, in the order in which GitLab decides: limits, address, token, scope, project, job.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::Answer;
use super::facts;
use super::fault::{Fault, On};
use super::head::Head;
use super::hooks::{self, Owner};
use super::job::elapsed;
use super::limit::Whom;
use super::request::{Request, Violation};
use super::state::{Shared, State};
use super::token::{Scope, TokenId};

/// Query parameters in which GitLab, and OAuth clients, would take a token.
const TOKEN_PARAMETERS: [&str; 3] = ["private_token", "access_token", "job_token"];

/// The answer to a request, which stands in the log from now on.
pub(super) fn respond(shared: &Shared, head: &Head) -> Answer {
    let now = Timestamp::now();
    let mut state = shared.lock();
    let mut visit = Visit::of(head, &state);
    let answer = visit.answer(&mut state, head, now);
    state.log.push(Request {
        at: now,
        method: head.method.clone(),
        path: head.url.path().to_owned(),
        job: visit.job,
        token: visit.token,
        status: answer.status,
        violations: visit.violations,
    });
    answer
}

/// An address of the API, its parts as they were sent.
enum Endpoint {
    Project,
    Facts,
    Trace,
    Version,
    Keys,
    /// Webhooks of a project or a group, or one of them.
    Hooks,
    Unknown,
}

/// One request on its way to an answer.
struct Visit {
    endpoint: Endpoint,
    is_read: bool,
    /// The project's id or path, and the job's id, as they stand in the address.
    project: String,
    job_id: String,
    presented: Option<String>,
    token_in_query: bool,
    /// Whose refusals count for it, the narrowest last: its job's, or else its address's.
    whom: [Whom; 3],
    job: Option<(u64, u64)>,
    token: Option<TokenId>,
    violations: Vec<Violation>,
}

impl Visit {
    fn of(head: &Head, state: &State) -> Self {
        let path = head.url.path();
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (endpoint, project, job_id) = match segments[..] {
            ["api", "v4", "projects", project] => (Endpoint::Project, project, ""),
            ["api", "v4", "projects", project, "jobs", job] => (Endpoint::Facts, project, job),
            ["api", "v4", "projects", project, "jobs", job, "trace"] => {
                (Endpoint::Trace, project, job)
            }
            ["api", "v4", "projects" | "groups", owner, "hooks"] => (Endpoint::Hooks, owner, ""),
            ["api", "v4", "projects" | "groups", owner, "hooks", hook] => {
                (Endpoint::Hooks, owner, hook)
            }
            ["api", "v4", "version"] => (Endpoint::Version, "", ""),
            ["oauth", "discovery", "keys"] => (Endpoint::Keys, "", ""),
            _ => (Endpoint::Unknown, "", ""),
        };
        let project = project.replace("%2F", "/").replace("%2f", "/");
        let job = state
            .project(&project)
            .map(|project| project.id)
            .zip(job_id.parse().ok());
        let job = job.filter(|key| state.jobs.contains_key(key));
        let token_in_query = head.url.query_pairs().any(|(name, value)| {
            TOKEN_PARAMETERS.contains(&&*name)
                || value.starts_with("glpat-")
                || state
                    .grants
                    .iter()
                    .any(|grant| grant.token.value() == value)
        });
        let mut violations = Vec::new();
        if token_in_query {
            violations.push(Violation::TokenInQuery);
        }
        let is_read = matches!(head.method.as_str(), "GET" | "HEAD");
        let is_known = match endpoint {
            Endpoint::Unknown => false,
            Endpoint::Hooks => true,
            _ => is_read,
        };
        if !is_known {
            violations.push(Violation::UnknownEndpoint);
        }
        if head.header("range").is_some() {
            violations.push(Violation::Range);
        }
        let presented = presented_token(head);
        let narrowest = job.map_or(Whom::Path(path.to_owned()), |(project, job)| {
            Whom::Job(project, job)
        });
        let owner = Whom::Token(state.token(presented).map(|grant| grant.token.id()));
        Self {
            endpoint,
            is_read,
            project,
            job_id: job_id.to_owned(),
            presented: presented.map(str::to_owned),
            token_in_query,
            whom: [Whom::Everybody, owner, narrowest],
            job,
            token: None,
            violations,
        }
    }

    fn answer(&mut self, state: &mut State, head: &Head, now: Timestamp) -> Answer {
        let [_, owner, _] = &self.whom;
        let standing = match owner {
            Whom::Token(token) => state.counter.count(*token, now),
            _ => None,
        };
        if let Some(refusal) = state.refusals.of(&self.whom, now) {
            if refusal.is_ignored(now) {
                self.violations.push(Violation::BeforeRetryAfter);
            }
            return Answer::rate_limited(elapsed(now, refusal.until).as_secs() + 1, now);
        }
        let answer = match standing.filter(|standing| standing.is_over()) {
            Some(standing) => {
                state.refusals.refuse(owner.clone(), now, standing.reset);
                Answer::rate_limited(elapsed(now, standing.reset).as_secs() + 1, now)
            }
            None => match self.take_fault(state) {
                Some((fault, whom)) => self.faulty_answer(fault, whom, state, head, now),
                None => self.true_answer(state, head, now),
            },
        };
        match standing {
            Some(standing) => answer.standing(standing),
            None => answer,
        }
    }

    /// The fault for this request, and whom it counts for where it is a refusal.
    fn take_fault(&self, state: &mut State) -> Option<(Fault, Whom)> {
        let on = match self.endpoint {
            Endpoint::Facts => On::Facts,
            Endpoint::Trace => On::Trace,
            Endpoint::Project
            | Endpoint::Version
            | Endpoint::Keys
            | Endpoint::Hooks
            | Endpoint::Unknown => On::Any,
        };
        let [everybody, _, narrowest] = &self.whom;
        let job = self.job.and_then(|key| state.jobs.get_mut(&key));
        if let Some(fault) = job.and_then(|job| job.faults.take(on)) {
            return Some((fault, narrowest.clone()));
        }
        let fault = state.faults.take(on)?;
        Some((fault, everybody.clone()))
    }

    fn faulty_answer(
        &mut self,
        fault: Fault,
        whom: Whom,
        state: &mut State,
        head: &Head,
        now: Timestamp,
    ) -> Answer {
        match fault {
            Fault::RateLimited(seconds) => {
                let until = now + Duration::from_secs(seconds);
                state.refusals.refuse(whom, now, until);
                Answer::rate_limited(seconds, now)
            }
            Fault::Unavailable(status) => Answer::proxy_page(status),
            Fault::LoginPage => Answer::login_page(),
            Fault::Redirect(to) => Answer::redirect(&to),
            Fault::Forbidden => Answer::json(403, &json!({"message": "403 Forbidden"})),
            Fault::NotFound => not_found(),
            Fault::Delay(_)
            | Fault::ResetAt(_)
            | Fault::WrongLength(_)
            | Fault::Drip(_)
            | Fault::All(_) => self.true_answer(state, head, now).with(&fault),
        }
    }

    fn true_answer(&mut self, state: &mut State, head: &Head, now: Timestamp) -> Answer {
        if matches!(self.endpoint, Endpoint::Unknown) {
            return Answer::json(404, &json!({"error": "404 Not Found"}));
        }
        let is_hook = matches!(self.endpoint, Endpoint::Hooks);
        if !self.is_read && !is_hook {
            return Answer::json(405, &json!({"error": "405 Not Allowed"}))
                .header("Allow", "GET, HEAD");
        }
        if matches!(self.endpoint, Endpoint::Keys) {
            return Answer::json(200, &state.signer().keys());
        }
        match self.authorise(state) {
            Ok(projects) if is_hook => self.hooks(&projects, state, head),
            Ok(projects) => self.resource(&projects, state, now),
            Err(refusal) => refusal,
        }
    }

    /// The projects that the token's owner may see.
    fn authorise(&mut self, state: &State) -> Result<Vec<u64>, Answer> {
        let presented = self.presented.as_deref().filter(|_| !self.token_in_query);
        let Some(grant) = state.token(presented) else {
            return Err(Answer::json(401, &json!({"message": "401 Unauthorized"})));
        };
        match grant.scope {
            Scope::Expired => {
                return Err(invalid_token(
                    "Token is expired. You can either do re-authorization or token refresh.",
                ));
            }
            Scope::Revoked => {
                return Err(invalid_token(
                    "Token was revoked. You have to re-authorize from the user.",
                ));
            }
            Scope::ReadRepository => return Err(insufficient_scope("api read_api")),
            Scope::ReadApi if !self.is_read => return Err(insufficient_scope("api")),
            Scope::ReadApi | Scope::Api => {}
        }
        self.token = Some(grant.token.id());
        Ok(grant.projects.clone())
    }

    /// Webhooks of a project, or of a group of which the token's owner sees a project.
    fn hooks(&self, visible: &[u64], state: &mut State, head: &Head) -> Answer {
        let is_group = head.url.path().starts_with("/api/v4/groups/");
        let mut seen = state.projects.iter().filter(|it| visible.contains(&it.id));
        let prefix = format!("{}/", self.project);
        let owner = if is_group {
            seen.any(|it| it.path.starts_with(&prefix))
                .then(|| Owner::Group(self.project.clone()))
        } else {
            let known = state.project(&self.project).map(|it| it.id);
            known.filter(|id| visible.contains(id)).map(Owner::Project)
        };
        match owner {
            Some(owner) => hooks::answer(state, &owner, &self.job_id, head),
            None if is_group => Answer::json(404, &json!({"message": "404 Group Not Found"})),
            None => Answer::json(404, &json!({"message": "404 Project Not Found"})),
        }
    }

    fn resource(&self, visible: &[u64], state: &mut State, now: Timestamp) -> Answer {
        if matches!(self.endpoint, Endpoint::Version) {
            return Answer::json(
                200,
                &json!({"version": "18.6.0", "revision": "0123456789a"}),
            );
        }
        let url = state.url.clone();
        let project = state
            .project(&self.project)
            .filter(|project| visible.contains(&project.id));
        let Some(project) = project.cloned() else {
            return Answer::json(404, &json!({"message": "404 Project Not Found"}));
        };
        if matches!(self.endpoint, Endpoint::Project) {
            return Answer::json(200, &facts::project(&project, &url));
        }
        if self.job_id.parse::<u64>().is_err() {
            return Answer::json(400, &json!({"error": "job_id is invalid"}));
        }
        let Some(job) = state.job(project.id, &self.job_id) else {
            return not_found();
        };
        if matches!(self.endpoint, Endpoint::Facts) {
            return Answer::json(200, &facts::job(job, &project, &url, now));
        }
        Answer::trace(job.id, job.trace(now))
    }
}

/// The token in one of the two headers in which GitLab takes a personal, project or group access token.
fn presented_token(head: &Head) -> Option<&str> {
    let bearer = || head.header("authorization")?.strip_prefix("Bearer ");
    head.header("private-token").or_else(bearer)
}

fn not_found() -> Answer {
    Answer::json(404, &json!({"message": "404 Not found"}))
}

fn invalid_token(description: &str) -> Answer {
    let body: Value = json!({"error": "invalid_token", "error_description": description});
    Answer::json(401, &body)
}

fn insufficient_scope(needed: &str) -> Answer {
    let body = json!({
        "error": "insufficient_scope",
        "error_description": "The request requires higher privileges than provided by the access token.",
        "scope": needed,
    });
    Answer::json(403, &body)
}
