//! `gitlab/joblogs.yml` as GitLab makes a job of it, and its `after_script` as a runner runs it: by a shell that ends at
//! the first failure, with the job's variables and the programs that its image has.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Job;
use regex::Regex;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::listener::fields;
use crate::world::World;

const TEMPLATE: &str = include_str!("../../../../gitlab/joblogs.yml");
/// What a script may take before it is ended from outside, which no test takes for right.
const DEADLINE: Duration = Duration::from_secs(30);
/// Comes after the script, as a job's own `after_script` may.
const REST: &str = "echo 'the rest of after_script'";

/// The part of the file that becomes a part of pipelines, its input `url` filled in.
pub(crate) struct Template(Value);

impl Template {
    /// As GitLab reads it: two documents, of which the first says what the inputs have to look like.
    pub(crate) fn including(url: &str) -> Result<Self> {
        let documents: Vec<Value> = serde_saphyr::from_multiple(TEMPLATE)?;
        let [head, body] = &documents[..] else {
            anyhow::bail!("{} documents", documents.len());
        };
        let input = &head["spec"]["inputs"]["url"];
        let rule = input["regex"].as_str().context("no rule for the input")?;
        let default = input["default"].as_str().context("no default")?;
        for given in [url, default, "https://joblogs.example.com:8443/path"] {
            ensure!(Regex::new(rule)?.is_match(given), "{given} does not pass");
        }
        for wrong in ["https://x/ y", "https://x/\"; exit", "$(exit)", "joblogs"] {
            ensure!(!Regex::new(rule)?.is_match(wrong), "{wrong} passes");
        }
        ensure!(body["default"] == body[".joblogs"], "two different things");
        let filled = body["default"].to_string();
        let filled = filled.replace("$[[ inputs.url ]]", url);
        ensure!(!filled.contains("$[["), "an input that is not declared");
        Ok(Self(serde_json::from_str(&filled)?))
    }

    /// For whom a job's ID token is.
    pub(crate) fn audience(&self) -> Result<&str> {
        let token = &self.0["id_tokens"]["JOBLOGS_ID_TOKEN"];
        token["aud"].as_str().context("no audience")
    }

    /// The lines of a job's `after_script`.
    pub(crate) fn after_script(&self) -> Result<String> {
        let lines = self.0["after_script"].as_array().context("no list")?;
        let lines: Option<Vec<&str>> = lines.iter().map(Value::as_str).collect();
        Ok(lines.context("not only texts")?.join("\n"))
    }
}

/// What a job runs in.
pub(crate) struct Image<'a> {
    shell: &'a [&'a str],
    /// The only folder in which programs are looked for.
    programs: PathBuf,
}

impl<'a> Image<'a> {
    /// One with this shell, given by its path, and these programs under their names. They have to be there.
    pub(crate) fn new(
        world: &World,
        name: &str,
        shell: &'a [&'a str],
        programs: &[(&str, &Path)],
    ) -> Result<Self> {
        let folder = world.folder().join(name);
        fs::create_dir(&folder)?;
        for (name, path) in programs {
            symlink(path, folder.join(name))?;
        }
        let programs = folder;
        Ok(Self { shell, programs })
    }

    /// Begins to run a script for a job with this ID token.
    pub(crate) fn start(&self, script: &str, job: &Job, token: &str) -> Result<Run> {
        let (program, flags) = self.shell.split_first().context("no shell")?;
        let known = fields(job);
        let text = |name: &str| match &known[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let child = Command::new(program)
            .args(flags)
            .args(["-c", &format!("{script}\n{REST}")])
            .env_clear()
            .env("PATH", &self.programs)
            .env("CI_PROJECT_ID", text("project_id"))
            .env("CI_PROJECT_NAME", text("project_name"))
            .env("CI_JOB_ID", text("job_id"))
            .env("CI_JOB_NAME", text("job_name"))
            .env("CI_RUNNER_ID", text("runner_id"))
            .env("JOBLOGS_ID_TOKEN", token)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program}"))?;
        Ok(Run {
            child,
            since: Instant::now(),
            token: token.to_owned(),
        })
    }

    /// What a script says in one line, once all has gone as it must.
    pub(crate) async fn run(&self, script: &str, job: &Job, token: &str) -> Result<String> {
        Ok(self.start(script, job, token)?.end().await?.0)
    }
}

/// A script that runs; ended at the latest when dropped.
pub(crate) struct Run {
    child: Child,
    since: Instant,
    token: String,
}

impl Run {
    /// What it said, and how long it took. It must have ended well, in one line that begins with our name, before
    /// the rest of the script, and without the token.
    pub(crate) async fn end(self) -> Result<(String, Duration)> {
        let output = timeout(DEADLINE, self.child.wait_with_output()).await;
        let output = output.with_context(|| format!("not over within {DEADLINE:?}"))??;
        let took = self.since.elapsed();
        let said = String::from_utf8(output.stdout)?;
        let errors = String::from_utf8(output.stderr)?;
        let both = format!("{said}{errors}");
        ensure!(output.status.success(), "{}: {both}", output.status);
        let is_shown = !self.token.is_empty() && both.contains(&self.token);
        ensure!(!is_shown, "the token is in: {both}");
        let lines: Vec<&str> = said.lines().collect();
        let [line, "the rest of after_script"] = lines[..] else {
            anyhow::bail!("not one line: {both}");
        };
        // A trace has more, but not from within.
        ensure!(errors.lines().all(|it| it.starts_with('+')), "{errors}");
        let line = line.strip_prefix("Joblogs: ");
        Ok((line.context("whose line?")?.to_owned(), took))
    }
}

/// The path of a program of this machine.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = places.find(|path| path.is_file());
    found.with_context(|| {
        format!("{name} is not installed; `make e2e` installs what tests need on Debian and Ubuntu")
    })
}

/// The command lines of all processes, the words of each parted by `\0`.
pub(crate) fn command_lines() -> Result<Vec<String>> {
    let lines = fs::read_dir("/proc")?.filter_map(|entry| {
        // Those that are no process have none, and those that ended meanwhile.
        let bytes = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    });
    Ok(lines.collect())
}
