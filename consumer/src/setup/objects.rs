//! What setup puts into the cluster: the files of `consumer/elasticsearch`, named and marked as ours.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::indices::{Kind, Names};

/// The version of all of them together: one more with each change of a file.
pub(super) const VERSION: u64 = 2;
/// What tells our objects and our indices from others'.
pub(crate) const MANAGED_BY: &str = "joblogs";
/// What comes after the name of the operator's own component template.
pub(super) const CUSTOM: &str = "-custom";
/// Above the templates that Elasticsearch ships (100) and those of its agents (up to 500).
const PRIORITY: usize = 501;

/// Component templates, in the order in which each wins over those before it: what comes after our name,
/// and the body.
const COMPONENTS: [(&str, &str); 5] = [
    (
        "-settings",
        include_str!("../../elasticsearch/settings.json"),
    ),
    ("-facts", include_str!("../../elasticsearch/facts.json")),
    ("-lines", include_str!("../../elasticsearch/lines.json")),
    ("-jobs", include_str!("../../elasticsearch/jobs.json")),
    (
        "-rejected",
        include_str!("../../elasticsearch/rejected.json"),
    ),
];
const OPERATORS_OWN: &str = include_str!("../../elasticsearch/custom.json");
const LIFECYCLE: &str = include_str!("../../elasticsearch/lifecycle.json");
const ROLES: [(&str, &str); 3] = [
    (
        "-consumer",
        include_str!("../../elasticsearch/roles/consumer.json"),
    ),
    (
        "-reader",
        include_str!("../../elasticsearch/roles/reader.json"),
    ),
    (
        "-retention",
        include_str!("../../elasticsearch/roles/retention.json"),
    ),
];

/// Something in the cluster that has a name.
pub(super) struct Object {
    /// Its name.
    pub name: String,
    /// What it is.
    pub body: Value,
}

/// The component template of each kind, and those that all kinds share.
pub(super) fn components(names: &Names, lifecycle: Option<&str>) -> Result<Vec<Object>> {
    let component = |(suffix, file): (&str, &str)| {
        let mut body = parse(suffix, file)?;
        if let (Some(policy), "-settings") = (lifecycle, suffix) {
            body["template"]["settings"]["index"]["lifecycle"] = json!({"name": policy});
        }
        mark(&mut body["_meta"], names);
        if let Some(mapping) = body.pointer_mut("/template/mappings") {
            without_descriptions(mapping);
        }
        let name = names.object(suffix);
        Ok(Object { name, body })
    };
    COMPONENTS.into_iter().map(component).collect()
}

/// All fields of the indices of a kind, with their mark, as templates give them to new ones.
pub(super) fn mapping(names: &Names, kind: Kind) -> Result<Value> {
    let composed = composed_of(names, kind);
    let mut fields = Map::new();
    for component in components(names, None)? {
        let its = component.body["template"]["mappings"]["properties"].as_object();
        if composed.contains(&component.name) {
            fields.extend(its.cloned().into_iter().flatten());
        }
    }
    Ok(json!({"_meta": meta(names, kind), "properties": fields}))
}

/// The operator's own component template, as long as there is none.
pub(super) fn operators_own(names: &Names) -> Result<Object> {
    Ok(Object {
        name: names.object(CUSTOM),
        body: parse(CUSTOM, OPERATORS_OWN)?,
    })
}

/// The index template of a kind, whose indices get this alias.
pub(super) fn template(names: &Names, kind: Kind, alias: Option<&str>) -> Object {
    let meta = meta(names, kind);
    let mut template = json!({"mappings": {"_meta": meta}});
    if let Some(alias) = alias {
        template["aliases"] = json!({alias: {}});
    }
    let body = json!({
        "_meta": meta,
        "index_patterns": names.patterns(kind),
        "priority": priority(names, kind),
        "composed_of": composed_of(names, kind),
        "template": template,
    });
    let name = names.object(kind.suffix());
    Object { name, body }
}

fn composed_of(names: &Names, kind: Kind) -> [String; 4] {
    let own = match kind {
        Kind::Lines => "-lines",
        Kind::Jobs => "-jobs",
        Kind::Rejected => "-rejected",
    };
    ["-settings", "-facts", own, CUSTOM].map(|it| names.object(it))
}

