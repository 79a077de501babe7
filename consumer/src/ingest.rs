//! What the consumer does with one message: a straight line of named steps, each of which goes on or
//! ends with an [`Outcome`]. Nothing here publishes or acknowledges.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use notice::{Message, Token, TokenBinding};
use reqwest::Response;
use secrecy::SecretString;
use serde_json::Value;
use service::secret::Changing;

use crate::{
    attempt::Attempt,
    circuit::StayAway,
    context::{Context, Forge, Progress},
    document::facts,
    elasticsearch::ElasticsearchError,
    gitlab::GitlabError,
    job::Job,
    manifest::State,
    places::{HUGE, Place},
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

/// For how long a message is held while Elasticsearch is down, before it waits in the broker.
const HOLD: Duration = Duration::from_mins(10);
/// For how long a place among the traces that are read is waited for; then others have their turn.
const FOR_A_PLACE: Duration = Duration::from_mins(5);
/// When a place for a huge trace is looked for again.
const FOR_A_HUGE_PLACE: Duration = Duration::from_secs(20);

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
    /// Nothing could be tried, through no fault of its own.
    Later {
        /// Not before this long.
        after: Duration,
        /// Why.
        reason: String,
        /// The size of the trace, where it waits for a place among the huge ones.
        huge: Option<u64>,
    },
    /// It has to be looked at again.
    Wait {
        /// Not before this long; else as its number of waits says.
        after: Option<Duration>,
        /// Why.
        reason: String,
        /// Because the end of the trace is missing.
        is_look: bool,
    },
    /// It is given up.
    Dead(Death),
}

/// Why a message is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// At which step.
    pub step: &'static str,
    /// In a sentence.
    pub reason: String,
    /// What its manifest says.
    pub state: State,
}

impl Death {
    /// The end of the log is missing, and nobody looks for it any more.
    pub(crate) fn incomplete(step: &'static str, reason: String) -> Self {
        Self {
            step,
            reason,
            state: State::Incomplete,
        }
    }
}

/// Takes a message all the way. `Err` and `Ok` are both outcomes; `Err` is an early one.
pub(crate) async fn ingest(
    context: &Context,
    message: &Message,
    token: &Token,
    attempt: &Attempt,
    progress: &Progress,
) -> Outcome {
    let work = Work::new(context, message, attempt, progress);
    work.run(token).await.unwrap_or_else(|outcome| outcome)
}

