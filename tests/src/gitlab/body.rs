//! Bodies of answers: their size is known, and they are made piece by piece as they go out, so that a trace of any size
//! costs no memory.

/// The bytes of one answer.
pub(super) struct Body {
    size: usize,
    pieces: Pieces,
}

/// Bytes, a piece after the other.
pub(super) type Pieces = Box<dyn Iterator<Item = Vec<u8>> + Send>;

impl Body {
    /// The first `size` bytes of these pieces. The cut may be in the middle of a line, of an escape, of a character.
    pub(super) fn of(size: usize, pieces: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Self {
        Self {
            size,
            pieces: Box::new(first(size, pieces)),
        }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn into_pieces(self) -> Pieces {
        self.pieces
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self::of(bytes.len(), std::iter::once(bytes))
    }
}

/// The first `size` bytes of these pieces.
pub(super) fn first(
    size: usize,
    pieces: impl Iterator<Item = Vec<u8>> + Send + 'static,
) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let mut left = size;
    pieces.map_while(move |mut piece| {
        if left == 0 {
            return None;
        }
        piece.truncate(left);
        left -= piece.len();
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_cut_where_it_ends() {
        let pieces = || vec![b"ab".to_vec(), b"cde".to_vec(), b"f".to_vec()].into_iter();
        for (size, right) in [(0, ""), (2, "ab"), (3, "abc"), (6, "abcdef")] {
            let bytes = Body::of(size, pieces()).into_pieces().collect::<Vec<_>>();
            assert_eq!(bytes.concat(), right.as_bytes());
        }
    }
}
