//! Bytes of a GitLab trace in, lines as a person saw them out.
//!
//! [`Parser`] takes a trace in chunks of any size and hands each line to a sink as soon as no later
//! byte can change it. It does no I/O, cannot fail, and holds no more than a few MiB whatever comes.
//!
//! A byte passes these stations, one module each:
//! `parser` (physical lines, runner headers) → `merge` (`+` pieces into logical lines) →
//! `screen` (carriage returns, escapes; `escape` knows the grammar, `text` holds the line) →
//! `sections` (markers) → `emit` (number, time, `level`, `trailer`).
//!
//! # Where this differs from GitLab's own page, and why
//! The rules are those of `Gitlab::Ci::Ansi2json`, and its specification runs here as tests. On purpose:
//! - Escapes follow ECMA-48. GitLab leaks the ends of OSC sequences and eats letters after them.
//! - Control characters leave no trace. A line that holds nothing else is a line on GitLab's page
//!   and none here, so numbers after it are lower by one than GitLab's.
//! - `+` continues the last line of its own stream; GitLab appends it to whatever came before it.
//! - A trailing carriage return at the very end of a trace ends the line; GitLab wipes it until the
//!   next byte arrives.
//! - A marker that starts a line and ends in `\r\e[K`, or in `\r` and text, opens or closes its
//!   section (one of the runner's script writers makes these). GitLab wipes it as text, so what is
//!   shown stays the same; numbers differ only where a full marker in mid-line then ends such a section.
//! - Of the vectors, `truncation_case` has no counterpart: GitLab's page reads the last 500 KiB, this
//!   reads from the first byte.

mod bytes;
mod emit;
mod escape;
mod header;
mod held;
mod level;
mod line;
mod merge;
mod open;
mod parser;
mod screen;
mod sections;
mod style;
mod summary;
mod text;
mod trailer;

pub use level::Level;
pub use line::{Line, Options, Stream, TimestampSource};
pub use open::OpenSection;
pub use parser::Parser;
pub use sections::Section;
pub use summary::{ByteCounts, Summary};
pub use trailer::Trailer;
