//! What is known of tools: rules, each a pattern for lines and the class that such a line tells of.
//!
//! They are data (`rules.yaml`; an operator's file adds to them or replaces some by their ids). Each has lines
//! that it must take and lines that it must not, and is held to them whenever rules are read.

use std::collections::HashSet;

use regex::bytes::Regex;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::{
    Class,
    patterns::{self, Patterns},
    prefix, stage,
};

/// The rules that come with the program.
const OURS: &str = include_str!("../rules.yaml");
/// Bytes of a line that rules look at: what a line is, it says early.
pub(crate) const HEAD: usize = 2048;

/// GitLab's statuses of jobs that did not go well.
const STATUSES: [&str; 2] = ["failed", "canceled"];

/// How much a rule's line says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Strength {
    /// Words that say little by themselves, where nothing else does.
    Word,
    /// Something, where nothing firm does.
    Hint,
    /// What failed.
    #[default]
    Plain,
    /// What made all else fail: whatever stands around it is a consequence.
    Cause,
    /// GitLab or the runner said so themselves.
    Verdict,
}

/// A rule as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Lower-case letters, digits and dashes.
    pub(crate) id: Spanned<String>,
    pub(crate) class: Class,
    /// A regular expression (of the crate `regex`) for a line's text, its colours gone. A group whose name
    /// begins with `subject` holds what the failure is about: the signature is made of that alone.
    #[serde(default, rename = "match")]
    pub(crate) pattern: Option<Spanned<String>>,
    /// Lines that have this too are not taken.
    #[serde(default)]
    pub(crate) except: Option<Spanned<String>>,
    /// Values of GitLab's `failure_reason`, in place of a pattern.
    #[serde(default)]
    pub(crate) failure_reasons: Vec<String>,
    /// Values of GitLab's `status`, in place of a pattern.
    #[serde(default)]
    pub(crate) statuses: Vec<String>,
    #[serde(default)]
    pub(crate) strength: Strength,
    /// Counts how many failed and does not say what: the signature is made of another line.
    #[serde(default)]
    pub(crate) summary: bool,
    /// Only where no more than so many lines of the command's output follow.
    #[serde(default)]
    pub(crate) within: Option<u64>,
    /// Only in these stages of the runner.
    #[serde(default)]
    pub(crate) stages: Vec<String>,
    /// Rules whose lines are only a consequence of this one's.
    #[serde(default)]
    pub(crate) explains: Vec<String>,
    /// Lines of real tools that it takes.
    #[serde(default)]
    pub(crate) examples: Vec<String>,
    /// Lines of real tools that it doesn't.
    #[serde(default)]
    pub(crate) counter_examples: Vec<String>,
}

