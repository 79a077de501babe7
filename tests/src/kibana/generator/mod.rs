//! Makes what people import of what people edit: `kibana/source` becomes `kibana/joblogs.ndjson` for Kibana and
//! `kibana/opensearch-dashboards.ndjson`. The versions in the objects are old enough for Kibana 8.19; newer ones
//! migrate them. Here a test compares, and `UPDATE_KIBANA=1` writes.

mod lens;
mod source;

use std::{env, fs};

use serde_json::{Map, Value, json};

use source::{Dashboard, Format, Panel, Search, View};

/// The version of the objects' common fields.
const CORE: &str = "8.8.0";
/// What a dashboard shows when it is opened.
const RANGE: [&str; 2] = ["now-7d/d", "now"];
const DASHBOARDS: [&str; 2] = ["failures.yaml", "time-and-volume.yaml"];

/// The objects for Kibana, a line each.
fn for_kibana() -> String {
    let views: Vec<View> = source::yaml("data-views.yaml");
    let searches: Vec<Search> = source::yaml("searches.yaml");
    let dashboards = DASHBOARDS.map(source::yaml::<Dashboard>);
    let charts = dashboards
        .iter()
        .flat_map(|it| it.panels.iter().filter_map(chart));
    let all = views
        .iter()
        .map(view)
        .chain(searches.iter().map(search))
        .chain(charts)
        .chain(dashboards.iter().map(dashboard));
    lines(all)
}

/// The data views and searches in the form that OpenSearch Dashboards takes, which knows neither Lens nor what Kibana
/// added to a data view since 7.10.
fn for_opensearch_dashboards() -> String {
    let views: Vec<View> = source::yaml("data-views.yaml");
    let searches: Vec<Search> = source::yaml("searches.yaml");
    let views = views.iter().map(|it| {
        let mut object = older(view(it), "7.6.0");
        if let Some(attributes) = object["attributes"].as_object_mut() {
            attributes.remove("name");
        }
        object["attributes"]["fieldFormatMap"] = text(Value::Object(formats(it, true))).into();
        object
    });
    lines(views.chain(searches.iter().map(|it| older(search(it), "7.9.3"))))
}

fn older(mut object: Value, version: &str) -> Value {
    let kind = object["type"].as_str().unwrap_or_default().to_owned();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("coreMigrationVersion");
        fields.remove("typeMigrationVersion");
    }
    object["migrationVersion"] = json!({kind: version});
    object
}

fn lines(objects: impl Iterator<Item = Value>) -> String {
    let lines: Vec<String> = objects.map(|object| object.to_string()).collect();
    lines.join("\n") + "\n"
}

fn object(kind: &str, version: &str, id: &str, attributes: Value, references: Value) -> Value {
    json!({
        "id": id,
        "type": kind,
        "coreMigrationVersion": CORE,
        "typeMigrationVersion": version,
        "attributes": attributes,
        "references": references,
    })
}

fn view(view: &View) -> Value {
    let mut attributes = json!({
        "title": view.pattern,
        "name": view.name,
        "fieldFormatMap": text(Value::Object(formats(view, false))),
    });
    if let Some(time) = &view.time {
        attributes["timeFieldName"] = json!(time);
    }
    object("index-pattern", "8.0.0", &view.id, attributes, json!([]))
}

fn formats(view: &View, is_older: bool) -> Map<String, Value> {
    let formats = view.formats.iter();
    formats
        .map(|(field, it)| (field.clone(), format(*it, is_older)))
        .collect()
}

fn format(format: Format, is_older: bool) -> Value {
    let duration = |unit: &str| {
        // Kibana 7.14 brought the precise one; before, an output that is unknown is an error for each row.
        let (output, suffix) = if is_older {
            ("asSeconds", "showSuffix")
        } else {
            ("humanizePrecise", "useShortSuffix")
        };
        json!({"id": "duration", "params": {
            "inputFormat": unit, "outputFormat": output, "outputPrecision": 1, suffix: true,
        }})
    };
    match format {
        Format::Link => {
            json!({"id": "url", "params": {"type": "a", "openLinkInCurrentTab": false}})
        }
        Format::Plain => json!({"id": "number", "params": {"pattern": "0"}}),
        Format::Bytes => json!({"id": "bytes", "params": {"pattern": "0,0.[0]b"}}),
        Format::Seconds => duration("seconds"),
        Format::Milliseconds => duration("milliseconds"),
        Format::Level => colours(&[("error", RED), ("warning", YELLOW)]),
        Format::Status => colours(&[("success", GREEN), ("failed", RED), ("canceled", GREY)]),
        Format::State => colours(&[
            ("complete", GREEN),
            ("truncated", YELLOW),
            ("incomplete|erased|no_trace|forbidden|gone", RED),
        ]),
        Format::Class => colours(&[
            ("code|test", BLUE),
            ("dependency|configuration", YELLOW),
            ("infrastructure|timeout", RED),
            ("cancelled|unknown", GREY),
        ]),
    }
}

