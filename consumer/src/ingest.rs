//! What the consumer does with one message: a straight line of named steps, each of which goes on or
//! ends with an [`Outcome`]. Nothing here publishes or acknowledges.

use std::time::{Duration, Instant};

use jiff::{Timestamp, tz::TimeZone};
use metrics::{counter, histogram};
use notice::{Message, Token, TokenBinding};
use reqwest::Response;
use secrecy::SecretString;
use serde_json::Value;
use trace::{Options, Parser, Summary};

use crate::{
    attempt::Attempt,
    context::{Context, Forge, Step},
    document::{Action, Indices, LineWriter, PAGE_BYTES, facts, job_key},
    elasticsearch::ElasticsearchError,
    filling::Filling,
    gitlab::GitlabError,
    job::Job,
    manifest::{Errors, Manifest, State, state_of},
    sink::{Sink, Tally},
};

/// Between a job's end and the first look at its trace: GitLab's read replicas lag behind.
const REPLICA_LAG: Duration = Duration::from_secs(3);
/// When a trace without its end is looked at again, after the look before: the last one is past
/// GitLab's archiving, two minutes after the job's end.
const LOOKS: [Duration; 3] = [
    Duration::from_secs(15),
    Duration::from_mins(1),
    Duration::from_secs(150),
];

/// When a job that goes on is asked about again before its message is put to sleep, by how often it
/// slept before: most jobs end some seconds after their `after_script`, and a message that sleeps is
/// away for ten.
const POLLS: [&[Duration]; 7] = [
    &[
        Duration::from_secs(2),
        Duration::from_secs(3),
        Duration::from_secs(5),
    ],
    &[Duration::from_secs(5)],
    &[Duration::from_secs(5)],
    &[Duration::from_secs(5)],
    &[Duration::from_secs(5)],
    &[Duration::from_secs(5)],
    &[],
];

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Lines and manifest are in Elasticsearch, or the manifest says why there are none.
    Indexed,
    /// The job goes on.
    Running {
        /// Its status.
        status: String,
    },
    /// It has to be looked at again.
    Wait {
        /// Not before this long; else as its number of waits says.
        after: Option<Duration>,
        /// Why.
        reason: String,
        /// For a trace without its end: its size.
        look: Option<u64>,
    },
    /// It is given up.
    Dead {
        /// At which step.
        step: &'static str,
        /// Why.
        reason: String,
    },
}

/// Takes a message all the way. `Err` and `Ok` are both outcomes; `Err` is an early one.
pub(crate) async fn ingest(
    context: &Context,
    message: &Message,
    token: &Token,
    attempt: &Attempt,
    step: &Step,
) -> Outcome {
    let forge = context
        .forges
        .iter()
        .find(|forge| *forge.gitlab.instance().name() == message.instance)
        .expect("a message of another instance is not read");
    let work = Work {
        context,
        forge,
        message,
        attempt,
        step,
        started: Instant::now(),
    };
    work.run(token).await.unwrap_or_else(|outcome| outcome)
}

struct Work<'a> {
    context: &'a Context,
    forge: &'a Forge,
    message: &'a Message,
    attempt: &'a Attempt,
    step: &'a Step,
    started: Instant,
}

/// A trace that went through the parser and into Elasticsearch.
struct Read {
    summary: Summary,
    /// How many lines were sent.
    lines: u64,
    tally: Tally,
    errors: Errors,
    state: State,
    complete: bool,
}

