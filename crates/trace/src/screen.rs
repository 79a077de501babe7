//! One logical line at a time: what of its bytes a person sees.
//!
//! The rules are those of GitLab's page: a lone carriage return wipes the line, a marker ends it,
//! escapes vanish. Bytes arrive in any portions; what a later byte could change is held back.

use memchr::memchr;

use crate::bytes::{is_control, run_of, text_run, unfinished_character};
use crate::emit::Emitter;
use crate::escape::{Escape, EscapeReader};
use crate::header::{HEADER_LEN, HeaderReader};
use crate::held::{Held, Place};
use crate::line::{Line, Origin};
use crate::sections::Marker;
use crate::style::{Spans, Style};
use crate::text::{Shown, Text};

const ESC: u8 = 0x1b;
/// What stands between a marker and the text after it, its carriage return apart.
const ERASE: &[u8] = b"\x1b[0K";

/// What the line being read is of its logical line, which markers split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its start.
    First,
    /// The title that a `section_start` made.
    Title,
    /// What follows an end marker or a title.
    Rest,
}

/// The line being read.
#[derive(Debug)]
pub(crate) struct Screen {
    text: Text,
    /// Carriage returns of which it is not known yet whether they wipe the line or end it.
    returns: u64,
    /// Whether a carriage return has just wiped the line: a runner header may follow, and goes too.
    wiped: bool,
    origin: Origin,
    part: Part,
    style: Style,
    spans: Spans,
    /// Whether the next character begins a span.
    restyled: bool,
    escapes: EscapeReader,
    headers: HeaderReader,
    held: Held,
    place: Place,
    pub(crate) invalid_utf8: u64,
    pub(crate) out: Emitter,
}

impl Screen {
    pub(crate) fn new(max_text: usize) -> Self {
        Self {
            text: Text::new(max_text),
            returns: 0,
            wiped: false,
            origin: Origin::default(),
            part: Part::First,
            style: Style::default(),
            spans: Spans::default(),
            restyled: false,
            escapes: EscapeReader::default(),
            headers: HeaderReader::default(),
            held: Held::default(),
            place: Place::default(),
            invalid_utf8: 0,
            out: Emitter::default(),
        }
    }

    /// Begins a logical line whose text begins at offset `body` of the trace.
    #[inline]
    pub(crate) fn begin(&mut self, origin: Origin, body: u64) {
        self.origin = origin;
        self.part = Part::First;
        self.place.begin(origin.offset, body);
        self.fresh();
    }

    /// The line goes on in the physical line at `offset`, with the text at `body`.
    pub(crate) fn next_piece(&mut self, offset: u64, body: u64) {
        self.place.next_piece(offset, body, self.held.len());
        let after_end_marker = self.part == Part::Rest && self.text.is_empty();
        if after_end_marker && self.held.is_empty() && self.returns == 0 {
            self.origin.offset = offset;
        }
    }

    /// Reads bytes of the line; its line feeds are not among them.
    #[inline]
    pub(crate) fn feed(&mut self, bytes: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        if self.held.is_empty() {
            let used = self.read(bytes, false, sink);
            if used < bytes.len() {
                self.held.push(&bytes[used..]);
            }
        } else {
            self.held.push(bytes);
            self.read_held(false, sink);
        }
    }

