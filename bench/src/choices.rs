//! `corelane-bench choices`: corelane against itself, one setting changed at a time, round after round.
//!
//! It is the ladder's smaller sister: the same load, the same arithmetic, no other server. What is compared stands in
//! `choice`; `render` makes the table from the JSON alone.
//!
//! Invariant: all variants of a situation run once before any runs again, every other time in reverse order, each on a
//! fresh server, and they differ in one setting only.

mod choice;
mod render;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    mass::IdleReport,
    message::{Payload, Wire},
    observe::Environment,
    parsers::{self, Decoded},
    record,
    server::{Ports, Running, Start},
    sys,
    tally::Report,
};
use choice::{Choice, Kind, Situation, Variant};

/// `corelane-bench choices`.
#[derive(clap::Args)]
pub struct Choices {
    /// The corelane binary.
    #[arg(long, required_unless_present = "render")]
    corelane: Option<PathBuf>,
    /// The same, built with the feature `mimalloc`; allocators are not compared without it.
    #[arg(long)]
    corelane_mimalloc: Option<PathBuf>,
    /// Rounds: pairs for each comparison. Fewer than five leave everything undecided.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each round's window.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Seconds of warm-up before each.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Compare only these: pinning, batch, rate, allocator, parsers.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// CPU of servers that are confined to one.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPU of the generator.
    #[arg(long, default_value_t = 1)]
    load_cpu: usize,
    /// Where choices.json and choices.md go.
    #[arg(long, default_value = "bench/results")]
    output: PathBuf,
    /// Make the table of this JSON file again, beside it, and run nothing.
    #[arg(long)]
    render: Option<PathBuf>,
    #[command(flatten)]
    payload: Payload,
}

/// One run of one variant in one situation.
#[derive(Clone, Serialize, Deserialize)]
struct Round {
    choice: String,
    situation: String,
    variant: String,
    round: usize,
    load: Option<Report>,
    idle: Option<IdleReport>,
    failure: Option<String>,
}

/// What was compared, for the table.
#[derive(Clone, Serialize, Deserialize)]
struct Asked {
    name: String,
    question: String,
    /// The first is what corelane does by default, and what the others are compared with.
    variants: Vec<String>,
    situations: Vec<String>,
}

/// All that a run leaves behind; the table needs nothing else.
#[derive(Serialize, Deserialize)]
struct Record {
    environment: Environment,
    rounds_asked: usize,
    seconds: f64,
    choices: Vec<Asked>,
    rounds: Vec<Round>,
    parsers: Vec<Decoded>,
}

impl Record {
    /// What has been measured survives whatever comes next.
    fn keep(&self, file: &Path) -> Result<(), Failure> {
        let named = |round: &'_ Round| {
            let Round { choice, situation, variant, .. } = round;
            format!("{choice}/{situation}/{variant}/round {}", round.round + 1)
        };
        record::keep(file, self, &self.environment, self.rounds.iter().map(|round| (named(round), &round.load)))
    }
}

/// Rounds of the parsers, which take no time worth mentioning.
const PARSER_ROUNDS: usize = 15;

