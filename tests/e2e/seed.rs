//! Where all chance of a run comes from.

use std::sync::OnceLock;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// The variable that gives a run the same chances again.
pub(crate) const SEED: &str = "JOBLOGS_E2E_SEED";

/// The run's: what the variable says, else another one each time.
pub(crate) fn seed() -> u64 {
    static RUNS: OnceLock<u64> = OnceLock::new();
    *RUNS.get_or_init(|| {
        let given = std::env::var(SEED).ok();
        let given = given.and_then(|seed| seed.parse().ok());
        given.unwrap_or_else(|| rand::rng().random())
    })
}

/// The chances of one test, or of one part of it: they depend on the run's seed and on this name alone, so that a test
/// has the same ones whatever runs beside it.
pub(crate) fn rng(name: &str) -> StdRng {
    // FNV-1a: the standard library promises no hash that stays the same.
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    StdRng::seed_from_u64(name.bytes().fold(seed(), hash))
}
