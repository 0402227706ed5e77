//! Single figures: what an entry weighs, how fast one core looks up and writes, what a crossing costs.
//!
//! Not here: many workers (`stress`). Invariant: what is timed in a loop is timed as a whole; what is timed one by one
//! waits for its answer.

use std::path::PathBuf;
use std::time::Instant;

use corelane::OnCore;
use corelane::shard::registry::Kind;

use crate::Failure;
use crate::count::held;
use crate::ranks::{Kept, Ranks};
use crate::stage::{Ground, Row, Stage, publish};
use crate::words::{Dice, names};

/// `facts`: its options.
#[derive(clap::Args)]
pub struct Facts {
    /// Cores
    #[arg(long, default_value_t = 2)]
    cores: usize,
    /// Only one of weights, look-ups, writes, crossing, broadcasts
    #[arg(long)]
    only: Option<String>,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/registry_facts.json")]
    output: PathBuf,
    /// Only weigh the entries of this scale, and print that
    #[arg(long, hide = true)]
    weigh: Option<usize>,
}

/// Cores with which an entry is weighed too.
const WEIGHED_CORES: usize = 4;

/// Shards for so many connections, by the default policy.
pub fn shards_for(connections: usize) -> usize {
    corelane::shard::range::default_shards(connections, 1)
}

impl Facts {
    pub fn run(self) -> Result<bool, Failure> {
        if let Some(scale) = self.weigh {
            println!("{}", weigh(self.cores, scale)?);
            return Ok(true);
        }
        let ground = Ground::now();
        let (mut rows, mut kept) = (Vec::new(), Kept::default());
        let chosen = |part: &str| self.only.as_deref().is_none_or(|only| only == part);
        // An entry stands in the replica of each core, so that it weighs more with more of them.
        let all = [self.cores, WEIGHED_CORES.max(self.cores)];
        let all = all.iter().take(if self.cores < WEIGHED_CORES { 2 } else { 1 });
        let weighed = all.flat_map(|cores| [10_000, 25_000, 50_000, 100_000].map(|scale| (*cores, scale)));
        for (cores, scale) in weighed.filter(|_| chosen("weights")) {
            let program = std::env::current_exe()?;
            let count = cores.to_string();
            let arguments = ["facts", "--cores", &count, "--weigh", &scale.to_string()];
            let output = std::process::Command::new(program).args(arguments).output()?;
            let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
            let what = format!("bytes of an entry, all in, of {scale} on {cores} cores");
            // The target is this machine's, of two cores; each further core has a replica of its own.
            let row = Row::plain(what, bytes, "B");
            rows.push(if cores <= self.cores {
                Row { target: "<= 256".into(), met: Some(bytes <= 256.0), ..row }
            } else {
                row
            });
        }
        let stage = Stage::open(self.cores, 64)?;
        if chosen("look-ups") {
            rows.extend(look_ups(&stage, &mut kept));
        }
        if chosen("writes") {
            rows.push(writes(&stage));
        }
        if chosen("crossing") {
            rows.extend(crossing(&stage, &mut kept));
        }
        for transports in [50, 10_000].into_iter().filter(|_| chosen("broadcasts")) {
            rows.extend(broadcast(&stage, transports, &mut kept));
        }
        let title =
            format!("Single figures of the registry: {} cores, one operation in flight but for writes", self.cores);
        publish(ground, &title, rows, &kept, &self.output)
    }
}

/// Bytes that an entry of that many costs this process, its place in every replica included.
fn weigh(cores: usize, scale: usize) -> Result<f64, Failure> {
    let stage = Stage::open(cores, shards_for(scale))?;
    let names = names("server-of-somebody-", scale);
    // The rings of the mesh and all else that is made on first use are no part of an entry.
    stage.work(cores, |worker, core: OnCore| async move {
        let owner = core.registry().owner().expect("room");
        for index in 0..100 {
            let name = format!("warm_{worker}_{index}");
            core.registry().register_server(&owner, &name, b"{}").await.expect("free");
            core.registry().unregister_server(&name).await.expect("there");
        }
    });
    let before = held();
    stage.on(0, async move |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        for name in &names {
            let written = core.registry().register_server(&owner, name, br#"{"transport":"http"}"#);
            written.await.expect("free");
        }
        let know = core.registry().known();
        assert_eq!(know, names.len());
        // The names are the bench's own.
        std::mem::forget((owner, names));
    });
    (1..cores).for_each(|core| {
        let known = stage.on(core, async |core: OnCore| core.registry().known());
        assert_eq!(known, scale, "core {core} knows all");
    });
    Ok((held() - before) as f64 / scale as f64)
}

/// Look-ups of one core by itself.
fn look_ups(stage: &Stage, kept: &mut Kept) -> Vec<Row> {
    let (find, each, ring) = stage.on(0, async |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        let names = names("local_", 10_000);
        for name in &names {
            core.registry().register_server(&owner, name, b"{}").await.expect("free");
        }
        let mut dice = Dice::new(3);
        let order: Vec<usize> = (0..1 << 20).map(|_| dice.below(names.len())).collect();
        let mut found = 0;
        let begun = Instant::now();
        for &index in order.iter().cycle().take(1 << 23) {
            found += usize::from(core.registry().find_server(&names[index]).is_some());
        }
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(found, 1 << 23);
        // Sixteen at a time: a look-up is shorter than looking at the clock.
        let mut each = Ranks::default();
        for sixteen in order.chunks_exact(16) {
            let begun = core.now();
            for &index in sixteen {
                found += usize::from(core.registry().find_server(&names[index]).is_some());
            }
            each.record((core.now() - begun) / 16);
        }
        let mut ring = Ranks::default();
        for &index in order.iter().take(100_000) {
            let begun = core.now();
            found += usize::from(core.registry().find_server(&names[index]).is_some());
            ring.record(core.now() - begun);
        }
        assert!(found > 1 << 23);
        ((1 << 23) as f64 / took, each, ring)
    });
    kept.keep("local look-up (mean of 16)", &each);
    kept.keep("local look-up, one by one", &ring);
    vec![
        Row::at_least("look-ups of one core, 10,000 servers, in a loop", find, "/s", 10e6),
        Row::below("local look-up p50 (mean of 16)", each.us(0.5) * 1e3, "ns", 100.0),
        Row::plain("local look-up p99 (mean of 16)", each.us(0.99) * 1e3, "ns"),
        Row::plain("local look-up p50, one by one, two looks at the clock included", ring.us(0.5) * 1e3, "ns"),
    ]
}

