//! `corelane-bench run`: takes a server through a scenario and says whether it held.
//!
//! It starts the server unless one is named, orders the phases, and writes down what the threads tell; what they do is
//! in `scenario/share`.
//!
//! Invariant: a phase begins for all threads at one moment and the next begins only when all have ended it, so what the
//! server used between two such moments belongs to one phase.

mod count;
mod file;
pub mod nine_nines;
mod pace;
pub mod record;
mod share;
mod table;
pub mod troop;
pub mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::{
    Failure,
    fleet::Address,
    message::{Payload, Script, Wire},
    observe::{self, Environment},
    server::{Ports, Running, Start},
    sys,
};
use count::{Count, Latencies};
pub use file::Scenario;
use record::{Figures, Interval, Line, PhaseLine, Run, Second, Verdict};
use share::Order;
pub use table::Tabled;
use troop::{Muster, Told, Troop};

/// `corelane-bench run`.
#[derive(clap::Args)]
pub struct Play {
    /// The scenario: a file such as those in bench/scenarios.
    scenario: PathBuf,
    #[command(flatten)]
    with: Staging,
}

impl Play {
    /// Runs, writes the record, prints the verdict. True if all that must hold did.
    pub fn run(&self) -> Result<bool, Failure> {
        let text =
            std::fs::read_to_string(&self.scenario).map_err(|error| format!("{}: {error}", self.scenario.display()))?;
        let named = |error: Failure| -> Failure { format!("{}: {error}", self.scenario.display()).into() };
        match Tabled::parse(&text).map_err(named)? {
            Some(tabled) => self.with.tabled(&tabled),
            None => self.with.play(Scenario::parse(&text).map_err(named)?),
        }
    }
}

/// What a scenario is run with.
#[derive(clap::Args)]
struct Staging {
    /// Address of a server that runs already (127.0.0.1:8808, unix:/run/x.sock); repeatable, connections take turns.
    #[arg(long)]
    target: Vec<Address>,
    /// Its process, for CPU time and memory.
    #[arg(long, requires = "target")]
    server_pid: Option<u32>,
    /// Its control address, for groups that ask for its health and for its own metrics.
    #[arg(long, requires = "target")]
    control: Option<SocketAddr>,
    /// Allow this address although it is not loopback (a network namespace of this machine); repeatable.
    #[arg(long)]
    allow_namespace: Vec<IpAddr>,
    /// The server to start with the scenario's words, if none runs.
    #[arg(long, default_value = "target/release/corelane")]
    server: PathBuf,
    /// The only CPU that the server may use.
    #[arg(long, default_value_t = 0)]
    server_cpu: usize,
    /// CPUs of the generator, in turn for its threads.
    #[arg(long, value_delimiter = ',', default_value = "1")]
    cpus: Vec<usize>,
    /// Processes of the generator.
    #[arg(long, default_value_t = 1)]
    processes: usize,
    /// Connections per ring at most; as many as the limit of open files allows unless given.
    #[arg(long)]
    table: Option<usize>,
    /// Multiply all times by this; what must hold stays as it is.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Where NAME.jsonl and NAME.hlog go.
    #[arg(long, default_value = "bench/results/scenarios")]
    out: PathBuf,
    /// NAME, if not the scenario's.
    #[arg(long)]
    name: Option<String>,
    /// No line a second on standard error.
    #[arg(long)]
    quiet: bool,
}

/// Before a phase begins, so that every thread has its order by then.
const NOTICE_NS: u64 = 20_000_000;

/// Histograms of one group in a log, about: a long run's are of several seconds each, so that the file stays small.
const INTERVALS_MAX: u64 = 120;

/// What each thread says: the script of the scenario.
fn script(scenario: &Scenario, targets: &[String]) -> Result<Script, String> {
    let host = match targets.first().map(|target| target.parse()).transpose()? {
        Some(Address::Inet(address)) => address,
        _ => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80),
    };
    let payload = Payload {
        payload: scenario.payload,
        tool: scenario.tool.clone(),
        arguments: scenario.arguments.clone(),
        path: scenario.path.clone(),
    };
    let asks: Vec<_> = scenario.groups.iter().flat_map(|group| &group.mix).map(|part| part.ask.clone()).collect();
    Ok(Script::new(scenario.wire, scenario.wire != Wire::HttpModern, host, &payload)?.asking(&asks))
}

/// The server that is measured.
struct Reached {
    /// If it was started here.
    running: Option<Running>,
    targets: Vec<Address>,
    control: Option<SocketAddr>,
}

