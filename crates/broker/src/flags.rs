//! Where the broker is and as whom we come: two spellings of flags, one [`Settings`].

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, Result, ensure};
use clap::{ArgAction, Args, builder::BoolishValueParser};
use secrecy::SecretString;

use crate::topology::{Queues, WaitTier};

/// The longest name that AMQP takes, in bytes.
const LONGEST_NAME: usize = 255;

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
    /// How the connection is protected, if it is.
    pub tls: Option<Tls>,
    /// Whether the broker said nothing at the last attempt to connect; clones know it too.
    pub(crate) is_silent: Arc<AtomicBool>,
}

/// AMQP over TLS.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Certificate authorities in PEM, beside those that the system knows.
    pub authorities: Option<String>,
}

/// Whether the way to RabbitMQ is protected; all programs spell it alike.
#[derive(Debug, Clone, Args)]
pub struct TlsFlags {
    /// Speak AMQP over TLS to RabbitMQ, which has another port for that, mostly 5671.
    #[arg(long, env = "JOBLOGS_RMQ_TLS", value_parser = BoolishValueParser::new(), action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", default_value_t = false)]
    pub rmq_tls: bool,
    /// PEM file of the certificate authority that signed RabbitMQ's certificate; with it TLS is spoken.
    #[arg(long, env = "JOBLOGS_RMQ_CA")]
    pub rmq_ca: Option<PathBuf>,
}

impl TlsFlags {
    fn settings(&self) -> Result<Option<Tls>> {
        service::tls::authorities("--rmq-ca", self.rmq_ca.as_deref())?;
        let authorities = self.rmq_ca.as_ref().map(std::fs::read_to_string);
        let authorities = authorities.transpose().context("--rmq-ca")?;
        let is_spoken = self.rmq_tls || authorities.is_some();
        Ok(is_spoken.then_some(Tls { authorities }))
    }
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
    /// Whether the way there is protected.
    #[command(flatten)]
    pub tls: TlsFlags,
}

impl BrokerFlags {
    /// The settings, with the password read.
    pub fn settings(&self) -> Result<Settings> {
        Ok(Settings {
            host: required("--host", self.host.as_ref())?,
            port: self.port,
            vhost: short("--vhost", &self.vhost)?,
            user: required("--user", self.user.as_ref())?,
            password: service::secret::require(
                "--pass",
                self.pass.as_deref(),
                self.pass_file.as_deref(),
            )?,
            tls: self.tls.settings()?,
            is_silent: Arc::default(),
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
    /// Whether the way there is protected.
    #[command(flatten)]
    pub tls: TlsFlags,
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
            vhost: short("--rmq-vhost", &self.rmq_vhost)?,
            user: required("--rmq-user", self.rmq_user.as_ref())?,
            password: service::secret::require(
                "--rmq-pass",
                self.rmq_pass.as_deref(),
                self.rmq_pass_file.as_deref(),
            )?,
            tls: self.tls.settings()?,
            is_silent: Arc::default(),
        })
    }
}

/// A flag that consuming and listening need, and subcommands such as `keygen` don't.
fn required(flag: &str, value: Option<&String>) -> Result<String> {
    let missing = || {
        format!(
            "{flag} is missing; give it, or the variable {}",
            variable(flag)
        )
    };
    short(flag, value.with_context(missing)?)
}

/// AMQP's names are «short strings»: at a longer one lapin panics.
pub fn short(flag: &str, value: &str) -> Result<String> {
    ensure!(
        (1..=LONGEST_NAME).contains(&value.len()),
        "{flag} ({}) must have 1 to {LONGEST_NAME} bytes",
        variable(flag)
    );
    Ok(value.to_owned())
}

/// The name of a queue from which those of its wait tiers are made.
pub fn queues(flag: &str, value: &str) -> Result<Queues> {
    let queues = Queues {
        jobs: short(flag, value)?,
    };
    for tier in WaitTier::ALL {
        let longest = LONGEST_NAME - (queues.wait(tier).len() - value.len());
        ensure!(
            value.len() <= longest,
            "{flag} ({}) must have at most {longest} bytes, as wait tiers are named after it",
            variable(flag)
        );
    }
    Ok(queues)
}

fn variable(flag: &str) -> String {
    let name = flag.trim_start_matches('-').replace('-', "_");
    format!("JOBLOGS_{}", name.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lapin_would_panic_at_are_refused() {
        let name = |length| "x".repeat(length);
        assert!(short("--vhost", &name(255)).is_ok());
        let refused = short("--vhost", &name(256)).unwrap_err().to_string();
        assert!(refused.contains("--vhost (JOBLOGS_VHOST)"), "{refused}");
        assert!(short("--vhost", "").is_err());
        assert!(queues("--queue", &name(246)).is_ok());
        assert!(queues("--queue", &name(247)).is_err());
    }
}
