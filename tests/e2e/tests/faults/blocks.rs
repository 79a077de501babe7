//! Elasticsearch's own blocks on an index, as an operator or a full disk puts them.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Job, Trace};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::middleman::{Answers, Middleman};
use crate::queue::DEAD;
use crate::world::World;

const REFUSED: Duration = Duration::from_secs(40);
/// RabbitMQ's own counts are some seconds old.
const COUNTED: Duration = Duration::from_secs(15);
/// From the end of a block.
const INDEXED: Duration = Duration::from_secs(30);

/// Each block, and what Elasticsearch answers about it. The second is what a full disk means.
const BLOCKS: [(&str, u16); 3] = [
    ("index.blocks.write", 403),
    ("index.blocks.read_only_allow_delete", 429),
    ("index.blocks.read_only", 403),
];

pub(crate) async fn an_index_that_is_blocked_for_a_while_loses_nothing(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let middleman = Middleman::watching(world.servers.elasticsearch_port).await?;
    let port = [("JOBLOGS_ES_PORT", middleman.port().to_string())];
    world.consumer_with(&world.gitlab.url(), &port).await?;
    // So that today's indices are there.
    let job = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&job, &world.token).await?;
    world.exact(&job, INDEXED).await?;

    let lines = world.index(&job)?;
    let manifests = format!("{lines}-jobs");
    for (block, status) in BLOCKS {
        for index in [&lines, &manifests] {
            set(world, index, block, &json!(true)).await?;
            let before = refusals(&middleman, index == &lines, status);
            let job = world.job().trace(Trace::Lines(2_000)).finished();
            listener.post(&job, &world.token).await?;
            let what = format!("{index} is refused with {status} by {block}");
            world
                .until(what, REFUSED, async || {
                    let now = refusals(&middleman, index == &lines, status);
                    ensure!(
                        now > before,
                        "{:?} {:?}",
                        middleman.items(),
                        middleman.manifests()
                    );
                    Ok(())
                })
                .await?;
            is_kept(world, &job).await?;
            set(world, index, block, &Value::Null).await?;
            world.exact(&job, INDEXED).await?;
        }
    }
    // One that an operator has closed does not even say whether it has a document.
    for index in [&lines, &manifests] {
        let act = async |act: &str| world.elasticsearch().act(&format!("{index}/{act}")).await;
        act("_close").await?;
        let job = world.job().trace(Trace::Lines(2_000)).finished();
        listener.post(&job, &world.token).await?;
        world
            .until("the closed index is named", REFUSED, async || {
                let named = world.all_logged("refused, and tried again", &job);
                ensure!(!named.is_empty(), "it is not");
                Ok(())
            })
            .await?;
        is_kept(world, &job).await?;
        act("_open").await?;
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}

pub(crate) async fn an_index_that_is_blocked_holds_up_no_other(world: &World) -> Result<()> {
    /// More than are read at a time.
    const JOBS: usize = 30;
    const PROMPT: Duration = Duration::from_mins(1);
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let yesterday = Timestamp::now() - 24.hours();
    let of_yesterday = || {
        world
            .job()
            .trace(Trace::Lines(2_000))
            .finished_at(yesterday)
    };
    let first = of_yesterday();
    listener.post(&first, &world.token).await?;
    world.exact(&first, INDEXED).await?;
    let index = world.index(&first)?;
    set(world, &index, "index.blocks.write", &json!(true)).await?;
    let blocked: Vec<Job> = (0..JOBS).map(|_| of_yesterday()).collect();
    for job in &blocked {
        listener.post(job, &world.token).await?;
    }
    world
        .until("the blocked index is named", REFUSED, async || {
            let named = |job| !world.all_logged("refused, and tried again", job).is_empty();
            ensure!(blocked.iter().any(named), "it is not");
            Ok(())
        })
        .await?;
    let job = world.job().trace(Trace::Lines(2_000)).finished();
    listener.post(&job, &world.token).await?;
    world.exact(&job, PROMPT).await?;
    set(world, &index, "index.blocks.write", &Value::Null).await?;
    for job in &blocked {
        world.exact(job, PROMPT).await?;
    }
    Ok(())
}

async fn set(world: &World, index: &str, block: &str, value: &Value) -> Result<()> {
    let path = format!("{index}/_settings");
    world
        .elasticsearch()
        .put(&path, &json!({block: value}))
        .await
}

/// How many lines, or writes of manifests, were refused with this status.
fn refusals(middleman: &Middleman, of_lines: bool, status: u16) -> usize {
    if of_lines {
        let answers: Answers = middleman.items();
        let blocked = (status, "cluster_block_exception".to_owned());
        return answers.get(&blocked).copied().unwrap_or_default();
    }
    let manifests = middleman.manifests();
    manifests.iter().filter(|is| **is == status).count()
}

/// The message is in the broker, the job has no manifest, and nobody has given anything up.
async fn is_kept(world: &World, job: &Job) -> Result<()> {
    world
        .until("the broker has the message", COUNTED, async || {
            let messages = world.messages().await?;
            ensure!(messages == 1, "{messages} messages");
            Ok(())
        })
        .await?;
    world.refresh().await?;
    let manifest = world.manifest_now(job).await?;
    ensure!(manifest.is_none(), "there is a manifest: {manifest:?}");
    let rejected = world.documents("rejected").await?;
    ensure!(rejected == 0, "{rejected} lines were rejected");
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}
