//! The runner's line header (`FF_TIMESTAMPS`): `2026-01-21T09:47:26.583005Z 00O+`, always 32 bytes.
//!
//! Grammar: gitlab-runner `common/buildlogger/internal/timestamper`; the digits are checked as
//! GitLab's `TIMESTAMP_HEADER_REGEX` does.

use crate::Stream;

/// Length of a header in bytes.
pub(crate) const HEADER_LEN: usize = 32;

/// A header, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Nanoseconds since the Unix epoch; `None` for a date that is none (month 13).
    pub(crate) time: Option<i64>,
    pub(crate) number: u8,
    pub(crate) stream: Stream,
    /// `+`: goes on where the previous line of the same stream ended.
    pub(crate) continues: bool,
}

/// Reads headers; remembers the last date, which most lines share.
#[derive(Debug, Default)]
pub(crate) struct HeaderReader {
    date: [u8; 10],
    midnight: Option<i64>,
}

impl HeaderReader {
    /// The header at the start of `bytes`, if there is a whole one.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<Header> {
        let head: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        if !has_shape(head) {
            return None;
        }
        let date: &[u8; 10] = head.first_chunk()?;
        if *date != self.date {
            self.midnight = midnight(date);
            self.date = *date;
        }
        Some(Header {
            time: self.midnight.and_then(|day| time_of_day(head, day)),
            number: hex(head[28])? << 4 | hex(head[29])?,
            stream: match head[30] {
                b'O' => Stream::Stdout,
                b'E' => Stream::Stderr,
                _ => return None,
            },
            continues: match head[31] {
                b'+' => true,
                b' ' => false,
                _ => return None,
            },
        })
    }
}

/// Whether punctuation and digits of the time stand where they must.
fn has_shape(head: &[u8; HEADER_LEN]) -> bool {
    const LOWEST: &[u8; 28] = b"0000-00-00T00:00:00.000000Z ";
    const HIGHEST: &[u8; 28] = b"9999-19-39T29:59:59.999999Z ";
    let mut outside = false;
    for i in 0..28 {
        outside |= head[i] < LOWEST[i] || head[i] > HIGHEST[i];
    }
    !outside
}

const fn digits2(bytes: &[u8], at: usize) -> i64 {
    (bytes[at] - b'0') as i64 * 10 + (bytes[at + 1] - b'0') as i64
}

/// Nanoseconds at 00:00 UTC of a date, if the calendar has it.
fn midnight(date: &[u8; 10]) -> Option<i64> {
    let year = digits2(date, 0) * 100 + digits2(date, 2);
    let (month, day) = (digits2(date, 5), digits2(date, 8));
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    // Days from civil, for years from March so that the leap day is the last:
    // https://howardhinnant.github.io/date_algorithms.html#days_from_civil
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * 146_097 + day_of_era - 719_468;
    days.checked_mul(86_400_000_000_000)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn time_of_day(head: &[u8; HEADER_LEN], midnight: i64) -> Option<i64> {
    let hour = digits2(head, 11);
    if hour > 23 {
        return None;
    }
    let seconds = hour * 3600 + digits2(head, 14) * 60 + digits2(head, 17);
    let micros = digits2(head, 20) * 10_000 + digits2(head, 22) * 100 + digits2(head, 24);
    midnight.checked_add(seconds * 1_000_000_000 + micros * 1_000)
}

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Header> {
        HeaderReader::default().read(text.as_bytes())
    }

    #[test]
    fn reads_time_stream_and_flag() {
        assert_eq!(
            read("2026-01-21T09:47:26.583005Z 0fE+rest"),
            Some(Header {
                time: Some(1_768_988_846_583_005_000),
                number: 15,
                stream: Stream::Stderr,
                continues: true,
            })
        );
    }

    #[test]
    fn dates_around_leap_days_and_the_epoch() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00", 0),
            ("1969-12-31T23:59:59", -1),
            ("2000-02-29T12:00:00", 951_825_600),
            ("2024-03-01T00:00:00", 1_709_251_200),
            ("2100-02-28T00:00:00", 4_107_456_000),
        ] {
            let time = read(&format!("{text}.000000Z 00O ")).and_then(|header| header.time);
            assert_eq!(time, Some(seconds * 1_000_000_000), "{text}");
        }
    }

    #[test]
    fn a_date_that_the_calendar_lacks_is_a_header_without_a_time() {
        for date in ["2023-02-29", "2026-13-01", "2026-00-10", "9999-01-01"] {
            let header = read(&format!("{date}T00:00:00.000000Z 00O "));
            assert_eq!(header.map(|header| header.time), Some(None), "{date}");
        }
        let header = read("2026-01-01T25:00:00.000000Z 00O ");
        assert_eq!(header.map(|header| header.time), Some(None));
    }

    #[test]
    fn anything_else_is_no_header() {
        for text in [
            "",
            "2026-01-21T09:47:26.583005Z 00O",
            "2026-01-21T09:47:26.583005Z 00X ",
            "2026-01-21T09:47:26.583005Z 0FO ",
            "2026-01-21T09:47:26.583005Z 00O-",
            "2026-01-21 09:47:26.583005Z 00O ",
            "2026-01-21T09:67:26.583005Z 00O ",
            "2026-01-21T09:47:26.58300Z 00O  ",
            "x2026-01-21T09:47:26.583005Z 00O ",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
