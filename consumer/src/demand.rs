//! Whether messages are wanted: they are left in the broker while nothing could be done with them.

use std::time::Duration;

use broker::Publisher;
use futures_util::future::{join_all, select_all};
use tokio::time::sleep;

use crate::{
    circuit::Circuit,
    elasticsearch::{Elasticsearch, ElasticsearchError},
    gitlab::Gitlab,
    indices::Naming,
    setup::is_done,
};

/// How often a server is asked whether it is there, and how often Elasticsearch when it was not.
const LOOK: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Whether there is any sense in taking messages.
pub(crate) struct Demand {
    /// Without it no message is wanted.
    pub(crate) elasticsearch: Circuit,
    /// Of these one is enough.
    pub(crate) instances: Vec<Circuit>,
    /// Most messages have to wait, and do that in the broker.
    pub(crate) publisher: Publisher,
}

impl Demand {
    /// Begins to count, which has to wait until metrics are counted.
    pub(crate) fn start_counting(&self) {
        for circuit in self.instances.iter().chain([&self.elasticsearch]) {
            circuit.start_counting();
        }
    }

    /// Resolves once Elasticsearch works, some GitLab may be asked, and the broker takes messages too.
    /// That it ceases to is no reason to stop: an alarm ends when queues get shorter.
    pub(crate) async fn is_there(&self) {
        loop {
            self.publisher.usable().await;
            self.elasticsearch.closed().await;
            select_all(self.instances.iter().map(|it| Box::pin(it.ready()))).await;
            if self.is_there_now() {
                return;
            }
        }
    }

    /// Resolves once Elasticsearch does not work, or no GitLab may be asked for a while.
    pub(crate) async fn is_gone(&self) {
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

/// Finds out when Elasticsearch goes and comes back, also while nobody works with it. After each absence
/// it may be another one, or one that was emptied: nothing is begun before it has been set up.
pub(crate) async fn watch_elasticsearch(elasticsearch: Elasticsearch, naming: Naming) {
    let circuit = elasticsearch.circuit();
    loop {
        let was_open = circuit.why().is_some();
        if let Ok(pass) = circuit.go_ahead() {
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
        tokio::select! {
            () = sleep(if was_open { LOOK_AGAIN } else { LOOK }) => {}
            () = circuit.opened(), if !was_open => {}
        }
    }
}

/// Finds out when a GitLab works again that nobody has work for: else readiness would name it until
/// there is some.
pub(crate) async fn watch_gitlab(gitlab: Gitlab) {
    let circuit = gitlab.circuit();
    loop {
        circuit.opened().await;
        circuit.ready().await;
        // Whoever has work for it goes first.
        sleep(LOOK).await;
        gitlab.look().await;
    }
}
