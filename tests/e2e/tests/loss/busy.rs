//! Elasticsearch takes some documents now, some later, and some never.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::future::try_join_all;
use rand::Rng as _;
use serde_json::{Value, json};

use crate::middleman::{Middleman, Treatment};
use crate::world::World;

const JOBS: usize = 8;
const LINES: u64 = 3_000;
/// Of 100 documents, each time that one comes.
const REFUSED: u32 = 30;
/// Every so manieth line, whenever it comes.
const EVERY: u64 = 20;
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn a09_refused_lines_come_again_alone_and_spoiled_ones_are_recorded(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let spoiled = world.rng("spoiled").random_range(0..EVERY);
    let middleman = before_elasticsearch(world, spoiled).await?;
    let port = [("JOBLOGS_ES_PORT", middleman.port().to_string())];
    world.consumer_with(&world.gitlab.url(), &port).await?;
    let jobs: Vec<Job> = (0..JOBS)
        .map(|_| world.job().trace(Trace::Lines(LINES)).finished())
        .collect();
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    for job in &jobs {
        is_exact_but_for_the_spoiled(world, job, spoiled).await?;
    }
    let items = middleman.items();
    let refused = count(&items, 429);
    let tenth = JOBS * usize::try_from(LINES)? / 10;
    ensure!(
        refused > tenth,
        "hardly any document was refused: {items:?}"
    );
    let in_vain = middleman.sent_in_vain();
    ensure!(
        in_vain.is_empty(),
        "{} documents came again although they were settled, such as {:?}",
        in_vain.len(),
        in_vain.first()
    );
    Ok(())
}

/// A middleman that refuses documents at random and spoils always the same ones, the rejected index left out of the latter.
async fn before_elasticsearch(world: &World, spoiled: u64) -> Result<Middleman> {
    let rng = Mutex::new(world.rng("refused"));
    let treat = move |index: &str, id: &str| {
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        if rng.random_ratio(REFUSED, 100) {
            return Treatment::Refuse;
        }
        let number = id.rsplit('-').next().and_then(|number| number.parse().ok());
        let is_line = !index.ends_with("-rejected");
        match number {
            Some(number) if is_line && is_spoiled(number, spoiled) => Treatment::Spoil,
            _ => Treatment::Forward,
        }
    };
    Middleman::treating(world.servers.elasticsearch_port, treat).await
}

fn is_spoiled(number: u64, spoiled: u64) -> bool {
    number % EVERY == spoiled
}

/// All lines are where they belong, and the manifest counts them.
async fn is_exact_but_for_the_spoiled(world: &World, job: &Job, spoiled: u64) -> Result<()> {
    let manifest = world.manifest(job, "complete", INDEXED).await?;
    let indexed = world
        .compare_those(job, "lines", |number| !is_spoiled(number, spoiled))
        .await
        .context("lines that are taken")?;
    let rejected = world
        .compare_those(job, "rejected", |number| is_spoiled(number, spoiled))
        .await
        .context("lines that are not taken")?;
    let right: HashMap<&str, Value> = HashMap::from([
        ("indexed", json!(indexed)),
        ("rejected", json!(rejected)),
        ("lines", json!(indexed + rejected)),
        ("complete", json!(true)),
    ]);
    for (name, right) in right {
        ensure!(manifest[name] == right, "{name} is not {right}: {manifest}");
    }
    let reason = json!({"bool": {"filter": [
        {"term": {"job_id": job.id().to_string()}},
        {"term": {"error.type": world.servers.engine.unreadable()}},
        {"term": {"error.status": 400}},
        {"exists": {"field": "message"}},
    ]}});
    let with_reason = world
        .elasticsearch()
        .count(&world.indices("rejected"), &reason)
        .await?;
    ensure!(
        with_reason == rejected,
        "{with_reason} of {rejected} rejected lines have the reason"
    );
    world.has_left(indexed);
    world.has_left_rejected(rejected);
    Ok(())
}

fn count(items: &crate::middleman::Answers, status: u16) -> usize {
    let of_status = items.iter().filter(|((is, _), _)| *is == status);
    of_status.map(|(_, times)| times).sum()
}
