//! The contention benchmark: four scales, five iterations, 1,000 samples each of register, look-up and route.
//!
//! Half servers, half transports, registered by 100 workers on all cores. Each iteration is a process of its own.
//! Not here: what closes admission (a test of the registry). Invariant: the table has the original's 22 columns, and a
//! verdict in the original's words.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use corelane::OnCore;
use corelane::shard::registry::Kind;

use crate::Failure;
use crate::count::held;
use crate::facts::shards_for;
use crate::hlog;
use crate::ranks::{Kept, Ranks};
use crate::stage::{Ground, Stage, context_switches, resident_kib};
use crate::words::{Dice, names};

/// The columns; those of a latency are in milliseconds, as the original has them.
pub const COLUMNS: &str = "scale,shard_count,iteration,\
registration_latency_p50_ms,registration_latency_p95_ms,registration_latency_p99_ms,registration_latency_p99_9_ms,\
registration_latency_avg_ms,\
lookup_latency_p50_ms,lookup_latency_p95_ms,lookup_latency_p99_ms,lookup_latency_p99_9_ms,lookup_latency_avg_ms,\
routing_latency_p50_ms,routing_latency_p95_ms,routing_latency_p99_ms,routing_latency_p99_9_ms,routing_latency_avg_ms,\
ops_per_second,lock_contention_ratio,memory_used_mb,context_switches";

pub const WORKERS: usize = 100;
pub const SAMPLES: usize = 1000;

/// `contention`: its options.
#[derive(clap::Args)]
pub struct Contention {
    /// Only this scale
    #[arg(long)]
    scale: Option<usize>,
    /// Cores
    #[arg(long, default_value_t = 2)]
    cores: usize,
    /// Iterations of each scale
    #[arg(long, default_value_t = 5)]
    iterations: usize,
    /// Where the rows go; the summary goes beside it
    #[arg(long, default_value = "bench/results/registry_contention.csv")]
    output: PathBuf,
    /// A table of the most that is expected, to compare with
    #[arg(long)]
    expected: Option<PathBuf>,
    /// Write such a table of the most that is expected, made from this run
    #[arg(long)]
    expect: Option<PathBuf>,
    /// Only do this iteration, and print its row
    #[arg(long, hide = true, requires = "hlog")]
    row: Option<usize>,
    /// Where the latencies of this iteration go
    #[arg(long, hide = true)]
    hlog: Option<PathBuf>,
}

/// The original's limits for a scale: look-up p99 and p99.9 in milliseconds.
fn limits(scale: usize) -> (f64, f64) {
    match scale {
        0..=10_000 => (0.2, 0.5),
        10_001..=25_000 => (0.5, 1.0),
        25_001..=50_000 => (0.8, 1.5),
        _ => (1.0, 2.0),
    }
}

impl Contention {
    pub fn run(self) -> Result<bool, Failure> {
        let scales = self.scale.map_or(vec![10_000, 25_000, 50_000, 100_000], |scale| vec![scale]);
        if let (Some(iteration), Some(file)) = (self.row, self.hlog) {
            let measured = one(scales[0], self.cores)?;
            measured.keep(&file)?;
            println!("{}", measured.row(scales[0], iteration));
            return Ok(true);
        }
        let ground = Ground::now();
        let (mut table, mut kept) = (format!("{COLUMNS}\n"), Kept::default());
        let program = std::env::current_exe()?;
        for scale in &scales {
            for iteration in 1..=self.iterations {
                let (scale, cores, iteration) = (scale.to_string(), self.cores.to_string(), iteration.to_string());
                let arguments = ["contention", "--scale", &scale, "--cores", &cores, "--row", &iteration];
                let run = format!("{scale}/iteration {iteration}");
                let row = row_of(Command::new(&program).args(arguments), &run, &mut kept)?;
                eprint!("{row}");
                table.push_str(&row);
            }
        }
        if let Some(folder) = self.output.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&self.output, &table)?;
        kept.write(&self.output, ground.unix_time)?;
        if let Some(file) = self.expect {
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(file, bounds(&parse(&table)?))?;
        }
        let expected = self.expected.map(std::fs::read_to_string).transpose()?;
        let (page, met) = judge(&ground, &table, expected.as_deref())?;
        std::fs::write(self.output.with_extension("md"), &page)?;
        println!("{page}");
        Ok(met)
    }
}

