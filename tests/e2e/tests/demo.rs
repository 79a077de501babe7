//! The program behind `make demo`, without its containers.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::demo::{Fate, Planned, plan};

use crate::world::World;

/// Its own deadlines are 80 s for each of three waves, of which none takes long when all is well.
const ENDS: Duration = Duration::from_secs(100);

/// Runs the demo in this world; what it said. Its jobs are those of `plan`.
pub(crate) async fn show(world: &World) -> Result<String> {
    world.set_up().await?;
    let bind = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let gitlab = format!("http://{bind}/");
    let listener = world
        .listener_by(world.servers.rabbitmq.port, &gitlab)
        .await?;
    world.consumer_with(&gitlab, &[]).await?;
    let servers = &world.servers;
    let variables = [
        (
            "JOBLOGS_LISTENER",
            listener.url.trim_end_matches('/').to_owned(),
        ),
        ("JOBLOGS_ES_HOST", "127.0.0.1".to_owned()),
        ("JOBLOGS_ES_PORT", servers.elasticsearch_port.to_string()),
        ("JOBLOGS_ES_USER", "elastic".to_owned()),
        ("JOBLOGS_ES_PASS", servers.elasticsearch_password.clone()),
        ("JOBLOGS_ES_INDEX", world.name.clone()),
        ("JOBLOGS_DEMO_BIND", bind),
        ("JOBLOGS_DEMO_GITLAB", gitlab),
    ];
    let demo = world.start("demo", &[], &variables)?;
    let status = demo.end(ENDS).await?;
    ensure!(status.success(), "{status}");
    for job in plan() {
        world.has_left(job.lines()?);
        world.has_left_rejected(job.rejected()?);
        if job.fate == Fate::Forbidden {
            world.expect_dead_letters(1);
        }
    }
    Ok(demo.output())
}

pub(crate) async fn the_demo_shows_every_job_complete_and_what_people_ask(
    world: &World,
) -> Result<()> {
    let said = show(world).await?;
    let mut total = 0;
    for job in plan().iter().filter(|job| job.days_ago == 0) {
        total += job.lines()?;
        has_row(&said, job)?;
    }
    ensure!(
        said.contains(&format!("{total}  ")),
        "no sum of {total} in {said}"
    );
    for title in [
        "Errors across all jobs",
        "One word across all jobs",
        "One job in order",
        "Why jobs failed",
        "The same failure again",
        "Where the time went",
    ] {
        let rows = said.split(title).nth(1);
        let first = rows.and_then(|rest| rest.lines().nth(1));
        ensure!(
            first.is_some_and(|line| line.starts_with("  ")),
            "{title}: {said}"
        );
    }
    let states = said.split("Is it all here?").nth(1).context("no states")?;
    ensure!(
        states.contains("3 truncated, 1 forbidden"),
        "not all is whole: {states}"
    );
    Ok(())
}

fn has_row(said: &str, job: &Planned) -> Result<()> {
    let name = job.name();
    let row = said
        .lines()
        .find(|row| row.starts_with(&format!("{name} ")));
    let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
    let lines = job.lines()?.to_string();
    let is_right = words.get(2..5) == Some(&[&lines, &lines, "yes"]);
    ensure!(is_right, "the row of {name}: {row:?}");
    Ok(())
}
