//! Elasticsearch takes some lines and not others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use serde_json::{Value, json};

use crate::world::World;

const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn lines_that_elasticsearch_does_not_take_are_recorded(
    world: &World,
) -> Result<()> {
    /// The largest `byte`.
    const LARGEST: u64 = 127;
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let job = world.job().trace(Trace::Lines(300)).finished();
    // Somebody has made the index of that day by hand.
    let line = json!({"mappings": {"properties": {"line": {"type": "byte"}}}});
    world
        .elasticsearch()
        .put(&world.index(&job)?, &line)
        .await?;
    listener.post(&job, &world.token).await?;
    let manifest = world.manifest(&job, "complete", INDEXED).await?;
    let indexed = world
        .compare_those(&job, "lines", |number| number <= LARGEST)
        .await
        .context("lines that are taken")?;
    let rejected = world
        .compare_those(&job, "rejected", |number| number > LARGEST)
        .await
        .context("lines that are not taken")?;
    says(&manifest, indexed, rejected)?;
    have_reasons(world, &job, rejected).await?;
    world.has_left(indexed);
    world.has_left_rejected(rejected);

    // A long line among them is kept in part.
    let short = "one of many\n".repeat(usize::try_from(LARGEST)?);
    let long = "ä".repeat(3_000);
    let trace = format!("{short}{long}\n\x1b[32;1mJob succeeded\x1b[0;m\n");
    let job = world.job().trace(Trace::Bytes(trace.into())).finished();
    listener.post(&job, &world.token).await?;
    let manifest = world.manifest(&job, "complete", INDEXED).await?;
    says(&manifest, LARGEST, 2)?;
    let documents = have_reasons(world, &job, 2).await?;
    let kept = documents[0]["message"].as_str().unwrap_or_default();
    ensure!(
        kept == "ä".repeat(512),
        "{} bytes are kept: {kept}",
        kept.len()
    );
    world.has_left(LARGEST);
    world.has_left_rejected(2);
    Ok(())
}

/// The manifest says how many lines are where, and that these are all.
fn says(manifest: &Value, indexed: u64, rejected: u64) -> Result<()> {
    let counts = [
        ("indexed", indexed),
        ("rejected", rejected),
        ("lines", indexed + rejected),
    ];
    for (name, right) in counts {
        ensure!(manifest[name] == right, "{name} is not {right}: {manifest}");
    }
    ensure!(manifest["complete"] == true, "not complete: {manifest}");
    Ok(())
}

/// So many lines of the job are recorded as rejected, each with Elasticsearch's reason; it gives them in order.
async fn have_reasons(world: &World, job: &Job, count: u64) -> Result<Vec<Value>> {
    let query = json!({"bool": {"filter": [
        {"term": {"job_id": job.id().to_string()}},
        {"term": {"error.type": world.servers.engine.unreadable()}},
        {"term": {"error.status": 400}},
    ]}});
    let order = json!([{"line": "asc"}]);
    let indices = world.indices("rejected");
    world.refresh().await?;
    let mut found = world.elasticsearch().read(&indices, query, order);
    let mut documents = Vec::new();
    while let Some(document) = found.next().await? {
        let reason = document.source["error"]["message"].as_str();
        let names_the_field = reason.is_some_and(|reason| reason.contains("[line]"));
        ensure!(names_the_field, "the reason is {reason:?}");
        documents.push(document.source);
    }
    ensure!(
        documents.len() as u64 == count,
        "{} of {count} rejected lines have a reason",
        documents.len()
    );
    Ok(documents)
}
