//! The calls that bring notices, and their OpenAPI description.

use std::{sync::Arc, time::Duration};

use broker::Publisher;
use metrics::counter;
use notice::{JobId, ProjectId, Source};
use poem::{Request, Result};
use poem_openapi::{
    ApiResponse, Object, OpenApi, OpenApiService, Tags,
    param::{Header, Query},
    payload::{Json, PlainText},
    types::{Any, Example},
};
use secrecy::SecretString;

use crate::{
    hooks::Hooks,
    identity::{IdTokens, Identity, Unproven},
    intake::{self, Fields, Refusal, Rules},
    kibana::Kibana,
    repeats::{UnrepeatedJson, check_query},
    secrets::Secrets,
    ways::{NOT_THIS_WAY, Way, Ways},
    webhook::Callers,
};

/// How long the broker may take to confirm before the caller is told to come again.
const CONFIRM: Duration = Duration::from_secs(5);
/// After how many seconds a refused caller may come again.
pub(crate) const RETRY_AFTER: u32 = 10;
pub(crate) const UNAVAILABLE: &str = "the message could not be confirmed in the queue; try again";

/// What the page and the OpenAPI document are called.
pub(crate) const TITLE: &str = "Joblogs listener";

/// What the calls need.
pub(crate) struct Api {
    pub(crate) ways: Ways,
    /// Callers of `POST /v1/jobs` that share a secret with us.
    pub(crate) callers: Secrets,
    /// And those that are known by GitLab.
    pub(crate) id_tokens: Option<IdTokens>,
    pub(crate) webhook_callers: Callers,
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
    /// Fields are missing, malformed, not allowed, unknown or given twice; `detail` names them.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The credential is missing or wrong, or this listener does not take one of its kind.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
    /// RabbitMQ did not confirm that it has the notice; try again.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(
        Json<Problem>,
        /// After how many seconds to try again.
        #[oai(header = "Retry-After")]
        u32,
    ),
}

/// What stands above the calls; those that are not described one by one are named here.
const DESCRIPTION: &str = "\
Takes notices of GitLab CI jobs («job 4711 of project 42 has ended, or is about to»), so that their
logs get into Elasticsearch. A 2xx says that RabbitMQ has confirmed the notice; the log follows once
the job has ended.

