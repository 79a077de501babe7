//! Health: what a program needs, whether it is there, and how others ask.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// How long a health question may take.
const DEADLINE: Duration = Duration::from_secs(3);

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
    pub fn missing(&self) -> Vec<(&'static str, String)> {
        let map = self.lock();
        map.iter()
            .filter_map(|(name, why)| Some((*name, why.clone()?)))
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

/// Asks `GET path` of a program on this host; an error says what it answered.
/// This is what a container's healthcheck runs, so that the image needs no curl.
pub async fn ask(address: SocketAddr, path: &str) -> Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(16 * 1024).read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(DEADLINE, exchange)
        .await
        .with_context(|| format!("{address} did not answer within {DEADLINE:?}"))?
        .with_context(|| format!("{address} can't be asked"))?;
    let status = answer.split_whitespace().nth(1).unwrap_or_default();
    if status != "200" {
        let body = answer.split("\r\n\r\n").nth(1).unwrap_or_default();
        bail!("not ready: {}", body.trim());
    }
    Ok(())
}
