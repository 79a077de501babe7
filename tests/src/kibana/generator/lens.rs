//! A chart as people write it becomes the state that Lens keeps of it.

use serde_json::{Map, Value, json};

use super::source::{By, Kind, Measure, Of, Panel, Split};

const LAYER: &str = "layer";
/// Column ids: they are Lens's alone, and stable.
const BY: &str = "by";
const SPLIT: &str = "split";
/// More classes or states than there are.
const SPLIT_VALUES: u32 = 10;
/// Elastic's yellow, on which black can be read.
const MARK: &str = "#FEC514";

/// The attributes of a saved Lens chart.
pub(super) fn attributes(panel: &Panel, kind: Kind) -> Value {
    let by = panel.by.as_ref().expect("a chart says what it is by");
    let mut order = vec![json!(BY)];
    let mut columns = Map::new();
    columns.insert(BY.into(), by_column(by, &panel.measures));
    if let Some(split) = &panel.split {
        order.push(json!(SPLIT));
        columns.insert(SPLIT.into(), split_column(split));
    }
    for (number, measure) in panel.measures.iter().enumerate() {
        order.push(json!(id_of(number)));
        columns.insert(id_of(number), measure_column(measure));
    }
    let visualization = match kind {
        Kind::Table => table(panel),
        _ => chart(panel, kind),
    };
    json!({
        "title": panel.title,
        "description": panel.answers,
        "visualizationType": if kind == Kind::Table { "lnsDatatable" } else { "lnsXY" },
        "state": {
            "adHocDataViews": {},
            "datasourceStates": {"formBased": {"layers": {LAYER: {
                "columnOrder": order,
                "columns": columns,
                "incompleteColumns": {},
                "sampling": 1,
            }}}},
            "filters": [],
            "internalReferences": [],
            "query": {"language": "kuery", "query": panel.query},
            "visualization": visualization,
        },
    })
}

/// What a chart refers to.
pub(super) fn references(panel: &Panel) -> Value {
    json!([{
        "id": panel.view,
        "name": format!("indexpattern-datasource-layer-{LAYER}"),
        "type": "index-pattern",
    }])
}

fn id_of(number: usize) -> String {
    format!("measure-{}", number + 1)
}

fn by_column(by: &By, measures: &[Measure]) -> Value {
    if let Some(time) = &by.time {
        return json!({
            "dataType": "date",
            "isBucketed": true,
            "label": time,
            "operationType": "date_histogram",
            "params": {"dropPartials": false, "includeEmptyRows": true, "interval": "auto"},
            "scale": "interval",
            "sourceField": time,
        });
    }
    let position = by.order.as_ref().map_or(Some(0), |label| {
        measures.iter().position(|measure| measure.label == *label)
    });
    let position = position.expect("a chart is ordered by one of its measures");
    terms(&by.field, &by.label, by.top, &id_of(position))
}

fn split_column(split: &Split) -> Value {
    let mut column = terms(&split.field, &split.label, SPLIT_VALUES, &id_of(0));
    // What has no such value counts too. Lens shows it only where it shows what is beyond the size.
    column["params"]["missingBucket"] = true.into();
    column["params"]["otherBucket"] = true.into();
    column
}

fn terms(field: &str, label: &str, size: u32, order: &str) -> Value {
    json!({
        "customLabel": true,
        "dataType": "string",
        "isBucketed": true,
        "label": label,
        "operationType": "terms",
        "params": {
            "exclude": [],
            "excludeIsRegex": false,
            "include": [],
            "includeIsRegex": false,
            "missingBucket": false,
            "orderBy": {"columnId": order, "type": "column"},
            "orderDirection": "desc",
            "otherBucket": false,
            "parentFormat": {"id": "terms"},
            "size": size,
        },
        "scale": "ordinal",
        "sourceField": field,
    })
}

fn measure_column(measure: &Measure) -> Value {
    let (operation, data_type, params) = match measure.of {
        Of::Count => ("count", "number", json!({"emptyAsNull": false})),
        Of::Unique => ("unique_count", "number", json!({"emptyAsNull": false})),
        Of::Sum => ("sum", "number", json!({"emptyAsNull": true})),
        Of::Max => ("max", "number", json!({"emptyAsNull": true})),
        Of::Median => ("median", "number", json!({"emptyAsNull": true})),
        Of::P95 => ("percentile", "number", json!({"percentile": 95})),
        Of::Latest => ("max", "date", json!({"emptyAsNull": true})),
        Of::Last => (
            "last_value",
            "string",
            json!({"showArrayValues": false, "sortField": "@timestamp"}),
        ),
    };
    let field = if measure.of == Of::Count {
        "___records___"
    } else {
        &measure.field
    };
    let mut column = json!({
        "customLabel": true,
        "dataType": data_type,
        "isBucketed": false,
        "label": measure.label,
        "operationType": operation,
        "params": params,
        "scale": if data_type == "string" { "ordinal" } else { "ratio" },
        "sourceField": field,
    });
    // As Lens itself does, for a document without the field may be the newest.
    let has_value = (measure.of == Of::Last).then(|| format!("{field} : *"));
    if let Some(filter) = measure.filter.clone().or(has_value) {
        column["filter"] = json!({"language": "kuery", "query": filter});
    }
    column
}

fn table(panel: &Panel) -> Value {
    let mut columns = vec![json!({"columnId": BY, "isTransposed": false})];
    for (number, measure) in panel.measures.iter().enumerate() {
        let mut column = json!({"columnId": id_of(number), "isTransposed": false});
        if measure.mark {
            column["colorMode"] = "cell".into();
            column["palette"] = mark();
        }
        columns.push(column);
    }
    json!({
        "columns": columns,
        "layerId": LAYER,
        "layerType": "data",
        "paging": {"enabled": true, "size": 10},
    })
}

/// One colour from one on, none below.
fn mark() -> Value {
    let stops = json!([{"color": MARK, "stop": 1}]);
    json!({
        "name": "custom",
        "type": "palette",
        "params": {
            "colorStops": stops,
            "continuity": "above",
            "maxSteps": 5,
            "name": "custom",
            "progression": "fixed",
            "rangeMax": null,
            "rangeMin": 1,
            "rangeType": "number",
            "reverse": false,
            "steps": 1,
            "stops": stops,
        },
    })
}

fn chart(panel: &Panel, kind: Kind) -> Value {
    let series = match kind {
        Kind::HorizontalBars => "bar_horizontal_stacked",
        Kind::Lines => "line",
        _ => "bar_stacked",
    };
    let accessors: Vec<String> = (0..panel.measures.len()).map(id_of).collect();
    let mut layer = json!({
        "accessors": accessors,
        "layerId": LAYER,
        "layerType": "data",
        "seriesType": series,
        "xAccessor": BY,
    });
    if panel.split.is_some() {
        layer["splitAccessor"] = SPLIT.into();
    }
    let all = json!({"x": true, "yLeft": true, "yRight": true});
    json!({
        "axisTitlesVisibilitySettings": {"x": false, "yLeft": true, "yRight": true},
        "fittingFunction": "None",
        "gridlinesVisibilitySettings": all,
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "layers": [layer],
        "legend": {"isVisible": true, "position": "right"},
        "preferredSeriesType": series,
        "tickLabelsVisibilitySettings": all,
        "valueLabels": "hide",
    })
}
