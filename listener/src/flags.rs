//! The listener's flags, and what they become once they are checked.

use std::{net::IpAddr, path::PathBuf};

use anyhow::{Context, Result, ensure};
use broker::{BrokerFlags, Settings};
use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, NonEmptyStringValueParser},
    value_parser,
};
use notice::{IndexName, IndexPatterns, Instance, SealKeys};
use service::{cli::host_in_url, logs::LogFlags};

use crate::{
    health::Elasticsearch,
    identity::IdTokens,
    kibana::Kibana,
    limits::Limits,
    secrets::{self, Secrets, SigningKeys},
    ways::{Way, Ways},
    webhook::Callers,
};

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
    /// Index names that a caller may ask for beside --es-index: glob patterns with `*` and `?`,
    /// separated by commas. None by default.
    #[arg(long, env = "JOBLOGS_INDEX_NAMES", value_parser = IndexPatterns::parse)]
    pub index_names: Option<IndexPatterns>,
    /// The consumer's index name; a caller may always ask for it. Give the same name here as to the
    /// consumer: the default is right only where the consumer has `--es-index joblogs`.
    #[arg(long, env = "JOBLOGS_ES_INDEX", default_value = "joblogs")]
    pub es_index: String,
    /// Ways in which notices may come, by commas; without it url-token, private-token and those for which
    /// a secret is given.
    #[arg(long, env = "JOBLOGS_ACCEPT", value_enum, value_delimiter = ',')]
    pub accept: Vec<Way>,
    /// Secrets that callers of POST /v1/jobs share with the listener, one a line: any of them will do.
    #[arg(long, env = "JOBLOGS_API_SECRET", hide_env_values = true)]
    pub api_secret: Option<String>,
    /// File that holds the secrets of --api-secret.
    #[arg(long, env = "JOBLOGS_API_SECRET_FILE")]
    pub api_secret_file: Option<PathBuf>,
    /// The audience for which jobs get their ID tokens (`aud` in `id_tokens` of a pipeline), such as the
    /// listener's own URL: then no secret is needed in a pipeline.
    #[arg(long, env = "JOBLOGS_ID_TOKEN_AUDIENCE", value_parser = NonEmptyStringValueParser::new())]
    pub id_token_audience: Option<String>,
    /// Secret tokens and signing tokens (whsec_…) of GitLab's webhooks, one a line: any of them will do.
    #[arg(long, env = "JOBLOGS_WEBHOOK_SECRET", hide_env_values = true)]
    pub webhook_secret: Option<String>,
    /// File that holds the secrets of --webhook-secret.
    #[arg(long, env = "JOBLOGS_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,
    /// Requests a second that are looked at; the others get 429. 0: as many as come.
    #[arg(long, env = "JOBLOGS_RATE", default_value_t = 5_000)]
    pub rate: u32,
    /// The same of one client: of an IPv4 address, or of an IPv6 network of 64 bits. Behind a reverse proxy
    /// all clients are one.
    #[arg(long, env = "JOBLOGS_CLIENT_RATE", default_value_t = 1_000)]
    pub client_rate: u32,
    /// Keys that seal callers' tokens, one a line; the first seals (`listener keygen` prints one).
    #[arg(long, env = "JOBLOGS_SEAL_KEY", hide_env_values = true)]
    pub seal_key: Option<String>,
    /// File that holds the keys of --seal-key.
    #[arg(long, env = "JOBLOGS_SEAL_KEY_FILE")]
    pub seal_key_file: Option<PathBuf>,
    /// For how many hours a sealed token can be opened: longer than a message waits in the consumer
    /// (--patience-hours there).
    #[arg(long, env = "JOBLOGS_SEAL_HOURS", default_value_t = 168, value_parser = value_parser!(u32).range(1..=8760))]
    pub seal_hours: u32,
    /// Base URL of Kibana, as people open it; with the path of a space, if it is not the default one. With it the
    /// answer to POST /v1/jobs holds a link to the job's lines.
    #[arg(long, env = "JOBLOGS_KIBANA")]
    pub kibana: Option<String>,
    /// Elasticsearch, for the health check alone.
    #[command(flatten)]
    pub elasticsearch: ElasticsearchFlags,
    /// How much is logged.
    #[command(flatten)]
    pub logs: LogFlags,
}

/// The Elasticsearch that the health check asks; spelled as the consumer's.
#[derive(Debug, Args)]
#[expect(
    clippy::struct_field_names,
    reason = "the flags are named after the fields"
)]
pub struct ElasticsearchFlags {
    /// Elasticsearch host that /healthcheck?elasticsearch asks; without it that check fails.
    #[arg(long, env = "JOBLOGS_ES_HOST")]
    pub es_host: Option<String>,
    /// Elasticsearch port.
    #[arg(long, env = "JOBLOGS_ES_PORT", default_value_t = 9200, value_parser = value_parser!(u16).range(1..))]
    pub es_port: u16,
    /// How Elasticsearch is spoken to.
    #[arg(long, env = "JOBLOGS_ES_URL_SCHEME", value_enum, default_value_t = Scheme::Https)]
    pub es_url_scheme: Scheme,
    /// Whether Elasticsearch's certificate is checked.
    #[arg(long, env = "JOBLOGS_ES_VERIFY_SSL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true", value_parser = BoolishValueParser::new())]
    pub es_verify_ssl: bool,
    /// PEM file of the certificate authority that signed Elasticsearch's certificate.
    #[arg(long, env = "JOBLOGS_ES_CA")]
    pub es_ca: Option<PathBuf>,
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
    pub(crate) limits: Limits,
    pub(crate) ways: Ways,
    pub(crate) api_secrets: Secrets,
    pub(crate) id_tokens: Option<IdTokens>,
    pub(crate) webhook_callers: Callers,
    pub(crate) seal_keys: Option<SealKeys>,
    pub(crate) seal_seconds: i64,
    pub(crate) kibana: Option<Kibana>,
    pub(crate) elasticsearch: Option<Elasticsearch>,
}