fn meta(names: &Names, kind: Kind) -> Value {
    let what = match kind {
        Kind::Lines => "Lines of CI jobs.",
        Kind::Jobs => "Manifests of CI jobs.",
        Kind::Rejected => "Lines of CI jobs that were not taken.",
    };
    let mut meta = json!({"description": what});
    mark(&mut meta, names);
    meta
}

/// The name by which all indices of a kind are read together.
pub(super) fn alias(names: &Names, kind: Kind) -> Option<String> {
    (kind != Kind::Rejected).then(|| names.object(kind.suffix()))
}

/// The policy by which the cluster itself removes indices after so many days; never after 0.
pub(super) fn lifecycle(names: &Names, days: u16) -> Result<Object> {
    let mut body = parse("lifecycle", LIFECYCLE)?;
    let policy = &mut body["policy"];
    mark(&mut policy["_meta"], names);
    if days == 0 {
        let phases = policy["phases"].as_object_mut();
        phases.context("phases")?.remove("delete");
    } else {
        policy["phases"]["delete"]["min_age"] = format!("{days}d").into();
    }
    let name = names.object("");
    Ok(Object { name, body })
}

/// Roles, which name the indices by their patterns. In the files they stand as kinds.
pub(super) fn roles(names: &Names) -> Result<Vec<Object>> {
    let patterns = |kind: &Value| match kind.as_str() {
        Some("lines") => names.patterns(Kind::Lines),
        Some("jobs") => names.patterns(Kind::Jobs),
        Some("rejected") => names.patterns(Kind::Rejected),
        Some("aliases") => Kind::ALL
            .iter()
            .filter_map(|it| alias(names, *it))
            .collect(),
        _ => Vec::new(),
    };
    let role = |(suffix, file): (&str, &str)| {
        let mut body = parse(suffix, file)?;
        mark(&mut body["metadata"], names);
        for rights in body["indices"].as_array_mut().into_iter().flatten() {
            let kinds = rights["names"].as_array().into_iter().flatten();
            rights["names"] = kinds.flat_map(patterns).collect();
        }
        let name = names.object(suffix);
        Ok(Object { name, body })
    };
    ROLES.into_iter().map(role).collect()
}

/// The roles as Elasticsearch reads them from a file `roles.yml`, for a cluster whose users are in files: a line
/// each, as it takes the file apart by its lines.
pub(crate) fn roles_file(names: &Names) -> Result<String> {
    let roles = roles(names)?;
    let lines = roles.iter().map(|it| format!("{}: {}\n", it.name, it.body));
    Ok(lines.collect())
}

/// Whose it is, and of which installation: there may be several on one cluster.
fn mark(meta: &mut Value, names: &Names) {
    meta["managed_by"] = MANAGED_BY.into();
    meta["name"] = names.naming.name.as_str().into();
    meta["version"] = VERSION.into();
}

/// What the files say about a field is for people, and longer than the 50 characters that Elasticsearch takes.
fn without_descriptions(mapping: &mut Value) {
    let fields = mapping.get_mut("properties").and_then(Value::as_object_mut);
    for field in fields.into_iter().flat_map(Map::values_mut) {
        if let Some(field) = field.as_object_mut() {
            field.remove("meta");
        }
        without_descriptions(field);
    }
}

fn parse(what: &str, file: &str) -> Result<Value> {
    serde_json::from_str(file).with_context(|| format!("the file for {what} is no JSON"))
}

