//! `corelane-bench knee`: how much a server takes before it bends, and what bends first.
//!
//! It drives `load` in processes of their own, one step after another, each with twice as much until one does not hold,
//! then between the last that held and the first that did not.
//!
//! Invariant: a step holds only if every call that was due was answered rightly and the latency stayed within its
//! bound; what is said to be the limit (`limits`) was seen (`watch`) at the last step that did not.

mod limits;
mod watch;

use std::{fmt::Write, path::PathBuf, process::Command, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    hlog::{self, Entry},
    load::Aim,
    observe::Environment,
    tally::Report,
};
use limits::{Limit, Observed};
use watch::Watched;

/// `corelane-bench knee`.
#[derive(clap::Args)]
pub struct Knee {
    #[command(flatten)]
    aim: Aim,
    /// What grows.
    #[arg(long, value_enum, default_value_t = By::Rate)]
    by: By,
    /// Connections; the first step's if these grow.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Calls a second of the first step, 10,000 unless given; of each connection if connections grow, 10 unless given.
    #[arg(long)]
    rate: Option<f64>,
    /// Ask for no more than this of what grows.
    #[arg(long, default_value_t = f64::INFINITY, hide_default_value = true)]
    up_to: f64,
    /// Calls in flight on each connection.
    #[arg(long, default_value_t = 1)]
    depth: usize,
    /// Seconds of a step.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Latency that 99 of 100 calls must keep within, in ms.
    #[arg(long, default_value_t = 50.0)]
    p99_ms: f64,
    /// How near the knee is to be found, in percent.
    #[arg(long, default_value_t = 5.0)]
    within: f64,
    /// Predict p95 at 50 to 95 % of the knee, and measure it.
    #[arg(long, requires = "server_pid")]
    predict: bool,
    /// Where the histograms behind the percentiles of each step go, as an HDR log; nowhere unless given.
    #[arg(long)]
    hlog: Option<PathBuf>,
}

/// What grows from step to step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
pub enum By {
    /// Calls a second, on so many connections.
    Rate,
    /// Connections, with so many calls a second on each.
    Connections,
}

/// What a step showed.
#[derive(Clone, Serialize, Deserialize)]
struct Step {
    connections: usize,
    rate: f64,
    held: bool,
    /// What gave way, if it did not hold: resources first, then what came of it.
    limits: Vec<Limit>,
    report: Report,
}

/// A prediction beside what was measured.
#[derive(Clone, Serialize, Deserialize)]
struct Predicted {
    share: f64,
    rate: f64,
    p95_us_predicted: f64,
    p95_us_measured: f64,
}

#[derive(Serialize, Deserialize)]
struct Found {
    by: By,
    steps: Vec<Step>,
    /// Of the last step that held.
    knee: Option<f64>,
    /// Of the first step above it.
    limits: Vec<Limit>,
    predicted: Vec<Predicted>,
}

impl Knee {
    /// Runs and prints what was found, as Markdown on standard error and as JSON on standard output.
    pub fn run(&self) -> Result<(), Failure> {
        self.aim.script()?;
        let environment = Environment::now();
        let first = match self.by {
            By::Rate => self.each(),
            By::Connections => self.connections as f64,
        };
        let mut found = Found { by: self.by, steps: Vec::new(), knee: None, limits: Vec::new(), predicted: Vec::new() };
        let (mut good, mut bad): (Option<f64>, Option<f64>) = (None, None);
        let mut load = first;
        while let Some(next) = next(load, good, bad, self.within / 100.0) {
            // Connections come whole.
            load = if self.by == By::Connections { next.floor() } else { next };
            load = load.min(self.up_to);
            if good == Some(load) || bad == Some(load) {
                break;
            }
            let step = match self.step(load) {
                Ok(step) => step,
                // What was found before is worth telling, whatever this one broke.
                Err(failure) if good.is_some() => {
                    found.limits = vec![limits::of_failure(&failure.to_string())];
                    break;
                }
                Err(failure) => return Err(failure),
            };
            eprintln!("{}", told(&step));
            if step.held {
                good = Some(load);
            } else {
                bad = Some(load);
                found.limits.clone_from(&step.limits);
            }
            found.steps.push(step);
        }
        found.knee = good;
        if let (true, By::Rate, Some(knee)) = (self.predict, self.by, good) {
            found.predicted = self.predictions(knee, &found.steps)?;
        }
        if let Some(file) = &self.hlog {
            let of = |step: &Step| {
                let run = format!("{} connections/{:.0} calls a second", step.connections, step.rate);
                step.report.histograms.iter().map(|entry| entry.under(&run)).collect::<Vec<Entry>>()
            };
            let entries: Vec<Entry> = found.steps.iter().flat_map(of).collect();
            hlog::write(file, Duration::from_secs(environment.unix_time), &entries)?;
        }
        eprint!("\n{}", page(&found)?);
        environment.print_with(&found)
    }

