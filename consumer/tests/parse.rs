//! `consumer parse` as people run it.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

use std::{
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

fn trace(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/traces")
        .join(name)
}

fn parse(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
    command.arg("parse").args(words).env_clear();
    command
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn documents(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn fails(words: &[&str], sentence: &str) {
    let output = parse(words).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{words:?}: {output:?}");
    assert!(output.stdout.is_empty(), "{words:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(said.contains(sentence), "{said}");
}

#[test]
fn each_line_of_the_page_is_a_document_and_the_summary_is_the_last() {
    let log = trace("pytest.ts.log");
    let output = parse(&[path(&log), "--summary"]).output().unwrap();
    let mut documents = documents(&output);
    let summary = documents.pop().unwrap();
    let lines = fs::read_to_string(trace("pytest.ts.lines")).unwrap();
    let lines: Vec<&str> = lines.split_terminator('\n').collect();
    assert_eq!(summary["lines"], lines.len());
    assert_eq!(summary["bytes"], fs::metadata(&log).unwrap().len());
    assert_eq!(summary["complete"], true);
    assert_eq!(summary["trailer"], "failed");
    assert_eq!(summary["trailer_reason"], "exit status 1");
    assert_eq!(summary["sections"][0]["name"], "prepare_executor");
    assert_eq!(documents.len(), lines.len());
    for (number, (document, line)) in (1_u64..).zip(documents.iter().zip(lines)) {
        assert_eq!(document["line"], number);
        assert_eq!(document["message"], *line);
        for field in [
            "offset",
            "@timestamp",
            "timestamp_source",
            "stream",
            "section",
        ] {
            assert!(document.get(field).is_some(), "{field} in {document}");
        }
    }
}

#[test]
fn a_stream_gives_what_the_file_gives_and_a_job_adds_its_facts() {
    let log = trace("hello.plain.log");
    let of_file = parse(&[path(&log)]).output().unwrap();
    let of_stream = parse(&["-"])
        .stdin(fs::File::open(&log).unwrap())
        .output()
        .unwrap();
    assert_eq!(of_file.stdout, of_stream.stdout);
    assert_eq!(documents(&of_file)[0]["@timestamp"], Value::Null);
    assert_eq!(documents(&of_file)[0]["timestamp_source"], "job");
    let job = trace("hello.json");
    let with_job = parse(&[path(&log), "--job", path(&job)]).output().unwrap();
    let first = &documents(&with_job)[0];
    assert_eq!(first["stage"], "test");
    assert!(first["@timestamp"].is_string(), "{first}");
    assert!(
        first["line_url"].as_str().unwrap().ends_with("#L1"),
        "{first}"
    );
}

#[test]
fn what_is_no_trace_gets_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    fails(&["/does/not/exist"], "/does/not/exist can't be read");
    fails(&[path(folder.path())], "is a directory");
    let job = folder.path().join("job.json");
    fs::write(&job, "{}").unwrap();
    let log = trace("hello.ts.log");
    fails(
        &[path(&log), "--job", path(&job)],
        "--job has no job's facts",
    );
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let mut child = parse(&["-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    // More than any buffer between the two holds; the consumer ends before it has read all.
    for _ in 0..100_000 {
        if input
            .write_all(b"a line of some length, to be read by nobody\n")
            .is_err()
        {
            break;
        }
    }
    drop(input);
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success(), "{said}");
    assert_eq!(said, "");
}

fn summary(words: &[&str]) -> Value {
    let mut words = words.to_vec();
    words.push("--summary");
    documents(&parse(&words).output().unwrap()).pop().unwrap()
}

#[test]
fn the_summary_says_why_the_job_failed_and_how_long_it_was_silent() {
    let failed = summary(&[path(&trace("cargo-build.ts.log"))]);
    assert_eq!(failed["failure"]["class"], "code");
    assert_eq!(failed["failure"]["rule"], "rustc");
    assert!(failed["slowest_gap"]["gap_ms"].is_u64(), "{failed}");
    // By the runner's last words where nobody gives the job's facts.
    for (name, class) in [
        ("cancel-graceful.ts.log", "cancelled"),
        ("timeout.plain.log", "timeout"),
    ] {
        assert_eq!(summary(&[path(&trace(name))])["failure"]["class"], class);
    }
    for name in ["hello.ts.log", "log-limit.ts.log"] {
        assert_eq!(summary(&[path(&trace(name))])["failure"], Value::Null);
    }
}

#[test]
fn an_operators_rules_decide_and_a_fault_in_them_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let rules = folder.path().join("rules.yaml");
    fs::write(
        &rules,
        "- id: types-differ\n  class: test\n  strength: cause\n  match: mismatched types$\n",
    )
    .unwrap();
    let log = trace("cargo-build.ts.log");
    let words = [path(&log), "--failure-rules", path(&rules)];
    let failure = &summary(&words)["failure"];
    assert_eq!(
        (&failure["rule"], &failure["class"]),
        (&"types-differ".into(), &"test".into())
    );
    fs::write(&rules, "- id: types-differ\n  class: test\n  match: '('\n").unwrap();
    fails(
        &words,
        "rules.yaml of --failure-rules: line 3: rule types-differ: the pattern can't be used",
    );
}
