//! `consumer kibana`: data views, saved searches and dashboards for Kibana, or what OpenSearch Dashboards takes of them.
//! Idempotent: the ids are fixed, and what is there in the same version is left alone, with what people changed in it.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use notice::IndexName;
use reqwest::{
    Client, RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use service::kibana::{DEFAULT_PREFIX, prefix};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::{
    causes,
    indices::{DatePlace, Naming},
    login::Login,
    manifest::hex,
};

const FOR_KIBANA: &str = include_str!("../../kibana/joblogs.ndjson");
const FOR_OPENSEARCH_DASHBOARDS: &str = include_str!("../../kibana/opensearch-dashboards.ndjson");
/// The pattern of indices in both, which the operator's takes the place of.
const PATTERN: &str = "20*-joblogs";
/// The object whose description says in which version all of them were imported: what comes after the prefix of its id.
const MARKED: &str = "-one-job";
/// Between two looks whether Kibana is ready.
const PAUSE: Duration = Duration::from_secs(2);
/// For one answer: an import migrates every object.
const ANSWER: Duration = Duration::from_mins(1);
/// All objects with all that Kibana says of them have some 200 KiB.
const LARGEST_ANSWER: usize = 4 << 20;

/// What `kibana` is to do.
pub(crate) struct Import {
    /// Where Kibana is: a client that trusts it, and its address with a slash at the end.
    pub http: Client,
    pub url: Url,
    /// As whom we come; nobody where that is not said.
    pub login: Option<Login>,
    /// How indices are named.
    pub naming: Naming,
    /// Whether what is there in the same version is replaced too.
    pub is_forced: bool,
    /// How long to wait for Kibana.
    pub patience: Duration,
}

/// Who answers there.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Server {
    Kibana(String),
    OpenSearchDashboards(String),
}

/// Why there is no answer that ends the matter.
enum Failure {
    /// Not yet: ask again.
    Passing(String),
    Final(anyhow::Error),
}

