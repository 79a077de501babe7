//! The consumer is killed exactly between two steps: each moment is caught on the wire.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};

use crate::consumer::Consumer;
use crate::listener::Listener;
use crate::proxy::{Fault, Hold, Proxy, Way};
use crate::world::World;

const BULK: &str = "/_bulk?";
const MANIFEST: &str = "-jobs/_create/";
/// Several bodies: those after the first two wait for the answers to these.
const LINES: u64 = 30_000;
const CAUGHT: Duration = Duration::from_secs(40);
const LOGGED: Duration = Duration::from_secs(10);
const INDEXED: Duration = Duration::from_mins(1);

/// A moment at which it is killed, and what Elasticsearch has then.
struct Moment {
    name: &'static str,
    hold: Hold,
    has_all_lines: bool,
    has_manifest: bool,
}

const MOMENTS: [Moment; 3] = [
    Moment {
        name: "lines are there, and the consumer does not know it yet",
        hold: Hold::Answer(BULK),
        has_all_lines: false,
        has_manifest: false,
    },
    Moment {
        name: "all lines are there, and the manifest is about to be written",
        hold: Hold::Request(MANIFEST),
        has_all_lines: true,
        has_manifest: false,
    },
    Moment {
        name: "the manifest is there, and the message is about to be acknowledged",
        hold: Hold::Answer(MANIFEST),
        has_all_lines: true,
        has_manifest: true,
    },
];

pub(crate) async fn a03_killed_between_two_steps_nothing_is_lost_or_doubled(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    for moment in MOMENTS {
        let killed = killed_at(world, &listener, &moment).await;
        killed.with_context(|| format!("killed when {}", moment.name))?;
    }
    let killed = killed_with_the_acknowledgement_on_its_way(world, &listener).await;
    killed.context("killed when the acknowledgement was on its way")
}

async fn killed_at(world: &World, listener: &Listener, moment: &Moment) -> Result<()> {
    let port = world.servers.elasticsearch_port;
    let elasticsearch = world.proxy("consumer–Elasticsearch", port).await?;
    elasticsearch.hold(moment.hold);
    let ports = [("JOBLOGS_ES_PORT", elasticsearch.port().to_string())];
    let consumer = world.consumer_with(&world.gitlab.url(), &ports).await?;
    let job = notice(world, listener).await?;
    is_caught(world, &elasticsearch).await?;
    // The lines that are on their way get there, whoever dies.
    world
        .until_searchable("Elasticsearch has what it was sent", CAUGHT, async || {
            let lines = world.count(&job).await?;
            ensure!(lines > 0, "no lines");
            let all = job.expected_lines().count() as u64;
            let has_all = lines == all;
            ensure!(has_all == moment.has_all_lines, "{lines} of {all} lines");
            let manifest = world.manifest_now(&job).await?;
            ensure!(
                manifest.is_some() == moment.has_manifest,
                "its manifest is {manifest:?}"
            );
            Ok(())
        })
        .await?;
    kill(world, &consumer, &job, 0).await?;
    // What is held dies with the proxy.
    drop(elasticsearch);
    comes_again(world, &job, 1).await
}

async fn killed_with_the_acknowledgement_on_its_way(
    world: &World,
    listener: &Listener,
) -> Result<()> {
    let servers = &world.servers;
    let elasticsearch = world.proxy("consumer–Elasticsearch", servers.elasticsearch_port);
    let elasticsearch = elasticsearch.await?;
    let broker = world
        .proxy("consumer–broker", servers.rabbitmq.port)
        .await?;
    let ports = [
        ("JOBLOGS_ES_PORT", elasticsearch.port().to_string()),
        ("JOBLOGS_RMQ_PORT", broker.port().to_string()),
    ];
    elasticsearch.hold(Hold::Request(MANIFEST));
    let consumer = world.consumer_with(&world.gitlab.url(), &ports).await?;
    let job = notice(world, listener).await?;
    is_caught(world, &elasticsearch).await?;
    broker.apply(Fault::Stall(Way::ToServer));
    elasticsearch.release();
    world
        .until("the consumer is done with the job", LOGGED, async || {
            let times = world.times_logged("job indexed", &job);
            ensure!(times == 1, "{times} times");
            Ok(())
        })
        .await?;
    kill(world, &consumer, &job, 1).await?;
    drop(broker);
    comes_again(world, &job, 2).await
}

async fn notice(world: &World, listener: &Listener) -> Result<Job> {
    let job = world.job().trace(Trace::Lines(LINES)).finished();
    listener.post(&job, &world.token).await?;
    Ok(job)
}

async fn is_caught(world: &World, proxy: &Proxy) -> Result<()> {
    world
        .until("the moment comes", CAUGHT, async || {
            ensure!(proxy.held() > 0, "it has not come");
            Ok(())
        })
        .await
}

/// Kills it, which so often has said by then that it is done with the job.
async fn kill(world: &World, consumer: &Consumer, job: &Job, done: usize) -> Result<()> {
    let queued = world.queues.ready(crate::queue::JOBS).await?;
    ensure!(queued == 0, "the consumer does not have the message");
    consumer.program.kill()?;
    let times = world.times_logged("job indexed", job);
    ensure!(times == done, "killed too late: done {times} times");
    Ok(())
}

/// Another consumer gets the message again, which makes it so often that one was done with the job.
async fn comes_again(world: &World, job: &Job, done: usize) -> Result<()> {
    let consumer = world.consumer().await?;
    world
        .until("the message came again", INDEXED, async || {
            let times = world.times_logged("job indexed", job);
            ensure!(times == done, "the job was indexed {times} times");
            Ok(())
        })
        .await?;
    world.exact(job, INDEXED).await?;
    // The next moment is another consumer's.
    consumer.program.kill()
}
