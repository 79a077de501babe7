//! The way in: chunks of bytes into physical lines, and the runner's header off each.

use memchr::memchr;
use sha2::{Digest, Sha256};

use crate::bytes::run_of;
use crate::header::{HEADER_LEN, Header, HeaderReader};
use crate::line::{Line, Options, Origin};
use crate::merge::Merge;
use crate::screen::Screen;
use crate::summary::Summary;

/// Bytes worked on at a time: what the hash has read is still in the cache when the parser comes.
const BLOCK: usize = 64 * 1024;

/// A trace on its way through. See the [crate] for what it does to the bytes.
#[derive(Debug)]
pub struct Parser {
    hash: Sha256,
    /// Bytes that went in, and so the offset of the next one.
    bytes: u64,
    kind: Kind,
    /// Whether the next byte begins a physical line.
    at_line_start: bool,
    /// The start of a line too short yet to tell whether it is a header.
    start: Start,
    headers: HeaderReader,
    merge: Merge,
    screen: Screen,
}

/// What the first line makes of the trace. Later lines do not change it: plain jobs do print lines
/// that look like headers, another job's log for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unknown,
    Plain,
    Timestamped,
}

#[derive(Debug, Default)]
struct Start {
    bytes: [u8; HEADER_LEN],
    length: usize,
}

impl Parser {
    /// A parser for one trace, from its first byte.
    pub fn new(options: Options) -> Self {
        Self {
            hash: Sha256::new(),
            bytes: 0,
            kind: Kind::Unknown,
            at_line_start: true,
            start: Start::default(),
            headers: HeaderReader::default(),
            merge: Merge::new(),
            screen: Screen::new(options.max_text),
        }
    }

    /// Feeds the next bytes, in any portions, and calls `sink` for each line that is now final: no
    /// later byte changes it.
    pub fn push(&mut self, chunk: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        for block in chunk.chunks(BLOCK) {
            self.hash.update(block);
            self.read(block, sink);
        }
    }

    /// Ends the trace. Lines that were still open come out here: the last one where it has no line
    /// feed, and those that a `+` piece might have continued. In the trace of a running job they
    /// may yet change.
    pub fn finish(mut self, sink: &mut impl FnMut(Line<'_>)) -> Summary {
        if self.start.length > 0 {
            self.begin_line(None, 0, sink);
        }
        match self.kind {
            Kind::Timestamped => {
                self.merge.end(&mut self.screen, sink);
                self.merge.finish(&mut self.screen, sink);
            }
            _ if !self.at_line_start => self.screen.end(sink),
            _ => {}
        }
        let out = self.screen.out;
        let (sections, sections_dropped) = out.sections.finish(out.lines);
        Summary {
            lines: out.lines,
            bytes: self.bytes,
            sha256: self.hash.finalize().into(),
            sections,
            sections_dropped,
            trailer: out.trailer.finish(),
            timestamped: out.timestamped,
            invalid_utf8: self.screen.invalid_utf8,
            accounting: out.counts,
        }
    }

    fn read(&mut self, block: &[u8], sink: &mut impl FnMut(Line<'_>)) {
        let mut rest = block;
        while !rest.is_empty() {
            let used = if !self.at_line_start {
                self.read_text(rest, sink)
            } else if self.kind == Kind::Plain {
                self.read_plain(rest, sink)
            } else {
                self.read_start(rest, sink)
            };
            self.bytes += used as u64;
            rest = &rest[used..];
        }
    }

    /// Lines of a plain trace, as long as they end within `bytes`.
    fn read_plain(&mut self, bytes: &[u8], sink: &mut impl FnMut(Line<'_>)) -> usize {
        let mut at = run_of(bytes, |byte| byte == b'\n');
        self.screen.out.counts.line_ends += at as u64;
        while let origin = plain(self.bytes + at as u64)
            && let Some(length) = self.screen.line(&bytes[at..], origin, sink)
        {
            self.screen.out.counts.line_ends += 1;
            at += length + 1;
        }
        if at == 0 {
            self.screen.begin(plain(self.bytes), self.bytes);
            self.at_line_start = false;
        }
        at
    }

    /// The first bytes of a line that may have a header.
    fn read_start(&mut self, bytes: &[u8], sink: &mut impl FnMut(Line<'_>)) -> usize {
        if self.start.length == 0
            && let Some(header) = self.headers.read(bytes)
        {
            self.begin_line(Some(header), HEADER_LEN, sink);
            return HEADER_LEN;
        }
        let room = HEADER_LEN - self.start.length;
        let window = &bytes[..bytes.len().min(room)];
        let line_end = memchr(b'\n', window);
        let used = line_end.unwrap_or(window.len());
        self.start.bytes[self.start.length..self.start.length + used]
            .copy_from_slice(&window[..used]);
        self.start.length += used;
        if line_end.is_none() && self.start.length < HEADER_LEN {
            return used;
        }
        let header = self.headers.read(&self.start.bytes[..self.start.length]);
        self.begin_line(header, used, sink);
        used
    }

    /// The physical line begins; of its first bytes, `used` are not counted in `self.bytes` yet.
    fn begin_line(&mut self, header: Option<Header>, used: usize, sink: &mut impl FnMut(Line<'_>)) {
        let start = std::mem::take(&mut self.start);
        let text = if header.is_some() {
            &[]
        } else {
            &start.bytes[..start.length]
        };
        let before = match start.length {
            0 => 0,
            length => (length - used) as u64,
        };
        let offset = self.bytes - before;
        self.at_line_start = false;
        if self.kind == Kind::Unknown {
            self.screen.out.timestamped = header.is_some();
            self.kind = if header.is_some() {
                Kind::Timestamped
            } else {
                Kind::Plain
            };
        }
        if self.kind == Kind::Plain {
            self.screen.begin(plain(offset), offset);
            return self.screen.feed(text, sink);
        }
        let mut body = offset;
        if header.is_some() {
            body += HEADER_LEN as u64;
            self.screen.out.counts.headers += HEADER_LEN as u64;
        }
        self.merge
            .begin(offset, body, header, &mut self.screen, sink);
        self.merge.feed(text, &mut self.screen, sink);
    }

    /// Text of a line that has begun, and its end.
    #[inline]
    fn read_text(&mut self, bytes: &[u8], sink: &mut impl FnMut(Line<'_>)) -> usize {
        let line_end = memchr(b'\n', bytes);
        let text = &bytes[..line_end.unwrap_or(bytes.len())];
        let screen = &mut self.screen;
        match self.kind {
            Kind::Timestamped => self.merge.feed(text, screen, sink),
            _ => screen.feed(text, sink),
        }
        if line_end.is_none() {
            return text.len();
        }
        screen.out.counts.line_ends += 1;
        match self.kind {
            Kind::Timestamped => self.merge.end(screen, sink),
            _ => screen.end(sink),
        }
        self.at_line_start = true;
        text.len() + 1
    }
}

fn plain(offset: u64) -> Origin {
    Origin {
        offset,
        ..Origin::default()
    }
}
