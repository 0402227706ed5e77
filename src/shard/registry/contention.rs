//! Contention: from slow writes to an alarm of a shard, and from alarms to closed admission.
//!
//! | | when |
//! |---|---|
//! | a shard is alarmed | the mean of its last ten writes is over the limit, and there were ten |
//! | its alarm clears | the mean is at or under the limit, or there was no write for `HOLD` |
//! | admission closes | more than half of all shards are alarmed, or an operator said so |
//!
//! Both are evaluated on each write and on a tick: closed admission lets few writes through, and without the tick it
//! would stay closed for want of better ones.
//! Not here: whose shards are alarmed on other cores; they say so, and `Contention` adds it up.
//! Invariant: an alarm clears within `HOLD` and one tick of the last slow write.

use super::latency::{SAMPLES, WriteLatency};
use super::{Nanos, Refusal};
use crate::ids::CoreId;

/// How long an alarm outlives the last write.
pub(super) const HOLD: Nanos = 50_000_000;
/// How often alarms are looked at while there are any.
pub(super) const TICK: Nanos = 20_000_000;

/// Whether new registrations are let in.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(u8)]
pub enum Admission {
    /// By the alarms.
    #[default]
    Auto = 0,
    /// Admission control is on: nothing new is let in.
    On = 1,
    /// Admission control is off: everything is let in.
    Off = 2,
}

impl Admission {
    /// The setting of this number, as it stands in a parcel.
    pub fn from_number(number: u8) -> Option<Admission> {
        [Admission::Auto, Admission::On, Admission::Off].into_iter().find(|admission| *admission as u8 == number)
    }
}

/// What an operator is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContentionStatus {
    /// New registrations are refused.
    pub admission_closed: bool,
    /// What the operator chose.
    pub admission: Admission,
    /// Shards with an alarm, on all cores.
    pub alarmed: u16,
    /// Shards there are.
    pub shards: u16,
}

impl ContentionStatus {
    /// Whether something new is let in.
    ///
    /// # Errors
    /// If admission is closed, and by whom.
    pub fn admits(&self) -> Result<(), Refusal> {
        let ContentionStatus { admission_closed, admission, alarmed, shards } = *self;
        let by_operator = admission == Admission::On;
        if admission_closed { Err(Refusal::AdmissionClosed { alarmed, shards, by_operator }) } else { Ok(()) }
    }
}

/// Judges a shard by its writes: whether it is alarmed now.
pub(super) fn judge(latency: &mut WriteLatency, limit: Nanos, now: Nanos) -> bool {
    if latency.held() > 0 && now.saturating_sub(latency.last_at()) >= HOLD {
        latency.forget_samples();
    }
    latency.held() >= SAMPLES && latency.mean() > limit
}

/// What one core knows of the alarms of all.
#[derive(Clone, Debug)]
pub struct Contention {
    alarmed: Vec<u16>,
    shards: u16,
    admission: Admission,
}

impl Contention {
    /// Nobody is alarmed.
    pub fn new(cores: usize, shards: usize) -> Contention {
        Contention { alarmed: vec![0; cores], shards: shards as u16, admission: Admission::Auto }
    }

    /// So many shards of a core are alarmed.
    pub fn set_alarmed(&mut self, core: CoreId, alarmed: u16) {
        if let Some(count) = self.alarmed.get_mut(core.index()) {
            *count = alarmed;
        }
    }

    /// How many shards of a core are alarmed.
    pub fn alarmed_of(&self, core: CoreId) -> u16 {
        self.alarmed.get(core.index()).copied().unwrap_or(0)
    }

    /// The operator's choice.
    pub fn set_admission(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// What is so now.
    pub fn status(&self) -> ContentionStatus {
        let alarmed: u16 = self.alarmed.iter().sum();
        let admission_closed = match self.admission {
            Admission::Auto => alarmed > self.shards / 2,
            Admission::On => true,
            Admission::Off => false,
        };
        ContentionStatus { admission_closed, admission: self.admission, alarmed, shards: self.shards }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Nanos = 1_000_000;

    #[test]
    fn ten_slow_writes_alarm_and_nine_do_not() {
        let mut latency = WriteLatency::default();
        for number in 1..=10u64 {
            assert!(!judge(&mut latency, 10 * MS, number * MS), "after {} writes", number - 1);
            latency.record(11 * MS, number * MS);
        }
        assert!(judge(&mut latency, 10 * MS, 10 * MS));
        // Good writes clear it as soon as the mean is fine.
        latency.record(0, 11 * MS);
        assert!(!judge(&mut latency, 10 * MS, 11 * MS), "the mean is 9.9 ms");
    }

    #[test]
    fn an_alarm_clears_without_writes() {
        let mut latency = WriteLatency::default();
        (0..10).for_each(|_| latency.record(100 * MS, 5 * MS));
        assert!(judge(&mut latency, 10 * MS, 5 * MS + HOLD - 1));
        assert!(!judge(&mut latency, 10 * MS, 5 * MS + HOLD));
        assert_eq!((latency.held(), latency.writes()), (0, 10));
        const { assert!(HOLD + TICK + TICK <= 100 * MS, "within 100 ms, with a tick to spare") };
    }

    #[test]
    fn admission_closes_above_half_and_does_as_it_is_told() {
        let mut contention = Contention::new(2, 16);
        contention.set_alarmed(CoreId(0), 8);
        assert!(!contention.status().admission_closed, "half is not more than half");
        contention.set_alarmed(CoreId(1), 1);
        assert_eq!(
            contention.status(),
            ContentionStatus { admission_closed: true, admission: Admission::Auto, alarmed: 9, shards: 16 }
        );
        contention.set_admission(Admission::Off);
        assert!(!contention.status().admission_closed);
        contention.set_alarmed(CoreId(0), 0);
        contention.set_admission(Admission::On);
        assert!(contention.status().admission_closed);
        contention.set_admission(Admission::Auto);
        assert!(!contention.status().admission_closed);
        for admission in [Admission::Auto, Admission::On, Admission::Off] {
            assert_eq!(Admission::from_number(admission as u8), Some(admission));
        }
    }
}
