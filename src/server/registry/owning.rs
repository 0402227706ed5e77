//! A member's side as the owner of shards: what it does when asked, and whom it tells.
//!
//! Not here: asking (`member`). Invariant: a change is said to every live core before its answer is said to anybody.

use super::inbox::{Message, Shards};
use super::item::{Item, Query, RECEIVER_BYTES, Reply, Writer};
use super::member::{APPLY_TIME, Member, Origin, Pending};
use super::peers::bit;
use crate::ids::{CoreId, ShardId};
use crate::shard::registry::{Delta, Key, Kind, Nanos, Owner, Refusal, Registration, RegistryShard, Tie};

/// Bytes of names that go into one item.
const NAMES_BYTES: usize = 256 * 1024;

impl Member {
    /// Does what was asked for at `since`, and answers or remembers to. `key` is of the name whose shard it is about.
    pub(super) fn serve(&mut self, now: Nanos, origin: Origin, since: Nanos, key: Key, op: Query<'_>) {
        match op {
            Query::Register { kind, owner, name, server, config } => {
                let done = self.register(Registration { kind, key, name, config, owner }, server);
                self.wrote(now, origin, since, key, done);
            }
            Query::Unregister { kind, .. } => {
                let done = self.change(key, |shard, mut tell| shard.unregister(kind, key, &mut tell));
                if done.is_ok() && kind == Kind::Server {
                    self.drop_server(key);
                }
                self.wrote(now, origin, since, key, done);
            }
            Query::Bind { server, .. } => {
                let done = self.bind(key, server);
                self.wrote(now, origin, since, key, done);
            }
            Query::Unbind { .. } => {
                let done = self.change(key, |shard, mut tell| shard.unbind(key, &mut tell));
                self.wrote(now, origin, since, key, done);
            }
            Query::Broadcast { server, message } => self.broadcast(origin, server, message),
            Query::Find { kind, .. } => {
                let found = self.own(key).and_then(|shard| shard.find(key));
                let found = found.map(|entry| (entry.owner(), entry.config().to_vec()));
                match found {
                    Some((owner, config)) => self.reply(origin, &Reply::Entry { owner, config: &config }),
                    None => self.reply(origin, &Reply::Refused(Refusal::Unknown(kind))),
                }
            }
            Query::List { kind } => self.list(origin, kind),
            Query::Reset => {
                let cleared = self.shards.iter_mut().filter_map(|shard| shard.reset_stats().then_some(())).count();
                if cleared > 0 {
                    self.count_alarms(now);
                }
                self.reply(origin, &Reply::Done { applied: true });
            }
            Query::Route { kind, from, message, .. } => self.pass_on(origin, kind, key, from, message),
            Query::ServerOf { .. } => {
                let Some(shard) = self.own(key) else { return };
                let name = shard.server_of(key).map(|(_, name)| name.to_owned());
                let known = shard.find(key).is_some();
                match name {
                    Some(name) => self.reply(origin, &Reply::Name(&name)),
                    None if known => self.reply(origin, &Reply::Refused(Refusal::NotBound)),
                    None => self.reply(origin, &Reply::Refused(Refusal::Unknown(Kind::Transport))),
                }
            }
            Query::SetAdmission(admission) => {
                self.contention.set_admission(admission);
                self.reply(origin, &Reply::Done { applied: true });
            }
            Query::Statistics { shard } => {
                let mut shards = Vec::new();
                let statistics = self.shards.iter().map(RegistryShard::statistics);
                for statistics in statistics.filter(|one| shard.0 == u16::MAX || one.shard == shard) {
                    Writer(&mut shards).statistics(&statistics);
                }
                self.reply(origin, &Reply::Statistics(&shards));
            }
            Query::Status => {
                let status = self.contention.status();
                let (closed, admission) = (status.admission_closed, status.admission);
                let (alarmed, shards) = (status.alarmed, status.shards);
                self.reply(origin, &Reply::Status { closed, admission, alarmed, shards });
            }
        }
    }

    /// Answers whoever asked.
    pub(super) fn reply(&mut self, origin: Origin, reply: &Reply<'_>) {
        self.reply_part(origin, false, reply);
    }

    /// The same, perhaps as a part of what another core was asked.
    pub(super) fn reply_part(&mut self, origin: Origin, part: bool, reply: &Reply<'_>) {
        if origin.core == self.id {
            self.waiting.answer(origin.ticket, bit(self.id), part, reply);
        } else if let Some(peer) = self.peers.get_mut(origin.core.index()) {
            peer.say(&Item::Answer { ticket: origin.ticket, part, reply: reply.clone() });
        }
    }

    /// Changes the shard of a key, and tells everybody.
    fn change<T>(
        &mut self,
        key: Key,
        act: impl FnOnce(&mut RegistryShard, &mut dyn FnMut(Delta)) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let id = key.shard(self.table.shards());
        let place = self.range.and_then(|range| range.place_of(id)).ok_or(Refusal::ShardUnknown)?;
        self.change_at(place, id, act)
    }

