//! Where Elasticsearch is, as whom we come, and how its indices are named.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args, ValueEnum};
use notice::IndexName;
use service::{admin::Readiness, cli::host_in_url};
use url::Url;

use crate::{
    elasticsearch::{Elasticsearch, Settings},
    indices::{DatePlace, Naming},
    login::{ApiKey, Login},
};

/// Where Elasticsearch is, as whom we come, and how the indices are named.
#[derive(Debug, Clone, Args)]
pub struct ElasticsearchFlags {
    /// Elasticsearch host.
    #[arg(long, env = "JOBLOGS_ES_HOST", global = true)]
    pub es_host: Option<String>,
    /// Elasticsearch port.
    #[arg(long, env = "JOBLOGS_ES_PORT", default_value_t = 9200, global = true)]
    pub es_port: u16,
    /// Elasticsearch user; not needed with --es-api-key.
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
    /// Elasticsearch API key in its encoded form, in place of a user and a password.
    #[arg(
        long,
        env = "JOBLOGS_ES_API_KEY",
        hide_env_values = true,
        global = true
    )]
    pub es_api_key: Option<String>,
    /// File that holds the key of --es-api-key, such as `consumer setup` writes.
    #[arg(long, env = "JOBLOGS_ES_API_KEY_FILE", global = true)]
    pub es_api_key_file: Option<PathBuf>,
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

/// How Elasticsearch is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
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
        let login = self.login()?.context(
            "--es-pass is missing; give it, or the path of a file that holds it (--es-pass-file), or an API key (--es-api-key-file)",
        )?;
        let settings = Settings {
            url,
            login,
            verify: self.es_verify_ssl,
            ca: ca.transpose()?,
        };
        Elasticsearch::new(&settings, readiness)
    }

    /// As whom we come, if that is said.
    pub(crate) fn login(&self) -> Result<Option<Login>> {
        let (key, key_file) = (self.es_api_key.as_deref(), self.es_api_key_file.as_deref());
        let (password, file) = (self.es_pass.as_deref(), self.es_pass_file.as_deref());
        let key = service::secret::read("--es-api-key", key, key_file)?;
        let password = service::secret::read("--es-pass", password, file)?;
        match (key, password) {
            (Some(_), Some(_)) => {
                bail!("--es-api-key and --es-pass are both given; give one of them")
            }
            (Some(key), None) => ApiKey::parse(key)
                .context("--es-api-key (JOBLOGS_ES_API_KEY)")
                .map(|key| Some(Login::ApiKey(key))),
            (None, password) => Ok(password.map(|password| Login::Password {
                user: self.es_user.clone(),
                password,
            })),
        }
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
    use clap::Parser as _;

    use super::*;
    use crate::flags::Cli;

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
    fn who_comes_has_a_password_or_a_key() {
        let login = |words: &[&str]| {
            let words = ["consumer"].iter().chain(words);
            Cli::try_parse_from(words).unwrap().elasticsearch.login()
        };
        assert!(login(&[]).unwrap().is_none());
        let password = login(&["--es-user", "x", "--es-pass", "y"]).unwrap();
        assert!(matches!(password, Some(Login::Password { user, .. }) if user == "x"));
        let key = login(&["--es-api-key", "aWQ6Y2FuYXJ5"]).unwrap();
        assert!(matches!(key, Some(Login::ApiKey(key)) if key.id() == "id"));
        for wrong in [
            &["--es-api-key", "aWQ6Y2FuYXJ5", "--es-pass", "canary"][..],
            &["--es-api-key", "id:canary"],
            &["--es-api-key", ""],
        ] {
            let said = format!("{:#}", login(wrong).unwrap_err());
            assert!(
                said.contains("--es-api-key") && !said.contains("canary"),
                "{said}"
            );
        }
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
