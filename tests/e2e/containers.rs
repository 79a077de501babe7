//! The containers of this run, and what an interrupted run left. Each bears the id of the process that started it: a
//! container whose process is gone is nobody's any more.

use std::collections::HashMap;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::TryStreamExt as _;
use testcontainers::bollard::Docker;
use testcontainers::bollard::errors::Error;
use testcontainers::bollard::exec::{CreateExecOptions, StartExecResults};
use testcontainers::bollard::models::PortBinding;
use testcontainers::bollard::query_parameters::{ListContainersOptions, RemoveContainerOptions};
use testcontainers::core::{ContainerPort, IntoContainerPort as _};
use testcontainers::runners::AsyncRunner as _;
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};

/// The process that the container belongs to, by its id and its host; `make down` removes by the first one too.
const OWNER: &str = "joblogs.e2e";
const OWNERS_HOST: &str = "joblogs.e2e.host";
/// The engine's answers, and starting a container; a pull of the official images goes into the latter.
const ANSWER: Duration = Duration::from_secs(10);
const START: Duration = Duration::from_mins(10);
/// A container that is asked to end gets 10 s before it is killed.
const ACT: Duration = Duration::from_secs(40);
/// A program inside a container: some of them start a Java or an Erlang of their own first.
const COMMAND: Duration = Duration::from_mins(1);

/// The engine that testcontainers will use.
pub(crate) async fn engine() -> Result<Docker> {
    let docker = Docker::connect_with_defaults()?.with_timeout(ANSWER);
    let docker = docker.negotiate_version().await?;
    Ok(docker)
}

/// Splits `host/name:tag`; without a tag it is `latest`.
pub(crate) fn image(name: &str) -> GenericImage {
    let slash = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[slash..].rsplit_once(':') {
        Some((last, tag)) => GenericImage::new(format!("{}{last}", &name[..slash]), tag.to_owned()),
        None => GenericImage::new(name.to_owned(), "latest".to_owned()),
    }
}

/// A container that was started: its id, and the ports of this host that lead to its ports.
pub(crate) struct Started<const PORTS: usize> {
    pub(crate) id: String,
    pub(crate) ports: [u16; PORTS],
}

/// A port of a container, and the one of the loopback interface that leads to it.
#[derive(Clone, Copy)]
pub(crate) struct Port {
    inside: u16,
    /// 0: any that is free; after a restart it is another one.
    outside: u16,
}

impl Port {
    pub(crate) fn anywhere(inside: u16) -> Self {
        Self { inside, outside: 0 }
    }

    /// Always at the same one, which is free now.
    pub(crate) fn fixed(inside: u16) -> Result<Self> {
        let free = TcpListener::bind("127.0.0.1:0").context("a free port")?;
        let outside = free.local_addr()?.port();
        Ok(Self { inside, outside })
    }
}

/// Starts a container as ours, with these of its ports.
pub(crate) async fn start<const PORTS: usize>(
    request: ContainerRequest<GenericImage>,
    ports: [Port; PORTS],
) -> Result<Started<PORTS>> {
    let request = request
        .with_label(OWNER, std::process::id().to_string())
        .with_label(OWNERS_HOST, host_name())
        .with_startup_timeout(START)
        .with_host_config_modifier(move |config| {
            let bind = |port: &Port| {
                let loopback = PortBinding {
                    host_ip: Some("127.0.0.1".into()),
                    host_port: Some(port.outside.to_string()),
                };
                (format!("{}/tcp", port.inside), Some(vec![loopback]))
            };
            config.publish_all_ports = Some(false);
            config.port_bindings = Some(ports.iter().map(bind).collect());
        });
    let container = request.start().await?;
    let mut published = ports.map(|port| port.inside);
    for port in &mut published {
        let inside: ContainerPort = port.tcp();
        *port = container.get_host_port_ipv4(inside).await?;
    }
    let id = container.id().to_owned();
    // Its own `Drop` needs a runtime, which is gone when tests are; `remove_own` does it, whatever happened.
    std::mem::forget(container);
    Ok(Started {
        id,
        ports: published,
    })
}

/// What can be done to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Its processes stand still; connections to it stay.
    Pause,
    Unpause,
    /// It ends without being asked.
    Kill,
    Start,
    /// It is asked to end, and started again.
    Restart,
}

/// Does it, and waits for the engine, not for what runs inside.
pub(crate) async fn act(id: &str, act: Act) -> Result<()> {
    let docker = engine().await?.with_timeout(ACT);
    let done = match act {
        Act::Pause => docker.pause_container(id).await,
        Act::Unpause => docker.unpause_container(id).await,
        Act::Kill => docker.kill_container(id, None).await,
        Act::Start => docker.start_container(id, None).await,
        Act::Restart => docker.restart_container(id, None).await,
    };
    done.with_context(|| format!("{act:?} of the container {id}"))
}

/// Runs a program inside a container, as the user that the container runs as; it must end with 0.
pub(crate) async fn run_in(id: &str, command: &[&str]) -> Result<()> {
    let docker = engine().await?;
    let program = command.first().copied().unwrap_or_default();
    let run = async {
        let options = CreateExecOptions {
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.to_vec()),
            ..CreateExecOptions::default()
        };
        let exec = docker.create_exec(id, options).await?.id;
        let mut said = String::new();
        if let StartExecResults::Attached { mut output, .. } =
            docker.start_exec(&exec, None).await?
        {
            while let Some(piece) = output.try_next().await? {
                said.push_str(&piece.to_string());
            }
        }
        let status = docker.inspect_exec(&exec).await?.exit_code;
        ensure!(status == Some(0), "it ended with {status:?}: {said}");
        Ok(())
    };
    let outcome = tokio::time::timeout(COMMAND, run).await;
    let outcome = outcome.with_context(|| format!("it did not end within {COMMAND:?}"));
    // Not its arguments, which may be passwords.
    outcome
        .flatten()
        .with_context(|| format!("{program} in a container"))
}

/// Removes the containers of runs that are over. Two at once don't disturb each other: one process's is enough.
pub(crate) async fn remove_abandoned(docker: &Docker) -> Result<()> {
    let program_of = |owner: &str| std::fs::read_to_string(format!("/proc/{owner}/comm"));
    // An id may have been given to another program since.
    let is_over = |owner: &str| !program_of(owner).is_ok_and(|program| program.starts_with("e2e"));
    remove(docker, is_over).await
}

/// Removes the containers of this process.
pub(crate) async fn remove_own() -> Result<()> {
    let own = std::process::id().to_string();
    remove(&engine().await?, |owner| owner == own).await
}

async fn remove(docker: &Docker, is_to_go: impl Fn(&str) -> bool) -> Result<()> {
    let label = format!("{OWNERS_HOST}={}", host_name());
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([("label".to_owned(), vec![label])])),
        ..Default::default()
    };
    for container in docker.list_containers(Some(options)).await? {
        let labels = container.labels.unwrap_or_default();
        let owner = labels.get(OWNER).map_or("", String::as_str);
        let Some(id) = container.id.filter(|_| is_to_go(owner)) else {
            continue;
        };
        let options = RemoveContainerOptions {
            force: true,
            v: true,
            ..Default::default()
        };
        match docker.remove_container(&id, Some(options)).await {
            // Somebody else is about to, or has.
            Ok(())
            | Err(Error::DockerResponseServerError {
                status_code: 404 | 409,
                ..
            }) => {}
            Err(error) => {
                let what = format!("removing the container {id} of a test run");
                return Err(error).context(what);
            }
        }
    }
    Ok(())
}

/// Process ids mean something on one host only, and an engine may serve several.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
