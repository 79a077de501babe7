//! Section markers and the sections that they open and close.
//!
//! The grammar is GitLab's (`lib/gitlab/regex.rb`):
//! `section_(start|end):UNIX_SECONDS:NAME[OPTION=VALUE,…]` before `\r\e[0K`. So are the rules: open
//! sections are a map by insertion, a line belongs to the last key, ending one leaves the others.

use memchr::memrchr;

use crate::open::{MOST_OPEN, OpenSection, OpenSections, Span, display, kept};
use crate::text::LONGEST_MARKER;

/// Sections kept for the summary. Jobs have dozens; this bounds the memory that a hostile one takes.
const MOST_RECORDED: usize = 10_000;
/// GitLab clamps durations to this.
const YEAR_SECONDS: i64 = 365 * 86_400;
/// 2000-01-01: a marker that says less was not written with a clock.
const EARLIEST: i64 = 946_684_800;

/// A section of the trace, from its start marker to its end marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// The name as written, at most 256 bytes of it.
    pub name: String,
    /// From 1 in the order of start markers; names may repeat, this does not.
    pub ordinal: u64,
    /// `collapsed=true`: the page shows it folded.
    pub collapsed: bool,
    /// `hide_duration=true`.
    pub hide_duration: bool,
    /// Unix seconds in the start marker; in the last one, where an open section was started again.
    pub started: i64,
    /// Seconds until the end marker, as GitLab clamps them (0 to one year); `None`: never closed.
    pub seconds: Option<u64>,
    /// Number of the first line within, those of inner sections included; 0: no line.
    pub first_line: u64,
    /// Number of the last line within; 0: no line.
    pub last_line: u64,
}

impl Section {
    /// Lines within, those of inner sections included.
    pub const fn lines(&self) -> u64 {
        if self.last_line == 0 {
            0
        } else {
            self.last_line - self.first_line + 1
        }
    }

    /// The name as GitLab's page has it: lower case, `-` for all but letters and digits.
    pub fn display_name(&self) -> String {
        display(self.name.as_bytes()).map(char::from).collect()
    }
}

/// A section marker, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) opens: bool,
    time: i64,
    name: String,
    options: String,
    /// Bytes of all of it.
    pub(crate) length: usize,
}

impl Marker {
    /// The marker that `text` ends with.
    pub(crate) fn at_end_of(text: &str) -> Option<Self> {
        let from = text.ceil_char_boundary(text.len().saturating_sub(LONGEST_MARKER));
        let text = &text[from..];
        let (rest, options) = split_options(text)?;
        let (rest, name) = split_while(rest, is_name);
        let (rest, time) = split_while(rest.strip_suffix(':')?, |byte| byte.is_ascii_digit());
        if name.is_empty() || time.is_empty() {
            return None;
        }
        let rest = rest.strip_suffix(':')?;
        let (opens, rest) = match rest.strip_suffix("section_start") {
            Some(rest) => (true, rest),
            None => (false, rest.strip_suffix("section_end")?),
        };
        Some(Self {
            opens,
            // Digits too many for an i64 are a time beyond all times.
            time: time.parse().unwrap_or(i64::MAX),
            name: name.to_owned(),
            options: options.to_owned(),
            length: text.len() - rest.len(),
        })
    }

    fn has(&self, option: &str) -> bool {
        self.options
            .split(',')
            .any(|pair| pair.trim_start_matches(' ').split_once('=') == Some((option, "true")))
    }
}

const fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The end of `text` whose bytes all satisfy `belongs` (ASCII alone), split off.
fn split_while(text: &str, belongs: impl Fn(u8) -> bool) -> (&str, &str) {
    let length = text.bytes().rev().take_while(|&byte| belongs(byte)).count();
    text.split_at(text.len() - length)
}

