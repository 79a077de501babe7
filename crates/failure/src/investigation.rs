//! One pass over the lines of a job that failed. What is kept of them does not grow with the log.

use std::sync::{Arc, LazyLock};

use regex::Regex;
use trace::Line;

use crate::{
    Class,
    block::Block,
    decide,
    rules::{Rules, Strength},
    stage::{self, Stage},
};

/// Bytes of a line's text that are kept.
const LONGEST: usize = 1024;
/// How the runner's last words begin when the job failed.
const FAILED: &str = "ERROR: Job failed";
/// Lines that are kept from there on: some reasons hold a server's whole answer.
const MOST_CLOSING: usize = 8;

/// A line that says something of the failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelevantLine {
    /// As [`Line::number`].
    pub number: u64,
    /// As [`Line::offset`].
    pub offset: u64,
    /// As [`Line::section`].
    pub section: Option<String>,
    /// The text, at most 1 KiB of it.
    pub text: String,
}

impl RelevantLine {
    pub(crate) fn of(line: &Line<'_>) -> Self {
        Self {
            number: line.number,
            offset: line.offset,
            section: line.section.map(str::to_owned),
            text: line.text[..line.text.floor_char_boundary(LONGEST)].to_owned(),
        }
    }
}

/// What GitLab says of how the job ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// The job's status: `failed` or `canceled`.
    pub status: &'a str,
    /// GitLab's own reason, an open list.
    pub failure_reason: Option<&'a str>,
}

/// Why the job failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of failure it is.
    pub class: Class,
    /// The id of the rule that decided; `None` where none knows the failure.
    pub rule: Option<String>,
    /// [`signature`](crate::signature) of `pattern`.
    pub signature: String,
    /// The first relevant line without what differs each time.
    pub pattern: String,
    /// The line that the pattern was made of; `None` where the log has no line.
    pub first: Option<RelevantLine>,
    /// The lines that matter, in order, at most 40.
    pub lines: Vec<RelevantLine>,
}

/// Sees the lines of a trace, in order.
#[derive(Debug, Clone)]
pub struct Investigation {
    rules: Arc<Rules>,
    /// Whether a stage of the runner in which a job can fail was seen.
    has_stages: bool,
    /// The command that runs.
    current: Block,
    /// The one before it that printed anything.
    previous: Option<Block>,
    /// The last one before that in which a rule saw a failure.
    earlier: Option<Block>,
    /// The runner's last words.
    closing: Vec<RelevantLine>,
}

impl Investigation {
    /// An investigation that has seen nothing yet.
    pub fn new(rules: Arc<Rules>) -> Self {
        Self {
            rules,
            has_stages: false,
            current: Block::default(),
            previous: None,
            earlier: None,
            closing: Vec::new(),
        }
    }

    /// Sees the next line.
    pub fn see(&mut self, line: &Line<'_>) {
        match stage::of(line) {
            Stage::Work(name) => {
                self.closing.clear();
                self.has_stages = true;
                self.see_work(name, line);
            }
            Stage::Aftermath => self.closing.clear(),
            Stage::Between => {
                if line.text.starts_with(FAILED) {
                    self.closing.clear();
                    self.closing.push(RelevantLine::of(line));
                } else if !self.closing.is_empty() && self.closing.len() < MOST_CLOSING {
                    self.closing.push(RelevantLine::of(line));
                } else if !self.has_stages {
                    self.see_work("", line);
                }
            }
        }
    }

    fn see_work(&mut self, stage: &str, line: &Line<'_>) {
        if self.current.stage != stage {
            // What went before it went well, or the job would not have come so far.
            self.current = Block::of_stage(stage);
            self.previous = None;
            self.earlier = None;
        }
        if line.is_command {
            let ended = std::mem::replace(&mut self.current, Block::of_command(stage, line));
            self.retire(ended);
        } else if !line.section_header {
            self.current.see(line, &self.rules);
        }
    }

    fn retire(&mut self, ended: Block) {
        let command = ended.command.as_ref().map_or("", |it| it.text.as_str());
        if ended.output == 0 || is_forgiven(command) {
            return;
        }
        if let Some(before) = self.previous.replace(ended)
            && decide::knows_a_failure(&before, &self.rules)
        {
            self.earlier = Some(before);
        }
    }

