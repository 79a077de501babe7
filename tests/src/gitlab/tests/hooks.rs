//! Webhooks: what the API refuses, and what it keeps.

use reqwest::Method;

use super::*;

const SIGNING: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTAwMDA=";

/// The status and the body of a request about webhooks by this token.
async fn call(
    fixture: &Fixture,
    token: &Token,
    method: Method,
    path: &str,
    body: &Value,
) -> (u16, Value) {
    let url = format!("{}api/v4/{path}", fixture.gitlab.url());
    let request = fixture.http.request(method, url).json(body);
    let reply = send(request.header("PRIVATE-TOKEN", token.value())).await;
    let body = serde_json::from_slice(&reply.body).unwrap_or_default();
    (reply.status, body)
}

#[tokio::test]
async fn webhooks_are_refused_as_gitlab_refuses_them() {
    let fixture = Fixture::new().await;
    let able = fixture.gitlab.token(Scope::Api, &[&fixture.project]);
    let good = json!({"url": "https://x/"});
    for (token, path, body, status) in [
        (&able, "projects/42/hooks", json!({}), 400),
        (&able, "projects/42/hooks", json!({"url": "x"}), 422),
        (
            &able,
            "projects/42/hooks",
            json!({"url": "https://x/", "job_events": "perhaps"}),
            400,
        ),
        (
            &able,
            "projects/42/hooks",
            json!({"url": "https://x/", "signing_token": "whsec_AAAA"}),
            422,
        ),
        (&able, "projects/43/hooks", good.clone(), 404),
        (&able, "groups/other/hooks", good.clone(), 404),
        (&fixture.token, "projects/42/hooks", good.clone(), 403),
    ] {
        let (given, answer) = call(&fixture, token, Method::POST, path, &body).await;
        assert_eq!(given, status, "{path} {body}: {answer}");
    }
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let answer = call(&fixture, &able, method, "projects/42/hooks/1", &good);
        assert_eq!(answer.await.0, 404);
    }
    let list = call(
        &fixture,
        &fixture.token,
        Method::GET,
        "projects/42/hooks",
        &good,
    );
    assert_eq!(list.await, (200, json!([])));
    fixture.gitlab.assert_no_violations();
}

#[tokio::test]
async fn a_webhooks_secrets_are_kept_and_never_shown_and_go_with_its_url() {
    let fixture = Fixture::new().await;
    let able = fixture.gitlab.token(Scope::Api, &[&fixture.project]);
    let hook = json!({"url": "https://x/", "token": "canary", "signing_token": SIGNING});
    let path = "projects/acme%2Fdemo/hooks";
    let (status, shown) = call(&fixture, &able, Method::POST, path, &hook).await;
    assert_eq!(status, 201);
    assert_eq!(shown["push_events"], true);
    assert_eq!(shown["job_events"], false);
    assert_eq!(shown["token_present"], true);
    assert_eq!(shown["signing_token_present"], true);
    let text = shown.to_string();
    assert!(
        !text.contains("canary") && !text.contains("whsec"),
        "{text}"
    );

    let path = format!("{path}/{}", shown["id"]);
    let change = async |body: Value| {
        let (status, shown) = call(&fixture, &able, Method::PUT, &path, &body).await;
        assert_eq!(status, 200);
        shown
    };
    let shown = change(json!({"job_events": true})).await;
    assert_eq!(shown["job_events"], true);
    assert_eq!(shown["token_present"], true);
    let shown = change(json!({"url": "https://elsewhere/"})).await;
    assert_eq!(shown["token_present"], false);
    assert_eq!(shown["signing_token_present"], false);
    let (status, _) = call(&fixture, &able, Method::DELETE, &path, &json!({})).await;
    assert_eq!(status, 204);
    fixture.gitlab.assert_no_violations();
}
