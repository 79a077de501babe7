//! The document of a line: what Elasticsearch gets, written straight into the bulk body.

use std::io::Write;

use jiff::{Timestamp, civil::Date};
use notice::{IndexName, Message};
use serde_json::{Value, json};
use trace::{Line, TimestampSource};

use crate::{flags::DatePlace, job::Job};

/// GitLab's job page shows only so many bytes of the end of a trace (`LIMIT_SIZE`).
const PAGE_BYTES: u64 = 512_000;

/// The names of one job's indices: for lines, for its manifest, and for rejected lines.
#[derive(Debug, Clone)]
pub struct Indices {
    /// `YYYY-MM-DD-NAME`.
    pub lines: String,
    /// `YYYY-MM-DD-NAME-jobs`.
    pub jobs: String,
    /// `YYYY-MM-DD-NAME-rejected`.
    pub rejected: String,
}

impl Indices {
    /// The indices of a job that ended on this day (UTC).
    pub fn of(name: &IndexName, day: Date, place: DatePlace) -> Self {
        let of = |suffix: &str| match place {
            DatePlace::Prefix => format!("{day}-{name}{suffix}"),
            DatePlace::Suffix => format!("{name}{suffix}-{day}"),
        };
        Self {
            lines: of(""),
            jobs: of("-jobs"),
            rejected: of("-rejected"),
        }
    }
}

/// The `_id` of a job's manifest, and the beginning of its lines' ids.
/// INVARIANT: it depends on the job alone.
pub fn job_key(message: &Message) -> String {
    format!(
        "{}-{}-{}",
        message.instance, message.project_id, message.job_id
    )
}

/// The facts of the job that stand on every line and on the manifest.
pub fn facts(message: &Message, job: Option<&Job>) -> Value {
    let mut facts = json!({
        "instance": message.instance.as_str(),
        "project_id": message.project_id.to_string(),
        "job_id": message.job_id.to_string(),
        "project_name": message.project_name,
        "job_name": message.job_name,
    });
    if let Some(runner) = message.runner_id {
        facts["runner_id"] = runner.to_string().into();
    }
    let Some(job) = job else { return facts };
    if !job.name.is_empty() {
        facts["job_name"] = job.name.as_str().into();
    }
    if let Some(runner) = &job.runner {
        facts["runner_id"] = runner.id.to_string().into();
    }
    facts["stage"] = job.stage.as_str().into();
    facts["status"] = job.status.as_str().into();
    facts["ref"] = job.git_ref.as_str().into();
    facts["tags"] = job.tag_list.clone().into();
    facts["job_url"] = job.web_url.as_str().into();
    facts["url"] = job.web_url.as_str().into();
    let optional = [
        ("failure_reason", job.failure_reason.clone()),
        (
            "pipeline_id",
            job.pipeline
                .as_ref()
                .map(|pipeline| pipeline.id.to_string()),
        ),
        ("sha", job.commit.as_ref().map(|commit| commit.id.clone())),
        ("user", job.user.as_ref().map(|user| user.username.clone())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            facts[name] = value.into();
        }
    }
    facts
}

/// Writes the lines of one job.
pub struct LineWriter {
    index: String,
    key: String,
    /// The facts as `,"name":value…}`: the same bytes end every document.
    tail: Vec<u8>,
    job_time: Timestamp,
    job_url: String,
    /// The trace's size, where the answer told it.
    size: Option<u64>,
    /// The number of the last line before those on GitLab's page.
    before_page: u64,
}

impl LineWriter {
    /// A writer for this job's lines; `size` is the trace's in bytes.
    pub fn new(message: &Message, job: &Job, indices: &Indices, size: Option<u64>) -> Self {
        let facts = facts(message, Some(job)).to_string();
        let tail = format!(",{}\n", facts.trim_start_matches('{'));
        Self {
            index: indices.lines.clone(),
            key: job_key(message),
            tail: tail.into_bytes(),
            job_time: job.started_at.unwrap_or(job.created_at),
            job_url: job.web_url.clone(),
            size,
            before_page: 0,
        }
    }

    /// Appends the two lines of a bulk `create`: the action and the document.
    pub fn write(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let at = line
            .timestamp
            .and_then(|nanoseconds| Timestamp::from_nanosecond(nanoseconds.into()).ok());
        let (at, source) = match at {
            Some(at) => (at, line.timestamp_source),
            None => (self.job_time, TimestampSource::Job),
        };
        let number = line.number;
        let written: std::io::Result<()> = (|| {
            writeln!(
                out,
                r#"{{"create":{{"_index":"{}","_id":"{}-{number:08}"}}}}"#,
                self.index, self.key
            )?;
            write!(
                out,
                r#"{{"@timestamp":"{at}","timestamp_source":"{}","line":{number},"offset":{},"message":"#,
                source.as_str(),
                line.offset
            )?;
            serde_json::to_writer(&mut *out, line.text)?;
            if let Some(stream) = line.stream {
                write!(out, r#","stream":"{}""#, stream.as_str())?;
            }
            if let Some(section) = line.section {
                out.extend_from_slice(br#","section":"#);
                serde_json::to_writer(&mut *out, section)?;
            }
            if let Some(level) = line.level {
                write!(out, r#","level":"{}""#, level.as_str())?;
            }
            if let Some(gap) = line.gap_ms {
                write!(out, r#","gap_ms":{gap}"#)?;
            }
            if let Some(length) = line.truncated {
                write!(out, r#","truncated":true,"length":{length}"#)?;
            }
            out.extend_from_slice(br#","line_url":"#);
            serde_json::to_writer(&mut *out, &self.line_url(number, line.offset))?;
            Ok(())
        })();
        written.expect("writing into memory does not fail");
        out.extend_from_slice(&self.tail);
    }

    /// The link to the line on GitLab's page, which shows the last 512,000 bytes, throws the
    /// first (partial) line of them away, and numbers from 1 there.
    fn line_url(&mut self, number: u64, offset: u64) -> String {
        let Some(size) = self.size else {
            return self.job_url.clone();
        };
        if size > PAGE_BYTES && offset <= size - PAGE_BYTES {
            self.before_page = number;
            return format!("{}/raw", self.job_url);
        }
        format!("{}#L{}", self.job_url, number - self.before_page)
    }
}
