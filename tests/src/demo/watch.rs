//! Waiting until Elasticsearch finds all lines of all jobs, and noting for each when that was.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::jobs::DemoJob;
use crate::elasticsearch::Elasticsearch;
use crate::eventually::every;

/// Often enough for a person; the seconds in the table are no finer than this.
const PAUSE: Duration = Duration::from_millis(500);

/// What a search shows of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) lines: u64,
    /// The manifest's `complete`, once there is a manifest.
    pub(super) complete: Option<bool>,
    state: String,
    /// From the job's end until a search first returned all its lines.
    pub(super) seconds: Option<f64>,
}

/// Asks again and again until all is there; the error names a job that is not.
pub(super) async fn until_all_searchable(
    elasticsearch: &Elasticsearch,
    index: &str,
    jobs: &[DemoJob],
    deadline: Duration,
) -> Result<Vec<Found>> {
    let mut seconds: Vec<Option<f64>> = vec![None; jobs.len()];
    every(
        PAUSE,
        "all lines of all jobs can be found",
        deadline,
        async || {
            let mut found = ask(elasticsearch, index, jobs).await?;
            let now = Timestamp::now();
            for (job, (found, since)) in jobs.iter().zip(found.iter_mut().zip(&mut seconds)) {
                if found.lines == job.lines {
                    let end = job
                        .job
                        .finished_at()
                        .context("lines of a job that still runs")?;
                    found.seconds =
                        Some(*since.get_or_insert((now - end).total(jiff::Unit::Second)?));
                }
            }
            missing(jobs, &found)?;
            Ok(found)
        },
    )
    .await
}

/// One query for all jobs: the manifests as hits, the lines as counts.
async fn ask(elasticsearch: &Elasticsearch, index: &str, jobs: &[DemoJob]) -> Result<Vec<Found>> {
    let ids: Vec<String> = jobs.iter().map(DemoJob::id).collect();
    let body = json!({
        "query": {"terms": {"job_id": ids}},
        "size": ids.len(),
        "post_filter": {"exists": {"field": "state"}},
        "_source": ["job_id", "state", "complete"],
        "aggs": {"lines": {
            "filter": {"exists": {"field": "line"}},
            "aggs": {"jobs": {"terms": {"field": "job_id", "size": ids.len()}}},
        }},
    });
    let answer = elasticsearch
        .search(&format!("*-{index},*-{index}-jobs"), &body)
        .await?;
    let mut found: HashMap<&str, Found> = HashMap::new();
    for bucket in list(&answer["aggregations"]["lines"]["jobs"]["buckets"]) {
        let id = bucket["key"].as_str().unwrap_or_default();
        found.entry(id).or_default().lines = bucket["doc_count"].as_u64().unwrap_or_default();
    }
    for hit in list(&answer["hits"]["hits"]) {
        let manifest = &hit["_source"];
        let found = found
            .entry(manifest["job_id"].as_str().unwrap_or_default())
            .or_default();
        found.complete = manifest["complete"].as_bool();
        manifest["state"]
            .as_str()
            .unwrap_or_default()
            .clone_into(&mut found.state);
    }
    Ok(ids
        .iter()
        .map(|id| found.remove(id.as_str()).unwrap_or_default())
        .collect())
}

/// One sentence about the first job that is not complete.
fn missing(jobs: &[DemoJob], found: &[Found]) -> Result<()> {
    let is_whole = |(job, found): &(&DemoJob, &Found)| {
        found.lines == job.lines && found.complete == Some(job.is_whole())
    };
    let all = || jobs.iter().zip(found);
    let Some((job, found)) = all().find(|pair| !is_whole(pair)) else {
        return Ok(());
    };
    let others = all().filter(|pair| !is_whole(pair)).count() - 1;
    let manifest = match found.state.as_str() {
        "" => "it has no manifest",
        state => &format!("its manifest says {state}"),
    };
    bail!(
        "job {} has {} of {} lines and {manifest}; so it is with {others} more",
        job.name(),
        found.lines,
        job.lines
    )
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
