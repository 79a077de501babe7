//! `consumer setup`: index templates, adapted to what the cluster can do. Idempotent.
//!
//! What a cluster can do is found out by asking for the better thing and reading the refusal: lists
//! of modules differ between Elasticsearch, its core and OpenSearch.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use elasticsearch::http::Method;
use notice::IndexPatterns;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    elasticsearch::{Elasticsearch, ElasticsearchError},
    flags::{DatePlace, Naming},
};

/// Between two looks whether Elasticsearch is there.
const PAUSE: Duration = Duration::from_secs(2);
/// Above the templates that Elasticsearch ships (100) and those of its agents (up to 500).
const PRIORITY: usize = 501;

/// A template: what comes after NAME in the indices it is for, and its body.
type Template = (&'static str, &'static str);

/// The more special ones come later, and with a higher priority: `*-team-*` takes `…-team-a-jobs` too.
const TEMPLATES: [Template; 3] = [
    ("", include_str!("../elasticsearch/lines.json")),
    ("-jobs", include_str!("../elasticsearch/jobs.json")),
    ("-rejected", include_str!("../elasticsearch/rejected.json")),
];

/// What a mapping type is replaced by on a cluster that lacks it.
fn next_best(mapping_type: &str) -> Option<Value> {
    match mapping_type {
        // Neither has positions or norms; phrases are slower with this, and it takes more space.
        "match_only_text" => Some(json!({"type": "text", "norms": false, "index_options": "docs"})),
        _ => None,
    }
}

/// What `setup` is to do.
pub(crate) struct Setup {
    /// How indices are named.
    pub naming: Naming,
    /// The names that callers may ask for, the configured one among them.
    pub index_names: IndexPatterns,
    /// The password for `kibana_system`.
    pub kibana_password: Option<SecretString>,
    /// How long to wait for Elasticsearch.
    pub patience: Duration,
}

/// Whether the templates are there: an index that is made without them has a guessed mapping for ever.
/// Whoever may not ask is taken at the operator's word.
pub(crate) async fn is_done(
    elasticsearch: &Elasticsearch,
    naming: &Naming,
) -> Result<(), ElasticsearchError> {
    let name = template_name(naming, "");
    let path = format!("_index_template/{name}?filter_path=index_templates.name");
    match elasticsearch.json(Method::Get, &path, None).await {
        Ok(Some(_)) | Err(ElasticsearchError::Refused { status: 403, .. }) => Ok(()),
        Ok(None) => Err(ElasticsearchError::unavailable(format!(
            "it has no index template {name}; run `consumer setup`"
        ))),
        Err(error) => Err(error),
    }
}

fn template_name(naming: &Naming, suffix: &str) -> String {
    format!("joblogs-{}{suffix}", naming.name)
}

impl Setup {
    /// Does it, saying each step in a line.
    pub(crate) async fn run(&self, elasticsearch: &Elasticsearch) -> Result<()> {
        let end = Instant::now() + self.patience;
        wait_until_there(elasticsearch, end).await?;
        for (kind, (suffix, body)) in TEMPLATES.into_iter().enumerate() {
            let name = template_name(&self.naming, suffix);
            let mut template: Value = serde_json::from_str(body)
                .with_context(|| format!("the file of the template {name} is no JSON"))?;
            let patterns = self.patterns(suffix);
            template["index_patterns"] = patterns.clone().into();
            template["priority"] = self.priority(kind).into();
            put_template(elasticsearch, &name, template, end).await?;
            println!("template {name} is in place, for {}", patterns.join(", "));
        }
        if let Some(password) = &self.kibana_password {
            set_kibana_password(elasticsearch, password, end).await?;
        }
        Ok(())
    }

    /// The longer name is the more special one: `20*-joblogs` takes `…-team-joblogs` too, and where two
    /// templates of the same priority may take an index, Elasticsearch refuses the second.
    fn priority(&self, kind: usize) -> usize {
        PRIORITY + TEMPLATES.len() * self.naming.name.as_str().len() + kind
    }

    /// The index patterns of a template. Dates begin with 20 for a long time to come, and without it
    /// a pattern would take indices that are none of ours.
    fn patterns(&self, suffix: &str) -> Vec<String> {
        self.index_names
            .template_patterns()
            .map(|name| match self.naming.date {
                DatePlace::Prefix => format!("20*-{name}{suffix}"),
                DatePlace::Suffix => format!("{name}{suffix}-20*"),
            })
            .collect()
    }
}

/// Waits for a cluster that answers; wrong credentials are an end at once.
async fn wait_until_there(elasticsearch: &Elasticsearch, end: Instant) -> Result<()> {
    let there = insist(end, async || elasticsearch.is_there().await).await;
    there.map_err(|error| match error {
        ElasticsearchError::Refused { .. } => anyhow!(
            "{error}; give the password that Elasticsearch has. In the appliance ELASTIC_PASSWORD counts only when the volume is new: after a reset (bin/elasticsearch-reset-password -u elastic) say so once by ELASTIC_PASSWORD_IN_USE=yes make up"
        ),
        error => anyhow!(error),
    })
}

