//! GitLab's own cases (`ansi2json_spec.rb`) and the runner's (`timestamper_test.go`, `innerstream_test.go`).
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use serde_json::Value;
use support::{Read, read_every_way};

fn load(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

/// The file's own notation: `\xHH`, `\r`, `\n`, `\t`, `\\` are bytes.
fn unescape(notation: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = notation.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next().unwrap() {
            b'x' => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap()
            }
            b'r' => b'\r',
            b'n' => b'\n',
            b't' => b'\t',
            byte => byte,
        });
    }
    bytes
}

/// RFC 3339 in UTC, by GNU date's arithmetic, for the day of the vectors.
fn nanoseconds(timestamp: &str) -> i64 {
    let (day, time) = timestamp
        .strip_suffix('Z')
        .unwrap()
        .split_once('T')
        .unwrap();
    assert_eq!(day, "2024-05-14");
    let parts: Vec<f64> = time.split(':').map(|part| part.parse().unwrap()).collect();
    let micros = ((parts[0] * 60.0 + parts[1]) * 60.0 + parts[2]) * 1e6;
    #[allow(clippy::cast_possible_truncation)]
    let micros = micros.round() as i64;
    1_715_644_800_000_000_000 + micros * 1_000
}

/// Checks lines with content one by one: text, offset, time, section, and whether it is a title.
fn check(id: &str, read: &Read, expected: &[Value]) {
    let expected: Vec<_> = expected
        .iter()
        .filter(|line| !list(line, "content").is_empty())
        .collect();
    assert_eq!(read.lines.len(), expected.len(), "{id}");
    for (line, expected) in read.lines.iter().zip(expected) {
        let segments = list(expected, "content")
            .iter()
            .map(|segment| text(segment, "text"));
        assert_eq!(line.text, segments.collect::<String>(), "{id}");
        assert_eq!(Some(line.offset), expected["offset"].as_u64(), "{id}");
        assert_eq!(line.header, expected["section_header"] == true, "{id}");
        let section = line.section.as_deref().map(display);
        assert_eq!(section.as_deref(), expected["section"].as_str(), "{id}");
        if let Some(timestamp) = expected["timestamp"].as_str() {
            assert_eq!(line.timestamp, Some(nanoseconds(timestamp)), "{id}");
            assert_eq!(line.source, "runner", "{id}");
        }
    }
}

fn display(name: &str) -> String {
    let name = name.to_lowercase();
    name.chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect()
}

fn check_sections(id: &str, read: &Read, case: &Value) {
    let events = list(case, "sections");
    let starts = events.iter().filter(|event| event[0] == "start");
    let expected: Vec<_> = starts.map(|event| event[1].as_str().unwrap()).collect();
    let sections = &read.summary.sections;
    let names: Vec<_> = sections.iter().map(trace::Section::display_name).collect();
    assert_eq!(names, expected, "{id}");
    for section in sections {
        let name = section.display_name();
        let end = events
            .iter()
            .find(|event| event[0] == "end" && event[1] == *name);
        let duration = section
            .seconds
            .map(|s| format!("{:02}:{:02}", s / 60, s % 60));
        assert_eq!(
            duration.as_deref(),
            end.and_then(|end| end[2].as_str()),
            "{id}"
        );
    }
    let options = list(case, "expected")
        .iter()
        .find_map(|line| line.get("section_options"));
    if let Some(options) = options {
        assert_eq!(
            sections[0].collapsed,
            options["collapsed"] == "true",
            "{id}"
        );
    }
}

#[test]
fn gitlabs_page_shows_the_same_lines() {
    let vectors = load("ansi2json_cases.json");
    let cases = list(&vectors, "cases");
    assert_eq!(cases.len(), 35);
    for case in cases {
        let id = text(case, "id");
        let read = read_every_way(&unescape(text(case, "input")));
        check(id, &read, list(case, "expected"));
        let texts = list(case, "expected_plain_text")
            .iter()
            .map(|line| line.as_str().unwrap());
        assert_eq!(read.texts(), texts.collect::<Vec<_>>(), "{id}");
        check_sections(id, &read, case);
    }
}

/// GitLab reads a growing trace from its last line on; this reads it on from where it was.
#[test]
fn a_growing_trace_comes_to_the_same() {
    let vectors = load("ansi2json_cases.json");
    let cases = list(&vectors, "incremental_cases");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let id = text(case, "id");
        let first = unescape(text(case, "pass1_input"));
        if let Some(expected) = case.get("expected_pass1") {
            check(id, &read_every_way(&first), expected.as_array().unwrap());
        }
        let whole = [first, unescape(text(case, "appended"))].concat();
        let mut read = read_every_way(&whole);
        let expected = list(case, "expected_pass2");
        let from = expected[0]["offset"].as_u64().unwrap();
        read.lines.retain(|line| line.offset >= from);
        if case["append"] == false {
            assert_eq!(from, 0, "{id}");
        }
        check(id, &read, expected);
    }
}

/// `<"." x 8192>` in the file stands for that many characters.
fn expand(notation: &str) -> String {
    let mut text = notation.to_owned();
    for count in [8192, 8193] {
        text = text.replace(&format!("<\".\" x {count}>"), &".".repeat(count));
    }
    text
}

#[test]
fn what_the_runner_split_is_joined_again() {
    let vectors = load("timestamper_vectors.json");
    let cases = list(&vectors, "vectors");
    assert_eq!(cases.len(), 5);

    let case = &cases[0];
    let lines = list(case, "logical_lines_after_merge")
        .iter()
        .map(|line| line.as_str().unwrap());
    let shown: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let read = read_every_way(text(case, "expected").as_bytes());
    assert_eq!(read.texts(), shown);
    assert!(read.lines.iter().all(|line| line.stream == Some("stderr")));
    assert!(
        read.lines
            .iter()
            .all(|line| line.stream_number == Some(0xff))
    );

    for key in ["expected", "expected_before_19_1 (computed from old code)"] {
        let read = read_every_way(text(&cases[1], key).as_bytes());
        assert_eq!(read.texts(), [""; 0], "{key}");
        let section = &read.summary.sections[0];
        assert_eq!(
            (section.name.as_str(), section.started, section.seconds),
            ("foo", 123, Some(0))
        );
    }

    let written: String = list(&cases[2], "expected")
        .iter()
        .map(|piece| expand(piece.as_str().unwrap()))
        .collect();
    let read = read_every_way(written.as_bytes());
    let long = format!(
        "large continuous write incoming{}ended",
        ".".repeat(8192 + 8193)
    );
    assert_eq!(
        read.texts(),
        [
            "PREFIX This is the beginning of a new line",
            "We have no new line character in this write... The line is now flushed.",
            &long,
        ]
    );

    let read = read_every_way(text(&cases[3], "wire").as_bytes());
    let streams: Vec<_> = read
        .lines
        .iter()
        .map(|line| (line.stream.unwrap(), line.text.as_str()))
        .collect();
    let expected = ["stdout", "stderr"].map(|stream| (stream, text(&cases[3], stream).trim_end()));
    assert_eq!(streams, expected);

    let read = read_every_way(text(&cases[4], "wire").as_bytes());
    assert_eq!(read.texts(), [""; 0]);
}