impl Flags {
    /// Checks every flag and reads the secrets, before anything is contacted.
    pub fn into_config(self) -> Result<Config> {
        let instance = Instance::parse(&self.gitlab).context("--gitlab (JOBLOGS_GITLAB)")?;
        let own = IndexName::parse(&self.es_index).context("--es-index (JOBLOGS_ES_INDEX)")?;
        let kibana = self.kibana.as_deref().map(|url| Kibana::parse(url, &own));
        let kibana = kibana.transpose().context("--kibana (JOBLOGS_KIBANA)")?;
        let (api_secrets, signing) = secrets_of(
            "--api-secret",
            self.api_secret.as_ref(),
            self.api_secret_file.as_ref(),
        )?;
        ensure!(
            signing.is_empty(),
            "--api-secret holds a signing token, which is for --webhook-secret"
        );
        let (secrets, keys) = secrets_of(
            "--webhook-secret",
            self.webhook_secret.as_ref(),
            self.webhook_secret_file.as_ref(),
        )?;
        let webhook_callers = Callers { secrets, keys };
        let id_tokens = self.id_token_audience.as_deref();
        let given = [
            (!api_secrets.is_empty()).then_some(Way::ApiSecret),
            id_tokens.map(|_| Way::IdToken),
            (!webhook_callers.are_none()).then_some(Way::Webhook),
        ];
        let given: Vec<Way> = given.into_iter().flatten().collect();
        let ways = Ways::open(&self.accept, &given)?;
        let id_tokens = id_tokens.map(|audience| IdTokens::new(&instance, audience));
        let id_tokens = id_tokens.transpose().context("--id-token-audience")?;
        let keys = service::secret::read(
            "--seal-key",
            self.seal_key.as_deref(),
            self.seal_key_file.as_deref(),
        )?;
        ensure!(
            keys.is_some() || !ways.bring_tokens(),
            "--seal-key is missing: callers' tokens must be sealed before they enter the broker; give it, or the path of a file that holds it (--seal-key-file)"
        );
        let keys = keys.as_ref().map(SealKeys::parse).transpose();
        Ok(Config {
            address: (self.bind, self.listen_port),
            broker: self.broker.settings()?,
            exchange: broker::short("--exchange", &self.exchange)?,
            routing_key: broker::short("--routekey", &self.routekey)?,
            instance,
            index_names: self.index_names.unwrap_or_default().and(&own),
            limits: Limits::new(self.rate, self.client_rate),
            ways,
            api_secrets,
            id_tokens,
            webhook_callers,
            seal_keys: keys.context("--seal-key (JOBLOGS_SEAL_KEY)")?,
            seal_seconds: i64::from(self.seal_hours) * 3600,
            kibana,
            elasticsearch: self.elasticsearch.settings()?,
        })
    }
}

/// The secrets of a flag, or none where it is not given.
fn secrets_of(
    flag: &str,
    value: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<(Secrets, SigningKeys)> {
    let text = service::secret::read(flag, value.map(String::as_str), file.map(PathBuf::as_path))?;
    let parsed = text.as_ref().map(secrets::parse).transpose();
    Ok(parsed.with_context(|| flag.to_owned())?.unwrap_or_default())
}

impl ElasticsearchFlags {
    /// Whom the health check asks, if anybody. All flags are checked, even where there is no host.
    fn settings(&self) -> Result<Option<Elasticsearch>> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(self.authorities()?)
            .tls_danger_accept_invalid_certs(!self.es_verify_ssl)
            .build()
            .context("--es-ca (JOBLOGS_ES_CA) can't be used")?;
        let Some(host) = &self.es_host else {
            return Ok(None);
        };
        let host = host_in_url(host).context("--es-host (JOBLOGS_ES_HOST)")?;
        let scheme = match self.es_url_scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        let url = reqwest::Url::parse(&format!("{scheme}://{host}:{}/", self.es_port))
            .context("--es-host (JOBLOGS_ES_HOST)")?;
        Ok(Some(Elasticsearch {
            url,
            client,
            is_verified: self.es_verify_ssl,
        }))
    }

    /// The certificates in the file of `--es-ca`, at least one if there is a file.
    fn authorities(&self) -> Result<Vec<reqwest::Certificate>> {
        let Some(path) = &self.es_ca else {
            return Ok(Vec::new());
        };
        let pem = std::fs::read(path)
            .with_context(|| format!("the file {} of --es-ca can't be read", path.display()))?;
        reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .with_context(|| {
                let path = path.display();
                format!("the file {path} of --es-ca holds no certificate in PEM")
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
