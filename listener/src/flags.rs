//! The listener's flags, and what they become once they are checked.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, Result};
use broker::{BrokerFlags, Settings};
use clap::{Args, Parser, Subcommand, ValueEnum};
use notice::{IndexName, IndexPatterns, Instance, SealKeys};

/// Takes notices of CI jobs over HTTP and confirms them into RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "listener", version)]
pub struct Cli {
    /// What to do; without a subcommand: listen.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags.
    #[command(flatten)]
    pub flags: Flags,
}

/// What the program does beside listening.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Print a fresh key for --seal-key.
    Keygen,
    /// Ask the listener on this host whether it is ready; exit 0 or 1.
    Healthcheck {
        /// Port that the listener listens on.
        #[arg(
            short = 'p',
            long = "listen-port",
            env = "JOBLOGS_LISTEN_PORT",
            default_value_t = 8080
        )]
        listen_port: u16,
    },
}

/// The listener's flags.
#[derive(Debug, Args)]
pub struct Flags {
    /// Port to listen on; 0 takes a free one.
    #[arg(
        short = 'p',
        long = "listen-port",
        env = "JOBLOGS_LISTEN_PORT",
        default_value_t = 8080
    )]
    pub listen_port: u16,
    /// Address to listen on.
    #[arg(long, env = "JOBLOGS_BIND", default_value = "0.0.0.0")]
    pub bind: IpAddr,
    /// Where the broker is.
    #[command(flatten)]
    pub broker: BrokerFlags,
    /// Exchange that notices are published to.
    #[arg(long, env = "JOBLOGS_EXCHANGE", default_value = "gitlab_jobs")]
    pub exchange: String,
    /// Routing key of the notices.
    #[arg(long, env = "JOBLOGS_ROUTEKEY", default_value = "jobs")]
    pub routekey: String,
    /// Base URL of the GitLab that notices are about.
    #[arg(long, env = "JOBLOGS_GITLAB", default_value = "https://gitlab.com/")]
    pub gitlab: String,
    /// Index names that a caller may ask for: glob patterns, by commas. None by default: the
    /// consumer's --es-index alone.
    #[arg(long, env = "JOBLOGS_INDEX_NAMES", value_delimiter = ',')]
    pub index_names: Vec<String>,
    /// The consumer's index name; a caller may always ask for it.
    #[arg(long, env = "JOBLOGS_ES_INDEX", default_value = "joblogs")]
    pub es_index: String,
    /// Keys that seal callers' tokens, one a line; the first seals (`listener keygen` prints one).
    #[arg(long, env = "JOBLOGS_SEAL_KEY", hide_env_values = true)]
    pub seal_key: Option<String>,
    /// File that holds the keys of --seal-key.
    #[arg(long, env = "JOBLOGS_SEAL_KEY_FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// For how many hours a sealed token can be opened.
    #[arg(long, env = "JOBLOGS_SEAL_HOURS", default_value_t = 72)]
    pub seal_hours: u32,
    /// Elasticsearch host that /healthcheck?elasticsearch asks; without it that check fails.
    #[arg(long, env = "JOBLOGS_ES_HOST")]
    pub es_host: Option<String>,
    /// Elasticsearch port.
    #[arg(long, env = "JOBLOGS_ES_PORT", default_value_t = 9200)]
    pub es_port: u16,
    /// Elasticsearch URL scheme.
    #[arg(long, env = "JOBLOGS_ES_URL_SCHEME", value_enum, default_value_t = Scheme::Https)]
    pub es_url_scheme: Scheme,
    /// Log more.
    #[arg(long, env = "JOBLOGS_DEBUG")]
    pub debug: bool,
}

/// How Elasticsearch is spoken to.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

/// The flags, checked.
pub struct Config {
    pub(crate) address: (IpAddr, u16),
    pub(crate) broker: Settings,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) instance: Instance,
    pub(crate) index_names: IndexPatterns,
    pub(crate) seal_keys: SealKeys,
    pub(crate) seal_seconds: i64,
    pub(crate) elasticsearch: Option<String>,
}

impl Flags {
    /// Checks every flag and reads the secrets, before anything is contacted.
    pub fn into_config(self) -> Result<Config> {
        let instance = Instance::parse(&self.gitlab).context("--gitlab (JOBLOGS_GITLAB)")?;
        let own = IndexName::parse(&self.es_index).context("--es-index (JOBLOGS_ES_INDEX)")?;
        let keys = service::secret::require(
            "--seal-key",
            self.seal_key.as_deref(),
            self.seal_key_file.as_deref(),
        )
        .context("callers' tokens must be sealed before they enter the broker")?;
        let elasticsearch = self.es_host.as_ref().map(|host| {
            let scheme = match self.es_url_scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            };
            format!("{scheme}://{host}:{}/", self.es_port)
        });
        Ok(Config {
            address: (self.bind, self.listen_port),
            broker: self.broker.settings()?,
            exchange: self.exchange,
            routing_key: self.routekey,
            instance,
            index_names: IndexPatterns::new(
                self.index_names
                    .into_iter()
                    .chain([own.as_str().to_owned()]),
            ),
            seal_keys: SealKeys::parse(&keys).context("--seal-key (JOBLOGS_SEAL_KEY)")?,
            seal_seconds: i64::from(self.seal_hours) * 3600,
            elasticsearch,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_readme_has_all_flags() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let table = service::cli::flag_table(&Cli::command());
        assert!(
            service::cli::check_readme(&readme, "listener", &table).unwrap(),
            "run UPDATE_README=1 cargo test the_readme; it should hold:\n{table}"
        );
    }
}
