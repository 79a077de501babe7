//! How bad a line says it is: a guess, made only where the line leaves little doubt.
//!
//! The rules look for a word in a place where tools put it: at the start before a colon, behind a
//! place in a file, in brackets, as a value of `level`, set apart by its colour. A word in running
//! text says nothing. `tests/levels.rs` has a row for each rule and for what it must not take.

use memchr::{memchr, memchr3_iter};

use crate::style::{Colour, Spans};

/// How bad a line says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may be wrong.
    Warning,
    /// The line calls itself information.
    Info,
    /// The line calls itself debugging output.
    Debug,
}

impl Level {
    /// The name in a document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Bytes of a line that are looked at: what a line is, it says early.
const HEAD: usize = 256;

/// The level of a line with `text`, whose pen changed at `spans`.
pub(crate) fn of(text: &str, spans: &Spans) -> Option<Level> {
    let whole = text.as_bytes();
    let head = whole[..whole.len().min(HEAD)].trim_ascii_start();
    match head {
        // What the runner echoes of the script says nothing of how it went.
        [b'$', b' ', ..] | [] => None,
        _ => by_start(head, spans)
            .or_else(|| by_marks(head))
            .or_else(|| by_end(whole))
            .or_else(|| by_colour(whole, spans)),
    }
}

/// What a word stands for, in any case; the words that tools use for levels and nothing else.
fn level_word(word: &[u8]) -> Option<Level> {
    const WORDS: [(&[u8], Level); 17] = [
        (b"error", Level::Error),
        (b"err", Level::Error),
        (b"fatal", Level::Error),
        (b"critical", Level::Error),
        (b"severe", Level::Error),
        (b"panic", Level::Error),
        (b"failed", Level::Error),
        (b"failure", Level::Error),
        (b"fail", Level::Error),
        (b"warning", Level::Warning),
        (b"warn", Level::Warning),
        (b"info", Level::Info),
        (b"notice", Level::Info),
        (b"information", Level::Info),
        (b"debug", Level::Debug),
        (b"trace", Level::Debug),
        (b"verbose", Level::Debug),
    ];
    if !(3..=11).contains(&word.len()) {
        return None;
    }
    let found = WORDS
        .iter()
        .find(|(known, _)| word.eq_ignore_ascii_case(known));
    found.map(|&(_, level)| level)
}

/// The letters that `text` begins with.
fn first_word(text: &[u8]) -> &[u8] {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphabetic())
        .count();
    &text[..length]
}

/// Lines that begin as only such lines do, without a colon right behind the first word.
fn by_start(head: &[u8], spans: &Spans) -> Option<Level> {
    const STARTS: [(&[u8], Level); 22] = [
        (b"--- FAIL:", Level::Error),
        (b"##[error]", Level::Error),
        (b"##[warning]", Level::Warning),
        (b"##[debug]", Level::Debug),
        (b"::error ", Level::Error),
        (b"::error::", Level::Error),
        (b"::warning ", Level::Warning),
        (b"::warning::", Level::Warning),
        (b"::debug::", Level::Debug),
        (b"BUILD FAILED", Level::Error),
        (b"BUILD FAILURE", Level::Error),
        (b"Bus error", Level::Error),
        (b"Caused by: ", Level::Error),
        (b"E: ", Level::Error),
        (b"W: ", Level::Warning),
        (b"ERR_PNPM_", Level::Error),
        (b"Exception in thread ", Level::Error),
        (b"Segmentation fault", Level::Error),
        (b"Traceback (most recent call last)", Level::Error),
        (b"npm ERR!", Level::Error),
        (b"npm error ", Level::Error),
        (b"npm WARN", Level::Warning),
    ];
    match head[0] {
        b'-' | b'#' | b':' | b'B' | b'C' | b'E' | b'W' | b'S' | b'T' | b'n' => {
            let found = STARTS.iter().find(|(start, _)| head.starts_with(start));
            if let Some(&(_, level)) = found {
                return Some(level);
            }
            if head.starts_with(b"npm warn ") {
                return Some(Level::Warning);
            }
            if head.starts_with(b"E   ") && spans.first().colour == Colour::Red {
                return by_pytest(head[1..].trim_ascii_start());
            }
        }
        b't' if head.starts_with(b"thread '") => {
            let panicked = memchr::memmem::find(head, b"panicked at").is_some();
            return panicked.then_some(Level::Error);
        }
        b'0'..=b'9' | b'[' => return by_column(head),
        _ => {}
    }
    if !head[0].is_ascii_uppercase() {
        return None;
    }
    // `FAILED tests/a.py::b`, `WARN  deprecated x`, `FAIL` alone: capitals, then space or nothing.
    let word = first_word(head);
    let level = match word {
        b"ERROR" | b"FATAL" | b"CRITICAL" | b"FAILED" | b"FAIL" => Level::Error,
        b"WARNING" | b"WARN" => Level::Warning,
        b"INFO" => Level::Info,
        b"DEBUG" => Level::Debug,
        _ => return None,
    };
    matches!(head.get(word.len()), None | Some(b' ' | b'\t')).then_some(level)
}

