//! The programs as an operator would start them: what is no secret by flags, secrets by variables (listener) or by
//! files (consumer), so that the process list has none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use reqwest::StatusCode;

use crate::consumer::Consumer;
use crate::listener::Listener;
use crate::program::Program;
use crate::world::World;

/// From a program's start until it serves.
const READY: Duration = Duration::from_secs(30);

impl World {
    /// Exchange, queues and templates, as two one-shots make them.
    pub(crate) async fn set_up(&self) -> Result<()> {
        self.initmq().await?;
        self.run(
            "consumer",
            &["--debug", "setup"],
            &self.consumer_variables()?,
        )
        .await?;
        Ok(())
    }

    /// The queues, for a test that has no use for Elasticsearch.
    pub(crate) async fn initmq(&self) -> Result<Arc<Program>> {
        self.run(
            "initmq",
            &["--debug"],
            &self.broker_variables(self.servers.rabbitmq.port),
        )
        .await
    }

    /// A listener that serves.
    pub(crate) async fn listener(&self) -> Result<Listener> {
        self.listener_by(self.servers.rabbitmq.port, &self.gitlab.url())
            .await
    }

    /// A listener that serves, finds the broker on this port, and takes notices about this GitLab.
    pub(crate) async fn listener_by(&self, rabbitmq_port: u16, gitlab: &str) -> Result<Listener> {
        let (program, address) = self.listener_starting(rabbitmq_port, gitlab).await?;
        self.is_ready(&program, &address).await?;
        Ok(Listener::new(program, &format!("http://{address}/")))
    }

