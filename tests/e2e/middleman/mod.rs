//! An HTTP middleman inside the test process, between a consumer and the real Elasticsearch. It answers for the server
//! as one under load would, spoils documents so that the real one refuses them, holds manifests back, and keeps a
//! record. What it is not told to meddle with it passes on as it is.

mod bulk;
mod record;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use poem::http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use poem::http::{Method, StatusCode};
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::web::LocalAddr;
use poem::{Endpoint, Request, Response, Server};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use self::record::Answers;
use self::record::Record;

/// What becomes of one document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Treatment {
    Forward,
    /// It is kept from the server, and refused as a server under load would.
    Refuse,
    /// It reaches the server in a form that the server refuses.
    Spoil,
}

/// Decides about a document by its index and its `_id`, each time that it comes.
type Treat = Box<dyn Fn(&str, &str) -> Treatment + Send + Sync>;

/// Ends with its handle.
pub(crate) struct Middleman {
    port: u16,
    shared: Arc<Shared>,
    server: JoinHandle<std::io::Result<()>>,
}

struct Shared {
    /// `http://127.0.0.1:PORT`.
    server: String,
    http: reqwest::Client,
    treat: Option<Treat>,
    record: Mutex<Record>,
    /// Whether manifests pass.
    is_open: watch::Sender<bool>,
    /// How many manifests stand before the gate.
    held: watch::Sender<usize>,
}

impl Middleman {
    /// One that only keeps the record, before this port of the loopback interface.
    pub(crate) async fn watching(port: u16) -> Result<Self> {
        Self::start(port, None).await
    }

    /// One that decides about each document.
    pub(crate) async fn treating(
        port: u16,
        treat: impl Fn(&str, &str) -> Treatment + Send + Sync + 'static,
    ) -> Result<Self> {
        Self::start(port, Some(Box::new(treat))).await
    }

