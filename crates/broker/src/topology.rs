//! Every exchange, queue and argument, by name; initmq, listener and consumer all read this.
//!
//! ```text
//! gitlab_jobs ──jobs──▶ jobs ──(rejected, delivery limit)──▶ jobs.dead
//!      ▲                 │ consumer
//!      └─(expired)─ jobs.wait.{10s,1m,10m} ◀── "look again later"
//! ```

use std::{fmt, time::Duration};

use lapin::{
    Channel, ExchangeKind,
    options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};

/// The queue that the older tool's health check used.
pub const HEALTHCHECK_QUEUE: &str = "healthcheck";

/// How often a message is delivered anew after a crash before it becomes a dead letter.
/// Only crashes count: a retry is a new message in a wait tier.
const DELIVERY_LIMIT: i64 = 20;

/// A queue in which a message sleeps before it comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WaitTier {
    /// 10 seconds.
    TenSeconds,
    /// 1 minute.
    OneMinute,
    /// 10 minutes.
    TenMinutes,
}

impl WaitTier {
    /// All of them, the shortest first.
    pub const ALL: [Self; 3] = [Self::TenSeconds, Self::OneMinute, Self::TenMinutes];

    /// How long a message sleeps.
    pub fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::TenSeconds => 10,
            Self::OneMinute => 60,
            Self::TenMinutes => 600,
        })
    }

    /// The longest tier that is no longer than `wait`, or the shortest one.
    pub fn within(wait: Duration) -> Self {
        let fits = |tier: &Self| tier.duration() <= wait;
        Self::ALL
            .into_iter()
            .rfind(fits)
            .unwrap_or(Self::TenSeconds)
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::TenSeconds => "wait.10s",
            Self::OneMinute => "wait.1m",
            Self::TenMinutes => "wait.10m",
        }
    }
}

/// The queue that the consumer reads, and those that are named after it.
#[derive(Debug, Clone)]
pub struct Queues {
    /// The queue that the consumer reads.
    pub jobs: String,
}

impl Queues {
    /// The name of a wait tier's queue.
    pub fn wait(&self, tier: WaitTier) -> String {
        format!("{}.{}", self.jobs, tier.suffix())
    }

    /// The name of the queue of dead letters.
    pub fn dead(&self) -> String {
        format!("{}.dead", self.jobs)
    }
}

/// The names that an operator may choose; the others follow from them.
#[derive(Debug, Clone)]
pub struct Topology {
    /// The exchange that notices are published to.
    pub exchange: String,
    /// The routing key that leads to the queue.
    pub routing_key: String,
    /// The queues.
    pub queues: Queues,
}

/// One queue with its arguments.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name.
    pub name: String,
    /// Its `x-` arguments.
    pub arguments: Vec<(&'static str, AMQPValue)>,
}

/// A queue or exchange stands with other arguments, or can't be declared.
#[derive(Debug, thiserror::Error)]
pub struct TopologyError {
    what: String,
    why: String,
    way_out: &'static str,
}

const QUEUE_WAY_OUT: &str = "; nothing was deleted. Let its messages be consumed, delete it \
    (`rabbitmqctl delete_queue` or the management page) and run initmq again, or choose another name \
    with --queue";
const EXCHANGE_WAY_OUT: &str = "; nothing was deleted. Delete the exchange on the management page and \
    run initmq again, or choose another name with --exchange (or its own kind with --type and --durable)";

impl fmt::Display for TopologyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} can't be declared: {}{}",
            self.what, self.why, self.way_out
        )
    }
}

