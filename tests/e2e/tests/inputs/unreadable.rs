//! Messages that nobody can do anything with.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::queue::{DEAD, JOBS};
use crate::world::World;

const INDEXED: Duration = Duration::from_secs(30);
/// From the message to its dead letter.
const AT_ONCE: Duration = Duration::from_secs(1);

pub(crate) async fn c20_a_message_that_nobody_can_read_is_a_dead_letter_at_once(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    // What a listener writes, before anybody takes it away.
    let job = world.job().trace(Trace::Lines(50)).finished();
    listener.post(&job, &world.token).await?;
    let whole = world.queues.look(JOBS).await?.pop();
    let whole: Value = serde_json::from_str(&whole.context("there is no message")?.body)?;
    world.consumer().await?;
    world.exact(&job, INDEXED).await?;

    let lost = world.job().finished();
    let spoiled = [
        ("{\"version\": \"1.0\", ".to_owned(), "malformed"),
        (json!([]).to_string(), "malformed"),
        (
            with(&whole, "/version", json!("9.0")),
            "unknown major version",
        ),
        (with(&whole, "/instance", json!("elsewhere")), "instance"),
        (lost_key(&whole, &lost), "a key that is not at hand"),
    ];
    world.expect_dead_letters(u32::try_from(spoiled.len())?);
    let mut jobs = Vec::new();
    for (number, (message, reason)) in spoiled.iter().enumerate() {
        let neighbour = world.job().trace(Trace::Lines(50)).finished();
        listener.post(&neighbour, &world.token).await?;
        jobs.push(neighbour);
        let published = Instant::now();
        world.queues.publish(message).await?;
        let letter = world
            .until(format!("a dead letter: {reason}"), INDEXED, async || {
                let mut letters = world.queues.look(DEAD).await?;
                ensure!(letters.len() > number, "{} letters", letters.len());
                letters.retain(|letter| letter.header("joblogs-reason").contains(reason));
                letters.pop().context("none for this reason")
            })
            .await?;
        let took = published.elapsed();
        ensure!(took <= AT_ONCE, "{reason}: only after {took:?}");
        let step = letter.header("joblogs-step");
        ensure!(!step.is_empty(), "which step? {}", letter.raw());
    }
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    // It could be read, so its job's manifest says why there is no log.
    let manifest = world.without_lines(&lost, "forbidden", INDEXED).await?;
    let says = manifest["reason"].as_str().unwrap_or_default();
    ensure!(says.contains("a key that is not at hand"), "{manifest}");
    ensure!(
        world.gitlab.requests_for(&lost).is_empty(),
        "GitLab was asked with another token"
    );
    Ok(())
}

/// The message, one thing in it another.
fn with(message: &Value, place: &str, value: Value) -> String {
    let mut message = message.clone();
    if let Some(field) = message.pointer_mut(place) {
        *field = value;
    }
    message.to_string()
}

/// A message about this job whose token was sealed by a key that the consumer has not got.
fn lost_key(message: &Value, job: &Job) -> String {
    let mut message = message.clone();
    message["job_id"] = json!(job.id());
    message["token"]["key_id"] = json!("00000000");
    message.to_string()
}
