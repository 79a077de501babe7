//! Writes traces as a GitLab Runner 19.4 would, and knows what a person sees of each line. It shares nothing with the
//! project's own parser: what it expects, it expects because it wrote it. Entries are made one at a time, so that the
//! expectations of a huge job cost no memory.

use std::fmt::Write as _;
use std::ops::Range;

use jiff::Timestamp;

use super::entry::{Entry, HEAD, TAIL, head, tail};
use super::job::Status;
use super::noise;

/// Time between two lines; a job of 2,000 lines writes for a second and a half.
const STEP_US: i64 = 750;
/// A section of the script's own opens with the 40th of every 200 lines and ends right before the 121st.
const SECTION_EVERY: u64 = 200;
const SECTION_FIRST: u64 = 40;
const SECTION_LAST: u64 = 120;
const SECTION_END: u64 = SECTION_LAST + 1;

/// Which line of a script is the long one.
const LONG: u64 = 2;

const WORDS: [&str; 16] = [
    "compiling",
    "naïve",
    "Łódź",
    "日本語",
    "🦀",
    "Ωmega",
    "\"quoted\"",
    "C:\\temp\\x",
    "<b>bold</b>",
    "50%",
    "{\"json\":true}",
    "a\ttab",
    "👩‍💻",
    "straße",
    "&amp;",
    "[MASKED]",
];

/// Which of the job's two streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `O` in the runner's header.
    Stdout,
    /// `E` in the runner's header.
    Stderr,
}

/// One line as a person sees it, and what the trace says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedLine {
    /// The number GitLab's job page gives it, counted from the start of the trace, from 1.
    pub number: u64,
    /// The text, escapes gone.
    pub text: String,
    /// `None` in a trace without the runner's headers.
    pub stream: Option<Stream>,
    /// The section it belongs to, as the marker names it; `None` outside of any.
    pub section: Option<String>,
    /// When the line was written; `None` in a trace without the runner's headers.
    pub timestamp_ns: Option<i64>,
    /// Where its bytes begin in the trace, the runner's header among them.
    pub offset: u64,
}

/// Bytes of a trace are made in pieces of about this size.
pub(super) const PIECE: usize = 64 * 1024;

/// What the lines of a script are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Of all kinds, after the runner's headers.
    Stamped,
    /// Of all kinds, without headers.
    Plain,
    /// Noise of so many bytes each.
    Noise(usize),
    /// Short ones, but for the second, which is noise of so many bytes.
    Long(usize),
}

/// A generated trace: everything that decides its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    pub(super) job_id: u64,
    /// Lines of the script; those of the runner come on top.
    pub(super) lines: u64,
    pub(super) kind: Kind,
    /// With the runner's headers (`FF_TIMESTAMPS`), its default.
    pub(super) timestamps: bool,
    pub(super) started_at: Timestamp,
}

impl Script {
    /// How long the job takes at least, judged by the times in its trace.
    pub(super) fn duration(lines: u64) -> std::time::Duration {
        let step = STEP_US.unsigned_abs();
        std::time::Duration::from_micros(lines.saturating_add(40).saturating_mul(step))
    }

    /// Size of what is written up to the end of the script, which does not depend on how the job ends.
    pub(super) fn size_before_end(&self) -> usize {
        let pieces = self.rendered(0..HEAD + self.lines, None);
        pieces.map(|piece| piece.len()).sum()
    }

    /// Size of what comes after the script. A cancelled job has nothing there: its trace just stops.
    pub(super) fn size_of_end(&self, outcome: Status) -> usize {
        let first = HEAD + self.lines;
        let pieces = self.rendered(first..self.entries(outcome), Some(outcome));
        pieces.map(|piece| piece.len()).sum()
    }