/// Text and background, each pair easy to read.
type Colour = [&'static str; 2];
const RED: Colour = ["#FFFFFF", "#BD271E"];
const YELLOW: Colour = ["#000000", "#FEC514"];
const GREEN: Colour = ["#FFFFFF", "#007871"];
const BLUE: Colour = ["#FFFFFF", "#0061A6"];
const GREY: Colour = ["#FFFFFF", "#69707D"];

/// Values whose whole text matches get the colour.
fn colours(rules: &[(&str, Colour)]) -> Value {
    let rules: Vec<Value> = rules
        .iter()
        .map(|(values, [text, background])| {
            json!({
                "range": "-Infinity:Infinity",
                "regex": format!("^({values})$"),
                "text": text,
                "background": background,
            })
        })
        .collect();
    json!({"id": "color", "params": {"fieldType": "string", "colors": rules}})
}

fn search(search: &Search) -> Value {
    let source = json!({
        "query": {"language": "kuery", "query": search.query},
        "filter": [],
        "indexRefName": SEARCH_INDEX,
    });
    let attributes = json!({
        "title": search.title,
        "description": search.answers,
        "columns": search.columns,
        "sort": [search.sort],
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(source)},
    });
    let references = json!([{"id": search.view, "name": SEARCH_INDEX, "type": "index-pattern"}]);
    object("search", "8.0.0", &search.id, attributes, references)
}

const SEARCH_INDEX: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

/// The object behind a panel; a saved search has its own already.
fn chart(panel: &Panel) -> Option<Value> {
    if let Some(spec) = &panel.vega {
        return Some(vega(panel, &source::text(spec)));
    }
    let attributes = lens::attributes(panel, panel.chart?);
    let references = lens::references(panel);
    Some(object("lens", "8.9.0", &panel.id, attributes, references))
}

fn vega(panel: &Panel, spec: &str) -> Value {
    let state = json!({"title": panel.title, "type": "vega", "aggs": [], "params": {"spec": spec}});
    let source = json!({"query": {"language": "kuery", "query": ""}, "filter": []});
    let attributes = json!({
        "title": panel.title,
        "description": panel.answers,
        "uiStateJSON": "{}",
        "version": 1,
        "visState": text(state),
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(source)},
    });
    object("visualization", "8.0.0", &panel.id, attributes, json!([]))
}

fn dashboard(dashboard: &Dashboard) -> Value {
    let mut references = Vec::new();
    let mut panels = Vec::new();
    for (number, panel) in (1..).zip(&dashboard.panels) {
        let (kind, id) = match panel {
            Panel {
                search: Some(id), ..
            } => ("search", id),
            Panel {
                vega: Some(_), id, ..
            } => ("visualization", id),
            Panel { id, .. } => ("lens", id),
        };
        let index = number.to_string();
        let name = format!("panel_{index}");
        let [x, y, w, h] = panel.at;
        references.push(json!({"id": id, "name": format!("{index}:{name}"), "type": kind}));
        panels.push(json!({
            "version": "8.9.0",
            "type": kind,
            "gridData": {"x": x, "y": y, "w": w, "h": h, "i": index},
            "panelIndex": index,
            "embeddableConfig": {"enhancements": {}},
            "panelRefName": name,
        }));
    }
    let options = json!({
        "useMargins": true, "syncColors": true, "syncCursor": true, "syncTooltips": false, "hidePanelTitles": false,
    });
    let [from, to] = RANGE;
    let attributes = json!({
        "title": dashboard.title,
        "description": dashboard.answers,
        "timeRestore": true,
        "timeFrom": from,
        "timeTo": to,
        "refreshInterval": {"pause": true, "value": 60000},
        "optionsJSON": text(options),
        "panelsJSON": text(Value::Array(panels)),
        "kibanaSavedObjectMeta": {"searchSourceJSON": text(json!({
            "query": {"language": "kuery", "query": ""}, "filter": [],
        }))},
        "version": 1,
    });
    object(
        "dashboard",
        "8.9.0",
        &dashboard.id,
        attributes,
        Value::Array(references),
    )
}

/// Kibana keeps JSON as text within its JSON.
fn text(json: Value) -> String {
    json.to_string()
}

#[test]
fn the_objects_are_made_of_their_sources() {
    for (name, right) in [
        ("joblogs.ndjson", for_kibana()),
        ("opensearch-dashboards.ndjson", for_opensearch_dashboards()),
    ] {
        let path = source::folder().join(name);
        if env::var_os("UPDATE_KIBANA").is_some() {
            fs::write(&path, &right).expect("the repository can be written");
        }
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            there == right,
            "kibana/{name} is not what kibana/source says: run `make kibana`"
        );
    }
}
