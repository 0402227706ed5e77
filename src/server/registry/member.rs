//! A member: what one port of the mesh does for the registry. A core's owns shards and keeps a replica of all others;
//! the control thread's only asks.
//!
//! | | asked where | done where | answered |
//! |---|---|---|---|
//! | look-up, local route | on a core | in its replica | at once |
//! | write, look into an entry | anywhere | at the shard's owner | once every live core applied it, or after 50 ms |
//! | list, statistics, reset, admission, broadcast | anywhere | at every core | when all have answered |
//!
//! Not here: rings, clocks, futures (`here`). What it has to say is taken by `flush`.
//! Invariant: whatever is asked is answered once: by the answer, a refusal, the death of the core asked, or the time.

use std::collections::VecDeque;
use std::task::Waker;

use super::inbox::{Inboxes, Message, Shards};
use super::item::{Item, Query, Reader, Reply};
use super::losses::Losses;
use super::peers::{Peer, bit};
use super::waiting::{Answer, Waiting};
use crate::ids::{CoreId, Ticket};
use crate::limits::{REGISTRY_CONFIG_BYTES_MAX, REGISTRY_NAME_BYTES_MAX};
use crate::server::outbox::Outbox;
use crate::shard::range::{BoundaryTable, ShardRange};
use crate::shard::registry::{
    BoundServers, Contention, ContentionStatus, Delta, Key, Kind, Names, Nanos, Owner, Refusal, RegistryShard, Replica,
};

/// How long a write waits for cores that have not applied it.
pub(super) const APPLY_TIME: Nanos = 50_000_000;
/// How long anything waits for an answer.
const ANSWER_TIME: Nanos = 2_000_000_000;
/// How long after the last word from or to another member a core goes on looking instead of going to sleep: about what
/// it costs to sleep and be woken (110 us measured on a virtual CPU), so never more than twice the best choice. What is
/// asked in a row finds both sides awake.
pub(super) const LINGER: Nanos = 100_000;
/// How often open tickets are looked through.
const SWEEP: Nanos = 100_000_000;

/// What a member is made of.
#[derive(Clone)]
pub struct Founding {
    /// The core; the number after the last core's for the control thread.
    pub id: CoreId,
    /// Which life of the core this is, from 1.
    pub life: u32,
    /// Which core owns which shard.
    pub table: BoundaryTable,
    /// Makes keys of names, the same on every core.
    pub names: Names,
    /// The mean write latency that alarms a shard.
    pub limit: Nanos,
}

/// What became of what was asked.
pub enum Asked {
    /// It is answered.
    Now(Result<Answer, Refusal>),
    /// The answer will come.
    Later(Ticket),
}

/// Who asked for a write.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    pub core: CoreId,
    pub ticket: Ticket,
}

/// A write that is done and that not every live core has applied yet.
pub(super) struct Pending {
    pub version: u64,
    /// Cores that are to apply it, as bits.
    pub cores: u64,
    pub origin: Origin,
    pub deadline: Nanos,
}

/// One port's part of the registry.
pub struct Member {
    pub(super) id: CoreId,
    pub(super) table: BoundaryTable,
    pub(super) names: Names,
    pub(super) limit: Nanos,
    /// Servers that transports of its shards are bound to.
    pub(super) bound: BoundServers,
    /// What it owns; nothing at the control thread's port.
    pub(super) range: Option<ShardRange>,
    pub(super) shards: Vec<RegistryShard>,
    pub(super) replica: Replica,
    pub(super) contention: Contention,
    pub(super) inboxes: Inboxes,
    pub(super) peers: Vec<Peer>,
    /// Cores that keep replicas which follow this one's shards, as bits.
    pub(super) live: u64,
    pub(super) waiting: Waiting,
    pub(super) pending: VecDeque<Pending>,
    /// Counts the changes of this core's shards.
    pub(super) version: u64,
    /// Of each core, the version of its shards that the replica is at.
    pub(super) known: Vec<u64>,
    /// Cores that have not told a later life of this core all they have.
    unwelcomed: u64,
    next_look: Nanos,
    next_sweep: Nanos,
    awake_until: Nanos,
    pub(super) undelivered: u64,
    pub(super) losses: Losses,
    census: Census,
}

/// What an operator is shown of one core.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Census {
    /// Entries its replica knows.
    pub known: u64,
    /// Changes its shards have seen.
    pub version: u64,
    /// Its shards with an alarm.
    pub alarmed: u64,
    /// Whether it lets no registration in.
    pub admission_closed: bool,
    /// Messages since the last census whose owner was gone or full when they came.
    pub undelivered: u64,
    /// How long the oldest change waits that some live core has not applied.
    pub age: Nanos,
}

