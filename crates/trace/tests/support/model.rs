//! What a trace comes to, worked out the slow way: the whole trace in memory, one byte after the
//! other, nothing held back and nothing skipped. It shares no code with the parser, only its rules.
//!
//! Left out, because tables test them row by row: `level` and `trailer`.

use trace::ByteCounts;

/// Limits of the parser that a short trace can reach.
const LONGEST_ESCAPE: usize = 64 * 1024;
const LONGEST_MARKER: usize = 4096;
const LONGEST_NAME: usize = 256;
const MOST_OPEN: usize = 256;
const YEAR: i64 = 365 * 24 * 60 * 60;
const YEAR_2000: i64 = 946_684_800;

/// Longest trace to which the model applies: longer ones can meet the bounds of the `+` merging.
pub(crate) const LONGEST_TRACE: usize = 128 * 1024;

/// A line as it must come out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelLine {
    pub(crate) text: String,
    /// For each character: the index in `text` behind it, and the bytes of the trace it came from.
    pub(crate) sources: Vec<(usize, usize)>,
    /// The first and the last offset that the line may give as its own.
    pub(crate) offset: (u64, u64),
    pub(crate) timestamp: Option<i64>,
    pub(crate) source: &'static str,
    pub(crate) stream: Option<&'static str>,
    pub(crate) stream_number: Option<u8>,
    pub(crate) path: Vec<String>,
    pub(crate) header: bool,
    pub(crate) gap_ms: Option<u64>,
}

/// A section as it must be summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelSection {
    pub(crate) name: String,
    pub(crate) collapsed: bool,
    pub(crate) hide_duration: bool,
    pub(crate) started: i64,
    pub(crate) seconds: Option<u64>,
    pub(crate) first_line: u64,
    pub(crate) last_line: u64,
}

/// All that must come out of a trace.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) lines: Vec<ModelLine>,
    pub(crate) sections: Vec<ModelSection>,
    pub(crate) timestamped: bool,
    pub(crate) invalid_utf8: u64,
    /// As for a line of any length: nothing is `cut`.
    pub(crate) counts: ByteCounts,
    /// Indexes in `sections` of those that are open.
    open: Vec<usize>,
    clock: Option<i64>,
    last_time: Option<i64>,
}

/// A logical line: its pieces joined.
#[derive(Debug, Default)]
struct Logical {
    bytes: Vec<u8>,
    /// The offset in the trace of each byte, and after the last one that of its line's end.
    offsets: Vec<u64>,
    /// Index in `bytes` and offset of the physical line, a piece.
    pieces: Vec<(usize, u64)>,
    time: Option<i64>,
    /// `time`, where a header of its own gave it.
    own_time: Option<i64>,
    stream: Option<(&'static str, u8)>,
}

/// A runner header.
#[derive(Debug)]
struct Header {
    time: Option<i64>,
    stream: (&'static str, u8),
    continues: bool,
}

impl Model {
    pub(crate) fn of(trace: &[u8]) -> Self {
        assert!(trace.len() <= LONGEST_TRACE);
        let mut model = Self {
            timestamped: header(trace).is_some(),
            ..Self::default()
        };
        for line in model.logical_lines(trace) {
            model.read(&line);
        }
        let lines = model.lines.len() as u64;
        while let Some(open) = model.open.pop() {
            model.close(open, None, lines);
        }
        model
    }

