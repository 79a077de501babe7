//! What a message carries through the wait tiers in its AMQP headers: how often it was tried, why it
//! waits, and until when.

use std::time::Duration;

use broker::topology::WaitTier;
use jiff::{Timestamp, civil::Date};
use lapin::types::{AMQPValue, FieldTable};

const ATTEMPT: &str = "joblogs-attempt";
const WAITS: &str = "joblogs-waits";
const LOOKS: &str = "joblogs-looks";
const LINKED_BYTES: &str = "joblogs-linked-bytes";
const HUGE_BYTES: &str = "joblogs-huge-bytes";
const CRASHES: &str = "joblogs-crashes";
const DAY: &str = "joblogs-day";
const NOT_BEFORE: &str = "joblogs-not-before";
const FIRST_AT: &str = "joblogs-first-at";
const FIRST_ERROR: &str = "joblogs-first-error";
const LAST_ERROR: &str = "joblogs-last-error";

/// RabbitMQ's own, on messages of a quorum queue that come again.
const DELIVERY_COUNT: &str = "x-delivery-count";

/// As [`Attempt::linked_bytes`]: lines are there that have to be written anew, whatever the trace's size.
pub(crate) const LINES_OF_OTHERS: u64 = i64::MAX.unsigned_abs();
/// A message that comes so long after its time was not waited for: nobody was there to take it.
const ABSENCE: Duration = Duration::from_mins(15);

/// The longest text that goes into a header.
const LONGEST_ERROR: usize = 1_000;

/// How often a message without a time of its own comes back after 10 s, then after a minute, then
/// after 10 minutes: a job that ends soon is searchable soon, a long one costs few calls.
const SHORT_WAITS: u32 = 60;
const MIDDLE_WAITS: u32 = 180;

/// How a message came to this delivery. A fresh one has no headers and all of this at its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Attempt {
    /// From 1: deliveries at which something was tried.
    pub number: u32,
    /// How often it slept.
    pub waits: u32,
    /// How often the trace of the ended job was found without its end.
    pub looks: u32,
    /// The size of the trace from which links were computed when lines were last written; 0: none were.
    pub linked_bytes: u64,
    /// The size of the trace, where it waits for a place among the huge ones.
    pub huge_bytes: u64,
    /// How often a consumer died, or lost its connection, while it had the message.
    pub crashes: u32,
    /// The day of the indices that its job belongs to, once GitLab has told it.
    pub day: Option<Date>,
    /// How often since it was published: what it then wrote nobody knows. Not in the headers.
    pub redelivered: u32,
    /// It is not looked at before this time (Unix milliseconds).
    pub not_before_ms: i64,
    /// When it went to sleep for the first time (Unix milliseconds); 0: not yet.
    pub(crate) first_at_ms: i64,
    /// The first thing that went wrong.
    pub first_error: Option<String>,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

impl Default for Attempt {
    fn default() -> Self {
        Self {
            number: 1,
            waits: 0,
            looks: 0,
            linked_bytes: 0,
            huge_bytes: 0,
            crashes: 0,
            day: None,
            redelivered: 0,
            not_before_ms: 0,
            first_at_ms: 0,
            first_error: None,
            last_error: None,
        }
    }
}

