//! `consumer setup` and `consumer retention` in front of what Elasticsearch's core lacks: lifecycle policies, roles
//! and users of the cluster's own. The answers are those of Elasticsearch 8.19 and 9 and of OpenSearch; each request is
//! held against what it should be.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Parser as _;
use consumer::{Cli, Command};
use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

const NAME: &str = "joblogs-joblogs";
const KEY_ID: &str = "VuaCfGcBCdbkQm-e5aOx";

/// What a cluster can do, and what it has.
#[derive(Clone, Copy, Default)]
struct Cluster {
    /// Lifecycle policies, users of its own, `match_only_text`.
    is_full: bool,
    /// What its user may not do: the beginning of paths, and the privilege that is missing.
    lacking: Option<(&'static str, &'static str)>,
    /// An old index of ours that has a lifecycle policy.
    has_policy: bool,
    /// Whether it has forgotten the API keys that it made.
    forgets_keys: bool,
}

/// What a cluster says of the API key that it makes.
fn made_key() -> Value {
    json!({
        "id": KEY_ID,
        "name": "joblogs-joblogs-consumer",
        "api_key": "ui2lp2axTNmsyakw9tvNnw",
        "encoded": STANDARD.encode(format!("{KEY_ID}:ui2lp2axTNmsyakw9tvNnw")),
    })
}

impl Respond for Cluster {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let (path, body) = (request.url.path(), String::from_utf8_lossy(&request.body));
        let answer = |status, body: Value| ResponseTemplate::new(status).set_body_json(body);
        let error = |status, kind: &str, reason: String| {
            answer(
                status,
                json!({"error": {"type": kind, "reason": reason}, "status": status}),
            )
        };
        if let Some((_, privilege)) = self.lacking.filter(|(at, _)| path.starts_with(at)) {
            let reason = format!(
                "action [x] is unauthorized for user [elastic] with effective roles [r], this action is granted by the cluster privileges [{privilege},all]"
            );
            return error(403, "security_exception", reason);
        }
        if !self.is_full && (path.starts_with("/_ilm") || path.starts_with("/_security")) {
            let reason = format!(
                "no handler found for uri [{path}] and method [{}]",
                request.method
            );
            return answer(400, json!({"error": reason, "status": 400}));
        }
        if !self.is_full && body.contains("match_only_text") {
            let reason = "The mapper type [match_only_text] declared on field [message] does not exist. It might have been created within a future version or requires a plugin to be installed. Check the documentation.";
            return error(400, "mapper_parsing_exception", reason.to_owned());
        }
        match (request.method.as_str(), path) {
            ("GET", "/_cluster/health") => answer(200, json!({"status": "green"})),
            ("GET", _) if path.ends_with('*') => answer(200, json!({})),
            ("GET", _) if path.starts_with("/_ilm/policy/") => {
                let reason = format!("Lifecycle policy not found: [{NAME}]");
                error(404, "resource_not_found_exception", reason)
            }
            ("GET", _) if path.starts_with("/_resolve/index/20") && self.has_policy => {
                let index = json!({"name": "2020-01-01-joblogs", "attributes": ["open"]});
                answer(
                    200,
                    json!({"indices": [index], "aliases": [], "data_streams": []}),
                )
            }
            ("GET", _) if path.starts_with("/20") && self.has_policy => {
                let marked = json!({"_meta": {"managed_by": "joblogs", "version": 1}});
                let lifecycle = json!({"index": {"lifecycle": {"name": NAME}}});
                answer(
                    200,
                    json!({"2020-01-01-joblogs": {"mappings": marked, "settings": lifecycle}}),
                )
            }
            ("GET", _) => error(404, "index_not_found_exception", "no such index".to_owned()),
            ("POST", "/_security/api_key") => answer(200, made_key()),
            ("PUT", _) if path.starts_with("/_security/api_key/") => {
                if self.forgets_keys {
                    let reason =
                        format!("no API key owned by requesting user found for ID [{KEY_ID}]");
                    return error(404, "resource_not_found_exception", reason);
                }
                answer(200, json!({"updated": false}))
            }
            ("POST", _) => answer(200, json!({})),
            _ => answer(200, json!({"acknowledged": true})),
        }
    }
}

