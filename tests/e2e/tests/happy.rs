//! Nothing goes wrong: every line of every job is there, once, and as a person saw it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Status, Trace};
use e2e::samples;

use crate::world::World;

const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn every_sample_is_exact(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let mut jobs = Vec::new();
    for sample in samples::all() {
        let job = world.gitlab.sample_job(&world.project, &sample).finished();
        listener.post(&job, &world.token).await?;
        jobs.push((sample, job));
    }
    for (sample, job) in jobs {
        // The runner says itself where it cut a log.
        let is_cut = sample.name.starts_with("log-limit");
        let state = if is_cut { "truncated" } else { "complete" };
        let manifest = world.exact_as(&job, state, INDEXED).await;
        let manifest = manifest.with_context(|| format!("the sample {}", sample.name))?;
        let right = &sample.facts["sha256"];
        ensure!(
            manifest["sha256"] == *right,
            "{}: {manifest}, not {right}",
            sample.name
        );
    }
    Ok(())
}

pub(crate) async fn several_jobs_at_once_are_exact(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let traces = [
        (Trace::Lines(0), Status::Success),
        (Trace::Lines(1), Status::Failed),
        (Trace::Lines(2_000), Status::Success),
        (Trace::PlainLines(2_000), Status::Failed),
        (Trace::Lines(500), Status::Canceled),
        // More than the job's page shows: the links to its lines are of three kinds.
        (Trace::Lines(9_000), Status::Success),
        (Trace::PlainLines(12_000), Status::Success),
    ];
    let mut jobs = Vec::new();
    for (number, (trace, outcome)) in traces.into_iter().enumerate() {
        let name = format!("build: [{number}, Łódź & more]");
        let job = world
            .job()
            .name(&name)
            .trace(trace)
            .outcome(outcome)
            .finished();
        if number.is_multiple_of(2) {
            listener.get(&job, &world.token).await?;
        } else {
            listener.post(&job, &world.token).await?;
        }
        jobs.push(job);
    }
    for job in jobs {
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}
