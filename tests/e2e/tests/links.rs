//! The links between the programs and their servers over TLS, and which GitLab a notice is about.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::{Gitlab, Job, Scope, Trace};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::hook::{Proof, delivery, job_event};
use crate::line::expected_lines;
use crate::listener::{Listener, fields};
use crate::queue::JOBS;
use crate::tls::{Authority, Flaw, Identity, TlsEnd};
use crate::world::World;

const INDEXED: Duration = Duration::from_secs(40);
const NOTICED: Duration = Duration::from_secs(30);
/// As many as open a circuit.
const JOBS_OF_A_FORGE: usize = 3;
const SHARED: &str = "shared-canary-0123456789abcdef";
const FIRST: &str = "first-canary-0123456789abcdef";
const SECOND: &str = "second-canary-0123456789abcdef";

const AUDIENCE: &str = "https://joblogs.example.com";

/// The links, by the word with which readiness names each.
const LINKS: [&str; 3] = ["gitlab", "queue", "elasticsearch"];

/// Ends of TLS before all servers, with this certificate each.
struct Ends {
    gitlab: TlsEnd,
    rabbitmq: TlsEnd,
    elasticsearch: TlsEnd,
}

impl Ends {
    async fn with(world: &World, identity: &Identity) -> Result<Self> {
        let servers = &world.servers;
        Ok(Self {
            gitlab: TlsEnd::before(world.gitlab.address().port(), identity).await?,
            rabbitmq: TlsEnd::before(servers.rabbitmq.port, identity).await?,
            elasticsearch: TlsEnd::before(servers.elasticsearch_port, identity).await?,
        })
    }

    /// The consumer's variables for this link through its end.
    fn variables(
        &self,
        world: &World,
        link: &str,
        authority: &str,
    ) -> Result<Vec<(&'static str, String)>> {
        let authority = authority.to_owned();
        Ok(match link {
            "gitlab" => {
                // Under the name that the messages have.
                let name = named_after(&world.gitlab.url());
                let port = self.gitlab.port;
                let instance = format!(
                    "[[instance]]\nname = {name:?}\nurl = \"https://127.0.0.1:{port}/\"\nca-file = \"ca\"\n"
                );
                let instances = world.secret("gitlab.toml", &instance)?;
                vec![
                    ("JOBLOGS_GITLAB", String::new()),
                    ("JOBLOGS_INSTANCES", instances),
                ]
            }
            "queue" => vec![
                ("JOBLOGS_RMQ_PORT", self.rabbitmq.port.to_string()),
                ("JOBLOGS_RMQ_CA", authority),
            ],
            _ => vec![
                ("JOBLOGS_ES_PORT", self.elasticsearch.port.to_string()),
                ("JOBLOGS_ES_URL_SCHEME", "https".into()),
                ("JOBLOGS_ES_CA", authority),
            ],
        })
    }
}

pub(crate) async fn d28_a_wrong_certificate_is_named_with_its_link_and_a_right_one_is_green(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let (ours, others) = (Authority::new("ours")?, Authority::new("others")?);
    let authority = world.secret("ca", &ours.pem())?;
    // So many that their failures open the circuit; they sleep until a right certificate comes.
    let listener = world.listener().await?;
    let jobs: Vec<Job> = (0..JOBS_OF_A_FORGE)
        .map(|_| world.job().trace(Trace::Lines(100)).finished())
        .collect();
    for job in &jobs {
        listener.post(job, &world.token).await?;
    }
    for (authority_of, flaw, words) in [
        (&others, Flaw::Nothing, &["UnknownIssuer"][..]),
        (&ours, Flaw::Expired, &["Expired", "expired"]),
        (
            &ours,
            Flaw::WrongName,
            &["NotValidForName", "not valid for"],
        ),
    ] {
        let ends = Ends::with(world, &authority_of.sign(flaw)?).await?;
        for link in LINKS {
            let variables = ends.variables(world, link, &authority)?;
            says_what_is_wrong(world, link, &variables, words)
                .await
                .with_context(|| format!("{link}, {flaw:?}"))?;
        }
    }

    let ends = Ends::with(world, &ours.sign(Flaw::Nothing)?).await?;
    let variables = LINKS.map(|link| ends.variables(world, link, &authority));
    let variables = variables.into_iter().collect::<Result<Vec<_>>>()?.concat();
    world.consumer_with("", &variables).await?;
    let listener = [
        ("JOBLOGS_PORT", ends.rabbitmq.port.to_string()),
        ("JOBLOGS_RMQ_CA", authority.clone()),
        ("JOBLOGS_ES_HOST", "127.0.0.1".into()),
        ("JOBLOGS_ES_PORT", ends.elasticsearch.port.to_string()),
        ("JOBLOGS_ES_CA", authority),
    ];
    let listener = world.listener_with(&listener).await?;
    let last = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&last, &world.token).await?;
    let healthcheck = format!("{}healthcheck?elasticsearch&rabbitmq", listener.url);
    let healthcheck = listener.http().get(healthcheck).send().await?;
    ensure!(
        healthcheck.status() == StatusCode::OK,
        "{}",
        healthcheck.text().await?
    );
    for job in jobs.iter().chain([&last]) {
        world.exact(job, INDEXED).await?;
    }
    // Over links that end here come copies too: of messages that a killed consumer had put to sleep and not acknowledged.
    world
        .until("no message is left, nor held", INDEXED, async || {
            let messages = world.messages().await?;
            ensure!(messages == 0, "{messages} messages");
            Ok(())
        })
        .await
}

