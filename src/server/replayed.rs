//! Replayed: what all sessions of a core together keep for clients that lost a connection.
//!
//! Not here: what one session keeps (`shard::replay`). Invariant: at most `sessions.replay_core_bytes` are kept; beyond
//! it the oldest event goes first, whosever it is.

use std::collections::VecDeque;

use super::core::Core;
use super::service::Service;
use crate::shard::replay::{Forgotten, Keeping};
use crate::shard::session::SessionKey;

/// Places in the order that may be of events which are not kept any more, beside as many as there are events.
const STALE_MAX: usize = 1024;

/// The events of all sessions, in the order in which they were kept.
#[derive(Default, Debug)]
pub(super) struct Replayed {
    /// Each event by its number in its session; it may have been forgotten there meanwhile.
    order: VecDeque<(SessionKey, u64)>,
    all: Forgotten,
}

impl<S: Service> Core<S> {
    /// A session has kept an event.
    pub(super) fn kept(&mut self, key: SessionKey, kept: Keeping) {
        self.gone(kept.forgotten);
        self.replayed.order.push_back((key, kept.ordinal));
        self.replayed.all.events += 1;
        self.replayed.all.cost += kept.cost;
        while self.replayed.all.cost > self.settings.replay_core_bytes {
            let Some((key, ordinal)) = self.replayed.order.pop_front() else { break };
            let cost = self.shards.find(key).and_then(|session| session.forget_event(ordinal));
            self.gone(cost.map_or_else(Forgotten::default, |cost| Forgotten { events: 1, cost }));
        }
        if self.replayed.order.len() > 2 * self.replayed.all.events + STALE_MAX {
            let shards = &mut self.shards;
            self.replayed.order.retain(|(key, ordinal)| shards.find(*key).is_some_and(|own| own.holds_event(*ordinal)));
        }
        self.metrics.replay_bytes.set(self.replayed.all.cost as u64);
    }

    /// Events are kept no longer.
    pub(super) fn gone(&mut self, forgotten: Forgotten) {
        self.replayed.all.events -= forgotten.events;
        self.replayed.all.cost -= forgotten.cost;
        self.metrics.replay_bytes.set(self.replayed.all.cost as u64);
    }
}
