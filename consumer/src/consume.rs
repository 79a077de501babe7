//! The consumer: connects, takes messages, works on a bounded number of them at a time, and ends
//! cleanly at a signal.

use std::{future::Future, sync::Arc};

use anyhow::{Context as _, Result};
use broker::{Publisher, PublisherSettings};
use notice::Instances;
use service::{admin::AdminServer, metrics::Metrics};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    context::Context,
    delivery::Effects,
    demand::{Demand, watch_elasticsearch, watch_gitlab},
    flags::{Admin, Config},
    link::{GRACE, Link},
    places::Places,
    sink::Budget,
};

/// So many messages are held for each trace that may be read: most of them wait for their job's end,
/// which costs next to nothing.
const WAITING: u16 = 8;

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
        let gitlabs: Vec<_> = config.forges.iter().map(|it| it.gitlab.clone()).collect();
        let instances = gitlabs.iter().map(|it| it.instance().clone()).collect();
        let publisher = Publisher::start(
            PublisherSettings {
                broker: config.broker.clone(),
                name: "consumer (publishing)".to_owned(),
                exchange: None,
            },
            readiness.clone(),
        );
        let demand = Demand {
            elasticsearch: elasticsearch.circuit().clone(),
            instances: gitlabs.iter().map(|it| it.circuit().clone()).collect(),
            publisher: publisher.clone(),
        };
        demand.start_counting();
        let concurrency = usize::from(config.concurrency);
        let effects = Arc::new(Effects {
            context: Arc::new(Context {
                instances: Instances::new(instances),
                forges: config.forges,
                elasticsearch: elasticsearch.clone(),
                budget: Budget::for_traces(Places::total(concurrency)),
                places: Places::new(concurrency),
                naming: config.naming.clone(),
                rules: config.rules,
                novel_days: config.novel_days,
                seal_keys: config.seal_keys,
            }),
            publisher,
            queues: config.queues.clone(),
            patience: config.patience,
        });
        let (stop, stopping) = watch::channel(false);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch_elasticsearch(elasticsearch, config.naming));
        for gitlab in gitlabs {
            tasks.spawn(watch_gitlab(gitlab));
        }
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