/// Writes: every core to its own shards, in waves, all replicas kept.
fn writes(stage: &Stage) -> Row {
    let cores = stage.cores();
    let begun = Instant::now();
    let done: Vec<usize> = stage.work(cores * 100, move |worker, core| async move {
        let owner = core.registry().owner().expect("room");
        let mine: Vec<String> = (0..)
            .map(|index| format!("write_{worker}_{index}"))
            .filter(|name| core.registry().home_of(Kind::Server, name) == core.id())
            .take(16)
            .collect();
        let (until, mut writes) = (core.now() + 3_000_000_000, 0);
        while core.now() < until {
            let asked: Vec<_> = mine.iter().map(|name| core.registry().register_server(&owner, name, b"{}")).collect();
            for asked in asked {
                asked.await.expect("free");
            }
            let asked: Vec<_> = mine.iter().map(|name| core.registry().unregister_server(name)).collect();
            for asked in asked {
                asked.await.expect("there");
            }
            writes += 2 * mine.len();
        }
        writes
    });
    let writes = done.iter().sum::<usize>() as f64 / begun.elapsed().as_secs_f64() / cores as f64;
    Row::at_least("writes of each core, replicas kept, 100 tasks a core, 16 at a time", writes, "/s", 500e3)
}

/// One register after the other, from core 0 to shards of core 1, while both cores are busy.
fn crossing(stage: &Stage, kept: &mut Kept) -> Vec<Row> {
    if stage.cores() < 2 {
        return Vec::new();
    }
    let busy: Vec<_> = (0..2)
        .map(|core| {
            stage.begin(core, async |core: OnCore| {
                let until = core.now() + 3_000_000_000;
                while core.now() < until {
                    core.pause().await;
                }
            })
        })
        .collect();
    let measure = |from: u64| {
        stage.on(0, async move |core: OnCore| {
            let owner = core.registry().owner().expect("room");
            let home = corelane::ids::CoreId(1);
            let far: Vec<String> = (0..)
                .map(|index| format!("far_{from}_{index}"))
                .filter(|name| core.registry().home_of(Kind::Server, name) == home)
                .take(2000)
                .collect();
            let (mut register, mut ask) = (Ranks::default(), Ranks::default());
            for name in &far {
                let begun = core.now();
                core.registry().register_server(&owner, name, b"{}").await.expect("free");
                register.record(core.now() - begun);
                let begun = core.now();
                core.registry().server(name).await.expect("there");
                ask.record(core.now() - begun);
                core.pause().await;
            }
            (register, ask)
        })
    };
    let (register, ask) = measure(0);
    kept.keep("cross-core register, both cores busy", &register);
    kept.keep("asking another core for an entry, both cores busy", &ask);
    let rows = vec![
        Row::below("cross-core register p50, both cores busy", register.us(0.5), "us", 5.0),
        Row::plain("cross-core register p99, both cores busy", register.us(0.99), "us"),
        Row::plain("asking another core for an entry p50, both cores busy", ask.us(0.5), "us"),
    ];
    for busy in busy {
        // It ends when its time is up.
        let _ = busy.recv();
    }
    let (register, _) = measure(1);
    kept.keep("cross-core register, cores asleep in between", &register);
    let idle = Row::plain("cross-core register p50, cores asleep in between", register.us(0.5), "us");
    rows.into_iter().chain([idle]).collect()
}

/// One message to so many transports, dealt out to all cores.
fn broadcast(stage: &Stage, transports: usize, kept: &mut Kept) -> Vec<Row> {
    let cores = stage.cores();
    let server: &'static str = Box::leak(format!("loud_{transports}").into_boxed_str());
    stage.on(0, async move |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        core.registry().register_server(&owner, server, b"{}").await.expect("free");
        std::mem::forget(owner);
    });
    stage.work(cores, move |worker, core| async move {
        let owner = core.registry().owner().expect("room");
        for index in (worker..transports).step_by(cores) {
            let name = format!("listener_{transports}_{index}");
            core.registry().register_transport(&owner, &name, b"{}", Some(server)).await.expect("free");
        }
        core.spawn(async move {
            loop {
                owner.next().await;
            }
        });
    });
    let ranks = stage.on(0, async move |core: OnCore| {
        let mut ranks = Ranks::default();
        for _ in 0..50 {
            let begun = core.now();
            let told = core.registry().broadcast(server, b"{\"test\":true}").await.expect("all answer");
            assert_eq!(told, (transports, 0), "all have it");
            ranks.record(core.now() - begun);
            core.pause().await;
            core.sleep(std::time::Duration::from_millis(5)).await;
        }
        ranks
    });
    kept.keep(&format!("broadcast to {transports} transports"), &ranks);
    vec![
        Row::plain(format!("broadcast to {transports} transports p50"), ranks.us(0.5), "us"),
        Row::plain(format!("broadcast to {transports} transports p99"), ranks.us(0.99), "us"),
    ]
}
