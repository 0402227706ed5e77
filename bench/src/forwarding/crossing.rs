//! What a forwarded call costs whose session lives on the other core.
//!
//! Corelane has two cores, the upstream shares the first one's CPU and the generator the second's. Callers of a legacy
//! session call either on the connection that opened it, which never leaves its core, or in each other's sessions: the
//! kernel's hash then has about half of them on the wrong core. How many these are is counted by corelane's parcels,
//! and what one costs follows from what all cost.
//!
//! Invariant: what is compared runs at the same load in the same round, and differs in whose sessions are used.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Forwarding, Record, chain::Chain};
use crate::{Failure, judge, message::Wire, rounds, server::Ports, tally::Report};

/// One load on two cores.
#[derive(Clone, Serialize, Deserialize)]
pub struct CrossingRound {
    pub kind: Kind,
    pub round: usize,
    /// The share of the calls whose session lived on the other core.
    pub crossed: Option<f64>,
    pub report: Option<Report>,
    pub failure: Option<String>,
}

/// Which load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// As many calls as will go through; otherwise few.
    pub busy: bool,
    /// In each other's sessions.
    pub swapped: bool,
}

impl CrossingRound {
    /// As it is named in the log.
    pub fn named(&self) -> (String, &Option<Report>) {
        (format!("{}/round {}", self.kind.title(), self.round + 1), &self.report)
    }

    /// CPU of all of corelane per call.
    pub fn cost(&self) -> Option<f64> {
        judge::cpu(self.report.as_ref()?)
    }

    /// The share of the time in which the less busy core had work: it ran, or waited for the CPU that it shares.
    pub fn least_busy(&self) -> Option<f64> {
        // The two busiest threads are the cores: nothing else of corelane does work in proportion to calls.
        self.report.as_ref()?.server?.busiest_threads.map(|[first, second]| first.min(second))
    }
}

/// All four, in the order in which they run.
pub const KINDS: [Kind; 4] = [
    Kind { busy: true, swapped: false },
    Kind { busy: true, swapped: true },
    Kind { busy: false, swapped: false },
    Kind { busy: false, swapped: true },
];

/// How many times what a local call costs one costs that crosses, where `crossed` of the calls of `swapped` did.
pub fn ratio(local: f64, swapped: f64, crossed: f64) -> Option<f64> {
    (crossed > 0.0 && local > 0.0).then(|| 1.0 + (swapped / local - 1.0) / crossed)
}

/// The tool, by a caller of the server's own era: nothing is translated, so what is compared with is the cheapest.
const SECTION: &str = "era = \"legacy\"";

impl Forwarding {
    /// Measures all of it.
    pub(super) fn crossing(&self, record: &mut Record) -> Result<(), Failure> {
        for round in 0..self.terms.rounds {
            for index in rounds::order(KINDS.len(), round) {
                let kind = KINDS[index];
                let (mut crossed, mut report, mut failure) = (None, None, None);
                match self.cross(kind) {
                    Ok((share, ran)) => (crossed, report) = (Some(share), Some(ran)),
                    Err(error) => failure = Some(error.to_string()),
                }
                let done = CrossingRound { kind, round, crossed, report, failure };
                eprintln!("{}: round {}: {}", kind.title(), round + 1, done.told());
                record.crossing.push(done);
            }
            self.keep(record)?;
        }
        Ok(())
    }

    fn cross(&self, kind: Kind) -> Result<(f64, Report), Failure> {
        let control = Ports::free()?.tcp;
        let chain = Chain::on_two_cores(self, 1, SECTION, control)?;
        let payload = self.says("/mcp/up", "echo");
        chain.reached(Wire::HttpLegacy, self.terms.load_cpu, &payload, self.crossing_connections)?;
        let mut more: Vec<String> = Vec::new();
        let mut say = |option: &str, value: String| more.extend([format!("--{option}"), value]);
        say("connections", self.crossing_connections.to_string());
        say("warmup", self.terms.warmup.to_string());
        say("seconds", self.terms.seconds.to_string());
        if !kind.busy {
            say("rate", self.idle_rate.to_string());
            more.push("--poisson".into());
        }
        if kind.swapped {
            more.push("--swap-sessions".into());
        }
        let before = Counted::read(control)?;
        let report = chain.front.loaded(Wire::HttpLegacy, self.terms.load_cpu, &payload, &more)?;
        Ok((Counted::read(control)?.crossed_since(&before)?, report))
    }
}

impl Kind {
    /// As it stands in the table.
    pub fn title(self) -> String {
        let load = if self.busy { "busy" } else { "idle" };
        let sessions = if self.swapped { "sessions swapped" } else { "own sessions" };
        format!("two cores, {load}, {sessions}")
    }
}

impl CrossingRound {
    fn told(&self) -> String {
        let (Some(report), Some(crossed)) = (&self.report, self.crossed) else {
            return self.failure.clone().unwrap_or_default();
        };
        let busy = self.least_busy().unwrap_or(0.0) * 100.0;
        format!("{}, {:.1} % crossed, the less busy core {busy:.0} %", report.in_short(), crossed * 100.0)
    }
}

/// What corelane has counted over all its cores.
struct Counted {
    calls: f64,
    parcels: f64,
}

impl Counted {
    fn read(control: SocketAddr) -> Result<Self, Failure> {
        let mut stream = TcpStream::connect(control)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: {control}\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let sum = |name: &str| sum(&text, name).ok_or(format!("{control}/metrics has no {name}"));
        Ok(Self { calls: sum("corelane_calls_finished_total")?, parcels: sum("corelane_parcels_sent_total")? })
    }

    /// A call that crosses takes one parcel there and one back.
    fn crossed_since(&self, before: &Self) -> Result<f64, Failure> {
        let (calls, parcels) = (self.calls - before.calls, self.parcels - before.parcels);
        if calls > 0.0 { Ok(parcels / 2.0 / calls) } else { Err("corelane counted no calls".into()) }
    }
}

/// The sum over all labels of a metric in Prometheus text.
fn sum(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.trim().parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_crossing_costs_follows_from_what_all_cost() {
        // Half of the calls cost 12 in place of 10, so all cost 11.
        let found = ratio(10.0, 11.0, 0.5).expect("some crossed");
        assert!((found - 1.2).abs() < 1e-9, "{found}");
        assert_eq!(ratio(10.0, 11.0, 0.0), None);
    }

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
        let text = "# TYPE a counter\na{core=\"0\"} 3\na{core=\"1\"} 4.5\r\na_b 7\nb 1\n";
        assert_eq!((sum(text, "a"), sum(text, "b"), sum(text, "c")), (Some(7.5), Some(1.0), None));
        let now = Counted { calls: 110.0, parcels: 130.0 };
        let crossed = now.crossed_since(&Counted { calls: 10.0, parcels: 30.0 }).expect("calls");
        assert!((crossed - 0.5).abs() < 1e-9, "{crossed}");
        assert!(now.crossed_since(&now).is_err());
    }
}
