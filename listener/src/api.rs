//! The calls that bring notices, and their OpenAPI description.

use std::sync::Arc;

use notice::Source;
use poem::Request;
use poem_openapi::{
    ApiResponse, Object, OpenApi, Tags,
    param::{Header, Query},
    payload::{Json, PlainText},
    types::{Any, Example},
};

use crate::{
    accept::{Accepted, Api, Failure, Problem, RETRY_AFTER, UNAVAILABLE, header, problem, refused},
    body::{self, Malformed, RawJson},
    identity::{self, Unproven},
    intake::{self, Fields, Refusal},
    query,
    ways::{NOT_THIS_WAY, Way},
};

/// Where notices are posted.
pub(crate) const PATH: &str = "/v1/jobs";
const TOKEN: &str = "PRIVATE-TOKEN";
const NO_TOKEN: &str = "GitLab token: missing or malformed, or not taken this way";

/// A job that has ended, or is about to: the parameters of `GET /`, without the token.
/// Each may be a number or a string; any other field, and one that is given twice, is refused.
#[derive(Object)]
#[oai(deny_unknown_fields, example, skip_serializing_if_is_none)]
struct JobNotice {
    /// Required: `CI_PROJECT_ID`.
    project_id: Option<Any<serde_json::Value>>,
    /// Required: `CI_JOB_ID`.
    job_id: Option<Any<serde_json::Value>>,
    /// `CI_RUNNER_ID`.
    runner_id: Option<Any<serde_json::Value>>,
    /// `CI_JOB_NAME`.
    job_name: Option<Any<serde_json::Value>>,
    /// `CI_PROJECT_NAME`.
    project_name: Option<Any<serde_json::Value>>,
    /// Another index name than the configured one, if the operator allows it.
    index_name: Option<Any<serde_json::Value>>,
    /// Which GitLab, where the operator has several: its configured name; the first one by default.
    instance: Option<Any<serde_json::Value>>,
}

impl Example for JobNotice {
    fn example() -> Self {
        let any = |value: serde_json::Value| Some(Any(value));
        Self {
            project_id: any(42.into()),
            job_id: any(4711.into()),
            runner_id: any(7.into()),
            job_name: any("build".into()),
            project_name: any("demo".into()),
            index_name: None,
            instance: None,
        }
    }
}

#[derive(ApiResponse)]
enum GetAnswer {
    /// The notice is in the queue; the text is `OK!`.
    #[oai(status = 200)]
    Ok(PlainText<&'static str>),
    /// Parameters are missing, malformed, not allowed or given twice; one sentence names them.
    #[oai(status = 400)]
    BadRequest(PlainText<String>),
    /// There is no token, or this listener does not take one this way.
    #[oai(status = 401)]
    Unauthorized(PlainText<&'static str>),
    /// RabbitMQ did not confirm that it has the notice; try again.
    #[oai(status = 503)]
    Unavailable(
        PlainText<&'static str>,
        /// After how many seconds to try again.
        #[oai(header = "Retry-After")]
        u32,
    ),
}

#[derive(ApiResponse)]
enum PostAnswer {
    /// The notice is in the queue.
    #[oai(status = 202)]
    Accepted(Json<Accepted>),
    /// The body is no JSON object.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The credential is missing or wrong, or this listener does not take one of its kind.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
    /// Fields are missing, malformed, not allowed, unknown or given twice; `detail` names them.
    #[oai(status = 422, content_type = "application/problem+json")]
    Unprocessable(Json<Problem>),
    /// RabbitMQ did not confirm that it has the notice, or GitLab's keys can't be fetched; try again.
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
    /// From a job's `after_script`.
    Notices,
}

pub(crate) struct Calls(pub(crate) Arc<Api>);

#[OpenApi(tag = "Group::Notices")]
impl Calls {
    /// Send a notice, as the older tool took it
    ///
    /// Every query string may end up in somebody's log: give the token in the header, or use
    /// `POST /v1/jobs`.
    #[oai(path = "/", method = "get")]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument a documented parameter"
    )]
    async fn notify(
        &self,
        request: &Request,
        /// Required: `CI_PROJECT_ID`.
        project_id: Query<Option<String>>,
        /// `CI_RUNNER_ID`.
        runner_id: Query<Option<String>>,
        /// Required: `CI_JOB_ID`; braces around the number are taken.
        job_id: Query<Option<String>>,
        /// `CI_JOB_NAME`.
        job_name: Query<Option<String>>,
        /// `CI_PROJECT_NAME`.
        project_name: Query<Option<String>>,
        /// A GitLab token with the scope `read_api`; required unless it is in the header.
        gitlab_token: Query<Option<String>>,
        /// Another index name than the configured one, if the operator allows it.
        index_name: Query<Option<String>>,
        /// Which GitLab, where the operator has several: its configured name; the first one by default.
        instance: Query<Option<String>>,
        /// The GitLab token, in place of `gitlab_token`; the header counts where both are given.
        #[oai(name = "PRIVATE-TOKEN")]
        _private_token: Header<Option<String>>,
    ) -> GetAnswer {
        if !self.0.ways.opens(Way::UrlToken) {
            refused("GET /: not open");
            return GetAnswer::Unauthorized(PlainText(NOT_THIS_WAY));
        }
        if let Err(refusal) = query::check(request.uri().query().unwrap_or_default()) {
            return GetAnswer::BadRequest(PlainText(refusal.0));
        }
        let in_query = gitlab_token.0.as_deref().filter(|token| !token.is_empty());
        let given = header(request, TOKEN).or(in_query);
        let is_sound = in_query.is_none_or(|token| intake::token(token).is_some());
        let token = given.filter(|_| is_sound).and_then(intake::token);
        let Some(token) = token else {
            refused(NO_TOKEN);
            let refusal = "missing or malformed: gitlab_token (or the header PRIVATE-TOKEN)";
            return GetAnswer::Unauthorized(PlainText(refusal));
        };
        let fields = Fields {
            instance: instance.0,
            project_id: project_id.0,
            runner_id: runner_id.0,
            job_id: job_id.0,
            job_name: job_name.0,
            project_name: project_name.0,
            index_name: index_name.0,
        };
        match self
            .0
            .accept(
                &self.0.origins.instances(),
                &fields,
                Some(&token),
                Source::AfterScript,
            )
            .await
        {
            Ok(_) => GetAnswer::Ok(PlainText("OK!")),
            Err(Failure::Refused(refusal)) => GetAnswer::BadRequest(PlainText(refusal.0)),
            Err(Failure::Unavailable) => {
                GetAnswer::Unavailable(PlainText(UNAVAILABLE), RETRY_AFTER)
            }
        }
    }

