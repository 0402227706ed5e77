//! The ten stress scenarios of the original, and 500 readers beside 500 writers.
//!
//! 64 shards, 10,000 servers and 10,000 transports registered before, their owners sinks, one on each core, that take
//! what comes. A worker lets others run after every eight operations that were answered at once. Latencies are of the
//! operation, from being asked to being answered. Not here: single figures (`facts`).
//! Invariant: every attempt is counted, and one whose outcome is none it may have ends the run.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use corelane::OnCore;
use corelane::server::registry::Ownership;
use corelane::shard::registry::{Kind, Refusal};

use crate::Failure;
use crate::ranks::{Kept, Ranks};
use crate::stage::{Ground, Row, Stage, publish, within};
use crate::words::{Dice, names};

/// Servers, and as many transports.
pub const POPULATION: usize = 10_000;
/// Operations after which a worker lets others run.
const AT_ONCE: usize = 8;
/// An operation that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(1);

/// `stress`: its options.
#[derive(clap::Args)]
pub struct Stress {
    /// Cores
    #[arg(long, default_value_t = 2)]
    cores: usize,
    /// Shards
    #[arg(long, default_value_t = 64)]
    shards: usize,
    /// Share of the original's times (20 and 30 s) that is run
    #[arg(long, default_value_t = 1.0)]
    share: f64,
    /// Only this scenario of 1 to 6 and 8
    #[arg(long)]
    only: Option<String>,
    /// How often 4, 5, 6 and 8 are run; the run of the median rate is shown
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/registry_stress.json")]
    output: PathBuf,
}

/// What the workers of a scenario did.
#[derive(Clone, Default)]
pub struct Tally {
    pub operations: u64,
    pub failed: u64,
    /// Registers of a name that was taken, which are refused where they are asked for.
    pub taken: u64,
    /// What was said instead of an outcome that may be, or `late`, and how often.
    pub why: BTreeMap<String, u64>,
    pub find: Ranks,
    pub route: Ranks,
    pub register: Ranks,
    pub bind: Ranks,
}

thread_local! {
    /// One for all workers of a thread: a hundred would fill the caches with themselves.
    static HERE: RefCell<Tally> = RefCell::default();
}

/// The kinds of operations.
#[derive(Clone, Copy)]
pub enum Did {
    Find,
    Route,
    Register,
    Bind,
}

impl Tally {
    /// Counts an operation of this thread, and how long it took.
    pub fn count(did: Did, took: u64, failed: Option<String>) {
        HERE.with_borrow_mut(|tally| {
            let ranks = match did {
                Did::Find => &mut tally.find,
                Did::Route => &mut tally.route,
                Did::Register => &mut tally.register,
                Did::Bind => &mut tally.bind,
            };
            ranks.record(took);
            tally.operations += 1;
            if let Some(why) = failed {
                *tally.why.entry(why).or_default() += 1;
                tally.failed += 1;
            }
        });
    }

    /// Counts a register of this thread whose name was taken.
    fn name_was_taken() {
        HERE.with_borrow_mut(|tally| tally.taken += 1);
    }

    /// What this thread has counted since it was asked last.
    pub fn take() -> Tally {
        HERE.take()
    }

    /// What all cores have.
    pub fn of(stage: &Stage) -> Tally {
        Tally::sum((0..stage.cores()).map(|core| stage.on(core, async |_| Tally::take())).collect())
    }

    pub fn sum(tallies: Vec<Tally>) -> Tally {
        tallies.into_iter().fold(Tally::default(), |mut sum, tally| {
            sum.operations += tally.operations;
            sum.failed += tally.failed;
            sum.taken += tally.taken;
            for (why, count) in tally.why {
                *sum.why.entry(why).or_default() += count;
            }
            for (into, from) in [
                (&mut sum.find, &tally.find),
                (&mut sum.route, &tally.route),
                (&mut sum.register, &tally.register),
                (&mut sum.bind, &tally.bind),
            ] {
                into.add(from);
            }
            sum
        })
    }

