//! The flags of what is done once or now and then: `setup`, `retention`, `kibana`.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{ArgAction, Args};
use notice::IndexPatterns;

use super::ElasticsearchFlags;
use crate::indices::Names;

/// What `setup` and `retention` have in common.
#[derive(Debug, Clone, Args)]
pub struct UpkeepFlags {
    /// Further index names that callers may ask for, as the listener has them: globs, by commas.
    #[arg(long, env = "JOBLOGS_INDEX_NAMES", value_parser = IndexPatterns::parse)]
    pub index_names: Option<IndexPatterns>,
    /// For how many days indices are kept; 0: for ever.
    #[arg(long, env = "JOBLOGS_RETAIN_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub retain_days: u16,
    /// For how many seconds to wait for an Elasticsearch that is not there yet.
    #[arg(long, env = "JOBLOGS_WAIT_SECONDS", default_value_t = 120)]
    pub wait_seconds: u64,
    /// Only print what would be sent or removed.
    #[arg(long, env = "JOBLOGS_DRY_RUN", default_value_t = false, action = ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new())]
    pub dry_run: bool,
}

impl UpkeepFlags {
    /// The names that our indices have.
    pub(crate) fn names(&self, elasticsearch: &ElasticsearchFlags) -> Result<Names> {
        let naming = elasticsearch.naming()?;
        let asked = self.index_names.clone().unwrap_or_default();
        Ok(Names {
            asked: asked.and(&naming.name),
            naming,
        })
    }
}

/// The flags of `setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupFlags {
    /// What `retention` has too.
    #[command(flatten)]
    pub upkeep: UpkeepFlags,
    /// Password to give to the user `joblogs-NAME-consumer`, who may do what consuming needs and nothing else;
    /// without it that user is not made.
    #[arg(long, env = "JOBLOGS_CONSUMER_PASS", hide_env_values = true)]
    pub consumer_pass: Option<String>,
    /// File that holds the password of --consumer-pass.
    #[arg(long, env = "JOBLOGS_CONSUMER_PASS_FILE")]
    pub consumer_pass_file: Option<PathBuf>,
    /// The same for the user `joblogs-NAME-retention`, who may do what `consumer retention` needs.
    #[arg(long, env = "JOBLOGS_RETENTION_PASS", hide_env_values = true)]
    pub retention_pass: Option<String>,
    /// File that holds the password of --retention-pass.
    #[arg(long, env = "JOBLOGS_RETENTION_PASS_FILE")]
    pub retention_pass_file: Option<PathBuf>,
    /// File for an API key with the rights of `joblogs-NAME-consumer`, for the consumer's --es-api-key-file. Where the
    /// file holds none yet a key is made; one that it holds gets the rights of today.
    #[arg(long, env = "JOBLOGS_CONSUMER_API_KEY_FILE")]
    pub consumer_api_key_file: Option<PathBuf>,
    /// The same with the rights of `joblogs-NAME-retention`.
    #[arg(long, env = "JOBLOGS_RETENTION_API_KEY_FILE")]
    pub retention_api_key_file: Option<PathBuf>,
    /// Password to give to Elasticsearch's user `kibana_system`; without it that user is left alone.
    #[arg(long, env = "JOBLOGS_KIBANA_PASS", hide_env_values = true)]
    pub kibana_pass: Option<String>,
    /// File that holds the password of --kibana-pass.
    #[arg(long, env = "JOBLOGS_KIBANA_PASS_FILE")]
    pub kibana_pass_file: Option<PathBuf>,
    /// Only print the roles as a `roles.yml`, for a cluster whose users are in files; nothing is contacted.
    #[arg(long)]
    pub print_roles: bool,
}

/// The flags of `retention`.
#[derive(Debug, Clone, Args)]
pub struct RetentionFlags {
    /// What `setup` has too.
    #[command(flatten)]
    pub upkeep: UpkeepFlags,
    /// Do it again and again, after such a time (`1d`, `12h`), until SIGTERM; without it once.
    #[arg(long, env = "JOBLOGS_EVERY", value_parser = interval)]
    pub every: Option<Duration>,
}

/// A time such as `1d` or `90m`, of a second or more.
fn interval(text: &str) -> Result<Duration, String> {
    let span: jiff::Span = text
        .parse()
        .map_err(|_| "must be a time such as 1d, 12h or 90m".to_owned())?;
    let time = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours());
    let time = time.ok().and_then(|it| Duration::try_from(it).ok());
    time.filter(|it| *it >= Duration::from_secs(1))
        .ok_or_else(|| {
            "must be a second or more, in weeks, days, hours, minutes or seconds".to_owned()
        })
}

/// The flags of `kibana`.
#[derive(Debug, Clone, Args)]
pub struct KibanaFlags {
    /// Where Kibana or OpenSearch Dashboards is, with its path and space if there are any:
    /// `https://example.com/kibana/s/team`.
    #[arg(long, env = "JOBLOGS_KIBANA_URL")]
    pub kibana_url: String,
    /// PEM file of the certificate authority that signed Kibana's certificate, beside those that the system knows.
    #[arg(long, env = "JOBLOGS_KIBANA_CA")]
    pub kibana_ca: Option<PathBuf>,
    /// Replace what is there in the same version too, and what people changed in it.
    #[arg(long)]
    pub force: bool,
    /// For how many seconds to wait for a Kibana that is not ready yet.
    #[arg(long, env = "JOBLOGS_WAIT_SECONDS", default_value_t = 120)]
    pub wait_seconds: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_with_its_unit() {
        for (text, seconds) in [
            ("1d", 86_400),
            ("12h", 43_200),
            ("90m", 5_400),
            ("1w", 604_800),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "1", "d", "0s", "10ms", "-1d", "1 month", "1y", "often"] {
            assert!(interval(text).is_err(), "{text:?} was taken");
        }
    }
}
