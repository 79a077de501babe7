//! The template that pipelines include.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Fault, Job, On, Trace};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::script::{Image, Template, command_lines, program};
use crate::listener::Listener;
use crate::queue::JOBS;
use crate::world::World;

const AUDIENCE: &str = "https://joblogs.example.com";
const KIBANA: &str = "https://kibana.example.com/s/team";
const INDEXED: Duration = Duration::from_secs(40);
/// What the template promises, and what a shell on a busy machine may take beside it.
const LONGEST: Duration = Duration::from_secs(7);
/// Until a program that was started has its command line.
const LISTED: Duration = Duration::from_secs(3);

const SH: [&str; 2] = ["/bin/sh", "-e"];
/// As a runner has it where there is a bash.
const BASH: [&str; 3] = ["/bin/bash", "-eo", "pipefail"];
/// The same with `CI_DEBUG_TRACE`.
const TRACING: [&str; 3] = ["/bin/bash", "-exo", "pipefail"];

pub(crate) async fn jobs_of_any_name_are_told_of_by_curl(world: &World) -> Result<()> {
    let listener = set_up(world).await?;
    let script = script(&listener.url)?;
    let curl = program("curl")?;
    let curl = [("curl", curl.as_path())];
    let mut jobs = Vec::new();
    for (number, (shell, name, is_sent)) in [
        (&SH[..], "build: [linux, 1/2]", true),
        (&BASH, "Ä $HOME `exit` $(exit) 'q' %s & ü 🦀", true),
        (&TRACING, "#!*?;|<>{}~ \\", false),
        (
            &SH,
            r#"say "hello", "kibana_url":"http://elsewhere/""#,
            false,
        ),
        (&BASH, r"C:\new", false),
    ]
    .into_iter()
    .enumerate()
    {
        let image = Image::new(world, &format!("curl-{number}"), shell, &curl)?;
        let job = world.job().name(name).trace(Trace::Lines(50)).finished();
        let said = image.run(&script, &job, &token(world, &job)).await?;
        ensure!(leads_to(&said, &job), "{name}: {said}");
        jobs.push((job, if is_sent { name } else { "" }));
    }
    let messages = world.queues.look(JOBS).await?;
    ensure!(messages.len() == jobs.len(), "{messages:?}");
    for (message, (job, name)) in messages.iter().zip(&jobs) {
        let message: Value = serde_json::from_str(&message.body)?;
        let right = json!([job.project_id(), job.id(), "demo", name]);
        let fields = ["project_id", "job_id", "project_name", "job_name"];
        let sent: Value = fields.iter().map(|field| message[field].clone()).collect();
        ensure!(sent == right, "{sent} and not {right}");
        ensure!(!message["runner_id"].is_null(), "no runner: {message}");
    }
    consumer(world).await?;
    for (job, _) in &jobs {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}

pub(crate) async fn jobs_are_told_of_by_busybox(world: &World) -> Result<()> {
    let listener = set_up(world).await?;
    consumer(world).await?;
    let script = script(&listener.url)?;
    let busybox = program("busybox")?;
    let shell = [busybox.to_str().context("a path")?, "sh", "-e"];
    let programs = ["wget", "timeout", "true"].map(|name| (name, busybox.as_path()));
    let image = Image::new(world, "busybox", &shell, &programs)?;
    let job = world
        .job()
        .name("täst 1")
        .trace(Trace::Lines(50))
        .finished();
    let said = image.run(&script, &job, &token(world, &job)).await?;
    ensure!(leads_to(&said, &job), "{said}");
    world.exact(&job, INDEXED).await?;

    let refused = image.run(&script, &job, "a.b.c").await?;
    ensure!(refused.contains("401"), "{refused}");
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let silent = self::script(&format!("http://{}", silent.local_addr()?))?;
    let (said, took) = image.start(&silent, &job, "a.b.c")?.end().await?;
    ensure!(said.contains("no answer within 5 s"), "{said}");
    ensure!(took < LONGEST, "it took {took:?}");
    Ok(())
}

pub(crate) async fn a_pipeline_says_in_one_line_why_nobody_was_told(world: &World) -> Result<()> {
    world.initmq().await?;
    let [job, other] = [(), ()].map(|()| world.job().finished());
    let [right, others] = [&job, &other].map(|job| token(world, job));
    let elsewhere = "https://elsewhere.example.com";
    let elsewhere = world.gitlab.id_token(&job, elsewhere, &json!({}));
    let curl = program("curl")?;
    let image = Image::new(world, "curl", &SH, &[("curl", &curl)])?;
    let empty = Image::new(world, "nothing", &SH, &[])?;

    // A listener that could not ask yet by which keys GitLab signs.
    world.gitlab.fault(On::Any, Fault::Unavailable(502), 1);
    let keyless = script(&listener(world).await?.url)?;
    let here = script(&listener(world).await?.url)?;
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let nowhere = script(&format!("http://{gone}"))?;
    let unset = script("$JOBLOGS_URL")?;
    for (image, script, token, why) in [
        (&image, &keyless, right.as_str(), "by which keys"),
        (&image, &here, &elsewhere, "give a GitLab token"),
        (&image, &here, &others, "another job's"),
        (&image, &here, "", "id_tokens of its own"),
        (&image, &nowhere, &right, "(7) Failed to connect"),
        (&image, &unset, &right, "JOBLOGS_URL is not set"),
        (&empty, &here, &right, "neither curl nor wget"),
    ] {
        let said = image.run(script, &job, token).await?;
        let reason = said.strip_prefix("not told of this job: ");
        let is_right = reason.is_some_and(|it| it.contains(why));
        ensure!(is_right, "{said:?} does not say {why:?}");
    }
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");
    Ok(())
}

pub(crate) async fn a_listener_that_hangs_costs_five_seconds_and_no_token_is_listed(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let job = world.job().finished();
    let silent = TcpListener::bind("127.0.0.1:0").await?;
    let address = silent.local_addr()?.to_string();
    let curl = program("curl")?;
    let image = Image::new(world, "curl", &SH, &[("curl", &curl)])?;
    let token = token(world, &job);
    let run = image.start(&script(&format!("http://{address}"))?, &job, &token)?;
    let listed = world.until("curl is listed with the address", LISTED, async || {
        let listed = command_lines()?;
        let is_there = |line: &String| line.starts_with("curl\0") && line.contains(&address);
        ensure!(listed.iter().any(is_there), "it is not");
        Ok(listed)
    });
    let listed = listed.await?;
    ensure!(
        !listed.iter().any(|line| line.contains(&token)),
        "{listed:?}"
    );
    let (said, took) = run.end().await?;
    ensure!(said.contains("timed out"), "{said}");
    ensure!(took < LONGEST, "it took {took:?}");
    Ok(())
}

async fn set_up(world: &World) -> Result<Listener> {
    world.set_up().await?;
    listener(world).await
}

async fn listener(world: &World) -> Result<Listener> {
    let variables = [
        ("JOBLOGS_ID_TOKEN_AUDIENCE", AUDIENCE.to_owned()),
        ("JOBLOGS_KIBANA", KIBANA.to_owned()),
    ];
    world.listener_with(&variables).await
}

/// With the operator's token, as notices bring none.
pub(super) async fn consumer(world: &World) -> Result<()> {
    let secret = world.secret("gitlab-token", world.token.value())?;
    let variables = [("JOBLOGS_GITLAB_TOKEN_FILE", secret)];
    world.consumer_with(&world.gitlab.url(), &variables).await?;
    Ok(())
}

fn token(world: &World, job: &Job) -> String {
    world.gitlab.id_token(job, AUDIENCE, &json!({}))
}

/// What a job runs whose pipeline includes the template with this URL, for which its token is, too.
fn script(url: &str) -> Result<String> {
    let template = Template::including(url)?;
    ensure!(template.audience()? == url, "{:?}", template.audience());
    template.after_script()
}

/// Whether a line leads to a job's lines in Kibana.
fn leads_to(line: &str, job: &Job) -> bool {
    let Some((_, address)) = line.split_once(": ") else {
        return false;
    };
    let query = format!(
        "project_id%3A%20%22{}%22%20and%20job_id%3A%20%22{}%22",
        job.project_id(),
        job.id()
    );
    address.starts_with(&format!("{KIBANA}/app/discover#/?_g=")) && address.contains(&query)
}