    fn logical_lines(&mut self, trace: &[u8]) -> Vec<Logical> {
        let mut lines: Vec<Logical> = Vec::new();
        let mut offset = 0;
        let mut last_time = None;
        // The open line of each stream: an index in `lines`.
        let mut open = std::collections::HashMap::new();
        for physical in trace.split_inclusive(|&byte| byte == b'\n') {
            let text = physical.strip_suffix(b"\n").unwrap_or(physical);
            self.counts.line_ends += (physical.len() - text.len()) as u64;
            let header = if self.timestamped { header(text) } else { None };
            let body = if header.is_some() { 32 } else { 0 };
            self.counts.headers += body as u64;
            if let Some(header) = &header {
                last_time = header.time.or(last_time);
            }
            let continued = header
                .as_ref()
                .filter(|header| header.continues)
                .and_then(|header| open.get(&header.stream).copied());
            let index = continued.unwrap_or_else(|| {
                lines.push(Logical {
                    time: header.as_ref().map_or(last_time, |header| header.time),
                    own_time: header.as_ref().and_then(|header| header.time),
                    stream: header.as_ref().map(|header| header.stream),
                    ..Logical::default()
                });
                lines.len() - 1
            });
            if let Some(header) = &header {
                open.insert(header.stream, index);
            }
            let line = &mut lines[index];
            line.pieces.push((line.bytes.len(), offset));
            line.bytes.extend(&text[body..]);
            let first = offset + body as u64;
            line.offsets
                .truncate(line.bytes.len() - (text.len() - body));
            line.offsets
                .extend(first..=first + (text.len() - body) as u64);
            offset += physical.len() as u64;
        }
        lines
    }

    fn read(&mut self, line: &Logical) {
        let bytes = &line.bytes[..];
        let mut pen = Pen::begin(line);
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            at += match rest[0] {
                b'\r' => self.carriage_returns(&mut pen, rest, at),
                0x1b => {
                    let length = escape_length(rest);
                    self.counts.escapes += length as u64;
                    pen.nothing_shown();
                    length
                }
                byte if is_control(byte) => {
                    self.counts.controls += 1;
                    pen.nothing_shown();
                    1
                }
                _ if pen.header_may_follow && header(rest).is_some() => {
                    pen.header_may_follow = false;
                    pen.time = header(rest).and_then(|header| header.time);
                    pen.own_time = pen.time;
                    self.counts.headers += 32;
                    32
                }
                _ => self.character(&mut pen, rest, at),
            };
        }
        self.show(&mut pen);
    }

    /// A character of text, or what stands for an invalid sequence, or a control character of C1.
    fn character(&mut self, pen: &mut Pen<'_>, rest: &[u8], at: usize) -> usize {
        pen.header_may_follow = false;
        // A character has at most four bytes; decoding five shows whether the first is one.
        let end = rest.iter().take(5).position(|&byte| is_control(byte));
        let few = &rest[..end.unwrap_or(rest.len().min(5))];
        let chunk = few.utf8_chunks().next().expect("there is a byte");
        let (character, length) = match chunk.valid().chars().next() {
            Some(character) => (character, character.len_utf8()),
            None => ('\u{fffd}', chunk.invalid().len()),
        };
        if ('\u{80}'..'\u{a0}').contains(&character) {
            self.counts.controls += length as u64;
            pen.run = pen.text.len();
            return length;
        }
        self.invalid_utf8 += u64::from(chunk.valid().is_empty());
        self.counts.text += length as u64;
        if pen.text.is_empty() {
            pen.first = pen.line.offsets[at];
        }
        pen.text.push(character);
        pen.sources.push((pen.text.len(), length));
        length
    }

    /// All carriage returns that stand together here.
    fn carriage_returns(&mut self, pen: &mut Pen<'_>, rest: &[u8], at: usize) -> usize {
        let count = rest.iter().take_while(|&&byte| byte == b'\r').count();
        let after = &rest[count..];
        if after.is_empty() {
            self.counts.line_ends += count as u64;
            return count;
        }
        let marker = marker_at_end(&pen.text[pen.run..]);
        if let Some(marker) = &marker
            && count == 1
            && after.starts_with(b"\x1b[0K")
        {
            self.mark(pen, marker, at, 5);
            return 5;
        }
        pen.header_may_follow = self.timestamped;
        match marker {
            Some(marker) if marker.length == pen.text.len() => {
                self.mark(pen, &marker, at, count);
            }
            _ => {
                let wiped: usize = pen.sources.iter().map(|(_, source)| source).sum();
                self.counts.text -= wiped as u64;
                self.counts.overwritten += (wiped + count) as u64;
                pen.clear();
            }
        }
        count
    }

