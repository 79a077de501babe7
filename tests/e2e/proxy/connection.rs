//! One connection through a proxy: its bytes both ways, as far and as fast as the orders of the moment let them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::sleep;

use super::{Fault, Given, Hold, Orders, Side, Way};

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// A slow connection is written to so many times a second.
const DRIPS: usize = 10;
const BETWEEN_DRIPS: Duration = Duration::from_millis(100);

/// How a connection ends.
#[derive(Clone, Copy)]
enum End {
    Closed,
    Reset,
    HalfOpen { closed: Side },
}

/// Carries what a client and the server at this port have to say to each other, until there is an end.
pub(super) async fn carry(mut client: TcpStream, port: u16, orders: Arc<Orders>) {
    let fault = orders.fault.borrow().now;
    if let Some(end @ (End::Closed | End::Reset)) = fault.and_then(end_by) {
        return close(end, [client]);
    }
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
        // A client that comes to a server that is not there is refused by its system.
        return close(End::Reset, [client]);
    };
    // What is small passes at once, as it would without us.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let connection = Connection {
        orders: &orders,
        passed: Mutex::default(),
        answers_held_by: watch::Sender::default(),
    };
    let end = tokio::select! {
        end = connection.pass(&mut client, &mut server) => end,
        end = connection.until_ended() => end,
    };
    match end {
        End::HalfOpen { closed } => {
            let (closed, open) = match closed {
                Side::Client => (client, server),
                Side::Server => (server, client),
            };
            drop(closed);
            swallow(open, &orders).await;
        }
        end => close(end, [client, server]),
    }
}

/// How a fault ends connections, if it does.
fn end_by(fault: Fault) -> Option<End> {
    match fault {
        Fault::Cut => Some(End::Closed),
        Fault::Reset => Some(End::Reset),
        Fault::HalfOpen { closed } => Some(End::HalfOpen { closed }),
        _ => None,
    }
}

fn close<const STREAMS: usize>(end: End, streams: [TcpStream; STREAMS]) {
    for stream in streams {
        if matches!(end, End::Reset) {
            // With it the system forgets what it still has to send, and says so: a reset.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Takes whatever comes and answers nothing, until the one who talks has had enough, or is cut.
async fn swallow(mut open: TcpStream, orders: &Orders) {
    let mut fault = orders.fault.subscribe();
    let is_cut = |fault: &Given| matches!(fault.now, Some(Fault::Cut | Fault::Reset));
    let nowhere = &mut io::sink();
    tokio::select! {
        _ = io::copy(&mut open, nowhere) => {}
        _ = fault.wait_for(is_cut) => {}
    }
}

struct Connection<'a> {
    orders: &'a Orders,
    /// Bytes that passed under one fault, and which of them it was.
    passed: Mutex<(usize, usize)>,
    /// The hold that keeps answers back, once its moment has come.
    answers_held_by: watch::Sender<Option<Hold>>,
}

impl Connection<'_> {
    /// Until both sides have said all, or one is gone.
    async fn pass(&self, client: &mut TcpStream, server: &mut TcpStream) -> End {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let both = tokio::try_join!(
            self.pump(from_client, to_server, Way::ToServer),
            self.pump(from_server, to_client, Way::ToClient),
        );
        both.err().unwrap_or(End::Closed)
    }

    /// Resolves when a fault ends the connection.
    async fn until_ended(&self) -> End {
        let mut fault = self.orders.fault.subscribe();
        loop {
            let now = fault.borrow_and_update().now;
            if let Some(end) = now.and_then(end_by) {
                return end;
            }
            if fault.changed().await.is_err() {
                return End::Closed;
            }
        }
    }

    async fn pump(
        &self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
        way: Way,
    ) -> Result<(), End> {
        let mut buffer = vec![0; PIECE];
        // The end of what passed, in which a text may begin.
        let mut before = Vec::new();
        loop {
            let size = from.read(&mut buffer).await.map_err(|_| End::Reset)?;
            let piece = &buffer[..size];
            match way {
                Way::ToServer => self.hold_request(&mut before, piece).await,
                _ => self.hold_answer().await,
            }
            if piece.is_empty() {
                self.passing(way).await;
                return to.shutdown().await.map_err(|_| End::Reset);
            }
            self.write(&mut to, piece, way).await?;
        }
    }

    /// Writes a piece as fast and as far as the fault of the moment allows.
    async fn write(&self, to: &mut WriteHalf<'_>, mut piece: &[u8], way: Way) -> Result<(), End> {
        while !piece.is_empty() {
            let given = self.passing(way).await;
            let passed = match *self.passed() {
                (number, passed) if number == given.number => passed,
                _ => 0,
            };
            let fault = given.now;
            // What was kept back until the end of the connection does not pass any more.
            if let Some(end) = fault.and_then(end_by) {
                return Err(end);
            }
            let (most, end) = match fault {
                Some(Fault::Slow(rate)) => ((rate / DRIPS).max(1), None),
                Some(Fault::CutAfter(bytes)) => (bytes.saturating_sub(passed), Some(End::Closed)),
                Some(Fault::ResetAfter(bytes)) => (bytes.saturating_sub(passed), Some(End::Reset)),
                _ => (piece.len(), None),
            };
            let (now, later) = piece.split_at(most.min(piece.len()));
            // Counted before it is written, so that the other way does not pass as much once more.
            let passed = passed + now.len();
            *self.passed() = (given.number, passed);
            to.write_all(now).await.map_err(|_| End::Reset)?;
            piece = later;
            match fault {
                Some(Fault::Slow(_)) => sleep(BETWEEN_DRIPS).await,
                Some(Fault::CutAfter(bytes) | Fault::ResetAfter(bytes)) if passed >= bytes => {
                    return end.map_or(Ok(()), Err);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn passed(&self) -> MutexGuard<'_, (usize, usize)> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while nothing passes this way, and says which fault there is then.
    async fn passing(&self, way: Way) -> Given {
        let passes = |fault: &Given| match fault.now {
            Some(Fault::Stall(stalled)) => stalled != Way::Both && stalled != way,
            _ => true,
        };
        let mut fault = self.orders.fault.subscribe();
        // The orders live as long as the connection.
        fault
            .wait_for(passes)
            .await
            .map(|fault| *fault)
            .unwrap_or_default()
    }

    /// Looks for the text of the hold that there is, and waits while it keeps the request back.
    async fn hold_request(&self, before: &mut Vec<u8>, piece: &[u8]) {
        let hold = *self.orders.hold.borrow();
        let Some(hold) = hold else {
            return before.clear();
        };
        let (Hold::Request(text) | Hold::Answer(text)) = hold;
        before.extend_from_slice(piece);
        let is_there = before
            .windows(text.len())
            .any(|window| window == text.as_bytes());
        before.drain(..before.len().saturating_sub(text.len() - 1));
        if !is_there {
            return;
        }
        before.clear();
        match hold {
            Hold::Request(_) => {
                self.is_held();
                self.released(hold).await;
            }
            Hold::Answer(_) => {
                self.answers_held_by.send_replace(Some(hold));
                self.is_held();
            }
        }
    }

    /// Waits while the answer is kept back.
    async fn hold_answer(&self) {
        let hold = *self.answers_held_by.borrow();
        if let Some(hold) = hold {
            self.released(hold).await;
            self.answers_held_by.send_replace(None);
        }
    }

    fn is_held(&self) {
        self.orders.held.send_modify(|held| *held += 1);
    }

    async fn released(&self, by: Hold) {
        let mut hold = self.orders.hold.subscribe();
        let _ = hold.wait_for(|hold| *hold != Some(by)).await;
    }
}
