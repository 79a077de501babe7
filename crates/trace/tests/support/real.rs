//! The traces that a real runner wrote, `tests/traces` of the workspace.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::path::PathBuf;

/// A trace and what is known of it beside its bytes.
#[derive(Debug)]
pub(crate) struct RealTrace {
    /// `hello.ts`, `hello@18.11.ts`, `hello.plain`
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// The lines that another program made of it by the rules of GitLab's page.
    pub(crate) lines: String,
    /// The job, as GitLab's API gives it.
    pub(crate) facts: serde_json::Value,
}

impl RealTrace {
    pub(crate) fn named(name: &str) -> Self {
        let read = |name: &str, extension: &str| {
            let path = folder().join(format!("{name}.{extension}"));
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let (job, kind) = name.rsplit_once('.').unwrap();
        let mut facts: serde_json::Value = serde_json::from_slice(&read(job, "json")).unwrap();
        if kind == "plain" {
            facts = facts["plain"].take();
        }
        Self {
            name: name.to_owned(),
            bytes: read(name, "log"),
            lines: String::from_utf8(read(name, "lines")).unwrap(),
            facts,
        }
    }

    /// All of them, by name.
    pub(crate) fn all() -> Vec<Self> {
        let entries = std::fs::read_dir(folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let logs = names.filter_map(|name| name.strip_suffix(".log").map(str::to_owned));
        let mut names: Vec<_> = logs.collect();
        names.sort();
        names.iter().map(|name| Self::named(name)).collect()
    }

    /// `hello`, whichever runner wrote it, with timestamps or without.
    pub(crate) fn job(&self) -> &str {
        self.name.split(['.', '@']).next().unwrap()
    }

    pub(crate) fn is_timestamped(&self) -> bool {
        self.name.rsplit('.').next() == Some("ts")
    }
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/traces"))
}
