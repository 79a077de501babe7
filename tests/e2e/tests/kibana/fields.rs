//! What DESIGN.md puts on every line is there on every line of the demo, and is found by its own name and by its aliases.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::documents::{Documents, value};
use crate::world::World;

/// Fields that no line is without.
const ALWAYS: [&str; 19] = [
    "@timestamp",
    "timestamp_source",
    "message",
    "line",
    "offset",
    "line_url",
    "runner_id",
    "project_id",
    "job_id",
    "job_name",
    "project_name",
    "project_path",
    "url",
    "instance",
    "pipeline_id",
    "ref",
    "sha",
    "status",
    "job_url",
];
/// Fields that some lines have: the others have nothing to say there.
const SOMETIMES: [&str; 7] = [
    "stream",
    "section",
    "level",
    "gap_ms",
    "failure_reason",
    "stage",
    "user",
];

pub(super) async fn check(world: &World, documents: &Documents) -> Result<()> {
    let all = documents.lines.len();
    for name in ALWAYS {
        let with = with(documents, name);
        ensure!(with == all, "{with} of {all} lines have {name}");
    }
    for name in ALWAYS.into_iter().chain(SOMETIMES) {
        let right = with(documents, name) as u64;
        ensure!(right > 0, "no line has {name}");
        for asked in [vec![name.to_owned()], aliases(name)?].concat() {
            let query = json!({"exists": {"field": asked}});
            let lines = world.indices("lines");
            let found = world.elasticsearch().count(&lines, &query).await?;
            ensure!(found == right, "{found} lines have {asked}, not {right}");
        }
    }
    Ok(())
}

fn with(documents: &Documents, name: &str) -> usize {
    let has = |line: &&Value| !value(line, name).is_null();
    documents.lines.iter().filter(has).count()
}

/// The names that lead to a field.
fn aliases(name: &str) -> Result<Vec<String>> {
    let mut aliases = Vec::new();
    for file in [
        include_str!("../../../../consumer/elasticsearch/facts.json"),
        include_str!("../../../../consumer/elasticsearch/lines.json"),
    ] {
        let template: Value = serde_json::from_str(file)?;
        let fields = &template["template"]["mappings"]["properties"];
        let fields = fields.as_object().context("a template without fields")?;
        let leads = fields.iter().filter(|(_, field)| field["path"] == name);
        aliases.extend(leads.map(|(alias, _)| alias.clone()));
    }
    Ok(aliases)
}
