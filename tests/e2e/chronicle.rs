//! What a test did to programs and servers, in order and with times: a failure is told with it.

use std::fmt::{self, Display};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Clones are the same one.
#[derive(Clone)]
pub(crate) struct Chronicle {
    begin: Instant,
    entries: Arc<Mutex<Vec<(Duration, String)>>>,
}

impl Default for Chronicle {
    fn default() -> Self {
        Self {
            begin: Instant::now(),
            entries: Arc::default(),
        }
    }
}

impl Chronicle {
    /// Notes what is done now.
    pub(crate) fn note(&self, what: impl Into<String>) {
        let entry = (self.begin.elapsed(), what.into());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.push(entry);
    }
}

impl Display for Chronicle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.is_empty() {
            return Ok(());
        }
        writeln!(formatter, "--- what was done, in order:")?;
        for (at, what) in entries.iter() {
            writeln!(formatter, "{:>10.3} s  {what}", at.as_secs_f64())?;
        }
        Ok(())
    }
}
