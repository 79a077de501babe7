//! What we ship for Kibana, and the questions of the README for those without it, over the demo's jobs. Each query is
//! taken from what people import or read, and its answer is held against what the demo is known to have done.

mod charts;
mod documents;
mod fields;
mod readme;
mod searches;

use anyhow::{Context as _, Result, bail};
use e2e::kibana::{FOR_KIBANA, FOR_OPENSEARCH_DASHBOARDS, Object, objects};
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
