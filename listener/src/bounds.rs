//! What is done with each request before a call sees it: who comes too often is sent away, the body is read
//! within its bounds, and the outcome is noted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use metrics::counter;
use poem::{
    Body, Endpoint, IntoResponse, Request, Response,
    error::MethodNotAllowedError,
    http::{Method, StatusCode},
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::{Instant, timeout},
};

use crate::{
    accept::{Api, RETRY_AFTER, UNAVAILABLE, header},
    api, hooks,
    limits::Limits,
    noted::{Noted, noting},
    refusal::Form,
    tls::Certified,
    turns::{PATIENCE, Queue, Size, Turn, Turns},
};

/// A notice has a few hundred bytes; with a JWT for a token a few thousand.
const LARGEST_BODY: usize = 64 * 1024;
/// A pipeline event tells of all its jobs, with half a KiB and more each, and of a commit with a message of any size.
const LARGEST_WEBHOOK: usize = 1024 * 1024;
/// The same of a sender whose secret token is right.
const LARGEST_OF_KNOWN: usize = 4 * 1024 * 1024;
/// The largest body that GitLab sends has 25 MB.
const MOST_DISCARDED: usize = 32 * 1024 * 1024;
/// A notice, and most job events, have no more: who sends this much costs next to nothing.
const SMALL_BODY: usize = 4 * 1024;
/// So many notices are on their way to the broker at the same time; more make it no faster.
const CALLS: usize = 128;
/// From the end of a head to the answer, whatever hangs: each wait gets what is left of it.
const ANSWER: Duration = Duration::from_millis(5_500);
/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(5);

/// What bounds requests; one for all of them.
pub(crate) struct Bounds {
    limits: Limits,
    /// Whether notices are taken from those alone who show a certificate.
    wants_certificates: bool,
    /// Whose secrets are known.
    api: Arc<Api>,
    bodies: Turns,
    calls: Semaphore,
}

/// What a request keeps until it is done with.
struct Admitted<'a> {
    _body: (Queue, [Turn; 2]),
    _call: Option<SemaphorePermit<'a>>,
}

impl Bounds {
    pub(crate) fn new(limits: Limits, wants_certificates: bool, api: Arc<Api>) -> Self {
        Self {
            limits,
            wants_certificates,
            api,
            bodies: Turns::new(),
            calls: Semaphore::new(CALLS),
        }
    }

    /// The answer to a request, which is noted.
    pub(crate) async fn answer<E: Endpoint>(&self, endpoint: &E, mut request: Request) -> Response {
        let begun = Instant::now();
        let until = begun + ANSWER;
        let form = Form::of(&request);
        let address = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
        // Whoever watches over us must not take a flood for our end.
        if !is_health(request.uri().path()) && !self.limits.allow(address) {
            refused("rate");
            let sentence = "too many requests; come again in a second";
            let refusal = form.refuse(StatusCode::TOO_MANY_REQUESTS, sentence);
            return refusal.with_header("Retry-After", 1).into_response();
        }
        let (method, call) = (method(&request), call(request.uri().path()));
        let (answer, noted) = match self.admit(&mut request, until, form).await {
            // Its turns are kept until the request is done with. Who waits for a turn needs no room for a call.
            Ok(_turns) => match Box::pin(noting(until, endpoint.call(request))).await {
                (Ok(answer), noted) => (answer.into_response(), noted),
                (Err(error), noted) => (form.refuse_error(&error), noted),
            },
            Err(refusal) => (refusal, Noted::default()),
        };
        // Never the query: a token may stand in it.
        let status = answer.status().as_u16();
        let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let client = address.map(tracing::field::display);
        if call == OTHER || is_notice(call) {
            let Noted {
                jobs,
                delivery,
                event,
                ..
            } = noted;
            tracing::info!(target: ACCESS, method, call, status, milliseconds, client, jobs, delivery, event, "request");
        } else {
            tracing::debug!(target: ACCESS, method, call, status, milliseconds, client, "request");
        }
        answer
    }

