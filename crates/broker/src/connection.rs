//! One connection to RabbitMQ, and waiting for a broker that is not there yet.

use std::{io, sync::atomic::Ordering, time::Duration};

use lapin::{
    Connection, ConnectionProperties,
    tcp::OwnedTLSConfig,
    uri::{AMQPAuthority, AMQPScheme, AMQPUri, AMQPUserInfo},
};
use rand::Rng;
use secrecy::ExposeSecret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::Settings;

/// How long one attempt to connect may take, handshake included.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Our messages have a few KiB, and lapin keeps room for 64 of the largest frames a connection: with RabbitMQ's 128 KiB
/// that would be 8 MiB each.
const LARGEST_FRAME: u32 = 16 * 1024;
/// With which a connection of AMQP 0-9-1 begins.
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Between attempts: a random wait up to this, so that a fleet doesn't come in step.
const PAUSE: Duration = Duration::from_secs(2);

/// Why there is no connection; the text names host, port and virtual host, never the password.
#[derive(Debug, thiserror::Error)]
#[error("RabbitMQ at {host}:{port} (virtual host {vhost}, user {user}) {what}")]
pub struct ConnectError {
    host: String,
    port: u16,
    vhost: String,
    user: String,
    what: String,
    /// The same for anybody who asks: it names nothing of the operator's.
    pub(crate) told: &'static str,
    /// Whether another attempt can't help: the broker is there and refuses us.
    pub is_refusal: bool,
}

/// Connects once, within 10 s.
pub async fn connect(settings: &Settings, name: &str) -> Result<Connection, ConnectError> {
    attempt(settings, name, ATTEMPT).await
}

async fn attempt(
    settings: &Settings,
    name: &str,
    deadline: Duration,
) -> Result<Connection, ConnectError> {
    let uri = AMQPUri {
        scheme: match settings.tls {
            Some(_) => AMQPScheme::AMQPS,
            None => AMQPScheme::AMQP,
        },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo {
                username: settings.user.clone(),
                password: settings.password.expose_secret().to_owned(),
            },
            host: settings.host.clone(),
            port: settings.port,
        },
        vhost: settings.vhost.clone(),
        query: lapin::uri::AMQPQueryString {
            heartbeat: Some(10),
            frame_max: Some(LARGEST_FRAME),
            ..Default::default()
        },
    };
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let failed = |what: String, told, is_refusal| ConnectError {
        host: settings.host.clone(),
        port: settings.port,
        vhost: settings.vhost.clone(),
        user: settings.user.clone(),
        what,
        told,
        is_refusal,
    };
    let attempt = async {
        if settings.is_silent.load(Ordering::Relaxed) {
            says_something(settings).await?;
        }
        let tls = OwnedTLSConfig {
            cert_chain: settings
                .tls
                .as_ref()
                .and_then(|tls| tls.authorities.clone()),
            ..Default::default()
        };
        let runtime = lapin::runtime::default_runtime()?;
        Connection::connect_uri_with_config(uri, properties, tls, runtime).await
    };
    let connection = timeout(deadline, attempt).await;
    let is_silent = connection.is_err();
    settings.is_silent.store(is_silent, Ordering::Relaxed);
    match connection {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => {
            let is_refusal = error.is_amqp_error();
            let what = if is_refusal {
                "refused us"
            } else {
                "can't be reached"
            };
            Err(failed(format!("{what}: {error}"), what, is_refusal))
        }
        Err(_) => {
            let what = format!("did not answer within {deadline:?}");
            Err(failed(what, "did not answer", false))
        }
    }
}

/// Resolves once the broker answers the beginning of a connection, which is closed then; one that wants TLS
/// closes it, which is an error and answers the question too. lapin keeps a
/// thread and its buffers for each connection that it has begun, until the other side closes it: of a
/// broker that stands still there would be more and more of them.
async fn says_something(settings: &Settings) -> io::Result<()> {
    let address = (settings.host.as_str(), settings.port);
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    stream.read_u8().await?;
    Ok(())
}

/// Connects, trying again for as long as `patience`; the error says for how long it tried.
/// A broker that refuses us ends it at once.
pub async fn connect_within(
    settings: &Settings,
    name: &str,
    patience: Duration,
) -> Result<Connection, ConnectError> {
    let end = Instant::now() + patience;
    loop {
        let mut error = match connect(settings, name).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        if error.is_refusal {
            return Err(error);
        }
        if Instant::now() >= end {
            error.what = format!("{} (tried for {patience:?})", error.what);
            return Err(error);
        }
        tracing::warn!(error = %error, "waiting for the broker");
        let jitter = rand::rng().random_range(0.25..1.0);
        sleep(PAUSE.mul_f64(jitter)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_broker_that_says_nothing_costs_one_thread() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = Settings {
            host: "127.0.0.1".to_owned(),
            port: silent.local_addr().unwrap().port(),
            vhost: "my_vhost".to_owned(),
            user: "guest".to_owned(),
            password: "guest".into(),
            tls: None,
            is_silent: Arc::default(),
        };
        let mut held = Vec::new();
        let mut threads = Vec::new();
        for _ in 0..4 {
            let attempt = attempt(&settings, "test", Duration::from_millis(300));
            let (outcome, accepted) = tokio::join!(attempt, silent.accept());
            assert!(outcome.is_err());
            held.push(accepted.unwrap());
            threads.push(std::fs::read_dir("/proc/self/task").unwrap().count());
        }
        assert_eq!(threads[1..], [threads[0]; 3], "one more for each attempt");
    }
}
