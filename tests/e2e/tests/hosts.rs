//! Nobody but the operator says which host is asked, and nobody is followed to another one.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Fault, On};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::hook::{Proof, delivery, job_event};
use crate::listener::{Listener, fields};
use crate::queue::{DEAD, JOBS};
use crate::world::World;

const SECRET: &str = "canary-0123456789abcdef";
const AUDIENCE: &str = "https://joblogs.example.com";
const DECIDED: Duration = Duration::from_secs(20);
const ANSWERED: Duration = Duration::from_secs(6);

/// A host that nobody shall come to.
struct Elsewhere {
    socket: TcpListener,
    address: SocketAddr,
}

impl Elsewhere {
    async fn new() -> Result<Self> {
        let socket = TcpListener::bind("127.0.0.1:0").await?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// Whoever had come would wait in the backlog, for nobody has accepted; and one who comes is seen so.
    async fn was_left_alone(&self) -> Result<()> {
        let visitor = timeout(Duration::ZERO, self.socket.accept()).await;
        ensure!(visitor.is_err(), "a connection from {visitor:?}");
        let _own = TcpStream::connect(self.address).await?;
        timeout(DECIDED, self.socket.accept()).await??;
        Ok(())
    }
}

async fn listener(world: &World) -> Result<Listener> {
    let variables = [
        ("JOBLOGS_WEBHOOK_SECRET", SECRET.to_owned()),
        ("JOBLOGS_ID_TOKEN_AUDIENCE", AUDIENCE.to_owned()),
    ];
    world.listener_with(&variables).await
}

pub(crate) async fn d23_nobody_chooses_a_host(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = listener(world).await?;
    let elsewhere = Elsewhere::new().await?;
    let evil = format!("http://{}/", elsewhere.address);
    let job = world.job().finished();
    let good = fields(&job);
    let with = |name: &str, value: &str| {
        let mut fields = good.clone();
        fields[name] = json!(value);
        fields
    };
    let project = format!("1@{}", elsewhere.address);
    for (name, value) in [
        ("instance", evil.as_str()),
        ("instance", "127.0.0.1"),
        ("url", &evil),
        ("gitlab", &evil),
        ("host", &evil),
        ("project_id", "../../../1"),
        ("project_id", &project),
        ("project_id", "1/jobs/1/trace?"),
        ("job_id", "1\r\nHost: evil"),
        ("job_id", "4711#"),
        ("index_name", "../evil"),
        ("job_name", "a\r\nb: c"),
    ] {
        let fields = with(name, value);
        let get = listener.get_of(&fields, &world.token);
        let post = listener.post_of(&fields);
        let post = post.header("PRIVATE-TOKEN", world.token.value());
        for request in [get, post] {
            let answer = request.send().await?;
            let status = answer.status();
            ensure!(status.is_client_error(), "{name}={value:?}: {status}");
            let text = answer.text().await?;
            ensure!(!text.contains("127.0.0.1"), "echoed: {text}");
        }
    }
    // What a token or a header says of a host chooses none either.
    let issuer = world.gitlab.id_token(&job, AUDIENCE, &json!({"iss": evil}));
    let answer = listener.post_of(&good).bearer_auth(issuer).send().await?;
    ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{answer:?}");
    let proof = Proof::Token(SECRET.to_owned());
    let mut event = job_event(&job);
    event["project"]["web_url"] = json!(evil);
    event["repository"] = json!({"homepage": evil, "git_http_url": evil});
    let hook = delivery(&listener, "Job Hook", &event, &Proof::Nothing);
    let answer = hook.header("X-Gitlab-Instance", &evil).send().await?;
    ensure!(answer.status() == StatusCode::UNAUTHORIZED, "{answer:?}");
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");

    // An event about a job is taken, as what it says of hosts is not read: the job is asked for where it should be.
    let hook = delivery(&listener, "Job Hook", &event, &proof);
    let answer = hook.header("X-Gitlab-Instance", &evil).send().await?;
    ensure!(answer.status() == StatusCode::ACCEPTED, "{answer:?}");
    for line in [
        "GET / HTTP/1.1\r\nHost: a\r\nPRIVATE-TOKEN: x\r\ny\r\n\r\n",
        "GET  /x HTTP/1.1\r\n\r\n",
    ] {
        ensure!(status_of(&listener, line).await? == "400", "{line:?}");
    }
    unknown_hosts_in_messages(world, &evil).await?;
    let secret = world.secret("gitlab-token", world.token.value())?;
    let variables = [("JOBLOGS_GITLAB_TOKEN_FILE", secret)];
    world.consumer_with(&world.gitlab.url(), &variables).await?;
    world.exact(&job, DECIDED).await?;
    world
        .until("dead letters", DECIDED, async || {
            let dead = world.queues.ready(DEAD).await?;
            ensure!(dead == 2, "{dead} dead letters");
            Ok(())
        })
        .await?;
    elsewhere.was_left_alone().await
}

/// Whoever can write into the queue chooses no host either.
async fn unknown_hosts_in_messages(world: &World, evil: &str) -> Result<()> {
    world.expect_dead_letters(2);
    let host = evil.trim_start_matches("http://").trim_end_matches('/');
    let ours = json!({
        "version": "1.0", "instance": host.replace(':', "-"), "project_id": 1, "job_id": 1, "source": "api",
        "job_name": "", "project_name": "", "received_at": "2026-01-01T00:00:00Z",
    });
    let older = json!({
        "url": format!("{evil}api/v4/projects/1/jobs/1/trace"), "runner_id": "1", "project_id": "1",
        "project_name": "a", "job_id": "1", "job_name": "b", "gitlab_token": world.token.value(),
    });
    for message in [ours, older] {
        world.queues.publish(&message.to_string()).await?;
    }
    Ok(())
}

/// The status of what the listener answers to this, as it stands.
async fn status_of(listener: &Listener, request: &str) -> Result<String> {
    let address = listener.url.replace("http://", "");
    let mut stream = TcpStream::connect(address.trim_end_matches('/')).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 12];
    timeout(ANSWERED, stream.read_exact(&mut answer)).await??;
    let answer = String::from_utf8(answer)?;
    let status = answer.split(' ').nth(1).context("a status")?;
    Ok(status.to_owned())
}

/// Jobs and logs: `b16_a_redirect…`.
pub(crate) async fn d24_a_redirect_of_gitlabs_keys_is_not_followed(world: &World) -> Result<()> {
    world.initmq().await?;
    let elsewhere = Elsewhere::new().await?;
    let listener = listener(world).await?;
    let job = world.job().finished();
    let to = format!("http://{}/oauth/discovery/keys", elsewhere.address);
    world.gitlab.fault(On::Any, Fault::Redirect(to), 1);
    let token = world.gitlab.id_token(&job, AUDIENCE, &Value::Null);
    let answer = listener
        .post_of(&fields(&job))
        .bearer_auth(token)
        .send()
        .await?;
    let status = answer.status();
    ensure!(status == StatusCode::SERVICE_UNAVAILABLE, "{status}");
    let requests = world.gitlab.requests();
    ensure!(requests.iter().any(|it| it.status == 302), "{requests:#?}");
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");
    elsewhere.was_left_alone().await
}
