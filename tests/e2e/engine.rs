//! The search engine that a run is on: Elasticsearch, or OpenSearch in its place. Everywhere else «Elasticsearch» is
//! the one that it is; what the two say in words of their own stands here.

use std::env;

use anyhow::{Result, bail};

/// `make e2e ENGINE=…` sets it.
const ENGINE: &str = "JOBLOGS_E2E_ENGINE";
const HEAP: &str = "-Xms512m -Xmx512m";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Elasticsearch,
    OpenSearch,
}

/// What a test needs of the engine beyond what both have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Users with passwords and roles.
    Security,
}

impl Engine {
    /// As the variable says; Elasticsearch without it.
    pub(crate) fn of_this_run() -> Result<Self> {
        match env::var(ENGINE).unwrap_or_default().as_str() {
            "" | "elasticsearch" => Ok(Self::Elasticsearch),
            "opensearch" => Ok(Self::OpenSearch),
            other => bail!("{ENGINE} is elasticsearch or opensearch, and not {other}"),
        }
    }

    /// Why a test of this need is left out.
    pub(crate) fn lacks(self, need: Need) -> Option<&'static str> {
        match (self, need) {
            (Self::Elasticsearch, _) => None,
            // Packages have it without its plugins, and the official image is started without this one to be the same.
            (Self::OpenSearch, Need::Security) => Some("not on OpenSearch: it runs without users"),
        }
    }

    /// The variable that names its image, and the official one.
    pub(crate) fn image(self) -> (&'static str, &'static str) {
        match self {
            Self::Elasticsearch => (
                "ELASTICSEARCH_IMAGE",
                "docker.elastic.co/elasticsearch/elasticsearch:9.5.6",
            ),
            Self::OpenSearch => ("OPENSEARCH_IMAGE", "opensearchproject/opensearch:3.8.0"),
        }
    }

    /// What its container is told beside the settings that both have.
    pub(crate) fn variables(self, password: &str) -> Vec<(&'static str, String)> {
        match self {
            Self::Elasticsearch => vec![
                ("xpack.security.enabled", "true".into()),
                ("xpack.security.http.ssl.enabled", "false".into()),
                ("ELASTIC_PASSWORD", password.into()),
                ("ES_JAVA_OPTS", HEAP.into()),
            ],
            Self::OpenSearch => vec![
                ("DISABLE_SECURITY_PLUGIN", "true".into()),
                ("DISABLE_INSTALL_DEMO_CONFIG", "true".into()),
                ("OPENSEARCH_JAVA_OPTS", HEAP.into()),
            ],
        }
    }

    /// The type of its error about a document that the mapping does not take.
    pub(crate) fn unreadable(self) -> &'static str {
        match self {
            Self::Elasticsearch => "document_parsing_exception",
            Self::OpenSearch => "mapper_parsing_exception",
        }
    }

    /// The type of its error about what is too much at the moment.
    pub(crate) fn overloaded(self) -> &'static str {
        match self {
            Self::Elasticsearch => "es_rejected_execution_exception",
            Self::OpenSearch => "rejected_execution_exception",
        }
    }
}
