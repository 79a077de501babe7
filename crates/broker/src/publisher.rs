//! Confirmed publishing over a connection that is kept up by a supervisor.
//!
//! INVARIANT: `Ok` means that the broker confirmed the message as routed and stored.

use std::time::Duration;

use lapin::{
    BasicProperties, Channel, Confirmation,
    options::{BasicPublishOptions, ConfirmSelectOptions},
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
/// The name of this dependency in readiness.
const DEPENDENCY: &str = "rabbitmq";

/// Why a message is not in the broker for certain.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No confirm came in time: the broker is down, blocked by an alarm, or out of reach.
    #[error("RabbitMQ did not confirm within {0:?}")]
    NotConfirmed(Duration),
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

/// A handle for publishing; clones share one channel, on which confirms are pipelined.
#[derive(Debug, Clone)]
pub struct Publisher(watch::Receiver<Option<Channel>>);

impl Publisher {
    /// Starts the supervisor, which connects, reconnects for ever with jittered pauses, and
    /// tells `readiness`. It ends when the last handle is dropped.
    pub fn start(settings: Settings, name: String, readiness: Readiness) -> Self {
        let (slot, channel) = watch::channel(None);
        tokio::spawn(supervise(settings, name, readiness, slot));
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
        let attempts = async {
            let mut slot = self.0.clone();
            loop {
                let channel = slot
                    .wait_for(|channel| channel.as_ref().is_some_and(|it| it.status().connected()))
                    .await
                    .map_err(|_| PublishError::NotConfirmed(deadline))?
                    .clone();
                let Some(channel) = channel else { continue };
                match publish_once(&channel, exchange, routing_key, body, properties.clone()).await
                {
                    Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => return Ok(()),
                    Ok(Confirmation::Ack(Some(_))) => {
                        return Err(PublishError::Unroutable {
                            exchange: exchange.to_owned(),
                            routing_key: routing_key.to_owned(),
                        });
                    }
                    Ok(Confirmation::Nack(_)) => return Err(PublishError::Refused),
                    // The supervisor is about to replace the channel.
                    Err(_) => sleep(LOOK).await,
                }
            }
        };
        timeout(deadline, attempts)
            .await
            .unwrap_or(Err(PublishError::NotConfirmed(deadline)))
    }
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

async fn supervise(
    settings: Settings,
    name: String,
    readiness: Readiness,
    slot: watch::Sender<Option<Channel>>,
) {
    let mut pause = Duration::from_millis(100);
    while !slot.is_closed() {
        let opened = async {
            let connection = connect(&settings, &name)
                .await
                .map_err(|error| error.to_string())?;
            let channel = connection
                .create_channel()
                .await
                .map_err(|error| error.to_string())?;
            channel
                .confirm_select(ConfirmSelectOptions::default())
                .await
                .map_err(|error| error.to_string())?;
            Ok::<_, String>((connection, channel))
        };
        match opened.await {
            Ok((connection, channel)) => {
                tracing::info!(
                    host = settings.host,
                    port = settings.port,
                    "connected to RabbitMQ"
                );
                readiness.is_up(DEPENDENCY);
                slot.send_replace(Some(channel.clone()));
                pause = Duration::from_millis(100);
                while connection.status().connected()
                    && channel.status().connected()
                    && !slot.is_closed()
                {
                    if connection.status().blocked() {
                        readiness.is_down(
                            DEPENDENCY,
                            "RabbitMQ blocks publishers (memory or disk alarm)",
                        );
                    } else {
                        readiness.is_up(DEPENDENCY);
                    }
                    sleep(LOOK).await;
                }
                slot.send_replace(None);
                readiness.is_down(DEPENDENCY, "the connection was lost");
                tracing::warn!("lost the connection to RabbitMQ");
            }
            Err(error) => {
                tracing::warn!(error, "no connection to RabbitMQ");
                readiness.is_down(DEPENDENCY, error);
                let jitter = rand::rng().random_range(0.5..1.0);
                sleep(pause.mul_f64(jitter)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}
