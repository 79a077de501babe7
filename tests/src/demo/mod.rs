//! The demo: sample jobs of a simulated GitLab go all the way, and are then searched for. It sees of Joblogs what a user
//! sees: the listener's address, and Elasticsearch. `compose.demo.yaml` gives it its variables.

mod answers;
mod clock;
mod jobs;
mod plan;
mod searches;
mod table;
mod watch;

use std::env;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::elasticsearch::Elasticsearch;
use crate::gitlab::Gitlab;
use jobs::DemoJob;

pub use plan::{Fate, Planned, all as plan};

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
    let (past, now): (Vec<_>, Vec<_>) = plan().into_iter().partition(|job| job.days_ago > 0);
    let past = ingest_past(&elasticsearch, &index, &listener, &gitlab, past).await?;
    let jobs = jobs::start(&gitlab, now)?;
    println!(
        "{} jobs run in the simulated GitLab; each tells the listener, as its after_script would:",
        jobs.len()
    );
    println!("\n{}\n", jobs::snippet(&listener));
    jobs::notify(&jobs, &listener).await?;
    let found = watch::until_all_searchable(&elasticsearch, &index, &jobs, DEADLINE).await?;
    print!("{}", table::of(&jobs, &found));
    let ids: Vec<String> = jobs.iter().map(DemoJob::id).collect();
    print!(
        "{}",
        searches::all_three(&elasticsearch, &index, &ids).await?
    );
    let all = [past, ids].concat();
    print!("{}", answers::all(&elasticsearch, &index, &all).await?);
    Ok(())
}

/// The jobs of the last days; their ids. What came before is there before the same comes again, as it would have been.
async fn ingest_past(
    elasticsearch: &Elasticsearch,
    index: &str,
    listener: &str,
    gitlab: &Gitlab,
    plan: Vec<Planned>,
) -> Result<Vec<String>> {
    println!("{} jobs of the last days come first", plan.len());
    let jobs = jobs::start(gitlab, plan)?;
    let ids = jobs.iter().map(DemoJob::id).collect();
    let (first, again): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| !job.planned.is_again);
    for jobs in [first, again] {
        jobs::notify(&jobs, listener).await?;
        watch::until_all_searchable(elasticsearch, index, &jobs, DEADLINE).await?;
    }
    Ok(ids)
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
