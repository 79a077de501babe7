//! Elasticsearch: one request at a time, each with a deadline, each answer read by one table.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use elasticsearch::{
    cert::{Certificate, CertificateValidation},
    http::{
        Method,
        headers::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use serde::Deserialize;
use serde_json::Value;
use service::admin::Readiness;
use url::Url;

use crate::{
    bulk::BulkBody,
    causes,
    circuit::{Circuit, Pass},
    login::Login,
    outcome::{RequestOutcome, of_request},
    patience::Patience,
};

/// How readiness and metrics call it.
pub(crate) const DEPENDENCY: &str = "elasticsearch";
/// Seconds; a longer `Retry-After` is no reason to stay away for longer.
const LONGEST_RETRY_AFTER: u64 = 300;

/// How long Elasticsearch may take over a bulk request, which a healthy cluster answers within a second
/// or two. What it took all the same is there when the body comes again.
const BULK_DEADLINE: Duration = Duration::from_secs(30);
/// And over anything else, which is small.
const DEADLINE: Duration = Duration::from_secs(10);
/// What of a bulk answer is read: outcomes and reasons.
const BULK: &str =
    "_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// Where Elasticsearch is.
pub(crate) struct Settings {
    /// Scheme, host and port.
    pub url: Url,
    /// As whom we come.
    pub login: Login,
    /// Whether the server's certificate is checked.
    pub verify: bool,
    /// A CA of one's own, in PEM.
    pub ca: Option<Vec<u8>>,
}

/// Why a request did not do what it should, named by what the caller can do.
/// The texts hold no credentials and no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElasticsearchError {
    /// Out of reach, overloaded, or without an answer in time: try again.
    #[error("Elasticsearch gave no usable answer: {why}")]
    Unavailable {
        /// What it answered instead.
        why: String,
        /// Whether it is there, and has too much to do.
        is_throttled: bool,
        /// `Retry-After`: not before this long.
        after: Option<Duration>,
    },
    /// The body is larger than the cluster takes.
    #[error("Elasticsearch refused the body as too large")]
    TooLarge,
    /// Refused until an operator does something: wrong credentials, a privilege that is missing, an
    /// index that is closed, blocked or may not be made.
    #[error("Elasticsearch refused us ({status}): {reason}")]
    Refused {
        /// The HTTP status, or that of an item.
        status: u16,
        /// Elasticsearch's own words.
        reason: String,
    },
    /// 409: somebody else changed the document meanwhile, or made it.
    #[error("Elasticsearch has another version of the document")]
    Conflict,
    /// It understood and refused the request itself.
    #[error("Elasticsearch refused the request ({status}): {reason}")]
    Rejected {
        /// The HTTP status.
        status: u16,
        /// Elasticsearch's own words.
        reason: String,
    },
}

impl ElasticsearchError {
    /// No usable answer, and nobody knows for how long.
    pub(crate) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable {
            why: why.into(),
            is_throttled: false,
            after: None,
        }
    }

    /// Whether the same request may be taken later.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Refused { .. })
    }
}

/// What became of one item of a bulk request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// The item's own status.
    pub status: u16,
    /// `error.type`, or empty.
    pub error_type: String,
    /// `error.reason`, or empty.
    pub reason: String,
}

/// A document that is there, and the version by which it can be replaced unless somebody else did.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stored {
    /// `_seq_no`.
    #[serde(rename = "_seq_no")]
    pub seq_no: u64,
    /// `_primary_term`.
    #[serde(rename = "_primary_term")]
    pub primary_term: u64,
    /// `_source`.
    #[serde(rename = "_source")]
    pub source: Value,
}

/// A client; clones share connections.
#[derive(Debug, Clone)]
pub(crate) struct Elasticsearch {
    transport: Transport,
    circuit: Circuit,
}

