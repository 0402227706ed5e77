//! One thread's share of one group: its connections through the phases, one after another, as it is told.
//!
//! It knows its own connections alone; what all of them did is added up by `scenario`.
//!
//! Invariant: a call, a visit and a piece count from the moment at which they were due, whether or not a connection was
//! free then; each of them that was due is counted once, in the phase in which it was due.

mod crew;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    dice::Dice,
    fleet::{Address, Fleet, Reading},
    message::Script,
    scenario::{
        count::Count,
        file::{Group, Step},
        pace::{Pace, Slope},
    },
    sys,
};
use crew::Members;

/// What a thread is told of its group, and which part of it is its own.
#[derive(Clone)]
pub struct Part {
    pub group: Group,
    pub steps: Vec<Step>,
    pub targets: Vec<Address>,
    /// The place of the group's first request among those of all groups.
    pub first_ask: usize,
    /// It has connection `index`, `index + of`, and so on, of the group.
    pub index: usize,
    pub of: usize,
    /// Number of its first connection in the whole machine: chooses the source address.
    pub first: usize,
    pub seed: u64,
}

/// One phase, as it is ordered.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Order {
    pub phase: usize,
    /// By the monotonic clock.
    pub begin: u64,
    pub ns: u64,
    /// It is over when every connection is there.
    pub fill: bool,
}

/// After a phase, how long answers are waited for.
const GRACE_NS: u64 = 2_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// See the module.
pub struct Share<'a> {
    part: Part,
    fleet: &'static mut Fleet,
    members: Members<'a>,
}

impl Part {
    /// How many of the group's first `count` connections are this thread's.
    pub fn own(&self, count: usize) -> usize {
        (count + self.of - 1 - self.index) / self.of
    }

    /// Most connections it has.
    fn most(&self) -> usize {
        self.steps.iter().map(|step| self.own(step.connections_to)).max().unwrap_or(0)
    }
}

impl<'a> Share<'a> {
    /// A share with nothing open yet.
    pub fn new(part: Part, script: &'a Script) -> Result<Self, String> {
        let reading = match part.group.reads {
            None => Reading::All,
            Some(reads) if reads.bytes == 0 => Reading::None,
            Some(reads) => Reading::Sips { bytes: reads.bytes, every_ns: reads.every_ms * 1_000_000 },
        };
        let most = part.most().max(1);
        let fleet = Fleet::towards(&part.targets, most, part.first, reading).map_err(|error| error.to_string())?;
        let members = Members::new(script, &part.group, part.first_ask, most, part.seed);
        Ok(Self { part, fleet, members })
    }

    /// Goes through one phase; tells what it counted at the end of every second of it, and the rest at its end.
    pub fn phase(&mut self, order: Order, tell: &mut impl FnMut(u64, Count)) -> Result<(), String> {
        let step = self.part.steps[order.phase];
        let (from, to) = (self.part.own(step.connections_from), self.part.own(step.connections_to));
        let end = order.begin + order.ns;
        let mut pace = step.rate.map(|rate| self.pace(rate, step, order));
        self.members.begin(order.begin, end, pace.is_none());
        let mut second = 0;
        loop {
            let now = sys::now_ns();
            let passed = now.saturating_sub(order.begin);
            while passed >= (second + 1) * SECOND_NS && (second + 1) * SECOND_NS < order.ns {
                tell(second, self.members.flush());
                second += 1;
            }
            let settled = if order.fill {
                self.reach(to);
                !self.members.is_opening()
            } else {
                let share = if order.ns == 0 { 1.0 } else { (passed as f64 / order.ns as f64).min(1.0) };
                let want = from as f64 + (to as f64 - from as f64) * share;
                self.reach(if to >= from { want.floor() } else { want.ceil() } as usize);
                false
            };
            if now >= end || settled {
                // What was due up to the end is, however late this thread came to see it.
                while let Some(due) = pace.as_mut().filter(|_| !settled).and_then(|pace| pace.due(order.ns)) {
                    self.members.offer(order.begin + due, now);
                }
                break;
            }
            let mut next = self.next_change(from, to, order, passed).min(end);
            if now < order.begin {
                next = next.min(order.begin);
            }
            if let Some(pace) = &mut pace {
                while let Some(due) = pace.due(passed) {
                    self.members.offer(order.begin + due, now);
                }
                next = next.min(pace.next().map_or(end, |due| order.begin + due));
            }
            self.members.serve(self.fleet);
            self.turn(next.saturating_sub(now).min(20_000_000))?;
        }
        self.finish()?;
        tell(second, self.members.flush());
        Ok(())
    }

    fn pace(&self, rate: (f64, f64), step: Step, order: Order) -> Pace {
        // Its part of the rate is its part of the connections, which differ by one between threads.
        let most = step.connections_from.max(step.connections_to);
        let part = if most == 0 { 0.0 } else { self.part.own(most) as f64 / most as f64 };
        let slope = Slope { from: rate.0 * part, to: rate.1 * part, ns: order.ns as f64 };
        let seed = self.part.seed.wrapping_add(order.phase as u64 + 1);
        Pace::new(slope, self.part.group.poisson.then(|| Dice::new(seed)))
    }

    /// Opens or leaves, so that the first `count` connections are there and no others.
    fn reach(&mut self, count: usize) {
        while self.members.reach < count {
            let link = self.members.reach;
            self.members.reach += 1;
            self.members.enter(link, self.fleet);
        }
        while self.members.reach > count {
            self.members.reach -= 1;
            self.members.retire(self.members.reach, self.fleet);
        }
    }

    /// When the next connection comes or goes.
    fn next_change(&self, from: usize, to: usize, order: Order, passed: u64) -> u64 {
        let steps = from.abs_diff(to) as u64;
        if steps == 0 || order.fill {
            return u64::MAX;
        }
        let gap = (order.ns / steps).max(1);
        order.begin + (passed / gap + 1) * gap
    }

    /// No more is due: waits for what is under way, and counts what never ended.
    fn finish(&mut self) -> Result<(), String> {
        self.members.stop();
        let limit = sys::now_ns() + GRACE_NS;
        while self.members.under_way() && sys::now_ns() < limit {
            self.members.serve(self.fleet);
            self.turn(1_000_000)?;
        }
        self.members.give_up();
        Ok(())
    }

    fn turn(&mut self, wait_ns: u64) -> Result<(), String> {
        let wait = Some(Duration::from_nanos(wait_ns));
        self.fleet.turn(&mut self.members, wait).map_err(|error| format!("io_uring: {error}"))?;
        self.members.after_turn(self.fleet);
        Ok(())
    }
}
