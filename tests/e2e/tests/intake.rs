//! What the listener takes, what it refuses, and what it says meanwhile.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::gitlab::Trace;
use futures_util::stream;
use reqwest::{Body, RequestBuilder, StatusCode};
use serde_json::json;

use crate::listener::{Listener, fields};
use crate::proxy::Proxy;
use crate::world::World;

/// Stands in every malformed notice; no answer may repeat it.
const CANARY: &str = "canary-7f3a";
/// A refused caller may come again after an outage of the broker.
const RECOVERED: Duration = Duration::from_secs(15);

pub(crate) async fn a_broker_that_is_down_means_503_and_recovery(world: &World) -> Result<()> {
    world.set_up().await?;
    let proxy = Proxy::start(world.servers.rabbitmq.port).await?;
    let listener = world.listener_by(proxy.port(), &world.gitlab.url()).await?;
    world.consumer().await?;
    let before = world.job().trace(Trace::Lines(100)).finished();
    listener.post(&before, &world.token).await?;
    proxy.cut();
    let job = world.job().trace(Trace::Lines(100)).finished();
    let post = listener.notice_of(&job, &world.token);
    let get = listener.get_of(&fields(&job), &world.token);
    for notice in [post, get] {
        listener.refuses(notice).await?;
    }
    ensure!(listener.faults().await?.is_some(), "ready without a broker");
    proxy.mend();
    world
        .until("notices are taken again", RECOVERED, async || {
            listener.post(&job, &world.token).await
        })
        .await?;
    for job in [before, job] {
        world.exact(&job, Duration::from_secs(30)).await?;
    }
    Ok(())
}

/// RabbitMQ confirms a message that no queue takes, and forgets it.
pub(crate) async fn a_notice_that_no_queue_takes_is_not_accepted(world: &World) -> Result<()> {
    world.set_up().await?;
    let listener = world.listener().await?;
    world.consumer().await?;
    world.queues.unbind().await?;
    let job = world.job().trace(Trace::Lines(100)).finished();
    let post = listener.notice_of(&job, &world.token);
    let get = listener.get_of(&fields(&job), &world.token);
    for notice in [post, get] {
        listener.refuses(notice).await?;
    }
    world.initmq().await?;
    world
        .until("notices are taken again", RECOVERED, async || {
            listener.post(&job, &world.token).await
        })
        .await?;
    world.exact(&job, Duration::from_secs(30)).await?;
    Ok(())
}

pub(crate) async fn malformed_notices_get_fixed_sentences_that_echo_nothing(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let listener = world.listener().await?;
    for (what, query, sentence) in [
        ("nothing", "", "missing: project_id, job_id"),
        ("no job", "project_id=1", "missing: job_id"),
        ("an empty job", "project_id=1&job_id=", "missing: job_id"),
        (
            "no number",
            "project_id=1&job_id=canary-7f3a",
            "malformed or not allowed: job_id",
        ),
        (
            "0",
            "project_id=0&job_id=1&job_name=canary-7f3a",
            "malformed or not allowed: project_id",
        ),
        (
            "too large",
            "project_id=1&job_id=9999999999999999999",
            "malformed or not allowed: job_id",
        ),
        (
            "twice",
            "project_id=1&job_id=2&job_id=canary-7f3a",
            "given twice: job_id",
        ),
        (
            "twice, once encoded",
            "project_id=1&job_id=2&job%5Fid=canary-7f3a",
            "given twice: job_id",
        ),
        (
            "a foreign index",
            "project_id=1&job_id=2&index_name=canary-7f3a",
            "malformed or not allowed: index_name",
        ),
    ] {
        let request = listener.http().get(format!("{}?{query}", listener.url));
        let request = request.header("PRIVATE-TOKEN", "glpat-1");
        is_refused(what, request, StatusCode::BAD_REQUEST, sentence).await?;
    }
    let no_token = format!("{}?project_id=1&job_id=2&job_name={CANARY}", listener.url);
    let sentence = "missing or malformed: gitlab_token (or the header PRIVATE-TOKEN)";
    is_refused(
        "no token",
        listener.http().get(no_token),
        StatusCode::UNAUTHORIZED,
        sentence,
    )
    .await?;
    // Without an error it would publish.
    let head = format!("{}?project_id=1&job_id=2&gitlab_token=x", listener.url);
    let request = listener.http().head(head);
    is_refused("HEAD", request, StatusCode::METHOD_NOT_ALLOWED, "").await?;
    malformed_posts(&listener).await
}

