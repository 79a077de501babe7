//! Traces and lines of any size, and the small jobs beside them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Fault, Job, On, Trace};

use crate::length::is_full;
use crate::listener::Listener;
use crate::memory::Memory;
use crate::world::World;

const BEGUN: Duration = Duration::from_mins(1);
/// For small jobs beside huge ones: three seconds are GitLab's replicas'.
const PROMPT: Duration = Duration::from_secs(15);
const NEIGHBOURS: usize = 8;

pub(crate) async fn c19_a_huge_trace_is_exact_and_holds_up_nobody(world: &World) -> Result<()> {
    /// Seconds. It must not be over before its neighbours are, however fast the machine.
    const SLOWLY: usize = 30;
    // 24 MB, or 100.
    let (lines, indexed) = if is_full() {
        (920_000, Duration::from_mins(15))
    } else {
        (220_000, Duration::from_mins(2))
    };
    world.set_up().await?;
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let memory = Memory::watch(&consumer.program);
    let huge = world.job().trace(Trace::Lines(lines)).finished();
    let drip = Fault::Drip(huge.trace_size() / SLOWLY);
    huge.fault(On::Trace, drip, 1);
    listener.post(&huge, &world.token).await?;
    has_begun(world, &[&huge]).await?;
    neighbours_are_prompt(world, &listener).await?;
    are_not_over(world, &[&huge]).await?;
    world.exact(&huge, indexed).await?;
    memory.end()?.is_within_limit()
}

pub(crate) async fn c19_a_line_of_fifty_megabytes_is_marked_where_it_is_cut(
    world: &World,
) -> Result<()> {
    const BYTES: usize = 50_000_000;
    world.set_up().await?;
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let memory = Memory::watch(&consumer.program);
    let long = world.job().trace(Trace::LongLine(BYTES)).finished();
    listener.post(&long, &world.token).await?;
    neighbours_are_prompt(world, &listener).await?;
    // That it is marked, and kept as far as it is said to be, is a part of being exact.
    let manifest = world.exact(&long, BEGUN).await?;
    let bytes = manifest["bytes"].as_u64().unwrap_or_default();
    ensure!(
        bytes > BYTES as u64,
        "it was not read to its end: {manifest}"
    );
    memory.end()?.is_within_limit()
}

pub(crate) async fn c19_more_huge_traces_than_places_hold_up_nobody(world: &World) -> Result<()> {
    /// Two for any trace, and one more for a huge one.
    const PLACES: &str = "2";
    const HUGE: usize = 3;
    /// 17 MiB.
    const TRACE: Trace = Trace::Noise {
        lines: 17_200,
        width: 1_000,
    };
    /// Each of them would have its place for so many seconds.
    const SLOWLY: usize = 20;
    const INDEXED: Duration = Duration::from_mins(2);
    world.set_up().await?;
    let listener = world.listener().await?;
    let places = [("JOBLOGS_CONCURRENCY", PLACES.to_owned())];
    let consumer = world.consumer_with(&world.gitlab.url(), &places).await?;
    let memory = Memory::watch(&consumer.program);
    let huge: Vec<Job> = (0..HUGE)
        .map(|_| world.job().trace(TRACE).finished())
        .collect();
    for job in &huge {
        let drip = Fault::Drip(job.trace_size() / SLOWLY);
        job.fault(On::Trace, drip, 1);
        listener.post(job, &world.token).await?;
    }
    let huge: Vec<&Job> = huge.iter().collect();
    has_begun(world, &huge).await?;
    neighbours_are_prompt(world, &listener).await?;
    are_not_over(world, &huge).await?;
    for job in huge {
        world.exact(job, INDEXED).await?;
    }
    memory.end()?.is_within_limit()
}

/// Waits until the first lines of one of these can be searched.
async fn has_begun(world: &World, huge: &[&Job]) -> Result<()> {
    world
        .until_searchable("lines of a huge job are there", BEGUN, async || {
            for job in huge {
                if world.count(job).await? > 0 {
                    return Ok(());
                }
            }
            anyhow::bail!("there are none")
        })
        .await
}

/// Small jobs that end now: each is exact soon, whatever else is being read.
async fn neighbours_are_prompt(world: &World, listener: &Listener) -> Result<()> {
    let jobs: Vec<Job> = (0..NEIGHBOURS)
        .map(|_| world.job().trace(Trace::Lines(100)).finished())
        .collect();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    for job in &jobs {
        world.exact(job, PROMPT).await.context("a neighbour")?;
    }
    Ok(())
}

/// Without this, that neighbours were prompt would say nothing.
async fn are_not_over(world: &World, huge: &[&Job]) -> Result<()> {
    for job in huge {
        let manifest = world.manifest_now(job).await?;
        ensure!(
            manifest.is_none(),
            "over too early to prove anything: {manifest:?}"
        );
    }
    Ok(())
}