/// A consumer with these variables names the link and the reason in its readiness.
async fn says_what_is_wrong(
    world: &World,
    link: &str,
    variables: &[(&'static str, String)],
    words: &[&str],
) -> Result<()> {
    let gitlab = world.gitlab.url();
    let (program, address) = world.consumer_starting(&gitlab, variables).await?;
    let url = format!("http://{address}/health/ready");
    let said = world
        .until(format!("{link} is named"), NOTICED, async || {
            let readiness = reqwest::get(&url).await?.text().await?;
            let fault = readiness.lines().find(|line| line.contains(link));
            let fault = fault.with_context(|| readiness.clone())?;
            ensure!(words.iter().any(|word| fault.contains(word)), "{fault}");
            Ok(())
        })
        .await;
    program.kill()?;
    said
}

/// Two GitLabs in one file, the second one behind TLS, each with a job of the same ids: what tells them apart is the
/// instance alone.
struct Two {
    listener: Listener,
    own_url: String,
    other: Gitlab,
    other_url: String,
    first: Job,
    second: Job,
    _end: TlsEnd,
}

impl Two {
    async fn new(world: &World) -> Result<Self> {
        let other = Gitlab::start_on("127.0.0.1:0").await?;
        let project = other.project("acme/demo");
        let token = other.token(Scope::ReadApi, &[&project]);
        let authority = Authority::new("ours")?;
        let identity = authority.sign(Flaw::Nothing)?;
        let end = TlsEnd::before(other.address().port(), &identity).await?;
        let other_url = format!("https://127.0.0.1:{}", end.port);
        other.set_external_url(&other_url);
        for (name, secret) in [
            ("ca.pem", authority.pem().as_str()),
            ("first-token", world.token.value()),
            ("second-token", token.value()),
            ("first-secret", FIRST),
            ("second-secret", SECOND),
        ] {
            world.secret(name, secret)?;
        }
        let own_url = world.gitlab.url();
        let instances = format!(
            "[[instance]]\nurl = {own_url:?}\ntoken-file = \"first-token\"\n\
             webhook-secret-file = \"first-secret\"\n\n\
             [[instance]]\nname = \"second\"\nurl = {other_url:?}\nca-file = \"ca.pem\"\n\
             token-file = \"second-token\"\nwebhook-secret-file = \"second-secret\"\n\
             api-secret-file = \"second-secret\"\n"
        );
        let instances = world.secret("instances.toml", &instances)?;
        let both = [
            ("JOBLOGS_GITLAB", String::new()),
            ("JOBLOGS_INSTANCES", instances),
        ];
        let more = [
            ("JOBLOGS_WEBHOOK_SECRET", SHARED.to_owned()),
            ("JOBLOGS_ID_TOKEN_AUDIENCE", AUDIENCE.to_owned()),
        ];
        let listener = world.listener_with(&[&both[..], &more].concat()).await?;
        world.consumer_with("", &both).await?;
        let first = world.job().trace(Trace::Lines(100)).finished();
        let second = other.job(&project).trace(Trace::Lines(300)).finished();
        ensure!(
            (first.project_id(), first.id()) == (second.project_id(), second.id()),
            "the ids differ, which proves less"
        );
        Ok(Self {
            listener,
            own_url,
            other,
            other_url,
            first,
            second,
            _end: end,
        })
    }

    fn event(&self, job: &Job, secret: &str, instance: &str) -> RequestBuilder {
        let proof = Proof::Token(secret.to_owned());
        let request = delivery(&self.listener, "Job Hook", &job_event(job), &proof);
        request.header("X-Gitlab-Instance", instance)
    }

    /// A notice of the second job by an ID token of its GitLab's, some claims in place of the usual ones.
    fn by_id_token(&self, claims: &Value) -> RequestBuilder {
        let token = self.other.id_token(&self.second, AUDIENCE, claims);
        self.listener
            .post_of(&fields(&self.second))
            .bearer_auth(token)
    }

    /// A notice of the second job by a secret and the name of a GitLab.
    fn named(&self, name: &str) -> RequestBuilder {
        let mut fields = fields(&self.second);
        fields["instance"] = json!(name);
        self.listener.post_of(&fields).bearer_auth(SECOND)
    }
}

pub(crate) async fn several_gitlabs_have_tokens_secrets_and_authorities_of_their_own(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let two = Two::new(world).await?;
    let (own_url, other_url) = (&two.own_url, &two.other_url);
    let (first, second) = (&two.first, &two.second);
    let first_name = named_after(own_url);
    let stolen = json!({"iss": own_url.trim_end_matches('/')});
    for (what, request, status) in [
        ("the other's secret", two.event(first, SECOND, own_url), 401),
        (
            "the first's secret",
            two.event(second, FIRST, other_url),
            401,
        ),
        (
            "a foreign instance",
            two.event(first, SHARED, "https://evil.example"),
            422,
        ),
        ("the other's issuer", two.by_id_token(&stolen), 401),
        ("a name that is none", two.named("evil.example"), 422),
        (
            "one that the secret is not for",
            two.named(&first_name),
            422,
        ),
    ] {
        let answer = request.send().await?;
        let got = answer.status();
        ensure!(got == status, "{what}: {got}: {}", answer.text().await?);
    }
    let ready = world.queues.ready(JOBS).await?;
    ensure!(ready == 0, "{ready} messages were published");

    for (what, request) in [
        (
            "the first by its address",
            two.event(first, SHARED, own_url),
        ),
        ("the first by its secret", two.event(first, FIRST, "")),
        ("the second by an ID token", two.by_id_token(&json!({}))),
        (
            "the second by its address",
            two.event(second, SHARED, other_url),
        ),
        ("the second by its name", two.named("second")),
    ] {
        let answer = request.send().await?;
        let got = answer.status();
        let text = answer.text().await?;
        ensure!(got == StatusCode::ACCEPTED, "{what}: {got}: {text}");
    }
    for (instance, job) in [(first_name.as_str(), first), ("second", second)] {
        has_the_log(world, instance, job).await?;
    }
    let violations = two.other.violations();
    ensure!(violations.is_empty(), "{violations:#?}");
    Ok(())
}

/// The oracle knows jobs by their ids alone.
async fn has_the_log(world: &World, instance: &str, job: &Job) -> Result<()> {
    let lines = expected_lines(job)?.count() as u64;
    let id = format!("{instance}-{}-{}", job.project_id(), job.id());
    world
        .until_searchable(format!("the log of {id}"), INDEXED, async || {
            let query = json!({"term": {"_id": id}});
            let manifests = world.indices("jobs");
            let found = world.elasticsearch().count(&manifests, &query).await?;
            ensure!(found == 1, "{found} manifests");
            let query = json!({"term": {"instance": instance}});
            let all = world.indices("lines");
            let found = world.elasticsearch().count(&all, &query).await?;
            ensure!(found == lines, "{found} lines and not {lines}");
            Ok(())
        })
        .await?;
    world.has_left(lines);
    Ok(())
}

/// The name that a GitLab has by its URL.
fn named_after(url: &str) -> String {
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    host.replace(':', "-")
}
