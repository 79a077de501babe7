//! Nothing goes wrong, fifty times at once.

use std::time::Duration;

use anyhow::Result;
use e2e::gitlab::{Job, Trace};
use futures_util::future::try_join_all;

use crate::world::World;

const JOBS: usize = 50;
const LINES: u64 = 2_000;
/// For all of them together.
const INDEXED: Duration = Duration::from_mins(1);

pub(crate) async fn a01_fifty_jobs_of_two_thousand_lines_are_exact(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let jobs: Vec<Job> = (0..JOBS)
        .map(|_| world.job().trace(Trace::Lines(LINES)).finished())
        .collect();
    try_join_all(jobs.iter().map(|job| listener.post(job, &world.token))).await?;
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}