/// pytest's red `E` lines: the exception or the assertion, not the long difference behind it.
fn by_pytest(message: &[u8]) -> Option<Level> {
    if message.starts_with(b"assert ") {
        return Some(Level::Error);
    }
    let name = memchr(b':', message).map_or(message, |colon| &message[..colon]);
    exception(name)
}

/// `2026-01-21 09:47:26,583 ERROR [main] …`: capitals in a column behind a time.
fn by_column(head: &[u8]) -> Option<Level> {
    let mut columns = head.split(u8::is_ascii_whitespace).take(6);
    let first = columns.next()?;
    if !first.iter().any(u8::is_ascii_digit) {
        return None;
    }
    columns.find_map(|column| {
        let word = column.strip_suffix(b":").unwrap_or(column);
        let capitals = word.iter().all(u8::is_ascii_uppercase);
        let passes = word.starts_with(b"FAIL");
        if capitals && !passes {
            level_word(word)
        } else {
            None
        }
    })
}

/// Words that a colon, a bracket or an equals sign marks.
fn by_marks(head: &[u8]) -> Option<Level> {
    let mut first = true;
    for at in memchr3_iter(b':', b']', b'=', head) {
        let (before, after) = (&head[..at], &head[at + 1..]);
        let level = match head[at] {
            b':' if before.ends_with(b"\"") => assigned(before, after),
            b':' if first => named(before, after).or_else(|| behind_place(before, after)),
            b':' => behind_place(before, after),
            b']' => bracketed(before, after),
            _ => assigned(before, after),
        };
        if level.is_some() {
            return level;
        }
        first &= head[at] != b':';
    }
    None
}

/// `error: …`, `ERROR:root:…`, `fatal error: …`, `ValueError: …`, `error[E0308]: …`
fn named(before: &[u8], after: &[u8]) -> Option<Level> {
    let separate = matches!(after.first(), None | Some(b' ' | b'\t'));
    let capitals = before.iter().all(u8::is_ascii_uppercase);
    let named = separate || capitals && after.first() != Some(&b':');
    if !named || is_count(after) {
        return None;
    }
    if let Some(level) = level_word(before) {
        return Some(level);
    }
    if before == b"fatal error" {
        return Some(Level::Error);
    }
    if let Some(code) = before.strip_suffix(b"]") {
        let word = first_word(code);
        let coded = code.get(word.len()) == Some(&b'[') && matches!(word, b"error" | b"warning");
        return if coded { level_word(word) } else { None };
    }
    exception(before)
}

/// `java.lang.IllegalStateException`, `subprocess.CalledProcessError`, `DeprecationWarning`
fn exception(name: &[u8]) -> Option<Level> {
    let level = if name.ends_with(b"Error") || name.ends_with(b"Exception") {
        Level::Error
    } else if name.ends_with(b"Warning") {
        Level::Warning
    } else {
        return None;
    };
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$');
    name.iter().all(is_name).then_some(level)
}

/// `: 0`, `: 12`, `: none`: a count, not a message.
fn is_count(after: &[u8]) -> bool {
    let value = after.trim_ascii();
    !value.is_empty() && value.iter().all(u8::is_ascii_digit) || value == b"none"
}

