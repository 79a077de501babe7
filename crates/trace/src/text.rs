//! The text of the line being read: the first `max` bytes of it, and a window at its end in which
//! section markers are found.

/// The longest section marker in bytes, `\r\e[0K` not counted. GitLab sets no limit; real ones stay
/// below 200.
pub(crate) const LONGEST_MARKER: usize = 4096;

/// Text gathered so far. Positions are indexes into `held`.
#[derive(Debug)]
pub(crate) struct Text {
    /// What is kept, then, where `cut`, the end of what is not.
    held: String,
    max: usize,
    /// How long `held` may become: `max`, and once the text is cut, a window more.
    limit: usize,
    /// Set once the text is longer than `max`.
    cut: Option<Cut>,
    /// Length of the whole text in bytes, as decoded.
    length: u64,
    /// Bytes of the trace that the whole text came from.
    source: u64,
    /// From here on `held` equals the trace byte for byte, with nothing dropped between.
    run: usize,
}

#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Text kept, in bytes of `held`.
    kept: usize,
    /// Bytes of the trace that it came from.
    source: u64,
}

/// A line's text as it goes out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a> {
    pub(crate) text: &'a str,
    /// Length before the cut, where there was one.
    pub(crate) truncated: Option<u64>,
    /// Bytes of the trace that `text` came from.
    pub(crate) kept: u64,
    /// Bytes of the trace that were cut.
    pub(crate) cut: u64,
}

impl Text {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            held: String::new(),
            max,
            limit: max,
            cut: None,
            length: 0,
            source: 0,
            run: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether a text of `length` bytes goes out whole.
    pub(crate) fn fits(&self, length: usize) -> bool {
        length <= self.max
    }

    /// Where the next character will stand.
    pub(crate) fn end(&self) -> usize {
        self.held.len()
    }

    /// Bytes of the trace in the text so far.
    pub(crate) fn source(&self) -> u64 {
        self.source
    }

    pub(crate) fn clear(&mut self) {
        self.held.clear();
        self.limit = self.max;
        self.cut = None;
        self.length = 0;
        self.source = 0;
        self.run = 0;
    }

    /// Something was dropped here: a marker cannot reach across it.
    pub(crate) fn break_run(&mut self) {
        self.run = self.held.len();
    }

    /// The end of the text that equals the trace byte for byte: where a marker can be.
    pub(crate) fn run(&self) -> &str {
        &self.held[self.run..]
    }

    /// Whether the whole line is one such run.
    pub(crate) fn is_one_run(&self) -> bool {
        self.run == 0 && self.held.len() as u64 == self.length
    }

    /// Appends `text`, which `source` bytes of the trace stand for.
    #[inline]
    pub(crate) fn push(&mut self, text: &str, source: usize) {
        if self.held.len() + text.len() <= self.limit {
            self.held.push_str(text);
        } else {
            self.push_beyond(text, source);
        }
        self.length += text.len() as u64;
        self.source += source as u64;
    }

    /// Appends U+FFFD for each of `count` sequences of `length` bytes.
    pub(crate) fn push_replacements(&mut self, count: usize, length: usize) {
        const SOME: &str = "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}\u{fffd}";
        const ONE: usize = '\u{fffd}'.len_utf8();
        let mut left = count;
        while left > 0 {
            // Never some that fit and some that don't: their bytes are counted apart.
            let fitting = match self.cut {
                None => (self.max - self.held.len()) / ONE,
                Some(_) => left,
            };
            let pushed = left.min(SOME.len() / ONE).min(fitting.max(1));
            self.push(&SOME[..pushed * ONE], pushed * length);
            left -= pushed;
        }
    }

    #[cold]
    fn push_beyond(&mut self, text: &str, source: usize) {
        let mut rest = text;
        let kept = match self.cut {
            Some(cut) => cut.kept,
            None => self.cut(&mut rest, source),
        };
        if self.held.len() + rest.len() > self.limit {
            self.slide(kept, &mut rest);
        }
        self.held.push_str(rest);
    }

