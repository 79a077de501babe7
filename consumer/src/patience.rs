//! How long, and how often, one thing is tried at Elasticsearch before its message goes back to wait
//! in the broker.

use std::time::Duration;

use rand::Rng;
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    circuit::{Circuit, Pass},
    elasticsearch::ElasticsearchError,
};

/// Waits between attempts: up to this at first, doubling up to the longest, with full jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so long in vain the message goes back to wait in the broker: well below the half an hour
/// after which RabbitMQ takes it away.
const PATIENCE: Duration = Duration::from_mins(10);

/// The patience with one request. It begins anew whenever something of it was taken.
pub(crate) struct Patience {
    circuit: Circuit,
    longest: Duration,
    end: Instant,
}

impl Patience {
    /// All of it.
    pub(crate) fn new(circuit: &Circuit) -> Self {
        Self {
            circuit: circuit.clone(),
            longest: FIRST_PAUSE,
            end: Instant::now() + PATIENCE,
        }
    }

    /// Leave to ask, as soon as the circuit gives it.
    pub(crate) async fn pass(&self) -> Result<Pass, ElasticsearchError> {
        let pass = timeout_at(self.end, self.circuit.pass()).await;
        pass.map_err(|_| {
            let why = self.circuit.why();
            ElasticsearchError::unavailable(why.unwrap_or_else(|| "no reason is known".to_owned()))
        })
    }

    /// Waits before the next attempt, or gives the error back when patience is over.
    pub(crate) async fn after(
        &mut self,
        error: ElasticsearchError,
    ) -> Result<(), ElasticsearchError> {
        if Instant::now() >= self.end {
            return Err(error);
        }
        match &error {
            ElasticsearchError::Refused { .. } => {
                tracing::warn!(%error, "refused, and tried again");
            }
            error => tracing::debug!(%error, "sending again"),
        }
        let pause = self.longest.mul_f64(rand::rng().random_range(0.0..1.0));
        self.longest = (self.longest * 2).min(LONGEST_PAUSE);
        sleep(pause).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use service::admin::Readiness;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_ends_and_says_why() {
        let circuit = Circuit::new("x", "x", Readiness::default());
        let before = Instant::now();
        let mut patience = Patience::new(&circuit);
        let down = || ElasticsearchError::unavailable("down");
        let end = loop {
            if let Err(error) = patience.after(down()).await {
                break error;
            }
        };
        assert_eq!(end, down());
        assert!(before.elapsed() >= PATIENCE && before.elapsed() <= PATIENCE + LONGEST_PAUSE);
        circuit.open("blocked");
        let _ahead = circuit.pass().await;
        let refused = Patience::new(&circuit).pass().await.unwrap_err();
        assert_eq!(refused, ElasticsearchError::unavailable("blocked"));
    }
}
