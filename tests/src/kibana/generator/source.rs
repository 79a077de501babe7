//! What stands in `kibana/source`, as people write it. An unknown key is an error, so that none is written in vain.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The folder of what people import.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../kibana")
}

/// A file of `kibana/source`, as text.
pub(super) fn text(name: &str) -> String {
    let path = folder().join("source").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A YAML file of `kibana/source`.
pub(super) fn yaml<T: DeserializeOwned>(name: &str) -> T {
    serde_saphyr::from_str(&text(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// A data view.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct View {
    pub(super) id: String,
    pub(super) pattern: String,
    pub(super) name: String,
    #[serde(default)]
    pub(super) time: Option<String>,
    /// By field.
    pub(super) formats: BTreeMap<String, Format>,
}

/// How the values of a field are shown.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Format {
    Link,
    /// Digits alone, without a comma between thousands.
    Plain,
    Bytes,
    Seconds,
    Milliseconds,
    Level,
    Status,
    State,
    Class,
}

/// A saved search.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Search {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) answers: String,
    pub(super) view: String,
    pub(super) query: String,
    pub(super) columns: Vec<String>,
    /// A field and `asc` or `desc`.
    pub(super) sort: [String; 2],
}

/// A dashboard.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dashboard {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) answers: String,
    pub(super) panels: Vec<Panel>,
}

/// A panel: a saved search, a chart of Lens, or one of Vega.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Panel {
    /// Left, top, width and height, in 48ths of the dashboard's width.
    pub(super) at: [u32; 4],
    #[serde(default)]
    pub(super) search: Option<String>,
    #[serde(default)]
    pub(super) vega: Option<String>,
    #[serde(default)]
    pub(super) chart: Option<Kind>,
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) title: String,
    #[serde(default)]
    pub(super) answers: String,
    #[serde(default)]
    pub(super) view: String,
    #[serde(default)]
    pub(super) query: String,
    #[serde(default)]
    pub(super) by: Option<By>,
    #[serde(default)]
    pub(super) split: Option<Split>,
    #[serde(default)]
    pub(super) measures: Vec<Measure>,
}

/// The kind of a Lens chart.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub(super) enum Kind {
    #[serde(rename = "bars")]
    Bars,
    #[serde(rename = "horizontal bars")]
    HorizontalBars,
    #[serde(rename = "lines")]
    Lines,
    #[serde(rename = "table")]
    Table,
}

/// What a chart has one bar, point or row for: a time, or a value of a field.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct By {
    #[serde(default)]
    pub(super) time: Option<String>,
    #[serde(default)]
    pub(super) field: String,
    #[serde(default)]
    pub(super) label: String,
    /// How many values.
    #[serde(default)]
    pub(super) top: u32,
    /// The label of the measure by which the values are ordered; the first one without it.
    #[serde(default)]
    pub(super) order: Option<String>,
}

/// What each bar is split by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Split {
    pub(super) field: String,
    pub(super) label: String,
}

/// A number (or the like) for each bar, point or row.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Measure {
    pub(super) label: String,
    pub(super) of: Of,
    #[serde(default)]
    pub(super) field: String,
    /// KQL: only of documents that match.
    #[serde(default, rename = "where")]
    pub(super) filter: Option<String>,
    /// Whether a number above none is to stand out.
    #[serde(default)]
    pub(super) mark: bool,
}

/// How a measure is taken.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Of {
    Count,
    Unique,
    Sum,
    Max,
    Median,
    P95,
    /// The latest time.
    Latest,
    /// The value in the newest document that has one.
    Last,
}
