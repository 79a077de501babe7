//! Every field that an object names is one that the indices have.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Chart, FOR_KIBANA, Kql, Object, objects};

/// What all documents say of their job.
const FACTS: &str = include_str!("../../../consumer/elasticsearch/facts.json");

/// The fields of a data view's indices, by their full names.
fn mapped(view: &str) -> BTreeSet<String> {
    let own = match view {
        "joblogs-lines" => include_str!("../../../consumer/elasticsearch/lines.json"),
        "joblogs-jobs" => include_str!("../../../consumer/elasticsearch/jobs.json"),
        "joblogs-rejected" => include_str!("../../../consumer/elasticsearch/rejected.json"),
        other => panic!("no template is for {other}"),
    };
    let mut fields = BTreeSet::new();
    for template in [FACTS, own] {
        let template: Value = serde_json::from_str(template).unwrap();
        walk(&template["template"]["mappings"], "", &mut fields);
    }
    fields
}

fn walk(mapping: &Value, prefix: &str, fields: &mut BTreeSet<String>) {
    for (name, field) in mapping["properties"].as_object().into_iter().flatten() {
        let name = format!("{prefix}{name}");
        walk(field, &format!("{name}."), fields);
        fields.insert(name);
    }
}

#[test]
fn every_field_that_an_object_names_is_mapped() {
    for object in objects(FOR_KIBANA).unwrap() {
        let (view, named) = fields_of(&object);
        if let Some(view) = view {
            let mapped = mapped(&view);
            let unknown: Vec<_> = named.iter().filter(|it| !mapped.contains(*it)).collect();
            assert!(
                unknown.is_empty(),
                "{} names {unknown:?}, which {view} has not",
                object.id
            );
        }
    }
}

/// An object's data view and the fields that it names.
fn fields_of(object: &Object) -> (Option<String>, Vec<String>) {
    let owned = |fields: Vec<&str>| fields.into_iter().map(str::to_owned).collect::<Vec<_>>();
    match object.kind.as_str() {
        "index-pattern" => {
            let formats = object.inner("/fieldFormatMap").unwrap();
            let time = object.attributes["timeFieldName"].as_str();
            (
                Some(object.id.clone()),
                owned(keys(&formats).into_iter().chain(time).collect()),
            )
        }
        "search" => {
            let kql = Kql::parse(&object.kql().unwrap()).unwrap();
            let columns = object.attributes["columns"].as_array().unwrap().iter();
            let sorted = object.attributes["sort"]
                .as_array()
                .unwrap()
                .iter()
                .map(|it| &it[0]);
            let named = columns
                .chain(sorted)
                .filter_map(Value::as_str)
                .chain(kql.fields());
            (
                Some(object.view().unwrap().to_owned()),
                owned(named.collect()),
            )
        }
        "lens" => {
            let chart = Chart::of(object).unwrap();
            (
                Some(object.view().unwrap().to_owned()),
                owned(chart.fields()),
            )
        }
        "visualization" => {
            let spec = object.vega().unwrap();
            (
                Some("joblogs-jobs".into()),
                strings_under(&spec["data"]["url"]["body"], "field"),
            )
        }
        _ => (None, Vec::new()),
    }
}

/// All texts that stand under this name.
fn strings_under(value: &Value, name: &str) -> Vec<String> {
    match value {
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if key == name => vec![text.clone()],
                value => strings_under(value, name),
            })
            .collect(),
        Value::Array(values) => values
            .iter()
            .flat_map(|it| strings_under(it, name))
            .collect(),
        _ => Vec::new(),
    }
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}
