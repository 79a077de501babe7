//! What of a line is the same each time that the same thing goes wrong.

use std::{fmt::Write as _, sync::LazyLock};

use regex::{Captures, Regex};
use sha2::{Digest, Sha256};

/// Bytes of a pattern: what comes later in a line tells little.
const LONGEST: usize = 300;

/// A part of a line that differs each time, and what stands for it. The first alternative that fits wins.
static CHANGING: LazyLock<Regex> = LazyLock::new(|| {
    let parts = [
        // Codes that say what happened: they stay.
        r"(?<code>\b(?i:http)[/ ][0-9.]*[ :]*[0-9]{3}\b|\b(?i:returned error|status(?: code)?|response code|http error|error code|exit(?:ed with)? code|exit status|errno)[:= ]+[0-9]{1,3}\b|\[Errno -?[0-9]+\]|\bcurl: \([0-9]+\)|\b[A-Z]{2,5}-[0-9]{3,6}\b|\bERROR [0-9]{4} \([0-9A-Z]{5}\))",
        r"(?<url>\b[a-z][a-z0-9+.-]*://[^\s'`)>\]\x22]+)",
        r"(?<uuid>\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b)",
        r"(?<time>\b[0-9]{8}T[0-9]{6}Z?\b|\b[0-9]{1,2}/[0-9]{1,2}/[0-9]{4}\b|\b[0-9]{4}[-/][0-9]{2}[-/][0-9]{2}(?:[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?:[.,][0-9]+)?)?(?:Z|\b ?[+-][0-9]{2}:?[0-9]{2}\b)?|\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:[0-9]{1,2} )?(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{1,4}(?: [0-9]{4})?\b|\b[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]+)?\b)",
        r"(?<path>(?:[A-Za-z]:\\|\\\\)[^\s:'\x22`<>|]+|(?:~|\.{1,2})?(?:/[\w.@+~%=-]+)+/?|\b[\w.@+~%=-]+(?:/[\w.@+~%=-]+)+)",
        r"(?<hash>\b0x[0-9a-fA-F]+\b|(?:\b|-)(?:sha[0-9]+[:-])?(?:[0-9a-f]{7,128}|[0-9A-F]{7,128})\b)",
        r"(?<duration>\b(?:[0-9]+(?:\.[0-9]+)?(?:ns|us|µs|ms|h|m|s))+\b)",
        r"(?<temporary>\b(?:tmp|temp)[-_.]?[0-9A-Za-z_]*[0-9][0-9A-Za-z_]*\b|\btmp[.]?[0-9A-Za-z_]{6,}\b)",
        r"(?<number>(?:\b|-)[0-9]+(?:[.,_][0-9]+)*(?: ?(?:%|(?:ns|us|ms|s|sec|secs|seconds?|minutes?|mins?|m|h|[KMGT]i?B|bytes?|B|k|kB)\b))?)",
    ];
    Regex::new(&parts.join("|")).expect("the parts are patterns")
});

static SPACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s+").expect("a pattern"));

/// A line without what differs each time: `<n>`, `<time>`, `<hash>`, `<path>` and the like stand for it. The
/// last part of a path stays, unless it is a temporary file's, as does what names a kind of error (`E0308`).
pub fn pattern(line: &str) -> String {
    let line = crate::prefix::strip(line.trim()).trim_start();
    let line = SPACE.replace_all(line, " ");
    let replaced = CHANGING.replace_all(&line, replacement);
    let end = replaced.floor_char_boundary(LONGEST);
    replaced[..end].trim_end().to_owned()
}

/// 16 hexadecimal digits for a pattern.
pub fn signature(pattern: &str) -> String {
    let digest = Sha256::digest(pattern.as_bytes());
    digest[..8].iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

fn replacement(found: &Captures<'_>) -> String {
    let whole = &found[0];
    let is = |name: &str| found.name(name).is_some();
    if is("code") {
        whole.into()
    } else if is("url") {
        url(whole)
    } else if is("uuid") {
        "<uuid>".into()
    } else if is("time") {
        "<time>".into()
    } else if is("path") {
        path(whole)
    } else if is("hash") {
        hash(whole)
    } else if is("temporary") {
        "<tmp>".into()
    } else {
        "<n>".into()
    }
}

/// The host, and the last part of what is asked of it.
fn url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let (host, port) = host
        .rsplit_once(':')
        .map_or((host, ""), |(host, _)| (host, ":<n>"));
    let last = path
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let last = if last.is_empty() {
        String::new()
    } else {
        format!("/{}", digits(last))
    };
    format!("{scheme}://{host}{port}{last}")
}

/// What looks like a path and is one: `<path>/` and its last part. `and/or`, `@scope/package` and
/// `application/json` are none.
fn path(text: &str) -> String {
    let parts: Vec<&str> = text
        .split(['/', '\\'])
        .filter(|it| !it.is_empty())
        .collect();
    let last = parts.last().copied().unwrap_or_default();
    let is_rooted =
        text.starts_with(['/', '~', '.', '\\']) || text.as_bytes().get(1) == Some(&b':');
    let has_suffix = last.rsplit_once('.').is_some_and(|(stem, suffix)| {
        !stem.is_empty()
            && suffix.len() <= 5
            && suffix.starts_with(|it: char| it.is_ascii_alphabetic())
    });
    // `github.com/acme/yaml` names a thing, wherever it lies.
    let is_name = !is_rooted && is_host(parts.first().copied().unwrap_or_default());
    if is_name || !is_rooted && !has_suffix && parts.len() < 3 {
        return digits(text);
    }
    let is_temporary = parts
        .iter()
        .rev()
        .skip(1)
        .any(|part| *part == "tmp" || *part == "folders");
    if is_temporary {
        return "<path>".into();
    }
    // What mktemp makes.
    if last.starts_with("tmp.") {
        return "<path>/<tmp>".into();
    }
    format!("<path>/{}", digits(last))
}

