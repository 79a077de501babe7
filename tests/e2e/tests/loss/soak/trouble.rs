//! The faults of a soak: one after the other, on a link, a program or the broker, and calm in between.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use e2e::gitlab::Job;
use rand::Rng as _;
use rand::rngs::StdRng;
use reqwest::RequestBuilder;
use tokio::time::{Instant, sleep};

use crate::containers::Act;
use crate::length::is_full;
use crate::listener::Listener;
use crate::program::Program;
use crate::proxy::{Fault, Proxy, Side, Way};
use crate::world::World;

/// The links, and the places of some of them in this list.
const LINKS: [&str; 4] = [
    "listener-broker",
    "consumer-broker",
    "consumer-gitlab",
    "consumer-elasticsearch",
];
const LISTENER: usize = 0;
const CONSUMER: usize = 1;
const GITLAB: usize = 2;
const ELASTICSEARCH: usize = 3;

/// Milliseconds of calm between two faults, and of most faults.
const CALM: std::ops::Range<u64> = 500..5_000;
const LENGTH: std::ops::Range<u64> = 300..8_000;
/// Longer than it takes for a dead connection to be noticed.
const LONG: std::ops::Range<u64> = 15_000..35_000;
const CONSUMERS: usize = 2;

/// The links, the programs at their ends, and what has been done to them.
pub(super) struct Trouble<'a> {
    world: &'a World,
    rng: RefCell<StdRng>,
    /// As `LINKS` names them.
    links: Vec<Proxy>,
    listener: RefCell<Listener>,
    consumers: RefCell<Vec<Arc<Program>>>,
    counts: RefCell<BTreeMap<String, usize>>,
}

impl<'a> Trouble<'a> {
    /// Everything is up, each link over a proxy.
    pub(super) async fn start(world: &'a World) -> Result<Self> {
        let [to_broker, to_gitlab, to_elasticsearch] = [
            world.servers.rabbitmq.port,
            world.gitlab.address().port(),
            world.servers.elasticsearch_port,
        ];
        let mut links = Vec::new();
        for (name, port) in
            LINKS
                .into_iter()
                .zip([to_broker, to_broker, to_gitlab, to_elasticsearch])
        {
            links.push(world.proxy(name, port).await?);
        }
        // Its users reach GitLab over the proxy too: that is what the instance is called.
        let url = format!("http://127.0.0.1:{}/", links[GITLAB].port());
        world.gitlab.set_external_url(&url);
        let (program, address) = world
            .listener_starting(links[LISTENER].port(), &url)
            .await?;
        let trouble = Self {
            world,
            rng: RefCell::new(world.rng("trouble")),
            links,
            listener: RefCell::new(Listener::new(program, &format!("http://{address}/"))),
            consumers: RefCell::default(),
            counts: RefCell::default(),
        };
        for _ in 0..CONSUMERS {
            let consumer = trouble.start_consumer().await?;
            trouble.consumers.borrow_mut().push(consumer);
        }
        Ok(trouble)
    }

    /// A notice for the listener that runs now.
    pub(super) fn notice_of(&self, job: &Job) -> RequestBuilder {
        self.listener.borrow().notice_of(job, &self.world.token)
    }

    /// How many faults there were.
    pub(super) fn count(&self) -> usize {
        self.counts.borrow().values().sum()
    }

    pub(super) fn report(&self) -> String {
        let mut report = format!("{} faults:", self.count());
        for (what, count) in self.counts.borrow().iter() {
            let _ = write!(report, " {what} {count},");
        }
        report.pop();
        report
    }

    /// One fault after the other until then, each mended.
    pub(super) async fn until(&self, end: Instant) -> Result<()> {
        while Instant::now() < end {
            sleep(self.duration(CALM)).await;
            let kind = self.rng.borrow_mut().random_range(0..100);
            match kind {
                0..60 => self.link().await,
                60..72 => self.kill_consumer().await?,
                72..80 => self.kill_listener().await?,
                80..92 => self.stand_still().await?,
                _ if is_full() => self.broker().await?,
                _ => self.link().await,
            }
        }
        Ok(())
    }

