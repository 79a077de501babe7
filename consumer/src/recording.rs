//! What of the work on a message is written down: its manifest, whatever became of it, and a line of log.

use failure::Finding;
use jiff::{Timestamp, tz::TimeZone};
use metrics::{counter, histogram};
use notice::Message;
use serde_json::Value;

use crate::{
    attempt::Attempt,
    context::{Context, Progress},
    document::{Indices, job_key},
    elasticsearch::ElasticsearchError,
    ingest::{Death, Outcome, Work},
    job::Job,
    manifest::{Manifest, State},
    novel::is_novel,
    reading::Read,
    seen::{Seen, ending, failure_document},
};

/// The manifest of a job whose message is given up: it says why there is no more of its log.
pub(crate) async fn record_death(
    context: &Context,
    message: &Message,
    attempt: &Attempt,
    job: Option<&Job>,
    death: &Death,
) -> Result<(), ElasticsearchError> {
    let progress = Progress::default();
    let work = Work::new(context, message, attempt, &progress);
    let manifest = work.manifest(job).state(death.state, false);
    let manifest = manifest.reason(&death.reason).took(work.started);
    let index = work.indices(job).jobs;
    manifest
        .write(&context.elasticsearch, &index, &job_key(message))
        .await
}

impl Work<'_> {
    /// A job that GitLab does not know, or has no more of.
    pub(crate) async fn gone(&self, job: Option<&Job>) -> Outcome {
        let manifest = self
            .manifest(job)
            .state(State::Gone, false)
            .took(self.started);
        let written = self.write(&manifest, &self.indices(job)).await;
        written.err().unwrap_or(Outcome::Indexed)
    }

    pub(crate) async fn without_trace(&self, job: &Job, state: State) -> Result<Outcome, Outcome> {
        let manifest = self
            .manifest(Some(job))
            .state(state, true)
            .with("failure", self.failure_without_trace(job))
            .took(self.started);
        self.write(&manifest, &self.indices(Some(job))).await?;
        Ok(Outcome::Indexed)
    }

    /// A job that ran and has no trace: as with one whose end is missing, it may come yet.
    pub(crate) async fn after_empty_trace(&self, job: &Job) -> Result<Outcome, Outcome> {
        let complete = job.ends_without_trailer();
        let manifest = self
            .manifest(Some(job))
            .state(State::NoTrace, complete)
            .with("failure", self.failure_without_trace(job))
            .took(self.started);
        self.write(&manifest, &self.indices(Some(job))).await?;
        Ok(self.look_again(complete).unwrap_or(Outcome::Indexed))
    }

    pub(crate) async fn write_manifest(
        &self,
        job: &Job,
        indices: &Indices,
        read: &Read,
    ) -> Result<(), Outcome> {
        let manifest = self
            .manifest(Some(job))
            .arrived(job)
            .state(read.state, read.complete)
            .summary(&read.summary)
            .lines(read.lines, read.tally)
            .with("errors", read.errors.clone())
            .with("slowest_gap", read.slowest_gap.clone())
            .with("failure", self.failure(job, read).await)
            .took(self.started);
        self.write(&manifest, indices).await?;
        self.report(job, read);
        Ok(())
    }

    /// Why the job failed, and whether that is new, once there is no more to look for.
    async fn failure(&self, job: &Job, read: &Read) -> Value {
        let Some(failure) = &read.failure else {
            return Value::Null;
        };
        let mut document = failure.document.clone();
        if read.complete || self.is_last_look() {
            let is_novel = self.is_novel(job, &failure.finding).await;
            if let Some(is_novel) = is_novel {
                document["novel"] = is_novel.into();
            }
        }
        document
    }

    async fn is_novel(&self, job: &Job, finding: &Finding) -> Option<bool> {
        let context = self.context;
        let manifests = Indices::all_manifests(&context.naming, self.message.index_name.as_ref());
        let elasticsearch = &context.elasticsearch;
        let days = context.novel_days;
        is_novel(elasticsearch, &manifests, self.message, job, finding, days).await
    }

    /// Why a job failed that left no log: what GitLab says of it.
    fn failure_without_trace(&self, job: &Job) -> Value {
        let ending = ending(job);
        let finding = ending.and_then(|it| Seen::of(job, &self.context.rules).failure(&it));
        finding.map_or(Value::Null, |it| failure_document(&it, |_| None))
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

    async fn write(&self, manifest: &Manifest, indices: &Indices) -> Result<(), Outcome> {
        self.enter("write the manifest");
        manifest
            .write(
                &self.context.elasticsearch,
                &indices.jobs,
                &job_key(self.message),
            )
            .await
            .map_err(|error| self.refused_by_elasticsearch(&error))
    }

    /// Of a job that GitLab has told nothing about, the day of the notice is all that is known.
    pub(crate) fn indices(&self, job: Option<&Job>) -> Indices {
        let notice = || self.message.received_at.to_zoned(TimeZone::UTC).date();
        let day = job.map(Job::day).or(self.attempt.day);
        let index_name = self.message.index_name.as_ref();
        Indices::of(&self.context.naming, index_name, day.unwrap_or_else(notice))
    }
}
