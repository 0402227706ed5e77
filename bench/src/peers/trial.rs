//! Finds out how many connections a peer takes, before anything is measured.
//!
//! What it takes is all that were asked for, unless it loses some, fails calls on them, or is so slow that they could
//! not have their turns in the longest window there may be: then fewer, with the reason, which is shown beside its
//! figures.
//!
//! Invariant: a peer is never dropped because it is slow or small; one that cannot serve a single connection is.

use serde::{Deserialize, Serialize};

use super::{Asked, Peers, Record, lineup::Peer};
use crate::{Failure, judge, tally::Report};

/// Turns of each connection for which a window has room: twice those without which a round decides nothing.
pub const LAPS: f64 = 2.0 * judge::LAPS_MIN as f64;
/// Connections of the first look at a peer.
pub const FEW: usize = 16;
/// Seconds of a trial: of its warm-up, and of its window.
const GLANCE: (f64, f64) = (0.5, 2.0);

/// How many connections a peer takes of those that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub peer: String,
    pub asked: usize,
    pub connections: usize,
    /// As the trial saw it.
    pub calls_per_second: f64,
    /// Why they are fewer.
    pub why: Option<String>,
}

/// Seconds in which each of `connections` has its turns.
pub fn turns(connections: usize, calls_per_second: f64) -> f64 {
    LAPS * connections as f64 / calls_per_second.max(0.1)
}

/// `asked`, or the power of two below that has its turns within `longest` seconds; with the reason.
pub fn fitting(asked: usize, calls_per_second: f64, longest: f64) -> (usize, Option<String>) {
    let needed = turns(asked, calls_per_second);
    if needed <= longest {
        return (asked, None);
    }
    let mut count = 1;
    while count * 2 < asked && turns(count * 2, calls_per_second) <= longest {
        count *= 2;
    }
    let why = format!(
        "{asked} connections would have {LAPS} turns each in {needed:.0} s only, at {calls_per_second:.0} calls/s, and a \
         window has at most {longest:.0} s"
    );
    (count, Some(why))
}

/// What is wrong with a trial on so many connections, if something is. Calls that had not ended count for nothing here:
/// a trial is short.
fn fault(report: &Report, connections: usize) -> Option<String> {
    let failed: u64 = report.errors.iter().filter(|(kind, _)| *kind != "stalled").map(|(_, count)| count).sum();
    if report.connections_ready < connections || report.connections_lost > 0 {
        let (ready, lost) = (report.connections_ready, report.connections_lost);
        Some(format!("of {connections} connections {ready} were ready and {lost} lost: {:?}", report.errors))
    } else if report.calls == 0 || failed > report.calls / 100 {
        Some(format!("on {connections} connections it answered {} calls, errors {:?}", report.calls, report.errors))
    } else {
        None
    }
}

impl Peers {
    /// Tries a peer that is known for so many calls per second; gives what it takes, with the last trial. Fails if it
    /// does not serve one connection.
    pub(super) fn trial(
        &self,
        record: &Record,
        peer: &Peer,
        asked: usize,
        calls_per_second: f64,
    ) -> Result<(Taken, Report), Failure> {
        let (mut connections, mut why) = fitting(asked, calls_per_second, self.longest);
        let (warmup, seconds) = GLANCE;
        loop {
            let ran = self.once(record, peer, Asked { connections, warmup, seconds, rate: None });
            let wrong = match &ran {
                Ok(report) => fault(report, connections),
                Err(error) => Some(format!("on {connections} connections: {error}")),
            };
            match (wrong, ran) {
                (None, Ok(report)) => {
                    let rate = report.calls_per_second;
                    let (fewer, slow) = fitting(connections, rate, self.longest);
                    if fewer == connections {
                        let peer = peer.name.into();
                        return Ok((Taken { peer, asked, connections, calls_per_second: rate, why }, report));
                    }
                    why = why.or(slow);
                    connections = fewer;
                }
                (wrong, _) if connections == 1 => return Err(wrong.unwrap_or_default().into()),
                (wrong, _) => {
                    eprintln!("{}: {}", peer.name, wrong.as_deref().unwrap_or_default());
                    why = why.or(wrong);
                    connections = connections.next_power_of_two() / 2;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_slow_peer_gets_as_many_connections_as_have_their_turns() {
        assert_eq!(fitting(1000, f64::INFINITY, 60.0), (1000, None), "nothing is known of it");
        assert_eq!(fitting(1000, 10_000.0, 60.0), (1000, None));
        assert_eq!(fitting(1000, 167.0, 60.0), (1000, None), "59.9 s");
        let (count, why) = fitting(1000, 30.0, 60.0);
        assert_eq!(count, 128, "170 would do");
        assert!(why.expect("a reason").contains("1000 connections would have 10 turns each in 333 s only"));
        assert_eq!(fitting(64, 1.0, 60.0).0, 4);
        assert_eq!(fitting(64, 0.0, 60.0).0, 1, "never none");
        assert_eq!(fitting(2, 0.1, 1.0).0, 1);
    }

    fn report(ready: usize, lost: usize, calls: u64, errors: serde_json::Value) -> Report {
        serde_json::from_value(json!({
            "target": "", "wire": "", "loop_kind": "", "connections": 64, "connections_ready": ready,
            "connections_lost": lost, "depth": 1, "verified": true, "rate_asked": null, "request_bytes": 1,
            "response_bytes": null, "warmup_seconds": 0.0, "seconds": 1.0, "offered": null, "calls": calls,
            "ended_in_window": calls, "calls_per_second": calls as f64, "latency_us": null, "send_lag_us": null,
            "errors": errors, "server": null, "generator_cpu_share": 0.5,
        }))
        .expect("a report")
    }

    #[test]
    fn what_loses_connections_or_fails_calls_does_not_take_them() {
        assert_eq!(fault(&report(64, 0, 1000, json!({})), 64), None);
        assert_eq!(fault(&report(64, 0, 40, json!({"stalled": 64})), 64), None, "slow, and no more");
        assert_eq!(fault(&report(64, 0, 1000, json!({"http_503": 10})), 64), None, "one in a hundred");
        for wrong in [
            report(63, 0, 1000, json!({})),
            report(64, 1, 1000, json!({"closed_by_server": 1})),
            report(64, 0, 0, json!({})),
            report(64, 0, 1000, json!({"http_503": 11})),
        ] {
            assert!(fault(&wrong, 64).is_some(), "{wrong:?}");
        }
    }
}
