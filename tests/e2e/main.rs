//! The whole way, on real servers: the real programs, RabbitMQ and Elasticsearch (or OpenSearch) in containers, and the
//! simulated GitLab, which is the oracle. Each test has a virtual host, an index and a GitLab of its own; its name is a promise.
//! `make e2e` builds and fetches what is needed; `cargo test -p e2e --test e2e -- NAME` runs some of it.

mod broker;
mod cast;
mod chronicle;
mod consumer;
mod containers;
mod engine;
mod hook;
mod interrupt;
mod length;
mod line;
mod listener;
mod memory;
mod middleman;
mod oracle;
mod plot;
mod program;
mod proxy;
mod queue;
mod seed;
mod servers;
mod tests;
mod tls;
mod world;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use anyhow::{Context as _, Result, anyhow};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::containers::Act;
use crate::engine::Engine;
use crate::length::longest;
use crate::seed::{SEED, seed};
use crate::servers::{STRAINED, Servers};
use crate::tests::{Kind, Test};
use crate::world::World;

/// How many tests run at once, unless `--test-threads` says otherwise: the servers are shared, some tests start their
/// own, and deadlines must hold on two cores.
const AT_ONCE: usize = 2;

/// What all tests of a run share; the servers are there once it is known that a test will run.
struct Run {
    runtime: Runtime,
    servers: OnceLock<Arc<Servers>>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let engine = match Engine::of_this_run() {
        Ok(engine) => engine,
        Err(error) => return fail(&error),
    };
    let run = Arc::new(Run {
        runtime: Runtime::new().expect("the system has threads"),
        servers: OnceLock::new(),
    });
    let trials: Vec<Trial> = tests::ALL
        .iter()
        .map(|test| trial(&run, engine, test))
        .collect();
    let some_will_run = trials.iter().any(|trial| !arguments.is_filtered_out(trial));
    if arguments.list || !some_will_run {
        return libtest_mimic::run(&arguments, trials).exit_code();
    }
    run.runtime.spawn(interrupt::clean_up());
    match run.runtime.block_on(Servers::start(engine)) {
        Ok(servers) => run.servers.get_or_init(|| Arc::new(servers)),
        Err(error) => return fail(&error),
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(error) = run.runtime.block_on(containers::remove_own()) {
        return fail(&error);
    }
    conclusion.exit_code()
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("e2e: {error:#}");
    ExitCode::FAILURE
}

/// What the engine can't run is listed as ignored, with the reason.
fn trial(run: &Arc<Run>, engine: Engine, test: &'static Test) -> Trial {
    let run = run.clone();
    let trial = Trial::test(test.name, move || {
        let outcome = run.runtime.block_on(play(&run, test));
        outcome.map_err(|error| Failed::from(format!("{error:#}")))
    });
    let lacks = test.needs.iter().find_map(|need| engine.lacks(*need));
    match lacks {
        Some(why) => trial.with_kind(why).with_ignored_flag(true),
        None => trial,
    }
}

async fn play(run: &Run, test: &Test) -> Result<()> {
    let servers = run.servers.get().context("tests run on servers")?;
    let servers = match test.kind {
        Kind::Shared => servers.clone(),
        Kind::Own => Arc::new(servers.with_own_broker().await?),
        Kind::OwnElasticsearch => Arc::new(servers.with_own_elasticsearch(&STRAINED).await?),
    };
    let world = World::new(servers, test.name.replace(['_', ':'], "-")).await?;
    let whole = async {
        (test.play)(&world).await?;
        world.end().await
    };
    let longest = longest();
    let outcome = timeout(longest, whole).await;
    // The next tests need what it takes; what fails here the end of the run does once more.
    let _ = match test.kind {
        Kind::Shared => Ok(()),
        Kind::Own => world.servers.rabbitmq.act(Act::Kill).await,
        Kind::OwnElasticsearch => world.servers.act_on_elasticsearch(Act::Kill).await,
    };
    let outcome = outcome.unwrap_or_else(|_| Err(anyhow!("not over within {longest:?}")));
    outcome.map_err(|error| {
        let seed = format!("{SEED}={}", seed());
        let (done, words) = (&world.chronicle, world.last_words());
        anyhow!("{error:#}\n{seed}\n{done}{words}")
    })
}