    async fn link(&self) {
        let (link, fault, kind) = {
            let mut rng = self.rng.borrow_mut();
            let bytes = rng.random_range(2_000..200_000);
            let (fault, kind) = match rng.random_range(0..9) {
                0 => (Fault::Cut, "cut"),
                1 => (Fault::Reset, "reset"),
                2 => (Fault::Stall(Way::Both), "stalled"),
                3 => (Fault::Stall(Way::ToClient), "stalled one way"),
                4 => (
                    Fault::HalfOpen {
                        closed: Side::Server,
                    },
                    "half-open",
                ),
                5 => (
                    Fault::HalfOpen {
                        closed: Side::Client,
                    },
                    "half-open",
                ),
                6 => (Fault::Slow(bytes), "slow"),
                7 => (Fault::CutAfter(bytes), "cut in the middle"),
                _ => (Fault::ResetAfter(bytes), "reset in the middle"),
            };
            (rng.random_range(0..LINKS.len()), fault, kind)
        };
        self.count_one(&format!("{} {kind}", LINKS[link]));
        self.links[link].apply(fault);
        sleep(self.duration(LENGTH)).await;
        self.links[link].mend();
    }

    async fn kill_consumer(&self) -> Result<()> {
        let which = self.rng.borrow_mut().random_range(0..CONSUMERS);
        self.count_one("consumer killed");
        self.consumers.borrow()[which].kill()?;
        let consumer = self.start_consumer().await?;
        self.consumers.borrow_mut()[which] = consumer;
        Ok(())
    }

    async fn kill_listener(&self) -> Result<()> {
        self.count_one("listener killed");
        self.listener.borrow().program.kill()?;
        let url = self.world.gitlab.url();
        let port = self.links[LISTENER].port();
        let (program, address) = self.world.listener_starting(port, &url).await?;
        *self.listener.borrow_mut() = Listener::new(program, &format!("http://{address}/"));
        Ok(())
    }

    /// A program that stands still: in full, for longer than its connections are kept for it.
    async fn stand_still(&self) -> Result<()> {
        let which = self.rng.borrow_mut().random_range(0..=CONSUMERS);
        let program = match self.consumers.borrow().get(which) {
            Some(consumer) => consumer.clone(),
            None => self.listener.borrow().program.clone(),
        };
        self.count_one("program stood still");
        program.signal("STOP")?;
        let length = if is_full() { LONG } else { LENGTH };
        sleep(self.duration(length)).await;
        program.signal("CONT")
    }

    async fn broker(&self) -> Result<()> {
        let is_killed = self.rng.borrow_mut().random_bool(0.5);
        let (what, begin, end) = if is_killed {
            ("broker killed", Act::Kill, Act::Start)
        } else {
            ("broker stood still", Act::Pause, Act::Unpause)
        };
        self.count_one(what);
        self.world.broker(begin).await?;
        sleep(self.duration(LONG)).await;
        self.world.broker(end).await?;
        self.world.broker_serves().await
    }

    async fn start_consumer(&self) -> Result<Arc<Program>> {
        let port = |link: usize| self.links[link].port().to_string();
        let variables = [
            ("JOBLOGS_RMQ_PORT", port(CONSUMER)),
            ("JOBLOGS_ES_PORT", port(ELASTICSEARCH)),
        ];
        let url = self.world.gitlab.url();
        let (program, _) = self.world.consumer_starting(&url, &variables).await?;
        Ok(program)
    }

    fn count_one(&self, kind: &str) {
        *self.counts.borrow_mut().entry(kind.to_owned()).or_default() += 1;
    }

    fn duration(&self, milliseconds: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.borrow_mut().random_range(milliseconds))
    }
}
