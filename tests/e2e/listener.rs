//! A running listener, and the notices that a job's `after_script` sends to it.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Job, Token};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// DESIGN.md gives the broker 5 s to confirm; nobody is kept waiting for longer than this.
const ANSWER: Duration = Duration::from_secs(6);

pub(crate) struct Listener {
    /// `http://127.0.0.1:PORT/`.
    pub(crate) url: String,
    http: Client,
}

impl Listener {
    pub(crate) fn new(address: &str) -> Self {
        let http = Client::builder().timeout(ANSWER).no_proxy().build();
        Self {
            url: format!("http://{address}/"),
            http: http.expect("a client without files needs none"),
        }
    }

    /// The preferred call: it must be accepted.
    pub(crate) async fn post(&self, job: &Job, token: &Token) -> Result<()> {
        let request = self
            .post_of(&fields(job))
            .header("PRIVATE-TOKEN", token.value());
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(
            status == StatusCode::ACCEPTED,
            "the notice got {status}: {text}"
        );
        Ok(())
    }

    /// The older tool's call, the token in the address: it must be accepted.
    pub(crate) async fn get(&self, job: &Job, token: &Token) -> Result<()> {
        let answer = self.get_of(&fields(job), token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(
            status == StatusCode::OK && text == "OK!",
            "the notice got {status}: {text}"
        );
        Ok(())
    }

    /// `POST /v1/jobs` with this body.
    pub(crate) fn post_of(&self, body: &Value) -> RequestBuilder {
        self.http.post(format!("{}v1/jobs", self.url)).json(body)
    }

    /// `GET /` with these parameters and this token.
    pub(crate) fn get_of(&self, fields: &Value, token: &Token) -> RequestBuilder {
        self.http
            .get(&self.url)
            .query(fields)
            .query(&[("gitlab_token", token.value())])
    }

    /// Any request.
    pub(crate) fn http(&self) -> &Client {
        &self.http
    }
}

/// What a job knows of itself: `CI_PROJECT_ID` and so on.
pub(crate) fn fields(job: &Job) -> Value {
    let facts = job.facts();
    json!({
        "project_id": job.project_id(),
        "project_name": "demo",
        "job_id": job.id(),
        "job_name": facts["name"],
        "runner_id": facts["runner"]["id"],
    })
}
