//! Webhooks: what sets them up over the API, and the deliveries to them. A job that moves on by command is an event;
//! one that ends by the clock is none. Source: GitLab's documentation of project and group webhooks.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rand::Rng as _;
use reqwest::redirect::Policy;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::builder::Job;
use super::events::{job_event, sign, signing_key};
use super::head::Head;
use super::state::{Shared, State};

/// GitLab's own `webhook_timeout`.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries of a page, unless `per_page` says otherwise, and at most.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;
/// The events that a webhook is asked for here; `push_events` alone are on by themselves.
const EVENTS: [&str; 3] = ["job_events", "pipeline_events", "push_events"];

/// Whose events a webhook gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Project(u64),
    /// A group, by its path: the events of all projects below it.
    Group(String),
}

/// A webhook as GitLab keeps it.
#[derive(Clone, Debug)]
pub(super) struct Hook {
    id: u64,
    owner: Owner,
    url: String,
    /// The switches, as the API gives them.
    switches: Map<String, Value>,
    token: Option<String>,
    signing_token: Option<String>,
}

/// A delivery that was made.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The webhook's id.
    pub hook: u64,
    /// The project's and the job's.
    pub job: (u64, u64),
    /// The job's status in it.
    pub event: String,
    /// What the receiver answered; none where it could not be reached.
    pub status: Option<u16>,
}

/// The answer to a request about the webhooks of this owner, or about one of them.
pub(super) fn answer(state: &mut State, owner: &Owner, id: &str, head: &Head) -> Answer {
    let hook = state
        .hooks
        .iter()
        .position(|hook| hook.owner == *owner && hook.id.to_string() == id);
    let outcome = match (head.method.as_str(), id, hook) {
        ("GET", "", _) => Ok(list(state, owner, head)),
        ("POST", "", _) => add(state, owner, head),
        (_, "", _) => Err(Answer::json(405, &json!({"error": "405 Not Allowed"}))),
        (_, _, None) => Err(Answer::json(404, &json!({"message": "404 Not found"}))),
        ("GET", _, Some(index)) => Ok(Answer::json(200, &state.hooks[index].shown())),
        ("PUT", _, Some(index)) => update(state, index, head),
        ("DELETE", _, Some(index)) => {
            state.hooks.remove(index);
            Ok(Answer::empty(204))
        }
        _ => Err(Answer::json(405, &json!({"error": "405 Not Allowed"}))),
    };
    outcome.unwrap_or_else(|refusal| refusal)
}

fn list(state: &State, owner: &Owner, head: &Head) -> Answer {
    let number = |name: &str| {
        let mut pairs = head.url.query_pairs();
        let (_, value) = pairs.find(|(known, _)| known == name)?;
        value.parse::<usize>().ok().filter(|number| *number > 0)
    };
    let size = number("per_page").unwrap_or(PAGE).min(LARGEST_PAGE);
    let page = number("page").unwrap_or(1);
    let own = state.hooks.iter().filter(|hook| hook.owner == *owner);
    let all: Vec<Value> = own.map(Hook::shown).collect();
    let shown: Vec<Value> = all
        .iter()
        .skip((page - 1) * size)
        .take(size)
        .cloned()
        .collect();
    let is_last = page * size >= all.len();
    let next = if is_last {
        String::new()
    } else {
        (page + 1).to_string()
    };
    Answer::json(200, &Value::Array(shown)).header("X-Next-Page", next)
}

fn add(state: &mut State, owner: &Owner, head: &Head) -> Result<Answer, Answer> {
    let given = Given::read(head)?;
    let Some(url) = given.url else {
        return Err(Answer::json(400, &json!({"error": "url is missing"})));
    };
    let mut switches = Map::new();
    for event in EVENTS {
        switches.insert(event.to_owned(), json!(event == "push_events"));
    }
    switches.insert("enable_ssl_verification".to_owned(), json!(true));
    switches.extend(given.switches);
    state.last_hook_id += 1;
    let hook = Hook {
        id: state.last_hook_id,
        owner: owner.clone(),
        url,
        switches,
        token: given.token,
        signing_token: given.signing_token.filter(|_| !state.is_before_signing),
    };
    let answer = Answer::json(201, &hook.shown());
    state.hooks.push(hook);
    Ok(answer)
}

fn update(state: &mut State, index: usize, head: &Head) -> Result<Answer, Answer> {
    let given = Given::read(head)?;
    let is_before_signing = state.is_before_signing;
    let hook = &mut state.hooks[index];
    if let Some(url) = given.url.filter(|url| *url != hook.url) {
        // GitLab lets nobody lead a secret elsewhere.
        (hook.url, hook.token, hook.signing_token) = (url, None, None);
    }
    hook.switches.extend(given.switches);
    if given.token.is_some() {
        hook.token = given.token;
    }
    if given.signing_token.is_some() && !is_before_signing {
        hook.signing_token = given.signing_token;
    }
    Ok(Answer::json(200, &hook.shown()))
}

