//! The configured GitLabs: one by flags, or several in a TOML file that listener and consumer share.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use clap::Args;
use notice::{Instance, InstanceName};
use serde::Deserialize;

use crate::tls;

/// Which GitLabs there are.
#[derive(Debug, Clone, Args)]
pub struct GitlabFlags {
    /// Base URL of the GitLab that notices and messages are about.
    #[arg(
        long,
        env = "JOBLOGS_GITLAB",
        default_value = "https://gitlab.com/",
        conflicts_with = "instances"
    )]
    pub gitlab: String,
    /// PEM file of certificate authorities of that GitLab's, beside those that the system knows.
    #[arg(long, env = "JOBLOGS_GITLAB_CA", conflicts_with = "instances")]
    pub gitlab_ca: Option<PathBuf>,
    /// TOML file of several GitLabs, in place of --gitlab; listener and consumer read the same one.
    #[arg(long, env = "JOBLOGS_INSTANCES")]
    pub instances: Option<PathBuf>,
}

/// One GitLab and what the operator says of it.
#[derive(Debug, Clone)]
pub struct Configured {
    /// Its name and address.
    pub instance: Instance,
    /// Certificate authorities of its own.
    pub authorities: Vec<reqwest::Certificate>,
    /// The rest of its entry; with the flags of one GitLab all of it is absent.
    pub entry: Entry,
}

/// The keys of an `[[instance]]`. Paths are relative to the file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Entry {
    /// Base URL.
    url: String,
    /// Name in messages and documents; without it, made of the URL.
    name: Option<String>,
    /// As `--gitlab-ca`.
    ca_file: Option<PathBuf>,
    /// As `--gitlab-token-file` of the consumer.
    pub token_file: Option<PathBuf>,
    /// As `--gitlab-rate` of the consumer.
    pub rate: Option<u32>,
    /// As `--api-secret-file` of the listener.
    pub api_secret_file: Option<PathBuf>,
    /// As `--webhook-secret-file` of the listener.
    pub webhook_secret_file: Option<PathBuf>,
    /// As `--gitlab-keys` of the listener.
    pub keys_file: Option<PathBuf>,
}

const KEYS: [&str; 8] = [
    "url",
    "name",
    "ca-file",
    "token-file",
    "rate",
    "api-secret-file",
    "webhook-secret-file",
    "keys-file",
];
/// The largest rate, as of `--gitlab-rate`.
const LARGEST_RATE: u32 = 1000;

impl GitlabFlags {
    /// The GitLabs, at least one, each with a name and an address of its own. Errors name the flag, and the file
    /// with the entry and the key.
    pub fn read(&self) -> Result<Vec<Configured>> {
        let Some(path) = &self.instances else {
            let instance = Instance::parse(&self.gitlab).context("--gitlab (JOBLOGS_GITLAB)")?;
            return Ok(vec![Configured {
                instance,
                authorities: tls::authorities("--gitlab-ca", self.gitlab_ca.as_deref())?,
                entry: Entry::default(),
            }]);
        };
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the file {shown} of --instances can't be read"))?;
        let folder = path.parent().unwrap_or(Path::new(""));
        read(&text, folder).with_context(|| format!("the file {shown} of --instances"))
    }
}

impl Configured {
    /// For errors about its entry.
    pub fn shown(&self) -> String {
        format!("the instance {} of --instances", self.instance.name())
    }
}

fn read(text: &str, folder: &Path) -> Result<Vec<Configured>> {
    let document: toml::Table = toml::from_str(text).map_err(|error| in_line(text, &error))?;
    if let Some(key) = document.keys().find(|key| *key != "instance") {
        bail!("unknown key {key:?}: each GitLab is a table that begins with [[instance]]");
    }
    let entries = match document.get("instance") {
        Some(toml::Value::Array(entries)) if !entries.is_empty() => entries,
        _ => bail!("there is no GitLab in it: each is a table that begins with [[instance]]"),
    };
    let mut all: Vec<Configured> = Vec::new();
    for (number, entry) in entries.iter().enumerate() {
        let one = configured(entry, folder).with_context(|| format!("instance {}", number + 1))?;
        let is_same = |other: &Configured| {
            other.instance.name() == one.instance.name()
                || other.instance.issuer() == one.instance.issuer()
        };
        ensure!(
            !all.iter().any(is_same),
            "instance {} has the name or the URL of another one",
            number + 1
        );
        all.push(one);
    }
    Ok(all)
}

