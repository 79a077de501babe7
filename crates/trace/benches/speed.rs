//! Lines with all their facts, against what others use to strip escapes and nothing more: the same
//! real traces, one core, one run. `cargo bench -p trace`

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use regex::bytes::Regex;
use trace::{Options, Parser};

/// Bytes of a set: far more than a cache holds, and short enough to be measured often.
const SIZE: usize = 8 * 1024 * 1024;

/// The usual expression for escapes: CSI, OSC with its two ends, and those of two characters.
const ESCAPES: &str =
    r"(?-u)\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]+[0-~]|[0-~])";

/// Real traces whose name `wanted` takes, over and over until they are [`SIZE`] bytes.
fn set(wanted: impl Fn(&str) -> bool) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces");
    let entries = std::fs::read_dir(folder).expect("the folder of traces is there");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("it can be listed").path())
        .filter(|path| wanted(&path.file_name().unwrap_or_default().to_string_lossy()))
        .collect();
    paths.sort();
    let traces = paths
        .iter()
        .map(|path| std::fs::read(path).expect("it can be read"));
    let once = traces.collect::<Vec<_>>().concat();
    once.repeat(SIZE.div_ceil(once.len()))
}

/// Every line of `trace` with all its facts, and the summary.
fn lines(trace: &[u8]) {
    let mut parser = Parser::new(Options::default());
    let mut sink = |line: trace::Line<'_>| {
        black_box(line);
    };
    parser.push(trace, &mut sink);
    black_box(parser.finish(&mut sink));
}

fn speed(criterion: &mut Criterion) {
    let escapes = Regex::new(ESCAPES).expect("it is well-formed");
    let coloured = [
        "cargo-build.plain.log",
        "gcc-errors.plain.log",
        "pytest.plain.log",
    ];
    for (name, trace) in [
        ("plain", set(|name| name.ends_with(".plain.log"))),
        ("timestamps", set(|name| name.ends_with(".ts.log"))),
        ("colours", set(|name| coloured.contains(&name))),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(trace.len() as u64));
        group.sample_size(30);
        group.bench_function("trace", |bencher| bencher.iter(|| lines(&trace)));
        group.bench_function("strip-ansi-escapes", |bencher| {
            bencher.iter(|| strip_ansi_escapes::strip(&trace));
        });
        group.bench_function("anstream", |bencher| {
            bencher.iter(|| anstream::adapter::strip_bytes(&trace).into_vec());
        });
        group.bench_function("regex", |bencher| {
            bencher.iter(|| escapes.replace_all(&trace, &b""[..]).into_owned());
        });
        group.finish();
    }
}

criterion_group!(benches, speed);
criterion_main!(benches);
