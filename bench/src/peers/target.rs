//! The targets of corelane beside its peers, and what the rounds say of each.
//!
//! It measures nothing, and every number that is judged follows from the record by `judge`. Ceilings are not judged.
//!
//! Invariant: everyone chosen who speaks MCP has its rows, measured or not, so none can be met by being left out.

use super::{CORELANE, Chosen, Kind, Record, SHARE, rest::RestRound};
use crate::{
    judge::{self, Figures, Verdict},
    rounds::{self, Scenario},
    tally::Report,
    target::{Target, Unit},
};

/// "At least 10 times less memory."
const MEMORY_MAX: f64 = 0.1;

/// Every target of the record's kind, in the order in which they are set.
pub fn all(record: &Record) -> Vec<Target> {
    let (_, from) = record.kind.asked();
    let mut targets: Vec<Target> = Vec::new();
    for &connections in record.connections.iter().filter(|&&count| count >= from) {
        targets.push(cost(record, connections));
    }
    if !record.connections.iter().any(|&count| count >= from) {
        targets.push(Target::at_most(
            format!("CPU per call, from {from} connections"),
            Unit::Ratio,
            limit(record),
            None,
        ));
    }
    targets.push(memory(record));
    targets.extend(judged(record).map(|peer| tail(record, peer)));
    targets
}

/// At most this share of the best peer's CPU per call, which is so many times its calls per CPU second.
pub fn limit(record: &Record) -> f64 {
    1.0 / record.kind.asked().0
}

fn judged(record: &Record) -> impl Iterator<Item = &Chosen> {
    record.chosen.iter().filter(|chosen| chosen.is_judged)
}

/// Of those whom corelane is judged against, the one with the least of something.
fn least(record: &Record, of: impl Fn(&Chosen) -> Option<f64>) -> Option<(&Chosen, f64)> {
    judged(record).filter_map(|peer| Some((peer, of(peer)?))).min_by(|(_, this), (_, that)| this.total_cmp(that))
}

/// Nobody knows that a peer without a figure is not the best one: until it has one nothing is met.
fn unless_missing(record: &Record, target: &mut Target, of: impl Fn(&Chosen) -> Option<f64>) {
    let missing: Vec<_> = judged(record).filter(|peer| of(peer).is_none()).map(|peer| peer.name.as_str()).collect();
    if !missing.is_empty() {
        let note = target.note.take().map_or(String::new(), |note| format!("{note}; "));
        target.note = Some(format!("{note}no figure of {}", missing.join(", ")));
        if target.verdict == Verdict::Met {
            target.verdict = Verdict::Undecided;
        }
    }
}

fn costs(record: &Record, peer: &str, connections: usize) -> Figures {
    rounds::figures(&record.rounds, &Scenario::closed(connections), peer, judge::cpu)
}

fn cost(record: &Record, connections: usize) -> Target {
    let of = |peer: &Chosen| judge::median(&judge::values(&costs(record, &peer.name, connections)));
    let best = least(record, of);
    let what = |name: &str| format!("CPU per call, {CORELANE} / {name}, {connections} connections");
    let Some((peer, theirs)) = best else {
        return Target::at_most(what("the best MCP peer"), Unit::Ratio, limit(record), None);
    };
    let ours = costs(record, CORELANE, connections);
    let found = judge::ratio(&ours, &costs(record, &peer.name, connections));
    let mut target = Target::at_most(what(&peer.name), Unit::Ratio, limit(record), found);
    let mut notes = vec!["the best MCP peer".to_owned()];
    if let Some(ours) = judge::median(&judge::values(&ours)) {
        notes.push(format!("calls per CPU second: {:.0} against {:.0}", 1e6 / ours, 1e6 / theirs));
    }
    if let Some(taken) = record.taken(&peer.name, connections).filter(|taken| taken.connections < connections) {
        notes.push(format!("{} on {} connections", peer.name, taken.connections));
    }
    target.note = Some(notes.join("; "));
    unless_missing(record, &mut target, of);
    target
}

