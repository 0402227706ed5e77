//! `CoreRegistry`: the registry as the tasks of one core see it. Look-ups are answered where they are asked; whatever
//! another core has to do is a future.
//!
//! Not here: what it does (`member`). Invariant: nothing is borrowed across an await; a future that is dropped leaves
//! no ticket behind.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::inbox::Message;
use super::item::Query;
use super::member::{Asked, Founding, Member};
use super::waiting::Answer;
use crate::ids::{ShardId, Ticket};
use crate::shard::registry::{Admission, ContentionStatus, Key, Kind, Nanos, Owner, Refusal, ShardStatistics};

/// Reads the clock that all cores share.
pub type RegistryClock = Rc<dyn Fn() -> Nanos>;

/// The registry, on one core. Clones are the same.
#[derive(Clone)]
pub struct CoreRegistry {
    member: Rc<RefCell<Member>>,
    clock: RegistryClock,
}

/// Somebody on this core who may register things. Dropped, it is gone, and with it all that it registered.
pub struct Ownership {
    registry: CoreRegistry,
    owner: Owner,
}

/// A write that was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Every live core knows of it. If not, at least one did not say so within 50 ms; it will know as soon as it can.
    pub applied: bool,
}

/// An answer on its way.
pub struct Asking {
    registry: CoreRegistry,
    state: State,
}

enum State {
    Answered(Option<Result<Answer, Refusal>>),
    Waiting(Ticket),
}

impl Future for Asking {
    type Output = Result<Answer, Refusal>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answer = match &mut this.state {
            State::Answered(answer) => answer.take(),
            State::Waiting(ticket) => this.registry.member.borrow_mut().waiting.take(*ticket, Some(context.waker())),
        };
        match answer {
            Some(answer) => {
                this.state = State::Answered(None);
                Poll::Ready(answer)
            }
            None => Poll::Pending,
        }
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let State::Waiting(ticket) = self.state {
            self.registry.member.borrow_mut().waiting.abandon(ticket);
        }
    }
}

impl CoreRegistry {
    /// A member of the registry on this core.
    pub fn new(founding: Founding, clock: RegistryClock) -> CoreRegistry {
        CoreRegistry { member: Rc::new(RefCell::new(Member::new(founding))), clock }
    }

