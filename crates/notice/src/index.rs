//! Index names: what Elasticsearch takes, and what the operator allows.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// The `NAME` in the index `YYYY-MM-DD-NAME`: lower case, at most 200 bytes, and none of the
/// characters that Elasticsearch refuses (source: its create-index reference).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IndexName(String);

impl IndexName {
    /// Reads a name. It begins with a letter or a digit, so that it can stand before the date too,
    /// and ends in none of what tells our other indices from those of lines.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let begins_well = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let is_allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        };
        if !begins_well || text.len() > 200 || !text.bytes().all(is_allowed) {
            return Err(Invalid(
                "must be 1 to 200 of a-z, 0-9, '-', '_' and '.', beginning with a letter or digit",
            ));
        }
        if text.ends_with("-jobs") || text.ends_with("-rejected") {
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
#[derive(Debug, Clone, Default)]
pub struct IndexPatterns(Vec<String>);

impl IndexPatterns {
    /// Patterns as the operator wrote them.
    pub fn new(patterns: impl IntoIterator<Item = String>) -> Self {
        Self(patterns.into_iter().collect())
    }

    /// Whether one of the patterns takes the name.
    pub fn allow(&self, name: &IndexName) -> bool {
        self.0
            .iter()
            .any(|pattern| glob_matches(pattern.as_bytes(), name.as_str().as_bytes()))
    }

    /// The patterns.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
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
            let patterns = IndexPatterns::new([pattern.to_owned()]);
            let name = IndexName::parse(name).unwrap();
            assert_eq!(patterns.allow(&name), taken, "{pattern} {name}");
        }
    }
}