/// Runs the command with these words against the cluster: how it ended, and what it was asked for to change.
async fn run(cluster: Cluster, words: &[&str]) -> (Result<()>, Vec<(String, Value)>) {
    let (ended, requests) = run_as(&["--es-pass", "x"], cluster, words).await;
    let changes = requests.iter().filter(|it| it.method.as_str() != "GET");
    let shown = |it: &Request| {
        let query = it
            .url
            .query()
            .map(|query| format!("?{query}"))
            .unwrap_or_default();
        let body = serde_json::from_slice(&it.body).unwrap_or_default();
        (format!("{} {}{query}", it.method, it.url.path()), body)
    };
    (ended, changes.map(shown).collect())
}

/// The same with these credentials, and with every request.
async fn run_as(login: &[&str], cluster: Cluster, words: &[&str]) -> (Result<()>, Vec<Request>) {
    let server = MockServer::start().await;
    Mock::given(any())
        .respond_with(cluster)
        .mount(&server)
        .await;
    let port = server.address().port().to_string();
    let at = [
        "--es-host",
        "127.0.0.1",
        "--es-port",
        &port,
        "--es-url-scheme",
        "http",
        "--es-index",
        "joblogs",
    ];
    let words = ["consumer"].iter().chain(words).chain(&at).chain(login);
    let cli = Cli::try_parse_from(words).expect("the words are flags");
    let ended = match &cli.command {
        Some(Command::Setup(flags)) => {
            let setup = consumer::setup_of(flags, &cli.elasticsearch);
            setup.expect("the flags are right").await
        }
        Some(Command::Retention(flags)) => {
            let retention = consumer::retention_of(flags, &cli.elasticsearch);
            retention.expect("the flags are right").await
        }
        other => panic!("{other:?}"),
    };
    let requests = server.received_requests().await;
    (ended, requests.expect("the server records requests"))
}

fn body<'a>(changes: &'a [(String, Value)], request: &str) -> &'a Value {
    let found = changes.iter().find(|(it, _)| it == request);
    &found
        .unwrap_or_else(|| panic!("no {request} among {changes:#?}"))
        .1
}

#[tokio::test]
async fn a_full_cluster_gets_everything() {
    let full = Cluster {
        is_full: true,
        ..Cluster::default()
    };
    let words = [
        "setup",
        "--retain-days",
        "7",
        "--consumer-pass",
        "pass-of-consumer",
        "--retention-pass",
        "pass-of-retention",
        "--kibana-pass",
        "pass-of-kibana",
    ];
    let (ended, changes) = run(full, &words).await;
    ended.unwrap();
    let asked: Vec<&str> = changes
        .iter()
        .map(|(request, _)| request.as_str())
        .collect();
    assert_eq!(
        asked,
        [
            "PUT /_ilm/policy/joblogs-joblogs",
            "PUT /_component_template/joblogs-joblogs-settings",
            "PUT /_component_template/joblogs-joblogs-facts",
            "PUT /_component_template/joblogs-joblogs-lines",
            "PUT /_component_template/joblogs-joblogs-jobs",
            "PUT /_component_template/joblogs-joblogs-rejected",
            "PUT /_component_template/joblogs-joblogs-custom?create=true",
            "PUT /_index_template/joblogs-joblogs-rejected",
            "PUT /_index_template/joblogs-joblogs-jobs",
            "PUT /_index_template/joblogs-joblogs",
            "PUT /_security/role/joblogs-joblogs-consumer",
            "PUT /_security/role/joblogs-joblogs-reader",
            "PUT /_security/role/joblogs-joblogs-retention",
            "PUT /_security/user/joblogs-joblogs-consumer",
            "PUT /_security/user/joblogs-joblogs-retention",
            "POST /_security/user/kibana_system/_password",
        ]
    );
}

