//! The times in a trace, moved: a job of the demo ran some days ago or runs now, whenever its sample was taken.

use jiff::{SignedDuration, Timestamp};

/// `2026-11-23T23:33:56.918591Z ` before what the runner wrote.
const TIME: usize = 27;
const MARKERS: [&[u8]; 2] = [b"section_start:", b"section_end:"];

/// The trace with all times of the runner's and of section markers moved by so much. Nothing else changes, its length
/// neither.
pub(super) fn moved(trace: &[u8], by: SignedDuration) -> Vec<u8> {
    let mut out = trace.to_vec();
    for line in out.split_mut(|byte| *byte == b'\n') {
        move_header(line, by);
        for marker in MARKERS {
            move_markers(line, marker, by);
        }
    }
    out
}

fn move_header(line: &mut [u8], by: SignedDuration) {
    let Some(time) = line.get_mut(..TIME) else {
        return;
    };
    let parsed = std::str::from_utf8(time).ok();
    let parsed = parsed.and_then(|text| text.parse::<Timestamp>().ok());
    if let Some(moved) = parsed.and_then(|time| time.checked_add(by).ok()) {
        put(time, &format!("{moved:.6}"));
    }
}

/// Digits between the marker and the next colon.
fn move_markers(line: &mut [u8], marker: &[u8], by: SignedDuration) {
    let mut at = 0;
    while let Some(found) = line[at..].windows(marker.len()).position(|it| it == marker) {
        at += found + marker.len();
        let count = line[at..]
            .iter()
            .take_while(|it| it.is_ascii_digit())
            .count();
        let digits = &mut line[at..at + count];
        let seconds = std::str::from_utf8(digits).ok();
        if let Some(seconds) = seconds.and_then(|text| text.parse::<i64>().ok()) {
            let moved = seconds.saturating_add(by.as_secs()).max(0);
            put(digits, &format!("{moved:010}"));
        }
    }
}

/// In place, or not at all where the text has another length.
fn put(place: &mut [u8], text: &str) {
    if place.len() == text.len() {
        place.copy_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn only_times_change_and_moved_back_they_are_what_they_were() {
        let by = SignedDuration::from_secs(-40 * 24 * 3600 - 7);
        for sample in samples::all() {
            let earlier = moved(sample.trace, by);
            assert_ne!(earlier, sample.trace, "{}", sample.name);
            assert_eq!(moved(&earlier, -by), sample.trace, "{}", sample.name);
        }
    }

    #[test]
    fn times_of_lines_and_sections_are_moved_and_what_looks_like_them_is_not() {
        let trace = b"2026-11-23T23:33:56.918678Z 00O section_start:1795476836:a\r\n\
            at 2026-11-23T23:33:56.918678Z\nsection_end:`date`:a section_end:1795476837:a\n2026\n";
        let right = b"2026-11-24T00:33:56.918678Z 00O section_start:1795480436:a\r\n\
            at 2026-11-23T23:33:56.918678Z\nsection_end:`date`:a section_end:1795480437:a\n2026\n";
        let moved = moved(trace, SignedDuration::from_hours(1));
        assert_eq!(
            String::from_utf8_lossy(&moved),
            String::from_utf8_lossy(right)
        );
    }
}
