//! A step that panics.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Job, Trace};
use serde_json::Value;

use crate::queue::{DEAD, Message};
use crate::world::{GRACE, World};

/// Every step that has a job at hand.
const STEPS: [&str; 4] = [
    "fetch the job",
    "fetch the trace",
    "index the lines",
    "write the manifest",
];
/// For each of the steps.
const NEIGHBOURS: usize = 5;
const INDEXED: Duration = Duration::from_secs(30);

pub(crate) async fn c20_a_panic_is_one_messages_end_alone(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.expect_dead_letters(u32::try_from(STEPS.len())?);
    for (number, step) in STEPS.into_iter().enumerate() {
        let mut jobs: Vec<Job> = (0..NEIGHBOURS)
            .map(|_| world.job().trace(Trace::Lines(200)).finished())
            .collect();
        let spoiled = world.job().trace(Trace::Lines(200)).finished();
        let panic = [("JOBLOGS_PANIC_AT", format!("{step}:{}", spoiled.id()))];
        let consumer = world.consumer_with(&world.gitlab.url(), &panic).await?;
        jobs.insert(NEIGHBOURS / 2, spoiled.clone());
        for job in &jobs {
            listener.post(job, &world.token).await?;
        }
        world
            .until(format!("a dead letter of {step:?}"), INDEXED, async || {
                let dead = world.queues.ready(DEAD).await? as usize;
                ensure!(dead == number + 1, "{dead} dead letters");
                Ok(())
            })
            .await?;
        names_the_step(world, &spoiled, step).await?;
        jobs.retain(|job| job.id() != spoiled.id());
        for job in &jobs {
            world.exact(job, INDEXED).await?;
        }
        // The process lived through it.
        consumer.program.still_runs()?;
        let status = consumer.program.terminate(GRACE).await?;
        ensure!(status.success(), "after a panic: {status}");
    }
    Ok(())
}

/// The dead letter of the job names the step, and so does its manifest.
async fn names_the_step(world: &World, job: &Job, step: &str) -> Result<()> {
    let mut letters = world.queues.look(DEAD).await?;
    letters.retain(|letter| job_of(letter) == Some(job.id()));
    ensure!(letters.len() == 1, "{} letters of the job", letters.len());
    let named = letters[0].header("joblogs-step");
    ensure!(named == step, "it names {named:?}, not {step:?}");
    let reason = letters[0].header("joblogs-reason");
    ensure!(reason.contains("panicked"), "the reason is {reason:?}");
    let manifest = world.manifest(job, "incomplete", INDEXED).await?;
    ensure!(
        manifest["complete"] == false && manifest["reason"] == reason,
        "the manifest does not say why: {manifest}"
    );
    // Lines may be there or not, by the step; those that are there are right.
    world.refresh().await?;
    let lines = world.count(job).await?;
    if lines > 0 {
        ensure!(
            step == "write the manifest",
            "{lines} lines before {step:?}"
        );
        world.compare(job).await?;
    }
    world.has_left(lines);
    Ok(())
}

fn job_of(letter: &Message) -> Option<u64> {
    let message: Value = serde_json::from_str(&letter.body).ok()?;
    message["job_id"].as_u64()
}
