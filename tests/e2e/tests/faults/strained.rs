//! An Elasticsearch that takes little at a time, and one that takes nothing new until an operator has done something.
//! Its answers are real ones; the middleman only counts them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::future::try_join_all;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::listener::Listener;
use crate::middleman::{Answers, Middleman};
use crate::queue::DEAD;
use crate::world::World;

const JOBS: usize = 12;
const LINES: u64 = 6_000;
const REFUSED: Duration = Duration::from_secs(40);
/// RabbitMQ's own counts are some seconds old.
const COUNTED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn a_cluster_that_takes_little_at_a_time_gets_all(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let middleman = consumer_behind_middleman(world).await?;
    let jobs: Vec<Job> = (0..JOBS)
        .map(|_| world.job().trace(Trace::Lines(LINES)).finished())
        .collect();
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    let (requests, items) = (middleman.requests(), middleman.items());
    let seen = |answers: &Answers, status: u16, error: &str| {
        let count = answers.get(&(status, error.to_owned()));
        count.copied().unwrap_or_default()
    };
    let rejected = world.servers.engine.overloaded();
    ensure!(
        seen(&requests, 413, "") > 0,
        "no body was too large: {requests:?}"
    );
    ensure!(
        seen(&requests, 429, rejected) > 0,
        "no body was refused: {requests:?}"
    );
    ensure!(
        seen(&items, 429, rejected) > 0,
        "no item was refused: {items:?}"
    );
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

pub(crate) async fn a_cluster_that_needs_its_operator_is_waited_for(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let middleman = consumer_behind_middleman(world).await?;
    let of = |ago: i64| {
        let day = Timestamp::now() - (24 * ago).hours();
        world.job().trace(Trace::Lines(500)).finished_at(day)
    };
    let job = of(0);
    listener.post(&job, &world.token).await?;
    world.exact(&job, INDEXED).await?;

    // Each day has indices of its own.
    let stats = world.elasticsearch().ask("_cluster/stats", None).await?;
    let shards = stats["indices"]["shards"]["total"].clone();
    for (ago, setting, value, status, error) in [
        (
            1,
            "cluster.max_shards_per_node",
            shards,
            400,
            "validation_exception",
        ),
        (
            2,
            "action.auto_create_index",
            json!("false"),
            404,
            "index_not_found_exception",
        ),
        (
            3,
            "cluster.blocks.read_only_allow_delete",
            json!(true),
            403,
            "cluster_block_exception",
        ),
    ] {
        set(world, setting, &value).await?;
        let job = of(ago);
        waits_for(world, &listener, &middleman, &job, (status, error))
            .await
            .with_context(|| format!("{setting} is {value}"))?;
        set(world, setting, &Value::Null).await?;
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}

async fn consumer_behind_middleman(world: &World) -> Result<Middleman> {
    let middleman = Middleman::watching(world.servers.elasticsearch_port).await?;
    let port = [("JOBLOGS_ES_PORT", middleman.port().to_string())];
    world.consumer_with(&world.gitlab.url(), &port).await?;
    Ok(middleman)
}

async fn set(world: &World, setting: &str, value: &Value) -> Result<()> {
    let body = json!({"persistent": {setting: value}});
    world.elasticsearch().put("_cluster/settings", &body).await
}

/// Elasticsearch refuses the job's lines with this answer, and nothing is given up over it.
async fn waits_for(
    world: &World,
    listener: &Listener,
    middleman: &Middleman,
    job: &Job,
    (status, error): (u16, &str),
) -> Result<()> {
    let refusals = || {
        let of = |answers: &Answers| answers.get(&(status, error.to_owned())).copied();
        of(&middleman.items()).unwrap_or(0) + of(&middleman.requests()).unwrap_or(0)
    };
    let before = refusals();
    listener.post(job, &world.token).await?;
    world
        .until(format!("{status} {error}"), REFUSED, async || {
            let answers = (middleman.items(), middleman.requests());
            ensure!(refusals() > before, "items and requests: {answers:?}");
            Ok(())
        })
        .await?;
    one_message_waits(world).await
}

/// The broker has it, and nothing is given up.
async fn one_message_waits(world: &World) -> Result<()> {
    world
        .until("the broker has the message", COUNTED, async || {
            let messages = world.messages().await?;
            ensure!(messages == 1, "{messages} messages");
            Ok(())
        })
        .await?;
    let rejected = world.documents("rejected").await?;
    ensure!(rejected == 0, "{rejected} lines were rejected");
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}
