//! The targets of forwarding, and what its rounds say of each.
//!
//! It measures nothing, and every number that is judged follows from the record by `judge`.
//!
//! Invariant: every target has a row, measured or not, so none can be met by being left out.

use super::faults::Fault;
use super::{ALL, DIRECT, FAR, FASTMCP, FLOOR, ONE, RMCP, Record, crossing};
use crate::{
    judge::{self, Estimate, Figures},
    rounds::{self, Scenario},
    target::{Target, Unit},
};

/// Connection counts that the targets name.
const CONNECTIONS: [usize; 2] = [64, 512];
const MANY: usize = 512;
/// Corelane's rungs.
const OURS: [&str; 2] = [ONE, ALL];
/// A forwarded call is two calls, so it is compared with two echoes.
const ECHOES: f64 = 2.0;
const ECHOES_MAX: f64 = 1.5;
/// "At least five times less."
const PEERS_MAX: f64 = 0.2;
const ADDED_MAX_US: f64 = 60.0;
const TAIL_MAX: f64 = 3.0;
const SESSION_MAX: f64 = 4096.0;
const CROSSING_MAX: f64 = 1.3;
/// "The others' p99 is unchanged."
const BESIDE_MAX: f64 = 1.1;
/// "With both cores at least half busy."
const BUSY_MIN: f64 = 0.5;

/// Every target, in the order in which they are set.
pub fn all(record: &Record) -> Vec<Target> {
    let mut targets = Vec::new();
    for connections in CONNECTIONS {
        let of = |rung| rounds::figures(&record.rounds, &Scenario::closed(connections), rung, judge::cpu);
        let two: Figures = of(FLOOR).into_iter().map(|(round, cost)| (round, cost * ECHOES)).collect();
        for this in OURS {
            let what = format!("{this} / two {FLOOR}, {connections} connections");
            targets.push(Target::at_most(what, Unit::Ratio, ECHOES_MAX, judge::ratio(&of(this), &two)));
            for peer in [RMCP, FASTMCP] {
                let what = format!("{this} / {peer}, {connections} connections");
                targets.push(Target::at_most(what, Unit::Ratio, PEERS_MAX, judge::ratio(&of(this), &of(peer))));
            }
        }
    }
    for this in OURS {
        let of = |rung| rounds::figures(&record.rounds, &Scenario::closed(1), rung, judge::p50);
        let what = format!("{this}, p50 added to {DIRECT}, 1 connection and an idle machine");
        let added = judge::differences(&of(this), &of(DIRECT));
        let far = judge::median(&judge::differences(&of(FAR), &of(DIRECT)));
        let mut target = Target::at_most(what, Unit::Microseconds, ADDED_MAX_US, middle(added));
        target.note = far.map(|far| format!("{FAR}, which crosses CPUs half as often, adds {far:.0} us"));
        targets.push(target);
    }
    for this in OURS {
        let tail = rounds::figures(&record.rounds, &Scenario::closed(MANY), this, |report| {
            report.latency_us.map(|latency| latency.p99 / latency.p50)
        });
        let what = format!("{this}, p99 / p50, {MANY} connections");
        targets.push(Target::at_most(what, Unit::Ratio, TAIL_MAX, judge::middle(&tail)));
    }
    targets.push(sessions(record));
    targets.push(crossed(record));
    targets.extend(Fault::all().map(|fault| unharmed(record, fault)));
    targets
}

/// The target of a ratio of CPU per call in a closed loop, if there is one.
pub fn of_cost(this: &str, that: &str, scenario: &Scenario) -> Option<f64> {
    if !OURS.contains(&this) || scenario.connections == 1 {
        return None;
    }
    match that {
        FLOOR => Some(ECHOES_MAX * ECHOES),
        RMCP | FASTMCP => Some(PEERS_MAX),
        _ => None,
    }
}

fn middle(values: Vec<f64>) -> Option<Estimate> {
    judge::middle(&values.into_iter().enumerate().collect::<Figures>())
}

fn sessions(record: &Record) -> Target {
    let good = || record.sessions.iter().filter(|round| round.failure.is_none());
    let each: Vec<f64> = good().filter_map(|round| round.bytes_each()).collect();
    let what = match good().next() {
        Some(round) => format!("RSS per session, all in, {} over {} upstreams", round.sessions, round.upstreams),
        None => "RSS per session, all in".into(),
    };
    let grown = judge::median(&good().filter_map(|round| round.grown_each()).collect::<Vec<_>>());
    let mut target = Target::at_most(what, Unit::Bytes, SESSION_MAX, judge::steady(&each));
    target.note = grown.map(|bytes| format!("what they added: {bytes:.0} B each"));
    target
}

