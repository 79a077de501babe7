//! The consumer is asked to end in the middle of its work.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Fault, On, Trace};

use crate::world::{GRACE, World};

/// More than a consumer has in hand at once.
const JOBS: usize = 30;
const BEGUN: Duration = Duration::from_secs(40);
const INDEXED: Duration = Duration::from_mins(2);

pub(crate) async fn sigterm_under_load_loses_nothing(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let mut jobs = Vec::new();
    for _ in 0..JOBS {
        let job = world.job().trace(Trace::Lines(3_000)).finished();
        listener.post(&job, &world.token).await?;
        jobs.push(job);
    }
    // One that cannot be finished within the grace: it has to be handed back.
    let slow = world.job().trace(Trace::Lines(100)).finished();
    slow.fault(On::Trace, Fault::Delay(GRACE * 2), 1);
    listener.post(&slow, &world.token).await?;
    jobs.push(slow);
    world
        .until_searchable("some lines are there", BEGUN, async || {
            let mut found = 0;
            for job in &jobs {
                found += world.count(job).await?;
            }
            ensure!(found > 0, "there are none");
            Ok(())
        })
        .await?;
    let status = consumer.program.terminate(GRACE).await?;
    ensure!(status.success(), "on SIGTERM under load: {status}");
    let mut complete = 0;
    world.refresh().await?;
    for job in &jobs {
        complete += usize::from(world.manifest_now(job).await?.is_some());
    }
    ensure!(
        complete < jobs.len(),
        "ended too late to prove anything: all jobs were done"
    );
    world.consumer().await?;
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}
