//! Runs the parser and keeps what came out.
#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod laws;
pub(crate) mod model;

use trace::{Line, Options, Parser, Summary};

/// A line, owned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) text: String,
    pub(crate) timestamp: Option<i64>,
    pub(crate) source: &'static str,
    pub(crate) stream: Option<&'static str>,
    pub(crate) stream_number: Option<u8>,
    pub(crate) section: Option<String>,
    pub(crate) path: Vec<String>,
    pub(crate) header: bool,
    pub(crate) level: Option<&'static str>,
    pub(crate) gap_ms: Option<u64>,
    pub(crate) truncated: Option<u64>,
}

impl From<Line<'_>> for Seen {
    fn from(line: Line<'_>) -> Self {
        Self {
            number: line.number,
            offset: line.offset,
            text: line.text.to_owned(),
            timestamp: line.timestamp,
            source: line.timestamp_source.as_str(),
            stream: line.stream.map(trace::Stream::as_str),
            stream_number: line.stream_number,
            section: line.section.map(str::to_owned),
            path: line
                .section_path
                .iter()
                .map(|open| open.name().to_owned())
                .collect(),
            header: line.section_header,
            level: line.level.map(trace::Level::as_str),
            gap_ms: line.gap_ms,
            truncated: line.truncated,
        }
    }
}

/// What came out of a whole trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) lines: Vec<Seen>,
    pub(crate) summary: Summary,
}

impl Read {
    pub(crate) fn texts(&self) -> Vec<&str> {
        self.lines.iter().map(|line| line.text.as_str()).collect()
    }
}

pub(crate) fn read(trace: &[u8]) -> Read {
    read_chunks(Options::default(), std::iter::once(trace))
}

pub(crate) fn read_chunks<'a>(
    options: Options,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> Read {
    let mut lines = Vec::new();
    let mut sink = |line: Line<'_>| lines.push(Seen::from(line));
    let mut parser = Parser::new(options);
    for chunk in chunks {
        parser.push(chunk, &mut sink);
    }
    let summary = parser.finish(&mut sink);
    Read { lines, summary }
}

/// Reads `trace` whole and in chunks of 1, 7, 4096 and changing sizes: all must be equal.
pub(crate) fn read_every_way(trace: &[u8]) -> Read {
    read_every_way_with(Options::default(), trace)
}

pub(crate) fn read_every_way_with(options: Options, trace: &[u8]) -> Read {
    let whole = read_chunks(options, [trace]);
    for size in [1, 7, 4096] {
        assert_eq!(
            read_chunks(options, trace.chunks(size)),
            whole,
            "chunks of {size}"
        );
    }
    for seed in 1..4 {
        assert_eq!(
            read_chunks(options, random_chunks(trace, seed)),
            whole,
            "seed {seed}"
        );
    }
    assert_eq!(
        whole.summary.accounting.total(),
        trace.len() as u64,
        "bytes unaccounted for"
    );
    assert_eq!(whole.summary.bytes, trace.len() as u64);
    assert_eq!(whole.summary.lines, whole.lines.len() as u64);
    for (index, line) in whole.lines.iter().enumerate() {
        assert_eq!(line.number, index as u64 + 1);
    }
    whole
}

/// Chunks of 1 to 255 bytes, the same each time.
pub(crate) fn random_chunks(trace: &[u8], seed: u64) -> Vec<&[u8]> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut rest = trace;
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let size = usize::try_from(state >> 56).unwrap().clamp(1, rest.len());
        let (chunk, after) = rest.split_at(size);
        chunks.push(chunk);
        rest = after;
    }
    chunks
}
