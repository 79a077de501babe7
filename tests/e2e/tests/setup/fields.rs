//! The mapping: whatever a document can have is found, by its own name and by its aliases.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Map, Value, json};

use crate::world::World;

const KEYWORD: &str = "a keyword";
const TEXT: &str = "one word of many";
const WORD: &str = "word";
const NUMBER: i64 = 4711;
const TIME: &str = "2026-11-25T01:02:03.004Z";

/// A field of the mapping, by its whole name.
struct Field {
    kind: String,
    /// Where an alias leads.
    path: Option<String>,
    /// The nested object that it is in.
    nested: Option<String>,
}

pub(crate) async fn every_field_is_found_by_its_own_name_and_by_its_alias(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let elasticsearch = world.elasticsearch();
    for (kind, file) in [
        ("lines", "lines"),
        ("jobs", "jobs"),
        ("rejected", "rejected"),
    ] {
        let suffix = if kind == "lines" {
            String::new()
        } else {
            format!("-{kind}")
        };
        let index = format!("2026-11-25-{}{suffix}", world.name);
        let fields = fields_of(&["facts", file])?;
        let document = document(&fields);
        elasticsearch
            .put(&format!("{index}/_doc/1"), &document)
            .await?;
        elasticsearch.refresh(&index).await?;
        let mut aliases = 0;
        for (name, field) in &fields {
            let asked = match &field.path {
                Some(path) => fields
                    .get(path)
                    .with_context(|| format!("{name} leads nowhere"))?,
                None => field,
            };
            let found = elasticsearch
                .count(&index, &query(name, asked, true))
                .await?;
            ensure!(found == 1, "{name} of {kind}: {found} hits of {document}");
            let found = elasticsearch
                .count(&index, &query(name, asked, false))
                .await?;
            ensure!(found == 0, "{name} of {kind} is found by anything");
            aliases += usize::from(field.path.is_some());
        }
        ensure!(aliases >= 10, "{aliases} aliases of {kind}");
    }
    world.has_left(1);
    world.has_left_rejected(1);
    Ok(())
}

/// The fields that these files give to documents together.
fn fields_of(files: &[&str]) -> Result<BTreeMap<String, Field>> {
    let mut fields = BTreeMap::new();
    for file in files {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"));
        let path = path
            .join("../consumer/elasticsearch")
            .join(format!("{file}.json"));
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let template: Value = serde_json::from_str(&text)?;
        collect(&template["template"]["mappings"], "", None, &mut fields);
    }
    Ok(fields)
}

fn collect(
    mapping: &Value,
    above: &str,
    nested: Option<&str>,
    fields: &mut BTreeMap<String, Field>,
) {
    for (name, field) in mapping["properties"].as_object().into_iter().flatten() {
        let name = format!("{above}{name}");
        if field["properties"].is_object() {
            let nested = if field["type"] == "nested" {
                Some(name.as_str())
            } else {
                nested
            };
            collect(field, &format!("{name}."), nested, fields);
            continue;
        }
        let text = |key: &str| field[key].as_str().map(str::to_owned);
        let field = Field {
            kind: text("type").unwrap_or_default(),
            path: text("path"),
            nested: nested.map(str::to_owned),
        };
        fields.insert(name, field);
    }
}

/// One that has all of them, as objects in each other.
fn document(fields: &BTreeMap<String, Field>) -> Value {
    let mut document = Map::new();
    for (name, field) in fields.iter().filter(|(_, field)| field.path.is_none()) {
        let mut at = &mut document;
        let mut parts: Vec<&str> = name.split('.').collect();
        let last = parts.pop().unwrap_or_default();
        for part in parts {
            let inner = at.entry(part).or_insert_with(|| json!({}));
            at = inner
                .as_object_mut()
                .expect("a field with fields is an object");
        }
        at.insert(last.to_owned(), value(&field.kind));
    }
    document.into()
}

fn value(kind: &str) -> Value {
    match kind {
        "keyword" => KEYWORD.into(),
        "long" => NUMBER.into(),
        "double" => 47.25.into(),
        "boolean" => true.into(),
        "date" | "date_nanos" => TIME.into(),
        _ => TEXT.into(),
    }
}

/// A query that is right for the field, or one that is wrong.
fn query(name: &str, field: &Field, is_right: bool) -> Value {
    let query = match field.kind.as_str() {
        "keyword" | "long" | "double" if is_right => json!({"term": {name: value(&field.kind)}}),
        "keyword" => json!({"term": {name: "another"}}),
        "long" | "double" => json!({"term": {name: 1}}),
        "boolean" => json!({"term": {name: is_right}}),
        "date" | "date_nanos" if is_right => json!({"range": {name: {"gte": TIME, "lte": TIME}}}),
        "date" | "date_nanos" => json!({"range": {name: {"gt": TIME}}}),
        _ if is_right => json!({"match": {name: WORD}}),
        _ => json!({"match": {name: "absent"}}),
    };
    match &field.nested {
        Some(path) => json!({"nested": {"path": path, "query": query}}),
        None => query,
    }
}
