//! A Lens chart as the aggregations that Kibana asks for, and the answer as the rows that people see. What a chart may
//! hold beyond what ours do is an error.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::Object;
use super::kql::Kql;

/// How Lens calls documents that have no value of what they are split by.
pub const MISSING: &str = "__missing__";

/// A bar, a point or a row: its keys from outside to inside, and its numbers by their labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The values of what it is by, and is split by.
    pub keys: Vec<String>,
    /// The measures, in their order.
    pub values: Vec<Value>,
}

/// A Lens chart.
#[derive(Debug)]
pub struct Chart {
    query: Kql,
    buckets: Vec<Column>,
    measures: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    id: String,
    label: String,
    operation: String,
    field: String,
    params: Value,
    filter: Option<Kql>,
}

impl Chart {
    /// Reads a saved chart.
    pub fn of(object: &Object) -> Result<Self> {
        let state = &object.attributes["state"];
        let layers = state["datasourceStates"]["formBased"]["layers"]
            .as_object()
            .context("no layers")?;
        ensure!(layers.len() == 1, "{} has several layers", object.id);
        let layer = layers.values().next().context("no layer")?;
        let mut chart = Self {
            query: Kql::parse(&object.kql()?)?,
            buckets: Vec::new(),
            measures: Vec::new(),
        };
        for id in layer["columnOrder"].as_array().context("no order")? {
            let id = id.as_str().unwrap_or_default();
            let column = &layer["columns"][id];
            let parsed = Column::of(id, column).with_context(|| format!("{}: {id}", object.id))?;
            if column["isBucketed"] == true {
                chart.buckets.push(parsed);
            } else {
                chart.measures.push(parsed);
            }
        }
        Ok(chart)
    }

    /// The fields that it names.
    pub fn fields(&self) -> Vec<&str> {
        let columns = self.buckets.iter().chain(&self.measures);
        let named = columns.flat_map(|column| {
            let filter = column.filter.as_ref().map(Kql::fields).unwrap_or_default();
            let field = (column.operation != "count").then_some(column.field.as_str());
            filter.into_iter().chain(field)
        });
        named.chain(self.query.fields()).collect()
    }

    /// The labels of its measures.
    pub fn labels(&self) -> Vec<&str> {
        self.measures.iter().map(|it| it.label.as_str()).collect()
    }

    /// The search that it stands for.
    pub fn search(&self) -> Result<Value> {
        let mut aggregations = Map::new();
        for measure in &self.measures {
            if let Some(aggregation) = measure.aggregation()? {
                aggregations.insert(measure.id.clone(), aggregation);
            }
        }
        let mut inner = Value::Object(aggregations);
        for bucket in self.buckets.iter().rev() {
            let mut aggregation = self.bucket(bucket)?;
            aggregation["aggs"] = inner.clone();
            // What an outer bucket is ordered by stands within it, too.
            let mut level = json!({ bucket.id.as_str(): aggregation });
            for (id, measure) in inner.as_object().into_iter().flatten() {
                if self.measures.iter().any(|it| it.id == *id) {
                    level[id] = measure.clone();
                }
            }
            inner = level;
        }
        Ok(json!({"query": self.query.query(), "size": 0, "aggs": inner}))
    }

