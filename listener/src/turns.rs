//! Turns of bodies that are larger than a notice: so many are read at the same time. Whom a secret proves has turns of
//! its own; of the others no client has all.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::limits::client_of;

/// How long one waits for a turn.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1_500);

/// Turns for middle ones (4 to 64 KiB) and for large ones: of known senders, of all others, of each client of those.
/// Known senders' large ones may be four times as large.
const KNOWN: [usize; 2] = [128, 4];
const OTHERS: [usize; 2] = [128, 8];
const CLIENT: [usize; 2] = [16, 2];
/// So many clients are remembered before those without a body are forgotten.
const REMEMBERED: usize = 1_024;

/// Which turns a body needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Middle,
    Large,
}

/// One for all requests.
pub(crate) struct Turns {
    known: Arc<Kinds>,
    others: Arc<Kinds>,
    clients: Mutex<HashMap<IpAddr, Weak<Kinds>>>,
}

/// Turns of both sizes.
struct Kinds([Arc<Semaphore>; 2]);

/// The turns that one request may have; they are waited for from left to right.
pub(crate) struct Queue(Vec<Arc<Kinds>>);

/// A turn.
pub(crate) type Turn = Vec<OwnedSemaphorePermit>;

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            known: Kinds::new(KNOWN),
            others: Kinds::new(OTHERS),
            clients: Mutex::default(),
        }
    }

    /// Of a sender that a secret proves.
    pub(crate) fn of_known(&self) -> Queue {
        Queue(vec![self.known.clone()])
    }

    /// Of anybody else at this address.
    pub(crate) fn of_client(&self, address: Option<IpAddr>) -> Queue {
        let client = address.map(|address| {
            let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if clients.len() >= REMEMBERED {
                clients.retain(|_, kinds| kinds.strong_count() > 0);
            }
            let kinds = clients.entry(client_of(address)).or_default();
            kinds.upgrade().unwrap_or_else(|| {
                let fresh = Kinds::new(CLIENT);
                *kinds = Arc::downgrade(&fresh);
                fresh
            })
        });
        Queue(client.into_iter().chain([self.others.clone()]).collect())
    }
}

impl Kinds {
    fn new(counts: [usize; 2]) -> Arc<Self> {
        Arc::new(Self(counts.map(|count| Arc::new(Semaphore::new(count)))))
    }
}

impl Queue {
    /// A turn for a body of this size, unless it does not come in time.
    pub(crate) async fn turn(&self, size: Size) -> Option<Turn> {
        let all = async {
            let mut turn = Vec::new();
            for Kinds(kinds) in self.0.iter().map(Arc::as_ref) {
                let [middle, large] = kinds;
                let kind = match size {
                    Size::Middle => middle,
                    Size::Large => large,
                };
                turn.push(kind.clone().acquire_owned().await.ok()?);
            }
            Some(turn)
        };
        timeout(PATIENCE, all).await.ok()?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: [u8; 4] = [192, 0, 2, 1];

    fn of(turns: &Turns, address: [u8; 4]) -> Queue {
        turns.of_client(Some(address.into()))
    }

    #[tokio::test(start_paused = true)]
    async fn one_client_takes_no_turn_of_others_and_none_of_known_senders() {
        for (size, most) in [(Size::Middle, CLIENT[0]), (Size::Large, CLIENT[1])] {
            let turns = Turns::new();
            let mut held = Vec::new();
            for _ in 0..most {
                let queue = of(&turns, STRANGER);
                let turn = queue.turn(size).await.unwrap();
                held.push((queue, turn));
            }
            assert!(of(&turns, STRANGER).turn(size).await.is_none());
            assert!(of(&turns, [192, 0, 2, 2]).turn(size).await.is_some());
            assert!(turns.of_known().turn(size).await.is_some());
            held.pop();
            assert!(of(&turns, STRANGER).turn(size).await.is_some());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_clients_take_none_of_known_senders() {
        let turns = Turns::new();
        let mut held = Vec::new();
        for client in 0..200 {
            let queue = of(&turns, [192, 0, 2, client]);
            let turn = queue.turn(Size::Middle).await;
            held.push((queue, turn));
        }
        let given = held.iter().filter(|(_, turn)| turn.is_some()).count();
        assert_eq!(given, OTHERS[0]);
        assert!(turns.of_known().turn(Size::Middle).await.is_some());
    }

    #[test]
    fn clients_without_a_body_are_forgotten() {
        let turns = Turns::new();
        for client in 0..3 * REMEMBERED {
            let [.., high, low] = client.to_be_bytes();
            of(&turns, [10, 0, high, low]);
        }
        assert!(turns.clients.lock().unwrap().len() <= REMEMBERED + 1);
    }
}
