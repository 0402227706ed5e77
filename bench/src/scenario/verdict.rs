//! Whether what a scenario asks for was so.
//!
//! It measures nothing: it reads the lines of the record, so a verdict can be given again from the record alone.
//!
//! Invariant: a condition whose figure was not measured is not met.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    judge,
    scenario::{
        file::{Condition, Figure, Scenario},
        record::PhaseLine,
    },
};

/// A condition with what was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Judged {
    pub condition: Condition,
    pub found: Option<f64>,
    pub met: bool,
}

/// Judges all conditions.
pub fn judge(scenario: &Scenario, phases: &[PhaseLine]) -> Vec<Judged> {
    scenario.conditions.iter().map(|condition| judged(condition, phases)).collect()
}

fn judged(condition: &Condition, phases: &[PhaseLine]) -> Judged {
    let wanted = |line: &&PhaseLine| {
        condition.phase.as_ref().is_none_or(|phase| line.phase == *phase)
            && condition.group.as_ref().is_none_or(|group| line.group == *group)
    };
    let lines: Vec<&PhaseLine> = phases.iter().filter(wanted).collect();
    let found = figure(condition.figure, &lines);
    let met = found.is_some_and(|found| judge::is_within(found, condition.at_least, condition.at_most));
    Judged { condition: condition.clone(), found, met }
}

/// How a condition is told: of what, what was found, already in words, and the bounds.
pub fn line(met: bool, what: &str, found: Option<String>, at_least: Option<f64>, at_most: Option<f64>) -> String {
    let bound = |bound: Option<f64>| bound.map_or("-".into(), |it| it.to_string());
    let (word, found) = (if met { "met   " } else { "MISSED" }, found.unwrap_or("not measured".into()));
    format!("{word} {what}: {found} (at least {}, at most {})", bound(at_least), bound(at_most))
}