#[tokio::test]
async fn lifecycle_and_templates_are_as_elasticsearch_documents_them() {
    let full = Cluster {
        is_full: true,
        ..Cluster::default()
    };
    let (ended, changes) = run(full, &["setup", "--retain-days", "7"]).await;
    ended.unwrap();
    let mark = |description: &str| json!({"managed_by": "joblogs", "name": "joblogs", "version": 2, "description": description});
    assert_eq!(
        *body(&changes, "PUT /_ilm/policy/joblogs-joblogs"),
        json!({"policy": {
            "_meta": mark("Deletes indices of CI logs some days after they were made."),
            "phases": {
                "hot": {"min_age": "0ms", "actions": {}},
                "delete": {"min_age": "7d", "actions": {"delete": {}}},
            },
        }})
    );
    let settings = body(
        &changes,
        "PUT /_component_template/joblogs-joblogs-settings",
    );
    assert_eq!(
        settings["template"]["settings"]["index"],
        json!({
            "number_of_shards": 1, "auto_expand_replicas": "0-1", "refresh_interval": "5s",
            "codec": "best_compression", "lifecycle": {"name": NAME},
        })
    );
    let jobs = body(&changes, "PUT /_component_template/joblogs-joblogs-jobs");
    let failure = &jobs["template"]["mappings"]["properties"]["failure"]["properties"];
    assert_eq!(failure["message"]["type"], "match_only_text");
    assert_eq!(
        *body(&changes, "PUT /_index_template/joblogs-joblogs-jobs"),
        json!({
            "_meta": mark("Manifests of CI jobs."),
            "index_patterns": ["20*-joblogs-jobs"],
            "priority": 501 + 3 * 7 + 1,
            "composed_of": [
                "joblogs-joblogs-settings", "joblogs-joblogs-facts", "joblogs-joblogs-jobs", "joblogs-joblogs-custom",
            ],
            "template": {
                "aliases": {"joblogs-joblogs-jobs": {}},
                "mappings": {"_meta": mark("Manifests of CI jobs.")},
            },
        })
    );
    let rejected = body(&changes, "PUT /_index_template/joblogs-joblogs-rejected");
    assert_eq!(rejected["template"]["aliases"], Value::Null);
}

#[tokio::test]
async fn roles_and_users_have_what_is_needed_and_their_passwords() {
    let full = Cluster {
        is_full: true,
        ..Cluster::default()
    };
    let words = [
        "setup",
        "--index-names",
        "team-*",
        "--consumer-pass",
        "pass-of-consumer",
        "--kibana-pass",
        "pass-of-kibana",
    ];
    let (ended, changes) = run(full, &words).await;
    ended.unwrap();
    assert_eq!(
        *body(&changes, "PUT /_security/role/joblogs-joblogs-consumer"),
        json!({
            "cluster": ["monitor"],
            "indices": [
                {
                    "names": ["20*-team-*", "20*-joblogs", "20*-team-*-rejected", "20*-joblogs-rejected"],
                    "privileges": ["auto_configure", "index"],
                },
                {
                    "names": ["20*-team-*-jobs", "20*-joblogs-jobs"],
                    "privileges": ["auto_configure", "index", "read"],
                },
            ],
            "metadata": {"managed_by": "joblogs", "name": "joblogs", "version": 2},
        })
    );
    assert_eq!(
        *body(&changes, "PUT /_security/user/joblogs-joblogs-consumer"),
        json!({
            "password": "pass-of-consumer",
            "roles": ["joblogs-joblogs-consumer"],
            "full_name": "Joblogs, joblogs-joblogs-consumer",
        })
    );
    assert_eq!(
        *body(&changes, "POST /_security/user/kibana_system/_password"),
        json!({"password": "pass-of-kibana"})
    );
    assert!(
        !changes
            .iter()
            .any(|(it, _)| it.contains("user/joblogs-joblogs-retention")),
        "nobody asked for it"
    );
}

#[tokio::test]
async fn a_cluster_that_lacks_much_gets_the_next_best_and_no_lifecycle() {
    let words = [
        "setup",
        "--consumer-pass",
        "pass-of-consumer",
        "--kibana-pass",
        "pass-of-kibana",
    ];
    let (ended, changes) = run(Cluster::default(), &words).await;
    ended.unwrap();
    let settings = body(
        &changes,
        "PUT /_component_template/joblogs-joblogs-settings",
    );
    assert_eq!(
        settings["template"]["settings"]["index"]["lifecycle"],
        Value::Null
    );
    assert!(
        !changes.iter().any(|(it, _)| it.contains("/_ilm/")),
        "{changes:#?}"
    );
    let lines = changes
        .iter()
        .filter(|(it, _)| it.ends_with("joblogs-joblogs-lines"));
    let types: Vec<&Value> = lines
        .map(|(_, body)| &body["template"]["mappings"]["properties"]["message"])
        .collect();
    assert_eq!(types.len(), 2, "the better one first");
    assert_eq!(types[0]["type"], "match_only_text");
    assert_eq!(types[1]["type"], "text");
    assert_eq!(types[1]["norms"], false);
}

