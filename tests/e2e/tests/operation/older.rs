//! Moving over from the older Python tool: its messages in the queue, and its curl in the pipelines.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::gitlab::{Job, Trace};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::listener::fields;
use crate::queue::DEAD;
use crate::world::World;

const INDEXED: Duration = Duration::from_secs(40);

/// As its README has it; only host and port are filled in.
const CURL: &str = r#"curl "http://HOST:PORT/?project_id=$CI_PROJECT_ID&runner_id=$CI_RUNNER_ID&job_id={$CI_JOB_ID}&job_name=$CI_JOB_NAME&project_name=$CI_PROJECT_NAME&gitlab_token=$GITLAB_TOKEN""#;

pub(crate) async fn e33_the_older_tools_message_is_processed(world: &World) -> Result<()> {
    world.set_up().await?;
    let job = world.job().trace(Trace::Lines(400)).finished();
    let message = older_message(world, &job, &world.gitlab.url());
    world.queues.publish(&message.to_string()).await?;
    world.consumer().await?;
    world.exact(&job, INDEXED).await?;
    Ok(())
}

pub(crate) async fn e33_a_foreign_url_is_a_dead_letter_without_its_token(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let job = world.job().finished();
    let foreign = e2e::gitlab::Gitlab::start_on("127.0.0.1:0").await?;
    let message = older_message(world, &job, &foreign.url());
    world.queues.publish(&message.to_string()).await?;
    world.consumer().await?;
    world.expect_dead_letters(1);
    let letter = world
        .until("a dead letter", INDEXED, async || {
            let mut letters = world.queues.look(DEAD).await?;
            ensure!(letters.len() == 1, "{} dead letters", letters.len());
            Ok(letters.remove(0))
        })
        .await?;
    ensure!(
        !letter.raw().contains(world.token.value()),
        "the token is in the dead letter"
    );
    let reason = letter.header("joblogs-reason");
    ensure!(reason.contains("instance"), "the reason is {reason:?}");
    ensure!(
        letter.body.contains(&job.id().to_string()),
        "which job? {}",
        letter.body
    );
    ensure!(foreign.requests().is_empty(), "the foreign host was asked");
    ensure!(
        world.gitlab.requests().is_empty(),
        "the own GitLab was asked"
    );
    Ok(())
}

pub(crate) async fn e33_the_older_tools_curl_line_works_as_documented(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    let address = listener
        .url
        .trim_start_matches("http://")
        .trim_end_matches('/');
    let line = CURL.replace("HOST:PORT", address);
    // Without globbing curl sends the braces as they are.
    for line in [line.clone(), line.replacen("curl ", "curl -g ", 1)] {
        let job = world
            .job()
            .name("compile")
            .trace(Trace::Lines(50))
            .finished();
        let facts = fields(&job);
        let text = |name: &str| match &facts[name] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let answer = Command::new("bash")
            .args(["-c", &line])
            .env("CI_PROJECT_ID", text("project_id"))
            .env("CI_PROJECT_NAME", text("project_name"))
            .env("CI_JOB_ID", text("job_id"))
            .env("CI_JOB_NAME", text("job_name"))
            .env("CI_RUNNER_ID", text("runner_id"))
            .env("GITLAB_TOKEN", world.token.value())
            .env("no_proxy", "127.0.0.1")
            .stdin(Stdio::null())
            .output()
            .await?;
        let said = String::from_utf8_lossy(&answer.stdout);
        ensure!(
            answer.status.success() && said == "OK!",
            "{line}: {answer:?}"
        );
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}

/// A message as the older tool wrote it, about a job of a GitLab at this URL.
fn older_message(world: &World, job: &Job, gitlab: &str) -> Value {
    let (project, id) = (job.project_id(), job.id());
    json!({
        "url": format!("{gitlab}api/v4/projects/{project}/jobs/{id}/trace"),
        "runner_id": fields(job)["runner_id"].to_string(),
        "project_id": project.to_string(),
        "project_name": "demo",
        "job_id": id.to_string(),
        "job_name": fields(job)["job_name"],
        "gitlab_token": world.token.value(),
    })
}
