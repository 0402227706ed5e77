//! What to do first: where room is least, and what addresses it.
//!
//! Every line comes from a figure, and stands where its room puts it: how many times better than its bound a level is,
//! how often what was used of a resource goes into all of it. Invariant: less room stands first.

use std::fmt::Write;

use super::{
    Level,
    bottleneck::{Bottleneck, Bound, Use},
    change::Change,
};
use crate::{Failure, judge::Verdict, scenario::record::Kept};

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub struct Advice {
    /// 1 is none; below 1 it is missed, or worse than it was.
    room: f64,
    text: String,
}

/// What has more room than this needs no advice.
const ROOM_ENOUGH: f64 = 2.0;
/// A resource that is used more than this is told of.
const MUCH: f64 = 0.8;

/// All advice, the most pressing first.
pub fn ranked(
    levels: &[Level],
    bottleneck: Option<&Bottleneck>,
    changes: Option<&[Change<'_>]>,
    records: &[Kept],
) -> Vec<Advice> {
    let mut all: Vec<Advice> = levels.iter().filter_map(of_level).collect();
    if let Some(bottleneck) = bottleneck {
        all.extend(bottleneck.uses.first().and_then(|most| of_use(most, bottleneck.bound)));
    }
    all.extend(changes.into_iter().flatten().filter_map(of_change));
    all.extend(records.iter().flat_map(of_record));
    all.extend(records.iter().min_by_key(|kept| kept.run.environment.unix_time).and_then(of_load));
    all.sort_by(|one, other| one.room.total_cmp(&other.room));
    all
}

fn of_level(level: &Level) -> Option<Advice> {
    let promise = &level.promise;
    let room = match (level.verdict(), level.margin()) {
        (Verdict::NotMeasured, _) => return None,
        (_, Some(margin)) => margin,
        // Missed, and no figure says by how much: nothing at all was allowed.
        (Verdict::Missed, None) => 0.0,
        (_, None) => return None,
    };
    let (advice, see) = (promise.advice.as_ref()?, promise.see.as_ref()?);
    (room < ROOM_ENOUGH).then(|| Advice { room, text: format!("{}: {advice} ({see})", promise.what) })
}

fn of_use(most: &Use, bound: Bound) -> Option<Advice> {
    let text = match bound {
        Bound::Server => {
            "give the server more cores, or look where a call's time goes (docs/optimization.md, The round)"
        }
        Bound::Kernel => {
            "more calls in flight on a connection share a turn of the ring (docs/optimization.md, Kernel features)"
        }
        Bound::Generator => {
            "give the generator more CPUs (`--cpus`, `--processes`): it does not show what the server can"
        }
        Bound::Memory => "more memory, or fewer connections a host (docs/deployment.md, Sizing)",
        Bound::Nothing => return None,
    };
    (most.share > MUCH).then(|| Advice { room: 1.0 / most.share, text: format!("What bounds the throughput: {text}") })
}

fn of_change(change: &Change<'_>) -> Option<Advice> {
    let worse = change.worse.filter(|_| change.is_regression())?;
    let text = format!(
        "{}: it was better before; look for the change with `corelane-bench compare` (docs/optimization.md, The round)",
        change.promise.what
    );
    Some(Advice { room: 1.0 / worse, text })
}

/// What a record says of how it was made.
fn of_record(kept: &Kept) -> Vec<Advice> {
    let (name, environment) = (&kept.run.scenario.name, &kept.run.environment);
    let mut all = Vec::new();
    for line in &kept.phases {
        let lag = line.send_lag_us.as_ref().map(|lag| lag.p99);
        if let (Some(lag), Some(p99)) = (lag, line.latency_p99_us)
            && lag * ROOM_ENOUGH > p99
            && lag > 0.0
        {
            all.push(Advice {
                room: p99 / lag,
                text: format!(
                    "{name}, {}/{}: the generator was up to {lag:.0} us late (p99), which is part of the {p99:.0} us of p99: \
                     a CPU of its own for it (docs/optimization.md, How performance is tested here)",
                    line.phase, line.group
                ),
            });
        }
    }
    if let Some(governor) = environment.governor.as_ref().filter(|governor| *governor != "performance") {
        all.push(Advice {
            room: ROOM_ENOUGH,
            text: format!("{name}: the governor was {governor}, not performance (kernel-tuning/README.md, The knobs)"),
        });
    }
    all
}

/// Of a series the first run's load alone says what else there was: that of the others is the run before them.
fn of_load(kept: &Kept) -> Option<Advice> {
    let environment = &kept.run.environment;
    let load = environment.load_average.filter(|load| *load > 1.0)?;
    let text = format!(
        "The machine was not idle when the first run began, its load average was {load}: measure again on one that is \
         (bench/README.md, Again, measured)"
    );
    Some(Advice { room: environment.cores as f64 / load, text })
}

/// The section of the page.
pub fn page(advice: &[Advice]) -> Result<String, Failure> {
    let mut page = format!(
        "# What to do first\n\nThe least room first: how many times better than its bound a level is, or how often what was \
         used goes into what there is; what has more than {ROOM_ENOUGH} times is left out.\n\n"
    );
    if advice.is_empty() {
        return Ok(page + "Nothing: everything has more room than that.\n\n");
    }
    for Advice { room, text } in advice {
        writeln!(page, "- x {room:.2}: {text}")?;
    }
    page += "\n";
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        levels::tests::level,
        scenario::record::tests::{line, run},
        tally::Percentiles,
    };

    fn advised(at_most: f64, found: f64) -> Level {
        let mut level = level(at_most, Some(found));
        (level.promise.advice, level.promise.see) = (Some("do it".into()), Some("docs/x.md, Y".into()));
        level.promise.what = format!("{found} of {at_most}");
        level
    }

    #[test]
    fn the_least_room_stands_first_and_what_has_enough_is_left_out() {
        let levels = [advised(100.0, 80.0), advised(100.0, 40.0), advised(100.0, 125.0), advised(0.0, 3.0)];
        let ranked = ranked(&levels, None, None, &[]);
        let rooms: Vec<f64> = ranked.iter().map(|advice| advice.room).collect();
        assert_eq!(rooms, [0.0, 0.8, 1.25]);
        assert_eq!(ranked[2].text, "80 of 100: do it (docs/x.md, Y)");
        assert!(page(&ranked).expect("a page").contains("- x 0.80: 125 of 100: do it"));
        assert!(page(&[]).expect("a page").contains("Nothing:"));
    }

    #[test]
    fn a_record_tells_of_a_late_generator_and_of_a_busy_machine() {
        let (mut run, mut line) = (run(), line("measured", "callers"));
        line.latency_p99_us = Some(1500.0);
        let lag = |p99| Some(Percentiles { p50: 0.0, p90: 0.0, p95: 0.0, p99, p99_9: p99, max: p99 });
        line.send_lag_us = lag(100.0);
        (run.environment.load_average, run.environment.cores, run.environment.governor) = (Some(0.5), 2, None);
        let rooms = |records: &[Kept]| -> Vec<f64> {
            ranked(&[], None, None, records).iter().map(|advice| advice.room).collect()
        };
        assert!(rooms(&[Kept { run: run.clone(), phases: vec![line.clone()] }]).is_empty());
        line.send_lag_us = lag(1000.0);
        run.environment.load_average = Some(4.0);
        let first = Kept { run: run.clone(), phases: vec![line] };
        run.environment.unix_time += 60;
        let second = Kept { run, phases: vec![] };
        assert_eq!(rooms(&[second, first]), [0.5, 1.5], "the second run's load is the first one's");
    }
}
