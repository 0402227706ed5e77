//! The registry as operators change it: transports that the administration owns, and what any transport is bound to.
//!
//! Not here: requests and answers (`control`), the registry (`desk`). Invariant: an operator ends only what the
//! administration owns: what belongs to a core or to the embedding program goes with its owner and with nobody else.
//! What the administration owns lasts until it is removed or the process ends, the death of a core included.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::desk::{OutsideOwner, Registry};
use crate::control::{Condition, Desk, DeskCell, NotChanged, Sent, TransportShown, Written, tag_of_name};
use crate::limits::ADMINISTERED_TRANSPORTS_MAX;
use crate::shard::registry::{Admission, ContentionStatus, Kind, Owner, Refusal, ShardStatistics};

/// How often the port is looked at for the administration's sake: who sends to what it owns waits that long, and what a
/// core that died took along is registered anew as soon.
const ATTEND: Duration = Duration::from_millis(100);

/// The registry, as the administration has it. Clones are the same.
#[derive(Clone)]
pub(super) struct Administered {
    registry: Registry,
    /// There is an owner.
    has_own: Arc<AtomicBool>,
    state: Arc<Mutex<State>>,
}

/// Attends to what the administration owns; never ends.
pub(super) async fn attend(desk: DeskCell) {
    loop {
        tokio::time::sleep(ATTEND).await;
        if !desk.get().is_some_and(|desk| desk.has_own()) {
            continue;
        }
        let desk = Arc::clone(&desk);
        // Its panic was printed by the panic hook.
        let _ = tokio::task::spawn_blocking(move || desk.get().map(|desk| desk.attend())).await;
    }
}

#[derive(Default)]
struct State {
    /// Made with the first transport.
    owner: Option<OutsideOwner>,
    /// What it owns, and the server that each was bound to last by request.
    transports: BTreeMap<String, Option<String>>,
    /// Deaths of cores that were reckoned with.
    losses: u64,
}

impl Administered {
    pub fn new(registry: Registry) -> Administered {
        Administered { registry, has_own: Arc::default(), state: Arc::default() }
    }

    /// One change at a time: what a condition was judged by is what is changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers anew what a core that died took along. Whoever took a name meanwhile has it.
    fn restore(&self) {
        let mut state = self.lock();
        let State { owner: Some(owner), transports, losses } = &mut *state else { return };
        let now = self.registry.losses();
        if now == *losses {
            return;
        }
        let own = owner.owner();
        let mut is_whole = true;
        transports.retain(|name, server| {
            let done = match self.registry.find_transport(name) {
                Ok((owner, _)) => return owner == own,
                Err(Refusal::Unknown(_)) => self.registry.register_transport(owner, name, &[], server.as_deref()),
                Err(refusal) => Err(refusal),
            };
            // The server may have gone with the core: the transport comes back without it.
            let done = match done {
                Err(Refusal::Unknown(Kind::Server)) => {
                    *server = None;
                    self.registry.register_transport(owner, name, &[], None)
                }
                done => done,
            };
            match done {
                Err(Refusal::AlreadyRegistered(_)) => return false,
                Err(_) => is_whole = false,
                Ok(_) => tracing::info!(transport = name.as_str(), "registered anew: a core that died had it"),
            }
            true
        });
        if is_whole {
            *losses = now;
        }
    }

    fn shown(&self, transport: &str, own: Option<Owner>) -> Result<TransportShown, Refusal> {
        let (owner, _) = self.registry.find_transport(transport)?;
        let server = match self.registry.server_for_transport(transport) {
            Ok(server) => Some(server),
            Err(Refusal::NotBound) => None,
            Err(refusal) => return Err(refusal),
        };
        let is_administered = own == Some(owner);
        let owned_by = match owner.core.index() < self.registry.cores() {
            true => owner.core.to_string(),
            false if is_administered => "administration".to_owned(),
            false => "program".to_owned(),
        };
        let tag = format!("{}-{}-{}", owner.core.0, owner.slot, owner.generation);
        Ok(TransportShown { owned_by, is_administered, server, tag })
    }
}

fn owner_of(state: &State) -> Option<Owner> {
    state.owner.as_ref().map(OutsideOwner::owner)
}

impl Desk for Administered {
    fn shards(&self) -> Result<Vec<ShardStatistics>, Refusal> {
        self.registry.partition_stats()
    }

