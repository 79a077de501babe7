//! What is refused, what goes wrong on command, and what is noted.

use super::Violation::{BeforeRetryAfter, Range, TokenInQuery, UnknownEndpoint};
use super::*;

#[tokio::test]
async fn tokens_are_refused_as_gitlab_refuses_them() {
    let fixture = Fixture::new().await;
    let gitlab = &fixture.gitlab;
    let job = gitlab.job(&fixture.project).finished();
    let ask = async |name: &'static str, value: String| {
        let path = format!("{}/trace", path(&job));
        let reply = send(fixture.request(&path).header(name, value)).await;
        (reply.status, reply.json())
    };
    let with = async |scope| {
        let token = gitlab.token(scope, &[&fixture.project]);
        ask("PRIVATE-TOKEN", token.value().to_owned()).await
    };
    let unauthorized = (401, json!({"message": "401 Unauthorized"}));
    assert_eq!(
        ask("PRIVATE-TOKEN", "glpat-nobody".into()).await,
        unauthorized
    );
    assert_eq!(
        ask("JOB-TOKEN", fixture.token.value().into()).await,
        unauthorized
    );
    assert_eq!(
        ask("Authorization", fixture.token.value().into()).await,
        unauthorized
    );
    let (status, body) = with(Scope::Expired).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_token")));
    assert!(
        body["error_description"]
            .as_str()
            .unwrap()
            .starts_with("Token is expired.")
    );
    let (status, body) = with(Scope::Revoked).await;
    assert_eq!((status, &body["error"]), (401, &json!("invalid_token")));
    let (status, body) = with(Scope::ReadRepository).await;
    assert_eq!(
        (status, &body["error"]),
        (403, &json!("insufficient_scope"))
    );
    let bearer = format!("Bearer {}", fixture.token.value());
    let reply = send(fixture.request(&path(&job)).header("Authorization", bearer)).await;
    assert_eq!(reply.status, 200);
    gitlab.set_scope(&fixture.token, Scope::Revoked);
    assert_eq!(fixture.get(&path(&job)).await.status, 401);
    gitlab.assert_no_violations();
}

#[tokio::test]
async fn what_is_not_there_or_not_visible_is_not_found() {
    let fixture = Fixture::new().await;
    let secret = fixture.gitlab.project("acme/secret");
    let hidden = fixture.gitlab.job(&secret).finished();
    let deleted = fixture.gitlab.job(&fixture.project).finished();
    deleted.delete();
    let no_project = (404, json!({"message": "404 Project Not Found"}));
    let no_job = (404, json!({"message": "404 Not found"}));
    let get = async |path: String| {
        let reply = fixture.get(&path).await;
        (reply.status, reply.json())
    };
    assert_eq!(get(path(&hidden)).await, no_project);
    assert_eq!(get("999/jobs/1".into()).await, no_project);
    assert_eq!(
        get(format!("{}/jobs/1", fixture.project.id())).await,
        no_job
    );
    // A job of another project is not found through this one.
    assert_eq!(
        get(format!("{}/jobs/{}", fixture.project.id(), hidden.id())).await,
        no_job
    );
    assert_eq!(get(path(&deleted)).await, no_job);
    let (status, project) = get("acme%2Fdemo".into()).await;
    assert_eq!(
        (status, &project["path_with_namespace"]),
        (200, &json!("acme/demo"))
    );
    assert_eq!(get("42".into()).await.1["build_timeout"], 3600);
    fixture.gitlab.assert_no_violations();
}

