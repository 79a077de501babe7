//! One GitLab: its name in our documents, and where its API is.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Invalid, JobId, ProjectId};

/// The name of a GitLab instance in messages and documents, such as `gitlab.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(String);

impl InstanceName {
    /// Reads 1 to 100 of `a-z`, `0-9`, `.`, `-`, `_`; the name is a part of every `_id`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        if text.is_empty() || text.len() > 100 || !text.bytes().all(is_allowed) {
            return Err(Invalid("must be 1 to 100 of a-z, 0-9, '.', '-' and '_'"));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<String> for InstanceName {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<InstanceName> for String {
    fn from(name: InstanceName) -> Self {
        name.0
    }
}

/// A configured GitLab. The operator names it; a caller never chooses a host.
#[derive(Debug, Clone)]
pub struct Instance {
    name: InstanceName,
    base: Url,
}

impl Instance {
    /// Reads a base URL such as `https://gitlab.example.com/` or `https://example.com/gitlab`.
    /// The instance's name is made of its host, port and path, so that listener and consumer
    /// agree on it when both are given the same URL.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        const RULE: Invalid =
            Invalid("must be an http or https URL with a host and without user, query or fragment");
        let mut base = Url::parse(text).map_err(|_| RULE)?;
        let is_plain = matches!(base.scheme(), "http" | "https")
            && base.username().is_empty()
            && base.password().is_none()
            && base.query().is_none()
            && base.fragment().is_none();
        let Some(host) = base.host_str().filter(|_| is_plain) else {
            return Err(RULE);
        };
        let mut name = host.to_ascii_lowercase().replace(['[', ']', ':'], "_");
        if let Some(port) = base.port() {
            name = format!("{name}-{port}");
        }
        let path = base.path().trim_matches('/').to_ascii_lowercase();
        if !path.is_empty() {
            name = format!("{name}-{}", path.replace('/', "-"));
        }
        let name = InstanceName::parse(&name).map_err(|_| RULE)?;
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self { name, base })
    }

    /// The same GitLab under a name that the operator chose.
    #[must_use]
    pub fn called(self, name: InstanceName) -> Self {
        Self { name, ..self }
    }

    /// The name in messages and documents.
    pub fn name(&self) -> &InstanceName {
        &self.name
    }

    /// Whether GitLab means itself by this URL in a webhook's `X-Gitlab-Instance`: scheme, host and port, without the path
    /// that GitLab may have (`Gitlab.config.gitlab.base_url`).
    pub fn is_on(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| url.origin() == self.base.origin())
    }

    /// Whether GitLab means itself by this issuer of a token.
    pub fn is_at(&self, url: &str) -> bool {
        url.trim_end_matches('/') == self.issuer()
    }

    /// Who GitLab says it is in its ID tokens.
    pub fn issuer(&self) -> String {
        self.base.as_str().trim_end_matches('/').to_owned()
    }

    /// `GET` here answers the keys of GitLab's ID tokens, as a JWK set.
    pub fn keys_url(&self) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}oauth/discovery/keys", self.base.path()));
        url
    }

    /// `GET` here answers GitLab's version, or without a token 401.
    pub fn version_url(&self) -> Url {
        self.api("version")
    }

    /// The path of the project, with its groups, that this page (`web_url`) of the instance is about.
    pub fn project_path(&self, page: &str) -> Option<String> {
        let page = Url::parse(page).ok()?;
        let (path, _) = page.path().split_once("/-/")?;
        let base = self.base.path().trim_end_matches('/');
        let within = path.strip_prefix(base).filter(|it| it.starts_with('/'));
        let path = within.unwrap_or(path).trim_matches('/');
        (!path.is_empty()).then(|| path.to_owned())
    }

    /// `GET` here answers the job's facts as JSON.
    pub fn job_url(&self, project: ProjectId, job: JobId) -> Url {
        self.api(&format!("projects/{project}/jobs/{job}"))
    }

    /// `GET` here answers the job's trace as bytes.
    pub fn trace_url(&self, project: ProjectId, job: JobId) -> Url {
        self.api(&format!("projects/{project}/jobs/{job}/trace"))
    }

    /// Whether an older message's `url` lies within this instance's API.
    fn owns(&self, url: &str) -> bool {
        Url::parse(url).is_ok_and(|url| {
            url.origin() == self.base.origin()
                && url.username().is_empty()
                && url.path().starts_with(self.api("").path())
        })
    }

    fn api(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}api/v4/{path}", self.base.path()));
        url
    }
}

/// The configured GitLabs, each under its name.
#[derive(Debug, Clone)]
pub struct Instances(Vec<Instance>);

impl Instances {
    /// These.
    pub fn new(instances: Vec<Instance>) -> Self {
        Self(instances)
    }

    /// The one of this name.
    pub fn named(&self, name: &InstanceName) -> Option<&Instance> {
        self.0.iter().find(|instance| instance.name() == name)
    }

    /// The one within whose API an older message's `url` lies.
    pub fn owning(&self, url: &str) -> Option<&Instance> {
        self.0.iter().find(|instance| instance.owns(url))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_from_host_port_and_path() {
        for (url, name) in [
            ("https://gitlab.com/", "gitlab.com"),
            ("https://GitLab.Example.com", "gitlab.example.com"),
            ("http://gitlab:8000/", "gitlab-8000"),
            ("https://example.com/git/lab/", "example.com-git-lab"),
            ("http://[::1]:80", "___1_"),
        ] {
            assert_eq!(Instance::parse(url).unwrap().name().as_str(), name, "{url}");
        }
    }

    #[test]
    fn urls_that_could_lead_elsewhere_are_refused() {
        for url in [
            "gitlab.com",
            "ftp://x/",
            "https://user@x/",
            "https://x/?a",
            "https://x/#a",
            "https:///",
        ] {
            assert!(Instance::parse(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_older_url_belongs_to_the_instance_or_not() {
        let instance = Instance::parse("https://example.com/gitlab").unwrap();
        assert!(instance.owns("https://example.com/gitlab/api/v4/projects/1/jobs/2/trace"));
        for url in [
            "https://example.com/api/v4/projects/1/jobs/2/trace",
            "http://example.com/gitlab/api/v4/projects/1/jobs/2/trace",
            "https://evil.example/gitlab/api/v4/projects/1/jobs/2/trace",
            "https://example.com@evil.example/gitlab/api/v4/",
            "not a url",
        ] {
            assert!(!instance.owns(url), "{url}");
        }
    }

    #[test]
    fn a_project_has_the_path_of_its_pages() {
        let path = |base: &str, page: &str| Instance::parse(base).unwrap().project_path(page);
        for (base, page, right) in [
            (
                "https://g/",
                "https://g/acme/tools/demo/-/jobs/1",
                Some("acme/tools/demo"),
            ),
            (
                "https://g/gitlab",
                "https://g/gitlab/acme/demo/-/jobs/1",
                Some("acme/demo"),
            ),
            // Where it is reached by another address than people do.
            (
                "http://internal:8080/",
                "https://g/acme/demo/-/jobs/1",
                Some("acme/demo"),
            ),
            (
                "https://g/gitlab",
                "https://g/gitlab-org/gitlab/-/jobs/1",
                Some("gitlab-org/gitlab"),
            ),
            ("https://g/", "https://g/-/jobs/1", None),
            ("https://g/", "https://g/acme/demo", None),
            ("https://g/", "", None),
        ] {
            assert_eq!(path(base, page).as_deref(), right, "{base} {page}");
        }
    }
}
