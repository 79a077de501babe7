//! The same job more than once.

use std::time::Duration;

use anyhow::Result;
use e2e::gitlab::Trace;
use futures_util::future::try_join_all;

use crate::world::World;

pub(crate) async fn ten_notices_on_three_consumers_leave_one_copy(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    for _ in 0..3 {
        world.consumer().await?;
    }
    let job = world.job().trace(Trace::Lines(3_000)).finished();
    try_join_all((0..10).map(|_| listener.post(&job, &world.token))).await?;
    world.exact(&job, Duration::from_mins(1)).await?;
    // All ten through: only then is it sure that none of them changed anything. What the lines are counted against
    // at the end is one copy and one manifest.
    world.queues_empty().await
}
