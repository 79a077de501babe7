//! Memory stays bounded whatever comes. A test binary of its own: the peak is the process's.

use trace::{Options, Parser};

/// The most that the process has used so far, in bytes; `None` where there is no `/proc`.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kibibytes: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Feeds `piece` over and over behind `start`, `total` bytes of it.
fn feed(start: &str, piece: &[u8], total: usize) {
    let chunk = piece.repeat(64 * 1024 / piece.len());
    let mut parser = Parser::new(Options::default());
    parser.push(start.as_bytes(), &mut |_| ());
    for _ in 0..total / chunk.len() {
        parser.push(&chunk, &mut |_| ());
    }
    let summary = parser.finish(&mut |_| ());
    assert_eq!(summary.accounting.total(), summary.bytes);
}

#[test]
fn memory_is_bounded() {
    const HEADER: &str = "2026-01-21T09:47:26.583005Z 00O ";
    const SCRIPT: &str = "2026-01-21T09:47:26.583005Z 01O ";
    let total = 16 * 1024 * 1024;
    let other = format!("{SCRIPT}text of another stream\n");
    let long_name = format!("section_start:1:{}\r\x1b[0K", "n".repeat(4000));
    for (start, piece) in [
        ("", "one line "),
        ("", "\x1b["),
        ("", "\x1b]"),
        ("\x1b[", "1;"),
        ("", "\r"),
        ("", "section_start:1:name\r\x1b[0K"),
        ("", &long_name),
        ("2026-01-21T09:47:26.583005Z 00O open\n", &other),
        (
            "2026-01-21T09:47:26.583005Z 00O open\n2026-01-21T09:47:26.583005Z 01O ",
            "one line ",
        ),
        (HEADER, "\n2026-01-21T09:47:26.583005Z 00O+"),
        (HEADER, "\n"),
    ] {
        let t = std::time::Instant::now();
        feed(start, piece.as_bytes(), total);
        eprintln!(
            "{:?} {:?} {:?}",
            &piece[..piece.len().min(20)],
            t.elapsed(),
            peak()
        );
    }
    // Measured: 17 MiB, of which the test binary and its chunk are 4.
    if let Some(peak) = peak() {
        eprintln!("peak {}", peak);
        assert!(peak < 32 * 1024 * 1024, "{} MiB", peak / 1024 / 1024);
    }
}
