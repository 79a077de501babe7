//! The charts of the dashboard of failures.

use anyhow::{Context as _, Result, bail, ensure};
use jiff::Timestamp;

use super::super::documents::{Documents, counts, day, text, time, value};
use super::{Shown, keys, near, near_count};

pub(super) fn over_time(shown: &Shown, documents: &Documents) -> Result<()> {
    let failures = documents.failures();
    let right = failures.map(|it| keys([day(it), text(it, "failure.class")]));
    shown.counts("Failed jobs", &counts(right))?;
    near_count(shown.sum("Failed jobs")?, documents.failed().count())
}

pub(super) fn signatures(shown: &Shown, documents: &Documents) -> Result<()> {
    let pattern = |it| keys([text(it, "failure.pattern")]);
    shown.counts("Failed jobs", &counts(documents.failures().map(pattern)))?;
    let new = documents
        .failures()
        .filter(|it| value(it, "failure.novel") == true);
    shown.counts_some("New", &counts(new.map(pattern)))?;
    // It fails in three projects, in the same way.
    let mut failures = documents.failures();
    let pytest = failures.find(|it| it["job_name"] == "pytest.ts");
    let projects = shown.column("Projects")?[&pattern(pytest.context("no pytest")?)];
    near(projects, 3.0)?;
    newest_lines(shown, documents)
}

/// Each pattern's class, last time and newest line are those of the newest job with it.
fn newest_lines(shown: &Shown, documents: &Documents) -> Result<()> {
    for row in &shown.rows {
        let failures = documents.failures();
        let of_pattern = failures.filter(|it| text(it, "failure.pattern") == row.keys[0]);
        let newest = of_pattern.max_by_key(|it| time(it));
        let newest = newest.context("no failure")?;
        let [.., class, last, line] = &row.values[..] else {
            bail!("{row:?}");
        };
        ensure!(
            class == value(newest, "failure.class"),
            "{row:?}, not {newest}"
        );
        ensure!(
            line == value(newest, "failure.line_url"),
            "{row:?}, not {newest}"
        );
        let since = time(newest).context("no time")?;
        let since = since.duration_since(Timestamp::UNIX_EPOCH);
        let seconds = last.as_f64().unwrap_or(f64::NAN) / 1000.0;
        near(seconds - since.as_secs_f64(), 0.0)?;
    }
    Ok(())
}

pub(super) fn by_project(shown: &Shown, documents: &Documents) -> Result<()> {
    let failures = documents.failures();
    let right = failures.map(|it| keys([text(it, "project_path"), text(it, "failure.class")]));
    shown.counts("Failed jobs", &counts(right))
}

pub(super) fn by_runner(shown: &Shown, documents: &Documents) -> Result<()> {
    let all = documents.plan.iter().map(|it| vec![it.runner.to_string()]);
    shown.counts("Jobs", &counts(all))?;
    let failed = documents.failed().map(|it| vec![it.runner.to_string()]);
    shown.counts_some("Failed", &counts(failed))?;
    let others = documents.failures();
    let others = others.filter(|it| !["code", "test"].contains(&text(it, "failure.class")));
    let others = others.map(|it| keys([text(it, "runner_id")]));
    shown.counts_some("Of them not by code or tests", &counts(others))
}
