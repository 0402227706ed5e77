//! The contention benchmark on two simpler registries beside the real one: the original's columns for each of the
//! three.
//!
//! 100 workers on two threads, as the real one has them on two cores; each iteration is a process of its own. Not here:
//! limits, which are the real one's only (`contention`). Invariant: the three register the same names and are asked the
//! same, one operation in flight for each worker; one that is not answered as it must be ends the run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use crate::Failure;
use crate::contention::{COLUMNS, Measured, SAMPLES, WORKERS, median_of, one, row_of};
use crate::count::held;
use crate::ranks::{Kept, Ranks};
use crate::simple::{Asked, Plain, Simple};
use crate::stage::{Ground, context_switches, resident_kib};
use crate::words::{Dice, names};

/// `beside`: its options.
#[derive(clap::Args)]
pub struct Beside {
    /// Only this scale
    #[arg(long)]
    scale: Option<usize>,
    /// Iterations of each scale
    #[arg(long, default_value_t = 5)]
    iterations: usize,
    /// Where the rows go; the summary goes beside it
    #[arg(long, default_value = "bench/results/registry_beside.csv")]
    output: PathBuf,
    /// Only this registry
    #[arg(long, hide = true)]
    of: Option<Shape>,
    /// Only do this iteration, and print its row
    #[arg(long, hide = true, requires = "hlog")]
    row: Option<usize>,
    /// Where the latencies of this iteration go
    #[arg(long, hide = true)]
    hlog: Option<PathBuf>,
}

/// Which registry.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    OneOwner,
    OneMutex,
    Sharded,
}

const SHAPES: [(Shape, &str); 3] =
    [(Shape::OneOwner, "one-owner"), (Shape::OneMutex, "one-mutex"), (Shape::Sharded, "sharded")];
/// Threads of the simple ones, cores of the other.
const THREADS: usize = 2;

impl Beside {
    pub fn run(self) -> Result<bool, Failure> {
        let scales = self.scale.map_or(vec![10_000, 25_000, 50_000, 100_000], |scale| vec![scale]);
        if let (Some(shape), Some(iteration), Some(file)) = (self.of, self.row, self.hlog) {
            let measured = match shape {
                Shape::Sharded => one(scales[0], THREADS)?,
                Shape::OneMutex => simple(Simple::behind_a_mutex, scales[0])?,
                Shape::OneOwner => simple(Simple::by_messages, scales[0])?,
            };
            measured.keep(&file)?;
            println!("{},{:.1}", measured.row(scales[0], iteration), measured.entry_bytes);
            return Ok(true);
        }
        let ground = Ground::now();
        let (mut table, mut kept) = (format!("registry,{COLUMNS},entry_bytes\n"), Kept::default());
        let program = std::env::current_exe()?;
        for scale in &scales {
            // In turn, so that an hour in which the host is slower is slower for all of them.
            for iteration in 1..=self.iterations {
                for (_, shape) in SHAPES {
                    let (scale, iteration) = (scale.to_string(), iteration.to_string());
                    let arguments = ["beside", "--scale", &scale, "--of", shape, "--row", &iteration];
                    let run = format!("{scale}/{shape}/iteration {iteration}");
                    let row = row_of(Command::new(&program).args(arguments), &run, &mut kept)?;
                    let row = format!("{shape},{row}");
                    eprint!("{row}");
                    table.push_str(&row);
                }
            }
        }
        if let Some(folder) = self.output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&self.output, &table)?;
        kept.write(&self.output, ground.unix_time)?;
        let page = page(&ground, &table)?;
        std::fs::write(self.output.with_extension("md"), &page)?;
        println!("{page}");
        Ok(true)
    }
}

/// One iteration of a simple registry in this process.
fn simple(made_of: fn(Plain) -> Simple, scale: usize) -> Result<Measured, Failure> {
    let servers = Arc::new(names("server_", scale / 2));
    let transports = Arc::new(names("transport_", scale / 2));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_time().build()?;
    let (before, held_before) = (resident_kib(), held());
    let registry = made_of(Plain::default());
    let begun = Instant::now();
    work(&runtime, |worker| {
        let (registry, servers, transports) = (registry.clone(), Arc::clone(&servers), Arc::clone(&transports));
        async move {
            for index in (worker..servers.len()).step_by(WORKERS) {
                for name in [&servers[index], &transports[index]] {
                    assert!(registry.ask(Asked::Register(name.clone())).await, "it is registered");
                }
                tokio::task::yield_now().await;
            }
        }
    })?;
    let rate = scale as f64 / begun.elapsed().as_secs_f64();
    let memory_mb = resident_kib().saturating_sub(before) as f64 / 1024.0;
    let entry_bytes = (held() - held_before) as f64 / scale as f64;
    let switches = context_switches();
    let measured = work(&runtime, |worker| {
        let (registry, servers) = (registry.clone(), Arc::clone(&servers));
        async move {
            let mut dice = Dice::new((worker + 1) as u64);
            let each = SAMPLES / WORKERS;
            let mut samples = [const { Vec::<u64>::new() }; 3];
            samples.iter_mut().for_each(|samples| samples.reserve(each));
            for (kind, samples) in samples.iter_mut().enumerate() {
                for sample in 0..each {
                    let asked = match kind {
                        0 => Asked::Register(format!("fresh_{worker}_{sample}")),
                        1 => Asked::Find(servers[dice.below(100.min(servers.len()))].clone()),
                        _ => Asked::Route(servers[dice.below(50)].clone()),
                    };
                    let begun = Instant::now();
                    assert!(registry.ask(asked).await, "it is registered");
                    samples.push(begun.elapsed().as_nanos() as u64);
                    tokio::task::yield_now().await;
                }
            }
            samples
        }
    })?;
    let switches = context_switches() - switches;
    let mut ranks: [Ranks; 3] = std::array::from_fn(|_| Ranks::default());
    for samples in measured {
        for (ranks, samples) in ranks.iter_mut().zip(samples) {
            samples.into_iter().for_each(|took| ranks.record(took));
        }
    }
    // There is one part, so that none is more contended than the others.
    Ok(Measured { shards: 1, ranks, rate, ratio: 1.0, memory_mb, switches, entry_bytes })
}

