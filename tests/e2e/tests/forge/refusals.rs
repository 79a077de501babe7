//! GitLab says no, and each no has its own end: none is asked again and again, none hinders others.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{ALWAYS, Fault, Job, On, Scope, Status, Trace};
use jiff::{Timestamp, ToSpan as _};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::queue::DEAD;
use crate::world::World;

const DECIDED: Duration = Duration::from_secs(30);

pub(crate) async fn b16_a_refused_token_is_a_dead_letter_and_hinders_nobody(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let scopes = [Scope::Revoked, Scope::Expired, Scope::ReadRepository];
    world.expect_dead_letters(4);
    let mut refused = Vec::new();
    for scope in scopes {
        let token = world.gitlab.token(scope, &[&world.project]);
        let job = world.job().finished();
        listener.post(&job, &token).await?;
        refused.push((job, 1));
    }
    // Its facts may be seen, its trace may not: somebody has debugged it. It is of another day than the notice.
    let yesterday = Timestamp::now() - 24.hours();
    let debugged = world.job().finished_at(yesterday);
    debugged.fault(On::Trace, Fault::Forbidden, ALWAYS);
    listener.post(&debugged, &world.token).await?;
    refused.push((debugged, 2));
    let healthy = world.job().trace(Trace::Lines(300)).finished();
    listener.post(&healthy, &world.token).await?;
    world.exact(&healthy, DECIDED).await?;
    for (job, _) in &refused {
        let manifest = world.without_lines(job, "forbidden", DECIDED).await?;
        let reason = manifest["reason"].as_str().unwrap_or_default();
        ensure!(
            reason.contains("token"),
            "the reason is missing: {manifest}"
        );
        ensure!(manifest["complete"] == false, "complete: {manifest}");
    }
    let debugged = &refused[scopes.len()].0;
    let of_its_day = format!("{}-jobs", world.index(debugged)?);
    let is_its = json!({"term": {"job_id": debugged.id().to_string()}});
    let found = world.elasticsearch().count(&of_its_day, &is_its).await?;
    ensure!(found == 1, "{found} manifests of it in {of_its_day}");
    world
        .until("a dead letter for each", DECIDED, async || {
            let dead = world.queues.ready(DEAD).await?;
            ensure!(dead == 4, "{dead}");
            Ok(())
        })
        .await?;
    for (job, times) in &refused {
        asked(world, job, *times)?;
    }
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

pub(crate) async fn b16_a_job_that_is_gone_has_a_manifest_that_says_so(
    world: &World,
) -> Result<()> {
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
    }
    world.queues_empty().await?;
    for job in [&deleted, &hidden] {
        asked(world, job, 1)?;
    }
    Ok(())
}

pub(crate) async fn b16_erased_skipped_and_empty_logs_have_manifests_that_say_so(
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
    let empty = world
        .job()
        .trace(Trace::Bytes(Vec::new()))
        .outcome(Status::Canceled)
        .finished();
    let healthy = world.job().trace(Trace::Lines(100)).finished();
    // Those whose facts say that there is no trace are not asked for one.
    let jobs = [
        (erased, "erased", 1),
        (skipped, "no_trace", 1),
        (stuck, "no_trace", 1),
        (empty, "no_trace", 2),
    ];
    for (job, ..) in &jobs {
        listener.post(job, &world.token).await?;
    }
    listener.post(&healthy, &world.token).await?;
    for (job, state, _) in &jobs {
        let manifest = world.without_lines(job, state, DECIDED).await?;
        ensure!(manifest["complete"] == true, "not complete: {manifest}");
    }
    world.exact(&healthy, DECIDED).await?;
    world.queues_empty().await?;
    for (job, _, times) in &jobs {
        asked(world, job, *times)?;
    }
    Ok(())
}

pub(crate) async fn b16_a_page_in_place_of_an_answer_is_never_indexed_and_ends_nothing(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    // A proxy's 401, 403 or 404 says nothing of the job, nor of the token.
    let pages = [401, 403, 404].map(Fault::Unavailable);
    let pages = pages.into_iter().chain([Fault::LoginPage]);
    let faults = pages.flat_map(|page| [On::Facts, On::Trace].map(|on| (on, page.clone())));
    let jobs: Vec<Job> = faults
        .map(|(on, page)| {
            let job = world.job().trace(Trace::Lines(200)).finished();
            job.fault(on, page, 1);
            job
        })
        .collect();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    for job in &jobs {
        // Exact means that of the page there is nothing: its lines would be too many.
        world.exact(job, Duration::from_mins(1)).await?;
    }
    for word in ["devise", "responding"] {
        let foreign = json!({"match": {"message": word}});
        let found = world
            .elasticsearch()
            .count(&world.indices("lines"), &foreign)
            .await?;
        ensure!(found == 0, "{found} lines of a page that says {word}");
    }
    world.queues_empty().await
}

pub(crate) async fn b16_a_redirect_opens_no_connection_elsewhere(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let elsewhere = TcpListener::bind("127.0.0.1:0").await?;
    let address = elsewhere.local_addr()?;
    let jobs = [On::Facts, On::Trace].map(|on| {
        let job = world.job().trace(Trace::Lines(50)).finished();
        let to = format!("http://{address}/api/v4/projects/1/jobs/1/trace");
        job.fault(on, Fault::Redirect(to), 1);
        job
    });
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    for job in &jobs {
        world.exact(job, Duration::from_mins(1)).await?;
        let requests = world.gitlab.requests_for(job);
        let redirected = requests.iter().any(|request| request.status == 302);
        ensure!(redirected, "nothing was redirected: {requests:#?}");
    }
    // Whoever had come would wait in the backlog, for nobody has accepted.
    let visitor = timeout(Duration::ZERO, elsewhere.accept()).await;
    ensure!(visitor.is_err(), "a connection from {visitor:?}");
    // And one who comes is seen so.
    let _own = TcpStream::connect(address).await?;
    timeout(DECIDED, elsewhere.accept()).await??;
    Ok(())
}

/// What is final is asked so often, and then never again.
fn asked(world: &World, job: &Job, times: usize) -> Result<()> {
    let requests = world.gitlab.requests_for(job);
    ensure!(
        requests.len() == times,
        "asked {} times, not {times}: {requests:#?}",
        requests.len()
    );
    Ok(())
}
