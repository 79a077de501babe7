//! The message: a notice in the queue, its version rule, and the older tool's form of it.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::{IndexName, InstanceName, Instances, JobId, ProjectId, RunnerId, SealedToken};

/// The version that we write. Readers take any minor version of this major one.
const VERSION: &str = "1.0";
const MAJOR: &str = "1";

/// How we came to know of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The `GET` of a job's `after_script`, or a message of the older tool.
    AfterScript,
    /// `POST /v1/jobs`.
    Api,
    /// A GitLab webhook.
    Webhook,
    /// A sweep over finished jobs.
    Backfill,
    /// One that a newer version knows.
    #[serde(untagged)]
    Other(String),
}

/// The caller's token, as the message brought it.
#[derive(Debug, Clone)]
pub enum Token {
    /// None: the operator's token is used.
    Absent,
    /// Sealed by our listener.
    Sealed(SealedToken),
    /// In clear, in a message of the older tool. It never leaves this process again in clear.
    Clear(SecretString),
}

/// «Job 4711 of project 42 has ended, or is about to», as it stands in the queue.
/// Fields that we don't know pass, so that an older consumer reads a newer listener's messages and
/// puts them to sleep as they came.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    version: String,
    /// The GitLab instance, by its configured name.
    pub instance: InstanceName,
    /// The project's id.
    pub project_id: ProjectId,
    /// The job's id.
    pub job_id: JobId,
    /// The runner's id; absent where the notifier did not know it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_id: Option<RunnerId>,
    /// The job's name, as the notifier knew it.
    #[serde(default)]
    pub job_name: String,
    /// The project's name, as the notifier knew it.
    #[serde(default)]
    pub project_name: String,
    /// The index name asked for, where it is not the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index_name: Option<IndexName>,
    /// When the listener took the notice.
    pub received_at: Timestamp,
    /// How we came to know of the job.
    pub source: Source,
    /// The caller's token, sealed.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "token")]
    pub sealed_token: Option<SealedToken>,
    /// W3C trace context, passed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    #[serde(flatten)]
    rest: serde_json::Map<String, serde_json::Value>,
}

/// Why a message can't be read. The texts go into dead letters: they quote no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The body is no JSON, or fields are missing or of another type.
    #[error("the message is malformed: {0}")]
    Malformed(&'static str),
    /// Written by a version of Joblogs with another message form.
    #[error("the message has an unknown major version; upgrade the consumer and replay it")]
    UnknownVersion,
    /// It names a GitLab that is not configured here.
    #[error("the message names a GitLab instance that is not configured here")]
    UnknownInstance,
}

#[derive(Deserialize)]
struct Older {
    url: String,
    project_id: ProjectId,
    job_id: JobId,
    #[serde(default)]
    runner_id: Option<serde_json::Value>,
    #[serde(default)]
    job_name: Option<String>,
    #[serde(default)]
    project_name: Option<String>,
    #[serde(default)]
    index_name: Option<String>,
    gitlab_token: String,
}

impl Message {
    /// A message about one job, received now from nobody in particular; the other fields are
    /// public to be filled in.
    pub fn new(
        instance: InstanceName,
        project_id: ProjectId,
        job_id: JobId,
        source: Source,
    ) -> Self {
        Self {
            version: VERSION.to_owned(),
            instance,
            project_id,
            job_id,
            runner_id: None,
            job_name: String::new(),
            project_name: String::new(),
            index_name: None,
            received_at: Timestamp::now(),
            source,
            sealed_token: None,
            traceparent: None,
            rest: serde_json::Map::new(),
        }
    }

    /// Reads a body from the queue: our own form, or the older tool's when its `url` belongs
    /// to one of the instances.
    pub fn read(body: &[u8], instances: &Instances) -> Result<(Self, Token), MessageError> {
        let value: serde_json::Value =
            serde_json::from_slice(body).map_err(|_| MessageError::Malformed("it is not JSON"))?;
        match value.get("version") {
            Some(serde_json::Value::String(version)) => {
                if version.split('.').next() != Some(MAJOR) {
                    return Err(MessageError::UnknownVersion);
                }
                let message: Self = serde_json::from_value(value).map_err(|_| {
                    MessageError::Malformed("a field is missing or not of its type")
                })?;
                if instances.named(&message.instance).is_none() {
                    return Err(MessageError::UnknownInstance);
                }
                let token = match &message.sealed_token {
                    Some(sealed) => Token::Sealed(sealed.clone()),
                    None => Token::Absent,
                };
                Ok((message, token))
            }
            Some(_) => Err(MessageError::UnknownVersion),
            None => Self::read_older(value, instances),
        }
    }

