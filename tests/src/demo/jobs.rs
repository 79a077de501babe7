//! The jobs of one run: one for each sample, running now and soon over, each announced by the curl of the README.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::gitlab::{Gitlab, Job, Project, Token};
use crate::samples;

/// The first job ends after so long, and then one after the other.
const FIRST_ENDS: Duration = Duration::from_secs(2);
const NEXT_ENDS: Duration = Duration::from_millis(40);
/// Ids count hundredths of a second from then on, so that no run has the ids of another.
const IDS_BEGIN: i64 = 1_700_000_000;
/// Runners that call at once.
const AT_ONCE: usize = 4;

/// A job of the demo, and how many lines it writes.
pub(super) struct DemoJob {
    pub(super) name: String,
    pub(super) lines: u64,
    pub(super) job: Job,
    runner: String,
}

impl DemoJob {
    pub(super) fn id(&self) -> String {
        self.job.id().to_string()
    }
}

/// Starts one job for each sample.
pub(super) fn start(gitlab: &Gitlab, project: &Project) -> Result<Vec<DemoJob>> {
    let centiseconds = Timestamp::now().as_millisecond() / 10 - IDS_BEGIN * 100;
    let first = u64::try_from(centiseconds).context("the clock is years behind")?;
    let mut ends = FIRST_ENDS;
    let mut jobs = Vec::new();
    for (id, sample) in (first..).zip(samples::all()) {
        let lines = sample.expected()?.len() as u64;
        // The two runs of a sample have one name; here each job has its own.
        let described = gitlab
            .sample_job(project, &sample)
            .id(id)
            .name(&sample.name);
        jobs.push(DemoJob {
            job: described.finish_after(ends).start(),
            runner: sample.facts["runner"]["id"].to_string(),
            name: sample.name,
            lines,
        });
        ends += NEXT_ENDS;
    }
    Ok(jobs)
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
pub(super) async fn notify(jobs: &[DemoJob], listener: &str, token: &Token) -> Result<()> {
    stream::iter(jobs)
        .map(|job| notify_of(job, listener, token))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn notify_of(job: &DemoJob, listener: &str, token: &Token) -> Result<()> {
    let mut curl = Command::new("curl");
    curl.args(["-fsS", "-m", "5", "--retry", "2", "-G"])
        .arg(format!("{listener}/"));
    // The same header, from standard input: on the command line every user of the machine could read it.
    curl.args(["-H", "@-"]);
    let fields = [
        ("project_id", job.job.project_id().to_string()),
        ("project_name", "demo".into()),
        ("job_id", job.id()),
        ("job_name", job.name.clone()),
        ("runner_id", job.runner.clone()),
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
        .write_all(format!("PRIVATE-TOKEN: {}\n", token.value()).as_bytes())
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
        job.name,
        complaint.trim()
    );
    Ok(())
}