    /// The rows of an answer.
    pub fn rows(&self, answer: &Value) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        self.walk(&answer["aggregations"], &mut Vec::new(), &mut rows)?;
        Ok(rows)
    }

    fn walk(&self, level: &Value, keys: &mut Vec<String>, rows: &mut Vec<Row>) -> Result<()> {
        let Some(bucket) = self.buckets.get(keys.len()) else {
            let values = self.measures.iter().map(|it| it.value(level)).collect();
            rows.push(Row {
                keys: keys.clone(),
                values,
            });
            return Ok(());
        };
        let buckets = level[&bucket.id]["buckets"].as_array();
        for inner in buckets.with_context(|| format!("no buckets of {} in {level}", bucket.id))? {
            let key = inner["key_as_string"].as_str().or(inner["key"].as_str());
            keys.push(key.unwrap_or_default().to_owned());
            self.walk(inner, keys, rows)?;
            keys.pop();
        }
        Ok(())
    }

    fn bucket(&self, bucket: &Column) -> Result<Value> {
        let (field, params) = (&bucket.field, &bucket.params);
        Ok(match bucket.operation.as_str() {
            // Kibana chooses the interval by the range.
            "date_histogram" if params["interval"] == "auto" => json!({"date_histogram": {
                "field": field, "fixed_interval": "1d", "format": "yyyy-MM-dd", "min_doc_count": 1,
            }}),
            "terms" => {
                let column = params["orderBy"]["columnId"].as_str().unwrap_or_default();
                let mut measures = self.measures.iter();
                let by = measures.find(|it| it.id == column);
                let by = by.with_context(|| format!("ordered by {column}, which is none"))?;
                let order = json!({by.order()?: params["orderDirection"]});
                let mut terms = json!({"field": field, "size": params["size"], "order": order});
                if params["missingBucket"] == true && params["otherBucket"] == true {
                    terms["missing"] = MISSING.into();
                }
                json!({ "terms": terms })
            }
            other => bail!("the buckets {other} are not known here"),
        })
    }
}

impl Column {
    fn of(id: &str, column: &Value) -> Result<Self> {
        let text = |name: &str| {
            let text = column[name].as_str().map(str::to_owned);
            text.with_context(|| format!("{name} is missing"))
        };
        let filter = column.get("filter").map(|filter| {
            ensure!(filter["language"] == "kuery", "{filter} is no KQL");
            Kql::parse(filter["query"].as_str().unwrap_or_default())
        });
        Ok(Self {
            id: id.to_owned(),
            label: text("label")?,
            operation: text("operationType")?,
            field: text("sourceField")?,
            params: column["params"].clone(),
            filter: filter.transpose()?,
        })
    }

    /// The aggregation of a measure; the number of documents is there without one.
    fn aggregation(&self) -> Result<Option<Value>> {
        let field = &self.field;
        let metric = match self.operation.as_str() {
            "count" => None,
            "sum" => Some(json!({"sum": {"field": field}})),
            "max" => Some(json!({"max": {"field": field}})),
            "median" => Some(json!({"percentiles": {"field": field, "percents": [50]}})),
            "percentile" => Some(
                json!({"percentiles": {"field": field, "percents": [self.params["percentile"]]}}),
            ),
            "unique_count" => Some(json!({"cardinality": {"field": field}})),
            // Kibana asks for `top_metrics`, which the core of Elasticsearch lacks.
            "last_value" => Some(json!({"top_hits": {
                "size": 1, "_source": false, "docvalue_fields": [field],
                "sort": [{self.params["sortField"].as_str().unwrap_or_default(): "desc"}],
            }})),
            other => bail!("the measure {other} is not known here"),
        };
        Ok(match (&self.filter, metric) {
            (None, metric) => metric,
            (Some(filter), None) => Some(json!({"filter": filter.query()})),
            (Some(filter), Some(metric)) => {
                Some(json!({"filter": filter.query(), "aggs": {"inner": metric}}))
            }
        })
    }

    /// What buckets are ordered by.
    fn order(&self) -> Result<String> {
        match self.operation.as_str() {
            _ if self.filter.is_some() => bail!("{} has a filter: no order", self.label),
            "count" => Ok("_count".into()),
            "sum" | "max" | "unique_count" => Ok(self.id.clone()),
            other => bail!("{other} is no order that is known here"),
        }
    }

    fn value(&self, bucket: &Value) -> Value {
        let own = &bucket[&self.id];
        let metric = match (&self.filter, self.operation.as_str()) {
            (None, "count") => return bucket["doc_count"].clone(),
            (Some(_), "count") => return own["doc_count"].clone(),
            (None, _) => own,
            (Some(_), _) => &own["inner"],
        };
        match self.operation.as_str() {
            "last_value" => metric["hits"]["hits"][0]["fields"][&self.field][0].clone(),
            "median" | "percentile" => {
                let values = metric["values"].as_object();
                let first = values.and_then(|values| values.values().next());
                first.cloned().unwrap_or_default()
            }
            _ => metric["value"].clone(),
        }
    }
}
