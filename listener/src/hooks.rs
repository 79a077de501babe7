//! The call that GitLab's webhooks make, and its OpenAPI description.

use std::sync::Arc;

use futures_util::future::try_join_all;
use notice::Source;
use poem::{IntoResponse as _, Request, Response};
use poem_openapi::{
    ApiResponse, Object, OpenApi, Tags, param::Header, payload::Json, types::Example,
};

use crate::{
    accept::{Api, Failure, Problem, RETRY_AFTER, UNAVAILABLE, header, problem, refused},
    body::RawJson,
    noted,
    origins::Unknown,
    webhook::{self, Credentials, Event, Malformed, NOT_ABOUT_JOBS},
};

/// Where GitLab calls.
pub(crate) const PATH: &str = "/v1/webhooks/gitlab";

/// The body, whose forms stand in `openapi.json`.
#[derive(Object)]
struct WebhookEvent {}

/// Jobs whose logs will be fetched.
#[derive(Object)]
#[oai(example)]
struct Taken {
    /// How many.
    jobs: u64,
}

impl Example for Taken {
    fn example() -> Self {
        Self { jobs: 1 }
    }
}

/// An event that has nothing for us: no fault of anybody's.
#[derive(Object)]
#[oai(example)]
struct Ignored {
    /// Why.
    ignored: String,
}

impl Example for Ignored {
    fn example() -> Self {
        Self {
            ignored: "the job is not over".to_owned(),
        }
    }
}

#[derive(ApiResponse)]
enum HookAnswer {
    /// The event was taken, and has nothing for us.
    #[oai(status = 200)]
    Ignored(Json<Ignored>),
    /// Its notices are in the queue.
    #[oai(status = 202)]
    Taken(Json<Taken>),
    /// The body is no JSON object.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// `X-Gitlab-Token` or the signature is missing or wrong, or the signature's time is not ours.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
    /// A field that is needed is missing or of another type; `detail` names it.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Json<Problem>),
    /// RabbitMQ did not confirm that it has the notices.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Json<Problem>,
        /// After how many seconds to try again.
        #[oai(header = "Retry-After")]
        u32,
    ),
}

#[derive(Tags)]
enum Group {
    /// From GitLab itself, without any change to a pipeline.
    Webhooks,
}

/// The call, for a listener that has secrets for it.
pub(crate) struct Hooks(pub(crate) Arc<Api>);

#[OpenApi(tag = "Group::Webhooks")]
impl Hooks {
    /// Take a job or pipeline event of GitLab's
    ///
    /// Every well-formed event is answered with 2xx, for GitLab switches off a webhook that fails. The log
    /// is fetched with the consumer's own GitLab token.
    #[oai(path = "/v1/webhooks/gitlab", method = "post")]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument a documented header"
    )]
    async fn webhook(
        &self,
        request: &Request,
        /// The delivery's id, a part of what is signed.
        #[oai(name = "webhook-id")]
        _id: Header<Option<String>>,
        /// When it was signed: seconds since the epoch, at most five minutes from now.
        #[oai(name = "webhook-timestamp")]
        _timestamp: Header<Option<String>>,
        /// The sender's base URL, where several GitLabs have the same secret.
        #[oai(name = "X-Gitlab-Instance")]
        _instance: Header<Option<String>>,
        body: RawJson<WebhookEvent>,
    ) -> HookAnswer {
        let credentials = Credentials {
            token: header(request, "X-Gitlab-Token"),
            id: header(request, "webhook-id"),
            timestamp: header(request, "webhook-timestamp"),
            signature: header(request, "webhook-signature"),
        };
        let sender = self.0.origins.sender(
            &credentials,
            &body.bytes,
            header(request, "X-Gitlab-Instance"),
        );
        let sender = match sender {
            Ok(sender) => sender,
            Err(Unknown::Unproven) => {
                refused("webhook: wrong");
                let detail = "give the webhook one of the secrets of --webhook-secret, as its secret token or its signing token";
                return HookAnswer::Unauthorized(problem(401, "Unauthorized", detail));
            }
            Err(Unknown::Ambiguous) => return unprocessable("X-Gitlab-Instance"),
        };
        noted::delivered(
            header(request, "Idempotency-Key"),
            header(request, "X-Gitlab-Event-UUID"),
        );
        let jobs = match webhook::read(&body.bytes) {
            Ok(Event::Ended(jobs)) => jobs,
            Ok(Event::Irrelevant(why)) => {
                let ignored = why.to_owned();
                return HookAnswer::Ignored(Json(Ignored { ignored }));
            }
            Err(Malformed::NoJson) => {
                let detail = "the body is no JSON object";
                return HookAnswer::BadRequest(problem(400, "Bad Request", detail));
            }
            Err(Malformed::Field(field)) => return unprocessable(field),
        };
        let senders = [sender];
        let accept = |job| self.0.accept(&senders, job, None, Source::Webhook);
        match try_join_all(jobs.iter().map(accept)).await {
            Ok(accepted) => {
                let jobs = accepted.len() as u64;
                HookAnswer::Taken(Json(Taken { jobs }))
            }
            Err(Failure::Refused(refusal)) => unprocessable(&refusal.0),
            Err(Failure::Unavailable) => {
                let problem = problem(503, "Service Unavailable", UNAVAILABLE);
                HookAnswer::Unavailable(problem, RETRY_AFTER)
            }
        }
    }
}

/// Whether an event may have something for us, by its kind. A System Hook is of any kind.
pub(crate) fn is_about_jobs(request: &Request) -> bool {
    let kind = header(request, "X-Gitlab-Event");
    kind.is_none_or(|it| matches!(it, "Job Hook" | "Pipeline Hook" | "System Hook"))
}

/// The answer to one that has not, and is too large to be read.
pub(crate) fn ignored_unread() -> Response {
    let ignored = NOT_ABOUT_JOBS.to_owned();
    HookAnswer::Ignored(Json(Ignored { ignored })).into_response()
}

fn unprocessable(what: &str) -> HookAnswer {
    let detail = format!("missing or malformed: {what}");
    HookAnswer::Unprocessable(problem(422, "Unprocessable Entity", &detail))
}
