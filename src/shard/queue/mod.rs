//! Calls that wait for a place: who may, who is next, and who is turned away before time and memory are wasted on them.
//!
//! Not here: places (`upstream/gateway/turns`), clocks, what a caller is told. Invariant: whoever was put in comes out
//! once, by `take`, `remove`, `drain` or `turned`; there are never more calls or bytes than there may be; nobody comes
//! out by `take` whose time is up.
//!
//! Who would have to wait for too long is turned away when they come, so that a refusal is heard at once; whoever was
//! let in is turned away only if it takes longer than it looked like. While more come than go the newest of the best
//! class is next, because its caller is the likeliest to be there still (adaptive LIFO), but for one that would have
//! waited in vain if it were not sent now. The numbers and the LIFO are those of "Fail at Scale" (Facebook, 2015): a
//! target of 5 ms, an interval of 100 ms; that calls may wait for twice the target is folly's (`Codel.h`).

mod class;
#[cfg(test)]
mod curve_tests;
mod levels;
mod pace;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use class::{Class, SHARES, share_of};
use levels::Levels;
pub use pace::{Pace, Scale};
use standing::Standing;

use crate::metrics::Unserved;

/// Nanoseconds of the caller's clock.
type Nanos = u64;

/// While more come than go a call is let in if it looks as if it had to wait for so many targets at most. With one, as
/// in folly, places stand empty where calls come in bunches: a tenth of what is got done, in `curve_tests`.
const ADMIT_TARGETS: u64 = 2;
/// It is turned away all the same once it has waited for so many.
const PATIENCE_TARGETS: u64 = 3;

/// How much may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Calls.
    pub calls: usize,
    /// Bytes of these.
    pub bytes: usize,
}

/// What is to be known of a call that may have to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Its class.
    pub class: Class,
    /// Of which share of that class it is (`share_of`).
    pub share: u8,
    /// What it takes in memory.
    pub bytes: usize,
    /// When its time is up; `Nanos::MAX` if that is somebody else's to know.
    pub until: Nanos,
}

/// A call that waits.
struct Waiting<T> {
    since: Nanos,
    /// How long it was told that it may take.
    patience_ends: Nanos,
    until: Nanos,
    bytes: usize,
    call: T,
}

impl<T> Waiting<T> {
    fn ends(&self) -> Nanos {
        self.patience_ends.min(self.until)
    }
}

/// The calls that wait for one server.
pub struct Queue<T> {
    /// By class, in the order in which they came.
    lines: [VecDeque<Waiting<T>>; Class::COUNT],
    calls: usize,
    bytes: usize,
    standing: Standing,
    levels: Levels,
    /// Nobody has waited for too long before.
    due: Nanos,
    /// Those who were let in and are turned away.
    turned: Vec<(T, Unserved)>,
}

impl<T> Default for Queue<T> {
    fn default() -> Queue<T> {
        Queue {
            lines: Default::default(),
            calls: 0,
            bytes: 0,
            standing: Standing::default(),
            levels: Levels::default(),
            due: Nanos::MAX,
            turned: Vec::new(),
        }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.calls
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.calls == 0
    }

    /// What they take in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether more come than go.
    pub fn is_overloaded(&self) -> bool {
        self.standing.is_overloaded()
    }

    /// How many of the shares of all classes are let in, in hundredths.
    pub fn level_percent(&self) -> u64 {
        self.levels.percent()
    }

    /// Whether there is anybody to be sent or told.
    pub fn has_work(&self) -> bool {
        self.calls > 0 || !self.turned.is_empty()
    }

    /// A call found a place and does not wait.
    #[inline]
    pub fn went_by(&mut self, now: Nanos, scale: impl FnOnce() -> Scale) {
        if self.standing.is_overloaded() {
            self.came(now, true, &scale());
        }
    }

    fn came(&mut self, now: Nanos, found_place: bool, scale: &Scale) {
        if self.standing.came(now, found_place, scale) {
            self.levels = Levels::default();
        }
    }

