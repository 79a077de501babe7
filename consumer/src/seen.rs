//! What is noted of a log while its lines go by, for its manifest. It does not grow with the log.

use std::sync::Arc;

use failure::{Ending, Finding, Investigation, RelevantLine, Rules};
use serde_json::{Value, json};
use trace::{Level, Line};

use crate::{document::LineWriter, job::Job};

/// Error lines in a manifest, and bytes of each one's text.
const MOST_ERRORS: usize = 10;
const LONGEST: usize = 1024;

/// What was noted so far.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    errors: Vec<Value>,
    slowest_gap: Option<Gap>,
    investigation: Option<Investigation>,
}

/// The longest silence, and the line after it.
#[derive(Clone)]
struct Gap {
    milliseconds: u64,
    line: u64,
    offset: u64,
    section: Option<String>,
    message: String,
}

impl Seen {
    /// Nothing yet, of a job that may have failed.
    pub(crate) fn of_failed(rules: &Arc<Rules>) -> Self {
        Self {
            investigation: Some(Investigation::new(rules.clone())),
            ..Self::default()
        }
    }

    /// Nothing yet, of this job.
    pub(crate) fn of(job: &Job, rules: &Arc<Rules>) -> Self {
        match ending(job) {
            Some(_) => Self::of_failed(rules),
            None => Self::default(),
        }
    }

    /// Looks at a line.
    pub(crate) fn see(&mut self, line: &Line<'_>) {
        if self.errors.len() < MOST_ERRORS && line.level == Some(Level::Error) {
            self.errors.push(json!({
                "line": line.number,
                "section": line.section,
                "message": start(line.text),
            }));
        }
        let longest = self.slowest_gap.as_ref().map_or(0, |gap| gap.milliseconds);
        if let Some(gap_ms) = line.gap_ms
            && gap_ms > longest
        {
            self.slowest_gap = Some(Gap {
                milliseconds: gap_ms,
                line: line.number,
                offset: line.offset,
                section: line.section.map(str::to_owned),
                message: start(line.text).to_owned(),
            });
        }
        if let Some(investigation) = &mut self.investigation {
            investigation.see(line);
        }
    }

    /// The first error lines.
    pub(crate) fn errors(&self) -> Value {
        self.errors.clone().into()
    }

    /// The longest silence as the manifest has it, `gap_ms` in milliseconds; `null` where the runner stamped
    /// no lines.
    pub(crate) fn slowest_gap(&self, links: &LineWriter) -> Value {
        let document = |gap: &Gap| {
            json!({
                "gap_ms": gap.milliseconds,
                "line": gap.line,
                "section": gap.section,
                "message": gap.message,
                "line_url": links.link(gap.line, gap.offset),
            })
        };
        self.slowest_gap.as_ref().map_or(Value::Null, document)
    }

    /// Why the job failed, if it did.
    pub(crate) fn failure(&mut self, ending: &Ending<'_>) -> Option<Finding> {
        let investigation = self.investigation.take()?;
        Some(investigation.conclude(ending))
    }
}

/// How a job ended that did not go well.
pub(crate) fn ending(job: &Job) -> Option<Ending<'_>> {
    let failed = matches!(job.status.as_str(), "failed" | "canceled");
    failed.then(|| Ending {
        status: &job.status,
        failure_reason: job.failure_reason.as_deref(),
    })
}

/// A failure as the manifest has it; `line_url` makes links to lines.
pub(crate) fn failure_document(
    finding: &Finding,
    line_url: impl Fn(&RelevantLine) -> Option<String>,
) -> Value {
    let mut document = json!({
        "class": finding.class.as_str(),
        "signature": finding.signature,
        "pattern": finding.pattern,
        "lines": finding.lines.iter().map(|line| json!({
            "line": line.number,
            "section": line.section,
            "message": line.text,
        })).collect::<Vec<_>>(),
    });
    if let Some(rule) = &finding.rule {
        document["rule"] = rule.as_str().into();
    }
    if let Some(first) = &finding.first {
        document["message"] = first.text.as_str().into();
        document["line"] = first.number.into();
        document["section"] = first.section.as_deref().into();
        document["line_url"] = line_url(first).into();
    }
    document
}

fn start(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(trace: &str) -> (Seen, LineWriter) {
        let job = br#"{"id":2,"status":"failed","created_at":"2026-11-22T10:00:00.5Z","web_url":"https://g/p/-/jobs/2"}"#;
        let job = Job::parse(job).unwrap();
        let mut seen = Seen::of(&job, &Arc::new(Rules::ours().unwrap()));
        let size = Some(trace.len() as u64);
        let writer = LineWriter::new(
            crate::document::Action::Create,
            "i-1-2",
            json!({}),
            Some(&job),
            size,
        );
        let mut parser = trace::Parser::new(trace::Options::default());
        parser.push(trace.as_bytes(), &mut |line| seen.see(&line));
        parser.finish(&mut |line| seen.see(&line));
        (seen, writer)
    }

    #[test]
    fn the_longest_silence_is_named_with_the_line_after_it() {
        let (seen, links) = seen(
            "2026-11-23T08:00:00.000000Z 01O a\n2026-11-23T08:00:02.000000Z 01O b\n2026-11-23T08:00:02.500000Z 01O c\n",
        );
        assert_eq!(
            seen.slowest_gap(&links),
            json!({"gap_ms": 2000, "line": 2, "section": null, "message": "b", "line_url": "https://g/p/-/jobs/2#L2"})
        );
        assert_eq!(Seen::default().slowest_gap(&links), Value::Null);
    }

    #[test]
    fn a_failure_has_the_line_that_says_why() {
        let (mut seen, links) = seen("a\nmain.c:3:1: error: 'x' undeclared\nb\n");
        let ending = Ending {
            status: "failed",
            failure_reason: Some("script_failure"),
        };
        let finding = seen.failure(&ending).unwrap();
        let document = failure_document(&finding, |line| links.link(line.number, line.offset));
        assert_eq!(document["class"], "code");
        assert_eq!(document["rule"], "compiler");
        assert_eq!(document["line"], 2);
        assert_eq!(document["line_url"], "https://g/p/-/jobs/2#L2");
        assert_eq!(document["lines"].as_array().unwrap().len(), 3);
        assert!(seen.failure(&ending).is_none(), "it is told once");
    }
}
