//! How much memory a program has, over time.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::task::AbortHandle;
use tokio::time::{Instant, interval};

use crate::program::Program;

pub(crate) const MIB: u64 = 1 << 20;
/// DESIGN.md, for a consumer and a trace of any size.
pub(crate) const LIMIT: u64 = 64 * MIB;
/// Between two looks. What comes and goes between them is in the peak, which the system keeps.
const PAUSE: Duration = Duration::from_millis(200);

/// Looks at a program's memory until it is told to stop.
pub(crate) struct Memory {
    process: u32,
    samples: Arc<Mutex<Vec<Sample>>>,
    task: AbortHandle,
}

/// Bytes that were resident at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) at: Duration,
    pub(crate) resident: u64,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Course {
    pub(crate) samples: Vec<Sample>,
    /// The most that there ever was, from the program's start on.
    pub(crate) peak: u64,
}

impl Memory {
    /// Begins to look.
    pub(crate) fn watch(program: &Program) -> Self {
        let process = program.id();
        let samples = Arc::new(Mutex::new(Vec::new()));
        let seen = samples.clone();
        let task = tokio::spawn(async move {
            let start = Instant::now();
            let mut tick = interval(PAUSE);
            loop {
                tick.tick().await;
                // An end of the program is its own report.
                let Ok(resident) = read(process, "VmRSS:") else {
                    return;
                };
                let at = start.elapsed();
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.push(Sample { at, resident });
            }
        });
        Self {
            process,
            samples,
            task: task.abort_handle(),
        }
    }

    /// Looks no more. The program must still be there.
    pub(crate) fn end(self) -> Result<Course> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(samples.len() > 2, "only {} looks", samples.len());
        Ok(Course {
            samples: samples.clone(),
            peak: read(self.process, "VmHWM:")?,
        })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Course {
    /// An error when there was ever more than the limit.
    pub(crate) fn is_within_limit(&self) -> Result<()> {
        let [peak, limit] = [self.peak, LIMIT].map(|bytes| bytes / 1024);
        ensure!(peak <= limit, "{peak} KiB at peak, over {limit} KiB");
        Ok(())
    }
}

/// Bytes of a program that are in memory now.
pub(crate) fn resident(program: &Program) -> Result<u64> {
    read(program.id(), "VmRSS:")
}

/// Bytes, by the name that the system gives them.
fn read(process: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes
        .with_context(|| format!("the system says no {name}"))?
        .parse()?;
    Ok(kibibytes * 1024)
}
