//! Memory does not grow with the trace, whatever it is made of. A test binary of its own, with one
//! test in it: the peak is that of the whole process.

use trace::{Options, Parser};

const MIB: usize = 1024 * 1024;

/// The most memory that the process has had so far, as the kernel counts it; `None` where there is
/// no `/proc`. An allocator that counts would need `unsafe`, which the workspace forbids.
fn peak() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: usize = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Feeds `piece` over and over behind `start`: first until every buffer has met its bound, then
/// `more` bytes. Returns by how much the peak rose meanwhile.
fn growth(start: &str, piece: &str, more: usize) -> usize {
    let chunk = piece.repeat(64 * 1024 / piece.len()).into_bytes();
    let mut parser = Parser::new(Options::default());
    parser.push(start.as_bytes(), &mut |_| ());
    let mut feed = |bytes: usize| {
        for _ in 0..bytes / chunk.len() {
            parser.push(&chunk, &mut |_| ());
        }
        peak().unwrap_or(0)
    };
    let before = feed(2 * MIB);
    let after = feed(more);
    let summary = parser.finish(&mut |_| ());
    assert_eq!(summary.accounting.total(), summary.bytes);
    after - before
}

#[test]
fn memory_does_not_grow_with_the_trace() {
    const STAMP: &str = "2026-01-21T09:47:26.583005Z 00O";
    const SCRIPT: &str = "2026-01-21T09:47:26.583005Z 01O";
    let other = format!("{SCRIPT} text of another stream\n");
    let continued = format!("\n{STAMP}+");
    let continued_by_one = format!("\n{STAMP}+a");
    let new_lines = format!("\n{STAMP} ");
    let long_name = format!("section_start:1:{}\r\x1b[0K", "n".repeat(4000));
    for (start, piece) in [
        ("", "one line "),
        ("", "\x1b["),
        ("", "\x1b]"),
        ("\x1b[", "1;"),
        ("\x1b]", "title without an end "),
        ("", "\r"),
        ("section_start:1:name", "\r"),
        ("", "\x08"),
        ("", "\u{fffd}"),
        ("", "section_start:1:name\r\x1b[0K"),
        ("", &long_name),
        // A line of the runner's stays open while the script writes.
        (&format!("{STAMP} open\n"), &other),
        (&format!("{STAMP} open\n{SCRIPT} "), "one line "),
        (&format!("{STAMP} "), &continued),
        (&format!("{STAMP} "), &continued_by_one),
        (&format!("{STAMP} \x1b]title"), &continued_by_one),
        (
            &format!("{STAMP} section_start:1:name"),
            &format!("\r{continued}"),
        ),
        (&format!("{STAMP} "), &new_lines),
    ] {
        let growth = growth(start, piece, 5 * MIB);
        assert!(
            growth < MIB / 4,
            "{start:?} {piece:.40?}: {growth} bytes more"
        );
    }
    // Measured: 5 MiB, the test's own included. Without /proc there is nothing to compare.
    assert!(peak().unwrap_or(0) < 16 * MIB, "{:?}", peak());
}
