//! All facts of every line of the small real traces, against files that were read by eye.
//! `UPDATE_GOLDEN=1` writes them anew: read the difference before it is committed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/real.rs"]
mod real;
mod support;

use std::fmt::Write as _;
use std::path::Path;

use real::RealTrace;
use support::{Read, Seen, read};

/// Traces up to this size are small.
const SMALL: usize = 6 * 1024;

#[test]
fn all_facts_are_those_of_the_golden_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let traces: Vec<_> = RealTrace::all()
        .into_iter()
        .filter(|trace| trace.bytes.len() <= SMALL)
        .collect();
    for trace in &traces {
        let path = folder.join(format!("{}.txt", trace.name));
        let facts = all_facts(&read(&trace.bytes));
        if update {
            std::fs::write(&path, &facts).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        for (line, expected) in facts.lines().zip(golden.lines()) {
            assert_eq!(line, expected, "{}", trace.name);
        }
        assert_eq!(
            facts.lines().count(),
            golden.lines().count(),
            "{}",
            trace.name
        );
    }
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, traces.len(), "a golden file without its trace");
}

fn all_facts(read: &Read) -> String {
    let mut out = String::from(
        "# number offset timestamp source gap_ms stream level path | text (> a section's title)\n",
    );
    for line in &read.lines {
        writeln!(out, "{}", line_facts(line)).unwrap();
    }
    let summary = &read.summary;
    writeln!(out, "# section started seconds lines").unwrap();
    for section in &summary.sections {
        let mut options = String::new();
        options.push_str(if section.collapsed { " collapsed" } else { "" });
        options.push_str(if section.hide_duration {
            " hide_duration"
        } else {
            ""
        });
        writeln!(
            out,
            "{}. {} {} {} {}-{}{options}",
            section.ordinal,
            section.name,
            section.started,
            or_dash(section.seconds),
            section.first_line,
            section.last_line,
        )
        .unwrap();
    }
    let trailer = summary.trailer.as_ref();
    let name = or_dash(trailer.map(trace::Trailer::as_str));
    let reason = or_dash(trailer.and_then(trace::Trailer::reason));
    writeln!(out, "# trailer {name}: {reason}").unwrap();
    writeln!(out, "# {:?}", summary.accounting).unwrap();
    out
}

fn line_facts(line: &Seen) -> String {
    let stream = match (line.stream, line.stream_number) {
        (Some(stream), Some(number)) => format!("{stream}:{number}"),
        _ => "-".to_owned(),
    };
    let cut = line
        .truncated
        .map(|length| format!(" (cut, {length} bytes)"));
    format!(
        "{:>3} {:>5} {} {} {} {stream} {} {} |{}{}{}",
        line.number,
        line.offset,
        line.timestamp.map_or("-".to_owned(), time_of_day),
        line.source,
        or_dash(line.gap_ms),
        or_dash(line.level),
        if line.path.is_empty() {
            "-".to_owned()
        } else {
            line.path.join("/")
        },
        if line.header { ">" } else { " " },
        line.text,
        cut.unwrap_or_default(),
    )
}

/// `23:33:40.874390`, as the runner's header has it; the day is that of the trace.
fn time_of_day(nanoseconds: i64) -> String {
    let (seconds, below) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    assert_eq!(below % 1000, 0, "the runner counts microseconds");
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{hour:02}:{minute:02}:{second:02}.{:06}", below / 1000)
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}
