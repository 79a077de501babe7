//! The jobs of a soak: issued, told of until somebody accepts the notice, and read back once they are complete.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{At, Fault, Job, On, Trace};
use futures_util::future::join_all;
use rand::Rng as _;
use rand::rngs::StdRng;
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::trouble::Trouble;
use crate::world::World;

/// Between two jobs.
const PAUSE: Duration = Duration::from_millis(250);
/// So many jobs are on their way at the same time, and so many notices in the air.
const MOST: usize = 60;
const NOTICES: usize = 8;
/// Between two looks at what is complete, and how long reading one job back may take.
const LOOK: Duration = Duration::from_secs(3);
const READ: Duration = Duration::from_secs(30);

/// What was issued, and what has become of it.
pub(super) struct Work<'a> {
    world: &'a World,
    rng: RefCell<StdRng>,
    /// Nobody has accepted their notices yet.
    pending: RefCell<Vec<Job>>,
    /// They are somebody's obligation.
    accepted: RefCell<Vec<Job>>,
    is_over: Cell<bool>,
    jobs: Cell<u64>,
    lines: Cell<u64>,
    in_vain: Cell<u64>,
}

impl<'a> Work<'a> {
    pub(super) fn new(world: &'a World) -> Self {
        Self {
            world,
            rng: RefCell::new(world.rng("work")),
            pending: RefCell::default(),
            accepted: RefCell::default(),
            is_over: Cell::new(false),
            jobs: Cell::new(0),
            lines: Cell::new(0),
            in_vain: Cell::new(0),
        }
    }

    /// Nothing new is issued any more.
    pub(super) fn is_over(&self) {
        self.is_over.set(true);
    }

    pub(super) fn report(&self) -> String {
        format!(
            "{} jobs, {} lines, each read back; {} notices came again",
            self.jobs.get(),
            self.lines.get(),
            self.in_vain.get()
        )
    }

    /// Issues jobs and tells of them, again and again, until all are accepted.
    pub(super) async fn send(&self, trouble: &Trouble<'_>) -> Result<()> {
        loop {
            let on_their_way = self.pending.borrow().len() + self.accepted.borrow().len();
            if !self.is_over.get() && on_their_way < MOST {
                let job = self.job();
                self.pending.borrow_mut().push(job);
            }
            self.offer_pending(trouble).await;
            if self.is_over.get() && self.pending.borrow().is_empty() {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// The notice of one job, until it is accepted.
    pub(super) async fn accepted(
        &self,
        trouble: &Trouble<'_>,
        job: &Job,
        end: Instant,
    ) -> Result<()> {
        let left = end.saturating_duration_since(Instant::now());
        self.world
            .until("the notice is accepted", left, async || {
                self.offer(trouble, job).await
            })
            .await
    }

    /// One notice; no answer is no obligation, and neither is a refusal.
    async fn offer(&self, trouble: &Trouble<'_>, job: &Job) -> Result<()> {
        let notice = trouble.notice_of(job);
        let status = notice.send().await?.status();
        ensure!(status == StatusCode::ACCEPTED, "the notice got {status}");
        Ok(())
    }

    async fn offer_pending(&self, trouble: &Trouble<'_>) {
        let first = self.pending.borrow().len().min(NOTICES);
        let jobs: Vec<Job> = self.pending.borrow_mut().drain(..first).collect();
        let offers = jobs.iter().map(|job| self.offer(trouble, job));
        let outcomes = join_all(offers).await;
        for (job, outcome) in jobs.into_iter().zip(outcomes) {
            if outcome.is_ok() {
                self.accepted.borrow_mut().push(job);
            } else {
                self.in_vain.set(self.in_vain.get() + 1);
                self.pending.borrow_mut().push(job);
            }
        }
    }

    /// Reads jobs back as soon as they are complete, until there are no more.
    pub(super) async fn verify_until_all_is_exact(&self, deadline: Duration) -> Result<()> {
        let mut end = None;
        loop {
            for job in self.complete().await? {
                let manifest = self.world.exact(&job, READ).await?;
                self.accepted
                    .borrow_mut()
                    .retain(|other| other.id() != job.id());
                self.jobs.set(self.jobs.get() + 1);
                let lines = manifest["lines"].as_u64().unwrap_or_default();
                self.lines.set(self.lines.get() + lines);
            }
            let left = self.pending.borrow().len() + self.accepted.borrow().len();
            if self.is_over.get() {
                let end = *end.get_or_insert_with(|| Instant::now() + deadline);
                if left == 0 {
                    return Ok(());
                }
                let ids: Vec<u64> = self.accepted.borrow().iter().map(Job::id).collect();
                ensure!(
                    Instant::now() < end,
                    "{left} jobs are not complete after {deadline:?}: {ids:?}"
                );
            }
            sleep(LOOK).await;
        }
    }

    /// Those of the accepted jobs whose manifest says that they are complete.
    async fn complete(&self) -> Result<Vec<Job>> {
        self.world.refresh().await?;
        let jobs = self.accepted.borrow().clone();
        let ids: Vec<String> = jobs.iter().map(|job| job.id().to_string()).collect();
        let filter = json!([{"terms": {"job_id": ids}}, {"term": {"complete": true}}]);
        let body =
            json!({"query": {"bool": {"filter": filter}}, "size": MOST, "_source": ["job_id"]});
        let index = self.world.indices("jobs");
        let found = self.world.elasticsearch().hits(&index, &body).await?;
        let is_found = |job: &Job| {
            let id = job.id().to_string();
            found.iter().any(|hit| hit.source["job_id"] == id.as_str())
        };
        Ok(jobs.into_iter().filter(is_found).collect())
    }

    /// A job as they come: most are short, some long, some go on for a while, some logs lag, and sometimes GitLab
    /// has trouble of its own.
    fn job(&self) -> Job {
        let mut rng = self.rng.borrow_mut();
        let lines = match rng.random_range(0..100) {
            0..60 => rng.random_range(1..300),
            60..90 => rng.random_range(300..4_000),
            90..98 => rng.random_range(4_000..15_000),
            _ => rng.random_range(15_000..50_000),
        };
        let trace = if rng.random_bool(0.8) {
            Trace::Lines(lines)
        } else {
            Trace::PlainLines(lines)
        };
        let job = self.world.job().trace(trace);
        let job = match rng.random_range(0..10) {
            0..6 => job.finished(),
            6..9 => {
                let length = Duration::from_millis(rng.random_range(1_000..20_000));
                job.finish_after(length).start()
            }
            _ => {
                let lag = Duration::from_millis(rng.random_range(1_000..10_000));
                job.tail_after(300, lag).finished()
            }
        };
        if rng.random_bool(0.15) {
            let on = if rng.random_bool(0.5) {
                On::Facts
            } else {
                On::Trace
            };
            let fault = match rng.random_range(0..5) {
                0 => Fault::Unavailable(502),
                1 => Fault::Delay(Duration::from_millis(rng.random_range(500..5_000))),
                2 => Fault::ResetAt(At::Half),
                3 => Fault::WrongLength(100),
                _ => Fault::LoginPage,
            };
            job.fault(on, fault, rng.random_range(1..3));
        }
        job
    }
}
