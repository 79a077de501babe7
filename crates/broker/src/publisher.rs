//! Confirmed publishing over a connection that is kept up by a supervisor.
//!
//! INVARIANT: `Ok` means that the broker confirmed the message as routed and stored.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use rand::Rng;
use service::admin::Readiness;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{Settings, connect};

/// Between two attempts to connect, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the supervisor looks whether its channel still lives.
const LOOK: Duration = Duration::from_millis(250);
/// The first pause between attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long opening a channel may take.
const OPEN: Duration = Duration::from_secs(10);
const BLOCKED: &str = "RabbitMQ blocks publishers (memory or disk alarm)";
/// The name of this dependency in readiness.
const DEPENDENCY: &str = "rabbitmq";

/// Why a message is not in the broker for certain.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No confirm came in time: the broker is down, blocked by an alarm, or out of reach.
    #[error("RabbitMQ did not confirm within {deadline:?}: {why}")]
    NotConfirmed {
        /// How long was waited for it.
        deadline: Duration,
        /// What was wrong at the end of that time.
        why: String,
    },
    /// The broker answered that it can't take the message (a queue is full).
    #[error("RabbitMQ refused the message")]
    Refused,
    /// No queue is bound: `initmq` has not run.
    #[error("no queue takes exchange {exchange:?} with routing key {routing_key:?}; run initmq")]
    Unroutable {
        /// The exchange.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
}

/// A channel to publish on, or what is wrong.
type Slot = Result<Channel, String>;

/// A handle for publishing; clones share one channel, on which confirms are pipelined.
#[derive(Debug, Clone)]
pub struct Publisher(watch::Receiver<Slot>);

/// What a publisher connects to, and how it is called there.
#[derive(Debug, Clone)]
pub struct PublisherSettings {
    /// The broker.
    pub broker: Settings,
    /// The connection's name, as RabbitMQ shows it.
    pub name: String,
    /// An exchange without which nothing can be published.
    pub exchange: Option<String>,
}

impl Publisher {
    /// Starts the supervisor, which connects, reconnects for ever with jittered pauses, and
    /// tells `readiness`. It ends when the last handle is dropped.
    pub fn start(settings: PublisherSettings, readiness: Readiness) -> Self {
        let (slot, channel) = watch::channel(Err("not connected yet".to_owned()));
        tokio::spawn(supervise(settings, readiness, slot));
        Self(channel)
    }

    /// Publishes a persistent, `mandatory` JSON message and waits for its confirm.
    /// A lost connection is not the end: the message is published again on the next one, until
    /// `deadline` is over. The same message may so be stored twice; ids downstream absorb that.
    pub async fn publish_confirmed(
        &self,
        exchange: &str,
        routing_key: &str,
        body: &[u8],
        headers: FieldTable,
        deadline: Duration,
    ) -> Result<(), PublishError> {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_headers(headers);
        let mut why = None;
        let attempts = async {
            let mut slot = self.0.clone();
            // An end of the supervisor is one of the process: the deadline ends this too.
            while let Some(channel) = usable(&mut slot).await {
                match publish_once(&channel, exchange, routing_key, body, properties.clone()).await
                {
                    Ok(Confirmation::Ack(None)) => return Ok(()),
                    Ok(Confirmation::Ack(Some(_))) => {
                        return Err(PublishError::Unroutable {
                            exchange: exchange.to_owned(),
                            routing_key: routing_key.to_owned(),
                        });
                    }
                    // A channel without confirms would be a fault of ours.
                    Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                        return Err(PublishError::Refused);
                    }
                    // The supervisor is about to replace the channel.
                    Err(error) => {
                        why = Some(error.to_string());
                        sleep(LOOK).await;
                    }
                }
            }
            std::future::pending().await
        };
        let outcome = timeout(deadline, attempts).await;
        outcome.unwrap_or_else(|_| {
            let why = self.0.borrow().as_ref().err().cloned().or(why);
            Err(PublishError::NotConfirmed {
                deadline,
                why: why.unwrap_or_else(|| "no answer".to_owned()),
            })
        })
    }
}

