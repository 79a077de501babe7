//! The caller's token is where it must be, and nowhere else.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Scope, Status, Trace};
use serde_json::{Value, json};

use crate::queue::{DEAD, JOBS, Message, WAITING};
use crate::world::World;

const SOON: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_secs(40);

pub(crate) async fn a_token_is_nowhere_in_clear(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    let revoked = world.gitlab.token(Scope::Revoked, &[&world.project]);
    let canaries = [world.token.value(), revoked.value()];
    // One that will sleep, one whose token is refused, one that goes well with its token in the address.
    let running = world.job().trace(Trace::Lines(100)).start();
    let refused = world.job().finished();
    let healthy = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&running, &world.token).await?;
    listener.post(&refused, &revoked).await?;
    listener.get(&healthy, &world.token).await?;
    // Nobody consumes yet.
    let waiting = world.queues.look(JOBS).await?;
    ensure!(waiting.len() == 3, "{} messages", waiting.len());
    are_sealed(&waiting, &canaries)?;

    // The older tool writes tokens in clear; they end with the first one who reads them.
    let older = world.job().trace(Trace::Lines(100)).start();
    let url = format!(
        "{}api/v4/projects/{}/jobs/{}/trace",
        world.gitlab.url(),
        older.project_id(),
        older.id()
    );
    let message = json!({
        "url": url, "runner_id": "1", "project_id": older.project_id().to_string(), "project_name": "demo",
        "job_id": older.id().to_string(), "job_name": "hello", "gitlab_token": world.token.value(),
    });
    world.queues.publish(&message.to_string()).await?;

    world.consumer().await?;
    let sleeping = world
        .until("two messages sleep", SOON, async || {
            let sleeping = world.queues.look(WAITING[0]).await?;
            ensure!(sleeping.len() == 2, "{}", sleeping.len());
            Ok(sleeping)
        })
        .await?;
    are_sealed(&sleeping, &canaries)?;
    world.expect_dead_letters(1);
    world.without_lines(&refused, "forbidden", INDEXED).await?;
    let letters = world
        .until("a dead letter", SOON, async || {
            let letters = world.queues.look(DEAD).await?;
            ensure!(!letters.is_empty(), "there is none");
            Ok(letters)
        })
        .await?;
    ensure!(
        letters
            .iter()
            .all(|letter| is_clean(&letter.raw(), &canaries)),
        "in a dead letter"
    );
    for job in [&running, &older] {
        job.finish(Status::Success);
        world.exact(job, INDEXED).await?;
    }
    world.exact(&healthy, INDEXED).await?;
    nowhere_else(world, &canaries).await
}

/// Looks into documents, logs and process lists, the latter two for all secrets of this world.
async fn nowhere_else(world: &World, canaries: &[&str]) -> Result<()> {
    let everything = json!({"match_all": {}});
    let indices = format!("*-{}*", world.name);
    let mut documents = world.elasticsearch().read(&indices, everything, json!([{"@timestamp": {"order": "asc", "unmapped_type": "date_nanos"}}, {"line": {"order": "asc", "unmapped_type": "long"}}]));
    let mut count = 0;
    while let Some(document) = documents.next().await? {
        count += 1;
        ensure!(
            is_clean(&document.source.to_string(), canaries),
            "in {} of {}",
            document.id,
            document.index
        );
    }
    ensure!(count > 300, "only {count} documents were looked at");
    let servers = &world.servers;
    let passwords = [
        servers.rabbitmq.password.as_str(),
        &servers.elasticsearch_password,
        &world.seal_key,
    ];
    let secrets = [canaries, &passwords].concat();
    for (program, output) in world.outputs() {
        ensure!(output.len() > 10, "{program} says nothing at --debug");
        ensure!(is_clean(&output, &secrets), "in what {program} says");
    }
    for (id, command) in processes()? {
        ensure!(
            is_clean(&command, &secrets),
            "in the command line of process {id}"
        );
    }
    Ok(())
}

fn are_sealed(messages: &[Message], canaries: &[&str]) -> Result<()> {
    for message in messages {
        ensure!(is_clean(&message.raw(), canaries), "in a message");
        let body: Value = serde_json::from_str(&message.body).context("a message is JSON")?;
        ensure!(
            body["token"]["sealed"].is_string(),
            "a message without its sealed token: {body}"
        );
    }
    Ok(())
}

fn is_clean(text: &str, secrets: &[&str]) -> bool {
    !secrets.iter().any(|secret| text.contains(secret))
}

/// Every process of this host with its command line, as any user may read it.
fn processes() -> Result<Vec<(String, String)>> {
    let mut processes = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        // One that has just ended has none.
        if let Ok(command) = fs::read(entry.path().join("cmdline")) {
            let id = entry.file_name().to_string_lossy().into_owned();
            processes.push((id, String::from_utf8_lossy(&command).into_owned()));
        }
    }
    ensure!(
        processes
            .iter()
            .any(|(_, command)| command.contains("consumer")),
        "no consumer among the processes"
    );
    Ok(processes)
}
