//! Three searches as people do them, over the jobs of this run alone: errors everywhere, a word everywhere, a job.

use std::fmt::Write as _;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::table::IN_MEMORY;
use crate::elasticsearch::{Elasticsearch, Hit};

/// A word that tools of many kinds write.
const WORD: &str = "warning";
/// The job that is read from its beginning.
const JOB: &str = "cargo-build.ts";
/// Hits that are shown of a search.
const SHOWN: usize = 12;
/// Jobs with their counts that fit beside each other.
const COUNTS: usize = 5;
/// What of a line fits beside its job's name.
const WIDTH: usize = 96;

/// The searches with their hits, as text. One without hits is an error: there are some in the samples.
pub(super) async fn all_three(
    elasticsearch: &Elasticsearch,
    index: &str,
    ids: &[String],
) -> Result<String> {
    let search = Search {
        elasticsearch,
        indices: format!("*-{index}"),
        ids,
    };
    let mut out = String::new();
    errors(&search, &mut out).await?;
    word(&search, &mut out).await?;
    in_order(&search, &mut out).await?;
    Ok(out)
}

async fn errors(search: &Search<'_>, out: &mut String) -> Result<()> {
    // The first of each job: what came after it may only follow from it.
    let order = json!([{"job_name": "asc"}, {"line": "asc"}]);
    let rest = json!({"collapse": {"field": "job_name"}});
    let (total, hits, _) = search
        .run(json!({"term": {"level": "error"}}), order, rest)
        .await?;
    title(out, "Errors across all jobs", "level : error", total);
    lines_with_jobs(out, &hits);
    Ok(())
}

async fn word(search: &Search<'_>, out: &mut String) -> Result<()> {
    let rest = json!({
        "collapse": {"field": "job_name"},
        "aggs": {"jobs": {"terms": {"field": "job_name", "size": 100}}},
    });
    let query = json!({"match": {"message": WORD}});
    let (total, hits, answer) = search.run(query, json!(["_score"]), rest).await?;
    title(
        out,
        "One word across all jobs",
        &format!("message : {WORD}"),
        total,
    );
    let buckets = answer["aggregations"]["jobs"]["buckets"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let counts: Vec<String> = buckets
        .iter()
        .map(|bucket| {
            format!(
                "{} {}",
                bucket["key"].as_str().unwrap_or_default(),
                bucket["doc_count"]
            )
        })
        .collect();
    writeln!(out, "  in {} jobs:", counts.len()).expect(IN_MEMORY);
    for row in counts.chunks(COUNTS) {
        writeln!(out, "    {}", row.join(", ")).expect(IN_MEMORY);
    }
    lines_with_jobs(out, &hits);
    Ok(())
}

async fn in_order(search: &Search<'_>, out: &mut String) -> Result<()> {
    let query = json!({"term": {"job_name": JOB}});
    let (total, hits, _) = search
        .run(query, json!([{"line": "asc"}]), json!({}))
        .await?;
    title(
        out,
        "One job in order",
        &format!("job_name : \"{JOB}\", by line"),
        total,
    );
    for hit in hits {
        let time = text(&hit, "@timestamp");
        let time: String = time
            .chars()
            .skip_while(|char| *char != 'T')
            .skip(1)
            .take(12)
            .collect();
        let (line, section) = (number(&hit), text(&hit, "section"));
        writeln!(
            out,
            "  {line:>4}  {time:<12}  {section:<18}  {}",
            message(&hit)
        )
        .expect(IN_MEMORY);
    }
    Ok(())
}

/// Where all three look.
struct Search<'a> {
    elasticsearch: &'a Elasticsearch,
    indices: String,
    ids: &'a [String],
}

impl Search<'_> {
    /// How many hits there are, the first of them, and the whole answer.
    async fn run(
        &self,
        query: Value,
        order: Value,
        mut rest: Value,
    ) -> Result<(u64, Vec<Hit>, Value)> {
        rest["query"] =
            json!({"bool": {"must": [query], "filter": [{"terms": {"job_id": self.ids}}]}});
        rest["sort"] = order;
        rest["size"] = SHOWN.into();
        rest["track_total_hits"] = true.into();
        let answer = self.elasticsearch.search(&self.indices, &rest).await?;
        let total = answer["hits"]["total"]["value"]
            .as_u64()
            .unwrap_or_default();
        ensure!(
            total > 0,
            "a search found nothing: {}",
            rest["query"]["bool"]["must"]
        );
        let hits: Vec<Hit> = serde_json::from_value(answer["hits"]["hits"].clone())?;
        Ok((total, hits, answer))
    }
}

fn title(out: &mut String, what: &str, query: &str, total: u64) {
    writeln!(out, "\n{what}   {query}   {total} hits").expect(IN_MEMORY);
}

fn lines_with_jobs(out: &mut String, hits: &[Hit]) {
    let width = hits
        .iter()
        .map(|hit| text(hit, "job_name").len())
        .max()
        .unwrap_or(0);
    for hit in hits {
        let (job, line) = (text(hit, "job_name"), number(hit));
        writeln!(out, "  {job:<width$}  {line:>5}  {}", message(hit)).expect(IN_MEMORY);
    }
}

/// The line, cut where it would run over the screen's edge.
fn message(hit: &Hit) -> String {
    let message = text(hit, "message");
    if message.chars().count() <= WIDTH {
        return message.to_owned();
    }
    message.chars().take(WIDTH - 1).chain(['…']).collect()
}

/// The line's number; a JSON value by itself would take no width.
fn number(hit: &Hit) -> String {
    hit.source["line"].to_string()
}

fn text<'a>(hit: &'a Hit, field: &str) -> &'a str {
    hit.source[field].as_str().unwrap_or_default()
}
