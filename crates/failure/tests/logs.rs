//! Real logs of jobs that failed, each labelled when it was made: how often the class is right, which signatures are
//! the same, and which are not.
//!
//! `logs/README.md` says how they were made. The rules were written with the logs marked `dev` at hand; those
//! marked `held` were only ever counted.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use failure::{Class, Ending, Finding, Investigation, Rules};
use serde::Deserialize;

/// Of the jobs that are said to be of a class, so many have to be.
const PRECISION: f64 = 0.9;

#[derive(Deserialize)]
struct Label {
    name: String,
    class: Class,
    /// Where two people would differ.
    #[serde(default)]
    also: Vec<Class>,
    failure_reason: Option<String>,
    status: String,
    #[serde(default)]
    split: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs")
}

fn labels(file: &str) -> Vec<Label> {
    let json = fs::read_to_string(folder().join(file)).unwrap();
    serde_json::from_str(&json).unwrap()
}

fn finding(rules: &Arc<Rules>, log: &Path, label: &Label) -> Finding {
    let log = fs::read(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
    let mut investigation = Investigation::new(rules.clone());
    let mut parser = trace::Parser::new(trace::Options::default());
    parser.push(&log, &mut |line| investigation.see(&line));
    parser.finish(&mut |line| investigation.see(&line));
    investigation.conclude(&Ending {
        status: &label.status,
        failure_reason: label.failure_reason.as_deref(),
    })
}

/// All logs with what is found in each: those made for this, and those of the runner's own traces.
fn findings() -> Vec<(Label, Finding)> {
    let rules = Arc::new(Rules::ours().unwrap());
    let traces = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/traces");
    let of = |file: &str, folder: PathBuf, suffix: &str| -> Vec<(Label, Finding)> {
        let found = |label: Label| {
            let log = folder.join(format!("{}{suffix}", label.name));
            let finding = finding(&rules, &log, &label);
            (label, finding)
        };
        labels(file).into_iter().map(found).collect()
    };
    let mut all = of("labels.json", folder(), ".log");
    all.extend(of("runner-labels.json", traces, ""));
    all
}

/// How often a class was said, how often rightly, and how often it was the right one.
#[derive(Default)]
struct Count {
    said: u32,
    right: u32,
    labelled: u32,
}

fn ratio(part: u32, whole: u32) -> f64 {
    if whole == 0 {
        1.0
    } else {
        f64::from(part) / f64::from(whole)
    }
}

#[test]
fn a_class_that_is_said_is_right_nine_times_of_ten() {
    let all = findings();
    let mut wrong = String::new();
    let mut table = String::new();
    let mut bad = BTreeSet::new();
    for split in ["dev", "held", "all"] {
        let mut counts: BTreeMap<Class, Count> = BTreeMap::new();
        let of_split = all
            .iter()
            .filter(|(label, _)| split == "all" || label.split == split);
        for (label, finding) in of_split {
            let is_right = finding.class == label.class || label.also.contains(&finding.class);
            // Where two people would differ, what was said counts as the label.
            let labelled = if is_right { finding.class } else { label.class };
            counts.entry(labelled).or_default().labelled += 1;
            let count = counts.entry(finding.class).or_default();
            count.said += 1;
            count.right += u32::from(is_right);
            if !is_right && split == "all" {
                writeln!(
                    wrong,
                    "{}: {} by {}, not {}: {:?}",
                    label.name,
                    finding.class.as_str(),
                    finding.rule.as_deref().unwrap_or("no rule"),
                    label.class.as_str(),
                    finding.first.as_ref().map(|line| &line.text)
                )
                .unwrap();
            }
        }
        writeln!(table, "{split:<15} labelled  said  precision  recall").unwrap();
        for (class, count) in &counts {
            let precision = ratio(count.right, count.said);
            writeln!(
                table,
                "{:<15} {:>8} {:>5} {precision:>10.2} {:>7.2}",
                class.as_str(),
                count.labelled,
                count.said,
                ratio(count.right, count.labelled)
            )
            .unwrap();
            // That nothing is known is said honestly, also where a person knows better.
            if *class != Class::Unknown && precision < PRECISION {
                bad.insert((split, class.as_str()));
            }
        }
    }
    println!("{wrong}\n{table}");
    assert!(all.len() >= 80, "{} logs", all.len());
    assert!(bad.is_empty(), "too often wrong: {bad:?}\n{wrong}\n{table}");
}

#[test]
fn every_finding_can_be_explained() {
    for (label, finding) in findings() {
        let name = &label.name;
        assert!(finding.lines.len() <= 40, "{name}");
        let numbers: Vec<u64> = finding.lines.iter().map(|line| line.number).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{name}: {numbers:?}");
        assert_eq!(
            finding.rule.is_none(),
            finding.class == Class::Unknown,
            "{name}"
        );
        let first = finding.first.expect("a log has lines");
        assert!(numbers.contains(&first.number), "{name}: {first:?}");
    }
}

#[test]
fn the_same_failure_has_the_same_signature_and_others_have_others() {
    let found: HashMap<String, Finding> = findings()
        .into_iter()
        .map(|(label, finding)| (label.name, finding))
        .collect();
    let json = fs::read_to_string(folder().join("twins.json")).unwrap();
    let twins: Vec<[String; 2]> = serde_json::from_str(&json).unwrap();
    assert!(twins.len() >= 10);
    let differs = |twin: &&[String; 2]| found[&twin[0]].signature != found[&twin[1]].signature;
    let different: Vec<_> = twins
        .iter()
        .filter(differs)
        .map(|twin| twin.each_ref().map(|name| (name, &found[name].pattern)))
        .collect();
    assert!(different.is_empty(), "{different:#?}");
    let distinct: BTreeSet<_> = found.values().map(|finding| &finding.signature).collect();
    let most = found.len() - twins.len();
    println!(
        "{} signatures of {} failures, {} of them the same as another",
        distinct.len(),
        found.len(),
        twins.len()
    );
    assert!(
        distinct.len() * 10 >= most * 9,
        "{} of {most}",
        distinct.len()
    );
}

/// Lines that say something different stay different.
#[test]
fn hundreds_of_different_lines_keep_their_signatures() {
    let mut lines = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|suffix| suffix != "log") {
            continue;
        }
        let mut parser = trace::Parser::new(trace::Options::default());
        let mut see = |line: trace::Line<'_>| {
            if line.level == Some(trace::Level::Error) {
                lines.insert(words(line.text));
            }
        };
        parser.push(&fs::read(&path).unwrap(), &mut see);
        parser.finish(&mut see);
    }
    assert!(lines.len() >= 500, "{} lines", lines.len());
    let patterns: BTreeSet<String> = lines.iter().map(|line| failure::pattern(line)).collect();
    println!(
        "{} different lines, {} patterns",
        lines.len(),
        patterns.len()
    );
    assert!(
        patterns.len() * 100 >= lines.len() * 98,
        "{} of {}",
        patterns.len(),
        lines.len()
    );
}

/// A line's words without digits and places: what is left is what a person would compare.
fn words(text: &str) -> String {
    let is_part =
        |word: &&str| !word.contains(['/', '\\']) && !word.contains(|it: char| it.is_ascii_digit());
    text.split_whitespace()
        .filter(is_part)
        .collect::<Vec<_>>()
        .join(" ")
}
