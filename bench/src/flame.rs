//! `corelane-bench flame`: samples of `perf`, one thread at a time: a flamegraph each, what they share out, and what
//! changed between two.
//!
//! It samples nothing itself (`scripts/flamegraph.sh` does) and knows no process: it reads what `perf script` printed.
//!
//! Invariant: a sample is drawn for the thread that it names and for no other, and none of that thread's is left out.

mod breakdown;
mod inlined;
mod page;
mod samples;

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use inferno::{
    differential,
    flamegraph::{
        self,
        color::{MultiPalette, Palette},
    },
};
use serde::Serialize;

use crate::{Failure, observe::Environment, record};
use breakdown::{Column, Shares};
use inlined::Program;
use samples::Folded;

/// A thread that is drawn: `ID=NAME`.
#[derive(Clone, Debug)]
struct Wanted {
    id: u32,
    name: String,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, name) = text.split_once('=').ok_or("it is ID=NAME")?;
        let id = id.parse().map_err(|error| format!("{id}: {error}"))?;
        // It becomes the name of a file.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) {
            return Err(format!("`{name}` is no name of letters, digits, `-`, `_` and `.`"));
        }
        Ok(Self { id, name: name.into() })
    }
}

/// `corelane-bench flame`.
#[derive(Clone, Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["samples", "breakdown", "difference"])))]
pub struct Flame {
    /// Draw: the output of `perf script -F comm,pid,tid,time,event,ip,sym,dso`.
    #[arg(long, value_name = "FILE", requires = "threads", requires = "out")]
    samples: Option<PathBuf>,
    /// Draw this thread: its id and what it is called. May be repeated.
    #[arg(long = "thread", value_name = "ID=NAME")]
    threads: Vec<Wanted>,
    /// The program that was sampled: functions that were inlined are drawn too, as its debug information has them.
    #[arg(long, value_name = "FILE", requires = "samples")]
    program: Option<PathBuf>,
    /// Samples a second of CPU time, as `perf record` was told.
    #[arg(long, value_name = "HZ", requires = "seconds")]
    frequency: Option<u32>,
    /// Seconds that were sampled.
    #[arg(long, value_name = "S", requires = "frequency")]
    seconds: Option<f64>,
    /// A command that took part, told on the page. May be repeated.
    #[arg(long, value_name = "COMMAND")]
    made_by: Vec<String>,
    /// Print the parts of the hot path in these folded stacks; in CPU us of a call where a report of `corelane-bench
    /// load` lies beside them, as NAME.json beside NAME.folded.
    #[arg(long, value_name = "FOLDED", num_args = 1..)]
    breakdown: Vec<PathBuf>,
    /// Draw what changed from one to the other.
    #[arg(long, num_args = 2, value_names = ["BEFORE", "AFTER"], requires = "out")]
    difference: Vec<PathBuf>,
    /// Where the results go.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What is kept of a thread, and shown of it.
#[derive(Serialize)]
struct Row {
    name: String,
    id: u32,
    samples: u64,
    kernel_samples: u64,
    /// Which share of the sampled time it was on a CPU.
    on_cpu: Option<f64>,
    /// Samples of each part of the hot path.
    parts: BTreeMap<&'static str, u64>,
}

/// What `flame.json` holds, and the page is made from.
#[derive(Serialize)]
struct Record {
    environment: Environment,
    made_by: Vec<String>,
    frequency: Option<u32>,
    seconds: Option<f64>,
    threads: Vec<Row>,
}

impl Flame {
    /// Does what was asked for. Fails if a thread took no sample, after the others were drawn.
    pub fn run(&self) -> Result<(), Failure> {
        match (&self.samples, &self.out, self.difference.as_slice()) {
            (Some(samples), Some(out), _) => self.draw(samples, out),
            (_, Some(out), [before, after]) => difference(before, after, out),
            _ => print(&breakdown_of(&self.breakdown)?),
        }
    }

