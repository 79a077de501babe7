//! Callers that are slow, and callers that are many: they hold up nobody else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::hook::{Proof, delivery, job_event};
use crate::listener::Listener;
use crate::memory::{MIB, Memory};
use crate::proxy::{Fault, Way};
use crate::queue::JOBS;
use crate::world::World;

/// ACCEPTANCE.md, 26.
const SLOW: usize = 200;
const FLOOD: u32 = 5_000;
const PROMPT: Duration = Duration::from_secs(1);
/// A build that is not optimised takes more than DESIGN.md's 32 MiB; without a bound it would be far more than this.
const LIMIT: u64 = 64 * MIB;
const LASTS: Duration = Duration::from_secs(8);
/// From the end of the fault to the next notice that is taken.
const RECOVERED: Duration = Duration::from_secs(30);
/// Those of the flood come from elsewhere.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

pub(crate) async fn d26_slow_and_many_callers_leave_honest_notices_prompt(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let listener = world.listener().await?;
    let memory = Memory::watch(&listener.program);
    let mut others = JoinSet::new();
    for _ in 0..SLOW {
        let stream = TcpStream::connect(listener.url[7..].trim_end_matches('/')).await?;
        others.spawn(speaks_slowly(stream));
    }
    let flood = flood(&listener);
    let honest = honest(world, &listener);
    let ((refused, answered), honest) = tokio::try_join!(flood, honest)?;
    others.abort_all();
    ensure!(
        refused > 0,
        "of {answered} nobody was refused: there was no flood"
    );
    let peak = memory.end()?.peak;
    ensure!(peak <= LIMIT, "{} MiB", peak / MIB);
    let messages = world.queues.take(JOBS).await?;
    ensure!(
        messages == honest,
        "{messages} messages of {honest} notices"
    );
    Ok(())
}

/// A byte a second, of a request that never ends.
async fn speaks_slowly(mut stream: TcpStream) {
    let mut pace = interval(Duration::from_secs(1));
    for byte in b"POST /v1/jobs HTTP/1.1\r\nhost: x\r\n".iter().cycle() {
        pace.tick().await;
        if stream.write_all(&[*byte]).await.is_err() {
            return;
        }
    }
}

/// Requests without a credential, as many as a machine can make up to the rate; those that were refused for their number,
/// and all that were answered.
async fn flood(listener: &Listener) -> Result<(u64, u64)> {
    const TICKS: u32 = 50;
    let http = Client::builder()
        .no_proxy()
        .local_address(ELSEWHERE)
        .timeout(Duration::from_secs(10));
    let http = http.build()?;
    let url = format!("{}v1/jobs", listener.url);
    let mut requests = JoinSet::new();
    let mut pace = interval(Duration::from_secs(1) / TICKS);
    let end = Instant::now() + LASTS;
    let (mut refused, mut answered) = (0, 0);
    while Instant::now() < end || !requests.is_empty() {
        tokio::select! {
            _ = pace.tick(), if Instant::now() < end => {
                // Who gets no answers in time makes no more requests.
                for _ in requests.len()..(FLOOD / TICKS * 4) as usize {
                    requests.spawn(http.post(&url).body("{}").send());
                }
            }
            Some(answer) = requests.join_next() => {
                // Of too many connections of one client some are closed.
                let Ok(answer) = answer? else {
                    continue;
                };
                answered += 1;
                refused += u64::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
            }
        }
    }
    Ok((refused, answered))
}

/// Notices meanwhile, each answered promptly; how many there were.
async fn honest(world: &World, listener: &Listener) -> Result<u32> {
    let mut pace = interval(Duration::from_millis(100));
    let end = Instant::now() + LASTS;
    let mut count = 0;
    while Instant::now() < end {
        pace.tick().await;
        let job = world.job().finished();
        let began = Instant::now();
        listener.post(&job, &world.token).await?;
        let took = began.elapsed();
        ensure!(took < PROMPT, "notice {count} took {took:?}");
        count += 1;
    }
    Ok(count)
}

/// Of so many, most wait for a turn before the broker is given their message.
const CALLERS: usize = 400;