/// The server at one moment.
#[derive(Clone, Copy)]
struct Moment {
    at: u64,
    server_cpu: Option<u64>,
    server_ticks: Option<observe::Ticks>,
    rss: Option<u64>,
    generator_cpu: u64,
}

/// Times between two turns of a core's loop that were long, all of them since the server began.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Gaps {
    longest_ms: f64,
    /// A millisecond and more.
    long: f64,
    long_ms: f64,
}

impl Gaps {
    /// What the server says of them, if it is one that does.
    fn now(control: SocketAddr) -> Option<Self> {
        let metrics = observe::Metrics::of(control)?;
        Some(Self {
            longest_ms: 1e3 * metrics.max("corelane_longest_gap_seconds")?,
            long: metrics.sum("corelane_long_gaps_total")?,
            long_ms: 1e3 * metrics.sum("corelane_long_gap_seconds_total")?,
        })
    }

    /// The mean of the long ones since `then`; 0 if there was none.
    fn mean_ms_since(&self, then: &Self) -> f64 {
        let long = self.long - then.long;
        if long > 0.0 { (self.long_ms - then.long_ms) / long } else { 0.0 }
    }
}

/// A run under way.
struct Stage {
    scenario: Scenario,
    troop: Troop,
    server_pid: Option<u32>,
    control: Option<SocketAddr>,
    rss_at_rest: Option<u64>,
    /// The server's long gaps until the phase that runs began.
    gaps: Option<Gaps>,
    begun: u64,
    /// By phase and second, of each group.
    counts: BTreeMap<(usize, u64), Vec<Count>>,
    /// Connections that are ready, by group and part.
    open: BTreeMap<(usize, usize), u64>,
    lines: Vec<Line>,
    phases: Vec<PhaseLine>,
    quiet: bool,
}

impl Staging {
    /// Of the registry: what a server and a generator would need says nothing there.
    fn tabled(&self, scenario: &Tabled) -> Result<bool, Failure> {
        if !self.target.is_empty() || self.name.is_some() || self.processes > 1 {
            return Err("a scenario of the registry has no --target, --name and --processes: it runs in itself".into());
        }
        self.check_scale()?;
        scenario.play(&self.server.with_file_name("registry-bench"), &self.out, self.scale)
    }

    fn check_scale(&self) -> Result<(), Failure> {
        if self.scale.is_finite() && self.scale > 0.0 { Ok(()) } else { Err("--scale: above zero".into()) }
    }

    fn play(&self, scenario: Scenario) -> Result<bool, Failure> {
        self.check_scale()?;
        if self.processes == 0 || self.cpus.is_empty() {
            return Err("--processes and --cpus: above zero".into());
        }
        let scenario = scenario.scaled(self.scale);
        let limit = usize::try_from(sys::raise_nofile()?)?;
        let table = self.table.unwrap_or(limit).clamp(1, limit);
        let Reached { running, targets, control } = self.server(&scenario)?;
        for target in &targets {
            if let Address::Inet(address) = target
                && !address.ip().is_loopback()
                && !self.allow_namespace.contains(&address.ip())
            {
                return Err(format!(
                    "{address} is not loopback: this generator can bring a server down; name the address with \
                     --allow-namespace {} if it is yours",
                    address.ip()
                )
                .into());
            }
        }
        let muster = Muster {
            scenario: scenario.clone(),
            targets: targets.iter().map(ToString::to_string).collect(),
            control: control.as_ref().map(ToString::to_string),
            cpus: self.cpus.clone(),
            table,
            processes: self.processes,
        };
        let script = Arc::new(script(&scenario, &muster.targets)?);
        // What is set of the server stands in the scenario.
        let environment = Environment { setting: None, ..Environment::now() };
        let unix_time = environment.unix_time;
        let troop = Troop::muster(&muster, &script)?;
        let server_pid = running.as_ref().map(Running::pid).or(self.server_pid);
        let run = Run {
            schema: 1,
            scenario: scenario.clone(),
            scale: self.scale,
            targets: muster.targets,
            server: running.as_ref().and(scenario.serve.clone()).map(|words| format!("corelane {words}")),
            server_cpus: running.is_some().then_some(1),
            generator_cpus: Some(troop.threads.min(self.cpus.iter().collect::<BTreeSet<_>>().len())),
            memory_bytes: observe::memory().map(|(total, _)| total),
            processes: self.processes,
            threads: troop.threads,
            environment,
            tuning: record::tuning(),
        };
        let mut stage = Stage {
            troop,
            server_pid,
            control,
            rss_at_rest: server_pid.and_then(observe::rss_bytes),
            gaps: control.and_then(Gaps::now),
            begun: sys::now_ns(),
            counts: BTreeMap::new(),
            open: BTreeMap::new(),
            lines: vec![Line::Run(Box::new(run))],
            phases: Vec::new(),
            quiet: self.quiet,
            scenario,
        };
        for phase in 0..stage.scenario.phases.len() {
            if let Err(failure) = stage.phase(phase) {
                let words = running.as_ref().map(Running::last_words).unwrap_or_default();
                return Err(format!("{failure} {words}").trim_end().into());
            }
        }
        self.conclude(stage, unix_time)
    }