    #[cold]
    fn read_held(&mut self, end: bool, sink: &mut impl FnMut(Line<'_>)) {
        let mut held = std::mem::take(&mut self.held);
        let used = self.read(held.bytes(), end, sink);
        held.take(used);
        self.held = held;
    }

    /// Ends the line.
    #[inline]
    pub(crate) fn end(&mut self, sink: &mut impl FnMut(Line<'_>)) {
        if !self.held.is_empty() {
            self.read_held(true, sink);
        }
        self.out.counts.line_ends += self.returns;
        self.returns = 0;
        self.wiped = false;
        self.escapes.reset();
        self.flush(sink);
    }

    /// Reads the line that `bytes` begin with, where they hold its line feed; returns its length.
    #[inline]
    pub(crate) fn line(
        &mut self,
        bytes: &[u8],
        origin: Origin,
        sink: &mut impl FnMut(Line<'_>),
    ) -> Option<usize> {
        let (run, ascii) = text_run(bytes);
        let length = match bytes.get(run) {
            Some(b'\n') => run,
            _ => run + memchr(b'\n', &bytes[run..])?,
        };
        let body = origin.offset;
        self.whole(&bytes[..length], (run, ascii), origin, body, sink);
        Some(length)
    }

    /// Reads a whole line at once: plain text passes without being copied. `run` is what
    /// [`text_run`] says of it.
    #[inline]
    pub(crate) fn whole(
        &mut self,
        bytes: &[u8],
        run: (usize, bool),
        origin: Origin,
        body: u64,
        sink: &mut impl FnMut(Line<'_>),
    ) {
        let (length, ascii) = run;
        if ascii
            && length == bytes.len()
            && self.text.fits(length)
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            if !text.is_empty() {
                self.spans.clear();
                self.spans.note(0, self.style);
                let shown = Shown {
                    text,
                    truncated: None,
                    kept: length as u64,
                    cut: 0,
                };
                self.out.emit(shown, &origin, &self.spans, false, sink);
            }
            return;
        }
        self.begin(origin, body);
        self.feed(bytes, sink);
        self.end(sink);
    }

    /// Reads `bytes` as far as their meaning is certain; returns how many those are.
    fn read(&mut self, bytes: &[u8], end: bool, sink: &mut impl FnMut(Line<'_>)) -> usize {
        let base = self.place.position();
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let used = match rest[0] {
                ESC => self.read_escape(bytes, at, base, end, sink),
                b'\r' => {
                    let returns = run_of(rest, |byte| byte == b'\r');
                    self.returns += returns as u64;
                    returns
                }
                byte if is_control(byte) => {
                    self.drop_bytes(sink);
                    let is_dropped = |byte| is_control(byte) && byte != ESC && byte != b'\r';
                    let dropped = run_of(rest, is_dropped);
                    self.out.counts.controls += dropped as u64;
                    dropped
                }
                _ => {
                    let (run, ascii) = text_run(rest);
                    let open = run == rest.len() && !end;
                    self.read_run(&rest[..run], ascii, open, sink)
                }
            };
            self.place.advance(used);
            at += used;
            if used == 0 {
                break;
            }
        }
        at
    }

    /// Reads what stands at the ESC `bytes[at]`.
    #[inline]
    fn read_escape(
        &mut self,
        bytes: &[u8],
        at: usize,
        base: u64,
        end: bool,
        sink: &mut impl FnMut(Line<'_>),
    ) -> usize {
        match self.escapes.read(bytes, at, base, end) {
            Escape::Sequence(length) => {
                self.read_sequence(&bytes[at..at + length], sink);
                length
            }
            Escape::Broken(length) => {
                self.drop_bytes(sink);
                self.out.counts.escapes += length as u64;
                length
            }
            Escape::Unknown => 0,
        }
    }

    /// Reads a run without control characters; `open`: more bytes of it may follow.
    fn read_run(
        &mut self,
        run: &[u8],
        ascii: bool,
        open: bool,
        sink: &mut impl FnMut(Line<'_>),
    ) -> usize {
        if self.returns > 0 {
            self.wipe(sink);
            self.wiped = self.out.timestamped;
        }
        if self.wiped {
            if open && run.len() < HEADER_LEN {
                return 0;
            }
            self.wiped = false;
            if let Some(header) = self.headers.read(run) {
                self.origin.time = header.time;
                self.origin.own_time = true;
                self.out.counts.headers += HEADER_LEN as u64;
                return HEADER_LEN;
            }
        }
        if ascii && let Ok(text) = std::str::from_utf8(run) {
            self.push(text, text.len());
            return run.len();
        }
        let held_back = if open { unfinished_character(run) } else { 0 };
        let run = &run[..run.len() - held_back];
        self.read_unicode(run);
        run.len()
    }

    fn read_unicode(&mut self, run: &[u8]) {
        if let Ok(text) = std::str::from_utf8(run) {
            return self.push_without_c1(text);
        }
        // Invalid sequences of one length that follow one another: how many, how long each.
        let mut invalid = (0, 0);
        for chunk in run.utf8_chunks() {
            if !chunk.valid().is_empty() {
                self.push_replacements(std::mem::take(&mut invalid));
                self.push_without_c1(chunk.valid());
            }
            let length = chunk.invalid().len();
            if length != invalid.1 {
                self.push_replacements(std::mem::take(&mut invalid));
            }
            invalid = (invalid.0 + usize::from(length > 0), length);
        }
        self.push_replacements(invalid);
    }

    /// Pushes U+FFFD for each of `count` invalid sequences of `length` bytes.
    fn push_replacements(&mut self, (count, length): (usize, usize)) {
        if count == 0 {
            return;
        }
        self.note_style();
        self.text.push_replacements(count, length);
        self.invalid_utf8 += count as u64;
    }

    /// Pushes `text` without the control characters U+0080 to U+009F.
    fn push_without_c1(&mut self, text: &str) {
        let mut rest = text;
        let mut from = 0;
        while let Some(found) = memchr(0xc2, &rest.as_bytes()[from..]) {
            let at = from + found;
            from = at + 2;
            if rest.as_bytes()[at + 1] < 0xa0 {
                self.push(&rest[..at], at);
                self.text.break_run();
                self.out.counts.controls += 2;
                rest = &rest[from..];
                from = 0;
            }
        }
        self.push(rest, rest.len());
    }

    #[inline]
    fn push(&mut self, text: &str, source: usize) {
        if !text.is_empty() {
            self.note_style();
            self.text.push(text, source);
        }
    }

    /// A character follows: it begins a span where the pen has changed.
    #[inline]
    fn note_style(&mut self) {
        if self.restyled {
            self.spans.note(self.text.end(), self.style);
            self.restyled = false;
        }
    }

    /// Something that shows nothing stands here.
    #[inline]
    fn drop_bytes(&mut self, sink: &mut impl FnMut(Line<'_>)) {
        if self.returns > 0 {
            self.wipe(sink);
        }
        self.wiped = false;
        self.text.break_run();
    }

    fn read_sequence(&mut self, sequence: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        if self.returns == 1
            && sequence == ERASE
            && let Some(marker) = Marker::at_end_of(self.text.run())
        {
            self.returns = 0;
            let after = self.place.position() + sequence.len() as u64;
            return self.mark(&marker, 1 + sequence.len() as u64, after, sink);
        }
        self.drop_bytes(sink);
        self.out.counts.escapes += sequence.len() as u64;
        if let [ESC, b'[', parameters @ .., b'm'] = sequence
            && !matches!(parameters.first(), Some(b'<'..=b'?'))
        {
            self.style.apply(parameters);
            self.restyled = true;
        }
    }

    /// The carriage returns seen were lone ones: they wipe the line, unless the line so far is a
    /// marker that lacks the rest of its ending.
    fn wipe(&mut self, sink: &mut impl FnMut(Line<'_>)) {
        let returns = std::mem::take(&mut self.returns);
        if self.text.is_one_run()
            && self.text.run().starts_with("section_")
            && let Some(marker) = Marker::at_end_of(self.text.run())
            && marker.length == self.text.end()
        {
            return self.mark(&marker, returns, self.place.position(), sink);
        }
        self.out.counts.overwritten += self.text.source() + returns;
        self.fresh();
    }

    /// Takes `marker` off the end of the text and does what it says. It has `ending` bytes more and
    /// ends at position `after`.
    fn mark(&mut self, marker: &Marker, ending: u64, after: u64, sink: &mut impl FnMut(Line<'_>)) {
        let length = marker.length as u64 + ending;
        self.out.counts.markers += length;
        self.text.take_marker(marker.length);
        if !marker.opens && !self.out.sections.is_open(marker) {
            return;
        }
        let first = self.text.is_empty() && self.part == Part::First;
        self.flush(sink);
        let lines = self.out.lines;
        self.out.sections.apply(marker, lines);
        self.part = if marker.opens {
            Part::Title
        } else {
            Part::Rest
        };
        if !marker.opens {
            self.origin.offset = self.place.offset(after);
        } else if !first {
            self.origin.offset = self.place.offset(after - length);
        }
    }

    /// Hands out the text there is, and begins anew.
    fn flush(&mut self, sink: &mut impl FnMut(Line<'_>)) {
        if !self.text.is_empty() {
            let shown = self.text.shown();
            let title = self.part == Part::Title;
            self.out.emit(shown, &self.origin, &self.spans, title, sink);
        }
        if self.part == Part::Title {
            self.part = Part::Rest;
        }
        self.fresh();
    }

    fn fresh(&mut self) {
        self.text.clear();
        self.spans.clear();
        self.restyled = true;
    }
}
