//! What runs on every core beside its connections: a hook of the embedding program, and what it is given.
//!
//! Not here: handlers (they have a `Context`). Invariant: what a hook spawns ends with its core, and the hook runs
//! again when the core is restarted.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::desk::Registry;
use crate::control::OwnHealth;
use crate::ids::CoreId;
use crate::runtime::Spawner;
use crate::server::alarms::{Alarm, Alarms};
use crate::server::drive::Clock;
use crate::server::registry::CoreRegistry;
use crate::server::service::{Change, Mail, Mailbox, nanos};
use crate::shard::registry::Nanos;

/// A core, as a hook sees it. Clones are the same.
#[derive(Clone)]
pub struct OnCore {
    pub(super) id: CoreId,
    pub(super) registry: CoreRegistry,
    pub(super) spawner: Spawner,
    pub(super) alarms: Alarms,
    pub(super) clock: Clock,
    pub(super) mailbox: Mailbox,
}

impl OnCore {
    /// Which core it is.
    pub fn id(&self) -> CoreId {
        self.id
    }

    /// The registry of servers and transports, as this core sees it.
    pub fn registry(&self) -> &CoreRegistry {
        &self.registry
    }

    /// Runs a future on this core until it ends. It shares the core with every connection: it must not block, and must
    /// let others run.
    pub fn spawn(&self, future: impl Future<Output = ()> + 'static) {
        self.spawner.spawn(Box::pin(future));
    }

    /// Nanoseconds since the process began to serve, by the clock that all cores share.
    pub fn now(&self) -> Nanos {
        self.clock.nanos()
    }

    /// Waits; a time that never comes is waited for for ever.
    pub fn sleep(&self, time: Duration) -> impl Future<Output = ()> + use<> {
        let (alarms, clock) = (self.alarms.clone(), self.clock);
        let until = clock.nanos().saturating_add(nanos(time));
        let mut alarm: Option<Alarm> = None;
        poll_fn(move |context| {
            if clock.nanos() >= until {
                return Poll::Ready(());
            }
            match &alarm {
                Some(alarm) => alarm.keep(context),
                None => alarm = Some(alarms.set(until, context.waker().clone())),
            }
            Poll::Pending
        })
    }

    /// Tells subscribers, on every core, that the list of the program's own tools changed.
    pub fn notify_tools_changed(&self) {
        self.mailbox.push(Mail::Changed(Change::Tools));
    }

    /// Tells subscribers, on every core, that the list of its prompts changed.
    pub fn notify_prompts_changed(&self) {
        self.mailbox.push(Mail::Changed(Change::Prompts));
    }

    /// Tells subscribers, on every core, that the list of its resources changed.
    pub fn notify_resources_changed(&self) {
        self.mailbox.push(Mail::Changed(Change::Resources));
    }

    /// Tells subscribers of one of its resources, on every core, that its contents changed. One core saying it is
    /// enough.
    pub fn resource_updated(&self, uri: impl Into<String>) {
        self.mailbox.push(Mail::Changed(Change::Resource(uri.into())));
    }

    /// Lets the core's other tasks and its connections have a turn.
    pub fn pause(&self) -> impl Future<Output = ()> + use<> {
        let mut paused = false;
        poll_fn(move |context| {
            if std::mem::replace(&mut paused, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

/// What an embedding program adds to serving.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Called on each core when it begins, and again when it is restarted.
    pub each_core: Option<Arc<dyn Fn(OnCore) + Send + Sync>>,
    /// Called once, before the cores start, with the registry for other threads.
    pub registry: Option<Arc<dyn Fn(Registry) + Send + Sync>>,
    /// Called once, before the cores start, with the health of all of them.
    pub health: Option<Arc<dyn Fn(OwnHealth) + Send + Sync>>,
    /// The mean write latency of a shard that alarms it, instead of the configured one.
    pub write_limit: Option<Nanos>,
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hooks").field("write_limit", &self.write_limit).finish_non_exhaustive()
    }
}
