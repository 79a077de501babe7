//! Elasticsearch goes away: for a moment in the middle of a body, and for long.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::consumer::Consumer;
use crate::containers::Act;
use crate::length::is_full;
use crate::listener::Listener;
use crate::memory::resident;
use crate::proxy::Proxy;
use crate::queue::DEAD;
use crate::world::World;

/// 1 while the consumer leaves Elasticsearch alone.
const CIRCUIT: &str = "joblogs_circuit_open{destination=\"elasticsearch\"}";
/// The consumer counts here how often it sends a bulk request again.
const TRIES: &str = "joblogs_bulk_retries_total";
const BEGUN: Duration = Duration::from_secs(40);
/// A consumer looks every 5 seconds whether Elasticsearch is there.
const NOTICED: Duration = Duration::from_secs(15);
const TRIED: Duration = Duration::from_secs(40);
/// RabbitMQ's own counts are some seconds old.
const COUNTED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn a08_elasticsearch_cut_off_twice_loses_nothing(world: &World) -> Result<()> {
    // What ends between the two outages must be exact although its lines were cut off in the first.
    const LINES: [u64; 4] = [6_000, 45_000, 45_000, 45_000];
    world.set_up().await?;
    let proxy = Proxy::start(world.servers.elasticsearch_port).await?;
    let listener = world.listener().await?;
    let consumer = consumer_through(world, &proxy).await?;
    let mut jobs = notices_of(world, &listener, &LINES).await?;
    has_documents(world, "lines").await?;
    let tried = consumer.counter(TRIES).await?;
    proxy.cut();
    world
        .until(
            "a body that was cut off is to come again",
            TRIED,
            async || {
                let now = consumer.counter(TRIES).await?;
                ensure!(now > tried, "{now} retries");
                Ok(())
            },
        )
        .await?;
    proxy.mend();
    has_documents(world, "jobs").await?;
    proxy.cut();
    jobs.extend(notices_of(world, &listener, &[1_000]).await?);
    leaves_it_alone(world, &consumer, NOTICED).await?;
    nothing_is_given_up(world, jobs.len() as u64).await?;
    proxy.mend();
    comes_back(world, &consumer, &jobs).await
}

pub(crate) async fn a08_elasticsearch_down_keeps_all_in_the_broker(world: &World) -> Result<()> {
    /// Of the jobs that come before Elasticsearch goes, in the middle of which it goes, and while it is away.
    const BEFORE: [u64; 2] = [500, 500];
    const IN_THE_MIDDLE: [u64; 3] = [40_000; 3];
    const DURING: [u64; 12] = [3_000; 12];
    world.set_up().await?;
    let proxy = Proxy::start(world.servers.elasticsearch_port).await?;
    let listener = world.listener().await?;
    let consumer = consumer_through(world, &proxy).await?;
    let before = notices_of(world, &listener, &BEFORE).await?;
    for job in &before {
        world.exact(job, INDEXED).await?;
    }
    let mut jobs = notices_of(world, &listener, &IN_THE_MIDDLE).await?;
    world
        .until_searchable("lines of a huge job are there", BEGUN, async || {
            ensure!(world.count(&jobs[0]).await? > 0, "there are none");
            Ok(())
        })
        .await?;
    proxy.cut();
    jobs.extend(notices_of(world, &listener, &DURING).await?);
    leaves_it_alone(world, &consumer, NOTICED).await?;
    let all = (before.len() + jobs.len()) as u64;
    nothing_is_given_up(world, all).await?;
    stays_so(world, &consumer).await?;
    nothing_is_given_up(world, all).await?;
    proxy.mend();
    comes_back(world, &consumer, &jobs).await
}

pub(crate) async fn a08_elasticsearch_frozen_keeps_all_in_the_broker(world: &World) -> Result<()> {
    /// Whatever is on its way when Elasticsearch freezes is waited for, up to the longest deadline of a request.
    const FROZEN: Duration = Duration::from_mins(1);
    /// On a busy machine it takes a while until the first lines are seen, and none of them may be through by then.
    const IN_THE_MIDDLE: [u64; 3] = [60_000; 3];
    const DURING: [u64; 12] = [1_000; 12];
    world.set_up().await?;
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let mut jobs = notices_of(world, &listener, &IN_THE_MIDDLE).await?;
    has_documents(world, "lines").await?;
    world.servers.act_on_elasticsearch(Act::Pause).await?;
    jobs.extend(notices_of(world, &listener, &DURING).await?);
    leaves_it_alone(world, &consumer, FROZEN).await?;
    // Of Elasticsearch nothing can be read now. The huge jobs were hardly begun, so all messages are there.
    are_in_the_broker(world, jobs.len() as u64, jobs.len() as u64).await?;
    stays_so(world, &consumer).await?;
    are_in_the_broker(world, jobs.len() as u64, jobs.len() as u64).await?;
    world.servers.act_on_elasticsearch(Act::Unpause).await?;
    comes_back(world, &consumer, &jobs).await?;
    if is_full() {
        killed_in_the_middle(world, &listener, &consumer).await?;
    }
    Ok(())
}

