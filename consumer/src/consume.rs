//! The consumer: connects, takes messages, works on a bounded number of them at a time, and ends
//! cleanly at a signal.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use broker::{Publisher, PublisherSettings};
use futures_util::StreamExt;
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use metrics::gauge;
use notice::Instances;
use rand::Rng;
use service::{
    admin::{AdminServer, Readiness},
    metrics::Metrics,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    context::{Context, Forge},
    delivery::Effects,
    elasticsearch::Elasticsearch,
    flags::{Admin, Config},
    sink::Budget,
};

/// After the signal, jobs that end within this are finished; the others go back to the broker.
const GRACE: Duration = Duration::from_secs(20);
/// Between attempts to connect: up to this, with jitter.
const PAUSE: Duration = Duration::from_secs(3);
/// How often Elasticsearch is asked whether it is there, for readiness.
const LOOK: Duration = Duration::from_secs(5);
/// So many messages are held for each trace that may be read: most of them wait for their job's end,
/// which costs next to nothing.
const WAITING: u16 = 8;
/// How long RabbitMQ may take over opening a channel.
const OPEN: Duration = Duration::from_secs(10);
/// How long it may take over ending a subscription, and over closing: with the grace, less than the
/// 30 s that compose waits.
const CLOSE: Duration = Duration::from_secs(3);

/// Dependencies, as readiness calls them.
const QUEUE: &str = "queue";
const ELASTICSEARCH: &str = "elasticsearch";

/// A consumer that is checked and not yet running.
pub struct Consumer {
    config: Config,
    admin: Option<AdminServer>,
    metrics: Metrics,
}

impl Consumer {
    /// Binds the address for health and metrics and starts counting.
    pub async fn bind(config: Config) -> Result<Self> {
        let admin = match config.admin {
            Admin::Off => None,
            Admin::At(address) => Some(AdminServer::bind(address).await.context("--admin")?),
            Admin::Default(address) => match AdminServer::bind(address).await {
                Ok(server) => Some(server),
                Err(error) => {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "no health and metrics: another consumer on this host? --admin gives this one an address of its own"
                    );
                    None
                }
            },
        };
        if let Some(server) = &admin {
            tracing::info!(address = %server.address(), "serving health and metrics");
        }
        Ok(Self {
            config,
            admin,
            metrics: service::metrics::start()?,
        })
    }

    /// Consumes until the future resolves, then finishes or hands back what it holds.
    pub async fn run_until(self, signal: impl Future<Output = std::io::Result<()>>) -> Result<()> {
        let Self {
            config,
            admin,
            metrics,
        } = self;
        let readiness = Readiness::waiting_for(&[QUEUE, ELASTICSEARCH, "rabbitmq"]);
        let elasticsearch = config.elasticsearch;
        let instance = config.gitlab.instance().clone();
        let effects = Arc::new(Effects {
            context: Arc::new(Context {
                instances: Instances::one(instance),
                forges: vec![Forge {
                    gitlab: config.gitlab,
                    token: config.gitlab_token,
                }],
                elasticsearch: elasticsearch.clone(),
                budget: Budget::default(),
                reading: Semaphore::new(config.concurrency.into()),
                naming: config.naming,
                seal_keys: config.seal_keys,
            }),
            publisher: Publisher::start(
                PublisherSettings {
                    broker: config.broker.clone(),
                    name: "consumer (publishing)".to_owned(),
                    exchange: None,
                },
                readiness.clone(),
            ),
            queues: config.queues.clone(),
            patience: config.patience,
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_elasticsearch(elasticsearch, readiness.clone()));
        if let Some(server) = admin {
            let readiness = readiness.clone();
            tasks.spawn(async move {
                if let Err(error) = server.serve(readiness, metrics).await {
                    tracing::error!(%error, "health and metrics are not served any more");
                }
            });
        }
        let link = Link {
            broker: config.broker,
            queue: config.queues.jobs,
            prefetch: config.concurrency * WAITING,
            readiness,
            effects,
            stopping,
        };
        let mut consuming = tokio::spawn(link.keep_up());
        tokio::select! {
            // It never ends by itself but by a panic.
            ended = &mut consuming => return ended.context("the consumer ended"),
            signal = signal => signal.context("no signals can be received")?,
        }
        tracing::info!("shutting down: finishing what ends within {GRACE:?}");
        stop.send_replace(true);
        consuming.await.context("the consumer ended")
    }
}

