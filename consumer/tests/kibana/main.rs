//! `consumer kibana` as people run it, against a simulated Kibana.
#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod server;

use std::{process::Output, time::Duration};

use serde_json::json;
use server::{Kibana, PASSWORD, USER};
use tokio::{process::Command, time::timeout};

const ENDS: Duration = Duration::from_secs(30);
const SOURCE: &str = include_str!("../../../kibana/joblogs.ndjson");

async fn run(url: &str, flags: &[&str]) -> Output {
    run_with(url, PASSWORD, flags).await
}

async fn run_with(url: &str, password: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_consumer"));
    command
        .args(["kibana", "--kibana-url", url, "--es-index", "ci"])
        .args(flags)
        .env_clear()
        .env("JOBLOGS_ES_USER", USER)
        .env("JOBLOGS_ES_PASS", password)
        .kill_on_drop(true);
    timeout(ENDS, command.output()).await.unwrap().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The one sentence of a failure.
fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(!text.contains(PASSWORD), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("consumer: "), "{text}");
    last.to_owned()
}

#[tokio::test]
async fn objects_are_imported_once_and_stay_what_they_are() {
    let kibana = Kibana::start().await;
    let count = SOURCE.lines().count();
    let first = said(&run(&kibana.url(), &[]).await);
    assert_eq!(
        first,
        format!("Kibana 8.19.21 has {count} objects: data views, searches and dashboards\n")
    );
    let there = kibana.state().objects.clone();
    assert_eq!(there.len(), count);
    let key = ("index-pattern".to_owned(), "ci-jobs".to_owned());
    assert_eq!(there[&key]["attributes"]["title"], "20*-ci-jobs");

    let second = said(&run(&kibana.url(), &[]).await);
    assert!(
        second.starts_with(&format!("Kibana 8.19.21 has these {count} objects already")),
        "{second}"
    );
    assert_eq!(kibana.state().imports, 1);

    said(&run(&kibana.url(), &["--force"]).await);
    assert_eq!(kibana.state().imports, 2);
    assert_eq!(
        kibana.state().objects,
        there,
        "the same ids, the same objects"
    );
}

#[tokio::test]
async fn what_people_changed_stays_until_the_next_version_or_a_loss() {
    let kibana = Kibana::start().await;
    said(&run(&kibana.url(), &[]).await);
    let errors = ("search".to_owned(), "ci-errors".to_owned());
    let mark = |description: &str| {
        let key = ("search".to_owned(), "ci-one-job".to_owned());
        let mut state = kibana.state();
        state.objects.get_mut(&key).unwrap()["attributes"]["description"] = json!(description);
    };
    kibana.state().objects.get_mut(&errors).unwrap()["attributes"]["title"] = json!("Mine");
    said(&run(&kibana.url(), &[]).await);
    assert_eq!(
        kibana.state().objects[&errors]["attributes"]["title"],
        "Mine"
    );

    mark("of an earlier version (0123456789ab)");
    said(&run(&kibana.url(), &[]).await);
    assert_eq!(
        kibana.state().objects[&errors]["attributes"]["title"],
        "Errors of failed jobs (ci)"
    );

    kibana.state().objects.remove(&errors);
    said(&run(&kibana.url(), &[]).await);
    assert!(kibana.state().objects.contains_key(&errors));
}

#[tokio::test]
async fn opensearch_dashboards_gets_the_searches_alone() {
    let dashboards = Kibana::start_opensearch_dashboards().await;
    let first = said(&run(&dashboards.url(), &[]).await);
    assert!(
        first.starts_with("OpenSearch Dashboards 2.19.3 has 13 objects"),
        "{first}"
    );
    let kinds: Vec<String> = dashboards
        .state()
        .objects
        .keys()
        .map(|it| it.0.clone())
        .collect();
    assert_eq!(kinds.iter().filter(|it| *it == "index-pattern").count(), 3);
    assert_eq!(kinds.iter().filter(|it| *it == "search").count(), 10);
    let second = said(&run(&dashboards.url(), &[]).await);
    assert!(second.contains("already"), "{second}");
}

