//! What the generator writes, against what it expects of it.

use super::super::generator::{ExpectedLine, Kind, PIECE, Script, Stream};
use super::super::job::Status;

fn script(lines: u64, timestamps: bool) -> Script {
    let kind = if timestamps {
        Kind::Stamped
    } else {
        Kind::Plain
    };
    script_of(kind, lines)
}

fn script_of(kind: Kind, lines: u64) -> Script {
    Script {
        job_id: 4711,
        lines,
        kind,
        timestamps: kind != Kind::Plain,
        started_at: "2026-11-24T10:00:00Z".parse().unwrap(),
    }
}

#[test]
fn the_bytes_look_like_a_runners() {
    let text = String::from_utf8(whole(script(3, true), Status::Canceled)).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("2026-11-24T10:00:00.000"),
        "{}",
        lines[0]
    );
    assert!(
        lines[0].ends_with("Z 00O \x1b[0KRunning with gitlab-runner 19.4.0 (d79f3e7b)\x1b[0;m")
    );
    assert!(lines[2].ends_with("Z 00O section_start:1795514400:prepare_executor\r\x1b[0K"));
    assert!(
        lines[3]
            .ends_with("Z 00O+\x1b[0K\x1b[36;1mPreparing the \"shell\" executor\x1b[0;m\x1b[0;m")
    );
    assert_eq!(&lines[2][..27], &lines[3][..27]);
    let failed = String::from_utf8(whole(script(3, true), Status::Failed)).unwrap();
    let end = failed.strip_prefix(&text).unwrap();
    assert!(
        end.ends_with(" 00O \x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m\n"),
        "{end}"
    );
    assert_eq!(script(3, true).size_before_end(), text.len());
    assert_eq!(script(3, true).size_of_end(Status::Failed), end.len());
    assert_eq!(script(3, true).size_of_end(Status::Canceled), 0);
}

#[test]
fn every_expected_text_is_in_the_plain_bytes_in_order_and_unique() {
    let script = script(1_000, false);
    let plain = String::from_utf8(whole(script, Status::Success)).unwrap();
    let expected: Vec<ExpectedLine> = script.expected(Status::Success).collect();
    assert_eq!(expected.len(), 1_000 + 13);
    let bare = without_escapes(&plain);
    let mut from = 0;
    for line in &expected {
        let found = bare[from..].find(&line.text);
        from += found.unwrap_or_else(|| panic!("{line:?}")) + line.text.len();
    }
    let mut texts: Vec<&str> = expected.iter().map(|line| line.text.as_str()).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), expected.len());
}

#[test]
fn a_line_begins_at_its_offset() {
    for timestamps in [true, false] {
        let script = script(1_000, timestamps);
        let bytes = whole(script, Status::Failed);
        for line in script.expected(Status::Failed) {
            let offset = usize::try_from(line.offset).unwrap();
            assert!(offset == 0 || bytes[offset - 1] == b'\n', "{line:?}");
            let end = bytes.len().min(offset + 1_000);
            let found = without_escapes(&String::from_utf8_lossy(&bytes[offset..end]));
            let first = found.split('\n').find(|text| !text.is_empty()).unwrap();
            let is_here = first.contains(&line.text) || timestamps && found.contains(&line.text);
            assert!(is_here, "{line:?}: {first}");
        }
    }
}

#[test]
fn times_rise_and_numbers_have_no_gap() {
    let expected: Vec<ExpectedLine> = script(500, true).expected(Status::Success).collect();
    for (before, line) in expected.iter().zip(&expected[1..]) {
        assert!(before.timestamp_ns < line.timestamp_ns, "{line:?}");
        assert_eq!(before.number + 1, line.number);
    }
    let sections = |name: &str| {
        expected
            .iter()
            .filter(|line| line.section.as_deref() == Some(name))
            .count()
    };
    assert_eq!(sections("suite_0"), 81);
    assert_eq!(sections("suite_1"), 81);
    assert!(
        expected
            .iter()
            .any(|line| line.stream == Some(Stream::Stderr))
    );
    assert_eq!(expected.last().unwrap().text, "Job succeeded");
    assert_eq!(expected.last().unwrap().section, None);
}

#[test]
fn a_line_longer_than_the_runners_buffer_comes_in_pieces() {
    let script = script_of(Kind::Long(20_000), 3);
    let expected: Vec<ExpectedLine> = script.expected(Status::Success).collect();
    let long = &expected[12];
    assert_eq!(long.text.len(), 20_000);
    let bytes = String::from_utf8(whole(script, Status::Success)).unwrap();
    let from_it = &bytes[usize::try_from(long.offset).unwrap()..];
    let pieces: Vec<&str> = from_it.lines().take(4).collect();
    let [first, second, third, next] = pieces[..] else {
        panic!("{} pieces", pieces.len());
    };
    assert!(first[27..].starts_with(" 01O line 000002 of job 4711 "));
    assert!(second[27..].starts_with(" 01O+") && third[27..].starts_with(" 01O+"));
    assert_eq!(
        [&first[32..], &second[32..], &third[32..]].concat(),
        long.text
    );
    assert!(next.contains("line 000003"));
}

#[test]
fn pieces_are_small_whatever_the_size_of_the_trace() {
    let script = script_of(Kind::Noise(1_000), 5_000);
    let pieces: Vec<usize> = script
        .pieces(Status::Success)
        .map(|piece| piece.len())
        .collect();
    let size: usize = pieces.iter().sum();
    assert!(size > 5_000_000 && pieces.iter().all(|piece| *piece < PIECE + 2_000));
    assert_eq!(
        script.size_before_end() + script.size_of_end(Status::Success),
        size
    );
    let noise = script.expected(Status::Success).nth(11).unwrap();
    assert_eq!(
        (noise.text.len(), noise.section.as_deref()),
        (1_000, Some("step_script"))
    );
}

fn whole(script: Script, outcome: Status) -> Vec<u8> {
    script.pieces(outcome).collect::<Vec<_>>().concat()
}

/// Takes off only what this generator writes.
fn without_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\x1b') {
        out.push_str(before);
        rest = if after.starts_with(']') {
            after.split_once("\x1b\\").unwrap_or_default().1
        } else if let Some(colour) = after.strip_prefix('[') {
            colour.split_once(['m', 'K']).unwrap_or_default().1
        } else {
            after
        };
    }
    out + rest
}
