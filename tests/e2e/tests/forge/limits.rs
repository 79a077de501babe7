//! GitLab wants fewer requests: each job of the instance heeds what was said to one of them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Fault, Job, On, Request, Trace};
use futures_util::future::try_join_all;

use crate::world::World;

const INDEXED: Duration = Duration::from_secs(80);
/// What was sent before a refusal could be read comes within this time.
const UNDER_WAY: Duration = Duration::from_millis(500);

pub(crate) async fn b15_no_request_of_any_job_comes_before_retry_after(
    world: &World,
) -> Result<()> {
    /// Longer than the shortest wait tier: who sleeps there must not come back too early.
    const RETRY_AFTER: u64 = 12;
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let mut jobs: Vec<Job> = Vec::new();
    for on in [On::Facts, On::Trace] {
        let refused = world.job().finished();
        refused.fault(on, Fault::RateLimited(RETRY_AFTER), 1);
        listener.post(&refused, &world.token).await?;
        let refusal = world
            .until("a refusal", INDEXED, async || refusal_of(world, &refused))
            .await?;
        // The simulated GitLab would answer these, as it is one job that it has refused.
        for _ in 0..5 {
            let other = world.job().finished();
            listener.post(&other, &world.token).await?;
            jobs.push(other);
        }
        world.exact(&refused, INDEXED).await?;
        let from = refusal.at + UNDER_WAY;
        let until = refusal.at + Duration::from_secs(RETRY_AFTER);
        let mut early = world.gitlab.requests();
        early.retain(|request| from < request.at && request.at < until);
        ensure!(early.is_empty(), "before Retry-After: {early:#?}");
    }
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    // Facts and trace of each job; a refusal costs its own request, and the facts once more.
    let requests = world.gitlab.requests();
    let refused = requests.iter().filter(|it| it.status == 429).count();
    let most = 2 * (jobs.len() + 2) + 2 * refused;
    ensure!(refused == 2, "{refused} refusals");
    ensure!(requests.len() <= most, "{} requests", requests.len());
    Ok(())
}

/// The first time that this job's request was refused.
fn refusal_of(world: &World, job: &Job) -> Result<Request> {
    let mut requests = world.gitlab.requests_for(job).into_iter();
    let refusal = requests.find(|request| request.status == 429);
    refusal.context("there is none")
}

pub(crate) async fn b15_little_that_a_rate_limit_leaves_is_spread(world: &World) -> Result<()> {
    const JOBS: usize = 40;
    const REQUESTS: u64 = 600;
    const PERIOD: Duration = Duration::from_secs(30);
    /// Somebody else uses the same token.
    const OTHERS: u64 = 500;
    /// A tenth of the limit is little. Without spreading it, all were over in half the time, three seconds of it for
    /// GitLab's replicas.
    const SPREAD: Duration = Duration::from_secs(14);
    world.set_up().await?;
    let listener = world.listener().await?;
    let rate = [("JOBLOGS_GITLAB_RATE", "15".to_owned())];
    world.consumer_with(&world.gitlab.url(), &rate).await?;
    world.gitlab.limit_rate(REQUESTS, PERIOD);
    let project = format!(
        "{}api/v4/projects/{}",
        world.gitlab.url(),
        world.project.id()
    );
    for _ in 0..OTHERS {
        let request = listener.http().get(&project);
        let request = request.header("PRIVATE-TOKEN", world.token.value());
        request.send().await?.error_for_status()?;
    }
    let jobs: Vec<Job> = (0..JOBS)
        .map(|_| world.job().trace(Trace::Lines(5)).finished())
        .collect();
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    let mut requests = world.gitlab.requests();
    requests.retain(|request| request.job.is_some());
    let refused = requests.iter().filter(|it| it.status == 429).count();
    ensure!(refused == 0, "{refused} of {} refused", requests.len());
    ensure!(requests.len() == 2 * JOBS, "{} requests", requests.len());
    let (first, last) = (&requests[0], &requests[2 * JOBS - 1]);
    let took = Duration::try_from(last.at.duration_since(first.at))?;
    ensure!(took >= SPREAD, "all were over after {took:?}");
    Ok(())
}
