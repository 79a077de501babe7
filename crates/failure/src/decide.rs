//! From what was kept of a log to one class, one line and one signature.

use crate::{
    Class,
    block::{Block, Match},
    investigation::{Ending, Finding, RelevantLine, is_strong},
    rules::{Rules, Strength},
    signature::{pattern, signature},
};

/// Lines of a finding.
const MOST_LINES: usize = 40;
/// How many of them are the last ones, where there are more.
const LAST_LINES: usize = 12;
/// The runner's last words in a finding.
const CLOSING_LINES: usize = 3;

/// A rule that has something to say.
struct Candidate<'a> {
    rule: usize,
    strength: Strength,
    /// Where its last line stands: what comes later is nearer to the end of the job.
    at: u64,
    first: Option<&'a RelevantLine>,
}

/// Whether a rule that may decide took a line of this command's output.
pub(crate) fn knows_a_failure(block: &Block, rules: &Rules) -> bool {
    matches(block, rules).any(|found| is_strong(rules, found.rule))
}

/// Whether its last line is one that a rule knows.
pub(crate) fn ends_in_failure(block: &Block, rules: &Rules) -> bool {
    matches(block, rules).any(|found| block.lines_after(found) == 0)
}

/// The matches that are near enough to the end.
fn matches<'a>(block: &'a Block, rules: &'a Rules) -> impl Iterator<Item = &'a Match> {
    block.matches.iter().filter(|found| {
        let rule = rules.get(found.rule);
        let is_near = |most| block.lines_after(found) <= most;
        rule.strength < Strength::Verdict && rule.within.is_none_or(is_near)
    })
}

/// Decides.
pub(crate) fn find(
    rules: &Rules,
    block: &Block,
    closing: &[RelevantLine],
    ending: &Ending<'_>,
) -> Finding {
    let winner = winner(rules, candidates(rules, block, closing, ending));
    let winner = winner.map(|winner| naming(rules, block, winner));
    let class = winner
        .as_ref()
        .map_or(Class::Unknown, |it| rules.get(it.rule).class);
    let first = winner.as_ref().map_or_else(
        || first_of_unknown(block, closing),
        |winner| first_of(rules, block, closing, winner),
    );
    let pattern = first.map_or_else(
        || match ending.failure_reason {
            Some(reason) => format!("{}: {reason}", class.as_str()),
            None => class.as_str().to_owned(),
        },
        |line| pattern_of(rules, block, line, class, winner.as_ref()),
    );
    Finding {
        class,
        rule: winner.map(|it| rules.get(it.rule).id.value.clone()),
        signature: signature(&pattern),
        pattern,
        first: first.cloned(),
        lines: lines(block, closing, first),
    }
}

fn pattern_of(
    rules: &Rules,
    block: &Block,
    line: &RelevantLine,
    class: Class,
    winner: Option<&Candidate<'_>>,
) -> String {
    let subject = winner.and_then(|it| Some((it.rule, rules.subject(it.rule, &line.text)?)));
    if let Some((rule, subject)) = subject {
        return format!("{}: {}", rules.get(rule).id.value, pattern(subject));
    }
    let pattern = pattern(&line.text);
    if block.command.as_ref() == Some(line) {
        // It says what ran, and not what went wrong.
        return format!("{}: {pattern}", class.as_str());
    }
    pattern
}

fn candidates<'a>(
    rules: &'a Rules,
    block: &'a Block,
    closing: &'a [RelevantLine],
    ending: &Ending<'_>,
) -> Vec<Candidate<'a>> {
    let of = |rule, at, first| Candidate {
        rule,
        strength: rules.get(rule).strength,
        at,
        first,
    };
    let said = rules.of_job(ending.status, ending.failure_reason);
    let said = said.into_iter().map(|rule| of(rule, 0, None));
    // The runner gave up, not the script: what the script printed before says nothing of it.
    let is_of_runner = closing
        .first()
        .is_some_and(|it| it.text.starts_with("ERROR: Job failed (system failure)"));
    let counts = move |found: &&Match| {
        !is_of_runner
            || block.command.is_none()
            || rules.get(found.rule).strength >= Strength::Cause
    };
    let printed = matches(block, rules)
        .filter(counts)
        .map(|found| of(found.rule, found.last_at, Some(&found.first)));
    let closed = closing.iter().flat_map(move |line| {
        let found = rules
            .of_line(&line.text)
            .filter(|rule| rules.get(*rule).stages.is_empty());
        found.map(move |rule| of(rule, u64::MAX, is_of_runner.then_some(line)))
    });
    said.chain(printed).chain(closed).collect()
}