    /// Takes of `rest`, which `source` bytes stand for, what still fits; the text ends there.
    fn cut(&mut self, rest: &mut &str, source: usize) -> usize {
        let room = rest.floor_char_boundary(self.max - self.held.len());
        let (fits, beyond) = rest.split_at(room);
        self.held.push_str(fits);
        *rest = beyond;
        // Replacement characters fit all of them or none.
        let fitting = if fits.is_empty() {
            0
        } else {
            source - beyond.len()
        };
        let kept = self.held.len();
        self.cut = Some(Cut {
            kept,
            source: self.source + fitting as u64,
        });
        self.limit = kept + 2 * LONGEST_MARKER;
        kept
    }

    /// Drops from the end of the text what no marker can reach once `rest` stands behind it.
    fn slide(&mut self, kept: usize, rest: &mut &str) {
        if rest.len() > LONGEST_MARKER {
            *rest = &rest[rest.floor_char_boundary(rest.len() - LONGEST_MARKER)..];
            self.held.truncate(kept);
            self.run = kept;
            return;
        }
        let from = self
            .held
            .floor_char_boundary(self.held.len().saturating_sub(LONGEST_MARKER));
        if from > kept {
            self.held.replace_range(kept..from, "");
            self.run = self.run.saturating_sub(from - kept).max(kept);
        }
    }

    /// Takes the last `length` bytes, a marker's, off the text. They are ASCII and of one run.
    pub(crate) fn take_marker(&mut self, length: usize) {
        self.held.truncate(self.held.len() - length);
        self.length -= length as u64;
        self.source -= length as u64;
        if self.cut.is_some_and(|_| self.length <= self.max as u64) {
            self.cut = None;
            self.limit = self.max;
        }
        self.break_run();
    }

    /// The text as it goes out.
    pub(crate) fn shown(&self) -> Shown<'_> {
        let (length, kept) = match self.cut {
            Some(cut) => (cut.kept, cut.source),
            None => (self.held.len(), self.source),
        };
        Shown {
            text: &self.held[..length],
            truncated: self.cut.map(|_| self.length),
            kept,
            cut: self.source - kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(max: usize, pieces: &[&str]) -> Text {
        let mut text = Text::new(max);
        for piece in pieces {
            text.push(piece, piece.len());
        }
        text
    }

    #[test]
    fn a_long_text_is_cut_on_a_character_boundary() {
        let text = text(5, &["abc", "déf"]);
        let shown = text.shown();
        assert_eq!(shown.text, "abcd");
        assert_eq!((shown.truncated, shown.kept, shown.cut), (Some(7), 4, 3));
    }

    #[test]
    fn what_fits_is_whole() {
        let text = text(6, &["abc", "déf"[..].get(0..3).unwrap()]);
        assert_eq!((text.shown().text, text.shown().truncated), ("abcdé", None));
    }

    #[test]
    fn beyond_the_cut_a_window_stays_in_which_a_marker_is_found() {
        for size in [
            1,
            7,
            1000,
            LONGEST_MARKER - 5,
            LONGEST_MARKER,
            3 * LONGEST_MARKER,
            50_000,
        ] {
            let filler = "x".repeat(size);
            let mut text = Text::new(100);
            for _ in 0..(100_000 / size).min(20_000) {
                text.push(&filler, size);
            }
            text.push("marker", 6);
            assert!(text.run().ends_with("xmarker"), "{size}");
            assert!(
                text.run().len() >= LONGEST_MARKER.min(20_000 - 100),
                "{size}"
            );
            assert!(text.held.len() <= 100 + 3 * LONGEST_MARKER, "{size}");
            text.take_marker(6);
            assert_eq!(text.shown().text.len(), 100);
            assert_eq!(text.shown().truncated, Some(text.length));
        }
    }

    #[test]
    fn a_marker_at_the_cut_gives_the_room_back() {
        let mut text = text(10, &["12345678", "marker"]);
        text.take_marker(6);
        text.push("90", 2);
        assert_eq!(
            (text.shown().text, text.shown().truncated),
            ("1234567890", None)
        );
    }
}
