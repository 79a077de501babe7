//! Templates of other versions stand in the cluster.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{installed, refused, set_up};
use crate::world::World;

pub(crate) async fn an_older_installation_is_upgraded_in_place(world: &World) -> Result<()> {
    world.initmq().await?;
    let elasticsearch = world.elasticsearch();
    for (kind, suffix) in ["", "-jobs", "-rejected"].into_iter().enumerate() {
        let name = &world.name;
        // As it was before there were versions and component templates.
        let body = json!({
            "_meta": {"managed_by": "consumer setup"},
            "index_patterns": [format!("20*-{name}{suffix}")],
            "priority": 501 + 3 * name.len() + kind,
            "template": {"mappings": {"dynamic": false, "properties": {"job_id": {"type": "keyword"}}}},
        });
        let path = format!("_index_template/joblogs-{name}{suffix}");
        elasticsearch.put(&path, &body).await?;
    }
    let [old, marked, new] =
        ["2026-11-23", "2026-11-24", "2026-11-25"].map(|day| format!("{day}-{}-jobs", world.name));
    elasticsearch.put(&old, &json!({})).await?;
    // As version 1 made it, before it knew of failures.
    let mark = json!({"managed_by": "joblogs", "version": 1});
    elasticsearch
        .put(&marked, &json!({"mappings": {"_meta": mark}}))
        .await?;
    let before = elasticsearch.ask(&old, None).await?;

    let said = set_up(world, &[], &[]).await?;
    ensure!(
        said.contains("is without a version: all are brought to version"),
        "{said}"
    );
    elasticsearch.put(&new, &json!({})).await?;
    let made = elasticsearch.ask(&new, None).await?;
    let fields = &made[&new]["mappings"]["properties"];
    ensure!(
        fields["failure"]["properties"]["class"]["type"] == "keyword",
        "{made}"
    );
    ensure!(
        fields["slowest_gap"]["properties"]["gap_ms"]["type"] == "long",
        "{made}"
    );
    let after = elasticsearch.ask(&old, None).await?;
    ensure!(before == after, "{before} became {after}");

    // Jobs go on coming into it, and what is new of them can be searched for.
    let (document, found) = (
        format!("{marked}/_doc/1?refresh=true"),
        format!("{marked}/_search?q=failure.class:code"),
    );
    let job = json!({"job_id": "1", "failure": {"class": "code"}});
    elasticsearch.put(&document, &job).await?;
    let found = elasticsearch.ask(&found, None).await?;
    ensure!(found["hits"]["total"]["value"] == 1, "{found}");
    let mapping = elasticsearch.ask(&marked, None).await?;
    let mapping = &mapping[&marked]["mappings"];
    ensure!(
        mapping["_meta"]["version"] == made[&new]["mappings"]["_meta"]["version"],
        "{mapping}"
    );
    ensure!(mapping["dynamic"] == "false", "{mapping}");
    let again = set_up(world, &[], &[]).await?;
    ensure!(!again.contains("has the fields"), "{again}");
    elasticsearch.delete(&marked).await?; // no job's document
    Ok(())
}

pub(crate) async fn a_newer_version_is_refused_and_nothing_changes(world: &World) -> Result<()> {
    world.set_up().await?;
    let elasticsearch = world.elasticsearch();
    let name = format!("joblogs-{}", world.name);
    for (kind, newer) in [("component", "-facts"), ("index", "-jobs")] {
        // What setup would put back is missing.
        elasticsearch
            .delete(&format!("_index_template/{name}-rejected"))
            .await?;
        let path = format!("_{kind}_template/{name}{newer}");
        let mut template = body(world, kind, &path).await?;
        let version = template["_meta"]["version"].take();
        template["_meta"]["version"] = 77.into();
        elasticsearch.put(&path, &template).await?;
        let before = installed(world).await?;
        let said = refused(world, &[]).await?;
        let sentence = format!(
            "the {kind} template {name}{newer} is of version 77, and this consumer's is {version}:"
        );
        ensure!(said.contains(&sentence), "no {sentence:?} in {said}");
        let after = installed(world).await?;
        ensure!(before == after, "{before} became {after}");

        template["_meta"]["version"] = version;
        elasticsearch.put(&path, &template).await?;
        set_up(world, &[], &[]).await?;
    }
    Ok(())
}

/// A template as it can be put again.
async fn body(world: &World, kind: &str, path: &str) -> Result<Value> {
    let mut answer = world.elasticsearch().ask(path, None).await?;
    let template = answer[format!("{kind}_templates")][0][format!("{kind}_template")].take();
    template
        .is_object()
        .then_some(template)
        .context("there is none")
}
