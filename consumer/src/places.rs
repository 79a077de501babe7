//! Places for traces that are being read: so many at a time, and a lane of its own for the huge ones,
//! so that however many of those there are, the others go on.

use tokio::sync::{Semaphore, SemaphorePermit};

/// Bytes from which on a trace is huge.
pub(crate) const HUGE: u64 = 16 * 1024 * 1024;
/// A place for a huge one beside so many ordinary ones.
const ORDINARY_FOR_A_HUGE: usize = 4;

/// The places.
pub(crate) struct Places {
    ordinary: Semaphore,
    huge: Semaphore,
}

/// One place; it is free again when this is dropped.
pub(crate) struct Place<'a> {
    is_huge: bool,
    #[allow(dead_code, reason = "it is given back when dropped")]
    permit: SemaphorePermit<'a>,
}

impl Places {
    /// So many ordinary ones, and some for huge traces.
    pub(crate) fn new(ordinary: usize) -> Self {
        Self {
            ordinary: Semaphore::new(ordinary),
            huge: Semaphore::new(huge(ordinary)),
        }
    }

    /// How many traces are read at the same time, at most.
    pub(crate) fn total(ordinary: usize) -> usize {
        ordinary + huge(ordinary)
    }

    /// Waits for a place; those who wait are served in order.
    pub(crate) async fn take(&self) -> Place<'_> {
        let permit = self.ordinary.acquire().await;
        Place {
            is_huge: false,
            permit: permit.expect("the semaphore is never closed"),
        }
    }

    /// A place for a huge trace, if there is one now.
    pub(crate) fn try_take_huge(&self) -> Option<Place<'_>> {
        let permit = self.huge.try_acquire().ok()?;
        Some(Place {
            is_huge: true,
            permit,
        })
    }
}

impl Place<'_> {
    /// Whether a trace that has so many bytes, or has had so far, must not stay here.
    pub(crate) fn is_too_small_for(&self, bytes: u64) -> bool {
        bytes > HUGE && !self.is_huge
    }
}

fn huge(ordinary: usize) -> usize {
    ordinary.div_ceil(ORDINARY_FOR_A_HUGE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn huge_traces_leave_ordinary_places_to_others() {
        let places = Places::new(2);
        let place = places.take().await;
        assert!(!place.is_too_small_for(HUGE) && place.is_too_small_for(HUGE + 1));
        let huge = places.try_take_huge().unwrap();
        assert!(!huge.is_too_small_for(u64::MAX));
        assert!(places.try_take_huge().is_none());
        let _second = places.take().await;
        let third = timeout(Duration::from_secs(1), places.take()).await;
        assert!(third.is_err(), "there are two");
    }
}
