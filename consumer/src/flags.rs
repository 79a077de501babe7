//! The consumer's flags, and what they become once they are checked.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use broker::{ConsumerBrokerFlags, topology::Queues};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use failure::Rules;
use notice::{IndexName, IndexPatterns, SealKeys};
use service::{
    admin::Readiness,
    cli::host_in_url,
    gitlabs::{Configured, GitlabFlags},
    logs::LogFlags,
    secret::Changing,
};
use url::Url;

use crate::{
    context::Forge,
    elasticsearch::{self, Elasticsearch},
    gitlab::Gitlab,
    indices::Names,
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

/// Where Elasticsearch is, as whom we come, and how the indices are named.
#[derive(Debug, Clone, Args)]
pub struct ElasticsearchFlags {
    /// Elasticsearch host.
    #[arg(long, env = "JOBLOGS_ES_HOST", global = true)]
    pub es_host: Option<String>,
    /// Elasticsearch port.
    #[arg(long, env = "JOBLOGS_ES_PORT", default_value_t = 9200, global = true)]
    pub es_port: u16,
    /// Elasticsearch user.
    #[arg(
        long,
        env = "JOBLOGS_ES_USER",
        default_value = "elastic",
        global = true
    )]
    pub es_user: String,
    /// Elasticsearch password.
    #[arg(long, env = "JOBLOGS_ES_PASS", hide_env_values = true, global = true)]
    pub es_pass: Option<String>,
    /// File that holds the Elasticsearch password.
    #[arg(long, env = "JOBLOGS_ES_PASS_FILE", global = true)]
    pub es_pass_file: Option<PathBuf>,
    /// How Elasticsearch is spoken to.
    #[arg(long, env = "JOBLOGS_ES_URL_SCHEME", value_enum, default_value_t = Scheme::Https, global = true)]
    pub es_url_scheme: Scheme,
    /// Whether Elasticsearch's certificate is checked.
    #[arg(long, env = "JOBLOGS_ES_VERIFY_SSL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = clap::builder::BoolishValueParser::new(), global = true)]
    pub es_verify_ssl: bool,
    /// PEM file of the certificate authority that signed Elasticsearch's certificate.
    #[arg(long, env = "JOBLOGS_ES_CA", global = true)]
    pub es_ca: Option<PathBuf>,
    /// The NAME of the indices YYYY-MM-DD-NAME.
    #[arg(long, env = "JOBLOGS_ES_INDEX", global = true)]
    pub es_index: Option<String>,
    /// Where the date stands in an index's name.
    #[arg(long, env = "JOBLOGS_ES_INDEX_DATE", value_enum, default_value_t = DatePlace::Prefix, global = true)]
    pub es_index_date: DatePlace,
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