/// Runs an iteration in a process of its own: its row, with the end of the line; its latencies are kept.
pub fn row_of(command: &mut Command, run: &str, kept: &mut Kept) -> Result<String, Failure> {
    let file = std::env::temp_dir().join(format!("registry-bench-{}.hlog", std::process::id()));
    let output = command.arg("--hlog").arg(&file).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    let added = kept.add(run, &file);
    std::fs::remove_file(&file)?;
    added?;
    Ok(String::from_utf8(output.stdout)?)
}

/// What an iteration of a registry came to.
pub struct Measured {
    pub shards: usize,
    /// Of register, look-up and route.
    pub ranks: [Ranks; 3],
    /// Registrations a second.
    pub rate: f64,
    /// Of the shards' mean registration latencies the largest, over their mean.
    pub ratio: f64,
    pub memory_mb: f64,
    pub switches: u64,
    /// Bytes that the process holds for each entry.
    pub entry_bytes: f64,
}

impl Measured {
    /// Writes its latencies to a log.
    pub fn keep(&self, file: &Path) -> Result<(), Failure> {
        let mut kept = Kept::default();
        ["register", "look-up", "route"].iter().zip(&self.ranks).for_each(|(what, ranks)| kept.keep(what, ranks));
        kept.write(file, hlog::now().as_secs())
    }

    /// Its row, without the end of the line.
    pub fn row(&self, scale: usize, iteration: usize) -> String {
        let Measured { shards, rate, ratio, memory_mb, switches, .. } = self;
        let mut row = format!("{scale},{shards},{iteration}");
        for ranks in &self.ranks {
            for us in [ranks.us(0.5), ranks.us(0.95), ranks.us(0.99), ranks.us(0.999), ranks.mean_us()] {
                row.push_str(&format!(",{:.6}", us / 1e3));
            }
        }
        row.push_str(&format!(",{rate:.0},{ratio:.3},{memory_mb:.2},{switches}"));
        row
    }
}