/// A figure over several groups and phases: sums are summed, the rest is the worst of them.
fn figure(figure: Figure, lines: &[&PhaseLine]) -> Option<f64> {
    let worst = |of: &dyn Fn(&PhaseLine) -> Option<f64>| lines.iter().filter_map(|line| of(line)).reduce(f64::max);
    let sum = |of: &dyn Fn(&PhaseLine) -> u64| lines.iter().map(|line| of(line)).sum::<u64>() as f64;
    let failed = |line: &PhaseLine| line.errors.values().sum::<u64>();
    let refused = |line: &PhaseLine| line.connections_refused.values().sum::<u64>();
    let phases = |of: &dyn Fn(&PhaseLine) -> Option<f64>| {
        // Every group of a phase is told what the phase took; phases follow each other.
        let by_phase: BTreeMap<&str, f64> =
            lines.iter().filter_map(|line| Some((line.phase.as_str(), of(line)?))).collect();
        by_phase.values().copied().reduce(|one, other| one + other)
    };
    if lines.is_empty() {
        return None;
    }
    let seconds = phases(&|line| Some(line.duration_s))?;
    let open = sum(&|line| line.connections_open);
    let attempted = sum(&|line| line.offered + line.connections_attempted);
    Some(match figure {
        Figure::P50Us => worst(&|line| line.latency_p50_us)?,
        Figure::P95Us => worst(&|line| line.latency_p95_us)?,
        Figure::P99Us => worst(&|line| line.latency_p99_us)?,
        Figure::P999Us => worst(&|line| line.latency_p999_us)?,
        Figure::MaxUs => worst(&|line| line.latency_us.as_ref().map(|latency| latency.max))?,
        // Where nothing was tried nothing can have gone wrong, and nothing was shown.
        Figure::Errors | Figure::Lost | Figure::Unaccounted if attempted == 0.0 && open == 0.0 => return None,
        Figure::Errors => sum(&failed),
        Figure::ErrorPercent if attempted == 0.0 => return None,
        Figure::ErrorPercent => 100.0 * sum(&|line| failed(line) + refused(line)) / attempted,
        Figure::CallsPerSecond => sum(&|line| line.in_time) / seconds,
        Figure::MessagesPerSecond => 2.0 * sum(&|line| line.in_time) / seconds,
        Figure::AnsweredPercent => {
            let offered = sum(&|line| line.offered);
            if offered == 0.0 {
                return None;
            }
            100.0 * sum(&|line| line.succeeded) / offered
        }
        Figure::Connections => {
            let last = lines.last()?;
            lines.iter().filter(|line| line.phase == last.phase).map(|line| line.connections_open).sum::<u64>() as f64
        }
        Figure::Lost => sum(&|line| line.connections_lost.values().sum()),
        Figure::Unaccounted => {
            let calls = sum(&|line| line.offered) - sum(&|line| line.succeeded) - sum(&failed);
            let connections =
                sum(&|line| line.connections_attempted) - sum(&|line| line.connections_ready) - sum(&refused);
            calls.abs() + connections.abs()
        }
        Figure::RssMib => worst(&|line| line.memory_rss_mib_per_node)?,
        Figure::RssBytesEach => worst(&|line| line.server_rss_bytes_each)?,
        Figure::ServerCpuPercent => worst(&|line| line.cpu_percent)?,
        Figure::ServerCpuSeconds => phases(&|line| line.server_cpu_seconds)?,
        Figure::CpuUsPerCall => worst(&|line| line.cpu_us_per_call)?,
        Figure::LongestGapMs => worst(&|line| line.longest_gap_ms)?,
        Figure::MeanGapMs => worst(&|line| line.mean_gap_ms)?,
        Figure::Seconds => seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::record::tests::line;

    fn found(figure: Figure, phase: Option<&str>, group: Option<&str>) -> Option<f64> {
        let mut lines = vec![line("ramp", "a"), line("hold", "a"), line("hold", "b")];
        (lines[1].offered, lines[1].succeeded, lines[1].latency_p99_us) = (1000, 990, Some(7.0));
        (lines[1].in_time, lines[2].in_time) = (990, 499);
        lines[1].errors.insert("http_503".into(), 10);
        (lines[2].offered, lines[2].succeeded, lines[2].latency_p99_us) = (500, 499, Some(9.0));
        (lines[2].connections_attempted, lines[2].connections_ready) = (20, 15);
        lines[2].connections_refused.insert("http_503".into(), 4);
        for line in &mut lines {
            (line.duration_s, line.server_cpu_seconds) = (10.0, Some(2.0));
        }
        let condition = Condition {
            phase: phase.map(Into::into),
            group: group.map(Into::into),
            figure,
            at_most: Some(f64::MAX),
            at_least: None,
            why: None,
        };
        judged(&condition, &lines).found
    }

    #[test]
    fn sums_are_summed_and_of_the_rest_the_worst_counts() {
        assert_eq!(found(Figure::P99Us, None, None), Some(9.0));
        assert_eq!(found(Figure::P99Us, Some("hold"), Some("a")), Some(7.0));
        assert_eq!(found(Figure::P99Us, Some("ramp"), None), None, "not measured");
        assert_eq!(found(Figure::CallsPerSecond, Some("hold"), None), Some(148.9));
        assert_eq!(found(Figure::Seconds, None, None), Some(20.0), "two phases, one of them with two groups");
        assert_eq!(found(Figure::ServerCpuSeconds, None, None), Some(4.0));
        assert_eq!(found(Figure::ErrorPercent, Some("hold"), Some("a")), Some(1.0));
        assert_eq!(found(Figure::AnsweredPercent, Some("hold"), Some("a")), Some(99.0));
        assert_eq!(found(Figure::Unaccounted, Some("hold"), None), Some(2.0), "a call and a connection");
        assert_eq!(found(Figure::Unaccounted, Some("hold"), Some("a")), Some(0.0));
        assert_eq!(found(Figure::Errors, Some("none such"), None), None);
        assert_eq!(found(Figure::Errors, Some("ramp"), None), None, "nothing was tried");
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let condition = |at_most, at_least| Condition {
            phase: None,
            group: None,
            figure: Figure::P99Us,
            at_most,
            at_least,
            why: None,
        };
        assert!(!judged(&condition(Some(1.0), None), &[line("p", "a")]).met);
        let mut measured = line("p", "a");
        measured.latency_p99_us = Some(5.0);
        for (most, least, met) in [
            (Some(5.0), None, true),
            (Some(4.9), None, false),
            (None, Some(5.0), true),
            (None, Some(5.1), false),
            (Some(6.0), Some(5.5), false),
        ] {
            assert_eq!(judged(&condition(most, least), std::slice::from_ref(&measured)).met, met, "{most:?} {least:?}");
        }
    }
}