    /// What became clear.
    pub fn conclude(self, ending: &Ending<'_>) -> Finding {
        let rules = self.rules.clone();
        let closing = self.closing.clone();
        let block = self.decisive_block();
        decide::find(&rules, &block, &closing, ending)
    }

    /// The command that failed: the last one, unless that only hands on how another one ended, or has not
    /// said anything and the one before it ended in what a rule knows (its last words come by another way
    /// than the next command's echo, and may overtake it).
    fn decisive_block(self) -> Block {
        if decide::knows_a_failure(&self.current, &self.rules) {
            return self.current;
        }
        let command = self
            .current
            .command
            .as_ref()
            .map_or("", |it| it.text.as_str());
        let hands_on = hands_on(command);
        let is_silent = self.current.output == 0;
        let rules = &self.rules;
        let overtook = |before: &Block| {
            let last = before.tail.back();
            is_silent && last.is_some_and(|it| is_of_shell(&it.text))
        };
        let mut before = [self.previous, self.earlier].into_iter().flatten();
        let failed = before.find(|before| {
            hands_on && decide::knows_a_failure(before, rules)
                || overtook(before) && decide::ends_in_failure(before, rules)
        });
        match failed {
            Some(before) => Block {
                command: before.command.or(self.current.command),
                ..before
            },
            None => self.current,
        }
    }
}

/// `$ exit $status`, `$ test "$failed" = 0`: how an earlier command ended becomes the script's own end.
fn hands_on(command: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"\bexit\b.*\$|\$ .*\$.*\bexit\b|^\$ (?:test|\[\[?|\(\() *"?\$"#;
        Regex::new(pattern).expect("a pattern")
    });
    PATTERN.is_match(command)
}

/// `bash: line 3: x: command not found`: what the shell itself says ends a script at once.
fn is_of_shell(text: &str) -> bool {
    let name = text.split(':').next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or_default();
    matches!(name, "bash" | "sh" | "dash" | "ash" | "ksh" | "zsh")
}

/// `$ command || true`: how it ended counts for nothing.
fn is_forgiven(command: &str) -> bool {
    let end = command.rsplit("||").next().unwrap_or_default().trim();
    end.len() < command.len() && matches!(end, "true" | ":" | "exit 0")
}

