//! A TCP proxy inside the test process, between a program and a server: what it does is a fault for that program
//! alone, and the other tests keep their server.

mod connection;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use self::connection::carry;
use crate::chronicle::Chronicle;

/// What becomes of the connections while it lasts, of those that are there and of those that come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They are closed.
    Cut,
    /// They are reset.
    Reset,
    /// They stay, and nothing passes this way; what came meanwhile passes afterwards.
    Stall(Way),
    /// One end is closed, and nobody tells the other: that one stays open for as long as it likes, also when the fault
    /// is over, and never gets an answer.
    HalfOpen {
        /// Whose end is closed.
        closed: Side,
    },
    /// So many bytes a second pass each way of each.
    Slow(usize),
    /// Each is closed once so many bytes more have passed, in both ways together.
    CutAfter(usize),
    /// Each is reset once so many bytes more have passed, in both ways together.
    ResetAfter(usize),
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    ToServer,
    ToClient,
    Both,
}

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// A moment in which a connection is held: its client has sent this text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The text, and what the client sends after it, does not reach the server.
    Request(&'static str),
    /// The text reaches the server, and its answer does not reach the client.
    Answer(&'static str),
}

/// Ends with its handle, and its connections with it.
pub(crate) struct Proxy {
    address: SocketAddr,
    orders: Arc<Orders>,
    accepting: AbortHandle,
    /// What the link is called, and where faults are noted.
    chronicle: Option<(&'static str, Chronicle)>,
}

/// The fault of the moment, and how many there were before: the same one may be given again.
#[derive(Clone, Copy, Default)]
struct Given {
    now: Option<Fault>,
    number: usize,
}

/// What all connections go by.
struct Orders {
    fault: watch::Sender<Given>,
    hold: watch::Sender<Option<Hold>>,
    /// How many connections are held.
    held: watch::Sender<usize>,
    /// How many connections there have been.
    came: AtomicUsize,
}

impl Proxy {
    /// Starts one before this port of the loopback interface.
    pub(crate) async fn start(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("a port for the proxy")?;
        let address = listener.local_addr()?;
        let orders = Arc::new(Orders {
            fault: watch::Sender::default(),
            hold: watch::Sender::default(),
            held: watch::Sender::default(),
            came: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, port, orders.clone()));
        Ok(Self {
            address,
            orders,
            accepting: accepting.abort_handle(),
            chronicle: None,
        })
    }

    /// From now on what it does is noted, under the name of its link.
    pub(crate) fn noted(mut self, link: &'static str, chronicle: &Chronicle) -> Self {
        self.chronicle = Some((link, chronicle.clone()));
        self
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// How often somebody has come, those who were closed at once among them.
    pub(crate) fn connections(&self) -> usize {
        self.orders.came.load(Ordering::Relaxed)
    }

    /// Begins a fault; it takes the place of the one that there is.
    pub(crate) fn apply(&self, fault: Fault) {
        self.note(format!("{fault:?}"));
        self.give(Some(fault));
    }

    fn give(&self, now: Option<Fault>) {
        self.orders.fault.send_modify(|given| {
            *given = Given {
                now,
                number: given.number + 1,
            };
        });
    }

    /// Closes all connections; whoever comes is closed at once.
    pub(crate) fn cut(&self) {
        self.apply(Fault::Cut);
    }

    /// Ends the fault.
    pub(crate) fn mend(&self) {
        self.note("mended".into());
        self.give(None);
    }

    /// From now on each connection is held when this moment comes.
    pub(crate) fn hold(&self, hold: Hold) {
        self.note(format!("is to hold {hold:?}"));
        self.orders.held.send_replace(0);
        self.orders.hold.send_replace(Some(hold));
    }

    /// How many connections the moment has come for.
    pub(crate) fn held(&self) -> usize {
        *self.orders.held.borrow()
    }

    /// Lets go on what is held.
    pub(crate) fn release(&self) {
        self.note("released".into());
        self.orders.hold.send_replace(None);
    }

    fn note(&self, what: String) {
        if let Some((link, chronicle)) = &self.chronicle {
            chronicle.note(format!("{link}: {what}"));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, port: u16, orders: Arc<Orders>) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = listener.accept().await;
        while connections.try_join_next().is_some() {}
        // What fails here is one client's connection, and it has its own report.
        if let Ok((client, _)) = accepted {
            orders.came.fetch_add(1, Ordering::Relaxed);
            connections.spawn(carry(client, port, orders.clone()));
        }
    }
}
