//! The laws of the property tests, for the bytes that the fuzzer comes up with.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/support/mod.rs"]
mod support;

fuzz_target!(|trace: &[u8]| {
    let trace = &trace[..trace.len().min(support::model::LONGEST_TRACE)];
    // FNV-1a: the cuts change with the bytes, and the same bytes are cut alike.
    let seed = trace.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    support::laws::assert_all(trace, seed);
});
