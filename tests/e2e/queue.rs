//! The queues of one virtual host as they are: publishing without a listener, and looking without consuming.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions,
    QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::servers::RabbitMq;

/// The exchange and the queues, as DESIGN.md names them; not read from our own crate on purpose.
const EXCHANGE: &str = "gitlab_jobs";
const ROUTING_KEY: &str = "jobs";
pub(crate) const JOBS: &str = "jobs";
pub(crate) const WAITING: [&str; 3] = ["jobs.wait.10s", "jobs.wait.1m", "jobs.wait.10m"];
pub(crate) const DEAD: &str = "jobs.dead";

const CONNECT: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(10);

/// A message as it lies in a queue.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) body: String,
    headers: FieldTable,
}

impl Message {
    /// A header as text; empty where there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        match self.headers.inner().get(name) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }

    /// All that could hold a secret.
    pub(crate) fn raw(&self) -> String {
        let texts = self
            .headers
            .inner()
            .iter()
            .map(|(name, value)| match value {
                AMQPValue::LongString(text) => format!("{name}: {text}\n"),
                other => format!("{name}: {other:?}\n"),
            });
        texts.chain([self.body.clone()]).collect()
    }
}

/// A connection to one virtual host, opened anew where it was lost.
pub(crate) struct Queues {
    uri: AMQPUri,
    connection: Mutex<Connection>,
}

impl Queues {
    pub(crate) async fn connect(rabbitmq: &RabbitMq, vhost: &str) -> Result<Self> {
        let uri = AMQPUri {
            scheme: AMQPScheme::AMQP,
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: rabbitmq.user.to_owned(),
                    password: rabbitmq.password.clone(),
                },
                host: "127.0.0.1".into(),
                port: rabbitmq.port,
            },
            vhost: vhost.to_owned(),
            query: lapin::uri::AMQPQueryString::default(),
        };
        let connection = Mutex::new(connect(&uri).await?);
        Ok(Self { uri, connection })
    }

    /// A connection as another user, to find out what it may do.
    pub(crate) async fn connect_as(&self, user: &str, password: &str) -> Result<Connection> {
        let mut uri = self.uri.clone();
        uri.authority.userinfo = AMQPUserInfo {
            username: user.to_owned(),
            password: password.to_owned(),
        };
        connect(&uri).await
    }

    /// Publishes as the older tool would, and waits for the confirm.
    pub(crate) async fn publish(&self, body: &str) -> Result<()> {
        let headers = FieldTable::default();
        self.publish_by(EXCHANGE, ROUTING_KEY, body, headers).await
    }

    /// Publishes a message that has come a part of its way: so says this header.
    pub(crate) async fn publish_with(&self, body: &str, header: (&str, i64)) -> Result<()> {
        let (name, number) = header;
        let mut headers = FieldTable::default();
        headers.insert(name.into(), AMQPValue::LongLongInt(number));
        self.publish_by(EXCHANGE, ROUTING_KEY, body, headers).await
    }

    /// Publishes into one queue.
    pub(crate) async fn publish_to(&self, queue: &str, body: &str) -> Result<()> {
        self.publish_by("", queue, body, FieldTable::default())
            .await
    }

    async fn publish_by(
        &self,
        exchange: &str,
        key: &str,
        body: &str,
        headers: FieldTable,
    ) -> Result<()> {
        let channel = self.channel().await?;
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await?;
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_headers(headers);
        let confirm = channel
            .basic_publish(
                exchange.into(),
                key.into(),
                options,
                body.as_bytes(),
                properties,
            )
            .await?
            .await?;
        ensure!(confirm.is_ack(), "RabbitMQ refused the test's message");
        Ok(())
    }

    /// Declares a queue otherwise than Joblogs would.
    pub(crate) async fn declare(&self, queue: &str, arguments: &[(&str, AMQPValue)]) -> Result<()> {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert((*name).into(), value.clone());
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await?;
        channel.queue_declare(queue.into(), options, table).await?;
        Ok(())
    }

    /// Takes the queue of jobs off the exchange, as somebody might on the management page.
    pub(crate) async fn unbind(&self) -> Result<()> {
        let table = FieldTable::default();
        let channel = self.channel().await?;
        channel
            .queue_unbind(JOBS.into(), EXCHANGE.into(), ROUTING_KEY.into(), table)
            .await?;
        Ok(())
    }

    /// How many messages are ready in a queue. Those that a consumer holds are not among them.
    pub(crate) async fn ready(&self, queue: &str) -> Result<u32> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await?;
        let queue = channel
            .queue_declare(queue.into(), options, FieldTable::default())
            .await?;
        Ok(queue.message_count())
    }

    /// The messages of a queue, which go back to it when the channel closes.
    pub(crate) async fn look(&self, queue: &str) -> Result<Vec<Message>> {
        let channel = self.channel().await?;
        let mut messages = Vec::new();
        while let Some(found) = channel
            .basic_get(queue.into(), BasicGetOptions::default())
            .await?
        {
            let delivery = found.delivery;
            messages.push(Message {
                body: String::from_utf8_lossy(&delivery.data).into_owned(),
                headers: delivery.properties.headers().clone().unwrap_or_default(),
            });
        }
        channel.close(200, "seen".into()).await?;
        Ok(messages)
    }

    /// Takes all messages out of a queue, and says how many there were.
    pub(crate) async fn take(&self, queue: &str) -> Result<u32> {
        let channel = self.channel().await?;
        let options = QueuePurgeOptions::default();
        Ok(channel.queue_purge(queue.into(), options).await?)
    }

    /// An error while messages are ready to be processed, or sleep.
    pub(crate) async fn are_empty(&self) -> Result<()> {
        for queue in [JOBS].into_iter().chain(WAITING) {
            let ready = self.ready(queue).await?;
            ensure!(ready == 0, "{ready} messages in {queue}");
        }
        Ok(())
    }

    async fn channel(&self) -> Result<Channel> {
        let mut connection = self.connection.lock().await;
        if !connection.status().connected() {
            *connection = connect(&self.uri).await?;
        }
        let channel = timeout(ANSWER, connection.create_channel()).await;
        Ok(channel.context("RabbitMQ opened no channel for the test")??)
    }
}

async fn connect(uri: &AMQPUri) -> Result<Connection> {
    let properties = ConnectionProperties::default().with_connection_name("e2e".into());
    let connection = timeout(CONNECT, Connection::connect_uri(uri.clone(), properties)).await;
    Ok(connection.context("RabbitMQ did not let the test in")??)
}