impl Attempt {
    /// Reads the headers; what is missing or of another type is as on a fresh message.
    pub(crate) fn of(headers: Option<&FieldTable>) -> Self {
        let Some(headers) = headers else {
            return Self::default();
        };
        let number = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongLongInt(number)) => Some(*number),
            // RabbitMQ writes its own as small as they are, in some versions.
            Some(AMQPValue::LongInt(number)) => Some((*number).into()),
            Some(AMQPValue::LongUInt(number)) => Some((*number).into()),
            _ => None,
        };
        let bytes = |name| number(name).and_then(|number| u64::try_from(number).ok());
        let count = |name| number(name).and_then(|number| u32::try_from(number).ok());
        let redelivered = count(DELIVERY_COUNT).unwrap_or(0);
        let text = |name: &str| match headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => Some(text.to_string()),
            _ => None,
        };
        Self {
            number: count(ATTEMPT).unwrap_or(1),
            waits: count(WAITS).unwrap_or(0),
            looks: count(LOOKS).unwrap_or(0),
            linked_bytes: bytes(LINKED_BYTES).unwrap_or(0),
            huge_bytes: bytes(HUGE_BYTES).unwrap_or(0),
            crashes: count(CRASHES).unwrap_or(0).saturating_add(redelivered),
            day: text(DAY).and_then(|day| day.parse().ok()),
            redelivered,
            not_before_ms: number(NOT_BEFORE).unwrap_or(0),
            first_at_ms: number(FIRST_AT).unwrap_or(0),
            first_error: text(FIRST_ERROR),
            last_error: text(LAST_ERROR),
        }
    }

    /// The headers of the next delivery.
    pub(crate) fn headers(&self) -> FieldTable {
        let mut table = FieldTable::default();
        let mut number = |name: &'static str, number: i64| {
            table.insert(name.into(), AMQPValue::LongLongInt(number));
        };
        number(ATTEMPT, self.number.into());
        number(WAITS, self.waits.into());
        number(LOOKS, self.looks.into());
        for (name, bytes) in [
            (LINKED_BYTES, self.linked_bytes),
            (HUGE_BYTES, self.huge_bytes),
        ] {
            number(name, i64::try_from(bytes).unwrap_or(i64::MAX));
        }
        number(CRASHES, self.crashes.into());
        number(NOT_BEFORE, self.not_before_ms);
        number(FIRST_AT, self.first_at_ms);
        if let Some(day) = self.day {
            table.insert(DAY.into(), AMQPValue::LongString(day.to_string().into()));
        }
        for (name, text) in [
            (FIRST_ERROR, &self.first_error),
            (LAST_ERROR, &self.last_error),
        ] {
            if let Some(text) = text {
                table.insert(name.into(), AMQPValue::LongString(text.as_str().into()));
            }
        }
        table
    }

    /// Notes what went wrong.
    pub(crate) fn note(&mut self, error: &str) {
        let error = cut(error).to_owned();
        self.first_error.get_or_insert_with(|| error.clone());
        self.last_error = Some(error);
    }

    /// The next delivery, and the tier in which the message sleeps until then: for `after`, or for
    /// as long as its number of waits says.
    pub(crate) fn next(mut self, after: Option<Duration>, now: Timestamp) -> (Self, WaitTier) {
        let tier = match after {
            Some(after) => WaitTier::within(after),
            None if self.waits < SHORT_WAITS => WaitTier::TenSeconds,
            None if self.waits < MIDDLE_WAITS => WaitTier::OneMinute,
            None => WaitTier::TenMinutes,
        };
        self.rest(after.unwrap_or_default(), now);
        self.number += 1;
        self.waits += 1;
        (self, tier)
    }

    /// The same where nothing could be tried.
    pub(crate) fn later(mut self, after: Duration, now: Timestamp) -> (Self, WaitTier) {
        self.rest(after, now);
        (self, WaitTier::within(after))
    }

    fn rest(&mut self, after: Duration, now: Timestamp) {
        let after = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
        self.not_before_ms = now.as_millisecond().saturating_add(after);
        if self.first_at_ms == 0 {
            self.first_at_ms = now.as_millisecond();
        }
    }

    /// A time in which it could have been looked at, and nobody was there, is none that it waited.
    pub(crate) fn forgive_absence(&mut self, now: Timestamp) {
        let late = now.as_millisecond() - self.not_before_ms;
        let is_absence = late > i64::try_from(ABSENCE.as_millis()).unwrap_or(i64::MAX);
        if self.first_at_ms > 0 && is_absence {
            self.first_at_ms += late;
        }
    }

    /// For how long it has been waiting. Not since the notice: a consumer that was down for days, or a
    /// dead letter that is tried anew, gives it all its time.
    pub(crate) fn waited(&self, now: Timestamp) -> Duration {
        let since = match self.first_at_ms {
            0 => 0,
            first => now.as_millisecond() - first,
        };
        Duration::from_millis(since.max(0).unsigned_abs())
    }

    /// How long the message must sleep on: it came back before its time, as a tier is shorter than
    /// the time that was asked for.
    pub(crate) fn early_by(&self, now: Timestamp) -> Option<Duration> {
        let left = self.not_before_ms - now.as_millisecond();
        (left > 0).then(|| Duration::from_millis(left.unsigned_abs()))
    }
}