    /// Calls a second of the first step, or of each connection.
    fn each(&self) -> f64 {
        self.rate.unwrap_or(match self.by {
            By::Rate => 10_000.0,
            By::Connections => 10.0,
        })
    }

    fn step(&self, load: f64) -> Result<Step, Failure> {
        let (connections, rate) = match self.by {
            By::Rate => (self.connections, load),
            By::Connections => (load as usize, load.floor() * self.each()),
        };
        let (report, watched) = watch::during(self.aim.server_pid, || self.measure(connections, rate));
        let report = report?;
        let limits = observed(&report, &watched, self.p99_ms * 1e3).limits();
        Ok(Step { connections, rate, held: limits.is_empty(), limits, report })
    }

    fn measure(&self, connections: usize, rate: f64) -> Result<Report, Failure> {
        let aim = &self.aim;
        let mut load = Command::new(std::env::current_exe()?);
        load.args(["load", "--target", &aim.target.to_string(), "--wire", aim.wire.name(), "--poisson"]);
        load.args(["--cpu", &aim.cpu.to_string(), "--connections", &connections.to_string()]);
        load.args(["--depth", &self.depth.to_string(), "--rate", &rate.to_string()]);
        load.args(["--seconds", &self.seconds.to_string(), "--warmup", "0.5"]);
        load.args(["--payload", &aim.payload.payload.to_string(), "--tool", &aim.payload.tool]);
        load.args(["--arguments", &aim.payload.arguments, "--path", &aim.payload.path]);
        for (flag, value) in [
            ("--server-pid", aim.server_pid.map(|pid| pid.to_string())),
            ("--allow-namespace", aim.allow_namespace.map(|ip| ip.to_string())),
            ("--table", aim.table.map(|table| table.to_string())),
        ] {
            if let Some(value) = value {
                load.args([flag, &value]);
            }
        }
        let log = std::env::temp_dir().join(format!("corelane-knee-{}.hlog", std::process::id()));
        load.arg("--hlog").arg(&log);
        if aim.handshake {
            load.arg("--handshake");
        }
        let done = load.output()?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).trim().to_string().into());
        }
        let histograms = hlog::read(&log)?;
        std::fs::remove_file(&log)?;
        Ok(Report { histograms, ..serde_json::from_slice(&done.stdout)? })
    }

    /// One server that takes calls in order of arrival, at random moments, with random times of service (M/M/1): of a
    /// load `busy` its 95th percentile is `service * ln 20 / (1 - busy)`. What a call takes beside waiting is taken
    /// from a tenth of the knee.
    fn predictions(&self, knee: f64, steps: &[Step]) -> Result<Vec<Predicted>, Failure> {
        let costs: Vec<f64> =
            steps.iter().filter(|step| step.held).filter_map(|step| step.report.server?.cpu_us_per_call).collect();
        let service = costs.last().copied().ok_or("--predict wants --server-pid, for the CPU time of a call")?;
        let idle = self.measure(self.connections, knee * 0.1)?;
        let p95 = |report: &Report| report.latency_us.map(|latency| latency.p95).ok_or("no call was answered");
        let at_idle = p95(&idle)?;
        let mut all = Vec::new();
        for share in [0.5, 0.6, 0.7, 0.8, 0.9, 0.95] {
            let rate = knee * share;
            let measured = p95(&self.measure(self.connections, rate)?)?;
            let predicted = at_idle + waiting(service, rate) - waiting(service, knee * 0.1);
            all.push(Predicted { share, rate, p95_us_predicted: predicted, p95_us_measured: measured });
        }
        Ok(all)
    }
}