#[tokio::test]
async fn faults_come_as_often_as_planned() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    let other = fixture.gitlab.job(&fixture.project).finished();
    let trace = format!("{}/trace", path(&job));
    job.fault(On::Trace, Fault::Unavailable(502), 2);
    job.fault(On::Trace, Fault::LoginPage, 1);
    job.fault(
        On::Trace,
        Fault::Redirect("http://elsewhere.invalid/".into()),
        1,
    );
    job.fault(On::Trace, Fault::Forbidden, 1);
    assert_eq!(fixture.get(&path(&job)).await.status, 200);
    assert_eq!(fixture.trace(&other).await, other.trace());
    assert_eq!(fixture.get(&trace).await.status, 502);
    assert_eq!(fixture.get(&trace).await.status, 502);
    let login = fixture.get(&trace).await;
    assert_eq!(
        (login.status, login.header("content-type")),
        (200, "text/html; charset=utf-8")
    );
    let redirect = fixture.get(&trace).await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (302, "http://elsewhere.invalid/")
    );
    assert_eq!(
        fixture.get(&trace).await.json(),
        json!({"message": "403 Forbidden"})
    );
    assert_eq!(fixture.trace(&job).await, job.trace());

    fixture
        .gitlab
        .fault(On::Any, Fault::Unavailable(503), ALWAYS);
    assert_eq!(fixture.get(&path(&other)).await.status, 503);
    assert_eq!(fixture.get("42").await.status, 503);
    fixture.gitlab.clear_faults();
    assert_eq!(fixture.get("42").await.status, 200);

    let asked = Instant::now();
    job.fault(On::Facts, Fault::Delay(Duration::from_millis(300)), 1);
    assert_eq!(fixture.get(&path(&job)).await.status, 200);
    assert!(asked.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn who_does_not_wait_for_retry_after_is_refused_and_noted() {
    let fixture = Fixture::new().await;
    let job = fixture.gitlab.job(&fixture.project).finished();
    let other = fixture.gitlab.job(&fixture.project).finished();
    job.fault(On::Trace, Fault::RateLimited(2), 1);
    let refused = fixture.get(&format!("{}/trace", path(&job))).await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "2"));
    assert_eq!(refused.body, b"Retry later\n");
    assert_eq!(refused.header("ratelimit-remaining"), "0");
    assert_eq!(fixture.get(&path(&other)).await.status, 200);
    fixture.gitlab.assert_no_violations();

    assert_eq!(fixture.get(&path(&job)).await.status, 429);
    let violations = fixture.gitlab.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].violations, [BeforeRetryAfter]);
    until("the end of the refusal", async || {
        (fixture.get(&path(&job)).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_log_has_every_request_and_its_violations() {
    let fixture = Fixture::new().await;
    let gitlab = &fixture.gitlab;
    let job = gitlab.job(&fixture.project).finished();
    let token = fixture.token.value();
    fixture.trace(&job).await;
    let with_query = format!("{}?private_token={token}", path(&job));
    assert_eq!(
        send(fixture.request(&with_query).header("PRIVATE-TOKEN", token))
            .await
            .status,
        401
    );
    let range = fixture
        .request(&path(&job))
        .header("PRIVATE-TOKEN", token)
        .header("Range", "bytes=0-9");
    assert_eq!(send(range).await.status, 200);
    let post = fixture
        .http
        .post(format!("{}api/v4/projects/{}", gitlab.url(), path(&job)));
    assert_eq!(send(post).await.status, 405);
    assert_eq!(
        send(fixture.http.get(format!("{}-/jobs/1/raw", gitlab.url())))
            .await
            .status,
        404
    );

    let about_the_job = gitlab.requests_for(&job);
    let seen: Vec<(&str, u16, Option<TokenId>)> = about_the_job
        .iter()
        .map(|request| (request.method.as_str(), request.status, request.token))
        .collect();
    let id = Some(fixture.token.id());
    assert_eq!(
        seen,
        [
            ("GET", 200, id),
            ("GET", 401, None),
            ("GET", 200, id),
            ("POST", 405, None)
        ]
    );
    assert!(about_the_job[0].is_trace());
    let violations: Vec<Violation> = gitlab
        .violations()
        .into_iter()
        .flat_map(|request| request.violations)
        .collect();
    assert_eq!(
        violations,
        [TokenInQuery, Range, UnknownEndpoint, UnknownEndpoint]
    );
    assert!(!format!("{:?}{:?}", gitlab.requests(), fixture.token).contains(token));
}

#[tokio::test]
#[should_panic(expected = "requests that GitLab should never see")]
async fn a_violation_fails_the_test_that_asserts_there_is_none() {
    let fixture = Fixture::new().await;
    send(fixture.request("42?private_token=x")).await;
    fixture.gitlab.assert_no_violations();
}