/// One iteration in this process.
pub fn one(scale: usize, cores: usize) -> Result<Measured, Failure> {
    let shards = shards_for(scale);
    let stage = Stage::open(cores, shards)?;
    let before = resident_kib();
    let servers = Arc::new(names("server_", scale / 2));
    let transports = Arc::new(names("transport_", scale / 2));
    let held_before = held();
    let begun = Instant::now();
    let (all, ways) = (Arc::clone(&servers), Arc::clone(&transports));
    let shard_times = stage.work(WORKERS, move |worker, core| {
        let (servers, transports) = (Arc::clone(&all), Arc::clone(&ways));
        async move {
            let (registry, mut times) = (core.registry(), vec![(0, 0); shards]);
            let sink = registry.owner().expect("room");
            let mut note = |kind, name: &str, took: u64| {
                let (sum, count) = &mut times[registry.shard_of(kind, name).index()];
                (*sum, *count) = (*sum + took, *count + 1);
            };
            for index in (worker..servers.len()).step_by(WORKERS) {
                let (server, transport) = (&servers[index], &transports[index]);
                let begun = core.now();
                registry.register_server(&sink, server, b"{}").await.expect("free");
                let between = core.now();
                registry.register_transport(&sink, transport, b"{}", None).await.expect("free");
                note(Kind::Server, server, between - begun);
                note(Kind::Transport, transport, core.now() - between);
                core.pause().await;
            }
            core.spawn(async move {
                loop {
                    sink.next().await;
                }
            });
            times
        }
    });
    let rate = scale as f64 / begun.elapsed().as_secs_f64();
    let memory_mb = resident_kib().saturating_sub(before) as f64 / 1024.0;
    let entry_bytes = (held() - held_before) as f64 / scale as f64;
    let switches = context_switches();
    let measured = stage.work(WORKERS, move |worker, core: OnCore| {
        let (servers, transports) = (Arc::clone(&servers), Arc::clone(&transports));
        async move {
            let mut dice = Dice::new((worker + 1) as u64);
            let each = SAMPLES / WORKERS;
            // Plain numbers: the first use of a hundred histograms would be most of what is measured.
            let samples = || Vec::<u64>::with_capacity(each);
            let (mut register, mut look_up, mut route) = (samples(), samples(), samples());
            let owner = core.registry().owner().expect("room");
            for sample in 0..each {
                let name = format!("fresh_{worker}_{sample}");
                let begun = core.now();
                core.registry().register_server(&owner, &name, b"{}").await.expect("free");
                register.push(core.now() - begun);
                core.pause().await;
            }
            for _ in 0..each {
                let server = &servers[dice.below(100.min(servers.len()))];
                let begun = core.now();
                let found = core.registry().find_server(server);
                look_up.push(core.now() - begun);
                assert!(found.is_some(), "it is registered");
                core.pause().await;
            }
            for _ in 0..each {
                let (server, transport) = (&servers[dice.below(50)], &transports[dice.below(50)]);
                let begun = core.now();
                core.registry().route_to_server(server, transport, b"{\"test\":true}").await.expect("it takes it");
                route.push(core.now() - begun);
                core.pause().await;
            }
            (register, look_up, route)
        }
    });
    let switches = context_switches() - switches;
    let (mut register, mut look_up, mut route) = (Ranks::default(), Ranks::default(), Ranks::default());
    for (registers, look_ups, routes) in measured {
        registers.into_iter().for_each(|took| register.record(took));
        look_ups.into_iter().for_each(|took| look_up.record(took));
        routes.into_iter().for_each(|took| route.record(took));
    }
    let mean_of = |shard: usize| {
        let (sum, count) = shard_times
            .iter()
            .fold((0, 0), |(sum, count), worker: &Vec<(u64, u64)>| (sum + worker[shard].0, count + worker[shard].1));
        sum as f64 / (count as f64).max(1.0)
    };
    let means: Vec<f64> = (0..shards).map(mean_of).collect();
    let ratio = means.iter().copied().fold(0.0, f64::max) / (means.iter().sum::<f64>() / shards as f64);
    let ranks = [register, look_up, route];
    Ok(Measured { shards, ranks, rate, ratio, memory_mb, switches, entry_bytes })
}

fn parse(table: &str) -> Result<Vec<Vec<f64>>, Failure> {
    let mut lines = table.lines();
    let head = lines.next().unwrap_or_default();
    if head != COLUMNS {
        return Err(format!("the table's columns are not the ones that are written:\n{head}").into());
    }
    let row = |line: &str| line.split(',').map(str::parse).collect::<Result<Vec<f64>, _>>();
    Ok(lines.map(row).collect::<Result<_, _>>()?)
}

/// The summary, and whether everything is within its limits.
fn judge(ground: &Ground, table: &str, expected: Option<&str>) -> Result<(String, bool), Failure> {
    let rows = parse(table)?;
    let mut page = format!(
        "# The contention benchmark\n\n{}\n\n100 workers, one operation in flight for each. Medians over the iterations; latencies in ms. Ratio: of the \
         shards' mean registration latencies, asked to answered, over all registrations, the largest over their mean.\n\n| scale | shards | register p99 | look-up p99 | p99.9 | \
         route p99 | registrations/s | ratio | MB | switches | verdict |\n|---|---|---|---|---|---|---|---|---|---|---|\n",
        ground.line()
    );
    let mut met = true;
    let mut scales: Vec<usize> = rows.iter().map(|row| row[0] as usize).collect();
    scales.dedup();
    for scale in scales {
        let of_scale: Vec<&Vec<f64>> = rows.iter().filter(|row| row[0] as usize == scale).collect();
        let median = |column: usize| median_of(&of_scale, column);
        let (p99, p999, ratio, memory) = (median(10), median(11), median(19), median(20));
        let (p99_most, p999_most) = limits(scale);
        let verdict = if p99 > 1.0 {
            "INCREASE SHARDS"
        } else if p99 <= 0.5 && scale >= 100_000 {
            "OPTIMAL"
        } else if p99 <= 0.8 {
            "GOOD"
        } else {
            "ACCEPTABLE"
        };
        let misses = [
            (p99 > p99_most, format!("look-up p99 {p99} ms, {p99_most} allowed")),
            (p999 > p999_most, format!("look-up p99.9 {p999} ms, {p999_most} allowed")),
            (ratio >= 2.0, format!("contention ratio {ratio}, less than 2.0 allowed")),
            (memory >= 100.0, format!("{memory} MB more, less than 100 allowed")),
        ];
        page.push_str(&format!(
            "| {scale} | {} | {:.4} | {p99:.4} | {p999:.4} | {:.4} | {:.0} | {ratio:.2} | {memory:.1} | {:.0} | {verdict} |\n",
            median(1), median(5), median(15), median(18), median(21)
        ));
        for (_, miss) in misses.iter().filter(|(missed, _)| *missed) {
            met = false;
            page.push_str(&format!("\nMissed at {scale}: {miss}.\n"));
        }
        if let Some(expected) = expected {
            for miss in compare(scale, &median, &parse(expected)?) {
                met = false;
                page.push_str(&format!("\nNot as expected at {scale}: {miss}.\n"));
            }
        }
    }
    page.push_str(if met { "\nEverything is within its limits.\n" } else { "\nSomething is not within its limits.\n" });
    Ok((page, met))
}

