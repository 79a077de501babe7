//! The consumer is killed again and again, in the middle of its work.

use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{ALWAYS, Fault, Job, On, Trace};
use rand::Rng as _;
use rand::rngs::StdRng;
use tokio::time::sleep;

use crate::listener::Listener;
use crate::queue::DEAD;
use crate::world::World;

/// More than RabbitMQ's delivery limit: a message that came back so often without anybody's care would be dead.
const KILLS: usize = 22;
/// At least so many of them have to hit a job whose lines are on their way.
const IN_THE_MIDDLE: usize = 10;
/// A job that is hardly through before it is hit.
const LINES: u64 = 120_000;
/// A message that came back too often sleeps for 10 s first.
const BEGUN: Duration = Duration::from_secs(40);
const SEARCHABLE: Duration = Duration::from_secs(10);
const INDEXED: Duration = Duration::from_secs(90);

pub(crate) async fn a02_killed_at_random_instants_nothing_is_lost_or_doubled(
    world: &World,
) -> Result<()> {
    let mut rng = world.rng("kills");
    world.set_up().await?;
    let listener = world.listener().await?;
    // GitLab gives it out to nobody who lives.
    let slow = world.job().trace(Trace::Lines(500)).finished();
    slow.fault(On::Trace, Fault::Delay(BEGUN), ALWAYS);
    listener.post(&slow, &world.token).await?;
    let mut jobs = killed_again_and_again(world, &listener, &slow, &mut rng).await?;
    slow.clear_faults();
    jobs.push(slow);
    world.consumer().await?;
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    let dead = world.queues.ready(DEAD).await?;
    ensure!(dead == 0, "{dead} dead letters");
    Ok(())
}

/// A consumer after the other works on the slow job, on a huge one and on small ones, until it is killed. All of the
/// jobs but the slow one.
async fn killed_again_and_again(
    world: &World,
    listener: &Listener,
    slow: &Job,
    rng: &mut StdRng,
) -> Result<Vec<Job>> {
    let mut huge = notice_of(world, listener, LINES).await?;
    let mut jobs = Vec::new();
    let mut in_the_middle = 0;
    for _ in 0..KILLS {
        let asked = traces_asked(world, slow);
        let consumer = world.consumer().await?;
        jobs.push(notice_of(world, listener, rng.random_range(10..3_000)).await?);
        world
            .until("the consumer has the slow job in hand", BEGUN, async || {
                ensure!(
                    traces_asked(world, slow) > asked,
                    "it has not asked for its trace"
                );
                Ok(())
            })
            .await?;
        // A random instant is what this is about: there is no condition to wait for.
        sleep(Duration::from_millis(rng.random_range(0..1_200))).await;
        consumer.program.kill()?;
        // An index that was just made can't be searched yet.
        let (is_over, lines) = world
            .until_searchable("what is there of the huge job", SEARCHABLE, async || {
                let manifest = world.manifest_now(&huge).await?;
                Ok((manifest.is_some(), world.count(&huge).await?))
            })
            .await?;
        if is_over {
            let next = notice_of(world, listener, LINES).await?;
            jobs.push(std::mem::replace(&mut huge, next));
        } else if lines > 0 {
            in_the_middle += 1;
        }
    }
    jobs.push(huge);
    ensure!(
        in_the_middle >= IN_THE_MIDDLE,
        "only {in_the_middle} of {KILLS} kills hit the middle of a job"
    );
    Ok(jobs)
}

async fn notice_of(world: &World, listener: &Listener, lines: u64) -> Result<Job> {
    let job = world.job().trace(Trace::Lines(lines)).finished();
    listener.post(&job, &world.token).await?;
    Ok(job)
}

fn traces_asked(world: &World, job: &Job) -> usize {
    let requests = world.gitlab.requests_for(job);
    requests.iter().filter(|request| request.is_trace()).count()
}
