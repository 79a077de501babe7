//! The oracle: what Elasticsearch has of a job against what the simulated GitLab issued, line by line. It shares no code
//! with the programs; numbers, ids, links and days are computed here anew from GITLAB.md and DESIGN.md.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::gitlab::Job;
use serde_json::{Map, Value, json};

use crate::line::{Found, Page, expected_lines};
use crate::world::World;

/// Differences that a report names; a fault mostly hits every line.
const DIFFERENCES: usize = 5;

impl World {
    /// Waits until the job is complete, then proves that it is exact. It counts as left behind from now on.
    pub(crate) async fn exact(&self, job: &Job, deadline: Duration) -> Result<Value> {
        self.exact_as(job, "complete", deadline).await
    }

    /// The same for a job whose manifest says another state and that this is all there will ever be.
    pub(crate) async fn exact_as(
        &self,
        job: &Job,
        state: &str,
        deadline: Duration,
    ) -> Result<Value> {
        let manifest = self.manifest(job, state, deadline).await?;
        let lines = self
            .compare(job)
            .await
            .with_context(|| format!("job {}, whose manifest is {manifest}", job.id()))?;
        let is = |name: &str| manifest[name].as_u64();
        ensure!(
            manifest["complete"] == true,
            "the manifest is not complete: {manifest}"
        );
        ensure!(
            is("lines") == Some(lines),
            "the manifest does not say {lines} lines: {manifest}"
        );
        ensure!(
            is("indexed") == Some(lines),
            "the manifest does not say {lines} indexed: {manifest}"
        );
        ensure!(is("rejected") == Some(0), "lines were rejected: {manifest}");
        ensure!(
            is("bytes") == Some(job.trace_size() as u64),
            "bytes: {manifest}"
        );
        self.is_mapped(job).await?;
        self.has_left(lines);
        Ok(manifest)
    }

    /// The templates of `consumer setup` made the indices, and nobody else's; a guessed mapping would do for a while.
    async fn is_mapped(&self, job: &Job) -> Result<()> {
        let index = self.index(job)?;
        let jobs = format!("{index}-jobs");
        for (index, field, right) in [
            (&index, "@timestamp", "date_nanos"),
            (&index, "job_id", "keyword"),
            (&index, "line", "long"),
            (&jobs, "job_id", "keyword"),
            (&jobs, "state", "keyword"),
        ] {
            let path = format!("{index}/_mapping/field/{field}");
            let answer = self.elasticsearch().ask(&path, None).await?;
            let mapping = &answer[index]["mappings"][field]["mapping"][field];
            ensure!(
                mapping["type"] == right,
                "{field} of {index} is not {right} but {mapping}"
            );
        }
        Ok(())
    }

    /// Waits for a manifest in this state, for a job that leaves no lines; it counts as left behind from now on.
    pub(crate) async fn without_lines(
        &self,
        job: &Job,
        state: &str,
        deadline: Duration,
    ) -> Result<Value> {
        let manifest = self.manifest(job, state, deadline).await?;
        ensure!(self.count(job).await? == 0, "job {} has lines", job.id());
        ensure!(
            manifest["lines"].as_u64().unwrap_or(0) == 0,
            "lines: {manifest}"
        );
        self.has_left(0);
        Ok(manifest)
    }

    /// Waits for the manifest of a job in this state; there is never more than one.
    pub(crate) async fn manifest(
        &self,
        job: &Job,
        state: &str,
        deadline: Duration,
    ) -> Result<Value> {
        let what = format!("the manifest of job {} is {state}", job.id());
        self.until_searchable(what, deadline, async || {
            let manifest = self.manifest_now(job).await?.context("there is none")?;
            ensure!(manifest["state"] == state, "it is {manifest}");
            Ok(manifest)
        })
        .await
    }

    /// The manifest of a job, as of the last refresh.
    pub(crate) async fn manifest_now(&self, job: &Job) -> Result<Option<Value>> {
        let query = json!({"term": {"job_id": job.id().to_string()}});
        let body = json!({"query": query, "size": 2});
        let mut found = self
            .elasticsearch()
            .hits(&self.indices("jobs"), &body)
            .await?;
        ensure!(found.len() < 2, "two manifests of one job: {found:#?}");
        let Some(manifest) = found.pop() else {
            return Ok(None);
        };
        ensure!(
            manifest.id == self.key(job),
            "the manifest's _id is {}",
            manifest.id
        );
        Ok(Some(manifest.source))
    }