    fn server(&self, scenario: &Scenario) -> Result<Reached, Failure> {
        if !self.target.is_empty() {
            return Ok(Reached { running: None, targets: self.target.clone(), control: self.control });
        }
        let words = scenario.serve.as_ref().ok_or("the scenario starts no server: name one with --target")?;
        let ports = Ports::free()?;
        let unix = std::env::temp_dir().join(format!("corelane-bench-{}.sock", std::process::id()));
        let filled = ports.fill(words).replace("{unix}", &unix.display().to_string());
        let waited = if words.contains("{tcp}") { ports.tcp } else { ports.http };
        let target = if words.contains("{unix}") { Address::Unix(unix) } else { waited.into() };
        let control = Ports::free()?.http;
        let setting = |(name, value): (&String, &String)| (name.clone(), value.clone());
        let mut environment: Vec<_> = scenario.settings.iter().map(setting).collect();
        environment.push(("CORELANE_CONTROL_LISTEN".into(), control.to_string()));
        let running = Running::start_plain(Start {
            binary: &self.server,
            words: filled,
            environment: &environment,
            cpu: Some(self.server_cpu),
            target: waited,
        })?;
        Ok(Reached { running: Some(running), targets: vec![target], control: Some(control) })
    }

    fn conclude(&self, mut stage: Stage, unix_time: u64) -> Result<bool, Failure> {
        let conditions = verdict::judge(&stage.scenario, &stage.phases);
        let passed = conditions.iter().all(|judged| judged.met);
        for judged in &conditions {
            let at = |name: &Option<String>| name.clone().unwrap_or_else(|| "all".into());
            let condition = &judged.condition;
            let what = format!("{}/{} {:?}", at(&condition.phase), at(&condition.group), condition.figure);
            let found = judged.found.map(|found| format!("{found:.3}"));
            println!("{}", verdict::line(judged.met, &what, found, condition.at_least, condition.at_most));
        }
        stage.lines.push(Line::Verdict(Verdict { passed, conditions }));
        std::fs::create_dir_all(&self.out)?;
        let file = self.out.join(format!("{}.jsonl", self.name.as_ref().unwrap_or(&stage.scenario.name)));
        record::write(&file, &stage.lines)?;
        record::write_log(&file.with_extension("hlog"), unix_time, &stage.intervals())?;
        println!("{}: {}", stage.scenario.name, if passed { "passed" } else { "FAILED" });
        println!("written: {}", shown(&file));
        Ok(passed)
    }
}

fn shown(file: &Path) -> String {
    format!("{} and {}", file.display(), file.with_extension("hlog").display())
}

impl Stage {
    fn moment(&self) -> Moment {
        Moment {
            at: sys::now_ns(),
            server_cpu: self.server_pid.and_then(observe::cpu_ns),
            server_ticks: self.server_pid.and_then(observe::ticks),
            rss: self.server_pid.and_then(observe::rss_bytes),
            // Of processes that have ended there is no more to read, and none ends before the run does.
            generator_cpu: sys::own_cpu_ns()
                + self.troop.processes.iter().skip(1).filter_map(|&pid| observe::cpu_ns(pid)).sum::<u64>(),
        }
    }

    fn phase(&mut self, place: usize) -> Result<(), Failure> {
        let phase = self.scenario.phases[place].clone();
        let begin = sys::now_ns() + NOTICE_NS;
        self.troop.order(Order { phase: place, begin, ns: (phase.seconds * 1e9) as u64, fill: phase.fill });
        let (mut over, mut samples) = (0, vec![self.moment()]);
        while over < self.troop.threads {
            let next = begin + samples.len() as u64 * 1_000_000_000;
            let wait = Duration::from_nanos(next.saturating_sub(sys::now_ns()));
            match self.troop.hear_within(wait)? {
                Some(Told::Over) => over += 1,
                Some(Told::Counted { group, part, phase, second, count }) => {
                    self.counted(group, part, (phase, second), &count);
                }
                Some(told) => return Err(format!("a thread of the generator said {told:?} in a phase").into()),
                None => {}
            }
            if sys::now_ns() >= next {
                samples.push(self.moment());
                self.progress(place, samples.len() as u64 - 1);
            }
        }
        samples.push(self.moment());
        self.write_phase(place, begin, &samples);
        Ok(())
    }

