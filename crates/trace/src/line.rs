//! What comes out: one line with all that the trace says about it.

use crate::{Level, OpenSection};

/// How a [`Parser`](crate::Parser) treats a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The most bytes of text that a line keeps; what is longer is cut on a character boundary.
    pub max_text: usize,
}

impl Default for Options {
    /// 32 KiB: just under what Lucene takes as one term (32,766 bytes), and longer than any line people read.
    fn default() -> Self {
        Self {
            max_text: 32 * 1024,
        }
    }
}

/// One line of the trace, as GitLab's job page shows it.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// From 1, as GitLab's job page counts: lines with content only.
    pub number: u64,
    /// Byte offset in the trace: of the physical line (its first piece), or of the section marker
    /// within it that made the line.
    pub offset: u64,
    /// The text, escapes and control characters gone. Never empty unless `max_text` cut it to nothing.
    pub text: &'a str,
    /// Nanoseconds since the Unix epoch; `None` where neither runner nor section gave a time.
    pub timestamp: Option<i64>,
    /// Who gave `timestamp`.
    pub timestamp_source: TimestampSource,
    /// Standard output or error, where the runner says.
    pub stream: Option<Stream>,
    /// The runner's stream number: 0 its own messages, 1 the job's script, 15 and up services.
    pub stream_number: Option<u8>,
    /// The name, as written, of the section that GitLab attributes the line to: the last one opened
    /// of those still open.
    pub section: Option<&'a str>,
    /// The open sections in the order in which they were opened; the last one is `section`.
    pub section_path: &'a [OpenSection],
    /// Whether a `section_start` marker made this line: GitLab shows it as the section's title.
    pub section_header: bool,
    /// Whether the runner echoed it: a command of the job's script, `$ ` before it.
    pub is_command: bool,
    /// How bad the line says it is.
    pub level: Option<Level>,
    /// Milliseconds since the previous line, where the runner stamped both; `None` where time stepped back.
    pub gap_ms: Option<u64>,
    /// The full length of the text in bytes, where it was cut.
    pub truncated: Option<u64>,
}

/// Where a line's time comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampSource {
    /// The runner's timestamp of the line; for a line without one in a timestamped trace, the last one before it.
    Runner,
    /// The last section marker before the line.
    Section,
    /// Nothing in the trace: the job's own times have to do.
    Job,
}

impl TimestampSource {
    /// The name in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Runner => "runner",
            Self::Section => "section",
            Self::Job => "job",
        }
    }
}

/// The stream that a line was written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// `O` in the runner's header.
    Stdout,
    /// `E` in the runner's header.
    Stderr,
}

impl Stream {
    /// The name in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What is known of a logical line before its text is read.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origin {
    /// Byte offset in the trace.
    pub(crate) offset: u64,
    /// Nanoseconds, from the runner.
    pub(crate) time: Option<i64>,
    /// Whether `time` is this line's own, not borrowed from the line before.
    pub(crate) own_time: bool,
    /// Stream and its number.
    pub(crate) stream: Option<(Stream, u8)>,
}