/// The connection on which messages come, and what is done with it.
struct Link {
    broker: broker::Settings,
    queue: String,
    /// How many messages are held at the same time.
    prefetch: u16,
    readiness: Readiness,
    effects: Arc<Effects>,
    stopping: watch::Receiver<bool>,
}

impl Link {
    /// Connects, consumes, and connects again, until it is told to stop.
    async fn keep_up(mut self) {
        while !*self.stopping.borrow() {
            let (connection, channel, deliveries) = match self.open().await {
                Ok(opened) => opened,
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::warn!(error, "no messages can be taken");
                    self.readiness.is_down(QUEUE, error);
                    let jitter = rand::rng().random_range(0.25..1.0);
                    tokio::select! {
                        () = sleep(PAUSE.mul_f64(jitter)) => {}
                        _ = self.stopping.wait_for(|stop| *stop) => {}
                    }
                    continue;
                }
            };
            tracing::info!(queue = self.queue, "taking messages");
            self.readiness.is_up(QUEUE);
            self.consume(&channel, deliveries).await;
            self.readiness.is_down(QUEUE, "the connection was lost");
            // What is not acknowledged goes back to the queue with the connection.
            let _ = timeout(CLOSE, connection.close(200, "done".into())).await;
        }
    }

    async fn open(&self) -> Result<(Connection, Channel, lapin::Consumer)> {
        let connection = broker::connect(&self.broker, "consumer").await?;
        let open = async {
            let channel = connection.create_channel().await?;
            channel
                .basic_qos(self.prefetch, BasicQosOptions::default())
                .await?;
            let options = BasicConsumeOptions::default();
            let deliveries = channel
                .basic_consume(
                    self.queue.as_str().into(),
                    "joblogs".into(),
                    options,
                    FieldTable::default(),
                )
                .await?;
            Ok::<_, lapin::Error>((channel, deliveries))
        };
        let (channel, deliveries) = timeout(OPEN, open)
            .await
            .with_context(|| format!("RabbitMQ opened no channel within {OPEN:?}"))?
            .with_context(|| {
                format!(
                    "the queue {} can't be consumed from (has initmq run?)",
                    self.queue
                )
            })?;
        Ok((connection, channel, deliveries))
    }

    /// Works on deliveries, at most as many at a time as were asked for, until the channel closes or
    /// it is told to stop; then those end within the grace, or are ended.
    async fn consume(&mut self, channel: &Channel, mut deliveries: lapin::Consumer) {
        let mut jobs = JoinSet::new();
        loop {
            gauge!("joblogs_jobs_in_progress").set(u32::try_from(jobs.len()).unwrap_or(u32::MAX));
            tokio::select! {
                Some(_) = jobs.join_next() => {}
                delivery = deliveries.next() => match delivery {
                    Some(Ok(delivery)) => {
                        let effects = self.effects.clone();
                        jobs.spawn(async move { effects.handle(delivery).await });
                    }
                    Some(Err(error)) => {
                        // The broker has these messages again: going on with them would be twice the work.
                        tracing::warn!(%error, "lost the connection to RabbitMQ");
                        return;
                    }
                    None => {
                        tracing::warn!("RabbitMQ ended the subscription");
                        return;
                    }
                },
                _ = self.stopping.wait_for(|stop| *stop) => break,
            }
        }
        // From now on nothing new comes; what was sent already and not begun stays unacknowledged.
        let _ = timeout(
            CLOSE,
            channel.basic_cancel("joblogs".into(), BasicCancelOptions::default()),
        )
        .await;
        let ended = timeout(GRACE, async { while jobs.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::info!(
                jobs = jobs.len(),
                "handing back what did not end within the grace"
            );
        }
    }
}

async fn watch_elasticsearch(elasticsearch: Elasticsearch, readiness: Readiness) {
    loop {
        match elasticsearch.is_there().await {
            Ok(()) => readiness.is_up(ELASTICSEARCH),
            Err(error) => {
                tracing::warn!(%error, "Elasticsearch is not there");
                readiness.is_down(ELASTICSEARCH, error.to_string());
            }
        }
        sleep(LOOK).await;
    }
}