    /// Latencies of each kind.
    pub fn named(&self) -> [(&'static str, &Ranks); 4] {
        [("look-up", &self.find), ("route", &self.route), ("register", &self.register), ("bind", &self.bind)]
    }

    /// Latencies of all kinds.
    pub fn all(&self) -> Ranks {
        let mut all = Ranks::default();
        self.named().into_iter().for_each(|(_, ranks)| all.add(ranks));
        all
    }
}

/// Names that all workers share.
pub struct Words {
    pub servers: Vec<String>,
    pub transports: Vec<String>,
}

/// Registers the population, half on each core, and has a sink on each core take what comes for it.
pub fn populate(stage: &Stage, words: &Arc<Words>) {
    let cores = stage.cores();
    let shared = Arc::clone(words);
    stage.work(cores, move |worker, core| {
        let words = Arc::clone(&shared);
        async move {
            let sink = core.registry().owner().expect("room");
            for (index, (server, transport)) in words.servers.iter().zip(&words.transports).enumerate() {
                if index % cores == worker {
                    core.registry().register_server(&sink, server, b"{}").await.expect("free");
                    core.registry().register_transport(&sink, transport, b"{}", None).await.expect("free");
                }
            }
            core.spawn(async move {
                loop {
                    sink.next().await;
                }
            });
        }
    });
}

/// What one worker does, at random, in parts of a hundred.
#[derive(Clone, Copy)]
pub struct Mix {
    pub find: usize,
    pub route: usize,
    pub register: usize,
    pub bind: usize,
}

/// One worker of a timed scenario.
pub async fn worker(core: OnCore, number: usize, words: Arc<Words>, mix: Mix, until: u64, most: usize) {
    let (registry, mut dice) = (core.registry().clone(), Dice::new(number as u64 + 1));
    let (mut operations, mut owners, mut name) = (0, Vec::<Ownership>::new(), String::new());
    let total = mix.find + mix.route + mix.register + mix.bind;
    let mut begun = core.now();
    while begun < until && operations < most {
        let dealt = dice.below(total);
        let server = &words.servers[dice.below(words.servers.len())];
        let transport = &words.transports[dice.below(words.transports.len())];
        let (kind, done) = if dealt < mix.find {
            (Did::Find, registry.find_server(server).map(|_| ()).ok_or(Refusal::Unknown(Kind::Server)))
        } else if dealt < mix.find + mix.route {
            (Did::Route, registry.route_to_server(server, transport, b"{\"test\":true}").await)
        } else if dealt < mix.find + mix.route + mix.register {
            use std::fmt::Write;
            name.clear();
            let _ = write!(name, "mixed_server_{}", dice.below(1_000_000));
            let owner = registry.owner().expect("room");
            let written = registry.register_server(&owner, &name, b"{}").await;
            if written.is_ok() {
                owners.push(owner);
            }
            let done = match written {
                Ok(_) => Ok(()),
                Err(Refusal::AlreadyRegistered(Kind::Server)) => {
                    Tally::name_was_taken();
                    Ok(())
                }
                Err(refusal) => Err(refusal),
            };
            (Did::Register, done)
        } else {
            (Did::Bind, registry.bind_transport_to_server(transport, server).await.map(|_| ()))
        };
        let now = core.now();
        let why = match done {
            Err(refusal) => Some(format!("{refusal:?}")),
            Ok(()) if now - begun > DEADLINE.as_nanos() as u64 => Some("late".to_owned()),
            Ok(()) => None,
        };
        Tally::count(kind, now - begun, why);
        operations += 1;
        begun = now;
        if operations.is_multiple_of(AT_ONCE) {
            core.pause().await;
            begun = core.now();
        }
    }
    // Little by little, or the end of a worker would be a pause for everybody.
    while !owners.is_empty() {
        owners.truncate(owners.len().saturating_sub(32));
        core.pause().await;
    }
}

impl Stress {
    pub fn run(self) -> Result<bool, Failure> {
        let ground = Ground::now();
        let stage = Stage::open(self.cores, self.shards)?;
        let cores = self.cores as f64;
        let words =
            Arc::new(Words { servers: names("server_", POPULATION), transports: names("transport_", POPULATION) });
        populate(&stage, &words);
        watch_alarms(&stage);
        let told = |scenario: &str, tally: &Tally| {
            if !tally.why.is_empty() {
                eprintln!("{scenario}: {:?}", tally.why);
            }
        };
        let run = |workers: usize, mix: Mix, seconds: f64, most: usize| {
            let (words, begun) = (Arc::clone(&words), Instant::now());
            let time = (seconds * self.share * 1e9) as u64;
            stage.work(workers, move |number, core| {
                let until = core.now() + time;
                worker(core, number, Arc::clone(&words), mix, until, most)
            });
            (Tally::of(&stage), begun.elapsed().as_secs_f64())
        };
        let chosen = |scenario: &str| self.only.as_deref().is_none_or(|only| scenario.split(' ').next() == Some(only));
        let (mut rows, mut kept) = (Vec::new(), Kept::default());
        let finds = Mix { find: 1, route: 0, register: 0, bind: 0 };
        let mut histogram = Ranks::default();
        for (scenario, workers) in [("1 baseline_lookup_10k", 10), ("2 lookup_50k", 50), ("3 lookup_100k", 100)] {
            if !chosen(scenario) {
                continue;
            }
            let (tally, took) = run(workers, finds, 60.0, 1000);
            rows.push(Row::below(format!("{scenario}: p50"), tally.find.us(0.5), "us", 100.0));
            rows.push(Row::below(format!("{scenario}: p99"), tally.find.us(0.99), "us", 100.0));
            rows.push(Row::below(format!("{scenario}: failed"), tally.failed as f64, "", 0.5));
            let rate = tally.operations as f64 / took;
            rows.push(Row::at_least(format!("{scenario}: rate, start and end of workers included"), rate, "/s", 1e5));
            kept.keep(&format!("{scenario}: look-up"), &tally.find);
            histogram.add(&tally.find);
        }
        let half = |find, route, register, bind| Mix { find, route, register, bind };
        for (scenario, workers, mix, seconds, least) in [
            ("4 register_lookup_storm", 50, half(50, 0, 50, 0), 20.0, 50e3),
            ("5 binding_stress_with_routing", 40, half(0, 50, 0, 50), 20.0, 20e3),
            ("6 message_routing_100k", 100, half(0, 100, 0, 0), 5.0, 0.0),
            ("8 sustained_30s, 40/30/20/10", 100, half(40, 30, 20, 10), 30.0, 80e3),
        ] {
            if !chosen(scenario) {
                continue;
            }
            let mut rounds: Vec<(f64, Tally)> = (0..self.rounds.max(1))
                .map(|_| {
                    let (tally, took) = run(workers, mix, seconds, usize::MAX);
                    (tally.operations as f64 / took.min(seconds * self.share), tally)
                })
                .collect();
            rounds.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            let failed = rounds.iter().map(|(_, tally)| tally.failed).sum::<u64>();
            let (slowest, fastest, middle) = (rounds[0].0, rounds[rounds.len() - 1].0, rounds.len() / 2);
            let (rate, tally) = rounds.swap_remove(middle);
            rows.push(Row::at_least(format!("{scenario}: rate"), rate, "/s", least));
            if self.rounds > 1 {
                let of = format!("{scenario}: rate of {} rounds", self.rounds);
                rows.push(Row::plain(format!("{of}, the slowest"), slowest, "/s"));
                rows.push(Row::plain(format!("{of}, the fastest"), fastest, "/s"));
            }
            told(scenario, &tally);
            for (what, ranks) in tally.named().into_iter().chain([("all", &tally.all())]) {
                kept.keep(&format!("{scenario}: {what}"), ranks);
            }
            rows.push(Row::plain(format!("{scenario}: p50 of all"), tally.all().us(0.5), "us"));
            rows.push(Row::plain(format!("{scenario}: p95 of all"), tally.all().us(0.95), "us"));
            rows.push(Row::plain(format!("{scenario}: p99 of all"), tally.all().us(0.99), "us"));
            rows.push(Row::below(format!("{scenario}: failed"), failed as f64, "", 0.5));
            if mix.find > 0 {
                rows.push(Row::below(format!("{scenario}: look-up p99"), tally.find.us(0.99), "us", 100.0));
            }
            if mix.route > 0 {
                rows.push(Row::below(format!("{scenario}: route p99"), tally.route.us(0.99), "us", 500.0));
            }
            if mix.register > 0 {
                rows.push(Row::plain(format!("{scenario}: register p99"), tally.register.us(0.99), "us"));
                let taken = tally.taken as f64 / tally.register.count() as f64 * 100.0;
                rows.push(Row::plain(format!("{scenario}: registers of a name that was taken"), taken, "%"));
            }
            if mix.find == 40 {
                let name = format!("{scenario}: rate of each core");
                rows.push(Row::at_least(name, rate / cores, "/s", 1e6));
                histogram = tally.all();
            }
        }
        if self.only.is_some() {
            return publish(
                ground,
                &self.title("One scenario of the registry under stress"),
                rows,
                &kept,
                &self.output,
            );
        }
        rows.push(skew(&stage));
        for (from, to) in [
            (0.0, 10.0),
            (10.0, 25.0),
            (25.0, 50.0),
            (50.0, 100.0),
            (100.0, 200.0),
            (200.0, 500.0),
            (500.0, 1e3),
            (1e3, 5e3),
            (5e3, 1e9),
        ] {
            let share = histogram.between(from, to) as f64 / histogram.count() as f64 * 100.0;
            let to = if to > 1e6 { "more".to_owned() } else { format!("{to}") };
            rows.push(Row::plain(format!("9 latency_histogram of 8: {from} to {to} us"), share, "%"));
        }
        let (tally, _) = run(50, half(40, 30, 20, 10), 10.0, usize::MAX);
        let status = stage.registry.contention_status()?;
        let alarmed = stage.registry.partition_stats()?.iter().filter(|shard| shard.alarmed).count();
        rows.push(Row::below("10 contention: shards with an alarm", alarmed as f64, "", 0.5));
        let most = MOST_ALARMED.load(Ordering::Relaxed) as f64;
        rows.push(Row::below("all of the above: most shards with an alarm, looked at every 10 ms", most, "", 0.5));
        rows.push(Row::below("10 contention: failed", tally.failed as f64, "", 0.5));
        rows.push(Row::below("10 contention: admission closed", f64::from(u8::from(status.admission_closed)), "", 0.5));
        rows.extend(self.readers_and_writers(&stage, &words));
        publish(ground, &self.title("The registry under stress"), rows, &kept, &self.output)
    }

