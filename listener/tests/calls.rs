//! Calls that must be refused before anything is published: without a broker, a notice that is
//! taken is answered 503.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use sha2::Sha256;
use support::Listener;

async fn post(listener: &Listener, body: &'static str) -> (u16, String) {
    let answer = listener
        .http
        .post(format!("{}/v1/jobs", listener.url))
        .header("content-type", "application/json")
        .header("PRIVATE-TOKEN", "glpat-1")
        .body(body)
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    let problem: Value = answer.json().await.unwrap();
    (
        status,
        problem["detail"].as_str().unwrap_or_default().to_owned(),
    )
}

/// `job%5Fid` is `job_id`: names were compared before they were decoded.
#[tokio::test]
async fn a_parameter_given_twice_is_refused_however_it_is_written() {
    let listener = Listener::start(&[], &[]);
    for (query, twice) in [
        ("project_id=1&job_id=2&job%5Fid=3", "job_id"),
        (
            "project_id=1&project%5fid=1&job_id=2&job_id=2",
            "project_id, job_id",
        ),
        (
            "project_id=1&job_id=2&gitlab_token=a&gitlab%5ftoken=b",
            "gitlab_token",
        ),
        (
            "project_id=1&job_id=2&%69ndex_name=a&index_name",
            "index_name",
        ),
    ] {
        let (status, body) = listener.get(&format!("/?{query}&gitlab_token=x")).await;
        assert_eq!(status, 400, "{query}: {body}");
        assert!(
            body.starts_with("given twice: ") && body.contains(twice),
            "{query}: {body}"
        );
    }
}