    fn contention(&self) -> Result<ContentionStatus, Refusal> {
        self.registry.contention_status()
    }

    fn reset(&self) -> Result<(), Refusal> {
        self.registry.reset_stats().map(drop)
    }

    fn set_admission(&self, admission: Admission) -> Result<(), Refusal> {
        self.registry.set_admission(admission).map(drop)
    }

    fn transports(&self) -> Result<Vec<String>, Refusal> {
        self.registry.list_transports()
    }

    fn server_of(&self, transport: &str) -> Result<String, Refusal> {
        self.registry.server_for_transport(transport)
    }

    fn transport(&self, transport: &str) -> Result<TransportShown, Refusal> {
        let own = owner_of(&self.lock());
        self.shown(transport, own)
    }

    fn register_transport(&self, transport: &str, server: Option<&str>) -> Result<Written, NotChanged> {
        let mut state = self.lock();
        if state.transports.len() >= ADMINISTERED_TRANSPORTS_MAX && !state.transports.contains_key(transport) {
            return Err(NotChanged::NoRoom(ADMINISTERED_TRANSPORTS_MAX));
        }
        if state.owner.is_none() {
            state.losses = self.registry.losses();
            state.owner = self.registry.owner();
            self.has_own.store(state.owner.is_some(), Relaxed);
        }
        let Some(owner) = &state.owner else { return Err(Refusal::Busy.into()) };
        let written = self.registry.register_transport(owner, transport, &[], server)?;
        let tag = self.shown(transport, owner_of(&state)).map_or_else(|_| String::new(), |shown| shown.tag);
        state.transports.insert(transport.to_owned(), server.map(str::to_owned));
        Ok(Written { applied: written.applied, is_new: true, tag })
    }

    fn unregister_transport(&self, transport: &str, condition: &Condition) -> Result<Written, NotChanged> {
        let mut state = self.lock();
        let shown = self.shown(transport, owner_of(&state))?;
        if !shown.is_administered {
            return Err(NotChanged::Foreign { transport: transport.to_owned(), owned_by: shown.owned_by });
        }
        condition.judge(Some(&shown.tag))?;
        let written = self.registry.unregister_transport(transport)?;
        state.transports.remove(transport);
        Ok(Written { applied: written.applied, is_new: false, tag: shown.tag })
    }

    fn bind(&self, transport: &str, server: &str, condition: &Condition) -> Result<Written, NotChanged> {
        let mut state = self.lock();
        let before = self.shown(transport, owner_of(&state))?.server.map(|server| tag_of_name(&server));
        condition.judge(before.as_deref())?;
        let written = self.registry.bind_transport_to_server(transport, server)?;
        if let Some(bound) = state.transports.get_mut(transport) {
            *bound = Some(server.to_owned());
        }
        Ok(Written { applied: written.applied, is_new: before.is_none(), tag: tag_of_name(server) })
    }

    fn unbind(&self, transport: &str, condition: &Condition) -> Result<Written, NotChanged> {
        let mut state = self.lock();
        let shown = self.shown(transport, owner_of(&state))?;
        let before = tag_of_name(&shown.server.ok_or(Refusal::NotBound)?);
        condition.judge(Some(&before))?;
        let written = self.registry.unbind_transport(transport)?;
        if let Some(bound) = state.transports.get_mut(transport) {
            *bound = None;
        }
        Ok(Written { applied: written.applied, is_new: false, tag: before })
    }

    fn has_own(&self) -> bool {
        self.has_own.load(Relaxed)
    }

    fn attend(&self) {
        self.restore();
    }

    fn take_messages(&self, most: usize) -> Vec<Sent> {
        let state = self.lock();
        let Some(owner) = &state.owner else { return Vec::new() };
        let names: BTreeMap<_, _> =
            state.transports.keys().map(|name| (self.registry.key(Kind::Transport, name), name)).collect();
        let take = || owner.next(Duration::ZERO);
        std::iter::from_fn(take)
            .take(most)
            .map(|message| Sent {
                // It was removed meanwhile.
                transport: names.get(&message.to).map_or_else(String::new, |name| (*name).clone()),
                from: message.from().to_owned(),
                text: String::from_utf8_lossy(message.body()).into_owned(),
            })
            .collect()
    }
}
