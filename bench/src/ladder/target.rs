//! The targets of the ladder, and what its rounds say of each.
//!
//! It measures nothing, and every number that is judged follows from the record by `judge`.
//!
//! Invariant: every target has a row, measured or not, so none can be met by being left out.

use super::{Record, rest::WATCHED};
use crate::{
    judge::{self, Figures},
    rounds::{self, Scenario},
    target::{Target, Unit},
};

/// Connection counts that the targets name.
const CONNECTIONS: [usize; 3] = [64, 1000, 8000];
const FEW: usize = 64;
const MANY: usize = 8000;
const DEPTH: usize = 16;
const SHARES: [f64; 2] = [0.1, 0.4];

/// Every target, in the order in which they are set.
pub fn all(record: &Record) -> Vec<Target> {
    let mut targets = Vec::new();
    for connections in CONNECTIONS {
        costs(record, connections, &mut targets);
    }
    pipelined(record, &mut targets);
    for (this, floor) in [("b", "a-ndjson"), ("c", "a-http"), ("d", floor_of_sessions(record))] {
        let of = |rung, connections| cost(record, &Scenario::closed(connections), rung);
        let grown = judge::growth((&of(this, MANY), &of(floor, MANY)), (&of(this, FEW), &of(floor, FEW)));
        let what = format!("growth of {this} from {FEW} to {MANY} connections / growth of {floor}");
        targets.push(Target::at_most(what, Unit::Ratio, 1.1, grown));
    }
    for share in SHARES {
        let scenario = Scenario { share: Some(share), ..Scenario::closed(FEW) };
        for (this, floor) in [("b", "a-ndjson"), ("c", "a-http")] {
            let found = judge::ratio(&cost(record, &scenario, this), &cost(record, &scenario, floor));
            let what = format!("{this} / {floor}, open loop at {:.0} %", share * 100.0);
            targets.push(Target::at_most(what, Unit::Ratio, 1.3, found));
        }
    }
    memory(record, &mut targets);
    empty(record, &mut targets);
    targets
}

/// The target of a ratio of CPU per call in a closed loop, if there is one.
pub fn of_cost(this: &str, that: &str, scenario: &Scenario) -> Option<f64> {
    if scenario.depth != 1 {
        return None;
    }
    match (this, that, scenario.share) {
        ("b", "a-ndjson", None) => Some(1.25),
        ("c", "a-http", None) => Some(1.4),
        ("d", "a-http" | "a-http-legacy", None) => Some(1.5),
        ("b", "a-ndjson", Some(_)) | ("c", "a-http", Some(_)) => Some(1.3),
        // "Three times less from 1,000 connections" is a ratio of one third; below, two and a half times.
        ("c", "e1", None) => Some(if scenario.connections >= 1000 { 1.0 / 3.0 } else { 0.4 }),
        ("d", "e2", None) => Some(0.2),
        _ => None,
    }
}

fn cost(record: &Record, scenario: &Scenario, rung: &str) -> Figures {
    rounds::figures(&record.rounds, scenario, rung, judge::cpu)
}

/// Records made before the floor had a shape for sessions compare with that of calls without.
fn floor_of_sessions(record: &Record) -> &'static str {
    let before = record.comparisons.iter().any(|(this, that)| this == "d" && that == "a-http");
    if before { "a-http" } else { "a-http-legacy" }
}

fn costs(record: &Record, connections: usize, targets: &mut Vec<Target>) {
    let scenario = Scenario::closed(connections);
    for (this, that) in super::COMPARISONS {
        let that = if that == "a-http-legacy" { floor_of_sessions(record) } else { that };
        if let Some(limit) = of_cost(this, that, &scenario) {
            let found = judge::ratio(&cost(record, &scenario, this), &cost(record, &scenario, that));
            targets.push(Target::at_most(
                format!("{this} / {that}, {connections} connections"),
                Unit::Ratio,
                limit,
                found,
            ));
        }
    }
}

