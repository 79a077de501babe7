//! RabbitMQ: flags, the topology, a supervised connection, and confirmed publishing.
//!
//! INVARIANT: [`topology`] alone names exchanges, queues and their arguments.

mod connection;
mod flags;
mod publisher;
pub mod topology;

pub use connection::{ConnectError, connect, connect_within};
pub use flags::{BrokerFlags, ConsumerBrokerFlags, Settings, Tls, TlsFlags, queues, short};
pub use publisher::{PublishError, Publisher, PublisherSettings};
