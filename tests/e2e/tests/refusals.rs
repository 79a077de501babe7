//! GitLab says no, and each no has its own end: none is asked again and again, none hinders others.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Fault, Job, On, Scope, Status, Trace};
use serde_json::json;

use crate::queue::DEAD;
use crate::world::World;

const DECIDED: Duration = Duration::from_secs(30);

pub(crate) async fn a_refused_token_is_a_dead_letter_and_hinders_nobody(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let scopes = [Scope::Revoked, Scope::Expired, Scope::ReadRepository];
    world.expect_dead_letters(3);
    let mut refused = Vec::new();
    for scope in scopes {
        let token = world.gitlab.token(scope, &[&world.project]);
        let job = world.job().finished();
        listener.post(&job, &token).await?;
        refused.push(job);
    }
    let healthy = world.job().trace(Trace::Lines(300)).finished();
    listener.post(&healthy, &world.token).await?;
    world.exact(&healthy, DECIDED).await?;
    for job in &refused {
        world.without_lines(job, "forbidden", DECIDED).await?;
        asked_at_most(world, job, 1)?;
    }
    world
        .until("three dead letters", DECIDED, async || {
            let dead = world.queues.ready(DEAD).await?;
            ensure!(dead == 3, "{dead}");
            Ok(())
        })
        .await?;
    for letter in world.queues.look(DEAD).await? {
        let reason = letter.header("joblogs-reason");
        ensure!(reason.contains("token"), "the reason is {reason:?}");
        for header in ["step", "attempts", "first-error", "last-error", "died-at"] {
            let value = letter.header(&format!("joblogs-{header}"));
            ensure!(!value.is_empty(), "no header joblogs-{header}");
        }
    }
    Ok(())
}

pub(crate) async fn a_job_that_is_gone_has_a_manifest_that_says_so(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let deleted = world.job().finished();
    deleted.delete();
    let elsewhere = world.gitlab.project("acme/secret");
    let hidden = world.gitlab.job(&elsewhere).finished();
    for job in [&deleted, &hidden] {
        listener.post(job, &world.token).await?;
    }
    for job in [&deleted, &hidden] {
        world.without_lines(job, "gone", DECIDED).await?;
        asked_at_most(world, job, 1)?;
    }
    Ok(())
}

pub(crate) async fn erased_skipped_and_empty_logs_have_manifests_that_say_so(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let erased = world.job().finished();
    erased.erase();
    let skipped = world
        .job()
        .trace(Trace::None)
        .outcome(Status::Skipped)
        .finished();
    let stuck = world
        .job()
        .trace(Trace::None)
        .fails("stuck_or_timeout_failure")
        .finished();
    let jobs = [
        (erased, "erased"),
        (skipped, "no_trace"),
        (stuck, "no_trace"),
    ];
    for (job, _) in &jobs {
        listener.post(job, &world.token).await?;
    }
    for (job, state) in &jobs {
        world.without_lines(job, state, DECIDED).await?;
    }
    Ok(())
}

pub(crate) async fn a_login_page_is_never_indexed(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let jobs = [On::Facts, On::Trace].map(|on| {
        let job = world.job().trace(Trace::Lines(200)).finished();
        job.fault(on, Fault::LoginPage, 1);
        job
    });
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    for job in &jobs {
        // Exact means that of the page there is nothing: its lines would be too many.
        world.exact(job, Duration::from_mins(1)).await?;
    }
    let foreign = json!({"match": {"message": "devise"}});
    let found = world
        .elasticsearch()
        .count(&world.indices("lines"), &foreign)
        .await?;
    ensure!(found == 0, "{found} lines of a login page");
    Ok(())
}

/// What is final is asked once for its facts, and then for nothing.
fn asked_at_most(world: &World, job: &Job, times: usize) -> Result<()> {
    let requests = world.gitlab.requests_for(job);
    ensure!(
        requests.len() <= times,
        "asked more than {times} times: {requests:#?}"
    );
    Ok(())
}
