//! The ways in: who is let in by which of them, and what comes of it.

use std::slice::from_ref;
use std::time::Duration;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use e2e::gitlab::{Gitlab, Job, Scope, Status, Trace};
use futures_util::stream;
use jiff::{Timestamp, ToSpan as _};
use reqwest::{Body, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::hook::{Proof, delivery, job_event, pipeline_event};
use crate::listener::{Listener, fields};
use crate::queue::JOBS;
use crate::world::World;

const TOKEN: &str = "canary-webhook-0123456789";
const NEXT_TOKEN: &str = "canary-webhook-9876543210";
const SIGNING: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTAwMDA=";
const NEXT_SIGNING: &str = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTAwMDE=";
const SHARED: &str = "canary-shared-0123456789";
const NEXT_SHARED: &str = "canary-shared-9876543210";
const INDEXED: Duration = Duration::from_secs(40);

/// A listener with two secrets for each way, as while they are being exchanged.
async fn listener(world: &World) -> Result<Listener> {
    let webhook = [TOKEN, NEXT_TOKEN, SIGNING, NEXT_SIGNING].join("\n");
    let shared = [SHARED, NEXT_SHARED].join("\n");
    let variables = [
        (
            "JOBLOGS_WEBHOOK_SECRET_FILE",
            world.secret("webhook-secret", &webhook)?,
        ),
        (
            "JOBLOGS_API_SECRET_FILE",
            world.secret("api-secret", &shared)?,
        ),
    ];
    world.listener_with(&variables).await
}

pub(crate) async fn d22_only_right_secrets_publish_and_two_are_right_while_rotating(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let listener = listener(world).await?;
    let job = world.job().finished();
    let event = job_event(&job);
    let hook = |proof: &Proof| delivery(&listener, "Job Hook", &event, proof);
    let long = TOKEN.repeat(100);
    let wrong = [
        "",
        "canary",
        &TOKEN[1..],
        &TOKEN[..TOKEN.len() - 1],
        &long,
        SHARED,
        SIGNING,
    ];
    let wrong = wrong.map(|token| Proof::Token(token.to_owned()));
    let never = "whsec_Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5LTAwMDI=";
    let now = Timestamp::now();
    let late = Proof::Signature(SIGNING.to_owned(), now - 6.minutes());
    let early = Proof::Signature(SIGNING.to_owned(), now + 6.minutes());
    let more = [Proof::Nothing, Proof::signature(never), late, early];
    for proof in wrong.iter().chain(&more) {
        is_refused(hook(proof), StatusCode::UNAUTHORIZED, "--webhook-secret").await?;
    }
    // Where there is a signature, the token is no way round it.
    let both = hook(&Proof::signature(never)).header("X-Gitlab-Token", TOKEN);
    is_refused(both, StatusCode::UNAUTHORIZED, "--webhook-secret").await?;
    let other_body = hook(&Proof::signature(SIGNING)).body(event.to_string() + " ");
    is_refused(other_body, StatusCode::UNAUTHORIZED, "--webhook-secret").await?;
    for credential in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer canary",
        SHARED,
        &format!("Basic {SHARED}"),
    ] {
        let notice = listener.post_of(&fields(&job));
        let notice = notice.header("Authorization", credential);
        is_refused(notice, StatusCode::UNAUTHORIZED, "Bearer").await?;
    }
    // A wrong secret is not made good by a token that was not asked for.
    let notice = listener.notice_of(&job, &world.token);
    let notice = notice.header("Authorization", format!("Bearer {TOKEN}"));
    is_refused(notice, StatusCode::UNAUTHORIZED, "Bearer").await?;
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");

    let tokens = [TOKEN, NEXT_TOKEN].map(|token| Proof::Token(token.to_owned()));
    let signatures = [SIGNING, NEXT_SIGNING].map(Proof::signature);
    for proof in tokens.iter().chain(&signatures) {
        is_taken(hook(proof), StatusCode::ACCEPTED).await?;
    }
    for secret in [SHARED, NEXT_SHARED] {
        let notice = listener.post_of(&fields(&job));
        let notice = notice.header("Authorization", format!("bearer {secret}"));
        is_taken(notice, StatusCode::ACCEPTED).await?;
    }
    let published = world.queues.look(JOBS).await?;
    ensure!(published.len() == 6, "{} messages, not 6", published.len());
    for message in &published {
        ensure!(
            !message.raw().contains("canary"),
            "a secret: {}",
            message.raw()
        );
    }
    let said = listener.program.output();
    ensure!(!said.contains("canary"), "a secret in the log: {said}");
    world.queues.take(JOBS).await?;
    Ok(())
}

