//! Traces that a real runner wrote (`tests/traces` of the workspace), whole and in portions, against
//! golden files that another program made by GitLab's rules and that were reviewed by eye.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use support::{Read, read, read_every_way};
use trace::Trailer;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/traces"))
}

/// Name (`hello.ts`) and bytes of every trace.
fn traces() -> BTreeMap<String, Vec<u8>> {
    let paths = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let logs = paths.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read(path).unwrap())
    })
    .collect()
}

fn trace(name: &str) -> Read {
    read(&std::fs::read(folder().join(format!("{name}.log"))).unwrap())
}

#[test]
fn every_line_is_that_of_the_golden_file() {
    let traces = traces();
    assert_eq!(traces.len(), 44);
    for (name, bytes) in traces {
        let golden = std::fs::read_to_string(folder().join(format!("{name}.lines"))).unwrap();
        let read = read_every_way(&bytes);
        assert_eq!(read.texts(), golden.lines().collect::<Vec<_>>(), "{name}");
        assert_eq!(read.summary.timestamped, name.ends_with(".ts"), "{name}");
    }
}

#[test]
fn every_trace_ends_in_what_the_runner_said_last() {
    for name in traces().keys() {
        let job = name.split(['.', '@']).next().unwrap();
        let expected = match job {
            "timeout" => "timed_out",
            "cancel-graceful" => "canceled",
            "log-limit" => "limit_exceeded",
            "cargo-build" | "command-not-found" | "fail-exit1" | "gcc-errors" | "go-test"
            | "make-j2" | "pytest" => "failed",
            _ => "succeeded",
        };
        let trailer = trace(name).summary.trailer;
        assert_eq!(
            trailer.as_ref().map(Trailer::as_str),
            Some(expected),
            "{name}"
        );
    }
    let reason = trace("cargo-build.ts").summary.trailer;
    assert_eq!(reason.unwrap().reason(), Some("exit status 101"));
    let limit = trace("log-limit.ts").summary.trailer;
    assert_eq!(limit, Some(Trailer::LimitExceeded { bytes: 65_536 }));
}

/// A trace that lacks its end has no trailer, wherever it was cut.
#[test]
fn a_cut_trace_has_no_trailer() {
    for (name, bytes) in traces() {
        let end = bytes[..bytes.len() - 1]
            .iter()
            .rposition(|&byte| byte == b'\n')
            .unwrap();
        for cut in [end + 1, end, end / 2, end / 3] {
            let trailer = read(&bytes[..cut]).summary.trailer;
            let in_notice = name.starts_with("log-limit") && cut + 80 > end;
            assert!(
                trailer.is_none() || in_notice,
                "{name} cut at {cut}: {trailer:?}"
            );
        }
    }
}

