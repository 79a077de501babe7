//! Binding, routing, and running until a signal.

use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use broker::Publisher;
use poem::{
    Endpoint, EndpointExt, IntoResponse, Request, Response, Route, Server,
    error::{NotFoundError, ReadBodyError},
    get,
    http::StatusCode,
    listener::{Acceptor, Listener as _, TcpAcceptor, TcpListener},
};
use service::{
    admin::{self, Readiness},
    metrics::Metrics,
};

use crate::{
    Config,
    api::{self, Api, problem},
    health::{self, Health},
    intake::Rules,
};

/// A notice has a few hundred bytes; with a JWT for a token a few thousand.
const LARGEST_BODY: usize = 64 * 1024;
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
        let publisher = Publisher::start(config.broker, "listener".to_owned(), readiness.clone());
        let health = Arc::new(Health {
            readiness,
            elasticsearch: config.elasticsearch,
            http: reqwest::Client::new(),
        });
        let api = Arc::new(Api {
            rules: Rules {
                instance: config.instance,
                index_names: config.index_names,
                seal_keys: config.seal_keys,
                seal_seconds: config.seal_seconds,
            },
            publisher,
            exchange: config.exchange,
            routing_key: config.routing_key,
        });
        tracing::info!(%address, "listening");
        tracing::warn!(
            "plain HTTP: tokens in URLs and headers can be read on the way; put TLS in front of networks that you don't trust"
        );
        Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(
                routes(api, health, service::metrics::start()?),
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
) -> impl Endpoint<Output = Response> {
    let service = api::service(api);
    let document = service.spec_endpoint();
    let page = service.swagger_ui();
    let routes = Route::new()
        .nest("/", service)
        .at("/openapi.json", document)
        .nest("/docs", page)
        .at("/healthcheck", get(health::healthcheck));
    admin::add_routes(routes, health.readiness.clone(), metrics)
        .data(health)
        .around(bounded)
}

/// Bounds the body (poem's own limit looks at Content-Length alone) and turns every error into
/// a fixed sentence: the framework's texts may quote what was sent.
async fn bounded<E: Endpoint>(endpoint: Arc<E>, mut request: Request) -> poem::Result<Response> {
    let body = request.take_body().into_bytes_limit(LARGEST_BODY);
    match tokio::time::timeout(BODY, body).await {
        Ok(Ok(bytes)) => request.set_body(bytes),
        Ok(Err(ReadBodyError::PayloadTooLarge)) => {
            return Ok(refusal(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is larger than 64 KiB",
            ));
        }
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
    }
    match endpoint.call(request).await {
        Ok(answer) => Ok(answer.into_response()),
        Err(error) if error.is::<NotFoundError>() => Ok(refusal(
            StatusCode::NOT_FOUND,
            "there is no such call; see /docs",
        )),
        Err(error) => {
            let status = error.status();
            let detail = unknown_field(&error.to_string()).map_or_else(
                || "the request is not of the form that /docs describes".to_owned(),
                |field| format!("unknown field: {field}"),
            );
            Ok(refusal(status, &detail))
        }
    }
}

/// The unknown field's name in the framework's text, when it is harmless to repeat.
fn unknown_field(text: &str) -> Option<&str> {
    let (_, after) = text.split_once("unknown field `")?;
    let (name, _) = after.split_once('`')?;
    let is_harmless = name.len() <= 40
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_harmless.then_some(name)
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("Refused");
    problem(status.as_u16(), title, detail)
        .into_response()
        .with_content_type("application/problem+json")
        .with_status(status)
        .into_response()
}
