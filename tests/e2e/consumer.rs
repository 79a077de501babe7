//! A running consumer, and what it says of itself: its readiness and its counters.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use reqwest::{Client, StatusCode};

use crate::listener;
use crate::program::Program;

pub(crate) struct Consumer {
    pub(crate) program: Arc<Program>,
    /// `http://127.0.0.1:PORT/`.
    pub(crate) url: String,
    http: Client,
}

impl Consumer {
    pub(crate) fn new(program: Arc<Program>, address: &str) -> Self {
        let http = Client::builder().no_proxy().build();
        Self {
            program,
            url: format!("http://{address}/"),
            http: http.expect("a client without files needs none"),
        }
    }

    /// What is missing, as `/health/ready` names it; `None` when it is ready.
    pub(crate) async fn faults(&self) -> Result<Option<String>> {
        listener::faults(self.http.get(format!("{}health/ready", self.url))).await
    }

    /// A counter without labels; 0 before it counted anything.
    pub(crate) async fn counter(&self, name: &str) -> Result<u64> {
        let answer = self.http.get(format!("{}metrics", self.url)).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(status == StatusCode::OK, "the metrics: {status}: {text}");
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        match value {
            Some(value) => value
                .trim()
                .parse()
                .with_context(|| format!("{name} is {value:?}")),
            None => Ok(0),
        }
    }
}
