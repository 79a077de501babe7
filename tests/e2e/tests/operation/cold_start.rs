//! Everything is started before the servers are there.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Trace;
use rand::seq::SliceRandom as _;
use tokio::time::{Instant, sleep};

use crate::consumer::Consumer;
use crate::length::is_full;
use crate::listener::Listener;
use crate::program::Program;
use crate::proxy::Proxy;
use crate::queue::DEAD;
use crate::world::World;

/// What waits for a server looks every few seconds.
const NOTICED: Duration = Duration::from_secs(20);
/// `consumer setup`, from the time that Elasticsearch is there.
const ENDS: Duration = Duration::from_secs(30);
const INDEXED: Duration = Duration::from_mins(1);

/// What is started, each on its own.
#[derive(Clone, Copy, Debug)]
enum Part {
    Initmq,
    Setup,
    Listener,
    Consumer,
}

/// What was started.
struct Started {
    initmq: Arc<Program>,
    setup: Arc<Program>,
    listener: Listener,
    consumer: Consumer,
}

pub(crate) async fn e29_started_in_any_order_before_the_servers_all_is_healthy_by_itself(
    world: &World,
) -> Result<()> {
    let mut order = [Part::Initmq, Part::Setup, Part::Listener, Part::Consumer];
    order.shuffle(&mut world.rng("order"));
    let play = play(world, order).await;
    play.with_context(|| format!("in the order {order:?}"))
}

pub(crate) async fn e29_before_the_set_up_nothing_is_indexed(world: &World) -> Result<()> {
    world.initmq().await?;
    let listener = world.listener().await?;
    let (program, address) = world.consumer_starting(&world.gitlab.url(), &[]).await?;
    let consumer = Consumer::new(program, &address);
    let job = world.job().trace(Trace::Lines(1_000)).finished();
    listener.post(&job, &world.token).await?;
    consumer_names(world, &consumer, &["elasticsearch"]).await?;
    world
        .until("the consumer says what to run", NOTICED, async || {
            let faults = consumer.faults().await?.unwrap_or_default();
            ensure!(faults.contains("consumer setup"), "it says {faults:?}");
            Ok(())
        })
        .await?;

    let setup = world.setup_starting(&[])?;
    let status = setup.end(ENDS).await?;
    ensure!(status.success(), "consumer setup: {status}");
    consumer_names(world, &consumer, &[]).await?;
    // Exact means too that the indices have the mapping of the templates, which they keep for ever.
    world.exact(&job, INDEXED).await?;
    Ok(())
}

async fn play(world: &World, order: [Part; 4]) -> Result<()> {
    let rabbitmq = Proxy::start(world.servers.rabbitmq.port).await?;
    let elasticsearch = Proxy::start(world.servers.elasticsearch_port).await?;
    rabbitmq.cut();
    elasticsearch.cut();
    let started = start(world, order, rabbitmq.port(), elasticsearch.port()).await?;
    let Started {
        initmq,
        setup,
        listener,
        consumer,
    } = &started;

    listener_names(world, listener, &["rabbitmq"]).await?;
    consumer_names(world, consumer, &["elasticsearch", "queue", "rabbitmq"]).await?;
    let job = world.job().trace(Trace::Lines(1_000)).finished();
    listener
        .refuses(listener.notice_of(&job, &world.token))
        .await?;

    rabbitmq.mend();
    let status = initmq.end(NOTICED).await?;
    ensure!(status.success(), "initmq: {status}");
    listener_names(world, listener, &[]).await?;
    consumer_names(world, consumer, &["elasticsearch"]).await?;
    listener.post(&job, &world.token).await?;
    goes_on_without_elasticsearch(world, &started).await?;

    elasticsearch.mend();
    let status = setup.end(ENDS).await?;
    ensure!(status.success(), "consumer setup: {status}");
    consumer_names(world, consumer, &[]).await?;
    world.exact(&job, INDEXED).await?;
    Ok(())
}

async fn start(
    world: &World,
    order: [Part; 4],
    rabbitmq: u16,
    elasticsearch: u16,
) -> Result<Started> {
    let gitlab = world.gitlab.url();
    let ports = [
        ("JOBLOGS_RMQ_PORT", rabbitmq.to_string()),
        ("JOBLOGS_ES_PORT", elasticsearch.to_string()),
    ];
    let (mut initmq, mut setup, mut listener, mut consumer) = (None, None, None, None);
    for part in order {
        match part {
            Part::Initmq => {
                let variables = world.broker_variables(rabbitmq);
                initmq = Some(world.start("initmq", &["--debug"], &variables)?);
            }
            Part::Setup => setup = Some(world.setup_starting(&ports)?),
            Part::Listener => {
                let (program, address) = world.listener_starting(rabbitmq, &gitlab).await?;
                listener = Some(Listener::new(program, &format!("http://{address}/")));
            }
            Part::Consumer => {
                let (program, address) = world.consumer_starting(&gitlab, &ports).await?;
                consumer = Some(Consumer::new(program, &address));
            }
        }
    }
    Ok(Started {
        initmq: initmq.context("initmq is among the parts")?,
        setup: setup.context("setup is among the parts")?,
        listener: listener.context("a listener is among the parts")?,
        consumer: consumer.context("a consumer is among the parts")?,
    })
}

/// For a while nothing but Elasticsearch is missing, and nobody gives up.
async fn goes_on_without_elasticsearch(world: &World, started: &Started) -> Result<()> {
    const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
    let lasts = if is_full() {
        Duration::from_secs(90)
    } else {
        Duration::from_secs(15)
    };
    let over = Instant::now() + lasts;
    while Instant::now() < over {
        sleep(BETWEEN_LOOKS).await;
        ensure!(started.setup.is_running(), "consumer setup has given up");
        let missing = missing(started.consumer.faults().await?);
        ensure!(
            missing == ["elasticsearch"],
            "the consumer lacks {missing:?}"
        );
        let faults = started.listener.faults().await?;
        ensure!(faults.is_none(), "the listener lacks {faults:?}");
        let dead = world.queues.ready(DEAD).await?;
        ensure!(dead == 0, "{dead} dead letters");
    }
    Ok(())
}

async fn listener_names(world: &World, listener: &Listener, right: &[&str]) -> Result<()> {
    world
        .until(
            format!("the listener lacks {right:?}"),
            NOTICED,
            async || {
                let faults = listener.faults().await?;
                ensure!(missing(faults.clone()) == right, "it says {faults:?}");
                Ok(())
            },
        )
        .await
}

async fn consumer_names(world: &World, consumer: &Consumer, right: &[&str]) -> Result<()> {
    world
        .until(
            format!("the consumer lacks {right:?}"),
            NOTICED,
            async || {
                let faults = consumer.faults().await?;
                ensure!(missing(faults.clone()) == right, "it says {faults:?}");
                Ok(())
            },
        )
        .await
}

/// The names in `NAME: REASON`, a line each.
fn missing(faults: Option<String>) -> Vec<String> {
    let faults = faults.unwrap_or_default();
    let names = faults.lines().filter_map(|line| line.split_once(": "));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}
