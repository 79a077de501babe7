//! The way of bulk bodies into Elasticsearch: two in flight, each sent until every document in it is
//! there, was there before, or is recorded as rejected.

use std::{sync::Arc, time::Duration};

use metrics::{counter, histogram};
use rand::Rng;
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    bulk::{BulkBody, BulkBuilder},
    document::Indices,
    elasticsearch::{Elasticsearch, ElasticsearchError, Item},
    outcome::{ItemOutcome, of_item},
};

/// Requests of one job on their way at the same time: Elasticsearch works while we fill the next.
const IN_FLIGHT: usize = 2;
/// Waits between attempts: up to this at first, doubling up to the longest, with full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so long without any document taken, the message goes back to wait in the broker.
const PATIENCE: Duration = Duration::from_mins(2);
/// KiB of bodies that all jobs together may have on their way: text that does not compress would
/// otherwise multiply with the number of jobs.
const BUDGET: u32 = 24 * 1024;
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

/// What all jobs together may have on their way.
#[derive(Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET as usize)))
    }
}

/// Sends the bulk bodies of one job. Dropping it gives up what is in flight.
pub(crate) struct Sink {
    sender: Sender,
    in_flight: JoinSet<Result<Tally, ElasticsearchError>>,
    budget: Budget,
    tally: Tally,
}

impl Sink {
    /// A sink for one job.
    pub(crate) fn new(elasticsearch: Elasticsearch, indices: Indices, budget: Budget) -> Self {
        Self {
            sender: Sender {
                elasticsearch,
                indices,
            },
            in_flight: JoinSet::new(),
            budget,
            tally: Tally::default(),
        }
    }

    /// Sends a body; waits while two others are on their way.
    pub(crate) async fn send(&mut self, body: BulkBody) -> Result<(), ElasticsearchError> {
        while self.in_flight.len() >= IN_FLIGHT {
            self.join().await?;
        }
        let sender = self.sender.clone();
        let kibibytes = u32::try_from(body.gzip.len() / 1024 + 1).unwrap_or(BUDGET);
        let permit = self
            .budget
            .0
            .clone()
            .acquire_many_owned(kibibytes.min(BUDGET));
        let permit = permit.await.expect("the semaphore is never closed");
        self.in_flight.spawn(async move {
            let delivered = sender.deliver(body).await;
            drop(permit);
            delivered
        });
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
    /// The reason of the last item to be sent again.
    reason: String,
}

impl Sender {
    /// Sends a body, halving it where it is too large.
    async fn deliver(&self, body: BulkBody) -> Result<Tally, ElasticsearchError> {
        let mut tally = Tally::default();
        let mut bodies = vec![body];
        while let Some(body) = bodies.pop() {
            match self.deliver_at_once(body, &mut tally).await? {
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
                    tally.rejected += self.record(&too_large, &[(0, item)]).await?;
                }
            }
        }
        Ok(tally)
    }

    /// Sends a body and then what is left of it, until nothing is. Gives the body back when the
    /// cluster finds it too large.
    async fn deliver_at_once(
        &self,
        mut body: BulkBody,
        tally: &mut Tally,
    ) -> Result<Option<BulkBody>, ElasticsearchError> {
        let mut pause = Pause::new();
        loop {
            let started = Instant::now();
            let answer = self.elasticsearch.bulk(&self.indices.lines, &body).await;
            histogram!("joblogs_bulk_seconds").record(started.elapsed());
            let sorted = match answer {
                Ok(items) => sort(items),
                Err(ElasticsearchError::TooLarge) => return Ok(Some(body)),
                Err(error @ ElasticsearchError::Unavailable(_)) => {
                    counter!("joblogs_bulk_retries_total").increment(1);
                    pause.after(error).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            tally.add(sorted.tally);
            if !sorted.rejected.is_empty() {
                tally.rejected += self.record(&body, &sorted.rejected).await?;
            }
            if sorted.again.is_empty() {
                return Ok(None);
            }
            if sorted.again.len() < body.documents {
                pause = Pause::new();
                body = only(&body, &sorted.again)?;
            }
            counter!("joblogs_bulk_retries_total").increment(1);
            pause
                .after(ElasticsearchError::Unavailable(sorted.reason))
                .await?;
        }
    }

    /// Puts rejected documents, shortened, into their own index; how many they are.
    async fn record(
        &self,
        body: &BulkBody,
        rejected: &[(usize, Item)],
    ) -> Result<u64, ElasticsearchError> {
        let positions: Vec<usize> = rejected.iter().map(|(position, _)| *position).collect();
        let documents = body.documents_at(&positions).map_err(unreadable)?;
        let mut builder = BulkBuilder::default();
        for (document, (_, item)) in documents.iter().zip(rejected) {
            tracing::warn!(
                status = item.status,
                error_type = item.error_type,
                "Elasticsearch rejected a line"
            );
            builder.add(&rejection(document, item));
        }
        drop(documents);
        let body = builder.take();
        let mut pause = Pause::new();
        loop {
            let answer = self.elasticsearch.bulk(&self.indices.rejected, &body).await;
            let error = match answer {
                Ok(items) => {
                    let sorted = sort(items);
                    if let Some((position, item)) = sorted.rejected.first() {
                        return Err(ElasticsearchError::Rejected {
                            status: item.status,
                            reason: format!(
                                "document {position} of {} rejected ones is not taken by {} either: {}",
                                positions.len(),
                                self.indices.rejected,
                                item.error_type
                            ),
                        });
                    }
                    if sorted.again.is_empty() {
                        return Ok(positions.len() as u64);
                    }
                    ElasticsearchError::Unavailable(sorted.reason)
                }
                Err(error @ ElasticsearchError::Unavailable(_)) => error,
                Err(error) => return Err(error),
            };
            pause.after(error).await?;
        }
    }
}

fn sort(items: Vec<Item>) -> Sorted {
    let mut sorted = Sorted::default();
    for (position, item) in items.into_iter().enumerate() {
        match of_item(item.status, &item.error_type) {
            ItemOutcome::Created => sorted.tally.created += 1,
            ItemOutcome::Duplicate => sorted.tally.duplicates += 1,
            ItemOutcome::Rejected => sorted.rejected.push((position, item)),
            ItemOutcome::Again => {
                sorted.again.push(position);
                sorted.reason = format!("{}: {}", item.error_type, item.reason);
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
    ElasticsearchError::Unavailable(format!("a bulk body in memory can't be inflated: {error}"))
}

/// Waits between attempts, and the end of patience.
struct Pause {
    longest: Duration,
    end: Instant,
}

impl Pause {
    fn new() -> Self {
        Self {
            longest: FIRST_PAUSE,
            end: Instant::now() + PATIENCE,
        }
    }

    /// Waits, or gives the error back when patience is over.
    async fn after(&mut self, error: ElasticsearchError) -> Result<(), ElasticsearchError> {
        if Instant::now() >= self.end {
            return Err(error);
        }
        tracing::debug!(%error, "sending again");
        let pause = self.longest.mul_f64(rand::rng().random_range(0.0..1.0));
        self.longest = (self.longest * 2).min(LONGEST_PAUSE);
        sleep(pause).await;
        Ok(())
    }
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
