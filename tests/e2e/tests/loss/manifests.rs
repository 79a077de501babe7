//! Two consumers work on the same job, and one of them saw less of it than the other.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};

use crate::middleman::Middleman;
use crate::world::World;

/// What the first of them does not see, and for how long: it has read the log by then, and the other has not begun.
const TAIL: usize = 20_000;
const LAG: Duration = Duration::from_secs(8);
const READ: Duration = Duration::from_secs(30);
/// The first one's message comes back after a while, for the rest of the log.
const INDEXED: Duration = Duration::from_secs(90);

pub(crate) async fn a10_who_saw_less_of_a_log_never_has_the_last_word(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let middleman = Middleman::watching(world.servers.elasticsearch_port).await?;
    let port = [("JOBLOGS_ES_PORT", middleman.port().to_string())];
    world.consumer_with(&world.gitlab.url(), &port).await?;
    let job = world
        .job()
        .trace(Trace::Lines(2_000))
        .tail_after(TAIL, LAG)
        .finished();
    // The first looked whether there is a manifest, found none, and is about to write its own.
    middleman.hold_manifests();
    listener.post(&job, &world.token).await?;
    world
        .until("a manifest is about to be written", READ, async || {
            ensure!(middleman.held() > 0, "none is");
            Ok(())
        })
        .await?;
    let all = job.trace_size() as u64;
    let whole = meanwhile_the_whole_is_there(world, &job, async || {
        listener.post(&job, &world.token).await
    })
    .await?;
    ensure!(whole["bytes"] == all, "not the whole log: {whole}");

    middleman.release_manifests();
    world
        .until("what was held is answered", READ, async || {
            let answers = middleman.manifests();
            ensure!(!answers.is_empty(), "nothing is");
            ensure!(
                answers.iter().all(|status| *status == 409),
                "Elasticsearch took a manifest that was made before the one that is there: {answers:?}"
            );
            Ok(())
        })
        .await?;
    world.refresh().await?;
    let after = world.manifest_now(&job).await?;
    ensure!(
        after.as_ref() == Some(&whole),
        "the manifest {whole} became {after:?}"
    );
    world.exact(&job, INDEXED).await?;
    Ok(())
}

/// Another consumer, which sees the whole log, gets a notice of the job and writes its manifest.
async fn meanwhile_the_whole_is_there(
    world: &World,
    job: &Job,
    notice: impl AsyncFn() -> Result<()>,
) -> Result<serde_json::Value> {
    world
        .until("the end of the log is there", LAG * 2, async || {
            let end = job.finished_at().context("the job goes on")?;
            let since = jiff::Timestamp::now().duration_since(end);
            ensure!(since.as_secs() > LAG.as_secs().cast_signed(), "not yet");
            Ok(())
        })
        .await?;
    world.consumer().await?;
    // RabbitMQ gives them out in turn: at least one comes to the other consumer.
    for _ in 0..2 {
        notice().await?;
    }
    world.manifest(job, "complete", READ).await
}