/// It ends without a word, and starts again with what it had on its disk.
async fn killed_in_the_middle(
    world: &World,
    listener: &Listener,
    consumer: &Consumer,
) -> Result<()> {
    const IN_THE_MIDDLE: [u64; 3] = [40_000; 3];
    const STARTED: Duration = Duration::from_mins(3);
    let jobs = notices_of(world, listener, &IN_THE_MIDDLE).await?;
    world
        .until_searchable("lines of a huge job are there", BEGUN, async || {
            ensure!(world.count(&jobs[0]).await? > 0, "there are none");
            Ok(())
        })
        .await?;
    world.servers.act_on_elasticsearch(Act::Kill).await?;
    leaves_it_alone(world, consumer, NOTICED).await?;
    are_in_the_broker(world, jobs.len() as u64, jobs.len() as u64).await?;
    stays_so(world, consumer).await?;
    are_in_the_broker(world, jobs.len() as u64, jobs.len() as u64).await?;
    world.servers.act_on_elasticsearch(Act::Start).await?;
    world
        .until_searchable("Elasticsearch serves again", STARTED, async || {
            world.documents("lines").await
        })
        .await?;
    comes_back(world, consumer, &jobs).await
}

/// As long as Elasticsearch is away: whatever there was to do is still in the broker, and the consumer does not grow.
async fn stays_so(world: &World, consumer: &Consumer) -> Result<()> {
    const BETWEEN_LOOKS: Duration = Duration::from_secs(2);
    /// What is in hand may still be finding its place; less than one job more would take.
    const GROWTH: u64 = 16 << 20;
    let lasts = if is_full() {
        Duration::from_mins(5)
    } else {
        Duration::from_secs(25)
    };
    let largest = resident(&consumer.program)? + GROWTH;
    let over = Instant::now() + lasts;
    while Instant::now() < over {
        sleep(BETWEEN_LOOKS).await;
        let now = resident(&consumer.program)?;
        ensure!(
            now < largest,
            "the consumer grew to {now} bytes, over {largest}"
        );
        let is_open = consumer.counter(CIRCUIT).await?;
        ensure!(is_open == 1, "the circuit closed by itself");
        let dead = world.queues.ready(DEAD).await?;
        ensure!(dead == 0, "{dead} dead letters");
    }
    Ok(())
}

async fn consumer_through(world: &World, proxy: &Proxy) -> Result<Consumer> {
    let port = [("JOBLOGS_ES_PORT", proxy.port().to_string())];
    world.consumer_with(&world.gitlab.url(), &port).await
}

/// Jobs of so many lines, all of them noticed.
async fn notices_of(world: &World, listener: &Listener, lines: &[u64]) -> Result<Vec<Job>> {
    let jobs: Vec<Job> = lines
        .iter()
        .map(|lines| world.job().trace(Trace::Lines(*lines)).finished())
        .collect();
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    Ok(jobs)
}

/// Waits until something of this kind can be searched.
async fn has_documents(world: &World, kind: &str) -> Result<()> {
    let what = format!("the first of the {kind} are there");
    world
        .until_searchable(what, BEGUN, async || {
            let documents = world.documents(kind).await?;
            ensure!(documents > 0, "there are none");
            Ok(())
        })
        .await
}

/// The consumer knows that Elasticsearch is away: it says so, and takes nothing new.
async fn leaves_it_alone(world: &World, consumer: &Consumer, within: Duration) -> Result<()> {
    world
        .until(
            "the consumer leaves Elasticsearch alone",
            within,
            async || {
                let named = consumer.faults().await?.context("it is ready")?;
                ensure!(named.contains("elasticsearch: "), "it names {named:?}");
                let is_open = consumer.counter(CIRCUIT).await?;
                ensure!(is_open == 1, "its circuit is not open");
                Ok(())
            },
        )
        .await
}

/// During an outage: of so many jobs some are not complete, the broker has the message of each of them, and none is
/// among the dead.
async fn nothing_is_given_up(world: &World, jobs: u64) -> Result<()> {
    world.refresh().await?;
    let missing = jobs - world.documents("jobs").await?;
    ensure!(
        missing > 1,
        "cut too late to prove anything: only {missing} of {jobs} jobs are missing"
    );
    are_in_the_broker(world, missing, jobs).await
}

/// The broker has a message for each job that is missing, those that a consumer holds among them, and no dead letters.
async fn are_in_the_broker(world: &World, right: u64, all: u64) -> Result<()> {
    world
        .until("the broker has what is missing", COUNTED, async || {
            let messages = world.messages().await?;
            // A job whose manifest's answer was cut off has both.
            ensure!(
                (right..=all).contains(&messages),
                "{messages} messages, not {right} to {all}"
            );
            Ok(())
        })
        .await?;
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

/// After an outage: the consumer goes on by itself, and all is exact.
async fn comes_back(world: &World, consumer: &Consumer, jobs: &[Job]) -> Result<()> {
    world
        .until("the consumer is ready again", NOTICED, async || {
            let faults = consumer.faults().await?;
            ensure!(faults.is_none(), "{faults:?}");
            let is_open = consumer.counter(CIRCUIT).await?;
            ensure!(is_open == 0, "its circuit is still open");
            Ok(())
        })
        .await?;
    for job in jobs {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}