/// What a neighbour that fails costs those who have nothing to do with it.
fn unharmed(record: &Record, fault: Fault) -> Target {
    let of = |fails| -> Figures {
        let rounds = record.faults.iter().filter(|round| round.fault == fault && round.fails == fails);
        rounds.filter_map(|round| Some((round.round, judge::p99(round.report.as_ref()?)?))).collect()
    };
    let (failing, well) = fault.sides();
    let what = format!("p99 beside {failing} / beside {well}");
    Target::at_most(what, Unit::Ratio, BESIDE_MAX, judge::ratio(&of(true), &of(false)))
}

/// How many times a local call's CPU one costs that crosses, in the rounds that have both, at that load; and how busy
/// the less busy core was.
fn crossing_costs(record: &Record, busy: bool) -> Vec<(f64, f64)> {
    let of = |swapped| {
        let kind = crossing::Kind { busy, swapped };
        record.crossing.iter().filter(move |round| round.kind == kind)
    };
    let ratio = |swapped: &crossing::CrossingRound| {
        let local = of(false).find(|local| local.round == swapped.round)?;
        let ratio = crossing::ratio(local.cost()?, swapped.cost()?, swapped.crossed?)?;
        Some((ratio, local.least_busy()?.min(swapped.least_busy()?)))
    };
    of(true).filter_map(ratio).collect()
}