    /// Reads the body, or refuses the request.
    async fn admit(
        &self,
        request: &mut Request,
        until: Instant,
        form: Form,
    ) -> Result<Admitted<'_>, Response> {
        let is_notice = is_notice(request.uri().path());
        // A notice comes by `GET` or `POST`. Left to poem, a `HEAD` would be a `GET`, and publish.
        if is_notice && request.method() == Method::HEAD {
            return Err(form.refuse_error(&MethodNotAllowedError.into()));
        }
        let certified = request.extensions().get::<Certified>();
        if self.wants_certificates && is_notice && !certified.is_some_and(|it| it.0) {
            refused("certificate");
            let sentence = "show a client certificate of the authority of this listener";
            return Err(form.refuse(StatusCode::UNAUTHORIZED, sentence));
        }
        let is_webhook = request.uri().path() == hooks::PATH;
        let is_known = is_webhook && self.is_known(request);
        let (largest, too_large) = match (is_webhook, is_known) {
            (false, _) => (LARGEST_BODY, "the body is larger than 64 KiB"),
            (true, false) => (LARGEST_WEBHOOK, "the body is larger than 1 MiB"),
            (true, true) => (LARGEST_OF_KNOWN, "the body is larger than 4 MiB"),
        };
        let queue = if is_known {
            self.bodies.of_known()
        } else {
            let address = request.remote_addr().as_socket_addr().map(SocketAddr::ip);
            self.bodies.of_client(address)
        };
        let body = request.take_body();
        match timeout(BODY, read(body, largest, &queue)).await {
            Ok(Ok(Read::Whole(bytes, turns))) => {
                request.set_body(bytes);
                let call = if is_notice {
                    Some(turn(&self.calls, until, form).await?)
                } else {
                    None
                };
                Ok(Admitted {
                    _body: (queue, turns),
                    _call: call,
                })
            }
            // GitLab switches off a hook whose events are refused, and a push may tell of thousands of files.
            Ok(Ok(Read::TooLarge)) if is_known && !hooks::is_about_jobs(request) => {
                Err(hooks::ignored_unread())
            }
            Ok(Ok(Read::TooLarge)) => {
                refused("body");
                Err(form.refuse(StatusCode::PAYLOAD_TOO_LARGE, too_large))
            }
            Ok(Ok(Read::Busy)) => Err(busy(form)),
            Ok(Err(_)) => {
                let sentence = "the body could not be read";
                Err(form.refuse(StatusCode::BAD_REQUEST, sentence))
            }
            Err(_) => {
                refused("body_time");
                let sentence = "the body took longer than 5 s";
                Err(form.refuse(StatusCode::REQUEST_TIMEOUT, sentence))
            }
        }
    }

    /// Whether the head alone proves that a webhook is one of ours; a signature is over the body.
    fn is_known(&self, request: &Request) -> bool {
        let is_signed = request.headers().contains_key("webhook-signature");
        let token = header(request, "X-Gitlab-Token");
        !is_signed && token.is_some_and(|it| self.api.origins.know_secret(it))
    }
}

/// Reads a body. One that is larger than a notice needs a turn from there on, and a large one another. What is too
/// large is read all the same, up to a bound: who still sends when the connection is closed sees no answer.
async fn read(body: Body, largest: usize, queue: &Queue) -> std::io::Result<Read> {
    const SIZES: [(usize, Size); 2] = [(SMALL_BODY, Size::Middle), (LARGEST_BODY, Size::Large)];
    let mut pieces = std::pin::pin!(body.into_bytes_stream());
    let (mut bytes, mut came) = (BytesMut::new(), 0);
    let mut turns = [Turn::new(), Turn::new()];
    while let Some(piece) = pieces.try_next().await? {
        came += piece.len();
        for (turn, (free, size)) in turns.iter_mut().zip(SIZES) {
            if came > free && came <= largest && turn.is_empty() {
                match queue.turn(size).await {
                    Some(its) => *turn = its,
                    None => return Ok(Read::Busy),
                }
            }
        }
        if came <= largest {
            bytes.extend_from_slice(&piece);
        } else if came <= MOST_DISCARDED {
            (bytes, turns) = (BytesMut::new(), [Turn::new(), Turn::new()]);
        } else {
            break;
        }
    }
    if came > largest {
        return Ok(Read::TooLarge);
    }
    Ok(Read::Whole(bytes.freeze(), turns))
}

enum Read {
    /// And the turns that a larger one has.
    Whole(Bytes, [Turn; 2]),
    TooLarge,
    /// There was no turn for it.
    Busy,
}

/// One of these turns, or 503.
async fn turn(
    turns: &Semaphore,
    until: Instant,
    form: Form,
) -> Result<SemaphorePermit<'_>, Response> {
    let patience = PATIENCE.min(until.saturating_duration_since(Instant::now()));
    match timeout(patience, turns.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(busy(form)),
    }
}

fn busy(form: Form) -> Response {
    refused("busy");
    let refusal = form.refuse(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE);
    refusal
        .with_header("Retry-After", RETRY_AFTER)
        .into_response()
}

/// Where requests are noted.
const ACCESS: &str = "listener::access";
const OTHER: &str = "other";

/// A method by its name; any other one may be as long as its sender likes.
fn method(request: &Request) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"];
    let known = METHODS
        .into_iter()
        .find(|it| *it == request.method().as_str());
    known.unwrap_or(OTHER)
}

/// A call by its path; any other path may hold anything.
fn call(path: &str) -> &'static str {
    const CALLS: [&str; 9] = [
        "/",
        api::PATH,
        hooks::PATH,
        "/healthcheck",
        "/health/live",
        "/health/ready",
        "/metrics",
        "/docs",
        "/openapi.json",
    ];
    let found = CALLS.into_iter().find(|call| *call == path);
    found.unwrap_or(OTHER)
}

fn is_health(path: &str) -> bool {
    matches!(path, "/health/live" | "/health/ready")
}

fn is_notice(path: &str) -> bool {
    matches!(path, "/" | api::PATH | hooks::PATH)
}

fn refused(reason: &'static str) {
    counter!("joblogs_requests_refused_total", "reason" => reason).increment(1);
}
