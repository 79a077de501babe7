//! The sample traces of `tests/traces`: what a real GitLab Runner wrote, the job's facts as GitLab gives them, and the
//! lines that a person saw. They are part of the binary.

use anyhow::Context as _;
use serde_json::Value;

/// Every file of `tests/traces` by name, sorted; written by `build.rs`.
static FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/traces.rs"));

/// One real trace with its job.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The log's file name without `.log`: `hello.ts`, `hello.plain`, `hello@18.11.ts`.
    pub name: String,
    /// The job, in the shape of `GET /api/v4/projects/:id/jobs/:job_id`, and `trace_size` and `sha256` of the log.
    pub facts: Value,
    /// The raw bytes of the log.
    pub trace: &'static [u8],
}

impl Sample {
    /// The lines that GitLab's job page shows, in order. An error where nobody has written them down yet.
    pub fn expected(&self) -> anyhow::Result<Vec<String>> {
        let name = format!("{}.lines", self.name);
        let bytes = file(&name).with_context(|| format!("tests/traces/{name} is missing"))?;
        let text = std::str::from_utf8(bytes).with_context(|| format!("tests/traces/{name}"))?;
        // Not `lines()`: that would also take a carriage return off.
        Ok(text.split_terminator('\n').map(String::from).collect())
    }
}

/// All samples, sorted by name.
///
/// # Panics
/// When a log in `tests/traces` has no facts beside it.
pub fn all() -> Vec<Sample> {
    FILES
        .iter()
        .filter_map(|(name, trace)| Some((name.strip_suffix(".log")?, *trace)))
        .map(|(name, trace)| Sample {
            name: name.to_owned(),
            facts: facts(name),
            trace,
        })
        .collect()
}

/// The sample of this name.
///
/// # Panics
/// When there is none.
pub fn named(name: &str) -> Sample {
    all()
        .into_iter()
        .find(|sample| sample.name == name)
        .unwrap_or_else(|| panic!("no sample is called {name}"))
}

/// The facts of a log: `NAME.json`, for the plain run the object under its key `plain`.
fn facts(log: &str) -> Value {
    let (job, variant) = log
        .rsplit_once('.')
        .expect("a log is called NAME.ts or NAME.plain");
    let bytes = file(&format!("{job}.json")).unwrap_or_else(|| panic!("{log} has no {job}.json"));
    let mut facts: Value = serde_json::from_slice(bytes).expect("the facts of a sample are JSON");
    let plain = facts
        .as_object_mut()
        .and_then(|facts| facts.remove("plain"));
    match variant {
        "plain" => plain.unwrap_or_else(|| panic!("{job}.json has no `plain`")),
        _ => facts,
    }
}

fn file(name: &str) -> Option<&'static [u8]> {
    FILES
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_has_its_own_facts() {
        let samples = all();
        assert!(samples.len() > 40, "{} samples", samples.len());
        for sample in samples {
            assert_eq!(
                sample.facts["trace_size"],
                sample.trace.len(),
                "{}",
                sample.name
            );
            assert_eq!(sample.facts.get("plain"), None, "{}", sample.name);
        }
    }

    #[test]
    fn lines_nobody_wrote_down_are_an_error() {
        let mut sample = named("hello.ts");
        sample.name = "nothing.ts".into();
        let error = sample.expected().unwrap_err().to_string();
        assert_eq!(error, "tests/traces/nothing.ts.lines is missing");
    }
}
