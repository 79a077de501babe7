//! The calls that bring notices, and their OpenAPI description.

use std::{sync::Arc, time::Duration};

use broker::Publisher;
use metrics::counter;
use notice::{Instance, Source};
use poem::Request;
use poem_openapi::{
    ApiResponse, Object, OpenApi, OpenApiService, Tags,
    param::{Header, Query},
    payload::{Json, PlainText},
    types::{Any, Example},
};
use secrecy::SecretString;

use crate::{
    body::{self, Malformed, RawJson},
    hooks::Hooks,
    identity::Unproven,
    intake::{self, Fields, Refusal, Rules},
    kibana::Kibana,
    noted,
    origins::Origins,
    query,
    ways::{NOT_THIS_WAY, Way, Ways},
};

/// How long the broker may take to confirm before the caller is told to come again: callers wait 5 s themselves.
const CONFIRM: Duration = Duration::from_secs(4);
/// After how many seconds a refused caller may come again.
pub(crate) const RETRY_AFTER: u32 = 10;
pub(crate) const UNAVAILABLE: &str = "the message could not be confirmed in the queue; try again";

/// Where notices are posted.
pub(crate) const PATH: &str = "/v1/jobs";

const TOKEN: &str = "PRIVATE-TOKEN";

/// What the page and the OpenAPI document are called.
pub(crate) const TITLE: &str = "Joblogs listener";

/// What the calls need.
pub(crate) struct Api {
    pub(crate) ways: Ways,
    pub(crate) origins: Origins,
    pub(crate) rules: Rules,
    pub(crate) publisher: Publisher,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    pub(crate) kibana: Option<Kibana>,
}

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

/// What was accepted.
#[derive(Object)]
#[oai(example, skip_serializing_if_is_none)]
pub(crate) struct Accepted {
    /// The GitLab instance, by its configured name.
    instance: String,
    /// The project's id.
    project_id: u64,
    /// The job's id.
    job_id: u64,
    /// How to find the job's lines in Kibana.
    query: String,
    /// The job's lines in Kibana, where the operator says where that is (`--kibana`). They are there once the job is over.
    kibana_url: Option<String>,
}

impl Example for Accepted {
    fn example() -> Self {
        Self {
            instance: "gitlab.com".to_owned(),
            project_id: 42,
            job_id: 4711,
            query: "project_id:42 and job_id:4711".to_owned(),
            kibana_url: Some("https://kibana.example.com/app/discover#/?_g=…&_a=…".to_owned()),
        }
    }
}

/// A refusal, as RFC 9457 has it.
#[derive(Object)]
pub(crate) struct Problem {
    /// The HTTP status.
    status: u16,
    /// What the status means.
    title: String,
    /// One sentence that names the fields; no value is repeated.
    detail: String,
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

/// What stands above the calls.
const DESCRIPTION: &str = "\
Takes notices of GitLab CI jobs («job 4711 of project 42 has ended, or is about to»), so that their
logs get into Elasticsearch. A 2xx says that RabbitMQ has confirmed the notice; the log follows once
the job has ended.

This description as JSON: [`/openapi.json`](/openapi.json).";

#[derive(Tags)]
enum Group {
    /// From a job's `after_script`.
    Notices,
}

/// The API with its OpenAPI document.
pub(crate) fn service(api: Arc<Api>) -> OpenApiService<(Calls, Hooks), ()> {
    let calls = (Calls(api.clone()), Hooks(api));
    OpenApiService::new(calls, TITLE, env!("CARGO_PKG_VERSION")).description(DESCRIPTION)
}

pub(crate) struct Calls(Arc<Api>);

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
        let unauthorized =
            |detail: &str| PostAnswer::Unauthorized(problem(401, "Unauthorized", detail));
        let caller = match caller.await {
            Ok(caller) => caller,
            Err(Unproven::Refused) => return unauthorized(&self.0.ways.credentials()),
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
            return unauthorized("the ID token is another job's than the notice");
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

pub(crate) enum Failure {
    Refused(Refusal),
    Unavailable,
}

impl Api {
    /// Checks, seals, and publishes with a confirm.
    pub(crate) async fn accept(
        &self,
        instances: &[&Instance],
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let way = match source {
            Source::Webhook => "webhook",
            Source::AfterScript => "get",
            _ => "post",
        };
        let outcome = self.confirm(instances, fields, token, source).await;
        let name = match &outcome {
            Ok(_) => "accepted",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::Unavailable) => "unavailable",
        };
        counter!("joblogs_notices_total", "way" => way, "outcome" => name).increment(1);
        outcome
    }

    async fn confirm(
        &self,
        instances: &[&Instance],
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let message = self
            .rules
            .message(instances, fields, token, source)
            .map_err(Failure::Refused)?;
        let headers = lapin::types::FieldTable::default();
        self.publisher
            .publish_confirmed(&self.exchange, &self.routing_key, &message.to_body(), headers, CONFIRM)
            .await
            .map_err(|error| {
                tracing::error!(%error, project_id = %message.project_id, job_id = %message.job_id, "notice refused");
                Failure::Unavailable
            })?;
        noted::accepted(&message);
        Ok(Accepted {
            instance: message.instance.to_string(),
            project_id: message.project_id.get(),
            job_id: message.job_id.get(),
            query: format!(
                "project_id:{} and job_id:{}",
                message.project_id, message.job_id
            ),
            kibana_url: self.kibana.as_ref().and_then(|it| it.lines_of(&message)),
        })
    }
}

/// A header; an empty one is absent, as a shell writes it so where the variable is unset. What is no text, or
/// stands there twice, is text that nothing takes: poem's own extractor would drop it.
pub(crate) fn header<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    const NOTHING_TAKES: &str = "\0";
    let mut values = request.headers().get_all(name).iter();
    let value = values.next()?;
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    Some(text.unwrap_or(NOTHING_TAKES)).filter(|text| !text.is_empty())
}

fn unprocessable(refusal: &Refusal) -> PostAnswer {
    PostAnswer::Unprocessable(problem(422, "Unprocessable Entity", &refusal.0))
}

/// Problem JSON.
pub(crate) fn problem(status: u16, title: &str, detail: &str) -> Json<Problem> {
    Json(Problem {
        status,
        title: title.to_owned(),
        detail: detail.to_owned(),
    })
}
