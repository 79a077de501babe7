//! The calls that bring notices, and their OpenAPI description.

use std::{sync::Arc, time::Duration};

use broker::Publisher;
use notice::Source;
use poem::{Request, Result};
use poem_openapi::{
    ApiResponse, Object, OpenApi, OpenApiService,
    param::{Header, Query},
    payload::{Json, PlainText},
    types::Any,
};
use secrecy::SecretString;

use crate::intake::{self, Fields, Refusal, Rules};

/// How long the broker may take to confirm before the caller is told to come again.
const CONFIRM: Duration = Duration::from_secs(5);
/// After how many seconds a refused caller may come again.
const RETRY_AFTER: u32 = 10;
const UNAVAILABLE: &str = "the message could not be confirmed in the queue; try again";

/// What the calls need.
pub(crate) struct Api {
    pub(crate) rules: Rules,
    pub(crate) publisher: Publisher,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
}

/// The same fields as the `GET`; ids as numbers or as strings.
#[derive(Object)]
#[oai(deny_unknown_fields)]
struct JobNotice {
    /// `CI_PROJECT_ID`.
    project_id: Option<Any<serde_json::Value>>,
    /// `CI_JOB_ID`.
    job_id: Option<Any<serde_json::Value>>,
    /// `CI_RUNNER_ID`.
    runner_id: Option<Any<serde_json::Value>>,
    /// `CI_JOB_NAME`.
    job_name: Option<Any<serde_json::Value>>,
    /// `CI_PROJECT_NAME`.
    project_name: Option<Any<serde_json::Value>>,
    /// An index name that the operator allows.
    index_name: Option<Any<serde_json::Value>>,
}

/// What was accepted.
#[derive(Object)]
struct Accepted {
    /// The GitLab instance, by its configured name.
    instance: String,
    /// The project's id.
    project_id: u64,
    /// The job's id.
    job_id: u64,
    /// How to find the job's lines in Kibana or Elasticsearch.
    query: String,
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
    /// The message is in the queue.
    #[oai(status = 200)]
    Ok(PlainText<&'static str>),
    /// Parameters are missing, malformed or given twice.
    #[oai(status = 400)]
    BadRequest(PlainText<String>),
    /// The broker did not confirm.
    #[oai(status = 503)]
    Unavailable(PlainText<&'static str>, #[oai(header = "Retry-After")] u32),
}

#[derive(ApiResponse)]
enum PostAnswer {
    /// The message is in the queue.
    #[oai(status = 202)]
    Accepted(Json<Accepted>),
    /// Fields are missing or malformed.
    #[oai(status = 400, content_type = "application/problem+json")]
    BadRequest(Json<Problem>),
    /// The `PRIVATE-TOKEN` header is missing or malformed.
    #[oai(status = 401, content_type = "application/problem+json")]
    Unauthorized(Json<Problem>),
    /// The broker did not confirm.
    #[oai(status = 503, content_type = "application/problem+json")]
    Unavailable(Json<Problem>, #[oai(header = "Retry-After")] u32),
}

/// The API with its OpenAPI document.
pub(crate) fn service(api: Arc<Api>) -> OpenApiService<Calls, ()> {
    OpenApiService::new(Calls(api), "Joblogs listener", env!("CARGO_PKG_VERSION")).description(
        "Takes notices of GitLab CI jobs; a 2xx means that the job's log will be indexed.",
    )
}

pub(crate) struct Calls(Arc<Api>);

#[OpenApi]
impl Calls {
    /// A job is ending: the call of the older tool, from a job's `after_script`.
    #[oai(path = "/", method = "get")]
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument a documented parameter"
    )]
    async fn notify(
        &self,
        request: &Request,
        /// `CI_PROJECT_ID`.
        project_id: Query<Option<String>>,
        /// `CI_RUNNER_ID`.
        runner_id: Query<Option<String>>,
        /// `CI_JOB_ID`; braces around the number are taken.
        job_id: Query<Option<String>>,
        /// `CI_JOB_NAME`.
        job_name: Query<Option<String>>,
        /// `CI_PROJECT_NAME`.
        project_name: Query<Option<String>>,
        /// A GitLab token with the scope `read_api`; better in the header.
        gitlab_token: Query<Option<String>>,
        /// An index name that the operator allows.
        index_name: Query<Option<String>>,
        /// The GitLab token, in place of `gitlab_token`.
        #[oai(name = "PRIVATE-TOKEN")]
        private_token: Header<Option<String>>,
    ) -> GetAnswer {
        if let Err(refusal) = check_names(request.uri().query().unwrap_or_default()) {
            return GetAnswer::BadRequest(PlainText(refusal.0));
        }
        let given = private_token.0.or(gitlab_token.0);
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
        match self.0.accept(&fields, &token, Source::AfterScript).await {
            Ok(_) => GetAnswer::Ok(PlainText("OK!")),
            Err(Failure::Refused(refusal)) => GetAnswer::BadRequest(PlainText(refusal.0)),
            Err(Failure::Unavailable) => {
                GetAnswer::Unavailable(PlainText(UNAVAILABLE), RETRY_AFTER)
            }
        }
    }

    /// A job is ending: the preferred call.
    #[oai(path = "/v1/jobs", method = "post")]
    async fn post_job(
        &self,
        /// A GitLab token with the scope `read_api`.
        #[oai(name = "PRIVATE-TOKEN")]
        private_token: Header<Option<String>>,
        body: Json<JobNotice>,
    ) -> PostAnswer {
        let Some(token) = private_token.0.as_deref().and_then(intake::token) else {
            let detail = "give a GitLab token with the scope read_api in the header PRIVATE-TOKEN";
            return PostAnswer::Unauthorized(problem(401, "Unauthorized", detail));
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
        match self.0.accept(&fields, &token, Source::Api).await {
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

enum Failure {
    Refused(Refusal),
    Unavailable,
}

impl Api {
    /// Checks, seals, and publishes with a confirm.
    async fn accept(
        &self,
        fields: &Fields,
        token: &SecretString,
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
        })
    }
}

/// The names of the `GET`'s parameters.
const PARAMETERS: [&str; 7] = [
    "project_id",
    "runner_id",
    "job_id",
    "job_name",
    "project_name",
    "gitlab_token",
    "index_name",
];

/// Refuses a parameter that is given twice. Others than ours pass: the older tool let them.
fn check_names(query: &str) -> Result<(), Refusal> {
    let twice: Vec<&str> = PARAMETERS
        .into_iter()
        .filter(|name| {
            let is_this = |pair: &&str| pair.split('=').next() == Some(name);
            query.split('&').filter(is_this).count() > 1
        })
        .collect();
    if twice.is_empty() {
        return Ok(());
    }
    Err(Refusal(format!("given twice: {}", twice.join(", "))))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_given_twice_is_named() {
        assert!(check_names("project_id=1&job_id=2").is_ok());
        let refusal = check_names("job_id=1&x=1&job_id=canary&x=2").unwrap_err();
        assert_eq!(refusal.0, "given twice: job_id");
    }
}
