//! One delivery: the message read, ingested, and its outcome turned into effects. This is the only
//! place that publishes and acknowledges.
//!
//! INVARIANT: a message is acknowledged only after lines and manifest are confirmed by
//! Elasticsearch, or after the message itself is confirmed in a wait tier or among the dead letters.

use std::{sync::Arc, time::Duration};

use broker::{
    Publisher,
    topology::{Queues, WaitTier},
};
use jiff::Timestamp;
use lapin::{
    message::Delivery,
    options::BasicAckOptions,
    types::{AMQPValue, FieldTable},
};
use metrics::counter;
use notice::{Message, Token};
use serde_json::json;
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{
    attempt::{Attempt, cut},
    context::{Context, Progress},
    elasticsearch::ElasticsearchError,
    ingest::{Death, Outcome, binding, ingest},
    manifest::hex,
    recording::record_death,
};

/// One delivery's work. RabbitMQ takes a message away after 30 minutes (`consumer_timeout`).
const WORK: Duration = Duration::from_mins(25);
/// For how long one confirm is awaited. Long, because giving up and publishing anew would leave two
/// messages where the broker only was slow; a channel that dies ends it at once.
const CONFIRM: Duration = Duration::from_mins(20);
/// A message that was delivered so often in vain is published anew: RabbitMQ counts all that a consumer
/// holds when it dies, the innocent too, and gives up the twentieth time.
const RENEWED: u32 = 10;
/// But one that was there so often when a consumer died is likely to be why.
const MOST_CRASHES: u32 = 60;
/// For how much longer than its message may wait an older tool's token, once sealed, can be opened.
const SEALED_LONGER: Duration = Duration::from_hours(24);
/// How long it may take to say in the manifest why a message is given up.
const LAST_WORD: Duration = Duration::from_mins(1);
/// When that is tried again.
const LAST_WORD_AGAIN: Duration = Duration::from_mins(1);

/// What turns outcomes into effects.
pub(crate) struct Effects {
    pub(crate) context: Arc<Context>,
    pub(crate) publisher: Publisher,
    pub(crate) queues: Queues,
    /// For how long a message may wait before it is given up.
    pub(crate) patience: Duration,
}

/// What is done with a delivery before it is acknowledged.
enum Effect {
    Acknowledge,
    Sleep(WaitTier, Attempt),
    Bury {
        step: &'static str,
        reason: String,
        attempt: Attempt,
    },
}

impl Effects {
    /// Takes one delivery to its end. When its channel closes meanwhile the broker has the message
    /// again, and all that is done here twice is absorbed by the ids.
    pub(crate) async fn handle(&self, delivery: Delivery) {
        let headers = delivery.properties.headers().as_ref();
        let mut attempt = Attempt::of(headers);
        let (body, effect) = match Message::read(&delivery.data, &self.context.instances) {
            Err(error) => {
                attempt.note(&error.to_string());
                let effect = Effect::Bury {
                    step: "read the message",
                    reason: error.to_string(),
                    attempt,
                };
                (without_token(&delivery.data), effect)
            }
            Ok((message, token)) => {
                let message = self.sealed(message, &token);
                let span = tracing::info_span!(
                    "message",
                    instance = %message.instance,
                    project_id = %message.project_id,
                    job_id = %message.job_id,
                    attempt = attempt.number
                );
                let body = message.to_body();
                let effect = self.work(message, token, attempt);
                let effect = effect.instrument(span).await;
                (body, effect)
            }
        };
        self.perform(&effect, &body).await;
        if let Err(error) = delivery.ack(BasicAckOptions::default()).await {
            tracing::warn!(%error, "the channel closed before the acknowledgement; the message comes again");
        }
    }

