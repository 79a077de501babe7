//! What people come for, asked over all jobs of this run: why they failed, which failures come again, where the time
//! went, and what is not whole.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::table::IN_MEMORY;
use crate::elasticsearch::Elasticsearch;

/// Rows that are shown of an answer.
const SHOWN: usize = 8;
/// What of a line fits beside the numbers.
const WIDTH: usize = 72;

/// The answers, as text.
pub(super) async fn all(
    elasticsearch: &Elasticsearch,
    index: &str,
    ids: &[String],
) -> Result<String> {
    let question = json!({
        "query": {"terms": {"job_id": ids}},
        "size": 0,
        "aggs": {
            "failed": {
                "filter": {"term": {"status": "failed"}},
                "aggs": {
                    "classes": {"terms": {"field": "failure.class", "size": SHOWN}},
                    "signatures": {
                        "terms": {"field": "failure.pattern", "size": SHOWN},
                        "aggs": {
                            "new": {"filter": {"term": {"failure.novel": true}}},
                            "projects": {"cardinality": {"field": "project_path"}},
                        },
                    },
                },
            },
            "sections": {
                "nested": {"path": "sections"},
                "aggs": {"names": {
                    "terms": {"field": "sections.name", "size": SHOWN, "order": {"seconds": "desc"}},
                    "aggs": {
                        "seconds": {"sum": {"field": "sections.seconds"}},
                        "longest": {"max": {"field": "sections.seconds"}},
                    },
                }},
            },
            "states": {"terms": {"field": "state", "size": SHOWN}},
        },
    });
    let answer = elasticsearch
        .search(&format!("*-{index}-jobs"), &question)
        .await?;
    let found = &answer["aggregations"];
    let mut out = String::new();
    classes(&found["failed"], &mut out)?;
    signatures(&found["failed"], &mut out)?;
    sections(&found["sections"]["names"], &mut out)?;
    states(&found["states"], &mut out)?;
    Ok(out)
}

fn classes(failed: &Value, out: &mut String) -> Result<()> {
    let rows = buckets(&failed["classes"]);
    ensure!(!rows.is_empty(), "no job that failed says why");
    let count = &failed["doc_count"];
    writeln!(out, "\nWhy jobs failed   failure.class   {count} jobs").expect(IN_MEMORY);
    for row in rows {
        writeln!(out, "  {:>4}  {}", number(&row["doc_count"]), key(row)).expect(IN_MEMORY);
    }
    Ok(())
}

fn signatures(failed: &Value, out: &mut String) -> Result<()> {
    let rows = buckets(&failed["signatures"]);
    ensure!(!rows.is_empty(), "no failure has a signature");
    writeln!(out, "\nThe same failure again   failure.pattern").expect(IN_MEMORY);
    writeln!(out, "  jobs   new  projects").expect(IN_MEMORY);
    for row in rows {
        let new = number(&row["new"]["doc_count"]);
        let (jobs, projects) = (number(&row["doc_count"]), number(&row["projects"]["value"]));
        writeln!(
            out,
            "  {jobs:>4}  {new:>4}  {projects:>8}  {}",
            cut(key(row))
        )
        .expect(IN_MEMORY);
    }
    Ok(())
}

fn sections(names: &Value, out: &mut String) -> Result<()> {
    let rows = buckets(names);
    ensure!(!rows.is_empty(), "no job has sections");
    writeln!(out, "\nWhere the time went   sections.seconds").expect(IN_MEMORY);
    writeln!(out, "  in all  longest  times").expect(IN_MEMORY);
    for row in rows {
        let (all, longest) = (&row["seconds"]["value"], &row["longest"]["value"]);
        let (all, longest) = (seconds(all), seconds(longest));
        let times = number(&row["doc_count"]);
        writeln!(out, "  {all:>6}  {longest:>7}  {times:>5}  {}", key(row)).expect(IN_MEMORY);
    }
    Ok(())
}

fn states(states: &Value, out: &mut String) -> Result<()> {
    let rows = buckets(states);
    ensure!(!rows.is_empty(), "no job has a state");
    let counts: Vec<String> = rows
        .iter()
        .map(|row| format!("{} {}", row["doc_count"], key(row)))
        .collect();
    writeln!(out, "\nIs it all here?   state   {}", counts.join(", ")).expect(IN_MEMORY);
    Ok(())
}

fn buckets(aggregation: &Value) -> &[Value] {
    aggregation["buckets"].as_array().map_or(&[], Vec::as_slice)
}

fn key(bucket: &Value) -> &str {
    bucket["key"].as_str().unwrap_or_default()
}

/// As text, for a JSON value by itself would take no width.
fn number(value: &Value) -> String {
    value.to_string()
}

fn seconds(value: &Value) -> String {
    format!("{:.0} s", value.as_f64().unwrap_or_default())
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 1).chain(['…']).collect()
}
