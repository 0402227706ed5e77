//! `Registry`: the registry for threads that are no core, by the control thread's port of the mesh.
//!
//! Whoever asks drives the port until the answer is there: it is locked meanwhile, and others wait for their turn. That
//! does for administration; a core has a `CoreRegistry`, which waits for nobody.
//! Not here: what is asked (`server::registry`). Invariant: nobody waits here longer than the registry's answers take,
//! which is 50 ms for a write that a core does not apply, and two seconds for a core that does not answer.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ids::{CoreId, ShardId};
use crate::ring::{Bell, Port, PortId, Refused};
use crate::server::drive::Clock;
use crate::server::outbox::{Delivery, Outbox};
use crate::server::parcel::Header;
use crate::server::pool::Pool;
use crate::server::registry::{Answer, Founding, Member, Message, Query, Written};
use crate::shard::registry::{Admission, ContentionStatus, Key, Kind, Owner, Refusal, ShardStatistics};
use crate::uring::Chime;

/// How long a wait lasts at most before the port is looked at again.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long whoever waits for a message leaves the port to others, before it is looked at again.
const LET_OTHERS: Duration = Duration::from_micros(200);

/// The registry, for any thread that is no core. Clones are the same.
#[derive(Clone)]
pub struct Registry {
    desk: Arc<Mutex<Turns>>,
}

/// Somebody outside the cores who may register things. Dropped, it is gone, and with it all that it registered. It
/// hears of messages while somebody uses this registry: who sends to it waits for that, two seconds at most.
pub struct OutsideOwner {
    registry: Registry,
    owner: Owner,
}

struct Turns {
    port: Port<Header>,
    member: Member,
    outbox: Outbox,
    clock: Clock,
    chimes: Vec<Arc<Chime>>,
    cores: usize,
}

struct Knocks<'a>(&'a [Arc<Chime>]);

impl Bell for Knocks<'_> {
    fn ring(&mut self, to: PortId) {
        if let Some(chime) = self.0.get(to.index()) {
            chime.knock();
        }
    }
}

impl Turns {
    /// Hears what has come and says what is to be said.
    fn turn(&mut self) {
        let now = self.clock.nanos();
        let Turns { port, member, outbox, chimes, .. } = self;
        port.observe(|peer, _| {
            outbox.forget(CoreId(peer.0));
            member.peer_lost(now, CoreId(peer.0));
        });
        port.drain(usize::MAX, |from, header, payload| {
            if matches!(rkyv::deserialize::<Header, rkyv::rancor::Failure>(header), Ok(Header::Registry)) {
                member.parcel(now, CoreId(from.0), payload);
            }
        });
        member.tick(now);
        member.flush(now, outbox, |outbox, to, batch| {
            outbox.post(to, Header::Registry, batch);
            outbox.has_room(to)
        });
        let mut gone = VecDeque::new();
        // What this thread posts is seldom and made for the occasion: nothing of it is kept.
        outbox.flush(&mut Pool::default(), |to, header, payload| match port.try_send(to, header, payload) {
            Err(Refused::Full) => Delivery::Full,
            Err(Refused::Gone) => {
                gone.push_back(to);
                Delivery::Done
            }
            Ok(_) | Err(Refused::TooLarge) => Delivery::Done,
        });
        for core in gone {
            member.peer_unreachable(now, core);
        }
        port.ring_bells(&mut Knocks(chimes));
    }

    /// Turns until `is_there` hands something out.
    fn drive<T>(&mut self, patience: Duration, mut is_there: impl FnMut(&mut Member) -> Option<T>) -> Option<T> {
        let until = self.clock.now() + patience;
        loop {
            self.turn();
            if let Some(found) = is_there(&mut self.member) {
                return Some(found);
            }
            let left = until.checked_sub(self.clock.now())?;
            if self.port.try_sleep() {
                if let Some(chime) = self.chimes.last() {
                    // It fails only if the descriptor is gone, and with it the process.
                    let _ = chime.eventfd.wait(left.min(LOOK_AGAIN));
                }
                self.port.wake();
            }
        }
    }
}