    fn counted(&mut self, group: usize, part: usize, when: (usize, u64), count: &Count) {
        // A thread whose phase has ended tells nothing of the seconds that others still take; what it has is there.
        self.open.insert((group, part), count.open);
        let groups = self.scenario.groups.len();
        let counts = self.counts.entry(when).or_insert_with(|| vec![Count::default(); groups]);
        counts[group].add(count);
        for (place, count) in counts.iter_mut().enumerate() {
            count.open = self.open.range((place, 0)..(place + 1, 0)).map(|(_, open)| open).sum();
        }
    }

    /// One line for whoever waits: of the last second that all threads have told of.
    fn progress(&self, place: usize, second: u64) {
        let Some(counts) = second.checked_sub(2).and_then(|second| self.counts.get(&(place, second))) else { return };
        if self.quiet {
            return;
        }
        let phase = &self.scenario.phases[place];
        let left: f64 = self.scenario.phases[place..].iter().map(|phase| phase.seconds).sum::<f64>() - second as f64;
        let groups: Vec<String> = counts
            .iter()
            .zip(&self.scenario.groups)
            .map(|(count, group)| {
                let latency = count.latency.percentiles();
                let latency =
                    latency.map_or("-".into(), |latency| format!("p50 {:.0} p99 {:.0} us", latency.p50, latency.p99));
                format!("{} {} open {}/s {latency} {} failed", group.name, count.open, count.succeeded, count.failed())
            })
            .collect();
        eprintln!("{} {second} s: {}; at most {left:.0} s left", phase.name, groups.join("; "));
    }

