//! What many legacy sessions over several upstreams hold in corelane's memory.
//!
//! Each upstream has as many sessions as any other, each on a connection of its own and silent after one call. They are
//! opened by one process for each upstream, which keeps them until all are there and the memory was read.
//!
//! Invariant: all memory counts, also what corelane holds without any session.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    Forwarding, Record,
    chain::{self, Chain},
};
use crate::{Failure, mass::IdleReport, message::Wire, observe, server::Ports};

/// All sessions on one fresh corelane.
#[derive(Clone, Serialize, Deserialize)]
pub struct SessionsRound {
    pub round: usize,
    pub sessions: usize,
    pub upstreams: usize,
    /// Resident memory before the first session, and with all of them.
    pub rss_before_bytes: Option<u64>,
    pub rss_bytes: Option<u64>,
    pub failure: Option<String>,
}

impl SessionsRound {
    /// All resident memory, by the number of sessions.
    pub fn bytes_each(&self) -> Option<f64> {
        self.rss_bytes.map(|bytes| bytes as f64 / self.sessions.max(1) as f64)
    }

    /// What the sessions added, by their number.
    pub fn grown_each(&self) -> Option<f64> {
        let (after, before) = (self.rss_bytes?, self.rss_before_bytes?);
        Some((after as f64 - before as f64) / self.sessions.max(1) as f64)
    }
}

/// Time for what is left of opening to settle before memory is read.
const SETTLE: Duration = Duration::from_secs(2);

impl Forwarding {
    /// Measures all of it.
    pub(super) fn sessions(&self, record: &mut Record) -> Result<(), Failure> {
        if self.upstreams == 0 || self.sessions < self.upstreams {
            return Err("at least one upstream, and a session for each, are needed".into());
        }
        for round in 0..self.terms.rest_rounds {
            let each = self.sessions / self.upstreams;
            let (sessions, upstreams) = (each * self.upstreams, self.upstreams);
            let mut done =
                SessionsRound { round, sessions, upstreams, rss_before_bytes: None, rss_bytes: None, failure: None };
            if let Err(error) = self.hold(each, &mut done) {
                done.failure = Some(error.to_string());
            }
            let told = match (done.bytes_each(), &done.failure) {
                (Some(bytes), None) => format!("{bytes:.0} bytes of memory for each"),
                (_, failure) => failure.clone().unwrap_or_else(|| "no memory figure".into()),
            };
            eprintln!("{sessions} sessions over {upstreams} upstreams: round {}: {told}", round + 1);
            record.sessions.push(done);
            self.keep(record)?;
        }
        Ok(())
    }

    fn hold(&self, each: usize, done: &mut SessionsRound) -> Result<(), Failure> {
        let chain = Chain::on_two_cores(self, self.upstreams, "", Ports::free()?.tcp)?;
        let pid = chain.front.pid();
        let payload = |index| self.says(&format!("/mcp/{}", chain::name(index)), "echo");
        // So many that some land on either core: each reaches the upstream for itself.
        (0..self.upstreams)
            .try_for_each(|index| chain.reached(Wire::HttpLegacy, self.terms.load_cpu, &payload(index), 32))?;
        done.rss_before_bytes = observe::rss_bytes(pid);
        let more = ["--connections", &each.to_string(), "--settle", "0", "--hold"].map(String::from);
        let mut holders = Vec::new();
        for index in 0..self.upstreams {
            let mut client =
                chain.front.client("idle", Wire::HttpLegacy, self.terms.load_cpu, &payload(index), &more)?;
            let client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            holders.push(Holder(client.spawn()?));
        }
        for holder in &mut holders {
            let report = holder.report()?;
            if report.connections_up_at_the_end != each || report.calls_answered != each {
                return Err(format!("not every session was up: {:?}", report.errors).into());
            }
        }
        thread::sleep(SETTLE);
        done.rss_bytes = observe::rss_bytes(pid);
        Ok(())
    }
}

/// A process that holds sessions until its standard input ends.
struct Holder(Child);

impl Holder {
    fn report(&mut self) -> Result<IdleReport, Failure> {
        let stdout = self.0.stdout.as_mut().ok_or("its standard output is not ours")?;
        let mut lines = String::new();
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            lines.push_str(&line);
            // The report is indented, so only its end is a brace by itself.
            if line == "}" {
                return Ok(serde_json::from_str(&lines)?);
            }
        }
        let mut why = String::new();
        if let Some(stderr) = &mut self.0.stderr {
            stderr.read_to_string(&mut why)?;
        }
        Err(format!("sessions could not be opened: {}", why.trim()).into())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // Nothing more is wanted of it, and it has nothing to lose.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
