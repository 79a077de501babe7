//! One line of a job as the simulated GitLab issued it, and what differs in the document that should be it.

use std::fmt::Debug;

use anyhow::{Result, bail};
use e2e::elasticsearch::Hit;
use e2e::gitlab::{ExpectedLine, Job, Stream};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// GitLab's job page shows so many bytes of the end of a trace (GITLAB.md, 1.6).
const PAGE: usize = 512_000;

/// So many bytes of a line are kept, and one that has more is marked.
const KEPT: usize = 32 * 1024;
/// Characters of a value that a report shows.
const SHOWN: usize = 500;

/// A line that was issued: its number and its text, and all the rest where the trace is a generated one.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) text: String,
    rest: Option<ExpectedLine>,
}

/// Every line that was issued, in order.
pub(crate) fn expected_lines(job: &Job) -> Result<Box<dyn Iterator<Item = Line> + Send>> {
    if job.is_generated() {
        return Ok(Box::new(job.expected_lines().map(|mut line| Line {
            number: line.number,
            // Moved, for there are texts of many megabytes.
            text: std::mem::take(&mut line.text),
            rest: Some(line),
        })));
    }
    let texts = job.expected_texts()?;
    Ok(Box::new((1..).zip(texts).map(|(number, text)| Line {
        number,
        text,
        rest: None,
    })))
}

/// What of a trace the job's page shows.
pub(crate) struct Page {
    job_url: String,
    /// Where its first whole line begins.
    begins_at: u64,
    lines_before: u64,
}

impl Page {
    pub(crate) fn of(job: &Job) -> Self {
        let job_url = job.facts()["web_url"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let cut = job.trace_size().checked_sub(PAGE).filter(|cut| *cut > 0);
        // The first line is thrown away, for it is partial.
        let begins_at = cut.map_or(0, |cut| end_of_line(job, cut));
        Self {
            job_url,
            begins_at: begins_at as u64,
            lines_before: 0,
        }
    }

    /// The link to a line; called in their order.
    pub(crate) fn url_of(&mut self, line: &Line) -> Result<String> {
        let offset = line.rest.as_ref().map(|rest| rest.offset);
        let is_before = match (offset, self.begins_at) {
            (_, 0) => false,
            (Some(offset), begins_at) => offset < begins_at,
            (None, _) => {
                bail!("of a trace this long only the lines of a generated one have a known place")
            }
        };
        if is_before {
            self.lines_before = line.number;
            return Ok(format!("{}/raw", self.job_url));
        }
        Ok(format!(
            "{}#L{}",
            self.job_url,
            line.number - self.lines_before
        ))
    }
}

/// Where the line ends that this place lies in.
fn end_of_line(job: &Job, place: usize) -> usize {
    let mut at = 0;
    for piece in job.trace_pieces() {
        let from = place.saturating_sub(at);
        let rest = piece.get(from..).unwrap_or_default();
        if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            return at + from + end + 1;
        }
        at += piece.len();
    }
    at
}

/// A document, and what is wrong with it.
pub(crate) struct Found<'a> {
    document: &'a Hit,
    pub(crate) differences: Vec<String>,
}

impl<'a> Found<'a> {
    pub(crate) fn new(document: &'a Hit) -> Self {
        Self {
            document,
            differences: Vec::new(),
        }
    }

    /// Against the line in its place.
    pub(crate) fn compare(&mut self, expected: &Line, line_url: &str) {
        let document = &self.document.source;
        self.is("line", &document["line"], &json!(expected.number));
        let kept = &expected.text[..expected.text.floor_char_boundary(KEPT)];
        let is_cut = kept.len() < expected.text.len();
        self.is("message", &document["message"], &json!(kept));
        let truncated = json!(is_cut.then_some(true));
        self.is("truncated", &document["truncated"], &truncated);
        let length = json!(is_cut.then_some(expected.text.len()));
        self.is("length", &document["length"], &length);
        self.is("line_url", &document["line_url"], &json!(line_url));
        let Some(rest) = &expected.rest else { return };
        let stream = rest.stream.map(|stream| match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        });
        self.is("stream", &document["stream"], &json!(stream));
        self.is("section", &document["section"], &json!(rest.section));
        let offset = document["offset"].as_u64();
        // The line may begin after a section marker within its first physical line.
        if !offset.is_some_and(|offset| (rest.offset..rest.offset + 200).contains(&offset)) {
            self.differences
                .push(format!("offset is {offset:?}, not at {}", rest.offset));
        }
        if let Some(nanoseconds) = rest.timestamp_ns {
            let at = document["@timestamp"]
                .as_str()
                .and_then(|text| text.parse::<Timestamp>().ok());
            let at = at.map(Timestamp::as_nanosecond);
            self.is("@timestamp", &at, &Some(i128::from(nanoseconds)));
            self.is(
                "timestamp_source",
                &document["timestamp_source"],
                &json!("runner"),
            );
        }
    }

    /// Against the facts that stand on every line.
    pub(crate) fn has(&mut self, facts: &Map<String, Value>) {
        for (name, value) in facts {
            self.is(name, &self.document.source[name], value);
        }
    }

    pub(crate) fn is<T: PartialEq + Debug>(&mut self, name: &str, found: &T, right: &T) {
        if found != right {
            let [found, right] = [format!("{found:?}"), format!("{right:?}")];
            self.differences
                .push(format!("{name} is {found:.SHOWN$}, not {right:.SHOWN$}"));
        }
    }
}