/// JSON's second value won silently.
#[tokio::test]
async fn a_field_given_twice_is_refused_by_name() {
    let listener = Listener::start(&[], &[]);
    for (body, twice) in [
        (
            r#"{"project_id":1,"project_id":2,"job_id":3}"#,
            "project_id",
        ),
        (r#"{"project_id":1,"job_id":3,"job\u005fid":3}"#, "job_id"),
        (
            r#"{"job_id":1,"project_id":1,"job_id":3,"project_id":4}"#,
            "job_id, project_id",
        ),
    ] {
        let answer = post(&listener, body).await;
        assert_eq!(answer, (422, format!("given twice: {twice}")), "{body}");
    }
    let (status, _) = post(&listener, r#"{"project_id":1,"job_id":3}"#).await;
    assert_eq!(status, 503, "a notice without a fault");
}

/// `curl -I` published a notice.
#[tokio::test]
async fn head_publishes_nothing() {
    let listener = Listener::start(&[], &[]);
    let url = format!("{}/?project_id=1&job_id=2&gitlab_token=x", listener.url);
    let answer = listener.http.head(url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 405);
    for path in ["/health/live", "/docs", "/openapi.json"] {
        let answer = listener
            .http
            .request(Method::HEAD, format!("{}{path}", listener.url));
        assert_eq!(
            answer.send().await.unwrap().status().as_u16(),
            200,
            "{path}"
        );
    }
}

/// A shell writes the header empty where the variable is unset.
#[tokio::test]
async fn an_empty_header_does_not_hide_the_parameter() {
    let listener = Listener::start(&[], &[]);
    let url = format!("{}/?project_id=1&job_id=2&gitlab_token=x", listener.url);
    let request = listener.http.get(url).header("PRIVATE-TOKEN", "");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 503);
    let url = format!("{}/?project_id=1&job_id=2&gitlab_token=", listener.url);
    let request = listener.http.get(url).header("PRIVATE-TOKEN", "");
    assert_eq!(request.send().await.unwrap().status().as_u16(), 401);
}

/// The tab said «Swagger UI», the calls stood under «default», and backticks in summaries.
#[tokio::test]
async fn the_page_describes_every_call_and_loads_nothing_from_elsewhere() {
    let listener = Listener::start(&[], &[]);
    let (status, page) = listener.get("/docs").await;
    assert_eq!(status, 200);
    assert!(page.starts_with("<!DOCTYPE html>"));
    assert!(page.contains("<title>Joblogs listener</title>"));
    for loading in ["<script src", "rel=\"stylesheet\"", "@import"] {
        assert!(!page.contains(loading), "{loading}");
    }
    assert_eq!(listener.get("/docs/").await.0, 200);
    let (_, document) = listener.get("/openapi.json").await;
    let document: Value = serde_json::from_str(&document).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let calls = paths.iter().flat_map(|(path, calls)| {
        calls
            .as_object()
            .unwrap()
            .values()
            .map(move |it| (path, it))
    });
    for (path, call) in calls {
        let summary = call["summary"].as_str().unwrap_or_default();
        assert!(
            !summary.is_empty() && !summary.contains('`'),
            "{path}: {summary}"
        );
        assert!(call["tags"][0].is_string(), "{path}");
    }
}

/// Under the limit of all, whoever watches over the container took a flood for its end.
#[tokio::test]
async fn a_flood_is_no_reason_to_call_the_listener_dead() {
    let listener = Listener::start(&["--rate", "5"], &[]);
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(listener.get("/nothing").await.0);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(listener.get("/health/live").await.0, 200);
    assert_ne!(listener.get("/health/ready").await.0, 429);
}

/// GitLab switches off a webhook whose events are refused, whatever they are about.
#[tokio::test]
async fn an_event_about_something_else_may_be_of_any_size() {
    const SECRET: &str = "canary-0123456789abcdef";
    let listener = Listener::start(&["--webhook-secret", SECRET], &[]);
    let push = format!(r#"{{"object_kind":"push","x":"{}"}}"#, "x".repeat(5 << 20));
    let deliver = async |event: &str, secret: &str| {
        let request = listener
            .http
            .post(format!("{}/v1/webhooks/gitlab", listener.url))
            .header("content-type", "application/json")
            .header("X-Gitlab-Event", event)
            .header("X-Gitlab-Token", secret);
        let answer = request.body(push.clone()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (status, said) = deliver("Push Hook", SECRET).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(said, r#"{"ignored":"it is not about jobs"}"#);
    // It may hold jobs, or be anybody's.
    assert_eq!(deliver("Pipeline Hook", SECRET).await.0, 413);
    assert_eq!(deliver("System Hook", SECRET).await.0, 413);
    assert_eq!(deliver("Push Hook", "wrong-0123456789abcdef").await.0, 413);
}

/// The listener refuses this call, counts it, and says in its log, with no part of the credential, that it was this.
async fn is_refused_for(listener: &Listener, call: RequestBuilder, fault: &str) {
    let counted =
        |count| format!("joblogs_requests_refused_total{{reason=\"credential\"}} {count}\n");
    let (_, metrics) = listener.get("/metrics").await;
    assert!(metrics.contains(&counted(0)), "{fault}: {metrics}");
    assert!(metrics.contains("# HELP joblogs_requests_refused_total "));
    let answer = call.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 401, "{fault}");
    let said = answer.text().await.unwrap();
    assert!(!said.contains(fault), "{said}");
    let (_, metrics) = listener.get("/metrics").await;
    assert!(metrics.contains(&counted(1)), "{fault}: {metrics}");
    // The log comes by a pipe.
    let end = Instant::now() + Duration::from_secs(5);
    let told = |logs: &str| {
        let mut lines = logs.lines();
        lines.any(|line| {
            line.contains("WARN") && line.contains("credential") && line.contains(fault)
        })
    };
    while !told(&listener.logs()) && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let logs = listener.logs();
    assert!(told(&logs), "{fault}: {logs}");
    assert!(!logs.contains("canary"), "{logs}");
}

/// Nothing was counted, and nothing told an operator why nobody got in.
#[tokio::test]
async fn a_refused_caller_is_counted_and_the_log_says_why() {
    const NOTICE: &str = r#"{"project_id":1,"job_id":3}"#;
    let secret = ("JOBLOGS_API_SECRET", "0123456789abcdef");
    let job = |listener: &Listener| {
        let call = listener.http.post(format!("{}/v1/jobs", listener.url));
        call.header("content-type", "application/json").body(NOTICE)
    };
    let listener = Listener::start(&[], &[secret]);
    let call = job(&listener).bearer_auth("canary-0123456789");
    is_refused_for(&listener, call, "api secret: wrong").await;

    let listener = Listener::start(&[], &[]);
    let call = listener
        .http
        .get(format!("{}/?project_id=1&job_id=2", listener.url));
    is_refused_for(&listener, call, "GitLab token: missing or malformed").await;

    let key = STANDARD.encode([7; 32]);
    let secrets = format!("whsec_{key}\ncanary-0123456789abcdef");
    let hook = ("JOBLOGS_WEBHOOK_SECRET", secrets.as_str());
    let event = |listener: &Listener| {
        let call = listener
            .http
            .post(format!("{}/v1/webhooks/gitlab", listener.url));
        call.header("content-type", "application/json").body("{}")
    };
    let listener = Listener::start(&[], &[hook]);
    let call = event(&listener).header("X-Gitlab-Token", "canary");
    is_refused_for(&listener, call, "webhook: token wrong").await;

    let now = jiff::Timestamp::now().as_second();
    for (key, time, fault) in [
        (
            [7; 32],
            now - 400,
            "webhook: timestamp outside of five minutes",
        ),
        (
            [7; 32],
            now + 400,
            "webhook: timestamp outside of five minutes",
        ),
        ([8; 32], now, "webhook: signature wrong"),
    ] {
        let listener = Listener::start(&[], &[hook]);
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("id.{time}.{{}}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let call = event(&listener)
            .header("webhook-id", "id")
            .header("webhook-timestamp", time)
            .header("webhook-signature", format!("v1,{signature}"));
        is_refused_for(&listener, call, fault).await;
    }
}

#[tokio::test]
async fn the_log_says_what_is_wrong_with_an_id_token() {
    /// Of the PKCS #8 in which a key of 2048 bits stands.
    const HEAD: usize = 26;
    let key = |()| {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        EncodingKey::from_rsa_der(&pair.serialize_der()[HEAD..])
    };
    let [ours, others] = [(), ()].map(key);
    let jwk = Jwk::from_encoding_key(&ours, Algorithm::RS256).unwrap();
    let mut jwk = serde_json::to_value(jwk).unwrap();
    jwk["kid"] = "one".into();
    let keys = std::env::temp_dir().join(format!("joblogs-keys-{}.json", std::process::id()));
    std::fs::write(&keys, json!({"keys": [jwk]}).to_string()).unwrap();
    let flags = [
        "--id-token-audience",
        "us",
        "--gitlab-keys",
        keys.to_str().unwrap(),
    ];
    let later = jiff::Timestamp::now().as_second() + 300;
    for (signer, id, change, fault) in [
        (&ours, "one", json!({"aud": "canary"}), "ID token: audience"),
        (
            &ours,
            "one",
            json!({"exp": later - 400}),
            "ID token: expired",
        ),
        (
            &ours,
            "one",
            json!({"nbf": later}),
            "ID token: not valid yet",
        ),
        (
            &ours,
            "one",
            json!({"exp": null}),
            "ID token: a claim is missing",
        ),
        (
            &ours,
            "one",
            json!({"iss": "https://canary.example"}),
            "ID token: issuer",
        ),
        (
            &ours,
            "one",
            json!({"job_id": "2"}),
            "ID token: of another job",
        ),
        (&ours, "two", json!({}), "ID token: unknown key"),
        (&others, "one", json!({}), "ID token: signature"),
    ] {
        let listener = Listener::start(&flags, &[]);
        let mut claims = json!({
            "iss": "https://gitlab.com", "aud": "us", "exp": later, "project_id": "1", "job_id": "3",
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(id.to_owned());
        let token = encode(&header, &claims, signer).unwrap();
        let call = listener.http.post(format!("{}/v1/jobs", listener.url));
        let call = call.header("content-type", "application/json");
        let call = call
            .body(r#"{"project_id":1,"job_id":3}"#)
            .bearer_auth(token);
        is_refused_for(&listener, call, fault).await;
    }
    std::fs::remove_file(keys).unwrap();
}