    /// The machine, for the core's loop.
    pub(in crate::server) fn machine(&self) -> std::cell::RefMut<'_, Member> {
        self.member.borrow_mut()
    }

    /// Now, by the clock that all cores share.
    pub fn now(&self) -> Nanos {
        (self.clock)()
    }

    /// Somebody who may register things; none if this core has as many as it may.
    pub fn owner(&self) -> Option<Ownership> {
        let owner = self.member.borrow_mut().open_owner()?;
        Some(Ownership { registry: self.clone(), owner })
    }

    /// Whether this core knows of all shards. One that took a dead one's place does so a moment after it began.
    pub fn is_whole(&self) -> bool {
        self.member.borrow().is_whole()
    }

    /// How many deaths of other cores this one has heard of.
    pub fn losses(&self) -> u64 {
        self.member.borrow().losses()
    }

    /// Waits until there were more deaths than `seen`, and says how many. What the dead core's shards held is gone by
    /// then, whoever owned it, and its successor takes registrations a moment later; so an owner that means its entries
    /// to last registers them anew, and one that is registered still is refused as what it is.
    ///
    /// Cancel safe: nothing is lost by dropping it, since the next one compares with `seen`.
    ///
    /// ```
    /// use corelane::OnCore;
    /// use corelane::shard::registry::Refusal;
    /// use std::time::Duration;
    ///
    /// /// Registers a server, and anew whenever a core that died took it along.
    /// async fn lasting(core: OnCore, name: String) {
    ///     let registry = core.registry();
    ///     let owner = registry.owner().expect("this core has few owners");
    ///     loop {
    ///         let seen = registry.losses();
    ///         while let Err(refusal) = registry.register_server(&owner, &name, b"{}").await {
    ///             if let Refusal::AlreadyRegistered(_) = refusal {
    ///                 break;
    ///             }
    ///             core.sleep(Duration::from_millis(10)).await;
    ///         }
    ///         registry.core_lost(seen).await;
    ///     }
    /// }
    /// ```
    pub fn core_lost(&self, seen: u64) -> impl Future<Output = u64> + use<> {
        let registry = self.clone();
        poll_fn(move |context| {
            let losses = &mut registry.member.borrow_mut().losses;
            if losses.count() > seen {
                return Poll::Ready(losses.count());
            }
            losses.wait(context.waker());
            Poll::Pending
        })
    }

    /// How many servers and transports this core knows of, in all shards.
    pub fn known(&self) -> usize {
        self.member.borrow().replica.len()
    }

    /// The key by which messages for a name are known.
    pub fn key(&self, kind: Kind, name: &str) -> Key {
        self.member.borrow().key(kind, name)
    }

    /// The shard that a name lives in.
    pub fn shard_of(&self, kind: Kind, name: &str) -> ShardId {
        let member = self.member.borrow();
        member.key(kind, name).shard(member.table.shards())
    }

    /// The core that owns the shard of a name.
    pub fn home_of(&self, kind: Kind, name: &str) -> crate::ids::CoreId {
        let member = self.member.borrow();
        member.table.owner_of(member.key(kind, name).shard(member.table.shards()))
    }

    // Servers.

    /// Registers a server. Messages for it come to its owner, with whom it ends.
    pub fn register_server(
        &self,
        owner: &Ownership,
        name: &str,
        config: &[u8],
    ) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        let (kind, owner) = (Kind::Server, owner.owner);
        written(self.ask(Query::Register { kind, owner, name, server: "", config }))
    }

    /// Ends a server, and all bindings to it.
    pub fn unregister_server(&self, name: &str) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::Unregister { kind: Kind::Server, name }))
    }

    /// The owner of a server, from this core's replica.
    pub fn find_server(&self, name: &str) -> Option<Owner> {
        self.member.borrow().owner_of(Kind::Server, name)
    }

    /// A server's owner and configuration, from where its entry lives.
    pub fn server(&self, name: &str) -> impl Future<Output = Result<(Owner, Vec<u8>), Refusal>> + use<> {
        entry(self.ask(Query::Find { kind: Kind::Server, name }))
    }

    /// The names of all servers, sorted.
    pub fn list_servers(&self) -> impl Future<Output = Result<Vec<String>, Refusal>> + use<> {
        names(self.ask(Query::List { kind: Kind::Server }))
    }

    // Transports.

    /// Registers a transport; with a server that exists, it is bound to it.
    pub fn register_transport(
        &self,
        owner: &Ownership,
        name: &str,
        config: &[u8],
        server: Option<&str>,
    ) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        let (kind, owner, server) = (Kind::Transport, owner.owner, server.unwrap_or_default());
        written(self.ask(Query::Register { kind, owner, name, server, config }))
    }

    /// Ends a transport, and its binding.
    pub fn unregister_transport(&self, name: &str) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::Unregister { kind: Kind::Transport, name }))
    }

    /// The owner of a transport, from this core's replica.
    pub fn find_transport(&self, name: &str) -> Option<Owner> {
        self.member.borrow().owner_of(Kind::Transport, name)
    }

    /// A transport's owner and configuration, from where its entry lives.
    pub fn transport(&self, name: &str) -> impl Future<Output = Result<(Owner, Vec<u8>), Refusal>> + use<> {
        entry(self.ask(Query::Find { kind: Kind::Transport, name }))
    }

    /// The names of all transports, sorted.
    pub fn list_transports(&self) -> impl Future<Output = Result<Vec<String>, Refusal>> + use<> {
        names(self.ask(Query::List { kind: Kind::Transport }))
    }

    // Bindings.

    /// Binds a transport to a server, in place of what it was bound to.
    pub fn bind_transport_to_server(
        &self,
        transport: &str,
        server: &str,
    ) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::Bind { transport, server }))
    }

    /// Unbinds a transport.
    pub fn unbind_transport(&self, transport: &str) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::Unbind { transport }))
    }

    /// The name of the server that a transport is bound to, from where the binding lives.
    pub fn server_for_transport(&self, transport: &str) -> impl Future<Output = Result<String, Refusal>> + use<> {
        let asking = self.ask(Query::ServerOf { transport });
        async {
            match asking.await? {
                Answer::Name(name) => Ok(name),
                _ => Err(Refusal::NoAnswer),
            }
        }
    }

    /// The key and owner of the server that a transport is bound to, from this core's replica.
    pub fn find_server_for_transport(&self, transport: &str) -> Option<(Key, Owner)> {
        let member = self.member.borrow();
        let server = member.replica.server_of(member.key(Kind::Transport, transport))?;
        Some((server, member.replica.find(server)?))
    }

    // Messages.

    /// Sends a message to a server, from a transport of that name. It is told once it lies in the owner's inbox.
    pub fn route_to_server(
        &self,
        server: &str,
        transport: &str,
        message: &[u8],
    ) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let asking = self.ask(Query::Route { kind: Kind::Server, name: server, from: transport, message });
        async { asking.await.map(|_| ()) }
    }

    /// Sends a message to a transport, from a server of that name. It is told once it lies in the owner's inbox.
    pub fn route_to_transport(
        &self,
        transport: &str,
        server: &str,
        message: &[u8],
    ) -> impl Future<Output = Result<(), Refusal>> + use<> {
        let asking = self.ask(Query::Route { kind: Kind::Transport, name: transport, from: server, message });
        async { asking.await.map(|_| ()) }
    }

    /// Sends a message to all transports that are bound to a server: how many have it, and how many could not take it.
    pub fn broadcast(
        &self,
        server: &str,
        message: &[u8],
    ) -> impl Future<Output = Result<(usize, usize), Refusal>> + use<> {
        let asking = self.ask(Query::Broadcast { server, message });
        async {
            match asking.await? {
                Answer::Delivered { told, refused } => Ok((told, refused)),
                _ => Err(Refusal::NoAnswer),
            }
        }
    }

    // Statistics and admission.

    /// Every shard, in order.
    pub fn partition_stats(&self) -> impl Future<Output = Result<Vec<ShardStatistics>, Refusal>> + use<> {
        statistics(self.ask(Query::Statistics { shard: ShardId(u16::MAX) }))
    }

    /// One shard.
    pub fn partition_stats_of(&self, shard: ShardId) -> impl Future<Output = Result<ShardStatistics, Refusal>> + use<> {
        let asking = statistics(self.ask(Query::Statistics { shard }));
        async { asking.await?.pop().ok_or(Refusal::ShardUnknown) }
    }

    /// Counts and latencies of all shards begin anew.
    pub fn reset_stats(&self) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::Reset))
    }

    /// Admission and alarms, as this core knows them.
    pub fn contention_status(&self) -> ContentionStatus {
        self.member.borrow().contention_status()
    }

    /// Chooses whether new registrations are let in.
    pub fn set_admission(&self, admission: Admission) -> impl Future<Output = Result<Written, Refusal>> + use<> {
        written(self.ask(Query::SetAdmission(admission)))
    }

    fn ask(&self, op: Query<'_>) -> Asking {
        let state = match self.member.borrow_mut().begin((self.clock)(), op) {
            Asked::Now(answer) => State::Answered(Some(answer)),
            Asked::Later(ticket) => State::Waiting(ticket),
        };
        Asking { registry: self.clone(), state }
    }
}

