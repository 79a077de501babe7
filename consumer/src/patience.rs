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
/// After so long where it is refused and others are not: an operator has to do something, and room is
/// not to be kept from others.
const REFUSED: Duration = Duration::from_secs(10);

/// The patience with one request. It begins anew whenever something of it was taken.
pub(crate) struct Patience {
    circuit: Circuit,
    longest: Duration,
    begun: Instant,
}

impl Patience {
    /// All of it.
    pub(crate) fn new(circuit: &Circuit) -> Self {
        Self {
            circuit: circuit.clone(),
            longest: FIRST_PAUSE,
            begun: Instant::now(),
        }
    }

    /// Leave to ask, as soon as the circuit gives it.
    pub(crate) async fn pass(&self) -> Result<Pass, ElasticsearchError> {
        let pass = timeout_at(self.begun + PATIENCE, self.circuit.pass()).await;
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
        let is_refused = matches!(error, ElasticsearchError::Refused { .. });
        let patience = if is_refused { REFUSED } else { PATIENCE };
        if self.begun.elapsed() >= patience {
            return Err(error);
        }
        if is_refused {
            tracing::warn!(%error, "refused, and tried again");
        } else {
            tracing::debug!(%error, "sending again");
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
        let refused = Patience::new(&circuit).pass().await.unwrap_err();
        assert_eq!(refused, ElasticsearchError::unavailable("blocked"));

        let before = Instant::now();
        let mut patience = Patience::new(&circuit);
        let refused = || ElasticsearchError::Refused {
            status: 403,
            reason: "security_exception".to_owned(),
        };
        while patience.after(refused()).await.is_ok() {}
        assert!(before.elapsed() < PATIENCE / 10, "room is kept from others");
    }
}