/// `file.c:1:2: error: …`, `a.ts(1,2): error TS2304: …`, `ld: warning: …`, `make: *** … Error 1`
fn behind_place(before: &[u8], after: &[u8]) -> Option<Level> {
    let rest = after.strip_prefix(b" ")?;
    if rest.starts_with(b"*** ") && (before.starts_with(b"make") || before.starts_with(b"gmake")) {
        return Some(Level::Error);
    }
    let rest = rest.strip_prefix(b"fatal ").unwrap_or(rest);
    let word = first_word(rest);
    let level = match word {
        b"error" | b"Error" | b"ERROR" => Level::Error,
        b"warning" | b"Warning" | b"WARNING" => Level::Warning,
        _ => return exception_behind(before, rest),
    };
    let tail = &rest[word.len()..];
    let tail = match tail.strip_prefix(b" ") {
        // A code: `TS2304`, `C2065`.
        Some(code) => {
            &code[code
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count()..]
        }
        None => tail,
    };
    match tail {
        [b':'] => Some(level),
        [b':', b' ', count @ ..] if !is_count(count) => Some(level),
        _ => None,
    }
}

/// `a.py:34: DeprecationWarning: …`, `a.py:11: AssertionError`
fn exception_behind(before: &[u8], rest: &[u8]) -> Option<Level> {
    if !before.last().is_some_and(u8::is_ascii_digit) {
        return None;
    }
    let length = rest
        .iter()
        .position(|&byte| byte == b':')
        .unwrap_or(rest.len());
    exception(&rest[..length])
}

/// `[ERROR] …`, `12:00 [warn] …`
fn bracketed(before: &[u8], after: &[u8]) -> Option<Level> {
    let word = before.rsplit(|byte| !byte.is_ascii_alphabetic()).next()?;
    let open = before.len().checked_sub(word.len() + 1)?;
    let apart = open == 0 || before[open - 1].is_ascii_whitespace() || before[open - 1] == b']';
    let ends = matches!(after.first(), None | Some(b' ' | b'\t' | b':' | b'['));
    if before[open] == b'[' && apart && ends {
        level_word(word)
    } else {
        None
    }
}

/// `level=error`, `{"level":"error"`, `severity: "WARNING"`
fn assigned(before: &[u8], after: &[u8]) -> Option<Level> {
    const KEYS: [&[u8]; 3] = [b"level", b"lvl", b"severity"];
    let key = before.strip_suffix(b"\"").unwrap_or(before);
    let known = KEYS.iter().find(|known| key.ends_with(known))?;
    let apart =
        key.len() == known.len() || !key[key.len() - known.len() - 1].is_ascii_alphanumeric();
    let value = after.trim_ascii_start();
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let word = first_word(value);
    let ends = matches!(
        value.get(word.len()),
        None | Some(b' ' | b'"' | b',' | b'}')
    );
    if apart && ends {
        level_word(word)
    } else {
        None
    }
}

/// Lines that end as only such lines do.
fn by_end(text: &[u8]) -> Option<Level> {
    match text.last()? {
        b'D' => {
            // `test a::b ... FAILED`, `> Task :test FAILED`; not `3 passed, 0 FAILED`.
            let before = text.strip_suffix(b" FAILED")?;
            let counted = before.last().is_some_and(u8::is_ascii_digit);
            (!counted).then_some(Level::Error)
        }
        b')' => text.ends_with(b"(core dumped)").then_some(Level::Error),
        b'd' => text
            .ends_with(b": command not found")
            .then_some(Level::Error),
        _ => None,
    }
}

/// A word set apart by the colour that goes with it: red `FAILED`, yellow `warning`.
fn by_colour(text: &[u8], spans: &Spans) -> Option<Level> {
    spans.iter().find_map(|(start, style)| {
        let wanted = match style.colour {
            Colour::Red => Level::Error,
            Colour::Yellow | Colour::Magenta => Level::Warning,
            _ => return None,
        };
        let span = text.get(start..)?.trim_ascii_start();
        let digits = span.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let count = span[..digits].iter().any(|&byte| byte != b'0');
        let span = match span[digits..].strip_prefix(b" ") {
            // `3 failed`: the sum that a test tool paints red.
            Some(span) if count => span,
            _ => span,
        };
        let word = first_word(span);
        let apart = !span
            .get(word.len())
            .is_some_and(|&byte| byte == b'_' || byte.is_ascii_digit());
        (apart && level_word(word) == Some(wanted)).then_some(wanted)
    })
}
