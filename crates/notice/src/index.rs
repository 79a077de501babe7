//! Index names: what Elasticsearch takes, and what the operator allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// The longest name: with the date and our suffixes Elasticsearch's 255 bytes are not reached.
const LONGEST: usize = 200;
/// So end the names of manifests and of rejected lines.
const RESERVED: [&str; 2] = ["-jobs", "-rejected"];

/// The `NAME` in the index `YYYY-MM-DD-NAME`: lower case, at most 200 bytes, and none of the
/// characters that Elasticsearch refuses (source: its create-index reference).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IndexName(String);

impl IndexName {
    /// Reads a name. It begins with a letter or a digit, so that it can stand before the date too,
    /// and ends in none of what tells our other indices from those of lines.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if !is_made_of(text, begins_a_name, is_in_a_name) {
            return Err(Invalid(
                "must be 1 to 200 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit",
            ));
        }
        if is_reserved(text) {
            return Err(Invalid(
                "must not end in -jobs or -rejected: so end the names of manifests and rejected lines",
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl TryFrom<String> for IndexName {
    type Error = Invalid;
    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<IndexName> for String {
    fn from(name: IndexName) -> Self {
        name.0
    }
}

impl std::str::FromStr for IndexName {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::parse(text)
    }
}

/// The index names that a caller may ask for: glob patterns with `*` and `?`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IndexPatterns(Vec<String>);

impl IndexPatterns {
    /// Reads patterns separated by commas; blanks around each are dropped. A pattern that no name
    /// could match is refused, because it is a typing error.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let is_wild = |byte: u8| matches!(byte, b'*' | b'?');
        let is_pattern = |pattern: &&str| {
            is_made_of(
                pattern,
                |byte| begins_a_name(byte) || is_wild(byte),
                |byte| is_in_a_name(byte) || is_wild(byte),
            )
        };
        let patterns: Vec<&str> = text.split(',').map(str::trim).collect();
        if !patterns.iter().all(is_pattern) {
            return Err(Invalid(
                "must be index names separated by commas, each 1 to 200 of a-z, 0-9, '-', '_', '.' \
                 and the wildcards '*' and '?', not beginning with '-', '_' or '.'",
            ));
        }
        if patterns.iter().any(|pattern| is_reserved(pattern)) {
            return Err(Invalid(
                "must not have a pattern that ends in -jobs or -rejected: no index name ends so",
            ));
        }
        Ok(Self(patterns.into_iter().map(str::to_owned).collect()))
    }

    /// These, and this name.
    #[must_use]
    pub fn and(mut self, name: &IndexName) -> Self {
        self.0.push(name.0.clone());
        self
    }

    /// Whether one of the patterns takes the name.
    pub fn allow(&self, name: &IndexName) -> bool {
        self.0
            .iter()
            .any(|pattern| glob_matches(pattern.as_bytes(), name.as_str().as_bytes()))
    }

    /// The patterns as one regular expression, for people and for the OpenAPI document.
    pub fn regex(&self) -> String {
        let patterns = self.0.iter().map(|pattern| {
            let pattern = pattern.replace('.', "\\.");
            pattern
                .replace('*', "[a-z0-9._-]*")
                .replace('?', "[a-z0-9._-]")
        });
        patterns.collect::<Vec<_>>().join("|")
    }

    /// The patterns as an index template can have them: Elasticsearch knows `*` alone there and
    /// forbids `?`, so these may take more names than [`Self::allow`] does, never fewer.
    pub fn template_patterns(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|pattern| pattern.replace('?', "*"))
    }
}

fn is_made_of(text: &str, begins: impl Fn(u8) -> bool, holds: impl Fn(u8) -> bool) -> bool {
    text.len() <= LONGEST && text.bytes().next().is_some_and(begins) && text.bytes().all(holds)
}

fn begins_a_name(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_in_a_name(byte: u8) -> bool {
    begins_a_name(byte) || matches!(byte, b'-' | b'_' | b'.')
}

fn is_reserved(text: &str) -> bool {
    RESERVED.iter().any(|suffix| text.ends_with(suffix))
}

/// Iterative glob: on a mismatch it goes back to the last `*` only, so it takes at most
/// `pattern × text` steps whatever the input.
fn glob_matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut last_star: Option<(usize, usize)> = None;
    while at_text < text.len() {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                last_star = Some((at_pattern, at_text));
                at_pattern += 1;
            }
            Some(&byte) if byte == b'?' || byte == text[at_text] => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                at_pattern = star + 1;
                at_text = taken + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_elasticsearch_refuses_are_refused() {
        for name in [
            "", "Upper", "a b", "a/b", "a*", "-a", "_a", ".a", "a,b", "a#b", "ä", "a:b",
        ] {
            assert!(IndexName::parse(name).is_err(), "{name:?} was taken");
        }
        assert!(IndexName::parse(&"a".repeat(201)).is_err());
        assert!(IndexName::parse("team-a_1.x").is_ok());
        assert!(IndexName::parse("team-jobs").is_err());
        assert!(IndexName::parse("jobs").is_ok());
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, taken) in [
            ("joblogs", "joblogs", true),
            ("joblogs", "joblogs2", false),
            ("team-*", "team-a", true),
            ("team-*", "my-team-a", false),
            ("*a*b", "xaxxb", true),
            ("*a*b", "xaxxbc", false),
            ("t?", "ta", true),
            ("t?", "t", false),
            ("*", "anything", true),
        ] {
            let patterns = IndexPatterns::parse(pattern).unwrap();
            let name = IndexName::parse(name).unwrap();
            assert_eq!(patterns.allow(&name), taken, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_that_no_name_could_match_is_refused() {
        for text in [
            "",
            " ",
            ",",
            "a,",
            "a,,b",
            "team-a, Team-b",
            "team a",
            "-a*",
            "_a",
            ".a",
            "team-[ab]",
            "a/b",
            "ä*",
            "team-jobs",
            "*-rejected",
        ] {
            assert!(IndexPatterns::parse(text).is_err(), "{text:?} was taken");
        }
        assert!(IndexPatterns::parse(&"a".repeat(201)).is_err());
    }

    #[test]
    fn blanks_around_commas_are_no_part_of_a_pattern() {
        let own = IndexName::parse("joblogs").unwrap();
        let patterns = IndexPatterns::parse(" team-a ,\tteam-b?").unwrap();
        for (name, taken) in [("team-a", true), ("team-b1", true), ("joblogs", false)] {
            assert_eq!(
                patterns.allow(&IndexName::parse(name).unwrap()),
                taken,
                "{name}"
            );
        }
        assert!(patterns.and(&own).allow(&own));
        assert!(IndexPatterns::default().and(&own).allow(&own));
    }

    #[test]
    fn templates_have_no_question_marks() {
        let patterns = IndexPatterns::parse("team-?,a?b*").unwrap();
        let patterns: Vec<String> = patterns.template_patterns().collect();
        assert_eq!(patterns, ["team-*", "a*b*"]);
    }
}
