//! The listener's flags, and what they become once they are checked.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use broker::{BrokerFlags, Settings};
use clap::{
    ArgAction, Args, Parser, Subcommand, ValueEnum,
    builder::{BoolishValueParser, NonEmptyStringValueParser},
    value_parser,
};
use notice::{IndexName, IndexPatterns, SealKeys};
use secrecy::SecretString;
use service::{
    cli::host_in_url,
    gitlabs::{Configured, GitlabFlags},
    logs::LogFlags,
};

use crate::{
    connections::Bounds,
    health::Elasticsearch,
    identity::IdTokens,
    kibana::Kibana,
    limits::Limits,
    origins::{Origin, Origins},
    secrets::{self, Secrets, SigningKeys},
    tls::{Files, Tls},
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
#[derive(Debug, Clone, Subcommand)]
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
        /// Address that the listener listens on.
        #[arg(long, env = "JOBLOGS_BIND", default_value = "0.0.0.0")]
        bind: IpAddr,
        /// The listener's certificate, where it speaks TLS.
        #[arg(long, env = "JOBLOGS_TLS_CERT")]
        tls_cert: Option<PathBuf>,
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
    /// PEM file of the listener's certificate and those between it and its authority: with it TLS is spoken, and
    /// HTTP/2. It is read again when it changes.
    #[arg(long, env = "JOBLOGS_TLS_CERT", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file of that certificate's private key.
    #[arg(long, env = "JOBLOGS_TLS_KEY", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// PEM file of a certificate authority: notices are taken from callers alone who show a certificate of it.
    #[arg(long, env = "JOBLOGS_TLS_CLIENT_CA", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,
    /// Where the broker is.
    #[command(flatten)]
    pub broker: BrokerFlags,
    /// Exchange that notices are published to.
    #[arg(long, env = "JOBLOGS_EXCHANGE", default_value = "gitlab_jobs")]
    pub exchange: String,
    /// Routing key of the notices.
    #[arg(long, env = "JOBLOGS_ROUTEKEY", default_value = "jobs")]
    pub routekey: String,
    /// Which GitLabs notices are about.
    #[command(flatten)]
    pub gitlab: GitlabFlags,
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
    /// File of the keys by which GitLab's ID tokens are known (what its /oauth/discovery/keys answers), for a
    /// listener that can't reach GitLab.
    #[arg(
        long,
        env = "JOBLOGS_GITLAB_KEYS",
        conflicts_with = "instances",
        requires = "id_token_audience"
    )]
    pub gitlab_keys: Option<PathBuf>,
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
    /// Connections at the same time; further ones wait. Each lives for a minute, and may be silent for 10 s of it
    /// (with HTTP/2 for all of it); a request's head has 16 KiB and 100 headers, and its body, of at most 64 KiB
    /// (webhooks: 1 MiB, and 4 MiB where the secret token is right), 5 s.
    #[arg(long, env = "JOBLOGS_CONNECTIONS", default_value_t = 2_000, value_parser = value_parser!(u32).range(1..=100_000))]
    pub connections: u32,
    /// The same of one client; further ones are closed.
    #[arg(long, env = "JOBLOGS_CLIENT_CONNECTIONS", default_value_t = 600, value_parser = value_parser!(u32).range(1..=100_000))]
    pub client_connections: u32,
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
    pub(crate) origins: Origins,
    pub(crate) index_names: IndexPatterns,
    pub(crate) limits: Limits,
    pub(crate) connections: Bounds,
    pub(crate) tls: Option<Tls>,
    /// Whether notices need a client's certificate.
    pub(crate) wants_certificates: bool,
    pub(crate) ways: Ways,
    pub(crate) seal_keys: Option<SealKeys>,
    pub(crate) seal_seconds: i64,
    pub(crate) kibana: Option<Kibana>,
    pub(crate) elasticsearch: Option<Elasticsearch>,
}

impl Flags {
    /// Checks every flag and reads the secrets, before anything is contacted.
    pub fn into_config(self) -> Result<Config> {
        let own = IndexName::parse(&self.es_index).context("--es-index (JOBLOGS_ES_INDEX)")?;
        let kibana = self.kibana.as_deref().map(|url| Kibana::parse(url, &own));
        let kibana = kibana.transpose().context("--kibana (JOBLOGS_KIBANA)")?;
        let (origins, given) = self.origins()?;
        let ways = Ways::open(&self.accept, &given)?;
        if self.accept.is_empty() && ways.let_strangers_in() {
            tracing::warn!(
                ways = ways.names(),
                "url-token and private-token are open too: whoever reaches this listener can fill the queue with made-up tokens; close by --accept what no pipeline uses"
            );
        }
        let files = self.tls_cert.zip(self.tls_key);
        let client_authority = self.tls_client_ca.clone();
        let files = files.map(|(certificate, key)| Files {
            certificate,
            key,
            client_authority,
        });
        let tls = files.map(Tls::read);
        service::secret::only_for_us("--seal-key-file", self.seal_key_file.as_deref())?;
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
            origins,
            index_names: self.index_names.unwrap_or_default().and(&own),
            limits: Limits::new(self.rate, self.client_rate),
            connections: Bounds::new(
                usize::try_from(self.connections)?,
                usize::try_from(self.client_connections)?,
            ),
            wants_certificates: self.tls_client_ca.is_some(),
            tls: tls.transpose()?,
            ways,
            seal_keys: keys.context("--seal-key (JOBLOGS_SEAL_KEY)")?,
            seal_seconds: i64::from(self.seal_hours) * 3600,
            kibana,
            elasticsearch: self.elasticsearch.settings()?,
        })
    }
}

