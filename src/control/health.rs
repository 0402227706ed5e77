//! The state of every core, written by `boot` and the cores, read by the control thread.
//!
//! Not a watchdog: who notices that a core died, or stands still, is `boot`'s concern.
//! Invariant: one relaxed store changes a state and nobody ever waits; a reader may see states of different cores from
//! slightly different moments.

use crate::ids::CoreId;
use crate::metrics::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// What a core is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CoreState {
    /// Not serving yet.
    Starting,
    /// Serving.
    Ready,
    /// Finishing what is in flight, taking nothing new.
    Draining,
    /// Its thread is gone and not back yet.
    Dead,
    /// It serves, but has not come back from what it does for so long that its connections wait.
    Stalled,
}

/// The states of all cores; a clone is another handle to the same states.
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    cores: Box<[AtomicU8]>,
    draining: AtomicBool,
}

/// The state of the process at one moment: what `GET /healthz` answers, but for the zone.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthReport {
    /// At least one core has not died.
    pub alive: bool,
    /// Every core serves, and nothing is draining.
    pub ready: bool,
    /// No new work is taken, for good.
    pub draining: bool,
    /// What each core is doing.
    pub cores: Vec<CoreState>,
    /// Shards of the registry whose writes are slow.
    pub alarmed_shards: u64,
    /// Whether a core lets no registration in.
    pub admission_closed: bool,
}

/// The health of the server that this process is, for any of its threads (`ServeOptions::with_health`). Clones are the
/// same.
#[derive(Clone, Debug)]
pub struct OwnHealth {
    health: Health,
    metrics: Arc<Registry>,
}

impl OwnHealth {
    pub(crate) fn new(health: Health, metrics: Arc<Registry>) -> OwnHealth {
        OwnHealth { health, metrics }
    }

    /// The state now. It reads what the cores publish: nobody is asked, so nobody who stands still is waited for.
    pub fn report(&self) -> HealthReport {
        self.health.report(&self.metrics)
    }
}

impl CoreState {
    /// The word under which it is shown.
    pub const fn label(self) -> &'static str {
        match self {
            CoreState::Starting => "starting",
            CoreState::Ready => "ready",
            CoreState::Draining => "draining",
            CoreState::Dead => "dead",
            CoreState::Stalled => "stalled",
        }
    }

    fn from_byte(byte: u8) -> CoreState {
        match byte {
            0 => CoreState::Starting,
            1 => CoreState::Ready,
            2 => CoreState::Draining,
            4 => CoreState::Stalled,
            _ => CoreState::Dead,
        }
    }
}

impl Health {
    /// The states of `cores` cores, all starting.
    pub fn new(cores: usize) -> Health {
        let cores = std::iter::repeat_with(|| AtomicU8::new(CoreState::Starting as u8)).take(cores).collect();
        Health { shared: Arc::new(Shared { cores, draining: AtomicBool::new(false) }) }
    }