/// `[a=b, c=d]` at the end of `text`, its inside split off; `None` where it is malformed.
fn split_options(text: &str) -> Option<(&str, &str)> {
    let Some(inner) = text.strip_suffix(']') else {
        return Some((text, ""));
    };
    let open = memrchr(b'[', inner.as_bytes())?;
    let options = &inner[open + 1..];
    let well_formed = options.split(',').enumerate().all(|(i, pair)| {
        let pair = if i > 0 {
            pair.strip_prefix(' ').unwrap_or(pair)
        } else {
            pair
        };
        pair.split_once('=').is_some_and(|(key, value)| {
            [key, value]
                .iter()
                .all(|word| !word.is_empty() && word.bytes().all(is_word))
        })
    });
    well_formed.then_some((&inner[..open], options))
}

/// All sections of a trace so far.
#[derive(Debug, Default)]
pub(crate) struct Sections {
    open: OpenSections,
    recorded: Vec<Section>,
    /// Start markers of sections that were not open.
    count: u64,
    /// Seconds of the last marker whose time can be believed.
    clock: Option<i64>,
}

impl Sections {
    /// Open sections, the last one opened last.
    pub(crate) fn open(&self) -> &[OpenSection] {
        self.open.as_slice()
    }

    /// Nanoseconds of the last marker.
    pub(crate) fn time(&self) -> Option<i64> {
        self.clock?.checked_mul(1_000_000_000)
    }

    /// Whether the section that `marker` names is open.
    pub(crate) fn is_open(&self, marker: &Marker) -> bool {
        self.open.find(&marker.name).is_some()
    }

    /// Opens or closes what `marker` says; `lines` is the number of the last line before it.
    pub(crate) fn apply(&mut self, marker: &Marker, lines: u64) {
        let position = self.open.find(&marker.name);
        self.see_clock(marker.time);
        match (marker.opens, position) {
            (true, Some(at)) => self.start_again(at, marker.time),
            (true, None) => self.start(marker, lines),
            (false, Some(at)) => self.close(at, Some(marker.time), lines),
            (false, None) => {}
        }
    }

    fn start(&mut self, marker: &Marker, lines: u64) {
        if self.open().len() == MOST_OPEN {
            self.close(0, None, lines);
        }
        self.count += 1;
        let record = (self.recorded.len() < MOST_RECORDED).then_some(self.recorded.len());
        if record.is_some() {
            self.recorded.push(Section {
                name: kept(&marker.name).to_owned(),
                ordinal: self.count,
                collapsed: marker.has("collapsed"),
                hide_duration: marker.has("hide_duration"),
                started: marker.time,
                seconds: None,
                first_line: 0,
                last_line: 0,
            });
        }
        let span = Span {
            started: marker.time,
            first_line: lines + 1,
            record,
        };
        self.open
            .push(OpenSection::new(&marker.name, self.count, span));
    }

    fn start_again(&mut self, at: usize, time: i64) {
        let span = self.open.span_mut(at);
        span.started = time;
        if let Some(record) = span.record {
            self.recorded[record].started = time;
        }
    }

    fn close(&mut self, at: usize, time: Option<i64>, lines: u64) {
        let span = self.open.remove(at);
        let Some(record) = span.record else { return };
        let record = &mut self.recorded[record];
        record.seconds = time.map(|time| {
            let seconds = time.saturating_sub(span.started).clamp(0, YEAR_SECONDS);
            seconds.unsigned_abs()
        });
        if lines >= span.first_line {
            (record.first_line, record.last_line) = (span.first_line, lines);
        }
    }

    fn see_clock(&mut self, time: i64) {
        let earliest = self.clock.unwrap_or(EARLIEST);
        let latest = self.clock.map_or(i64::MAX / 1_000_000_000, |clock| {
            clock.saturating_add(YEAR_SECONDS)
        });
        if (earliest..=latest).contains(&time) {
            self.clock = Some(time);
        }
    }

