//! Binding, routing, and running until a signal.

use std::{
    future::Future,
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use broker::{Publisher, PublisherSettings};
use bytes::{Buf as _, Bytes};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use futures_util::stream;
use metrics::{counter, describe_counter, describe_gauge};
use poem::{Body, Endpoint, Response, Route, endpoint::make_sync, get};
use service::{
    admin::{self, Readiness},
    metrics::Metrics,
};
use tokio::net::{TcpListener, TcpSocket};

use crate::{
    Config,
    accept::Api,
    bounds::Bounds,
    connections::serve,
    document,
    health::{self, Health},
    intake::Rules,
    tls::Tls,
};

/// How long open requests may take to end after the signal; above the confirm's 4 s.
const GRACE: Duration = Duration::from_secs(8);

/// A listener that is bound and not yet running.
pub struct Listener {
    socket: TcpListener,
    tls: Option<Tls>,
    address: SocketAddr,
    config: Config,
}

impl Listener {
    /// Binds the port; within a runtime.
    pub fn bind(mut config: Config) -> Result<Self> {
        let (host, port) = config.address;
        let tls = config.tls.take();
        let socket = listen((host, port).into()).with_context(|| {
            format!("port {port} of {host} can't be listened on; free it or choose another with -p")
        })?;
        Ok(Self {
            address: socket.local_addr().context("the port's own address")?,
            socket,
            tls,
            config,
        })
    }

    /// Where it listens; of use with port 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the future resolves, then ends what is open within the grace.
    pub async fn run_until(self, signal: impl Future<Output = std::io::Result<()>>) -> Result<()> {
        let Self {
            socket,
            tls,
            address,
            config,
        } = self;
        let readiness = Readiness::waiting_for(&["rabbitmq"]);
        let publisher = Publisher::start(
            PublisherSettings {
                broker: config.broker,
                name: "listener".to_owned(),
                exchange: Some(config.exchange.clone()),
            },
            readiness.clone(),
        );
        let health = Arc::new(Health {
            readiness,
            elasticsearch: config.elasticsearch,
            checked: health::Checked::default(),
        });
        let ways = config.ways.names();
        let api = Arc::new(Api {
            ways: config.ways,
            origins: config.origins,
            rules: Rules {
                index_names: config.index_names,
                seal_keys: config.seal_keys,
                seal_seconds: config.seal_seconds,
            },
            publisher,
            exchange: config.exchange,
            routing_key: config.routing_key,
            kibana: config.kibana,
        });
        if health
            .elasticsearch
            .as_ref()
            .is_some_and(|it| !it.is_verified)
        {
            tracing::warn!(
                "Elasticsearch's certificate is not checked (--es-verify-ssl false): anybody on the way can answer /healthcheck?elasticsearch"
            );
        }
        tokio::spawn(config.limits.clone().keep_small());
        tracing::info!(%address, ways, tls = tls.is_some(), "listening");
        if tls.is_none() {
            tracing::warn!(
                "plain HTTP: tokens and secrets can be read on the way; give --tls-cert and --tls-key, or put TLS in front of networks that you don't trust"
            );
        }
        let metrics = service::metrics::start()?;
        count_from_zero();
        let bounds = Bounds::new(config.limits, config.wants_certificates, api.clone());
        let routes = routes(api, health, metrics)?;
        serve(
            socket,
            tls,
            config.connections,
            (bounds, routes),
            signal,
            GRACE,
        )
        .await
        .context("no signals can be received")
    }
}

/// What can be counted is there from the beginning: only from a 0 on does a first refusal show as a change.
fn count_from_zero() {
    const REFUSED: &str = "joblogs_requests_refused_total";
    const NOTICES: &str = "joblogs_notices_total";
    describe_counter!(
        NOTICES,
        "Notices that came to be checked, by the way they came and what became of them."
    );
    describe_counter!(
        REFUSED,
        "Requests that were refused before anything else was looked at, by reason; credential: answered 401."
    );
    describe_counter!(
        "joblogs_connections_refused_total",
        "Connections that were refused or ended, by reason."
    );
    describe_gauge!("joblogs_connections", "Connections that are open.");
    for reason in [
        "body",
        "body_time",
        "busy",
        "certificate",
        "credential",
        "rate",
    ] {
        counter!(REFUSED, "reason" => reason).absolute(0);
    }
    for reason in ["client", "head", "head_time", "tls"] {
        counter!("joblogs_connections_refused_total", "reason" => reason).absolute(0);
    }
    for way in ["get", "post", "webhook"] {
        for outcome in ["accepted", "refused", "unavailable"] {
            counter!(NOTICES, "way" => way, "outcome" => outcome).absolute(0);
        }
    }
}

/// For clients that don't read, the system keeps no more than this of each one's answer.
const SEND_BUFFER: u32 = 64 * 1024;
/// Connections that have not been accepted yet.
const BACKLOG: u32 = 1024;

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // As tokio's own does: a listener that was just ended can be started again.
    socket.set_reuseaddr(true)?;
    // Those that are accepted have it too.
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn routes(
    api: Arc<Api>,
    health: Arc<Health>,
    metrics: Metrics,
) -> Result<impl Endpoint<Output = Response>> {
    let service = document::service(api.clone());
    let spec = service.spec();
    let document = document::of(&spec, &api);
    let in_script = document.replace('<', "\\u003c");
    let page = page(&service.swagger_ui_html().replacen(&spec, &in_script, 1))?;
    let routes = Route::new()
        .nest("/", service)
        .at("/openapi.json", get(fixed("application/json", document)))
        .nest("/docs", Route::new().at("/", get(page)))
        .at("/healthcheck", get(health::healthcheck(health.clone())));
    let readiness = health.readiness.clone();
    Ok(admin::add_routes(routes, readiness, metrics))
}

/// What is the same for everybody.
fn fixed(content_type: &'static str, body: impl Into<Bytes>) -> impl Endpoint<Output = Response> {
    let body = body.into();
    make_sync(move |_| {
        Response::builder()
            .content_type(content_type)
            .body(body.clone())
    })
}

/// The page at `/docs`. Poem's own is titled «Swagger UI», and lacks a doctype, which browsers take for a page of
/// the nineties. It has 1.6 MB, and is kept compressed.
fn page(html: &str) -> Result<impl Endpoint<Output = Response> + 'static> {
    let head = format!(
        "<title>{}</title><link rel=\"icon\" href=\"data:,\">",
        document::TITLE
    );
    let html = html.trim_start();
    let html = html.replacen("<title>Swagger UI</title>", &head, 1);
    let mut page = GzEncoder::new(Vec::new(), Compression::best());
    write!(page, "<!DOCTYPE html>\n{html}")?;
    let page = Bytes::from(page.finish()?);
    Ok(make_sync(move |request| {
        let encodings = request.header("accept-encoding").unwrap_or_default();
        let answer = Response::builder().content_type("text/html; charset=utf-8");
        if encodings.contains("gzip") {
            let answer = answer.header("content-encoding", "gzip");
            return answer.body(page.clone());
        }
        answer.body(unpacked(page.clone()))
    }))
}

/// In pieces, as they are asked for: a client that takes none costs none.
fn unpacked(page: Bytes) -> Body {
    const PIECE: usize = 16 * 1024;
    let unpacking = GzDecoder::new(page.reader());
    Body::from_bytes_stream(stream::iter(std::iter::from_fn({
        let mut unpacking = unpacking;
        move || {
            let mut piece = vec![0; PIECE];
            match unpacking.read(&mut piece) {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some(Ok::<_, std::io::Error>(piece))
                }
                Err(error) => Some(Err(error)),
            }
        }
    })))
}
