//! Reading Elasticsearch, for the oracle and for the demo. It shares nothing with the consumer: it asks as a user
//! would. It never makes an index, and an index that is not there has no documents.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// One answer may take this long.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a new index may take until its shards are there, and between two looks.
const SHARDS: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(100);
/// Documents of one page; a line has about 1 KiB.
const PAGE: usize = 2_000;

/// A client; clones share connections.
#[derive(Clone, Debug)]
pub struct Elasticsearch {
    url: String,
    user: String,
    password: String,
    http: reqwest::Client,
}

/// A document as a search found it.
#[derive(Clone, Debug, Deserialize)]
pub struct Hit {
    /// Its index.
    #[serde(rename = "_index")]
    pub index: String,
    /// Its `_id`.
    #[serde(rename = "_id")]
    pub id: String,
    /// What was indexed.
    #[serde(rename = "_source", default)]
    pub source: Value,
    /// Where it stands in the order that was asked for.
    #[serde(default)]
    sort: Vec<Value>,
}

impl Elasticsearch {
    /// A client of `http://host:port`; nothing is contacted.
    pub fn new(url: &str, user: &str, password: &str) -> Self {
        let http = reqwest::Client::builder().timeout(ANSWER).no_proxy();
        Self {
            url: url.trim_end_matches('/').to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            http: http.build().expect("a client without files needs none"),
        }
    }

    /// `POST path` with this body, or `GET path` without one; anything but 2xx is an error.
    pub async fn ask(&self, path: &str, body: Option<&Value>) -> Result<Value> {
        let method = if body.is_some() {
            Method::POST
        } else {
            Method::GET
        };
        self.send(method, path, body).await
    }

    /// `POST path`, which takes no body.
    pub async fn act(&self, path: &str) -> Result<()> {
        self.send(Method::POST, path, None).await?;
        Ok(())
    }

    /// `PUT path` with this body.
    pub async fn put(&self, path: &str, body: &Value) -> Result<()> {
        self.send(Method::PUT, path, Some(body)).await?;
        Ok(())
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.send(Method::DELETE, path, None).await?;
        Ok(())
    }

    /// An index that was made this moment has no shard to ask yet: that passes.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let end = Instant::now() + SHARDS;
        loop {
            let (status, text) = self.send_once(method.clone(), path, body).await?;
            if status.is_success() {
                return serde_json::from_str(&text)
                    .with_context(|| format!("the answer for {path} is no JSON"));
            }
            let is_without_shard = text.contains("no_shard_available_action_exception");
            if !is_without_shard || Instant::now() > end {
                bail!("Elasticsearch answered {status} for {path}: {text}");
            }
            sleep(AGAIN).await;
        }
    }

    async fn send_once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, String)> {
        let mut request = self.http.request(method, format!("{}/{path}", self.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request
            .basic_auth(&self.user, Some(&self.password))
            .send()
            .await
            .with_context(|| format!("asking Elasticsearch for {path}"))?;
        Ok((answer.status(), answer.text().await?))
    }

    /// A search over these indices, patterns among them; an index that is missing is empty.
    pub async fn search(&self, indices: &str, body: &Value) -> Result<Value> {
        let path = format!("{indices}/_search?ignore_unavailable=true");
        self.ask(&path, Some(body)).await
    }

    /// The hits of a search.
    pub async fn hits(&self, indices: &str, body: &Value) -> Result<Vec<Hit>> {
        let mut answer = self.search(indices, body).await?;
        serde_json::from_value(answer["hits"]["hits"].take()).context("the hits of a search")
    }

    /// How many documents a query finds.
    pub async fn count(&self, indices: &str, query: &Value) -> Result<u64> {
        let path = format!("{indices}/_count?ignore_unavailable=true");
        let answer = self.ask(&path, Some(&json!({"query": query}))).await?;
        answer["count"].as_u64().context("a count has a count")
    }

    /// Makes all that was indexed so far visible to searches.
    pub async fn refresh(&self, indices: &str) -> Result<()> {
        let path = format!("{indices}/_refresh?ignore_unavailable=true");
        self.ask(&path, None).await?;
        Ok(())
    }

    /// All documents that a query finds, page by page, in this order.
    pub fn read(&self, indices: &str, query: Value, sort: Value) -> Reader {
        Reader {
            elasticsearch: self.clone(),
            indices: indices.to_owned(),
            body: json!({"query": query, "sort": sort, "size": PAGE}),
            page: VecDeque::new(),
            is_over: false,
        }
    }
}

/// The documents of a query one after the other, a page in memory.
#[derive(Debug)]
pub struct Reader {
    elasticsearch: Elasticsearch,
    indices: String,
    body: Value,
    page: VecDeque<Hit>,
    is_over: bool,
}

impl Reader {
    /// The next document; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Hit>> {
        if self.page.is_empty() && !self.is_over {
            let hits = self.elasticsearch.hits(&self.indices, &self.body).await?;
            self.is_over = hits.len() < PAGE;
            if let Some(last) = hits.last() {
                self.body["search_after"] = last.sort.clone().into();
            }
            self.page = hits.into();
        }
        Ok(self.page.pop_front())
    }
}
