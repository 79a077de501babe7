//! The listener is killed while hundreds of callers wait for its answer.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::future::{join_all, try_join_all};
use rand::Rng as _;

use crate::listener::Listener;
use crate::world::World;

const NOTICES: usize = 500;
/// It is killed when it has taken so many; whoever is not among them by then has not got an answer.
const TAKEN: std::ops::Range<usize> = 20..250;
const LINES: u64 = 3;
/// All of them together.
const INDEXED: Duration = Duration::from_mins(2);

pub(crate) async fn a04_a_listener_killed_under_500_notices_loses_none_that_it_took(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let jobs: Vec<Job> = (0..NOTICES)
        .map(|_| world.job().trace(Trace::Lines(LINES)).finished())
        .collect();
    let enough = world.rng("kill").random_range(TAKEN);
    let (taken, refused) = killed_in_between(world, &listener, &jobs, enough).await?;
    ensure!(
        refused.len() > NOTICES / 10,
        "killed too late to prove anything: {} notices were taken",
        taken.len()
    );
    let rate = [("JOBLOGS_GITLAB_RATE", "0".to_owned())];
    world.consumer_with(&world.gitlab.url(), &rate).await?;
    for job in taken {
        let exact = world.exact(job, INDEXED).await;
        exact.context("a notice that was taken")?;
    }
    // Callers who got no answer come again. Whether their first notice was stored nobody knows.
    let listener = world.listener().await?;
    try_join_all(refused.iter().map(|job| listener.post(job, &world.token))).await?;
    for job in refused {
        let exact = world.exact(job, INDEXED).await;
        exact.context("a notice that came again")?;
    }
    Ok(())
}

/// Sends all notices at once and kills the listener as soon as it has taken so many; says which it took, and which not.
async fn killed_in_between<'a>(
    world: &World,
    listener: &Listener,
    jobs: &'a [Job],
    enough: usize,
) -> Result<(Vec<&'a Job>, Vec<&'a Job>)> {
    let count = Cell::new(0);
    let notices = jobs.iter().map(async |job| {
        if listener.post(job, &world.token).await.is_err() {
            return Ok(false);
        }
        count.set(count.get() + 1);
        if count.get() == enough {
            listener.program.kill()?;
        }
        Ok(true)
    });
    let outcomes: Result<Vec<bool>> = join_all(notices).await.into_iter().collect();
    let all = jobs.iter().zip(outcomes?);
    let (taken, refused): (Vec<_>, Vec<_>) = all.partition(|(_, is_taken)| *is_taken);
    ensure!(
        taken.len() >= enough,
        "only {} notices were taken before anybody killed it",
        taken.len()
    );
    let jobs = |those: Vec<(&'a Job, bool)>| those.into_iter().map(|(job, _)| job).collect();
    Ok((jobs(taken), jobs(refused)))
}