    async fn work(&self, message: Message, token: Token, mut attempt: Attempt) -> Effect {
        let now = Timestamp::now();
        attempt.forgive_absence(now);
        let progress = Progress::default();
        if attempt.crashes > MOST_CRASHES {
            let reason = format!(
                "a consumer died, or lost its connection, {} times while it had this message",
                attempt.crashes
            );
            let death = Death::incomplete("begin", reason);
            return self.give_up(&message, death, attempt, &progress).await;
        }
        if let Some(early) = attempt.early_by(now) {
            return Effect::Sleep(WaitTier::within(early), attempt);
        }
        if attempt.redelivered >= RENEWED {
            tracing::warn!(
                crashes = attempt.crashes,
                "begun often and never ended; it is published anew"
            );
            attempt.note("begun often and never ended");
            let (next, tier) = attempt.later(Duration::ZERO, now);
            return Effect::Sleep(tier, next);
        }
        let outcome = self.ingest(&message, token, &attempt, &progress).await;
        attempt.linked_bytes = progress.linked_bytes().unwrap_or(attempt.linked_bytes);
        attempt.day = progress.job().map(|job| job.day()).or(attempt.day);
        self.effect_of(outcome, &message, attempt, &progress).await
    }

    /// The outcome of the steps, of their panic or of their time's end.
    async fn ingest(
        &self,
        message: &Message,
        token: Token,
        attempt: &Attempt,
        progress: &Progress,
    ) -> Outcome {
        let outcome = {
            let (context, progress) = (self.context.clone(), progress.clone());
            let (message, attempt) = (message.clone(), attempt.clone());
            // In a task of its own, so that a panic over one message is that message's end alone.
            let work = async move { ingest(&context, &message, &token, &attempt, &progress).await };
            let mut task = AbortOnDrop(tokio::spawn(work.in_current_span()));
            tokio::time::timeout(WORK, &mut task.0).await
        };
        match outcome {
            Ok(Ok(outcome)) => outcome,
            // The panic's text may quote the trace.
            Ok(Err(_)) => Outcome::Dead(Death::incomplete(
                progress.step(),
                "a fault in Joblogs: this step panicked; its log says where".to_owned(),
            )),
            Err(_) => Outcome::Wait {
                after: None,
                reason: format!("the work took longer than {WORK:?}"),
                is_look: false,
            },
        }
    }

    async fn effect_of(
        &self,
        outcome: Outcome,
        message: &Message,
        mut attempt: Attempt,
        progress: &Progress,
    ) -> Effect {
        let now = Timestamp::now();
        let (after, reason) = match outcome {
            Outcome::Indexed => return Effect::Acknowledge,
            Outcome::Dead(death) => return self.give_up(message, death, attempt, progress).await,
            Outcome::Running { status } => (None, format!("the job is {status}")),
            Outcome::Later {
                after,
                reason,
                huge,
            } => {
                tracing::debug!(reason, "not tried");
                attempt.huge_bytes = huge.unwrap_or(attempt.huge_bytes);
                // Whoever is not asked has given no reason to give anything up.
                let (next, tier) = attempt.later(after, now);
                return Effect::Sleep(tier, next);
            }
            Outcome::Wait {
                after,
                reason,
                is_look,
            } => {
                tracing::warn!(reason, waits = attempt.waits, "waiting");
                attempt.looks += u32::from(is_look);
                (after, reason)
            }
        };
        attempt.note(&reason);
        if attempt.waited(now) > self.patience {
            let reason = format!("given up after {:?}: {reason}", self.patience);
            let death = Death::incomplete("wait", reason);
            return self.give_up(message, death, attempt, progress).await;
        }
        let (next, tier) = attempt.next(after, now);
        Effect::Sleep(tier, next)
    }

    /// The end of a message that can be read: its job's manifest says why, and then it is a dead letter.
    /// While Elasticsearch can't take the manifest, the message sleeps.
    async fn give_up(
        &self,
        message: &Message,
        death: Death,
        mut attempt: Attempt,
        progress: &Progress,
    ) -> Effect {
        attempt.note(&death.reason);
        let job = progress.job();
        let record = record_death(&self.context, message, &attempt, job.as_ref(), &death);
        let recorded = tokio::time::timeout(LAST_WORD, record).await;
        let recorded = recorded.unwrap_or_else(|_| {
            let why = format!("no manifest within {LAST_WORD:?}");
            Err(ElasticsearchError::unavailable(why))
        });
        match recorded {
            Ok(()) => {}
            Err(error @ (ElasticsearchError::Rejected { .. } | ElasticsearchError::TooLarge)) => {
                // The dead letter says the same.
                tracing::warn!(%error, "the manifest can't say why");
            }
            Err(error) => {
                tracing::warn!(%error, death.reason, "given up, once the manifest can say why");
                let (next, tier) = attempt.later(LAST_WORD_AGAIN, Timestamp::now());
                return Effect::Sleep(tier, next);
            }
        }
        Effect::Bury {
            step: death.step,
            reason: death.reason,
            attempt,
        }
    }

