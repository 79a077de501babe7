//! The consumer's flags, and what they become once they are checked.

mod elasticsearch;
mod upkeep;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use broker::{ConsumerBrokerFlags, topology::Queues};
use clap::{Args, Parser, Subcommand};
use failure::Rules;
use notice::SealKeys;
use service::{
    admin::Readiness,
    gitlabs::{Configured, GitlabFlags},
    logs::LogFlags,
    secret::Changing,
};

pub use self::{
    elasticsearch::ElasticsearchFlags,
    upkeep::{KibanaFlags, RetentionFlags, SetupFlags},
};
use crate::{
    context::Forge,
    elasticsearch::{DEPENDENCY, Elasticsearch},
    gitlab::Gitlab,
    indices::Naming,
    link::QUEUE,
};

/// Brings the logs of CI jobs from GitLab into Elasticsearch.
#[derive(Debug, Parser)]
#[command(name = "consumer", version)]
pub struct Cli {
    /// What to do; without a subcommand: consume.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of consuming.
    #[command(flatten)]
    pub flags: Flags,
    /// Where Elasticsearch is.
    #[command(flatten)]
    pub elasticsearch: ElasticsearchFlags,
}

/// What the program does beside consuming.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Put templates, lifecycle, roles and users into Elasticsearch, as far as the cluster can; idempotent.
    Setup(SetupFlags),
    /// Remove indices that are older than --retain-days, where the cluster does not do that itself.
    Retention(RetentionFlags),
    /// Put data views, saved searches and dashboards into Kibana or OpenSearch Dashboards; idempotent.
    Kibana(KibanaFlags),
    /// Print the documents that a trace would become, a line each; nothing is contacted.
    Parse(ParseFlags),
    /// Ask the consumer on this host whether it is ready; exit 0 or 1.
    Healthcheck {
        /// Address of its health and metrics.
        #[arg(long, env = "JOBLOGS_ADMIN", default_value = DEFAULT_ADMIN)]
        admin: String,
    },
}

/// Where health and metrics are served unless another address is given.
const DEFAULT_ADMIN: &str = "127.0.0.1:9102";

/// The flags of consuming.
#[derive(Debug, Args)]
pub struct Flags {
    /// Where the broker is.
    #[command(flatten)]
    pub broker: ConsumerBrokerFlags,
    /// Which GitLabs the messages are about.
    #[command(flatten)]
    pub gitlab: GitlabFlags,
    /// GitLab token of scope `read_api`, used where a notice brought none.
    #[arg(
        long,
        env = "JOBLOGS_GITLAB_TOKEN",
        hide_env_values = true,
        conflicts_with = "instances"
    )]
    pub gitlab_token: Option<String>,
    /// How many requests a second a GitLab gets, 0 for as many as its own limits leave. GitLab.com takes
    /// 2,000 a minute from a user.
    #[arg(long, env = "JOBLOGS_GITLAB_RATE", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub gitlab_rate: u32,
    /// File that holds the token of --gitlab-token; it is read again when it changes.
    #[arg(long, env = "JOBLOGS_GITLAB_TOKEN_FILE", conflicts_with = "instances")]
    pub gitlab_token_file: Option<PathBuf>,
    /// Keys that open sealed tokens, one a line: those of the listener.
    #[arg(long, env = "JOBLOGS_SEAL_KEY", hide_env_values = true)]
    pub seal_key: Option<String>,
    /// File that holds the keys of --seal-key.
    #[arg(long, env = "JOBLOGS_SEAL_KEY_FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// How many traces are read at the same time. Each takes up to 2 MiB of memory while it is.
    #[arg(long, env = "JOBLOGS_CONCURRENCY", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// For how many hours a message waits for its job's end, or for a server that is down,
    /// before it becomes a dead letter.
    #[arg(long, env = "JOBLOGS_PATIENCE_HOURS", default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=8760))]
    pub patience_hours: u32,
    /// For how many days a project must not have seen a failure for it to be new.
    #[arg(long, env = "JOBLOGS_NOVEL_DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub novel_days: u32,
    /// What is known of failures beside the built-in rules.
    #[command(flatten)]
    pub failure: FailureFlags,
    /// Address for health and metrics: port 0 takes a free one, `off` none. [default: 127.0.0.1:9102]
    #[arg(long, env = "JOBLOGS_ADMIN")]
    pub admin: Option<String>,
    /// Logs.
    #[command(flatten)]
    pub logs: LogFlags,
}

/// What is known of why jobs fail.
#[derive(Debug, Clone, Args)]
pub struct FailureFlags {
    /// YAML file of rules for failed jobs, in front of the built-in ones; one with the id of a built-in
    /// rule replaces it.
    #[arg(long, env = "JOBLOGS_FAILURE_RULES")]
    pub failure_rules: Option<PathBuf>,
}

impl FailureFlags {
    /// The rules, read and checked.
    pub(crate) fn rules(&self) -> Result<Arc<Rules>> {
        let Some(path) = &self.failure_rules else {
            return Ok(Arc::new(Rules::ours().context("the built-in rules")?));
        };
        let named = || format!("the file {} of --failure-rules", path.display());
        let yaml =
            std::fs::read_to_string(path).with_context(|| format!("{} can't be read", named()))?;
        Ok(Arc::new(Rules::with(&yaml).with_context(named)?))
    }
}

/// The flags of `parse`.
#[derive(Debug, Clone, Args)]
pub struct ParseFlags {
    /// File of the trace, or - for standard input.
    pub file: PathBuf,
    /// File of the job's facts, as `GET /projects/:id/jobs/:job_id` gives them.
    #[arg(long)]
    pub job: Option<PathBuf>,
    /// End with one object about the whole trace.
    #[arg(long)]
    pub summary: bool,
    /// What is known of failures beside the built-in rules.
    #[command(flatten)]
    pub failure: FailureFlags,
}

