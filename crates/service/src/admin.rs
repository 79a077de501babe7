//! Health: what a program needs, whether it is there, and how others ask.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::metrics::Metrics;
use anyhow::{Context, Result, bail};
use poem::{
    Response, Route, Server,
    endpoint::make_sync,
    get,
    http::StatusCode,
    listener::{Acceptor, Listener as _, TcpAcceptor, TcpListener},
};

/// How long a health question may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Characters of an answer that are shown.
const LONGEST: usize = 1_000;

/// The dependencies of a program and what is wrong with each, if anything.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// Nothing is known yet: each dependency is missing until it is said to be there.
    pub fn waiting_for(dependencies: &[&'static str]) -> Self {
        let waiting = |name: &&'static str| (*name, Some("not connected yet".to_owned()));
        Self(Arc::new(Mutex::new(
            dependencies.iter().map(waiting).collect(),
        )))
    }

    /// The dependency is there.
    pub fn is_up(&self, dependency: &'static str) {
        self.set(dependency, None);
    }

    /// The dependency is missing, and why; the text must hold no secret.
    pub fn is_down(&self, dependency: &'static str, why: impl Into<String>) {
        self.set(dependency, Some(why.into()));
    }

    /// What is missing, each with the reason; empty when the program is ready.
    pub fn faults(&self) -> Vec<String> {
        let map = self.lock();
        map.iter()
            .filter_map(|(name, why)| Some(format!("{name}: {}", why.as_ref()?)))
            .collect()
    }

    fn set(&self, dependency: &'static str, why: Option<String>) {
        self.lock().insert(dependency, why);
    }

    /// A panic elsewhere can't leave the map half changed: a poisoned lock is taken as it is.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Option<String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server for health and metrics that is bound and not yet running.
pub struct AdminServer {
    acceptor: TcpAcceptor,
    address: SocketAddr,
}

impl AdminServer {
    /// Binds the address; port 0 takes a free one.
    pub async fn bind(address: SocketAddr) -> Result<Self> {
        let acceptor = TcpListener::bind(address)
            .into_acceptor()
            .await
            .with_context(|| format!("{address} can't be listened on"))?;
        let address = acceptor
            .local_addr()
            .first()
            .and_then(|address| address.as_socket_addr().copied())
            .context("the bound address is no internet address")?;
        Ok(Self { acceptor, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves health and metrics until the future is dropped.
    pub async fn serve(self, readiness: Readiness, metrics: Metrics) -> std::io::Result<()> {
        let routes = add_routes(Route::new(), readiness, metrics);
        Server::new_with_acceptor(self.acceptor).run(routes).await
    }
}

/// Adds to a program's routes: `/health/live`, the process answers; `/health/ready`, what is missing, a line each, with
/// 503, or 200; `/metrics`, for Prometheus.
pub fn add_routes(routes: Route, readiness: Readiness, metrics: Metrics) -> Route {
    let ready = make_sync(move |_| answer(&readiness.faults()));
    let render = make_sync(move |_| {
        Response::builder()
            .content_type("text/plain; version=0.0.4; charset=utf-8")
            .body(metrics.render())
    });
    routes
        .at("/health/live", get(make_sync(|_| "OK")))
        .at("/health/ready", get(ready))
        .at("/metrics", get(render))
}

/// 200 and `OK`, or 503 and the faults, a line each.
pub fn answer(faults: &[String]) -> Response {
    if faults.is_empty() {
        return Response::builder().content_type("text/plain").body("OK");
    }
    Response::builder()
        .status(StatusCode::SERVICE_UNAVAILABLE)
        .content_type("text/plain; charset=utf-8")
        .body(faults.join("\n"))
}

/// Asks a program on this host, by the URL of its readiness; an error says what it answered.
/// This is what a container's healthcheck runs, so that the image needs no curl.
pub async fn ask(url: &str) -> Result<()> {
    let http = reqwest::Client::builder()
        .no_proxy()
        .timeout(DEADLINE)
        // It asks this host by an address, which no certificate need name, and sends no secret.
        .tls_danger_accept_invalid_certs(true)
        .build()?;
    let answer = http.get(url).send().await;
    let answer = answer.with_context(|| format!("{url} did not answer within {DEADLINE:?}"))?;
    if answer.status().as_u16() != 200 {
        let body = answer.text().await.unwrap_or_default();
        let body: String = body.chars().take(LONGEST).collect();
        bail!("not ready: {}", body.trim());
    }
    Ok(())
}