#[tokio::test]
async fn a_missing_privilege_is_named_and_nothing_more_is_sent() {
    for (lacking, words, what) in [
        (
            ("/_ilm", "manage_ilm"),
            &["setup"][..],
            "the lifecycle policy",
        ),
        (
            (
                "/_index_template/joblogs-joblogs-jobs",
                "manage_index_templates",
            ),
            &["setup"],
            "the index template joblogs-joblogs-jobs",
        ),
        (
            ("/_security", "manage_security"),
            &["setup", "--consumer-pass", "pass-of-consumer"],
            "the role",
        ),
    ] {
        let cluster = Cluster {
            is_full: true,
            lacking: Some(lacking),
            ..Cluster::default()
        };
        let (ended, changes) = run(cluster, words).await;
        let said = format!("{:#}", ended.unwrap_err());
        assert!(said.contains(what), "{said}");
        let privilege = format!(
            "its user elastic lacks the cluster privilege {};",
            lacking.1
        );
        assert!(said.contains(&privilege), "{said}");
        let after = changes.iter().rposition(|(it, _)| it.contains(lacking.0));
        assert!(
            after.is_none_or(|at| at + 1 == changes.len()),
            "{changes:#?}"
        );
    }
}

#[tokio::test]
async fn roles_that_nobody_asked_for_are_no_reason_to_fail() {
    let cluster = Cluster {
        is_full: true,
        lacking: Some(("/_security", "manage_security")),
        ..Cluster::default()
    };
    let (ended, changes) = run(cluster, &["setup"]).await;
    ended.unwrap();
    let asked = changes.iter().filter(|(it, _)| it.contains("/_security/"));
    assert_eq!(asked.count(), 1, "{changes:#?}");
}

#[tokio::test]
async fn a_dry_run_only_looks() {
    for is_full in [true, false] {
        let cluster = Cluster {
            is_full,
            has_policy: true,
            ..Cluster::default()
        };
        let words = ["setup", "--dry-run", "--consumer-pass", "pass-of-consumer"];
        let (ended, changes) = run(cluster, &words).await;
        ended.unwrap();
        assert_eq!(changes, []);
        let (ended, changes) = run(cluster, &["retention", "--dry-run"]).await;
        ended.unwrap();
        assert_eq!(changes, []);
    }
}

#[tokio::test]
async fn retention_leaves_to_a_lifecycle_policy_what_has_one() {
    let cluster = Cluster {
        is_full: true,
        has_policy: true,
        ..Cluster::default()
    };
    let (ended, changes) = run(cluster, &["retention"]).await;
    ended.unwrap();
    assert_eq!(changes, []);
}

#[tokio::test]
async fn api_keys_are_made_as_elasticsearch_documents_them_and_kept_in_files_of_ours() {
    let full = Cluster {
        is_full: true,
        ..Cluster::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (consumer, retention) = (file("consumer"), file("retention"));
    fs::write(&retention, "").unwrap(); // an empty one holds no key
    let words = [
        "setup",
        "--consumer-api-key-file",
        &consumer,
        "--retention-api-key-file",
        &retention,
    ];
    let (ended, changes) = run(full, &words).await;
    ended.unwrap();
    let made: Vec<&Value> = changes
        .iter()
        .filter(|(it, _)| it == "POST /_security/api_key")
        .map(|(_, body)| body)
        .collect();
    let rights_of_the_consumer = json!({"joblogs-joblogs-consumer": {
        "cluster": ["monitor"],
        "indices": [
            {"names": ["20*-joblogs", "20*-joblogs-rejected"], "privileges": ["auto_configure", "index"]},
            {"names": ["20*-joblogs-jobs"], "privileges": ["auto_configure", "index", "read"]},
        ],
    }});
    let metadata = json!({"managed_by": "joblogs", "name": "joblogs", "version": 2});
    assert_eq!(
        made,
        [
            &json!({
                "name": "joblogs-joblogs-consumer",
                "role_descriptors": rights_of_the_consumer,
                "metadata": metadata,
            }),
            &json!({
                "name": "joblogs-joblogs-retention",
                "role_descriptors": {"joblogs-joblogs-retention": {
                    "cluster": ["monitor"],
                    "indices": [{
                        "names": ["20*-joblogs", "20*-joblogs-jobs", "20*-joblogs-rejected"],
                        "privileges": ["view_index_metadata", "delete_index"],
                    }],
                }},
                "metadata": metadata,
            }),
        ]
    );
    let encoded = made_key()["encoded"].as_str().unwrap().to_owned();
    for path in [&consumer, &retention] {
        assert_eq!(fs::read_to_string(path).unwrap().trim_end(), encoded);
        let permissions = fs::metadata(path).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, 0o600, "{path}");
    }
    let (ended, changes) = run(full, &words).await;
    ended.unwrap();
    assert!(
        !changes
            .iter()
            .any(|(it, _)| it == "POST /_security/api_key"),
        "they are there"
    );
    assert_eq!(
        *body(&changes, &format!("PUT /_security/api_key/{KEY_ID}")),
        json!({"role_descriptors": rights_of_the_consumer, "metadata": metadata})
    );
    assert_eq!(fs::read_to_string(&consumer).unwrap().trim_end(), encoded);
    assert_eq!(
        fs::read_dir(&folder).unwrap().count(),
        2,
        "nothing else is left"
    );
}

