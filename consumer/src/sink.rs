//! The way of bulk bodies into Elasticsearch: two in flight, each sent until every document in it is
//! there, was there before, or is recorded as rejected.

use std::sync::Arc;

use metrics::{counter, histogram};
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::Instant,
};
use tracing::Instrument;

use crate::{
    bulk::{BulkBody, BulkBuilder},
    circuit::Pass,
    document::Indices,
    elasticsearch::{Elasticsearch, ElasticsearchError, Item, judge},
    outcome::{ItemOutcome, of_item},
    patience::Patience,
};

/// Requests of one job on their way at the same time: Elasticsearch works while we fill the next.
const IN_FLIGHT: usize = 2;
/// Bodies that all jobs together may hold, beyond one for each trace that is being read.
const SPARE: usize = 4;
/// Bytes of a rejected line that are kept.
const KEPT_OF_REJECTED: usize = 1024;

/// What became of documents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// New in the index.
    pub created: u64,
    /// There before: the same job ingested again.
    pub duplicates: u64,
    /// Not taken; recorded in the rejected index with the reason.
    pub rejected: u64,
}

impl Tally {
    /// Lines that can be found.
    pub(crate) fn indexed(&self) -> u64 {
        self.created + self.duplicates
    }

    fn add(&mut self, other: Self) {
        self.created += other.created;
        self.duplicates += other.duplicates;
        self.rejected += other.rejected;
    }
}

/// Room for the bodies of all jobs together: while Elasticsearch is down, memory must not grow with
/// the jobs that wait for it.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

/// Room for one body, from its first line until Elasticsearch has it.
pub(crate) struct Room(
    #[allow(dead_code, reason = "it is given back when dropped")] OwnedSemaphorePermit,
);

impl Budget {
    /// Room for so many traces that are read at the same time.
    pub(crate) fn for_traces(traces: usize) -> Self {
        Self(Arc::new(Semaphore::new(traces + SPARE)))
    }

    /// Waits for room. Whoever reads a trace holds no more than one body that is not on its way, so
    /// there is always some body whose end gives room.
    pub(crate) async fn room(&self) -> Room {
        let permit = self.0.clone().acquire_owned().await;
        Room(permit.expect("the semaphore is never closed"))
    }
}

/// Sends the bulk bodies of one job. Dropping it gives up what is in flight.
pub(crate) struct Sink {
    sender: Sender,
    in_flight: JoinSet<Result<Tally, ElasticsearchError>>,
    tally: Tally,
}

impl Sink {
    /// A sink for one job.
    pub(crate) fn new(elasticsearch: Elasticsearch, indices: Indices) -> Self {
        Self {
            sender: Sender {
                elasticsearch,
                indices,
            },
            in_flight: JoinSet::new(),
            tally: Tally::default(),
        }
    }

    /// Sends a body; waits while two others are on their way.
    pub(crate) async fn send(
        &mut self,
        body: BulkBody,
        room: Room,
    ) -> Result<(), ElasticsearchError> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.join().await?;
        }
        let sender = self.sender.clone();
        let deliver = async move {
            let delivered = sender.deliver(body).await;
            drop(room);
            delivered
        };
        self.in_flight.spawn(deliver.in_current_span());
        Ok(())
    }

    /// Waits until all is there.
    pub(crate) async fn finish(mut self) -> Result<Tally, ElasticsearchError> {
        while !self.in_flight.is_empty() {
            self.join().await?;
        }
        Ok(self.tally)
    }

    async fn join(&mut self) -> Result<(), ElasticsearchError> {
        if let Some(joined) = self.in_flight.join_next().await {
            // A panic in there is one here: whoever runs the job turns it into a dead letter.
            let delivered =
                joined.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
            self.tally.add(delivered?);
        }
        Ok(())
    }
}

#[derive(Clone)]
struct Sender {
    elasticsearch: Elasticsearch,
    indices: Indices,
}

/// One answer, item by item.
#[derive(Default)]
struct Sorted {
    tally: Tally,
    again: Vec<usize>,
    rejected: Vec<(usize, Item)>,
    /// The last item to be sent again.
    refusal: Option<Item>,
    /// Whether one of them says that others would fare no better.
    is_throttled: bool,
}

impl Sorted {
    /// What it says of the whole of Elasticsearch: as long as some document has an end, it works.
    fn judge(&self, pass: Pass) {
        let is_nothing_settled = self.tally == Tally::default() && self.rejected.is_empty();
        if self.is_throttled && is_nothing_settled {
            pass.failed(&self.refusal().to_string(), None);
        } else {
            pass.succeeded();
        }
    }

