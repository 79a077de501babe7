//! What holds for every sequence of bytes.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{read_chunks, read_every_way_with};
use trace::Options;

/// Pieces that traces are made of, whole and broken.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let header = (
        "[0-5]",
        prop::sample::select(vec!["00O", "01O", "01E", "0fO"]),
        "[ +]",
    )
        .prop_map(|(second, stream, flag)| {
            format!("2026-01-21T09:47:2{second}.583005Z {stream}{flag}").into_bytes()
        });
    let name = prop::sample::select(vec!["a", "b.B", "c-c[collapsed=true]", "$d", "e[x]"]);
    let ending = prop::sample::select(vec!["\r\x1b[0K", "\r\x1b[0K", "\r\x1b[K", "\r", ""]);
    let marker =
        ("(start|end)", "[0-9]{1,3}", name, ending).prop_map(|(kind, time, name, ending)| {
            format!("section_{kind}:{time}:{name}{ending}").into_bytes()
        });
    prop_oneof![
        3 => "[a-z ]{0,9}".prop_map(String::into_bytes),
        1 => "\\PC{1,4}".prop_map(String::into_bytes),
        3 => Just(b"\n".to_vec()),
        1 => prop::sample::select(vec!["\r", "\r\n", "\r\r\n"]).prop_map(|end| end.as_bytes().to_vec()),
        2 => (Just(b"\n".to_vec()), header.clone()).prop_map(|(end, header)| [end, header].concat()),
        1 => header,
        2 => marker,
        2 => prop::sample::select(vec![
            "\x1b", "\x1b[", "\x1b[31m", "\x1b[0K", "\x1b]0;t", "\x07", "\x1b\\", "\x1b_a", "\x1bPq",
            "\x1b(", "\x1b(B", "\x1b7", "\u{9c}", "\u{85}",
        ]).prop_map(|escape| escape.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 1..6),
    ]
}

fn trace() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(&b""[..]),
        Just(&b"2026-01-21T09:47:20.000000Z 00O "[..])
    ];
    (start, vec(piece(), 0..40)).prop_map(|(start, pieces)| [start, &pieces.concat()].concat())
}

/// The printable characters of a line that holds no marker and no carriage return, by a plain reading
/// of ECMA-48.
fn printable(line: &str) -> String {
    let mut shown = String::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        if first == '\x1b' {
            rest = &rest[sequence(rest)..];
        } else {
            if first == '\t' || !first.is_control() {
                shown.push(first);
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    shown
}

/// How much of `text` vanishes at its ESC.
fn sequence(text: &str) -> usize {
    let rest = &text[1..];
    let introducer = rest.chars().next().filter(|c| (' '..='~').contains(c));
    let after = rest.get(1..).unwrap_or("");
    let terminated = |ends: &[&str]| {
        let found = ends
            .iter()
            .filter_map(|end| Some(after.find(end)? + end.len()))
            .min();
        found.map_or(2, |length| 2 + length)
    };
    match introducer {
        None => 1,
        Some('[') => {
            let middle = after.trim_start_matches(|c| ('0'..='?').contains(&c));
            let end = middle.trim_start_matches(|c| (' '..='/').contains(&c));
            let terminated = end.starts_with(|c| ('@'..='~').contains(&c));
            if terminated {
                3 + after.len() - end.len()
            } else {
                2
            }
        }
        Some(']' | '_') => terminated(&["\x07", "\x1b\\", "\u{9c}"]),
        Some('P' | 'X' | '^') => terminated(&["\x1b\\", "\u{9c}"]),
        Some(' '..='/') => {
            let end = after.trim_start_matches(|c| (' '..='/').contains(&c));
            let terminated = end.starts_with(|c| ('0'..='~').contains(&c));
            if terminated {
                3 + after.len() - end.len()
            } else {
                2
            }
        }
        Some(_) => 2,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Never panics; numbers without gaps; every byte in one account; the same however it is cut.
    #[test]
    fn any_chunking_gives_the_same(trace in trace(), max_text in prop_oneof![Just(32 * 1024), 0..40usize]) {
        read_every_way_with(Options { max_text }, &trace);
    }

    #[test]
    fn any_bytes_are_a_trace(trace in vec(any::<u8>(), 0..300)) {
        read_every_way_with(Options::default(), &trace);
    }

    /// Every split in two, the hardest test for what is held back.
    #[test]
    fn any_cut_gives_the_same(trace in trace(), cut in any::<prop::sample::Index>()) {
        let whole = read_chunks(Options::default(), [&trace[..]]);
        let (first, second) = trace.split_at(cut.index(trace.len() + 1));
        prop_assert_eq!(read_chunks(Options::default(), [first, second]), whole);
    }

    /// What `push` has handed out stays, whatever follows.
    #[test]
    fn lines_handed_out_are_final(trace in trace(), more in trace()) {
        let mut early = Vec::new();
        let mut sink = |line: trace::Line<'_>| early.push(support::Seen::from(line));
        let mut parser = trace::Parser::new(Options::default());
        parser.push(&trace, &mut sink);
        drop(parser);
        let all = read_chunks(Options::default(), [&trace[..], &more[..]]);
        prop_assert_eq!(&all.lines[..early.len()], &early[..]);
    }

    /// No printable character outside a terminated sequence is lost, none is made up.
    #[test]
    fn printable_text_is_kept(trace in trace()) {
        let text = String::from_utf8_lossy(&trace).replace(['\r', ':'], "");
        let shown: String = text.split('\n').map(printable).collect();
        let read = read_chunks(Options::default(), [text.as_bytes()]);
        prop_assert_eq!(read.texts().concat(), shown);
    }

    /// A limit on the text changes neither numbers nor anything else but the text.
    #[test]
    fn cutting_text_changes_nothing_else(trace in trace(), max_text in 0..20usize) {
        let full = read_chunks(Options::default(), [&trace[..]]);
        let cut = read_chunks(Options { max_text }, [&trace[..]]);
        prop_assert_eq!(cut.lines.len(), full.lines.len());
        for (cut, full) in cut.lines.iter().zip(&full.lines) {
            prop_assert!(cut.text.len() <= max_text && full.text.starts_with(&cut.text));
            let length = full.text.len() as u64;
            prop_assert_eq!(cut.truncated, (length > max_text as u64).then_some(length));
            prop_assert_eq!((cut.number, cut.offset), (full.number, full.offset));
        }
        prop_assert_eq!(&cut.summary.sections, &full.summary.sections);
    }
}