/// Every `section_start` of these traces is well-formed, but for the one with a bad name.
#[test]
fn sections_are_those_that_were_written() {
    for (name, bytes) in traces() {
        let read = read(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let bad = text.matches(":Bad Name!\r").count() / 2;
        let echoed =
            text.matches("section_start:`").count() + text.matches("section_start:%s").count();
        let starts = text.matches("section_start:").count() - bad - echoed;
        assert_eq!(read.summary.sections.len(), starts, "{name}");
        let open: Vec<_> = read
            .summary
            .sections
            .iter()
            .filter(|section| section.seconds.is_none())
            .collect();
        match name.split(['.', '@']).next().unwrap() {
            "sections" => assert_eq!(open[0].name, "never_closed"),
            "log-limit" => assert_eq!(open[0].name, "step_script"),
            _ => assert!(open.is_empty(), "{name}: {open:?}"),
        }
    }
}

#[test]
fn sections_of_all_kinds() {
    let read = trace("sections.ts");
    let of = |name: &str| {
        read.summary
            .sections
            .iter()
            .filter(|s| s.name == name)
            .collect::<Vec<_>>()
    };
    assert!(of("my_first_section")[0].collapsed);
    assert_eq!(of("my_first_section")[0].seconds, Some(2));
    assert_eq!(
        (
            of("my_first_section")[0].first_line,
            of("my_first_section")[0].last_line
        ),
        (15, 19)
    );
    assert!(of("with-dots.and_dashes-1")[0].hide_duration);
    assert_eq!(of("dup").len(), 2);
    assert_eq!(of("empty")[0].lines(), 1);
    let line = |text: &str| read.lines.iter().find(|line| line.text == text).unwrap();
    assert_eq!(line("in inner").path, ["step_script", "outer", "inner"]);
    assert_eq!(line("after a closed").path, ["step_script", "crossing_b"]);
    assert_eq!(
        line("a name GitLab does not take").section.as_deref(),
        Some("step_script")
    );
    assert_eq!(
        line("Job succeeded").section.as_deref(),
        Some("never_closed")
    );
}

#[test]
fn times_streams_and_gaps() {
    let read = trace("fail-exit1.ts");
    assert!(
        read.lines
            .iter()
            .all(|line| line.source == "runner" && line.timestamp.is_some())
    );
    let line = read
        .lines
        .iter()
        .find(|line| line.text.starts_with("ls: cannot access"))
        .unwrap();
    assert_eq!((line.stream, line.stream_number), (Some("stderr"), Some(1)));
    assert_eq!(line.timestamp, Some(1_795_476_788_194_218_000));
    assert_eq!(line.gap_ms, Some(1));

    let read = trace("fail-exit1.plain");
    let sources: Vec<_> = read.lines.iter().map(|line| line.source).collect();
    assert_eq!(sources[..3], ["job"; 3]);
    assert!(sources[3..].iter().all(|&source| source == "section"));
    assert!(
        read.lines
            .iter()
            .all(|line| line.gap_ms.is_none() && line.stream.is_none())
    );
}

/// The limit cut a header: what is left of it is a line, and so is the notice, at the last time known.
#[test]
fn a_cut_inside_a_header() {
    let read = trace("log-limit.ts");
    let [.., before, cut, notice, _] = &read.lines[..] else {
        panic!()
    };
    assert_eq!(cut.text, "2026-11-23");
    assert_eq!(notice.text, "Job's log exceeded limit of 65536 bytes.");
    for line in [cut, notice] {
        assert_eq!((line.stream, line.timestamp), (None, before.timestamp));
        assert_eq!((line.source, line.gap_ms), ("runner", None));
    }
}

/// Digits and ids apart, and without the runner's own line on its flags.
fn comparable(read: &Read) -> BTreeMap<String, i32> {
    let mut counts = BTreeMap::new();
    for text in read.texts() {
        if text.starts_with("  feature flags: ") {
            continue;
        }
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '\u{fffd}');
        let kept = words
            .filter(|word| !word.is_empty() && !word.bytes().any(|byte| byte.is_ascii_digit()));
        *counts
            .entry(kept.collect::<Vec<_>>().join(" "))
            .or_default() += 1;
    }
    counts
}

/// With and without the runner's timestamps the same job shows the same lines, but for what the
/// tools themselves did anew: a fresh clone, a lock, one tick more, two streams meeting elsewhere.
#[test]
fn timestamps_change_nothing_that_is_shown() {
    let differing: BTreeMap<&str, usize> = BTreeMap::from([
        ("artifacts-cache", 2),
        ("cargo-build", 1),
        ("fail-exit1", 3),
        ("hello", 3),
        ("interleave", 6),
        ("timeout", 1),
    ]);
    for name in traces().keys() {
        let Some(job) = name.strip_suffix(".plain") else {
            continue;
        };
        if job == "log-limit" {
            continue; // The limit counts the headers: the two hold different parts of the log.
        }
        let mut counts = comparable(&trace(name));
        for (text, count) in comparable(&trace(&format!("{job}.ts"))) {
            *counts.entry(text).or_default() -= count;
        }
        counts.retain(|_, count| *count != 0);
        let allowed = differing.get(job).copied().unwrap_or(0);
        assert_eq!(counts.len(), allowed, "{job}: {counts:?}");
    }
}

#[test]
fn the_sum_is_that_of_the_file_of_facts() {
    for (name, bytes) in traces() {
        let (job, kind) = name.rsplit_once('.').unwrap();
        let facts = std::fs::read(folder().join(format!("{job}.json"))).unwrap();
        let facts: serde_json::Value = serde_json::from_slice(&facts).unwrap();
        let facts = if kind == "plain" {
            &facts["plain"]
        } else {
            &facts
        };
        let sha256 = read(&bytes)
            .summary
            .sha256
            .map(|byte| format!("{byte:02x}"))
            .concat();
        assert_eq!(facts["sha256"], sha256, "{name}");
        assert_eq!(facts["trace_size"], bytes.len(), "{name}");
    }
}
