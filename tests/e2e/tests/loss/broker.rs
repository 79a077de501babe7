//! RabbitMQ itself is restarted, killed and stopped in its tracks, while notices come all the time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use tokio::time::{Instant, timeout};

use super::callers::Callers;
use crate::consumer::Consumer;
use crate::containers::Act;
use crate::length::is_full;
use crate::listener::Listener;
use crate::world::World;

const BEGUN: Duration = Duration::from_secs(40);
/// ACCEPTANCE.md, 5.
const RECOVERED: Duration = Duration::from_secs(15);
/// ACCEPTANCE.md, 6.
const ANSWERED: Duration = Duration::from_secs(10);
const INDEXED: Duration = Duration::from_mins(1);

/// Who lives through it.
struct Scene<'a> {
    world: &'a World,
    listener: &'a Listener,
    consumer: Consumer,
    callers: Callers<'a>,
    /// Its notices are sent while the broker is away. A refused one may have been stored all the same.
    job: Job,
}

pub(crate) async fn a05_a_broker_restarted_and_down_means_503_and_recovery(
    world: &World,
) -> Result<()> {
    let down = Duration::from_secs(if is_full() { 30 } else { 8 });
    under_load(world, async |scene| {
        world.broker(Act::Restart).await?;
        scene.recovers().await?;
        world.broker(Act::Kill).await?;
        scene.keeps_nobody_waiting(down).await?;
        world.broker(Act::Start).await?;
        scene.recovers().await
    })
    .await
}

pub(crate) async fn a06_a_broker_that_stands_still_keeps_nobody_waiting(
    world: &World,
) -> Result<()> {
    // Longer than two heartbeats in any case: connections are given up and opened anew.
    let still = Duration::from_secs(if is_full() { 60 } else { 32 });
    under_load(world, async |scene| {
        world.broker(Act::Pause).await?;
        scene.keeps_nobody_waiting(still).await?;
        world.broker(Act::Unpause).await?;
        scene.recovers().await
    })
    .await
}

/// Does this to the broker while callers come and a consumer works. All that was taken is exact in the end.
async fn under_load(
    world: &World,
    outage: impl AsyncFnOnce(&Scene<'_>) -> Result<()>,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let scene = Scene {
        world,
        listener: &listener,
        consumer: world.consumer().await?,
        callers: Callers::new(world, &listener),
        job: world.job().trace(Trace::Lines(10)).finished(),
    };
    let outage = async {
        world
            .until_searchable("the first jobs are complete", BEGUN, async || {
                ensure!(world.documents("jobs").await? > 0, "none is");
                Ok(())
            })
            .await?;
        outage(&scene).await?;
        scene.callers.stop();
        Ok(())
    };
    tokio::try_join!(scene.callers.come(), outage)?;
    let mut jobs = scene.callers.into_jobs();
    jobs.push(scene.job);
    for job in jobs {
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}

impl Scene<'_> {
    /// For so long the broker is out of reach: whoever comes is told so in time, and so is whoever asks how things are.
    async fn keeps_nobody_waiting(&self, lasts: Duration) -> Result<()> {
        let over = Instant::now() + lasts;
        let refused = self.callers.refused();
        self.is_refused().await?;
        // Whoever came just before the outage has been served by now.
        let taken = self.callers.taken();
        let mut named = (None, None);
        while Instant::now() < over {
            let faults = async { tokio::try_join!(self.listener.faults(), self.consumer.faults()) };
            let faults = timeout(ANSWERED, faults).await;
            named = faults.with_context(|| format!("no readiness within {ANSWERED:?}"))??;
            ensure!(named.0.is_some(), "the listener refuses and is ready");
            self.is_refused().await?;
        }
        let late = self.callers.taken() - taken;
        ensure!(late == 0, "{late} notices were taken without a broker");
        ensure!(self.callers.refused() > refused, "no caller came meanwhile");
        ensure!(named.1.is_some(), "the consumer is ready");
        Ok(())
    }

    async fn is_refused(&self) -> Result<()> {
        let notice = self.listener.notice_of(&self.job, &self.world.token);
        self.listener.refuses(notice).await
    }

    /// From now on the broker serves; soon after that notices are taken, and the consumer consumes.
    async fn recovers(&self) -> Result<()> {
        let Self { world, job, .. } = self;
        world.broker_serves().await?;
        let notices = world.until("notices are taken again", RECOVERED, async || {
            self.listener.post(job, &world.token).await
        });
        let consumption = world.until("the consumer is ready again", RECOVERED, async || {
            let faults = self.consumer.faults().await?;
            ensure!(faults.is_none(), "{faults:?}");
            Ok(())
        });
        tokio::try_join!(notices, consumption)?;
        world.manifest(job, "complete", INDEXED).await?;
        Ok(())
    }
}
