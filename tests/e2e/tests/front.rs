//! The listener's connections: TLS of its own, certificates of clients, and the bounds of each.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Trace;
use reqwest::{Certificate, Client, Identity, StatusCode, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::listener::{Listener, fields};
use crate::queue::JOBS;
use crate::tls::{Authority, Flaw};
use crate::world::World;

/// From a new file to its use: it is looked at every 5 s.
const RELOADED: Duration = Duration::from_secs(10);
/// The listener's own bound of a head's time is 10 s.
const HEAD: Duration = Duration::from_secs(12);
const PROMPT: Duration = Duration::from_secs(2);

pub(crate) async fn the_listener_speaks_tls_and_takes_a_new_certificate_while_it_runs(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let (first, second, clients) = (
        Authority::new("first")?,
        Authority::new("second")?,
        Authority::new("clients")?,
    );
    let identity = first.sign(Flaw::Nothing)?;
    let variables = [
        (
            "JOBLOGS_TLS_CERT",
            world.secret("cert", &identity.certificate)?,
        ),
        ("JOBLOGS_TLS_KEY", world.secret("key", &identity.key)?),
        (
            "JOBLOGS_TLS_CLIENT_CA",
            world.secret("clients", &clients.pem())?,
        ),
    ];
    let listener = world.listener_over_tls(&variables).await?;
    let stranger = client(&first, None)?;
    let guest = clients.sign(Flaw::Nothing)?;
    let known = client(&first, Some(&format!("{}{}", guest.certificate, guest.key)))?;
    let job = world.job().trace(Trace::Lines(10)).finished();
    let post = |client: &Client| {
        let request = client.post(format!("{}v1/jobs", listener.url));
        request
            .header("PRIVATE-TOKEN", world.token.value())
            .json(&fields(&job))
            .send()
    };
    let ready = format!("{}health/ready", listener.url);
    world
        .until(
            "the listener is ready",
            Duration::from_secs(20),
            async || {
                let answer = stranger.get(&ready).send().await?;
                ensure!(
                    answer.status() == StatusCode::OK,
                    "{}",
                    answer.text().await?
                );
                Ok(())
            },
        )
        .await?;
    let answer = post(&stranger).await?;
    ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{answer:?}");
    ensure!(answer.version() == Version::HTTP_2, "{answer:?}");
    let answer = post(&known).await?;
    ensure!(answer.status() == StatusCode::ACCEPTED, "{answer:?}");
    let expired = clients.sign(Flaw::Expired)?;
    let expired = client(
        &first,
        Some(&format!("{}{}", expired.certificate, expired.key)),
    )?;
    ensure!(
        post(&expired).await.is_err(),
        "a certificate that has expired"
    );

    // Half a change is none: the last one stays.
    world.secret("cert", "no certificate")?;
    let renewed = second.sign(Flaw::Nothing)?;
    world
        .until("the bad file is noticed", RELOADED, async || {
            let answer = client(&first, None)?.get(&ready).send().await?;
            ensure!(answer.status() == StatusCode::OK, "{answer:?}");
            listener.program.logged("the last certificate stays in use")
        })
        .await?;
    world.secret("key", &renewed.key)?;
    world.secret("cert", &renewed.certificate)?;
    world
        .until("the new certificate is shown", RELOADED, async || {
            let answer = client(&second, None)?.get(&ready).send().await?;
            ensure!(answer.status() == StatusCode::OK, "{answer:?}");
            Ok(())
        })
        .await?;
    healthcheck_passes(world, &listener).await?;
    ensure!(world.queues.take(JOBS).await? == 1, "one notice was taken");
    Ok(())
}

/// What a container's healthcheck runs.
async fn healthcheck_passes(world: &World, listener: &Listener) -> Result<()> {
    let port = listener.url.trim_end_matches('/').rsplit(':').next();
    let port = port.context("a port")?;
    let variables = ["JOBLOGS_TLS_CERT", "JOBLOGS_TLS_KEY"].map(|name| (name, "any".to_owned()));
    let flags = ["healthcheck", "--listen-port", port];
    world.run("listener", &flags, &variables).await?;
    Ok(())
}

fn client(authority: &Authority, identity: Option<&str>) -> Result<Client> {
    let root = Certificate::from_pem(authority.pem().as_bytes())?;
    let client = Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(6))
        .tls_certs_only([root]);
    let client = match identity {
        Some(pem) => client.identity(Identity::from_pem(pem.as_bytes())?),
        None => client,
    };
    Ok(client.build()?)
}

pub(crate) async fn d26_connections_heads_and_their_time_are_bounded(world: &World) -> Result<()> {
    const MOST: usize = 5;
    world.initmq().await?;
    let variables = [("JOBLOGS_CLIENT_CONNECTIONS", MOST.to_string())];
    let listener = world.listener_with(&variables).await?;
    let address = listener.url.replace("http://", "");
    let address = address.trim_end_matches('/');
    // Those of the client that asked whether it is ready may be open still.
    let is_served = async || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address).await?;
        stream
            .write_all(b"GET /health/live HTTP/1.1\r\nhost: a\r\n\r\n")
            .await?;
        let mut byte = [0];
        let read = timeout(PROMPT, stream.read(&mut byte)).await??;
        ensure!(read == 1, "closed");
        Ok(stream)
    };
    let mut held = Vec::new();
    while let Ok(stream) = is_served().await {
        ensure!(held.len() < MOST, "more than {MOST}");
        held.push(stream);
    }
    ensure!(!held.is_empty(), "none was served");
    held.pop();
    world
        .until("a place is free", PROMPT, async || {
            is_served().await.map(drop)
        })
        .await?;
    held.clear();

    for (what, head) in [
        ("bytes", format!("a: {}\r\n", "x".repeat(20_000))),
        ("headers", "a: b\r\n".repeat(101)),
    ] {
        let answer = world
            .until("it is answered", PROMPT, async || {
                let mut stream = TcpStream::connect(address).await?;
                let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{head}\r\n");
                stream.write_all(request.as_bytes()).await?;
                let mut answer = vec![0; 12];
                stream.read_exact(&mut answer).await?;
                Ok(String::from_utf8(answer)?)
            })
            .await?;
        ensure!(answer == "HTTP/1.1 431", "{what}: {answer}");
    }

    for (what, head) in [("nothing", ""), ("half a head", "GET / HTTP/1.1\r\nhost")] {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(head.as_bytes()).await?;
        let begun = Instant::now();
        let mut rest = Vec::new();
        let closed = timeout(HEAD, stream.read_to_end(&mut rest)).await;
        ensure!(closed.is_ok(), "{what}: open after {:?}", begun.elapsed());
    }
    let metrics = listener.http().get(format!("{}metrics", listener.url));
    let metrics = metrics.send().await?.text().await?;
    for reason in ["client", "head", "head_time"] {
        let line = format!("joblogs_connections_refused_total{{reason=\"{reason}\"}}");
        ensure!(
            metrics.contains(&line),
            "{reason} is not counted: {metrics}"
        );
    }
    Ok(())
}