    fn read_older(
        value: serde_json::Value,
        instances: &Instances,
    ) -> Result<(Self, Token), MessageError> {
        let older: Older = serde_json::from_value(value).map_err(|_| {
            MessageError::Malformed("it has no version, and is none of the older tool's either")
        })?;
        let instance = instances
            .owning(&older.url)
            .ok_or(MessageError::UnknownInstance)?;
        let mut message = Self::new(
            instance.name().clone(),
            older.project_id,
            older.job_id,
            Source::AfterScript,
        );
        // The older tool took whatever stood there, mostly an id, sometimes nothing.
        message.runner_id = older
            .runner_id
            .and_then(|id| serde_json::from_value(id).ok());
        message.job_name = older.job_name.unwrap_or_default();
        message.project_name = older.project_name.unwrap_or_default();
        message.index_name = older
            .index_name
            .filter(|name| !name.is_empty())
            .map(|name| IndexName::parse(&name))
            .transpose()
            .map_err(|_| MessageError::Malformed("its index_name is none"))?;
        Ok((message, Token::Clear(older.gitlab_token.into())))
    }

    /// The body for the queue. A clear token has no way in here.
    pub fn to_body(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a message has only text keys and finite numbers")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;
    use crate::Instance;

    fn instances() -> Instances {
        Instances::new(vec![instance()])
    }

    fn instance() -> Instance {
        Instance::parse("https://gitlab.example.com/").unwrap()
    }

    fn message() -> Message {
        Message::new(
            instance().name().clone(),
            ProjectId::parse("42").unwrap(),
            JobId::parse("4711").unwrap(),
            Source::Api,
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let (read, token) = Message::read(&message().to_body(), &instances()).unwrap();
        assert_eq!(read.job_id, message().job_id);
        assert!(matches!(token, Token::Absent));
    }

    #[test]
    fn unknown_fields_pass_and_unknown_major_versions_do_not() {
        let mut value = serde_json::to_value(message()).unwrap();
        value["colour"] = "blue".into();
        value["version"] = "1.7".into();
        value["source"] = "sweep".into();
        let (read, _) = Message::read(value.to_string().as_bytes(), &instances()).unwrap();
        assert_eq!(read.source, Source::Other("sweep".to_owned()));
        let written: serde_json::Value = serde_json::from_slice(&read.to_body()).unwrap();
        assert_eq!(
            written, value,
            "what a newer listener wrote is lost in a wait tier"
        );
        for version in [
            serde_json::json!("2.0"),
            serde_json::json!(1),
            serde_json::json!(""),
        ] {
            value["version"] = version;
            let refused = Message::read(value.to_string().as_bytes(), &instances()).unwrap_err();
            assert_eq!(refused, MessageError::UnknownVersion);
        }
    }

    #[test]
    fn another_instance_is_refused() {
        let other = Instances::new(vec![Instance::parse("https://other.example.com").unwrap()]);
        let refused = Message::read(&message().to_body(), &other).unwrap_err();
        assert_eq!(refused, MessageError::UnknownInstance);
    }

    #[test]
    fn the_older_tools_message_is_read_and_its_token_is_not_written_again() {
        let older = serde_json::json!({
            "url": "https://gitlab.example.com/api/v4/projects/42/jobs/4711/trace",
            "runner_id": 7, "index_name": "", "project_id": "42", "job_id": "4711", "job_name": "build",
            "project_name": "demo", "gitlab_token": "glpat-canary",
        });
        let (message, token) = Message::read(older.to_string().as_bytes(), &instances()).unwrap();
        assert_eq!(message.job_id.get(), 4711);
        assert_eq!(message.runner_id.unwrap().get(), 7);
        let Token::Clear(clear) = token else {
            panic!("the token is missing")
        };
        assert_eq!(clear.expose_secret(), "glpat-canary");
        assert!(
            !String::from_utf8(message.to_body())
                .unwrap()
                .contains("canary")
        );
        let mut foreign = older;
        foreign["url"] = "https://evil.example/api/v4/projects/42/jobs/4711/trace".into();
        let refused = Message::read(foreign.to_string().as_bytes(), &instances()).unwrap_err();
        assert_eq!(refused, MessageError::UnknownInstance);
    }

    #[test]
    fn what_is_no_message_is_malformed() {
        for body in ["", "{", "[]", "null", "{}", r#"{"version":"1.0"}"#] {
            let refused = Message::read(body.as_bytes(), &instances()).unwrap_err();
            assert!(matches!(refused, MessageError::Malformed(_)), "{body}");
        }
    }
}
