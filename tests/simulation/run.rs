//! Runs of seeds: how many, for how long, and what is said of one that failed.
//!
//! Not here: what happens in one (`world`).
//! Invariant: a failure names its seed and the command that repeats it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::str::FromStr;
use std::time::{Duration, Instant};

use corelane::ids::CoreId;
use corelane::metrics::{CoreMetrics, Registry};
use corelane::upstream::native::Server;

use super::chance::Quirk;
use super::ledger::Fate;
use super::planted::Bug;
use super::sights::{Sight, Sights};
use super::sim::{CORES_MAX, SHARDS_PER_CORE_MAX};
use super::tools::{Site, server};
use super::world::World;

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 20;
/// Seeds of which every quirk should have shown.
const SEEDS_OF_ALL: u64 = 60;
/// Events that a seed's cores see at least.
const STEPS: u64 = 10_000;

/// What came of a seed.
pub struct Outcome {
    pub steps: u64,
    pub digest: u64,
    pub answered: u64,
    pub shown: [u64; Quirk::ALL.len()],
    pub sights: Sights,
    pub failure: Option<String>,
}

/// What all seeds of a thread share.
pub struct Runs {
    server: Rc<Server<Site>>,
    counters: Counters,
}

/// Counters for worlds of every size: they live as long as the process, so all seeds use the same.
pub struct Counters(Vec<Vec<&'static CoreMetrics>>);

impl Counters {
    fn new() -> Counters {
        let sizes = (1..=CORES_MAX).flat_map(|cores| (1..=SHARDS_PER_CORE_MAX).map(move |shards| (cores, shards)));
        let of = |(cores, shards)| {
            let registry = Box::leak(Box::new(Registry::sharded(std::iter::repeat_n(shards, cores))));
            (0..cores).map(|core| &**registry.core(CoreId(core as u16))).collect()
        };
        Counters(sizes.map(of).collect())
    }

    /// Those of so many cores with so many shards each.
    pub fn of(&self, cores: usize, shards: usize) -> &[&'static CoreMetrics] {
        &self.0[(cores - 1) * SHARDS_PER_CORE_MAX + shards - 1]
    }
}

fn from_environment<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is {text}, and has to be a whole number")))
}

impl Runs {
    /// None yet.
    pub fn new() -> Runs {
        Runs { server: Rc::new(server()), counters: Counters::new() }
    }

    /// Runs a seed.
    pub fn run(&self, seed: u64, planted: Option<Bug>, steps: u64) -> Outcome {
        let mut world = World::of(seed, planted, &self.server, &self.counters);
        let ended = catch_unwind(AssertUnwindSafe(|| world.live(steps)));
        let sim = &world.sim;
        let mut failure = sim.failure.clone();
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            failure = Some(format!("it panicked: {}", text.unwrap_or_default()));
        }
        let failure = failure.map(|text| {
            format!(
                "seed {seed}, step {}: {text}\n    quirks: {}; {:?}\n    again: CORELANE_SEED={seed} scripts/simulate",
                sim.steps,
                sim.quirks.names().join(", "),
                sim.bounds
            )
        });
        let answered = sim.ledger.count(Fate::Answered);
        let (steps, digest, shown, sights) = (sim.steps, sim.trace.digest(), sim.quirks.shown(), sim.sights);
        let outcome = Outcome { steps, digest, answered, shown, sights, failure };
        // What is left of a world that failed may fall over when it is taken down.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(world)));
        outcome
    }
}

/// The time that this thread has had a CPU: what others do on the machine does not count.
fn busy_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|nanos| nanos.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// The events of a seed.
pub fn steps() -> u64 {
    from_environment("CORELANE_STEPS").unwrap_or(STEPS)
}

#[test]
fn every_seed_ends_well() {
    let runs = Runs::new();
    let steps = steps();
    let (first, count, time) = match from_environment::<u64>("CORELANE_SEED") {
        Some(seed) => (seed, 1, None),
        None => (
            from_environment("CORELANE_FIRST_SEED").unwrap_or(1),
            from_environment("CORELANE_SEEDS").unwrap_or(SEEDS),
            from_environment("CORELANE_SECONDS").map(Duration::from_secs),
        ),
    };
    let (started, busy_before) = (Instant::now(), busy_seconds());
    let (mut seeds, mut done, mut answered, mut shown) = (0, 0, 0, [0; Quirk::ALL.len()]);
    let mut sights = Sights::default();
    // For finding out how many seeds fail, and in which ways.
    let goes_on = std::env::var_os("CORELANE_GO_ON").is_some();
    let more = |seeds: u64| time.map_or(seeds < count, |time| started.elapsed() < time);
    while more(seeds) {
        let outcome = runs.run(first + seeds, None, steps);
        if let Some(failure) = outcome.failure {
            assert!(goes_on, "{failure}");
            println!("{failure}");
        }
        seeds += 1;
        done += outcome.steps;
        answered += outcome.answered;
        sights.add(&outcome.sights);
        for (sum, more) in shown.iter_mut().zip(outcome.shown) {
            *sum += more;
        }
    }
    let (seconds, busy) = (started.elapsed().as_secs_f64(), busy_seconds() - busy_before);
    println!("{seeds} seeds from {first} on, {done} steps in {seconds:.1} s: {:.0} steps/s", done as f64 / seconds);
    println!("{:.0} steps per second of a CPU's time; {answered} requests answered", done as f64 / busy);
    let quirks = Quirk::ALL.iter().zip(shown).map(|(quirk, times)| (format!("{quirk:?}"), times));
    let sights = Sight::ALL.iter().map(|sight| (format!("{sight:?}"), sights.count(*sight)));
    for (what, times) in quirks.chain(sights) {
        println!("    {what}: {times}");
        assert!(times > 0 || seeds < SEEDS_OF_ALL, "{what} was not seen in {seeds} seeds: nothing of it was tried");
    }
}

#[test]
fn a_seed_is_the_same_every_time() {
    let runs = Runs::new();
    for seed in 1..=2 {
        let [one, other] = [(); 2].map(|()| runs.run(seed, None, steps()));
        assert_eq!((one.steps, one.digest), (other.steps, other.digest), "seed {seed}");
        assert_ne!(one.digest, runs.run(seed + 100, None, steps()).digest, "another seed is another course of events");
    }
}

/// A harness that cannot fail proves nothing.
#[test]
fn every_planted_bug_is_found() {
    let runs = Runs::new();
    for bug in Bug::ALL {
        let found = (1..=1000).find_map(|seed| {
            let failure = runs.run(seed, Some(bug), STEPS).failure?;
            Some((seed, failure))
        });
        let (seed, failure) = found.unwrap_or_else(|| panic!("{bug:?} was not found within 1,000 seeds"));
        println!("{bug:?}: found by seed {seed}: {failure}");
    }
}
