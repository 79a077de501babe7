//! The objects, each held against what Kibana's model of its type takes, and against one another.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{FOR_KIBANA, FOR_OPENSEARCH_DASHBOARDS, Object, objects};

/// By type: the version that its objects have, and the attributes that may be there in that version.
const KIBANA: [(&str, &str, &[&str]); 5] = [
    (
        "index-pattern",
        "8.0.0",
        &["title", "name", "timeFieldName", "fieldFormatMap"],
    ),
    ("search", "8.0.0", SEARCH),
    (
        "lens",
        "8.9.0",
        &["title", "description", "visualizationType", "state"],
    ),
    (
        "visualization",
        "8.0.0",
        &[
            "title",
            "description",
            "uiStateJSON",
            "version",
            "visState",
            "kibanaSavedObjectMeta",
        ],
    ),
    (
        "dashboard",
        "8.9.0",
        &[
            "title",
            "description",
            "timeRestore",
            "timeFrom",
            "timeTo",
            "refreshInterval",
            "optionsJSON",
            "panelsJSON",
            "kibanaSavedObjectMeta",
            "version",
        ],
    ),
];
/// The same for OpenSearch Dashboards, whose mappings are strict.
const OPENSEARCH_DASHBOARDS: [(&str, &str, &[&str]); 2] = [
    (
        "index-pattern",
        "7.6.0",
        &["title", "timeFieldName", "fieldFormatMap"],
    ),
    ("search", "7.9.3", SEARCH),
];
const SEARCH: &[&str] = &[
    "title",
    "description",
    "columns",
    "sort",
    "kibanaSavedObjectMeta",
];
const DASHBOARD_WIDTH: u64 = 48;

