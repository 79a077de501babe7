//! A refusal in one sentence: what was refused, why, and the privilege that is missing.

use anyhow::anyhow;

use crate::elasticsearch::ElasticsearchError;

/// What becomes of `what` («the index template joblogs-joblogs») in front of whoever runs us.
pub(crate) fn explain(what: &str, error: ElasticsearchError) -> anyhow::Error {
    match error {
        ElasticsearchError::Refused {
            status: 403,
            reason,
        } => match Missing::read(&reason) {
            Some(missing) => anyhow!(
                "Elasticsearch refused {what}: its {} lacks the {} privilege {}; give it one of the {} by a role, or come as another (--es-user, --es-api-key-file)",
                missing.who,
                missing.scope,
                missing.privileges[0],
                missing.privileges.join(", "),
            ),
            None => anyhow!("Elasticsearch refused {what}: {reason}"),
        },
        ElasticsearchError::Refused { reason, .. }
        | ElasticsearchError::Rejected { reason, .. } => {
            anyhow!("Elasticsearch refused {what}: {reason}")
        }
        error => anyhow::Error::new(error).context(what.to_owned()),
    }
}

/// What a `security_exception` says.
#[derive(Debug, PartialEq, Eq)]
struct Missing<'a> {
    /// `user NAME`, or `API key ID of user NAME`.
    who: String,
    /// `cluster` or `index`.
    scope: &'a str,
    /// The least of them first.
    privileges: Vec<&'a str>,
}

impl<'a> Missing<'a> {
    fn read(reason: &'a str) -> Option<Self> {
        let (who, rest) = who(reason)?;
        let (_, rest) = rest.split_once("is granted by the ")?;
        let (scope, rest) = rest.split_once(" privileges [")?;
        let (privileges, _) = rest.split_once(']')?;
        Some(Self {
            who,
            scope,
            privileges: privileges.split(',').collect(),
        })
    }
}

/// Who is refused, and what is said after that.
fn who(reason: &str) -> Option<(String, &str)> {
    if let Some((_, rest)) = reason.split_once("for API key id [") {
        let (id, rest) = rest.split_once("] of user [")?;
        let (user, rest) = rest.split_once(']')?;
        return Some((format!("API key {id} of user {user}"), rest));
    }
    let (_, rest) = reason.split_once("for user [")?;
    let (user, rest) = rest.split_once(']')?;
    Some((format!("user {user}"), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(reason: &str) -> ElasticsearchError {
        ElasticsearchError::Refused {
            status: 403,
            reason: reason.to_owned(),
        }
    }

    #[test]
    fn a_missing_privilege_is_named_with_who_lacks_it() {
        // Elasticsearch's own words.
        let cluster = "action [indices:admin/index_template/put] is unauthorized for user [reader] with effective roles [reader], this action is granted by the cluster privileges [manage_index_templates,manage,all]";
        let said = explain("the index template x", refused(cluster)).to_string();
        assert!(
            said.starts_with("Elasticsearch refused the index template x: its user reader lacks the cluster privilege manage_index_templates;"),
            "{said}"
        );
        let index = "action [indices:admin/delete] is unauthorized for user [reader] with effective roles [reader] on indices [x], this action is granted by the index privileges [delete_index,manage,all]";
        let said = explain("to remove x", refused(index)).to_string();
        assert!(
            said.contains("lacks the index privilege delete_index"),
            "{said}"
        );
        let key = "action [indices:admin/delete] is unauthorized for API key id [VuaCfGcB] of user [elastic] on indices [x], this action is granted by the index privileges [delete_index,manage,all]";
        let said = explain("to remove x", refused(key)).to_string();
        assert!(
            said.contains("its API key VuaCfGcB of user elastic lacks the index privilege"),
            "{said}"
        );
    }

    #[test]
    fn other_refusals_are_in_elasticsearchs_words() {
        let block = "index [x] blocked by: [FORBIDDEN/5/index read-only (api)];";
        let said = explain("to remove x", refused(block)).to_string();
        assert_eq!(said, format!("Elasticsearch refused to remove x: {block}"));
        let away = ElasticsearchError::unavailable("no route");
        let said = format!("{:#}", explain("the template x", away));
        assert_eq!(
            said,
            "the template x: Elasticsearch gave no usable answer: no route"
        );
    }
}