    fn change_at<T>(
        &mut self,
        place: usize,
        id: ShardId,
        act: impl FnOnce(&mut RegistryShard, &mut dyn FnMut(Delta)) -> T,
    ) -> T {
        let Self { shards, replica, peers, version, bound, .. } = self;
        act(&mut shards[place], &mut |delta| {
            *version += 1;
            if let Delta::Bound(Tie { transport, .. }) | Delta::Unbound(transport) = delta
                && let Some(before) = replica.server_of(transport)
            {
                bound.remove(before);
            }
            if let Delta::Bound(tie) = delta {
                bound.add(tie.server);
            }
            replica.apply(delta);
            peers.iter_mut().for_each(|peer| peer.tell(id, delta));
        })
    }

    fn own(&self, key: Key) -> Option<&RegistryShard> {
        let place = self.range?.place_of(key.shard(self.table.shards()))?;
        self.shards.get(place)
    }

    fn register(&mut self, new: Registration<'_>, server: &str) -> Result<(), Refusal> {
        self.admits()?;
        if !server.is_empty() {
            self.knows_server(server)?;
        }
        self.change(new.key, |shard, mut tell| shard.register(new, &mut tell))?;
        if !server.is_empty() {
            self.bind(new.key, server)?;
        }
        Ok(())
    }

    fn bind(&mut self, transport: Key, server: &str) -> Result<(), Refusal> {
        let key = self.knows_server(server)?;
        self.change(transport, |shard, mut tell| shard.bind(transport, key, server, &mut tell))
    }

    /// The key of a server that is registered somewhere. The replica knows of every server whose registration was
    /// answered.
    fn knows_server(&self, server: &str) -> Result<Key, Refusal> {
        let key = self.key(Kind::Server, server);
        self.replica.find(key).map(|_| key).ok_or(Refusal::Unknown(Kind::Server))
    }

    /// A write ended: it is timed, and answered once all live cores know. Whoever asked from a core hears of the change
    /// before the answer, on the same ring, so nobody waits for it.
    fn wrote(&mut self, now: Nanos, origin: Origin, since: Nanos, key: Key, done: Result<(), Refusal>) {
        self.note(now, since, key, done.is_ok());
        if let Err(refusal) = done {
            return self.reply(origin, &Reply::Refused(refusal));
        }
        let mut cores = self.live;
        if self.peers.get(origin.core.index()).is_some_and(|peer| peer.live && !peer.is_behind()) {
            cores &= !bit(origin.core);
        }
        if cores == 0 {
            return self.reply(origin, &Reply::Done { applied: true });
        }
        self.pending.push_back(Pending { version: self.version, cores, origin, deadline: now + APPLY_TIME });
    }

    /// A registration was refused before it came here.
    pub(super) fn note_refused(&mut self, now: Nanos, key: Key) {
        self.note(now, now, key, false);
    }

    fn note(&mut self, now: Nanos, since: Nanos, key: Key, done: bool) {
        let place = self.range.and_then(|range| range.place_of(key.shard(self.table.shards())));
        let limit = self.limit;
        let shard = place.and_then(|place| self.shards.get_mut(place));
        if shard.is_some_and(|shard| shard.note_write(since, now, limit, done)) {
            self.count_alarms(now);
        }
    }

    /// Answers the writes that all live cores have applied, and those that have waited long enough.
    pub(super) fn conclude(&mut self, now: Nanos) {
        while let Some(pending) = self.pending.front() {
            let mut missing = pending.cores & self.live;
            for (index, peer) in self.peers.iter().enumerate() {
                if peer.applied >= pending.version {
                    missing &= !bit(CoreId(index as u16));
                }
            }
            let applied = missing == 0;
            if !applied && now < pending.deadline {
                return;
            }
            let origin = pending.origin;
            self.pending.pop_front();
            self.reply(origin, &Reply::Done { applied });
        }
    }

    /// Owners are gone: so is what they registered in these shards, and what was bound to it.
    pub(super) fn drop_owners(&mut self, owners: std::ops::RangeInclusive<Owner>, within: Shards) {
        let mut servers = Vec::new();
        let shards = self.range.into_iter().flat_map(|range| range.iter().enumerate());
        for (place, id) in shards.filter(|(_, id)| within.may_hold(*id)) {
            servers.extend(self.change_at(place, id, |shard, mut tell| shard.drop_owners(owners.clone(), &mut tell)));
        }
        servers.into_iter().for_each(|server| self.drop_server(server));
    }

    /// A server is gone, wherever it lived: the transports here that were bound to it are so no more.
    pub(super) fn drop_server(&mut self, server: Key) {
        if !self.bound.contains(server) {
            return;
        }
        for (place, id) in self.range.into_iter().flat_map(|range| range.iter().enumerate()) {
            self.change_at(place, id, |shard, mut tell| shard.drop_server(server, &mut tell));
        }
    }