/// The 95th percentile of the time in an M/M/1 queue, in us; `service` in us, `rate` per second.
pub fn waiting(service: f64, rate: f64) -> f64 {
    let busy = (rate * service / 1e6).min(0.999);
    service * 20f64.ln() / (1.0 - busy)
}

/// What to try next: nothing more once the two are near.
fn next(last: f64, good: Option<f64>, bad: Option<f64>, within: f64) -> Option<f64> {
    match (good, bad) {
        (None, None) => Some(last),
        (Some(good), None) => Some(good * 2.0),
        (None, Some(bad)) if bad > 1.0 && bad > last / 1024.0 => Some(bad / 2.0),
        (None, Some(_)) => None,
        (Some(good), Some(bad)) if bad / good <= 1.0 + within => None,
        (Some(good), Some(bad)) => Some(f64::midpoint(good, bad)),
    }
}

/// What is known of a step.
fn observed(report: &Report, watched: &Watched, p99_us_bound: f64) -> Observed {
    Observed {
        p99_us: report.latency_us.map(|latency| latency.p99),
        p99_us_bound,
        offered: report.offered.unwrap_or(0),
        answered: report.calls,
        connections: report.connections,
        ready: report.connections_ready,
        lost: report.connections_lost,
        errors: report.errors.clone(),
        generator: report.generator_cpu_share,
        server_busiest: report.server.and_then(|server| server.busiest_threads).map(|[busiest, _]| busiest),
        server_system: watched.server_system,
        kernel: watched.kernel,
        memory: watched.memory,
        descriptors: watched.descriptors,
        listen_overflows: watched.listen_overflows,
        listen_drops: watched.listen_drops,
    }
}

fn told(step: &Step) -> String {
    let p99 = step.report.latency_us.map_or(0.0, |latency| latency.p99);
    let held = if step.held { "held".into() } else { format!("did not hold: {}", limits::in_words(&step.limits)) };
    format!("{} connections, {:.0} calls/s: p99 {p99:.0} us, {held}", step.connections, step.rate)
}

fn page(found: &Found) -> Result<String, Failure> {
    let mut page = String::new();
    let unit = if found.by == By::Rate { "calls a second" } else { "connections" };
    match found.knee {
        Some(knee) => writeln!(page, "knee: {knee:.0} {unit}")?,
        None => writeln!(page, "not even the smallest load held")?,
    }
    if !found.limits.is_empty() {
        writeln!(page, "what gave way first: {}", limits::in_words(&found.limits))?;
    } else if found.knee.is_some() {
        writeln!(page, "nothing gave way: the largest load that was asked for held")?;
    }
    if !found.predicted.is_empty() {
        writeln!(page, "\n| share of the knee | calls/s | p95 us predicted | measured |\n|---|---|---|---|")?;
        for line in &found.predicted {
            let Predicted { share, rate, p95_us_predicted, p95_us_measured } = line;
            writeln!(page, "| {:.0} % | {rate:.0} | {p95_us_predicted:.0} | {p95_us_measured:.0} |", share * 100.0)?;
        }
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_doubles_until_it_bends_and_then_closes_in() {
        for bend in [7.0, 999.0, 123_456.0] {
            let (mut good, mut bad, mut load, mut steps) = (None, None, 1000.0, 0);
            while let Some(tried) = next(load, good, bad, 0.05) {
                load = tried;
                *if tried <= bend { &mut good } else { &mut bad } = Some(tried);
                steps += 1;
                assert!(steps < 40, "{bend}");
            }
            let (good, bad) = (good.expect("something held"), bad.expect("something did not"));
            assert!(good <= bend && bad > bend && bad / good <= 1.05, "{bend}: {good} {bad}");
        }
        assert_eq!(next(10.0, None, Some(10.0 / 2048.0), 0.05), None, "nothing holds: it ends");
    }

    #[test]
    fn a_queue_waits_longer_the_fuller_it_is() {
        assert!((waiting(10.0, 0.0) - 29.957).abs() < 0.01, "p95 of one exponential service");
        assert!((waiting(10.0, 50_000.0) - 59.915).abs() < 0.01, "half busy: twice that");
        assert!(waiting(10.0, 200_000.0).is_finite(), "beyond full there is no figure, and no infinity either");
    }
}