    fn title(&self, what: &str) -> String {
        let (cores, shards) = (self.cores, self.shards);
        format!("{what}: {cores} cores, {shards} shards, one operation in flight for each worker")
    }

    /// 500 readers and 500 writers; every operation with a deadline.
    fn readers_and_writers(&self, stage: &Stage, words: &Arc<Words>) -> Vec<Row> {
        let (words, time) = (Arc::clone(words), (30e9 * self.share) as u64);
        let done = stage.work(1000, move |number, core| {
            let words = Arc::clone(&words);
            async move {
                let (until, mut dice) = (core.now() + time, Dice::new(number as u64 + 7));
                let (mut operations, mut missed) = (0u64, 0u64);
                let owner = core.registry().owner().expect("room");
                while core.now() < until {
                    if number % 4 < 2 {
                        let transport = &words.transports[dice.below(POPULATION)];
                        let found = core.registry().find_transport(transport).is_some();
                        let asked = core.registry().transport(transport);
                        let answered = within(&core, DEADLINE, asked).await;
                        missed += u64::from(!found || !is_in_time(answered));
                    } else {
                        let name = format!("writer_{number}");
                        let asked = core.registry().register_server(&owner, &name, b"{}");
                        missed += u64::from(!is_in_time(within(&core, DEADLINE, asked).await));
                        let asked = core.registry().unregister_server(&name);
                        missed += u64::from(!is_in_time(within(&core, DEADLINE, asked).await));
                        operations += 1;
                    }
                    operations += 1;
                    core.pause().await;
                }
                (operations, missed)
            }
        });
        let (operations, missed) = done.iter().fold((0, 0), |sum, done| (sum.0 + done.0, sum.1 + done.1));
        let rate = operations as f64 / (time as f64 / 1e9);
        vec![
            Row::plain("500 readers and 500 writers: operations answered", rate, "/s"),
            Row::below("500 readers and 500 writers: deadlines of 1 s missed", missed as f64, "", 0.5),
        ]
    }
}

fn is_in_time<T>(answered: Option<Result<T, Refusal>>) -> bool {
    match answered {
        Some(Ok(_)) => true,
        Some(Err(refusal)) => {
            eprintln!("readers and writers: {refusal:?}");
            false
        }
        None => {
            eprintln!("readers and writers: late");
            false
        }
    }
}

/// The most shards that were alarmed at any look.
static MOST_ALARMED: AtomicU64 = AtomicU64::new(0);

/// Looks every 10 ms, on each core, how many shards are alarmed: an alarm outlives its cause by 50.
fn watch_alarms(stage: &Stage) {
    for core in 0..stage.cores() {
        stage.on(core, async |core: OnCore| {
            let on = core.clone();
            core.spawn(async move {
                loop {
                    MOST_ALARMED.fetch_max(on.registry().contention_status().alarmed.into(), Ordering::Relaxed);
                    on.sleep(Duration::from_millis(10)).await;
                }
            });
        });
    }
}

/// How unevenly 100,000 names lie on the shards: by the real hash, without what is registered already.
fn skew(stage: &Stage) -> Row {
    let (counts, shards) = stage.on(0, async |core: OnCore| {
        let shards = core.registry().partition_stats().await.map_or(0, |shards| shards.len());
        let mut counts = vec![0u32; shards];
        for name in names("key_", 100_000) {
            counts[core.registry().shard_of(Kind::Server, &name).index()] += 1;
        }
        (counts, shards)
    });
    let (least, most) = (counts.iter().min().copied(), counts.iter().max().copied());
    let (least, most) = (f64::from(least.unwrap_or(0)), f64::from(most.unwrap_or(0)));
    let average = 1e5 / shards as f64;
    Row::below(
        format!("7 partition_balance: (most - least) / average of 100,000 names on {shards} shards"),
        (most - least) / average * 100.0,
        "%",
        30.0,
    )
}
