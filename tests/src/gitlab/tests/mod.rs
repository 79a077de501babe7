//! The simulated GitLab as a plain HTTP client sees it.

mod generator;
mod hooks;
mod jobs;
mod refusals;
mod wire;

use std::time::{Duration, Instant};

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use serde_json::{Value, json};

use super::*;
use crate::samples;

/// An instance, a project, and a client that may read it.
struct Fixture {
    gitlab: Gitlab,
    project: Project,
    token: Token,
    http: reqwest::Client,
}

/// What came back.
struct Reply {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers[name].to_str().unwrap()
    }
}

impl Fixture {
    async fn new() -> Self {
        let gitlab = Gitlab::start().await;
        let project = gitlab.project("acme/demo");
        Self {
            token: gitlab.token(Scope::ReadApi, &[&project]),
            http: reqwest::Client::builder()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            gitlab,
            project,
        }
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.http
            .get(format!("{}api/v4/projects/{path}", self.gitlab.url()))
    }

    async fn get(&self, path: &str) -> Reply {
        let request = self.request(path);
        send(request.header("PRIVATE-TOKEN", self.token.value())).await
    }

    async fn facts(&self, job: &Job) -> Value {
        let reply = self.get(&path(job)).await;
        assert_eq!(reply.status, 200);
        reply.json()
    }

    async fn trace(&self, job: &Job) -> Vec<u8> {
        let reply = self.get(&format!("{}/trace", path(job))).await;
        assert_eq!(reply.status, 200);
        reply.body
    }
}

async fn send(request: reqwest::RequestBuilder) -> Reply {
    let reply = request.send().await.unwrap();
    Reply {
        status: reply.status().as_u16(),
        headers: reply.headers().clone(),
        body: reply.bytes().await.unwrap().to_vec(),
    }
}

fn path(job: &Job) -> String {
    format!("{}/jobs/{}", job.project_id(), job.id())
}

/// Asks again until the answer holds, for ten seconds at most.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