/// The flags of `setup`.
#[derive(Debug, Clone, Args)]
pub struct SetupFlags {
    /// What `retention` has too.
    #[command(flatten)]
    pub upkeep: UpkeepFlags,
    /// Password to give to the user `joblogs-consumer`, who may do what consuming needs and nothing else;
    /// without it that user is not made.
    #[arg(long, env = "JOBLOGS_CONSUMER_PASS", hide_env_values = true)]
    pub consumer_pass: Option<String>,
    /// File that holds the password of --consumer-pass.
    #[arg(long, env = "JOBLOGS_CONSUMER_PASS_FILE")]
    pub consumer_pass_file: Option<PathBuf>,
    /// The same for the user `joblogs-retention`, who may do what `consumer retention` needs.
    #[arg(long, env = "JOBLOGS_RETENTION_PASS", hide_env_values = true)]
    pub retention_pass: Option<String>,
    /// File that holds the password of --retention-pass.
    #[arg(long, env = "JOBLOGS_RETENTION_PASS_FILE")]
    pub retention_pass_file: Option<PathBuf>,
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

/// How Elasticsearch is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

/// Where the date stands in an index's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatePlace {
    /// `YYYY-MM-DD-NAME`.
    Prefix,
    /// `NAME-YYYY-MM-DD`.
    Suffix,
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

/// How indices are named.
#[derive(Debug, Clone)]
pub struct Naming {
    /// The configured name.
    pub name: IndexName,
    /// Where the date stands.
    pub date: DatePlace,
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
        let readiness = Readiness::waiting_for(&[QUEUE, elasticsearch::DEPENDENCY, "rabbitmq"]);
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

impl ElasticsearchFlags {
    /// A client with these settings, checked, whose circuit `readiness` hears of; nothing is contacted.
    pub(crate) fn client(&self, readiness: Readiness) -> Result<Elasticsearch> {
        let host = self
            .es_host
            .as_ref()
            .context("--es-host is missing; give it, or the variable JOBLOGS_ES_HOST")?;
        let scheme = match self.es_url_scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let host = host_in_url(host).context("--es-host (JOBLOGS_ES_HOST)")?;
        let url = Url::parse(&format!("{scheme}://{host}:{}/", self.es_port))
            .context("--es-host (JOBLOGS_ES_HOST)")?;
        let ca = self.es_ca.as_ref().map(|path| {
            std::fs::read(path)
                .with_context(|| format!("the file {} of --es-ca can't be read", path.display()))
        });
        let settings = elasticsearch::Settings {
            url,
            user: self.es_user.clone(),
            password: service::secret::require(
                "--es-pass",
                self.es_pass.as_deref(),
                self.es_pass_file.as_deref(),
            )?,
            verify: self.es_verify_ssl,
            ca: ca.transpose()?,
        };
        Elasticsearch::new(&settings, readiness)
    }

    /// How indices are named.
    pub fn naming(&self) -> Result<Naming> {
        let text = self.es_index.as_ref().context(
            "--es-index is missing; give the NAME of the indices YYYY-MM-DD-NAME, or the variable JOBLOGS_ES_INDEX",
        )?;
        let name = IndexName::parse(text).context("--es-index (JOBLOGS_ES_INDEX)")?;
        let date = self.es_index_date;
        let first = name.as_str().split('-').next().unwrap_or_default();
        // Elasticsearch's own templates for `logs-*-*` and the like would make data streams of ours.
        let is_taken = ["logs", "metrics", "synthetics", "traces", "profiling"].contains(&first);
        if date == DatePlace::Suffix && is_taken {
            bail!(
                "--es-index {name} with --es-index-date suffix collides with a template of Elasticsearch's own ({first}-*-*); choose another name"
            );
        }
        Ok(Naming { name, date })
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

    fn naming(words: &[&str]) -> Result<Naming> {
        let words = ["consumer", "setup"].iter().chain(words);
        Cli::try_parse_from(words).unwrap().elasticsearch.naming()
    }

    #[test]
    fn the_name_is_required_and_no_name_of_elasticsearchs_own() {
        assert!(naming(&[]).unwrap_err().to_string().contains("--es-index"));
        assert!(naming(&["--es-index", "joblogs"]).is_ok());
        assert!(naming(&["--es-index", "logs"]).is_ok());
        let suffix = ["--es-index-date", "suffix"];
        assert!(naming(&["--es-index", "logs", suffix[0], suffix[1]]).is_err());
        assert!(naming(&["--es-index", "logs-ci", suffix[0], suffix[1]]).is_err());
        assert!(naming(&["--es-index", "joblogs", suffix[0], suffix[1]]).is_ok());
    }

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

    #[test]
    fn an_admin_address_is_one_or_off() {
        assert_eq!(admin(Some("off")).unwrap(), Admin::Off);
        assert!(matches!(admin(None).unwrap(), Admin::Default(_)));
        assert!(matches!(admin(Some("127.0.0.1:0")).unwrap(), Admin::At(_)));
        assert!(admin(Some("9102")).is_err());
    }

    #[test]
    fn a_host_that_is_more_than_a_host_is_refused() {
        for host in ["http://es", "es/path", "user@es", "es?x", "es#x", ""] {
            let cli = Cli::try_parse_from(["consumer", "--es-host", host, "--es-pass", "x"]);
            assert!(
                cli.unwrap()
                    .elasticsearch
                    .client(Readiness::default())
                    .is_err(),
                "{host}"
            );
        }
    }
}