impl Registry {
    /// By the control thread's port; the last of the chimes is its own.
    pub(super) fn new(port: Port<Header>, founding: Founding, clock: Clock, chimes: Vec<Arc<Chime>>) -> Registry {
        let (cores, outbox) = (founding.table.cores(), Outbox::default());
        let desk = Turns { port, member: Member::new(founding), outbox, clock, chimes, cores };
        Registry { desk: Arc::new(Mutex::new(desk)) }
    }

    fn lock(&self) -> MutexGuard<'_, Turns> {
        // Whoever panicked here left the port as usable as it was.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, query: Query<'_>) -> Result<Answer, Refusal> {
        let mut desk = self.lock();
        // Cores that died since are heard of first, or what is asked now would be counted among what they took along.
        desk.turn();
        let now = desk.clock.nanos();
        let mut asked = desk.member.begin(now, query);
        // Longer than the member itself waits.
        let patience = Duration::from_secs(5);
        desk.drive(patience, |member| member.poll(&mut asked)).unwrap_or(Err(Refusal::NoAnswer))
    }

    fn write(&self, query: Query<'_>) -> Result<Written, Refusal> {
        match self.ask(query)? {
            Answer::Done { applied } => Ok(Written { applied }),
            _ => Err(Refusal::NoAnswer),
        }
    }

    fn entry(&self, kind: Kind, name: &str) -> Result<(Owner, Vec<u8>), Refusal> {
        match self.ask(Query::Find { kind, name })? {
            Answer::Entry { owner, config } => Ok((owner, config)),
            _ => Err(Refusal::NoAnswer),
        }
    }

    fn names(&self, kind: Kind) -> Result<Vec<String>, Refusal> {
        match self.ask(Query::List { kind })? {
            Answer::Names(mut names) => {
                names.sort_unstable();
                Ok(names)
            }
            _ => Err(Refusal::NoAnswer),
        }
    }

    /// How many cores there are.
    pub(super) fn cores(&self) -> usize {
        self.lock().cores
    }

    /// How many deaths of cores were heard of. What a core's shards held is gone when it dies, whoever owned it: an
    /// owner that means its entries to last registers them anew when this is another.
    pub fn losses(&self) -> u64 {
        let mut desk = self.lock();
        desk.turn();
        desk.member.losses()
    }

    /// The key by which messages for a name are known.
    pub(super) fn key(&self, kind: Kind, name: &str) -> Key {
        self.lock().member.key(kind, name)
    }

    /// Somebody who may register things; none if there are too many.
    pub fn owner(&self) -> Option<OutsideOwner> {
        let owner = self.lock().member.open_owner()?;
        Some(OutsideOwner { registry: self.clone(), owner })
    }

    /// Registers a server. Messages for it come to its owner, with whom it ends.
    pub fn register_server(&self, owner: &OutsideOwner, name: &str, config: &[u8]) -> Result<Written, Refusal> {
        let (kind, owner) = (Kind::Server, owner.owner);
        self.write(Query::Register { kind, owner, name, server: "", config })
    }

    /// Ends a server, and all bindings to it.
    pub fn unregister_server(&self, name: &str) -> Result<Written, Refusal> {
        self.write(Query::Unregister { kind: Kind::Server, name })
    }

    /// A server's owner and configuration.
    pub fn find_server(&self, name: &str) -> Result<(Owner, Vec<u8>), Refusal> {
        self.entry(Kind::Server, name)
    }

    /// The names of all servers, sorted.
    pub fn list_servers(&self) -> Result<Vec<String>, Refusal> {
        self.names(Kind::Server)
    }

    /// Registers a transport; with a server that exists, it is bound to it.
    pub fn register_transport(
        &self,
        owner: &OutsideOwner,
        name: &str,
        config: &[u8],
        server: Option<&str>,
    ) -> Result<Written, Refusal> {
        let (kind, owner, server) = (Kind::Transport, owner.owner, server.unwrap_or_default());
        self.write(Query::Register { kind, owner, name, server, config })
    }

    /// Ends a transport, and its binding.
    pub fn unregister_transport(&self, name: &str) -> Result<Written, Refusal> {
        self.write(Query::Unregister { kind: Kind::Transport, name })
    }

    /// A transport's owner and configuration.
    pub fn find_transport(&self, name: &str) -> Result<(Owner, Vec<u8>), Refusal> {
        self.entry(Kind::Transport, name)
    }

    /// The names of all transports, sorted.
    pub fn list_transports(&self) -> Result<Vec<String>, Refusal> {
        self.names(Kind::Transport)
    }

    /// Binds a transport to a server, in place of what it was bound to.
    pub fn bind_transport_to_server(&self, transport: &str, server: &str) -> Result<Written, Refusal> {
        self.write(Query::Bind { transport, server })
    }

    /// Unbinds a transport.
    pub fn unbind_transport(&self, transport: &str) -> Result<Written, Refusal> {
        self.write(Query::Unbind { transport })
    }

    /// The name of the server that a transport is bound to.
    pub fn server_for_transport(&self, transport: &str) -> Result<String, Refusal> {
        match self.ask(Query::ServerOf { transport })? {
            Answer::Name(name) => Ok(name),
            _ => Err(Refusal::NoAnswer),
        }
    }

    /// Sends a message to a server, from a transport of that name; done once it lies in the owner's inbox.
    pub fn route_to_server(&self, server: &str, transport: &str, message: &[u8]) -> Result<(), Refusal> {
        let query = Query::Route { kind: Kind::Server, name: server, from: transport, message };
        self.ask(query).map(|_| ())
    }

    /// Sends a message to a transport, from a server of that name; done once it lies in the owner's inbox.
    pub fn route_to_transport(&self, transport: &str, server: &str, message: &[u8]) -> Result<(), Refusal> {
        let query = Query::Route { kind: Kind::Transport, name: transport, from: server, message };
        self.ask(query).map(|_| ())
    }

    /// Sends a message to all transports bound to a server: how many have it, and how many could not take it.
    pub fn broadcast(&self, server: &str, message: &[u8]) -> Result<(usize, usize), Refusal> {
        match self.ask(Query::Broadcast { server, message })? {
            Answer::Delivered { told, refused } => Ok((told, refused)),
            _ => Err(Refusal::NoAnswer),
        }
    }

    /// Every shard, in order.
    pub fn partition_stats(&self) -> Result<Vec<ShardStatistics>, Refusal> {
        self.statistics(ShardId(u16::MAX))
    }

    /// One shard.
    pub fn partition_stats_of(&self, shard: ShardId) -> Result<ShardStatistics, Refusal> {
        self.statistics(shard)?.pop().ok_or(Refusal::ShardUnknown)
    }

    fn statistics(&self, shard: ShardId) -> Result<Vec<ShardStatistics>, Refusal> {
        match self.ask(Query::Statistics { shard })? {
            Answer::Statistics(mut shards) => {
                shards.sort_unstable_by_key(|shard| shard.shard);
                Ok(shards)
            }
            _ => Err(Refusal::NoAnswer),
        }
    }

    /// Counts and latencies of all shards begin anew.
    pub fn reset_stats(&self) -> Result<Written, Refusal> {
        self.write(Query::Reset)
    }

    /// Admission and alarms, as the first core knows them.
    pub fn contention_status(&self) -> Result<ContentionStatus, Refusal> {
        match self.ask(Query::Status)? {
            Answer::Status(status) => Ok(status),
            _ => Err(Refusal::NoAnswer),
        }
    }

    /// Chooses whether new registrations are let in.
    pub fn set_admission(&self, admission: Admission) -> Result<Written, Refusal> {
        self.write(Query::SetAdmission(admission))
    }
}

impl OutsideOwner {
    /// Who it is, as messages and cores name it.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The next message, if one comes in time.
    pub fn next(&self, patience: Duration) -> Option<Message> {
        let (owner, until) = (self.owner, Instant::now() + patience);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let found = self.registry.lock().drive(left.min(LOOK_AGAIN), |member| member.take_message(owner, None));
            if found.is_some() || left.is_zero() {
                return found;
            }
            // Others use the registry by the same port, and it may be a long time until a message comes.
            std::thread::sleep(LET_OTHERS);
        }
    }
}

impl Drop for OutsideOwner {
    fn drop(&mut self) {
        let mut desk = self.registry.lock();
        desk.member.close_owner(self.owner);
        desk.turn();
    }
}
