//! Binding, routing, and running until a signal.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use broker::{Publisher, PublisherSettings};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use metrics::counter;
use poem::{
    Body, Endpoint, EndpointExt, IntoResponse, Request, Response, Route, Server,
    endpoint::make_sync,
    error::{MethodNotAllowedError, NotFoundError},
    get,
    http::{Method, StatusCode},
    listener::{Acceptor, Listener as _, TcpAcceptor, TcpListener},
};
use service::{
    admin::{self, Readiness},
    metrics::Metrics,
};

use tokio::sync::Semaphore;

use crate::{
    Config,
    api::{self, Api, problem},
    health::{self, Health},
    hooks,
    intake::{Refusal, Rules},
    limits::Limits,
    repeats::harmless,
};

/// A notice has a few hundred bytes; with a JWT for a token a few thousand.
const LARGEST_BODY: usize = 64 * 1024;
/// A pipeline event tells of all its jobs, with half a KiB each, and of a commit with a message of any size.
const LARGEST_WEBHOOK: usize = 1024 * 1024;
/// The largest body that GitLab sends has 25 MB.
const MOST_DISCARDED: usize = 32 * 1024 * 1024;
/// So many that are larger than a notice are read at the same time.
const LARGE_ONES: usize = 8;
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(5);
/// How long open requests may take to end after the signal; above the confirm's 5 s.
const GRACE: Duration = Duration::from_secs(8);

/// A listener that is bound and not yet running.
pub struct Listener {
    acceptor: TcpAcceptor,
    address: SocketAddr,
    config: Config,
}

impl Listener {
    /// Binds the port.
    pub async fn bind(config: Config) -> Result<Self> {
        let (host, port) = config.address;
        let acceptor = TcpListener::bind((host, port))
            .into_acceptor()
            .await
            .with_context(|| {
                format!(
                    "port {port} of {host} can't be listened on; free it or choose another with -p"
                )
            })?;
        let address = acceptor
            .local_addr()
            .first()
            .and_then(|address| address.as_socket_addr().copied())
            .context("the bound address is no internet address")?;
        Ok(Self {
            acceptor,
            address,
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
            acceptor,
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
        });
        let ways = config.ways.names();
        let api = Arc::new(Api {
            ways: config.ways,
            callers: config.api_secrets,
            id_tokens: config.id_tokens,
            webhook_callers: config.webhook_callers,
            rules: Rules {
                instance: config.instance,
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
        tracing::info!(%address, ways, "listening");
        tracing::warn!(
            "plain HTTP: tokens and secrets can be read on the way; put TLS in front of networks that you don't trust"
        );
        Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(
                routes(api, health, service::metrics::start()?, config.limits),
                async {
                    if let Err(error) = signal.await {
                        tracing::error!(%error, "no signals can be received; shutting down");
                    }
                },
                Some(GRACE),
            )
            .await
            .context("the server ended")
    }
}

fn routes(
    api: Arc<Api>,
    health: Arc<Health>,
    metrics: Metrics,
    limits: Limits,
) -> impl Endpoint<Output = Response> {
    let service = api::service(api);
    let document = service.spec_endpoint();
    let page = page(&service.swagger_ui_html());
    let routes = Route::new()
        .nest("/", service.around(without_head))
        .at("/openapi.json", document)
        .nest("/docs", Route::new().at("/", page))
        .at("/healthcheck", get(health::healthcheck));
    let large_ones = Arc::new(Semaphore::new(LARGE_ONES));
    admin::add_routes(routes, health.readiness.clone(), metrics)
        .data(health)
        .around(move |endpoint, request| bounded(endpoint, request, large_ones.clone()))
        .around(move |endpoint, request| limited(endpoint, request, limits.clone()))
}

/// The page at `/docs`. Poem's own is titled «Swagger UI», lacks a doctype, which browsers take for
/// a page of the nineties, and is copied for each request, at 1.6 MB.
fn page(html: &str) -> impl Endpoint<Output = Response> + 'static {
    let head = format!(
        "<title>{}</title><link rel=\"icon\" href=\"data:,\">",
        api::TITLE
    );
    let html = html
        .trim_start()
        .replacen("<title>Swagger UI</title>", &head, 1);
    let html = Bytes::from(format!("<!DOCTYPE html>\n{html}"));
    make_sync(move |_| {
        Response::builder()
            .content_type("text/html; charset=utf-8")
            .body(html.clone())
    })
}

/// Who comes too often is sent away, and nothing is read of the body.
async fn limited<E: Endpoint<Output = Response>>(
    endpoint: Arc<E>,
    request: Request,
    limits: Limits,
) -> poem::Result<Response> {
    let address = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
    if limits.allow(address) {
        return endpoint.call(request).await;
    }
    counter!("joblogs_requests_refused_total", "reason" => "rate").increment(1);
    let detail = "too many requests; come again in a second";
    let refusal = refusal(StatusCode::TOO_MANY_REQUESTS, detail);
    Ok(refusal.with_header("Retry-After", 1).into_response())
}

/// Bounds the body (poem's own limit looks at Content-Length alone) and turns every error into
/// a fixed sentence: the framework's texts may quote what was sent.
async fn bounded<E: Endpoint>(
    endpoint: Arc<E>,
    mut request: Request,
    large_ones: Arc<Semaphore>,
) -> poem::Result<Response> {
    let is_webhook = request.uri().path() == hooks::PATH;
    let (largest, too_large) = if is_webhook {
        (LARGEST_WEBHOOK, "the body is larger than 1 MiB")
    } else {
        (LARGEST_BODY, "the body is larger than 64 KiB")
    };
    let size: Option<usize> = request
        .header("content-length")
        .and_then(|it| it.parse().ok());
    let may_be_large = is_webhook && size.is_none_or(|size| size > LARGEST_BODY);
    let body = request.take_body();
    let read = async {
        let turn = if may_be_large {
            large_ones.acquire().await.ok()
        } else {
            None
        };
        let bytes = bytes_of(body, largest).await?;
        std::io::Result::Ok((bytes, turn))
    };
    let read = tokio::time::timeout(BODY, read).await;
    // Kept until the body is done with.
    let _turn = match read {
        Ok(Ok((Some(bytes), turn))) => {
            request.set_body(bytes);
            turn
        }
        Ok(Ok((None, _))) => return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE, too_large)),
        Ok(Err(_)) => {
            return Ok(refusal(
                StatusCode::BAD_REQUEST,
                "the body could not be read",
            ));
        }
        Err(_) => {
            return Ok(refusal(
                StatusCode::REQUEST_TIMEOUT,
                "the body took longer than 5 s",
            ));
        }
    };
    match endpoint.call(request).await {
        Ok(answer) => Ok(answer.into_response()),
        Err(error) if error.is::<NotFoundError>() => Ok(refusal(
            StatusCode::NOT_FOUND,
            "there is no such call; see /docs",
        )),
        Err(error) => Ok(refusal(error.status(), &sentence(&error))),
    }
}

