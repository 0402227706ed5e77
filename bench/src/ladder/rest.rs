//! What servers cost while nothing happens: memory of idle connections and sessions, and corelane without any of them.
//!
//! It starts servers and writes rounds down, as its parent does for speed.
//!
//! Invariant: each round starts fresh servers, so no figure holds memory that an earlier one made the server take.

use std::{thread, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Ladder, Record, Rung};
use crate::{
    Failure,
    mass::IdleReport,
    observe,
    server::{Ports, Program, Running, Start},
    sys,
};

/// Many connections to one rung, each silent after one call.
#[derive(Clone, Serialize, Deserialize)]
pub struct IdleRound {
    pub rung: String,
    pub round: usize,
    pub report: Option<IdleReport>,
    pub failure: Option<String>,
}

impl IdleRound {
    /// Resident memory for each connection, with what is open on it.
    pub fn bytes_each(&self) -> Option<f64> {
        self.report.as_ref()?.idle.server_rss_bytes_each
    }
}

/// A corelane server without any connection.
#[derive(Clone, Serialize, Deserialize)]
pub struct EmptyRound {
    pub executors: usize,
    pub round: usize,
    pub seconds: f64,
    /// Of one CPU.
    pub cpu_share: f64,
    pub rss_bytes: f64,
}

/// How long a server has to finish its start before it counts as idle, and a shorter watch for its memory alone.
const SETTLE: Duration = Duration::from_secs(1);
/// The number of executors for which the CPU time is a target, and so watched for longer.
pub const WATCHED: usize = 2;
const GLANCE: f64 = 0.5;

impl Ladder {
    /// Measures all of it.
    pub(super) fn rest(&self, record: &mut Record, rungs: &[Rung]) -> Result<(), Failure> {
        for round in 0..self.terms.rest_rounds {
            for rung in self.resting(rungs) {
                let ran = self.idle(record, &rung);
                let (report, failure) = match ran {
                    Ok(report) => (Some(report), None),
                    Err(error) => (None, Some(error.to_string())),
                };
                let done = IdleRound { rung: rung.name.into(), round, report, failure };
                let told = match (done.bytes_each(), &done.failure) {
                    (Some(bytes), _) => format!("{bytes:.0} bytes each"),
                    (None, failure) => failure.clone().unwrap_or_else(|| "no memory figure".into()),
                };
                eprintln!("{} idle connections: {} round {}: {told}", self.idle, rung.name, round + 1);
                record.idle.push(done);
            }
            for &executors in self.executors.iter().filter(|_| self.corelane.is_some()) {
                let done = self.empty(executors, round)?;
                let (share, rss) = (done.cpu_share * 100.0, done.rss_bytes / 1e6);
                eprintln!("no connections: {executors} executors round {}: {share:.4} % CPU, {rss:.1} MB", round + 1);
                record.empty.push(done);
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// About how long that takes.
    pub(super) fn rest_seconds(&self, rungs: &[Rung]) -> f64 {
        // Starting, opening eight thousand connections, waiting two seconds, ending.
        let idle = self.resting(rungs).count() as f64 * 4.0;
        let empty = if self.corelane.is_some() { self.executors.len() as f64 * 2.5 + self.empty_seconds } else { 0.0 };
        self.terms.rest_rounds as f64 * (idle + empty)
    }

    /// The floor keeps nothing for a connection, and answers no handshake.
    fn resting(&self, rungs: &[Rung]) -> impl Iterator<Item = Rung> {
        rungs.iter().copied().filter(|rung| self.idle > 0 && !rung.program.is_floor())
    }

    fn idle(&self, record: &Record, rung: &Rung) -> Result<IdleReport, Failure> {
        let running = self.started(record, rung)?;
        let mut more = vec!["--connections".to_string(), self.idle.to_string()];
        more.extend(rung.handshake());
        running.measured("idle", rung.wire, self.terms.load_cpu, &self.payload, &more)
    }

    fn empty(&self, executors: usize, round: usize) -> Result<EmptyRound, Failure> {
        let binary = self.binary(Program::CorelaneHttp).ok_or("no corelane binary was given")?;
        let ports = Ports::free()?;
        let words = ports.fill(&self.empty_args).replace("{executors}", &executors.to_string());
        // On all CPUs, as it would be: more executors than CPUs share them.
        let start = Start { binary: &binary, words, environment: &[], cpu: None, target: ports.http };
        let running = Running::start(start)?;
        thread::sleep(SETTLE);
        let cpu = || observe::cpu_ns(running.pid()).ok_or("the server's CPU time cannot be read");
        let (began, before) = (sys::now_ns(), cpu()?);
        thread::sleep(Duration::from_secs_f64(if executors == WATCHED { self.empty_seconds } else { GLANCE }));
        let (ended, after) = (sys::now_ns(), cpu()?);
        let rss = observe::rss_bytes(running.pid()).ok_or("the server's memory cannot be read")?;
        let seconds = (ended - began) as f64 / 1e9;
        let cpu_share = after.saturating_sub(before) as f64 / 1e9 / seconds;
        Ok(EmptyRound { executors, round, seconds, cpu_share, rss_bytes: rss as f64 })
    }
}
