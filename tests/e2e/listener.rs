//! A running listener, and the notices that a job's `after_script` sends to it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Token};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::program::Program;

/// The broker has 4 s to confirm; nobody is kept waiting for longer than this.
const ANSWER: Duration = Duration::from_secs(6);

pub(crate) struct Listener {
    pub(crate) program: Arc<Program>,
    /// `http://127.0.0.1:PORT/`, or with https.
    pub(crate) url: String,
    http: Client,
}

impl Listener {
    pub(crate) fn new(program: Arc<Program>, url: &str) -> Self {
        let http = Client::builder().timeout(ANSWER).no_proxy().build();
        Self {
            program,
            url: url.to_owned(),
            http: http.expect("a client without files needs none"),
        }
    }

    /// The preferred call: it must be accepted.
    pub(crate) async fn post(&self, job: &Job, token: &Token) -> Result<()> {
        let answer = self.notice_of(job, token).send().await?;
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

    /// A notice that nobody can confirm: 503 in time, and it says when to come again.
    pub(crate) async fn refuses(&self, notice: RequestBuilder) -> Result<()> {
        let answer = notice.send().await;
        let answer = answer.with_context(|| format!("no answer within {ANSWER:?}"))?;
        let status = answer.status();
        ensure!(
            status == StatusCode::SERVICE_UNAVAILABLE,
            "{status} where nobody can confirm"
        );
        let retry_after = answer.headers().get("retry-after");
        let retry_after = retry_after.context("no Retry-After")?;
        let seconds: u64 = retry_after.to_str()?.parse()?;
        ensure!((1..=60).contains(&seconds), "Retry-After: {seconds}");
        Ok(())
    }

    /// What is missing, as `/health/ready` names it; `None` when it is ready.
    pub(crate) async fn faults(&self) -> Result<Option<String>> {
        let url = format!("{}health/ready", self.url);
        faults(self.http.get(url)).await
    }

    /// The preferred call about a job.
    pub(crate) fn notice_of(&self, job: &Job, token: &Token) -> RequestBuilder {
        self.post_of(&fields(job))
            .header("PRIVATE-TOKEN", token.value())
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

/// What a program that is asked for its readiness names as missing; `None` when it is ready.
pub(crate) async fn faults(ready: RequestBuilder) -> Result<Option<String>> {
    let answer = ready.send().await?;
    let is_ready = answer.status() == StatusCode::OK;
    let text = answer.text().await?;
    Ok((!is_ready).then_some(text))
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
