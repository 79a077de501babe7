//! Physical lines of a timestamped trace into logical ones: a `+` piece goes on where the last line
//! of the same stream ended, lines come out in the order of their first pieces.
//!
//! The oldest line that can still go on is read as it arrives; the lines after it wait as bytes.
//! When too many wait, the oldest is closed: a `+` for it then makes a line of its own.

use std::collections::VecDeque;

use crate::bytes::text_run;
use crate::header::Header;
use crate::line::{Line, Origin, Stream};
use crate::screen::Screen;

/// Bytes that wait at most. The runner's own pieces end at some 8 KiB; streams meet within seconds. A line of the
/// runner's own stays open until its next one, so that of most traces as much does wait.
const MOST_BYTES: usize = 256 * 1024;
/// Physical lines that wait at most.
const MOST_PIECES: usize = 4_000;

/// A stream: number and type.
type Key = usize;
const KEYS: usize = 512;

fn key(number: u8, stream: Stream) -> Key {
    usize::from(number) * 2 + usize::from(stream == Stream::Stderr)
}

/// Where the text of the physical line at hand goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    /// The line on the screen.
    Head,
    /// The last piece that waits.
    Queue,
}

/// A physical line that waits.
#[derive(Debug)]
struct Piece {
    origin: Origin,
    /// Offset in the trace of its text.
    body: u64,
    /// Its text begins here in `bytes`, counted from the first byte that ever waited.
    start: u64,
    length: usize,
    /// Whether it continues another and is read with that one.
    follows: bool,
    /// The piece that continues it.
    next: Option<u64>,
    key: Option<Key>,
    /// Whether nothing can continue it any more.
    closed: bool,
}

/// The last piece of a stream's open line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Open {
    #[default]
    None,
    /// The line is on the screen.
    Head,
    /// It waits: its first and its last piece.
    Waiting { first: u64, last: u64 },
}

/// The line on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Head {
    None,
    /// One without a header: nothing continues it.
    Headerless,
    Of(Key),
}

/// Puts the pieces of lines together.
#[derive(Debug)]
pub(crate) struct Merge {
    open: Box<[Open; KEYS]>,
    head: Head,
    target: Target,
    waiting: VecDeque<Piece>,
    /// Number of the piece at the front of `waiting`.
    front: u64,
    bytes: VecDeque<u8>,
    /// Of `bytes[0]`.
    start: u64,
    /// The last time that a header gave.
    last_time: Option<i64>,
}

impl Merge {
    pub(crate) fn new() -> Self {
        Self {
            open: Box::new([Open::None; KEYS]),
            head: Head::None,
            target: Target::Head,
            waiting: VecDeque::new(),
            front: 0,
            bytes: VecDeque::new(),
            start: 0,
            last_time: None,
        }
    }

