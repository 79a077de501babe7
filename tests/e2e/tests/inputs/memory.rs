//! The consumer's memory over time: one huge trace, and many jobs that wait while Elasticsearch is away. In full length
//! it draws `docs/memory.svg`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::gitlab::{Fault, Job, On, Trace};
use futures_util::future::try_join_all;
use tokio::time::{Instant, sleep};

use crate::length::is_full;
use crate::listener::Listener;
use crate::memory::{Course, MIB, Memory};
use crate::plot::{Band, Curve, Plot};
use crate::world::{GRACE, World};

/// Of every line: it hardly compresses, for compressed bodies are what is held.
const WIDTH: usize = 1_000;
/// GitLab takes so many seconds over each of those that are read when Elasticsearch goes.
const SLOWLY: usize = 5;
const BEGUN: Duration = Duration::from_mins(1);

/// How much there is to do.
struct Extent {
    /// Of the huge trace, some bytes more than `WIDTH` each.
    lines: u64,
    jobs: usize,
    lines_of_each: u64,
    away: Duration,
    indexed: Duration,
}

impl Extent {
    fn of_this_run() -> Self {
        if is_full() {
            return Self {
                // 1 GiB, and 100 of 10 MB.
                lines: 1_040_000,
                jobs: 100,
                lines_of_each: 9_700,
                away: Duration::from_mins(2),
                indexed: Duration::from_mins(30),
            };
        }
        Self {
            lines: 62_000,
            jobs: 30,
            lines_of_each: 1_940,
            away: Duration::from_secs(15),
            indexed: Duration::from_mins(2),
        }
    }
}

pub(crate) async fn c19_memory_stays_flat_whatever_the_size_and_whatever_waits(
    world: &World,
) -> Result<()> {
    let extent = Extent::of_this_run();
    world.set_up().await?;
    let huge = one_huge_trace(world, &extent).await?;
    let (waiting, band) = many_that_wait(world, &extent).await?;
    if is_full() {
        draw(&extent, &huge, &waiting, band)?;
    }
    huge.is_within_limit().context("one huge trace")?;
    waiting.is_within_limit().context("many jobs that wait")
}

async fn one_huge_trace(world: &World, extent: &Extent) -> Result<Course> {
    let listener = world.listener().await?;
    let consumer = world.consumer().await?;
    let memory = Memory::watch(&consumer.program);
    let trace = Trace::Noise {
        lines: extent.lines,
        width: WIDTH,
    };
    let job = world.job().trace(trace).finished();
    listener.post(&job, &world.token).await?;
    world.manifest(&job, "complete", extent.indexed).await?;
    let course = memory.end()?;
    consumer.program.terminate(GRACE).await?;
    world.exact(&job, extent.indexed).await?;
    Ok(course)
}

/// They come before Elasticsearch goes, in the middle of which it goes, and while it is away.
async fn many_that_wait(world: &World, extent: &Extent) -> Result<(Course, Band)> {
    let port = world.servers.elasticsearch_port;
    let proxy = world.proxy("consumer–Elasticsearch", port).await?;
    let port = [("JOBLOGS_ES_PORT", proxy.port().to_string())];
    let listener = world.listener().await?;
    let consumer = world.consumer_with(&world.gitlab.url(), &port).await?;
    let memory = Memory::watch(&consumer.program);
    let began = Instant::now();
    let trace = Trace::Noise {
        lines: extent.lines_of_each,
        width: WIDTH,
    };
    let jobs: Vec<Job> = (0..extent.jobs)
        .map(|_| world.job().trace(trace.clone()).finished())
        .collect();
    let (before, during) = jobs.split_at(extent.jobs / 2);
    // So that all of them are in the middle of it.
    for job in before {
        job.fault(On::Trace, Fault::Drip(job.trace_size() / SLOWLY), 1);
    }
    let lines = world.documents("lines").await?;
    all_are_noticed(world, &listener, before).await?;
    world
        .until_searchable("the first lines of many are there", BEGUN, async || {
            ensure!(world.documents("lines").await? > lines, "there are none");
            Ok(())
        })
        .await?;
    proxy.cut();
    let from = began.elapsed();
    all_are_noticed(world, &listener, during).await?;
    // The length of the outage.
    sleep(extent.away).await;
    are_not_over(world, before).await?;
    proxy.mend();
    let to = began.elapsed();
    for job in &jobs {
        world.manifest(job, "complete", extent.indexed).await?;
    }
    let course = memory.end()?;
    for job in &jobs {
        world.exact(job, extent.indexed).await?;
    }
    let name = "no Elasticsearch for the many jobs".to_owned();
    Ok((course, Band { name, from, to }))
}

async fn all_are_noticed(world: &World, listener: &Listener, jobs: &[Job]) -> Result<()> {
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    Ok(())
}

/// Without this, that memory was flat would say nothing.
async fn are_not_over(world: &World, jobs: &[Job]) -> Result<()> {
    world.refresh().await?;
    for job in jobs {
        if world.manifest_now(job).await?.is_none() {
            return Ok(());
        }
    }
    bail!("Elasticsearch went too late to prove anything: all jobs were over")
}

fn draw(extent: &Extent, huge: &Course, waiting: &Course, band: Band) -> Result<()> {
    let name = |what: String, course: &Course| {
        let tenths = course.peak * 10 / MIB;
        format!("{what}: at most {}.{} MiB", tenths / 10, tenths % 10)
    };
    let jobs = format!("{} jobs of 10 MB, Elasticsearch away", extent.jobs);
    let plot = Plot {
        title: "Resident memory of the consumer, text that hardly compresses",
        curves: vec![
            Curve {
                name: name("one trace of 1 GiB".to_owned(), huge),
                colour: "#0969da",
                samples: &huge.samples,
            },
            Curve {
                name: name(jobs, waiting),
                colour: "#1a7f37",
                samples: &waiting.samples,
            },
        ],
        band,
    };
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    std::fs::create_dir_all(&docs)?;
    std::fs::write(docs.join("memory.svg"), plot.svg()).context("writing docs/memory.svg")
}
