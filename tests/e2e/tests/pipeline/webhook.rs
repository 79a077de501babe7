//! The script that sets GitLab's webhook up, and what GitLab then delivers.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::gitlab::{Fault, On, Scope, Status, Token, Trace};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::script::command_lines;
use super::template::consumer;
use crate::listener::Listener;
use crate::world::World;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../gitlab/webhook.sh");
const SECRET: &str = r#"canary-webhook-0123456789"\"#;
const SIGNING: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTAwMDA=";
const INDEXED: Duration = Duration::from_secs(40);
const DELIVERED: Duration = Duration::from_secs(15);
const DEADLINE: Duration = Duration::from_secs(30);
const LISTED: Duration = Duration::from_secs(10);
/// How long GitLab takes while somebody looks at the processes.
const ANSWER: Duration = Duration::from_secs(2);
/// More than a page of GitLab's has.
const OTHERS: usize = 103;

/// What somebody sets up.
struct Wish<'a> {
    owner: [&'a str; 2],
    gitlab: String,
    token: &'a Token,
    listener: &'a str,
    secret: &'a str,
}

impl<'a> Wish<'a> {
    fn new(world: &World, token: &'a Token, listener: &'a str) -> Self {
        Self {
            owner: ["project", "acme/demo"],
            gitlab: world.gitlab.url(),
            token,
            listener,
            secret: SECRET,
        }
    }

    /// Starts the script, both secrets in its environment.
    fn start(&self) -> Result<Child> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let child = Command::new("sh")
            .arg(SCRIPT)
            .args(self.owner)
            .env_clear()
            .env("PATH", path)
            .env("GITLAB_URL", &self.gitlab)
            .env("GITLAB_TOKEN", self.token.value())
            .env("JOBLOGS_URL", self.listener)
            .env("JOBLOGS_WEBHOOK_SECRET", self.secret)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        child.context("starting gitlab/webhook.sh")
    }

    /// What it says when it works.
    async fn is_done(&self) -> Result<String> {
        let output = ended(self.start()?).await?;
        ensure!(output.status.success(), "{output:?}");
        self.only_line(output.stdout, &output.stderr)
    }

    /// What it says when it does not.
    async fn is_refused(&self) -> Result<String> {
        let output = ended(self.start()?).await?;
        ensure!(output.status.code() == Some(1), "{output:?}");
        self.only_line(output.stderr, &output.stdout)
    }

    /// One sentence without a secret, and nothing beside it.
    fn only_line(&self, said: Vec<u8>, beside: &[u8]) -> Result<String> {
        let said = String::from_utf8(said)?;
        let secrets = [self.token.value(), self.secret];
        let shown = secrets.iter().any(|secret| said.contains(secret));
        ensure!(!shown && beside.is_empty(), "{said}");
        ensure!(said.lines().count() == 1, "not one line: {said}");
        Ok(said)
    }
}

async fn ended(child: Child) -> Result<Output> {
    let output = timeout(DEADLINE, child.wait_with_output()).await;
    Ok(output.with_context(|| format!("not over within {DEADLINE:?}"))??)
}

/// The webhooks of a project or a group, as an API client of GitLab's sees them.
async fn hooks(world: &World, token: &Token, owner: &str) -> Result<Vec<Value>> {
    let mut all = Vec::new();
    for page in 1.. {
        let url = format!(
            "{}api/v4/{owner}/hooks?per_page=100&page={page}",
            world.gitlab.url()
        );
        let request = reqwest::Client::new().get(url);
        let answer = request
            .header("PRIVATE-TOKEN", token.value())
            .send()
            .await?;
        let entries: Vec<Value> = answer.error_for_status()?.json().await?;
        if entries.is_empty() {
            break;
        }
        all.extend(entries);
    }
    Ok(all)
}

/// A job's end is delivered to this webhook, taken, and its log indexed.
async fn job_comes(world: &World, hook: &Value) -> Result<()> {
    let job = world.job().trace(Trace::Lines(50)).start();
    job.finish(Status::Success);
    let delivered = world.until(
        "GitLab has delivered the job's end",
        DELIVERED,
        async || {
            let all = world.gitlab.deliveries();
            let mut own = all
                .into_iter()
                .filter(|it| it.job == (job.project_id(), job.id()));
            own.next().context("it has not")
        },
    );
    let delivered = delivered.await?;
    ensure!(
        delivered.status == Some(202) && delivered.event == "success" && *hook == delivered.hook,
        "{delivered:?}"
    );
    world.exact(&job, INDEXED).await?;
    Ok(())
}

async fn listener(world: &World) -> Result<Listener> {
    let secrets = world.secret("webhook-secret", &[SECRET, SIGNING].join("\n"))?;
    let variables = [("JOBLOGS_WEBHOOK_SECRET_FILE", secrets)];
    world.listener_with(&variables).await
}

