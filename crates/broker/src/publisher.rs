//! Confirmed publishing over a connection that is kept up by a supervisor.
//!
//! INVARIANT: `Ok` means that the broker confirmed the message as routed and stored.

use std::{pin::pin, sync::Arc, time::Duration};

use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ExchangeKind,
    options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions},
    types::FieldTable,
};
use rand::Rng;
use service::admin::Readiness;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

use crate::{Settings, connect};

/// Between two attempts to connect, at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often the supervisor looks whether its channel still lives.
const LOOK: Duration = Duration::from_millis(250);
/// A broker that confirms nothing for so long may have fallen silent, which TCP alone does not tell.
const SILENT: Duration = Duration::from_secs(3);
/// The first pause between attempts; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// How long opening a channel may take.
const OPEN: Duration = Duration::from_secs(10);
const BLOCKED: &str = "RabbitMQ blocks publishers (memory or disk alarm)";
const SAYS_NOTHING: &str = "RabbitMQ says nothing any more";
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

/// Why there is no channel.
struct Missing {
    /// For the log.
    why: String,
    /// For readiness, which strangers may ask.
    told: &'static str,
}

/// A channel to publish on, or what is wrong.
type Slot = Result<Channel, String>;

/// A handle for publishing; clones share one channel, on which confirms are pipelined.
#[derive(Debug, Clone)]
pub struct Publisher {
    slot: watch::Receiver<Slot>,
    /// Tells the supervisor that a confirm is overdue.
    overdue: Arc<Notify>,
}

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
        let (sender, slot) = watch::channel(Err("not connected yet".to_owned()));
        let overdue = Arc::new(Notify::new());
        let supervisor = Supervisor {
            settings,
            readiness,
            slot: sender,
            overdue: overdue.clone(),
        };
        tokio::spawn(supervisor.run());
        Self { slot, overdue }
    }

    /// Resolves once the broker takes messages. It may cease to at any time.
    pub async fn usable(&self) {
        if usable(&mut self.slot.clone()).await.is_none() {
            std::future::pending::<()>().await;
        }
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
            let mut slot = self.slot.clone();
            // An end of the supervisor is one of the process: the deadline ends this too.
            while let Some(channel) = usable(&mut slot).await {
                let publish =
                    publish_once(&channel, exchange, routing_key, body, properties.clone());
                match self.watched(publish).await {
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
            let why = self.slot.borrow().as_ref().err().cloned().or(why);
            Err(PublishError::NotConfirmed {
                deadline,
                why: why.unwrap_or_else(|| "no answer".to_owned()),
            })
        })
    }

    /// Waits for a confirm, and tells the supervisor when it is overdue.
    async fn watched<T>(&self, publish: impl Future<Output = T>) -> T {
        let mut publish = pin!(publish);
        if let Ok(confirmed) = timeout(SILENT, &mut publish).await {
            return confirmed;
        }
        self.overdue.notify_one();
        publish.await
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

/// Keeps the connection up, and the slot and readiness true.
struct Supervisor {
    settings: PublisherSettings,
    readiness: Readiness,
    slot: watch::Sender<Slot>,
    overdue: Arc<Notify>,
}

impl Supervisor {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        while !self.slot.is_closed() {
            match open(&self.settings).await {
                Ok((connection, channel)) => {
                    tracing::info!(
                        host = self.settings.broker.host,
                        port = self.settings.broker.port,
                        "connected to RabbitMQ"
                    );
                    pause = FIRST_PAUSE;
                    self.keep(&connection, &channel).await;
                    if self.slot.is_closed() {
                        return;
                    }
                    tracing::warn!("lost the connection to RabbitMQ");
                    let lost = "the connection was lost";
                    self.withhold(lost, lost);
                }
                Err(Missing { why, told }) => {
                    tracing::warn!(why, "no connection to RabbitMQ");
                    self.withhold(&why, &format!("{told}; the log says more"));
                    let jitter = rand::rng().random_range(0.5..1.0);
                    sleep(pause.mul_f64(jitter)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Hands out the channel for as long as it lives and the broker takes messages. While it does not,
    /// the channel is withheld: lapin would keep what is published meanwhile in memory, each attempt
    /// anew, and send all of it in the end.
    async fn keep(&self, connection: &Connection, channel: &Channel) {
        let mut was_blocked = None;
        while is_open(connection, channel) && !self.slot.is_closed() {
            let is_blocked = connection.status().blocked();
            if was_blocked != Some(is_blocked) {
                was_blocked = Some(is_blocked);
                if is_blocked {
                    tracing::warn!(BLOCKED);
                    self.withhold(BLOCKED, BLOCKED);
                } else {
                    self.hand_out(channel);
                }
            }
            tokio::select! {
                () = sleep(LOOK) => {}
                () = self.overdue.notified(), if !is_blocked => {
                    self.ask(channel).await;
                    was_blocked = None;
                }
            }
        }
    }

    /// Whether there is somebody who answers, be it that confirms take long: resolves once there is,
    /// or the channel is gone, which heartbeats find out. This call changes nothing.
    async fn ask(&self, channel: &Channel) {
        let ask = channel.confirm_select(ConfirmSelectOptions::default());
        let mut ask = pin!(ask);
        if timeout(LOOK, &mut ask).await.is_err() {
            tracing::warn!(SAYS_NOTHING);
            self.withhold(SAYS_NOTHING, SAYS_NOTHING);
            // An error is the end of the channel, which whoever called sees.
            let _ = ask.await;
        }
    }

    fn hand_out(&self, channel: &Channel) {
        self.readiness.is_up(DEPENDENCY);
        self.slot.send_modify(|slot| *slot = Ok(channel.clone()));
    }

    /// The channel is not to be used, and why; readiness tells the other text.
    fn withhold(&self, why: &str, told: &str) {
        self.readiness.is_down(DEPENDENCY, told);
        self.slot.send_modify(|slot| *slot = Err(why.to_owned()));
    }
}

fn is_open(connection: &Connection, channel: &Channel) -> bool {
    connection.status().connected() && channel.status().connected()
}

/// A connection with a channel in confirm mode; an error says what is missing.
async fn open(settings: &PublisherSettings) -> Result<(Connection, Channel), Missing> {
    let missing = |why: String| Missing {
        why,
        told: "opens no channel",
    };
    let text = |error: lapin::Error| missing(error.to_string());
    let connection = connect(&settings.broker, &settings.name)
        .await
        .map_err(|error| Missing {
            why: error.to_string(),
            told: error.told,
        })?;
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
                .map_err(|error| Missing {
                    why: format!("the exchange {exchange} is not there, run initmq: {error}"),
                    told: "the exchange is not there, run initmq",
                })?;
        }
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .map_err(text)?;
        Ok(channel)
    };
    let channel = timeout(OPEN, open).await.unwrap_or_else(|_| {
        Err(missing(format!(
            "RabbitMQ opened no channel within {OPEN:?}"
        )))
    })?;
    Ok((connection, channel))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    /// What readiness says of a broker at this port, once something is known of it.
    async fn said_of(port: u16) -> String {
        let readiness = Readiness::waiting_for(&[DEPENDENCY]);
        let broker = Settings {
            host: "127.0.0.1".to_owned(),
            port,
            vhost: "canary_vhost".to_owned(),
            user: "canary_user".to_owned(),
            password: "canary_password".into(),
            tls: None,
            is_silent: Arc::default(),
        };
        let settings = PublisherSettings {
            broker,
            name: "test".to_owned(),
            exchange: Some("canary_exchange".to_owned()),
        };
        let publisher = Publisher::start(settings, readiness.clone());
        let known = async {
            while publisher.slot.clone().changed().await.is_ok() {
                if publisher
                    .slot
                    .borrow()
                    .as_ref()
                    .is_err_and(|why| why.contains("canary"))
                {
                    break;
                }
            }
        };
        timeout(Duration::from_secs(20), known).await.unwrap();
        readiness.faults().join("\n")
    }

    /// Anybody may ask for readiness: it told strangers the host, the port, the virtual host and the user.
    #[tokio::test]
    async fn readiness_does_not_tell_where_the_broker_is() {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = nobody.local_addr().unwrap().port();
        drop(nobody);
        let said = said_of(port).await;
        assert_eq!(said, "rabbitmq: can't be reached; the log says more");
    }
}