/// The most that is expected of each scale after a run: four times its medians, since a machine that others use varies
/// by about that, and no more than the original's limits. Never less than 10 us or 100 switches, nor for whatever waits
/// for another core than 5 ms (1 ms on average): so long a core is away if somebody else gets its CPU.
fn bounds(rows: &[Vec<f64>]) -> String {
    let mut table = format!("{COLUMNS}\n");
    let names: Vec<&str> = COLUMNS.split(',').collect();
    let mut scales: Vec<usize> = rows.iter().map(|row| row[0] as usize).collect();
    scales.dedup();
    for scale in scales {
        let of_scale: Vec<&Vec<f64>> = rows.iter().filter(|row| row[0] as usize == scale).collect();
        table.push_str(&format!("{scale},{},0", of_scale[0][1]));
        for (column, name) in names.iter().enumerate().skip(3) {
            let median = median_of(&of_scale, column);
            let (p99_most, p999_most) = limits(scale);
            let bound = match *name {
                "ops_per_second" => (median / 4.0).round(),
                "lock_contention_ratio" => 2.0,
                "memory_used_mb" => (median * 2.0).ceil().min(100.0),
                "context_switches" => (median * 4.0).max(100.0),
                "lookup_latency_p99_ms" => (median * 4.0).max(0.01).min(p99_most),
                "lookup_latency_p99_9_ms" => (median * 4.0).max(0.01).min(p999_most),
                name if name.starts_with("lookup") || name.contains("_p50_") => (median * 4.0).max(0.01),
                name if name.contains("_avg_") => (median * 4.0).max(1.0),
                _ => (median * 4.0).max(5.0),
            };
            table.push_str(&format!(",{bound}"));
        }
        table.push('\n');
    }
    table
}

pub fn median_of(rows: &[&Vec<f64>], column: usize) -> f64 {
    let mut values: Vec<f64> = rows.iter().map(|row| row[column]).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where a scale's medians are worse than the table that is expected: one row of bounds for each scale.
fn compare(scale: usize, median: &dyn Fn(usize) -> f64, expected: &[Vec<f64>]) -> Vec<String> {
    let Some(bounds) = expected.iter().find(|row| row[0] as usize == scale) else {
        return vec!["the expected table has no row".into()];
    };
    let names: Vec<&str> = COLUMNS.split(',').collect();
    let mut misses = Vec::new();
    if bounds[1] != median(1) {
        misses.push(format!("{} shards, {} expected", median(1), bounds[1]));
    }
    for column in 3..names.len() {
        let (measured, bound) = (median(column), bounds[column]);
        // Of the rate more is better, of everything else less.
        if if names[column] == "ops_per_second" { measured < bound } else { measured > bound } {
            misses.push(format!("{} is {measured}, {bound} expected", names[column]));
        }
    }
    misses
}