/// Why rules can't be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum RulesError {
    /// It is no YAML, has an unknown key, or lacks one.
    #[error("line {line}: {reason}")]
    Form {
        /// Of the file, from 1.
        line: u64,
        /// What the parser says.
        reason: String,
    },
    /// A rule is not as rules are.
    #[error("line {line}: rule {id}: {reason}")]
    Rule {
        /// Of the file, from 1.
        line: u64,
        /// The rule's.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Rules that are ready for use.
#[derive(Debug)]
pub struct Rules {
    all: Vec<Rule>,
    patterns: Patterns,
    /// The index in `all` of each of `patterns`.
    of_pattern: Vec<usize>,
    /// For each rule what makes it let a line go.
    exceptions: Vec<Option<Regex>>,
    /// For each rule the indices of those that it explains.
    explained: Vec<Vec<usize>>,
}

impl Rules {
    /// The rules that come with the program.
    pub fn ours() -> Result<Self, RulesError> {
        Self::new(read(OURS)?)
    }

    /// These in front of ours; one with the id of one of ours replaces it.
    pub fn with(yaml: &str) -> Result<Self, RulesError> {
        let mut rules = read(yaml)?;
        let ids: HashSet<String> = rules.iter().map(|rule| rule.id.value.clone()).collect();
        let ours = read(OURS)?.into_iter();
        rules.extend(ours.filter(|rule| !ids.contains(&rule.id.value)));
        Self::new(rules)
    }

    fn new(rules: Vec<Rule>) -> Result<Self, RulesError> {
        let (of_pattern, patterns): (Vec<usize>, Vec<&str>) = rules
            .iter()
            .enumerate()
            .filter_map(|(index, rule)| Some((index, rule.pattern.as_ref()?.value.as_str())))
            .unzip();
        let patterns = Patterns::new(patterns).map_err(|reason| RulesError::Form {
            line: 1,
            reason: format!("all patterns together: {}", one_line(&reason)),
        })?;
        let explained = rules
            .iter()
            .map(|rule| explained(rule, &rules))
            .collect::<Result<_, _>>()?;
        let exceptions = rules.iter().map(exception).collect::<Result<_, _>>()?;
        Ok(Self {
            all: rules,
            patterns,
            of_pattern,
            exceptions,
            explained,
        })
    }

    /// The rules whose patterns a line has, the first ones first.
    pub(crate) fn of_line<'t>(&'t self, text: &'t str) -> impl Iterator<Item = usize> + 't {
        let text = head(text);
        let rules = self.patterns.of(text).map(|it| self.of_pattern[it]);
        rules.filter(|rule| {
            let exception = self.exceptions[*rule].as_ref();
            exception.is_none_or(|it| !it.is_match(text))
        })
    }

    pub(crate) fn get(&self, index: usize) -> &Rule {
        &self.all[index]
    }

    /// Whether what the second rule's lines say only follows from what the first one's do.
    pub(crate) fn explains(&self, cause: usize, consequence: usize) -> bool {
        self.explained[cause].contains(&consequence)
    }

    /// The first rule about what GitLab says of the job.
    pub(crate) fn of_job(&self, status: &str, failure_reason: Option<&str>) -> Option<usize> {
        let has = |values: &[String], value: &str| values.iter().any(|known| known == value);
        self.all.iter().position(|rule| {
            has(&rule.statuses, status)
                || failure_reason.is_some_and(|reason| has(&rule.failure_reasons, reason))
        })
    }

    /// What a line is about, where its rule says.
    pub(crate) fn subject<'t>(&self, index: usize, text: &'t str) -> Option<&'t str> {
        let text = prefix::strip(text);
        let pattern = self.of_pattern.binary_search(&index).ok()?;
        let regex = self.patterns.get(pattern);
        let found = regex.captures(head(text))?;
        let mut names = regex.capture_names().flatten();
        let range = names.find_map(|name| {
            let group = name.starts_with("subject").then(|| found.name(name))?;
            group.map(|group| group.range())
        })?;
        text.get(range)
    }
}

/// What rules look at: the beginning of what a tool said, without what says when or where it ran.
fn head(text: &str) -> &[u8] {
    let text = prefix::strip(text).as_bytes();
    &text[..text.len().min(HEAD)]
}

fn exception(rule: &Rule) -> Result<Option<Regex>, RulesError> {
    let Some(pattern) = &rule.except else {
        return Ok(None);
    };
    let wrong = |error: regex::Error| RulesError::Rule {
        line: pattern.defined.line(),
        id: rule.id.value.clone(),
        reason: format!("what it excepts can't be used: {}", one_line(&error)),
    };
    patterns::compile(&pattern.value).map(Some).map_err(wrong)
}

fn explained(rule: &Rule, rules: &[Rule]) -> Result<Vec<usize>, RulesError> {
    let find = |id: &String| {
        let found = rules.iter().position(|other| other.id.value == *id);
        let found = found
            .ok_or_else(|| fault(rule, format!("it explains {id}, and there is no such rule")))?;
        if rules[found].explains.contains(&rule.id.value) {
            let reason = format!("it explains {id}, which explains it: neither would decide");
            return Err(fault(rule, reason));
        }
        Ok(found)
    };
    rule.explains.iter().map(find).collect()
}