impl Elasticsearch {
    /// A client with these settings, whose circuit `readiness` hears of; nothing is contacted.
    pub(crate) fn new(settings: &Settings, readiness: Readiness) -> anyhow::Result<Self> {
        let pool = SingleNodeConnectionPool::new(settings.url.clone());
        let mut builder = TransportBuilder::new(pool)
            .auth(settings.login.credentials())
            .disable_proxy()
            .enable_meta_header(false)
            .timeout(BULK_DEADLINE);
        if !settings.verify {
            tracing::warn!(
                "Elasticsearch's certificate is not checked (--es-verify-ssl false): anybody on the way can read and change what is sent"
            );
            builder = builder.cert_validation(CertificateValidation::None);
        } else if let Some(ca) = &settings.ca {
            let ca = Certificate::from_pem(ca)
                .context("the file of --es-ca holds no certificate in PEM")?;
            builder = builder.cert_validation(CertificateValidation::Full(ca));
        }
        Ok(Self {
            transport: builder.build().context("--es-ca or --es-host")?,
            circuit: Circuit::watched(DEPENDENCY, DEPENDENCY, readiness),
        })
    }

    /// Whether work that needs it is begun.
    pub(crate) fn circuit(&self) -> &Circuit {
        &self.circuit
    }

    /// Asks until there is an answer that stays, as often as the circuit lets us and for as long as
    /// patience lasts.
    pub(crate) async fn persist<T, F>(&self, ask: impl Fn() -> F) -> Result<T, ElasticsearchError>
    where
        F: Future<Output = Result<T, ElasticsearchError>>,
    {
        let mut patience = Patience::new(&self.circuit);
        loop {
            let pass = patience.pass().await?;
            let answer = ask().await;
            judge(pass, answer.as_ref().err());
            match answer {
                Err(error) if error.is_passing() => patience.after(error).await?,
                answer => return answer,
            }
        }
    }

    /// Sends a bulk body to an index, once. One item comes back for each document, in their order.
    pub(crate) async fn bulk(
        &self,
        index: &str,
        body: &BulkBody,
    ) -> Result<Vec<Item>, ElasticsearchError> {
        let mut headers = HeaderMap::new();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let path = format!("{index}/{BULK}");
        let answer = self
            .send(
                Method::Post,
                &path,
                headers,
                Some(body.gzip.clone()),
                BULK_DEADLINE,
            )
            .await?;
        if !(200..=299).contains(&answer.status) {
            return Err(failure(&answer));
        }
        let answer: BulkAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| ElasticsearchError::unavailable("the bulk answer is not readable"))?;
        if answer.items.len() != body.documents {
            let counts = format!(
                "{} items for {} documents",
                answer.items.len(),
                body.documents
            );
            return Err(ElasticsearchError::unavailable(counts));
        }
        Ok(answer.items.into_iter().map(Item::from).collect())
    }

    /// Sends JSON (or nothing) and reads JSON; 404 is `None`.
    pub(crate) async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Option<Value>, ElasticsearchError> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = body.map(|body| Bytes::from(body.to_string()));
        let answer = self.send(method, path, headers, body, DEADLINE).await?;
        match answer.status {
            200..=299 => serde_json::from_slice(&answer.body)
                .map(Some)
                .map_err(|_| ElasticsearchError::unavailable("the answer is not JSON")),
            404 => Ok(None),
            409 => Err(ElasticsearchError::Conflict),
            _ => Err(failure(&answer)),
        }
    }

    /// Whether the cluster answers, and to us. Who lacks the privilege `monitor` has an answer too.
    pub(crate) async fn is_there(&self) -> Result<(), ElasticsearchError> {
        let path = "_cluster/health?filter_path=status";
        match self.json(Method::Get, path, None).await {
            Ok(Some(_)) | Err(ElasticsearchError::Refused { status: 403, .. }) => Ok(()),
            Ok(None) => Err(nothing_there()),
            Err(error) => Err(error),
        }
    }

    /// One document with its version, or `None` where there is no such document or index.
    pub(crate) async fn document(
        &self,
        index: &str,
        id: &str,
    ) -> Result<Option<Stored>, ElasticsearchError> {
        let answer = self
            .json(Method::Get, &format!("{index}/_doc/{id}"), None)
            .await?;
        let stored = answer.map(serde_json::from_value).transpose();
        stored.map_err(|_| ElasticsearchError::unavailable("the answer is no document"))
    }

    /// `PUT` of a document or of a setting.
    pub(crate) async fn put(&self, path: &str, body: &Value) -> Result<(), ElasticsearchError> {
        match self.json(Method::Put, path, Some(body)).await? {
            Some(_) => Ok(()),
            None => Err(nothing_there()),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Option<Bytes>,
        deadline: Duration,
    ) -> Result<Answer, ElasticsearchError> {
        let exchange = async {
            let query: Option<&()> = None;
            let answer = self
                .transport
                .send(method, path, headers, query, body, Some(deadline))
                .await?;
            Ok::<_, elasticsearch::Error>(Answer {
                status: answer.status_code().as_u16(),
                after: retry_after(answer.headers()),
                body: answer.bytes().await?,
            })
        };
        match tokio::time::timeout(deadline, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ElasticsearchError::unavailable(causes(&error))),
            Err(_) => Err(ElasticsearchError::unavailable(format!(
                "no answer within {deadline:?}"
            ))),
        }
    }
}

