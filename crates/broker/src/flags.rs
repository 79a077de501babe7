//! Where the broker is and as whom we come: two spellings of flags, one [`Settings`].

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use secrecy::SecretString;

/// Where RabbitMQ is, and the credentials.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Host name or address.
    pub host: String,
    /// AMQP port.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User.
    pub user: String,
    /// Password.
    pub password: SecretString,
}

/// The broker's flags as listener and initmq spell them.
#[derive(Debug, Clone, Args)]
pub struct BrokerFlags {
    /// RabbitMQ user.
    #[arg(long, env = "JOBLOGS_USER")]
    pub user: Option<String>,
    /// RabbitMQ password.
    #[arg(long, env = "JOBLOGS_PASS", hide_env_values = true)]
    pub pass: Option<String>,
    /// File that holds the RabbitMQ password.
    #[arg(long, env = "JOBLOGS_PASS_FILE")]
    pub pass_file: Option<PathBuf>,
    /// RabbitMQ host.
    #[arg(long, env = "JOBLOGS_HOST")]
    pub host: Option<String>,
    /// RabbitMQ port.
    #[arg(long, env = "JOBLOGS_PORT", default_value_t = 5672)]
    pub port: u16,
    /// RabbitMQ virtual host.
    #[arg(long, env = "JOBLOGS_VHOST", default_value = "my_vhost")]
    pub vhost: String,
}

impl BrokerFlags {
    /// The settings, with the password read.
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            host: required("--host", self.host.as_ref())?,
            port: self.port,
            vhost: self.vhost.clone(),
            user: required("--user", self.user.as_ref())?,
            password: service::secret::require(
                "--pass",
                self.pass.as_deref(),
                self.pass_file.as_deref(),
            )?,
        })
    }
}

/// The broker's flags as the consumer spells them.
#[derive(Debug, Clone, Args)]
pub struct ConsumerBrokerFlags {
    /// RabbitMQ user.
    #[arg(long, env = "JOBLOGS_RMQ_USER")]
    pub rmq_user: Option<String>,
    /// RabbitMQ password.
    #[arg(long, env = "JOBLOGS_RMQ_PASS", hide_env_values = true)]
    pub rmq_pass: Option<String>,
    /// File that holds the RabbitMQ password.
    #[arg(long, env = "JOBLOGS_RMQ_PASS_FILE")]
    pub rmq_pass_file: Option<PathBuf>,
    /// RabbitMQ host.
    #[arg(long, env = "JOBLOGS_RMQ_HOST")]
    pub rmq_host: Option<String>,
    /// RabbitMQ port.
    #[arg(long, env = "JOBLOGS_RMQ_PORT", default_value_t = 5672)]
    pub rmq_port: u16,
    /// RabbitMQ virtual host.
    #[arg(long, env = "JOBLOGS_RMQ_VHOST", default_value = "my_vhost")]
    pub rmq_vhost: String,
    /// Queue that the messages come from.
    #[arg(long, env = "JOBLOGS_RMQ_QUEUE", default_value = "jobs")]
    pub rmq_queue: String,
}

impl ConsumerBrokerFlags {
    /// The settings, with the password read.
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            host: required("--rmq-host", self.rmq_host.as_ref())?,
            port: self.rmq_port,
            vhost: self.rmq_vhost.clone(),
            user: required("--rmq-user", self.rmq_user.as_ref())?,
            password: service::secret::require(
                "--rmq-pass",
                self.rmq_pass.as_deref(),
                self.rmq_pass_file.as_deref(),
            )?,
        })
    }
}

/// A flag that consuming and listening need, and subcommands such as `keygen` don't.
fn required(flag: &str, value: Option<&String>) -> Result<String> {
    let variable = flag
        .trim_start_matches('-')
        .replace('-', "_")
        .to_uppercase();
    value
        .cloned()
        .with_context(|| format!("{flag} is missing; give it, or the variable JOBLOGS_{variable}"))
}
