//! GitLab is behind: the job still runs, or its log lags.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Status, Trace};
use jiff::Timestamp;

use crate::queue::{JOBS, WAITING};
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

pub(crate) async fn b14_a_line_that_was_cut_at_the_last_look_is_whole_after_another_notice(
    world: &World,
) -> Result<()> {
    /// The looks of a message whose job's log has no end.
    const LOOKS: i64 = 3;
    /// In the middle of a line.
    const TAIL: usize = 5_003;
    const LAG: Duration = Duration::from_secs(15);
    world.set_up().await?;
    let listener = world.listener().await?;
    let job = world
        .job()
        .trace(Trace::Lines(800))
        .tail_after(TAIL, LAG)
        .finished();
    listener.post(&job, &world.token).await?;
    let messages = world.queues.look(JOBS).await?;
    world.queues.take(JOBS).await?;
    let message = &messages.first().context("no message")?.body;
    let last_look = ("joblogs-looks", LOOKS);
    world.queues.publish_with(message, last_look).await?;
    world.consumer().await?;
    let cut = world.manifest(&job, "incomplete", LAG).await?;
    ensure!(world.count(&job).await? == cut["lines"], "{cut}");
    world
        .until("the end of the log is there", LAG * 2, async || {
            let end = job.finished_at().context("the job goes on")?;
            let since = Timestamp::now().duration_since(end);
            ensure!(since.as_secs() > LAG.as_secs().cast_signed(), "not yet");
            Ok(())
        })
        .await?;
    listener.post(&job, &world.token).await?;
    world.exact(&job, LATER).await?;
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