impl Member {
    /// A member without anything. One of a core's later life greets the others.
    pub fn new(founding: Founding) -> Member {
        let Founding { id, life, table, names, limit } = founding;
        let cores = table.cores();
        let range = (id.index() < cores).then(|| table.range_of(id));
        let others = (0..cores as u16).map(CoreId).filter(|&core| core != id).fold(0, |all, core| all | bit(core));
        let mut peers: Vec<Peer> = (0..=cores).map(|_| Peer::default()).collect();
        if range.is_some() {
            for (core, peer) in peers.iter_mut().enumerate() {
                peer.live = others & bit(CoreId(core as u16)) != 0;
            }
            if life > 1 {
                peers.iter_mut().filter(|peer| peer.live).for_each(|peer| peer.say(&Item::Hello));
            }
        }
        Member {
            id,
            names,
            limit,
            bound: BoundServers::default(),
            range,
            shards: range.map_or(Vec::new(), |range| range.iter().map(RegistryShard::new).collect()),
            replica: Replica::new(if range.is_some() { table.shards() } else { 0 }),
            contention: Contention::new(cores, table.shards()),
            inboxes: Inboxes::new(id),
            peers,
            live: if range.is_some() { others } else { 0 },
            waiting: Waiting::default(),
            pending: VecDeque::new(),
            version: 0,
            known: vec![0; cores],
            unwelcomed: if life > 1 && range.is_some() { others } else { 0 },
            next_look: Nanos::MAX,
            next_sweep: Nanos::MAX,
            awake_until: 0,
            undelivered: 0,
            losses: Losses::default(),
            census: Census::default(),
            table,
        }
    }

    /// Whether the replica knows of every shard. A core's later life does so a moment after it began.
    pub fn is_whole(&self) -> bool {
        self.unwelcomed == 0
    }

    /// The key of a name.
    pub fn key(&self, kind: Kind, name: &str) -> Key {
        self.names.key(kind, name)
    }

    /// The owner of what is registered under a name, as the replica knows it.
    #[inline]
    pub(super) fn owner_of(&self, kind: Kind, name: &str) -> Option<Owner> {
        self.replica.find(self.names.key(kind, name))
    }

    /// Admission and alarms, as this core knows them.
    pub fn contention_status(&self) -> ContentionStatus {
        self.contention.status()
    }

    /// A new owner of entries.
    pub fn open_owner(&mut self) -> Option<Owner> {
        self.inboxes.open()
    }

