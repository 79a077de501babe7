//! The sections that are open at some line, in the order in which they were opened.

use memchr::memchr_iter;

/// Sections open at one time; whoever opens one more gives up the oldest.
pub(crate) const MOST_OPEN: usize = 256;
/// Bytes of a name that are kept.
pub(crate) const LONGEST_NAME: usize = 256;

/// A section that is open at some line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSection {
    name: String,
    /// Of the whole name: its length and a hash, which alone tell what was not kept of it.
    length: usize,
    key: u64,
    ordinal: u64,
    pub(crate) span: Span,
}

/// What closing a section needs to know of its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) started: i64,
    pub(crate) first_line: u64,
    /// Index in the recorded sections, unless those are full.
    pub(crate) record: Option<usize>,
}

impl OpenSection {
    pub(crate) fn new(name: &str, ordinal: u64, span: Span) -> Self {
        Self {
            name: kept(name).to_owned(),
            length: name.len(),
            key: key(name),
            ordinal,
            span,
        }
    }

    /// The name as written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// [`Section::ordinal`](crate::Section::ordinal).
    pub const fn ordinal(&self) -> u64 {
        self.ordinal
    }

    /// [`Section::started`](crate::Section::started).
    pub const fn started(&self) -> i64 {
        self.span.started
    }

    fn is_named(&self, name: &str, key: u64) -> bool {
        self.key == key
            && self.length == name.len()
            && display(self.name.as_bytes()).eq(display(kept(name).as_bytes()))
    }
}

/// What is kept of a name. Names are ASCII: any cut is one between characters.
pub(crate) fn kept(name: &str) -> &str {
    &name[..name.len().min(LONGEST_NAME)]
}

/// The name as GitLab's page has it: lower case, `-` for all but letters and digits.
pub(crate) fn display(name: &[u8]) -> impl Iterator<Item = u8> + '_ {
    name.iter().map(|byte| match byte.to_ascii_lowercase() {
        byte if byte.is_ascii_alphanumeric() => byte,
        _ => b'-',
    })
}

/// A hash of the display name (FNV-1a).
fn key(name: &str) -> u64 {
    display(name.as_bytes()).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// All that are open. Each marker looks for its section here, and a trace may hold nothing else:
/// a byte of each key is kept apart, where looking costs least.
#[derive(Debug, Default)]
pub(crate) struct OpenSections {
    list: Vec<OpenSection>,
    fingerprints: Vec<u8>,
    /// So many at the start of both are closed: the rest does not move up each time.
    gone: usize,
}

const fn fingerprint(key: u64) -> u8 {
    key.to_be_bytes()[0]
}

impl OpenSections {
    /// The last one opened is the last one.
    pub(crate) fn as_slice(&self) -> &[OpenSection] {
        &self.list[self.gone..]
    }

    pub(crate) fn span_mut(&mut self, at: usize) -> &mut Span {
        &mut self.list[self.gone + at].span
    }

    /// Where the section of this name is: GitLab goes by the display name.
    pub(crate) fn find(&self, name: &str) -> Option<usize> {
        let key = key(name);
        let mut alike = memchr_iter(fingerprint(key), &self.fingerprints[self.gone..]);
        alike.find(|&at| self.as_slice()[at].is_named(name, key))
    }

    pub(crate) fn push(&mut self, section: OpenSection) {
        self.fingerprints.push(fingerprint(section.key));
        self.list.push(section);
    }

    pub(crate) fn remove(&mut self, at: usize) -> Span {
        let index = self.gone + at;
        let span = self.list[index].span;
        if at > 0 {
            self.list.remove(index);
            self.fingerprints.remove(index);
            return span;
        }
        self.gone += 1;
        if self.gone == self.list.len() || self.gone == MOST_OPEN {
            self.list.drain(..self.gone);
            self.fingerprints.drain(..self.gone);
            self.gone = 0;
        }
        span
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(names: &[&str]) -> OpenSections {
        let mut open = OpenSections::default();
        for (name, ordinal) in names.iter().zip(1..) {
            let span = Span {
                started: 0,
                first_line: ordinal,
                record: None,
            };
            open.push(OpenSection::new(name, ordinal, span));
        }
        open
    }

    fn names(open: &OpenSections) -> Vec<&str> {
        open.as_slice().iter().map(OpenSection::name).collect()
    }

    #[test]
    fn long_names_are_told_apart_by_what_is_not_kept_of_them() {
        let name = "n".repeat(LONGEST_NAME);
        let open = open(&[&format!("{name}a")]);
        assert_eq!(open.as_slice()[0].name(), name);
        for (end, found) in [("a", true), ("A", true), ("b", false), ("", false)] {
            let found = found.then_some(0);
            assert_eq!(open.find(&format!("{name}{end}")), found, "{end}");
        }
    }

    #[test]
    fn places_are_those_among_the_open_ones() {
        let mut open = open(&["a", "b", "c", "d"]);
        assert_eq!(open.remove(0).first_line, 1);
        assert_eq!(open.find("c"), Some(1));
        assert_eq!(open.remove(1).first_line, 3);
        assert_eq!((names(&open), open.find("a")), (vec!["b", "d"], None));
        open.span_mut(1).started = 5;
        assert_eq!(open.as_slice()[1].started(), 5);
    }

    #[test]
    fn closed_ones_are_forgotten() {
        let mut open = OpenSections::default();
        for ordinal in 0..2_000 {
            let span = Span {
                started: 0,
                first_line: 0,
                record: None,
            };
            open.push(OpenSection::new(&format!("s{ordinal}"), ordinal, span));
            if open.as_slice().len() > 100 {
                open.remove(0);
            }
            assert!(open.list.len() <= MOST_OPEN + 100);
        }
        assert_eq!(names(&open)[0], "s1900");
        assert_eq!(open.find("s1999"), Some(99));
    }
}
