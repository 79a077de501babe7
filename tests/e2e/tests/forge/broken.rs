//! Answers that are none, or none to the end.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{ALWAYS, At, Fault, Job, On, Trace};
use rand::Rng as _;
use tokio::time::sleep;

use crate::world::World;

const INDEXED: Duration = Duration::from_secs(100);

pub(crate) async fn b15_traces_that_break_off_are_exact_in_the_end(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    // More than the job's page shows: the links to its lines depend on the length of the trace.
    let jobs: Vec<Job> = (0..6)
        .map(|_| world.job().trace(Trace::Lines(8_000)).finished())
        .collect();
    let slowly = jobs[0].trace_size() / 4;
    let somewhere = world
        .rng("where it is reset")
        .random_range(0..jobs[0].trace_size());
    let too_long = Fault::All(vec![Fault::WrongLength(5_000), Fault::Drip(slowly)]);
    let faults = [
        (Fault::ResetAt(At::Half), 2),
        (Fault::ResetAt(At::Byte(somewhere)), 1),
        // Slowly: lines are indexed before it shows that there are fewer.
        (too_long, 1),
        // In the middle of a line, and nothing says that there is more.
        (Fault::WrongLength(-5_000), 1),
        (Fault::Drip(slowly), 1),
    ];
    for (job, (fault, times)) in jobs.iter().zip(&faults) {
        job.fault(On::Trace, fault.clone(), *times);
    }
    jobs[5].fault(On::Facts, Fault::ResetAt(At::Half), 1);
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    let faults = faults.iter().map(|(_, times)| times).chain([&1]);
    for (job, broken) in jobs.iter().zip(faults) {
        let exact = world.exact(job, INDEXED).await;
        exact.with_context(|| format!("one is reset at {somewhere}"))?;
        // Facts and trace, once more for each time that something broke off.
        let requests = world.gitlab.requests_for(job);
        let most = 2 * (1 + broken);
        ensure!(requests.len() <= most, "more than {most}: {requests:#?}");
    }
    let dripping = jobs[4].id();
    ensure!(
        world.gitlab.requests_for(&jobs[4]).len() == 2,
        "job {dripping} was asked for twice, slow as it was"
    );
    Ok(())
}

pub(crate) async fn b15_a_burst_of_5xx_costs_few_calls(world: &World) -> Result<()> {
    const JOBS: usize = 20;
    /// Longer than the shortest wait tier, after which each message would come again.
    const BURST: Duration = Duration::from_secs(15);
    /// One for each job that is asked about when it begins, and then less than a look a second.
    const CALLS: usize = JOBS + 15;
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let fault = Fault::Unavailable(502);
    world.gitlab.fault(On::Any, fault, ALWAYS);
    let jobs: Vec<Job> = (0..JOBS).map(|_| world.job().finished()).collect();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    // The length of the burst.
    sleep(BURST).await;
    world.gitlab.clear_faults();
    let failed = world.gitlab.requests().len();
    ensure!(
        failed > 3,
        "{failed} calls: nobody looks whether it is over"
    );
    ensure!(failed <= CALLS, "{failed} calls");
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    // Then the facts and the trace of each.
    let requests = world.gitlab.requests();
    let served = requests.iter().filter(|it| it.status == 200).count();
    ensure!(served == 2 * JOBS, "{served} calls after it");
    Ok(())
}
