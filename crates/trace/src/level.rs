//! How bad a line says it is: a guess, made only where the line leaves little doubt.

use crate::style::Spans;

/// How bad a line says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warning,
    /// The line calls itself information.
    Info,
    /// The line calls itself debugging output.
    Debug,
}

impl Level {
    /// The name in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

pub(crate) fn of(_text: &str, _spans: &Spans) -> Option<Level> {
    None
}