    /// A physical line begins at `offset`, its text at `body`.
    pub(crate) fn begin(
        &mut self,
        offset: u64,
        body: u64,
        header: Option<Header>,
        screen: &mut Screen,
        sink: &mut impl FnMut(Line<'_>),
    ) {
        let mut origin = Origin {
            offset,
            time: self.last_time,
            own_time: false,
            stream: None,
        };
        let Some(header) = header else {
            return self.start(origin, body, None, screen, sink);
        };
        self.last_time = header.time.or(self.last_time);
        origin.time = header.time;
        origin.own_time = true;
        origin.stream = Some((header.stream, header.number));
        let key = key(header.number, header.stream);
        match self.open[key] {
            Open::None => {}
            Open::Head if header.continues => {
                self.target = Target::Head;
                return screen.next_piece(offset, body);
            }
            Open::Waiting { first, last } if header.continues => {
                let id = self.wait(origin, body, Some(key), true);
                let before = self.index(last);
                self.waiting[before].next = Some(id);
                self.open[key] = Open::Waiting { first, last: id };
                return self.make_room(screen, sink);
            }
            Open::Head => self.end_head(screen, sink),
            Open::Waiting { first, .. } => {
                let first = self.index(first);
                self.waiting[first].closed = true;
            }
        }
        self.start(origin, body, Some(key), screen, sink);
    }

    /// A logical line begins.
    fn start(
        &mut self,
        origin: Origin,
        body: u64,
        key: Option<Key>,
        screen: &mut Screen,
        sink: &mut impl FnMut(Line<'_>),
    ) {
        if self.head == Head::None {
            screen.begin(origin, body);
            self.take_head(key);
            self.target = Target::Head;
            return;
        }
        let id = self.wait(origin, body, key, false);
        if let Some(key) = key {
            self.open[key] = Open::Waiting {
                first: id,
                last: id,
            };
        }
        self.make_room(screen, sink);
    }

    /// Text of the physical line at hand.
    #[inline]
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        screen: &mut Screen,
        sink: &mut impl FnMut(Line<'_>),
    ) {
        if self.target == Target::Head {
            return screen.feed(bytes, sink);
        }
        self.bytes.extend(bytes);
        if let Some(piece) = self.waiting.back_mut() {
            piece.length += bytes.len();
        }
        self.make_room(screen, sink);
    }

    /// The physical line at hand ends.
    #[inline]
    pub(crate) fn end(&mut self, screen: &mut Screen, sink: &mut impl FnMut(Line<'_>)) {
        match self.target {
            Target::Head if self.head == Head::Headerless => self.end_head(screen, sink),
            Target::Head => {}
            Target::Queue => {
                if let Some(piece) = self.waiting.back_mut() {
                    piece.closed |= piece.key.is_none();
                }
            }
        }
    }

    /// The trace ends: nothing continues any line.
    pub(crate) fn finish(&mut self, screen: &mut Screen, sink: &mut impl FnMut(Line<'_>)) {
        while self.head != Head::None {
            self.end_head(screen, sink);
        }
    }

    fn index(&self, id: u64) -> usize {
        usize::try_from(id - self.front).expect("a piece that waits has its place in the queue")
    }

    fn take_head(&mut self, key: Option<Key>) {
        self.head = Head::Headerless;
        if let Some(key) = key {
            self.head = Head::Of(key);
            self.open[key] = Open::Head;
        }
    }

    fn wait(&mut self, origin: Origin, body: u64, key: Option<Key>, follows: bool) -> u64 {
        self.target = Target::Queue;
        self.waiting.push_back(Piece {
            origin,
            body,
            start: self.start + self.bytes.len() as u64,
            length: 0,
            follows,
            next: None,
            key,
            closed: false,
        });
        self.front + self.waiting.len() as u64 - 1
    }

    /// Closes the oldest lines while too much waits behind them.
    #[inline]
    fn make_room(&mut self, screen: &mut Screen, sink: &mut impl FnMut(Line<'_>)) {
        while self.target == Target::Queue
            && (self.bytes.len() > MOST_BYTES || self.waiting.len() > MOST_PIECES)
        {
            self.end_head(screen, sink);
        }
    }

    /// Ends the line on the screen and reads on, up to the next one that can still go on.
    fn end_head(&mut self, screen: &mut Screen, sink: &mut impl FnMut(Line<'_>)) {
        screen.end(sink);
        if let Head::Of(key) = std::mem::replace(&mut self.head, Head::None) {
            self.open[key] = Open::None;
        }
        while self.head == Head::None && !self.waiting.is_empty() {
            self.read_front(screen, sink);
        }
    }

    fn read_front(&mut self, screen: &mut Screen, sink: &mut impl FnMut(Line<'_>)) {
        let piece = &self.waiting[0];
        let (key, closed, mut next) = (piece.key, piece.closed, piece.next);
        if !piece.follows {
            let (near, far) = self.text(piece);
            if closed && next.is_none() && far.is_empty() {
                screen.whole(near, text_run(near), piece.origin, piece.body, sink);
            } else {
                screen.begin(piece.origin, piece.body);
                screen.feed(near, sink);
                screen.feed(far, sink);
                let mut last = 0;
                while let Some(id) = next {
                    last = self.index(id);
                    let piece = &self.waiting[last];
                    screen.next_piece(piece.origin.offset, piece.body);
                    let (near, far) = self.text(piece);
                    screen.feed(near, sink);
                    screen.feed(far, sink);
                    next = piece.next;
                }
                if closed {
                    screen.end(sink);
                } else {
                    if last + 1 == self.waiting.len() {
                        self.target = Target::Head;
                    }
                    self.take_head(key);
                }
            }
        }
        self.drop_front();
    }

    fn text(&self, piece: &Piece) -> (&[u8], &[u8]) {
        let from = usize::try_from(piece.start - self.start)
            .expect("the bytes of a piece that waits are there");
        let (near, far) = self.bytes.as_slices();
        let until = from + piece.length;
        let far_from = from.saturating_sub(near.len());
        let far_until = until.saturating_sub(near.len());
        (
            &near[from.min(near.len())..until.min(near.len())],
            &far[far_from..far_until],
        )
    }

    fn drop_front(&mut self) {
        if let Some(piece) = self.waiting.pop_front() {
            self.bytes.drain(..piece.length);
            self.start += piece.length as u64;
            self.front += 1;
        }
    }
}