impl Topology {
    /// All queues, the jobs' own last.
    pub fn declarations(&self) -> Vec<Queue> {
        let text = |value: &str| AMQPValue::LongString(value.into());
        // At-least-once dead-lettering needs reject-publish, or RabbitMQ quietly does at-most-once.
        let quorum = |dead_exchange: &str, dead_key: &str| {
            vec![
                ("x-queue-type", text("quorum")),
                ("x-dead-letter-exchange", text(dead_exchange)),
                ("x-dead-letter-routing-key", text(dead_key)),
                ("x-dead-letter-strategy", text("at-least-once")),
                ("x-overflow", text("reject-publish")),
            ]
        };
        let mut jobs = quorum("", &self.queues.dead());
        jobs.push(("x-delivery-limit", AMQPValue::LongLongInt(DELIVERY_LIMIT)));
        let mut queues = vec![Queue {
            name: self.queues.dead(),
            arguments: vec![("x-queue-type", text("quorum"))],
        }];
        for tier in WaitTier::ALL {
            let mut arguments = quorum(&self.exchange, &self.routing_key);
            let milliseconds = i64::try_from(tier.duration().as_millis()).unwrap_or(i64::MAX);
            arguments.push(("x-message-ttl", AMQPValue::LongLongInt(milliseconds)));
            queues.push(Queue {
                name: self.queues.wait(tier),
                arguments,
            });
        }
        queues.push(Queue {
            name: HEALTHCHECK_QUEUE.to_owned(),
            arguments: Vec::new(),
        });
        // Last: the older tool's queue of this name is of another kind, and the others are needed all
        // the same to empty it.
        queues.push(Queue {
            name: self.queues.jobs.clone(),
            arguments: jobs,
        });
        queues
    }

    /// Declares the exchange, the queues and the binding; idempotent, deletes nothing.
    pub async fn declare(
        &self,
        channel: &Channel,
        kind: ExchangeKind,
        durable: bool,
        passive: bool,
    ) -> Result<(), TopologyError> {
        let options = ExchangeDeclareOptions {
            durable,
            passive,
            ..Default::default()
        };
        channel
            .exchange_declare(
                self.exchange.as_str().into(),
                kind,
                options,
                FieldTable::default(),
            )
            .await
            .map_err(|error| refused("exchange", &self.exchange, &error))?;
        for queue in self.declarations() {
            let mut table = FieldTable::default();
            for (key, value) in queue.arguments {
                table.insert(key.into(), value);
            }
            let options = QueueDeclareOptions {
                durable: true,
                passive,
                ..Default::default()
            };
            channel
                .queue_declare(queue.name.as_str().into(), options, table)
                .await
                .map_err(|error| refused("queue", &queue.name, &error))?;
        }
        if passive {
            return Ok(());
        }
        channel
            .queue_bind(
                self.queues.jobs.as_str().into(),
                self.exchange.as_str().into(),
                self.routing_key.as_str().into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| refused("binding of queue", &self.queues.jobs, &error))
    }
}

fn refused(what: &str, name: &str, error: &lapin::Error) -> TopologyError {
    // RabbitMQ's text names the argument, the value that we sent and the one that stands.
    let why = error.to_string();
    let way_out = match (why.contains("inequivalent arg"), what) {
        (false, _) => "",
        (true, "exchange") => EXCHANGE_WAY_OUT,
        (true, _) => QUEUE_WAY_OUT,
    };
    TopologyError {
        what: format!("{what} {name}"),
        why,
        way_out,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology() -> Topology {
        Topology {
            exchange: "gitlab_jobs".into(),
            routing_key: "jobs".into(),
            queues: Queues {
                jobs: "jobs".into(),
            },
        }
    }

    #[test]
    fn the_queues_are_those_of_the_design() {
        let names: Vec<String> = topology()
            .declarations()
            .into_iter()
            .map(|queue| queue.name)
            .collect();
        assert_eq!(
            names,
            [
                "jobs.dead",
                "jobs.wait.10s",
                "jobs.wait.1m",
                "jobs.wait.10m",
                "healthcheck",
                "jobs"
            ]
        );
    }

    #[test]
    fn whoever_dead_letters_does_it_at_least_once() {
        for queue in topology().declarations() {
            let has = |key| queue.arguments.iter().any(|(name, _)| *name == key);
            assert_eq!(
                has("x-dead-letter-exchange"),
                has("x-dead-letter-strategy"),
                "{}",
                queue.name
            );
            assert_eq!(
                has("x-dead-letter-strategy"),
                has("x-overflow"),
                "{}",
                queue.name
            );
        }
    }

    #[test]
    fn a_wait_takes_the_longest_tier_that_fits() {
        for (seconds, tier) in [
            (0, WaitTier::TenSeconds),
            (59, WaitTier::TenSeconds),
            (60, WaitTier::OneMinute),
            (599, WaitTier::OneMinute),
            (7000, WaitTier::TenMinutes),
        ] {
            assert_eq!(WaitTier::within(Duration::from_secs(seconds)), tier);
        }
    }
}
