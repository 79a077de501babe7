//! The document of a line: what Elasticsearch gets, written straight into the bulk body.

use std::io::Write;

use jiff::{Timestamp, civil::Date};
use notice::{IndexName, Instance, Message};
use serde_json::{Map, Value, json};
use trace::{Line, TimestampSource};

use crate::{
    indices::{DatePlace, Naming},
    job::Job,
};

/// GitLab's job page shows only so many bytes of the end of a trace (`LIMIT_SIZE`).
pub(crate) const PAGE_BYTES: u64 = 512_000;

/// The names of one job's indices: for lines, for its manifest, and for rejected lines.
#[derive(Debug, Clone)]
pub(crate) struct Indices {
    /// `YYYY-MM-DD-NAME`.
    pub lines: String,
    /// `YYYY-MM-DD-NAME-jobs`.
    pub jobs: String,
    /// `YYYY-MM-DD-NAME-rejected`.
    pub rejected: String,
}

impl Indices {
    /// The pattern of all indices of manifests under one name.
    pub(crate) fn all_manifests(naming: &Naming, asked: Option<&IndexName>) -> String {
        let name = asked.unwrap_or(&naming.name);
        match naming.date {
            DatePlace::Prefix => format!("20*-{name}-jobs"),
            DatePlace::Suffix => format!("{name}-jobs-20*"),
        }
    }

    /// The indices of a job that ended on this day (UTC), under the configured name or the one that
    /// the notice asked for.
    pub(crate) fn of(naming: &Naming, asked: Option<&IndexName>, day: Date) -> Self {
        let name = asked.unwrap_or(&naming.name);
        let of = |suffix: &str| match naming.date {
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
pub(crate) fn job_key(message: &Message) -> String {
    format!(
        "{}-{}-{}",
        message.instance, message.project_id, message.job_id
    )
}

/// The facts of the job that stand on every line and on the manifest. Job and runner are called
/// what GitLab calls them, or else what the notice did.
pub(crate) fn facts(
    message: &Message,
    job: Option<&Job>,
    instance: &Instance,
    attempt: u32,
) -> Value {
    let url = instance.trace_url(message.project_id, message.job_id);
    let mut facts = json!({
        "instance": message.instance.as_str(),
        "project_id": message.project_id.to_string(),
        "job_id": message.job_id.to_string(),
        "project_name": message.project_name,
        "job_name": message.job_name,
        "url": url.as_str(),
        "attempt": attempt.to_string(),
    });
    if let Some(runner) = message.runner_id {
        facts["runner_id"] = runner.to_string().into();
    }
    if let (Some(job), Some(facts)) = (job, facts.as_object_mut()) {
        facts.extend(job_facts(job));
        let path = instance.project_path(&job.web_url);
        facts.extend(path.map(|path| ("project_path".to_owned(), path.into())));
    }
    facts
}

/// What GitLab says of the job; what it leaves open is left out.
pub(crate) fn job_facts(job: &Job) -> Map<String, Value> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let optional = [
        ("job_id", Some(job.id.to_string())),
        ("job_name", text(&job.name)),
        ("stage", text(&job.stage)),
        ("status", text(&job.status)),
        ("ref", text(&job.git_ref)),
        ("job_url", text(&job.web_url)),
        ("failure_reason", job.failure_reason.clone()),
        (
            "runner_id",
            job.runner.as_ref().map(|runner| runner.id.to_string()),
        ),
        (
            "pipeline_id",
            job.pipeline
                .as_ref()
                .map(|pipeline| pipeline.id.to_string()),
        ),
        ("sha", job.commit.as_ref().map(|commit| commit.id.clone())),
        ("user", job.user.as_ref().map(|user| user.username.clone())),
    ];
    let mut facts: Map<String, Value> = optional
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    facts.insert("tags".to_owned(), job.tag_list.clone().into());
    facts
}

/// The action of a bulk request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// What is there stays.
    Create,
    /// What is there is replaced: only where an earlier look at a shorter trace may have given a
    /// line another link.
    Index,
}

/// Writes the documents of one job's lines.
#[derive(Clone)]
pub(crate) struct LineWriter {
    /// The action line up to the line's number.
    action: Vec<u8>,
    /// The facts as `,"name":value…}`: the same bytes end every document.
    tail: Vec<u8>,
    /// What a line without a time of its own gets.
    job_time: Option<Timestamp>,
    links: Option<Links>,
    clock: Clock,
}

impl LineWriter {
    /// A writer for this job's lines, whose documents all end in `facts`.
    /// `size` is the trace's in bytes, where it is known before the first line.
    pub(crate) fn new(
        action: Action,
        key: &str,
        facts: Value,
        job: Option<&Job>,
        size: Option<u64>,
    ) -> Self {
        let action = match action {
            Action::Create => "create",
            Action::Index => "index",
        };
        let facts = facts.to_string();
        let facts = facts.trim_start_matches('{');
        let comma = if facts == "}" { "" } else { "," };
        Self {
            action: format!(r#"{{"{action}":{{"_id":"{key}-"#).into_bytes(),
            tail: format!("{comma}{facts}\n").into_bytes(),
            job_time: job.map(|job| job.started_at.unwrap_or(job.created_at)),
            links: job.map(|job| Links::new(job.web_url.clone(), size)),
            clock: Clock::default(),
        }
    }

    /// The link to a line that was written; `None` where there is no job to link to.
    pub(crate) fn link(&self, number: u64, offset: u64) -> Option<String> {
        let links = self.links.as_ref()?;
        Some(links.to(number, offset))
    }

    /// Looks at the next bytes of the trace, before lines are made of them.
    pub(crate) fn see(&mut self, piece: &[u8]) {
        if let Some(links) = &mut self.links {
            links.see(piece);
        }
    }

    /// Appends the two lines of a bulk request: the action and the document.
    pub(crate) fn write_action(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.action);
        let mut digits = itoa::Buffer::new();
        let number = digits.format(line.number);
        out.extend_from_slice(&b"00000000"[..8_usize.saturating_sub(number.len())]);
        out.extend_from_slice(number.as_bytes());
        out.extend_from_slice(b"\"}}\n");
        self.write(line, out);
    }