    /// Reads the marker at the end of the text; its carriage return stands at `at`, and with it it
    /// has `ending` bytes more.
    fn mark(&mut self, pen: &mut Pen<'_>, marker: &Marker, at: usize, ending: usize) {
        let shown = display(&marker.name);
        let open = self
            .open
            .iter()
            .position(|&index| display(&self.sections[index].name) == shown);
        let (time, opens, length) = (marker.time, marker.opens, marker.length);
        self.counts.text -= length as u64;
        self.counts.markers += (length + ending) as u64;
        pen.text.truncate(pen.text.len() - length);
        pen.sources.truncate(pen.sources.len() - length);
        pen.run = pen.text.len();
        if !opens && open.is_none() {
            return;
        }
        let first_on_line = pen.text.is_empty() && !pen.split;
        self.show(pen);
        self.see_clock(time);
        let lines = self.lines.len() as u64;
        match open {
            Some(at) if opens => self.sections[self.open[at]].started = time,
            Some(at) => {
                let index = self.open.remove(at);
                self.close(index, Some(time), lines);
            }
            None => {
                if self.open.len() == MOST_OPEN {
                    let oldest = self.open.remove(0);
                    self.close(oldest, None, lines);
                }
                self.open.push(self.sections.len());
                self.sections.push(ModelSection {
                    name: marker.name.clone(),
                    collapsed: marker.collapsed,
                    hide_duration: marker.hide_duration,
                    started: time,
                    seconds: None,
                    first_line: lines + 1,
                    last_line: 0,
                });
            }
        }
        pen.split = true;
        pen.header = opens;
        if !opens {
            // The line that follows may count from the marker's end up to its own first byte.
            pen.offset = (pen.line.offsets[at + ending - 1] + 1, None);
        } else if !first_on_line {
            // Of a marker with carriage returns without end, the start may be out of reach.
            let start = pen.line.offsets[at - length];
            let is_long = length + ending > LONGEST_MARKER;
            let last = if is_long { pen.line.offsets[at] } else { start };
            pen.offset = (start, Some(last));
        }
    }

    fn close(&mut self, index: usize, time: Option<i64>, lines: u64) {
        let section = &mut self.sections[index];
        section.seconds = time.map(|time| {
            let seconds = i128::from(time) - i128::from(section.started);
            u64::try_from(seconds.clamp(0, i128::from(YEAR))).unwrap()
        });
        section.last_line = lines;
        if section.first_line > lines {
            (section.first_line, section.last_line) = (0, 0);
        }
    }

    /// A marker's time counts when it is one that a clock gave: not before the last, at most a
    /// year after it.
    fn see_clock(&mut self, time: i64) {
        let believed = match self.clock {
            Some(clock) => time >= clock && time - clock <= YEAR,
            None => time >= YEAR_2000 && time.checked_mul(1_000_000_000).is_some(),
        };
        if believed {
            self.clock = Some(time);
        }
    }