/// Rules of a file, each checked by itself.
fn read(yaml: &str) -> Result<Vec<Rule>, RulesError> {
    let rules: Vec<Rule> = serde_saphyr::from_str(yaml).map_err(|error| RulesError::Form {
        line: error.location().map_or(1, |at| at.line()),
        reason: one_line(&error.without_snippet()),
    })?;
    let mut ids = HashSet::new();
    for rule in &rules {
        check(rule)?;
        if !ids.insert(&rule.id.value) {
            return Err(fault(rule, "the id is taken by a rule above".into()));
        }
    }
    Ok(rules)
}

fn check(rule: &Rule) -> Result<(), RulesError> {
    let id = rule.id.value.as_bytes();
    let is_name = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    if id.is_empty() || !id.iter().all(is_name) {
        let reason = "an id is lower-case letters, digits and dashes";
        return Err(fault(rule, reason.into()));
    }
    if rule.class == Class::Unknown {
        return Err(fault(
            rule,
            "a rule that decides has another class than unknown".into(),
        ));
    }
    let mut stages = rule.stages.iter();
    if let Some(stage) = stages.find(|it| !stage::is_known(it)) {
        return Err(fault(
            rule,
            format!("the runner has no stage {stage:?} in which a job can fail"),
        ));
    }
    let mut statuses = rule.statuses.iter();
    if let Some(status) = statuses.find(|it| !STATUSES.contains(&it.as_str())) {
        let reason = format!("a job that did not go well is one of {STATUSES:?}, not {status:?}");
        return Err(fault(rule, reason));
    }
    let exception = exception(rule)?;
    let Some(pattern) = &rule.pattern else {
        if exception.is_some() {
            return Err(fault(rule, "it excepts lines and has no match".into()));
        }
        if !rule.examples.is_empty() || !rule.counter_examples.is_empty() {
            return Err(fault(rule, "it has examples and no match".into()));
        }
        if rule.failure_reasons.is_empty() && rule.statuses.is_empty() {
            let reason = "it needs match, failure_reasons or statuses";
            return Err(fault(rule, reason.into()));
        }
        return Ok(());
    };
    let wrong = |reason: String| RulesError::Rule {
        line: pattern.defined.line(),
        id: rule.id.value.clone(),
        reason,
    };
    if pattern.value.contains('\n') {
        return Err(wrong(
            "the pattern has a line end, and a line has none".into(),
        ));
    }
    let patterns = Patterns::new([pattern.value.as_str()])
        .map_err(|error| wrong(format!("the pattern can't be used: {}", one_line(&error))))?;
    let regex = patterns.get(0);
    if regex.is_match(b"")
        || ["a", "7", "-", " "]
            .iter()
            .all(|it| regex.is_match(it.as_bytes()))
    {
        return Err(wrong("the pattern takes every line".into()));
    }
    let takes = |line: &str| {
        let text = head(line);
        regex.is_match(text) && exception.as_ref().is_none_or(|it| !it.is_match(text))
    };
    if let Some(line) = rule.examples.iter().find(|it| !takes(it)) {
        return Err(fault(
            rule,
            format!("its pattern does not take its example {line:?}"),
        ));
    }
    let mut others = rule.counter_examples.iter();
    if let Some(line) = others.find(|it| takes(it)) {
        return Err(fault(
            rule,
            format!("its pattern takes its counter-example {line:?}"),
        ));
    }
    Ok(())
}

fn fault(rule: &Rule, reason: String) -> RulesError {
    RulesError::Rule {
        line: rule.id.defined.line(),
        id: rule.id.value.clone(),
        reason,
    }
}