    /// Whether a call may wait that found no place. It is put in next, if so; room may have been made for it by turning
    /// others away.
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&mut self, now: Nanos, new: &Arrival, room: Room, scale: &Scale) -> Result<(), Unserved> {
        self.came(now, false, scale);
        self.sweep(now);
        let oldest = self.lines.iter().filter_map(|line| line.front()).map(|one| now - one.since).max();
        self.standing.oldest(now, oldest, scale);
        if new.class.is_sheddable() {
            self.admit_by_delay(now, new, scale)?;
        }
        while self.calls >= room.calls && room.calls > 0 && self.displace(new.class) {}
        if self.calls >= room.calls {
            return Err(Unserved::QueueCalls);
        }
        // One that is larger than all there may be waits alone.
        while self.calls > 0 && self.bytes + new.bytes > room.bytes {
            if !self.displace(new.class) {
                return Err(Unserved::QueueBytes);
            }
        }
        Ok(())
    }

    /// The part of `admit` that looks at time.
    fn admit_by_delay(&mut self, now: Nanos, new: &Arrival, scale: &Scale) -> Result<(), Unserved> {
        let is_in = self.levels.admits(now, new.class, new.share, scale.target * ADMIT_TARGETS);
        if self.standing.is_overloaded() && !is_in {
            return Err(Unserved::Priority);
        }
        let ahead: usize = self.lines[..=new.class.index()].iter().map(VecDeque::len).sum();
        // How long the last of so many will have waited when the one before them is sent.
        let wait = |calls: usize| scale.gap.saturating_mul(calls as u64);
        if !self.standing.is_overloaded() && ahead > 0 && wait(ahead) >= scale.interval {
            self.standing.stands(now);
        }
        if !self.standing.is_overloaded() {
            return Ok(());
        }
        if ahead > 0 && wait(ahead) >= scale.target * ADMIT_TARGETS {
            return Err(Unserved::QueueDelay);
        }
        // Those behind it would wait for too long now: one of them does not.
        if self.calls > ahead && wait(self.calls) >= scale.target * ADMIT_TARGETS {
            self.displace(new.class);
        }
        Ok(())
    }

    /// Puts a call in that was admitted, or one that was let in before and needs a place once more.
    pub fn put(&mut self, now: Nanos, new: &Arrival, scale: &Scale, call: T) {
        let patience = match self.standing.is_overloaded() {
            true => scale.target * PATIENCE_TARGETS,
            false => scale.interval,
        };
        let patience_ends = if new.class.is_sheddable() { now.saturating_add(patience) } else { Nanos::MAX };
        let waiting = Waiting { since: now, patience_ends, until: new.until, bytes: new.bytes, call };
        self.due = self.due.min(waiting.ends());
        self.calls += 1;
        self.bytes += new.bytes;
        self.lines[new.class.index()].push_back(waiting);
    }

    /// The call that is sent now that there is a place.
    pub fn take(&mut self, now: Nanos, scale: &Scale) -> Option<T> {
        self.sweep(now);
        let line = self.lines.iter_mut().find(|line| !line.is_empty())?;
        let oldest = line.front()?;
        let wait = now - oldest.since;
        // Each of those ahead of the newest is sent in its turn, and places come in bunches.
        let wait_behind = |place: usize| scale.target.saturating_add(scale.gap.saturating_mul(place as u64 + 1));
        let mut places = line.iter().enumerate();
        let is_last_chance = places.any(|(place, one)| one.patience_ends <= now.saturating_add(wait_behind(place)));
        let newest_first = self.standing.is_overloaded() && !is_last_chance;
        let one = if newest_first { line.pop_back() } else { line.pop_front() }?;
        self.standing.oldest(now, Some(wait), scale);
        self.levels.sent(now - one.since);
        self.left(&one);
        if self.calls == 0 {
            self.standing.oldest(now, None, scale);
        }
        Some(one.call)
    }

    /// Turns away whoever has waited for too long, or has no time left.
    pub fn sweep(&mut self, now: Nanos) {
        if now < self.due {
            return;
        }
        self.due = Nanos::MAX;
        for class in 0..Class::COUNT {
            let mut at = 0;
            while let Some(one) = self.lines[class].get(at) {
                if one.ends() > now {
                    self.due = self.due.min(one.ends());
                    at += 1;
                    continue;
                }
                let why = if one.until <= now { Unserved::Expired } else { Unserved::Overdue };
                if why == Unserved::Overdue {
                    self.standing.stands(now);
                    self.levels.turned();
                }
                let Some(one) = self.lines[class].remove(at) else { break };
                self.left(&one);
                self.turned.push((one.call, why));
            }
        }
    }

    /// Turns away the newest of the worst class, if that is worse than this one.
    fn displace(&mut self, class: Class) -> bool {
        let worse = self.lines[class.index() + 1..].iter_mut().rev();
        let Some(one) = worse.filter_map(VecDeque::pop_back).next() else { return false };
        self.left(&one);
        self.levels.turned();
        self.turned.push((one.call, Unserved::Displaced));
        true
    }

    fn left(&mut self, one: &Waiting<T>) {
        self.calls -= 1;
        self.bytes -= one.bytes;
        if self.calls == 0 {
            self.due = Nanos::MAX;
        }
    }

    /// Takes out who was turned away, and why; to be asked until there is nobody.
    pub fn turned(&mut self) -> Option<(T, Unserved)> {
        self.turned.pop()
    }

    /// Takes those out who wait no longer.
    pub fn remove(&mut self, is_gone: impl Fn(&T) -> bool) -> Vec<T> {
        let mut gone = Vec::new();
        for class in 0..Class::COUNT {
            let mut at = 0;
            while let Some(one) = self.lines[class].get(at) {
                if !is_gone(&one.call) {
                    at += 1;
                } else if let Some(one) = self.lines[class].remove(at) {
                    self.left(&one);
                    gone.push(one.call);
                }
            }
        }
        gone
    }

    /// Takes everybody out, the best class first.
    pub fn drain(&mut self) -> Vec<T> {
        self.remove(|_| true)
    }

    /// Those who wait.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.lines.iter().flatten().map(|one| &one.call)
    }

    /// When somebody has waited for too long.
    pub fn deadline(&self) -> Option<Nanos> {
        (self.due != Nanos::MAX).then_some(self.due)
    }
}