    /// All bytes of a job that ends so, made as the iterator goes.
    pub(super) fn pieces(&self, outcome: Status) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        self.rendered(0..self.entries(outcome), Some(outcome))
    }

    /// Every line that a person sees, in order.
    pub(super) fn expected(
        self,
        outcome: Status,
    ) -> impl Iterator<Item = ExpectedLine> + Send + use<> {
        let (mut number, mut end) = (0, 0);
        let mut bytes = String::new();
        (0..self.entries(outcome)).filter_map(move |index| {
            let entry = self.entry(index, Some(outcome));
            bytes.clear();
            self.write_blank(&mut bytes, index, &entry);
            let offset = end + bytes.len() as u64;
            self.write(&mut bytes, index, &entry);
            end += bytes.len() as u64;
            let text = entry.text?;
            number += 1;
            let stream = if entry.writer.ends_with('E') {
                Stream::Stderr
            } else {
                Stream::Stdout
            };
            Some(ExpectedLine {
                number,
                text,
                stream: self.timestamps.then_some(stream),
                section: entry.section,
                timestamp_ns: self.timestamps.then(|| self.microsecond(index) * 1_000),
                offset,
            })
        })
    }

    fn entries(&self, outcome: Status) -> u64 {
        match outcome {
            Status::Success | Status::Failed => HEAD + self.lines + TAIL,
            _ => HEAD + self.lines,
        }
    }

    fn rendered(
        &self,
        mut entries: Range<u64>,
        outcome: Option<Status>,
    ) -> impl Iterator<Item = Vec<u8>> + Send + use<> {
        let script = *self;
        std::iter::from_fn(move || {
            let mut out = String::new();
            for index in entries.by_ref() {
                let entry = script.entry(index, outcome);
                script.write_blank(&mut out, index, &entry);
                script.write(&mut out, index, &entry);
                if out.len() >= PIECE {
                    break;
                }
            }
            (!out.is_empty()).then(|| out.into_bytes())
        })
    }

    /// The empty line before an entry, where there is one.
    fn write_blank(&self, out: &mut String, index: u64, entry: &Entry) {
        if entry.blank_before {
            self.header(out, self.time(index), entry.writer, ' ');
            out.push('\n');
        }
    }

    fn write(&self, out: &mut String, index: u64, entry: &Entry) {
        let time = self.time(index);
        let last = entry.writes.len().saturating_sub(1);
        for (position, write) in entry.writes.iter().enumerate() {
            if position == 0 || self.timestamps {
                let flag = if position == 0 { ' ' } else { '+' };
                self.header(out, time, entry.writer, flag);
            }
            out.push_str(write);
            if position == last || self.timestamps {
                out.push('\n');
            }
        }
    }

    fn header(&self, out: &mut String, time: Timestamp, writer: &str, flag: char) {
        if self.timestamps {
            write!(out, "{time:.6} {writer}{flag}").expect("writing to a string cannot fail");
        }
    }

    /// All writes of one logical line have one time: the documents leave open which of them would count.
    fn microsecond(&self, index: u64) -> i64 {
        let index = i64::try_from(index).expect("nobody writes that many lines");
        let jitter = i64::from(mix(self.job_id, index.unsigned_abs())[0]);
        self.started_at.as_microsecond() + index * STEP_US + jitter
    }

    fn time(&self, index: u64) -> Timestamp {
        Timestamp::from_microsecond(self.microsecond(index)).expect("a job runs in our time")
    }

    fn entry(&self, index: u64, outcome: Option<Status>) -> Entry {
        let seconds = self.microsecond(index).div_euclid(1_000_000);
        if let Some(entry) = usize::try_from(index).ok().and_then(|i| head(i, seconds)) {
            return entry;
        }
        let number = index - HEAD + 1;
        match number.checked_sub(self.lines + 1) {
            None => match self.kind {
                Kind::Noise(width) => self.noise(number, width),
                Kind::Long(size) if number == LONG => self.noise(number, size),
                _ => self.script_line(number, seconds),
            },
            Some(position) => tail(position, seconds, outcome),
        }
    }

    fn label(&self, number: u64) -> String {
        format!("line {number:06} of job {}", self.job_id)
    }

    /// Line `number` of the script, of noise.
    fn noise(&self, number: u64, size: usize) -> Entry {
        let text = noise::text(&self.label(number), size, self.job_id << 32 ^ number);
        Entry {
            writer: "01O",
            writes: noise::writes(&text),
            blank_before: false,
            text: Some(text),
            section: Some("step_script".to_owned()),
        }
    }

    /// Line `number` of the script: unique, and of a kind that its number decides.
    fn script_line(&self, number: u64, seconds: i64) -> Entry {
        let place = number % SECTION_EVERY;
        let block = number / SECTION_EVERY;
        // A section that the last line would leave open is not opened.
        let has_section = block * SECTION_EVERY + SECTION_LAST < self.lines;
        let section = match place {
            SECTION_FIRST..=SECTION_LAST if has_section => format!("suite_{block}"),
            _ => "step_script".to_owned(),
        };
        let label = self.label(number);
        let [_, a, b, c] = mix(self.job_id, number).map(|byte| WORDS[usize::from(byte % 16)]);
        let text = format!("{label} {a} {b} {c}");
        let line = |writes: Vec<String>| Entry {
            writer: "01O",
            writes,
            blank_before: number.is_multiple_of(50),
            text: Some(text.clone()),
            section: Some(section.clone()),
        };
        let start =
            format!("\x1b[0Ksection_start:{seconds}:suite_{block}[collapsed=true]\r\x1b[0K{text}");
        let end = format!("\x1b[0Ksection_end:{seconds}:suite_{block}\r\x1b[0K{text}");
        match (place, number % 10) {
            (SECTION_FIRST, _) if has_section => line(vec![start]),
            (SECTION_END, _) if has_section => line(vec![end]),
            (_, 1) => line(vec![format!(
                "\x1b[1;32m{label}\x1b[0m {a} \x1b[31m{b}\x1b[0;m {c}"
            )]),
            (_, 2) => line(vec![format!(
                "\x1b[38;5;208m{label}\x1b[m \x1b[K{a} {b} \x1b[48;2;1;2;3m{c}\x1b[0m"
            )]),
            (_, 3) => Entry {
                writer: "01E",
                ..line(vec![text.clone()])
            },
            (_, 4) => line(vec![
                format!("{label} 10%\r"),
                format!("{label} 55%\r"),
                text.clone(),
            ]),
            (_, 5) => line(vec![format!("{text}\r")]),
            (_, 6) => line(vec![format!(
                "\x1b]8;;https://example.com/{number}\x1b\\{label}\x1b]8;;\x1b\\ {a} {b} {c}"
            )]),
            (_, 7) => Entry {
                writer: "01E",
                ..line(vec![format!("\x1b[31;1m{text}\x1b[0;m")])
            },
            _ => line(vec![text.clone()]),
        }
    }
}

/// Four bytes that look random and depend on the job and the line alone.
fn mix(job_id: u64, number: u64) -> [u8; 4] {
    let number = (job_id << 32 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = scramble(number).to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

/// The finaliser of `SplitMix64`.
pub(super) fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