pub(crate) async fn a_webhook_that_is_set_up_twice_is_one_and_brings_logs(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = listener(world).await?;
    consumer(world).await?;
    let token = world.gitlab.token(Scope::Api, &[&world.project]);
    for number in 0..OTHERS {
        let other = format!("https://other.example.com/{number}");
        let request = reqwest::Client::new()
            .post(format!(
                "{}api/v4/projects/acme%2Fdemo/hooks",
                world.gitlab.url()
            ))
            .header("PRIVATE-TOKEN", token.value())
            .json(&json!({"url": other}));
        request.send().await?.error_for_status()?;
    }
    let mut wish = Wish::new(world, &token, &listener.url);
    let said = wish.is_done().await?;
    ensure!(said.contains("added"), "{said}");
    let url = format!("{}v1/webhooks/gitlab", listener.url);
    let ours = async || {
        let mut hooks = hooks(world, &token, "projects/42").await?;
        ensure!(hooks.len() == OTHERS + 1, "{} webhooks", hooks.len());
        hooks.retain(|hook| hook["url"] == url.as_str());
        let [hook] = &hooks[..] else {
            bail!("{} with our URL", hooks.len());
        };
        Ok(hook.clone())
    };
    let hook = ours().await?;
    for (field, right) in [
        ("job_events", true),
        ("push_events", false),
        ("pipeline_events", false),
        ("enable_ssl_verification", true),
        ("token_present", true),
        ("signing_token_present", false),
    ] {
        ensure!(hook[field] == right, "{field} is not {right}: {hook}");
    }
    job_comes(world, &hook["id"]).await?;

    wish.secret = SIGNING;
    let said = wish.is_done().await?;
    ensure!(said.contains("updated"), "{said}");
    let signing = ours().await?;
    ensure!(
        signing["id"] == hook["id"] && signing["signing_token_present"] == true,
        "{signing}"
    );
    job_comes(world, &hook["id"]).await?;

    wish.secret = SECRET;
    let said = wish.is_refused().await?;
    ensure!(said.contains("signing token"), "{said}");
    Ok(())
}

pub(crate) async fn a_groups_webhook_brings_the_logs_of_its_projects(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = listener(world).await?;
    consumer(world).await?;
    let token = world.gitlab.token(Scope::Api, &[&world.project]);
    let mut wish = Wish::new(world, &token, &listener.url);
    wish.owner = ["group", "acme"];
    for _ in 0..2 {
        wish.is_done().await?;
    }
    let hooks = hooks(world, &token, "groups/acme").await?;
    ensure!(hooks.len() == 1, "{hooks:?}");
    job_comes(world, &hooks[0]["id"]).await
}

pub(crate) async fn a_webhook_that_cannot_be_set_up_is_one_sentence(world: &World) -> Result<()> {
    world.initmq().await?;
    let gitlab = &world.gitlab;
    let [able, reader, revoked] = [Scope::Api, Scope::ReadApi, Scope::Revoked]
        .map(|scope| gitlab.token(scope, &[&world.project]));
    let listener = "https://joblogs.example.com/";
    let by = |token| Wish::new(world, token, listener);
    let gone = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let of = |owner| Wish { owner, ..by(&able) };
    let on = |gitlab| Wish {
        gitlab,
        ..by(&able)
    };
    let to = |listener| Wish {
        listener,
        ..by(&able)
    };
    let with = |secret| Wish {
        secret,
        ..by(&able)
    };
    for (wish, why) in [
        (by(&reader), "it needs the scope api"),
        (by(&revoked), "refuses the token"),
        (of(["project", "acme/other"]), "no project acme/other"),
        (of(["group", "other"]), "no group other"),
        (on(format!("http://{gone}")), "can't be asked: (7)"),
        (on("gitlab.com".to_owned()), "GITLAB_URL"),
        (to(""), "JOBLOGS_URL"),
        (with(""), "JOBLOGS_WEBHOOK_SECRET is missing"),
        (
            with("whsec_short"),
            "does not take the webhook: Signing token must be",
        ),
    ] {
        // Whatever holds the empty text.
        let said = match wish.secret {
            "" => String::from_utf8(ended(wish.start()?).await?.stderr)?,
            _ => wish.is_refused().await?,
        };
        ensure!(said.contains(why), "{said:?} does not say {why:?}");
    }
    for (fault, why) in [
        (Fault::LoginPage, "is no GitLab"),
        (Fault::Unavailable(502), "status 502"),
        (Fault::Redirect("https://x/".into()), "leads elsewhere"),
    ] {
        gitlab.fault(On::Any, fault, 1);
        let said = by(&able).is_refused().await?;
        ensure!(said.contains(why), "{said:?} does not say {why:?}");
    }
    gitlab.ignore_signing_tokens();
    let said = with(SIGNING).is_refused().await?;
    ensure!(said.contains("19.0"), "{said}");
    let left = hooks(world, &able, "projects/42").await?;
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

pub(crate) async fn no_secret_is_listed_while_a_webhook_is_set_up(world: &World) -> Result<()> {
    world.initmq().await?;
    let token = world.gitlab.token(Scope::Api, &[&world.project]);
    let wish = Wish::new(world, &token, "https://joblogs.example.com");
    world.gitlab.fault(On::Any, Fault::Delay(ANSWER), 2);
    let script = wish.start()?;
    let listed = world.until("the request is listed that adds it", LISTED, async || {
        let listed = command_lines()?;
        let is_there = |line: &String| {
            line.starts_with("curl\0") && line.contains("POST") && line.contains(&wish.gitlab)
        };
        ensure!(listed.iter().any(is_there), "it is not");
        Ok(listed)
    });
    for line in listed.await? {
        let is_shown = line.contains(token.value()) || line.contains("canary-webhook");
        ensure!(!is_shown, "{line:?}");
    }
    let output = ended(script).await?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
