//! How many requests a second are looked at, of one address and of all. The others get 429 before anything
//! of them is read.

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

/// How often addresses are forgotten that have not come for a while.
const FORGET: Duration = Duration::from_secs(10);
/// Bits of an IPv6 address that tell one client from another: the rest is the client's own to choose.
const CLIENT_BITS: u32 = 64;

/// The limits; a clone is the same ones.
#[derive(Clone)]
pub(crate) struct Limits(Arc<Inner>);

struct Inner {
    all: Option<DefaultDirectRateLimiter>,
    client: Option<DefaultKeyedRateLimiter<IpAddr>>,
}

impl Limits {
    /// So many a second of all clients, and of each; 0: as many as come.
    pub(crate) fn new(all: u32, client: u32) -> Self {
        let quota = |rate| NonZeroU32::new(rate).map(Quota::per_second);
        Self(Arc::new(Inner {
            all: quota(all).map(RateLimiter::direct),
            client: quota(client).map(RateLimiter::keyed),
        }))
    }

    /// Whether a request of this address is looked at. The client's own limit comes first, so that one who
    /// comes too often takes nothing from the others.
    pub(crate) fn allow(&self, address: Option<IpAddr>) -> bool {
        let client = self.0.client.as_ref().zip(address);
        if client.is_some_and(|(limit, address)| limit.check_key(&client_of(address)).is_err()) {
            return false;
        }
        self.0
            .all
            .as_ref()
            .is_none_or(|limit| limit.check().is_ok())
    }

    /// Keeps what is remembered of clients small. It never ends.
    pub(crate) async fn keep_small(self) {
        let Some(limit) = &self.0.client else {
            return;
        };
        loop {
            tokio::time::sleep(FORGET).await;
            limit.retain_recent();
            limit.shrink_to_fit();
        }
    }
}

/// Who counts as one client.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = address.to_bits() & (u128::MAX << (Ipv6Addr::BITS - CLIENT_BITS));
            Ipv6Addr::from_bits(network).into()
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(limits: &Limits, address: &str, requests: u32) -> u32 {
        let address = Some(address.parse().unwrap());
        (0..requests)
            .map(|_| u32::from(limits.allow(address)))
            .sum()
    }

    #[test]
    fn one_client_takes_nothing_from_the_others() {
        let limits = Limits::new(100, 10);
        let flood = taken(&limits, "192.0.2.1", 10_000);
        assert!((10..100).contains(&flood), "{flood}");
        assert_eq!(taken(&limits, "192.0.2.2", 5), 5);
        // The addresses of one network are one client's.
        assert_eq!(taken(&limits, "2001:db8::1", 10), 10);
        assert!(taken(&limits, "2001:db8::2", 10) < 10);
        assert_eq!(taken(&limits, "2001:db8:0:1::2", 5), 5);
        assert!(taken(&limits, "::ffff:192.0.2.1", 10) < 10);
    }

    #[test]
    fn all_together_have_a_limit_and_none_means_none() {
        let limits = Limits::new(10, 0);
        assert!((10..100).contains(&taken(&limits, "192.0.2.1", 1_000)));
        assert_eq!(taken(&Limits::new(0, 0), "192.0.2.1", 10_000), 10_000);
    }
}
