//! Random faults on all links, kills and standstills, while jobs of all sizes come; one seed decides about all of it.

mod trouble;
mod work;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Trace;
use tokio::time::Instant;

use crate::length::{is_full, soak};
use crate::seed::seed;
use crate::world::World;
use trouble::Trouble;
use work::Work;

const SHORT: Duration = Duration::from_secs(50);
/// After the last fault; looks for a missing end take nearly four minutes.
const SETTLED: Duration = Duration::from_mins(6);
/// ACCEPTANCE.md, 12.
const FRESH: Duration = Duration::from_mins(1);

pub(crate) async fn a12_soak_whatever_fails_nothing_is_lost_or_doubled(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let trouble = Trouble::start(world).await?;
    let work = Work::new(world);
    let end = Instant::now() + if is_full() { soak() } else { SHORT };
    let play = async {
        trouble.until(end).await?;
        let last_fault = Instant::now();
        let fresh = world.job().trace(Trace::Lines(200)).finished();
        work.accepted(&trouble, &fresh, last_fault + FRESH).await?;
        world
            .exact(&fresh, FRESH.saturating_sub(last_fault.elapsed()))
            .await
            .context("a fresh notice after the last fault")?;
        work.is_over();
        Ok(())
    };
    let verify = work.verify_until_all_is_exact(SETTLED);
    let outcome = tokio::try_join!(work.send(&trouble), verify, play);
    let report = format!("{}; {}", work.report(), trouble.report());
    outcome.with_context(|| format!("after {report}"))?;
    ensure!(trouble.count() > 0, "nothing has failed: {report}");
    // Each line was read back. That there is nothing else the world's end proves.
    println!("soak of seed {}: {report}; lost 0, doubled 0", seed());
    Ok(())
}
