//! What `gitlab/README.md` says to copy does what it says.

use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Job;
use serde_json::Value;
use tokio::process::Command;

use crate::queue::JOBS;
use crate::world::World;

const README: &str = include_str!("../../../../gitlab/README.md");
const SHARED: &str = "canary-shared-0123456789";

pub(crate) async fn documented_lines_for_other_credentials_are_taken(world: &World) -> Result<()> {
    world.initmq().await?;
    let variables = [("JOBLOGS_API_SECRET", SHARED.to_owned())];
    let listener = world.listener_with(&variables).await?;
    let url = listener.url.trim_end_matches('/');
    for (variable, credential) in [
        ("JOBLOGS_TOKEN", world.token.value()),
        ("JOBLOGS_SECRET", SHARED),
    ] {
        let job = world.job().finished();
        let script = after_script_with(variable)?;
        let said = run(&script, &job, url, (variable, credential)).await?;
        let id = format!("\"job_id\":{}", job.id());
        ensure!(said.contains(&id), "{variable}: {said}");
    }
    let published = world.queues.take(JOBS).await?;
    ensure!(published == 2, "{published} messages were published");
    Ok(())
}

/// The script of the one YAML block that uses this variable.
fn after_script_with(variable: &str) -> Result<String> {
    let blocks = README.split("```yaml\n").skip(1);
    let mut blocks = blocks.filter_map(|rest| rest.split("```").next());
    let uses = format!("${variable}\"");
    let block = blocks.find(|block| block.contains(&uses));
    let block: Value = serde_saphyr::from_str(block.context("no such block")?)?;
    let script = block["default"]["after_script"][0].as_str();
    script.context("no script").map(str::to_owned)
}

async fn run(script: &str, job: &Job, url: &str, credential: (&str, &str)) -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = Command::new("sh")
        .args(["-ec", script])
        .env_clear()
        .env("PATH", path)
        .env("CI_PROJECT_ID", job.project_id().to_string())
        .env("CI_JOB_ID", job.id().to_string())
        .env("JOBLOGS_URL", url)
        .env(credential.0, credential.1)
        .stdin(Stdio::null())
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}
