//! How many requests a second a GitLab instance gets from us: a bucket of turns, taken in the order
//! in which they are asked for, so that no job's requests crowd out another's.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use reqwest::header::HeaderMap;
use tokio::time::{Instant, sleep_until};

/// Turns that may be taken at once after a time without any, in seconds' worth of them.
const BURST_SECONDS: u32 = 2;
/// With less than this part of GitLab's own limit left, what is left is spread over its period.
const LITTLE: u64 = 10;
/// A turn that is further away is not waited for.
const LONGEST_TURN: Duration = Duration::from_mins(1);
/// A period that is longer is no `RateLimit-Reset` but a fault in it.
const LONGEST_PERIOD: Duration = Duration::from_hours(1);

/// The turns of one instance.
#[derive(Debug)]
pub(crate) struct Rate {
    /// Between two turns; zero: no limit of ours.
    interval: Duration,
    burst: Duration,
    /// When the next turn is: who asks first has it first.
    next: Mutex<Option<Instant>>,
    /// What GitLab's own limit leaves.
    slowed: Mutex<Option<Slowed>>,
}

#[derive(Debug, Clone, Copy)]
struct Slowed {
    /// Between two turns.
    interval: Duration,
    /// The next one is not before.
    not_before: Instant,
    /// When GitLab begins to count anew.
    until: Instant,
}

impl Rate {
    /// So many turns a second; 0: as many as GitLab's own limit leaves.
    pub(crate) fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1)
            .checked_div(per_second)
            .unwrap_or_default();
        Self {
            interval,
            burst: interval * per_second.saturating_mul(BURST_SECONDS),
            next: Mutex::new(None),
            slowed: Mutex::new(None),
        }
    }

    /// Waits for a turn. Where that would take longer than a minute, the error says how long, and none
    /// is taken.
    pub(crate) async fn turn(&self) -> Result<(), Duration> {
        loop {
            let at = self.reserve()?;
            sleep_until(at).await;
            // An answer may have said meanwhile that nothing is left.
            if self.slowed(at).is_none_or(|slowed| slowed.not_before <= at) {
                return Ok(());
            }
        }
    }

    fn reserve(&self) -> Result<Instant, Duration> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (earliest, interval) = match self.slowed(now) {
            // A time without requests is no credit towards GitLab's own limit.
            Some(slowed) => (
                now.max(slowed.not_before),
                slowed.interval.max(self.interval),
            ),
            None => (now.checked_sub(self.burst).unwrap_or(now), self.interval),
        };
        let at = next.map_or(earliest, |next| next.max(earliest));
        let wait = at.saturating_duration_since(now);
        if wait > LONGEST_TURN {
            return Err(wait);
        }
        *next = Some(at + interval);
        Ok(at)
    }

    /// Reads GitLab's own limit from an answer: `RateLimit-Limit`, `-Remaining`, and `-Reset`, which is
    /// a time in seconds since the epoch.
    pub(crate) fn heed(&self, headers: &HeaderMap) {
        let number = |name: &str| -> Option<u64> { headers.get(name)?.to_str().ok()?.parse().ok() };
        let (Some(limit), Some(remaining), Some(reset)) = (
            number("ratelimit-limit"),
            number("ratelimit-remaining"),
            number("ratelimit-reset"),
        ) else {
            return;
        };
        let epoch = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        let period = Duration::from_secs(reset.saturating_sub(epoch)).min(LONGEST_PERIOD);
        let is_little = remaining < limit / LITTLE && !period.is_zero();
        let turns = u32::try_from(remaining).unwrap_or(u32::MAX);
        let now = Instant::now();
        let slowed = Slowed {
            interval: period / turns.max(1),
            not_before: if turns == 0 { now + period } else { now },
            until: now + period,
        };
        *self.slowed.lock().unwrap_or_else(PoisonError::into_inner) = is_little.then_some(slowed);
    }

    fn slowed(&self, now: Instant) -> Option<Slowed> {
        let slowed = *self.slowed.lock().unwrap_or_else(PoisonError::into_inner);
        slowed.filter(|slowed| slowed.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn took(rate: &Rate, turns: u32) -> Duration {
        let before = Instant::now();
        for _ in 0..turns {
            while let Err(wait) = rate.turn().await {
                assert!(
                    wait > LONGEST_TURN,
                    "{wait:?} is no time to come back later"
                );
                tokio::time::sleep(wait).await;
            }
        }
        before.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_at_the_rate_after_a_burst() {
        let rate = Rate::new(10);
        let burst = 10 * BURST_SECONDS;
        assert_eq!(took(&rate, burst).await, Duration::ZERO);
        assert!(took(&rate, 50).await >= Duration::from_millis(4_900));
        assert_eq!(took(&Rate::new(0), 10_000).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_little_gitlab_leaves_is_spread_over_its_period() {
        let rate = Rate::new(100);
        let reset = Timestamp::now().as_second() + 60;
        let heed = |remaining: u32| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", 600.into());
            headers.insert("ratelimit-remaining", remaining.into());
            headers.insert("ratelimit-reset", reset.into());
            rate.heed(&headers);
        };
        heed(300);
        assert_eq!(took(&rate, 100).await, Duration::ZERO);
        heed(10);
        assert!(took(&rate, 6).await >= Duration::from_secs(20));
        heed(0);
        assert!(took(&rate, 1).await >= Duration::from_secs(58));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_long_for_what_gitlab_leaves() {
        let rate = Rate::new(100);
        let heed = |remaining: u32, seconds: i64| {
            let mut headers = HeaderMap::new();
            headers.insert("ratelimit-limit", 600.into());
            headers.insert("ratelimit-remaining", remaining.into());
            let reset = Timestamp::now().as_second() + seconds;
            headers.insert("ratelimit-reset", reset.into());
            rate.heed(&headers);
        };
        heed(0, 600);
        let wait = rate.turn().await.unwrap_err();
        assert!(wait > Duration::from_secs(590), "{wait:?}");
        heed(300, 600);
        took(&rate, 100 * BURST_SECONDS + 1).await;
        // One who has a turn already does not take it when nothing is left by then.
        let before = Instant::now();
        let (turn, ()) = tokio::join!(rate.turn(), async { heed(0, 30) });
        turn.unwrap();
        assert!(before.elapsed() >= Duration::from_secs(28));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_first_has_it_first() {
        let rate = Rate::new(1);
        took(&rate, BURST_SECONDS).await;
        let order = Mutex::new(Vec::new());
        let ask = |number: u32| {
            let (rate, order) = (&rate, &order);
            async move {
                rate.turn().await.unwrap();
                order.lock().unwrap().push(number);
            }
        };
        tokio::join!(ask(1), ask(2), ask(3), ask(4));
        assert_eq!(*order.lock().unwrap(), [1, 2, 3, 4]);
    }
}