/// Each by the rounds that both have: memory hardly varies, so the least and the most decide.
fn memory(record: &Record) -> Target {
    let each = |peer: &str| -> Figures {
        let rounds = record.silent.iter().filter(|round| round.peer == peer);
        rounds.filter_map(|round: &RestRound| Some((round.round, round.bytes_each()?))).collect()
    };
    // A server whose memory did not grow had it before: that says nothing of what a client takes.
    let of = |peer: &Chosen| judge::median(&judge::values(&each(&peer.name))).filter(|&bytes| bytes > 0.0);
    let best = least(record, of);
    let client =
        if record.kind == Kind::ServingSessions { "session, its connection included" } else { "idle connection" };
    let what = |name: &str| format!("RSS per {client}, {CORELANE} / {name}");
    let Some((peer, theirs)) = best else {
        return Target::at_most(what("the best MCP peer"), Unit::Ratio, MEMORY_MAX, None);
    };
    let (ours, others) = (each(CORELANE), each(&peer.name));
    let ratio = |&(round, bytes): &(usize, f64)| {
        let (_, other) = others.iter().find(|(of, other)| *of == round && *other > 0.0)?;
        Some(bytes.max(0.0) / other)
    };
    let found = judge::steady(&ours.iter().filter_map(ratio).collect::<Vec<_>>());
    let mut target = Target::at_most(what(&peer.name), Unit::Ratio, MEMORY_MAX, found);
    let ours = judge::median(&judge::values(&ours)).map_or("-".into(), |bytes| format!("{bytes:.0} B"));
    target.note = Some(format!("the best MCP peer; {ours} against {theirs:.0} B"));
    unless_missing(record, &mut target, of);
    target
}

/// Latency that one call in a hundred exceeds; of corelane only while it serves, because a call that fails is no fast
/// one.
fn tail_of(report: &Report) -> Option<f64> {
    let failed: u64 = report.errors.values().sum();
    (failed <= report.calls / 100).then(|| judge::p99(report))?
}

