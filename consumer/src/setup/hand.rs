//! The hand that changes the cluster; in a dry run it only shows what it would send.

use elasticsearch::http::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::PAUSE;
use crate::elasticsearch::{Elasticsearch, ElasticsearchError};

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// Asks and changes, and waits for an Elasticsearch that is away until the end of patience.
pub(crate) struct Hand<'a> {
    pub(crate) elasticsearch: &'a Elasticsearch,
    pub(crate) end: Instant,
    /// Whether changes are only shown.
    pub(crate) dry_run: bool,
}

impl Hand<'_> {
    /// What is under this path; `None` where nothing is.
    pub(crate) async fn look(&self, path: &str) -> Result<Option<Value>, ElasticsearchError> {
        self.insist(async || self.elasticsearch.json(Method::Get, path, None).await)
            .await
    }

    /// Whether somebody answers, and to us.
    pub(crate) async fn finds_it(&self) -> Result<(), ElasticsearchError> {
        self.insist(async || self.elasticsearch.is_there().await)
            .await
    }

    /// Puts an object.
    pub(super) async fn put(&self, path: &str, body: &Value) -> Result<(), ElasticsearchError> {
        self.change(Method::Put, path, body, None).await?;
        Ok(())
    }

    /// Sends a body, to which this password belongs; the answer, which a dry run has not.
    pub(super) async fn change(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        password: Option<&SecretString>,
    ) -> Result<Value, ElasticsearchError> {
        let mut body = body.clone();
        if self.dry_run {
            if password.is_some() {
                body["password"] = HIDDEN.into();
            }
            println!("{} {path}\n{body:#}", verb(method));
            return Ok(Value::Null);
        }
        if let Some(password) = password {
            body["password"] = password.expose_secret().into();
        }
        let send = async || self.elasticsearch.json(method, path, Some(&body)).await;
        match self.insist(send).await? {
            Some(answer) => Ok(answer),
            None => Err(ElasticsearchError::Rejected {
                status: 404,
                reason: format!("there is no API {path}"),
            }),
        }
    }

    /// Says what was done; in a dry run nothing was.
    pub(super) fn say(&self, done: &str) {
        if !self.dry_run {
            println!("{done}");
        }
    }

    /// Asks again while there is no usable answer.
    async fn insist<T>(
        &self,
        ask: impl AsyncFn() -> Result<T, ElasticsearchError>,
    ) -> Result<T, ElasticsearchError> {
        loop {
            match ask().await {
                Err(error @ ElasticsearchError::Unavailable { .. })
                    if Instant::now() < self.end =>
                {
                    tracing::warn!(%error, "waiting for Elasticsearch");
                    sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }
}

fn verb(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Put => "PUT",
        Method::Post => "POST",
        Method::Delete => "DELETE",
        Method::Head => "HEAD",
    }
}
