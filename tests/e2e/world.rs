//! What one test lives in: a virtual host, an index, a GitLab, and the programs that it starts. At the end nothing may
//! be left over: no message, no document that was not issued, no request that GitLab should not have seen.

use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::elasticsearch::Elasticsearch;
use e2e::eventually::{eventually, every};
use e2e::gitlab::{Gitlab, Job, JobBuilder, Project, Scope, Token};
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::chronicle::Chronicle;
use crate::program::Program;
use crate::proxy::Proxy;
use crate::queue::{DEAD, JOBS, Queues, WAITING};
use crate::seed::rng;
use crate::servers::Servers;

/// How long a program may take to end on SIGTERM: compose's grace.
pub(crate) const GRACE: Duration = Duration::from_secs(30);
/// How long the queues may take to be empty after the last thing that a test waits for.
const QUEUES: Duration = Duration::from_secs(30);
const KEYGEN: Duration = Duration::from_secs(10);
/// Programs whose last words are reported: a test may kill dozens.
const TALKERS: usize = 8;
/// How often somebody looks whether a program has died.
const WATCH: Duration = Duration::from_millis(100);
/// Between two questions that make Elasticsearch refresh an index.
const REFRESH: Duration = Duration::from_millis(200);

/// One test's world.
pub(crate) struct World {
    pub(crate) servers: Arc<Servers>,
    /// The name of its virtual host and of its index.
    pub(crate) name: String,
    pub(crate) gitlab: Gitlab,
    pub(crate) project: Project,
    /// A token that sees the project.
    pub(crate) token: Token,
    pub(crate) queues: Queues,
    pub(crate) seal_key: String,
    /// What was done to its programs, links and servers.
    pub(crate) chronicle: Chronicle,
    folder: TempDir,
    programs: Mutex<Vec<Arc<Program>>>,
    left: Mutex<Left>,
}

/// What a test leaves behind rightly.
#[derive(Default)]
struct Left {
    lines: u64,
    manifests: u64,
    rejected: u64,
    dead_letters: u32,
}

impl World {
    pub(crate) async fn new(servers: Arc<Servers>, name: String) -> Result<Self> {
        servers.rabbitmq.add_vhost(&name).await?;
        let queues = Queues::connect(&servers.rabbitmq, &name).await?;
        let gitlab = Gitlab::start_on("127.0.0.1:0").await?;
        let project = gitlab.project("acme/demo");
        let token = gitlab.token(Scope::ReadApi, &[&project]);
        let mut world = Self {
            servers,
            name,
            gitlab,
            project,
            token,
            queues,
            seal_key: String::new(),
            chronicle: Chronicle::default(),
            folder: TempDir::with_prefix("joblogs-e2e-")?,
            programs: Mutex::default(),
            left: Mutex::default(),
        };
        // Not among the world's programs: what those say is searched for this key.
        let output = world.folder.path().join("keygen.log");
        let keygen = Program::start("listener", output, &["keygen"], &[], &world.chronicle)?;
        keygen.end(KEYGEN).await?;
        keygen.output().trim().clone_into(&mut world.seal_key);
        Ok(world)
    }

    /// A job of the project, to be described and started.
    pub(crate) fn job(&self) -> JobBuilder {
        self.gitlab.job(&self.project)
    }

    pub(crate) fn elasticsearch(&self) -> &Elasticsearch {
        &self.servers.elasticsearch
    }

    /// The pattern of the indices of lines, of manifests (`jobs`) and of what was refused (`rejected`).
    pub(crate) fn indices(&self, kind: &str) -> String {
        match kind {
            "lines" => format!("*-{}", self.name),
            kind => format!("*-{}-{kind}", self.name),
        }
    }

    /// A proxy before this port, whose faults are noted under the name of its link.
    pub(crate) async fn proxy(&self, link: &'static str, port: u16) -> Result<Proxy> {
        Ok(Proxy::start(port).await?.noted(link, &self.chronicle))
    }

    /// The chances of a part of this test.
    pub(crate) fn rng(&self, part: &str) -> StdRng {
        rng(&format!("{} {part}", self.name))
    }