/// `github.com`, and not `src` or `v1.2`.
fn is_host(text: &str) -> bool {
    let end = text.rsplit_once('.').map_or("", |(_, end)| end);
    end.len() >= 2 && end.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// Hashes have letters and digits; what has only one of them is a word or a number.
fn hash(text: &str) -> String {
    let has = |is: fn(&u8) -> bool| text.as_bytes().iter().any(is);
    if !has(u8::is_ascii_digit) {
        text.into()
    } else if has(u8::is_ascii_alphabetic) {
        "<hash>".into()
    } else {
        "<n>".into()
    }
}

/// The numbers of a name replaced that stand apart: those of `test-4711.log`, not that of `utf8.c`.
fn digits(name: &str) -> String {
    static APART: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\b(?:[0-9a-f]*[0-9][0-9a-f]{6,}|[0-9]+(?:\.[0-9]+)*)\b").expect("a pattern")
    });
    APART.replace_all(name, "<n>").into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_each_time_is_gone_and_the_rest_stays() {
        for (line, expected) in [
            (
                "src/main.c:12:5: error: 'x' undeclared",
                "<path>/main.c:<n>:<n>: error: 'x' undeclared",
            ),
            (
                "/builds/a/b/src/main.c:7:9: error: 'x' undeclared",
                "<path>/main.c:<n>:<n>: error: 'x' undeclared",
            ),
            (
                "error[E0308]: mismatched types",
                "error[E0308]: mismatched types",
            ),
            (
                "a.ts(3,14): error TS2304: Cannot find name 'b'.",
                "a.ts(<n>): error TS2304: Cannot find name 'b'.",
            ),
            ("--- FAIL: TestAdd (0.03s)", "--- FAIL: TestAdd (<n>)"),
            ("took 950ms", "took <n>"),
            ("took 1.2 s", "took <n>"),
            (
                "curl: (7) Failed to connect to localhost port 8081 after 0 ms: Couldn't connect to server",
                "curl: (7) Failed to connect to localhost port <n> after <n>: Couldn't connect to server",
            ),
            (
                "OSError: [Errno 28] No space left on device",
                "OSError: [Errno 28] No space left on device",
            ),
            (
                "The requested URL returned error: 404",
                "The requested URL returned error: 404",
            ),
            ("2026-11-23T08:01:02.123Z ERROR boom", "ERROR boom"),
            ("boom at 2026-11-23T08:01:02.123Z", "boom at <time>"),
            (
                "job 0f9e8d7c-1234-4abc-8def-0123456789ab died",
                "job <uuid> died",
            ),
            ("at 3f2a1b9c4d (HEAD)", "at <hash> (HEAD)"),
            ("defaced feedback", "defaced feedback"),
            (
                "npm error 404  '@acme/left@1.2.3' is not in this registry",
                "npm error <n> '@acme/left@<n>' is not in this registry",
            ),
            (
                "fatal: unable to access 'https://git.example.com/a/b.git/': Could not resolve host: git.example.com",
                "fatal: unable to access 'https://git.example.com/b.git': Could not resolve host: git.example.com",
            ),
            (
                "collect2: error: /tmp/ccAbC123.o not found",
                "collect2: error: <path> not found",
            ),
            (
                r"C:\work\app\Main.cs(3): error",
                r"<path>/Main.cs(<n>): error",
            ),
            ("and/or", "and/or"),
            (
                "FAILED tests/test_a.py::test_b[2] - assert 3 == 4",
                "FAILED <path>/test_a.py::test_b[<n>] - assert <n> == <n>",
            ),
        ] {
            assert_eq!(pattern(line), expected);
        }
    }

    #[test]
    fn the_same_failure_at_another_time_has_the_same_pattern() {
        for (one, other) in [
            ("after 1m30.004s", "after 2m1.7s"),
            ("took 1h2m3s", "took 3h12m44s"),
            ("main-3f2a1b9c x", "main-deadbee1 x"),
            ("web-6b7f9c8d5-x", "web-7d8c9b6f4-x"),
            ("RequestId: 4442587FB7D0A2F9", "RequestId: 1242587FB7D0A2AA"),
            ("/x/tmp.AbCdEfGhIj gone", "/x/tmp.KlMnOpQrSt gone"),
            ("at 20261123T100000Z", "at 20261124T110000Z"),
            (
                "2026-11-23 10:00:00.123  INFO x",
                "2026-11-24 11:00:00.456 INFO x",
            ),
        ] {
            assert_eq!(pattern(one), pattern(other));
        }
    }

    #[test]
    fn what_says_something_else_has_another_pattern() {
        for (one, other) in [
            ("upload status=404", "upload status=503"),
            ("HTTP 404", "HTTP 500"),
            ("exited with code 137", "exited with code 2"),
            ("ORA-00942: x", "ORA-01017: x"),
            ("ERROR 1064 (42000)", "ERROR 1045 (28000)"),
            ("needs github.com/x/yaml", "needs github.com/z/yaml"),
        ] {
            assert_ne!(pattern(one), pattern(other));
        }
    }

    #[test]
    fn a_signature_is_sixteen_digits() {
        let one = signature("a");
        assert!(one.len() == 16 && one.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_ne!(one, signature("b"));
    }
}
