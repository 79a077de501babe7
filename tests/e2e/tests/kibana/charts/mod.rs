//! Each chart, and the numbers that it has to show.

mod failures;
mod time;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::kibana::{Chart, Object, Row};

use super::ask;
use super::documents::Documents;
use crate::world::World;

pub(super) use time::check_vega;

/// What Elasticsearch estimates is near enough.
const NEAR: f64 = 0.001;

/// By the keys of a bar, a point or a row.
type Numbers = BTreeMap<Vec<String>, f64>;
type Counts = BTreeMap<Vec<String>, u32>;

/// What people see of a chart.
struct Shown {
    labels: Vec<String>,
    rows: Vec<Row>,
}

impl Shown {
    /// The numbers of a measure.
    fn column(&self, label: &str) -> Result<Numbers> {
        let position = self.labels.iter().position(|it| *it == label);
        let position = position.with_context(|| format!("no measure {label}"))?;
        let number = |row: &Row| row.values[position].as_f64().unwrap_or(f64::NAN);
        let rows = self.rows.iter();
        Ok(rows.map(|row| (row.keys.clone(), number(row))).collect())
    }

    /// A measure counts exactly these.
    fn counts(&self, label: &str, right: &Counts) -> Result<()> {
        let there = self.column(label)?;
        let right: Numbers = floats(right);
        ensure!(there == right, "{label}: {there:?}, not {right:?}");
        Ok(())
    }

    /// A measure counts these, and none in the rows that are not named.
    fn counts_some(&self, label: &str, right: &Counts) -> Result<()> {
        let mut all: Counts = self.rows.iter().map(|row| (row.keys.clone(), 0)).collect();
        all.extend(right.clone());
        self.counts(label, &all)
    }

    fn sum(&self, label: &str) -> Result<f64> {
        Ok(self.column(label)?.values().sum())
    }
}

/// Asks a chart of Lens.
pub(super) async fn check(world: &World, object: &Object, documents: &Documents) -> Result<()> {
    let chart = Chart::of(object)?;
    let answer = ask(world, object, object.view()?, chart.search()?).await?;
    let shown = Shown {
        labels: chart.labels().into_iter().map(str::to_owned).collect(),
        rows: chart.rows(&answer)?,
    };
    ensure!(!shown.rows.is_empty(), "it shows nothing");
    match object.id.as_str() {
        "joblogs-failures-over-time" => failures::over_time(&shown, documents),
        "joblogs-signatures" => failures::signatures(&shown, documents),
        "joblogs-failures-by-project" => failures::by_project(&shown, documents),
        "joblogs-failures-by-runner" => failures::by_runner(&shown, documents),
        "joblogs-durations" => time::durations(&shown, documents),
        "joblogs-volume" => time::volume(&shown, documents),
        "joblogs-delay" => time::delay(&shown, documents),
        "joblogs-completeness" => time::completeness(&shown, documents),
        other => bail!("nobody knows what {other} has to show"),
    }
}

fn keys<const N: usize>(keys: [&str; N]) -> Vec<String> {
    keys.map(str::to_owned).to_vec()
}

fn floats(counts: &Counts) -> Numbers {
    let floats = counts.iter();
    floats
        .map(|(key, count)| (key.clone(), f64::from(*count)))
        .collect()
}

fn near(there: f64, right: f64) -> Result<()> {
    let distance = (there - right).abs();
    ensure!(
        distance <= NEAR * right.abs().max(1.0),
        "{there}, not {right}"
    );
    Ok(())
}

fn near_count(there: f64, right: usize) -> Result<()> {
    near(there, f64::from(u32::try_from(right)?))
}
