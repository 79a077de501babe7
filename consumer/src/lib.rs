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
mod ingest;
mod job;
mod link;
mod manifest;
mod novel;
mod outcome;
mod parse;
mod patience;
mod places;
mod rate;
mod reading;
mod recording;
mod seen;
mod setup;
mod sink;

use std::time::Duration;

use anyhow::{Result, bail};
use service::admin::Readiness;

pub use consume::Consumer;
pub use flags::{Cli, Command, Config, ElasticsearchFlags, Flags, ParseFlags, SetupFlags};
pub use parse::parse;

use crate::{flags::Admin, setup::Setup};

/// What `setup` needs, checked: before anything is contacted.
pub fn setup_of(
    flags: &SetupFlags,
    elasticsearch: &ElasticsearchFlags,
) -> Result<impl Future<Output = Result<()>>> {
    let client = elasticsearch.client(Readiness::default())?;
    let naming = elasticsearch.naming()?;
    let asked = flags.index_names.clone().unwrap_or_default();
    let setup = Setup {
        index_names: asked.and(&naming.name),
        naming,
        kibana_password: service::secret::read(
            "--kibana-pass",
            flags.kibana_pass.as_deref(),
            flags.kibana_pass_file.as_deref(),
        )?,
        patience: Duration::from_secs(flags.wait_seconds),
    };
    Ok(async move { setup.run(&client).await })
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
