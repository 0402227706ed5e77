//! What all parts of a simulated world share: the time, chance, the trace, the ledger, and the first thing that was
//! found to be wrong.
//!
//! Not here: the parts (`world` owns them).
//! Invariant: time goes forward only; the first failure stays.

use corelane::server::service::Nanos;

use super::chance::{Chance, Quirk, Quirks};
use super::ledger::Ledger;
use super::planted::Bug;
use super::sights::Sights;
use super::trace::Trace;

pub const MICROSECOND: Nanos = 1_000;
pub const MILLISECOND: Nanos = 1_000 * MICROSECOND;
pub const SECOND: Nanos = 1_000 * MILLISECOND;

/// Cores of the largest world, and shards of each.
pub const CORES_MAX: usize = 4;
pub const SHARDS_PER_CORE_MAX: usize = 3;

/// Events that are kept for replay where all are.
pub const ALL_EVENTS: usize = 1_000_000;

/// Connections that a core takes in to tell them that there is no room.
pub const RESERVE: usize = 64;

/// The bounds of a seed, as the simulator knows them: it does not ask the product what its bounds are.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub cores: usize,
    pub shards_per_core: usize,
    pub ring_slots: usize,
    pub batch_max: usize,
    pub in_flight: usize,
    pub pipeline_bytes: usize,
    pub egress_bytes: usize,
    pub connections_max: usize,
    pub sessions_max: usize,
    pub replay_events: usize,
    pub call_time: Nanos,
    pub keep_alive: Nanos,
    pub write_stall: Nanos,
    pub linger: Nanos,
    pub stream_keep_alive: Nanos,
    pub session_idle: Nanos,
    pub sweep_every: Nanos,
    pub frame_time: Nanos,
    pub drain_time: Nanos,
    /// Most bytes of one message that a client sends.
    pub payload_max: usize,
    /// What one connection may send; 0 for as much as it likes.
    pub messages_per_s: u64,
    pub message_burst: u64,
}

impl Bounds {
    /// Connections that all cores together serve at most, where tables are small.
    pub fn connections_most(&self) -> u64 {
        3 * self.cores as u64
    }

    /// Bounds that a seed chooses: the smaller they are, the sooner they are met.
    pub fn some(chance: &mut Chance) -> Bounds {
        let cores = chance.between(1, CORES_MAX as u64) as usize;
        Bounds {
            cores,
            shards_per_core: chance.between(1, SHARDS_PER_CORE_MAX as u64) as usize,
            ring_slots: chance.one_of(&[16, 16, 32, 64, 1024]),
            batch_max: chance.one_of(&[1, 4, 64]),
            in_flight: chance.one_of(&[1, 2, 4, 16]),
            pipeline_bytes: chance.one_of(&[512, 4096]),
            egress_bytes: chance.one_of(&[2048, 16_384, 65_536]),
            connections_max: chance.one_of(&[1000, 1000, 1000, 4]),
            sessions_max: chance.one_of(&[1000, 1000, 1000, 2]),
            replay_events: chance.one_of(&[0, 2, 64, ALL_EVENTS]),
            call_time: 2 * SECOND,
            keep_alive: 20 * SECOND,
            write_stall: 5 * SECOND,
            linger: SECOND,
            stream_keep_alive: chance.one_of(&[20 * MILLISECOND, 300 * MILLISECOND, 15 * SECOND]),
            session_idle: 30 * SECOND,
            sweep_every: chance.one_of(&[SECOND, 5 * SECOND]),
            frame_time: 5 * SECOND,
            drain_time: 10 * SECOND,
            payload_max: 24 * 1024,
            messages_per_s: chance.one_of(&[0, 0, 100, 10_000]),
            message_burst: chance.one_of(&[1, 8]),
        }
    }
}

/// See the module.
pub struct Sim {
    pub now: Nanos,
    pub chance: Chance,
    pub quirks: Quirks,
    pub bounds: Bounds,
    pub trace: Trace,
    pub ledger: Ledger,
    pub sights: Sights,
    /// Events that went into cores.
    pub steps: u64,
    pub planted: Option<Bug>,
    /// Cores that died, and when the last did.
    pub deaths: u64,
    pub last_death: Nanos,
    /// The last time at which time stood still for everybody, or for a core: who was waited for may be given up.
    pub last_pause: Nanos,
    /// The last time after which sessions may be found to have idled for too long.
    pub last_idling: Nanos,
    /// The last time at which somebody was cut off who was told more than it read.
    pub last_cut: Nanos,
    /// Nobody asks for anything new.
    pub is_calm: bool,
    pub failure: Option<String>,
}

impl Sim {
    /// The world of a seed, before anything has happened.
    pub fn of(seed: u64, planted: Option<Bug>) -> Sim {
        let mut chance = Chance::of(seed);
        Sim {
            now: SECOND,
            quirks: Quirks::some(&mut chance),
            bounds: Bounds::some(&mut chance),
            chance,
            trace: Trace::new(),
            ledger: Ledger::default(),
            sights: Sights::default(),
            steps: 0,
            planted,
            deaths: 0,
            last_death: 0,
            last_pause: 0,
            last_idling: 0,
            last_cut: 0,
            is_calm: false,
            failure: None,
        }
    }

    /// Something is wrong.
    #[cold]
    pub fn fail(&mut self, text: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(text.into());
        }
    }

    /// Something is wrong unless this holds.
    #[inline]
    pub fn hold(&mut self, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.fail(text());
        }
    }

    /// Whether a quirk shows here, once in so many.
    #[inline]
    pub fn show(&mut self, quirk: Quirk, times: u64) -> bool {
        self.quirks.show(&mut self.chance, quirk, times)
    }

    /// Whether a planted bug shows here, once in so many.
    #[inline]
    pub fn is_bitten(&mut self, bug: Bug, times: u64) -> bool {
        self.planted == Some(bug) && self.chance.once_in(times)
    }
}
