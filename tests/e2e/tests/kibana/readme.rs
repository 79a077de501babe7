//! The README's questions to Elasticsearch itself, run as people run them: by bash and curl.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::demo::Planned;
use serde_json::Value;
use tokio::process::Command;

use super::documents::{Documents, counts, text, time, value};
use crate::world::World;

const README: &str = include_str!("../../../../README.md");
const SECTION: &str = "\n### Without Kibana\n";
/// The job and the runner that the README speaks of.
const JOB: &str = "job_id:4711";
const RUNNER: &str = "7";

/// Runs each, and holds the answer against the documents.
pub(super) async fn check(world: &World, documents: &Documents) -> Result<()> {
    let questions = questions()?;
    ensure!(questions.len() == 14, "{} questions", questions.len());
    for (question, command) in &questions {
        let job = documents.id_of("cargo-build.ts")?;
        let command = command.replace(JOB, &format!("job_id:{job}"));
        let answer = run(world, &command)
            .await
            .with_context(|| question.clone())?;
        let outcome = is_right(question, &answer, documents);
        outcome.with_context(|| format!("{question} {answer}"))?;
    }
    Ok(())
}

/// What stands after each `# question` in the section, without its indentation.
fn questions() -> Result<Vec<(String, String)>> {
    let section = README
        .split(SECTION)
        .nth(1)
        .context("the section is gone")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut questions: Vec<(String, String)> = Vec::new();
    for line in section.lines().filter_map(|line| line.strip_prefix("    ")) {
        match (line.strip_prefix("# "), questions.last_mut()) {
            (Some(question), _) => questions.push((question.to_owned(), String::new())),
            (None, Some((_, command))) => command.extend([line, "\n"]),
            (None, None) => bail!("{line} before any question"),
        }
    }
    Ok(questions)
}

/// Where the servers of this test are, and its indices.
async fn run(world: &World, command: &str) -> Result<Value> {
    let servers = &world.servers;
    let here = format!("127.0.0.1:{}", servers.elasticsearch_port);
    let command = command
        .replace("localhost:9200", &here)
        .replace("-u elastic", "-sS -u \"elastic:$PASSWORD\"")
        .replace("*-joblogs", &format!("*-{}", world.name));
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", "-c", &command]);
    bash.env("PASSWORD", &servers.elasticsearch_password);
    let output = bash.kill_on_drop(true).output().await?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success() && complaint.is_empty(),
        "{complaint}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| text.into_owned())
}

fn is_right(question: &str, answer: &Value, documents: &Documents) -> Result<()> {
    let hits = || hits(answer);
    let aggregation = |name: &str| &answer["aggregations"][name];
    let by = |field| counts(documents.failures().map(|it| text(it, field)));
    match question {
        "What failed last, and which line says why?" => {
            let newest = documents.failures().max_by_key(|it| time(it));
            let newest = newest.context("no failure")?;
            is(text(hits()?[0], "job_name"), text(newest, "job_name"))?;
            is(&hits()?[0]["failure"], &newest["failure"])
        }
        "How many jobs failed when, by class?" => {
            let days = aggregation("days")["buckets"]
                .as_array()
                .context("no days")?;
            let mut all = BTreeMap::new();
            for (class, count) in days.iter().flat_map(|day| terms(&day["classes"])) {
                *all.entry(class).or_insert(0) += count;
            }
            is(all, by("failure.class"))
        }
        "Which failures come again, in how many projects, and which of them are new?" => {
            is(terms(aggregation("signatures")), by("failure.pattern"))?;
            let buckets = aggregation("signatures")["buckets"].as_array();
            let new = buckets
                .into_iter()
                .flatten()
                .filter_map(|it| it["new"]["doc_count"].as_u64());
            let right = documents
                .failures()
                .filter(|it| value(it, "failure.novel") == true);
            is(new.sum::<u64>(), right.count() as u64)
        }
        "Whose jobs fail, and on which runners?" => {
            is(terms(aggregation("projects")), by("project_path"))?;
            is(terms(aggregation("runners")), by("runner_id"))
        }
        "Which jobs take long?" => {
            let first = &aggregation("jobs")["buckets"][0];
            let longest = documents
                .manifests
                .iter()
                .filter_map(|it| it["duration"].as_f64());
            is(
                first["longest"]["value"].as_f64(),
                Some(longest.fold(0.0, f64::max)),
            )
        }
        "In which sections were all those seconds spent?" => {
            let first = &aggregation("sections")["names"]["buckets"][0];
            is(&first["key"], &Value::from("step_script"))
        }
        "Where did a job say nothing for five seconds or longer?" => {
            let longest = documents
                .lines
                .iter()
                .filter_map(|it| it["gap_ms"].as_u64())
                .max();
            is(hits()?[0]["gap_ms"].as_u64(), longest)
        }
        "Who logs how much, and how long after a job's end is its log here?" => {
            let buckets = aggregation("projects")["buckets"]
                .as_array()
                .context("no projects")?;
            let lines = buckets
                .iter()
                .filter_map(|it| it["lines"]["value"].as_f64());
            let planned: Result<u64> = documents
                .plan
                .iter()
                .map(|it| Ok(it.lines()? + it.rejected()?))
                .sum();
            is(lines.sum::<f64>(), f64::from(u32::try_from(planned?)?))
        }
        other => is_right_of_logs(other, answer, documents),
    }
}