impl Work<'_> {
    async fn run(&self, token: &Token) -> Result<Outcome, Outcome> {
        self.step.enter("open the token");
        let token = self.open(token)?;
        self.step.enter("fetch the job");
        let job = self.fetch_job(&token).await?;
        if job.erased_at.is_some() {
            return self.without_trace(&job, State::Erased).await;
        }
        if job.started_at.is_none() {
            return self.without_trace(&job, State::NoTrace).await;
        }
        wait_for_replicas(&job).await;
        self.step.enter("fetch the trace");
        let permit = self.context.reading.acquire().await;
        let _permit = permit.expect("the semaphore is never closed");
        let Some(trace) = self.fetch_trace(&job, &token).await? else {
            return self.after_empty_trace(&job).await;
        };
        let indices = self.indices(&job);
        self.step.enter("index the lines");
        let read = self.index_trace(trace, &job, &indices).await?;
        self.write_manifest(&job, &indices, &read).await?;
        let again = self.look_again(read.complete, read.summary.bytes);
        Ok(again.unwrap_or(Outcome::Indexed))
    }

    /// The token to ask GitLab with: the caller's, or the operator's where the notice brought none.
    /// Never the operator's in place of one that does not open: who knows what it may see.
    fn open(&self, token: &Token) -> Result<SecretString, Outcome> {
        match token {
            Token::Clear(clear) => Ok(clear.clone()),
            Token::Sealed(sealed) => {
                let now = Timestamp::now().as_second();
                let opened = self
                    .context
                    .seal_keys
                    .open(sealed, binding(self.message), now);
                opened.map_err(|error| self.dead(&error))
            }
            Token::Absent => self.forge.token.clone().ok_or_else(|| {
                self.dead(&"the notice brought no GitLab token, and there is no --gitlab-token")
            }),
        }
    }

    /// The facts of a job that is over.
    async fn fetch_job(&self, token: &SecretString) -> Result<Job, Outcome> {
        let (project, id) = (self.message.project_id, self.message.job_id);
        let mut polls = POLLS[(self.attempt.waits as usize).min(POLLS.len() - 1)].iter();
        loop {
            match self.forge.gitlab.job(project, id, token).await {
                Ok(job) if job.is_final() => return Ok(job),
                Ok(job) => match polls.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(Outcome::Running { status: job.status }),
                },
                Err(error) => return Err(self.refused(None, error).await),
            }
        }
    }

    /// The trace as a stream; `None` where GitLab has none.
    async fn fetch_trace(
        &self,
        job: &Job,
        token: &SecretString,
    ) -> Result<Option<Response>, Outcome> {
        let (project, id) = (self.message.project_id, self.message.job_id);
        match self.forge.gitlab.trace(project, id, token).await {
            Ok(trace) => Ok(Some(trace)),
            Err(GitlabError::NotFound) => Ok(None),
            Err(error) => Err(self.refused(Some(job), error).await),
        }
    }

    /// What an answer of GitLab's that is none means for the message.
    async fn refused(&self, job: Option<&Job>, error: GitlabError) -> Outcome {
        let step = self.step.name();
        let (state, outcome) = match error {
            GitlabError::TokenRefused(_) => {
                let reason = format!("token refused: {error}");
                (State::Forbidden, Outcome::Dead { step, reason })
            }
            GitlabError::NotFound => (State::Gone, Outcome::Indexed),
            GitlabError::RateLimited(after) => {
                return Outcome::Wait {
                    after: Some(after),
                    reason: error.to_string(),
                    look: None,
                };
            }
            GitlabError::Unavailable(_) => return wait(&error),
        };
        let manifest = self.manifest(job).state(state, false).took(self.started);
        let indices = match job {
            Some(job) => self.indices(job),
            None => self.indices_of_unknown_job(),
        };
        match self.write(&manifest, &indices).await {
            Ok(()) => outcome,
            Err(wait) => wait,
        }
    }

    async fn without_trace(&self, job: &Job, state: State) -> Result<Outcome, Outcome> {
        let manifest = self
            .manifest(Some(job))
            .state(state, true)
            .took(self.started);
        self.write(&manifest, &self.indices(job)).await?;
        Ok(Outcome::Indexed)
    }

    /// A job that ran and has no trace: as with one whose end is missing, it may come yet.
    async fn after_empty_trace(&self, job: &Job) -> Result<Outcome, Outcome> {
        let complete = job.ends_without_trailer();
        let manifest = self
            .manifest(Some(job))
            .state(State::NoTrace, complete)
            .took(self.started);
        self.write(&manifest, &self.indices(job)).await?;
        Ok(self.look_again(complete, 0).unwrap_or(Outcome::Indexed))
    }

    /// Streams the trace through the parser into Elasticsearch; what is held does not grow with it.
    async fn index_trace(
        &self,
        mut trace: Response,
        job: &Job,
        indices: &Indices,
    ) -> Result<Read, Outcome> {
        let size = trace.content_length();
        let mut filling = Filling::new(self.line_writer(job, size));
        let mut sink = Sink::new(
            self.context.elasticsearch.clone(),
            indices.clone(),
            self.context.budget.clone(),
        );
        let mut parser = Parser::new(Options::default());
        while let Some(chunk) = trace
            .chunk()
            .await
            .map_err(|error| wait(&GitlabError::from(error)))?
        {
            counter!("joblogs_trace_bytes_total").increment(chunk.len() as u64);
            parser.push(&chunk, &mut |line| filling.add(&line));
            for body in filling.full.drain(..) {
                sink.send(body)
                    .await
                    .map_err(|error| self.refused_by_elasticsearch(&error))?;
            }
        }
        // What comes out at the end may be a part of a line: where the trace has not got its end yet
        // it is left out, for under `create` it would stay in the way of the whole line.
        let mut last = Filling::new(filling.writer.clone());
        let summary = parser.finish(&mut |line| last.add(&line));
        let (state, complete) = state_of(job, &summary);
        let mut lines = filling.lines;
        let mut bodies = filling.finish();
        if complete || self.is_last_look() {
            lines += last.lines;
            bodies.extend(last.finish());
        }
        for body in bodies {
            sink.send(body)
                .await
                .map_err(|error| self.refused_by_elasticsearch(&error))?;
        }
        let mut errors = filling.errors;
        errors.append(last.errors);
        let tally = sink
            .finish()
            .await
            .map_err(|error| self.refused_by_elasticsearch(&error))?;
        Ok(Read {
            summary,
            lines,
            tally,
            errors,
            state,
            complete,
        })
    }

    fn line_writer(&self, job: &Job, size: Option<u64>) -> LineWriter {
        // Lines of a trace that was shorter at the last look may have been given other links.
        let has_grown = self.attempt.looks > 0 && size != Some(self.attempt.seen_bytes);
        let action = match size {
            Some(size) if has_grown && size > PAGE_BYTES => Action::Index,
            _ => Action::Create,
        };
        LineWriter::new(
            action,
            &job_key(self.message),
            self.facts(Some(job)),
            Some(job),
            size,
        )
    }

    async fn write_manifest(
        &self,
        job: &Job,
        indices: &Indices,
        read: &Read,
    ) -> Result<(), Outcome> {
        let manifest = self
            .manifest(Some(job))
            .state(read.state, read.complete)
            .summary(&read.summary)
            .lines(read.lines, read.tally, &read.errors)
            .took(self.started);
        self.write(&manifest, indices).await?;
        self.report(job, read);
        Ok(())
    }

    /// One line of log a finished job, and the metrics.
    fn report(&self, job: &Job, read: &Read) {
        let outcomes = [
            ("created", read.tally.created),
            ("duplicate", read.tally.duplicates),
            ("rejected", read.tally.rejected),
        ];
        for (outcome, count) in outcomes {
            counter!("joblogs_lines_total", "outcome" => outcome).increment(count);
        }
        if let Some(end) = job.finished_at {
            let delay = Timestamp::now().duration_since(end).as_secs_f64();
            histogram!("joblogs_ingestion_delay_seconds").record(delay.max(0.0));
        }
        tracing::info!(
            state = read.state.as_str(),
            status = job.status,
            lines = read.lines,
            created = read.tally.created,
            duplicates = read.tally.duplicates,
            rejected = read.tally.rejected,
            bytes = read.summary.bytes,
            milliseconds = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "job indexed"
        );
    }

    fn look_again(&self, complete: bool, bytes: u64) -> Option<Outcome> {
        let after = *LOOKS.get(self.attempt.looks as usize)?;
        (!complete).then(|| Outcome::Wait {
            after: Some(after),
            reason: "the end of the trace is missing".to_owned(),
            look: Some(bytes),
        })
    }

    fn is_last_look(&self) -> bool {
        self.attempt.looks as usize >= LOOKS.len()
    }

    fn facts(&self, job: Option<&Job>) -> Value {
        let instance = self.forge.gitlab.instance();
        facts(self.message, job, instance, self.attempt.number)
    }

    fn manifest(&self, job: Option<&Job>) -> Manifest {
        let manifest = Manifest::new(
            self.facts(job),
            self.message.received_at,
            self.attempt.number,
        );
        match job {
            Some(job) => manifest.job(job),
            None => manifest,
        }
    }

    fn dead(&self, reason: &dyn std::fmt::Display) -> Outcome {
        Outcome::Dead {
            step: self.step.name(),
            reason: reason.to_string(),
        }
    }

    fn refused_by_elasticsearch(&self, error: &ElasticsearchError) -> Outcome {
        match error {
            ElasticsearchError::Rejected { .. } | ElasticsearchError::TooLarge => self.dead(error),
            // Wrong credentials are the operator's to mend; no message is lost over them.
            ElasticsearchError::Refused { .. }
            | ElasticsearchError::Unavailable(_)
            | ElasticsearchError::Conflict => wait(error),
        }
    }

    async fn write(&self, manifest: &Manifest, indices: &Indices) -> Result<(), Outcome> {
        self.step.enter("write the manifest");
        manifest
            .write(
                &self.context.elasticsearch,
                &indices.jobs,
                &job_key(self.message),
            )
            .await
            .map_err(|error| self.refused_by_elasticsearch(&error))
    }

    fn indices(&self, job: &Job) -> Indices {
        Indices::of(
            &self.context.naming,
            self.message.index_name.as_ref(),
            job.day(),
        )
    }

    /// Of a job that GitLab tells nothing about, the day of the notice is all that is known.
    fn indices_of_unknown_job(&self) -> Indices {
        let day = self.message.received_at.to_zoned(TimeZone::UTC).date();
        Indices::of(&self.context.naming, self.message.index_name.as_ref(), day)
    }
}

/// The job that a message's token was sealed for.
pub(crate) fn binding(message: &Message) -> TokenBinding<'_> {
    TokenBinding {
        instance: &message.instance,
        project_id: message.project_id,
        job_id: message.job_id,
    }
}

async fn wait_for_replicas(job: &Job) {
    let Some(end) = job.finished_at else { return };
    let since = Duration::try_from(Timestamp::now().duration_since(end)).unwrap_or_default();
    tokio::time::sleep(REPLICA_LAG.saturating_sub(since)).await;
}

fn wait(error: &dyn std::error::Error) -> Outcome {
    Outcome::Wait {
        after: None,
        reason: error.to_string(),
        look: None,
    }
}