/// An answer as it came.
struct Answer {
    status: u16,
    /// `Retry-After`.
    after: Option<Duration>,
    body: Bytes,
}

/// What a request's end says of the whole of Elasticsearch. A refusal but for wrong credentials does
/// not: it is about one index, and others are none the worse.
pub(crate) fn judge(pass: Pass, error: Option<&ElasticsearchError>) {
    match error {
        Some(
            error @ ElasticsearchError::Unavailable {
                is_throttled,
                after,
                ..
            },
        ) => {
            let why = error.to_string();
            if *is_throttled {
                pass.failed(&why, *after);
            } else {
                pass.lost(&why, *after);
            }
        }
        Some(error @ ElasticsearchError::Refused { status: 401, .. }) => {
            pass.lost(&error.to_string(), None);
        }
        _ => pass.succeeded(),
    }
}

/// `Retry-After` in seconds, which Elasticsearch itself does not send, but what stands before it does.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(1, LONGEST_RETRY_AFTER)))
}

/// A 404 where something has to be: a proxy without its cluster, or an index that may not be made.
fn nothing_there() -> ElasticsearchError {
    ElasticsearchError::unavailable("status 404: there is no such index or API")
}

fn failure(answer: &Answer) -> ElasticsearchError {
    let (status, after) = (answer.status, answer.after);
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error_type = body["error"]["type"].as_str().unwrap_or_default();
    let reason = innermost_reason(&body["error"]).to_owned();
    match of_request(status, error_type, &reason) {
        RequestOutcome::Halve => ElasticsearchError::TooLarge,
        RequestOutcome::Refused => ElasticsearchError::Refused { status, reason },
        RequestOutcome::Broken => ElasticsearchError::Rejected { status, reason },
        RequestOutcome::Again | RequestOutcome::Items => ElasticsearchError::Unavailable {
            why: format!("status {status}: {reason}"),
            is_throttled: status == 429,
            after,
        },
    }
}

/// The outer reasons only say what was tried.
fn innermost_reason(error: &Value) -> &str {
    let mut error = error;
    while error["caused_by"].is_object() {
        error = &error["caused_by"];
    }
    let reason = error.as_str().or_else(|| error["reason"].as_str());
    reason.unwrap_or("no reason was given")
}

#[derive(Deserialize)]
struct BulkAnswer {
    #[serde(default)]
    items: Vec<BulkItem>,
}

/// `{"create": {…}}`: the operation is the only key.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum BulkItem {
    Create(ItemAnswer),
    Index(ItemAnswer),
}

#[derive(Deserialize)]
struct ItemAnswer {
    status: u16,
    error: Option<ItemError>,
}

#[derive(Deserialize)]
struct ItemError {
    #[serde(rename = "type", default)]
    error_type: String,
    #[serde(default)]
    reason: String,
}

impl From<BulkItem> for Item {
    fn from(item: BulkItem) -> Self {
        let (BulkItem::Create(answer) | BulkItem::Index(answer)) = item;
        let (error_type, reason) = answer
            .error
            .map_or_else(Default::default, |error| (error.error_type, error.reason));
        Self {
            status: answer.status,
            error_type,
            reason,
        }
    }
}