/// What a request wants of a webhook.
struct Given {
    url: Option<String>,
    switches: Map<String, Value>,
    token: Option<String>,
    signing_token: Option<String>,
}

impl Given {
    fn read(head: &Head) -> Result<Self, Answer> {
        let kind = head.header("content-type").unwrap_or_default();
        let body = serde_json::from_slice::<Value>(&head.body).ok();
        let body = body.filter(|body| body.is_object() && kind.starts_with("application/json"));
        let Some(body) = body else {
            return Err(Answer::json(400, &json!({"error": "url is missing"})));
        };
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let mut switches = Map::new();
        for name in EVENTS.into_iter().chain(["enable_ssl_verification"]) {
            match &body[name] {
                Value::Null => {}
                Value::Bool(_) => {
                    switches.insert(name.to_owned(), body[name].clone());
                }
                _ => return Err(invalid(400, &format!("{name} is invalid"))),
            }
        }
        let url = text("url");
        if url.as_deref().is_some_and(|url| !is_url(url)) {
            return Err(Answer::json(422, &json!({"message": "Invalid url given"})));
        }
        let signing_token = text("signing_token");
        if signing_token
            .as_deref()
            .is_some_and(|it| signing_key(it).is_none())
        {
            let message = "Signing token must be a 32-byte key in the format whsec_<base64>";
            return Err(Answer::json(422, &json!({"message": message})));
        }
        Ok(Self {
            url,
            switches,
            token: text("token"),
            signing_token,
        })
    }
}

fn is_url(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

fn invalid(status: u16, error: &str) -> Answer {
    Answer::json(status, &json!({ "error": error }))
}

impl Hook {
    /// As the API gives it: the secrets only by whether they are there.
    fn shown(&self) -> Value {
        let mut shown = self.switches.clone();
        shown.insert("id".to_owned(), json!(self.id));
        shown.insert("url".to_owned(), json!(self.url));
        shown.insert("alert_status".to_owned(), json!("executable"));
        shown.insert("token_present".to_owned(), json!(self.token.is_some()));
        let is_signing = self.signing_token.is_some();
        shown.insert("signing_token_present".to_owned(), json!(is_signing));
        Value::Object(shown)
    }

    fn hears_of(&self, project: u64, path: &str) -> bool {
        let is_below = match &self.owner {
            Owner::Project(id) => *id == project,
            Owner::Group(group) => path
                .strip_prefix(group)
                .is_some_and(|it| it.starts_with('/')),
        };
        is_below && self.switches["job_events"] == true
    }
}

/// Delivers a job's status of this moment to the webhooks that want it, in the background.
pub(super) fn deliver(shared: &Arc<Shared>, job: &Job) {
    let key = (job.project_id(), job.id());
    let hooks: Vec<Hook> = {
        let state = shared.lock();
        let project = state.project(&key.0.to_string());
        let path = project.map(|it| it.path.clone()).unwrap_or_default();
        let hooks = state.hooks.iter();
        hooks
            .filter(|hook| hook.hears_of(key.0, &path))
            .cloned()
            .collect()
    };
    for hook in hooks {
        let (shared, body) = (shared.clone(), job_event(job));
        tokio::spawn(async move {
            let status = send(&hook, &body.to_string()).await;
            shared.lock().deliveries.push(Delivery {
                hook: hook.id,
                job: key,
                event: body["build_status"].as_str().unwrap_or_default().to_owned(),
                status,
            });
        });
    }
}

async fn send(hook: &Hook, body: &str) -> Option<u16> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(PATIENCE);
    let id = format!("{:032x}", rand::rng().random::<u128>());
    let mut request = client
        .build()
        .ok()?
        .post(&hook.url)
        .header("Content-Type", "application/json")
        .header("User-Agent", "GitLab/19.0.0")
        .header("X-Gitlab-Event", "Job Hook")
        .header("X-Gitlab-Event-UUID", &id)
        .header("X-Gitlab-Webhook-UUID", &id)
        .header("Idempotency-Key", &id);
    if let Some(token) = &hook.token {
        request = request.header("X-Gitlab-Token", token);
    }
    if let Some(key) = &hook.signing_token {
        let at = Timestamp::now().as_second();
        request = request
            .header("webhook-id", &id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", sign(key, &id, at, body));
    }
    let answer = request.body(body.to_owned()).send().await.ok()?;
    Some(answer.status().as_u16())
}
