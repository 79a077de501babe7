//! The consumer's flags.

use std::path::PathBuf;

use clap::ValueEnum;

/// Where the date stands in an index's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatePlace {
    /// `YYYY-MM-DD-NAME`.
    Prefix,
    /// `NAME-YYYY-MM-DD`.
    Suffix,
}

/// Where Elasticsearch is and as whom we come.
#[derive(Debug, Clone, clap::Args)]
pub struct ElasticsearchFlags {
    /// Elasticsearch host.
    #[arg(long, env = "JOBLOGS_ES_HOST")]
    pub es_host: Option<String>,
    /// Elasticsearch port.
    #[arg(long, env = "JOBLOGS_ES_PORT", default_value_t = 9200)]
    pub es_port: u16,
    /// Elasticsearch user.
    #[arg(long, env = "JOBLOGS_ES_USER", default_value = "elastic")]
    pub es_user: String,
    /// Elasticsearch password.
    #[arg(long, env = "JOBLOGS_ES_PASS", hide_env_values = true)]
    pub es_pass: Option<String>,
    /// File that holds the Elasticsearch password.
    #[arg(long, env = "JOBLOGS_ES_PASS_FILE")]
    pub es_pass_file: Option<PathBuf>,
}
