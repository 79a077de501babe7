//! Reads 16 MiB of one kind of input, for counting instructions: `benches/instructions.sh` runs it
//! under callgrind. Without an argument it names the inputs; a path is read as a trace.

#[path = "../tests/support/adversarial.rs"]
mod adversarial;

use std::hint::black_box;
use std::time::Instant;

use trace::{Options, Parser};

const SIZE: usize = 16 * 1024 * 1024;
/// As much as a network connection hands over at a time.
const CHUNK: usize = 16 * 1024;

/// What is counted: callgrind finds this function by its name.
#[inline(never)]
fn measured(trace: &[u8]) -> u64 {
    let mut parser = Parser::new(Options::default());
    let mut sink = |line: trace::Line<'_>| {
        black_box(line);
    };
    for chunk in trace.chunks(CHUNK) {
        parser.push(chunk, &mut sink);
    }
    parser.finish(&mut sink).lines
}

fn main() -> std::io::Result<()> {
    let mut inputs = adversarial::inputs().into_iter();
    let Some(wanted) = std::env::args().nth(1) else {
        inputs.for_each(|input| println!("{}", input.name));
        return Ok(());
    };
    let trace = match inputs.find(|input| input.name == wanted) {
        Some(input) => input.bytes(SIZE),
        None => std::fs::read(&wanted)?,
    };
    let start = Instant::now();
    let lines = measured(&trace);
    let seconds = start.elapsed().as_secs_f64();
    println!("{} bytes, {lines} lines, {seconds:.3} s", trace.len());
    Ok(())
}
