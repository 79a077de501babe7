//! The last station: gives a line its number, time and level, and hands it to the sink.

use crate::level;
use crate::line::{Line, Origin, TimestampSource};
use crate::open::OpenSection;
use crate::sections::Sections;
use crate::style::{Colour, Spans, Style};
use crate::summary::ByteCounts;
use crate::text::Shown;
use crate::trailer::{Candidate, TrailerWatch};

/// What lines have in common.
#[derive(Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) lines: u64,
    pub(crate) sections: Sections,
    pub(crate) trailer: TrailerWatch,
    pub(crate) counts: ByteCounts,
    pub(crate) timestamped: bool,
    /// The runner's time of the last line that had one of its own, nanoseconds.
    last_time: Option<i64>,
}

impl Emitter {
    /// Hands out a line that has text.
    #[inline]
    pub(crate) fn emit(
        &mut self,
        shown: Shown<'_>,
        origin: &Origin,
        spans: &Spans,
        header: bool,
        sink: &mut impl FnMut(Line<'_>),
    ) {
        self.lines += 1;
        self.counts.text += shown.kept;
        self.counts.cut += shown.cut;
        let path = self.sections.open();
        let section = path.last().map(OpenSection::name);
        self.trailer.see(&Candidate {
            text: shown.text,
            style: spans.first(),
            stream: origin.stream,
            timestamped: self.timestamped,
            section,
        });
        let (timestamp, timestamp_source) = match origin.time {
            Some(time) => (Some(time), TimestampSource::Runner),
            None => match self.sections.time() {
                Some(time) => (Some(time), TimestampSource::Section),
                None => (None, TimestampSource::Job),
            },
        };
        let gap_ms = if origin.own_time {
            gap_ms(&mut self.last_time, origin.time)
        } else {
            None
        };
        sink(Line {
            number: self.lines,
            offset: origin.offset,
            text: shown.text,
            timestamp,
            timestamp_source,
            stream: origin.stream.map(|(stream, _)| stream),
            stream_number: origin.stream.map(|(_, number)| number),
            section,
            section_path: path,
            section_header: header,
            is_command: is_command(shown.text, spans),
            level: level::of(shown.text, spans),
            gap_ms,
            truncated: shown.truncated,
        });
    }
}

/// gitlab-runner `shells/bash.go` and its siblings: each command is echoed in bold green before it runs.
fn is_command(text: &str, spans: &Spans) -> bool {
    let echo = Style {
        colour: Colour::Green,
        bold: true,
    };
    text.starts_with("$ ") && spans.first() == echo
}

fn gap_ms(last: &mut Option<i64>, now: Option<i64>) -> Option<u64> {
    let now = now?;
    let last = last.replace(now)?;
    // Not the difference as an `i64`: a clock can be wrong by more than that holds (292 years).
    (now >= last).then(|| now.abs_diff(last) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use crate::{Options, Parser};

    #[test]
    fn only_what_the_runner_echoes_is_a_command() {
        let echo = "\u{1b}[32;1m$ make test\u{1b}[0;m\n";
        let header = "2026-11-23T08:01:02.000450Z 01O ";
        for (trace, is_command) in [
            (echo.to_owned(), true),
            (format!("{header}{echo}"), true),
            ("$ make test\n".to_owned(), false),
            ("\u{1b}[32m$ make test\u{1b}[0;m\n".to_owned(), false),
            ("\u{1b}[32;1mmake $ test\u{1b}[0;m\n".to_owned(), false),
        ] {
            let mut seen = Vec::new();
            let mut parser = Parser::new(Options::default());
            parser.push(trace.as_bytes(), &mut |line| seen.push(line.is_command));
            parser.finish(&mut |line| seen.push(line.is_command));
            assert_eq!(seen, [is_command], "{trace:?}");
        }
    }
}