    /// Says what a core is doing now.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn set(&self, core: CoreId, state: CoreState) {
        self.shared.cores[core.index()].store(state as u8, Relaxed);
    }

    /// Says of a core that serves that it stands still, or of one that stood still that it goes on. Whatever else it is
    /// doing stays as it is: the core itself says so at the same time.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn stands_still(&self, core: CoreId, does: bool) {
        let (from, to) = match does {
            true => (CoreState::Ready, CoreState::Stalled),
            false => (CoreState::Stalled, CoreState::Ready),
        };
        // Refused only if the state is another by now.
        let _ = self.shared.cores[core.index()].compare_exchange(from as u8, to as u8, Relaxed, Relaxed);
    }

    /// What a core is doing.
    ///
    /// # Panics
    /// If there is no such core.
    pub fn get(&self, core: CoreId) -> CoreState {
        CoreState::from_byte(self.shared.cores[core.index()].load(Relaxed))
    }

    /// The states in the order of the cores.
    pub fn states(&self) -> impl Iterator<Item = CoreState> + '_ {
        self.shared.cores.iter().map(|state| CoreState::from_byte(state.load(Relaxed)))
    }

    /// Says that the process takes no new work; there is no way back.
    pub fn begin_drain(&self) {
        self.shared.draining.store(true, Relaxed);
    }

    /// Whether the process takes no new work.
    pub fn is_draining(&self) -> bool {
        self.shared.draining.load(Relaxed)
    }

    /// Whether new work is welcome: every core serves and nothing is draining.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.states().all(|state| state == CoreState::Ready)
    }

    /// Whether restarting the process is not called for: at least one core has not died.
    pub fn is_alive(&self) -> bool {
        self.states().any(|state| state != CoreState::Dead)
    }

    /// All of it, with what the cores say in `metrics`.
    pub fn report(&self, metrics: &Registry) -> HealthReport {
        let of_cores = || (0..metrics.cores()).map(|core| metrics.core(CoreId(core as u16)));
        HealthReport {
            alive: self.is_alive(),
            ready: self.is_ready(),
            draining: self.is_draining(),
            cores: self.states().collect(),
            alarmed_shards: of_cores().map(|core| core.registry_alarmed.get()).sum(),
            admission_closed: of_cores().any(|core| core.registry_closed.get() > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_core_and_no_drain() {
        let health = Health::new(2);
        assert!(!health.is_ready() && health.is_alive());
        health.set(CoreId(0), CoreState::Ready);
        assert!(!health.is_ready());
        health.clone().set(CoreId(1), CoreState::Ready);
        assert!(health.is_ready());
        health.set(CoreId(1), CoreState::Dead);
        assert!(!health.is_ready() && health.is_alive());
        health.set(CoreId(0), CoreState::Dead);
        assert!(!health.is_alive());
        let all = [CoreState::Starting, CoreState::Ready, CoreState::Draining, CoreState::Dead, CoreState::Stalled];
        for state in all {
            health.set(CoreId(0), state);
            assert_eq!(health.get(CoreId(0)), state);
        }
    }

    #[test]
    fn only_a_core_that_serves_is_said_to_stand_still() {
        let health = Health::new(1);
        health.stands_still(CoreId(0), true);
        assert_eq!(health.get(CoreId(0)), CoreState::Starting);
        health.set(CoreId(0), CoreState::Ready);
        health.stands_still(CoreId(0), true);
        assert!(!health.is_ready() && health.is_alive());
        health.stands_still(CoreId(0), false);
        assert!(health.is_ready());
        health.stands_still(CoreId(0), true);
        health.set(CoreId(0), CoreState::Draining);
        health.stands_still(CoreId(0), false);
        assert_eq!(health.get(CoreId(0)), CoreState::Draining);
    }

    #[test]
    fn a_report_says_what_cores_do_and_what_they_publish() {
        let (health, metrics) = (Health::new(2), Arc::new(Registry::new(2)));
        let own = OwnHealth::new(health.clone(), Arc::clone(&metrics));
        let expected = HealthReport {
            alive: true,
            ready: false,
            draining: false,
            cores: vec![CoreState::Starting; 2],
            alarmed_shards: 0,
            admission_closed: false,
        };
        assert_eq!(own.report(), expected);
        health.set(CoreId(0), CoreState::Dead);
        health.set(CoreId(1), CoreState::Dead);
        health.begin_drain();
        metrics.core(CoreId(0)).registry_alarmed.set(2);
        metrics.core(CoreId(1)).registry_alarmed.set(3);
        metrics.core(CoreId(1)).registry_closed.set(1);
        let expected = HealthReport {
            alive: false,
            ready: false,
            draining: true,
            cores: vec![CoreState::Dead; 2],
            alarmed_shards: 5,
            admission_closed: true,
        };
        assert_eq!(own.report(), expected);
        let health = Health::new(1);
        health.set(CoreId(0), CoreState::Ready);
        assert!(health.report(&Registry::new(1)).ready);
    }

    #[test]
    fn a_drain_has_no_way_back() {
        let health = Health::new(1);
        health.set(CoreId(0), CoreState::Ready);
        health.begin_drain();
        assert!(!health.is_ready() && health.is_draining() && health.is_alive());
    }
}
