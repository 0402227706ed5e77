//! The first curve of overload, in virtual time: a server with five places of ten milliseconds, offered half to ten
//! times what it gets done, and what becomes of those who come.
//!
//! Not here: sockets (`tests/wire/overloaded.rs`), a real machine (`bench/scenarios/overload_upstream.toml`).
//! Invariant: whoever comes is served or refused, and is counted once for each time they come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;

const MS: Nanos = 1_000_000;
const SECOND: Nanos = 1000 * MS;
const PLACES: usize = 5;
const TAKES: Nanos = 10 * MS;
const ROOM: Room = Room { calls: 2 * 64 * PLACES, bytes: 1 << 26 };

/// What came of those who came in a span of time.
#[derive(Default, Debug)]
struct Curve {
    came: u64,
    /// Times from coming to the answer, and to the refusal.
    served: Vec<Nanos>,
    refused: Vec<Nanos>,
    /// Of those who were served and refused, the requests.
    requests: [u64; 2],
}

impl Curve {
    fn percentile(times: &mut [Nanos], of: usize) -> Nanos {
        times.sort_unstable();
        times.get(times.len().saturating_sub(1) * of / 100).copied().unwrap_or(0)
    }
}

/// A number from 0 to 1 that nobody chose.
fn chance(state: &mut u64) -> f64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// When somebody came, how often they have come back, and with what.
type Caller = (Nanos, u32, Class);

/// A world of one server: calls come as by Poisson at the rate of the moment, and whoever is refused comes back so
/// often at once.
struct World {
    queue: Queue<Caller>,
    pace: Pace,
    now: Nanos,
    next: Nanos,
    /// Ends of the calls in flight, and when their callers came.
    busy: BinaryHeap<Reverse<(Nanos, Caller)>>,
    seed: u64,
    retries: u32,
    class: fn(u64) -> Class,
    number: u64,
}

impl World {
    fn new(seed: u64, retries: u32, class: fn(u64) -> Class) -> World {
        let queue = Queue::default();
        let (pace, busy) = (Pace::default(), BinaryHeap::new());
        World { queue, pace, now: 0, next: 0, busy, seed, retries, class, number: 0 }
    }

    fn scale(&self) -> Scale {
        self.pace.scale(5 * MS, PLACES)
    }

    fn begin(&mut self, caller: Caller) {
        // A tenth more or less, as real ones have it.
        let takes = (TAKES as f64 * (0.9 + 0.2 * chance(&mut self.seed))) as Nanos;
        self.busy.push(Reverse((self.now + takes, caller)));
    }

    fn arrive(&mut self, caller: Caller, curve: &mut Curve) {
        let class = caller.2;
        let scale = self.scale();
        if self.busy.len() < PLACES {
            self.queue.went_by(self.now, || scale);
            return self.begin(caller);
        }
        let new = Arrival { class, share: (self.number % 16) as u8, bytes: 200, until: self.now + 30 * SECOND };
        match self.queue.admit(self.now, &new, ROOM, &scale) {
            Ok(()) => self.queue.put(self.now, &new, &scale, caller),
            Err(_) => self.refuse(caller, curve),
        }
    }

    fn refuse(&mut self, (came, tries, class): Caller, curve: &mut Curve) {
        curve.refused.push(self.now - came);
        curve.requests[1] += u64::from(class == Class::Request);
        if tries < self.retries {
            self.arrive((self.now, tries + 1, class), curve);
        }
    }

