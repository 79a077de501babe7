//! Where all chance of a run comes from.

use rand::Rng as _;

/// What `JOBLOGS_E2E_SEED` says, else another one each time.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("JOBLOGS_E2E_SEED").ok();
    let given = given.and_then(|seed| seed.parse().ok());
    given.unwrap_or_else(|| rand::rng().random())
}

/// Whether the long tests run in full length.
pub(crate) fn is_full() -> bool {
    std::env::var("JOBLOGS_E2E_FULL").is_ok_and(|full| full == "1")
}
