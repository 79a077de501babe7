//! The same job more than once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::future::try_join_all;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::world::World;

const NOTICES: usize = 10;
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn a10_ten_notices_on_three_consumers_leave_one_copy(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    for _ in 0..3 {
        world.consumer().await?;
    }
    let job = world.job().trace(Trace::Lines(3_000)).finished();
    try_join_all((0..NOTICES).map(|_| listener.post(&job, &world.token))).await?;
    let first = world.exact(&job, INDEXED).await?;
    // All through: only then is it sure that none of them changed anything. What the lines are counted against at the
    // end is one copy and one manifest.
    world
        .until("all notices are through", INDEXED, async || {
            let times = world.times_logged("job indexed", &job);
            ensure!(times == NOTICES, "{times} of {NOTICES} are");
            Ok(())
        })
        .await?;
    world.compare(&job).await?;
    let manifest = world.manifest_now(&job).await?.context("no manifest")?;
    ensure!(first == manifest, "the manifest {first} became {manifest}");
    is_of_one_ingestion(world, &manifest, &job)
}

/// Its time is that of one of the ten, and its duration is that one's too.
fn is_of_one_ingestion(world: &World, manifest: &Value, job: &Job) -> Result<()> {
    /// From reading the clock for the manifest to logging that it is written.
    const WRITTEN: Duration = Duration::from_secs(20);
    let at: Timestamp = manifest["ingested_at"]
        .as_str()
        .context("no ingested_at")?
        .parse()?;
    let received: Timestamp = manifest["received_at"]
        .as_str()
        .context("no received_at")?
        .parse()?;
    let took = manifest["ingestion_ms"].as_u64().context("no duration")?;
    let took = Duration::from_millis(took);
    ensure!(
        received <= at && at <= received + took + WRITTEN,
        "received at {received}, ingested at {at} after {took:?}: {manifest}"
    );
    let logged = world.all_logged("job indexed", job);
    let is_its = |line: &Value| {
        let milliseconds = line["milliseconds"].as_u64().map(Duration::from_millis);
        let logged: Option<Timestamp> = line["timestamp"].as_str().and_then(|at| at.parse().ok());
        milliseconds.is_some_and(|milliseconds| milliseconds >= took)
            && logged.is_some_and(|logged| at <= logged && logged <= at + WRITTEN)
    };
    ensure!(
        logged.iter().any(is_its),
        "no ingestion fits {manifest}: {logged:?}"
    );
    Ok(())
}

pub(crate) async fn a11_the_same_job_again_after_midnight_adds_nothing(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let midnight = Timestamp::now().to_zoned(TimeZone::UTC).start_of_day()?;
    let end = midnight.timestamp() - 1.second();
    let job = world.job().trace(Trace::Lines(1_500)).finished_at(end);
    listener.post(&job, &world.token).await?;
    let manifest = world.exact(&job, INDEXED).await?;
    listener.get(&job, &world.token).await?;
    world
        .until("the second notice is through", INDEXED, async || {
            let times = world.times_logged("job indexed", &job);
            ensure!(times == 2, "{times} notices are");
            Ok(())
        })
        .await?;
    world.compare(&job).await?;
    let again = world.manifest_now(&job).await?;
    ensure!(
        again.as_ref() == Some(&manifest),
        "the manifest {manifest} became {again:?}"
    );
    let path = format!("_cat/indices/*-{}*?format=json&h=index&s=index", world.name);
    let indices = world.elasticsearch().ask(&path, None).await?;
    let yesterday = format!("{}-{}", midnight.yesterday()?.date(), world.name);
    let right = json!([{"index": yesterday}, {"index": format!("{yesterday}-jobs")}]);
    ensure!(indices == right, "the indices are {indices}, not {right}");
    Ok(())
}