pub(crate) async fn many_callers_of_a_broker_that_stands_still_are_all_answered_in_time(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let proxy = world
        .proxy("listener-broker", world.servers.rabbitmq.port)
        .await?;
    let gitlab = world.gitlab.url();
    let listener = world.listener_by(proxy.port(), &gitlab).await?;
    proxy.apply(Fault::Stall(Way::Both));
    let listener = Arc::new(listener);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (job, listener) = (world.job().finished(), listener.clone());
        let token = world.token.clone();
        callers.spawn(async move { listener.refuses(listener.notice_of(&job, &token)).await });
    }
    while let Some(refused) = callers.join_next().await {
        refused??;
    }
    // What was on its way to the broker ends there.
    proxy.cut();
    proxy.mend();
    let job = world.job().finished();
    world
        .until("notices are taken again", RECOVERED, async || {
            listener.post(&job, &world.token).await
        })
        .await?;
    let metrics = listener.http().get(format!("{}metrics", listener.url));
    let metrics = metrics.send().await?.text().await?;
    ensure!(metrics.contains("reason=\"busy\""), "nobody waited in vain");
    world.queues.take(JOBS).await?;
    Ok(())
}

/// DESIGN.md's time for an answer, whatever hangs, from the end of the request's head.
const ANSWER: Duration = Duration::from_secs(6);

pub(crate) async fn waits_that_follow_one_another_end_in_time(world: &World) -> Result<()> {
    world.initmq().await?;
    let proxy = world
        .proxy("listener-broker", world.servers.rabbitmq.port)
        .await?;
    let gitlab = world.gitlab.url();
    let listener = world.listener_by(proxy.port(), &gitlab).await?;
    proxy.apply(Fault::Stall(Way::Both));
    let body = r#"{"project_id":1,"job_id":2}"#;
    let mut stream = TcpStream::connect(listener.url[7..].trim_end_matches('/')).await?;
    let head = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: a\r\nPRIVATE-TOKEN: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    let began = Instant::now();
    // Nearly as long as a body may take, and then the broker says nothing.
    let mut pace = interval(Duration::from_secs(4));
    pace.tick().await;
    pace.tick().await;
    stream.write_all(body.as_bytes()).await?;
    let mut status = vec![0; 12];
    timeout(ANSWER, stream.read_exact(&mut status)).await??;
    let took = began.elapsed();
    ensure!(
        status == b"HTTP/1.1 503",
        "{}",
        String::from_utf8_lossy(&status)
    );
    ensure!(took < ANSWER, "it took {took:?}");
    // What was on its way to the broker ends there.
    proxy.cut();
    Ok(())
}

/// More than have a turn at the same time, of middle bodies and of large ones, and what each of them sends of its own.
const STRANGERS: [(usize, usize); 2] = [(140, 4_200), (10, 66_000)];
const SECRET: &str = "canary-0123456789abcdef";

pub(crate) async fn strangers_hold_up_no_large_event(world: &World) -> Result<()> {
    world.initmq().await?;
    let variables = [("JOBLOGS_WEBHOOK_SECRET", SECRET.to_owned())];
    let listener = world.listener_with(&variables).await?;
    let address = listener.url[7..].trim_end_matches('/');
    let mut strangers = Vec::new();
    for (count, size) in STRANGERS {
        for _ in 0..count {
            let mut stream = TcpStream::connect(address).await?;
            let head = "POST /v1/webhooks/gitlab HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked";
            let piece = "x".repeat(size);
            stream
                .write_all(format!("{head}\r\n\r\n{size:x}\r\n{piece}\r\n").as_bytes())
                .await?;
            strangers.push(stream);
        }
    }
    let job = world.job().finished();
    let mut event = job_event(&job);
    event["commit"]["message"] = json!("x".repeat(100_000));
    let proof = Proof::Token(SECRET.to_owned());
    let began = Instant::now();
    let answer = delivery(&listener, "Job Hook", &event, &proof)
        .send()
        .await?;
    let (status, took) = (answer.status(), began.elapsed());
    ensure!(status == StatusCode::ACCEPTED, "{status}");
    ensure!(took < PROMPT, "it took {took:?}");
    ensure!(!strangers.is_empty(), "they are held until here");
    world.queues.take(JOBS).await?;
    Ok(())
}
