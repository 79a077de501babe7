//! RabbitMQ is short of memory or disk, and blocks whoever publishes.

use std::ops::RangeInclusive;
use std::slice::from_ref;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::eventually::every;
use e2e::gitlab::{Job, Status, Trace};
use futures_util::future::try_join_all;
use serde_json::Value;
use tokio::time::Instant;

use crate::consumer::Consumer;
use crate::listener::{Listener, fields};
use crate::queue::{JOBS, WAITING};
use crate::world::{GRACE, World};

/// Jobs that go on during the alarm: the message of each wants to sleep.
const RUNNING: usize = 3;
/// Jobs whose notices are refused, and how often their callers come, by both calls at once. Each time takes 5 s, so
/// that whoever publishes anew where no confirm comes has done so before the alarm is over.
const REFUSED: usize = 2;
const CALLS: usize = 3;
const SETTLED: Duration = Duration::from_secs(10);
/// A consumer asks for 10 s about a job that goes on before its message is to sleep.
const ASKED: Duration = Duration::from_secs(30);
/// ACCEPTANCE.md, 5.
const RECOVERED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_secs(40);

pub(crate) async fn a07_a_broker_alarm_means_503_and_no_doubles(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let (queued, running) = before_the_alarm(world, &listener).await?;
    world.servers.rabbitmq.raise_alarm().await?;
    let consumer = world.consumer().await?;

    let unknown = is_refused_first(world, &listener).await?;
    world
        .exact(&queued, INDEXED)
        .await
        .context("consumption does not go on")?;
    wants_to_put_to_sleep(world, &consumer, &running).await?;
    // Now that the listener knows of the alarm, a notice that is refused must not come later.
    let refused: Vec<Job> = (0..REFUSED).map(|_| world.job().finished()).collect();
    refuses_all(world, &listener, &refused).await?;

    world.servers.rabbitmq.lift_alarm().await?;
    takes_again(
        world,
        &listener,
        &[&refused[..], from_ref(&unknown)].concat(),
    )
    .await?;
    // What the consumer wanted to publish it publishes, and hands back the rest.
    let status = consumer.program.terminate(GRACE).await?;
    ensure!(status.success(), "the consumer on SIGTERM: {status}");
    one_message_each(world, &running).await?;
    world.consumer().await?;
    for job in &running {
        job.finish(Status::Success);
    }
    for job in running.iter().chain(&refused).chain([&unknown]) {
        world.exact(job, INDEXED).await?;
    }
    for job in running.iter().chain(&refused).chain([&queued]) {
        came(world, job, 1..=1)?;
    }
    came(world, &unknown, 1..=2)
}

/// A job that is over and some that go on, all of them noticed; nobody consumes yet.
async fn before_the_alarm(world: &World, listener: &Listener) -> Result<(Job, Vec<Job>)> {
    let queued = world.job().trace(Trace::Lines(500)).finished();
    let running: Vec<Job> = (0..RUNNING)
        .map(|_| world.job().trace(Trace::Lines(200)).start())
        .collect();
    for job in running.iter().chain([&queued]) {
        listener.post(job, &world.token).await?;
    }
    Ok((queued, running))
}

/// The first notice during the alarm. RabbitMQ tells of it only whoever publishes, so what became of this notice
/// nobody can know: it stands in the connection, and RabbitMQ reads on there after the alarm.
async fn is_refused_first(world: &World, listener: &Listener) -> Result<Job> {
    let job = world.job().finished();
    listener
        .refuses(listener.notice_of(&job, &world.token))
        .await?;
    let named = listener.faults().await?.context("it is ready")?;
    ensure!(named.contains("alarm"), "the listener names {named:?}");
    Ok(job)
}

/// Notices of all these jobs come again and again, each time in vain.
async fn refuses_all(world: &World, listener: &Listener, jobs: &[Job]) -> Result<()> {
    for _ in 0..CALLS {
        let notices = jobs.iter().flat_map(|job| {
            let post = listener.notice_of(job, &world.token);
            [post, listener.get_of(&fields(job), &world.token)]
        });
        try_join_all(notices.map(|notice| listener.refuses(notice))).await?;
    }
    Ok(())
}

/// Waits until all these messages are to sleep, and the consumer has found out that it can't publish.
async fn wants_to_put_to_sleep(world: &World, consumer: &Consumer, jobs: &[Job]) -> Result<()> {
    /// About each job, before its message is to sleep for the first time.
    const QUESTIONS: usize = 4;
    world
        .until("the consumer names the alarm", ASKED, async || {
            for job in jobs {
                let asked = world.gitlab.requests_for(job).len();
                ensure!(asked >= QUESTIONS, "job {} only {asked} times", job.id());
            }
            let named = consumer.faults().await?.context("it is ready")?;
            ensure!(named.contains("alarm"), "it names {named:?}");
            Ok(())
        })
        .await
}

/// Right after the alarm: notices of all these jobs are taken in time, and nobody has done anything for it.
async fn takes_again(world: &World, listener: &Listener, jobs: &[Job]) -> Result<()> {
    let lifted = Instant::now();
    world
        .until("the listener is ready again", RECOVERED, async || {
            let faults = listener.faults().await?;
            ensure!(faults.is_none(), "{faults:?}");
            Ok(())
        })
        .await?;
    for job in jobs {
        listener.post(job, &world.token).await?;
    }
    let took = lifted.elapsed();
    ensure!(took < RECOVERED, "notices were taken only after {took:?}");
    Ok(())
}

/// Of each of these jobs there is exactly one message, while nobody consumes.
async fn one_message_each(world: &World, jobs: &[Job]) -> Result<()> {
    /// To RabbitMQ 4.0 each look is a delivery in vain, and after 20 of them a message is dead.
    const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
    let what = "one message for each job that goes on";
    every(BETWEEN_LOOKS, what, SETTLED, async || {
        let mut found: Vec<Value> = Vec::new();
        // In the order in which messages move: one may be seen twice, but none can be missed.
        for queue in WAITING.into_iter().chain([JOBS]) {
            for message in world.queues.look(queue).await? {
                found.push(serde_json::from_str(&message.body)?);
            }
        }
        for job in jobs {
            let is_its = |body: &&Value| body["job_id"] == job.id();
            let count = found.iter().filter(is_its).count();
            ensure!(count == 1, "{count} messages for job {}", job.id());
        }
        Ok(())
    })
    .await
}

/// So many messages about the job came to a consumer: each ends in one line of log.
fn came(world: &World, job: &Job, right: RangeInclusive<usize>) -> Result<()> {
    let times = world.times_logged("job indexed", job);
    let id = job.id();
    ensure!(
        right.contains(&times),
        "{times} messages about job {id}, not {right:?}"
    );
    Ok(())
}
