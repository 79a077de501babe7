//! The mapping of why jobs failed, where set-up does not put it: without it, what manifests say of that can't be searched.

use std::collections::BTreeSet;

use anyhow::Result;
use serde_json::{Value, json};

use crate::world::World;

/// Puts it and indexes the manifests again, as they are. Where failures can be searched already nothing is done.
pub(super) async fn map_failures(world: &World) -> Result<()> {
    let elasticsearch = world.elasticsearch();
    let indices = world.indices("jobs");
    let known = json!({"exists": {"field": "failure.class"}});
    if elasticsearch.count(&indices, &known).await? > 0 {
        return Ok(());
    }
    let mut reader = elasticsearch.read(
        &indices,
        json!({"match_all": {}}),
        json!([{"job_id": "asc"}]),
    );
    let mut mapped = BTreeSet::new();
    while let Some(hit) = reader.next().await? {
        if mapped.insert(hit.index.clone()) {
            let path = format!("{}/_mapping", hit.index);
            elasticsearch.put(&path, &mapping()).await?;
        }
        let path = format!("{}/_doc/{}", hit.index, hit.id);
        elasticsearch.put(&path, &hit.source).await?;
    }
    world.refresh().await
}

fn mapping() -> Value {
    let keyword = json!({"type": "keyword"});
    let long = json!({"type": "long"});
    json!({"properties": {
        "failure": {"properties": {
            "class": keyword, "rule": keyword, "signature": keyword, "pattern": keyword, "line": long,
            "section": keyword, "line_url": keyword, "novel": {"type": "boolean"},
        }},
        "slowest_gap": {"properties": {
            "gap_ms": long, "line": long, "section": keyword, "line_url": keyword,
        }},
    }})
}
