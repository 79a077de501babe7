//! HTTP/1.1 over TCP, by hand: no server that keeps to the rules can reset a connection in the middle of a body or
//! lie about a length, and those that tests use hold every body in memory.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;

use super::answer::Answer;
use super::api;
use super::body::{Pieces, first};
use super::head::{Received, receive};
use super::state::Shared;

/// A dripping answer is written so many times a second.
const DRIPS: usize = 10;

/// A server that runs; it ends with its handle, and so do its connections.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    task: AbortHandle,
}

impl Server {
    pub(super) async fn start(address: &str, shared: Arc<Shared>) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("binding the simulated GitLab to {address}"))?;
        let address = listener.local_addr()?;
        let task = tokio::spawn(accept(listener, shared)).abort_handle();
        Ok(Self { address, task })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        // What fails here is one client's connection; a client that went away has its own report.
        if let Ok((stream, _)) = accepted {
            connections.spawn(serve(stream, shared.clone()));
        }
    }
}

/// Answers what comes over one connection, until one side has had enough.
async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        let head = match receive(&mut stream, &mut buffer).await? {
            Received::Request(head) => head,
            Received::Malformed => {
                send(&mut stream, Answer::bad_request(), false).await?;
                return stream.shutdown().await;
            }
            Received::End => return Ok(()),
        };
        let answer = api::respond(&shared, &head);
        let is_reset = answer.delivery.reset_at.is_some();
        let is_last = answer.delivery.wrong_by != 0 || !head.keeps_alive();
        send(&mut stream, answer, head.method == "HEAD").await?;
        if is_reset {
            // With it the system throws away what it still has to send, and says so: a reset.
            return stream.set_zero_linger();
        }
        if is_last {
            return stream.shutdown().await;
        }
    }
}

async fn send(stream: &mut TcpStream, answer: Answer, is_head: bool) -> io::Result<()> {
    let delivery = answer.delivery;
    sleep(delivery.later).await;
    let said = i64::try_from(answer.body.size()).unwrap_or(i64::MAX) + delivery.wrong_by;
    let mut head = format!("HTTP/1.1 {} Simulated\r\n", answer.status);
    for (name, value) in &answer.headers {
        write!(head, "{name}: {value}\r\n").expect("writing to a string cannot fail");
    }
    write!(head, "Content-Length: {}\r\n\r\n", said.max(0))
        .expect("writing to a string cannot fail");
    stream.write_all(head.as_bytes()).await?;
    if is_head {
        return Ok(());
    }
    let pieces = answer.body.into_pieces();
    let pieces: Pieces = match delivery.reset_at {
        Some(size) => Box::new(first(size, pieces)),
        None => pieces,
    };
    match delivery.drip {
        Some(rate) => drip(stream, pieces, rate).await,
        None => pour(stream, pieces).await,
    }
}

async fn pour(stream: &mut TcpStream, pieces: Pieces) -> io::Result<()> {
    for piece in pieces {
        stream.write_all(&piece).await?;
    }
    Ok(())
}

/// Writes so many bytes a second, not more than the rate allows at any time.
async fn drip(stream: &mut TcpStream, pieces: Pieces, rate: usize) -> io::Result<()> {
    let drop = (rate / DRIPS).max(1);
    let pause = Duration::from_secs(1) / u32::try_from(rate.clamp(1, DRIPS)).unwrap_or(1);
    let mut tick = tokio::time::interval(pause);
    for piece in pieces {
        for drop in piece.chunks(drop) {
            tick.tick().await;
            stream.write_all(drop).await?;
        }
    }
    Ok(())
}