/// The longer name is the more special one: `20*-joblogs` takes `…-team-joblogs` too, and where two
/// templates of the same priority may take an index, Elasticsearch refuses the second.
fn priority(names: &Names, kind: Kind) -> usize {
    let order = Kind::ALL.iter().position(|it| *it == kind);
    PRIORITY + Kind::ALL.len() * names.naming.name.as_str().len() + order.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use notice::{IndexName, IndexPatterns};

    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::{
        indices::{DatePlace, Naming},
        manifest::hex,
    };

    fn names(name: &str) -> Names {
        let name = IndexName::parse(name).unwrap();
        Names {
            asked: IndexPatterns::default().and(&name),
            naming: Naming {
                name,
                date: DatePlace::Prefix,
            },
        }
    }

    #[test]
    fn manifests_come_before_lines_and_longer_names_before_shorter_ones() {
        let (short, long) = (names("joblogs"), names("team-joblogs"));
        assert!(priority(&short, Kind::Lines) > 500);
        assert!(priority(&short, Kind::Lines) < priority(&short, Kind::Jobs));
        assert!(priority(&short, Kind::Rejected) < priority(&long, Kind::Lines));
    }

    #[test]
    fn all_but_the_operators_own_is_marked_and_composed_of_what_is_there() {
        let names = names("joblogs");
        let components = components(&names, Some("policy")).unwrap();
        let mut there: Vec<&str> = components.iter().map(|it| it.name.as_str()).collect();
        for it in &components {
            assert_eq!(it.body["_meta"]["managed_by"], MANAGED_BY, "{}", it.name);
            assert_eq!(it.body["_meta"]["version"], VERSION, "{}", it.name);
        }
        assert_eq!(
            components[0].body["template"]["settings"]["index"]["lifecycle"]["name"],
            "policy"
        );
        let all: Vec<String> = components.iter().map(|it| it.body.to_string()).collect();
        assert!(
            !all.concat().contains(r#""meta":"#),
            "descriptions are sent"
        );
        let own = operators_own(&names).unwrap();
        assert_eq!(own.body["_meta"]["version"], Value::Null);
        there.push(&own.name);
        for kind in Kind::ALL {
            let template = template(&names, kind, None).body;
            let composed_of = template["composed_of"].as_array().unwrap();
            assert!(
                composed_of
                    .iter()
                    .all(|it| there.contains(&it.as_str().unwrap()))
            );
            assert_eq!(composed_of.last().unwrap(), own.name.as_str());
            assert_eq!(
                template["template"]["mappings"]["_meta"]["managed_by"],
                MANAGED_BY
            );
        }
    }

    #[test]
    fn roles_name_indices_that_our_names_match() {
        let names = names("joblogs");
        let roles = roles(&names).unwrap();
        let [consumer, reader, _] = &roles[..] else {
            panic!("{} roles", roles.len());
        };
        let consumer = &consumer.body["indices"];
        assert_eq!(
            consumer[0]["names"],
            json!(["20*-joblogs", "20*-joblogs-rejected"])
        );
        assert_eq!(consumer[1]["names"], json!(["20*-joblogs-jobs"]));
        assert_eq!(
            reader.body["indices"][0]["names"],
            json!([
                "20*-joblogs",
                "20*-joblogs-jobs",
                "20*-joblogs-rejected",
                "joblogs-joblogs",
                "joblogs-joblogs-jobs"
            ])
        );
        let file = roles_file(&names).unwrap();
        let names: Vec<&str> = file
            .lines()
            .filter_map(|it| it.split(": ").next())
            .collect();
        assert_eq!(
            names,
            [
                "joblogs-joblogs-consumer",
                "joblogs-joblogs-reader",
                "joblogs-joblogs-retention"
            ]
        );
    }

    /// What the objects of `VERSION` are: whoever changes one raises the version, or an installation that has the
    /// older ones would not be told of it.
    const OF_VERSION: (u64, &str) = (2, "65ecf6fb708a9e5d");

    #[test]
    fn a_change_of_an_object_is_a_new_version() {
        let names = names("joblogs");
        let mut objects = components(&names, None).unwrap();
        objects.extend(Kind::ALL.map(|kind| template(&names, kind, None)));
        objects.extend(roles(&names).unwrap());
        objects.push(lifecycle(&names, 30).unwrap());
        let all: Vec<String> = objects.iter().map(|it| it.body.to_string()).collect();
        let digest = hex(&Sha256::digest(all.concat()));
        assert_eq!((VERSION, &digest[..16]), OF_VERSION);
    }

    #[test]
    fn zero_days_are_for_ever() {
        let phases =
            |days| lifecycle(&names("joblogs"), days).unwrap().body["policy"]["phases"].clone();
        assert_eq!(phases(7)["delete"]["min_age"], "7d");
        assert!(phases(0)["delete"].is_null() && phases(0)["hot"].is_object());
    }
}