fn tail(record: &Record, peer: &Chosen) -> Target {
    let is_paced = |scenario: &Scenario| scenario.pace.as_ref().is_some_and(|pace| pace.against == peer.name);
    let scenario = record.rounds.iter().map(|round| &round.scenario).find(|scenario| is_paced(scenario));
    let what = format!("p99 at {:.0} % of the slower one's capacity, {CORELANE} / {}", SHARE * 100.0, peer.name);
    let found = scenario.and_then(|scenario| {
        let ours = rounds::figures(&record.rounds, scenario, CORELANE, tail_of);
        judge::ratio(&ours, &rounds::figures(&record.rounds, scenario, &peer.name, judge::p99))
    });
    let mut target = Target::at_most(what, Unit::Ratio, 1.0, found);
    target.note = scenario.and_then(|scenario| {
        let pace = scenario.pace.as_ref()?;
        Some(format!("{} calls/s on {} connections", pace.rate, scenario.connections))
    });
    target
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;

    use super::*;
    use crate::{rounds::Round, target::summary};

    /// A record in which nothing was measured, of corelane, two peers and a ceiling.
    pub fn blank(kind: &str) -> Record {
        let chosen = |name: &str, is_judged: bool| json!({"name": name, "what": "1.0, one", "is_judged": is_judged});
        serde_json::from_value(json!({
            "environment": {"command": [], "commit": null, "kernel": null, "cpu_model": null, "cores": 2,
                            "governor": null, "load_average": null, "unix_time": 0},
            "kind": kind, "rounds_asked": 5, "seconds": 1.0, "longest": 60.0, "server_cpu": 0, "load_cpu": 1,
            "connections": [64, 1000], "floor": {"http": 302, "legacy": 274, "session": 60},
            "chosen": [chosen("corelane", false), chosen("quick", true), chosen("slow", true), chosen("nginx", false)],
            "left_out": [], "taken": [], "rounds": [], "silent": [], "targets": [],
        }))
        .expect("a record")
    }

    /// Five rounds, with next to no spread, of a server that was as busy as it could be.
    pub fn five(record: &mut Record, scenario: &Scenario, peer: &str, cpu: f64, p99: f64) {
        for (round, step) in [1.0, 1.001, 0.999, 1.0, 1.0].into_iter().enumerate() {
            let report = json!({
                "target": "", "wire": "", "loop_kind": "", "connections": scenario.connections,
                "connections_ready": scenario.connections, "connections_lost": 0, "depth": 1, "verified": true,
                "rate_asked": scenario.pace.as_ref().map(|pace| pace.rate), "request_bytes": 1,
                "response_bytes": null, "warmup_seconds": 0.0, "seconds": 1.0, "offered": null, "calls": 100_000,
                "ended_in_window": 1, "calls_per_second": 1e6 / cpu, "send_lag_us": null, "errors": {},
                "latency_us": {"p50": p99, "p90": p99, "p99": p99 * step, "p99_9": p99, "max": p99},
                "server": {"pid": 1, "cpu_seconds": 1.0, "window_seconds": 1.0, "cpu_us_per_call": cpu * step,
                           "rss_before_bytes": null, "rss_after_bytes": null},
                "generator_cpu_share": 0.5,
            });
            let report = Some(serde_json::from_value(report).expect("a report"));
            record.rounds.push(Round { scenario: scenario.clone(), rung: peer.into(), round, report, failure: None });
        }
    }

    /// Three rounds of silent clients.
    pub fn silent(record: &mut Record, peer: &str, bytes: f64) {
        for round in 0..3 {
            let growth = json!({"count": 1000, "seconds": 1.0, "per_second": 1000.0, "server_cpu_seconds": 0.5,
                "per_server_cpu_second": 2000.0, "server_rss_growth_bytes": bytes * 1000.0,
                "server_rss_bytes_each": bytes, "kernel_slab_growth_bytes": null,
                "kernel_slab_bytes_each_both_ends": null, "kernel_slab_unreclaimable_growth_bytes": null});
            let growth = Some(serde_json::from_value(growth).expect("a growth"));
            record.silent.push(RestRound { peer: peer.into(), round, growth, failure: None });
        }
    }

    fn found(record: &Record, what: &str) -> Target {
        let targets = all(record);
        targets.into_iter().find(|target| target.what.starts_with(what)).expect("such a target")
    }

    #[test]
    fn what_was_not_measured_has_a_row_that_says_so() {
        for (kind, rows) in [("serving-stateless", 4), ("serving-sessions", 5), ("forwarding", 5)] {
            let targets = all(&blank(kind));
            assert!(targets.iter().all(|target| target.verdict == Verdict::NotMeasured), "{kind}");
            assert_eq!(targets.len(), rows, "{}", summary(&targets));
        }
        let mut record = blank("serving-stateless");
        record.connections = vec![64];
        assert_eq!(all(&record).len(), 4, "the row of 1,000 connections is there without them");
    }

    #[test]
    fn the_best_peer_is_the_one_that_is_judged_against_and_a_ceiling_is_none() {
        let mut record = blank("serving-stateless");
        let scenario = Scenario::closed(1000);
        for (peer, cpu) in [("corelane", 10.0), ("quick", 31.0), ("slow", 900.0), ("nginx", 12.0)] {
            five(&mut record, &scenario, peer, cpu, 1.0);
        }
        let target = found(&record, "CPU per call, corelane / quick, 1000");
        assert_eq!(target.verdict, Verdict::Met, "3.1 times");
        let note = target.note.expect("what it means");
        assert!(note.contains("100000 against 32258"), "{note}");
        record.kind = Kind::ServingSessions;
        assert_eq!(found(&record, "CPU per call, corelane / quick, 1000").verdict, Verdict::Missed, "of five times");
        record.kind = Kind::ServingStateless;
        record.rounds.retain(|round| round.rung != "quick");
        let target = found(&record, "CPU per call, corelane / slow, 1000");
        assert_eq!(target.verdict, Verdict::Undecided, "the best one may be the one without a figure");
        assert!(target.note.expect("why").ends_with("no figure of quick"));
        record.kind = Kind::ServingSessions;
        assert_eq!(found(&record, "CPU per call, corelane / the best MCP peer, 64").verdict, Verdict::NotMeasured);
    }

    #[test]
    fn memory_is_judged_against_the_one_that_needs_least() {
        let of = |ours: f64, quick: f64| {
            let mut record = blank("serving-stateless");
            silent(&mut record, "corelane", ours);
            silent(&mut record, "quick", quick);
            silent(&mut record, "slow", 40_000.0);
            silent(&mut record, "nginx", 10.0);
            let target = found(&record, "RSS per idle connection");
            (target.what, target.verdict)
        };
        let against = |name: &str| format!("RSS per idle connection, corelane / {name}");
        assert_eq!(of(2000.0, 20_000.0), (against("quick"), Verdict::Met));
        assert_eq!(of(2100.0, 20_000.0), (against("quick"), Verdict::Missed));
        assert_eq!(of(2000.0, -5.0), (against("slow"), Verdict::Undecided), "what did not grow says nothing");
        assert_eq!(of(-5.0, 20_000.0), (against("quick"), Verdict::Met));
    }

    #[test]
    fn both_are_asked_for_four_fifths_of_what_the_slower_one_can_do() {
        let mut record = blank("serving-stateless");
        five(&mut record, &Scenario::closed(1000), "corelane", 10.0, 1.0);
        assert_eq!(record.paced("quick", 1000), None, "nothing is known of it");
        five(&mut record, &Scenario::closed(1000), "quick", 100.0, 1.0);
        let scenario = record.paced("quick", 1000).expect("both are known");
        let pace = scenario.pace.clone().expect("a rate");
        assert_eq!((pace.rate, pace.of.as_str(), scenario.share), (8000.0, "quick", Some(0.8)));
        // Asleep for half of the time although calls waited: it can do what it did, and not what its CPU would allow.
        for report in record.rounds.iter_mut().filter_map(|round| round.report.as_mut()) {
            report.calls_per_second /= 2.0;
        }
        let rate = |record: &Record| record.paced("quick", 1000).and_then(|scenario| Some(scenario.pace?.rate));
        assert_eq!(rate(&record), Some(4000.0));
        // Unless it was the generator that could do no more.
        for report in record.rounds.iter_mut().filter_map(|round| round.report.as_mut()) {
            report.generator_cpu_share = 0.95;
        }
        assert_eq!(rate(&record), Some(8000.0));
    }

    #[test]
    fn the_tail_is_judged_against_each_peer_at_its_own_rate() {
        let mut record = blank("serving-stateless");
        for (peer, cpu) in [("corelane", 10.0), ("quick", 100.0), ("slow", 1000.0)] {
            five(&mut record, &Scenario::closed(1000), peer, cpu, 1.0);
        }
        for (peer, theirs) in [("quick", 300.0), ("slow", 150.0)] {
            let scenario = record.paced(peer, 1000).expect("both are known");
            five(&mut record, &scenario, "corelane", 10.0, 200.0);
            five(&mut record, &scenario, peer, 100.0, theirs);
        }
        let verdict = |record: &Record, peer: &str| {
            found(record, &format!("p99 at 80 % of the slower one's capacity, corelane / {peer}")).verdict
        };
        assert_eq!((verdict(&record, "quick"), verdict(&record, "slow")), (Verdict::Met, Verdict::Missed));
        let open = |round: &&mut Round| round.scenario.pace.is_some() && round.rung == "corelane";
        for round in record.rounds.iter_mut().filter(open) {
            let report = round.report.as_mut().expect("a report");
            report.errors.insert("http_503".into(), report.calls / 50);
        }
        assert_eq!(verdict(&record, "quick"), Verdict::NotMeasured, "calls that fail are no fast ones");
    }

    #[test]
    fn a_scenario_comes_back_from_json_as_it_was() {
        let mut record = blank("forwarding");
        for (peer, cpu) in [("corelane", 7.3), ("quick", 77.7)] {
            five(&mut record, &Scenario::closed(1000), peer, cpu, 1.0);
        }
        let scenario = record.paced("quick", 1000).expect("both are known");
        let text = serde_json::to_string(&scenario).expect("it can be written");
        assert_eq!(serde_json::from_str::<Scenario>(&text).expect("it can be read"), scenario);
        let closed = serde_json::to_string(&Scenario::closed(64)).expect("it can be written");
        assert!(!closed.contains("pace"), "{closed}");
    }
}