#[tokio::test]
async fn a_kibana_that_starts_is_waited_for_and_one_that_never_does_is_one_sentence() {
    let kibana = Kibana::start().await;
    kibana.state().not_ready = 1;
    said(&run(&kibana.url(), &[]).await);
    kibana.state().not_ready = usize::MAX;
    let why = complaint(&run(&kibana.url(), &["--wait-seconds", "1"]).await);
    assert!(
        why.contains("is not ready after 1 s: it says that it is unavailable"),
        "{why}"
    );
    let nobody = complaint(&run("http://127.0.0.1:1/", &["--wait-seconds", "0"]).await);
    assert!(
        nobody.contains("Kibana at http://127.0.0.1:1/ is not ready after 0 s: no answer"),
        "{nobody}"
    );
}

#[tokio::test]
async fn a_refusal_names_the_object_and_the_reason() {
    let kibana = Kibana::start().await;
    kibana.state().types.remove("lens");
    let why = complaint(&run(&kibana.url(), &[]).await);
    let sentence = "Kibana 8.19.21 did not take the lens ci-failures-over-time: it knows no objects of this type; so it is with 7 more";
    assert!(why.ends_with(sentence), "{why}");

    kibana.state().types.insert("lens", "8.8.0");
    let why = complaint(&run(&kibana.url(), &[]).await);
    assert!(why.contains("refused the import (422 Unprocessable Entity): Document \"ci-failures-over-time\" belongs to a more recent version"), "{why}");

    kibana.state().types.insert("lens", "8.9.0");
    kibana.state().types.remove("index-pattern");
    kibana.state().objects.clear();
    let why = complaint(&run(&kibana.url(), &[]).await);
    assert!(
        why.contains("did not take the index-pattern ci-lines"),
        "{why}"
    );
}

#[tokio::test]
async fn wrong_credentials_are_an_end_at_once() {
    let kibana = Kibana::start().await;
    let why = complaint(&run_with(&kibana.url(), "wrong", &[]).await);
    assert!(
        why.contains("refused the user elastic (401): give by --es-user"),
        "{why}"
    );
}

#[tokio::test]
async fn what_kibana_refuses_the_simulated_one_refuses() {
    let kibana = Kibana::start().await;
    let http = reqwest::Client::new();
    let import = || {
        let url = format!("{}/api/saved_objects/_import", kibana.url());
        http.post(url).basic_auth(USER, Some(PASSWORD))
    };
    let form = |objects: &str, name: &'static str| {
        let file = reqwest::multipart::Part::text(objects.to_owned()).file_name("x.ndjson");
        reqwest::multipart::Form::new().part(name, file)
    };
    let send = async |request: reqwest::RequestBuilder| {
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, text) = send(import().multipart(form(SOURCE, "file"))).await;
    assert_eq!(status, 400);
    assert!(text.contains("kbn-xsrf"), "{text}");
    let ours = || import().header("kbn-xsrf", "true");
    assert_eq!(send(ours().body(SOURCE)).await.0, 415);
    assert_eq!(send(ours().multipart(form(SOURCE, "objects"))).await.0, 400);
    let dangling = r#"{"type":"search","id":"a","typeMigrationVersion":"8.0.0","references":[{"type":"index-pattern","id":"b"}]}"#;
    let (status, text) = send(ours().multipart(form(dangling, "file"))).await;
    assert_eq!(status, 200);
    assert!(
        text.contains("missing_references") && text.contains(r#""success":false"#),
        "{text}"
    );
    assert_eq!(send(ours().multipart(form(SOURCE, "file"))).await.0, 200);
    let (_, text) = send(ours().multipart(form(SOURCE, "file"))).await;
    assert!(text.contains(r#"{"type":"conflict"}"#), "{text}");
}
