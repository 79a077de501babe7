//! From a caller's fields to a message: each field checked once, all faults named together,
//! no value echoed.

use jiff::Timestamp;
use notice::{
    IndexName, IndexPatterns, Instance, JobId, Message, ProjectId, RunnerId, SealKeys, SealedToken,
    Source, TokenBinding,
};
use secrecy::SecretString;

/// The largest id that is taken: it has 18 digits.
pub(crate) const LARGEST_ID: u64 = 999_999_999_999_999_999;
/// The longest job or project name that GitLab allows, in characters.
pub(crate) const LONGEST_NAME: usize = 255;
/// The longest token; GitLab's own are far shorter, a JWT job token may have 4 KiB.
pub(crate) const LONGEST_TOKEN: usize = 8 * 1024;

/// What a caller sent, as text.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Fields {
    /// Which GitLab, by its name; without it, the first one that the caller may speak of.
    pub(crate) instance: Option<String>,
    pub(crate) project_id: Option<String>,
    pub(crate) runner_id: Option<String>,
    pub(crate) job_id: Option<String>,
    pub(crate) job_name: Option<String>,
    pub(crate) project_name: Option<String>,
    pub(crate) index_name: Option<String>,
}

/// What turns fields into messages.
pub(crate) struct Rules {
    pub(crate) index_names: IndexPatterns,
    /// For callers' tokens; without them no way is open that brings one.
    pub(crate) seal_keys: Option<SealKeys>,
    pub(crate) seal_seconds: i64,
}

/// A refusal, as one fixed sentence that names the fields.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

impl Rules {
    /// Checks the fields and seals the token, if there is one. The notice is about one of these GitLabs.
    pub(crate) fn message(
        &self,
        instances: &[&Instance],
        fields: &Fields,
        token: Option<&SecretString>,
        source: Source,
    ) -> Result<Message, Refusal> {
        let mut faults = Faults::default();
        let project_id =
            faults.required("project_id", fields.project_id.as_deref(), ProjectId::parse);
        let job_id = faults.required("job_id", fields.job_id.as_deref(), JobId::parse);
        let runner_id = faults.optional("runner_id", fields.runner_id.as_deref(), RunnerId::parse);
        let job_name = faults.optional("job_name", fields.job_name.as_deref(), name);
        let project_name = faults.optional("project_name", fields.project_name.as_deref(), name);
        let index_name =
            faults.optional("index_name", fields.index_name.as_deref(), IndexName::parse);
        if index_name
            .as_ref()
            .is_some_and(|name| !self.index_names.allow(name))
        {
            faults.malformed.push("index_name");
        }
        let name = fields.instance.as_deref().filter(|name| !name.is_empty());
        let instance = match (name, token) {
            // It is one of them who made the token, and the others shall not see it.
            (None, Some(_)) if instances.len() > 1 => {
                faults.missing.push("instance");
                None
            }
            _ => faults.one_of(instances, name),
        };
        let (Some(instance), Some(project_id), Some(job_id), true) =
            (instance, project_id, job_id, faults.is_empty())
        else {
            return Err(faults.refusal());
        };
        let mut message = Message::new(instance.name().clone(), project_id, job_id, source);
        message.runner_id = runner_id;
        message.job_name = job_name.unwrap_or_default();
        message.project_name = project_name.unwrap_or_default();
        message.index_name = index_name;
        if let Some(token) = token {
            message.sealed_token = Some(self.seal(token, &message)?);
        }
        Ok(message)
    }

    fn seal(&self, token: &SecretString, message: &Message) -> Result<SealedToken, Refusal> {
        let binding = TokenBinding {
            instance: &message.instance,
            project_id: message.project_id,
            job_id: message.job_id,
        };
        let expires_at = Timestamp::now().as_second() + self.seal_seconds;
        let keys = self.seal_keys.as_ref();
        let sealed = keys.and_then(|keys| keys.seal(token, binding, expires_at).ok());
        sealed.ok_or_else(|| Refusal("the token could not be sealed; try again".to_owned()))
    }
}

/// A token is visible ASCII, as an HTTP header can carry it.
pub(crate) fn token(text: &str) -> Option<SecretString> {
    let is_token = !text.is_empty()
        && text.len() <= LONGEST_TOKEN
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    is_token.then(|| text.to_owned().into())
}

/// A name as GitLab allows it.
pub(crate) fn name(text: &str) -> Result<String, notice::Invalid> {
    if text.chars().count() > LONGEST_NAME || text.chars().any(char::is_control) {
        return Err(notice::Invalid("must be a name as GitLab allows it"));
    }
    Ok(text.to_owned())
}

#[derive(Default)]
struct Faults {
    missing: Vec<&'static str>,
    malformed: Vec<&'static str>,
}

