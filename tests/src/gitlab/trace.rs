//! What a job has written, and how much of it can be read yet.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::body::Body;
use super::generator::{ExpectedLine, Kind, PIECE, Script};
use super::job::Status;
use crate::samples::Sample;

/// The long line and its two neighbours.
const AROUND_LONG: u64 = 3;

/// What a job is to write.
#[derive(Clone, Debug)]
pub enum Trace {
    /// So many lines of a script, and those of the runner around them, with the runner's timestamps.
    Lines(u64),
    /// The same without timestamps (`FF_TIMESTAMPS: "false"`).
    PlainLines(u64),
    /// So many lines of so many bytes each that hardly compress, with the runner's timestamps.
    Noise {
        /// How many.
        lines: u64,
        /// Bytes of each line's text.
        width: usize,
    },
    /// Three lines, the one in the middle of so many bytes, which arrives in pieces as the runner cuts it.
    LongLine(usize),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// The bytes of a real trace.
    Sample(Sample),
    /// Nothing: the job never ran.
    None,
}

/// One job's trace. Its bytes are made as they are read: what is kept of a generated one is how to make it.
#[derive(Clone, Debug)]
pub(super) struct Content {
    source: Source,
    /// Size of what it writes before it ends.
    before_end: usize,
}

#[derive(Clone, Debug)]
enum Source {
    Generated(Script),
    Sample(Sample),
    Given(Arc<[u8]>),
}

impl Content {
    pub(super) fn new(trace: Trace, job_id: u64, started_at: Timestamp) -> Self {
        let script = |kind, lines| Script {
            job_id,
            lines,
            kind,
            timestamps: kind != Kind::Plain,
            started_at,
        };
        let source = match trace {
            Trace::Lines(lines) => Source::Generated(script(Kind::Stamped, lines)),
            Trace::PlainLines(lines) => Source::Generated(script(Kind::Plain, lines)),
            Trace::Noise { lines, width } => Source::Generated(script(Kind::Noise(width), lines)),
            Trace::LongLine(size) => Source::Generated(script(Kind::Long(size), AROUND_LONG)),
            Trace::Bytes(bytes) => Source::Given(bytes.into()),
            Trace::Sample(sample) => Source::Sample(sample),
            Trace::None => Source::Given(Arc::default()),
        };
        let before_end = match &source {
            Source::Generated(script) => script.size_before_end(),
            Source::Sample(sample) => sample.trace.len(),
            Source::Given(bytes) => bytes.len(),
        };
        Self { source, before_end }
    }

    /// Size of all that a job with this outcome writes.
    pub(super) fn size(&self, outcome: Status) -> usize {
        let at_end = match &self.source {
            Source::Generated(script) => script.size_of_end(outcome),
            _ => 0,
        };
        self.before_end + at_end
    }

    /// Size of what it writes before it ends.
    pub(super) fn size_before_end(&self) -> usize {
        self.before_end
    }

    /// The first `size` bytes of what a job with this outcome writes.
    pub(super) fn body(&self, size: usize, outcome: Status) -> Body {
        let size = size.min(self.size(outcome));
        let slices = |bytes: Arc<[u8]>| {
            let starts = (0..bytes.len()).step_by(PIECE);
            starts.map(move |start| bytes[start..bytes.len().min(start + PIECE)].to_vec())
        };
        match &self.source {
            Source::Generated(script) => Body::of(size, script.pieces(outcome)),
            Source::Sample(sample) => {
                Body::of(size, sample.trace.chunks(PIECE).map(<[u8]>::to_vec))
            }
            Source::Given(bytes) => Body::of(size, slices(bytes.clone())),
        }
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
            Source::Given(bytes) if bytes.is_empty() => Ok(Box::new(std::iter::empty())),
            Source::Given(_) => anyhow::bail!("nobody knows the lines of a trace of given bytes"),
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
