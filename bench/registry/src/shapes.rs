//! Two ideas that the original listed: sub-shards below shards, and replicas of what others own. Each beside its
//! absence.
//!
//! Invariant: both sides of a comparison do the same operations on the same names, in turns.

use std::path::PathBuf;
use std::time::Instant;

use corelane::OnCore;
use corelane::ids::{CoreId, ShardId};
use corelane::shard::registry::{Key, Kind, Names, Owner, Registration, RegistryShard};

use crate::Failure;
use crate::ranks::{Kept, Ranks};
use crate::stage::{Ground, Row, Stage, publish};
use crate::stress::{POPULATION, Words, populate};
use crate::words::{Dice, names};

/// `shapes`: its options.
#[derive(clap::Args)]
pub struct Shapes {
    /// Rounds
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Where the figures go
    #[arg(long, default_value = "bench/results/registry_shapes.json")]
    output: PathBuf,
}

/// 100,000 entries in so many shards, on one thread; nanoseconds for a look-up and for a register with its unregister.
struct Pile {
    shards: Vec<RegistryShard>,
    keys: Vec<Key>,
}

impl Pile {
    fn new(count: usize, secret: &Names, names: &[String]) -> Pile {
        let shards = (0..count).map(|shard| RegistryShard::new(ShardId(shard as u16))).collect();
        let keys = names.iter().map(|name| secret.key(Kind::Server, name)).collect();
        let mut pile = Pile { shards, keys };
        for (index, name) in names.iter().enumerate() {
            pile.register(index, name);
        }
        pile
    }

    fn shard(&mut self, key: Key) -> &mut RegistryShard {
        let place = key.shard(self.shards.len()).index();
        &mut self.shards[place]
    }

    fn register(&mut self, index: usize, name: &str) {
        let (key, owner) = (self.keys[index], Owner { core: CoreId(0), slot: 0, generation: 0 });
        let new = Registration { kind: Kind::Server, key, name, config: b"{}", owner };
        self.shard(key).register(new, &mut |_| ()).expect("free");
    }

    fn look_up(&mut self, order: &[usize]) -> f64 {
        let begun = Instant::now();
        let mut found = 0;
        for &index in order {
            let key = self.keys[index];
            found += usize::from(self.shard(key).find(key).is_some());
        }
        assert_eq!(found, order.len());
        begun.elapsed().as_nanos() as f64 / order.len() as f64
    }

    fn write(&mut self, order: &[usize], names: &[String]) -> f64 {
        let begun = Instant::now();
        for &index in order {
            let key = self.keys[index];
            self.shard(key).unregister(Kind::Server, key, &mut |_| ()).expect("there");
            self.register(index, &names[index]);
        }
        begun.elapsed().as_nanos() as f64 / order.len() as f64 / 2.0
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Shapes {
    pub fn run(self) -> Result<bool, Failure> {
        let ground = Ground::now();
        let (secret, names) = (Names::new([7; 16]), names("server_", 100_000));
        let mut piles: Vec<Pile> = [64, 256, 256 * 16].map(|count| Pile::new(count, &secret, &names)).into();
        let mut dice = Dice::new(5);
        let order: Vec<usize> = (0..400_000).map(|_| dice.below(names.len())).collect();
        let mut measured = vec![(Vec::new(), Vec::new()); piles.len()];
        for _ in 0..self.rounds {
            for (pile, (look_ups, writes)) in piles.iter_mut().zip(&mut measured) {
                look_ups.push(pile.look_up(&order));
                writes.push(pile.write(&order[..100_000], &names));
            }
        }
        let medians: Vec<(f64, f64)> =
            measured.into_iter().map(|(look_ups, writes)| (median(look_ups), median(writes))).collect();
        let mut rows = Vec::new();
        for (what, (look_up, write)) in ["64 shards", "256 shards", "256 x 16 sub-shards"].iter().zip(&medians) {
            rows.push(Row::plain(format!("{what}, 100,000 entries, one core: look-up at the owner"), *look_up, "ns"));
            rows.push(Row::plain(format!("{what}, 100,000 entries, one core: write at the owner"), *write, "ns"));
        }
        let (flat, deep) = (medians[1], medians[2]);
        rows.push(Row::plain("flat / 256 x 16, time of a look-up", flat.0 / deep.0, "x"));
        rows.push(Row::plain("flat / 256 x 16, time of a write", flat.1 / deep.1, "x"));
        let mut kept = Kept::default();
        rows.extend(replicas(&mut kept)?);
        publish(ground, "Sub-shards, and replicas", rows, &kept, &self.output)
    }
}

/// Look-ups in the replica, and by asking the owner, with 100 workers on two cores.
fn replicas(kept: &mut Kept) -> Result<Vec<Row>, Failure> {
    let stage = Stage::open(2, 64)?;
    let words = std::sync::Arc::new(Words {
        servers: names("server_", POPULATION),
        transports: names("transport_", POPULATION),
    });
    populate(&stage, &words);
    let mut results = Vec::new();
    for asks in [false, true] {
        let words = std::sync::Arc::clone(&words);
        let begun = Instant::now();
        let done = stage.work(100, move |number, core: OnCore| {
            let words = std::sync::Arc::clone(&words);
            async move {
                let (mut dice, mut ranks, mut count) = (Dice::new(number as u64 + 1), Ranks::default(), 0u64);
                let until = core.now() + 3_000_000_000;
                while core.now() < until {
                    let server = &words.servers[dice.below(POPULATION)];
                    let begun = core.now();
                    let found = if asks {
                        core.registry().server(server).await.is_ok()
                    } else {
                        core.registry().find_server(server).is_some()
                    };
                    assert!(found, "it is registered");
                    ranks.record(core.now() - begun);
                    count += 1;
                    if count.is_multiple_of(8) {
                        core.pause().await;
                    }
                }
                (ranks, count)
            }
        });
        let took = begun.elapsed().as_secs_f64();
        let mut all = Ranks::default();
        done.iter().for_each(|(ranks, _)| all.add(ranks));
        results.push((done.iter().map(|(_, count)| count).sum::<u64>() as f64 / took, all));
    }
    let mut rows = Vec::new();
    for (what, (rate, ranks)) in ["replica", "asking the owner"].iter().zip(&results) {
        kept.keep(what, ranks);
        rows.push(Row::plain(format!("{what}, 100 workers, 2 cores: look-ups"), *rate, "/s"));
        rows.push(Row::plain(format!("{what}, 100 workers, 2 cores: p50"), ranks.us(0.5), "us"));
        rows.push(Row::plain(format!("{what}, 100 workers, 2 cores: p99"), ranks.us(0.99), "us"));
    }
    rows.push(Row::plain("replica over asking: times as many", results[0].0 / results[1].0, "x"));
    Ok(rows)
}
