//! Declares the RabbitMQ topology; idempotent, deletes nothing.

use std::time::Duration;

use anyhow::{Context, Result};
use broker::{BrokerFlags, Settings, topology::Topology};
use clap::{
    ArgAction, Parser, ValueEnum,
    builder::{BoolishValueParser, NonEmptyStringValueParser},
};
use tokio::time::timeout;

/// How long all declarations together may take.
const DECLARE: Duration = Duration::from_secs(30);

/// Declares Joblogs' exchange, queues and binding in RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "initmq", version)]
pub struct Flags {
    /// Where the broker is.
    #[command(flatten)]
    pub broker: BrokerFlags,
    /// Exchange that notices are published to.
    #[arg(long, env = "JOBLOGS_EXCHANGE", default_value = "gitlab_jobs", value_parser = NonEmptyStringValueParser::new())]
    pub exchange: String,
    /// Exchange type.
    #[arg(long = "type", env = "JOBLOGS_TYPE", value_enum, default_value_t = ExchangeType::Direct)]
    pub exchange_type: ExchangeType,
    /// Whether the exchange outlives a restart of the broker.
    #[arg(long, env = "JOBLOGS_DURABLE", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub durable: bool,
    /// Only check that everything is there, whatever its arguments; create nothing.
    #[arg(long, env = "JOBLOGS_PASSIVE", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub passive: bool,
    /// Routing key that leads from the exchange to the queue.
    #[arg(long, env = "JOBLOGS_ROUTEKEY", default_value = "jobs", value_parser = NonEmptyStringValueParser::new())]
    pub routekey: String,
    /// Queue that the consumer reads; wait tiers and dead letters are named after it.
    #[arg(long, env = "JOBLOGS_QUEUE", default_value = "jobs", value_parser = NonEmptyStringValueParser::new())]
    pub queue: String,
    /// How long to wait for a broker that is not there yet, in seconds.
    #[arg(long, env = "JOBLOGS_WAIT_SECONDS", default_value_t = 120)]
    pub wait_seconds: u64,
    /// Logs.
    #[command(flatten)]
    pub logs: service::logs::LogFlags,
}

/// The exchange types of AMQP that route by key.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum ExchangeType {
    /// By the whole routing key.
    Direct,
    /// To every bound queue.
    Fanout,
    /// By a pattern over the routing key.
    Topic,
}

impl Flags {
    /// Whom to ask, and what to declare, checked before anything is contacted.
    pub fn checked(&self) -> Result<(Settings, Topology)> {
        let topology = Topology {
            exchange: broker::short("--exchange", &self.exchange)?,
            routing_key: broker::short("--routekey", &self.routekey)?,
            queues: broker::queues("--queue", &self.queue)?,
        };
        Ok((self.broker.settings()?, topology))
    }
}

/// Waits for the broker and declares everything.
pub async fn run(flags: &Flags, settings: &Settings, topology: &Topology) -> Result<()> {
    let patience = Duration::from_secs(flags.wait_seconds);
    let connection = broker::connect_within(settings, "initmq", patience).await?;
    let kind = match flags.exchange_type {
        ExchangeType::Direct => lapin::ExchangeKind::Direct,
        ExchangeType::Fanout => lapin::ExchangeKind::Fanout,
        ExchangeType::Topic => lapin::ExchangeKind::Topic,
    };
    let declare = async {
        let channel = connection.create_channel().await?;
        topology
            .declare(&channel, kind, flags.durable, flags.passive)
            .await?;
        // Dropped, it would begin to close by itself, in the way of the connection's own closing.
        anyhow::Ok(channel)
    };
    let _channel = timeout(DECLARE, declare)
        .await
        .with_context(|| format!("RabbitMQ did not answer a declaration within {DECLARE:?}"))??;
    // Everything is declared by now: a connection that ends badly changes nothing of it.
    if let Err(error) = connection.close(200, "done".into()).await {
        tracing::debug!(%error, "the connection did not close cleanly");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_readme_has_all_flags() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let table = service::cli::flag_table(&Flags::command());
        assert!(
            service::cli::check_readme(&readme, "initmq", &table).unwrap(),
            "run UPDATE_README=1 cargo test the_readme; it should hold:\n{table}"
        );
    }
}
