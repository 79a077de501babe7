//! Each service has the rights that it needs in RabbitMQ and in Elasticsearch, and no others; and its container has none.

mod elasticsearch;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Status, Trace};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::queue::{DEAD, JOBS, WAITING};
use crate::world::World;

pub(crate) use self::elasticsearch::d27_elasticsearchs_users_may_do_what_they_need_and_nothing_else;

const INDEXED: Duration = Duration::from_secs(40);
const PASSWORD: &str = "canary-of-a-service";

pub(crate) async fn d27_each_service_has_only_the_rights_that_it_needs(
    world: &World,
) -> Result<()> {
    let definitions = definitions().await?;
    for service in ["initmq", "listener", "consumer"] {
        let mut all = definitions["permissions"].as_array().into_iter().flatten();
        let rights = all.find(|rights| rights["user"] == service);
        let rights = rights.with_context(|| format!("{service} has no rights"))?;
        let user = format!("{}-{service}", world.name);
        let rabbitmq = &world.servers.rabbitmq;
        rabbitmq
            .add_user(&user, PASSWORD, &world.name, rights)
            .await?;
    }
    let as_user = |name: &'static str, password: &'static str, service: &str| {
        vec![
            (name, format!("{}-{service}", world.name)),
            (password, PASSWORD.to_owned()),
        ]
    };
    let mut initmq = world.broker_variables(world.servers.rabbitmq.port);
    initmq.extend(as_user("JOBLOGS_USER", "JOBLOGS_PASS", "initmq"));
    world.run("initmq", &["--debug"], &initmq).await?;
    let set_up = world.setup_starting(&[])?.end(INDEXED).await?;
    ensure!(set_up.success(), "setup: {set_up}");
    let listener = as_user("JOBLOGS_USER", "JOBLOGS_PASS", "listener");
    let listener = world.listener_with(&listener).await?;
    let mut consumer = as_user("JOBLOGS_RMQ_USER", "JOBLOGS_RMQ_PASS", "consumer");
    consumer.push(("JOBLOGS_RMQ_PASS_FILE", String::new()));
    world.consumer_with(&world.gitlab.url(), &consumer).await?;
    // One that sleeps between, and one that becomes a dead letter.
    let job = world.job().trace(Trace::Lines(100)).start();
    listener.post(&job, &world.token).await?;
    world.queues.publish("no JSON").await?;
    world.expect_dead_letters(1);
    world
        .until("a dead letter", INDEXED, async || {
            ensure!(world.queues.ready(DEAD).await? == 1, "there is none");
            Ok(())
        })
        .await?;
    world
        .until("the message sleeps", INDEXED, async || {
            ensure!(world.queues.ready(WAITING[0]).await? == 1, "it does not");
            Ok(())
        })
        .await?;
    job.finish(Status::Success);
    world.exact(&job, INDEXED).await?;
    for service in ["listener", "consumer"] {
        let user = format!("{}-{service}", world.name);
        is_refused_the_rest(world, &user, service)
            .await
            .context(service)?;
    }
    Ok(())
}

/// Each refusal of RabbitMQ's ends the channel.
async fn is_refused_the_rest(world: &World, user: &str, service: &str) -> Result<()> {
    let connection = world.queues.connect_as(user, PASSWORD).await?;
    let channel = async || -> Result<Channel> { Ok(connection.create_channel().await?) };
    let own = channel().await?;
    let (options, arguments) = (QueueDeclareOptions::default(), FieldTable::default());
    let declared = own
        .queue_declare("jobs.own".into(), options, arguments)
        .await;
    is_forbidden("declare", declared)?;
    let deleted = channel()
        .await?
        .queue_delete(JOBS.into(), QueueDeleteOptions::default())
        .await;
    is_forbidden("delete", deleted)?;
    if service == "listener" {
        let got = channel()
            .await?
            .basic_get(JOBS.into(), BasicGetOptions::default())
            .await;
        is_forbidden("read", got)?;
        let channel = channel().await?;
        let properties = BasicProperties::default();
        let sent = channel.basic_publish(
            "".into(),
            JOBS.into(),
            BasicPublishOptions::default(),
            b"x",
            properties,
        );
        let _ = sent.await?.await;
        // The refusal comes after the message, on a channel without confirms.
        world
            .until("the default exchange is refused", INDEXED, async || {
                ensure!(!channel.status().connected(), "the channel is open");
                Ok(())
            })
            .await?;
    }
    connection.close(200, "done".into()).await?;
    Ok(())
}