/// The channel, as soon as there is one.
async fn usable(slot: &mut watch::Receiver<Slot>) -> Option<Channel> {
    let is_usable = |slot: &Slot| slot.as_ref().is_ok_and(|it| it.status().connected());
    let channel = slot.wait_for(is_usable).await.ok()?;
    channel.as_ref().ok().cloned()
}

async fn publish_once(
    channel: &Channel,
    exchange: &str,
    routing_key: &str,
    body: &[u8],
    properties: BasicProperties,
) -> Result<Confirmation, lapin::Error> {
    let options = BasicPublishOptions {
        mandatory: true,
        ..Default::default()
    };
    channel
        .basic_publish(
            exchange.into(),
            routing_key.into(),
            options,
            body,
            properties,
        )
        .await?
        .await
}

async fn supervise(settings: PublisherSettings, readiness: Readiness, slot: watch::Sender<Slot>) {
    let fail = |why: String| {
        readiness.is_down(DEPENDENCY, why.clone());
        slot.send_modify(|slot| *slot = Err(why));
    };
    let mut pause = FIRST_PAUSE;
    while !slot.is_closed() {
        match open(&settings).await {
            Ok((connection, channel)) => {
                tracing::info!(
                    host = settings.broker.host,
                    port = settings.broker.port,
                    "connected to RabbitMQ"
                );
                pause = FIRST_PAUSE;
                keep(&connection, &channel, &readiness, &slot).await;
                if slot.is_closed() {
                    return;
                }
                fail("the connection was lost".to_owned());
                tracing::warn!("lost the connection to RabbitMQ");
            }
            Err(why) => {
                tracing::warn!(why, "no connection to RabbitMQ");
                fail(why);
                let jitter = rand::rng().random_range(0.5..1.0);
                sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

/// A connection with a channel in confirm mode; an error says what is missing.
async fn open(settings: &PublisherSettings) -> Result<(Connection, Channel), String> {
    let text = |error: lapin::Error| error.to_string();
    let connection = connect(&settings.broker, &settings.name)
        .await
        .map_err(|error| error.to_string())?;
    let open = async {
        let channel = connection.create_channel().await.map_err(text)?;
        if let Some(exchange) = &settings.exchange {
            let options = ExchangeDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let table = FieldTable::default();
            channel
                .exchange_declare(
                    exchange.as_str().into(),
                    ExchangeKind::Direct,
                    options,
                    table,
                )
                .await
                .map_err(|error| {
                    format!("the exchange {exchange} is not there, run initmq: {error}")
                })?;
        }
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(text)?;
        Ok(channel)
    };
    let channel = timeout(OPEN, open)
        .await
        .unwrap_or_else(|_| Err(format!("RabbitMQ opened no channel within {OPEN:?}")))?;
    Ok((connection, channel))
}

/// Hands out the channel for as long as it lives and the broker takes messages. While an alarm
/// blocks publishers it is withheld: lapin would keep what is published meanwhile in memory, each
/// attempt anew, and send all of it in the end.
async fn keep(
    connection: &Connection,
    channel: &Channel,
    readiness: &Readiness,
    slot: &watch::Sender<Slot>,
) {
    let mut was_blocked = None;
    while connection.status().connected() && channel.status().connected() && !slot.is_closed() {
        let is_blocked = connection.status().blocked();
        if was_blocked != Some(is_blocked) {
            was_blocked = Some(is_blocked);
            if is_blocked {
                tracing::warn!(BLOCKED);
                readiness.is_down(DEPENDENCY, BLOCKED);
                slot.send_modify(|slot| *slot = Err(BLOCKED.to_owned()));
            } else {
                readiness.is_up(DEPENDENCY);
                slot.send_modify(|slot| *slot = Ok(channel.clone()));
            }
        }
        sleep(LOOK).await;
    }
}
