//! What stands before a tool's own words: a time, or the step of an image's build that said it.

use std::sync::LazyLock;

use regex::Regex;

/// `#8 0.381 `: step and seconds, as `BuildKit` prints them; `2026-11-23 08:01:02,123 `, `[08:01:02] `.
static PREFIX: LazyLock<Regex> = LazyLock::new(|| {
    let step = r"#[0-9]+ [0-9]+\.[0-9]+ ";
    let time = r"\[?(?:[0-9]{4}-[0-9]{2}-[0-9]{2}[T ])?[0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?\]?:? ";
    Regex::new(&format!("^(?:{step})?(?:{time})?")).expect("a pattern")
});

/// The text without it.
pub(crate) fn strip(text: &str) -> &str {
    // Most lines begin otherwise.
    if !text.starts_with(['#', '[']) && !text.starts_with(|it: char| it.is_ascii_digit()) {
        return text;
    }
    let end = PREFIX.find(text).map_or(0, |found| found.end());
    &text[end..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_steps_are_no_words_of_a_tool() {
        for (text, expected) in [
            (
                "#8 0.381 build.sh: 4: Syntax error",
                "build.sh: 4: Syntax error",
            ),
            ("2026-11-23 08:01:02,123 ERROR boom", "ERROR boom"),
            ("[08:01:02] boom", "boom"),
            ("#8 [4/4] RUN make", "#8 [4/4] RUN make"),
            ("3 failed", "3 failed"),
            ("[ERROR] boom", "[ERROR] boom"),
            ("plain", "plain"),
        ] {
            assert_eq!(strip(text), expected);
        }
    }
}
