//! One real RabbitMQ and one real Elasticsearch, or OpenSearch, for all tests of a run. The settings are those of
//! compose.yaml, in the form that both the official images and the stand-ins take.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::elasticsearch::Elasticsearch;
use e2e::eventually::eventually;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use reqwest::Method;
use serde_json::{Map, Value, json};
use testcontainers::{ContainerRequest, GenericImage, ImageExt as _};
use tokio::sync::Mutex;

use crate::containers::{self, Act, Port, Started};
use crate::engine::Engine;

const RABBITMQ: (&str, &str) = ("RABBITMQ_IMAGE", "rabbitmq:4.3-management");
const AMQP: u16 = 5672;
const MANAGEMENT: u16 = 15672;
const HTTP: u16 = 9200;
/// From the container's start to a server that serves, on a slow machine.
const READY: Duration = Duration::from_mins(3);
/// What RabbitMQ 4 has unless it is told otherwise.
const MEMORY: &str = "0.6";

/// An Elasticsearch that takes little at a time: a body as the consumer makes them is too large, of several at once
/// some are refused as a whole, and of one's documents some and not others.
pub(crate) const STRAINED: [(&str, &str); 4] = [
    ("http.max_content_length", "1mb"),
    ("indexing_pressure.memory.limit", "4mb"),
    ("thread_pool.write.queue_size", "1"),
    ("node.processors", "1"),
];

/// Settings that both engines have.
const SETTINGS: [(&str, &str); 5] = [
    ("discovery.type", "single-node"),
    // Percentages would stop all writing on a big disk that is 95 % full.
    ("cluster.routing.allocation.disk.watermark.low", "3gb"),
    ("cluster.routing.allocation.disk.watermark.high", "2gb"),
    (
        "cluster.routing.allocation.disk.watermark.flood_stage",
        "1gb",
    ),
    // Each time it looks at its disk, it lifts the block of a full one that a test has put.
    ("cluster.info.update.interval", "30m"),
];

/// The servers, and how to reach them.
#[derive(Clone)]
pub(crate) struct Servers {
    pub(crate) engine: Engine,
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) elasticsearch: Elasticsearch,
    pub(crate) elasticsearch_port: u16,
    pub(crate) elasticsearch_password: String,
    elasticsearch_container: String,
    roles: Arc<Mutex<Map<String, Value>>>,
}

