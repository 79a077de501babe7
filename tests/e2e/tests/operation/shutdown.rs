//! The consumer is asked to end in the middle of its work, once or twice.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Fault, Job, On, Trace};
use tokio::time::Instant;

use crate::consumer::Consumer;
use crate::listener::Listener;
use crate::world::{GRACE, World};

/// More than a consumer has in hand at once.
const JOBS: usize = 30;
const LINES: u64 = 3_000;
const BEGUN: Duration = Duration::from_secs(40);
/// Until it says that it is shutting down.
const HEARD: Duration = Duration::from_secs(5);
/// «At once», on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(3);
const INDEXED: Duration = Duration::from_mins(2);

pub(crate) async fn e30_sigterm_under_load_loses_nothing(world: &World) -> Result<()> {
    let (listener, consumer) = start(world).await?;
    let jobs = under_load(world, &listener).await?;
    let status = consumer.program.terminate(GRACE).await?;
    ensure!(status.success(), "on SIGTERM under load: {status}");
    some_are_missing(world, &jobs).await?;
    goes_on(world, &jobs).await
}

pub(crate) async fn e30_a_second_signal_ends_at_once_without_loss(world: &World) -> Result<()> {
    let (listener, consumer) = start(world).await?;
    let jobs = under_load(world, &listener).await?;
    consumer.program.signal("TERM")?;
    world
        .until("the consumer is shutting down", HEARD, async || {
            let said = consumer.program.output().contains("shutting down");
            ensure!(said, "it does not say so");
            Ok(())
        })
        .await?;
    ensure!(
        consumer.program.is_running(),
        "it ended before the second signal"
    );
    let second = Instant::now();
    consumer.program.signal("INT")?;
    let status = consumer.program.end(GRACE).await?;
    let took = second.elapsed();
    ensure!(took < AT_ONCE, "it went on for {took:?}");
    ensure!(
        status.code() == Some(1),
        "after the second signal: {status}, and not exit code 1"
    );
    some_are_missing(world, &jobs).await?;
    goes_on(world, &jobs).await
}

async fn start(world: &World) -> Result<(Listener, Consumer)> {
    world.set_up().await?;
    Ok((world.listener().await?, world.consumer().await?))
}

/// Jobs, all of them noticed, of which the consumer has indexed something.
async fn under_load(world: &World, listener: &Listener) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let job = world.job().trace(Trace::Lines(LINES)).finished();
        listener.post(&job, &world.token).await?;
        jobs.push(job);
    }
    // One that cannot be finished within the grace: it has to be handed back.
    let slow = world.job().trace(Trace::Lines(100)).finished();
    slow.fault(On::Trace, Fault::Delay(GRACE * 2), 1);
    listener.post(&slow, &world.token).await?;
    jobs.push(slow);
    world
        .until_searchable("some lines are there", BEGUN, async || {
            let mut found = 0;
            for job in &jobs {
                found += world.count(job).await?;
            }
            ensure!(found > 0, "there are none");
            Ok(())
        })
        .await?;
    Ok(jobs)
}

async fn some_are_missing(world: &World, jobs: &[Job]) -> Result<()> {
    let mut complete = 0;
    world.refresh().await?;
    for job in jobs {
        complete += usize::from(world.manifest_now(job).await?.is_some());
    }
    ensure!(
        complete < jobs.len(),
        "ended too late to prove anything: all jobs were done"
    );
    Ok(())
}

/// Another consumer does what is left.
async fn goes_on(world: &World, jobs: &[Job]) -> Result<()> {
    world.consumer().await?;
    for job in jobs {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}
