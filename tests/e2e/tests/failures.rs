//! Why a job failed, and whether its project knows that already: what its manifest says.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, JobBuilder, Scope, Status};
use e2e::samples;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::listener::Listener;
use crate::world::World;

const INDEXED: Duration = Duration::from_mins(1);
/// `--novel-days` by default.
const NOVEL_DAYS: i64 = 30;

pub(crate) async fn a_failed_job_says_why_and_where(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    for (sample, class, words) in [
        ("cargo-build.ts", "code", "error[E0308]: mismatched types"),
        ("gcc-errors.plain", "code", ": error: "),
        ("pytest.ts", "test", "test_"),
        ("go-test.plain", "test", "--- FAIL: "),
        ("command-not-found.ts", "configuration", "command not found"),
        ("timeout.plain", "timeout", "$ for i in "),
        ("cancel-graceful.ts", "cancelled", "$ "),
        ("fail-exit1.ts", "unknown", ""),
    ] {
        let job = sample_job(world, sample).finished();
        let manifest = ingest(world, &listener, &job).await?;
        let failure = &manifest["failure"];
        let is_right = failure["class"] == class && text(&failure["message"]).contains(words);
        ensure!(is_right, "{sample}: {failure:#}");
        ensure!(
            failure["rule"].is_string() == (class != "unknown"),
            "{sample}: {failure:#}"
        );
        refers_to_lines(world, &job, failure)
            .await
            .context(sample)?;
    }
    let job = sample_job(world, "hello.ts").finished();
    let manifest = ingest(world, &listener, &job).await?;
    ensure!(manifest.get("failure").is_none(), "{manifest:#}");
    let gap = &manifest["slowest_gap"];
    let query = json!({"range": {"gap_ms": {"gt": gap["gap_ms"]}}});
    ensure!(gap["gap_ms"].is_u64(), "{manifest:#}");
    let longer = count(world, &job, query).await?;
    ensure!(longer == 0, "{longer} lines came after a longer silence");
    Ok(())
}

pub(crate) async fn a_failure_is_new_once_in_a_project(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let now = Timestamp::now();
    let days_ago = |days| now - SignedDuration::from_hours(24 * days);
    // The oldest first: each is asked about what ended before it.
    let long_ago = sample_job(world, "gcc-errors.ts").finished_at(days_ago(NOVEL_DAYS + 5));
    is_novel(world, &listener, &long_ago, true).await?;
    let since = sample_job(world, "gcc-errors.plain").finished_at(days_ago(3));
    is_novel(world, &listener, &since, true).await?;
    let again = sample_job(world, "gcc-errors.ts").finished_at(days_ago(2));
    is_novel(world, &listener, &again, false).await?;
    let other = sample_job(world, "cargo-build.ts").finished_at(days_ago(1));
    is_novel(world, &listener, &other, true).await?;
    // What another project has seen counts for nothing here.
    let project = world.gitlab.project("acme/elsewhere");
    let token = world.gitlab.token(Scope::ReadApi, &[&project]);
    let elsewhere = world
        .gitlab
        .sample_job(&project, &samples::named("gcc-errors.ts"));
    let elsewhere = elsewhere.id(900_001).finished_at(now);
    listener.post(&elsewhere, &token).await?;
    let manifest = world.exact(&elsewhere, INDEXED).await?;
    ensure!(manifest["failure"]["novel"] == true, "{manifest:#}");
    Ok(())
}

pub(crate) async fn a_job_that_never_ran_says_why_in_gitlabs_words(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let job = world
        .job()
        .fails("runner_unsupported")
        .waiting(Status::Failed);
    listener.post(&job, &world.token).await?;
    let manifest = world.without_lines(&job, "no_trace", INDEXED).await?;
    ensure!(
        manifest["failure"]["class"] == "configuration"
            && manifest["failure"]["rule"] == "gitlab-refused",
        "{manifest:#}"
    );
    Ok(())
}

/// A sample under an id that no other job of this world has.
fn sample_job(world: &World, sample: &str) -> JobBuilder {
    world
        .gitlab
        .sample_job(&world.project, &samples::named(sample))
}

async fn ingest(world: &World, listener: &Listener, job: &Job) -> Result<Value> {
    listener.post(job, &world.token).await?;
    world.exact(job, INDEXED).await
}

async fn is_novel(world: &World, listener: &Listener, job: &Job, right: bool) -> Result<()> {
    let manifest = ingest(world, listener, job).await?;
    let failure = &manifest["failure"];
    ensure!(failure["novel"] == right, "not {right}: {failure:#}");
    Ok(())
}

/// Each line of a failure is the one that Elasticsearch has, and the first one has its link.
async fn refers_to_lines(world: &World, job: &Job, failure: &Value) -> Result<()> {
    let lines = failure["lines"].as_array().context("no lines")?;
    ensure!(!lines.is_empty() && lines.len() <= 40, "{failure:#}");
    for line in lines {
        let query = json!({"bool": {"filter": [
            {"term": {"job_id": job.id().to_string()}},
            {"term": {"line": line["line"]}},
        ]}});
        let body = json!({"query": query});
        let found = world
            .elasticsearch()
            .hits(&world.indices("lines"), &body)
            .await?;
        let source = &found.first().context("no such line")?.source;
        ensure!(
            text(&source["message"]).starts_with(text(&line["message"]))
                && source["section"] == line["section"],
            "{line} is {source}"
        );
        let is_first = line["line"] == failure["line"];
        ensure!(
            !is_first || source["line_url"] == failure["line_url"],
            "{failure:#} is {source}"
        );
    }
    Ok(())
}

async fn count(world: &World, job: &Job, query: Value) -> Result<u64> {
    let query = json!({"bool": {"filter": [
        {"term": {"job_id": job.id().to_string()}},
        query,
    ]}});
    let elasticsearch = world.elasticsearch();
    elasticsearch.count(&world.indices("lines"), &query).await
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