/// One of two ways to meet it is enough, so both rows carry the common verdict.
fn pipelined(record: &Record, targets: &mut Vec<Target>) {
    let scenario = Scenario { depth: DEPTH, ..Scenario::closed(FEW) };
    let of = |rung| cost(record, &scenario, rung);
    let what = format!("b, {DEPTH} calls in flight on each of {FEW} connections");
    let mut alone = Target::at_most(what.clone(), Unit::Microseconds, 0.75, judge::middle(&of("b")));
    let against =
        Target::at_most(format!("{what} / a-ndjson"), Unit::Ratio, 1.8, judge::ratio(&of("b"), &of("a-ndjson")));
    alone.note = Some(match against.found {
        Some(found) => format!("or at most 1.8 x a-ndjson: {:.2} ({:.2} - {:.2})", found.value, found.low, found.high),
        None => "or at most 1.8 x a-ndjson".into(),
    });
    alone.verdict = alone.verdict.or(against.verdict);
    targets.push(alone);
}

fn memory(record: &Record, targets: &mut Vec<Target>) {
    let each = |rung: &str| -> Figures {
        let rounds = record.idle.iter().filter(|round| round.rung == rung);
        rounds.filter_map(|round| Some((round.round, round.bytes_each()?))).collect()
    };
    let found = |rung| judge::steady(&judge::values(&each(rung)));
    let rmcp = |bytes: Option<f64>| bytes.map(|bytes| format!("rmcp: {bytes:.0} B"));
    let mut lines =
        Target::at_most("RSS per idle connection, b (with its session)".into(), Unit::Bytes, 2048.0, found("b"));
    let mut http = Target::at_most("RSS per idle connection, c".into(), Unit::Bytes, 2048.0, found("c"));
    let session = judge::steady(&judge::differences(&each("d"), &each("c")));
    let mut session = Target::at_most("RSS per idle session, d - c".into(), Unit::Bytes, 2048.0, session);
    lines.note = rmcp(found("e1").map(|found| found.value));
    http.note = lines.note.clone();
    session.note = rmcp(judge::median(&judge::differences(&each("e2"), &each("e1"))));
    targets.extend([lines, http, session]);
}

