//! Each saved search, and what it has to find.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::demo::Planned;
use e2e::elasticsearch::Hit;
use e2e::kibana::Object;
use e2e::samples;
use jiff::Timestamp;
use serde_json::Value;

use super::ask;
use super::documents::{Documents, counts, text, value};
use crate::world::World;

/// A job whose lines somebody looks for.
const JOB: &str = "cargo-build.ts";

/// A saved search that was asked, as it stands.
struct Asked<'a> {
    world: &'a World,
    object: &'a Object,
    documents: &'a Documents,
    found: Found,
}

struct Found {
    total: u64,
    hits: Vec<Hit>,
}

impl Found {
    fn is(&self, total: usize) -> Result<()> {
        ensure!(
            self.total == total as u64,
            "{} hits, not {total}",
            self.total
        );
        Ok(())
    }

    /// The values of a field, and how many hits have each.
    fn has(&self, field: &str, right: &[(&str, u32)]) -> Result<()> {
        let values = self.hits.iter().map(|hit| text(&hit.source, field));
        let there: Vec<_> = counts(values).into_iter().collect();
        ensure!(there == right, "{there:?}, not {right:?}");
        Ok(())
    }
}

/// Asks it, as it is and as people change it.
pub(super) async fn check(world: &World, object: &Object, documents: &Documents) -> Result<()> {
    let found = run(world, object, &object.kql()?).await?;
    ensure!(found.total > 0, "it finds nothing");
    columns_are_there(object, &found)?;
    in_its_order(object, &found)?;
    let asked = Asked {
        world,
        object,
        documents,
        found,
    };
    match object.view()? {
        "joblogs-jobs" => asked.for_jobs().await,
        _ => asked.for_lines().await,
    }
}

impl Asked<'_> {
    /// With a value in place of the star.
    async fn with(&self, value: &str) -> Result<Found> {
        let kql = self.object.kql()?.replace('*', value);
        run(self.world, self.object, &kql).await
    }

    async fn for_lines(&self) -> Result<()> {
        let (documents, found) = (self.documents, &self.found);
        let count = |is_right: &dyn Fn(&Value) -> bool| {
            documents.lines.iter().filter(|it| is_right(it)).count()
        };
        match self.object.id.as_str() {
            "joblogs-one-job" => {
                found.is(documents.lines.len())?;
                let one = self.with(&documents.id_of(JOB)?).await?;
                let hits = one.hits.iter();
                let messages: Vec<_> = hits.map(|it| text(&it.source, "message")).collect();
                ensure!(messages == samples::named(JOB).expected()?, "{messages:?}");
                Ok(())
            }
            "joblogs-errors" => {
                let known = "error[E0308]: mismatched types";
                let mut hits = found.hits.iter();
                let is_there = hits.any(|it| text(&it.source, "message") == known);
                ensure!(is_there, "no {known}");
                found.is(count(&|it| {
                    it["level"] == "error" && it["status"] == "failed"
                }))
            }
            "joblogs-silences" => {
                only_apt_was_silent(found)?;
                found.is(count(&|it| it["gap_ms"].as_i64() >= Some(5_000)))
            }
            "joblogs-rejected-lines" => {
                let rejected: Result<u64> = documents.plan.iter().map(Planned::rejected).sum();
                let rejected = u32::try_from(rejected?)?;
                found.has("job_name", &[("unicode", rejected)])
            }
            other => bail!("nobody knows what {other} has to find"),
        }
    }

    async fn for_jobs(&self) -> Result<()> {
        let (documents, found) = (self.documents, &self.found);
        let count = |is_right: &dyn Fn(&Planned) -> bool| {
            documents.plan.iter().filter(|it| is_right(it)).count()
        };
        match self.object.id.as_str() {
            "joblogs-job" => {
                found.is(documents.plan.len())?;
                let one = self.with(&documents.id_of(JOB)?).await?;
                one.has("job_name", &[(JOB, 1)])
            }
            "joblogs-runner" => {
                found.is(documents.plan.len())?;
                let right = u32::try_from(count(&|it| it.runner == 9))?;
                self.with("9").await?.has("runner_id", &[("9", right)])
            }
            "joblogs-newest-failures" => {
                let mut hits = found.hits.iter();
                let has_line = |it: &Hit| !text(&it.source, "failure.line_url").is_empty();
                ensure!(hits.all(has_line), "a failure without its line");
                found.is(documents.failed().count())
            }
            "joblogs-longest-silences" => {
                only_apt_was_silent(found)?;
                found.is(count(&|it| {
                    let (name, variant) = it.sample.name.split_once('.').unwrap_or_default();
                    name.starts_with("apt-reinstall") && variant.ends_with("ts")
                }))
            }
            "joblogs-not-whole" => found.has("state", &[("forbidden", 1), ("truncated", 3)]),
            "joblogs-dead-letters" => {
                found.is(1)?;
                let reason = text(&found.hits[0].source, "reason");
                ensure!(reason.contains("token refused"), "{reason}");
                Ok(())
            }
            other => bail!("nobody knows what {other} has to find"),
        }
    }
}

async fn run(world: &World, object: &Object, kql: &str) -> Result<Found> {
    let search = object.search(kql)?;
    let mut answer = ask(world, object, object.view()?, search).await?;
    Ok(Found {
        total: answer["hits"]["total"]["value"]
            .as_u64()
            .context("no total")?,
        hits: serde_json::from_value(answer["hits"]["hits"].take())?,
    })
}

/// A column that is empty in every hit tells nobody anything.
fn columns_are_there(object: &Object, found: &Found) -> Result<()> {
    for column in object.attributes["columns"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let column = column.as_str().unwrap_or_default();
        let mut hits = found.hits.iter();
        let is_there = hits.any(|it| !value(&it.source, column).is_null());
        // A message that is given up has no job that GitLab would tell of.
        let may_lack = object.id == "joblogs-dead-letters" && column == "job_url";
        ensure!(is_there || may_lack, "the column {column} is empty");
    }
    Ok(())
}

fn in_its_order(object: &Object, found: &Found) -> Result<()> {
    let (field, direction) = (
        &object.attributes["sort"][0][0],
        &object.attributes["sort"][0][1],
    );
    let field = field.as_str().unwrap_or_default();
    let keys: Vec<_> = found
        .hits
        .iter()
        .map(|it| value(&it.source, field))
        .collect();
    let is_in_order = keys.windows(2).all(|two| {
        let ordering = compare(two[0], two[1]);
        if direction == "asc" {
            ordering.is_le()
        } else {
            ordering.is_ge()
        }
    });
    ensure!(is_in_order, "not {direction} by {field}");
    Ok(())
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    let time = |it: &Value| it.as_str()?.parse::<Timestamp>().ok();
    if let (Some(a), Some(b)) = (time(a), time(b)) {
        return a.cmp(&b);
    }
    match (a.as_i64(), b.as_i64()) {
        (Some(a), Some(b)) => a.cmp(&b),
        _ => a.as_str().cmp(&b.as_str()),
    }
}

/// It waits for a mirror; no other sample is silent for so long.
fn only_apt_was_silent(found: &Found) -> Result<()> {
    let names: BTreeSet<_> = found
        .hits
        .iter()
        .map(|it| text(&it.source, "job_name"))
        .collect();
    let right = BTreeSet::from([
        "apt-reinstall",
        "apt-reinstall.ts",
        "apt-reinstall@18.11.ts",
    ]);
    ensure!(names == right, "{names:?}");
    Ok(())
}
