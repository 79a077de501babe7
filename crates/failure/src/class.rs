//! Whose move it is after a failure.

use serde::Deserialize;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Class {
    /// The project's own source does not compile, lint or format.
    Code,
    /// A test failed.
    Test,
    /// A package, module, image or version can't be resolved, or doesn't fit.
    Dependency,
    /// Network, disk, memory, a server or the runner.
    Infrastructure,
    /// The pipeline itself: a missing file, command, variable or right; a wrong option.
    Configuration,
    /// A time limit ended it.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// Nothing in the log says.
    Unknown,
}

impl Class {
    /// All of them, as documents name them.
    pub const ALL: [Self; 8] = [
        Self::Code,
        Self::Test,
        Self::Dependency,
        Self::Infrastructure,
        Self::Configuration,
        Self::Timeout,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// The name in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Test => "test",
            Self::Dependency => "dependency",
            Self::Infrastructure => "infrastructure",
            Self::Configuration => "configuration",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }
}