/// One message on its way.
pub(crate) struct Work<'a> {
    pub(crate) context: &'a Context,
    pub(crate) forge: &'a Forge,
    pub(crate) message: &'a Message,
    pub(crate) attempt: &'a Attempt,
    pub(crate) progress: &'a Progress,
    pub(crate) started: Instant,
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        context: &'a Context,
        message: &'a Message,
        attempt: &'a Attempt,
        progress: &'a Progress,
    ) -> Self {
        let mut forges = context.forges.iter();
        let forge = forges.find(|forge| *forge.gitlab.instance().name() == message.instance);
        Self {
            context,
            forge: forge.expect("a message of another instance is not read"),
            message,
            attempt,
            progress,
            started: Instant::now(),
        }
    }

    async fn run(&self, token: &Token) -> Result<Outcome, Outcome> {
        self.enter("open the token");
        let token = self.open(token)?;
        self.enter("fetch the job");
        let job = self.fetch_job(&token).await?;
        self.progress.found(&job);
        if job.erased_at.is_some() {
            return self.without_trace(&job, State::Erased).await;
        }
        if job.started_at.is_none() {
            return self.without_trace(&job, State::NoTrace).await;
        }
        wait_for_replicas(&job).await;
        self.enter("wait for Elasticsearch");
        self.wait_for_elasticsearch().await?;
        self.enter("fetch the trace");
        let place = self.take_place().await?;
        let Some(trace) = self.fetch_trace(&job, &token).await? else {
            return self.after_empty_trace(&job).await;
        };
        let place = self.find_place(place, trace.content_length())?;
        let indices = self.indices(Some(&job));
        self.enter("index the lines");
        let read = self.index_trace(trace, &job, &indices, place).await?;
        self.write_manifest(&job, &indices, &read).await?;
        let again = self.look_again(read.complete);
        Ok(again.unwrap_or(Outcome::Indexed))
    }

    pub(crate) fn enter(&self, step: &'static str) {
        self.progress.enter(step, self.message.job_id);
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
                opened.map_err(|error| self.dead(&error, State::Forbidden))
            }
            Token::Absent => {
                let token = self.forge.token.as_ref().map(Changing::current);
                token.ok_or_else(|| {
                    let missing =
                        "the notice brought no GitLab token, and there is no --gitlab-token";
                    self.dead(&missing, State::Forbidden)
                })
            }
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

    /// No trace is begun whose lines nobody would take.
    async fn wait_for_elasticsearch(&self) -> Result<(), Outcome> {
        let circuit = self.context.elasticsearch.circuit();
        let closed = tokio::time::timeout(HOLD, circuit.closed()).await;
        closed.map_err(|_| {
            let why = circuit.why().unwrap_or_default();
            wait(&ElasticsearchError::unavailable(why))
        })
    }

    /// A place among the traces that are read; for one that is known to be huge, at once or later.
    async fn take_place(&self) -> Result<Place<'_>, Outcome> {
        let size = self.attempt.huge_bytes;
        if size > HUGE {
            return self.huge_place(size);
        }
        let place = tokio::time::timeout(FOR_A_PLACE, self.context.places.take()).await;
        place.map_err(|_| Outcome::Later {
            after: Duration::ZERO,
            reason: "other traces are being read".to_owned(),
            huge: None,
        })
    }

    /// A place where a trace of this size may stay.
    fn find_place<'p>(&'p self, place: Place<'p>, size: Option<u64>) -> Result<Place<'p>, Outcome> {
        match size {
            Some(size) if place.is_too_small_for(size) => self.huge_place(size),
            _ => Ok(place),
        }
    }

    pub(crate) fn huge_place(&self, size: u64) -> Result<Place<'_>, Outcome> {
        let place = self.context.places.try_take_huge();
        place.ok_or_else(|| Outcome::Later {
            after: FOR_A_HUGE_PLACE,
            reason: "other huge traces are being read".to_owned(),
            huge: Some(size),
        })
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
        match error {
            GitlabError::TokenRefused(_) => {
                self.dead(&format_args!("token refused: {error}"), State::Forbidden)
            }
            GitlabError::NotFound => self.gone(job).await,
            GitlabError::RateLimited(after) => Outcome::Wait {
                after: Some(after),
                reason: error.to_string(),
                is_look: false,
            },
            GitlabError::NotAsked(StayAway { after, .. }) => Outcome::Later {
                after,
                reason: error.to_string(),
                huge: None,
            },
            GitlabError::Unavailable(_) => wait(&error),
        }
    }

    pub(crate) fn look_again(&self, complete: bool) -> Option<Outcome> {
        let after = *LOOKS.get(self.attempt.looks as usize)?;
        (!complete).then(|| Outcome::Wait {
            after: Some(after),
            reason: "the end of the trace is missing".to_owned(),
            is_look: true,
        })
    }

    pub(crate) fn is_last_look(&self) -> bool {
        self.attempt.looks as usize >= LOOKS.len()
    }

    pub(crate) fn facts(&self, job: Option<&Job>) -> Value {
        let instance = self.forge.gitlab.instance();
        facts(self.message, job, instance, self.attempt.number)
    }

    fn dead(&self, reason: &dyn std::fmt::Display, state: State) -> Outcome {
        Outcome::Dead(Death {
            step: self.progress.step(),
            reason: reason.to_string(),
            state,
        })
    }

    pub(crate) fn refused_by_elasticsearch(&self, error: &ElasticsearchError) -> Outcome {
        match error {
            ElasticsearchError::Rejected { .. } | ElasticsearchError::TooLarge => {
                self.dead(error, State::Incomplete)
            }
            // Wrong credentials are the operator's to mend; no message is lost over them.
            ElasticsearchError::Refused { .. }
            | ElasticsearchError::Unavailable { .. }
            | ElasticsearchError::Conflict => wait(error),
        }
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

pub(crate) fn wait(error: &dyn std::error::Error) -> Outcome {
    Outcome::Wait {
        after: None,
        reason: error.to_string(),
        is_look: false,
    }
}