    /// An alarm rose or cleared: everybody counts anew.
    fn count_alarms(&mut self, now: Nanos) {
        let alarmed = self.shards.iter().filter(|shard| shard.is_alarmed()).count() as u16;
        if self.contention.alarmed_of(self.id) != alarmed {
            self.contention.set_alarmed(self.id, alarmed);
            self.peers.iter_mut().filter(|peer| peer.live).for_each(|peer| peer.say(&Item::Alarmed(alarmed)));
        }
        self.look_again(if alarmed > 0 { now + RegistryShard::TICK } else { Nanos::MAX });
    }

    /// Looks whether alarms have cleared by themselves.
    pub(super) fn look(&mut self, now: Nanos) {
        let limit = self.limit;
        self.shards.iter_mut().filter(|shard| shard.is_alarmed()).for_each(|shard| {
            shard.tick(now, limit);
        });
        self.count_alarms(now);
    }

    fn list(&mut self, origin: Origin, kind: Kind) {
        let mut parts = vec![Vec::new()];
        let entries = self.shards.iter().flat_map(RegistryShard::entries);
        for name in entries.filter(|entry| entry.kind() == kind).map(|entry| entry.name()) {
            if let Some(part) = parts.last_mut() {
                Writer(part).name(name);
                if part.len() >= NAMES_BYTES {
                    parts.push(Vec::new());
                }
            }
        }
        let last = parts.len() - 1;
        for (index, names) in parts.iter().enumerate() {
            self.reply(origin, &Reply::Names { more: index < last, names });
        }
    }

    /// Hands a message to the owner of something of these shards, on behalf of a port that has no replica.
    fn pass_on(&mut self, origin: Origin, kind: Kind, key: Key, from: &str, message: &[u8]) {
        let Some(to) = self.replica.find(key) else {
            return self.reply(origin, &Reply::Refused(Refusal::Unknown(kind)));
        };
        if to.core == self.id {
            let told = self.inboxes.deliver(to, Message::new(kind, key, from, message));
            let told = told.map(|()| Reply::Delivered { told: 1, refused: 0, forwarded: 0 });
            return self.reply(origin, &told.unwrap_or_else(Reply::Refused));
        }
        let Origin { core, ticket } = origin;
        if let Some(peer) = self.peers.get_mut(to.core.index()) {
            peer.say(&Item::Deliver { origin: core, ticket, to, kind, key, from, message });
        }
        self.reply(origin, &Reply::Delivered { told: 0, refused: 0, forwarded: 1 });
    }

    /// Tells the owners of the transports of these shards that are bound to a server; each core hears the message once.
    fn broadcast(&mut self, origin: Origin, server: &str, message: &[u8]) {
        let key = match self.knows_server(server) {
            Ok(key) => key,
            Err(refusal) => return self.reply(origin, &Reply::Refused(refusal)),
        };
        let mut receivers: Vec<Vec<u8>> = vec![Vec::new(); self.peers.len()];
        let mut here = Vec::new();
        for (transport, owner) in self.shards.iter().flat_map(|shard| shard.bound_to(key)) {
            if owner.core == self.id {
                here.push((transport, owner));
            } else if let Some(list) = receivers.get_mut(owner.core.index()) {
                Writer(list).receiver(transport, owner);
            }
        }
        let Origin { core, ticket } = origin;
        let (mut forwarded, mut out_of_reach) = (0, 0);
        for (peer, receivers) in self.peers.iter_mut().zip(&receivers) {
            debug_assert!(receivers.len() % RECEIVER_BYTES == 0, "receivers are written whole");
            // What is broadcast to a core that takes nothing would gather without an end.
            if peer.is_jammed() {
                out_of_reach += (receivers.len() / RECEIVER_BYTES) as u32;
            } else if !receivers.is_empty() {
                peer.say(&Item::DeliverMany { origin: core, ticket, from: server, message, receivers });
                forwarded += 1;
            }
        }
        self.undelivered += u64::from(out_of_reach);
        let (told, refused) = self.deliver_many(server, message, here.into_iter());
        self.reply(origin, &Reply::Delivered { told, refused: refused + out_of_reach, forwarded });
    }

    /// Lays one message into many inboxes of this core; how many took it, and how many did not.
    pub(super) fn deliver_many(
        &mut self,
        from: &str,
        message: &[u8],
        receivers: impl Iterator<Item = (Key, Owner)>,
    ) -> (u32, u32) {
        let original = Message::new(Kind::Transport, Key::LEAST, from, message);
        let (mut told, mut refused) = (0, 0);
        for (transport, owner) in receivers {
            match self.inboxes.deliver(owner, original.copy_for(transport)) {
                Ok(()) => told += 1,
                Err(_) => refused += 1,
            }
        }
        self.undelivered += u64::from(refused);
        (told, refused)
    }
}