fn configured(entry: &toml::Value, folder: &Path) -> Result<Configured> {
    let table = entry
        .as_table()
        .context("must be a table that begins with [[instance]]")?;
    for key in table.keys() {
        ensure!(
            KEYS.contains(&key.as_str()),
            "unknown key {key:?}; did you mean {}?",
            nearest(key)
        );
    }
    ensure!(table.contains_key("url"), "the key url is missing");
    // Its message may quote what stands there.
    let mut entry: Entry = entry
        .clone()
        .try_into()
        .map_err(|error: toml::de::Error| anyhow!("{}", error.message()))?;
    for file in [
        &mut entry.ca_file,
        &mut entry.token_file,
        &mut entry.api_secret_file,
        &mut entry.webhook_secret_file,
        &mut entry.keys_file,
    ] {
        *file = file.take().map(|file| folder.join(file));
    }
    ensure!(
        entry.rate.is_none_or(|rate| rate <= LARGEST_RATE),
        "rate must be 0 to {LARGEST_RATE}"
    );
    let mut instance = Instance::parse(&entry.url).context("url")?;
    if let Some(name) = &entry.name {
        instance = instance.called(InstanceName::parse(name).context("name")?);
    }
    Ok(Configured {
        instance,
        authorities: tls::authorities("ca-file", entry.ca_file.as_deref())?,
        entry,
    })
}

fn nearest(key: &str) -> &'static str {
    let distance = |known: &&&str| strsim::damerau_levenshtein(key, known);
    KEYS.iter().min_by_key(distance).copied().unwrap_or("url")
}

/// One sentence, where toml's has several lines.
fn in_line(text: &str, error: &toml::de::Error) -> anyhow::Error {
    let before = error.span().and_then(|span| text.get(..span.start));
    let line = before.map_or(1, |before| before.matches('\n').count() + 1);
    anyhow!("line {line}: {}", error.message().replace('\n', "; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Result<Vec<String>> {
        let all = read(text, Path::new("/etc/joblogs"))?;
        let name = |one: &Configured| one.instance.name().to_string();
        Ok(all.iter().map(name).collect())
    }

    #[test]
    fn each_gitlab_has_a_name_and_its_paths_are_the_files() {
        let text = r#"
            [[instance]]
            url = "https://gitlab.com"

            [[instance]]
            name = "inner"
            url = "https://git.example.com/gitlab/"
            token-file = "token"
            webhook-secret-file = "/run/secrets/hook"
            rate = 5
        "#;
        assert_eq!(names(text).unwrap(), ["gitlab.com", "inner"]);
        let all = read(text, Path::new("/etc/joblogs")).unwrap();
        let inner = &all[1];
        assert_eq!(inner.instance.issuer(), "https://git.example.com/gitlab");
        let path = |path: &Option<PathBuf>| path.as_ref().unwrap().display().to_string();
        assert_eq!(path(&inner.entry.token_file), "/etc/joblogs/token");
        assert_eq!(path(&inner.entry.webhook_secret_file), "/run/secrets/hook");
        assert_eq!(inner.entry.rate, Some(5));
    }

    #[test]
    fn what_is_wrong_is_named_by_entry_and_key() {
        let url = "url = \"https://gitlab.com\"\n";
        for (text, sentence) in [
            ("", "there is no GitLab in it"),
            ("instance = []", "there is no GitLab in it"),
            ("[instance]", "there is no GitLab in it"),
            ("instance = [1]", "instance 1: must be a table"),
            ("[[instances]]", "unknown key \"instances\""),
            ("[[instance]]\nname = \"a\"", "the key url is missing"),
            ("[[instance]]\nurl = 1", "expected a string"),
            (
                "[[instance]]\nurl = \"gitlab.com\"",
                "instance 1: url: must be",
            ),
            (
                &format!("[[instance]]\n{url}tokn-file = \"x\""),
                "unknown key \"tokn-file\"; did you mean token-file?",
            ),
            (
                &format!("[[instance]]\n{url}webhook-secret = \"x\""),
                "did you mean webhook-secret-file?",
            ),
            (
                &format!("[[instance]]\n{url}name = \"A b\""),
                "instance 1: name: must be",
            ),
            (&format!("[[instance]]\n{url}rate = 1001"), "rate must be"),
            (
                &format!("[[instance]]\n{url}rate = -1"),
                "instance 1: invalid value",
            ),
            (
                &format!("[[instance]]\n{url}ca-file = \"gone\""),
                "/etc/joblogs/gone of ca-file can't be read",
            ),
            (
                &format!("[[instance]]\n{url}[[instance]]\n{url}"),
                "instance 2 has the name or the URL",
            ),
            (
                &format!("[[instance]]\n{url}name = \"a\"\n[[instance]]\n{url}name = \"b\""),
                "instance 2 has the name or the URL",
            ),
            ("[[instance]]\nurl = ", "line 2: "),
            (
                "[[instance]]\nurl = \"a\"\nurl = \"b\"",
                "line 3: duplicate key",
            ),
        ] {
            let error = names(text).map(|names| format!("{text}: {names:?}"));
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains(sentence), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