    /// Reads every line of the job, and says how many there are.
    pub(crate) async fn compare(&self, job: &Job) -> Result<u64> {
        self.compare_those(job, "lines", |_| true).await
    }

    /// The same in the indices of this kind for the lines of these numbers, which must be all that are there.
    pub(crate) async fn compare_those(
        &self,
        job: &Job,
        kind: &str,
        is_there: impl Fn(u64) -> bool,
    ) -> Result<u64> {
        self.refresh().await?;
        let facts = self.facts(job)?;
        let index = match kind {
            "lines" => self.index(job)?,
            kind => format!("{}-{kind}", self.index(job)?),
        };
        let mut page = Page::of(job);
        let query = json!({"term": {"job_id": job.id().to_string()}});
        let order = json!([{"line": "asc"}, {"offset": {"order": "asc", "unmapped_type": "long"}}]);
        let indices = self.indices(kind);
        let mut documents = self.elasticsearch().read(&indices, query.clone(), order);
        let mut differences = Vec::new();
        let mut lines = 0;
        for expected in expected_lines(job)? {
            let line_url = page.url_of(&expected)?;
            if !is_there(expected.number) {
                continue;
            }
            lines += 1;
            let Some(document) = documents.next().await? else {
                bail!(
                    "there are only {} lines; the next one, {}, is {:.500}",
                    lines - 1,
                    expected.number,
                    expected.text
                );
            };
            let mut found = Found::new(&document);
            found.is("_index", &document.index, &index);
            found.is(
                "_id",
                &document.id,
                &format!("{}-{:08}", self.key(job), expected.number),
            );
            found.compare(&expected, &line_url);
            found.has(&facts);
            if !found.differences.is_empty() {
                differences.push(format!(
                    "line {}: {}",
                    expected.number,
                    found.differences.join("; ")
                ));
            }
            ensure!(
                differences.len() < DIFFERENCES,
                "{}",
                differences.join("\n")
            );
        }
        ensure!(differences.is_empty(), "{}", differences.join("\n"));
        if let Some(more) = documents.next().await? {
            bail!("after {lines} lines there is one that was not issued: {more:?}");
        }
        let count = self.elasticsearch().count(&indices, &query).await?;
        ensure!(count == lines, "{count} documents, not {lines}");
        Ok(lines)
    }

    /// `INSTANCE-PROJECT-JOB`.
    pub(crate) fn key(&self, job: &Job) -> String {
        format!("{}-{}-{}", self.instance(), job.project_id(), job.id())
    }

    /// What Joblogs calls the GitLab: by the host and the port at which it is called.
    fn instance(&self) -> String {
        let url = self.gitlab.url();
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        address.replace(':', "-")
    }

    /// `YYYY-MM-DD-NAME`, the day being that of the job's end in UTC.
    pub(crate) fn index(&self, job: &Job) -> Result<String> {
        let end = job.finished_at().context("the job is not over")?;
        Ok(format!("{}-{}", end.strftime("%Y-%m-%d"), self.name))
    }

    /// What stands on every line, as the job's facts have it now.
    fn facts(&self, job: &Job) -> Result<Map<String, Value>> {
        let facts = job.facts();
        let text = |value: &Value| match value {
            Value::Number(number) => Value::String(number.to_string()),
            other => other.clone(),
        };
        let wanted = json!({
            "instance": self.instance(),
            "project_id": text(&json!(job.project_id())),
            "project_name": "demo",
            "job_id": text(&json!(job.id())),
            "job_name": facts["name"],
            "runner_id": text(&facts["runner"]["id"]),
            "pipeline_id": text(&facts["pipeline"]["id"]),
            "ref": facts["ref"],
            "sha": facts["commit"]["id"],
            "stage": facts["stage"],
            "status": facts["status"],
            "failure_reason": facts["failure_reason"],
            "user": facts["user"]["username"],
            "tags": facts["tag_list"],
            "job_url": facts["web_url"],
        });
        Ok(serde_json::from_value(wanted)?)
    }
}
