//! The listener: an HTTP server that takes a notice, checks it, and answers 2xx only when
//! RabbitMQ has confirmed the message. It never calls GitLab for a trace and never writes to
//! Elasticsearch.

mod accept;
mod api;
mod body;
mod bounds;
mod connections;
mod document;
mod flags;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod hooks;
mod identity;
mod intake;
mod kibana;
mod limits;
mod noted;
mod origins;
mod query;
mod refusal;
mod secrets;
mod server;
mod tls;
mod turns;
mod ways;
mod webhook;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context, Result};

pub use flags::{Cli, Command, Config, Flags};
pub use server::Listener;
pub use ways::Way;

/// Prints a fresh seal key: one line, base64 of 32 random bytes.
pub fn print_key() -> Result<()> {
    let key = notice::SealKeys::generate().context("the system gave no random bytes")?;
    println!("{key}");
    Ok(())
}

/// Asks the listener that is bound to this address of this host whether it is ready; for a container's healthcheck.
pub async fn healthcheck(bind: IpAddr, listen_port: u16, is_tls: bool) -> Result<()> {
    let host = match bind {
        IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        one => one,
    };
    let address = SocketAddr::new(host, listen_port);
    let scheme = if is_tls { "https" } else { "http" };
    service::admin::ask(&format!("{scheme}://{address}/health/ready")).await
}