    /// The text so far is a line, unless there is none.
    fn show(&mut self, pen: &mut Pen<'_>) {
        if !pen.text.is_empty() {
            let mut gap_ms = None;
            if let Some(time) = pen.own_time {
                let gap = self
                    .last_time
                    .map(|last| i128::from(time) - i128::from(last));
                gap_ms = gap
                    .filter(|&gap| gap >= 0)
                    .map(|gap| u64::try_from(gap / 1_000_000).unwrap());
                self.last_time = Some(time);
            }
            let from_section = self
                .clock
                .and_then(|seconds| seconds.checked_mul(1_000_000_000));
            let source = match (pen.time, from_section) {
                (Some(_), _) => "runner",
                (None, Some(_)) => "section",
                (None, None) => "job",
            };
            let names = self
                .open
                .iter()
                .map(|&index| cut_name(&self.sections[index].name));
            self.lines.push(ModelLine {
                text: pen.text.clone(),
                sources: pen.sources.clone(),
                offset: (pen.offset.0, pen.offset.1.unwrap_or(pen.first)),
                timestamp: pen.time.or(from_section),
                source,
                stream: pen.line.stream.map(|(stream, _)| stream),
                stream_number: pen.line.stream.map(|(_, number)| number),
                path: names.map(str::to_owned).collect(),
                header: pen.header,
                gap_ms,
            });
        }
        pen.header = false;
        pen.clear();
    }
}

/// The line being read.
struct Pen<'a> {
    line: &'a Logical,
    text: String,
    sources: Vec<(usize, usize)>,
    /// Index in `text` from which on it equals the trace, with nothing between that did not show.
    run: usize,
    header_may_follow: bool,
    header: bool,
    split: bool,
    /// The first and the last offset that the line may give; `None`: that of its first character.
    offset: (u64, Option<u64>),
    /// Offset of the first character.
    first: u64,
    time: Option<i64>,
    own_time: Option<i64>,
}

impl<'a> Pen<'a> {
    fn begin(line: &'a Logical) -> Self {
        Self {
            line,
            text: String::new(),
            sources: Vec::new(),
            run: 0,
            header_may_follow: false,
            header: false,
            split: false,
            offset: (line.pieces[0].1, Some(line.pieces[0].1)),
            first: 0,
            time: line.time,
            own_time: line.own_time,
        }
    }

    fn clear(&mut self) {
        self.text.clear();
        self.sources.clear();
        self.run = 0;
    }

    fn nothing_shown(&mut self) {
        self.run = self.text.len();
        self.header_may_follow = false;
    }
}

fn is_control(byte: u8) -> bool {
    matches!(byte, 0..=8 | 10..=31 | 127)
}

/// How many bytes vanish at the ESC that `bytes`, the rest of a logical line, begins with.
pub(crate) fn escape_length(bytes: &[u8]) -> usize {
    let Some(&introducer) = bytes.get(1) else {
        return 1;
    };
    let after = &bytes[2..];
    let span = |from: usize, set: std::ops::RangeInclusive<u8>| {
        after[from..]
            .iter()
            .take_while(|byte| set.contains(byte))
            .count()
    };
    let whole = match introducer {
        b'[' => {
            let parameters = span(0, b'0'..=b'?');
            let end = parameters + span(parameters, b' '..=b'/');
            after
                .get(end)
                .filter(|byte| (b'@'..=b'~').contains(byte))
                .map(|_| 3 + end)
        }
        b']' | b'_' => after_terminator(after, &[b"\x07", b"\x1b\\", b"\xc2\x9c"]),
        b'P' | b'X' | b'^' => after_terminator(after, &[b"\x1b\\", b"\xc2\x9c"]),
        b' '..=b'/' => {
            let end = span(0, b' '..=b'/');
            after
                .get(end)
                .filter(|byte| (b'0'..=b'~').contains(byte))
                .map(|_| 3 + end)
        }
        b'0'..=b'~' => Some(2),
        _ => return 1,
    };
    whole
        .filter(|&length| length <= LONGEST_ESCAPE)
        .unwrap_or(2)
}

fn after_terminator(after: &[u8], terminators: &[&[u8]]) -> Option<usize> {
    let ends = terminators.iter().filter_map(|terminator| {
        let mut windows = after.windows(terminator.len());
        Some(2 + windows.position(|window| window == *terminator)? + terminator.len())
    });
    // One byte or two, the terminator that starts first is the one that ends first.
    ends.min()
}

#[derive(Debug)]
struct Marker {
    opens: bool,
    time: i64,
    name: String,
    collapsed: bool,
    hide_duration: bool,
    length: usize,
}

/// The marker that ends where `text` ends, looked for from every place where one could begin.
fn marker_at_end(text: &str) -> Option<Marker> {
    let starts = text.match_indices("section_").map(|(at, _)| &text[at..]);
    starts
        .filter(|marker| marker.len() <= LONGEST_MARKER)
        .find_map(marker)
}