/// Whether a match may decide by itself.
pub(crate) fn is_strong(rules: &Rules, rule: usize) -> bool {
    rules.get(rule).strength > Strength::Hint
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "main.c:3:1: error: 'x' undeclared";
    const MISSING: &str = "cat: a.txt: No such file or directory";
    const END: &str = "\u{1b}[31;1mERROR: Job failed: exit code 1\u{1b}[0;m";

    fn command(text: &str) -> String {
        format!("\u{1b}[32;1m$ {text}\u{1b}[0;m")
    }

    /// A log of these stages, each a name and its lines.
    fn log(stages: &[(&str, &[&str])]) -> String {
        let of = |(name, lines): &(&str, &[&str])| {
            let start = format!("section_start:1795476787:{name}\r\u{1b}[0KBegin\n");
            let end = format!("section_end:1795476787:{name}\r\u{1b}[0K");
            start + &lines.join("\n") + "\n" + &end
        };
        stages.iter().map(of).collect::<String>() + END + "\n"
    }

    fn rules() -> Arc<Rules> {
        static RULES: LazyLock<Arc<Rules>> = LazyLock::new(|| Arc::new(Rules::ours().unwrap()));
        RULES.clone()
    }

    fn finding(log: &str) -> Finding {
        let mut investigation = Investigation::new(rules());
        let mut parser = trace::Parser::new(trace::Options::default());
        parser.push(log.as_bytes(), &mut |line| investigation.see(&line));
        parser.finish(&mut |line| investigation.see(&line));
        investigation.conclude(&Ending {
            status: "failed",
            failure_reason: Some("script_failure"),
        })
    }

    #[test]
    fn what_counts_is_the_command_that_failed() {
        let (make, cat, silent) = (command("make"), command("cat a.txt"), command("test -f b"));
        let forgiven = command("cat a.txt || true");
        let hands_on = command("exit $status");
        for (what, lines, class) in [
            (
                "the last one",
                &[&*make, CODE, &*cat, MISSING][..],
                Class::Configuration,
            ),
            (
                "not one before it",
                &[&*cat, MISSING, &*make, CODE],
                Class::Code,
            ),
            (
                "nor one that went well",
                &[&*make, CODE, &*make, "fine", &*silent],
                Class::Unknown,
            ),
            (
                "what is handed on",
                &[&*make, CODE, &*make, "a summary", &*hands_on],
                Class::Code,
            ),
            (
                "nothing that is forgiven",
                &[&*forgiven, MISSING, &*make, "sum", &*hands_on],
                Class::Unknown,
            ),
            (
                "last words that overtake the echo",
                &[
                    &*make,
                    "fine",
                    "bash: line 3: helmm: command not found",
                    &*silent,
                ],
                Class::Configuration,
            ),
        ] {
            assert_eq!(
                finding(&log(&[("step_script", lines)])).class,
                class,
                "{what}"
            );
        }
    }

    #[test]
    fn what_counts_is_the_stage_that_failed() {
        let git = "fatal: unable to access 'https://g/': Could not resolve host: g";
        let script = (
            "step_script",
            &["bash: line 3: helmm: command not found"][..],
        );
        for (what, stages, class) in [
            (
                "the sources",
                &[("get_sources", &[git][..])][..],
                Class::Infrastructure,
            ),
            (
                "not what went well",
                &[("get_sources", &[git]), script],
                Class::Configuration,
            ),
            (
                "nor what came after",
                &[script, ("after_script", &[CODE])],
                Class::Configuration,
            ),
            (
                "nor the caches",
                &[script, ("archive_cache_on_failure", &[git])],
                Class::Configuration,
            ),
            (
                "artifacts, once the script went well",
                &[
                    script,
                    (
                        "upload_artifacts_on_success",
                        &["ERROR: No files to upload"],
                    ),
                ],
                Class::Configuration,
            ),
        ] {
            let finding = finding(&log(stages));
            assert_eq!(finding.class, class, "{what}: {finding:#?}");
        }
        let uploaded = finding(&log(&[
            script,
            (
                "upload_artifacts_on_success",
                &["ERROR: No files to upload"],
            ),
        ]));
        assert_eq!(uploaded.rule.as_deref(), Some("artifacts-refused"));
    }

    #[test]
    fn a_log_without_stages_or_lines_has_a_finding_too() {
        assert_eq!(finding(&format!("{CODE}\n")).class, Class::Code);
        let nothing = finding("");
        assert_eq!(
            (nothing.class, nothing.first, nothing.lines.len()),
            (Class::Unknown, None, 0)
        );
    }

    #[test]
    fn causes_outweigh_what_follows_from_them() {
        let full = "dd: error writing 'x': No space left on device";
        let lines = &[full, CODE, "make: *** [all] Error 1"][..];
        let finding = finding(&log(&[("step_script", lines)]));
        assert_eq!(
            (finding.class, finding.rule.as_deref()),
            (Class::Infrastructure, Some("disk-full"))
        );
        assert_eq!(finding.first.unwrap().text, full);
    }

    #[test]
    fn what_is_kept_does_not_grow_with_the_log() {
        let many = vec![CODE; 10_000];
        let finding = finding(&log(&[("step_script", &many)]));
        assert!(finding.lines.len() <= 40, "{}", finding.lines.len());
        let last = finding.lines.last().unwrap();
        assert!(last.text.starts_with(FAILED), "{last:?}");
        assert_eq!(finding.first.unwrap().number, 2);
    }

    #[test]
    fn what_the_runner_says_itself_counts_before_what_the_script_printed() {
        let script = log(&[("step_script", &[&*command("./ci.sh"), CODE, "retrying"])]);
        for (words, class) in [
            (
                " (system failure): pods \"x\" not found",
                Class::Infrastructure,
            ),
            (
                ": execution took longer than 1h0m0s seconds",
                Class::Timeout,
            ),
            (
                ": script timeout: context deadline exceeded",
                Class::Timeout,
            ),
            (": canceled", Class::Cancelled),
        ] {
            let finding = finding(&script.replace(": exit code 1", words));
            assert_eq!(finding.class, class, "{words}: {finding:#?}");
        }
        let lost = script.replace(": exit code 1", " (system failure): pods \"x\" not found");
        assert!(finding(&lost).first.unwrap().text.starts_with(FAILED));
        let cancelled = Investigation::new(rules());
        let ending = Ending {
            status: "canceled",
            failure_reason: None,
        };
        assert_eq!(cancelled.conclude(&ending).class, Class::Cancelled);
    }

    #[test]
    fn a_job_without_a_log_is_told_by_gitlabs_reason() {
        let of = |reason| {
            let ending = Ending {
                status: "failed",
                failure_reason: Some(reason),
            };
            Investigation::new(rules()).conclude(&ending)
        };
        let (runner, user) = (of("runner_unsupported"), of("user_blocked"));
        assert_eq!(runner.class, Class::Configuration);
        assert_eq!(runner.pattern, "configuration: runner_unsupported");
        assert_ne!(runner.signature, user.signature);
    }

    #[test]
    fn the_signature_is_made_of_what_names_the_failure() {
        for (lines, pattern) in [
            (
                &["bash: line 3: helmm: command not found"][..],
                "command-not-found: helmm",
            ),
            (
                &[
                    "FAILED tests/test_a.py::test_b - assert 3 == 4",
                    "1 failed, 2 passed in 0.03s",
                ],
                "FAILED <path>/test_a.py::test_b - assert <n> == <n>",
            ),
            (
                &["  ✓ reports No space left on device", CODE],
                "main.c:<n>:<n>: error: 'x' undeclared",
            ),
        ] {
            let finding = finding(&log(&[("step_script", lines)]));
            assert_eq!(finding.pattern, pattern, "{finding:#?}");
        }
    }

    #[test]
    fn what_calls_itself_information_is_no_hint() {
        let make = command("make");
        for (line, class) in [
            ("INFO connection refused, once more", Class::Unknown),
            ("ERROR connection refused", Class::Infrastructure),
        ] {
            let found = finding(&log(&[("step_script", &[&*make, line])]));
            assert_eq!(found.class, class, "{line}");
        }
    }

    #[test]
    fn what_stands_far_from_the_end_is_no_hint() {
        let mut lines = vec![MISSING];
        lines.extend(["fine"; 20]);
        assert_eq!(
            finding(&log(&[("step_script", &lines)])).class,
            Class::Unknown
        );
        lines.push("cp: cannot stat 'dist': No such file or directory");
        let near = finding(&log(&[("step_script", &lines)]));
        assert_eq!(near.class, Class::Configuration);
        assert!(near.first.unwrap().text.starts_with("cp: "));
    }

    #[test]
    fn the_first_line_and_the_last_are_among_those_that_matter() {
        let many: Vec<String> = (0..20)
            .map(|it| format!("cat: a{it}: No such file or directory"))
            .collect();
        let mut lines: Vec<&str> = many.iter().map(String::as_str).collect();
        lines.extend(["ERROR thing"; 12]);
        lines.push("dd: error writing 'x': No space left on device");
        lines.extend(["ERROR: Could not find a version that satisfies the requirement x"; 12]);
        lines.extend(["fine"; 10]);
        let finding = finding(&log(&[("step_script", &lines)]));
        assert_eq!(finding.rule.as_deref(), Some("disk-full"));
        assert!(finding.lines.len() <= 40, "{}", finding.lines.len());
        assert!(finding.lines.contains(&finding.first.unwrap()));
        assert!(finding.lines.last().unwrap().text.starts_with(FAILED));
    }

    #[test]
    fn sections_of_the_jobs_own_are_no_stages_whatever_they_are_called() {
        let inner = format!(
            "section_start:1795476788:build_script\r\u{1b}[0KInner\n{CODE}\nsection_end:1795476788:build_script\r\u{1b}[0K"
        );
        let finding = finding(&log(&[("step_script", &[&*inner, "fine"])]));
        assert_eq!(finding.class, Class::Code);
    }
}