fn raw(ndjson: &str) -> Vec<Value> {
    ndjson
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn each_object_has_what_its_type_takes_and_nothing_else() {
    for object in raw(FOR_KIBANA) {
        let kind = object["type"].as_str().unwrap();
        let (_, version, attributes) = KIBANA.iter().find(|it| it.0 == kind).unwrap();
        let right = [
            "id",
            "type",
            "coreMigrationVersion",
            "typeMigrationVersion",
            "attributes",
            "references",
        ];
        assert_eq!(keys(&object), BTreeSet::from(right), "{object}");
        assert_eq!(object["coreMigrationVersion"], "8.8.0", "{object}");
        assert_eq!(object["typeMigrationVersion"], *version, "{object}");
        takes(&object, attributes);
    }
    for object in raw(FOR_OPENSEARCH_DASHBOARDS) {
        let kind = object["type"].as_str().unwrap();
        let (_, version, attributes) = OPENSEARCH_DASHBOARDS
            .iter()
            .find(|it| it.0 == kind)
            .unwrap();
        let right = ["id", "type", "migrationVersion", "attributes", "references"];
        assert_eq!(keys(&object), BTreeSet::from(right), "{object}");
        assert_eq!(object["migrationVersion"][kind], *version, "{object}");
        takes(&object, attributes);
    }
}

fn takes(object: &Value, attributes: &[&str]) {
    let all: BTreeSet<_> = attributes.iter().copied().collect();
    let there = keys(&object["attributes"]);
    let unknown: Vec<_> = there.difference(&all).collect();
    assert!(unknown.is_empty(), "{unknown:?} in {object}");
    // Rejected lines have no time field, for they have no time.
    let may_lack = |name: &&&str| **name == "timeFieldName" && object["id"] == "joblogs-rejected";
    let missing: Vec<_> = all
        .difference(&there)
        .filter(|name| !may_lack(name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} is missing in {object}");
}

#[test]
fn ids_are_ours_and_stand_once_and_every_reference_leads_to_one() {
    for ndjson in [FOR_KIBANA, FOR_OPENSEARCH_DASHBOARDS] {
        let objects = objects(ndjson).unwrap();
        let ids: BTreeSet<_> = objects.iter().map(|it| (&it.kind, &it.id)).collect();
        assert_eq!(ids.len(), objects.len());
        for object in &objects {
            assert!(object.id.starts_with("joblogs-"), "{}", object.id);
            for it in &object.references {
                assert!(
                    ids.contains(&(&it.kind, &it.id)),
                    "{} leads to no {}",
                    object.id,
                    it.id
                );
            }
            let names: BTreeSet<_> = object.references.iter().map(|it| &it.name).collect();
            assert_eq!(names.len(), object.references.len(), "{}", object.id);
        }
        // People who have imported them have these ids in links and dashboards of their own.
        for id in [
            "joblogs-lines",
            "joblogs-jobs",
            "joblogs-one-job",
            "joblogs-errors",
            "joblogs-not-whole",
        ] {
            assert!(objects.iter().any(|it| it.id == id), "{id}");
        }
    }
}

#[test]
fn both_files_have_the_same_searches() {
    let of = |ndjson| {
        let mut objects = objects(ndjson).unwrap();
        objects.retain(|it| it.kind == "search");
        objects
            .into_iter()
            .map(|it| (it.id, it.attributes))
            .collect::<BTreeMap<_, _>>()
    };
    assert_eq!(of(FOR_KIBANA), of(FOR_OPENSEARCH_DASHBOARDS));
}

#[test]
fn what_attributes_name_is_among_the_references() {
    for object in objects(FOR_KIBANA).unwrap() {
        let mut named = names_in(&object);
        named.sort();
        let mut there: Vec<_> = object.references.iter().map(|it| it.name.clone()).collect();
        there.sort();
        assert_eq!(named, there, "{}", object.id);
    }
}

/// The names by which an object's attributes speak of others.
fn names_in(object: &Object) -> Vec<String> {
    match object.kind.as_str() {
        "search" => {
            let source = object
                .inner("/kibanaSavedObjectMeta/searchSourceJSON")
                .unwrap();
            vec![source["indexRefName"].as_str().unwrap().to_owned()]
        }
        "lens" => {
            let layers = &object.attributes["state"]["datasourceStates"]["formBased"]["layers"];
            let layer = |name: &String| format!("indexpattern-datasource-layer-{name}");
            layers.as_object().unwrap().keys().map(layer).collect()
        }
        "dashboard" => panels(object)
            .iter()
            .map(|panel| {
                format!(
                    "{}:{}",
                    text(panel, "panelIndex"),
                    text(panel, "panelRefName")
                )
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn panels(dashboard: &Object) -> Vec<Value> {
    let panels = dashboard.inner("/panelsJSON").unwrap();
    panels.as_array().unwrap().clone()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[test]
fn panels_are_what_they_refer_to_and_do_not_overlap() {
    for dashboard in objects(FOR_KIBANA)
        .unwrap()
        .iter()
        .filter(|it| it.kind == "dashboard")
    {
        let mut taken = BTreeSet::new();
        for panel in panels(dashboard) {
            let (index, grid) = (text(&panel, "panelIndex"), &panel["gridData"]);
            let name = format!("{index}:{}", text(&panel, "panelRefName"));
            let reference = dashboard
                .references
                .iter()
                .find(|it| it.name == name)
                .unwrap();
            assert_eq!(reference.kind, text(&panel, "type"), "{panel}");
            assert_eq!(text(grid, "i"), index, "{panel}");
            let number = |name: &str| grid[name].as_u64().unwrap();
            let (x, y, w, h) = (number("x"), number("y"), number("w"), number("h"));
            assert!(x + w <= DASHBOARD_WIDTH && h > 0, "{panel}");
            for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
                assert!(taken.insert(cell), "{panel} lies on another");
            }
        }
    }
}

#[test]
fn a_charts_picture_shows_its_columns() {
    for object in objects(FOR_KIBANA)
        .unwrap()
        .iter()
        .filter(|it| it.kind == "lens")
    {
        let state = &object.attributes["state"];
        let right = [
            "adHocDataViews",
            "datasourceStates",
            "filters",
            "internalReferences",
            "query",
            "visualization",
        ];
        assert_eq!(keys(state), BTreeSet::from(right), "{}", object.id);
        let layers = &state["datasourceStates"]["formBased"]["layers"];
        let (layer_id, layer) = layers.as_object().unwrap().iter().next().unwrap();
        let ordered: BTreeSet<_> = layer["columnOrder"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(ordered, keys(&layer["columns"]), "{}", object.id);
        let picture = &state["visualization"];
        let (shown, of_layer) = if object.attributes["visualizationType"] == "lnsDatatable" {
            let columns = picture["columns"].as_array().unwrap();
            let ids = columns.iter().map(|it| text(it, "columnId")).collect();
            (ids, text(picture, "layerId"))
        } else {
            let layer = &picture["layers"][0];
            let accessors = layer["accessors"].as_array().unwrap().iter();
            let others = ["xAccessor", "splitAccessor"]
                .into_iter()
                .filter_map(|name| layer.get(name));
            (
                accessors.chain(others).filter_map(Value::as_str).collect(),
                text(layer, "layerId"),
            )
        };
        assert_eq!(ordered, shown, "{}", object.id);
        assert_eq!(of_layer, layer_id, "{}", object.id);
    }
}

#[test]
fn the_readme_has_each_with_the_question_that_it_answers() {
    let readme = include_str!("../../../README.md");
    for object in objects(FOR_KIBANA).unwrap() {
        let title = object.title();
        let Some(answers) = object.attributes["description"].as_str() else {
            continue;
        };
        // What comes after it is how to ask.
        let question = answers.split_inclusive('?').next().unwrap();
        let row = match object.kind.as_str() {
            "dashboard" => format!("| **Dashboard «{title}»** | |"),
            _ => format!("| {question} | {title} |"),
        };
        assert!(readme.contains(&row), "the README lacks: {row}");
    }
}