impl Faults {
    fn required<T>(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, notice::Invalid>,
    ) -> Option<T> {
        match text.filter(|text| !text.is_empty()) {
            None => {
                self.missing.push(field);
                None
            }
            some => self.optional(field, some, parse),
        }
    }

    // An empty parameter is an absent one: a shell writes it so when the variable is unset.
    fn optional<T>(
        &mut self,
        field: &'static str,
        text: Option<&str>,
        parse: impl Fn(&str) -> Result<T, notice::Invalid>,
    ) -> Option<T> {
        let text = text.filter(|text| !text.is_empty())?;
        let parsed = parse(text).ok();
        if parsed.is_none() {
            self.malformed.push(field);
        }
        parsed
    }

    fn one_of<'a>(
        &mut self,
        instances: &[&'a Instance],
        name: Option<&str>,
    ) -> Option<&'a Instance> {
        let is_it = |instance: &&&Instance| name.is_none_or(|it| it == instance.name().as_str());
        let instance = instances.iter().find(is_it).copied();
        if instance.is_none() {
            self.malformed.push("instance");
        }
        instance
    }

    fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.malformed.is_empty()
    }

    fn refusal(&self) -> Refusal {
        let mut parts = Vec::new();
        if !self.missing.is_empty() {
            parts.push(format!("missing: {}", self.missing.join(", ")));
        }
        if !self.malformed.is_empty() {
            parts.push(format!(
                "malformed or not allowed: {}",
                self.malformed.join(", ")
            ));
        }
        Refusal(parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Rules {
        let key = SealKeys::generate().unwrap();
        Rules {
            index_names: IndexPatterns::parse("joblogs,team-*").unwrap(),
            seal_keys: Some(SealKeys::parse(&key.into()).unwrap()),
            seal_seconds: 60,
        }
    }

    fn message(fields: &Fields) -> Result<Message, Refusal> {
        let token = token("glpat-canary").unwrap();
        let instance = Instance::parse("https://gitlab.com/").unwrap();
        rules().message(&[&instance], fields, Some(&token), Source::AfterScript)
    }

    fn message_of_two(fields: &Fields, token: Option<&SecretString>) -> Result<Message, Refusal> {
        let instances =
            ["https://gitlab.com/", "https://b.example/"].map(|url| Instance::parse(url).unwrap());
        let instances: Vec<_> = instances.iter().collect();
        rules().message(&instances, fields, token, Source::AfterScript)
    }

    fn fields(project_id: &str, job_id: &str) -> Fields {
        Fields {
            project_id: Some(project_id.to_owned()),
            job_id: Some(job_id.to_owned()),
            ..Fields::default()
        }
    }

    #[test]
    fn the_older_tools_braces_are_taken_and_the_token_is_sealed() {
        let message = message(&fields("42", "{4711}")).unwrap();
        assert_eq!(message.job_id.get(), 4711);
        let body = String::from_utf8(message.to_body()).unwrap();
        assert!(
            body.contains("key_id") && !body.contains("canary"),
            "{body}"
        );
    }

    #[test]
    fn all_faults_are_named_together_and_no_value_is_echoed() {
        let bad = Fields {
            job_id: Some("canary".to_owned()),
            index_name: Some("other".to_owned()),
            ..Fields::default()
        };
        assert_eq!(
            message(&bad).unwrap_err().0,
            "missing: project_id; malformed or not allowed: job_id, index_name"
        );
    }

    #[test]
    fn an_index_name_is_taken_only_when_the_operator_allows_it() {
        for (name, taken) in [
            ("joblogs", true),
            ("team-a", true),
            ("other", false),
            ("A", false),
            ("", true),
        ] {
            let mut fields = fields("1", "2");
            fields.index_name = Some(name.to_owned());
            assert_eq!(message(&fields).is_ok(), taken, "{name:?}");
        }
    }

    #[test]
    fn a_gitlab_is_one_of_the_configured_ones_or_the_first() {
        for (name, taken) in [
            (None, Some("gitlab.com")),
            (Some(""), Some("gitlab.com")),
            (Some("b.example"), Some("b.example")),
            (Some("evil.example"), None),
            (Some("https://b.example/"), None),
        ] {
            let mut fields = fields("1", "2");
            fields.instance = name.map(str::to_owned);
            // A token is for one of them.
            let is_named = name.is_some_and(|name| !name.is_empty());
            let with_token = message_of_two(&fields, Some(&token("glpat-canary").unwrap()));
            assert_eq!(with_token.is_ok(), taken.is_some() && is_named, "{name:?}");
            let message = message_of_two(&fields, None);
            let instance = message.as_ref().map(|it| it.instance.as_str());
            assert_eq!(instance.ok(), taken, "{name:?}");
        }
    }

    #[test]
    fn what_no_header_could_carry_is_no_token() {
        for text in ["", "a b", "a\r\nb", "ä", &"x".repeat(LONGEST_TOKEN + 1)] {
            assert!(token(text).is_none());
        }
    }
}
