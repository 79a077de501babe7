//! The operator's user of Elasticsearch lacks a privilege or has another password, until somebody mends it.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::elasticsearch::Elasticsearch;
use e2e::gitlab::{Job, Trace};
use serde_json::{Value, json};

use crate::queue::DEAD;
use crate::world::World;

const WRITER: &str = "writer";
/// What the consumer needs on each of its indices.
const PRIVILEGES: [&str; 3] = ["create_index", "read", "write"];
const KINDS: [&str; 3] = ["lines", "jobs", "rejected"];
/// Elasticsearch looks at its files of users and roles every 5 seconds.
const IN_FORCE: Duration = Duration::from_secs(20);
const TRIED: Duration = Duration::from_secs(40);
/// RabbitMQ's own counts are some seconds old.
const COUNTED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_secs(40);

pub(crate) async fn missing_privileges_and_a_changed_password_lose_nothing(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let (writer, password) = world.servers.add_user(WRITER).await?;
    may_write(world, &writer, &["jobs", "rejected"]).await?;
    let variables = [
        ("JOBLOGS_ES_USER", WRITER.to_owned()),
        (
            "JOBLOGS_ES_PASS_FILE",
            world.secret("writer-pass", &password)?,
        ),
    ];
    let consumer = world.consumer_with(&world.gitlab.url(), &variables).await?;

    // Of the lines each is refused; they are sent again by the same consumer.
    let job = world.job().trace(Trace::Lines(1_000)).finished();
    listener.post(&job, &world.token).await?;
    world
        .until("the lines are sent again and again", TRIED, async || {
            let retries = consumer.counter("joblogs_bulk_retries_total").await?;
            ensure!(retries >= 3, "{retries} times");
            Ok(())
        })
        .await?;
    is_kept(world, &job).await?;
    may_write(world, &writer, &KINDS).await?;
    world.exact(&job, INDEXED).await?;

    // Whoever may not see a manifest begins no lines.
    may_write(world, &writer, &["lines", "rejected"]).await?;
    let job = world.job().trace(Trace::Lines(1_000)).finished();
    listener.post(&job, &world.token).await?;
    world
        .until(
            "the manifest is refused again and again",
            TRIED,
            async || {
                let refused = world.times_logged("refused, and tried again", &job);
                ensure!(refused >= 2, "{refused} times");
                Ok(())
            },
        )
        .await?;
    is_kept(world, &job).await?;
    may_write(world, &writer, &KINDS).await?;
    world.exact(&job, INDEXED).await?;

    // Somebody changes the password, and finds out that the consumer had it too.
    has_password(world, "something else").await?;
    let job = world.job().trace(Trace::Lines(1_000)).finished();
    listener.post(&job, &world.token).await?;
    world
        .until("the consumer names the refusal", TRIED, async || {
            let named = consumer.faults().await?.context("it is ready")?;
            ensure!(named.contains("401"), "it names {named:?}");
            Ok(())
        })
        .await?;
    is_kept(world, &job).await?;
    has_password(world, &password).await?;
    world.exact(&job, INDEXED).await?;
    Ok(())
}

/// Gives the user this password, and waits until Elasticsearch takes it.
async fn has_password(world: &World, password: &str) -> Result<()> {
    world.servers.set_password(WRITER, password).await?;
    let url = format!("http://127.0.0.1:{}", world.servers.elasticsearch_port);
    let writer = Elasticsearch::new(&url, WRITER, password);
    world
        .until("the password is in force", IN_FORCE, async || {
            writer.ask("_cluster/health", None).await
        })
        .await?;
    Ok(())
}

/// Gives the user a role for indices of these kinds, and waits until Elasticsearch goes by it.
async fn may_write(world: &World, writer: &Elasticsearch, kinds: &[&str]) -> Result<()> {
    let names: Vec<String> = kinds.iter().map(|kind| pattern(world, kind)).collect();
    let role = json!({
        "cluster": ["monitor"],
        "indices": [{"names": names, "privileges": PRIVILEGES}],
    });
    world.servers.set_roles(&json!({WRITER: role})).await?;
    let asked =
        KINDS.map(|kind| json!({"names": [pattern(world, kind)], "privileges": PRIVILEGES}));
    let asked = json!({"index": asked});
    let what = format!("the user may write {kinds:?} and nothing else");
    world
        .until(what, IN_FORCE, async || {
            let answer = writer
                .ask("_security/user/_has_privileges", Some(&asked))
                .await?;
            for kind in KINDS {
                let has = &answer["index"][pattern(world, kind)];
                let is_right = kinds.contains(&kind);
                let all_right = PRIVILEGES.iter().all(|name| has[*name] == is_right);
                ensure!(all_right, "{kind}: {has}");
            }
            Ok(())
        })
        .await
}

fn pattern(world: &World, kind: &str) -> String {
    format!("20{}", world.indices(kind))
}

/// The message is in the broker, the job has no manifest and no lines, and nobody has given anything up.
async fn is_kept(world: &World, job: &Job) -> Result<()> {
    world
        .until("the broker has the message", COUNTED, async || {
            let messages = world.messages().await?;
            ensure!(messages == 1, "{messages} messages");
            Ok(())
        })
        .await?;
    world.refresh().await?;
    let manifest: Option<Value> = world.manifest_now(job).await?;
    ensure!(manifest.is_none(), "there is a manifest: {manifest:?}");
    let count = world.count(job).await?;
    ensure!(count == 0, "{count} lines");
    let rejected = world.documents("rejected").await?;
    ensure!(rejected == 0, "{rejected} lines were rejected");
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}
