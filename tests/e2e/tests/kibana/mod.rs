//! What we ship for Kibana, and the questions of the README for those without it, over the demo's jobs. Each query is
//! taken from what people import or read, and its answer is held against what the demo is known to have done.

mod charts;
mod documents;
mod fields;
mod readme;
mod searches;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::kibana::{Chart, FOR_KIBANA, FOR_OPENSEARCH_DASHBOARDS, MISSING, Object, objects};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::demo;
use crate::world::World;
use documents::Documents;

/// What the dashboards are opened with.
const RANGE: [&str; 2] = ["now-7d/d", "now"];

pub(crate) async fn every_saved_search_and_panel_finds_what_the_demo_did(
    world: &World,
) -> Result<()> {
    let documents = after_the_demo(world).await?;
    for object in objects(FOR_KIBANA)? {
        let id = object.id.clone();
        let outcome = match object.kind.as_str() {
            "search" => searches::check(world, &object, &documents).await,
            "lens" => charts::check(world, &object, &documents).await,
            "visualization" => charts::check_vega(world, &object, &documents).await,
            // What they show is all the others.
            "index-pattern" | "dashboard" => Ok(()),
            other => bail!("{id} is of the kind {other}, which nobody tests"),
        };
        outcome.with_context(|| id)?;
    }
    for object in objects(FOR_OPENSEARCH_DASHBOARDS)? {
        if object.kind == "search" {
            let outcome = searches::check(world, &object, &documents).await;
            outcome.with_context(|| format!("{} of OpenSearch Dashboards", object.id))?;
        }
    }
    Ok(())
}

pub(crate) async fn the_readmes_questions_are_answered_without_kibana(world: &World) -> Result<()> {
    let documents = after_the_demo(world).await?;
    fields::check(world, &documents).await?;
    readme::check(world, &documents).await
}

pub(crate) async fn a_failed_job_without_a_class_is_in_the_charts(world: &World) -> Result<()> {
    world.initmq().await?;
    world.set_up().await?;
    // Its log was refused, so nobody knows why it failed.
    let now = Timestamp::now().to_string();
    let manifest = json!({
        "@timestamp": now, "job_id": "1", "status": "failed", "state": "forbidden", "project_path": "acme/demo",
    });
    let index = format!("{}-{}-jobs", &now[..10], world.name);
    let path = format!("{index}/_doc/1?refresh=true");
    world.elasticsearch().put(&path, &manifest).await?;
    for (id, outer) in [
        ("joblogs-failures-over-time", &now[..10]),
        ("joblogs-failures-by-project", "acme/demo"),
    ] {
        let objects = objects(FOR_KIBANA)?;
        let object = objects.iter().find(|it| it.id == id).context(id)?;
        let chart = Chart::of(object)?;
        let answer = ask(world, object, object.view()?, chart.search()?).await?;
        let rows = chart.rows(&answer)?;
        ensure!(
            rows.len() == 1 && rows[0].keys == [outer, MISSING] && rows[0].values == [1],
            "{id}: {rows:?}"
        );
    }
    world.elasticsearch().delete(&index).await // no job's document
}

async fn after_the_demo(world: &World) -> Result<Documents> {
    demo::show(world).await?;
    world.refresh().await?;
    Documents::read(world).await
}

/// Asks what an object stands for, in the time that a dashboard shows.
async fn ask(world: &World, object: &Object, view: &str, mut search: Value) -> Result<Value> {
    let kind = match view {
        "joblogs-lines" => "lines",
        "joblogs-jobs" => "jobs",
        "joblogs-rejected" => "rejected",
        other => bail!("{other} is no data view"),
    };
    let views = objects(FOR_KIBANA)?;
    let view = views.iter().find(|it| it.id == view);
    let time = view.and_then(|it| it.attributes["timeFieldName"].as_str());
    if let Some(time) = time {
        let [from, to] = RANGE;
        let range = json!({"range": {time: {"gte": from, "lte": to}}});
        let query = search["query"].take();
        search["query"] = json!({"bool": {"filter": [query, range]}});
    }
    let indices = world.indices(kind);
    let answer = world.elasticsearch().search(&indices, &search);
    answer.await.with_context(|| object.title().to_owned())
}
