//! The demo: sample jobs of a simulated GitLab go all the way, and are then searched for. It sees of Joblogs what a user
//! sees: the listener's address, and Elasticsearch. `compose.demo.yaml` gives it its variables.

mod jobs;
mod searches;
mod table;
mod watch;

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::elasticsearch::Elasticsearch;
use crate::gitlab::{Gitlab, Scope};
use jobs::DemoJob;

/// Where the other containers reach this one: listener and consumer are started with this GitLab.
const GITLAB: &str = "http://gitlab:8000/";
const BIND: &str = "0.0.0.0:8000";
/// From the last notice until everything is searchable: a job that still ran is looked at again after 10 s.
const DEADLINE: Duration = Duration::from_secs(80);

/// Runs the jobs, waits for their lines, and prints what became of them.
pub async fn run() -> Result<()> {
    let listener = variable("JOBLOGS_LISTENER")?;
    let index = variable("JOBLOGS_ES_INDEX")?;
    let elasticsearch = elasticsearch()?;
    // The test of the demo has no network of containers.
    let gitlab = Gitlab::start_on(&env::var("JOBLOGS_DEMO_BIND").unwrap_or(BIND.into())).await?;
    gitlab.set_external_url(&env::var("JOBLOGS_DEMO_GITLAB").unwrap_or(GITLAB.into()));
    let project = gitlab.project("acme/demo");
    let token = gitlab.token(Scope::ReadApi, &[&project]);

    let jobs = jobs::start(&gitlab, &project)?;
    println!(
        "{} jobs run in the simulated GitLab; each tells the listener, as its after_script would:",
        jobs.len()
    );
    println!("\n{}\n", jobs::snippet(&listener));
    jobs::notify(&jobs, &listener, &token).await?;
    let ids: Vec<String> = jobs.iter().map(DemoJob::id).collect();
    let found = watch::until_all_searchable(&elasticsearch, &index, &jobs, DEADLINE).await?;
    print!("{}", table::of(&jobs, &found));
    print!(
        "{}",
        searches::all_three(&elasticsearch, &index, &ids).await?
    );
    Ok(())
}

fn elasticsearch() -> Result<Elasticsearch> {
    let url = format!(
        "http://{}:{}",
        variable("JOBLOGS_ES_HOST")?,
        variable("JOBLOGS_ES_PORT")?
    );
    let password = match env::var("JOBLOGS_ES_PASS_FILE") {
        Ok(path) => std::fs::read_to_string(&path)
            .with_context(|| format!("the file {path} of JOBLOGS_ES_PASS_FILE"))?,
        Err(_) => variable("JOBLOGS_ES_PASS")?,
    };
    Ok(Elasticsearch::new(
        &url,
        &variable("JOBLOGS_ES_USER")?,
        password.trim_end(),
    ))
}

fn variable(name: &str) -> Result<String> {
    env::var(name).with_context(|| format!("the variable {name} is missing; `make demo` sets it"))
}
