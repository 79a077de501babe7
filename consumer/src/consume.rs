//! The consumer: connects, takes messages, works on a bounded number of them at a time, and ends
//! cleanly at a signal.

use std::{future::Future, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use broker::{Publisher, PublisherSettings};
use futures_util::{
    StreamExt,
    future::{join_all, select_all},
};
use lapin::{
    Channel, Connection,
    options::{BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
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
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    circuit::Circuit,
    context::{Context, Forge},
    delivery::Effects,
    elasticsearch::{Elasticsearch, ElasticsearchError},
    flags::{Admin, Config, Naming},
    places::Places,
    setup::is_done,
    sink::Budget,
};

/// After the signal, jobs that end within this are finished; the others go back to the broker.
const GRACE: Duration = Duration::from_secs(20);
/// Between attempts to connect: up to this, with jitter.
const PAUSE: Duration = Duration::from_secs(3);
/// How often Elasticsearch is asked whether it is there, and how often when it was not.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often a channel without a subscription is looked at.
const LOOK_AT_CHANNEL: Duration = Duration::from_millis(250);
/// So many messages are held for each trace that may be read: most of them wait for their job's end,
/// which costs next to nothing.
const WAITING: u16 = 8;
/// How long RabbitMQ may take over opening a channel.
const OPEN: Duration = Duration::from_secs(10);
/// How long it may take over ending a subscription, and over closing: with the grace, less than the
/// 30 s that compose waits.
const CLOSE: Duration = Duration::from_secs(3);

/// What readiness calls the link on which messages come.
pub(crate) const QUEUE: &str = "queue";
/// The subscription's consumer tag.
const TAG: &str = "joblogs";
const LOST: &str = "the connection to RabbitMQ was lost";

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
        let readiness = config.readiness;
        let elasticsearch = config.elasticsearch;
        let instance = config.gitlab.instance().clone();
        let demand = Demand {
            elasticsearch: elasticsearch.circuit().clone(),
            instances: vec![config.gitlab.circuit().clone()],
        };
        demand.start_counting();
        let concurrency = usize::from(config.concurrency);
        let effects = Arc::new(Effects {
            context: Arc::new(Context {
                instances: Instances::one(instance),
                forges: vec![Forge {
                    gitlab: config.gitlab,
                    token: config.gitlab_token,
                }],
                elasticsearch: elasticsearch.clone(),
                budget: Budget::for_traces(Places::total(concurrency)),
                places: Places::new(concurrency),
                naming: config.naming.clone(),
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
        tasks.spawn(watch_elasticsearch(elasticsearch, config.naming));
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
            demand,
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

/// Whether there is any sense in taking messages.
struct Demand {
    elasticsearch: Circuit,
    instances: Vec<Circuit>,
}

impl Demand {
    fn start_counting(&self) {
        for circuit in self.instances.iter().chain([&self.elasticsearch]) {
            circuit.start_counting();
        }
    }

    /// Resolves once Elasticsearch works and some GitLab may be asked.
    async fn is_there(&self) {
        loop {
            self.elasticsearch.closed().await;
            select_all(self.instances.iter().map(|it| Box::pin(it.ready()))).await;
            if self.is_there_now() {
                return;
            }
        }
    }

    /// Resolves once Elasticsearch does not work, or no GitLab may be asked for a while.
    async fn is_gone(&self) {
        while self.is_there_now() {
            tokio::select! {
                () = self.elasticsearch.opened() => {}
                _ = join_all(self.instances.iter().map(Circuit::resting)) => {}
            }
        }
    }

    fn is_there_now(&self) -> bool {
        let mut instances = self.instances.iter();
        self.elasticsearch.why().is_none() && instances.any(|it| it.rests().is_none())
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
    demand: Demand,
    stopping: watch::Receiver<bool>,
}

impl Link {
    /// Connects, consumes, and connects again, until it is told to stop.
    async fn keep_up(mut self) {
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
                    jobs.join_next().await;
                }
            };
            tokio::select! {
                () = is_wanted => {}
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
                Some(_) = jobs.join_next() => {}
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

/// Finds out when Elasticsearch goes and comes back, also while nobody works with it. After each absence
/// it may be another one, or one that was emptied: nothing is begun before it has been set up.
async fn watch_elasticsearch(elasticsearch: Elasticsearch, naming: Naming) {
    let circuit = elasticsearch.circuit();
    loop {
        let was_open = circuit.why().is_some();
        // Where it is known not to work, whoever has work for it may try first.
        if let Ok(pass) = circuit.try_pass() {
            let found = async {
                elasticsearch.is_there().await?;
                if was_open {
                    is_done(&elasticsearch, &naming).await?;
                }
                Ok::<(), ElasticsearchError>(())
            };
            match found.await {
                Ok(()) => pass.answered(),
                Err(error) => {
                    drop(pass);
                    circuit.open(&error.to_string());
                }
            }
        }
        sleep(if was_open { LOOK_AGAIN } else { LOOK }).await;
    }
}
