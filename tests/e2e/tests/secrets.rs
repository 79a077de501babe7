//! The caller's token is where it must be, and nowhere else.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Job, Scope, Status, Trace};
use serde_json::{Value, json};

use crate::hook::{Proof, delivery, job_event};
use crate::listener::fields;
use crate::queue::{DEAD, JOBS, Message, WAITING};
use crate::world::World;

const SOON: Duration = Duration::from_secs(15);
const INDEXED: Duration = Duration::from_secs(40);

pub(crate) async fn d25_a_callers_token_is_nowhere_in_clear(world: &World) -> Result<()> {
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

const API_SECRET: &str = "api-canary-0123456789abcdef";
const HOOK_SECRET: &str = "hook-canary-0123456789abcdef";
const AUDIENCE: &str = "https://joblogs.example.com";

/// By all other ways in, right and wrong, and in all fields of a notice that is refused.
pub(crate) async fn d25_secrets_of_all_ways_in_are_nowhere_in_clear(world: &World) -> Result<()> {
    world.set_up().await?;
    let signing = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTEyMzQ=";
    let variables = [
        ("JOBLOGS_API_SECRET", API_SECRET.to_owned()),
        (
            "JOBLOGS_WEBHOOK_SECRET",
            format!("{HOOK_SECRET}\n{signing}"),
        ),
        ("JOBLOGS_ID_TOKEN_AUDIENCE", AUDIENCE.to_owned()),
    ];
    let listener = world.listener_with(&variables).await?;
    let operators = world.secret("gitlab-token", world.token.value())?;
    let variables = [("JOBLOGS_GITLAB_TOKEN_FILE", operators)];
    let consumer = world.consumer_with(&world.gitlab.url(), &variables).await?;
    let jobs = [0; 4].map(|_| world.job().trace(Trace::Lines(100)).finished());
    let id_token = world.gitlab.id_token(&jobs[0], AUDIENCE, &Value::Null);
    let wrong_id_token = world
        .gitlab
        .id_token(&jobs[0], "https://other.example.com", &Value::Null);
    let wrong = "wrong-canary-0123456789abcdef";
    let proofs = [
        Proof::Token(HOOK_SECRET.to_owned()),
        Proof::signature(signing),
    ];
    let post = |job: &Job| listener.post_of(&fields(job));
    let hook = |job: &Job, proof: &Proof| delivery(&listener, "Job Hook", &job_event(job), proof);
    let mut replies = String::new();
    for (request, status) in [
        (post(&jobs[0]).bearer_auth(&id_token), 202),
        (post(&jobs[1]).bearer_auth(API_SECRET), 202),
        (hook(&jobs[2], &proofs[0]), 202),
        (hook(&jobs[3], &proofs[1]), 202),
        (post(&jobs[1]).bearer_auth(&id_token), 401),
        (post(&jobs[0]).bearer_auth(&wrong_id_token), 401),
        (post(&jobs[1]).bearer_auth(wrong), 401),
        (hook(&jobs[2], &Proof::Token(wrong.to_owned())), 401),
        (
            listener.get_of(
                &json!({"project_id": wrong, "job_id": wrong, wrong: wrong}),
                &world.token,
            ),
            400,
        ),
        (
            listener
                .post_of(&json!({"project_id": wrong, wrong: wrong}))
                .bearer_auth(API_SECRET),
            422,
        ),
        (
            listener
                .http()
                .get(format!("{}{wrong}?gitlab_token={wrong}", listener.url)),
            404,
        ),
        (
            listener
                .http()
                .put(format!("{}v1/jobs?token={wrong}", listener.url)),
            405,
        ),
    ] {
        let request = request.header("X-Canary", wrong);
        let answer = request.send().await?;
        let got = answer.status().as_u16();
        write!(replies, "{:?}", answer.headers())?;
        replies.push_str(&answer.text().await?);
        ensure!(got == status, "{got} and not {status}");
    }
    for job in &jobs {
        world.exact(job, INDEXED).await?;
    }
    for (program, path) in [
        (&listener.url, "metrics"),
        (&listener.url, "openapi.json"),
        (&consumer.url, "metrics"),
    ] {
        let answer = reqwest::get(format!("{program}{path}")).await?;
        replies.push_str(&answer.text().await?);
    }
    let signature = wrong_id_token.rsplit('.').next().context("a signature")?;
    let canaries = [
        API_SECRET,
        HOOK_SECRET,
        signing,
        &id_token,
        signature,
        wrong,
        world.token.value(),
    ];
    ensure!(
        replies.len() > 10_000,
        "there is no OpenAPI document in {replies}"
    );
    ensure!(is_clean(&replies, &canaries), "in a reply: {replies}");
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
