//! Elasticsearch goes away, begins a new day, and takes some lines and not others.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Trace};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};

use crate::consumer::Consumer;
use crate::proxy::Proxy;
use crate::world::World;

/// The consumer counts here how often it sends a bulk request again.
const TRIES: &str = "joblogs_bulk_retries_total";
const BEGUN: Duration = Duration::from_secs(40);
/// A consumer looks every 5 seconds whether Elasticsearch is there.
const NOTICED: Duration = Duration::from_secs(15);
const TRIED: Duration = Duration::from_secs(40);
/// RabbitMQ's own counts are some seconds old.
const COUNTED: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn elasticsearch_out_of_reach_for_a_while_loses_nothing(
    world: &World,
) -> Result<()> {
    // What ends between the two outages must be exact although its lines were cut off in the first.
    const LINES: [u64; 4] = [6_000, 40_000, 40_000, 40_000];
    world.set_up().await?;
    let proxy = Proxy::start(world.servers.elasticsearch_port).await?;
    let listener = world.listener().await?;
    let port = [("JOBLOGS_ES_PORT", proxy.port().to_string())];
    let consumer = world.consumer_with(&world.gitlab.url(), &port).await?;
    let mut jobs: Vec<Job> = LINES
        .map(|lines| world.job().trace(Trace::Lines(lines)).finished())
        .into();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    has_documents(world, "lines").await?;
    proxy.cut();
    tried_again(world, &consumer).await?;
    proxy.mend();
    has_documents(world, "jobs").await?;

    proxy.cut();
    let late = world.job().trace(Trace::Lines(1_000)).finished();
    listener.post(&late, &world.token).await?;
    jobs.push(late);
    world
        .until("the consumer names Elasticsearch", NOTICED, async || {
            let named = consumer.faults().await?.context("it is ready")?;
            ensure!(named.contains("elasticsearch: "), "it names {named:?}");
            Ok(())
        })
        .await?;
    nothing_is_given_up(world, jobs.len() as u64).await?;
    proxy.mend();
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    world
        .until("the consumer is ready again", NOTICED, async || {
            let faults = consumer.faults().await?;
            ensure!(faults.is_none(), "{faults:?}");
            Ok(())
        })
        .await
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

/// Waits until the consumer has sent a bulk request again.
async fn tried_again(world: &World, consumer: &Consumer) -> Result<()> {
    world
        .until("a bulk request is sent again", TRIED, async || {
            ensure!(consumer.counter(TRIES).await? > 0, "there was none");
            Ok(())
        })
        .await
}

/// During an outage: of so many jobs some are not complete, and the broker has the message of each of them.
async fn nothing_is_given_up(world: &World, jobs: u64) -> Result<()> {
    world.refresh().await?;
    let missing = jobs - world.documents("jobs").await?;
    ensure!(
        missing > 1,
        "cut too late to prove anything: only {missing} of {jobs} jobs are missing"
    );
    world
        .until("the broker has what is missing", COUNTED, async || {
            let messages = world.messages().await?;
            ensure!(messages == missing, "{messages} messages, not {missing}");
            Ok(())
        })
        .await
}

pub(crate) async fn the_same_job_again_after_midnight_adds_nothing(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let midnight = Timestamp::now().to_zoned(TimeZone::UTC).start_of_day()?;
    let end = midnight.timestamp() - 1.second();
    let job = world.job().trace(Trace::Lines(1_500)).finished_at(end);
    listener.post(&job, &world.token).await?;
    let manifest = world.exact(&job, INDEXED).await?;
    listener.get(&job, &world.token).await?;
    world
        .until("the second notice is through", INDEXED, async || {
            let times = world.times_logged("job indexed", &job);
            ensure!(times == 2, "{times} notices are");
            Ok(())
        })
        .await?;
    world.compare(&job).await?;
    let again = world.manifest_now(&job).await?;
    ensure!(
        again.as_ref() == Some(&manifest),
        "the manifest {manifest} became {again:?}"
    );
    let path = format!("_cat/indices/*-{}*?format=json&h=index&s=index", world.name);
    let indices = world.elasticsearch().ask(&path, None).await?;
    let yesterday = format!("{}-{}", midnight.yesterday()?.date(), world.name);
    let right = json!([{"index": yesterday}, {"index": format!("{yesterday}-jobs")}]);
    ensure!(indices == right, "the indices are {indices}, not {right}");
    Ok(())
}

pub(crate) async fn lines_that_elasticsearch_does_not_take_are_recorded(
    world: &World,
) -> Result<()> {
    /// The largest `byte`.
    const LARGEST: u64 = 127;
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let job = world.job().trace(Trace::Lines(300)).finished();
    // Somebody has made the index of that day by hand.
    let line = json!({"mappings": {"properties": {"line": {"type": "byte"}}}});
    world
        .elasticsearch()
        .put(&world.index(&job)?, &line)
        .await?;
    listener.post(&job, &world.token).await?;
    let manifest = world.manifest(&job, "complete", INDEXED).await?;
    let indexed = world
        .compare_those(&job, "lines", |number| number <= LARGEST)
        .await
        .context("lines that are taken")?;
    let rejected = world
        .compare_those(&job, "rejected", |number| number > LARGEST)
        .await
        .context("lines that are not taken")?;
    says(&manifest, indexed, rejected)?;
    have_reasons(world, &job, rejected).await?;
    world.has_left(indexed);
    world.has_left_rejected(rejected);

    // A long line among them is kept in part.
    let short = "one of many\n".repeat(usize::try_from(LARGEST)?);
    let long = "ä".repeat(3_000);
    let trace = format!("{short}{long}\n\x1b[32;1mJob succeeded\x1b[0;m\n");
    let job = world.job().trace(Trace::Bytes(trace.into())).finished();
    listener.post(&job, &world.token).await?;
    let manifest = world.manifest(&job, "complete", INDEXED).await?;
    says(&manifest, LARGEST, 2)?;
    let documents = have_reasons(world, &job, 2).await?;
    let kept = documents[0]["message"].as_str().unwrap_or_default();
    ensure!(
        kept == "ä".repeat(512),
        "{} bytes are kept: {kept}",
        kept.len()
    );
    world.has_left(LARGEST);
    world.has_left_rejected(2);
    Ok(())
}

/// The manifest says how many lines are where, and that these are all.
fn says(manifest: &Value, indexed: u64, rejected: u64) -> Result<()> {
    let counts = [
        ("indexed", indexed),
        ("rejected", rejected),
        ("lines", indexed + rejected),
    ];
    for (name, right) in counts {
        ensure!(manifest[name] == right, "{name} is not {right}: {manifest}");
    }
    ensure!(manifest["complete"] == true, "not complete: {manifest}");
    Ok(())
}

/// So many lines of the job are recorded as rejected, each with Elasticsearch's reason; it gives them in order.
async fn have_reasons(world: &World, job: &Job, count: u64) -> Result<Vec<Value>> {
    let query = json!({"bool": {"filter": [
        {"term": {"job_id": job.id().to_string()}},
        {"term": {"error.type": "document_parsing_exception"}},
        {"term": {"error.status": 400}},
    ]}});
    let order = json!([{"line": "asc"}]);
    let indices = world.indices("rejected");
    world.refresh().await?;
    let mut found = world.elasticsearch().read(&indices, query, order);
    let mut documents = Vec::new();
    while let Some(document) = found.next().await? {
        let reason = document.source["error"]["message"].as_str();
        let names_the_field = reason.is_some_and(|reason| reason.contains("[line]"));
        ensure!(names_the_field, "the reason is {reason:?}");
        documents.push(document.source);
    }
    ensure!(
        documents.len() as u64 == count,
        "{} of {count} rejected lines have a reason",
        documents.len()
    );
    Ok(documents)
}
