//! initmq: what stands is left as it is.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Trace;
use lapin::types::AMQPValue;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::queue::{DEAD, JOBS, WAITING};
use crate::world::World;

const ENDS: Duration = Duration::from_secs(30);
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn e31_initmq_twice_changes_nothing(world: &World) -> Result<()> {
    world.initmq().await?;
    let before = topology(world).await?;
    world.queues.publish("{}").await?;
    world.initmq().await?;
    let after = topology(world).await?;
    ensure!(before == after, "{before:#} became {after:#}");
    let names: Vec<&str> = before["queues"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|queue| queue["name"].as_str())
        .collect();
    for queue in [JOBS, DEAD, "healthcheck"].into_iter().chain(WAITING) {
        ensure!(
            names.contains(&queue),
            "there is no queue {queue}: {names:?}"
        );
    }
    ensure!(
        world.queues.take(JOBS).await? == 1,
        "the message is not there any more"
    );
    Ok(())
}

pub(crate) async fn e31_initmq_refuses_queues_of_other_arguments_and_deletes_nothing(
    world: &World,
) -> Result<()> {
    // Also for the end of this test, which looks at the queues of the usual names.
    world.initmq().await?;
    // The older tool's queue is a classic one; this wait tier differs in its time alone.
    world.queues.declare("older", &[]).await?;
    let text = |text: &str| AMQPValue::LongString(text.into());
    let other_time = [
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text("gitlab_jobs")),
        ("x-dead-letter-routing-key", text("jobs")),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-message-ttl", AMQPValue::LongLongInt(5_000)),
    ];
    world.queues.declare("newer.wait.10s", &other_time).await?;
    world.queues.publish_to("older", "still here").await?;
    let before = topology(world).await?["queues"].clone();
    // Which of several arguments RabbitMQ names is its own choice; it names both values in any case.
    let conflicts = [
        (
            "older",
            "older",
            ["inequivalent arg 'x-", "received", "but current is"],
        ),
        (
            "newer",
            "newer.wait.10s",
            ["x-message-ttl", "10000", "5000"],
        ),
    ];
    for (flag, queue, words) in conflicts {
        is_refused(world, flag, queue, &words).await?;
    }
    let after = topology(world).await?["queues"].clone();
    for queue in before.as_array().context("queues")? {
        let is_there = after.as_array().is_some_and(|after| after.contains(queue));
        ensure!(is_there, "{queue} is not among {after:#}");
    }
    ensure!(
        world.queues.take("older").await? == 1,
        "the message is not there any more"
    );
    Ok(())
}

pub(crate) async fn e31_initmq_while_traffic_flows_changes_nothing(world: &World) -> Result<()> {
    const TIMES: usize = 3;
    const PACE: Duration = Duration::from_millis(200);
    world.set_up().await?;
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let before = topology(world).await?;
    let (stop, mut stopped) = watch::channel(false);
    let traffic = async {
        // At a pace that GitLab's rate lets the consumer keep up with.
        let mut pace = tokio::time::interval(PACE);
        let mut jobs = Vec::new();
        while !*stopped.borrow_and_update() {
            pace.tick().await;
            let job = world.job().trace(Trace::Lines(200)).finished();
            // Refused once would be too often.
            listener.post(&job, &world.token).await?;
            jobs.push(job);
        }
        anyhow::Ok(jobs)
    };
    let initmq = async {
        for _ in 0..TIMES {
            world.initmq().await?;
            is_refused(world, "older", "older", &["inequivalent arg 'x-"]).await?;
        }
        stop.send_replace(true);
        anyhow::Ok(())
    };
    // One that is not ours, so that there is something to refuse.
    world.queues.declare("older", &[]).await?;
    let (jobs, ()) = tokio::try_join!(traffic, initmq)?;
    ensure!(jobs.len() >= TIMES, "hardly any traffic: {}", jobs.len());
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    let after = topology(world).await?;
    for kind in ["exchanges", "queues", "bindings"] {
        for thing in before[kind].as_array().context("a list")? {
            let is_there = after[kind]
                .as_array()
                .is_some_and(|after| after.contains(thing));
            ensure!(is_there, "{thing} is not among {after:#}");
        }
    }
    let lost = consumer.program.all_logged("no messages can be taken");
    ensure!(lost.is_empty(), "the consumer lost its queue: {lost:?}");
    Ok(())
}

/// `initmq --queue FLAG` ends with an error about this queue, in these words among others.
async fn is_refused(world: &World, flag: &str, queue: &str, words: &[&str]) -> Result<()> {
    let variables = world.broker_variables(world.servers.rabbitmq.port);
    let initmq = world.start("initmq", &["--queue", flag], &variables)?;
    let status = initmq.end(ENDS).await?;
    ensure!(!status.success(), "{queue}: {status}");
    let said = initmq.output();
    for word in [queue].iter().chain(words) {
        ensure!(said.contains(word), "{queue}: {word:?} is not in {said}");
    }
    Ok(())
}

/// Exchanges, queues and bindings as the broker describes them, without what moves.
async fn topology(world: &World) -> Result<Value> {
    let mut parts = Vec::new();
    for kind in ["exchanges", "queues", "bindings"] {
        let found = world
            .servers
            .rabbitmq
            .get(&format!("{kind}/{}", world.name))
            .await?;
        let mut found: Vec<Value> = found
            .as_array()
            .context("a list")?
            .iter()
            .map(shape)
            .collect();
        found.sort_by_key(Value::to_string);
        parts.push(found);
    }
    Ok(json!({"exchanges": parts[0], "queues": parts[1], "bindings": parts[2]}))
}

fn shape(thing: &Value) -> Value {
    let names = [
        "name",
        "type",
        "durable",
        "auto_delete",
        "arguments",
        "source",
        "destination",
        "routing_key",
    ];
    names
        .iter()
        .map(|name| ((*name).to_owned(), thing[*name].clone()))
        .collect()
}
