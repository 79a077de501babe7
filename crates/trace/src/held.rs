//! Bytes that wait for what follows them, and where in the trace the line is being read.

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
    /// The piece before it, in which a marker may have begun.
    previous: Piece,
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
    pub(crate) fn begin(&mut self, offset: u64, body: u64) {
        self.position = 0;
        self.piece = Piece {
            offset,
            body,
            position: 0,
        };
        self.previous = self.piece;
    }

    /// A piece begins behind the `held` bytes that wait.
    pub(crate) fn next_piece(&mut self, offset: u64, body: u64, held: usize) {
        self.previous = self.piece;
        self.piece = Piece {
            offset,
            body,
            position: self.position + held as u64,
        };
    }

    /// The position of the next byte to be read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.position += count as u64;
    }

    /// The offset of a position. Markers do not span three pieces, so two are remembered; before
    /// them, the earlier one's own offset has to do.
    pub(crate) fn offset(&self, position: u64) -> u64 {
        for piece in [&self.piece, &self.previous] {
            if let Some(inside) = position.checked_sub(piece.position) {
                return piece.body + inside;
            }
        }
        self.previous.offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_positions_in_this_piece_and_the_one_before() {
        let mut place = Place::default();
        place.begin(100, 132);
        place.advance(10);
        place.next_piece(150, 182, 5);
        assert_eq!(place.offset(3), 135);
        assert_eq!(place.offset(15), 182);
        place.next_piece(200, 232, 8);
        assert_eq!(place.offset(3), 150);
    }

    #[test]
    fn held_bytes_are_read_in_order_and_given_back() {
        let mut held = Held::default();
        held.push(&[b'a'; 2 * COMPACT]);
        held.push(b"end");
        held.take(2 * COMPACT);
        assert_eq!((held.bytes(), held.len()), (&b"end"[..], 3));
        held.take(3);
        assert!(held.is_empty());
    }
}