    fn write_phase(&mut self, place: usize, begin: u64, samples: &[Moment]) {
        let phase = self.scenario.phases[place].clone();
        let (first, last) = (samples[0], samples[samples.len() - 1]);
        let percent = |now: u64, then: u64, ns: u64| 100.0 * now.saturating_sub(then) as f64 / ns.max(1) as f64;
        for (second, two) in samples.windows(2).enumerate() {
            let ns = two[1].at - two[0].at;
            let Some(counts) = self.counts.get(&(place, second as u64)) else { continue };
            let names = self.scenario.groups.iter().map(|group| group.name.clone());
            self.lines.push(Line::Second(Second {
                phase: phase.name.clone(),
                second: second as u64,
                at_seconds: (begin.saturating_sub(self.begun)) as f64 / 1e9 + second as f64,
                server_cpu_percent: two[1].server_cpu.zip(two[0].server_cpu).map(|(now, then)| percent(now, then, ns)),
                server_rss_bytes: two[1].rss,
                generator_cpu_percent: Some(percent(two[1].generator_cpu, two[0].generator_cpu, ns)),
                groups: names.zip(counts.iter().map(Figures::from)).collect(),
            }));
        }
        let mut sums = vec![Count::default(); self.scenario.groups.len()];
        for (_, counts) in self.counts.range((place, 0)..(place + 1, 0)) {
            sums.iter_mut().zip(counts).for_each(|(sum, count)| sum.add(count));
        }
        // Connections may all be up before the moment at which the phase was to begin.
        let from = if last.at > begin { begin.max(first.at) } else { first.at };
        let ns = last.at.saturating_sub(from);
        let seconds = ns as f64 / 1e9;
        // The time for which calls were due: what came after it was waited for. Connections that are few are there at
        // once, which is a time all the same.
        let measured = if phase.fill { seconds.max(1e-6) } else { phase.seconds };
        let cpu = last.server_cpu.zip(first.server_cpu).map(|(now, then)| now.saturating_sub(then));
        let answers: u64 = sums.iter().map(|sum| sum.answers).sum();
        let peak = samples.iter().filter_map(|moment| moment.rss).max();
        let open: u64 = sums.iter().map(|sum| sum.open).sum();
        let grown = last.rss.zip(self.rss_at_rest).map(|(now, then)| now.saturating_sub(then) as f64);
        let each = grown.filter(|_| open > 0).map(|bytes| bytes / open as f64);
        let kernel = last.server_ticks.zip(first.server_ticks).and_then(|(now, then)| now.kernel_percent_since(then));
        let gaps = self.control.and_then(Gaps::now);
        let mean_gap = gaps.zip(self.gaps).map(|(now, then)| now.mean_ms_since(&then));
        self.gaps = gaps;
        for (group, sum) in self.scenario.groups.iter().zip(&sums) {
            let us = |quantile| (sum.latency.len() > 0).then(|| sum.latency.at(quantile)).flatten();
            let line = PhaseLine {
                phase: phase.name.clone(),
                group: group.name.clone(),
                workload_id: format!("{}.{}.{}", self.scenario.name, phase.name, group.name),
                benchmark: self.scenario.name.clone(),
                transport: self.scenario.wire.name().into(),
                scope: "per_node".into(),
                precision: "ns, HDR with 3 significant digits".into(),
                duration_s: measured,
                operations: sum.succeeded,
                throughput_msg_per_s: (measured > 0.0).then(|| 2.0 * sum.in_time as f64 / measured),
                latency_p50_us: us(0.5),
                latency_p95_us: us(0.95),
                latency_p99_us: us(0.99),
                latency_p999_us: us(0.999),
                memory_rss_mib_per_node: peak.map(|bytes| bytes as f64 / 1_048_576.0),
                memory_heap_mib_per_conn: each.map(|bytes| bytes / 1_048_576.0),
                cpu_percent: cpu.map(|cpu| percent(cpu, 0, ns)),
                timestamp: std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()),
                latency_us: sum.latency.percentiles(),
                send_lag_us: sum.lag.percentiles(),
                offered: sum.offered,
                succeeded: sum.succeeded,
                in_time: sum.in_time,
                answers: sum.answers,
                errors: sum.errors.clone(),
                connections_attempted: sum.attempted,
                connections_ready: sum.ready,
                connections_refused: sum.refused.clone(),
                connections_lost: sum.lost.clone(),
                connections_open: sum.open,
                bytes_received: sum.bytes_received,
                server_cpu_seconds: cpu.map(|ns| ns as f64 / 1e9),
                cpu_us_per_call: cpu.filter(|_| answers > 0).map(|ns| ns as f64 / 1e3 / answers as f64),
                server_kernel_percent: kernel,
                longest_gap_ms: gaps.map(|gaps| gaps.longest_ms),
                mean_gap_ms: mean_gap,
                server_rss_bytes: last.rss,
                server_rss_bytes_each: each,
                generator_cpu_percent: Some(percent(last.generator_cpu, first.generator_cpu, last.at - first.at)),
                kernel_slab_bytes: observe::slab_bytes().map(|slab| slab.0),
            };
            if !self.quiet {
                eprintln!(
                    "{}/{}: {} of {} calls right in {measured:.1} s, {} connections up, errors {:?}, refused {:?}, lost {:?}, p50 {:.0} p99 {:.0} p99.9 {:.0} us",
                    phase.name,
                    group.name,
                    sum.succeeded,
                    sum.offered,
                    sum.open,
                    sum.errors,
                    sum.refused,
                    sum.lost,
                    us(0.5).unwrap_or(0.0),
                    us(0.99).unwrap_or(0.0),
                    us(0.999).unwrap_or(0.0)
                );
            }
            self.phases.push(line.clone());
            self.lines.push(Line::Phase(Box::new(line)));
        }
    }

    /// The latencies of every group in stretches of time, in order: a second each, or longer ones of a long run.
    fn intervals(&self) -> Vec<(Duration, Duration, Interval<'_>)> {
        let total: u64 = self.counts.len() as u64;
        let stretch = total.div_ceil(INTERVALS_MAX).max(1);
        let (mut begins, mut all) = (0, Vec::new());
        for (place, phase) in self.scenario.phases.iter().enumerate() {
            let seconds: Vec<_> = self.counts.range((place, 0)..(place + 1, 0)).collect();
            for group in 0..self.scenario.groups.len() {
                for part in seconds.chunk_by(|one, other| one.0.1 / stretch == other.0.1 / stretch) {
                    let mut latency = Latencies::default();
                    part.iter().for_each(|(_, counts)| latency.add(&counts[group].latency));
                    let at = Duration::from_secs(begins + part[0].0.1);
                    let interval = Interval { group: &self.scenario.groups[group].name, phase: &phase.name, latency };
                    all.push((at, Duration::from_secs(part.len() as u64), interval));
                }
            }
            begins += seconds.len() as u64;
        }
        all.sort_by_key(|(at, ..)| *at);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::Gaps;

    #[test]
    fn the_mean_is_of_the_long_gaps_of_a_phase() {
        let gaps = |long, long_ms| Gaps { longest_ms: 9.0, long, long_ms };
        assert_eq!(gaps(7.0, 30.0).mean_ms_since(&gaps(3.0, 20.0)), 2.5);
        assert_eq!(gaps(3.0, 20.0).mean_ms_since(&gaps(3.0, 20.0)), 0.0, "there was none");
    }
}