    /// An owner is gone, and with it everything it registered.
    pub fn close_owner(&mut self, owner: Owner) {
        let Some((asked, shards)) = self.inboxes.close(owner) else { return };
        let gone = Item::OwnerGone { slot: owner.slot, generation: owner.generation, shards };
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let core = CoreId(index as u16);
            if core != self.id && asked & bit(core) != 0 {
                peer.say(&gone);
            }
        }
        if asked & bit(self.id) != 0 {
            self.drop_owners(owner..=owner, shards);
        }
    }

    /// The oldest message of an owner.
    pub fn take_message(&mut self, owner: Owner, waker: Option<&Waker>) -> Option<Message> {
        self.inboxes.take(owner, waker)
    }

    /// Asks something, here or elsewhere.
    pub fn begin(&mut self, now: Nanos, op: Query<'_>) -> Asked {
        if let Err(refusal) = self.check(&op) {
            return Asked::Now(Err(refusal));
        }
        let (key, to) = match op {
            Query::Find { kind, name } | Query::Register { kind, name, .. } | Query::Unregister { kind, name } => {
                self.home(kind, name)
            }
            Query::Bind { transport, .. } | Query::ServerOf { transport } | Query::Unbind { transport } => {
                self.home(Kind::Transport, transport)
            }
            Query::Route { kind, name, from, message } => return self.route(now, kind, name, from, message),
            Query::Statistics { shard } if shard.0 != u16::MAX => {
                if shard.index() >= self.table.shards() {
                    return Asked::Now(Err(Refusal::ShardUnknown));
                }
                (Key::LEAST, self.table.owner_of(shard))
            }
            Query::Status if self.range.is_some() => (Key::LEAST, self.id),
            Query::Status => (Key::LEAST, CoreId(0)),
            Query::Broadcast { .. }
            | Query::List { .. }
            | Query::Reset
            | Query::SetAdmission(_)
            | Query::Statistics { .. } => {
                return self.ask_everyone(now, op);
            }
        };
        if let Query::Register { owner, kind, .. } = op {
            if !self.inboxes.holds(owner) {
                return Asked::Now(Err(Refusal::OwnerGone));
            }
            if self.knows_to_be_taken(key) {
                return Asked::Now(Err(self.turn_away(now, key, to, kind)));
            }
            self.inboxes.asks(owner, to, key.shard(self.table.shards()));
        }
        let Some(ticket) = self.ticket(bit(to), now) else { return Asked::Now(Err(Refusal::Busy)) };
        if matches!(op, Query::Unregister { .. }) {
            self.waiting.marks_end(ticket);
        }
        self.ask_of(now, to, ticket, key, op);
        self.answered(ticket)
    }

    /// The answer to what was asked, once, if it is there.
    pub fn poll(&mut self, asked: &mut Asked) -> Option<Result<Answer, Refusal>> {
        match asked {
            Asked::Now(answer) => Some(std::mem::replace(answer, Err(Refusal::NoAnswer))),
            Asked::Later(ticket) => self.waiting.take(*ticket, None),
        }
    }

    /// Whether a name is taken, without asking its shard. A write is answered once this core knows, so what the replica
    /// says is what a shard could have said a moment ago; unless this core itself has since asked to have the entry
    /// ended, or ended its owner: those go before the registration on the same way, and may be what it relies on.
    fn knows_to_be_taken(&self, key: Key) -> bool {
        let Some(owner) = (self.range.is_some()).then(|| self.replica.find(key)).flatten() else { return false };
        !self.waiting.any_end_asked() && (owner.core != self.id || self.inboxes.holds(owner))
    }

    /// Refuses a name that is taken; its shard counts it.
    fn turn_away(&mut self, now: Nanos, key: Key, to: CoreId, kind: Kind) -> Refusal {
        if to == self.id {
            self.note_refused(now, key);
        } else if !self.peers[to.index()].is_jammed() {
            self.peers[to.index()].say(&Item::Refused(key));
        }
        Refusal::AlreadyRegistered(kind)
    }

    /// The answer if it is there already.
    fn answered(&mut self, ticket: Ticket) -> Asked {
        match self.waiting.take(ticket, None) {
            Some(answer) => Asked::Now(answer),
            None => Asked::Later(ticket),
        }
    }

    fn ask_everyone(&mut self, now: Nanos, op: Query<'_>) -> Asked {
        let cores = (0..self.table.cores() as u16).map(CoreId);
        // A core that is gone for good is not asked; one that is being replaced is.
        let all = cores.clone().fold(0, |all, core| all | bit(core));
        let Some(ticket) = self.ticket(all, now) else { return Asked::Now(Err(Refusal::Busy)) };
        for core in cores {
            self.ask_of(now, core, ticket, Key::LEAST, op);
        }
        self.answered(ticket)
    }

    fn ask_of(&mut self, now: Nanos, to: CoreId, ticket: Ticket, key: Key, op: Query<'_>) {
        if to == self.id {
            self.serve(now, Origin { core: to, ticket }, now, key, op);
        } else if self.peers[to.index()].is_jammed() {
            self.waiting.answer(ticket, bit(to), false, &Reply::Refused(Refusal::Busy));
        } else {
            self.peers[to.index()].say(&Item::Ask { ticket, since: now, key, op });
        }
    }

    fn ticket(&mut self, cores: u64, now: Nanos) -> Option<Ticket> {
        self.next_sweep = self.next_sweep.min(now + SWEEP);
        self.waiting.reserve(cores, now + ANSWER_TIME)
    }

    /// Sends a message to an owner that the replica knows.
    fn route(&mut self, now: Nanos, kind: Kind, name: &str, from: &str, message: &[u8]) -> Asked {
        let key = self.names.key(kind, name);
        let to = if self.range.is_some() {
            let Some(owner) = self.replica.find(key) else { return Asked::Now(Err(Refusal::Unknown(kind))) };
            if owner.core == self.id {
                let told = self.inboxes.deliver(owner, Message::new(kind, key, from, message));
                return Asked::Now(told.map(|()| Answer::Delivered { told: 1, refused: 0 }));
            }
            Some(owner)
        } else {
            None
        };
        let asked = to.map_or_else(|| self.owner_of_shard(key), |owner| owner.core);
        if self.peers[asked.index()].is_jammed() {
            return Asked::Now(Err(Refusal::Busy));
        }
        let Some(ticket) = self.ticket(bit(asked), now) else { return Asked::Now(Err(Refusal::Busy)) };
        match to {
            Some(to) => {
                let item = Item::Deliver { origin: self.id, ticket, to, kind, key, from, message };
                self.peers[asked.index()].say(&item);
            }
            None => self.ask_of(now, asked, ticket, key, Query::Route { kind, name, from, message }),
        }
        Asked::Later(ticket)
    }

    /// What can be said without asking anybody.
    fn check(&self, op: &Query<'_>) -> Result<(), Refusal> {
        let named = |name: &str| match name.len() {
            1..=REGISTRY_NAME_BYTES_MAX => Ok(()),
            bytes => Err(Refusal::Name { bytes }),
        };
        match *op {
            Query::Register { name, config, server, .. } => {
                named(name)?;
                if !server.is_empty() {
                    named(server)?;
                }
                if config.len() > REGISTRY_CONFIG_BYTES_MAX {
                    return Err(Refusal::ConfigTooLarge { bytes: config.len() });
                }
                // The owner of the shard looks too; this spares a core that is slow the way there.
                self.admits()
            }
            Query::Bind { transport, server } => named(transport).and_then(|()| named(server)),
            Query::Broadcast { server: name, .. }
            | Query::ServerOf { transport: name }
            | Query::Unbind { transport: name } => named(name),
            Query::Find { name, .. } | Query::Unregister { name, .. } => named(name),
            Query::Route { name, from, .. } => named(name).and_then(|()| named(from)),
            Query::List { .. } | Query::Reset | Query::SetAdmission(_) | Query::Statistics { .. } | Query::Status => {
                Ok(())
            }
        }
    }

    pub(super) fn admits(&self) -> Result<(), Refusal> {
        let status = self.contention.status();
        status.admits()
    }

    /// The key of a name, and the core where it lives.
    fn home(&self, kind: Kind, name: &str) -> (Key, CoreId) {
        let key = self.names.key(kind, name);
        (key, self.owner_of_shard(key))
    }

    fn owner_of_shard(&self, key: Key) -> CoreId {
        self.table.owner_of(key.shard(self.table.shards()))
    }

    /// Hears what another port said in one parcel.
    pub fn parcel(&mut self, now: Nanos, from: CoreId, payload: &[u8]) {
        if from.index() >= self.peers.len() {
            return;
        }
        self.linger(now);
        for item in Reader(payload) {
            self.hear(now, from, item);
        }
    }

    fn hear(&mut self, now: Nanos, from: CoreId, item: Item<'_>) {
        match item {
            Item::Alarmed(shards) => self.contention.set_alarmed(from, shards),
            Item::Answer { ticket, part, reply } => self.waiting.answer(ticket, bit(from), part, &reply),
            Item::Applied(version) => {
                self.peers[from.index()].followed(version, self.version);
                self.conclude(now);
            }
            Item::Ask { ticket, since, key, op } => self.serve(now, Origin { core: from, ticket }, since, key, op),
            Item::Deliver { origin, ticket, to, kind, key, from: sender, message } => {
                let told = self.inboxes.deliver(to, Message::new(kind, key, sender, message));
                let reply = match told {
                    Ok(()) => Reply::Delivered { told: 1, refused: 0, forwarded: 0 },
                    Err(refusal) => {
                        self.undelivered += 1;
                        Reply::Refused(refusal)
                    }
                };
                self.reply_part(Origin { core: origin, ticket }, origin != from, &reply);
            }
            Item::DeliverMany { origin, ticket, from: sender, message, receivers } => {
                let (told, refused) = self.deliver_many(sender, message, Reader(receivers).receivers(self.id));
                self.reply_part(
                    Origin { core: origin, ticket },
                    true,
                    &Reply::Delivered { told, refused, forwarded: 0 },
                );
            }
            Item::Delta(delta) => self.learn(delta),
            Item::Begin(shard) => self.replica.begin(shard),
            Item::Hello => {
                let shards = self.shards.iter().filter(|shard| !shard.is_empty()).map(|shard| shard.statistics().shard);
                self.peers[from.index()].greet(shards.collect::<Vec<_>>().into_iter());
                self.live |= bit(from);
                self.unwelcomed &= !bit(from);
                self.peers[from.index()].say(&Item::Alarmed(self.contention.alarmed_of(self.id)));
            }
            Item::OwnerGone { slot, generation, shards } => {
                let owner = Owner { core: from, slot, generation };
                self.drop_owners(owner..=owner, shards);
            }
            Item::Refused(key) => self.note_refused(now, key),
            Item::Version(version) => {
                self.known[from.index()] = version;
                self.peers[from.index()].say(&Item::Applied(version));
            }
            Item::Welcome(admission) => {
                self.unwelcomed &= !bit(from);
                self.contention.set_admission(admission);
            }
            Item::Whole(shard) => {
                for server in self.replica.complete(shard) {
                    self.drop_server(server);
                }
            }
        }
    }

    /// A change of another core's shard.
    fn learn(&mut self, delta: Delta) {
        self.replica.apply(delta);
        if let Delta::Gone(Kind::Server, server) = delta {
            self.drop_server(server);
        }
    }

    /// How many deaths of other cores were heard of.
    pub fn losses(&self) -> u64 {
        self.losses.count()
    }

    /// Another core died, which is said once for each death.
    pub fn peer_lost(&mut self, now: Nanos, core: CoreId) {
        if core != self.id && core.index() < self.table.cores() {
            self.losses.heard();
        }
        self.peer_unreachable(now, core);
    }

    /// Nothing reaches another core, however often that is found: it died, and nobody may come after it. Its shards are
    /// gone, what its owners had here goes, and what was asked of it is answered.
    pub fn peer_unreachable(&mut self, now: Nanos, core: CoreId) {
        if core.index() >= self.peers.len() || core == self.id {
            return;
        }
        self.peers[core.index()].lose();
        self.live &= !bit(core);
        self.unwelcomed &= !bit(core);
        self.contention.set_alarmed(core, 0);
        self.waiting.lose(bit(core));
        if self.range.is_some() && core.index() < self.table.cores() {
            self.known[core.index()] = 0;
            for shard in self.table.range_of(core).iter() {
                for server in self.replica.forget(shard) {
                    self.drop_server(server);
                }
            }
            self.drop_owners(Owner::all_of(core), Shards::ALL);
        }
        self.conclude(now);
    }

    /// Time passed.
    pub fn tick(&mut self, now: Nanos) {
        self.conclude(now);
        if now >= self.next_look {
            self.look(now);
        }
        if now >= self.next_sweep {
            self.waiting.expire(now);
            self.next_sweep = if self.waiting.open() > 0 { now + SWEEP } else { Nanos::MAX };
        }
    }

    /// When `tick` is due next.
    pub fn deadline(&self) -> Option<Nanos> {
        let pending = self.pending.front().map_or(Nanos::MAX, |pending| pending.deadline);
        let next = pending.min(self.next_look).min(self.next_sweep);
        (next != Nanos::MAX).then_some(next)
    }

    pub(super) fn look_again(&mut self, at: Nanos) {
        self.next_look = at;
    }

    /// Something was said or heard: more is likely to follow soon. The control thread does not wait for it, its turns
    /// are dearer.
    fn linger(&mut self, now: Nanos) {
        if self.range.is_some() {
            self.awake_until = now + LINGER;
        }
    }

    /// Whether it is better not to sleep now.
    pub fn lingers(&self, now: Nanos) -> bool {
        now < self.awake_until
    }

    /// Whether something is to be said that there is room for.
    pub fn has_mail(&self, outbox: &Outbox) -> bool {
        (0..).map(CoreId).zip(&self.peers).any(|(core, peer)| peer.has_mail(|| outbox.has_room(core)))
    }

    /// What an operator is shown of this core; none if nothing changed since it was taken.
    pub fn census(&mut self, now: Nanos) -> Option<Census> {
        let age = self.peers.iter().filter_map(|peer| peer.age(now)).max().unwrap_or(0);
        let alarmed = u64::from(self.contention.alarmed_of(self.id));
        let mut census = Census {
            known: self.replica.len() as u64,
            version: self.version,
            alarmed,
            admission_closed: self.contention.status().admission_closed,
            undelivered: 0,
            age,
        };
        if census == self.census {
            return (self.undelivered > 0)
                .then(|| Census { undelivered: std::mem::take(&mut self.undelivered), ..census });
        }
        self.census = census;
        census.undelivered = std::mem::take(&mut self.undelivered);
        Some(census)
    }

    /// Hands over what was said, a batch for a parcel; `send` says whether there is room for more to that port.
    pub fn flush(
        &mut self,
        now: Nanos,
        outbox: &mut Outbox,
        mut send: impl FnMut(&mut Outbox, CoreId, Vec<u8>) -> bool,
    ) {
        let (range, admission) = (self.range, self.contention.status().admission);
        let mut said = false;
        for (index, peer) in self.peers.iter_mut().enumerate() {
            let core = CoreId(index as u16);
            if peer.is_jammed() {
                peer.set_jammed(!outbox.has_room(core));
            }
            if peer.has_mail(|| true) {
                let place = |shard| range.and_then(|range| range.place_of(shard));
                peer.flush(now, self.version, admission, place, &self.shards, |batch| send(&mut *outbox, core, batch));
                said = true;
            }
        }
        if said {
            self.linger(now);
        }
    }
}