impl Import {
    /// Waits for Kibana and imports, saying in a line what was done.
    pub(crate) async fn run(&self) -> Result<()> {
        let end = Instant::now() + self.patience;
        loop {
            match self.attempt().await {
                Ok(done) => {
                    println!("{done}");
                    return Ok(());
                }
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(why)) if Instant::now() >= end => bail!(
                    "Kibana at {} is not ready after {} s: {why}; all else works without it, and `consumer kibana` can be run again at any time",
                    self.url,
                    self.patience.as_secs()
                ),
                Err(Failure::Passing(why)) => {
                    tracing::warn!(why, "waiting for Kibana");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<String, Failure> {
        let server = self.status().await?;
        let objects = marked(&with_patterns(server.objects(), &self.naming));
        let objects = renamed(
            &objects,
            &prefix(&self.url, &self.naming.name),
            &self.naming.name,
        );
        let count = objects.lines().count();
        let name = server.name();
        if !self.is_forced && self.has(&objects).await? {
            return Ok(format!(
                "{name} has these {count} objects already; --force puts them there again"
            ));
        }
        self.import(&name, objects).await?;
        Ok(format!(
            "{name} has {count} objects: data views, searches and dashboards"
        ))
    }

    /// Who answers, once it is ready. Not ready, it answers 503 with the same JSON.
    async fn status(&self) -> Result<Server, Failure> {
        let answer = self.send(self.http.get(self.at("api/status"))).await?;
        let status = answer.status().as_u16();
        let body = read(answer).await?;
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let overall = &body["status"]["overall"];
        let version = body["version"]["number"].as_str().unwrap_or_default();
        match (overall["level"].as_str(), overall["state"].as_str()) {
            // What is degraded or yellow lacks one thing or another, and serves.
            (Some("available" | "degraded"), _) => Ok(Server::Kibana(version.into())),
            (_, Some("green" | "yellow")) => Ok(Server::OpenSearchDashboards(version.into())),
            (Some(state), _) | (_, Some(state)) => {
                Err(Failure::Passing(format!("it says that it is {state}")))
            }
            _ => Err(Failure::Passing(format!(
                "it answered {status} without its state"
            ))),
        }
    }

    /// Whether all objects are there, of this version. Export is the one way to ask for them that is there to stay; it
    /// refuses when one is missing.
    async fn has(&self, objects: &str) -> Result<bool, Failure> {
        let objects: Vec<Value> = parsed(objects);
        let ids: Vec<Value> = objects
            .iter()
            .map(|it| json!({"type": it["type"], "id": it["id"]}))
            .collect();
        let question = json!({"objects": ids, "excludeExportDetails": true});
        let request = self.http.post(self.at("api/saved_objects/_export"));
        let answer = self.send(request.json(&question)).await?;
        if !answer.status().is_success() {
            return Ok(false);
        }
        let there = parsed(&String::from_utf8_lossy(&read(answer).await?));
        let description = |objects: &[Value]| {
            let marked = objects.iter().find(|it| is_marked(it))?;
            marked["attributes"]["description"]
                .as_str()
                .map(str::to_owned)
        };
        Ok(description(&there).is_some() && description(&there) == description(&objects))
    }

    async fn import(&self, name: &str, objects: String) -> Result<(), Failure> {
        let file = Part::text(objects).file_name("joblogs.ndjson");
        let request = self.http.post(self.at("api/saved_objects/_import"));
        let request = request.query(&[("overwrite", "true")]);
        let form = Form::new().part("file", file);
        let answer = self.send(request.multipart(form)).await?;
        let status = answer.status();
        let body: Value = serde_json::from_slice(&read(answer).await?).unwrap_or_default();
        let message = body["message"].as_str().unwrap_or("no reason was given");
        match status.as_u16() {
            200 if body["success"] == true => Ok(()),
            200 => Err(Failure::Final(refused_objects(name, &body["errors"]))),
            429 | 500.. => Err(Failure::Passing(format!("it answered {status}: {message}"))),
            _ => Err(Failure::Final(anyhow!(
                "{name} refused the import ({status}): {message}"
            ))),
        }
    }

    /// Sends it as us. Wrong credentials are an end, no answer is not.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let request = request
            .timeout(ANSWER)
            .header("kbn-xsrf", "true")
            .header("osd-xsrf", "true");
        let request = match &self.login {
            Some(login) => login.sign(request),
            None => request,
        };
        let answer = request.send().await.map_err(|error| {
            Failure::Passing(format!("no answer: {}", causes(&error.without_url())))
        })?;
        match answer.status().as_u16() {
            status @ (401 | 403) => Err(Failure::Final(anyhow!(
                "Kibana at {} refused {} ({status}): give by --es-user and --es-pass-file, or by --es-api-key-file, one that may manage saved objects",
                self.url,
                self.login.as_ref().map_or_else(
                    || "who comes without credentials".to_owned(),
                    Login::to_string
                ),
            ))),
            _ => Ok(answer),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }
}

impl Server {
    fn name(&self) -> String {
        match self {
            Self::Kibana(version) => format!("Kibana {version}"),
            Self::OpenSearchDashboards(version) => format!("OpenSearch Dashboards {version}"),
        }
    }

    fn objects(&self) -> &'static str {
        match self {
            Self::Kibana(_) => FOR_KIBANA,
            Self::OpenSearchDashboards(_) => FOR_OPENSEARCH_DASHBOARDS,
        }
    }
}

/// The objects with the operator's own patterns of indices.
fn with_patterns(objects: &str, naming: &Naming) -> String {
    let name = &naming.name;
    let mut pieces = objects.split(PATTERN);
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let kind = ["-jobs", "-rejected"]
            .into_iter()
            .find(|kind| piece.starts_with(kind))
            .unwrap_or_default();
        let pattern = match naming.date {
            DatePlace::Prefix => format!("20*-{name}{kind}"),
            DatePlace::Suffix => format!("{name}{kind}-20*"),
        };
        text.push_str(&pattern);
        text.push_str(&piece[kind.len()..]);
    }
    text
}

/// The objects, one of which says of which version they are: a digest of them all.
fn marked(objects: &str) -> String {
    let version = hex(&Sha256::digest(objects)[..6]);
    let mark = |mut object: Value| {
        if is_marked(&object) {
            let description = object["attributes"]["description"].as_str();
            let description = format!("{} ({version})", description.unwrap_or_default());
            object["attributes"]["description"] = description.into();
        }
        format!("{object}\n")
    };
    parsed(objects).into_iter().map(mark).collect()
}

fn is_marked(object: &Value) -> bool {
    object["id"].as_str().is_some_and(|id| id.ends_with(MARKED))
}

/// The objects with ids that begin with this prefix, and with the installation's name in their titles if it is not the
/// one that all have.
fn renamed(objects: &str, prefix: &str, name: &IndexName) -> String {
    let rename = |id: &mut Value| {
        let rest = id.as_str().and_then(|it| it.strip_prefix(DEFAULT_PREFIX));
        if let Some(rest) = rest {
            *id = format!("{prefix}{rest}").into();
        }
    };
    let one = |mut object: Value| {
        rename(&mut object["id"]);
        for reference in object["references"].as_array_mut().into_iter().flatten() {
            rename(&mut reference["id"]);
        }
        // A data view's title is its pattern.
        let title = match object["attributes"].get("name") {
            Some(_) => "name",
            None => "title",
        };
        let is_pattern = object["type"] == "index-pattern" && title == "title";
        if name.as_str() != DEFAULT_PREFIX && !is_pattern {
            let title = &mut object["attributes"][title];
            *title = format!("{} ({name})", title.as_str().unwrap_or_default()).into();
        }
        format!("{object}\n")
    };
    parsed(objects).into_iter().map(one).collect()
}

fn parsed(ndjson: &str) -> Vec<Value> {
    ndjson
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// One sentence about the first object that was not taken.
fn refused_objects(name: &str, errors: &Value) -> anyhow::Error {
    let errors = errors.as_array().map_or(&[][..], Vec::as_slice);
    let Some(first) = errors.first() else {
        return anyhow!("{name} did not import the objects and did not say why");
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (kind, id) = (text(&first["type"]), text(&first["id"]));
    let error = &first["error"];
    let reason = match error["type"].as_str().unwrap_or_default() {
        "unsupported_type" => "it knows no objects of this type".to_owned(),
        "missing_references" => {
            let missing = &error["references"][0];
            let (kind, id) = (text(&missing["type"]), text(&missing["id"]));
            format!("it refers to the {kind} {id}, which is not there")
        }
        "unknown" => text(&error["message"]),
        other => other.to_owned(),
    };
    let more = match errors.len() {
        1 => String::new(),
        all => format!("; so it is with {} more", all - 1),
    };
    anyhow!("{name} did not take the {kind} {id}: {reason}{more}")
}

async fn read(mut answer: Response) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(Some(_)) if body.len() > LARGEST_ANSWER => {
                return Err(Failure::Passing("its answer does not end".into()));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) => {
                let why = format!("its answer broke off: {}", causes(&error.without_url()));
                return Err(Failure::Passing(why));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(name: &str, date: DatePlace) -> Vec<String> {
        let name = IndexName::parse(name).unwrap();
        let objects = parsed(&with_patterns(FOR_KIBANA, &Naming { name, date }));
        objects
            .iter()
            .filter(|it| it["type"] == "index-pattern")
            .map(|it| it["attributes"]["title"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn patterns_are_those_of_the_operators_indices() {
        assert_eq!(
            patterns("joblogs-team", DatePlace::Prefix),
            [
                "20*-joblogs-team",
                "20*-joblogs-team-jobs",
                "20*-joblogs-team-rejected"
            ]
        );
        assert_eq!(
            patterns("ci", DatePlace::Suffix),
            ["ci-20*", "ci-jobs-20*", "ci-rejected-20*"]
        );
    }

    #[test]
    fn charts_that_name_indices_themselves_follow() {
        let name = IndexName::parse("ci").unwrap();
        let date = DatePlace::Suffix;
        let text = with_patterns(FOR_KIBANA, &Naming { name, date });
        assert!(!text.contains(PATTERN));
        let chart = text.lines().find(|line| line.contains("vega-lite"));
        assert!(chart.unwrap().contains("ci-jobs-20*"));
    }

    #[test]
    fn ids_and_titles_are_those_of_the_installation() {
        let name = IndexName::parse("ci").unwrap();
        let objects = renamed(FOR_KIBANA, "ci@team", &name);
        for object in parsed(&objects) {
            let references = object["references"].as_array().unwrap();
            for id in references.iter().chain([&object]).map(|it| &it["id"]) {
                let id = id.as_str().unwrap();
                assert!(id.starts_with("ci@team-"), "{id}");
            }
            let attributes = &object["attributes"];
            let title = attributes.get("name").unwrap_or(&attributes["title"]);
            assert!(title.as_str().unwrap().ends_with(" (ci)"), "{title}");
        }
        let name = IndexName::parse(DEFAULT_PREFIX).unwrap();
        let same = renamed(FOR_KIBANA, DEFAULT_PREFIX, &name);
        assert_eq!(parsed(&same), parsed(FOR_KIBANA));
    }

    #[test]
    fn the_mark_changes_with_any_object() {
        let description = |objects: &str| {
            let objects = parsed(&marked(objects));
            let marked = objects.iter().find(|it| is_marked(it)).unwrap();
            marked["attributes"]["description"].to_string()
        };
        for objects in [FOR_KIBANA, FOR_OPENSEARCH_DASHBOARDS] {
            let other = objects.replace("error", "err0r");
            assert_eq!(description(objects), description(objects));
            assert_ne!(description(objects), description(&other));
        }
    }
}
