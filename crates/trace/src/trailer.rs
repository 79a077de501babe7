//! The runner's last words, by which a whole trace is told from a cut one.
//!
//! gitlab-runner `common/build.go` `setTraceStatus`, `helpers/trace/buffer.go` (the limit notice).

use crate::Stream;
use crate::style::{Colour, Style};

/// How the runner ended the trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trailer {
    /// `Job succeeded`
    Succeeded,
    /// `ERROR: Job failed: REASON`
    Failed {
        /// The runner's words: `exit code 1`.
        reason: String,
    },
    /// `ERROR: Job failed (system failure): REASON`
    SystemFailure {
        /// The runner's words.
        reason: String,
    },
    /// `ERROR: Job failed: canceled`
    Canceled,
    /// `ERROR: Job failed: execution took longer than …` and the runner's other timeouts.
    TimedOut {
        /// The runner's words.
        reason: String,
    },
    /// `Job's log exceeded limit of N bytes.`: nothing follows it, whatever the job did.
    LimitExceeded {
        /// The limit.
        bytes: u64,
    },
}

impl Trailer {
    /// The name in a document.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed { .. } => "failed",
            Self::SystemFailure { .. } => "system_failure",
            Self::Canceled => "canceled",
            Self::TimedOut { .. } => "timed_out",
            Self::LimitExceeded { .. } => "limit_exceeded",
        }
    }

    /// The runner's reason, where it gave one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason }
            | Self::SystemFailure { reason }
            | Self::TimedOut { reason } => Some(reason),
            Self::Canceled => Some("canceled"),
            Self::Succeeded | Self::LimitExceeded { .. } => None,
        }
    }
}

const SUCCEEDED: &str = "Job succeeded";
const FAILED: &str = "ERROR: Job failed";
const LIMIT: &str = "Job's log exceeded limit of ";
const LIMIT_END: &str = "Job execution will continue but no more output will be collected.";
/// Bytes of a reason that are kept; some hold the whole answer of a container registry.
const LONGEST_REASON: usize = 4096;

/// Stages of the runner, whose sections it closes before the trailer.
const STAGES: [&str; 11] = [
    "resolve_secrets",
    "prepare_executor",
    "prepare_script",
    "get_sources",
    "clear_worktree",
    "restore_cache",
    "download_artifacts",
    "build_script",
    "after_script",
    "archive_cache",
    "cleanup_file_variables",
];

/// What of a line decides whether it is a trailer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) text: &'a str,
    /// The pen at its first character.
    pub(crate) style: Style,
    pub(crate) stream: Option<(Stream, u8)>,
    /// Whether the trace is timestamped.
    pub(crate) timestamped: bool,
    /// The innermost open section.
    pub(crate) section: Option<&'a str>,
}

/// Watches lines go by; a trailer holds only as long as nothing follows it.
#[derive(Debug, Default)]
pub(crate) struct TrailerWatch {
    last: Option<Trailer>,
}

impl TrailerWatch {
    /// Sees the next line.
    #[inline]
    pub(crate) fn see(&mut self, line: &Candidate<'_>) {
        let could_begin = matches!(line.text.as_bytes().first(), Some(b'J' | b'E'));
        if could_begin || self.last.is_some() {
            self.look(line);
        }
    }

    fn look(&mut self, line: &Candidate<'_>) {
        let trailer = read(line);
        if trailer.is_none() && self.last.as_ref().is_some_and(|last| continues(last, line)) {
            return;
        }
        self.last = trailer;
    }

    /// The trailer, if the trace ended in one.
    pub(crate) fn finish(self) -> Option<Trailer> {
        self.last
    }
}

/// Whether `line` still belongs to the trailer before it.
fn continues(last: &Trailer, line: &Candidate<'_>) -> bool {
    match last {
        Trailer::LimitExceeded { .. } => line.text == LIMIT_END,
        Trailer::Succeeded | Trailer::Canceled => false,
        // A reason of several lines: the runner resets its colour only after the last.
        _ => by_runner(line, Colour::Red),
    }
}

fn read(line: &Candidate<'_>) -> Option<Trailer> {
    if let Some(rest) = line.text.strip_prefix(LIMIT) {
        let bytes = rest.strip_suffix(" bytes.")?.parse().ok()?;
        let genuine = if line.timestamped {
            line.stream.is_none()
        } else {
            line.style == bold(Colour::Yellow)
        };
        return genuine.then_some(Trailer::LimitExceeded { bytes });
    }
    if line.text == SUCCEEDED {
        return by_runner(line, Colour::Green).then_some(Trailer::Succeeded);
    }
    let rest = line.text.strip_prefix(FAILED)?;
    if !by_runner(line, Colour::Red) {
        return None;
    }
    if let Some(reason) = rest.strip_prefix(" (system failure): ") {
        let reason = kept(reason);
        return Some(Trailer::SystemFailure { reason });
    }
    Some(failed(rest.strip_prefix(": ")?))
}

