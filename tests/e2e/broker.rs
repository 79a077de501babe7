//! A test's own broker as a container, and what a test does to it.

use std::time::Duration;

use anyhow::Result;

use crate::containers::Act;
use crate::world::World;

/// From a container's start until RabbitMQ serves, on a busy machine.
const SERVES: Duration = Duration::from_mins(2);

impl World {
    /// Does this to the broker, which must be this test's own.
    pub(crate) async fn broker(&self, act: Act) -> Result<()> {
        self.chronicle.note(format!("the broker: {act:?}"));
        self.servers.rabbitmq.act(act).await
    }

    /// Waits until the broker serves again.
    pub(crate) async fn broker_serves(&self) -> Result<()> {
        let rabbitmq = &self.servers.rabbitmq;
        self.until("RabbitMQ serves again", SERVES, async || {
            rabbitmq.serves().await
        })
        .await?;
        self.chronicle.note("the broker: serves");
        Ok(())
    }
}
