//! Inputs made to be slow or large to read come out right. That they cost no more than others is
//! counted, not timed: `benches/instructions.sh`.

#[path = "support/adversarial.rs"]
mod adversarial;
mod support;

use support::{laws, read_chunks};
use trace::Options;

#[test]
fn short_ones_are_read_as_the_model_reads_them() {
    for input in adversarial::inputs() {
        println!("{}", input.name);
        for size in [500, 6_000] {
            laws::assert_all(&input.bytes(size), size as u64);
        }
    }
}

/// Longer than each buffer that a line or an escape can fill.
#[test]
fn long_ones_are_the_same_in_any_chunks() {
    for input in adversarial::inputs() {
        println!("{}", input.name);
        let trace = input.bytes(150_000);
        let whole = read_chunks(Options::default(), [&trace[..]]);
        for size in [997, 16 * 1024] {
            assert!(
                read_chunks(Options::default(), trace.chunks(size)) == whole,
                "chunks of {size}"
            );
        }
        assert_eq!(whole.summary.accounting.total(), trace.len() as u64);
    }
}

/// An escape without an end takes nothing with it, however long the line that it begins.
#[test]
fn what_has_no_end_shows_what_follows_it() {
    for introducer in ["\x1b[", "\x1b]", "\x1bP", "\x1b(", "\x1b"] {
        let line = format!("{introducer}é{}\n", "x".repeat(200_000));
        let read = read_chunks(
            Options {
                max_text: usize::MAX,
            },
            line.as_bytes().chunks(4096),
        );
        assert_eq!(read.lines.len(), 1, "{introducer:?}");
        assert_eq!(read.lines[0].text.len(), 200_002, "{introducer:?}");
        let escapes = read.summary.accounting.escapes;
        assert_eq!(escapes, introducer.len() as u64, "{introducer:?}");
    }
}

/// A line of one stream waits for its continuation while another stream writes, but not for ever:
/// 4,000 lines or 256 KiB later it is closed, and what continues it is a line of its own.
#[test]
fn a_line_waits_for_its_continuation_within_bounds() {
    const STAMP: &str = "2026-01-21T09:47:26.583005Z";
    let line = |text: &str| format!("{STAMP} 01O {text}\n");
    for (between, waits) in [
        (line("x").repeat(4_000), true),
        (line("x").repeat(4_001), false),
        (line(&"x".repeat(256 * 1024)), true),
        (line(&"x".repeat(256 * 1024 + 1)), false),
    ] {
        let trace = format!("{STAMP} 00O open\n{between}{STAMP} 00O+, continued\n");
        for size in [4096, trace.len()] {
            let read = read_chunks(Options::default(), trace.as_bytes().chunks(size));
            let (first, last) = (&read.lines[0].text, &read.lines[read.lines.len() - 1].text);
            let expected = if waits { "open, continued" } else { "open" };
            assert_eq!(first, expected, "{} bytes between", between.len());
            assert_eq!(
                last == ", continued",
                !waits,
                "{} bytes between",
                between.len()
            );
        }
    }
}
