//! A TCP proxy inside the test process, between a program and a server: what it cuts is an outage for that program
//! alone, and the other tests keep their server.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Ends with its handle.
pub(crate) struct Proxy {
    address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Proxy {
    /// Starts one before this port of the loopback interface.
    pub(crate) async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let (is_open, state) = watch::channel(true);
        tokio::spawn(accept(listener, port, state));
        Ok(Self { address, is_open })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Cuts all connections; whoever comes is cut at once.
    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    /// Lets them through again.
    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

async fn accept(listener: TcpListener, port: u16, mut state: watch::Receiver<bool>) {
    loop {
        let client = tokio::select! {
            client = listener.accept() => client,
            // The handle is gone.
            gone = closed(&mut state) => return gone,
        };
        let (Ok((mut client, _)), true) = (client, *state.borrow()) else {
            continue;
        };
        let mut state = state.clone();
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut server) => {}
                _ = state.wait_for(|is_open| !is_open) => {}
            }
        });
    }
}

async fn closed(state: &mut watch::Receiver<bool>) {
    while state.changed().await.is_ok() {}
}