    /// Runs for so long while so many come a second.
    fn run(&mut self, time: Nanos, rate: f64) -> Curve {
        let (mut curve, until) = (Curve::default(), self.now + time);
        if self.next < self.now {
            self.next = self.now;
        }
        loop {
            let ends = self.busy.peek().map_or(Nanos::MAX, |Reverse((end, _))| *end);
            let due = self.queue.deadline().unwrap_or(Nanos::MAX);
            let at = ends.min(due).min(self.next).max(self.now);
            if at >= until {
                self.now = until;
                return curve;
            }
            self.now = at;
            if at == self.next {
                curve.came += 1;
                self.number += 1;
                let class = (self.class)(self.number);
                self.arrive((at, 0, class), &mut curve);
                self.next = at + ((-(1.0 - chance(&mut self.seed)).ln() / rate) * 1e9) as Nanos + 1;
            }
            while let Some(&Reverse((end, (came, _, class)))) = self.busy.peek()
                && end <= at
            {
                self.busy.pop();
                curve.served.push(at - came);
                curve.requests[0] += u64::from(class == Class::Request);
                self.pace.took(TAKES);
            }
            while self.busy.len() < PLACES
                && let Some(caller) = { self.queue.take(at, &self.scale()) }
            {
                self.begin(caller);
            }
            self.queue.sweep(at);
            while let Some((caller, _)) = self.queue.turned() {
                self.refuse(caller, &mut curve);
            }
        }
    }
}

fn request(_: u64) -> Class {
    Class::Request
}

#[test]
fn goodput_holds_and_refusals_are_heard_at_once_at_any_load() {
    let peak = (PLACES as f64) * 1e9 / TAKES as f64;
    for (load, seed) in [0.5, 0.8, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0, 10.0].into_iter().zip(1u64..) {
        for retries in [0, 3] {
            let mut world = World::new(seed * 7919, retries, request);
            world.run(SECOND, peak / 2.0);
            let mut curve = world.run(30 * SECOND, peak * load);
            let goodput = curve.served.len() as f64 / 30.0 / peak;
            let (served, refused) = (curve.served.len(), curve.refused.len());
            let p99 = Curve::percentile(&mut curve.served, 99) as f64 / 1e6;
            let heard = Curve::percentile(&mut curve.refused, 99) as f64 / 1e6;
            let told = format!(
                "{load}x, {retries} retries: goodput {goodput:.3}, {refused} refused of {}, admitted p99 {p99:.1} ms, \
                 refusal p99 {heard:.2} ms",
                curve.came
            );
            println!("{told}");
            if retries == 0 {
                assert!(curve.came.abs_diff((served + refused) as u64) < 100, "{told}");
            }
            // At what is just got done calls that come as they like leave places empty whatever is done.
            let wanted = match load {
                ..1.0 => load * 0.95,
                ..1.1 => 0.92,
                _ => 0.95,
            };
            assert!(goodput >= wanted, "{told}");
            // And there bursts are waited for, as long as they look like bursts.
            assert!(p99 <= if load < 1.2 { 45.0 } else { 30.0 }, "{told}");
            assert!(heard <= 2.0, "{told}");
        }
    }
}

#[test]
fn after_a_spike_it_is_back_within_a_second() {
    for retries in [0, 3] {
        let mut world = World::new(4711, retries, request);
        world.run(2 * SECOND, 350.0);
        world.run(60 * SECOND, 5_000.0);
        let first = world.run(SECOND, 350.0);
        let second = world.run(10 * SECOND, 350.0);
        let share = |curve: &Curve| curve.served.len() as f64 / curve.came as f64;
        assert!(share(&first) >= 0.9, "{retries}: {}", share(&first));
        assert!(share(&second) >= 0.99 && !world.queue.is_overloaded(), "{retries}: {}", share(&second));
    }
}

#[test]
fn a_flood_of_refreshes_costs_requests_nothing() {
    // One in ten is a request: 400 of them a second, and 3,600 lists that somebody reads again.
    let mut world = World::new(99, 0, |number| if number.is_multiple_of(10) { Class::Request } else { Class::Refresh });
    world.run(SECOND, 100.0);
    let curve = world.run(20 * SECOND, 4_000.0);
    let [served, refused] = curve.requests;
    let late = curve.refused.iter().filter(|time| **time > 2 * MS).count();
    println!("requests: {served} served, {refused} refused; {late} of {} refusals late", curve.refused.len());
    assert!(served > 7_500 && refused * 50 < served, "requests: {served} served, {refused} refused");
    assert!(curve.served.len() >= 9_500, "and places are used: {}", curve.served.len());
    assert!(late * 20 < curve.refused.len(), "{late} of {} were let in only to be turned away", curve.refused.len());
}
