//! The grammar of escape sequences (ECMA-48, and APC and OSC ended by BEL as terminals take them).
//!
//! A sequence counts only when it ends within its logical line and within [`LONGEST`] bytes; else
//! its introducer alone is dropped and what follows is text.

const ESC: u8 = 0x1b;
const BEL: u8 = 0x07;

/// The longest sequence in bytes, introducer and terminator included. Hyperlinks and window titles
/// stay far below; inline images (OSC 1337) beyond it are as unreadable as text as they were.
pub(crate) const LONGEST: usize = 64 * 1024;

/// What stands at an ESC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escape {
    /// A whole sequence of this many bytes.
    Sequence(usize),
    /// No sequence: this many bytes, ESC and perhaps its introducer, show nothing.
    Broken(usize),
    /// The bytes end before it is known.
    Unknown,
}

/// Reads sequences of one logical line; remembers how far terminators were looked for, so that
/// introducers without an end cost no more than one look at each byte.
#[derive(Debug, Default)]
pub(crate) struct EscapeReader {
    bel_or_st: Search,
    st: Search,
    /// Of the CSI at this position, so many bytes are known to be parameters.
    csi: (u64, usize),
}

impl EscapeReader {
    /// Forgets the line.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }

    /// Reads what stands at the ESC `bytes[at]`. `base` is the position of `bytes[0]` in the line;
    /// `end`: no byte of the line follows `bytes`.
    pub(crate) fn read(&mut self, bytes: &[u8], at: usize, base: u64, end: bool) -> Escape {
        let rest = &bytes[at..];
        let Some(&introducer) = rest.get(1) else {
            return if end {
                Escape::Broken(1)
            } else {
                Escape::Unknown
            };
        };
        match introducer {
            b'[' => self.read_csi(rest, base + at as u64, end),
            b']' | b'_' => decide(
                self.bel_or_st.find(bytes, at + 2, base, true),
                at,
                bytes,
                end,
            ),
            b'P' | b'X' | b'^' => decide(self.st.find(bytes, at + 2, base, false), at, bytes, end),
            b' '..=b'/' => read_nf(rest, end),
            b'0'..=b'~' => Escape::Sequence(2),
            _ => Escape::Broken(1),
        }
    }

    fn read_csi(&mut self, rest: &[u8], position: u64, end: bool) -> Escape {
        let known = if self.csi.0 == position {
            self.csi.1
        } else {
            0
        };
        let mut length = known.max(2);
        let mut intermediate = length > 2 && matches!(rest[length - 1], b' '..=b'/');
        while let Some(&byte) = rest.get(length) {
            match byte {
                b'@'..=b'~' if length < LONGEST => return Escape::Sequence(length + 1),
                b'0'..=b'?' if !intermediate && length < LONGEST => {}
                b' '..=b'/' if length < LONGEST => intermediate = true,
                _ => return Escape::Broken(2),
            }
            length += 1;
        }
        self.csi = (position, length);
        if end {
            Escape::Broken(2)
        } else {
            Escape::Unknown
        }
    }
}

/// `ESC ( B` and its like: intermediates, then one final byte.
fn read_nf(rest: &[u8], end: bool) -> Escape {
    let limit = rest.len().min(LONGEST);
    let Some(last) = rest[1..limit]
        .iter()
        .position(|byte| !matches!(byte, b' '..=b'/'))
    else {
        return if end || limit == LONGEST {
            Escape::Broken(2)
        } else {
            Escape::Unknown
        };
    };
    match rest[last + 1] {
        b'0'..=b'~' => Escape::Sequence(last + 2),
        _ => Escape::Broken(2),
    }
}

fn decide(found: Option<usize>, at: usize, bytes: &[u8], end: bool) -> Escape {
    match found {
        Some(after) if after - at <= LONGEST => Escape::Sequence(after - at),
        None if !end && bytes.len() - at < LONGEST => Escape::Unknown,
        _ => Escape::Broken(2),
    }
}

