//! Inputs made to be slow or large to read.

/// An input: a start, and a piece that is repeated behind it.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    start: String,
    piece: Piece,
}

enum Piece {
    Same(Vec<u8>),
    /// Another one each time.
    Numbered(fn(usize) -> String),
}

impl Input {
    /// `size` bytes or a little less.
    pub(crate) fn bytes(&self, size: usize) -> Vec<u8> {
        let room = size.saturating_sub(self.start.len());
        let pieces = match &self.piece {
            Piece::Same(piece) => piece.repeat(room / piece.len()),
            Piece::Numbered(piece) => {
                let count = room / piece(0).len();
                (0..count).flat_map(|n| piece(n).into_bytes()).collect()
            }
        };
        [self.start.as_bytes(), &pieces].concat()
    }
}

/// All inputs; the first is what the others are measured against.
pub(crate) fn inputs() -> Vec<Input> {
    const STAMP: &str = "2026-01-21T09:47:26.583005Z 01O";
    let text = "The quick brown fox jumps over the lazy dog, and so on.\n";
    let stamped = format!("{STAMP} {text}");
    let first = format!("{STAMP} start\n");
    let continued = format!("{STAMP}+\n");
    let continued_by_text = format!("{STAMP}+text\n");
    let two_streams = format!("{STAMP}+text\n2026-01-21T09:47:26.583005Z 01E+text\n");
    let long_marker = format!("section_start:1700000000:{}\r\x1b[0K", "n".repeat(4000));
    let open_escape = format!("{STAMP} \x1b]\n");
    let mut inputs: Vec<_> = [
        ("plain text", "", text),
        ("plain text with timestamps", "", &stamped),
        ("ESC [", "", "\x1b["),
        ("ESC [ and parameters", "", "\x1b[1;"),
        ("one ESC [ without an end", "\x1b[", "1;"),
        ("ESC [ m", "", "\x1b[m"),
        ("ESC ] without an end", "", "\x1b]"),
        ("ESC ] and titles without an end", "", "\x1b]0;title "),
        ("ESC P without an end, BEL between", "", "\x1bP\x07"),
        ("ESC ( without an end", "", "\x1b("),
        ("ESC", "", "\x1b"),
        ("CR", "", "\r"),
        ("CR and text", "", "a\r"),
        (
            "CR and a half header",
            &first,
            "2026-01-21T09:47:26.583005Z\r",
        ),
        ("backspaces", "", "\x08"),
        ("+ continuations", &first, &continued),
        ("+ continuations of text", &first, &continued_by_text),
        ("+ continuations of two streams", &first, &two_streams),
        ("+ behind an open escape", &open_escape, &continued_by_text),
        (
            "section starts",
            "",
            "section_start:1700000000:name\r\x1b[0K",
        ),
        (
            "section starts without an end",
            "",
            "section_start:1700000000:name",
        ),
        (
            "section starts with CR alone",
            "",
            "section_start:1700000000:name\r",
        ),
        ("section starts of 4000 bytes", "", &long_marker),
        ("almost section starts", "", "section_start:1:[\r\x1b[0K"),
        ("C1 characters", "", "\u{85}"),
        ("one line", "", "x"),
        ("one line of characters", "", "é"),
        ("LF", "", "\n"),
        ("CR LF", "", "\r\n"),
        ("lines of one byte", "", "x\n"),
    ]
    .map(|(name, start, piece)| Input {
        name,
        start: start.to_owned(),
        piece: Piece::Same(piece.as_bytes().to_vec()),
    })
    .into();
    let more = [
        ("invalid UTF-8", Piece::Same(vec![0xff])),
        ("cut characters", Piece::Same(b"\xe2\x82".to_vec())),
        (
            "section starts of many names",
            Piece::Numbered(|n| format!("section_start:1700000000:{n:08}\r\x1b[0K")),
        ),
    ];
    inputs.extend(more.map(|(name, piece)| Input {
        name,
        start: String::new(),
        piece,
    }));
    inputs
}