/// Where health and metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admin {
    /// Nowhere.
    Off,
    /// Here, and if the address is taken that is only a warning: nobody chose it.
    Default(SocketAddr),
    /// Here.
    At(SocketAddr),
}

/// The flags of consuming, checked.
pub struct Config {
    pub(crate) broker: broker::Settings,
    pub(crate) queues: Queues,
    pub(crate) forges: Vec<Forge>,
    pub(crate) seal_keys: SealKeys,
    pub(crate) concurrency: u16,
    pub(crate) patience: Duration,
    pub(crate) admin: Admin,
    pub(crate) readiness: Readiness,
    pub(crate) elasticsearch: Elasticsearch,
    pub(crate) naming: Naming,
    pub(crate) rules: Arc<Rules>,
    pub(crate) novel_days: u32,
}

impl Flags {
    /// Checks every flag and reads the secrets, before anything is contacted.
    pub fn into_config(self, elasticsearch: &ElasticsearchFlags) -> Result<Config> {
        service::secret::only_for_us("--seal-key-file", self.seal_key_file.as_deref())?;
        let keys = service::secret::require(
            "--seal-key",
            self.seal_key.as_deref(),
            self.seal_key_file.as_deref(),
        )
        .context("sealed tokens can't be opened without the listener's key")?;
        let readiness = Readiness::waiting_for(&[QUEUE, DEPENDENCY, "rabbitmq"]);
        Ok(Config {
            queues: broker::queues("--rmq-queue", &self.broker.rmq_queue)?,
            broker: self.broker.settings()?,
            forges: self.forges(&readiness)?,
            seal_keys: SealKeys::parse(&keys).context("--seal-key (JOBLOGS_SEAL_KEY)")?,
            concurrency: self.concurrency,
            patience: Duration::from_hours(self.patience_hours.into()),
            admin: admin(self.admin.as_deref())?,
            elasticsearch: elasticsearch.client(readiness.clone())?,
            readiness,
            naming: elasticsearch.naming()?,
            rules: self.failure.rules()?,
            novel_days: self.novel_days,
        })
    }
}

impl Flags {
    /// The GitLabs as clients, each with the operator's token if there is one.
    fn forges(&self, readiness: &Readiness) -> Result<Vec<Forge>> {
        let forge = |configured: Configured| {
            let token = match &configured.entry.token_file {
                Some(file) => {
                    Changing::read("token", None, Some(file)).with_context(|| configured.shown())?
                }
                None => Changing::read(
                    "--gitlab-token",
                    self.gitlab_token.as_deref(),
                    self.gitlab_token_file.as_deref(),
                )?,
            };
            let rate = configured.entry.rate.unwrap_or(self.gitlab_rate);
            let gitlab = Gitlab::new(&configured, rate, readiness.clone())
                .with_context(|| configured.shown())?;
            Ok(Forge { gitlab, token })
        };
        self.gitlab.read()?.into_iter().map(forge).collect()
    }
}

pub(crate) fn admin(text: Option<&str>) -> Result<Admin> {
    let Some(text) = text else {
        let address = DEFAULT_ADMIN.parse().context("the default of --admin")?;
        return Ok(Admin::Default(address));
    };
    if text == "off" {
        return Ok(Admin::Off);
    }
    text.parse().map(Admin::At).context(
        "--admin (JOBLOGS_ADMIN) must be an address and port such as 127.0.0.1:9102, or off",
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_appliance_passes_on_what_is_not_its_own_to_decide() {
        let compose = include_str!("../../compose.yaml");
        let missing = service::cli::variables_missing_in(&Cli::command(), compose);
        let own = [
            "JOBLOGS_RMQ_PASS",
            "JOBLOGS_RMQ_PORT",
            "JOBLOGS_RMQ_VHOST",
            "JOBLOGS_RMQ_TLS",
            "JOBLOGS_RMQ_CA",
            "JOBLOGS_RMQ_QUEUE",
            "JOBLOGS_SEAL_KEY",
            "JOBLOGS_ADMIN",
            "JOBLOGS_ES_PASS",
            "JOBLOGS_ES_API_KEY",
            "JOBLOGS_ES_API_KEY_FILE",
            "JOBLOGS_ES_VERIFY_SSL",
            "JOBLOGS_ES_CA",
        ];
        assert_eq!(missing, own);
    }

    #[test]
    fn the_readme_has_all_flags() {
        let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let mut all = Cli::command();
        let setup = all.find_subcommand_mut("setup").unwrap().clone();
        let retention = all.find_subcommand_mut("retention").unwrap().clone();
        let kibana = all.find_subcommand_mut("kibana").unwrap().clone();
        for (name, command) in [
            ("consumer", &all),
            ("consumer setup", &setup),
            ("consumer retention", &retention),
            ("consumer kibana", &kibana),
        ] {
            let table = service::cli::flag_table(command);
            assert!(
                service::cli::check_readme(&readme, name, &table).unwrap(),
                "run UPDATE_README=1 cargo test the_readme; it should hold:\n{table}"
            );
        }
    }

    #[test]
    fn an_admin_address_is_one_or_off() {
        assert_eq!(admin(Some("off")).unwrap(), Admin::Off);
        assert!(matches!(admin(None).unwrap(), Admin::Default(_)));
        assert!(matches!(admin(Some("127.0.0.1:0")).unwrap(), Admin::At(_)));
        assert!(admin(Some("9102")).is_err());
    }
}
