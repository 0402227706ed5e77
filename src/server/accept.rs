//! Admission: whether a connection that came in is served.
//!
//! Not here: accepting (`uring`), the permits of all cores (`shard/permits`). The driver keeps a reserve of slots,
//! because a kernel whose table is full accepts and closes by itself, without a word.
//! Invariant: refusing is a decision: it is taken here, counted by cause, and told to the peer; only what is served
//! takes part of what there may be, and gives it back once it is closed.

use std::net::{IpAddr, SocketAddr};

use super::connection::{Connection, Wire};
use super::core::Core;
use super::service::{Nanos, Service};
use super::settings::Settings;
use crate::ids::ConnectionId;
use crate::metrics::Refusal;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::shard::peers::{PeerLimits, Peers};
use crate::shard::permits::{Permits, Standing};
use crate::shard::rate::{Bucket, Rate};

/// When a connection that is refused may be tried again.
const RETRY_AFTER_MS: u32 = 1_000;

/// A core's rule for connections.
#[derive(Debug)]
pub struct Admission {
    max: usize,
    reserve: usize,
    permits: Permits,
    rate: Rate,
    bucket: Bucket,
    peers: Peers,
}

impl Admission {
    /// At most `max` connections are served, each with a permit; up to `reserve` more are told that there is no room.
    pub fn new(max: usize, reserve: usize, permits: Permits) -> Admission {
        let peers = Peers::new(PeerLimits::default());
        Admission { max, reserve, permits, rate: Rate::UNLIMITED, bucket: Bucket::default(), peers }
    }

    /// By what an operator chose.
    pub fn of(settings: &Settings, permits: Permits) -> Admission {
        let (rate, peers) = (settings.accepts, Peers::new(settings.peers));
        Admission { rate, peers, ..Admission::new(settings.connections_max, settings.connections_reserve, permits) }
    }

    /// Whether the connection that comes now and makes it `open` in all is served. Only one that is takes part of the
    /// rate, so that a flood of others does not keep everybody out.
    ///
    /// # Errors
    /// Why it is not.
    pub fn admit(
        &mut self,
        now: Nanos,
        open: usize,
        peer: Option<IpAddr>,
        draining: bool,
    ) -> Result<Standing, Refusal> {
        debug_assert!(open <= self.max + self.reserve, "the table has no more slots than that");
        if draining {
            return Err(Refusal::Draining);
        }
        if open > self.max {
            return Err(Refusal::TableFull);
        }
        if self.bucket.opens_at(&self.rate) > now {
            return Err(Refusal::AcceptRate);
        }
        if peer.is_some_and(|peer| !self.peers.may_come(peer)) {
            return Err(Refusal::PeerFull);
        }
        let standing = self.permits.take().ok_or(Refusal::ConnectionsFull)?;
        self.bucket.spend(now, &self.rate);
        if let Some(peer) = peer {
            self.peers.came(peer);
        }
        Ok(standing)
    }

    /// A connection that was served is closed.
    fn leave(&mut self, peer: Option<IpAddr>) {
        self.permits.give();
        if let Some(peer) = peer {
            self.peers.left(peer);
        }
    }

    /// Connections that are served.
    pub(super) fn served(&self) -> usize {
        self.permits.used()
    }

    /// Connections that are counted for their addresses.
    pub(super) fn counted_for_peers(&self) -> u64 {
        self.peers.counted()
    }

    /// Whether connections from an address are counted.
    pub(super) fn counts(&self, peer: SocketAddr) -> bool {
        self.peers.most(peer.ip()).is_some()
    }

    /// What somebody is told who is not served.
    fn refusal(&self, cause: Refusal) -> RpcError {
        let text = match cause {
            Refusal::ConnectionsFull => {
                let most = self.permits.hard().unwrap_or_default();
                format!("there may be {most} connections (limits.connections), and there are; try again shortly").into()
            }
            Refusal::AcceptRate => {
                "connections come faster than they may (limits.accepts_per_s); try again shortly".into()
            }
            Refusal::PeerFull => {
                "your address has as many connections as it may; close one, or try again shortly".into()
            }
            Refusal::Draining => "this process ends, and takes no new connections; try again shortly".into(),
            _ => std::borrow::Cow::Borrowed("no room for another connection; try again shortly"),
        };
        let data = format!(r#"{{"reason":"{}","retryAfterMs":{RETRY_AFTER_MS}}}"#, cause.label());
        // A limit of the peer's own is for the peer to keep.
        let code = if cause == Refusal::PeerFull { Code::RATE_LIMITED } else { Code::OVERLOADED };
        RpcError::new(code, text).with_data(data)
    }
}

impl<S: Service> Core<S> {
    pub(super) fn accepted(&mut self, id: ConnectionId, listener: usize, peer: Option<SocketAddr>) {
        let wire = self.settings.listeners.get(listener).copied().unwrap_or(Wire::Http);
        let slot = id.slot as usize;
        if slot >= self.connections.len() {
            self.connections.resize_with(slot + 1, || None);
        }
        let mut connection = Box::new(Connection::new(id, listener as u16, wire, peer, self.now));
        connection.filter = self.settings.filters.get(listener).and_then(|kind| kind.make());
        if !self.settings.first_view.is_empty() {
            connection.view = self.service.view(&self.settings.first_view).unwrap_or(connection.view);
        }
        self.open += 1;
        self.metrics.connections_accepted.add(1);
        self.metrics.connections_open.set(self.open as u64);
        self.about = Some(id);
        self.log_opened(&connection, peer);
        match self.admission.admit(self.now, self.open, peer.map(|peer| peer.ip()), self.drain.is_on()) {
            Ok(standing) => {
                connection.is_served = true;
                self.metrics.connections_served.add(1);
                self.metrics.connections_over_soft.add(u64::from(standing == Standing::BeyondSoft));
            }
            Err(cause) => {
                self.refused(cause);
                self.refuse_connection(&mut connection, &self.admission.refusal(cause));
            }
        }
        self.put(connection);
    }