/// Whether the runner itself wrote the line: on its own stream, or else in its colour while none of
/// its stages was running.
fn by_runner(line: &Candidate<'_>, colour: Colour) -> bool {
    if line.timestamped {
        return line.stream.is_some_and(|(_, number)| number == 0);
    }
    line.style == bold(colour) && !line.section.is_some_and(is_stage)
}

const fn bold(colour: Colour) -> Style {
    Style { colour, bold: true }
}

fn is_stage(section: &str) -> bool {
    STAGES.contains(&section)
        || section.starts_with("step_")
        || section.starts_with("upload_artifacts")
        || section.starts_with("archive_cache")
}

fn failed(reason: &str) -> Trailer {
    const TIMEOUTS: [&str; 4] = [
        "execution took longer than ",
        "script timeout: ",
        "prepare timeout: ",
        "exceeded timeout of ",
    ];
    if reason == "canceled" {
        return Trailer::Canceled;
    }
    let timed_out = TIMEOUTS.iter().any(|start| reason.starts_with(start));
    let reason = kept(reason);
    if timed_out {
        Trailer::TimedOut { reason }
    } else {
        Trailer::Failed { reason }
    }
}

fn kept(reason: &str) -> String {
    reason[..reason.floor_char_boundary(LONGEST_REASON)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNER: Option<(Stream, u8)> = Some((Stream::Stdout, 0));
    const SCRIPT: Option<(Stream, u8)> = Some((Stream::Stdout, 1));

    fn timestamped(text: &str, stream: Option<(Stream, u8)>) -> Candidate<'_> {
        Candidate {
            text,
            style: Style::default(),
            stream,
            timestamped: true,
            section: None,
        }
    }

    fn plain(text: &str, colour: Colour, section: Option<&'static str>) -> Candidate<'static> {
        let text = Box::leak(text.to_owned().into_boxed_str());
        Candidate {
            text,
            style: bold(colour),
            stream: None,
            timestamped: false,
            section,
        }
    }

    fn last(lines: &[Candidate<'_>]) -> Option<Trailer> {
        let mut watch = TrailerWatch::default();
        for line in lines {
            watch.see(line);
        }
        watch.finish()
    }

    #[test]
    fn each_ending_has_its_name() {
        for (text, name) in [
            ("Job succeeded", "succeeded"),
            ("ERROR: Job failed: exit code 1", "failed"),
            (
                "ERROR: Job failed (system failure): no space left",
                "system_failure",
            ),
            ("ERROR: Job failed: canceled", "canceled"),
            (
                "ERROR: Job failed: execution took longer than 1h0m0s seconds",
                "timed_out",
            ),
        ] {
            let trailer = last(&[timestamped(text, RUNNER)]);
            assert_eq!(trailer.as_ref().map(Trailer::as_str), Some(name), "{text}");
        }
        let limit = timestamped("Job's log exceeded limit of 4194304 bytes.", None);
        let trailer = last(&[limit, timestamped(LIMIT_END, None)]);
        assert_eq!(trailer, Some(Trailer::LimitExceeded { bytes: 4_194_304 }));
    }

    #[test]
    fn what_follows_unmakes_it() {
        let ending = timestamped("Job succeeded", RUNNER);
        assert_eq!(last(&[ending, timestamped("more", SCRIPT)]), None);
        let limit = timestamped("Job's log exceeded limit of 9 bytes.", None);
        assert_eq!(last(&[limit, timestamped("more", SCRIPT)]), None);
    }

    #[test]
    fn the_scripts_own_words_are_none() {
        assert_eq!(last(&[timestamped("Job succeeded", SCRIPT)]), None);
        assert_eq!(last(&[timestamped("ERROR: Job failed: no", SCRIPT)]), None);
        assert_eq!(
            last(&[timestamped("Job's log exceeded limit of 9 bytes.", SCRIPT)]),
            None
        );
        assert_eq!(last(&[plain("Job succeeded", Colour::Plain, None)]), None);
        assert_eq!(
            last(&[plain("Job succeeded", Colour::Green, Some("step_script"))]),
            None
        );
        assert_eq!(last(&[plain("Job succeeded!", Colour::Green, None)]), None);
    }

    #[test]
    fn in_a_plain_trace_the_colour_tells() {
        let ending = plain(
            "Job succeeded",
            Colour::Green,
            Some("left_open_by_the_script"),
        );
        assert_eq!(last(&[ending]), Some(Trailer::Succeeded));
        let limit = plain(
            "Job's log exceeded limit of 9 bytes.",
            Colour::Yellow,
            Some("step_script"),
        );
        assert_eq!(last(&[limit]), Some(Trailer::LimitExceeded { bytes: 9 }));
    }

    #[test]
    fn a_reason_may_go_on_in_the_same_colour() {
        let first = plain("ERROR: Job failed: pull failed:", Colour::Red, None);
        let more = plain("(manager.go:237:0s)", Colour::Red, None);
        let reason = "pull failed:".to_owned();
        assert_eq!(last(&[first, more]), Some(Trailer::Failed { reason }));
    }
}