    /// A listener that serves, with more variables than the usual ones.
    pub(crate) async fn listener_with(&self, more: &[(&'static str, String)]) -> Result<Listener> {
        let (port, gitlab) = (self.servers.rabbitmq.port, self.gitlab.url());
        let starting = self.listener_starting_with(port, &gitlab, more);
        let (program, address) = starting.await?;
        self.is_ready(&program, &address).await?;
        Ok(Listener::new(program, &format!("http://{address}/")))
    }

    /// The same over TLS, not ready yet: who asks it has to know its authority.
    pub(crate) async fn listener_over_tls(
        &self,
        more: &[(&'static str, String)],
    ) -> Result<Listener> {
        let (port, gitlab) = (self.servers.rabbitmq.port, self.gitlab.url());
        let starting = self.listener_starting_with(port, &gitlab, more);
        let (program, address) = starting.await?;
        Ok(Listener::new(program, &format!("https://{address}/")))
    }

    /// The same, not ready yet, and where it listens.
    pub(crate) async fn listener_starting(
        &self,
        rabbitmq_port: u16,
        gitlab: &str,
    ) -> Result<(Arc<Program>, String)> {
        self.listener_starting_with(rabbitmq_port, gitlab, &[])
            .await
    }

    async fn listener_starting_with(
        &self,
        rabbitmq_port: u16,
        gitlab: &str,
        more: &[(&'static str, String)],
    ) -> Result<(Arc<Program>, String)> {
        let flags = ["--bind", "127.0.0.1", "-p", "0", "--debug"];
        let flags = [&flags[..], &["--es-index", &self.name]].concat();
        let mut variables = self.broker_variables(rabbitmq_port);
        variables.push(("JOBLOGS_SEAL_KEY", self.seal_key.clone()));
        variables.push(("JOBLOGS_GITLAB", gitlab.to_owned()));
        variables.extend_from_slice(more);
        let program = self.start("listener", &flags, &variables)?;
        let address = self.address(&program, "listening").await?;
        Ok((program, address))
    }

    /// A consumer that consumes.
    pub(crate) async fn consumer(&self) -> Result<Consumer> {
        self.consumer_with(&self.gitlab.url(), &[]).await
    }

    /// A consumer that consumes what is about this GitLab, some of its variables in place of the usual ones.
    pub(crate) async fn consumer_with(
        &self,
        gitlab: &str,
        others: &[(&'static str, String)],
    ) -> Result<Consumer> {
        let (program, address) = self.consumer_starting(gitlab, others).await?;
        self.is_ready(&program, &address).await?;
        Ok(Consumer::new(program, &address))
    }

    /// The same, not ready yet, and where it can be asked.
    pub(crate) async fn consumer_starting(
        &self,
        gitlab: &str,
        others: &[(&'static str, String)],
    ) -> Result<(Arc<Program>, String)> {
        let flags = ["--admin", "127.0.0.1:0", "--debug"];
        let gitlab = [("JOBLOGS_GITLAB", gitlab.to_owned())];
        // Of two values of a variable the later one counts.
        let variables = [&self.consumer_variables()?[..], &gitlab, others].concat();
        let program = self.start("consumer", &flags, &variables)?;
        let address = self.address(&program, "serving health and metrics").await?;
        Ok((program, address))
    }

    /// `consumer setup`, which ends by itself; some of its variables in place of the usual ones.
    pub(crate) fn setup_starting(&self, others: &[(&'static str, String)]) -> Result<Arc<Program>> {
        let variables = [&self.consumer_variables()?, others].concat();
        self.start("consumer", &["--debug", "setup"], &variables)
    }

    /// `initmq` and `listener` have the same variables for the broker.
    pub(crate) fn broker_variables(&self, port: u16) -> Vec<(&'static str, String)> {
        let rabbitmq = &self.servers.rabbitmq;
        vec![
            ("JOBLOGS_HOST", "127.0.0.1".into()),
            ("JOBLOGS_PORT", port.to_string()),
            ("JOBLOGS_VHOST", self.name.clone()),
            ("JOBLOGS_USER", rabbitmq.user.into()),
            ("JOBLOGS_PASS", rabbitmq.password.clone()),
        ]
    }

    /// What every `consumer` gets, with and without a subcommand.
    pub(crate) fn consumer_variables(&self) -> Result<Vec<(&'static str, String)>> {
        let servers = &self.servers;
        Ok(vec![
            ("JOBLOGS_RMQ_HOST", "127.0.0.1".into()),
            ("JOBLOGS_RMQ_PORT", servers.rabbitmq.port.to_string()),
            ("JOBLOGS_RMQ_VHOST", self.name.clone()),
            ("JOBLOGS_RMQ_USER", servers.rabbitmq.user.into()),
            (
                "JOBLOGS_RMQ_PASS_FILE",
                self.secret("rmq-pass", &servers.rabbitmq.password)?,
            ),
            ("JOBLOGS_ES_HOST", "127.0.0.1".into()),
            ("JOBLOGS_ES_PORT", servers.elasticsearch_port.to_string()),
            ("JOBLOGS_ES_URL_SCHEME", "http".into()),
            ("JOBLOGS_ES_USER", "elastic".into()),
            (
                "JOBLOGS_ES_PASS_FILE",
                self.secret("es-pass", &servers.elasticsearch_password)?,
            ),
            ("JOBLOGS_ES_INDEX", self.name.clone()),
            (
                "JOBLOGS_SEAL_KEY_FILE",
                self.secret("seal-key", &self.seal_key)?,
            ),
        ])
    }

    /// The path of a file that holds this, for its owner alone.
    pub(crate) fn secret(&self, name: &str, value: &str) -> Result<String> {
        let path = self.folder().join(name);
        fs::write(&path, format!("{value}\n"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path
            .to_str()
            .context("a temporary path is UTF-8")?
            .to_owned())
    }

    /// The field `address` of the log line with this message.
    async fn address(&self, program: &Program, message: &str) -> Result<String> {
        let what = format!("{} logs {message:?}", program.name());
        let line = self
            .until(what, READY, async || program.logged(message))
            .await?;
        let address = line["address"]
            .as_str()
            .context("the line has no address")?;
        Ok(address.to_owned())
    }

    async fn is_ready(&self, program: &Program, address: &str) -> Result<()> {
        let url = format!("http://{address}/health/ready");
        let what = format!("{} is ready", program.name());
        self.until(what, READY, async || {
            let answer = reqwest::get(&url).await?;
            let status = answer.status();
            ensure!(
                status == StatusCode::OK,
                "{status}: {}",
                answer.text().await?
            );
            Ok(())
        })
        .await
    }
}
