//! How many notices a second a listener takes, beside what the broker takes of a bare confirmed publisher with as many
//! messages in flight, and beside a connection for each message, as the older tool had it. Rounds of all three alternate,
//! so that what else the machine does hits each alike: the ratios are what counts.
//!
//! `load LISTENER_ADDRESS AMQP_URL SECRET LISTENER_PID`; the listener has `--api-secret SECRET --rate 0 --client-rate 0`.

#![allow(
    clippy::cast_precision_loss,
    reason = "of numbers that are far smaller"
)]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueuePurgeOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);
const QUIET: Duration = Duration::from_secs(5);
const IN_FLIGHT: [usize; 3] = [1, 64, 500];
const NOTICE: &str =
    r#"{"project_id":42,"job_id":4711,"runner_id":7,"job_name":"build","project_name":"demo"}"#;
/// As long as what the listener makes of it.
const MESSAGE: &[u8] = br#"{"version":"1.0","instance":"gitlab.com","project_id":42,"job_id":4711,"runner_id":7,"job_name":"build","project_name":"demo","received_at":"2026-01-01T00:00:00.000000000Z","source":"api"}"#;

#[tokio::main]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [address, broker, secret, process] = words.as_slice() else {
        anyhow::bail!("usage: load LISTENER_ADDRESS AMQP_URL SECRET LISTENER_PID");
    };
    let request: Arc<str> = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {secret}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{NOTICE}",
        NOTICE.len()
    )
    .into();
    println!(
        "| in flight | listener/s | bare publisher/s | ratio | half load: median | p99 | resident |"
    );
    println!("|---|---|---|---|---|---|---|");
    for in_flight in IN_FLIGHT {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(listener(address, &request, in_flight, None).await?.0);
            purge(broker).await?;
            bare.push(publisher(broker, in_flight).await?);
            purge(broker).await?;
        }
        let (ours, bare) = (median(&mut ours), median(&mut bare));
        let (_, mut times) = listener(address, &request, in_flight, Some(ours / 2.0)).await?;
        purge(broker).await?;
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied();
        println!(
            "| {in_flight} | {ours:.0} | {bare:.0} | {:.2} | {:?} | {:?} | {} |",
            ours / bare,
            at(50).unwrap_or_default(),
            at(99).unwrap_or_default(),
            resident(process)?
        );
    }
    let mut each = Vec::new();
    let mut ours = Vec::new();
    for _ in 0..ROUNDS {
        each.push(connections(broker, 64).await?);
        ours.push(listener(address, &request, 64, None).await?.0);
        purge(broker).await?;
    }
    let (each, ours) = (median(&mut each), median(&mut ours));
    println!(
        "\na connection for each message, 64 at once: {each:.0}/s; the listener: {ours:.0}/s, {:.1} times as many",
        ours / each
    );
    Ok(())
}

/// Accepted notices a second of so many connections, and how long each took; at most `rate` a second.
async fn listener(
    address: &str,
    request: &Arc<str>,
    connections: usize,
    rate: Option<f64>,
) -> Result<(f64, Vec<Duration>)> {
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let end = begun + ROUND;
    let turn = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for mut stream in streams {
        let (request, turn) = (request.clone(), turn.clone());
        callers.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                if let Some(rate) = rate {
                    let number = turn.fetch_add(1, Ordering::Relaxed);
                    let at = begun + Duration::from_secs_f64(number as f64 / rate);
                    if at >= end {
                        break;
                    }
                    sleep_until(at.into()).await;
                }
                let asked = Instant::now();
                timeout(QUIET, ask(&mut stream, request.as_bytes())).await??;
                times.push(asked.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(caller) = callers.join_next().await {
        times.extend(caller??);
    }
    Ok((times.len() as f64 / begun.elapsed().as_secs_f64(), times))
}

async fn ask(stream: &mut TcpStream, request: &[u8]) -> Result<()> {
    stream.write_all(request).await?;
    let mut answer = Vec::with_capacity(1024);
    loop {
        ensure!(stream.read_buf(&mut answer).await? > 0, "closed");
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        ensure!(head.starts_with("HTTP/1.1 202"), "{text}");
        let mut lines = head.lines();
        let length = lines.find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.context("no content-length")?.parse()?;
        if body.len() >= length {
            return Ok(());
        }
    }
}

async fn channel(broker: &str) -> Result<(Connection, Channel)> {
    let connection = Connection::connect(broker, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok((connection, channel))
}

async fn publish(channel: &Channel) -> Result<()> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(2);
    let confirm = channel
        .basic_publish(
            "gitlab_jobs".into(),
            "jobs".into(),
            options,
            MESSAGE,
            properties,
        )
        .await?
        .await?;
    ensure!(confirm.is_ack(), "not confirmed");
    Ok(())
}

/// Confirmed messages a second with so many in flight on one channel.
async fn publisher(broker: &str, in_flight: usize) -> Result<f64> {
    let (connection, channel) = channel(broker).await?;
    let begun = Instant::now();
    let mut publishers = JoinSet::new();
    for _ in 0..in_flight {
        let channel = channel.clone();
        publishers.spawn(async move {
            let mut count = 0_u32;
            while begun.elapsed() < ROUND {
                publish(&channel).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let rate = total(publishers).await? / begun.elapsed().as_secs_f64();
    connection.close(200, "done".into()).await?;
    Ok(rate)
}

/// Messages a second where each has a connection of its own.
async fn connections(broker: &str, at_once: usize) -> Result<f64> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let broker = broker.to_owned();
        callers.spawn(async move {
            let mut count = 0_u32;
            while begun.elapsed() < ROUND {
                let (connection, channel) = channel(&broker).await?;
                publish(&channel).await?;
                connection.close(200, "done".into()).await?;
                count += 1;
            }
            anyhow::Ok(count)
        });
    }
    let count = total(callers).await?;
    Ok(count / begun.elapsed().as_secs_f64())
}

async fn total(mut tasks: JoinSet<Result<u32>>) -> Result<f64> {
    let mut total = 0.0;
    while let Some(task) = tasks.join_next().await {
        total += f64::from(task??);
    }
    Ok(total)
}

async fn purge(broker: &str) -> Result<()> {
    let (connection, channel) = channel(broker).await?;
    channel
        .queue_purge("jobs".into(), QueuePurgeOptions::default())
        .await?;
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// The most that the process ever had in memory.
fn resident(process: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let line = line.context("no VmHWM")?;
    Ok(line.trim_start_matches("VmHWM:").trim().to_owned())
}
