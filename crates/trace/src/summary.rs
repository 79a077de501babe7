//! What is known of a trace once its last byte has gone through.

use crate::{Section, Trailer};

/// The whole trace in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Lines handed out; the number of the last one.
    pub lines: u64,
    /// Bytes that went in.
    pub bytes: u64,
    /// SHA-256 of those bytes.
    pub sha256: [u8; 32],
    /// Sections in the order in which they were opened, the first 10,000 of them.
    pub sections: Vec<Section>,
    /// Sections beyond those.
    pub sections_dropped: u64,
    /// How the runner ended the trace; `None` where the end is missing.
    pub trailer: Option<Trailer>,
    /// Whether the runner stamped the lines (`FF_TIMESTAMPS`).
    pub timestamped: bool,
    /// Invalid UTF-8 sequences, each replaced by U+FFFD.
    pub invalid_utf8: u64,
    /// What became of each byte.
    pub accounting: ByteCounts,
}

/// What became of the bytes of a trace. Each is counted once: [`ByteCounts::total`] is what went in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByteCounts {
    /// Shown as text (for an invalid sequence, the bytes that U+FFFD stands for).
    pub text: u64,
    /// Escape sequences, and the introducers of unterminated ones.
    pub escapes: u64,
    /// Control characters that show nothing.
    pub controls: u64,
    /// Text that a carriage return wiped, and those carriage returns.
    pub overwritten: u64,
    /// Section markers.
    pub markers: u64,
    /// The runner's line headers.
    pub headers: u64,
    /// Text beyond [`Options::max_text`](crate::Options::max_text).
    pub cut: u64,
    /// Line feeds, and the carriage returns before them.
    pub line_ends: u64,
}

impl ByteCounts {
    /// The sum, equal to [`Summary::bytes`].
    pub const fn total(&self) -> u64 {
        self.text
            + self.escapes
            + self.controls
            + self.overwritten
            + self.markers
            + self.headers
            + self.cut
            + self.line_ends
    }
}
