//! How many connections one address may have: nobody takes all of them, before anybody has asked who it is.

use std::{collections::HashMap, net::IpAddr, sync::Arc};

use parking_lot::Mutex;

use super::{config::HttpConfig, limits::network, proxies::Proxies};

/// Of all connections, one address may have so many parts of four.
const PARTS: usize = 3;

/// The connections by address. Clones share them.
#[derive(Clone)]
pub(super) struct Seats {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    proxies: Proxies,
}

/// One connection, until it is dropped.
pub(super) struct Seat {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Seats {
    /// Of a checked configuration.
    pub(super) fn new(n_connections: usize, config: &HttpConfig) -> Self {
        let proxies = Proxies::parse(&config.trusted_proxies).unwrap_or_default();
        Self { taken: Arc::default(), most: (n_connections * PARTS / 4).max(1), proxies }
    }

    /// One more of this peer; none where it has too many. Everybody may come through a proxy, and this machine is our own.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Seat> {
        let is_many = peer.to_canonical().is_loopback() || self.proxies.has(peer.to_canonical());
        let address = network(peer);
        let mut taken = self.taken.lock();
        let n_taken = taken.entry(address).or_default();
        if *n_taken >= self.most && !is_many {
            return None;
        }
        *n_taken += 1;
        Some(Seat { taken: Arc::clone(&self.taken), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        if let Some(n_taken) = taken.get_mut(&self.address) {
            *n_taken -= 1;
            if *n_taken == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all() {
        let config = HttpConfig { trusted_proxies: vec!["10.0.0.0/8".into()], ..HttpConfig::default() };
        let seats = Seats::new(8, &config);
        let take = |address: &str| seats.take(address.parse().expect("address"));
        let six: Vec<_> = (0..6).map(|n| take(&format!("2001:db8::{n}")).expect("a seat")).collect();
        assert!(take("2001:db8::9").is_none() && take("192.0.2.7").is_some());
        for many in ["127.0.0.1", "::1", "10.1.2.3", "::ffff:10.1.2.3"] {
            assert_eq!((0..20).filter_map(|_| take(many)).collect::<Vec<_>>().len(), 20, "{many}");
        }
        drop(six);
        assert!(take("2001:db8::9").is_some() && seats.taken.lock().is_empty());
    }
}
