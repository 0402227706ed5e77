//! Admission: whether a connection that came in is served.
//!
//! Not here: accepting (`uring`), the permits of all cores (`shard/permits`). The driver keeps a reserve of slots,
//! because a kernel whose table is full accepts and closes by itself, without a word.
//! Invariant: refusing is a decision: it is taken here, counted by cause, and told to the peer; only what is served
//! takes part of what there may be, and gives it back once it is closed.

use std::net::SocketAddr;

use super::connection::{Connection, Wire};
use super::core::Core;
use super::service::{Nanos, Service};
use super::settings::Settings;
use crate::ids::ConnectionId;
use crate::metrics::Refusal;
use crate::proto::jsonrpc::{Code, RpcError};
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
}

impl Admission {
    /// At most `max` connections are served, each with a permit; up to `reserve` more are told that there is no room.
    pub fn new(max: usize, reserve: usize, permits: Permits) -> Admission {
        Admission { max, reserve, permits, rate: Rate::UNLIMITED, bucket: Bucket::default() }
    }

    /// By what an operator chose.
    pub fn of(settings: &Settings, permits: Permits) -> Admission {
        let rate = settings.accepts;
        Admission { rate, ..Admission::new(settings.connections_max, settings.connections_reserve, permits) }
    }

    /// Whether the connection that comes now and makes it `open` in all is served. Only one that is takes part of the
    /// rate, so that a flood of others does not keep everybody out.
    ///
    /// # Errors
    /// Why it is not.
    pub fn admit(&mut self, now: Nanos, open: usize, draining: bool) -> Result<Standing, Refusal> {
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
        let standing = self.permits.take().ok_or(Refusal::ConnectionsFull)?;
        self.bucket.spend(now, &self.rate);
        Ok(standing)
    }

    /// A connection that was served is closed.
    fn leave(&mut self) {
        self.permits.give();
    }

    /// Connections that are served.
    pub(super) fn served(&self) -> usize {
        self.permits.used()
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
            Refusal::Draining => "this process ends, and takes no new connections; try again shortly".into(),
            _ => std::borrow::Cow::Borrowed("no room for another connection; try again shortly"),
        };
        let data = format!(r#"{{"reason":"{}","retryAfterMs":{RETRY_AFTER_MS}}}"#, cause.label());
        RpcError::new(Code::OVERLOADED, text).with_data(data)
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
        match self.admission.admit(self.now, self.open, self.drain.is_on()) {
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
            self.admission.leave();
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
        assert_eq!(admission.admit(0, 2, false), Ok(Standing::Within));
        assert_eq!(admission.admit(0, 3, false), Err(Refusal::TableFull));
        assert_eq!(admission.admit(0, 1, true), Err(Refusal::Draining));
    }

    #[test]
    fn who_is_refused_takes_no_permit() {
        let pool: &PermitPool = Box::leak(Box::new(PermitPool::new(1, 1, Some(2))));
        let mut admission = Admission::new(8, 1, Permits::new(pool, CoreId(0)));
        assert_eq!(admission.admit(0, 1, true), Err(Refusal::Draining));
        assert_eq!(admission.admit(0, 9, false), Err(Refusal::TableFull));
        assert_eq!(admission.admit(0, 1, false), Ok(Standing::Within));
        assert_eq!(admission.admit(0, 2, false), Ok(Standing::BeyondSoft));
        assert_eq!(admission.admit(0, 3, false), Err(Refusal::ConnectionsFull));
        admission.leave();
        assert_eq!(admission.admit(0, 4, false), Ok(Standing::BeyondSoft), "whoever is being refused is not counted");
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
            let outcomes: Vec<_> = (0..count).map(|_| admission.admit(now, 1, false)).collect();
            assert!(outcomes.iter().all(|outcome| !matches!(outcome, Err(cause) if *cause != Refusal::AcceptRate)));
            outcomes.iter().filter(|outcome| outcome.is_ok()).count()
        };
        assert_eq!(come(SECOND, 50), 2, "this core's half of the burst");
        assert_eq!(come(SECOND + SECOND / 5, 50), 1, "its half of ten a second");
        assert_eq!(come(2 * SECOND, 50), 2);
        assert_eq!(admission.served(), 5);
        // Nor does it take a permit.
        (0..5).for_each(|_| admission.leave());
        assert_eq!(admission.served(), 0);
    }
}