async fn malformed_posts(listener: &Listener) -> Result<()> {
    const NO_OBJECT: &str = "the body is no JSON object";
    const TYPE: &str = "the Content-Type must be application/json";
    let post = || {
        let request = listener.http().post(format!("{}v1/jobs", listener.url));
        request.header("PRIVATE-TOKEN", "glpat-1")
    };
    let good = json!({"project_id": 1, "job_id": 2});
    let large = json!({"project_id": 1, "job_id": 2, "job_name": CANARY.repeat(8_000)});
    // Without a Content-Length nobody knows beforehand how much will come.
    let pieces = stream::iter((0..8).map(|_| std::io::Result::Ok(CANARY.repeat(1_000))));
    let chunked = post()
        .header("content-type", "application/json")
        .body(Body::wrap_stream(pieces));
    let unauthorised = listener.post_of(&json!({"project_id": CANARY}));
    let bad = StatusCode::BAD_REQUEST;
    let wrong = StatusCode::UNPROCESSABLE_ENTITY;
    for (what, request, status, sentence) in [
        (
            "an unknown field",
            post().json(&json!({"project_id": 1, "job_id": 2, "colour": CANARY})),
            wrong,
            "unknown: colour",
        ),
        (
            "a field twice",
            post()
                .header("content-type", "application/json")
                .body(format!(
                    r#"{{"project_id":1,"job_id":2,"job_id":"{CANARY}"}}"#
                )),
            wrong,
            "given twice: job_id",
        ),
        (
            "another type",
            post().json(&json!({"project_id": {"a": CANARY}, "job_id": [1]})),
            wrong,
            "malformed or not allowed: job_id, project_id",
        ),
        (
            "a field missing",
            post().json(&json!({"project_id": 1})),
            wrong,
            "missing: job_id",
        ),
        (
            "no JSON",
            post()
                .header("content-type", "application/json")
                .body(CANARY),
            bad,
            NO_OBJECT,
        ),
        ("a list", post().json(&json!([CANARY])), bad, NO_OBJECT),
        (
            "no content type",
            post().body(good.to_string()),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            TYPE,
        ),
        (
            "a form",
            post()
                .header("content-type", "application/x-www-form-urlencoded")
                .body("project_id=1&job_id=2"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            TYPE,
        ),
        (
            "a large body",
            post().json(&large),
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB",
        ),
        (
            "a large body in chunks",
            chunked,
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body is larger than 64 KiB",
        ),
        (
            "no token",
            unauthorised,
            StatusCode::UNAUTHORIZED,
            "give a GitLab token with the scope read_api in the header PRIVATE-TOKEN",
        ),
    ] {
        is_refused(what, request, status, sentence).await?;
    }
    Ok(())
}

/// The answer has this status, this sentence, and nothing of what was sent.
async fn is_refused(
    what: &str,
    request: RequestBuilder,
    status: StatusCode,
    sentence: &str,
) -> Result<()> {
    let answer = request.send().await.with_context(|| what.to_owned())?;
    let got = answer.status();
    let headers = format!("{:?}", answer.headers());
    let text = answer.text().await?;
    ensure!(got == status, "{what}: {got} and not {status}: {text}");
    let detail: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let said = detail["detail"].as_str().unwrap_or(&text);
    ensure!(said == sentence, "{what}: {said:?} and not {sentence:?}");
    ensure!(
        !text.contains("canary") && !headers.contains("canary"),
        "{what}: echoed in {headers} {text}"
    );
    Ok(())
}
