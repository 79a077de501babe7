//! What a job has written, and how much of it can be read yet.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::generator::{ExpectedLine, Script};
use super::job::Status;
use crate::samples::Sample;

/// What a job is to write.
#[derive(Clone, Debug)]
pub enum Trace {
    /// So many lines of a script, and those of the runner around them, with the runner's timestamps.
    Lines(u64),
    /// The same without timestamps (`FF_TIMESTAMPS: "false"`).
    PlainLines(u64),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// The bytes of a real trace.
    Sample(Sample),
    /// Nothing: the job never ran.
    None,
}

/// The bytes of one job's trace. Rendered once and shared: an answer copies only what it sends.
#[derive(Clone, Debug)]
pub(super) struct Content {
    body: Arc<[u8]>,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    Generated(Script),
    Sample(Sample),
    Other,
}

impl Content {
    pub(super) fn render(trace: Trace, job_id: u64, started_at: Timestamp) -> Self {
        let (body, source) = match trace {
            Trace::Lines(lines) | Trace::PlainLines(lines) => {
                let script = Script {
                    job_id,
                    lines,
                    timestamps: matches!(trace, Trace::Lines(_)),
                    started_at,
                };
                (script.body(), Source::Generated(script))
            }
            Trace::Bytes(bytes) => (bytes, Source::Other),
            Trace::Sample(sample) => (sample.trace.to_vec(), Source::Sample(sample)),
            Trace::None => (Vec::new(), Source::Other),
        };
        Self {
            body: body.into(),
            source,
        }
    }

    /// Size of all that a job with this outcome writes.
    pub(super) fn size(&self, outcome: Status) -> usize {
        self.body.len() + self.tail(outcome).len()
    }

    /// Size of what it writes before it ends.
    pub(super) fn body_size(&self) -> usize {
        self.body.len()
    }

    /// The first `size` bytes: may end in the middle of a line, of an escape, of a character.
    pub(super) fn prefix(&self, size: usize, outcome: Status) -> Vec<u8> {
        let tail = self.tail(outcome);
        let from_body = size.min(self.body.len());
        let from_tail = (size - from_body).min(tail.len());
        [&self.body[..from_body], &tail[..from_tail]].concat()
    }

    /// Whether all is known of its lines, and not their texts alone.
    pub(super) fn is_generated(&self) -> bool {
        matches!(self.source, Source::Generated(_))
    }

    pub(super) fn expected_lines(
        &self,
        outcome: Status,
    ) -> anyhow::Result<impl Iterator<Item = ExpectedLine> + Send + use<>> {
        match &self.source {
            Source::Generated(script) => Ok(script.expected(outcome)),
            _ => anyhow::bail!("only the lines of a generated trace are known in full"),
        }
    }

    pub(super) fn expected_texts(&self, outcome: Status) -> anyhow::Result<Texts> {
        match &self.source {
            Source::Generated(script) => {
                Ok(Box::new(script.expected(outcome).map(|line| line.text)))
            }
            Source::Sample(sample) => Ok(Box::new(sample.expected()?.into_iter())),
            Source::Other if self.body.is_empty() => Ok(Box::new(std::iter::empty())),
            Source::Other => anyhow::bail!("nobody knows the lines of a trace of given bytes"),
        }
    }

    fn tail(&self, outcome: Status) -> Vec<u8> {
        match &self.source {
            Source::Generated(script) => script.tail(outcome),
            _ => Vec::new(),
        }
    }
}

/// The texts of a trace's lines, in order.
pub type Texts = Box<dyn Iterator<Item = String> + Send>;

/// The end of a trace that becomes readable only some time after the job is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct LateTail {
    pub(super) bytes: usize,
    pub(super) after: Duration,
}
