//! The connection on which messages come: opened, kept up, its deliveries worked on within a bound.
//!
//! What is not acknowledged when it ends the broker has again: going on with that would be twice the
//! work, so it is ended with the connection.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt;
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::FieldTable,
};
use metrics::gauge;
use rand::Rng;
use service::admin::Readiness;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{delivery::Effects, demand::Demand};

/// After the signal, jobs that end within this are finished; the others go back to the broker.
pub(crate) const GRACE: Duration = Duration::from_secs(20);
/// Between attempts to connect: up to this, with jitter.
const PAUSE: Duration = Duration::from_secs(3);
/// How often a channel without a subscription is looked at.
const LOOK_AT_CHANNEL: Duration = Duration::from_millis(250);
/// How long RabbitMQ may take over opening a channel.
const OPEN: Duration = Duration::from_secs(10);
/// How long it may take over ending a subscription, and over closing: with the grace, less than the
/// 30 s that compose waits.
const CLOSE: Duration = Duration::from_secs(3);

/// What readiness calls the link on which messages come.
pub(crate) const QUEUE: &str = "queue";
/// The subscription's consumer tag.
const TAG: &str = "joblogs";
/// Its message is still ours in the broker's eyes: it comes again with the next connection.
const PANICKED: &str = "a fault in Joblogs: the work on a message panicked";
const LOST: &str = "the connection to RabbitMQ was lost";

/// The connection on which messages come, and what is done with it.
pub(crate) struct Link {
    pub(crate) broker: broker::Settings,
    pub(crate) queue: String,
    /// How many messages are held at the same time.
    pub(crate) prefetch: u16,
    pub(crate) readiness: Readiness,
    pub(crate) effects: Arc<Effects>,
    pub(crate) demand: Demand,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Link {
    /// Connects, consumes, and connects again, until it is told to stop.
    pub(crate) async fn keep_up(mut self) {
        while !*self.stopping.borrow() {
            let (connection, channel) = match self.open().await {
                Ok(opened) => opened,
                Err(error) => {
                    self.is_down(&error).await;
                    continue;
                }
            };
            if let Err(error) = self.consume(&channel).await {
                self.is_down(&error).await;
            }
            // What is not acknowledged goes back to the queue with the connection.
            let _ = timeout(CLOSE, connection.close(200, "done".into())).await;
        }
    }

    /// Says so, and waits before the next attempt.
    async fn is_down(&mut self, error: &anyhow::Error) {
        let error = format!("{error:#}");
        tracing::warn!(error, "no messages can be taken");
        self.readiness.is_down(QUEUE, error);
        let jitter = rand::rng().random_range(0.25..1.0);
        tokio::select! {
            () = sleep(PAUSE.mul_f64(jitter)) => {}
            () = stopped(&mut self.stopping) => {}
        }
    }

    async fn open(&self) -> Result<(Connection, Channel)> {
        let connection = broker::connect(&self.broker, "consumer").await?;
        let open = async {
            let channel = connection.create_channel().await?;
            let options = BasicQosOptions::default();
            channel.basic_qos(self.prefetch, options).await?;
            // It is there: whether messages are wanted now is another question.
            let options = QueueDeclareOptions {
                passive: true,
                ..Default::default()
            };
            let table = FieldTable::default();
            let queue = self.queue.as_str().into();
            channel.queue_declare(queue, options, table).await?;
            Ok::<_, lapin::Error>(channel)
        };
        let channel = timeout(OPEN, open)
            .await
            .with_context(|| format!("RabbitMQ opened no channel within {OPEN:?}"))?
            .with_context(|| self.no_queue())?;
        Ok((connection, channel))
    }

    fn no_queue(&self) -> String {
        format!(
            "the queue {} can't be consumed from (has initmq run?)",
            self.queue
        )
    }

    /// Works on deliveries, at most as many at a time as were asked for, until the channel closes or
    /// it is told to stop; then those end within the grace, or are ended.
    async fn consume(&mut self, channel: &Channel) -> Result<()> {
        self.readiness.is_up(QUEUE);
        let mut jobs = JoinSet::new();
        while !*self.stopping.borrow() {
            let is_wanted = async {
                self.demand.is_there().await;
                // What an ended subscription brought is no part of the next one's prefetch.
                while jobs.len() >= usize::from(self.prefetch) {
                    if let Some(ended) = jobs.join_next().await {
                        ended.context(PANICKED)?;
                    }
                }
                anyhow::Ok(())
            };
            tokio::select! {
                wanted = is_wanted => wanted?,
                () = lost(channel) => bail!(LOST),
                () = stopped(&mut self.stopping) => break,
            }
            let subscription = self.subscribe(channel).await?;
            tracing::info!(queue = self.queue, "taking messages");
            self.take(channel, subscription, &mut jobs).await?;
        }
        let ended = timeout(GRACE, async { while jobs.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::info!(
                jobs = jobs.len(),
                "handing back what did not end within the grace"
            );
        }
        Ok(())
    }

    async fn subscribe(&self, channel: &Channel) -> Result<lapin::Consumer> {
        let (options, table) = (BasicConsumeOptions::default(), FieldTable::default());
        let queue = self.queue.as_str().into();
        let subscribe = channel.basic_consume(queue, TAG.into(), options, table);
        timeout(OPEN, subscribe)
            .await
            .with_context(|| format!("RabbitMQ did not answer within {OPEN:?}"))?
            .with_context(|| self.no_queue())
    }

    /// Takes messages for as long as there is sense in it, and works on them. An error is the end of
    /// the channel: the broker has the messages again, and going on with them would be twice the work.
    async fn take(
        &mut self,
        channel: &Channel,
        mut deliveries: lapin::Consumer,
        jobs: &mut JoinSet<()>,
    ) -> Result<()> {
        let mut is_wanted = true;
        loop {
            gauge!("joblogs_jobs_in_progress").set(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            tokio::select! {
                Some(ended) = jobs.join_next() => ended.context(PANICKED)?,
                delivery = deliveries.next(), if jobs.len() < usize::from(self.prefetch) => match delivery {
                    Some(delivery) => {
                        let delivery = delivery.context(LOST)?;
                        let effects = self.effects.clone();
                        jobs.spawn(async move { effects.handle(delivery).await });
                    }
                    // What had come before the end of the subscription is in work.
                    None if !is_wanted => return Ok(()),
                    None => bail!("RabbitMQ ended the subscription"),
                },
                () = self.demand.is_gone(), if is_wanted => {
                    tracing::info!("taking no more messages for a while");
                    is_wanted = false;
                    unsubscribe(channel).await?;
                }
                // With all places taken nobody listens to the deliveries.
                () = lost(channel) => bail!(LOST),
                // What was sent already and not begun stays unacknowledged.
                () = stopped(&mut self.stopping) => return unsubscribe(channel).await,
            }
        }
    }
}

/// Resolves once the consumer is told to stop.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Whoever could tell is gone: that is an end too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// From now on nothing new comes.
async fn unsubscribe(channel: &Channel) -> Result<()> {
    let cancel = channel.basic_cancel(TAG.into(), BasicCancelOptions::default());
    timeout(CLOSE, cancel)
        .await
        .with_context(|| format!("RabbitMQ did not answer within {CLOSE:?}"))?
        .context(LOST)
}

/// Resolves once the channel is closed: without a subscription nobody else notices.
async fn lost(channel: &Channel) {
    while channel.status().connected() {
        sleep(LOOK_AT_CHANNEL).await;
    }
}