    /// A file of this world, for a secret.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a program; when it dies, whoever waits for anything fails at once.
    pub(crate) fn start(
        &self,
        program: &str,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Arc<Program>> {
        let mut programs = self.programs();
        let number = programs.len() + 1;
        let output = self.folder.path().join(format!("{program}-{number}.log"));
        let program = Program::start(program, output, flags, variables, &self.chronicle)?;
        let program = Arc::new(program);
        programs.push(program.clone());
        Ok(program)
    }

    /// Runs a program that ends by itself, with exit code 0.
    pub(crate) async fn run(
        &self,
        program: &str,
        flags: &[&str],
        variables: &[(&str, String)],
    ) -> Result<Arc<Program>> {
        const PATIENCE: Duration = Duration::from_mins(1);
        let program = self.start(program, flags, variables)?;
        let status = program.end(PATIENCE).await?;
        ensure!(status.success(), "{} ended: {status}", program.name());
        Ok(program)
    }

    /// Waits for a condition, unless a program dies.
    pub(crate) async fn until<T>(
        &self,
        what: impl Display,
        deadline: Duration,
        ask: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        tokio::select! {
            outcome = eventually(what, deadline, ask) => outcome,
            death = self.death() => Err(death),
        }
    }

    /// The same for what a search shows: `ask` comes after a refresh of all of this world's indices.
    pub(crate) async fn until_searchable<T>(
        &self,
        what: impl Display,
        deadline: Duration,
        mut ask: impl AsyncFnMut() -> Result<T>,
    ) -> Result<T> {
        let ask = async || {
            self.refresh().await?;
            ask().await
        };
        tokio::select! {
            outcome = every(REFRESH, what, deadline, ask) => outcome,
            death = self.death() => Err(death),
        }
    }

    pub(crate) async fn refresh(&self) -> Result<()> {
        self.elasticsearch()
            .refresh(&format!("*-{}*", self.name))
            .await
    }

    /// How many lines of a job can be searched, as of the last refresh.
    pub(crate) async fn count(&self, job: &Job) -> Result<u64> {
        let query = json!({"term": {"job_id": job.id().to_string()}});
        self.elasticsearch()
            .count(&self.indices("lines"), &query)
            .await
    }

    /// From now on a manifest more is right, and so many lines.
    pub(crate) fn has_left(&self, lines: u64) {
        let mut left = self.left();
        left.lines += lines;
        left.manifests += 1;
    }

    /// From now on so many lines more in the rejected index are right.
    pub(crate) fn has_left_rejected(&self, lines: u64) {
        self.left().rejected += lines;
    }

    /// So many dead letters will be right.
    pub(crate) fn expect_dead_letters(&self, count: u32) {
        self.left().dead_letters = count;
    }

    /// How many documents there are in the indices of this kind, as of the last refresh.
    pub(crate) async fn documents(&self, kind: &str) -> Result<u64> {
        let all = json!({"match_all": {}});
        self.elasticsearch().count(&self.indices(kind), &all).await
    }

    /// How many messages the broker has that are not dead, those that a consumer holds among them. It counts every 5
    /// seconds.
    pub(crate) async fn messages(&self) -> Result<u64> {
        let path = format!("queues/{}", self.name);
        let queues = self.servers.rabbitmq.get(&path).await?;
        let mut messages = 0;
        for name in [JOBS].into_iter().chain(WAITING) {
            let mut queues = queues.as_array().into_iter().flatten();
            let queue = queues.find(|queue| queue["name"] == name);
            let count = queue.and_then(|queue| queue["messages"].as_u64());
            messages += count.with_context(|| format!("{name} is not counted yet"))?;
        }
        Ok(messages)
    }

    /// How often programs have logged this about a job.
    pub(crate) fn times_logged(&self, message: &str, job: &Job) -> usize {
        self.all_logged(message, job).len()
    }

    /// The fields of all log lines of programs with this message about a job.
    pub(crate) fn all_logged(&self, message: &str, job: &Job) -> Vec<Value> {
        let id = job.id().to_string();
        let programs = self.programs();
        let lines = programs
            .iter()
            .flat_map(|program| program.all_logged(message));
        lines
            .filter(|line| line["span"]["job_id"] == id.as_str())
            .collect()
    }

    /// Waits until nothing is ready or asleep in the queues.
    pub(crate) async fn queues_empty(&self) -> Result<()> {
        self.until("the queues are empty", QUEUES, async || {
            self.queues.are_empty().await
        })
        .await
    }

    /// For the end of a test that went well.
    pub(crate) async fn end(&self) -> Result<()> {
        self.queues_empty().await?;
        self.stop_programs().await?;
        self.nothing_is_left_over().await?;
        let violations = self.gitlab.violations();
        ensure!(
            violations.is_empty(),
            "requests that GitLab should never see: {violations:#?}"
        );
        self.servers.rabbitmq.remove_vhost(&self.name).await
    }

    /// Its programs, each with all that it said.
    pub(crate) fn outputs(&self) -> Vec<(String, String)> {
        let programs = self.programs();
        let output = |program: &Arc<Program>| (program.name().to_owned(), program.output());
        programs.iter().map(output).collect()
    }

    /// What its programs said last, for the report of a failure.
    pub(crate) fn last_words(&self) -> String {
        let programs = self.programs();
        let last = programs.len().saturating_sub(TALKERS);
        let words = programs[last..].iter().map(|program| program.last_words());
        words.collect()
    }

    /// SIGTERM for all that run: each ends with 0 within its grace.
    async fn stop_programs(&self) -> Result<()> {
        let running: Vec<Arc<Program>> = self.programs().clone();
        for program in running.iter().filter(|program| program.is_running()) {
            program.still_runs()?;
            let status = program.terminate(GRACE).await?;
            ensure!(status.success(), "{} on SIGTERM: {status}", program.name());
        }
        Ok(())
    }

    async fn nothing_is_left_over(&self) -> Result<()> {
        let dead = self.queues.ready(DEAD).await?;
        let (lines, manifests, rejected, dead_letters) = {
            let left = self.left();
            (left.lines, left.manifests, left.rejected, left.dead_letters)
        };
        // What a consumer held and did not acknowledge is back by now.
        self.queues
            .are_empty()
            .await
            .context("after all programs ended")?;
        ensure!(
            dead == dead_letters,
            "{dead} dead letters, not {dead_letters}"
        );
        self.refresh().await?;
        let kinds = [
            ("lines", lines),
            ("jobs", manifests),
            ("rejected", rejected),
        ];
        for (kind, right) in kinds {
            let count = self.documents(kind).await?;
            ensure!(
                count == right,
                "{count} documents among the {kind}, not {right}"
            );
        }
        Ok(())
    }

    /// Resolves when a program has died.
    async fn death(&self) -> anyhow::Error {
        loop {
            let dead = self
                .programs()
                .iter()
                .find_map(|program| program.still_runs().err());
            match dead {
                Some(dead) => return dead,
                None => sleep(WATCH).await,
            }
        }
    }

    fn programs(&self) -> MutexGuard<'_, Vec<Arc<Program>>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
