//! Many patterns, and which of them a line has, at a cost that hardly grows with their number.
//!
//! One automaton for all of them is out of the question: it has to be built anew for nearly every line. Instead each
//! pattern is reduced to the words that a line must have for it (as RE2's `FilteredRE2` does), all words are looked
//! for in one pass, and only patterns that can fit are tried.

use std::fmt;

use aho_corasick::AhoCorasick;
use regex::bytes::{Regex, RegexBuilder};
use regex_filtered::{mapper, model::Model};
use regex_syntax::hir::{Capture, Hir, HirKind, Repetition};

/// Letters of a word that is looked for.
const SHORTEST_WORD: usize = 3;
/// Repetitions of a part that are looked for as a word: `[0-9]{64}` has too many words of 64 letters.
const MOST_REPEATED: u32 = 4;
/// Bytes of a compiled pattern: what is larger takes milliseconds for a line.
const LARGEST: usize = 128 << 10;
/// Bytes that a search with one pattern may take for what it has learnt of it, for each thread that searches.
const CACHE: usize = 256 << 10;

/// Patterns that are ready for use.
pub(crate) struct Patterns {
    all: Vec<Regex>,
    words: AhoCorasick,
    mapper: mapper::Mapper,
    /// Patterns without words, which are tried on every line.
    wordless: Vec<usize>,
}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} patterns", self.all.len())
    }
}

impl Patterns {
    /// All of these; an error where one of them is none.
    pub(crate) fn new<'p>(patterns: impl IntoIterator<Item = &'p str>) -> Result<Self, String> {
        let mut mapper = mapper::Builder::new(SHORTEST_WORD);
        let mut compiled = Vec::new();
        for pattern in patterns {
            let syntax = regex_syntax::parse(pattern).map_err(|error| error.to_string())?;
            mapper.push(Model::new(&weakened(syntax)).map_err(|error| error.to_string())?);
            compiled.push(compile(pattern).map_err(|error| error.to_string())?);
        }
        let (mapper, words) = mapper.build();
        let words = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(words)
            .map_err(|error| error.to_string())?;
        Ok(Self {
            wordless: mapper.atom_to_re([]),
            all: compiled,
            words,
            mapper,
        })
    }

    /// The patterns that a line has, the first ones first.
    pub(crate) fn of(&self, line: &[u8]) -> impl Iterator<Item = usize> {
        let mut words = self.words.find_overlapping_iter(line).peekable();
        let candidates = if words.peek().is_none() {
            self.wordless.clone()
        } else {
            self.mapper
                .atom_to_re(words.map(|word| word.pattern().as_usize()))
        };
        candidates
            .into_iter()
            .filter(|pattern| self.all[*pattern].is_match(line))
    }

    /// The pattern at this place.
    pub(crate) fn get(&self, index: usize) -> &Regex {
        &self.all[index]
    }
}

/// The same with fewer repetitions: what has more of them has these too.
fn weakened(syntax: Hir) -> Hir {
    match syntax.into_kind() {
        HirKind::Empty => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Look(look) => Hir::look(look),
        HirKind::Repetition(it) => {
            let sub = Box::new(weakened(*it.sub));
            if it.min <= MOST_REPEATED {
                return Hir::repetition(Repetition { sub, ..it });
            }
            let (min, max, greedy) = (MOST_REPEATED, None, it.greedy);
            Hir::repetition(Repetition {
                min,
                max,
                greedy,
                sub,
            })
        }
        HirKind::Capture(it) => {
            let sub = Box::new(weakened(*it.sub));
            Hir::capture(Capture { sub, ..it })
        }
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(weakened).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.into_iter().map(weakened).collect()),
    }
}

/// A pattern as rules have it: for ASCII classes, over text that may be anything.
pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .size_limit(LARGEST)
        .dfa_size_limit(CACHE)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_patterns_of_a_line_are_those_that_fit_it() {
        let all = [
            "^fail(ed|ure)$",
            "(?i)not FOUND",
            "[0-9]+ x",
            "^a.*b$",
            "é?cole",
        ];
        let patterns = Patterns::new(all).unwrap();
        for (line, right) in [
            ("failed", &[0][..]),
            ("it failed", &[]),
            ("a thing not found b", &[1, 3]),
            ("12 x", &[2]),
            ("école", &[4]),
            ("", &[]),
        ] {
            let found: Vec<usize> = patterns.of(line.as_bytes()).collect();
            assert_eq!(found, right, "{line:?}");
        }
        assert!(Patterns::new(["("]).is_err());
    }

    #[test]
    fn repetitions_take_no_memory_and_too_many_are_refused() {
        let patterns = Patterns::new(["^[0-9]{64}$", "[ab]{64}c", "(ab){3}"]).unwrap();
        let digits = "7".repeat(64);
        let found: Vec<usize> = patterns.of(digits.as_bytes()).collect();
        assert_eq!(found, [0]);
        assert_eq!(patterns.of(b"xabababx").collect::<Vec<_>>(), [2]);
        assert!(Patterns::new(["(x{1,100}){1,100}y"]).is_err());
    }
}