impl Servers {
    /// Starts both and waits until they serve. The error is one sentence.
    pub(crate) async fn start(engine: Engine) -> Result<Self> {
        const WITHOUT_ENGINE: &str =
            "no Docker engine answers; run `make e2e`, which installs and starts one";
        let docker = containers::engine().await.context(WITHOUT_ENGINE)?;
        containers::remove_abandoned(&docker).await?;
        let started = {
            let ports = [AMQP, MANAGEMENT].map(Port::anywhere);
            let elasticsearch = elasticsearch(engine, Port::anywhere(HTTP), &[]);
            tokio::try_join!(rabbitmq(ports), elasticsearch)
        };
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                containers::remove_own().await?;
                return Err(error);
            }
        };
        let (rabbitmq, (container, port, password)) = started;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self {
            engine,
            rabbitmq,
            elasticsearch: Elasticsearch::new(&url, "elastic", &password),
            elasticsearch_port: port,
            elasticsearch_password: password,
            elasticsearch_container: container,
            roles: Arc::default(),
        })
    }

    /// The same with another broker, for a test after which no other could use it. It can be started again.
    pub(crate) async fn with_own_broker(&self) -> Result<Self> {
        let ports = [Port::fixed(AMQP)?, Port::fixed(MANAGEMENT)?];
        Ok(Self {
            rabbitmq: rabbitmq(ports).await?,
            ..self.clone()
        })
    }

    /// The same with another Elasticsearch that has these settings too, for what is a whole cluster's. It can be started
    /// again.
    pub(crate) async fn with_own_elasticsearch(&self, settings: &[(&str, &str)]) -> Result<Self> {
        let started = elasticsearch(self.engine, Port::fixed(HTTP)?, settings);
        let (container, port, password) = started.await?;
        let url = format!("http://127.0.0.1:{port}");
        Ok(Self {
            engine: self.engine,
            rabbitmq: self.rabbitmq.clone(),
            elasticsearch: Elasticsearch::new(&url, "elastic", &password),
            elasticsearch_port: port,
            elasticsearch_password: password,
            elasticsearch_container: container,
            roles: Arc::default(),
        })
    }

    /// Makes a user of Elasticsearch (not of OpenSearch) with one role of its own name, which does not exist yet. In files: without native
    /// users, as in a stand-in, there is no other way.
    pub(crate) async fn add_user(&self, name: &str) -> Result<(Elasticsearch, String)> {
        let password = random();
        let tool = ["elasticsearch-users", "useradd", name, "-r", name, "-p"];
        let command = [&tool[..], &[&password]].concat();
        containers::run_in(&self.elasticsearch_container, &command).await?;
        let url = format!("http://127.0.0.1:{}", self.elasticsearch_port);
        Ok((Elasticsearch::new(&url, name, &password), password))
    }

    /// Gives a user of `add_user` another password.
    pub(crate) async fn set_password(&self, name: &str, password: &str) -> Result<()> {
        let command = ["elasticsearch-users", "passwd", name, "-p", password];
        containers::run_in(&self.elasticsearch_container, &command).await
    }

    /// Does this to Elasticsearch's container, for one of a test's own.
    pub(crate) async fn act_on_elasticsearch(&self, act: Act) -> Result<()> {
        containers::act(&self.elasticsearch_container, act).await
    }

    /// Sets these roles, beside those of other tests. Elasticsearch looks at the file every 5 seconds.
    pub(crate) async fn set_roles(&self, roles: &Value) -> Result<()> {
        // At once or not at all: it may be looking just now. It takes the file apart by its lines.
        const WRITE: &str = "cd /usr/share/elasticsearch/config && printf %s \"$1\" >roles.yml.new && mv roles.yml.new roles.yml";
        let mut all = self.roles.lock().await;
        let roles = roles.as_object().context("roles have names")?;
        all.extend(roles.clone());
        let lines = all.iter().map(|(name, role)| format!("{name}: {role}\n"));
        let roles: String = lines.collect();
        let command = ["bash", "-c", WRITE, "roles", &roles];
        containers::run_in(&self.elasticsearch_container, &command).await
    }
}

/// The broker, through its management API.
#[derive(Clone)]
pub(crate) struct RabbitMq {
    pub(crate) port: u16,
    pub(crate) user: &'static str,
    pub(crate) password: String,
    management: String,
    container: String,
    http: reqwest::Client,
}

impl RabbitMq {
    /// Makes a virtual host that its user may use.
    pub(crate) async fn add_vhost(&self, name: &str) -> Result<()> {
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        self.ask(Method::PUT, &format!("vhosts/{name}"), json!({}))
            .await?;
        self.ask(
            Method::PUT,
            &format!("permissions/{name}/{}", self.user),
            all,
        )
        .await?;
        Ok(())
    }

    /// Makes a user with these rights (`configure`, `write`, `read`) in a virtual host.
    pub(crate) async fn add_user(
        &self,
        name: &str,
        password: &str,
        vhost: &str,
        rights: &Value,
    ) -> Result<()> {
        let user = json!({"password": password, "tags": ""});
        self.ask(Method::PUT, &format!("users/{name}"), user)
            .await?;
        let rights = json!({
            "configure": rights["configure"], "write": rights["write"], "read": rights["read"],
        });
        let path = format!("permissions/{vhost}/{name}");
        self.ask(Method::PUT, &path, rights).await?;
        Ok(())
    }

    /// Removes it with all that is in it.
    pub(crate) async fn remove_vhost(&self, name: &str) -> Result<()> {
        self.ask(Method::DELETE, &format!("vhosts/{name}"), Value::Null)
            .await?;
        Ok(())
    }

