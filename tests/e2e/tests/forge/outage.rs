//! GitLab is not there at all.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use tokio::time::sleep;

use crate::consumer::Consumer;
use crate::proxy::Proxy;
use crate::queue::{self, WAITING};
use crate::world::World;

const JOBS: usize = 20;
const DOWN: Duration = Duration::from_secs(20);
/// Those that are under way when it goes, and then one who looks, at the earliest every half a second and soon every
/// few: of 20 jobs that each tried on their own, there would be more in the first seconds.
const ATTEMPTS: usize = 40;
const NOTICED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn b15_an_instance_that_is_down_costs_few_attempts(world: &World) -> Result<()> {
    world.set_up().await?;
    let (proxy, url) = before_gitlab(world).await?;
    let listener = world.listener_by(world.servers.rabbitmq.port, &url).await?;
    let consumer = world.consumer_with(&url, &[]).await?;
    let first = world.job().finished();
    listener.post(&first, &world.token).await?;
    world.exact(&first, INDEXED).await?;

    proxy.cut();
    let before = proxy.connections();
    let jobs: Vec<Job> = (0..JOBS)
        .map(|_| world.job().trace(Trace::Lines(100)).finished())
        .collect();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    world
        .until("the consumer names GitLab", NOTICED, async || {
            let named = consumer.faults().await?.context("it is ready")?;
            ensure!(named.contains("gitlab: "), "it names {named:?}");
            Ok(())
        })
        .await?;
    // The length of the outage.
    sleep(DOWN).await;
    let attempts = proxy.connections() - before;
    ensure!(
        attempts > 3,
        "{attempts} attempts: nobody looks whether it is back"
    );
    ensure!(attempts <= ATTEMPTS, "{attempts} attempts");
    proxy.mend();
    for job in &jobs {
        world.exact(job, INDEXED).await?;
        let requests = world.gitlab.requests_for(job);
        ensure!(requests.len() == 2, "asked more than once: {requests:#?}");
    }
    is_ready(world, &consumer).await
}

pub(crate) async fn b15_an_instance_that_works_again_is_ready_without_any_work(
    world: &World,
) -> Result<()> {
    /// After so many waits a message sleeps for ten minutes.
    const WAITS: i64 = 200;
    world.set_up().await?;
    let (proxy, url) = before_gitlab(world).await?;
    let listener = world.listener_by(world.servers.rabbitmq.port, &url).await?;
    for _ in 0..3 {
        listener.post(&world.job().finished(), &world.token).await?;
    }
    let messages = world.queues.look(queue::JOBS).await?;
    world.queues.take(queue::JOBS).await?;
    let consumer = world.consumer_with(&url, &[]).await?;
    proxy.cut();
    for message in &messages {
        let header = ("joblogs-waits", WAITS);
        world.queues.publish_with(&message.body, header).await?;
    }
    let [.., longest] = WAITING;
    world
        .until("all messages sleep", NOTICED, async || {
            let asleep = world.queues.ready(longest).await?;
            ensure!(asleep == 3, "{asleep} do");
            Ok(())
        })
        .await?;
    let named = consumer.faults().await?.context("it is ready")?;
    ensure!(named.contains("gitlab: "), "it names {named:?}");
    proxy.mend();
    is_ready(world, &consumer).await?;
    world.queues.take(longest).await?;
    Ok(())
}

/// A proxy, and the address at which GitLab is called through it.
async fn before_gitlab(world: &World) -> Result<(Proxy, String)> {
    let port = world.gitlab.address().port();
    let proxy = world.proxy("consumer–GitLab", port).await?;
    let url = format!("http://127.0.0.1:{}/", proxy.port());
    world.gitlab.set_external_url(&url);
    Ok((proxy, url))
}

async fn is_ready(world: &World, consumer: &Consumer) -> Result<()> {
    world
        .until("the consumer is ready again", NOTICED, async || {
            let faults = consumer.faults().await?;
            ensure!(faults.is_none(), "{faults:?}");
            Ok(())
        })
        .await
}