fn empty(record: &Record, targets: &mut Vec<Target>) {
    let of = |executors: usize, figure: fn(&super::EmptyRound) -> f64| -> Figures {
        let rounds = record.empty.iter().filter(|round| round.executors == executors);
        rounds.map(|round| (round.round, figure(round))).collect()
    };
    let shares = judge::values(&of(WATCHED, |round| round.cpu_share * 100.0));
    let memory = |executors| of(executors, |round| round.rss_bytes / 1e6);
    let what = format!("CPU without connections, {WATCHED} cores");
    targets.push(Target::at_most(what, Unit::Percent, 0.5, judge::steady(&shares)));
    let what = format!("RSS without connections, {WATCHED} cores");
    targets.push(Target::at_most(what, Unit::Megabytes, 40.0, judge::steady(&judge::values(&memory(WATCHED)))));
    let mut counts: Vec<usize> = record.empty.iter().map(|round| round.executors).filter(|&n| n >= WATCHED).collect();
    counts.sort_unstable();
    counts.dedup();
    // The dearest core of each round: an average could hide one that costs too much.
    let dearest = |round: usize| {
        let at = |executors: usize| memory(executors).into_iter().find(|of| of.0 == round).map(|of| of.1);
        let steps = counts.windows(2).map(|pair| Some((at(pair[1])? - at(pair[0])?) / (pair[1] - pair[0]) as f64));
        steps.flatten().reduce(f64::max)
    };
    let dearest: Vec<f64> = memory(WATCHED).into_iter().filter_map(|(round, _)| dearest(round)).collect();
    let further = judge::steady(&dearest);
    let what = match counts.last() {
        Some(most) if *most > WATCHED => format!("RSS of the dearest further core, up to {most}"),
        _ => "RSS of the dearest further core".into(),
    };
    targets.push(Target::at_most(what, Unit::Megabytes, 8.0, further));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        judge::Verdict,
        ladder::{EmptyRound, IdleRound},
        rounds::Round,
        target::summary,
    };

    /// A record in which nothing was measured.
    fn blank() -> Record {
        serde_json::from_value(json!({
            "environment": environment(), "rounds_asked": 5, "seconds": 1.0, "server_cpu": 0, "load_cpu": 1,
            "floor_ndjson_reply_bytes": 170, "floor_http_reply_bytes": 400, "rungs": [], "comparisons": [],
            "rounds": [],
        }))
        .expect("a record without what was added later")
    }

    fn environment() -> serde_json::Value {
        json!({"command": [], "commit": null, "kernel": null, "cpu_model": null, "cores": 2, "governor": null,
               "load_average": null, "unix_time": 0})
    }

    /// Five rounds of a rung that cost `cpu`, give or take `spread`.
    fn cost(record: &mut Record, scenario: &Scenario, rung: &str, cpu: f64, spread: f64) {
        for (round, step) in [0.0, 1.0, -1.0, 0.5, -0.5].into_iter().enumerate() {
            let report = json!({
                "target": "", "wire": "", "loop_kind": "", "connections": 1, "connections_ready": 1,
                "connections_lost": 0, "depth": 1, "verified": true, "rate_asked": null, "request_bytes": 1,
                "response_bytes": null, "warmup_seconds": 0.0, "seconds": 1.0, "offered": null, "calls": 100,
                "ended_in_window": 1, "calls_per_second": 1.0, "latency_us": null, "send_lag_us": null, "errors": {},
                "server": {"pid": 1, "cpu_seconds": 1.0, "window_seconds": 1.0, "cpu_us_per_call": cpu + step * spread,
                           "rss_before_bytes": null, "rss_after_bytes": null},
                "generator_cpu_share": 0.5, "environment": environment(),
            });
            let report = Some(serde_json::from_value(report).expect("a report"));
            record.rounds.push(Round { scenario: scenario.clone(), rung: rung.into(), round, report, failure: None });
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
        // Five ratios at each of three counts, pipelining, three growths, four open loops, three of memory, three of
        // idleness.
        assert_eq!(targets.len(), 15 + 1 + 3 + 4 + 3 + 3);
        assert_eq!(summary(&targets), "29 targets: 0 met, 0 missed, 0 undecided, 29 not measured");
    }

    #[test]
    fn the_limit_against_rmcp_is_stricter_from_a_thousand_connections() {
        let mut record = blank();
        for connections in [64, 1000] {
            cost(&mut record, &Scenario::closed(connections), "c", 3.6, 0.01);
            cost(&mut record, &Scenario::closed(connections), "e1", 10.0, 0.01);
        }
        assert_eq!(verdict(&record, "c / e1, 64 "), Verdict::Met);
        assert_eq!(verdict(&record, "c / e1, 1000 "), Verdict::Missed);
    }

    #[test]
    fn sixteen_in_flight_may_meet_either_limit() {
        let scenario = Scenario { depth: DEPTH, ..Scenario::closed(FEW) };
        let of = |b: f64, floor: f64| {
            let mut record = blank();
            cost(&mut record, &scenario, "b", b, 0.01);
            cost(&mut record, &scenario, "a-ndjson", floor, 0.001);
            verdict(&record, "b, 16 calls")
        };
        assert_eq!(of(0.6, 0.26), Verdict::Met, "2.3 times the floor, but below 0.75 us");
        assert_eq!(of(0.9, 0.6), Verdict::Met, "above 0.75 us, but 1.5 times the floor");
        assert_eq!(of(0.9, 0.3), Verdict::Missed);
    }

    #[test]
    fn rounds_of_few_calls_on_each_connection_decide_nothing() {
        let of = |calls: u64, broken: u64| {
            let mut record = blank();
            cost(&mut record, &Scenario::closed(MANY), "c", 3.0, 0.01);
            cost(&mut record, &Scenario::closed(MANY), "e1", 30.0, 0.01);
            for report in record.rounds.iter_mut().filter_map(|round| round.report.as_mut()) {
                (report.connections, report.calls) = (MANY, calls);
                report.errors.extend((broken > 0).then(|| ("stalled".to_owned(), broken)));
            }
            verdict(&record, "c / e1, 8000 ")
        };
        let enough = judge::LAPS_MIN * MANY as u64;
        assert_eq!(of(enough, 0), Verdict::Met);
        assert_eq!(of(enough - 1, 0), Verdict::NotMeasured);
        assert_eq!(of(enough, enough / 50), Verdict::NotMeasured, "most of what it did was to fail");
    }

    #[test]
    fn growth_is_judged_against_that_of_the_floor() {
        let mut record = blank();
        for (rung, few, many) in [("a-ndjson", 3.0, 6.0), ("b", 4.0, 8.1), ("a-http", 3.0, 6.0), ("c", 4.0, 9.5)] {
            cost(&mut record, &Scenario::closed(FEW), rung, few, 0.01);
            cost(&mut record, &Scenario::closed(MANY), rung, many, 0.01);
        }
        assert_eq!(verdict(&record, "growth of b"), Verdict::Met);
        assert_eq!(verdict(&record, "growth of c"), Verdict::Missed);
        assert_eq!(verdict(&record, "growth of d"), Verdict::NotMeasured);
    }

    #[test]
    fn sessions_are_compared_with_the_floor_of_their_own_shape() {
        let mut record = blank();
        for (rung, cpu) in [("a-http", 2.0), ("a-http-legacy", 3.0), ("d", 4.0)] {
            cost(&mut record, &Scenario::closed(FEW), rung, cpu, 0.01);
        }
        assert_eq!(verdict(&record, "d / a-http-legacy, 64 "), Verdict::Met);
        record.comparisons = vec![("d".into(), "a-http".into())];
        assert_eq!(verdict(&record, "d / a-http, 64 "), Verdict::Missed, "as the record was made");
    }

    #[test]
    fn an_open_loop_asks_the_same_rate_of_all_that_are_compared() {
        let rung = |name| crate::ladder::RUNGS.iter().find(|rung| rung.name == name).expect("such a rung");
        let scenario = Scenario { share: Some(0.4), ..Scenario::closed(FEW) };
        let mut record = blank();
        cost(&mut record, &Scenario::closed(FEW), "a-ndjson", 2.0, 0.0);
        assert_eq!(record.rate(rung("a-ndjson"), &scenario), Some(200_000.0), "alone, the floor paces itself");
        assert_eq!(record.rate(rung("b"), &scenario), None, "nothing is known of it");
        cost(&mut record, &Scenario::closed(FEW), "b", 4.0, 0.0);
        cost(&mut record, &Scenario::closed(FEW), "c", 5.0, 0.0);
        for (name, rate) in [("a-ndjson", 100_000.0), ("b", 100_000.0), ("a-http", 80_000.0), ("c", 80_000.0)] {
            assert_eq!(record.rate(rung(name), &scenario), Some(rate), "{name}");
        }
    }

    #[test]
    fn memory_of_a_session_is_what_it_adds_to_a_connection() {
        let mut record = blank();
        for round in 0..3 {
            for (rung, bytes) in [("c", 1900.0), ("d", 4100.0)] {
                let growth = json!({"count": 1, "seconds": 1.0, "per_second": 1.0, "server_cpu_seconds": null,
                    "per_server_cpu_second": null, "server_rss_growth_bytes": null, "server_rss_bytes_each": bytes,
                    "kernel_slab_growth_bytes": null, "kernel_slab_bytes_each_both_ends": null,
                    "kernel_slab_unreclaimable_growth_bytes": null});
                let report = json!({"target": "", "wire": "", "connections_asked": 1, "connections_opened": 1,
                    "calls_answered": 1, "connections_up_at_the_end": 1, "idle": growth,
                    "server_rss_bytes_before": null, "server_rss_bytes_at_the_end": null, "errors": {}, "environment": environment()});
                let report = Some(serde_json::from_value(report).expect("a report"));
                record.idle.push(IdleRound { rung: rung.into(), round, report, failure: None });
            }
        }
        assert_eq!(verdict(&record, "RSS per idle connection, c"), Verdict::Met);
        assert_eq!(verdict(&record, "RSS per idle session"), Verdict::Missed, "2,200 bytes");
        record.idle.retain(|round| round.round < 2);
        assert_eq!(verdict(&record, "RSS per idle connection, c"), Verdict::Undecided, "two rounds");
    }

    #[test]
    fn one_core_that_takes_too_much_is_not_hidden_by_the_others() {
        let mut record = blank();
        for round in 0..3 {
            for (executors, megabytes) in [(1, 8.0), (2, 9.0), (3, 10.0), (4, 30.0), (6, 32.0)] {
                let rss_bytes = megabytes * 1e6;
                record.empty.push(EmptyRound { executors, round, seconds: 1.0, cpu_share: 0.001, rss_bytes });
            }
        }
        assert_eq!(verdict(&record, "CPU without"), Verdict::Met);
        assert_eq!(verdict(&record, "RSS without"), Verdict::Met);
        // 22 MB for four more cores would be 5.8 each, but the fourth took twenty.
        assert_eq!(verdict(&record, "RSS of the dearest further core"), Verdict::Missed);
        record.empty.retain(|round| round.executors != 4);
        assert_eq!(verdict(&record, "RSS of the dearest further core"), Verdict::Met);
    }
}
