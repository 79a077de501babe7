//! The consumer: takes a message, waits until GitLab says that the job is over, streams its trace,
//! turns it into lines, indexes them, writes a manifest of the job, and then acknowledges.
//!
//! `ingest` is the straight line of steps; `delivery` alone turns its outcome into effects.

mod attempt;
mod bulk;
mod circuit;
mod consume;
mod context;
mod delivery;
mod demand;
mod document;
mod elasticsearch;
mod filling;
mod flags;
mod gitlab;
mod indices;
mod ingest;
mod job;
mod kibana;
mod link;
mod login;
mod manifest;
mod novel;
mod outcome;
mod parse;
mod patience;
mod places;
mod privilege;
mod rate;
mod reading;
mod recording;
mod retention;
mod seen;
mod setup;
mod sink;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use service::admin::Readiness;

pub use consume::Consumer;
pub use flags::{
    Cli, Command, Config, ElasticsearchFlags, Flags, KibanaFlags, ParseFlags, RetentionFlags,
    SetupFlags,
};
pub use parse::parse;

use crate::{
    flags::Admin,
    kibana::Import,
    login::Login,
    retention::Retention,
    setup::{KeyFile, Setup, User},
};

/// What `setup` needs, checked: before anything is contacted.
pub fn setup_of(
    flags: &SetupFlags,
    elasticsearch: &ElasticsearchFlags,
) -> Result<impl Future<Output = Result<()>>> {
    let client = elasticsearch.client(Readiness::default())?;
    let secret = |flag: &str, value: &Option<String>, file: &Option<PathBuf>| {
        service::secret::read(flag, value.as_deref(), file.as_deref())
    };
    let consumer = secret(
        "--consumer-pass",
        &flags.consumer_pass,
        &flags.consumer_pass_file,
    )?;
    let retention = secret(
        "--retention-pass",
        &flags.retention_pass,
        &flags.retention_pass_file,
    )?;
    let users = [("-consumer", consumer), ("-retention", retention)];
    let keys = [
        (
            "-consumer",
            "--consumer-api-key-file",
            &flags.consumer_api_key_file,
        ),
        (
            "-retention",
            "--retention-api-key-file",
            &flags.retention_api_key_file,
        ),
    ];
    let keys = keys.into_iter().filter_map(|(suffix, flag, path)| {
        let path = path.clone()?;
        Some(KeyFile { suffix, flag, path })
    });
    let keys: Vec<KeyFile> = keys.collect();
    let is_by_key = matches!(elasticsearch.login()?, Some(Login::ApiKey(_)));
    if let (Some(file), true, false) = (keys.first(), is_by_key, flags.upkeep.dry_run) {
        bail!(
            "{} needs a user (--es-user, --es-pass-file): Elasticsearch lets no API key make or change another; --dry-run prints the request, for Kibana's console",
            file.flag
        );
    }
    let setup = Setup {
        names: flags.upkeep.names(elasticsearch)?,
        retain_days: flags.upkeep.retain_days,
        users: users
            .map(|(suffix, password)| User { suffix, password })
            .into(),
        keys,
        kibana_password: secret("--kibana-pass", &flags.kibana_pass, &flags.kibana_pass_file)?,
        patience: Duration::from_secs(flags.upkeep.wait_seconds),
        dry_run: flags.upkeep.dry_run,
    };
    Ok(async move { setup.run(&client).await })
}

/// Prints the roles of `setup` as a file for Elasticsearch.
pub fn print_roles(flags: &SetupFlags, elasticsearch: &ElasticsearchFlags) -> Result<()> {
    let roles = setup::roles_file(&flags.upkeep.names(elasticsearch)?)?;
    print!("{roles}");
    Ok(())
}

/// What `retention` needs, checked: before anything is contacted.
pub fn retention_of(
    flags: &RetentionFlags,
    elasticsearch: &ElasticsearchFlags,
) -> Result<impl Future<Output = Result<()>>> {
    let client = elasticsearch.client(Readiness::default())?;
    let retention = Retention {
        names: flags.upkeep.names(elasticsearch)?,
        retain_days: flags.upkeep.retain_days,
        every: flags.every,
        patience: Duration::from_secs(flags.upkeep.wait_seconds),
        dry_run: flags.upkeep.dry_run,
    };
    Ok(async move {
        tokio::select! {
            ended = retention.run(&client) => ended,
            asked = service::shutdown::requested() => Ok(asked?),
        }
    })
}

/// What `kibana` needs, checked: before anything is contacted.
pub fn kibana_of(
    flags: &KibanaFlags,
    elasticsearch: &ElasticsearchFlags,
) -> Result<impl Future<Output = Result<()>> + use<>> {
    let authorities = service::tls::authorities("--kibana-ca", flags.kibana_ca.as_deref())?;
    let import = Import {
        http: reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_merge(authorities)
            .build()?,
        url: service::kibana::base(&flags.kibana_url)
            .context("--kibana-url (JOBLOGS_KIBANA_URL)")?,
        login: elasticsearch.login()?,
        naming: elasticsearch.naming()?,
        is_forced: flags.force,
        patience: Duration::from_secs(flags.wait_seconds),
    };
    Ok(async move { import.run().await })
}

/// Asks the consumer on this host whether it is ready; for a container's healthcheck.
pub async fn healthcheck(admin: &str) -> Result<()> {
    let admin = match flags::admin(Some(admin))? {
        Admin::At(address) | Admin::Default(address) => address,
        Admin::Off => bail!("there is nothing to ask: --admin (JOBLOGS_ADMIN) is off"),
    };
    service::admin::ask(&format!("http://{admin}/health/ready")).await
}

/// The error with its causes, of which the last says what really happened.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
