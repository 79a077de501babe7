//! Failures and longest silences in manifests, where the consumer does not write them: without them half of what we ship
//! for Kibana would have nothing to show. Where it does, nothing is done here.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::{Value, json};

use super::documents::text;
use crate::world::World;

const KEYWORD: &str = "keyword";

/// Writes them.
pub(super) async fn write_failures(world: &World) -> Result<()> {
    let elasticsearch = world.elasticsearch();
    let all = json!({"match_all": {}});
    let indices = world.indices("jobs");
    let mut reader = elasticsearch.read(&indices, all, json!([{"@timestamp": "asc"}]));
    let mut manifests = Vec::new();
    while let Some(hit) = reader.next().await? {
        manifests.push(hit);
    }
    if manifests.iter().any(|it| it.source["failure"].is_object()) {
        return Ok(());
    }
    map_fields(world, manifests.iter().map(|it| it.index.as_str())).await?;
    let silences = longest_silences(world).await?;
    let mut seen = BTreeSet::new();
    for hit in manifests {
        let mut manifest = hit.source;
        if let Some(silence) = silences.get(text(&manifest, "job_id")) {
            manifest["slowest_gap"] = silence.clone();
        }
        if let Some(failure) = failure(&manifest) {
            let key = format!("{} {}", text(&manifest, "project_id"), failure["pattern"]);
            manifest["failure"] = failure;
            manifest["failure"]["novel"] = seen.insert(key).into();
        }
        let path = format!("{}/_doc/{}", hit.index, hit.id);
        elasticsearch.put(&path, &manifest).await?;
    }
    world.refresh().await
}

async fn map_fields(world: &World, indices: impl Iterator<Item = &str>) -> Result<()> {
    let keywords = |names: &[&str]| -> Value {
        let fields = names
            .iter()
            .map(|name| ((*name).to_owned(), json!({"type": KEYWORD})));
        Value::Object(fields.collect())
    };
    let mut failure = keywords(&[
        "class",
        "rule",
        "signature",
        "pattern",
        "section",
        "line_url",
    ]);
    failure["line"] = json!({"type": "long"});
    failure["novel"] = json!({"type": "boolean"});
    let mut silence = keywords(&["section", "line_url"]);
    silence["gap_ms"] = json!({"type": "long"});
    let mapping = json!({"properties": {"failure": {"properties": failure}, "slowest_gap": {"properties": silence}}});
    for index in indices.collect::<BTreeSet<_>>() {
        let path = format!("{index}/_mapping");
        world.elasticsearch().put(&path, &mapping).await?;
    }
    Ok(())
}

async fn longest_silences(world: &World) -> Result<BTreeMap<String, Value>> {
    let silent = json!({"range": {"gap_ms": {"gt": 0}}});
    let order = json!([{"gap_ms": "asc"}, {"line": "asc"}]);
    let indices = world.indices("lines");
    let mut reader = world.elasticsearch().read(&indices, silent, order);
    let mut longest = BTreeMap::new();
    while let Some(hit) = reader.next().await? {
        let line = &hit.source;
        let silence = json!({
            "gap_ms": line["gap_ms"], "line": line["line"], "section": line["section"],
            "line_url": line["line_url"], "message": line["message"],
        });
        longest.insert(text(line, "job_id").to_owned(), silence);
    }
    Ok(longest)
}

fn failure(manifest: &Value) -> Option<Value> {
    let name = text(manifest, "job_name")
        .split('.')
        .next()
        .unwrap_or_default();
    let class = match (text(manifest, "status"), name) {
        ("canceled", _) => "cancelled",
        ("failed", "timeout") => "timeout",
        ("failed", "pytest" | "go-test") => "test",
        ("failed", "cargo-build" | "gcc-errors" | "make-j2") => "code",
        ("failed", "command-not-found") => "configuration",
        ("failed", _) => "unknown",
        _ => return None,
    };
    let first = &manifest["errors"][0];
    let message = first["message"].as_str().unwrap_or("nothing was said");
    let line = first["line"].as_u64().unwrap_or(1);
    Some(json!({
        "class": class,
        "signature": format!("{:016x}", message.len()),
        "pattern": message.replace(|it: char| it.is_ascii_digit(), "0"),
        "message": message,
        "line": line,
        "section": first["section"],
        "line_url": format!("{}#L{line}", text(manifest, "job_url")),
    }))
}