/// What spans lines, with a picture of the place, in one.
fn one_line(error: &dyn std::fmt::Display) -> String {
    let text = error.to_string();
    let last = text.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.unwrap_or_default().trim();
    let last = last.strip_prefix("error: ").unwrap_or(last);
    // The line is said before it.
    let end = last.find(" at line ").unwrap_or(last.len());
    match &last[..end] {
        text if text.starts_with("multiple YAML documents") => "it holds several documents".into(),
        text => text.split(", set ").next().unwrap_or(text).to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(yaml: &str) -> String {
        Rules::with(yaml).unwrap_err().to_string()
    }

    #[test]
    fn ours_are_many_and_held_to_examples() {
        let ours: Vec<Rule> = serde_saphyr::from_str(OURS).unwrap();
        let faults: Vec<_> = ours.iter().filter_map(|rule| check(rule).err()).collect();
        assert!(faults.is_empty(), "{faults:#?}");
        let rules = Rules::ours().unwrap();
        assert!(rules.all.len() >= 60, "{}", rules.all.len());
        for rule in rules.all.iter().filter(|rule| rule.pattern.is_some()) {
            assert!(
                !rule.examples.is_empty() && !rule.counter_examples.is_empty(),
                "{} has no examples",
                rule.id.value
            );
        }
    }

    #[test]
    fn a_fault_is_named_with_its_line_and_rule() {
        let good = "- id: a\n  class: code\n  match: boom\n";
        for (more, expected) in [
            (
                "- id: b\n  class: code\n  match: '(x'\n",
                "line 6: rule b: the pattern can't be used: unclosed group",
            ),
            (
                "- id: b\n  class: code\n  mach: x\n",
                "unknown field `mach`",
            ),
            (
                "- id: b\n  class: bug\n  match: x\n",
                "unknown variant `bug`",
            ),
            (
                "- id: a\n  class: code\n  match: x\n",
                "line 4: rule a: the id is taken",
            ),
            (
                "- id: B\n  class: code\n  match: x\n",
                "line 4: rule B: an id is",
            ),
            ("- id: b\n  class: code\n", "line 4: rule b: it needs match"),
            (
                "- id: b\n  class: code\n  match: 'x*'\n",
                "rule b: the pattern takes every line",
            ),
            (
                "- id: b\n  class: unknown\n  match: x\n",
                "rule b: a rule that decides",
            ),
            (
                "- id: b\n  class: code\n  match: .\n",
                "rule b: the pattern takes every line",
            ),
            (
                "- id: b\n  class: code\n  match: |\n    x\n",
                "rule b: the pattern has a line end",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  stages: [tests]\n",
                "rule b: the runner has no stage \"tests\"",
            ),
            (
                "- id: b\n  class: code\n  statuses: [cancelled]\n",
                "rule b: a job that did not",
            ),
            (
                "- id: b\n  class: code\n  statuses: [failed]\n  examples: [x]\n",
                "rule b: it has examples",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  explains: [b]\n",
                "rule b: it explains b, which",
            ),
            (
                "- id: b\n  class: code\n  match: '(x{1,100}){1,100}y'\n",
                "rule b: the pattern can't be used",
            ),
            ("- id: b\n  id: c\n", "duplicate mapping key: id"),
            (
                "- id: b\n  class: code\n  match: x\n  explains: [c]\n",
                "rule b: it explains c",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  examples: [y]\n",
                "does not take its example \"y\"",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  except: '(y'\n",
                "line 7: rule b: what it excepts can't be used",
            ),
            (
                "- id: b\n  class: code\n  statuses: [failed]\n  except: y\n",
                "rule b: it excepts lines and has no match",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  except: y\n  examples: [xy]\n",
                "does not take its example \"xy\"",
            ),
            (
                "- id: b\n  class: code\n  match: x\n  counter_examples: [x]\n",
                "takes its counter-example \"x\"",
            ),
        ] {
            let text = error(&format!("{good}{more}"));
            assert!(text.contains(expected), "{text}");
            assert!(text.starts_with("line ") && !text.contains('\n'), "{text}");
        }
        assert!(Rules::with(good).is_ok());
    }

    #[test]
    fn a_rule_with_the_id_of_ours_replaces_it_and_others_come_first() {
        let ours = Rules::ours().unwrap();
        let id = &ours.get(0).id.value;
        let replaced = Rules::with(&format!("- id: {id}\n  class: test\n  match: boom\n")).unwrap();
        assert_eq!(replaced.all.len(), ours.all.len());
        assert_eq!(replaced.of_line("boom").next(), Some(0));
        let added = Rules::with("- id: of-our-own\n  class: test\n  match: boom\n").unwrap();
        assert_eq!(added.all.len(), ours.all.len() + 1);
    }
}