fn is_forbidden<T>(what: &str, outcome: lapin::Result<T>) -> Result<()> {
    let error = outcome.err().with_context(|| format!("it may {what}"))?;
    ensure!(
        error.to_string().contains("ACCESS_REFUSED"),
        "{what}: {error}"
    );
    Ok(())
}

/// What the appliance gives its services, as its own script writes it.
async fn definitions() -> Result<Value> {
    let script = read("docker/passwords.sh")?;
    let begin = script.find("may() {").context("no may()")?;
    let end = script.find("definitions |").context("no definitions")?;
    let functions = &script[begin..end];
    let script = format!("user() {{ printf '{{}}'; }}\n{functions}\ndefinitions");
    let said = Command::new("bash").args(["-c", &script]).output().await?;
    Ok(serde_json::from_slice(&said.stdout)?)
}

pub(crate) async fn d27_our_containers_are_nobody_and_write_nothing(world: &World) -> Result<()> {
    // Each test ends with a look at the queues.
    world.initmq().await?;
    let compose = read("compose.yaml")?;
    let compose: Value = serde_saphyr::from_str(&compose)?;
    for service in [
        "passwords",
        "initmq",
        "setup",
        "kibana-objects",
        "listener",
        "consumer",
        "retention",
    ] {
        let settings = &compose["services"][service];
        let user = settings["user"].as_str().unwrap_or("0");
        ensure!(
            !user.starts_with('0') && user != "root",
            "{service} is {user}"
        );
        ensure!(settings["read_only"] == true, "{service} may write");
        ensure!(
            settings["cap_drop"] == json!(["ALL"]),
            "{service} has capabilities"
        );
        ensure!(
            settings["cap_add"].is_null() && settings["privileged"].is_null(),
            "{service}"
        );
        ensure!(
            settings["security_opt"] == json!(["no-new-privileges:true"]),
            "{service} may gain privileges"
        );
        ensure!(
            settings["mem_limit"].is_string(),
            "{service} has no bound of memory"
        );
    }
    Ok(())
}

pub(crate) async fn d27_each_service_finds_the_secrets_that_it_names(world: &World) -> Result<()> {
    // Each test ends with a look at the queues.
    world.initmq().await?;
    let script = read("docker/passwords.sh")?;
    let handed = |volume: &str, file: &str| {
        let is_handed = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            matches!(words[..], ["hand", _, to, name, ..] if to == volume && name == file)
        };
        script.lines().any(is_handed)
            || script.contains(&format!("write /passwords/{volume}/{file} "))
    };
    let compose = read("compose.yaml")?;
    let compose: Value = serde_saphyr::from_str(&compose)?;
    let mut named = 0;
    for (service, settings) in compose["services"].as_object().context("services")? {
        let mut volumes = settings["volumes"].as_array().into_iter().flatten();
        let secrets = volumes.find_map(|it| it.as_str()?.strip_suffix(":/secrets:ro"));
        for (variable, value) in settings["environment"].as_object().into_iter().flatten() {
            let file = value.as_str().and_then(|it| it.strip_prefix("/secrets/"));
            let Some(file) = file else { continue };
            let volume = secrets.and_then(|it| it.strip_prefix("passwords-"));
            let volume = volume.with_context(|| format!("{service} has no secrets"))?;
            ensure!(
                handed(volume, file),
                "{service} has {variable} {file}, which is not in {volume}"
            );
            named += 1;
        }
    }
    ensure!(named > 10, "{named} secrets are named");
    Ok(())
}

fn read(file: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}