/// The strongest, but no mere consequence of another; among those the nearest to the end; on the same line
/// the first rule.
fn winner<'a>(rules: &Rules, candidates: Vec<Candidate<'a>>) -> Option<Candidate<'a>> {
    let is_explained = |it: &Candidate<'_>| {
        let mut others = candidates.iter();
        it.strength < Strength::Verdict && others.any(|other| rules.explains(other.rule, it.rule))
    };
    let best = candidates
        .iter()
        .enumerate()
        .filter(|(_, it)| !is_explained(it))
        .max_by_key(|(_, it)| (it.strength, it.at, std::cmp::Reverse(it.rule)))
        .map(|(index, _)| index)?;
    candidates.into_iter().nth(best)
}

/// A rule that only counts gives way to the first one of its class that names what failed.
fn naming<'a>(rules: &'a Rules, block: &'a Block, winner: Candidate<'a>) -> Candidate<'a> {
    let rule = rules.get(winner.rule);
    let names = |found: &&Match| {
        let other = rules.get(found.rule);
        other.class == rule.class && !other.summary && other.strength > Strength::Hint
    };
    let mut first_ones = matches(block, rules)
        .filter(|it| rule.summary && names(it))
        .collect::<Vec<_>>();
    first_ones.sort_by_key(|found| found.first.number);
    first_ones.first().map_or(winner, |found| Candidate {
        rule: found.rule,
        strength: rules.get(found.rule).strength,
        at: found.last_at,
        first: Some(&found.first),
    })
}

/// The line that says what went wrong.
fn first_of<'a>(
    rules: &Rules,
    block: &'a Block,
    closing: &'a [RelevantLine],
    winner: &Candidate<'a>,
) -> Option<&'a RelevantLine> {
    let rule = rules.get(winner.rule);
    if rule.strength == Strength::Verdict {
        return block.command.as_ref().or(closing.first());
    }
    let own = winner.first.filter(|_| !rule.summary);
    own.or(block.errors.first())
        .or(winner.first)
        .or_else(|| first_of_unknown(block, closing))
}

/// Where nothing is known: the first error, the last words, or what ran.
fn first_of_unknown<'a>(block: &'a Block, closing: &'a [RelevantLine]) -> Option<&'a RelevantLine> {
    block
        .errors
        .first()
        .or(block.tail.back())
        .or(block.command.as_ref())
        .or(closing.first())
}

/// The lines that matter, each once, in order.
fn lines(
    block: &Block,
    closing: &[RelevantLine],
    first: Option<&RelevantLine>,
) -> Vec<RelevantLine> {
    let first_matches = block.matches.iter().map(|found| &found.first);
    let mut lines: Vec<&RelevantLine> = block
        .command
        .iter()
        .chain(&block.known)
        .chain(&block.errors)
        .chain(first_matches)
        .chain(&block.tail)
        .chain(closing.iter().take(CLOSING_LINES))
        .collect();
    lines.sort_by_key(|line| line.number);
    lines.dedup_by_key(|line| line.number);
    if lines.len() > MOST_LINES {
        let middle = MOST_LINES - LAST_LINES - 1..lines.len() - LAST_LINES;
        let first = lines[middle.clone()]
            .iter()
            .copied()
            .find(|it| Some(*it) == first);
        let kept = first.unwrap_or(lines[middle.start]);
        lines.splice(middle, [kept]);
    }
    lines.into_iter().cloned().collect()
}
