//! How much a server may say that is no answer: whoever says more is read more slowly, so that its own connection slows
//! it down, and nobody else.
//!
//! Not here: what is said (`hear`). Invariant: however much a server tells and asks, this core hears no more of it than
//! [`SAID_PER_S`] a second, a burst, and for each connection what one turn brings every [`QUIET_MAX`]; answers that
//! stand behind it on the same connection wait with it.

use super::Gateway;
use super::server::Server;
use crate::ids::ConnectionId;
use crate::server::service::{Nanos, Service, Wish};
use crate::shard::rate::{Bucket, Rate};

/// Notifications and questions of one server that a core hears in a second: more than all callers of a good one want to
/// know of their progress, and less than a tenth of what a core could read.
const SAID_PER_S: u64 = 20_000;
/// Of these, at once.
const SAID_AT_ONCE: u64 = 2_000;
/// Longest time for which a connection is not read at once: others of the same server may have said nothing.
const QUIET_MAX: Nanos = 500_000_000;
/// How often it is logged of one server.
const LOGGED_EVERY: Nanos = 60_000_000_000;

fn rate() -> Rate {
    Rate::per_second(SAID_PER_S, SAID_AT_ONCE, 0)
}

/// What one server said that was no answer.
#[derive(Default)]
pub(super) struct Noise {
    pub bucket: Bucket,
    logged_at: Option<Nanos>,
}

impl Noise {
    /// One more message that is no answer.
    pub fn heard(&mut self, now: Nanos) {
        self.bucket.spend(now, &rate());
    }

    /// Until when it has said enough; nothing if it may say more now.
    fn enough_until(&self, now: Nanos) -> Option<Nanos> {
        Some(self.bucket.opens_at(&rate()).min(now + QUIET_MAX)).filter(|until| *until > now)
    }
}

/// Connections that are not read for a moment, and until when.
pub(super) type Quieted = Vec<(Nanos, ConnectionId)>;

impl Server {
    /// Logs that it says too much, once a minute at most.
    fn log_noise(&mut self, now: Nanos) {
        if self.noise.logged_at.is_none_or(|at| now.saturating_sub(at) >= LOGGED_EVERY) {
            self.noise.logged_at = Some(now);
            let server = &*self.settings.name;
            tracing::warn!(
                server,
                "it tells and asks more than {SAID_PER_S} times a second, so it is read more slowly"
            );
        }
    }
}

impl<S: Service> Gateway<S> {
    /// Stops reading a connection for a moment if what came on it was too much; `before` is what the server had said
    /// until then.
    pub(super) fn quiet(&mut self, now: Nanos, index: u16, id: ConnectionId, before: Bucket) {
        let Some(server) = self.servers.get_mut(usize::from(index)) else { return };
        let Some(until) = server.noise.enough_until(now).filter(|_| server.noise.bucket != before) else { return };
        server.log_noise(now);
        // What comes on a connection within one turn comes in several pieces.
        match self.quieted.iter_mut().find(|(_, other)| *other == id) {
            Some((known, _)) => *known = until,
            None => {
                self.quieted.push((until, id));
                self.post.borrow_mut().push(Wish::Read(id, false));
            }
        }
    }

    /// Reads connections again whose moment is over.
    pub(super) fn hear_again(&mut self, now: Nanos) {
        let over = self.quieted.extract_if(.., |(until, _)| *until <= now);
        // Those that have gone meanwhile, and whoever has their place now, are no business of this.
        self.post.borrow_mut().extend(over.map(|(_, id)| Wish::Read(id, true)));
    }
}