    /// Send a notice (preferred)
    ///
    /// With a GitLab token in the header, or with `Authorization: Bearer` and a secret that the operator shares
    /// with callers or an ID token that GitLab gave to the job; then the log is fetched with the consumer's own
    /// GitLab token.
    #[oai(path = "/v1/jobs", method = "post")]
    async fn post_job(
        &self,
        request: &Request,
        /// A GitLab token with the scope `read_api`, with which the log is fetched.
        #[oai(name = "PRIVATE-TOKEN")]
        _private_token: Header<Option<String>>,
        body: RawJson<JobNotice>,
    ) -> PostAnswer {
        let (ways, origins) = (&self.0.ways, &self.0.origins);
        let (token, authorization) = (header(request, TOKEN), header(request, "Authorization"));
        let caller = origins.caller(ways, token, authorization);
        let unauthorized = |fault, detail: &str| {
            refused(fault);
            PostAnswer::Unauthorized(problem(401, "Unauthorized", detail))
        };
        let caller = match caller.await {
            Ok(caller) => caller,
            Err(Unproven::Refused) => {
                let fault = authorization.map_or(NO_TOKEN, fault);
                return unauthorized(fault, &self.0.ways.credentials());
            }
            Err(Unproven::NoKeys) => {
                let detail = "GitLab has not told by which keys its ID tokens are known; try again";
                let problem = problem(503, "Service Unavailable", detail);
                return PostAnswer::Unavailable(problem, RETRY_AFTER);
            }
        };
        let fields = match body::fields(&body.bytes) {
            Ok(fields) => fields,
            Err(Malformed::NoObject) => {
                let detail = "the body is no JSON object";
                return PostAnswer::BadRequest(problem(400, "Bad Request", detail));
            }
            Err(Malformed::Fields(refusal)) => return unprocessable(&refusal),
        };
        if !caller.may_speak_of(&fields) {
            let fault = "ID token: of another job than the notice";
            return unauthorized(fault, "the ID token is another job's than the notice");
        }
        let accepted = self
            .0
            .accept(&caller.instances, &fields, caller.token(), Source::Api)
            .await;
        match accepted {
            Ok(accepted) => PostAnswer::Accepted(Json(accepted)),
            Err(Failure::Refused(refusal)) => unprocessable(&refusal),
            Err(Failure::Unavailable) => PostAnswer::Unavailable(
                problem(503, "Service Unavailable", UNAVAILABLE),
                RETRY_AFTER,
            ),
        }
    }
}

/// What is wrong with this header, where no one looked closer at what it brings.
fn fault(authorization: &str) -> &'static str {
    match authorization.split_once(' ') {
        Some((scheme, credential)) if scheme.eq_ignore_ascii_case("bearer") => {
            match identity::claimed_issuer(credential) {
                Some(_) => "ID token: issuer",
                None => "api secret: wrong",
            }
        }
        _ => "Authorization: not Bearer",
    }
}

fn unprocessable(refusal: &Refusal) -> PostAnswer {
    PostAnswer::Unprocessable(problem(422, "Unprocessable Entity", &refusal.0))
}