fn is_right_of_logs(question: &str, answer: &Value, documents: &Documents) -> Result<()> {
    let hits = || hits(answer);
    let total = answer["hits"]["total"]["value"].as_u64();
    match question {
        "What did this job print?" => {
            let messages: Vec<_> = hits()?.into_iter().map(|it| text(it, "message")).collect();
            let right = e2e::samples::named("cargo-build.ts").expected()?;
            is(messages, right.iter().map(String::as_str).collect())
        }
        "Which lines of jobs that failed speak of an error?" => {
            let lines = documents.lines.iter();
            let right = lines.filter(|it| it["level"] == "error" && it["status"] == "failed");
            is(total, Some(right.count() as u64))
        }
        "Which jobs ran on this runner, and how did they end?" => {
            let right = documents
                .plan
                .iter()
                .filter(|it| it.runner.to_string() == RUNNER);
            is(hits()?.len(), right.count())
        }
        "Which logs are not whole?" => {
            let states = counts(hits()?.into_iter().map(|it| text(it, "state")));
            is(states, BTreeMap::from([("forbidden", 1), ("truncated", 3)]))
        }
        "Which jobs were given up, and why?" => {
            is(hits()?.len(), 1)?;
            ensure!(text(hits()?[0], "reason").contains("token refused"));
            Ok(())
        }
        "Which lines did Elasticsearch not take, and why?" => {
            let rejected: Result<u64> = documents.plan.iter().map(Planned::rejected).sum();
            is(total, Some(rejected?))?;
            ensure!(!text(hits()?[0], "error.message").is_empty());
            Ok(())
        }
        other => bail!("nobody knows the answer to {other}"),
    }
}

fn hits(answer: &Value) -> Result<Vec<&Value>> {
    let hits = answer["hits"]["hits"].as_array().context("no hits")?;
    ensure!(!hits.is_empty(), "no hits");
    Ok(hits.iter().map(|hit| &hit["_source"]).collect())
}

fn terms(aggregation: &Value) -> BTreeMap<&str, u32> {
    let buckets = aggregation["buckets"].as_array();
    let pair = |it| (text(it, "key"), count(&it["doc_count"]));
    buckets.into_iter().flatten().map(pair).collect()
}

fn count(value: &Value) -> u32 {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    count.unwrap_or(u32::MAX)
}

fn is<T: PartialEq + std::fmt::Debug>(there: T, right: T) -> Result<()> {
    ensure!(there == right, "{there:?}, not {right:?}");
    Ok(())
}
