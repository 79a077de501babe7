//! Bulk bodies and their answers, as far as a middleman has to understand them.

use std::io::Read as _;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

/// One document of a body, with what is to be done about it.
pub(super) struct Document {
    /// `create` or `index`.
    pub(super) action: String,
    pub(super) id: String,
    action_line: String,
    source: String,
}

/// The documents of a compressed body, in order.
pub(super) fn read(gzip: &[u8]) -> Result<Vec<Document>> {
    let mut text = String::new();
    GzDecoder::new(gzip)
        .read_to_string(&mut text)
        .context("a bulk body is compressed")?;
    let mut documents = Vec::new();
    let mut lines = text.lines();
    while let Some(action_line) = lines.next() {
        let source = lines.next().context("an action without its document")?;
        let parsed: Value = serde_json::from_str(action_line)?;
        let actions = parsed.as_object().context("an action is an object")?;
        let (action, about) = actions.iter().next().context("an action has a name")?;
        let id = about["_id"].as_str().context("an action names an _id")?;
        documents.push(Document {
            action: action.clone(),
            id: id.to_owned(),
            action_line: action_line.to_owned(),
            source: source.to_owned(),
        });
    }
    Ok(documents)
}

impl Document {
    /// Makes it one that no mapping with a time takes.
    pub(super) fn spoil(&mut self) -> Result<()> {
        let mut source: Value = serde_json::from_str(&self.source)?;
        source["@timestamp"] = json!("no time at all");
        self.source = source.to_string();
        Ok(())
    }

    /// Its two lines, to be sent on.
    pub(super) fn write(&self, body: &mut String) {
        for line in [&self.action_line, &self.source] {
            body.push_str(line);
            body.push('\n');
        }
    }

    /// What Elasticsearch answers about a document when the shard's queue is full.
    pub(super) fn refusal(&self) -> Value {
        let reason =
            "rejected execution of primary operation [coordinating_and_primary_bytes=53687091]";
        let error = json!({"type": "es_rejected_execution_exception", "reason": reason});
        json!({&self.action: {"status": 429, "error": error}})
    }
}

/// The items of an answer, one for each document that was sent.
pub(super) fn items(answer: &[u8], sent: usize) -> Result<Vec<Value>> {
    let mut answer: Value = serde_json::from_slice(answer).context("a bulk answer is JSON")?;
    let items: Vec<Value> = serde_json::from_value(answer["items"].take())?;
    ensure!(
        items.len() == sent,
        "{} items for {sent} documents",
        items.len()
    );
    Ok(items)
}

/// An item's status and the type of its error.
pub(super) fn outcome(item: &Value) -> (u16, String) {
    let about = item.as_object().and_then(|item| item.values().next());
    let status = about.and_then(|about| about["status"].as_u64());
    let error = about.and_then(|about| about["error"]["type"].as_str());
    let status = status.and_then(|status| u16::try_from(status).ok());
    (
        status.unwrap_or_default(),
        error.unwrap_or_default().to_owned(),
    )
}