/// The bytes of a body, or `None` where there are too many. The others are read all the same, up to a bound:
/// who still sends when the connection is closed sees no answer.
async fn bytes_of(body: Body, most: usize) -> std::io::Result<Option<Bytes>> {
    let mut pieces = std::pin::pin!(body.into_bytes_stream());
    let (mut bytes, mut came) = (BytesMut::new(), 0);
    while let Some(piece) = pieces.try_next().await? {
        came += piece.len();
        if came <= most {
            bytes.extend_from_slice(&piece);
        } else if came <= MOST_DISCARDED {
            bytes = BytesMut::new();
        } else {
            break;
        }
    }
    Ok((came <= most).then(|| bytes.freeze()))
}

/// A notice comes by `GET` or `POST`. Left to poem, a `HEAD` would be a `GET`, and publish.
async fn without_head<E: Endpoint>(endpoint: Arc<E>, request: Request) -> poem::Result<E::Output> {
    if request.method() == Method::HEAD {
        return Err(MethodNotAllowedError.into());
    }
    endpoint.call(request).await
}

fn sentence(error: &poem::Error) -> String {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return refusal.to_string();
    }
    let text = error.to_string();
    let unknown = text
        .split_once("unknown field `")
        .and_then(|(_, after)| after.split_once('`'))
        .and_then(|(name, _)| harmless(name));
    unknown.map_or_else(
        || "the request is not of the form that /docs describes".to_owned(),
        |name| format!("unknown field: {name}"),
    )
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Refused");
    problem(status.as_u16(), title, detail)
        .into_response()
        .with_content_type("application/problem+json")
        .with_status(status)
        .into_response()
}