    /// The message as it may lie in the broker: a token that came in clear is sealed.
    fn sealed(&self, mut message: Message, token: &Token) -> Message {
        if let Token::Clear(clear) = token {
            let lasts = self.patience + SEALED_LONGER;
            let expires_at =
                Timestamp::now().as_second() + i64::try_from(lasts.as_secs()).unwrap_or(0);
            let keys = &self.context.seal_keys;
            let sealed = keys.seal(clear, binding(&message), expires_at);
            // Without it the next delivery would come with the operator's token instead of the caller's.
            let sealed = sealed.expect("a system that has started has random bytes");
            message.sealed_token = Some(sealed);
        }
        message
    }

    async fn perform(&self, effect: &Effect, body: &[u8]) {
        match effect {
            Effect::Acknowledge => count("indexed"),
            Effect::Sleep(tier, attempt) => {
                self.publish(&self.queues.wait(*tier), body, attempt.headers())
                    .await;
                count("wait");
            }
            Effect::Bury {
                step,
                reason,
                attempt,
            } => {
                tracing::error!(step, reason, "dead letter");
                self.publish(&self.queues.dead(), body, death(step, reason, attempt))
                    .await;
                count("dead");
            }
        }
    }

    /// Publishes to a queue until it is confirmed. The delivery is ours for as long as that takes:
    /// when our channel closes, whoever waits for this ends it.
    async fn publish(&self, queue: &str, body: &[u8], headers: FieldTable) {
        while let Err(error) = self
            .publisher
            .publish_confirmed("", queue, body, headers.clone(), CONFIRM)
            .await
        {
            tracing::warn!(%error, queue, "the message is not confirmed yet; trying again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

/// A task that ends with whoever waits for it.
struct AbortOnDrop<T>(tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn count(outcome: &'static str) {
    counter!("joblogs_messages_total", "outcome" => outcome).increment(1);
}

/// A body that we can't read, without what may be a token in clear in it. Of a body that is no JSON
/// object nobody knows where that would be: its size and SHA-256 are kept.
fn without_token(body: &[u8]) -> Vec<u8> {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(body) else {
        let unreadable = json!({
            "unreadable": true,
            "bytes": body.len(),
            "sha256": hex(&Sha256::digest(body)),
        });
        return unreadable.to_string().into_bytes();
    };
    // A sealed one is an object, and needed when the message is replayed.
    if fields.get("token").is_some_and(|token| !token.is_object()) {
        fields.remove("token");
    }
    fields.remove("gitlab_token");
    serde_json::Value::Object(fields).to_string().into_bytes()
}

/// The headers of a dead letter.
fn death(step: &str, reason: &str, attempt: &Attempt) -> FieldTable {
    let mut table = FieldTable::default();
    let mut text = |name: &'static str, text: &str| {
        table.insert(name.into(), AMQPValue::LongString(cut(text).into()));
    };
    text("joblogs-step", step);
    text("joblogs-reason", reason);
    text("joblogs-died-at", &Timestamp::now().to_string());
    text(
        "joblogs-first-error",
        attempt.first_error.as_deref().unwrap_or(reason),
    );
    text(
        "joblogs-last-error",
        attempt.last_error.as_deref().unwrap_or(reason),
    );
    table.insert(
        "joblogs-attempts".into(),
        AMQPValue::LongLongInt(attempt.number.into()),
    );
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unreadable_message_is_kept_without_its_token() {
        let older =
            br#"{"url":"https://evil.example/","gitlab_token":"glpat-canary","job_id":"1"}"#;
        assert_eq!(
            without_token(older),
            br#"{"job_id":"1","url":"https://evil.example/"}"#
        );
        let newer = br#"{"token":{"sealed":"x"},"version":"2.0"}"#;
        assert_eq!(without_token(newer), newer);
        for body in [
            &b"{'gitlab_token': 'glpat-canary'}"[..],
            b"[\"glpat-canary\"]",
        ] {
            let kept = String::from_utf8(without_token(body)).unwrap();
            assert!(
                kept.contains("sha256") && !kept.contains("canary"),
                "{kept}"
            );
        }
    }
}