    /// Why some have to be sent again.
    fn refusal(&self) -> ElasticsearchError {
        let Some(item) = &self.refusal else {
            return ElasticsearchError::unavailable("no reason is known");
        };
        let reason = format!("{}: {}", item.error_type, item.reason);
        if self.is_throttled {
            return ElasticsearchError::Unavailable {
                why: reason,
                is_throttled: true,
                after: None,
            };
        }
        let status = item.status;
        ElasticsearchError::Refused { status, reason }
    }
}

impl Sender {
    /// Sends a body of lines until each is there, or recorded as rejected.
    async fn deliver(&self, body: BulkBody) -> Result<Tally, ElasticsearchError> {
        let settled = self.settle(&self.indices.lines, body).await?;
        let mut tally = settled.tally;
        tally.rejected = settled.rejected;
        if let Some(rejections) = settled.rejections {
            self.record(rejections).await?;
        }
        Ok(tally)
    }

    /// Puts rejected documents, shortened, into their own index.
    async fn record(&self, mut rejections: BulkBuilder) -> Result<(), ElasticsearchError> {
        let index = &self.indices.rejected;
        let settled = self.settle(index, rejections.take()).await?;
        match settled.why {
            None => Ok(()),
            Some(item) => Err(ElasticsearchError::Rejected {
                status: item.status,
                reason: format!(
                    "a line that was rejected is not taken by {index} either: {}",
                    item.error_type
                ),
            }),
        }
    }

    /// Sends a body, halving it where it is too large, until each document is there or rejected.
    async fn settle(&self, index: &str, body: BulkBody) -> Result<Settled, ElasticsearchError> {
        let mut settled = Settled::default();
        let mut bodies = vec![body];
        while let Some(body) = bodies.pop() {
            match self.settle_at_once(index, body, &mut settled).await? {
                None => {}
                Some(too_large) if too_large.documents > 1 => {
                    let all: Vec<usize> = (0..too_large.documents).collect();
                    let (first, second) = all.split_at(all.len() / 2);
                    for half in [second, first] {
                        bodies.push(only(&too_large, half)?);
                    }
                }
                Some(too_large) => {
                    let item = Item {
                        status: 413,
                        error_type: "request_entity_too_large".to_owned(),
                        reason: "the document alone is larger than the cluster takes".to_owned(),
                    };
                    settled.reject(&too_large, vec![(0, item)])?;
                }
            }
        }
        Ok(settled)
    }

    /// Sends a body and then what is left of it, until nothing is. Gives the body back when the
    /// cluster finds it too large.
    async fn settle_at_once(
        &self,
        index: &str,
        mut body: BulkBody,
        settled: &mut Settled,
    ) -> Result<Option<BulkBody>, ElasticsearchError> {
        let circuit = self.elasticsearch.circuit();
        let mut patience = Patience::new(circuit);
        loop {
            let pass = patience.pass().await?;
            let started = Instant::now();
            let answer = self.elasticsearch.bulk(index, &body).await;
            histogram!("joblogs_bulk_seconds").record(started.elapsed());
            let error = match answer.map(sort) {
                Ok(sorted) => {
                    sorted.judge(pass);
                    let refusal = sorted.refusal();
                    settled.tally.add(sorted.tally);
                    settled.reject(&body, sorted.rejected)?;
                    if sorted.again.is_empty() {
                        return Ok(None);
                    }
                    if sorted.again.len() < body.documents {
                        patience = Patience::new(circuit);
                        body = only(&body, &sorted.again)?;
                    }
                    refusal
                }
                Err(error) => {
                    judge(pass, Some(&error));
                    match error {
                        ElasticsearchError::TooLarge => return Ok(Some(body)),
                        error if error.is_passing() => error,
                        error => return Err(error),
                    }
                }
            };
            counter!("joblogs_bulk_retries_total").increment(1);
            patience.after(error).await?;
        }
    }
}

/// What became of a body's documents.
#[derive(Default)]
struct Settled {
    tally: Tally,
    /// How many will never be taken, their documents for the rejected index, and why the first is not.
    rejected: u64,
    rejections: Option<BulkBuilder>,
    why: Option<Item>,
}

