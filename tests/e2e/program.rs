//! A program as a child process: its output in a file, its end watched, killed and reaped at the latest when dropped.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::eventually::eventually;
use serde_json::Value;

use crate::chronicle::Chronicle;

/// Lines of a log that an error shows.
const LAST_LINES: usize = 12;
/// A log line longer than this is shown in part.
const LONGEST: usize = 600;

/// One running program, or what is left of it.
pub(crate) struct Program {
    name: String,
    child: Mutex<Child>,
    output: PathBuf,
    /// Set by whoever ends it on purpose: from then on its end is no surprise.
    may_end: AtomicBool,
    /// Where its ends by signals are noted.
    chronicle: Chronicle,
}

impl Program {
    /// Starts one of ours with these flags, and of the environment only these variables.
    pub(crate) fn start(
        program: &str,
        output: PathBuf,
        flags: &[&str],
        variables: &[(&str, String)],
        chronicle: &Chronicle,
    ) -> Result<Self> {
        let file = File::create(&output).with_context(|| format!("making {}", output.display()))?;
        let child = Command::new(path_of(program)?)
            .args(flags)
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        let name = output.file_stem().unwrap_or(output.as_os_str());
        Ok(Self {
            name: name.to_string_lossy().into_owned(),
            child: Mutex::new(child),
            output,
            may_end: AtomicBool::new(false),
            chronicle: chronicle.clone(),
        })
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child().id()
    }

    /// What tells it from the others of its world: `consumer-2`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// All that it has written so far.
    pub(crate) fn output(&self) -> String {
        let bytes = fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The fields of its first log line with this message.
    pub(crate) fn logged(&self, message: &str) -> Result<Value> {
        let line = self.all_logged(message).into_iter().next();
        line.with_context(|| format!("{} has not logged {message:?}", self.name))
    }

    /// The fields of all its log lines with this message.
    pub(crate) fn all_logged(&self, message: &str) -> Vec<Value> {
        let output = self.output();
        let lines = output
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok());
        lines
            .filter(|line: &Value| line["message"] == message)
            .collect()
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&self) -> Result<()> {
        self.may_end.store(true, Ordering::Relaxed);
        self.chronicle.note(format!("{}: kill -9", self.name));
        let mut child = self.child();
        child.kill().context("kill -9")?;
        let status = child.wait()?;
        ensure!(
            status.signal() == Some(9),
            "{} had ended by itself: {status}",
            self.name
        );
        Ok(())
    }

    /// SIGTERM, and its exit code within the deadline.
    pub(crate) async fn terminate(&self, deadline: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.end(deadline).await
    }

    /// Sends it this signal, which may end it.
    pub(crate) fn signal(&self, signal: &str) -> Result<()> {
        self.may_end.store(true, Ordering::Relaxed);
        self.chronicle.note(format!("{}: SIG{signal}", self.name));
        // No crate of ours sends signals: that would be the only use of one.
        let command = format!("kill -{signal} {}", self.id());
        let sent = Command::new("sh").args(["-c", &command]).status()?;
        ensure!(sent.success(), "SIG{signal} did not reach {}", self.name);
        Ok(())
    }

    /// Its exit code, once it has ended by itself.
    pub(crate) async fn end(&self, deadline: Duration) -> Result<ExitStatus> {
        self.may_end.store(true, Ordering::Relaxed);
        let what = format!("{} ends", self.name);
        eventually(what, deadline, async || {
            self.child().try_wait()?.context("it still runs")
        })
        .await
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.child().try_wait(), Ok(None))
    }

    /// An error once it has ended and nobody wanted that.
    pub(crate) fn still_runs(&self) -> Result<()> {
        if self.may_end.load(Ordering::Relaxed) {
            return Ok(());
        }
        match self.child().try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended: {status}", self.name),
        }
    }

    /// The end of its output, for people.
    pub(crate) fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let mut words = format!("--- {}, its last lines:\n", self.name);
        for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
            words.extend(line.chars().take(LONGEST));
            words.push('\n');
        }
        words
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let mut child = self.child();
        // Both fail only when it is gone already.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Beside the running test binary, which is `target/PROFILE/deps/e2e-…`.
fn path_of(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of the test binary")?;
    let folder = own.parent().and_then(Path::parent);
    let path = folder.unwrap_or(Path::new("")).join(program);
    ensure!(
        path.is_file(),
        "the program {} is not built; run `make e2e`, which builds it",
        path.display()
    );
    Ok(path)
}
