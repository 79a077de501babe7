//! A job as GitLab keeps it. Its state is computed from the clock when somebody asks: nothing runs in the background.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::body::Body;
use super::fault::Faults;
use super::trace::{Content, LateTail};

/// GitLab's job statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are GitLab's and say all there is")]
pub enum Status {
    Created,
    WaitingForResource,
    Preparing,
    Pending,
    Scheduled,
    Manual,
    Running,
    Canceling,
    Success,
    Failed,
    Canceled,
    Skipped,
}

impl Status {
    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::WaitingForResource => "waiting_for_resource",
            Self::Preparing => "preparing",
            Self::Pending => "pending",
            Self::Scheduled => "scheduled",
            Self::Manual => "manual",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether nothing comes after it.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Success | Self::Failed | Self::Canceled | Self::Skipped
        )
    }

    /// Whether a runner has the job.
    fn is_live(self) -> bool {
        matches!(self, Self::Running | Self::Canceling)
    }

    /// The status of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let finals = [Self::Success, Self::Failed, Self::Canceled, Self::Skipped];
        finals.into_iter().find(|status| status.as_str() == name)
    }
}

/// Everything about one job.
#[derive(Debug)]
pub(super) struct JobState {
    pub(super) id: u64,
    /// The job in GitLab's shape; what the clock decides is put in by `facts`.
    pub(super) shape: Map<String, Value>,
    /// Fields that a test wants otherwise, whatever the clock says.
    pub(super) overrides: Map<String, Value>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    /// The status until the end.
    pub(super) before_end: Status,
    /// When it ends or ended; `None` until somebody says so.
    pub(super) ends_at: Option<Timestamp>,
    /// The status from then on.
    pub(super) outcome: Status,
    pub(super) failure_reason: String,
    pub(super) erased_at: Option<Timestamp>,
    /// Gone for the API; its handle still knows what was in it.
    pub(super) is_deleted: bool,
    pub(super) content: Content,
    /// How much the runner has sent, on command; otherwise the clock decides.
    pub(super) received: Option<usize>,
    pub(super) late_tail: Option<LateTail>,
    pub(super) faults: Faults,
}

impl JobState {
    /// The end, once it is past.
    pub(super) fn finished_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.ends_at.filter(|end| *end <= now)
    }

    pub(super) fn status(&self, now: Timestamp) -> Status {
        match self.finished_at(now) {
            Some(_) => self.outcome,
            None => self.before_end,
        }
    }

    /// The job moves on, now. To a final status: that is its end.
    pub(super) fn enter(&mut self, status: Status, now: Timestamp) {
        if status.is_final() {
            self.ends_at = Some(now);
            self.outcome = status;
            return;
        }
        self.ends_at = None;
        self.before_end = status;
        if status.is_live() {
            self.started_at.get_or_insert(now);
        }
    }

    /// How many bytes of the trace can be read.
    pub(super) fn readable(&self, now: Timestamp) -> usize {
        if self.erased_at.is_some() || self.started_at.is_none() {
            return 0;
        }
        let Some(end) = self.finished_at(now) else {
            return self.received_while_running(now);
        };
        let all = self.content.size(self.outcome);
        match self.late_tail {
            Some(tail) if elapsed(end, now) < tail.after => all.saturating_sub(tail.bytes),
            _ => all,
        }
    }

    /// What the runner has sent: what it was told to, or as the clock goes, or half where no end is in sight.
    fn received_while_running(&self, now: Timestamp) -> usize {
        let body = self.content.size_before_end();
        if let Some(received) = self.received {
            return received.min(body);
        }
        let (Some(start), Some(end)) = (self.started_at, self.ends_at) else {
            return body / 2;
        };
        let whole = elapsed(start, end).as_micros().max(1);
        let part = elapsed(start, now).as_micros().min(whole);
        let size = body as u128 * part / whole;
        usize::try_from(size).expect("a part of the body is not larger than it")
    }

    /// The bytes that can be read.
    pub(super) fn trace(&self, now: Timestamp) -> Body {
        self.content.body(self.readable(now), self.outcome)
    }
}

/// From one time to a later one; nothing when it is not later.
pub(super) fn elapsed(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or(Duration::ZERO)
}