Health: `/health/live`, `/health/ready`, and, as the older tool had them, `/healthcheck`,
`/healthcheck?rabbitmq` and `/healthcheck?elasticsearch`. Metrics for Prometheus: `/metrics`. This
description as JSON: [`/openapi.json`](/openapi.json).";

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
        /// The GitLab token, in place of `gitlab_token`; the header counts where both are given.
        #[oai(name = "PRIVATE-TOKEN")]
        private_token: Header<Option<String>>,
    ) -> GetAnswer {
        if !self.0.ways.opens(Way::UrlToken) {
            return GetAnswer::BadRequest(PlainText(NOT_THIS_WAY.to_owned()));
        }
        if let Err(refusal) = check_query(request.uri().query().unwrap_or_default()) {
            return GetAnswer::BadRequest(PlainText(refusal.0));
        }
        // A shell writes the header empty where the variable is unset.
        let header = private_token.0.filter(|token| !token.is_empty());
        let given = header.or(gitlab_token.0);
        let Some(token) = given.as_deref().and_then(intake::token) else {
            let refusal = "missing or malformed: gitlab_token (or the header PRIVATE-TOKEN)";
            return GetAnswer::BadRequest(PlainText(refusal.to_owned()));
        };
        let fields = Fields {
            project_id: project_id.0,
            runner_id: runner_id.0,
            job_id: job_id.0,
            job_name: job_name.0,
            project_name: project_name.0,
            index_name: index_name.0,
        };
        match self
            .0
            .accept(&fields, Some(&token), Source::AfterScript)
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
    #[oai(path = "/v1/jobs", method = "post")]
    async fn post_job(
        &self,
        /// A GitLab token with the scope `read_api`, with which the log is fetched.
        #[oai(name = "PRIVATE-TOKEN")]
        private_token: Header<Option<String>>,
        /// `Bearer` and a secret that the operator shares with callers, or an ID token that GitLab gave to the
        /// job; the log is fetched with the consumer's own GitLab token.
        #[oai(name = "Authorization")]
        authorization: Header<Option<String>>,
        body: UnrepeatedJson<JobNotice>,
    ) -> PostAnswer {
        let (private_token, authorization) = (private_token.0, authorization.0);
        let caller = self
            .0
            .caller(private_token.as_deref(), authorization.as_deref());
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
        let body = body.0;
        let fields = Fields {
            project_id: text(body.project_id),
            runner_id: text(body.runner_id),
            job_id: text(body.job_id),
            job_name: text(body.job_name),
            project_name: text(body.project_name),
            index_name: text(body.index_name),
        };
        if !caller.may_speak_of(&fields) {
            return unauthorized("the ID token is another job's than the notice");
        }
        match self.0.accept(&fields, caller.token(), Source::Api).await {
            Ok(accepted) => PostAnswer::Accepted(Json(accepted)),
            Err(Failure::Refused(refusal)) => {
                PostAnswer::BadRequest(problem(400, "Bad Request", &refusal.0))
            }
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

/// Who calls `POST /v1/jobs`.
enum Caller {
    /// Whoever has this GitLab token.
    Token(SecretString),
    /// Somebody who shares a secret with us.
    Shared,
    /// This job.
    Job(Identity),
}

impl Caller {
    fn token(&self) -> Option<&SecretString> {
        match self {
            Self::Token(token) => Some(token),
            Self::Shared | Self::Job(_) => None,
        }
    }

    /// A job speaks of itself alone. What can't be read is for others to refuse.
    fn may_speak_of(&self, fields: &Fields) -> bool {
        let Self::Job(job) = self else {
            return true;
        };
        let project_id = fields
            .project_id
            .as_deref()
            .and_then(|it| ProjectId::parse(it).ok());
        let job_id = fields
            .job_id
            .as_deref()
            .and_then(|it| JobId::parse(it).ok());
        project_id.is_none_or(|it| it == job.project_id) && job_id.is_none_or(|it| it == job.job_id)
    }
}

impl Api {
    /// Who brings these headers. Where there is an `Authorization`, it counts alone.
    async fn caller(
        &self,
        private_token: Option<&str>,
        authorization: Option<&str>,
    ) -> Result<Caller, Unproven> {
        let Some(authorization) = authorization else {
            let token = private_token.filter(|_| self.ways.opens(Way::PrivateToken));
            let token = token.and_then(intake::token).map(Caller::Token);
            return token.ok_or(Unproven::Refused);
        };
        // The scheme's case does not matter, as RFC 9110 has it.
        let (scheme, credential) = authorization.split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Unproven::Refused);
        }
        if self.callers.allow(credential) {
            return Ok(Caller::Shared);
        }
        match &self.id_tokens {
            Some(id_tokens) => id_tokens.identify(credential).await.map(Caller::Job),
            None => Err(Unproven::Refused),
        }
    }

    /// Checks, seals, and publishes with a confirm.
    pub(crate) async fn accept(
        &self,
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let way = match source {
            Source::Webhook => "webhook",
            Source::AfterScript => "get",
            _ => "post",
        };
        let outcome = self.confirm(fields, token, source).await;
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
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Accepted, Failure> {
        let message = self
            .rules
            .message(fields, token, source)
            .map_err(Failure::Refused)?;
        let headers = lapin::types::FieldTable::default();
        self.publisher
            .publish_confirmed(&self.exchange, &self.routing_key, &message.to_body(), headers, CONFIRM)
            .await
            .map_err(|error| {
                tracing::error!(%error, project_id = %message.project_id, job_id = %message.job_id, "notice refused");
                Failure::Unavailable
            })?;
        tracing::info!(instance = %message.instance, project_id = %message.project_id, job_id = %message.job_id, "notice accepted");
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

/// Text and numbers as text; anything else as text that no field takes.
fn text(value: Option<Any<serde_json::Value>>) -> Option<String> {
    match value?.0 {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some(text),
        other @ serde_json::Value::Number(_) => Some(other.to_string()),
        _ => Some("\0".to_owned()),
    }
}

/// Problem JSON.
pub(crate) fn problem(status: u16, title: &str, detail: &str) -> Json<Problem> {
    Json(Problem {
        status,
        title: title.to_owned(),
        detail: detail.to_owned(),
    })
}