impl Flags {
    /// The GitLabs with their callers, and the ways that have what they need. What a flag gives is for all of them.
    fn origins(&self) -> Result<(Origins, Vec<Way>)> {
        let secrets = Given::read(
            "--api-secret",
            self.api_secret.as_deref(),
            self.api_secret_file.as_deref(),
        )?;
        let hooks = Given::read(
            "--webhook-secret",
            self.webhook_secret.as_deref(),
            self.webhook_secret_file.as_deref(),
        )?;
        let origin = |configured: Configured| {
            let entry = &configured.entry;
            let own = |flag, file: &Option<PathBuf>| {
                let own = Given::read(flag, None, file.as_deref());
                own.with_context(|| configured.shown())
            };
            let api = secrets.and(&own("api-secret", &entry.api_secret_file)?)?;
            ensure!(
                api.1.is_empty(),
                "--api-secret holds a signing token, which is for --webhook-secret"
            );
            let (secrets, keys) = hooks.and(&own("webhook-secret", &entry.webhook_secret_file)?)?;
            ensure!(
                entry.keys_file.is_none() || self.id_token_audience.is_some(),
                "{} has a keys-file, and --id-token-audience is missing",
                configured.shown()
            );
            let keys_file = entry.keys_file.as_ref().or(self.gitlab_keys.as_ref());
            let id_tokens = self.id_token_audience.as_deref().map(|audience| {
                IdTokens::new(&configured, audience, keys_file.map(PathBuf::as_path))
            });
            Ok(Origin {
                api_secrets: api.0,
                id_tokens: id_tokens.transpose()?,
                webhook_callers: Callers { secrets, keys },
                instance: configured.instance,
            })
        };
        let origins = self.gitlab.read()?.into_iter().map(origin);
        let origins = origins.collect::<Result<Vec<Origin>>>()?;
        let any = |has: fn(&Origin) -> bool| origins.iter().any(has);
        let given = [
            (any(|it| !it.api_secrets.is_empty()), Way::ApiSecret),
            (any(|it| it.id_tokens.is_some()), Way::IdToken),
            (any(|it| !it.webhook_callers.are_none()), Way::Webhook),
        ];
        let given = given.into_iter().filter_map(|(is, way)| is.then_some(way));
        let given = given.collect();
        Ok((Origins::new(origins), given))
    }
}

/// The secrets of a flag as they stand there, checked; or none where it is not given.
struct Given(Vec<SecretString>);

impl Given {
    fn read(flag: &str, value: Option<&str>, file: Option<&Path>) -> Result<Self> {
        let text = service::secret::read(flag, value, file)?;
        let given = Self(text.into_iter().collect());
        given
            .and(&Self(Vec::new()))
            .with_context(|| flag.to_owned())?;
        Ok(given)
    }

    /// These and others.
    fn and(&self, others: &Self) -> Result<(Secrets, SigningKeys)> {
        let mut all = (Secrets::default(), SigningKeys::default());
        for text in self.0.iter().chain(&others.0) {
            let (secrets, keys) = secrets::parse(text)?;
            all.0.add(secrets);
            all.1.add(keys);
        }
        Ok(all)
    }
}

impl ElasticsearchFlags {
    /// Whom the health check asks, if anybody. All flags are checked, even where there is no host.
    fn settings(&self) -> Result<Option<Elasticsearch>> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(service::tls::authorities("--es-ca", self.es_ca.as_deref())?)
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
            "JOBLOGS_LISTEN_PORT",
            "JOBLOGS_BIND",
            "JOBLOGS_PASS",
            "JOBLOGS_PORT",
            "JOBLOGS_VHOST",
            "JOBLOGS_RMQ_TLS",
            "JOBLOGS_RMQ_CA",
            "JOBLOGS_EXCHANGE",
            "JOBLOGS_ROUTEKEY",
            "JOBLOGS_SEAL_KEY",
            "JOBLOGS_ES_VERIFY_SSL",
            "JOBLOGS_ES_CA",
        ];
        assert_eq!(missing, own);
    }

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