/// Runs the workers on the threads, and waits for all.
fn work<T, F>(runtime: &tokio::runtime::Runtime, job: impl Fn(usize) -> F) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let workers: Vec<_> = (0..WORKERS).map(|worker| runtime.spawn(job(worker))).collect();
    runtime.block_on(async {
        let mut done = Vec::with_capacity(workers.len());
        for worker in workers {
            done.push(worker.await?);
        }
        Ok(done)
    })
}

/// The summary: every column of every scale, the three side by side, and how they compare.
fn page(ground: &Ground, table: &str) -> Result<String, Failure> {
    let mut page = format!(
        "# The contention benchmark on three registries\n\n{}\n\nA single owner reached by messages, one map behind one \
         Mutex, and the sharded registry: 100 workers on {THREADS} threads, one operation in flight for each; medians \
         over the iterations. Ratio: how many times less time, memory or switches the sharded one takes, or how many \
         times more it does in a second; the original claims 100 over a single owner. A single owner and a single map \
         have one part, so that their contention ratio is 1; `entry_bytes` is what the process holds more of for each \
         entry, all replicas included.\n",
        ground.line()
    );
    let names: Vec<&str> = COLUMNS.split(',').chain(["entry_bytes"]).collect();
    let mut rows: Vec<(&str, Vec<f64>)> = Vec::new();
    for line in table.lines().skip(1) {
        let (shape, figures) = line.split_once(',').ok_or("a row without columns")?;
        rows.push((shape, figures.split(',').map(str::parse).collect::<Result<_, _>>()?));
    }
    let mut scales: Vec<usize> = rows.iter().map(|(_, row)| row[0] as usize).collect();
    scales.dedup();
    for scale in scales {
        page.push_str(&format!(
            "\n## {scale} entries\n\n| column | one owner | one Mutex | sharded | over one owner | over one Mutex \
             |\n|---|---|---|---|---|---|\n"
        ));
        let of = |shape: &str| {
            let of = rows.iter().filter(|(of, row)| *of == shape && row[0] as usize == scale);
            of.map(|(_, row)| row).collect::<Vec<_>>()
        };
        let all = SHAPES.map(|(_, shape)| of(shape));
        if all.iter().any(Vec::is_empty) {
            return Err(format!("there is no row of each registry for {scale} entries").into());
        }
        // The scale stands above, and the iterations are in the medians.
        for (column, name) in names.iter().enumerate().filter(|(column, _)| ![0, 2].contains(column)) {
            let [owner, mutex, sharded] = [0, 1, 2].map(|shape: usize| median_of(&all[shape], column));
            let over = |other: f64| match *name {
                "shard_count" | "lock_contention_ratio" => String::new(),
                "ops_per_second" => times(sharded / other),
                _ if sharded == 0.0 => String::new(),
                _ => times(other / sharded),
            };
            page.push_str(&format!("| {name} | {owner} | {mutex} | {sharded} | {} | {} |\n", over(owner), over(mutex)));
        }
    }
    Ok(page)
}

/// How many times, with what can be read of it.
fn times(ratio: f64) -> String {
    if ratio < 1.0 { format!("{ratio:.4}") } else { format!("{ratio:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_every_column_of_every_registry() {
        let row = |shape: &str, scale: usize, of: f64| {
            let figures: Vec<String> = (3..22).map(|column| (of * f64::from(column)).to_string()).collect();
            format!("{shape},{scale},1,1,{},{of}\n", figures.join(","))
        };
        let rows = |scale| row("one-owner", scale, 4.0) + &row("one-mutex", scale, 1.0) + &row("sharded", scale, 2.0);
        let table = format!("registry,{COLUMNS},entry_bytes\n{}{}", rows(10_000), rows(25_000));
        let page = page(&Ground::now(), &table).expect("it is whole");
        for name in COLUMNS.split(',').chain(["entry_bytes"]).filter(|name| !["scale", "iteration"].contains(name)) {
            assert_eq!(page.matches(&format!("| {name} |")).count(), 2, "{name}");
        }
        // Less time is better, and more operations are.
        assert!(page.contains("| registration_latency_p50_ms | 12 | 3 | 6 | 2.00 | 0.5000 |"), "{page}");
        assert!(page.contains("| ops_per_second | 72 | 18 | 36 | 0.5000 | 2.00 |"), "{page}");
        let half = format!("registry,{COLUMNS},entry_bytes\n{}", row("sharded", 10_000, 1.0));
        assert!(super::page(&Ground::now(), &half).is_err());
    }
}
