//! The oracle itself: a judge who never condemns proves nothing.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use e2e::gitlab::{Job, Trace};
use serde_json::{Value, json};

use crate::world::World;

const INDEXED: Duration = Duration::from_secs(40);

pub(crate) async fn the_oracle_sees_lines_that_are_changed_missing_or_too_many(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let job = world.job().trace(Trace::Lines(2_500)).finished();
    listener.post(&job, &world.token).await?;
    world.exact(&job, INDEXED).await?;

    let (index, key) = (world.index(&job)?, world.key(&job));
    let id = format!("{key}-00000007");
    let elasticsearch = world.elasticsearch();
    let line = elasticsearch
        .ask(&format!("{index}/_doc/{id}"), None)
        .await?["_source"]
        .take();
    let put = async |id: &str, line: &Value| {
        elasticsearch
            .ask(&format!("{index}/_doc/{id}"), Some(line))
            .await
    };
    for (field, value) in [
        ("message", json!("something else")),
        ("line", json!(70_000)),
        ("stream", json!("stderr")),
        ("section", Value::Null),
        ("line_url", json!("https://example.com/")),
        ("@timestamp", json!("2026-11-24T00:00:00.000001Z")),
        ("ref", json!("another")),
        ("offset", json!(0)),
    ] {
        let mut changed = line.clone();
        changed[field] = value;
        put(&id, &changed).await?;
        condemned(world, &job, &format!("line 7: {field}")).await?;
        put(&id, &line).await?;
    }
    let mut more = line.clone();
    more["line"] = json!(999_999);
    put("one-more", &more).await?;
    condemned(world, &job, "was not issued").await?;
    elasticsearch
        .delete(&format!("{index}/_doc/one-more"))
        .await?;
    put("a-copy", &line).await?;
    condemned(world, &job, "line 8").await?;
    elasticsearch
        .delete(&format!("{index}/_doc/a-copy"))
        .await?;
    elasticsearch.delete(&format!("{index}/_doc/{id}")).await?;
    condemned(world, &job, "line 7").await?;
    put(&id, &line).await?;
    let lines = world.compare(&job).await?;
    ensure!(lines == 2_513, "{lines} lines");
    Ok(())
}

async fn condemned(world: &World, job: &Job, words: &str) -> Result<()> {
    match world.compare(job).await {
        Ok(_) => bail!("the oracle did not see it: {words}"),
        Err(error) => {
            let said = format!("{error:#}");
            // A line that moved away is missed at its place.
            let said_so =
                said.contains(words) || words == "line 7: line" && said.contains("line 7: _id");
            ensure!(said_so, "{words:?} is not in {said}");
        }
    }
    Ok(())
}
