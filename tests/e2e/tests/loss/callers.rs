//! Callers who come all the time, each again and again until its notice is taken.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::gitlab::{Job, Trace};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use tokio::time::{Instant, interval, sleep};

use crate::listener::Listener;
use crate::world::World;

/// One comes so often.
const EVERY: Duration = Duration::from_millis(200);
const LINES: [u64; 4] = [20, 200, 50, 1_000];
/// ACCEPTANCE.md, 5.
const ANSWERED: Duration = Duration::from_secs(6);

/// Callers of one listener.
pub(crate) struct Callers<'a> {
    world: &'a World,
    listener: &'a Listener,
    /// The jobs whose notices were taken.
    taken: RefCell<Vec<Job>>,
    refused: Cell<usize>,
    are_over: Cell<bool>,
}

impl<'a> Callers<'a> {
    pub(crate) fn new(world: &'a World, listener: &'a Listener) -> Self {
        Self {
            world,
            listener,
            taken: RefCell::default(),
            refused: Cell::default(),
            are_over: Cell::default(),
        }
    }

    /// Lets them come until `stop`, and those who are there until they are served. Whoever gets anything but a 2xx, or
    /// a 503 in time that says when to come again, is an error.
    pub(crate) async fn come(&self) -> Result<()> {
        let mut ticks = interval(EVERY);
        let mut callers = FuturesUnordered::new();
        while !self.are_over.get() || !callers.is_empty() {
            tokio::select! {
                served = callers.next(), if !callers.is_empty() => served.transpose()?.unwrap_or_default(),
                _ = ticks.tick() => if !self.are_over.get() {
                    callers.push(self.until_taken(callers.len()));
                },
            }
        }
        Ok(())
    }

    /// Nobody new comes.
    pub(crate) fn stop(&self) {
        self.are_over.set(true);
    }

    /// How many notices were taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.borrow().len()
    }

    /// How many answers were 503.
    pub(crate) fn refused(&self) -> usize {
        self.refused.get()
    }

    /// The jobs whose notices were taken.
    pub(crate) fn into_jobs(self) -> Vec<Job> {
        self.taken.into_inner()
    }

    async fn until_taken(&self, number: usize) -> Result<()> {
        let lines = LINES[number % LINES.len()];
        let job = self.world.job().trace(Trace::Lines(lines)).finished();
        loop {
            let asked = Instant::now();
            let notice = self.listener.notice_of(&job, &self.world.token);
            let answer = notice.send().await.context("a caller got no answer")?;
            let took = asked.elapsed();
            ensure!(took < ANSWERED, "an answer took {took:?}");
            match answer.status() {
                StatusCode::ACCEPTED => break,
                StatusCode::SERVICE_UNAVAILABLE => {}
                status => bail!("a caller got {status}"),
            }
            self.refused.set(self.refused.get() + 1);
            let after = answer.headers().get(RETRY_AFTER);
            let after = after.context("a 503 without Retry-After")?.to_str()?;
            sleep(Duration::from_secs(after.parse()?)).await;
        }
        self.taken.borrow_mut().push(job);
        Ok(())
    }
}