    /// Raises the memory alarm, which is the whole broker's: from now on it blocks whoever publishes.
    pub(crate) async fn raise_alarm(&self) -> Result<()> {
        self.limit_memory("0").await
    }

    /// Does this to its container. After a start it takes some time to serve.
    pub(crate) async fn act(&self, act: Act) -> Result<()> {
        containers::act(&self.container, act).await
    }

    /// An error while it does not serve.
    pub(crate) async fn serves(&self) -> Result<()> {
        self.get("overview").await?;
        let connects = tokio::net::TcpStream::connect(("127.0.0.1", self.port));
        connects.await.context("AMQP")?;
        Ok(())
    }

    /// Lets publishers go on.
    pub(crate) async fn lift_alarm(&self) -> Result<()> {
        self.limit_memory(MEMORY).await
    }

    /// What the broker has under this path of its API.
    pub(crate) async fn get(&self, path: &str) -> Result<Value> {
        self.ask(Method::GET, path, Value::Null).await
    }

    async fn limit_memory(&self, part: &str) -> Result<()> {
        let command = ["rabbitmqctl", "set_vm_memory_high_watermark", part];
        containers::run_in(&self.container, &command).await
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Value> {
        let answer = self
            .http
            .request(method, format!("{}/{path}", self.management))
            .basic_auth(self.user, Some(&self.password))
            .json(&body)
            .send()
            .await?;
        let status = answer.status();
        let text = answer.text().await?;
        ensure!(
            status.is_success(),
            "RabbitMQ answered {status} for {path}: {text}"
        );
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }
}

async fn rabbitmq(ports: [Port; 2]) -> Result<RabbitMq> {
    let (user, password) = ("e2e", random());
    let settings = format!("default_user = {user}\ndefault_pass = {password}\n");
    let request = containers::image(&image_name(RABBITMQ))
        .with_hostname("rabbitmq")
        .with_copy_to("/etc/rabbitmq/conf.d/20-e2e.conf", settings.into_bytes());
    let Started { id, ports } = start(RABBITMQ, request, ports).await?;
    let [port, management] = ports;
    let broker = RabbitMq {
        container: id,
        port,
        user,
        password,
        management: format!("http://127.0.0.1:{management}/api"),
        http: reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .build()?,
    };
    eventually("RabbitMQ serves", READY, async || broker.serves().await).await?;
    Ok(broker)
}

async fn elasticsearch(
    engine: Engine,
    http: Port,
    settings: &[(&str, &str)],
) -> Result<(String, u16, String)> {
    let password = random();
    let image = containers::image(&image_name(engine.image()));
    let mut request = ContainerRequest::from(image);
    for (name, value) in SETTINGS.iter().chain(settings) {
        request = request.with_env_var(*name, *value);
    }
    for (name, value) in engine.variables(&password) {
        request = request.with_env_var(name, value);
    }
    let Started { id, ports } = start(engine.image(), request, [http]).await?;
    let [port] = ports;
    let server = Elasticsearch::new(&format!("http://127.0.0.1:{port}"), "elastic", &password);
    eventually(format!("{engine:?} serves"), READY, async || {
        server
            .ask("_cluster/health?wait_for_status=yellow&timeout=5s", None)
            .await
    })
    .await?;
    Ok((id, port, password))
}

async fn start<const PORTS: usize>(
    which: (&str, &str),
    request: ContainerRequest<GenericImage>,
    ports: [Port; PORTS],
) -> Result<Started<PORTS>> {
    let started = containers::start(request, ports).await;
    started.with_context(|| {
        format!(
            "the image {} can't be started; run `make e2e`, which gets the images or builds them, or name another by \
             the variable {}",
            image_name(which),
            which.0
        )
    })
}

fn image_name((variable, default): (&str, &str)) -> String {
    env::var(variable)
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| default.to_owned())
}

/// A password that no test can guess, and none must find anywhere.
fn random() -> String {
    let letters = rand::rng().sample_iter(Alphanumeric).take(24);
    letters.map(char::from).collect()
}
