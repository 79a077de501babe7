//! What every program does alike: flags that fail with one sentence, secrets from files,
//! which GitLabs there are, logs, the process's TLS provider, shutdown, and a small server for health and metrics.

pub mod admin;
pub mod cli;
pub mod gitlabs;
pub mod kibana;
pub mod logs;
pub mod metrics;
pub mod secret;
pub mod shutdown;
pub mod tls;

/// Makes aws-lc the TLS provider of this process; the first thing in every `main`.
///
/// Both of rustls's providers are compiled in (one by way of the Elasticsearch client), and
/// rustls panics at the first connection when it has to choose.
pub fn install_tls_provider() {
    // An error means that one is installed already, which is all that is wanted.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