#[tokio::test]
async fn a_key_that_is_no_more_a_file_of_something_else_and_a_cluster_without_keys_end_in_one_sentence()
 {
    let full = Cluster {
        is_full: true,
        ..Cluster::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let encoded = made_key()["encoded"].as_str().unwrap().to_owned();
    fs::write(at("forgotten"), &encoded).unwrap();
    fs::write(at("password"), "canary").unwrap();
    let forgetful = Cluster {
        forgets_keys: true,
        ..full
    };
    for (cluster, file, why) in [
        (
            forgetful,
            at("forgotten"),
            format!("the API key {KEY_ID} of the file"),
        ),
        (full, at("password"), "holds no API key".to_owned()),
        (full, at("no/such/folder"), "can't be written".to_owned()),
        (
            Cluster::default(),
            at("new"),
            "refused the API key joblogs-joblogs-consumer: no handler found".to_owned(),
        ),
    ] {
        let words = ["setup", "--consumer-api-key-file", &file];
        let before = fs::read_to_string(&file).ok();
        let (ended, changes) = run(cluster, &words).await;
        let said = format!("{:#}", ended.unwrap_err());
        assert!(said.contains(&why), "{said}");
        assert!(
            !said.contains("canary") && !said.contains(&encoded),
            "{said}"
        );
        let made = changes
            .iter()
            .filter(|(it, _)| it == "POST /_security/api_key")
            .count();
        assert_eq!(made, usize::from(!cluster.is_full), "{file}");
        assert_eq!(
            fs::read_to_string(&file).ok(),
            before,
            "{file} is as it was"
        );
    }
    let (ended, changes) = run(
        full,
        &["setup", "--dry-run", "--consumer-api-key-file", &at("new")],
    )
    .await;
    ended.unwrap();
    assert_eq!(changes, []);
    assert!(!Path::new(&at("new")).exists());
    // An API key can't make another one, whatever it may.
    let words = [
        "consumer",
        "setup",
        "--es-host",
        "x",
        "--es-index",
        "x",
        "--es-api-key",
        &encoded,
    ];
    let words = words.into_iter().chain(["--retention-api-key-file", "x"]);
    let cli = Cli::try_parse_from(words).unwrap();
    let Some(Command::Setup(flags)) = &cli.command else {
        panic!("{cli:?}");
    };
    let refused = consumer::setup_of(flags, &cli.elasticsearch).err().unwrap();
    let said = refused.to_string();
    assert!(
        said.starts_with("--retention-api-key-file needs a user"),
        "{said}"
    );
}

#[tokio::test]
async fn with_an_api_key_every_request_carries_it_and_no_user() {
    let full = Cluster {
        is_full: true,
        has_policy: true,
        ..Cluster::default()
    };
    let key = made_key()["encoded"].as_str().unwrap().to_owned();
    let (ended, requests) = run_as(&["--es-api-key", &key], full, &["retention"]).await;
    ended.unwrap();
    assert!(!requests.is_empty());
    for request in &requests {
        assert_eq!(request.headers["authorization"], format!("ApiKey {key}"));
    }
}