/// Only rounds in which both cores were busy enough are what was asked.
fn crossed(record: &Record) -> Target {
    let rounds = crossing_costs(record, true);
    let (busy, others): (Vec<_>, Vec<_>) = rounds.iter().partition(|(_, least)| *least >= BUSY_MIN);
    let found = middle(busy.iter().map(|(ratio, _)| *ratio).collect());
    let what = "a call that crosses / a local one, both cores at least half busy".into();
    let mut target = Target::at_most(what, Unit::Ratio, CROSSING_MAX, found);
    let mut notes = Vec::new();
    if !others.is_empty() {
        notes.push(format!("{} rounds left out in which a core was less busy", others.len()));
    }
    if let Some(idle) =
        judge::median(&crossing_costs(record, false).iter().map(|(ratio, _)| *ratio).collect::<Vec<_>>())
    {
        notes.push(format!("idle: {idle:.2}"));
    }
    target.note = (!notes.is_empty()).then(|| notes.join("; "));
    target
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        forwarding::{crossing::CrossingRound, faults::FaultRound, sessions::SessionsRound},
        judge::Verdict,
        rounds::Round,
        tally::Report,
        target::summary,
    };

    /// A record in which nothing was measured.
    fn blank() -> Record {
        serde_json::from_value(json!({
            "environment": environment(), "rounds_asked": 5, "seconds": 1.0, "server_cpu": 0, "load_cpu": 1,
            "floor_reply_bytes": 400, "rungs": [], "comparisons": [], "left_out": [], "rounds": [], "crossing": [],
            "sessions": [], "targets": [],
        }))
        .expect("a record")
    }

    fn environment() -> serde_json::Value {
        json!({"command": [], "commit": null, "kernel": null, "cpu_model": null, "cores": 2, "governor": null,
               "load_average": null, "unix_time": 0})
    }

    fn report(cpu: f64, p50: f64, p99: f64, second_thread: f64) -> Report {
        serde_json::from_value(json!({
            "target": "", "wire": "", "loop_kind": "", "connections": 1, "connections_ready": 1,
            "connections_lost": 0, "depth": 1, "verified": true, "rate_asked": null, "request_bytes": 1,
            "response_bytes": null, "warmup_seconds": 0.0, "seconds": 1.0, "offered": null, "calls": 100,
            "ended_in_window": 1, "calls_per_second": 1.0, "send_lag_us": null, "errors": {},
            "latency_us": {"p50": p50, "p90": p50, "p99": p99, "p99_9": p99, "max": p99},
            "server": {"pid": 1, "cpu_seconds": 1.0, "window_seconds": 1.0, "cpu_us_per_call": cpu,
                       "busiest_threads": [0.9, second_thread], "rss_before_bytes": null, "rss_after_bytes": null},
            "generator_cpu_share": 0.5, "environment": environment(),
        }))
        .expect("a report")
    }

    /// Five rounds of a rung, with next to no spread.
    fn five(record: &mut Record, connections: usize, rung: &str, (cpu, p50, p99): (f64, f64, f64)) {
        for (round, step) in [1.0, 1.001, 0.999, 1.0, 1.0].into_iter().enumerate() {
            let report = Some(report(cpu * step, p50 * step, p99 * step, 0.9));
            let scenario = Scenario::closed(connections);
            record.rounds.push(Round { scenario, rung: rung.into(), round, report, failure: None });
        }
    }

    fn verdict(record: &Record, what: &str) -> Verdict {
        let targets = all(record);
        targets.iter().find(|target| target.what.starts_with(what)).expect("such a target").verdict
    }

    #[test]
    fn what_was_not_measured_has_a_row_that_says_so() {
        let targets = all(&blank());
        assert!(targets.iter().all(|target| target.verdict == Verdict::NotMeasured));
        // Three ratios at each of two counts, an added latency and a tail, for both ways; memory and crossing; faults.
        assert_eq!(targets.len(), (3 * 2 + 1 + 1) * 2 + 2 + 14);
        assert_eq!(summary(&targets), "32 targets: 0 met, 0 missed, 0 undecided, 32 not measured");
    }

    #[test]
    fn a_forwarded_call_is_compared_with_two_echoes_and_with_what_a_peer_needs() {
        let mut record = blank();
        for (rung, cpu) in [(FLOOR, 4.0), (ONE, 11.9), (ALL, 12.1), (RMCP, 60.0)] {
            five(&mut record, 64, rung, (cpu, 1.0, 1.0));
        }
        assert_eq!(verdict(&record, "one / two a-http, 64"), Verdict::Met, "2.975 echoes");
        assert_eq!(verdict(&record, "all / two a-http, 64"), Verdict::Missed);
        assert_eq!(verdict(&record, "one / rmcp, 64"), Verdict::Met);
        assert_eq!(verdict(&record, "all / rmcp, 64"), Verdict::Missed, "4.96 times less");
        assert_eq!(verdict(&record, "one / fastmcp, 64"), Verdict::NotMeasured);
        assert_eq!(verdict(&record, "one / two a-http, 512"), Verdict::NotMeasured);
        assert_eq!(of_cost(ONE, FLOOR, &Scenario::closed(64)), Some(3.0));
        assert_eq!(of_cost(ALL, ONE, &Scenario::closed(64)), None);
    }

    #[test]
    fn latency_is_what_is_added_and_the_tail_what_one_rung_has() {
        let mut record = blank();
        for (rung, p50) in [(DIRECT, 20.0), (ONE, 79.0), (ALL, 82.0)] {
            five(&mut record, 1, rung, (1.0, p50, p50));
        }
        for (rung, p99) in [(ONE, 299.0), (ALL, 302.0)] {
            five(&mut record, 512, rung, (1.0, 100.0, p99));
        }
        assert_eq!(verdict(&record, "one, p50 added"), Verdict::Met);
        assert_eq!(verdict(&record, "all, p50 added"), Verdict::Missed);
        assert_eq!(verdict(&record, "one, p99"), Verdict::Met);
        assert_eq!(verdict(&record, "all, p99"), Verdict::Missed);
    }

    #[test]
    fn a_session_is_charged_for_all_the_memory_there_is() {
        let mut record = blank();
        for round in 0..3 {
            record.sessions.push(SessionsRound {
                round,
                sessions: 10_000,
                upstreams: 8,
                rss_before_bytes: Some(10_000_000),
                rss_bytes: Some(41_000_000),
                failure: None,
            });
        }
        assert_eq!(verdict(&record, "RSS per session, all in, 10000 over 8"), Verdict::Missed, "3,100 were added");
        record.sessions.iter_mut().for_each(|round| round.rss_bytes = Some(40_000_000));
        assert_eq!(verdict(&record, "RSS per session"), Verdict::Met);
        record.sessions[0].failure = Some("it broke".into());
        assert_eq!(verdict(&record, "RSS per session"), Verdict::Undecided, "two rounds");
    }

    #[test]
    fn a_neighbour_that_fails_may_cost_a_tenth() {
        let of = |beside: f64| {
            let mut record = blank();
            for round in 0..5 {
                for (fails, p99) in [(false, 100.0), (true, beside)] {
                    let (fault, report) = (Fault::HangsUp, Some(report(1.0, 1.0, p99, 0.0)));
                    let real_time = false;
                    record.faults.push(FaultRound { fault, fails, round, real_time, report, failure: None });
                }
            }
            verdict(&record, "p99 beside a server that hangs up")
        };
        assert_eq!((of(109.0), of(111.0)), (Verdict::Met, Verdict::Missed));
        assert_eq!(verdict(&blank(), "p99 beside a server that never answers"), Verdict::NotMeasured);
    }

    #[test]
    fn crossing_is_judged_only_with_both_cores_half_busy() {
        let of = |local: f64, swapped: f64, share: f64| {
            let mut record = blank();
            for round in 0..5 {
                for (is_swapped, cost) in [(false, local), (true, swapped)] {
                    let kind = crossing::Kind { busy: true, swapped: is_swapped };
                    let crossed = Some(if is_swapped { 0.5 } else { 0.0 });
                    let report = Some(report(cost, 1.0, 1.0, share));
                    record.crossing.push(CrossingRound { kind, round, crossed, report, failure: None });
                }
            }
            verdict(&record, "a call that crosses")
        };
        assert_eq!(of(10.0, 11.4, 0.6), Verdict::Met, "1.28");
        assert_eq!(of(10.0, 11.6, 0.6), Verdict::Missed, "1.32");
        assert_eq!(of(10.0, 11.4, 0.4), Verdict::NotMeasured, "a core was idle for more than half of the time");
        assert_eq!(of(10.0, 11.4, 0.5), Verdict::Met, "at least half");
    }
}
