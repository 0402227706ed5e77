//! Two simpler registries under the mix, beside the real one.
//!
//! 100 tasks on two threads, as the real one has 100 tasks on two cores. Not here: the registries (`simple`), and the
//! contention benchmark on them (`beside`). Invariant: the three do the same operations in the same shares on the same
//! names.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::ranks::Kept;
use crate::simple::{Asked, Plain, Simple};
use crate::stage::{Ground, Row, Stage, publish};
use crate::stress::{Did, Mix, POPULATION, Tally, Words, populate, worker};
use crate::words::{Dice, names};

/// `baselines`: its options.
#[derive(clap::Args)]
pub struct Baselines {
    /// Seconds for each
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/registry_baselines.json")]
    output: PathBuf,
}

/// What is compared: the original's mix, and each of its operations by itself.
const MIXES: [(&str, Mix); 4] = [
    ("mix 40/30/20/10", Mix { find: 40, route: 30, register: 20, bind: 10 }),
    ("look-up", Mix { find: 100, route: 0, register: 0, bind: 0 }),
    ("route", Mix { find: 0, route: 100, register: 0, bind: 0 }),
    ("register", Mix { find: 0, route: 0, register: 100, bind: 0 }),
];
const WORKERS: usize = 100;

fn deal(dice: &mut Dice, words: &Words, mix: Mix) -> (Did, Asked) {
    let dealt = dice.below(100);
    let (find, route) = (mix.find, mix.find + mix.route);
    let register = route + mix.register;
    let server = words.servers[dice.below(POPULATION)].clone();
    let transport = words.transports[dice.below(POPULATION)].clone();
    match dealt {
        _ if dealt < find => (Did::Find, Asked::Find(server)),
        _ if dealt < route => (Did::Route, Asked::Route(server)),
        _ if dealt < register => (Did::Register, Asked::Register(format!("mixed_server_{}", dice.below(1_000_000)))),
        _ => (Did::Bind, Asked::Bind(transport, server)),
    }
}

/// What 100 tasks on two threads do with a simple registry.
fn simple(words: &Arc<Words>, mix: Mix, seconds: f64, registry: Simple) -> Result<Tally, Failure> {
    let tallies = Arc::new(Mutex::new(Vec::new()));
    let of_threads = Arc::clone(&tallies);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .on_thread_stop(move || of_threads.lock().expect("nobody panics with it").push(Tally::take()))
        .build()?;
    runtime.block_on(async {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (registry, words) = (registry.clone(), Arc::clone(words));
                tokio::spawn(async move {
                    let until = Instant::now() + Duration::from_secs_f64(seconds);
                    let (mut operations, mut dice) = (0u64, Dice::new(number as u64 + 1));
                    let mut begun = Instant::now();
                    while begun < until {
                        let (kind, asked) = deal(&mut dice, &words, mix);
                        let done = registry.ask(asked).await;
                        let took = begun.elapsed().as_nanos() as u64;
                        Tally::count(kind, took, (!done).then(|| "unknown".to_owned()));
                        operations += 1;
                        if operations.is_multiple_of(8) {
                            tokio::task::yield_now().await;
                        }
                        begun = Instant::now();
                    }
                })
            })
            .collect();
        for worker in workers {
            worker.await?;
        }
        Ok::<_, Failure>(())
    })?;
    // Its threads hand over what they counted when they end.
    drop(runtime);
    let tallies = std::mem::take(&mut *tallies.lock().expect("nobody panics with it"));
    Ok(Tally::sum(tallies))
}

/// The rows of one mix: the two simpler registries, this one, and how they compare.
fn compare(
    rows: &mut Vec<Row>,
    kept: &mut Kept,
    words: &Arc<Words>,
    name: &str,
    mix: Mix,
    seconds: f64,
) -> Result<(), Failure> {
    let populated = || Plain::populated(words.servers.iter().chain(&words.transports));
    let messages = simple(words, mix, seconds, Simple::by_messages(populated()))?;
    let mutex = simple(words, mix, seconds, Simple::behind_a_mutex(populated()))?;
    let stage = Stage::open(2, 64)?;
    populate(&stage, words);
    let (shared, time) = (Arc::clone(words), (seconds * 1e9) as u64);
    stage.work(WORKERS, move |number, core| {
        let until = core.now() + time;
        worker(core, number, Arc::clone(&shared), mix, until, usize::MAX)
    });
    let sharded = Tally::of(&stage);
    let rate = |tally: &Tally| tally.operations as f64 / seconds;
    for (what, tally) in [("one owner, by messages", &messages), ("one Mutex", &mutex), ("sharded", &sharded)] {
        rows.push(Row::plain(format!("{name}, {what}: operations"), rate(tally), "/s"));
        for (kind, share, ranks) in [
            ("look-up", mix.find, &tally.find),
            ("route", mix.route, &tally.route),
            ("register", mix.register, &tally.register),
            ("bind", mix.bind, &tally.bind),
            ("all", 100, &tally.all()),
        ] {
            if share > 0 && share < 100 || kind == "all" {
                kept.keep(&format!("{name}, {what}: {kind}"), ranks);
                rows.push(Row::plain(format!("{name}, {what}: {kind} p50"), ranks.us(0.5), "us"));
                rows.push(Row::plain(format!("{name}, {what}: {kind} p99"), ranks.us(0.99), "us"));
            }
        }
        rows.push(Row::below(format!("{name}, {what}: failed"), tally.failed as f64, "", 0.5));
    }
    for (what, base) in [("one owner", &messages), ("one Mutex", &mutex)] {
        let claim = "the original claims 100";
        let (rates, p50) = (rate(&sharded) / rate(base), base.all().us(0.5) / sharded.all().us(0.5));
        rows.push(Row::plain(format!("{name}: sharded over {what}, operations ({claim})"), rates, "x"));
        rows.push(Row::plain(format!("{name}: {what} over sharded, p50 ({claim})"), p50, "x"));
    }
    Ok(())
}

impl Baselines {
    pub fn run(self) -> Result<bool, Failure> {
        let ground = Ground::now();
        let words =
            Arc::new(Words { servers: names("server_", POPULATION), transports: names("transport_", POPULATION) });
        let (mut rows, mut kept) = (Vec::new(), Kept::default());
        for (name, mix) in MIXES {
            compare(&mut rows, &mut kept, &words, name, mix, self.seconds)?;
        }
        publish(
            ground,
            "The registry beside two simpler ones: 100 workers on 2 threads, one operation in flight for each",
            rows,
            &kept,
            &self.output,
        )
    }
}
