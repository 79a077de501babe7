//! The charts of the dashboard of time and volume.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use e2e::kibana::Object;
use serde_json::{Value, json};

use super::super::ask;
use e2e::demo::Fate;

use super::super::documents::{Documents, counts, day, text};
use super::{Counts, NEAR, Shown, keys, near, near_count};
use crate::world::World;

/// How many names the table has at most.
const NAMES: usize = 25;
const DAY: f64 = 86_400.0;

pub(super) fn durations(shown: &Shown, documents: &Documents) -> Result<()> {
    let all = counts(documents.plan.iter().map(|it| keys([it.name()])));
    let [jobs, longest] = [shown.column("Jobs")?, shown.column("Longest")?];
    let [median, most] = [shown.column("Median")?, shown.column("95th percentile")?];
    for row in &shown.rows {
        let name = &row.keys;
        near(jobs[name], f64::from(all[name]))?;
        near(longest[name], longest_of(documents, &name[0]))?;
        let is_ordered = 0.0 < median[name] && median[name] <= most[name] + NEAR;
        ensure!(is_ordered, "{row:?}");
    }
    let first = &shown.rows[0];
    ensure!(first.keys[0].starts_with("apt-reinstall"), "{first:?}");
    ensure!(shown.rows.len() == NAMES, "{} names", shown.rows.len());
    Ok(())
}

fn longest_of(documents: &Documents, name: &str) -> f64 {
    let manifests = documents.manifests.iter();
    let durations = manifests.filter(|it| it["job_name"] == name);
    durations
        .filter_map(|it| it["duration"].as_f64())
        .fold(0.0, f64::max)
}

pub(super) fn volume(shown: &Shown, documents: &Documents) -> Result<()> {
    let [mut bytes, mut lines, mut jobs] = [Counts::new(), Counts::new(), Counts::new()];
    // Of a job that GitLab told nothing about the project is not known.
    let known = documents.plan.iter();
    for job in known.filter(|it| it.fate != Fate::Forbidden) {
        let project = || keys([job.project]);
        let count = u32::try_from(job.lines()? + job.rejected()?)?;
        let size = if count > 0 { job.sample.trace.len() } else { 0 };
        *bytes.entry(project()).or_default() += u32::try_from(size)?;
        *lines.entry(project()).or_default() += count;
        *jobs.entry(project()).or_default() += 1;
    }
    // A log without a line has bytes all the same; none of the samples is such a one.
    shown.counts("Bytes", &bytes)?;
    shown.counts("Lines", &lines)?;
    shown.counts("Jobs", &jobs)
}

pub(super) fn delay(shown: &Shown, documents: &Documents) -> Result<()> {
    let manifests = documents.manifests.iter();
    let known = manifests.filter(|it| it["delay_seconds"].is_number());
    let days = counts(known.map(|it| keys([day(it)])));
    let median = shown.column("Median")?;
    ensure!(median.keys().eq(days.keys()), "{median:?}");
    let today = *median.values().next_back().context("no day")?;
    let first = *median.values().next().context("no day")?;
    ensure!(today < 60.0 && first > 4.0 * DAY, "{median:?}");
    Ok(())
}

pub(super) fn completeness(shown: &Shown, documents: &Documents) -> Result<()> {
    let manifests = documents.manifests.iter();
    let right = manifests.map(|it| keys([day(it), text(it, "state")]));
    shown.counts("Jobs", &counts(right))?;
    near_count(shown.sum("Jobs")?, documents.plan.len())
}

/// What there is of a section's name: all seconds, the most at once, how often.
type Spent = [f64; 3];

/// Asks the chart of Vega, with what Kibana puts in for the dashboard's context.
pub(in super::super) async fn check_vega(
    world: &World,
    object: &Object,
    documents: &Documents,
) -> Result<()> {
    let spec = object.vega()?;
    let url = &spec["data"]["url"];
    let is_of_dashboard = url["%context%"] == true && url["%timefield%"] == "@timestamp";
    ensure!(
        is_of_dashboard && url["index"] == "20*-joblogs-jobs",
        "{url}"
    );
    let mut search = url["body"].clone();
    let has_query = search.get("query").is_some();
    ensure!(!has_query, "Kibana takes no query beside the context");
    search["query"] = json!({"match_all": {}});
    let answer = ask(world, object, "joblogs-jobs", search).await?;
    let property = spec["data"]["format"]["property"].as_str();
    let property = format!("/{}", property.unwrap_or_default().replace('.', "/"));
    let buckets = answer.pointer(&property).and_then(Value::as_array);
    let buckets = buckets.context("no buckets")?;
    let right = sections(documents);
    ensure!(buckets[0]["key"] == "step_script", "{buckets:?}");
    for bucket in buckets {
        let [all, longest, times] = right[text(bucket, "key")];
        let number = |value: &Value| value.as_f64().unwrap_or_default();
        near(number(&bucket["seconds"]["value"]), all)?;
        near(number(&bucket["longest"]["value"]), longest)?;
        near(number(&bucket["doc_count"]), times)?;
    }
    ensure!(
        right["inner"][0] >= 2.0,
        "no section of a user's own: {right:?}"
    );
    Ok(())
}

fn sections(documents: &Documents) -> BTreeMap<&str, Spent> {
    let mut spent = BTreeMap::<&str, Spent>::new();
    let manifests = documents.manifests.iter();
    let sections = manifests.filter_map(|it| it["sections"].as_array());
    for section in sections.flatten() {
        let [all, longest, times] = spent.entry(text(section, "name")).or_default();
        let seconds = section["seconds"].as_f64().unwrap_or_default();
        *all += seconds;
        *longest = longest.max(seconds);
        *times += 1.0;
    }
    spent
}
