//! GitLab is behind: the job still runs, or its log lags.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Status, Trace};

use crate::queue::WAITING;
use crate::world::World;

/// ACCEPTANCE.md, 13.
const AFTER_THE_END: Duration = Duration::from_secs(30);
const LATER: Duration = Duration::from_secs(100);

pub(crate) async fn b13_a_notice_while_the_job_runs_waits_for_its_end(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let job = world.job().trace(Trace::Lines(1_000)).start();
    listener.get(&job, &world.token).await?;
    world
        .until("the message sleeps", Duration::from_secs(15), async || {
            let sleeping = world.queues.ready(WAITING[0]).await?;
            ensure!(sleeping == 1, "{sleeping} messages sleep");
            Ok(())
        })
        .await?;
    world.refresh().await?;
    ensure!(
        world.count(&job).await? == 0,
        "lines of a job that still runs"
    );
    let manifest = world.manifest_now(&job).await?;
    ensure!(
        manifest
            .as_ref()
            .is_none_or(|manifest| manifest["complete"] != true),
        "complete while it runs: {manifest:?}"
    );
    job.finish(Status::Success);
    world.exact(&job, AFTER_THE_END).await?;
    Ok(())
}

pub(crate) async fn b14_a_tail_that_arrives_late_is_indexed(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let lag = Duration::from_secs(8);
    let job = world
        .job()
        .trace(Trace::Lines(800))
        .tail_after(5_000, lag)
        .finished();
    // Beside it, one that has no lag must not wait for it.
    let prompt = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&job, &world.token).await?;
    listener.post(&prompt, &world.token).await?;
    world.exact(&prompt, Duration::from_secs(20)).await?;
    world.exact(&job, LATER).await?;
    Ok(())
}
