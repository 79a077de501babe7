//! Traces that a real runner wrote, each in one piece and in chunks: their lines are those that
//! another program made of them, their sections, ends, times and sums those that stand in the bytes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/real.rs"]
mod real;
mod support;

use std::collections::HashMap;

use real::RealTrace;
use support::{Read, laws, read, read_every_way};
use trace::Trailer;

#[test]
fn every_line_is_the_one_expected() {
    let traces = RealTrace::all();
    assert_eq!(traces.len(), 44);
    for trace in traces {
        let read = read_every_way(&trace.bytes);
        assert_eq!(
            read.texts(),
            trace.lines.lines().collect::<Vec<_>>(),
            "{}",
            trace.name
        );
        assert_eq!(
            read.summary.timestamped,
            trace.is_timestamped(),
            "{}",
            trace.name
        );
        assert_eq!(read.summary.invalid_utf8, 0, "{}", trace.name);
    }
}

/// The model knows times, streams, offsets and byte counts, which the expected lines do not.
#[test]
fn every_fact_is_that_of_the_model() {
    for trace in RealTrace::all() {
        println!("{}", trace.name);
        laws::assert_all(&trace.bytes, trace.bytes.len() as u64);
    }
}

#[test]
fn sizes_and_sums_are_those_of_the_job() {
    for trace in RealTrace::all() {
        let summary = read(&trace.bytes).summary;
        let sha256 = summary.sha256.map(|byte| format!("{byte:02x}")).concat();
        assert_eq!(trace.facts["sha256"], sha256, "{}", trace.name);
        assert_eq!(trace.facts["trace_size"], summary.bytes, "{}", trace.name);
    }
}

#[test]
fn every_trace_ends_in_what_the_runner_said_last() {
    for trace in RealTrace::all() {
        let facts = [&trace.facts["status"], &trace.facts["failure_reason"]];
        let expected = match facts.map(|fact| fact.as_str().unwrap_or_default()) {
            // The limit's notice is the end of the trace, and says nothing of the job's.
            _ if trace.job() == "log-limit" => "limit_exceeded",
            ["success", ""] => "succeeded",
            ["canceled", ""] => "canceled",
            ["failed", "script_failure"] => "failed",
            ["failed", "job_execution_timeout"] => "timed_out",
            other => panic!("{}: {other:?}", trace.name),
        };
        let trailer = read(&trace.bytes).summary.trailer;
        assert_eq!(
            trailer.as_ref().map(Trailer::as_str),
            Some(expected),
            "{}",
            trace.name
        );
    }
}

#[test]
fn the_reason_is_the_runners() {
    for (name, reason) in [
        ("cargo-build.ts", "exit status 101"),
        ("cargo-build.plain", "exit status 101"),
        ("command-not-found.ts", "exit status 127"),
        ("cancel-graceful.plain", "canceled"),
    ] {
        let trailer = read(&RealTrace::named(name).bytes).summary.trailer.unwrap();
        assert_eq!(trailer.reason(), Some(reason), "{name}");
    }
    let limit = read(&RealTrace::named("log-limit.ts").bytes)
        .summary
        .trailer;
    assert_eq!(limit, Some(Trailer::LimitExceeded { bytes: 65_536 }));
}

/// Wherever a trace is cut before the runner has said it all, it has no trailer. (The first of the
/// limit's two lines says it all; of a failure, so does what precedes the reason.)
#[test]
fn a_cut_trace_has_no_trailer() {
    let last_words = [
        "Job succeeded",
        "ERROR: Job failed: ",
        "exceeded limit of 65536 bytes.",
    ];
    for trace in RealTrace::all() {
        let text = std::str::from_utf8(&trace.bytes).unwrap();
        let ends = last_words
            .iter()
            .filter_map(|words| Some(text.rfind(words)? + words.len()));
        let said = ends.max().unwrap();
        let near = said - 40..said;
        let far = (0..said).step_by(1 + said / 150);
        for cut in near.chain(far) {
            let trailer = read(&trace.bytes[..cut]).summary.trailer;
            assert_eq!(trailer, None, "{} cut at {cut}", trace.name);
        }
        let trailer = read(&trace.bytes[..said]).summary.trailer;
        assert!(trailer.is_some(), "{} cut at {said}", trace.name);
    }
}