/// `text`, read as one marker from its first byte to its last.
fn marker(text: &str) -> Option<Marker> {
    let (kind, rest) = text.strip_prefix("section_")?.split_once(':')?;
    let (time, rest) = rest.split_once(':')?;
    let (name, options) = match rest.split_once('[') {
        Some((name, options)) => (name, options.strip_suffix(']')?.split(',').collect()),
        None => (rest, Vec::new()),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_name = |c: char| is_word(c) || c == '.' || c == '-';
    let all =
        |text: &str, allowed: &dyn Fn(char) -> bool| !text.is_empty() && text.chars().all(allowed);
    if !all(time, &|c| c.is_ascii_digit()) || !all(name, &is_name) {
        return None;
    }
    let mut pairs = Vec::new();
    for (index, pair) in options.iter().enumerate() {
        let pair = if index == 0 {
            pair
        } else {
            pair.strip_prefix(' ').unwrap_or(pair)
        };
        let (key, value) = pair.split_once('=')?;
        if !all(key, &is_word) || !all(value, &is_word) {
            return None;
        }
        pairs.push((key, value));
    }
    Some(Marker {
        opens: match kind {
            "start" => true,
            "end" => false,
            _ => return None,
        },
        time: time.parse().unwrap_or(i64::MAX),
        name: name.to_owned(),
        collapsed: pairs.contains(&("collapsed", "true")),
        hide_duration: pairs.contains(&("hide_duration", "true")),
        length: text.len(),
    })
}

fn display(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// Names are ASCII: any cut is one between characters.
pub(crate) fn cut_name(name: &str) -> &str {
    &name[..name.len().min(LONGEST_NAME)]
}

fn header(bytes: &[u8]) -> Option<Header> {
    const ANY: &str = "0123456789";
    const SHAPE: [&str; 32] = [
        ANY,
        ANY,
        ANY,
        ANY,
        "-",
        "01",
        ANY,
        "-",
        "0123",
        ANY,
        "T",
        "012",
        ANY,
        ":",
        "012345",
        ANY,
        ":",
        "012345",
        ANY,
        ".",
        ANY,
        ANY,
        ANY,
        ANY,
        ANY,
        ANY,
        "Z",
        " ",
        "0123456789abcdef",
        "0123456789abcdef",
        "OE",
        "+ ",
    ];
    let head = bytes.get(..32)?;
    if !head
        .iter()
        .zip(SHAPE)
        .all(|(byte, allowed)| allowed.as_bytes().contains(byte))
    {
        return None;
    }
    let text = std::str::from_utf8(head).unwrap();
    Some(Header {
        time: time(text),
        stream: (
            if &text[30..31] == "O" {
                "stdout"
            } else {
                "stderr"
            },
            u8::from_str_radix(&text[28..30], 16).unwrap(),
        ),
        continues: text.ends_with('+'),
    })
}

/// Nanoseconds since 1970, by counting days; `None` where the calendar or an `i64` has no such time.
fn time(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| text[from..to].parse::<i64>().unwrap();
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let is_leap = |year: i64| year % 4 == 0 && year % 100 != 0 || year % 400 == 0;
    let mut months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    months[1] += i64::from(is_leap(year));
    let month = usize::try_from(month).unwrap().checked_sub(1)?;
    if day == 0 || day > *months.get(month)? || number(11, 13) > 23 {
        return None;
    }
    let length = |year: i64| if is_leap(year) { 366 } else { 365 };
    let before: i64 = (year..1970).map(length).sum();
    let since: i64 = (1970..year).map(length).sum();
    let days = since - before + months[..month].iter().sum::<i64>() + day - 1;
    let seconds = ((days * 24 + number(11, 13)) * 60 + number(14, 16)) * 60 + number(17, 19);
    let nanoseconds = (i128::from(seconds) * 1_000_000 + i128::from(number(20, 26))) * 1_000;
    nanoseconds.try_into().ok()
}