impl Settled {
    fn reject(
        &mut self,
        body: &BulkBody,
        rejected: Vec<(usize, Item)>,
    ) -> Result<(), ElasticsearchError> {
        let positions: Vec<usize> = rejected.iter().map(|(position, _)| *position).collect();
        self.rejected += positions.len() as u64;
        if positions.is_empty() {
            return Ok(());
        }
        let mut items = rejected.iter().map(|(_, item)| item);
        // Only now: a compressor takes hundreds of KiB.
        let rejections = self.rejections.get_or_insert_default();
        let show = |document: &[u8]| {
            let Some(item) = items.next() else { return };
            let (status, error_type) = (item.status, &item.error_type);
            tracing::warn!(status, error_type, "Elasticsearch rejected a line");
            rejections.add(&rejection(document, item));
        };
        body.documents_at(&positions, show).map_err(unreadable)?;
        let mut rejected = rejected.into_iter();
        self.why = self.why.take().or(rejected.next().map(|(_, item)| item));
        Ok(())
    }
}

fn sort(items: Vec<Item>) -> Sorted {
    let mut sorted = Sorted::default();
    for (position, item) in items.into_iter().enumerate() {
        match of_item(item.status, &item.error_type, &item.reason) {
            ItemOutcome::Created => sorted.tally.created += 1,
            ItemOutcome::Duplicate => sorted.tally.duplicates += 1,
            ItemOutcome::Rejected => sorted.rejected.push((position, item)),
            outcome @ (ItemOutcome::Again | ItemOutcome::Throttled) => {
                sorted.again.push(position);
                sorted.is_throttled |= outcome == ItemOutcome::Throttled;
                sorted.refusal = Some(item);
            }
        }
    }
    sorted
}

/// The document of a rejected line: its facts, the reason, and the first KiB of its text.
fn rejection(document: &[u8], item: &Item) -> Vec<u8> {
    let mut lines = document.split(|byte| *byte == b'\n');
    let action: Value = lines
        .next()
        .and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_default();
    let mut source: Value = lines
        .next()
        .and_then(|line| serde_json::from_slice(line).ok())
        .unwrap_or_default();
    let id = action.as_object().and_then(|action| action.values().next());
    if let Some(Value::String(message)) = source.get_mut("message") {
        message.truncate(message.floor_char_boundary(KEPT_OF_REJECTED));
    }
    let reason: String = item.reason.chars().take(KEPT_OF_REJECTED).collect();
    source["error"] = json!({"type": item.error_type, "message": reason, "status": item.status});
    format!("{}\n{source}\n", json!({"create": id})).into_bytes()
}

fn only(body: &BulkBody, positions: &[usize]) -> Result<BulkBody, ElasticsearchError> {
    body.only(positions).map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> ElasticsearchError {
    ElasticsearchError::unavailable(format!("a bulk body in memory can't be inflated: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(status: u16, error_type: &str) -> Item {
        Item {
            status,
            error_type: error_type.to_owned(),
            reason: "why".to_owned(),
        }
    }

    #[test]
    fn items_are_sorted_each_by_its_own_outcome() {
        let sorted = sort(vec![
            item(201, ""),
            item(429, "es_rejected_execution_exception"),
            item(409, "version_conflict_engine_exception"),
            item(400, "document_parsing_exception"),
            item(201, ""),
        ]);
        assert_eq!(
            sorted.tally,
            Tally {
                created: 2,
                duplicates: 1,
                rejected: 0
            }
        );
        assert_eq!(sorted.again, [1]);
        assert_eq!(
            sorted.rejected,
            [(3, item(400, "document_parsing_exception"))]
        );
    }

    #[test]
    fn a_rejected_line_keeps_its_id_its_facts_and_a_part_of_its_text() {
        let text = "ä".repeat(KEPT_OF_REJECTED);
        let document = format!(
            "{}\n{}\n",
            json!({"create": {"_id": "i-1-2-00000003"}}),
            json!({"line": 3, "message": text})
        );
        let rejected = rejection(
            document.as_bytes(),
            &item(400, "document_parsing_exception"),
        );
        let rejected = String::from_utf8(rejected).unwrap();
        let lines: Vec<Value> = rejected
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines[0], json!({"create": {"_id": "i-1-2-00000003"}}));
        assert_eq!(lines[1]["error"]["type"], "document_parsing_exception");
        assert_eq!(lines[1]["line"], 3);
        assert_eq!(
            lines[1]["message"].as_str().unwrap().len(),
            KEPT_OF_REJECTED
        );
    }
}