    async fn start(port: u16, treat: Option<Treat>) -> Result<Self> {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await?;
        let address = acceptor.local_addr().into_iter().next();
        let address = address.and_then(|LocalAddr(address)| address.as_socket_addr().copied());
        let address = address.context("a port for the middleman")?;
        let shared = Arc::new(Shared {
            server: format!("http://127.0.0.1:{port}"),
            http: reqwest::Client::builder().no_proxy().build()?,
            treat,
            record: Mutex::default(),
            is_open: watch::channel(true).0,
            held: watch::channel(0).0,
        });
        let server = Server::new_with_acceptor(acceptor).run(Passage(shared.clone()));
        Ok(Self {
            port: address.port(),
            shared,
            server: tokio::spawn(server),
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What became of documents so far.
    pub(crate) fn items(&self) -> Answers {
        self.shared.record().items.clone()
    }

    /// What became of bulk requests that were refused as a whole.
    pub(crate) fn requests(&self) -> Answers {
        self.shared.record().requests.clone()
    }

    /// Documents that came again although they had not been refused for a time.
    pub(crate) fn sent_in_vain(&self) -> Vec<String> {
        self.shared.record().sent_in_vain()
    }

    /// From now on whoever writes a manifest waits.
    pub(crate) fn hold_manifests(&self) {
        self.shared.is_open.send_replace(false);
    }

    /// Lets them through.
    pub(crate) fn release_manifests(&self) {
        self.shared.is_open.send_replace(true);
    }

    /// How many manifests are held.
    pub(crate) fn held(&self) -> usize {
        *self.shared.held.borrow()
    }

    /// What was answered to those who wrote a manifest.
    pub(crate) fn manifests(&self) -> Vec<u16> {
        self.shared.record().manifests.clone()
    }
}

impl Drop for Middleman {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The way through.
struct Passage(Arc<Shared>);

impl Endpoint for Passage {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        let answer = self.0.answer(request).await;
        // As a real one in front of a server would.
        Ok(answer.unwrap_or_else(|error| {
            let answer = Response::builder().status(StatusCode::BAD_GATEWAY);
            answer.body(format!("{error:#}"))
        }))
    }
}

/// A request as it came.
struct Received {
    request: Request,
    body: Vec<u8>,
}

impl Shared {
    async fn answer(&self, mut request: Request) -> Result<Response> {
        let body = request.take_body().into_vec().await?;
        let path = request.uri().path().to_owned();
        let received = Received { request, body };
        if let Some(index) = path.strip_suffix("/_bulk") {
            return self.bulk(&received, index.trim_start_matches('/')).await;
        }
        let is_manifest = path.contains("-jobs/_create/") || path.contains("-jobs/_doc/");
        if !is_manifest || *received.request.method() != Method::PUT {
            let (status, answer) = self.pass(&received).await?;
            return Ok(json_of(status, answer));
        }
        self.held.send_modify(|held| *held += 1);
        let opened = self
            .is_open
            .subscribe()
            .wait_for(|is_open| *is_open)
            .await
            .map(drop);
        self.held.send_modify(|held| *held -= 1);
        opened?;
        let (status, answer) = self.pass(&received).await?;
        self.record().manifests.push(status.as_u16());
        Ok(json_of(status, answer))
    }

    /// Documents that are let through go to the server in one request, whose items and the middleman's own come back in
    /// the order of the documents.
    async fn bulk(&self, received: &Received, index: &str) -> Result<Response> {
        let mut documents = bulk::read(&received.body)?;
        let treatments: Vec<Treatment> = documents
            .iter()
            .map(|document| self.treatment(index, &document.id))
            .collect();
        let (mut body, mut sent) = (String::new(), 0);
        for (document, treatment) in documents.iter_mut().zip(&treatments) {
            if *treatment == Treatment::Spoil {
                document.spoil()?;
            }
            if *treatment != Treatment::Refuse {
                document.write(&mut body);
                sent += 1;
            }
        }
        let (status, answer) = if self.treat.is_none() {
            self.pass(received).await?
        } else if sent == 0 {
            (StatusCode::OK, br#"{"items":[]}"#.to_vec())
        } else {
            self.send(&received.request, body.into_bytes(), None)
                .await?
        };
        if !status.is_success() {
            self.record().refused(status.as_u16(), &answer);
            return Ok(json_of(status, answer));
        }
        let mut passed = bulk::items(&answer, sent)?.into_iter();
        let items: Vec<Value> = documents
            .iter()
            .zip(&treatments)
            .filter_map(|(document, treatment)| match treatment {
                Treatment::Refuse => Some(document.refusal()),
                Treatment::Forward | Treatment::Spoil => passed.next(),
            })
            .collect();
        let ids = documents.iter().map(|document| document.id.as_str());
        self.record().answered(index, ids.zip(&items));
        let answer = json!({"errors": true, "items": items});
        Ok(json_of(status, answer.to_string().into_bytes()))
    }

    fn treatment(&self, index: &str, id: &str) -> Treatment {
        let treat = self.treat.as_ref();
        treat.map_or(Treatment::Forward, |treat| treat(index, id))
    }

    /// Passes a request on as it is.
    async fn pass(&self, received: &Received) -> Result<(StatusCode, Vec<u8>)> {
        let encoding = received.request.headers().get(CONTENT_ENCODING);
        self.send(&received.request, received.body.clone(), encoding)
            .await
    }

    async fn send(
        &self,
        like: &Request,
        body: Vec<u8>,
        encoding: Option<&poem::http::HeaderValue>,
    ) -> Result<(StatusCode, Vec<u8>)> {
        let url = format!("{}{}", self.server, like.uri());
        let mut request = self.http.request(like.method().clone(), url);
        for name in [AUTHORIZATION, CONTENT_TYPE] {
            if let Some(value) = like.headers().get(&name) {
                request = request.header(name, value);
            }
        }
        if let Some(encoding) = encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        let answer = request.body(body).send().await?;
        Ok((answer.status(), answer.bytes().await?.into()))
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn json_of(status: StatusCode, body: Vec<u8>) -> Response {
    let answer = Response::builder().status(status);
    answer.content_type("application/json").body(body)
}