    /// A connection is closed and has left the table.
    pub(super) fn has_left(&mut self, connection: &Connection) {
        self.open -= 1;
        self.metrics.connections_open.set(self.open as u64);
        if connection.is_served {
            self.admission.leave(connection.peer.map(|peer| peer.ip()));
            self.metrics.connections_served.sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;
    use crate::shard::permits::PermitPool;

    #[test]
    fn the_reserve_is_for_refusing() {
        let mut admission = Admission::new(2, 1, Permits::unlimited());
        assert_eq!(admission.admit(0, 2, None, false), Ok(Standing::Within));
        assert_eq!(admission.admit(0, 3, None, false), Err(Refusal::TableFull));
        assert_eq!(admission.admit(0, 1, None, true), Err(Refusal::Draining));
    }

    #[test]
    fn who_is_refused_takes_no_permit() {
        let pool: &PermitPool = Box::leak(Box::new(PermitPool::new(1, 1, Some(2))));
        let mut admission = Admission::new(8, 1, Permits::new(pool, CoreId(0)));
        assert_eq!(admission.admit(0, 1, None, true), Err(Refusal::Draining));
        assert_eq!(admission.admit(0, 9, None, false), Err(Refusal::TableFull));
        assert_eq!(admission.admit(0, 1, None, false), Ok(Standing::Within));
        assert_eq!(admission.admit(0, 2, None, false), Ok(Standing::BeyondSoft));
        assert_eq!(admission.admit(0, 3, None, false), Err(Refusal::ConnectionsFull));
        admission.leave(None);
        assert_eq!(
            admission.admit(0, 4, None, false),
            Ok(Standing::BeyondSoft),
            "whoever is being refused is not counted"
        );
        let told = admission.refusal(Refusal::ConnectionsFull);
        assert_eq!(told.data.as_deref(), Some(&br#"{"reason":"connections_full","retryAfterMs":1000}"#[..]));
        assert!(told.message.contains("may be 2 connections (limits.connections)"), "{}", told.message);
    }

    #[test]
    fn who_comes_too_fast_is_refused_and_takes_nothing_of_the_rate() {
        const SECOND: Nanos = 1_000_000_000;
        let pool: &PermitPool = Box::leak(Box::new(PermitPool::new(1, 100, Some(100))));
        let admission = Admission::new(200, 1, Permits::new(pool, CoreId(0)));
        let mut admission = Admission { rate: Rate::share(10, 4, 2), ..admission };
        let mut come = |now, count| {
            let outcomes: Vec<_> = (0..count).map(|_| admission.admit(now, 1, None, false)).collect();
            assert!(outcomes.iter().all(|outcome| !matches!(outcome, Err(cause) if *cause != Refusal::AcceptRate)));
            outcomes.iter().filter(|outcome| outcome.is_ok()).count()
        };
        assert_eq!(come(SECOND, 50), 2, "this core's half of the burst");
        assert_eq!(come(SECOND + SECOND / 5, 50), 1, "its half of ten a second");
        assert_eq!(come(2 * SECOND, 50), 2);
        assert_eq!(admission.served(), 5);
        // Nor does it take a permit.
        (0..5).for_each(|_| admission.leave(None));
        assert_eq!(admission.served(), 0);
    }

    #[test]
    fn one_address_does_not_take_all() {
        let peers = Peers::new(PeerLimits { elsewhere: Some(2), loopback: None });
        let mut admission = Admission { peers, ..Admission::new(20, 1, Permits::unlimited()) };
        let mut come = |peer: &str| admission.admit(0, 1, Some(peer.parse().expect("an address")), false);
        for peer in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert_eq!((come(peer), come(peer)), (Ok(Standing::Within), Ok(Standing::Within)));
            assert_eq!(come(peer), Err(Refusal::PeerFull));
        }
        (0..9).for_each(|_| assert_eq!(come("127.0.0.1"), Ok(Standing::Within), "this host has no limit"));
        admission.leave(Some("192.0.2.1".parse().expect("an address")));
        assert_eq!(admission.admit(0, 1, Some("192.0.2.1".parse().expect("an address")), false), Ok(Standing::Within));
        assert_eq!((admission.served(), admission.counted_for_peers()), (15, 6), "whoever was refused took nothing");
        assert_eq!(admission.refusal(Refusal::PeerFull).code, Code::RATE_LIMITED);
    }
}