/// A search for a string terminator that never looks at a byte of the line twice.
#[derive(Debug, Default)]
struct Search {
    /// No terminator starts before this position of the line, from where the search began.
    searched: u64,
    /// The terminator found there: its start and the position after it.
    found: Option<(u64, u64)>,
}

impl Search {
    /// The index after the first terminator that starts at or after `bytes[from]`.
    fn find(&mut self, bytes: &[u8], from: usize, base: u64, bel: bool) -> Option<usize> {
        let position = base + from as u64;
        if let Some((start, after)) = self.found
            && start >= position
        {
            return index(after, base);
        }
        let mut at = index(self.searched.max(position), base)?;
        self.found = None;
        // Not memchr: introducers without an end are candidates every few bytes.
        while at < bytes.len() {
            let length = match (bytes[at], bytes.get(at + 1)) {
                (BEL, _) if bel => 1,
                (ESC, Some(b'\\')) | (0xc2, Some(0x9c)) => 2,
                (ESC | 0xc2, None) => break,
                _ => 0,
            };
            if length > 0 {
                self.searched = base + at as u64;
                self.found = Some((self.searched, self.searched + length));
                return index(self.searched + length, base);
            }
            at += 1;
        }
        self.searched = base + at as u64;
        None
    }
}

/// The index in a slice that begins at `base` of a position of the line.
fn index(position: u64, base: u64) -> Option<usize> {
    usize::try_from(position.checked_sub(base)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], end: bool) -> Escape {
        EscapeReader::default().read(bytes, 0, 0, end)
    }

    #[test]
    fn whole_sequences() {
        for (bytes, length) in [
            (&b"\x1b[0Kx"[..], 4),
            (b"\x1b[?25lx", 6),
            (b"\x1b[1;2 qx", 7),
            (b"\x1b[mx", 3),
            (b"\x1b]0;title\x07x", 10),
            (b"\x1b]8;;http://a\x1b\\x", 15),
            (b"\x1b]0;t\xc2\x9cx", 7),
            (b"\x1b_bk;t=1\x07x", 9),
            (b"\x1bPq\x07\x1b\\x", 6),
            (b"\x1b(Bx", 3),
            (b"\x1b7x", 2),
            (b"\x1bMx", 2),
            (b"\x1b\\x", 2),
        ] {
            assert_eq!(
                read(bytes, true),
                Escape::Sequence(length),
                "{:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn broken_ones_lose_their_introducer_alone() {
        for (bytes, length) in [
            (&b"\x1b"[..], 1),
            (b"\x1b\x1b[m", 1),
            (b"\x1b\xc3\xa9", 1),
            (b"\x1b[", 2),
            (b"\x1b[31", 2),
            (b"\x1b[3\r1m", 2),
            (b"\x1b[\xc3\xa9", 2),
            (b"\x1b[1 2m", 2),
            (b"\x1b]0;title", 2),
            (b"\x1bPq\x07", 2),
            (b"\x1b(", 2),
            (b"\x1b(\xc3\xa9", 2),
        ] {
            assert_eq!(
                read(bytes, true),
                Escape::Broken(length),
                "{:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn while_bytes_may_follow_nothing_is_decided_that_they_could_change() {
        for bytes in [
            &b"\x1b"[..],
            b"\x1b[31",
            b"\x1b]0;title",
            b"\x1b]0;title\x1b",
            b"\x1b(",
        ] {
            assert_eq!(
                read(bytes, false),
                Escape::Unknown,
                "{:?}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn the_limit_counts_introducer_and_terminator() {
        for (introducer, terminator) in [(&b"\x1b]"[..], &b"\x07"[..]), (b"\x1b[", b"m")] {
            for (length, expected) in [
                (LONGEST, Escape::Sequence(LONGEST)),
                (LONGEST + 1, Escape::Broken(2)),
            ] {
                let mut bytes = introducer.to_vec();
                bytes.resize(length - 1, b'1');
                bytes.extend(terminator);
                bytes.extend(b"after");
                assert_eq!(read(&bytes, true), expected);
            }
        }
    }
}
