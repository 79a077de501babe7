//! What one command of a script printed: lines of it that rules know, that call themselves errors, and its end.

use std::collections::VecDeque;

use trace::{Level, Line};

use crate::{
    investigation::RelevantLine,
    rules::{Rules, Strength},
};

/// Lines that rules know, the first ones of a command.
const MOST_KNOWN: usize = 20;
/// Lines that call themselves errors, the first ones of a command.
const MOST_ERRORS: usize = 12;
/// Lines before the end.
const TAIL: usize = 6;
/// Rules that are remembered of one command, beside causes; few things go wrong at once.
const MOST_MATCHES: usize = 32;

/// A rule that took lines of a command.
#[derive(Debug, Clone)]
pub(crate) struct Match {
    pub(crate) rule: usize,
    /// The first line that it took.
    pub(crate) first: RelevantLine,
    /// How many lines of output there were up to the last line that it took, that one included.
    pub(crate) last_at: u64,
}

/// The output of one command, or of a stage without commands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Block {
    /// The stage of the runner, where there are any.
    pub(crate) stage: String,
    /// The echoed command.
    pub(crate) command: Option<RelevantLine>,
    /// Lines of output so far.
    pub(crate) output: u64,
    pub(crate) matches: Vec<Match>,
    pub(crate) known: Vec<RelevantLine>,
    pub(crate) errors: Vec<RelevantLine>,
    pub(crate) tail: VecDeque<RelevantLine>,
}

impl Block {
    pub(crate) fn of_stage(stage: &str) -> Self {
        Self {
            stage: stage.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn of_command(stage: &str, line: &Line<'_>) -> Self {
        Self {
            command: Some(RelevantLine::of(line)),
            ..Self::of_stage(stage)
        }
    }

    /// Sees a line of output.
    pub(crate) fn see(&mut self, line: &Line<'_>, rules: &Rules) {
        self.output += 1;
        let mut is_known = false;
        let rules_of_line = rules.of_line(line.text).filter(|_| !has_passed(line.text));
        for rule in rules_of_line {
            let (stages, strength) = (&rules.get(rule).stages, rules.get(rule).strength);
            let is_firm = strength > Strength::Hint;
            if (is_firm || !is_chatter(line)) && (stages.is_empty() || stages.contains(&self.stage))
            {
                is_known |= is_firm;
                self.note(rule, line, rules);
            }
        }
        if is_known && self.known.len() < MOST_KNOWN {
            self.known.push(RelevantLine::of(line));
        }
        if line.level == Some(Level::Error) && self.errors.len() < MOST_ERRORS {
            self.errors.push(RelevantLine::of(line));
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(RelevantLine::of(line));
    }

    fn note(&mut self, rule: usize, line: &Line<'_>, rules: &Rules) {
        let (within, strength) = (rules.get(rule).within, rules.get(rule).strength);
        if let Some(found) = self.matches.iter_mut().find(|it| it.rule == rule) {
            // What stood too far before was another matter.
            if within.is_some_and(|most| self.output - found.last_at > most) {
                found.first = RelevantLine::of(line);
            }
            found.last_at = self.output;
        } else if self.matches.len() < MOST_MATCHES || strength >= Strength::Cause {
            self.matches.push(Match {
                rule,
                first: RelevantLine::of(line),
                last_at: self.output,
            });
        }
    }

    /// How many lines of output came after the last one that a match took.
    pub(crate) fn lines_after(&self, found: &Match) -> u64 {
        self.output - found.last_at
    }
}

/// `level=info msg="… status=503, once more"`: what calls itself information is at most a hint, and no good one.
fn is_chatter(line: &Line<'_>) -> bool {
    matches!(line.level, Some(Level::Info | Level::Debug))
}

/// `test a ... ok`, `  ✓ handles ENOSPC`: a test that went well tells of no failure, whatever it is called.
fn has_passed(text: &str) -> bool {
    let text = text.trim();
    text.starts_with(['✓', '✔', '√'])
        || text.starts_with("ok ")
        || text.starts_with("PASS")
        || text.starts_with("--- PASS")
        || text.ends_with("... ok")
        || text.contains(" PASSED")
}
