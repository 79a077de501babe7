//! The program behind `make demo`, without its containers.

use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Result, ensure};
use e2e::samples;

use crate::world::World;

/// Its own deadline is 80 s.
const ENDS: Duration = Duration::from_secs(100);

pub(crate) async fn the_demo_shows_every_job_complete_and_three_searches(
    world: &World,
) -> Result<()> {
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
    let said = demo.output();
    ensure!(status.success(), "{status}");
    let mut total = 0;
    for sample in samples::all() {
        let lines = sample.expected()?.len();
        world.has_left(lines as u64);
        total += lines;
        let row = said
            .lines()
            .find(|row| row.starts_with(&format!("{} ", sample.name)));
        let words: Vec<&str> = row.unwrap_or_default().split_whitespace().collect();
        let lines = lines.to_string();
        let is_right = words.get(2..5) == Some(&[&lines, &lines, "yes"]);
        ensure!(is_right, "the row of {}: {row:?}", sample.name);
    }
    ensure!(
        said.contains(&format!("{total}  ")),
        "no sum of {total} in {said}"
    );
    for search in [
        "Errors across all jobs",
        "One word across all jobs",
        "One job in order",
    ] {
        let hits = said
            .split(search)
            .nth(1)
            .and_then(|rest| rest.lines().nth(1));
        ensure!(
            hits.is_some_and(|line| line.starts_with("  ")),
            "{search}: {said}"
        );
    }
    Ok(())
}