pub(crate) async fn d22_an_id_token_opens_the_door_for_its_own_job_alone(
    world: &World,
) -> Result<()> {
    const AUDIENCE: &str = "https://joblogs.example.com";
    world.set_up().await?;
    let audience = [("JOBLOGS_ID_TOKEN_AUDIENCE", AUDIENCE.to_owned())];
    let listener = world.listener_with(&audience).await?;
    let [job, other] = [100, 100].map(|lines| world.job().trace(Trace::Lines(lines)).finished());
    let token = |others: Value| world.gitlab.id_token(&job, AUDIENCE, &others);
    let notice = |job: &Job, token: &str| {
        let notice = listener.post_of(&fields(job));
        notice.header("Authorization", format!("Bearer {token}"))
    };
    let now = Timestamp::now().as_second();
    let right = token(json!({}));
    let foreign = Gitlab::start().await;
    let issuer = world.gitlab.url();
    let forged = json!({"iss": issuer.trim_end_matches('/')});
    let (head, rest) = right.split_once('.').unwrap_or_default();
    let (claims, signature) = rest.split_once('.').unwrap_or_default();
    let head_of = |head: Value| URL_SAFE_NO_PAD.encode(head.to_string());
    let unsigned = head_of(json!({"alg": "none", "typ": "JWT"}));
    let unknown_key = head_of(json!({"alg": "RS256", "kid": "another", "typ": "JWT"}));
    let symmetric = head_of(json!({"alg": "HS256", "kid": "another", "typ": "JWT"}));
    for wrong in [
        token(json!({"aud": "https://elsewhere.example.com"})),
        token(json!({"aud": null})),
        token(json!({"iss": "https://elsewhere.example.com"})),
        token(json!({"exp": now - 90})),
        token(json!({"exp": null})),
        token(json!({"nbf": now + 90})),
        token(json!({"job_id": null})),
        // Another instance signs whatever it likes, and its key has the same id.
        foreign.id_token(
            &foreign.job(&foreign.project("acme/demo")).finished(),
            AUDIENCE,
            &forged,
        ),
        format!("{unsigned}.{claims}."),
        format!("{unknown_key}.{claims}.{signature}"),
        format!("{symmetric}.{claims}.{signature}"),
        format!("{head}.{claims}.{}", signature.to_uppercase()),
        format!("{head}.{claims}"),
        "a.b.c".to_owned(),
    ] {
        is_refused(notice(&job, &wrong), StatusCode::UNAUTHORIZED, "ID token").await?;
    }
    is_refused(
        notice(&other, &right),
        StatusCode::UNAUTHORIZED,
        "another job",
    )
    .await?;
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");
    let fetched = world.gitlab.requests();
    let fetched = fetched
        .iter()
        .filter(|it| it.path == "/oauth/discovery/keys")
        .count();
    ensure!(fetched == 1, "keys were fetched {fetched} times");

    let secret = world.secret("gitlab-token", world.token.value())?;
    let variables = [("JOBLOGS_GITLAB_TOKEN_FILE", secret)];
    world.consumer_with(&world.gitlab.url(), &variables).await?;
    is_taken(notice(&job, &right), StatusCode::ACCEPTED).await?;
    // In a merge request's pipeline the fork is named, and the project that runs the job.
    let fork = world.gitlab.id_token(
        &other,
        AUDIENCE,
        &json!({"project_id": "77", "aud": [AUDIENCE, "x"]}),
    );
    is_taken(notice(&other, &fork), StatusCode::ACCEPTED).await?;
    for job in [job, other] {
        world.exact(&job, INDEXED).await?;
    }
    Ok(())
}