    /// Appends the document, a line of JSON.
    pub(crate) fn write(&mut self, line: &Line<'_>, out: &mut Vec<u8>) {
        let (at, source) = match line.timestamp {
            Some(nanoseconds) => (Some(nanoseconds), line.timestamp_source),
            None => (self.job_time.map(nanoseconds), TimestampSource::Job),
        };
        out.extend_from_slice(br#"{"@timestamp":"#);
        self.clock.write(at, out);
        text_field(out, "timestamp_source", source.as_str());
        number_field(out, "line", line.number);
        number_field(out, "offset", line.offset);
        text_field(out, "message", line.text);
        // These two are always there, as `null` where there is none: `parse` promises them.
        text_or_null_field(out, "stream", line.stream.map(trace::Stream::as_str));
        text_or_null_field(out, "section", line.section);
        if let Some(level) = line.level {
            text_field(out, "level", level.as_str());
        }
        if let Some(gap) = line.gap_ms {
            number_field(out, "gap_ms", gap);
        }
        if let Some(length) = line.truncated {
            out.extend_from_slice(br#","truncated":true"#);
            number_field(out, "length", length);
        }
        if let Some(links) = &mut self.links {
            out.extend_from_slice(br#","line_url":"#);
            json_text(out, &links.of(line.number, line.offset));
        }
        out.extend_from_slice(&self.tail);
    }
}

fn nanoseconds(at: Timestamp) -> i64 {
    // Beyond the year 2262 Elasticsearch's date_nanos ends as well.
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

fn text_field(out: &mut Vec<u8>, name: &str, text: &str) {
    field(out, name);
    json_text(out, text);
}

fn text_or_null_field(out: &mut Vec<u8>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        text_field(out, name, text);
    } else {
        field(out, name);
        out.extend_from_slice(b"null");
    }
}

fn number_field(out: &mut Vec<u8>, name: &str, number: u64) {
    field(out, name);
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

fn field(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn json_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("text is JSON, and writing into memory does not fail");
}

/// Writes times. Lines of one second share all but the fraction, which alone is written anew.
#[derive(Clone, Default)]
struct Clock {
    second: i64,
    /// `"YYYY-MM-DDTHH:MM:SS`; empty before the first time.
    text: String,
}

impl Clock {
    /// RFC 3339 in UTC with microseconds, or `null`.
    fn write(&mut self, nanoseconds: Option<i64>, out: &mut Vec<u8>) {
        let time = nanoseconds.and_then(|at| {
            let second = at.div_euclid(1_000_000_000);
            Some((
                second,
                at.rem_euclid(1_000_000_000),
                Timestamp::from_second(second).ok()?,
            ))
        });
        let Some((second, fraction, at)) = time else {
            return out.extend_from_slice(b"null");
        };
        if self.text.is_empty() || second != self.second {
            self.second = second;
            self.text = format!("\"{}", at.strftime("%Y-%m-%dT%H:%M:%S"));
        }
        out.extend_from_slice(self.text.as_bytes());
        if fraction > 0 {
            write!(out, ".{:06}", fraction / 1_000).expect("writing into memory does not fail");
        }
        out.extend_from_slice(b"Z\"");
    }
}

/// Makes links to lines on GitLab's page, which shows the last 512,000 bytes of a trace, throws the
/// first (partial) line of them away, and numbers from 1 there.
#[derive(Clone)]
struct Links {
    job_url: String,
    page: Page,
    /// The number of the last line before those on the page.
    before_page: u64,
}

/// Where the page begins: after the line end that follows its first byte. A section marker begins a line
/// of ours within one of those lines, which is thrown away all the same.
#[derive(Clone)]
enum Page {
    /// Nobody knows, for nobody knows the trace's size.
    Unknown,
    /// It is still to come: so many bytes of the trace have been seen, and its first one is this.
    Ahead { seen: u64, first: u64 },
    /// With the line at this byte.
    From(u64),
}

impl Links {
    fn new(job_url: String, size: Option<u64>) -> Self {
        let page = match size.map(|size| size.checked_sub(PAGE_BYTES)) {
            None => Page::Unknown,
            Some(None | Some(0)) => Page::From(0),
            Some(Some(first)) => Page::Ahead { seen: 0, first },
        };
        Self {
            job_url,
            page,
            before_page: 0,
        }
    }

    fn see(&mut self, piece: &[u8]) {
        let Page::Ahead { seen, first } = &mut self.page else {
            return;
        };
        let before = usize::try_from(*first - (*seen).min(*first)).unwrap_or(usize::MAX);
        let on_page = piece.get(before..).unwrap_or_default();
        if let Some(end) = on_page.iter().position(|byte| *byte == b'\n') {
            self.page = Page::From(*seen + (before + end + 1) as u64);
        } else {
            *seen += piece.len() as u64;
        }
    }

    /// The link to the next line.
    fn of(&mut self, number: u64, offset: u64) -> String {
        if !self.is_on_page(offset) {
            self.before_page = number;
        }
        self.to(number, offset)
    }

    /// The link to this line or to one before it.
    fn to(&self, number: u64, offset: u64) -> String {
        match self.page {
            Page::Unknown => self.job_url.clone(),
            _ if self.is_on_page(offset) => {
                format!("{}#L{}", self.job_url, number - self.before_page)
            }
            _ => format!("{}/raw", self.job_url),
        }
    }

    fn is_on_page(&self, offset: u64) -> bool {
        matches!(self.page, Page::From(first) if offset >= first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(trace: &str, job: Option<&Job>, size: Option<u64>) -> Vec<Value> {
        let mut writer =
            LineWriter::new(Action::Create, "i-1-2", json!({"ref": "main"}), job, size);
        let mut out = Vec::new();
        let mut parser = trace::Parser::new(trace::Options::default());
        parser.push(trace.as_bytes(), &mut |line| {
            writer.write_action(&line, &mut out);
        });
        parser.finish(&mut |line| writer.write_action(&line, &mut out));
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn job() -> Job {
        let json = br#"{"id":2,"status":"success","created_at":"2026-11-22T10:00:00.5Z","web_url":"https://g/p/-/jobs/2"}"#;
        Job::parse(json).unwrap()
    }

    #[test]
    fn a_line_becomes_an_action_and_a_document() {
        let documents = documents(
            "2026-11-23T08:01:02.000450Z 01E \u{1b}[31;1mERROR: \"quoted\"\u{1b}[0;m\n",
            Some(&job()),
            Some(70),
        );
        assert_eq!(documents[0], json!({"create": {"_id": "i-1-2-00000001"}}));
        assert_eq!(
            documents[1],
            json!({
                "@timestamp": "2026-11-23T08:01:02.000450Z", "timestamp_source": "runner",
                "line": 1, "offset": 0, "message": "ERROR: \"quoted\"", "stream": "stderr", "section": null,
                "level": "error", "line_url": "https://g/p/-/jobs/2#L1", "ref": "main",
            })
        );
    }

    #[test]
    fn a_line_without_a_time_gets_the_jobs_or_none() {
        let with = documents("a\n", Some(&job()), None);
        assert_eq!(with[1]["@timestamp"], "2026-11-22T10:00:00.500000Z");
        assert_eq!(with[1]["timestamp_source"], "job");
        assert_eq!(with[1]["line_url"], "https://g/p/-/jobs/2");
        let without = documents("a\n", None, None);
        assert_eq!(without[1]["@timestamp"], Value::Null);
        assert_eq!(without[1].get("line_url"), None);
    }

    #[test]
    fn links_count_from_the_pages_first_line() {
        // The page's first byte is 100, where a line begins: it is thrown away as if it were partial. What a
        // section marker begins within it is, too.
        let mut trace = [b'x'; 200];
        for end in [99, 149] {
            trace[end] = b'\n';
        }
        for size in [1, 7, 49, 50, 51, 99, 100, 101, 200] {
            let mut links = Links::new("j".into(), Some(PAGE_BYTES + 100));
            for piece in trace.chunks(size) {
                links.see(piece);
            }
            for (number, offset, link) in [
                (1, 0, "j/raw"),
                (2, 100, "j/raw"),
                (3, 120, "j/raw"),
                (4, 150, "j#L1"),
                (5, 180, "j#L2"),
            ] {
                assert_eq!(links.of(number, offset), link, "in pieces of {size}");
            }
        }
        let mut links = Links::new("j".into(), Some(PAGE_BYTES + 100));
        links.see(&trace[..140]);
        assert_eq!(links.of(2, 120), "j/raw", "its end has not come yet");
        for size in [1, PAGE_BYTES] {
            assert_eq!(Links::new("j".into(), Some(size)).of(1, 0), "j#L1");
        }
        assert_eq!(Links::new("j".into(), None).of(1, 0), "j");
    }
}
