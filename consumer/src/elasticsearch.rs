//! Elasticsearch: one request at a time, each with a deadline, each answer read by one table.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use elasticsearch::{
    auth::Credentials,
    cert::{Certificate, CertificateValidation},
    http::{
        Method,
        headers::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue},
        transport::{SingleNodeConnectionPool, Transport, TransportBuilder},
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use crate::{
    bulk::BulkBody,
    causes,
    outcome::{RequestOutcome, of_request},
};

/// How long Elasticsearch may take over one request; its own bulk time-out is a minute.
const DEADLINE: Duration = Duration::from_secs(90);
/// What of a bulk answer is read: outcomes and reasons.
const BULK: &str =
    "_bulk?filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// Where Elasticsearch is.
pub(crate) struct Settings {
    /// Scheme, host and port.
    pub url: Url,
    /// User.
    pub user: String,
    /// Password.
    pub password: SecretString,
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
    #[error("Elasticsearch gave no usable answer: {0}")]
    Unavailable(String),
    /// The body is larger than the cluster takes.
    #[error("Elasticsearch refused the body as too large")]
    TooLarge,
    /// The credentials are wrong or lack a privilege.
    #[error("Elasticsearch refused our credentials ({status}): {reason}")]
    Refused {
        /// 401 or 403.
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
pub(crate) struct Elasticsearch(Transport);

impl Elasticsearch {
    /// A client with these settings; nothing is contacted.
    pub(crate) fn new(settings: &Settings) -> anyhow::Result<Self> {
        let pool = SingleNodeConnectionPool::new(settings.url.clone());
        let password = settings.password.expose_secret().to_owned();
        let mut builder = TransportBuilder::new(pool)
            .auth(Credentials::Basic(settings.user.clone(), password))
            .disable_proxy()
            .enable_meta_header(false)
            .timeout(DEADLINE);
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
        Ok(Self(builder.build().context("--es-ca or --es-host")?))
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
        let (status, answer) = self
            .send(
                Method::Post,
                &format!("{index}/{BULK}"),
                headers,
                Some(body.gzip.clone()),
            )
            .await?;
        if !(200..=299).contains(&status) {
            return Err(failure(status, &answer));
        }
        let answer: BulkAnswer = serde_json::from_slice(&answer).map_err(|_| {
            ElasticsearchError::Unavailable("the bulk answer is not readable".into())
        })?;
        if answer.items.len() != body.documents {
            let counts = format!(
                "{} items for {} documents",
                answer.items.len(),
                body.documents
            );
            return Err(ElasticsearchError::Unavailable(counts));
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
        let (status, answer) = self.send(method, path, headers, body).await?;
        match status {
            200..=299 => serde_json::from_slice(&answer)
                .map(Some)
                .map_err(|_| ElasticsearchError::Unavailable("the answer is not JSON".into())),
            404 => Ok(None),
            409 => Err(ElasticsearchError::Conflict),
            _ => Err(failure(status, &answer)),
        }
    }

    /// Whether the cluster answers, and to us.
    pub(crate) async fn is_there(&self) -> Result<(), ElasticsearchError> {
        let health = self
            .json(Method::Get, "_cluster/health?filter_path=status", None)
            .await?;
        health.map(drop).ok_or_else(nothing_there)
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
        stored.map_err(|_| ElasticsearchError::Unavailable("the answer is no document".into()))
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
    ) -> Result<(u16, Bytes), ElasticsearchError> {
        let exchange = async {
            let query: Option<&()> = None;
            let answer = self
                .0
                .send(method, path, headers, query, body, Some(DEADLINE))
                .await?;
            let status = answer.status_code().as_u16();
            Ok::<_, elasticsearch::Error>((status, answer.bytes().await?))
        };
        match tokio::time::timeout(DEADLINE, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(ElasticsearchError::Unavailable(causes(&error))),
            Err(_) => Err(ElasticsearchError::Unavailable(format!(
                "no answer within {DEADLINE:?}"
            ))),
        }
    }
}

/// A 404 where something has to be: a proxy without its cluster, or an index that may not be made.
fn nothing_there() -> ElasticsearchError {
    ElasticsearchError::Unavailable("status 404: there is no such index or API".to_owned())
}

fn failure(status: u16, answer: &[u8]) -> ElasticsearchError {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let error_type = answer["error"]["type"].as_str().unwrap_or_default();
    let reason = innermost_reason(&answer["error"]).to_owned();
    match of_request(status, error_type) {
        RequestOutcome::Halve => ElasticsearchError::TooLarge,
        RequestOutcome::Refused => ElasticsearchError::Refused { status, reason },
        RequestOutcome::Broken => ElasticsearchError::Rejected { status, reason },
        RequestOutcome::Again | RequestOutcome::Items => {
            ElasticsearchError::Unavailable(format!("status {status}: {reason}"))
        }
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