/// Asks again while Elasticsearch gives no usable answer, until the end of patience.
async fn insist<T>(
    end: Instant,
    ask: impl AsyncFn() -> Result<T, ElasticsearchError>,
) -> Result<T, ElasticsearchError> {
    loop {
        match ask().await {
            Err(error @ ElasticsearchError::Unavailable { .. }) if Instant::now() < end => {
                tracing::warn!(%error, "waiting for Elasticsearch");
                sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

/// Puts a template; where the cluster lacks a mapping type, with the next best one.
async fn put_template(
    elasticsearch: &Elasticsearch,
    name: &str,
    mut template: Value,
    end: Instant,
) -> Result<()> {
    let path = format!("_index_template/{name}");
    loop {
        let put = insist(end, async || elasticsearch.put(&path, &template).await);
        let reason = match put.await {
            Ok(()) => return Ok(()),
            Err(ElasticsearchError::Rejected { reason, .. }) => reason,
            Err(error) => return Err(error).with_context(|| format!("the template {name}")),
        };
        let Some((lacking, replacement)) = lacking_type(&reason) else {
            bail!("Elasticsearch refused the template {name}: {reason}");
        };
        if replace(&mut template["template"]["mappings"], lacking, &replacement) == 0 {
            bail!("Elasticsearch refused the template {name}: {reason}");
        }
        println!("this cluster lacks the type {lacking}: {replacement} instead");
    }
}

/// The mapping type that the refusal is about, in Elasticsearch's words and in OpenSearch's.
fn lacking_type(reason: &str) -> Option<(&str, Value)> {
    let after = ["mapper type [", "handler for type ["]
        .iter()
        .find_map(|words| reason.split_once(words))?
        .1;
    let (name, _) = after.split_once(']')?;
    Some((name, next_best(name)?))
}

/// Replaces every field of a type; how many there were.
fn replace(mapping: &mut Value, lacking: &str, replacement: &Value) -> usize {
    if mapping["type"] == lacking {
        *mapping = replacement.clone();
        return 1;
    }
    let fields = mapping.get_mut("properties").and_then(Value::as_object_mut);
    fields.map_or(0, |fields| {
        fields
            .values_mut()
            .map(|field| replace(field, lacking, replacement))
            .sum()
    })
}

async fn set_kibana_password(
    elasticsearch: &Elasticsearch,
    password: &SecretString,
    end: Instant,
) -> Result<()> {
    let body = json!({"password": password.expose_secret()});
    let path = "_security/user/kibana_system/_password";
    let post = insist(end, async || {
        elasticsearch.json(Method::Post, path, Some(&body)).await
    });
    match post.await {
        Ok(Some(_)) => println!("the password of kibana_system is set"),
        // A cluster without native users has no Kibana either.
        Ok(None) => println!("this cluster has no native users: kibana_system gets no password"),
        Err(ElasticsearchError::Rejected { reason, .. }) if !reason.contains("password") => {
            println!("kibana_system gets no password, as this cluster can't: {reason}");
        }
        Err(error) => return Err(error).context("the password of kibana_system"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use notice::IndexName;

    use super::*;

    fn setup(date: DatePlace) -> Setup {
        let name = IndexName::parse("joblogs").unwrap();
        Setup {
            index_names: IndexPatterns::parse("team-?").unwrap().and(&name),
            naming: Naming { name, date },
            kibana_password: None,
            patience: Duration::ZERO,
        }
    }

    #[test]
    fn patterns_cover_the_configured_name_and_those_that_callers_may_ask_for() {
        assert_eq!(
            setup(DatePlace::Prefix).patterns("-jobs"),
            ["20*-team-*-jobs", "20*-joblogs-jobs"]
        );
        assert_eq!(
            setup(DatePlace::Suffix).patterns(""),
            ["team-*-20*", "joblogs-20*"]
        );
    }

    #[test]
    fn manifests_come_before_lines_and_longer_names_before_shorter_ones() {
        let short = setup(DatePlace::Prefix);
        let mut long = setup(DatePlace::Prefix);
        long.naming.name = IndexName::parse("team-joblogs").unwrap();
        assert!(short.priority(0) > 500);
        assert!(short.priority(0) < short.priority(1));
        assert!(short.priority(2) < long.priority(0));
    }

    #[test]
    fn a_type_that_is_lacking_is_replaced_everywhere() {
        for reason in [
            "The mapper type [match_only_text] declared on field [message] does not exist.",
            "No handler for type [match_only_text] declared on field [message]",
        ] {
            assert_eq!(lacking_type(reason).unwrap().0, "match_only_text");
        }
        assert_eq!(lacking_type("The mapper type [date_nanos] declared"), None);
        for (name, body) in TEMPLATES {
            let mut template: Value = serde_json::from_str(body).unwrap();
            let (lacking, replacement) = ("match_only_text", next_best("match_only_text").unwrap());
            assert!(
                replace(&mut template["template"]["mappings"], lacking, &replacement) > 0,
                "{name}"
            );
            assert!(!template.to_string().contains(lacking), "{name}");
        }
    }

    #[test]
    fn kibanas_objects_refer_to_one_another_and_are_old_enough_for_8_19() {
        let objects: Vec<Value> = include_str!("../../kibana/joblogs.ndjson")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ids: std::collections::BTreeSet<_> = objects
            .iter()
            .map(|it| (it["type"].to_string(), it["id"].to_string()))
            .collect();
        assert_eq!(ids.len(), objects.len(), "an id stands twice");
        for object in &objects {
            assert_eq!(object["coreMigrationVersion"], "8.8.0", "{object}");
            assert_eq!(object["typeMigrationVersion"], "8.0.0", "{object}");
            for it in object["references"].as_array().unwrap() {
                let id = (it["type"].to_string(), it["id"].to_string());
                assert!(ids.contains(&id), "{object} refers to nothing");
            }
        }
    }
}
