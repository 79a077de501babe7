//! What holds for every sequence of bytes, tried on traces made of the pieces that real ones are
//! made of, whole and broken. The laws stand in `support/laws.rs`; the fuzz target asks the same.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use support::{laws, read, read_chunks};
use trace::Options;

fn bytes(choices: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    select(choices).prop_map(|choice| choice.as_bytes().to_vec())
}

/// A runner header: times around one another, one that is no date, few streams.
fn header() -> impl Strategy<Value = Vec<u8>> {
    let time = prop_oneof![
        6 => "2026-01-21T09:47:2[0-5]\\.58300[0-9]Z",
        1 => select(vec!["2024-02-29T23:59:59.999999Z", "2023-02-29T00:00:00.000000Z",
            "1969-12-31T23:59:59.000001Z", "2262-04-12T00:00:00.000000Z", "2026-01-21T24:00:00.000000Z"])
            .prop_map(str::to_owned),
    ];
    let stream = select(vec!["00O", "01O", "01E", "0fO", "ffE"]);
    (time, stream, select(vec!["+", " "]))
        .prop_map(|(time, stream, flag)| format!("{time} {stream}{flag}").into_bytes())
}

/// A section marker: well-formed, malformed, with each of the endings that writers give it.
fn marker() -> impl Strategy<Value = Vec<u8>> {
    let kind = select(vec!["start", "start", "end", "end", "stop"]);
    let time = prop_oneof![
        4 => "17000000[0-9]{2}",
        1 => select(vec!["1", "", "x", "99999999999999999999", "4102444800"]).prop_map(str::to_owned),
    ];
    let name = select(vec![
        "a",
        "A",
        "b.B",
        "b-b",
        "c-c[collapsed=true]",
        "d[collapsed=true, hide_duration=true]",
        "$d",
        "e[x]",
        "e[x=1,]",
        "section_start",
    ]);
    let ending = select(vec![
        "\r\x1b[0K",
        "\r\x1b[0K",
        "\r\x1b[0K",
        "\r\x1b[K",
        "\r",
        "\r\r",
        "\r\r\x1b[0K",
        "",
    ]);
    (kind, time, name, ending).prop_map(|(kind, time, name, ending)| {
        format!("section_{kind}:{time}:{name}{ending}").into_bytes()
    })
}

fn escape() -> impl Strategy<Value = Vec<u8>> {
    bytes(&[
        "\x1b",
        "\x1b[",
        "\x1b[31;1m",
        "\x1b[0K",
        "\x1b[0;m",
        "\x1b[?25l",
        "\x1b[1 q",
        "\x1b]0;t",
        "\x1b]8;;u\x1b\\",
        "\x1b]0;t\x07",
        "\x07",
        "\x1b\\",
        "\x1b_a",
        "\x1bPq",
        "\x1b^",
        "\x1bX",
        "\x1b(",
        "\x1b(B",
        "\x1b7",
        "\u{9c}",
        "\u{85}",
        "\x08",
        "\x7f",
        "\0",
        "[",
        "]",
        "m",
    ])
}

/// UTF-8 that is cut, too long, of surrogates, or starts nowhere.
fn invalid() -> impl Strategy<Value = Vec<u8>> {
    select(vec![
        &b"\x80"[..],
        b"\xff",
        b"\xc2",
        b"\xe2\x82",
        b"\xf0\x9f\x98",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
    ])
    .prop_map(<[u8]>::to_vec)
}

/// Pieces that traces are made of.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let line_and_header = (bytes(&["\n", "\n", "\r\n", "\r\x1b[0K\n"]), header());
    prop_oneof![
        3 => "[a-z ]{0,9}".prop_map(String::into_bytes),
        1 => "\\PC{1,4}".prop_map(String::into_bytes),
        3 => bytes(&["\n"]),
        2 => bytes(&["\r", "\r\n", "\r\r\n", "\t"]),
        3 => line_and_header.prop_map(|(end, header)| [end, header].concat()),
        1 => header(),
        3 => marker(),
        3 => escape(),
        1 => invalid(),
        1 => vec(any::<u8>(), 1..6),
    ]
}

/// A trace that a failed test prints so that it can be read.
#[derive(Clone)]
struct Trace(Vec<u8>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "b\"{}\"", self.0.escape_ascii())
    }
}

fn trace() -> impl Strategy<Value = Trace> {
    let start = bytes(&["", "2026-01-21T09:47:20.000000Z 00O "]);
    (start, vec(piece(), 0..40))
        .prop_map(|(start, pieces)| Trace([start, pieces.concat()].concat()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn lines_sections_and_byte_counts_are_those_of_the_model(trace in trace()) {
        laws::assert_as_the_model(&trace.0, Options::default());
    }

    /// A limit on the text changes the text and what says so, nothing else.
    #[test]
    fn a_limit_on_the_text_changes_nothing_else(trace in trace(), max_text in 0..60usize) {
        laws::assert_as_the_model(&trace.0, Options { max_text });
    }

    #[test]
    fn any_chunking_gives_the_same(trace in trace(), seed: u64) {
        laws::assert_chunks_change_nothing(&trace.0, seed);
    }

    #[test]
    fn lines_handed_out_are_final(trace in trace(), seed: u64) {
        laws::assert_what_is_out_is_final(&trace.0, seed);
    }

    #[test]
    fn no_printable_character_is_lost(trace in trace()) {
        laws::assert_no_printable_character_is_lost(&trace.0);
    }

    #[test]
    fn any_bytes_are_a_trace(trace in vec(any::<u8>(), 0..300).prop_map(Trace), seed: u64) {
        laws::assert_all(&trace.0, seed);
    }
}

/// The lenient reading of a marker looked at text that the limit had cut, and took it for none.
#[test]
fn a_marker_longer_than_the_limit_is_still_one() {
    let read = read_chunks(
        Options { max_text: 10 },
        [&b"section_start:1:name\rtext\n"[..]],
    );
    assert_eq!(read.lines[0].section.as_deref(), Some("name"));
}

/// What stands behind an unterminated escape waits for the end of the line; meanwhile pieces of it
/// began, and the section's line gave the offset of the last but one of them as its own.
#[test]
fn a_section_behind_an_unterminated_escape_has_the_offset_of_its_marker() {
    const HEADER: &str = "2026-01-21T09:47:20.000000Z 00O";
    let trace =
        format!("{HEADER} ab\x1b]0;section_start:1:a\r\x1b[0K\n{HEADER}+title\n{HEADER}+\n");
    let offsets: Vec<_> = read(trace.as_bytes())
        .lines
        .iter()
        .map(|line| line.offset)
        .collect();
    assert_eq!(offsets, [0, trace.find("section").unwrap() as u64]);
}

/// The difference overflowed, and the gap was taken for a step back.
#[test]
fn a_gap_of_three_centuries_is_a_gap() {
    let trace = "1700-01-01T00:00:00.000000Z 00O a\n2026-01-01T00:00:00.000000Z 00O b\n";
    let days: u64 = 326 * 365 + 79;
    assert_eq!(
        read(trace.as_bytes()).lines[1].gap_ms,
        Some(days * 86_400_000)
    );
}
