//! The jobs of one run: those of the last days are over, those of now run and are soon over, and each is announced by
//! the curl of the README.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::clock::moved;
use super::plan::{Fate, Planned};
use crate::gitlab::{Gitlab, Job, Scope, Token, Trace};

/// The first job that runs now ends after so long, and then one after the other.
const FIRST_ENDS: Duration = Duration::from_secs(2);
const NEXT_ENDS: Duration = Duration::from_millis(40);
/// Between the ends of two jobs of the past.
const APART: SignedDuration = SignedDuration::from_mins(7);
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Where a clock of 32 bits goes on in 2038.
const YEAR_1901: &str = "1901-12-13T20:45:52Z";
/// Ids count hundredths of a second from then on, so that no run has the ids of another.
const IDS_BEGIN: i64 = 1_700_000_000;
/// Runners that call at once.
const AT_ONCE: usize = 4;

/// A job of the demo, and how many of its lines can be searched in the end.
pub(super) struct DemoJob {
    pub(super) planned: Planned,
    pub(super) lines: u64,
    pub(super) job: Job,
    token: Token,
}

impl DemoJob {
    pub(super) fn id(&self) -> String {
        self.job.id().to_string()
    }

    pub(super) fn name(&self) -> &str {
        self.planned.name()
    }

    /// Whether all of its log will be here, or recorded as rejected.
    pub(super) fn is_whole(&self) -> bool {
        self.planned.fate != Fate::Forbidden
    }
}

/// Starts a job for each that is planned.
pub(super) fn start(gitlab: &Gitlab, plan: Vec<Planned>) -> Result<Vec<DemoJob>> {
    let now = Timestamp::now();
    let centiseconds = now.as_millisecond() / 10 - IDS_BEGIN * 100;
    let first = u64::try_from(centiseconds).context("the clock is years behind")?;
    let mut ends = FIRST_ENDS;
    let mut jobs = Vec::new();
    for (number, planned) in (0..).zip(plan) {
        let project = gitlab.project(planned.project);
        let scope = match planned.fate {
            Fate::Forbidden => Scope::Revoked,
            _ => Scope::ReadApi,
        };
        let end = if planned.days_ago == 0 {
            ends += NEXT_ENDS;
            now + SignedDuration::try_from(ends)?
        } else {
            now - DAY * i32::try_from(planned.days_ago)? - APART * number
        };
        let mut runner = planned.sample.facts["runner"].clone();
        runner["id"] = planned.runner.into();
        let described = gitlab
            .sample_job(&project, &planned.sample)
            .id(first + u64::try_from(number)?)
            .name(planned.name())
            .fact("runner", runner)
            .trace(Trace::Bytes(trace(&planned, end)?));
        let job = match planned.days_ago {
            0 => described.finish_after(ends).start(),
            _ => described.finished_at(end),
        };
        jobs.push(DemoJob {
            lines: planned.lines()?,
            job,
            token: gitlab.token(scope, &[&project]),
            planned,
        });
    }
    Ok(jobs)
}

/// What the job writes, at the times at which it runs, by its runner's clock.
fn trace(planned: &Planned, end: Timestamp) -> Result<Vec<u8>> {
    let sample = &planned.sample;
    let was = sample.facts["finished_at"].as_str().unwrap_or_default();
    let was: Timestamp = was.parse().context("a sample's end")?;
    let end = match planned.fate {
        Fate::Rejected => YEAR_1901.parse()?,
        _ => end,
    };
    Ok(moved(sample.trace, end.duration_since(was)))
}

/// What stands in `.gitlab-ci.yml`.
pub(super) fn snippet(listener: &str) -> String {
    format!(
        r#"  curl -fsS -m 5 --retry 2 -G "{listener}/" -H "PRIVATE-TOKEN: $GITLAB_TOKEN" \
    --data-urlencode "project_id=$CI_PROJECT_ID" --data-urlencode "project_name=$CI_PROJECT_NAME" \
    --data-urlencode "job_id=$CI_JOB_ID" --data-urlencode "job_name=$CI_JOB_NAME" \
    --data-urlencode "runner_id=$CI_RUNNER_ID""#
    )
}

/// Sends the notice of every job.
pub(super) async fn notify(jobs: &[DemoJob], listener: &str) -> Result<()> {
    stream::iter(jobs)
        .map(|job| notify_of(job, listener))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn notify_of(job: &DemoJob, listener: &str) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "-m", "5", "--retry", "2", "-G"])
        .arg(format!("{listener}/"));
    // The same header, from standard input: on the command line every user of the machine could read it.
    curl.args(["-H", "@-"]);
    let fields = [
        ("project_id", job.job.project_id().to_string()),
        ("project_name", job.planned.project_name().into()),
        ("job_id", job.id()),
        ("job_name", job.name().into()),
        ("runner_id", job.planned.runner.to_string()),
    ];
    for (name, value) in fields {
        curl.arg("--data-urlencode").arg(format!("{name}={value}"));
    }
    let curl = curl
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = curl
        .kill_on_drop(true)
        .spawn()
        .context("starting curl, which must be installed")?;
    let mut input = child.stdin.take().context("curl's standard input")?;
    input
        .write_all(format!("PRIVATE-TOKEN: {}\n", job.token.value()).as_bytes())
        .await?;
    drop(input);
    let answer = child.wait_with_output().await?;
    let (said, complaint) = (
        String::from_utf8_lossy(&answer.stdout),
        String::from_utf8_lossy(&answer.stderr),
    );
    ensure!(
        answer.status.success() && said == "OK!",
        "the listener did not take the notice of job {}: {said}{}",
        job.name(),
        complaint.trim()
    );
    Ok(())
}
