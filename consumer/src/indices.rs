//! Which indices are ours: the patterns that templates, roles and retention have, and how a name is read back.

use clap::ValueEnum;
use jiff::civil::Date;
use notice::{IndexName, IndexPatterns};

/// How many bytes a date has in a name.
const DATE: usize = "YYYY-MM-DD".len();

/// Where the date stands in an index's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DatePlace {
    /// `YYYY-MM-DD-NAME`.
    Prefix,
    /// `NAME-YYYY-MM-DD`.
    Suffix,
}

/// How indices are named.
#[derive(Debug, Clone)]
pub struct Naming {
    /// The configured name.
    pub name: IndexName,
    /// Where the date stands.
    pub date: DatePlace,
}

/// What an index is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Lines of logs.
    Lines,
    /// Manifests of jobs.
    Jobs,
    /// Lines that Elasticsearch did not take.
    Rejected,
}

impl Kind {
    /// The more special ones come later: `*-team-*` takes `…-team-a-jobs` too.
    pub(crate) const ALL: [Self; 3] = [Self::Lines, Self::Jobs, Self::Rejected];

    /// What comes after NAME.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::Lines => "",
            Self::Jobs => "-jobs",
            Self::Rejected => "-rejected",
        }
    }
}

/// The names that our indices have.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    /// The configured name, and where the date stands.
    pub naming: Naming,
    /// The names that callers may ask for, the configured one among them.
    pub asked: IndexPatterns,
}

/// What an index's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Named {
    /// It is one of ours, of jobs that ended on this day.
    Ours(Date),
    /// It is somebody else's, of this day if it names one.
    Foreign(Option<Date>),
}

impl Names {
    /// What all that we keep in the cluster is called, and what comes after that.
    pub(crate) fn object(&self, suffix: &str) -> String {
        format!("joblogs-{}{suffix}", self.naming.name)
    }

    /// Index patterns of a kind. Dates begin with 20 for a long time to come, and without it a pattern
    /// would take indices that are none of ours.
    pub(crate) fn patterns(&self, kind: Kind) -> Vec<String> {
        let suffix = kind.suffix();
        let names = self.asked.template_patterns();
        let pattern = |name| match self.naming.date {
            DatePlace::Prefix => format!("20*-{name}{suffix}"),
            DatePlace::Suffix => format!("{name}{suffix}-20*"),
        };
        names.map(pattern).collect()
    }

    /// What the name of an index says, which may have been found by a pattern that takes more than ours.
    pub(crate) fn read(&self, index: &str) -> Named {
        let Some((date, name)) = self.split(index) else {
            return Named::Foreign(None);
        };
        let suffixes = [Kind::Jobs, Kind::Rejected].map(Kind::suffix);
        let bare = suffixes.iter().find_map(|it| name.strip_suffix(it));
        match IndexName::parse(bare.unwrap_or(name)) {
            Ok(name) if self.asked.allow(&name) => Named::Ours(date),
            _ => Named::Foreign(Some(date)),
        }
    }

    /// What an index of ours is for.
    pub(crate) fn kind(&self, index: &str) -> Option<Kind> {
        let Named::Ours(_) = self.read(index) else {
            return None;
        };
        let (_, name) = self.split(index)?;
        let mut kinds = Kind::ALL.into_iter().rev();
        kinds.find(|kind| name.ends_with(kind.suffix()))
    }

    fn split<'a>(&self, index: &'a str) -> Option<(Date, &'a str)> {
        let (date, name) = match self.naming.date {
            DatePlace::Prefix => {
                let (date, rest) = index.split_at_checked(DATE)?;
                (date, rest.strip_prefix('-')?)
            }
            DatePlace::Suffix => {
                let (rest, date) = index.split_at_checked(index.len().checked_sub(DATE)?)?;
                (date, rest.strip_suffix('-')?)
            }
        };
        let day: Date = date.parse().ok()?;
        // Other spellings of a day are none of ours.
        (day.to_string() == date).then_some((day, name))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn names(place: DatePlace) -> Names {
        let name = IndexName::parse("joblogs").unwrap();
        Names {
            asked: IndexPatterns::parse("team-?").unwrap().and(&name),
            naming: Naming { name, date: place },
        }
    }

    #[test]
    fn patterns_cover_the_configured_name_and_those_that_callers_may_ask_for() {
        assert_eq!(
            names(DatePlace::Prefix).patterns(Kind::Jobs),
            ["20*-team-*-jobs", "20*-joblogs-jobs"]
        );
        assert_eq!(
            names(DatePlace::Suffix).patterns(Kind::Lines),
            ["team-*-20*", "joblogs-20*"]
        );
    }

    #[test]
    fn our_names_are_read_back_and_similar_ones_are_foreign() {
        let day = date(2026, 10, 1);
        let prefix = names(DatePlace::Prefix);
        for (index, read) in [
            ("2026-10-01-joblogs", Named::Ours(day)),
            ("2026-10-01-joblogs-jobs", Named::Ours(day)),
            ("2026-10-01-joblogs-rejected", Named::Ours(day)),
            ("2026-10-01-team-a", Named::Ours(day)),
            ("2026-10-01-team-ab", Named::Foreign(Some(day))),
            ("2026-10-01-my-joblogs", Named::Foreign(Some(day))),
            ("2026-10-01-joblogs-jobs-jobs", Named::Foreign(Some(day))),
            ("2026-10-01-joblogs2", Named::Foreign(Some(day))),
            ("2026-10-01-", Named::Foreign(Some(day))),
            ("joblogs-2026-10-01", Named::Foreign(None)),
            ("2026-13-01-joblogs", Named::Foreign(None)),
            ("2026.10.01-joblogs", Named::Foreign(None)),
            ("2026-1001--joblogs", Named::Foreign(None)),
            ("20-joblogs", Named::Foreign(None)),
            ("2026-10-0ä-joblogs", Named::Foreign(None)),
        ] {
            assert_eq!(prefix.read(index), read, "{index}");
        }
        for (index, kind) in [
            ("2026-10-01-joblogs", Some(Kind::Lines)),
            ("2026-10-01-team-a-jobs", Some(Kind::Jobs)),
            ("2026-10-01-joblogs-rejected", Some(Kind::Rejected)),
            ("2026-10-01-team-ab-jobs", None),
        ] {
            assert_eq!(prefix.kind(index), kind, "{index}");
        }
        let suffix = names(DatePlace::Suffix);
        for (index, read) in [
            ("joblogs-2026-10-01", Named::Ours(day)),
            ("joblogs-jobs-2026-10-01", Named::Ours(day)),
            ("team-x-rejected-2026-10-01", Named::Ours(day)),
            ("joblogs-old-2026-10-01", Named::Foreign(Some(day))),
            ("2026-10-01-joblogs", Named::Foreign(None)),
            ("x", Named::Foreign(None)),
        ] {
            assert_eq!(suffix.read(index), read, "{index}");
        }
    }
}
