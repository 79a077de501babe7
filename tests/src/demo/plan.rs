//! Which jobs the demo has: those of the last days, with failures that come again and some that are new, and one for
//! each sample that runs now. The tests of what we ship for Kibana know by it what each search has to find.

use crate::samples::{self, Sample};

/// The project of the jobs that run now.
const PROJECT: &str = "acme/demo";
/// The runner of a sample.
const RUNNER: u64 = 7;
/// Its clock has run over, as those of 32 bits will in 2038: it is in 1901.
const RUNNER_OF_1901: u64 = 10;

/// A job.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its project's path.
    pub project: &'static str,
    /// What it writes, and how it ends.
    pub sample: Sample,
    /// How many days ago it ended; none for one that runs now.
    pub days_ago: u32,
    /// The id of its runner.
    pub runner: u64,
    /// What becomes of its log.
    pub fate: Fate,
    /// Whether another of the same project and sample came before.
    pub is_again: bool,
}

/// What becomes of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// All of its lines are indexed.
    Indexed,
    /// Elasticsearch takes none of its lines: it keeps no times before 1970.
    Rejected,
    /// The token of its notice is revoked.
    Forbidden,
}

impl Planned {
    /// The job's name: several runs of a sample have one, and of those that run now each has its own.
    pub fn name(&self) -> &str {
        match self.days_ago {
            0 => &self.sample.name,
            _ => self.sample.facts["name"].as_str().unwrap_or_default(),
        }
    }

    /// `CI_PROJECT_NAME`.
    pub fn project_name(&self) -> &'static str {
        self.project.rsplit('/').next().unwrap_or_default()
    }

    /// How many of its lines can be searched.
    pub fn lines(&self) -> anyhow::Result<u64> {
        match self.fate {
            Fate::Indexed => Ok(self.sample.expected()?.len() as u64),
            Fate::Rejected | Fate::Forbidden => Ok(0),
        }
    }

    /// How many of its lines are among the rejected.
    pub fn rejected(&self) -> anyhow::Result<u64> {
        match self.fate {
            Fate::Rejected => Ok(self.sample.expected()?.len() as u64),
            Fate::Indexed | Fate::Forbidden => Ok(0),
        }
    }
}

/// A sample of a project on a runner, and the days on which it ran.
type Past = (&'static str, &'static str, u64, &'static [u32]);

const PAST: [Past; 17] = [
    ("acme/shop", "pytest.ts", 8, &[5, 4, 2, 1]),
    ("acme/shop", "hello.ts", 8, &[5, 3, 2, 1]),
    ("acme/shop", "apt-reinstall.ts", 9, &[4, 1]),
    ("acme/shop", "timeout.ts", 9, &[3]),
    ("acme/shop", "artifacts-cache.ts", 8, &[2]),
    ("acme/api", "cargo-build.ts", 8, &[5, 3]),
    ("acme/api", "gcc-errors.ts", 8, &[2]),
    ("acme/api", "sections.ts", 9, &[4, 2]),
    ("acme/api", "curl-progress.ts", 9, &[3]),
    ("acme/api", "pytest.ts", 9, &[1]),
    ("acme/api", "go-test.ts", 8, &[1]),
    ("acme/firmware", "make-j2.ts", 9, &[4, 1]),
    ("acme/firmware", "command-not-found.ts", 9, &[3]),
    ("acme/firmware", "cancel-graceful.ts", 9, &[3]),
    ("acme/firmware", "log-limit.ts", 8, &[2]),
    ("acme/firmware", "unicode.ts", RUNNER_OF_1901, &[1]),
    ("acme/firmware", "masked.ts", 8, &[1]),
];
/// Whose notice brings a token that is revoked.
const FORBIDDEN: (&str, &str) = ("acme/firmware", "masked.ts");

/// All of them, those of the past first and in the order of their days.
pub fn all() -> Vec<Planned> {
    let mut past: Vec<Planned> = PAST
        .iter()
        .flat_map(|(project, sample, runner, days)| {
            days.iter().enumerate().map(|(number, days_ago)| Planned {
                project,
                sample: samples::named(sample),
                days_ago: *days_ago,
                runner: *runner,
                fate: match *runner {
                    RUNNER_OF_1901 => Fate::Rejected,
                    _ if (*project, *sample) == FORBIDDEN => Fate::Forbidden,
                    _ => Fate::Indexed,
                },
                is_again: number > 0,
            })
        })
        .collect();
    past.sort_by_key(|job| std::cmp::Reverse(job.days_ago));
    let now = samples::all().into_iter().map(|sample| Planned {
        project: PROJECT,
        runner: RUNNER,
        sample,
        days_ago: 0,
        fate: Fate::Indexed,
        is_again: false,
    });
    past.extend(now);
    past
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_come_again_and_in_several_projects_and_every_sample_runs() {
        let all = all();
        let of = |sample: &str| all.iter().filter(|it| it.sample.name == sample).count();
        assert_eq!(of("pytest.ts"), 6);
        assert!(samples::all().iter().all(|it| of(&it.name) > 0));
        let fates = |fate| all.iter().filter(|it| it.fate == fate).count();
        assert_eq!((fates(Fate::Rejected), fates(Fate::Forbidden)), (1, 1));
        assert!(all.is_sorted_by_key(|it| std::cmp::Reverse(it.days_ago)));
    }
}