pub(crate) async fn c21_irrelevant_events_get_2xx_and_malformed_ones_echo_nothing(
    world: &World,
) -> Result<()> {
    world.initmq().await?;
    let listener = listener(world).await?;
    let proof = Proof::Token(TOKEN.to_owned());
    let running = world.job().start();
    for (event, body) in [
        ("Job Hook", job_event(&running)),
        (
            "Pipeline Hook",
            pipeline_event(from_ref(&running), "running"),
        ),
        (
            "Pipeline Hook",
            pipeline_event(from_ref(&running), "success"),
        ),
        (
            "Push Hook",
            json!({"object_kind": "push", "ref": "refs/heads/main"}),
        ),
        (
            "System Hook",
            json!({"event_name": "user_create", "user_id": 41}),
        ),
        ("A Hook of 2030", json!({"object_kind": "canary"})),
    ] {
        is_taken(delivery(&listener, event, &body, &proof), StatusCode::OK).await?;
    }
    let mut no_id = job_event(&world.job().finished());
    no_id["build_id"] = json!("canary");
    let raw = |body: &'static str| delivery(&listener, "Job Hook", &Value::Null, &proof).body(body);
    let deep = "[".repeat(50_000);
    let large = json!({"object_kind": "build", "canary": "canary".repeat(800_000)});
    let pieces = stream::iter((0..50).map(|_| std::io::Result::Ok(vec![b' '; 100_000])));
    let chunked = delivery(&listener, "Job Hook", &Value::Null, &proof);
    let form = listener
        .http()
        .post(format!("{}v1/webhooks/gitlab", listener.url));
    let form = form
        .header("X-Gitlab-Token", TOKEN)
        .header("Content-Type", "application/x-www-form-urlencoded")
        .body("canary=canary");
    for (request, status, word) in [
        (raw("canary"), StatusCode::BAD_REQUEST, "JSON"),
        (raw("[\"canary\"]"), StatusCode::BAD_REQUEST, "JSON"),
        (raw("").body(deep), StatusCode::BAD_REQUEST, "JSON"),
        (
            delivery(&listener, "Job Hook", &no_id, &proof),
            StatusCode::UNPROCESSABLE_ENTITY,
            "job",
        ),
        (
            delivery(&listener, "Job Hook", &large, &proof),
            StatusCode::PAYLOAD_TOO_LARGE,
            "4 MiB",
        ),
        (
            chunked.body(Body::wrap_stream(pieces)),
            StatusCode::PAYLOAD_TOO_LARGE,
            "4 MiB",
        ),
        (form, StatusCode::UNSUPPORTED_MEDIA_TYPE, "application/json"),
    ] {
        is_refused(request, status, word).await?;
    }
    let published = world.queues.ready(JOBS).await?;
    ensure!(published == 0, "{published} messages were published");
    Ok(())
}

pub(crate) async fn events_and_shared_secrets_bring_logs_by_the_operators_token(
    world: &World,
) -> Result<()> {
    world.set_up().await?;
    let listener = listener(world).await?;
    // The operator exchanges the token under a running consumer.
    let revoked = world.gitlab.token(Scope::Revoked, &[&world.project]);
    let token = world.secret("gitlab-token", revoked.value())?;
    let variables = [("JOBLOGS_GITLAB_TOKEN_FILE", token)];
    world.consumer_with(&world.gitlab.url(), &variables).await?;
    world.secret("gitlab-token", world.token.value())?;
    let [by_event, by_secret] =
        [100, 200].map(|lines| world.job().trace(Trace::Lines(lines)).finished());
    let event = job_event(&by_event);
    let signed = Proof::signature(SIGNING);
    is_taken(
        delivery(&listener, "Job Hook", &event, &signed),
        StatusCode::ACCEPTED,
    )
    .await?;
    let notice = listener.post_of(&fields(&by_secret));
    let notice = notice.header("Authorization", format!("Bearer {SHARED}"));
    is_taken(notice, StatusCode::ACCEPTED).await?;

    let ran: Vec<Job> = [Status::Success, Status::Failed, Status::Canceled]
        .map(|outcome| {
            world
                .job()
                .trace(Trace::Lines(50))
                .outcome(outcome)
                .finished()
        })
        .to_vec();
    let skipped = world
        .job()
        .trace(Trace::None)
        .outcome(Status::Skipped)
        .finished();
    let event = pipeline_event(&[&ran[..], &[skipped]].concat(), "failed");
    let token = Proof::Token(TOKEN.to_owned());
    is_taken(
        delivery(&listener, "Pipeline Hook", &event, &token),
        StatusCode::ACCEPTED,
    )
    .await?;
    for job in ran.iter().chain([&by_event, &by_secret]) {
        world.exact(job, INDEXED).await?;
    }
    Ok(())
}

async fn is_taken(request: RequestBuilder, right: StatusCode) -> Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == right, "{status} and not {right}: {text}");
    Ok(())
}

/// The answer has this status, a sentence with this word, and nothing of what was sent.
async fn is_refused(request: RequestBuilder, right: StatusCode, word: &str) -> Result<()> {
    let answer = request.send().await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == right, "{status} and not {right}: {text}");
    let problem: Value = serde_json::from_str(&text)?;
    let detail = problem["detail"].as_str().unwrap_or_default();
    ensure!(detail.contains(word), "{detail:?} does not say {word:?}");
    ensure!(!text.contains("canary"), "echoed: {text}");
    Ok(())
}
