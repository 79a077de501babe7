//! Metrics: counted with the `metrics` macros anywhere, rendered for Prometheus here.

use std::time::Duration;

use anyhow::{Context, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of histograms that are named `…_seconds`.
const SECONDS: [f64; 12] = [
    0.005, 0.02, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
];

/// Renders what was counted.
pub type Metrics = PrometheusHandle;

/// How often samples are put into their histograms. Nobody may ever ask for the metrics, and then they would pile up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Starts counting, once in a process; what was counted before is lost. Has to be called within a runtime.
pub fn start() -> Result<Metrics> {
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .and_then(PrometheusBuilder::install_recorder)
        .context("metrics can't be started")?;
    let kept = metrics.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            kept.run_upkeep();
        }
    });
    Ok(metrics)
}