async fn written(asking: Asking) -> Result<Written, Refusal> {
    match asking.await? {
        Answer::Done { applied } => Ok(Written { applied }),
        _ => Err(Refusal::NoAnswer),
    }
}

async fn entry(asking: Asking) -> Result<(Owner, Vec<u8>), Refusal> {
    match asking.await? {
        Answer::Entry { owner, config } => Ok((owner, config)),
        _ => Err(Refusal::NoAnswer),
    }
}

async fn names(asking: Asking) -> Result<Vec<String>, Refusal> {
    match asking.await? {
        Answer::Names(mut names) => {
            names.sort_unstable();
            Ok(names)
        }
        _ => Err(Refusal::NoAnswer),
    }
}

async fn statistics(asking: Asking) -> Result<Vec<ShardStatistics>, Refusal> {
    match asking.await? {
        Answer::Statistics(mut shards) => {
            shards.sort_unstable_by_key(|shard| shard.shard);
            Ok(shards)
        }
        _ => Err(Refusal::NoAnswer),
    }
}

impl Ownership {
    /// Who it is, as messages and other cores name it.
    pub fn owner(&self) -> Owner {
        self.owner
    }

    /// The oldest message that waits, if there is one.
    pub fn take(&self) -> Option<Message> {
        self.registry.member.borrow_mut().take_message(self.owner, None)
    }

    /// The next message.
    pub fn next(&self) -> impl Future<Output = Message> + '_ {
        poll_fn(|context| {
            let message = self.registry.member.borrow_mut().take_message(self.owner, Some(context.waker()));
            message.map_or(Poll::Pending, Poll::Ready)
        })
    }
}

impl Drop for Ownership {
    fn drop(&mut self) {
        self.registry.member.borrow_mut().close_owner(self.owner);
    }
}
