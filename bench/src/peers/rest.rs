//! What clients cost that are silent: connections after one call, or sessions, each on a connection of its own.
//!
//! It starts servers and writes rounds down, as its parent does for speed.
//!
//! Invariant: each round starts fresh servers, so no figure holds memory that an earlier one made the server take.

use serde::{Deserialize, Serialize};

use super::{Kind, Peers, Record, lineup::Peer, start::Served};
use crate::{
    Failure,
    mass::{Growth, IdleReport},
    rounds,
};

/// Requests of a client that is silent afterwards, in the longest of these runs: it shakes hands, is pinged, calls.
const REQUESTS: f64 = 5.0;

/// Many clients of one peer.
#[derive(Clone, Serialize, Deserialize)]
pub struct RestRound {
    pub peer: String,
    pub round: usize,
    /// What came with them, each on a connection of its own.
    pub growth: Option<Growth>,
    pub failure: Option<String>,
}

impl RestRound {
    /// Resident memory for each.
    pub fn bytes_each(&self) -> Option<f64> {
        self.growth.as_ref()?.server_rss_bytes_each
    }

    /// How many came in a second of the server's CPU time.
    pub fn per_cpu_second(&self) -> Option<f64> {
        self.growth.as_ref()?.per_server_cpu_second
    }
}

/// What is read of the report of `sessions`.
#[derive(Deserialize)]
struct Held {
    set_up: Growth,
}

/// How many silent clients a peer can be asked to hold: all, or as many as it greets in the longest window.
pub fn held(asked: usize, calls_per_second: f64, longest: f64) -> usize {
    ((longest * calls_per_second / REQUESTS) as usize).clamp(1, asked.max(1))
}

impl Peers {
    /// Measures all of it.
    pub(super) fn rest(&self, record: &mut Record, peers: &[&Peer]) -> Result<(), Failure> {
        let peers: Vec<_> = peers.iter().filter(|peer| self.silent > 0 && peer.is_held()).collect();
        for round in 0..self.terms.rest_rounds {
            for index in rounds::order(peers.len(), round) {
                let peer = peers[index];
                let rate = record.taken.iter().find(|taken| taken.peer == peer.name);
                let count = held(self.silent, rate.map_or(0.0, |taken| taken.calls_per_second), self.longest);
                let (growth, failure) = match self.silent_clients(record, peer, count) {
                    Ok(growth) => (Some(growth), None),
                    Err(error) => (None, Some(format!("{count} clients: {error}"))),
                };
                let done = RestRound { peer: peer.name.into(), round, growth, failure };
                let told = match (done.bytes_each(), &done.failure) {
                    (Some(bytes), _) => format!("{bytes:.0} bytes each"),
                    (None, failure) => failure.clone().unwrap_or_else(|| "no memory figure".into()),
                };
                eprintln!("{count} silent clients: {} round {}: {told}", peer.name, round + 1);
                record.silent.push(done);
            }
            self.keep(record)?;
        }
        Ok(())
    }

    fn silent_clients(&self, record: &Record, peer: &Peer, count: usize) -> Result<Growth, Failure> {
        let served = Served::start(self, peer, &record.floor)?;
        let run = |subcommand: &str, more: &[&str]| {
            let more: Vec<String> = more.iter().map(|word| (*word).to_owned()).collect();
            served.front.measured::<serde_json::Value>(
                subcommand,
                peer.wire,
                self.terms.load_cpu,
                &served.payload,
                &more,
            )
        };
        let count = count.to_string();
        if record.kind == Kind::ServingSessions {
            let more = ["--sessions", &count, "--active", "16", "--seconds", "0.5"];
            return Ok(serde_json::from_value::<Held>(run("sessions", &more)?)?.set_up);
        }
        Ok(serde_json::from_value::<IdleReport>(run("idle", &["--connections", &count])?)?.idle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_peer_is_asked_to_hold_fewer() {
        assert_eq!(held(4000, 100_000.0, 60.0), 4000);
        assert_eq!(held(4000, 50.0, 60.0), 600);
        assert_eq!(held(4000, 0.01, 1.0), 1, "never none");
    }
}
