//! How long a run is to take: `make e2e` shortens the long tests, `make soak` runs them in full.

use std::time::Duration;

/// A test that takes longer hangs: each of its waits has a deadline of its own.
const LONGEST: Duration = Duration::from_mins(4);
/// What a test may take beside its full length.
const BESIDE: Duration = Duration::from_mins(15);
const SOAK: u64 = 30;

/// Whether the long tests run in full length.
pub(crate) fn is_full() -> bool {
    std::env::var("JOBLOGS_E2E_FULL").is_ok_and(|full| full == "1")
}

/// How long the soak is in full.
pub(crate) fn soak() -> Duration {
    let minutes = std::env::var("JOBLOGS_SOAK_MINUTES").ok();
    let minutes = minutes.and_then(|minutes| minutes.parse().ok());
    Duration::from_mins(minutes.unwrap_or(SOAK))
}

/// The longest that a test may take.
pub(crate) fn longest() -> Duration {
    if is_full() { soak() + BESIDE } else { LONGEST }
}