    fn draw(&self, samples: &Path, out: &Path) -> Result<(), Failure> {
        let environment = Environment::now();
        let script = fs::read_to_string(samples).map_err(|error| format!("{}: {error}", samples.display()))?;
        let program = self.program.as_deref().map(Program::open).transpose()?;
        fs::create_dir_all(out)?;
        let (mut columns, mut rows) = (Vec::new(), Vec::new());
        for (at, Wanted { id, name }) in self.threads.iter().enumerate() {
            if self.threads[..at].iter().any(|other| other.name == *name) {
                return Err(format!("--thread {id}={name}: another one is called so").into());
            }
            let folded = samples::of_thread(&script, *id, program.as_ref())
                .map_err(|why| format!("{}: {why}", samples.display()))?;
            let count = folded.samples();
            if count > 0 {
                fs::write(out.join(format!("{name}.folded")), folded.to_string())?;
                let title = format!("{name}, thread {id}: {count} samples of its CPU time");
                svg(&out.join(format!("{name}.svg")), &title, &folded.to_string())?;
            }
            if count == 0 {
                // What is there of an earlier run is not what this one saw.
                for end in ["svg", "folded"] {
                    let _ = fs::remove_file(out.join(format!("{name}.{end}")));
                }
            }
            let of_time = self.frequency.zip(self.seconds);
            let shares = Shares::of(&folded);
            rows.push(Row {
                name: name.clone(),
                id: *id,
                samples: count,
                kernel_samples: folded.kernel_samples(),
                on_cpu: of_time.map(|(hz, seconds)| count as f64 / (f64::from(hz) * seconds)),
                parts: shares.named().collect(),
            });
            columns.push(Column { name: name.clone(), shares, cost_us: None });
        }
        let record = Record {
            environment,
            made_by: self.made_by.clone(),
            frequency: self.frequency,
            seconds: self.seconds,
            threads: rows,
        };
        record::write(&out.join("flame.json"), &record)?;
        fs::write(out.join("index.html"), page::page(&record))?;
        let silent: Vec<_> = record.threads.iter().filter(|row| row.samples == 0).map(|row| &*row.name).collect();
        columns.retain(|column| column.shares.samples() > 0);
        print(&breakdown::table(&columns))?;
        match silent.as_slice() {
            [] => Ok(()),
            silent => Err(format!("no sample of {}: not drawn; it had nothing to do", silent.join(", ")).into()),
        }
    }
}

/// Reads folded stacks, of which there has to be one at least.
fn read(file: &Path) -> Result<Folded, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let folded: Folded = text.parse().map_err(|why| format!("{}: {why}", file.display()))?;
    if folded.samples() == 0 {
        return Err(format!("{}: no samples", file.display()).into());
    }
    Ok(folded)
}

fn stem(file: &Path) -> String {
    file.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned())
}

/// The parts of the hot path in several profiles, with the machine of those that a report lies beside.
fn breakdown_of(files: &[PathBuf]) -> Result<String, Failure> {
    let mut columns = Vec::new();
    let mut machines: Vec<(String, Vec<Environment>)> = Vec::new();
    for file in files {
        let report = file.with_extension("json");
        let report = report.exists().then(|| record::read::<breakdown::Report>(&report)).transpose()?;
        let cost_us = report.as_ref().and_then(|report| report.server.as_ref()?.cpu_us_per_call);
        columns.push(Column { name: stem(file), shares: Shares::of(&read(file)?), cost_us });
        let Some(environment) = report.map(|report| report.environment) else { continue };
        let place = environment.place();
        match machines.iter_mut().find(|(known, _)| *known == place) {
            Some((_, environments)) => environments.push(environment),
            None => machines.push((place, vec![environment])),
        }
    }
    let mut page = String::new();
    for (place, environments) in &machines {
        let range = |of: fn(&Environment) -> f64| {
            let values = environments.iter().map(of);
            (values.clone().fold(f64::INFINITY, f64::min), values.fold(f64::NEG_INFINITY, f64::max))
        };
        let (least, most) = range(|environment| environment.load_average.unwrap_or(f64::NAN));
        let (first, last) = range(|environment| environment.unix_time as f64);
        page += &format!("- {place}, load average {least} to {most}, at unix time {first} to {last}\n");
    }
    if !page.is_empty() {
        page.push('\n');
    }
    Ok(page + &breakdown::table(&columns))
}

/// Draws where the second profile has more (red) or less (blue) than the first, as if both had as many samples.
fn difference(before: &Path, after: &Path, out: &Path) -> Result<(), Failure> {
    let both = [(before, read(before)?), (after, read(after)?)];
    let [first, second] = both.each_ref().map(|(_, folded)| folded.to_string());
    let options = differential::Options { normalize: true, ..Default::default() };
    let mut lines = Vec::new();
    differential::from_readers(options, first.as_bytes(), second.as_bytes(), &mut lines)?;
    let mut lines: Vec<_> = String::from_utf8(lines)?.lines().map(str::to_owned).collect();
    // It comes out of a hash map: sorted, two runs give the same file.
    lines.sort_unstable();
    let text = lines.join("\n") + "\n";
    fs::create_dir_all(out)?;
    fs::write(out.join("difference.folded"), &text)?;
    let names = both.each_ref().map(|(file, folded)| format!("{} ({} samples)", file.display(), folded.samples()));
    let title = format!("from {} to {}: red is more in the second", names[0], names[1]);
    svg(&out.join("difference.svg"), &title, &text)?;
    let column = |(file, folded): &(&Path, Folded)| Column {
        name: file.display().to_string(),
        shares: Shares::of(folded),
        cost_us: None,
    };
    print(&breakdown::table(&both.each_ref().map(column)))
}

fn svg(file: &Path, title: &str, folded: &str) -> Result<(), Failure> {
    let mut options = flamegraph::Options::default();
    options.title = title.into();
    // Of the palettes this one tells the kernel (`_[k]`) from what has a path (`::`) and from C.
    options.colors = Palette::Multi(MultiPalette::Java);
    // The same stacks give the same file.
    options.deterministic = true;
    let mut drawn = Vec::new();
    flamegraph::from_lines(&mut options, folded.lines(), &mut drawn)?;
    Ok(fs::write(file, drawn)?)
}

fn print(text: &str) -> Result<(), Failure> {
    // The files are written; a reader who closed the pipe has seen enough.
    let _ = write!(io::stdout(), "{text}");
    Ok(())
}
