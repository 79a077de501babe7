//! All documents of the demo, read one by one: what searches and aggregations have to find is counted here.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use e2e::demo::{Fate, Planned, plan};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::World;

/// What there is, and what was planned.
pub(super) struct Documents {
    pub(super) plan: Vec<Planned>,
    pub(super) manifests: Vec<Value>,
    pub(super) lines: Vec<Value>,
}

impl Documents {
    /// Reads them; the manifests are those of the planned jobs.
    pub(super) async fn read(world: &World) -> Result<Self> {
        let documents = Self {
            plan: plan(),
            manifests: sources(world, "jobs").await?,
            lines: sources(world, "lines").await?,
        };
        let planned = counts(documents.plan.iter().map(|job| {
            let status = job.sample.facts["status"].as_str().unwrap_or_default();
            let is_known = job.fate != Fate::Forbidden;
            let status = if is_known { status } else { "" };
            [
                job.project_name(),
                job.name(),
                &job.runner.to_string(),
                status,
            ]
            .join(" ")
        }));
        let there = counts(documents.manifests.iter().map(|it| {
            ["project_name", "job_name", "runner_id", "status"]
                .map(|name| text(it, name))
                .join(" ")
        }));
        ensure!(planned == there, "{there:?}, not {planned:?}");
        Ok(documents)
    }

    /// The jobs that failed, as they were planned.
    pub(super) fn failed(&self) -> impl Iterator<Item = &Planned> {
        let known = self.plan.iter().filter(|job| job.fate != Fate::Forbidden);
        known.filter(|job| job.sample.facts["status"] == "failed")
    }

    /// The manifests of jobs that failed.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Value> {
        self.manifests.iter().filter(|it| it["status"] == "failed")
    }

    /// The id of the job of this name that ran now.
    pub(super) fn id_of(&self, name: &str) -> Result<String> {
        let mut manifests = self.manifests.iter();
        let manifest = manifests.find(|it| it["job_name"] == name);
        Ok(text(manifest.context(name.to_owned())?, "job_id").to_owned())
    }
}

async fn sources(world: &World, kind: &str) -> Result<Vec<Value>> {
    let order = json!([{"job_id": "asc"}, {"line": {"order": "asc", "unmapped_type": "long"}}]);
    let indices = world.indices(kind);
    let mut reader = world
        .elasticsearch()
        .read(&indices, json!({"match_all": {}}), order);
    let mut sources = Vec::new();
    while let Some(hit) = reader.next().await? {
        sources.push(hit.source);
    }
    Ok(sources)
}

/// How often each is there.
pub(super) fn counts<T: Ord>(all: impl IntoIterator<Item = T>) -> BTreeMap<T, u32> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    counts
}

/// A field of a document, by its full name; empty where it is not there.
pub(super) fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    value(document, field).as_str().unwrap_or_default()
}

pub(super) fn value<'a>(document: &'a Value, field: &str) -> &'a Value {
    if let Some(value) = document.get(field) {
        return value;
    }
    field.split('.').fold(document, |value, name| &value[name])
}

/// Its time; as text, one with fewer digits of a second may come after a later one.
pub(super) fn time(document: &Value) -> Option<Timestamp> {
    text(document, "@timestamp").parse().ok()
}

/// Its day (UTC), on the time axis.
pub(super) fn day(document: &Value) -> &str {
    text(document, "@timestamp").get(..10).unwrap_or_default()
}