impl Choices {
    /// Runs, writes both files, prints the table.
    pub fn run(&self) -> Result<(), Failure> {
        if let Some(file) = &self.render {
            return render_file(file);
        }
        if self.rounds == 0 || self.server_cpu == self.load_cpu {
            return Err("at least one round, and two different CPUs, are needed".into());
        }
        fs::create_dir_all(&self.output)?;
        let file = self.output.join("choices.json");
        let corelane = self.corelane.clone().ok_or("--corelane is missing")?;
        let mut choices = choice::all(&corelane, self.corelane_mimalloc.as_deref());
        choices.retain(|choice| self.wanted(choice.name));
        let mut record = Record {
            environment: Environment::now(),
            rounds_asked: self.rounds,
            seconds: self.seconds,
            choices: choices.iter().map(Choice::asked).collect(),
            rounds: Vec::new(),
            parsers: Vec::new(),
        };
        let runs: usize = choices.iter().map(|choice| choice.variants.len() * choice.situations.len()).sum();
        // Starting and ending a server takes about half a second, opening its connections a little less.
        let seconds = (runs * self.rounds) as f64 * (self.warmup + self.seconds + 1.0);
        eprintln!("the comparisons take about {:.0} minutes", (seconds / 60.0).ceil());
        if self.wanted("parsers") {
            // In a thread of its own, so that the pin does not stay on this one and what it starts.
            let cpu = self.load_cpu;
            let measured = std::thread::spawn(move || sys::pin(cpu).map(|()| parsers::compare(PARSER_ROUNDS)));
            record.parsers = measured.join().map_err(|_| "the comparison of parsers panicked")??;
        }
        for choice in &choices {
            for situation in &choice.situations {
                self.interleave(&mut record, choice, situation)?;
                record.keep(&file)?;
            }
        }
        record.keep(&file)?;
        render_file(&file)
    }

    fn wanted(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn interleave(&self, record: &mut Record, choice: &Choice, situation: &Situation) -> Result<(), Failure> {
        let rate = match situation.kind {
            Kind::Load { share: Some(share), .. } => {
                let capacity = choice.capacity(record).ok_or("an open loop needs the closed one before it")?;
                Some(share * capacity)
            }
            _ => None,
        };
        for round in 0..self.rounds {
            let mut order: Vec<&Variant> = choice.variants.iter().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for variant in order {
                let mut done = Round {
                    choice: choice.name.into(),
                    situation: situation.title.into(),
                    variant: variant.name.clone(),
                    round,
                    load: None,
                    idle: None,
                    failure: None,
                };
                if let Err(error) = self.once(situation, variant, rate, &mut done) {
                    done.failure = Some(error.to_string());
                }
                eprintln!(
                    "{}: {}: {} round {}: {}",
                    choice.name,
                    situation.title,
                    variant.name,
                    round + 1,
                    told(&done)
                );
                record.rounds.push(done);
            }
        }
        Ok(())
    }

    fn once(
        &self,
        situation: &Situation,
        variant: &Variant,
        rate: Option<f64>,
        done: &mut Round,
    ) -> Result<(), Failure> {
        let ports = Ports::free()?;
        let target = if situation.wire == Wire::Ndjson { ports.tcp } else { ports.http };
        let running = Running::start(Start {
            binary: &variant.binary,
            words: ports.fill(situation.words),
            environment: &variant.environment,
            cpu: situation.confined.then_some(self.server_cpu),
            target,
        })?;
        let mut more: Vec<String> = Vec::new();
        let mut say = |option: &str, value: String| more.extend([format!("--{option}"), value]);
        say("connections", situation.connections.to_string());
        let Kind::Load { depth, swapped, .. } = situation.kind else {
            done.idle = Some(running.measured("idle", situation.wire, self.load_cpu, &self.payload, &more)?);
            return Ok(());
        };
        say("depth", depth.to_string());
        say("warmup", self.warmup.to_string());
        say("seconds", self.seconds.to_string());
        if let Some(rate) = rate {
            say("rate", rate.to_string());
            more.push("--poisson".into());
        }
        if swapped {
            more.push("--swap-sessions".into());
        }
        if situation.wire == Wire::Ndjson {
            more.push("--handshake".into());
        }
        let report: Report = running.loaded(situation.wire, self.load_cpu, &self.payload, &more)?;
        if report.calls == 0 {
            return Err(format!("no call succeeded: {:?}", report.errors).into());
        }
        done.load = Some(report);
        Ok(())
    }
}

fn told(round: &Round) -> String {
    match (&round.load, &round.idle, &round.failure) {
        (Some(load), ..) => load.in_short(),
        (_, Some(idle), _) => format!("{:?} bytes each", idle.idle.server_rss_bytes_each),
        (.., failure) => failure.clone().unwrap_or_default(),
    }
}

fn render_file(file: &Path) -> Result<(), Failure> {
    record::publish(file, &render::table(&record::read(file)?))
}
