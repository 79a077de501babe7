//! Bytes that wait for what follows them, and where in the trace the line is being read.

use std::collections::VecDeque;

use crate::text::LONGEST_MARKER;

/// How far behind the byte being read a marker may begin: its length, and `\r\e[0K`.
const REACH: u64 = LONGEST_MARKER as u64 + 5;

/// Used-up bytes at the front are given back once they are so many.
const COMPACT: usize = 64 * 1024;

/// Bytes whose meaning depends on what follows: at most the longest escape sequence and one portion.
#[derive(Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    used: usize,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[self.used..]
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The first `count` bytes were read.
    pub(crate) fn take(&mut self, count: usize) {
        self.used += count;
        if self.used == self.bytes.len() {
            self.bytes.clear();
            self.used = 0;
        } else if self.used > COMPACT {
            self.bytes.drain(..self.used);
            self.used = 0;
        }
    }
}

/// Where reading stands: a position counts the bytes of a logical line, its pieces joined; an
/// offset is one in the trace.
#[derive(Debug, Default)]
pub(crate) struct Place {
    position: u64,
    piece: Piece,
    /// The pieces before it that hold bytes a marker may begin with: those that wait, and
    /// [`REACH`] bytes more.
    earlier: VecDeque<Piece>,
}

/// A physical line within a logical one.
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    /// Its offset, that of its header.
    offset: u64,
    /// The offset of its text.
    body: u64,
    /// The position of its text.
    position: u64,
}

impl Place {
    /// A logical line begins.
    #[inline]
    pub(crate) fn begin(&mut self, offset: u64, body: u64) {
        self.position = 0;
        self.piece = Piece {
            offset,
            body,
            position: 0,
        };
        self.earlier.clear();
    }

    /// A piece begins behind the `held` bytes that wait.
    pub(crate) fn next_piece(&mut self, offset: u64, body: u64, held: usize) {
        let position = self.position + held as u64;
        // A piece without a byte is no byte's place, and so the pieces kept are no more than bytes.
        if self.piece.position < position {
            self.earlier.push_back(self.piece);
        }
        self.piece = Piece {
            offset,
            body,
            position,
        };
        while let Some(next) = self.earlier.get(1)
            && next.position + REACH < self.position
        {
            self.earlier.pop_front();
        }
    }

    /// The position of the next byte to be read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    #[inline]
    pub(crate) fn advance(&mut self, count: usize) {
        self.position += count as u64;
    }

    /// The offset of a position; for one out of reach, that of the earliest piece known.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        let after = self
            .earlier
            .partition_point(|piece| piece.position <= position);
        let piece = match after.checked_sub(1) {
            _ if self.piece.position <= position => &self.piece,
            Some(index) => &self.earlier[index],
            None => return self.earlier.front().unwrap_or(&self.piece).offset,
        };
        piece.body + position - piece.position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_positions_in_each_piece_within_reach() {
        let mut place = Place::default();
        place.begin(100, 132);
        place.advance(10);
        place.next_piece(150, 182, 5);
        assert_eq!(place.offset(3), 135);
        assert_eq!(place.offset(15), 182);
        place.next_piece(200, 232, 8);
        assert_eq!(place.offset(3), 135);
        assert_eq!(place.offset(17), 184);
        assert_eq!(place.offset(20), 234);
    }

    #[test]
    fn pieces_without_bytes_and_pieces_out_of_reach_are_forgotten() {
        let mut place = Place::default();
        place.begin(100, 132);
        for piece in 0..100_000 {
            place.next_piece(1000 + piece, 1032 + piece, 0);
        }
        assert_eq!(place.earlier.len(), 0);
        for piece in 0..100_000 {
            place.advance(1);
            place.next_piece(200_000 + piece, 200_032 + piece, 0);
        }
        let kept = place.earlier.len() as u64;
        assert!((REACH..REACH + 3).contains(&kept), "{kept}");
        assert_eq!(place.offset(99_999 - REACH), 300_030 - REACH);
        assert_eq!(place.offset(5), place.earlier[0].offset);
    }

    #[test]
    fn held_bytes_are_read_in_order_and_given_back() {
        let mut held = Held::default();
        held.push("a".repeat(2 * COMPACT).as_bytes());
        held.push(b"end");
        held.take(2 * COMPACT);
        assert_eq!((held.bytes(), held.len()), (&b"end"[..], 3));
        held.take(3);
        assert!(held.is_empty());
    }
}
