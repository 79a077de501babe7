//! Rate limits as GitLab's `Rack::Attack` sets them: so many requests of a token in each period; and whom a refusal
//! counts for.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

use super::token::TokenId;

/// What was sent before a refusal could be read comes within this time, on a busy machine too.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// Whom a refusal counts for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Whom {
    /// Whoever asks for anything.
    Everybody,
    /// Whoever comes with this token; with none that is known, if `None`.
    Token(Option<TokenId>),
    /// Whoever asks for this job.
    Job(u64, u64),
    /// Whoever asks for this address.
    Path(String),
}

/// A refusal, and until when it counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    at: Timestamp,
    pub(super) until: Timestamp,
    counts_for_many: bool,
}

impl Refusal {
    /// Whether a request that comes now is its client's fault. Of one job nobody asks twice at once; but requests for
    /// several may have been under way when the first of them was refused.
    pub(super) fn is_ignored(&self, now: Timestamp) -> bool {
        !self.counts_for_many || now >= self.at + UNDER_WAY
    }
}

/// All refusals so far, the last one for each.
#[derive(Debug, Default)]
pub(super) struct Refusals(HashMap<Whom, Refusal>);

impl Refusals {
    pub(super) fn refuse(&mut self, whom: Whom, at: Timestamp, until: Timestamp) {
        let refusal = Refusal {
            at,
            until,
            counts_for_many: matches!(whom, Whom::Everybody | Whom::Token(_)),
        };
        self.0.insert(whom, refusal);
    }

    /// The refusal that a request by all of these has not waited for.
    pub(super) fn of(&self, whom: &[Whom], now: Timestamp) -> Option<Refusal> {
        let refusals = whom.iter().filter_map(|whom| self.0.get(whom));
        let refusals = refusals.filter(|refusal| now < refusal.until);
        refusals.max_by_key(|refusal| refusal.until).copied()
    }
}

/// So many requests in each period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    pub(super) requests: u64,
    /// Whole seconds.
    pub(super) period: Duration,
    /// When the first period began.
    pub(super) since: Timestamp,
}

/// How one client stands in this period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) limit: u64,
    pub(super) observed: u64,
    /// When the period ends.
    pub(super) reset: Timestamp,
}

impl Standing {
    pub(super) fn is_over(self) -> bool {
        self.observed > self.limit
    }

    pub(super) fn remaining(self) -> u64 {
        self.limit.saturating_sub(self.observed)
    }
}

/// Counts requests, those among them that are refused.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub(super) limit: Option<Limit>,
    /// By token: the period, and the requests in it.
    observed: HashMap<Option<TokenId>, (i64, u64)>,
}

impl Counter {
    /// Counts a request; `None` where there is no limit.
    pub(super) fn count(&mut self, token: Option<TokenId>, now: Timestamp) -> Option<Standing> {
        let limit = self.limit?;
        let length = i64::try_from(limit.period.as_secs().max(1)).ok()?;
        let since = limit.since.as_second();
        let period = (now.as_second() - since).div_euclid(length);
        let counted = self.observed.entry(token).or_default();
        if counted.0 != period {
            *counted = (period, 0);
        }
        counted.1 += 1;
        Some(Standing {
            limit: limit.requests,
            observed: counted.1,
            reset: Timestamp::from_second(since + (period + 1) * length).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_a_token_and_a_period() {
        let mut counter = Counter::default();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let token = |id| Some(TokenId(id));
        assert_eq!(counter.count(token(1), at("2026-11-24T10:00:03Z")), None);
        counter.limit = Some(Limit {
            requests: 1,
            period: Duration::from_secs(10),
            since: at("2026-11-24T10:00:00.5Z"),
        });
        let mut standing = |id, time| counter.count(token(id), at(time)).unwrap();
        let first = standing(1, "2026-11-24T10:00:03.5Z");
        assert_eq!((first.remaining(), first.is_over()), (0, false));
        assert_eq!(first.reset, at("2026-11-24T10:00:10Z"));
        let second = standing(1, "2026-11-24T10:00:09.9Z");
        assert_eq!((second.observed, second.is_over()), (2, true));
        assert!(!standing(2, "2026-11-24T10:00:09.9Z").is_over());
        assert!(!standing(1, "2026-11-24T10:00:10Z").is_over());
    }

    #[test]
    fn what_was_under_way_is_no_fault_and_what_comes_later_is() {
        let mut refusals = Refusals::default();
        let at: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let after = |milliseconds| at + Duration::from_millis(milliseconds);
        let (job, other) = (Whom::Job(42, 4711), Whom::Job(42, 4712));
        refusals.refuse(job.clone(), at, after(2_000));
        let of_the_job = refusals.of(std::slice::from_ref(&job), after(100));
        assert!(of_the_job.unwrap().is_ignored(after(100)));
        assert!(refusals.of(std::slice::from_ref(&other), at).is_none());
        assert!(refusals.of(&[job], after(2_000)).is_none());
        refusals.refuse(Whom::Everybody, at, after(3_000));
        let of_all = refusals.of(&[Whom::Everybody, other], after(100)).unwrap();
        assert_eq!(of_all.until, after(3_000));
        assert!(!of_all.is_ignored(after(100)));
        assert!(of_all.is_ignored(after(1_000)));
    }
}
