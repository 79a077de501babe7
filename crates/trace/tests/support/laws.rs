//! What holds for every sequence of bytes: the property tests and the fuzz target both ask here.

use trace::{ByteCounts, Options, Section};

use super::model::{Model, ModelLine, ModelSection, cut_name, escape_length};
use super::{Read, Seen, random_chunks, read_chunks};

/// All laws at once, for a trace that is cut into chunks and lines as `seed` says.
pub(crate) fn assert_all(trace: &[u8], seed: u64) {
    assert_as_the_model(trace, Options::default());
    assert_as_the_model(
        trace,
        Options {
            max_text: usize::try_from(seed % 50).unwrap(),
        },
    );
    assert_chunks_change_nothing(trace, seed);
    assert_what_is_out_is_final(trace, seed);
    assert_no_printable_character_is_lost(trace);
}

/// However a trace is cut, the same lines and the same summary come out.
pub(crate) fn assert_chunks_change_nothing(trace: &[u8], seed: u64) {
    let options = Options {
        max_text: if seed.is_multiple_of(3) {
            20
        } else {
            32 * 1024
        },
    };
    let whole = read_chunks(options, [trace]);
    assert_eq!(read_chunks(options, trace.chunks(1)), whole, "chunks of 1");
    let chunks = random_chunks(trace, seed);
    assert_eq!(read_chunks(options, chunks), whole, "seed {seed}");
    let (first, second) = trace.split_at(usize::try_from(seed).unwrap_or(0) % (trace.len() + 1));
    assert_eq!(
        read_chunks(options, [first, second]),
        whole,
        "cut at {}",
        first.len()
    );
}

/// What `push` has handed out stays, whatever follows: the lines of any beginning of the trace
/// that came before its `finish` are the first ones of the whole trace.
pub(crate) fn assert_what_is_out_is_final(trace: &[u8], seed: u64) {
    let cut = usize::try_from(seed).unwrap_or(0) % (trace.len() + 1);
    let mut early = Vec::new();
    let mut parser = trace::Parser::new(Options::default());
    parser.push(&trace[..cut], &mut |line| early.push(Seen::from(line)));
    drop(parser);
    let all = read_chunks(Options::default(), [trace]);
    assert_eq!(
        all.lines.get(..early.len()),
        Some(&early[..]),
        "cut at {cut}"
    );
}

/// No printable character outside a terminated sequence is lost, and none is made up.
///
/// In a trace without carriage returns nothing is wiped and nothing is a marker; and without a
/// header at its start, nothing but LF divides it. So what is shown must be what it holds (decoded
/// as the standard library does it) without its escapes and without its control characters.
pub(crate) fn assert_no_printable_character_is_lost(trace: &[u8]) {
    let mut text = String::from_utf8_lossy(trace).replace('\r', "");
    text.insert(0, 'x');
    let mut printable = String::new();
    for line in text.split('\n') {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let length = if first == '\x1b' {
                escape_length(rest.as_bytes())
            } else {
                first.len_utf8()
            };
            printable.extend(Some(first).filter(|c| *c == '\t' || !c.is_control()));
            rest = &rest[length..];
        }
    }
    let read = read_chunks(
        Options {
            max_text: usize::MAX,
        },
        [text.as_bytes()],
    );
    assert_eq!(read.texts().concat(), printable);
}

/// Lines, sections and the account of every byte are those of the model.
pub(crate) fn assert_as_the_model(trace: &[u8], options: Options) {
    let model = Model::of(trace);
    let read = read_chunks(options, [trace]);
    let mut counts = model.counts;
    assert_eq!(
        read.texts().len(),
        model.lines.len(),
        "lines: {:?}",
        read.texts()
    );
    for (index, (seen, line)) in read.lines.iter().zip(&model.lines).enumerate() {
        assert_eq!(seen.number, index as u64 + 1);
        assert_line(seen, line, options.max_text, &mut counts);
    }
    assert_eq!(read.summary.accounting, counts);
    assert_summary(&read, &model, trace);
}

fn assert_line(seen: &Seen, line: &ModelLine, max_text: usize, counts: &mut ByteCounts) {
    let kept = line.text.floor_char_boundary(max_text);
    let beyond = line.sources.iter().filter(|(end, _)| *end > kept);
    let cut = beyond.map(|(_, source)| *source as u64).sum::<u64>();
    counts.text -= cut;
    counts.cut += cut;
    let length = line.text.len();
    assert_eq!(seen.text, line.text[..kept]);
    assert_eq!(seen.truncated, (length > max_text).then_some(length as u64));
    let (first, last) = line.offset;
    assert!(
        (first..=last).contains(&seen.offset),
        "{} not in {first}..={last}",
        seen.offset
    );
    assert_eq!((seen.timestamp, seen.source), (line.timestamp, line.source));
    assert_eq!(seen.gap_ms, line.gap_ms);
    assert_eq!(
        (seen.stream, seen.stream_number),
        (line.stream, line.stream_number)
    );
    assert_eq!(seen.path, line.path);
    assert_eq!(seen.section, line.path.last().cloned());
    assert_eq!(seen.header, line.header);
}

fn assert_summary(read: &Read, model: &Model, trace: &[u8]) {
    let summary = &read.summary;
    assert_eq!(summary.lines, read.lines.len() as u64);
    assert_eq!(summary.bytes, trace.len() as u64);
    assert_eq!(
        summary.accounting.total(),
        summary.bytes,
        "bytes unaccounted for"
    );
    assert_eq!(summary.timestamped, model.timestamped);
    assert_eq!(summary.invalid_utf8, model.invalid_utf8);
    assert_eq!(summary.sections_dropped, 0);
    assert_eq!(summary.sections.len(), model.sections.len());
    for (index, (section, expected)) in summary.sections.iter().zip(&model.sections).enumerate() {
        assert_section(section, expected, index as u64 + 1);
    }
}

fn assert_section(section: &Section, expected: &ModelSection, ordinal: u64) {
    let expected = Section {
        name: cut_name(&expected.name).to_owned(),
        ordinal,
        collapsed: expected.collapsed,
        hide_duration: expected.hide_duration,
        started: expected.started,
        seconds: expected.seconds,
        first_line: expected.first_line,
        last_line: expected.last_line,
    };
    assert_eq!(*section, expected);
}