/// Name, start and duration of each section, read from the bytes without the parser: pieces of a
/// line joined by stream, then whatever stands between `section_` and `\r\e[0K`.
fn written_sections(trace: &RealTrace) -> Vec<(String, i64, Option<u64>)> {
    let text = std::str::from_utf8(&trace.bytes).unwrap();
    let mut lines: Vec<String> = Vec::new();
    let mut last_of_stream: HashMap<&str, usize> = HashMap::new();
    for line in text.split('\n') {
        match line.get(..32) {
            Some(header) if trace.is_timestamped() && header[26..].starts_with("Z ") => {
                let index = match last_of_stream.get(&header[28..31]) {
                    Some(&index) if header.ends_with('+') => index,
                    _ => {
                        lines.push(String::new());
                        lines.len() - 1
                    }
                };
                lines[index].push_str(&line[32..]);
                last_of_stream.insert(&header[28..31], index);
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let mut sections: Vec<(String, i64, Option<u64>)> = Vec::new();
    for marker in lines.iter().flat_map(|line| line.split("section_").skip(1)) {
        let Some((marker, _)) = marker.split_once("\r\x1b[0K") else {
            continue; // What the runner echoes of the script that prints it.
        };
        let [kind, time, name] = marker.splitn(3, ':').collect::<Vec<_>>()[..] else {
            panic!("{}: {marker}", trace.name);
        };
        let name = name.split('[').next().unwrap();
        let time: i64 = time.parse().unwrap();
        if name == "Bad Name!" {
            continue; // GitLab takes it for text.
        }
        let open = sections
            .iter_mut()
            .rev()
            .find(|(open, _, seconds)| open == name && seconds.is_none());
        match (kind, open) {
            ("start", None) => sections.push((name.to_owned(), time, None)),
            ("end", Some((_, started, seconds))) => *seconds = u64::try_from(time - *started).ok(),
            ("end", None) => assert_eq!(name, "never_opened"),
            other => panic!("{}: {other:?}", trace.name),
        }
    }
    sections
}

#[test]
fn sections_are_those_that_were_written() {
    for trace in RealTrace::all() {
        let sections = read(&trace.bytes).summary.sections;
        let sections = sections.into_iter().map(|s| (s.name, s.started, s.seconds));
        let written = written_sections(&trace);
        assert_eq!(sections.collect::<Vec<_>>(), written, "{}", trace.name);
        assert_eq!(written[0].0, "prepare_executor", "{}", trace.name);
        let open: Vec<_> = written
            .iter()
            .filter(|s| s.2.is_none())
            .map(|s| &s.0[..])
            .collect();
        match trace.job() {
            "sections" => assert_eq!(open, ["never_closed"]),
            "log-limit" => assert_eq!(open, ["step_script"]),
            _ => assert_eq!(open, [""; 0], "{}", trace.name),
        }
    }
}

/// A text with each word (letters and digits) that holds a digit as `#`: counts, times, sizes,
/// ids, hashes, addresses.
fn without_numbers(text: &str) -> String {
    let mut kept = String::new();
    for part in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let word_kept = if word.bytes().any(|b| b.is_ascii_digit()) {
            "#"
        } else {
            word
        };
        kept.push_str(word_kept);
        kept.push_str(&part[word.len()..]);
    }
    kept
}

/// Section, level and text of each line, for comparing two runs of a job. Two things are left out:
/// the runner's line on its feature flags, which only the run without timestamps has, and numbers.
fn comparable(read: &Read) -> Vec<(Option<String>, Option<&'static str>, String)> {
    let lines = read
        .lines
        .iter()
        .filter(|line| !line.text.starts_with("  feature flags: "));
    lines
        .map(|line| {
            (
                line.section.clone(),
                line.level,
                without_numbers(&line.text),
            )
        })
        .collect()
}

/// What was otherwise in one run than in the other, line by line, numbers as `#`.
const CREATED: &str = "Initialized empty Git repository in /builds/test/#/acme/demo/.git/";
const OPENED: &str = "Reinitialized existing Git repository in /builds/test/#/acme/demo/.git/";
#[rustfmt::skip]
const DIFFERENCES: [(&str, &[&str], &[&str]); 6] = [
    // job, lines of `.plain` alone, lines of `.ts` alone
    ("artifacts-cache", &["Removing .cachedir/", "Removing out/"], &[]),
    ("cargo-build", &[], &["    Blocking waiting for file lock on package cache"]),
    ("fail-exit1", &[OPENED], &[CREATED, "Created fresh repository."]),
    ("hello", &[OPENED], &[CREATED, "Created fresh repository."]),
    // Without timestamps two streams that write parts of lines share those lines.
    (
        "interleave",
        &["partial-out partial-err rest-of-out", "slowrest-of-err", " # # # #"],
        &["partial-out rest-of-out", "partial-err rest-of-err", "slow # # # #"],
    ),
    ("timeout", &[], &["tick #"]),
];

/// Jobs in which standard output and error, or two processes, meet in another order each time.
const ORDER_VARIES: [&str; 5] = [
    "fail-exit1",
    "git-log-graph",
    "interleave",
    "make-j2",
    "pytest",
];

#[test]
fn with_timestamps_a_job_shows_the_same_as_without() {
    let mut jobs = 0;
    for plain in RealTrace::all() {
        let job = plain.job();
        if plain.is_timestamped() || job == "log-limit" {
            continue; // The limit counts headers: its two traces hold different parts of the log.
        }
        let stamped = RealTrace::named(&format!("{job}.ts"));
        let mut sides = [&plain, &stamped].map(|trace| comparable(&read(&trace.bytes)));
        let differences = DIFFERENCES.iter().find(|(name, ..)| *name == job);
        if let Some((_, only_plain, only_stamped)) = differences {
            for (lines, only) in sides.iter_mut().zip([only_plain, only_stamped]) {
                for text in *only {
                    let index = lines.iter().position(|line| line.2 == *text);
                    lines.remove(index.unwrap_or_else(|| panic!("{job}: no {text}")));
                }
            }
        }
        if ORDER_VARIES.contains(&job) {
            for lines in &mut sides {
                lines.sort();
            }
        }
        assert_eq!(sides[0], sides[1], "{job}");
        jobs += 1;
    }
    assert_eq!(jobs, 19);
}

/// Runner 18.11 cuts pieces behind a carriage return, 19.4 where the program's write ended.
#[test]
fn both_layouts_of_carriage_returns_show_the_same() {
    for job in ["sections", "curl-progress", "apt-reinstall"] {
        let names = [format!("{job}@18.11.ts"), format!("{job}.ts")];
        let [old, new] = names.map(|name| {
            let mut lines = comparable(&read(&RealTrace::named(&name).bytes));
            assert!(
                lines
                    .remove(0)
                    .2
                    .starts_with("Running with gitlab-runner #.#.#")
            );
            // What `git clean` finds to remove was left by whichever job ran there before.
            lines.retain(|line| !line.2.starts_with("Removing "));
            lines
        });
        assert_eq!(old, new, "{job}");
    }
}

#[test]
fn paths_of_nested_crossing_and_unclosed_sections() {
    let read = read(&RealTrace::named("sections.ts").bytes);
    let line = |text: &str| read.lines.iter().find(|line| line.text == text).unwrap();
    assert_eq!(line("in inner").path, ["step_script", "outer", "inner"]);
    assert_eq!(line("after a closed").path, ["step_script", "crossing_b"]);
    assert_eq!(line("a name GitLab does not take").path, ["step_script"]);
    assert_eq!(line("Job succeeded").path, ["never_closed"]);
    let of = |name: &str| {
        read.summary
            .sections
            .iter()
            .find(|section| section.name == name)
            .unwrap()
    };
    assert!(of("my_first_section").collapsed && !of("outer").collapsed);
    assert!(of("with-dots.and_dashes-1").hide_duration && !of("outer").hide_duration);
    assert_eq!(of("empty").lines(), 1);
}

#[test]
fn where_times_come_from() {
    let stamped = read(&RealTrace::named("fail-exit1.ts").bytes);
    assert!(
        stamped
            .lines
            .iter()
            .all(|line| line.source == "runner" && line.timestamp.is_some())
    );
    let plain = read(&RealTrace::named("fail-exit1.plain").bytes);
    let sources: Vec<_> = plain.lines.iter().map(|line| line.source).collect();
    assert_eq!(sources[..3], ["job"; 3]);
    assert!(sources[3..].iter().all(|&source| source == "section"));
    assert!(
        plain
            .lines
            .iter()
            .all(|line| line.gap_ms.is_none() && line.stream.is_none())
    );
}

/// The limit cut a header: what is left of it is a line, and so is the notice, at the last time known.
#[test]
fn a_cut_inside_a_header() {
    let read = read(&RealTrace::named("log-limit.ts").bytes);
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
