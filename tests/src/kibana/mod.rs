//! What we ship for Kibana, read as Kibana reads it: each object's query and aggregations become a search that any
//! Elasticsearch answers. The objects themselves are made of `kibana/source`.

mod chart;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod generator;
mod kql;
#[cfg(test)]
mod schema;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

pub use chart::{Chart, MISSING, Row};
pub use kql::Kql;

/// The file that people import into Kibana.
pub const FOR_KIBANA: &str = include_str!("../../../kibana/joblogs.ndjson");
/// The file for OpenSearch Dashboards.
pub const FOR_OPENSEARCH_DASHBOARDS: &str =
    include_str!("../../../kibana/opensearch-dashboards.ndjson");

/// A saved object.
#[derive(Clone, Debug, Deserialize)]
pub struct Object {
    /// Which one.
    pub id: String,
    /// `search`, `lens` and so on.
    #[serde(rename = "type")]
    pub kind: String,
    /// What there is of it.
    pub attributes: Value,
    /// What it refers to.
    pub references: Vec<Reference>,
}

/// Where an object refers to another.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// The other.
    pub id: String,
    /// By which name the attributes speak of it.
    pub name: String,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The objects of a file.
pub fn objects(ndjson: &str) -> Result<Vec<Object>> {
    let lines = ndjson.lines();
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

impl Object {
    /// Its title.
    pub fn title(&self) -> &str {
        self.attributes["title"].as_str().unwrap_or_default()
    }

    /// An attribute that is JSON within a text.
    pub fn inner(&self, pointer: &str) -> Result<Value> {
        let text = self.attributes.pointer(pointer).and_then(Value::as_str);
        let text = text.with_context(|| format!("{}: {pointer} is missing", self.id))?;
        serde_json::from_str(text).with_context(|| format!("{}: {pointer}", self.id))
    }

    /// The query of a saved search or a Lens chart, in KQL.
    pub fn kql(&self) -> Result<String> {
        let query = match self.kind.as_str() {
            "lens" => self.attributes["state"]["query"].clone(),
            _ => self.inner("/kibanaSavedObjectMeta/searchSourceJSON")?["query"].clone(),
        };
        match (&query["language"], query["query"].as_str()) {
            (Value::String(language), Some(text)) if language == "kuery" => Ok(text.to_owned()),
            _ => bail!("{}: {query} is no KQL", self.id),
        }
    }

    /// The id of the data view that it shows.
    pub fn view(&self) -> Result<&str> {
        let mut references = self.references.iter();
        let view = references.find(|it| it.kind == "index-pattern");
        Ok(&view
            .with_context(|| format!("{} has no data view", self.id))?
            .id)
    }

    /// The specification of a Vega chart.
    pub fn vega(&self) -> Result<Value> {
        let state = self.inner("/visState")?;
        let spec = state["params"]["spec"].as_str().unwrap_or_default();
        serde_json::from_str(spec).with_context(|| self.id.clone())
    }

    /// The search that a saved search is, with its query as it stands or as somebody changed it.
    pub fn search(&self, kql: &str) -> Result<Value> {
        let sort: Vec<Value> = self.attributes["sort"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|it| json!({it[0].as_str().unwrap_or_default(): {"order": it[1], "unmapped_type": "long"}}))
            .collect();
        Ok(json!({
            "query": Kql::parse(kql)?.query(),
            "sort": sort,
            "size": 10_000,
            "track_total_hits": true,
        }))
    }
}