    /// The sections recorded, and how many were not.
    pub(crate) fn finish(mut self, lines: u64) -> (Vec<Section>, u64) {
        while !self.open().is_empty() {
            self.close(self.open().len() - 1, None, lines);
        }
        let dropped = self.count - self.recorded.len() as u64;
        (self.recorded, dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_as_gitlab_reads_them() {
        let marker =
            Marker::at_end_of("textsection_start:12:a.B-c_1[collapsed=true, x=1]").unwrap();
        assert_eq!(
            (marker.opens, marker.time, marker.name.as_str()),
            (true, 12, "a.B-c_1")
        );
        assert!(marker.has("collapsed") && !marker.has("hide_duration"));
        assert_eq!(marker.length, 45);
        let marker = Marker::at_end_of("section_end:12:name").unwrap();
        assert_eq!((marker.opens, marker.length), (false, 19));
    }

    #[test]
    fn what_only_looks_like_one() {
        for text in [
            "",
            "section_start:1:",
            "section_start::name",
            "section_start:1:na me",
            "section_start:1:$name",
            "section_start:x:name",
            "section_stop:1:name",
            "section_start:1:name[]",
            "section_start:1:name[a]",
            "section_start:1:name[a=]",
            "section_start:1:name[a=1,  b=1]",
            "section_start:1:name[ a=1]",
            "section_start:1:name]",
            "section_start:1:[a=1]",
            "section_start:1:ñ",
        ] {
            assert_eq!(Marker::at_end_of(text), None, "{text}");
        }
    }

    fn sections(markers: &[&str]) -> Sections {
        let mut sections = Sections::default();
        for (line, text) in markers.iter().enumerate() {
            sections.apply(&Marker::at_end_of(text).unwrap(), line as u64);
        }
        sections
    }

    fn path(sections: &Sections) -> Vec<&str> {
        sections.open().iter().map(OpenSection::name).collect()
    }

    #[test]
    fn ending_an_outer_section_leaves_the_inner_one_open() {
        let sections = sections(&[
            "section_start:1:outer",
            "section_start:2:inner",
            "section_end:5:outer",
        ]);
        assert_eq!(path(&sections), ["inner"]);
        let (sections, _) = sections.finish(9);
        let ends: Vec<_> = sections.iter().map(|section| section.seconds).collect();
        assert_eq!(ends, [Some(4), None]);
        assert_eq!((sections[0].first_line, sections[0].last_line), (1, 2));
        assert_eq!((sections[1].first_line, sections[1].last_line), (2, 9));
    }

    #[test]
    fn names_are_one_when_gitlab_shows_them_alike() {
        let sections = sections(&["section_start:1:A_b", "section_end:3:a-B"]);
        assert_eq!(path(&sections), [""; 0]);
        assert_eq!(sections.finish(1).0[0].display_name(), "a-b");
    }

    #[test]
    fn starting_an_open_section_again_replaces_its_time_alone() {
        let sections = sections(&[
            "section_start:1:a",
            "section_start:2:b",
            "section_start:7:a",
        ]);
        assert_eq!(path(&sections), ["a", "b"]);
        assert_eq!(sections.open()[0].started(), 7);
    }

    #[test]
    fn a_time_that_no_clock_gave_is_not_believed() {
        let start = 1_700_000_000;
        for (time, believed) in [
            (start + 5, true),
            (start - 5, false),
            (123, false),
            (start * 1000, false),
        ] {
            let sections = sections(&[
                &format!("section_start:{start}:a"),
                &format!("section_start:{time}:b"),
            ]);
            let expected = if believed { time } else { start };
            assert_eq!(sections.time(), Some(expected * 1_000_000_000), "{time}");
        }
        assert_eq!(
            sections(&["section_start:99999999999999999999:a"]).time(),
            None
        );
    }

    #[test]
    fn open_and_recorded_sections_are_bounded() {
        let mut sections = Sections::default();
        for i in 0..MOST_RECORDED + 5 {
            let text = format!("section_start:1:s{i}");
            sections.apply(&Marker::at_end_of(&text).unwrap(), 0);
        }
        assert_eq!(sections.open().len(), MOST_OPEN);
        let (recorded, dropped) = sections.finish(0);
        assert_eq!((recorded.len(), dropped), (MOST_RECORDED, 5));
    }
}