/// A text as it may stand in a header.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_ERROR)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_written_into_headers_is_read_again() {
        let mut attempt = Attempt {
            looks: 2,
            linked_bytes: 4711,
            huge_bytes: 1 << 40,
            crashes: 3,
            day: Some("2026-11-24".parse().unwrap()),
            ..Attempt::default()
        };
        attempt.note("first");
        attempt.note(&"ä".repeat(LONGEST_ERROR));
        let (next, _) = attempt.next(Some(15 * SECOND), Timestamp::now());
        assert_eq!(Attempt::of(Some(&next.headers())), next);
        assert_eq!(next.first_error.as_deref(), Some("first"));
        assert!(next.last_error.unwrap().len() <= LONGEST_ERROR);
        assert_eq!(Attempt::of(None), Attempt::default());
    }

    #[test]
    fn a_message_comes_back_soon_at_first_and_seldom_later() {
        let tier = |waits| {
            let attempt = Attempt {
                waits,
                ..Attempt::default()
            };
            attempt.next(None, Timestamp::now()).1
        };
        assert_eq!(tier(0), WaitTier::TenSeconds);
        assert_eq!(tier(SHORT_WAITS), WaitTier::OneMinute);
        assert_eq!(tier(MIDDLE_WAITS), WaitTier::TenMinutes);
    }

    #[test]
    fn a_message_that_could_not_be_tried_has_lost_nothing_but_time() {
        let now = Timestamp::now();
        let (later, tier) = Attempt::default().later(25 * SECOND, now);
        assert_eq!(tier, WaitTier::TenSeconds);
        assert_eq!((later.number, later.waits), (1, 0));
        assert_eq!(later.early_by(now + 10 * SECOND), Some(15 * SECOND));
        assert_eq!(later.waited(now + 30 * SECOND).as_secs(), 30);
    }

    #[test]
    fn deliveries_in_vain_are_counted_on_over_wait_tiers() {
        let before = Attempt {
            crashes: 10,
            ..Attempt::default()
        };
        let mut headers = before.headers();
        assert_eq!(Attempt::of(Some(&headers)), before);
        headers.insert(DELIVERY_COUNT.into(), AMQPValue::LongLongInt(4));
        let attempt = Attempt::of(Some(&headers));
        assert_eq!((attempt.crashes, attempt.redelivered), (14, 4));
    }

    #[test]
    fn patience_counts_from_the_first_sleep() {
        let now = Timestamp::now();
        assert_eq!(Attempt::default().waited(now), Duration::ZERO);
        let (next, _) = Attempt::default().next(None, now);
        let (next, _) = next.next(None, now + 30 * SECOND);
        assert_eq!(next.waited(now + 40 * SECOND).as_secs(), 40);
    }

    #[test]
    fn a_time_in_which_no_consumer_was_there_is_not_waited() {
        let days = 24 * 3600 * SECOND;
        let now = Timestamp::now();
        let (next, _) = Attempt::default().next(Some(10 * SECOND), now);
        let comes = |after: Duration| {
            let mut next = next.clone();
            next.forgive_absence(now + after);
            next.waited(now + after).as_secs()
        };
        assert_eq!(
            comes(70 * SECOND),
            70,
            "a tier is longer than what was asked for"
        );
        assert_eq!(comes(4 * days), 10, "nobody took it for days");
        let mut fresh = Attempt::default();
        fresh.forgive_absence(now);
        assert_eq!(fresh, Attempt::default());
    }

    #[test]
    fn a_time_that_no_tier_has_is_slept_in_pieces() {
        let now = Timestamp::now();
        let (next, tier) = Attempt::default().next(Some(75 * SECOND), now);
        assert_eq!(tier, WaitTier::OneMinute);
        assert_eq!(next.early_by(now + 60 * SECOND), Some(15 * SECOND));
        assert_eq!(next.early_by(now + 75 * SECOND), None);
        assert_eq!(Attempt::default().early_by(now), None);
    }
}
