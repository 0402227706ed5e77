//! What changed since other records of the same levels were made.
//!
//! The rule is the original's: ten percent worse is a regression. It is held over figures that do not sway by
//! themselves; percentiles of latency do, and are only shown. Invariant: records of different machines, or of runs of
//! different length, are shown and not judged.

use std::fmt::Write;

use super::Level;
use crate::{
    Failure,
    promise::{Found, Places, Promise, shown},
};

/// A level then and now.
pub struct Change<'a> {
    pub promise: &'a Promise,
    before: Found,
    now: &'a Found,
    /// How many times worse it is now; below 1 it is better. None where one of the two is 0.
    pub worse: Option<f64>,
    pub kind: Kind,
}

/// What is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Better,
    Same,
    /// It sways by itself.
    Tracked,
    Regression,
    OtherMachine,
    OtherLength,
    /// It is the same record.
    SameRecord,
}

/// So many times worse is a regression.
const LIMIT: f64 = 1.1;

/// Of all levels that have a record here and there.
pub fn changes<'a>(levels: &'a [Level], before: &Places) -> Result<Vec<Change<'a>>, Failure> {
    let mut changes = Vec::new();
    for Level { promise, found } in levels {
        let Some(now) = found else { continue };
        if let Some(before) = promise.found(before)? {
            let worse = worse(promise, before.value, now.value);
            let kind = kind(promise, &before, now, worse);
            changes.push(Change { promise, before, now, worse, kind });
        }
    }
    Ok(changes)
}

fn worse(promise: &Promise, before: f64, now: f64) -> Option<f64> {
    let (before, now) = match (promise.at_least, promise.unit.as_str()) {
        (Some(_), "%") => (100.0 - before, 100.0 - now),
        (Some(_), _) => (now, before),
        (None, _) => (before, now),
    };
    match (before == 0.0, now == 0.0) {
        (true, true) => Some(1.0),
        (false, false) => Some(now / before),
        _ => None,
    }
}

fn kind(promise: &Promise, before: &Found, now: &Found, worse: Option<f64>) -> Kind {
    if (before.unix_time, &before.commit) == (now.unix_time, &now.commit) {
        return Kind::SameRecord;
    }
    if before.machine != now.machine {
        return Kind::OtherMachine;
    }
    if (before.scale - now.scale).abs() > 1e-9 {
        return Kind::OtherLength;
    }
    match worse {
        _ if !promise.steady => Kind::Tracked,
        Some(worse) if worse > LIMIT => Kind::Regression,
        Some(worse) if worse < 1.0 / LIMIT => Kind::Better,
        _ => Kind::Same,
    }
}

impl Change<'_> {
    pub fn is_regression(&self) -> bool {
        self.kind == Kind::Regression
    }
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Same => "same, within 10 %",
            Self::Tracked => "shown only",
            Self::Regression => "**regression**",
            Self::OtherMachine => "another machine: not judged",
            Self::OtherLength => "another length: not judged",
            Self::SameRecord => "the same record",
        }
    }
}

/// The section of the page.
pub fn page(changes: &[Change<'_>]) -> Result<String, Failure> {
    let mut page = String::from("# Against the records before\n\n");
    let Some(first) = changes.first() else { return Ok(page + "None of these levels has a record there.\n\n") };
    writeln!(
        page,
        "Before: commit {}, {}. Now: commit {}, {}. Ten percent worse is a regression, of what does not sway by itself.\n",
        first.before.commit, first.before.machine, first.now.commit, first.now.machine
    )?;
    writeln!(page, "| service level | before | now | | |\n|---|---|---|---|---|")?;
    for Change { promise, before, now, worse, kind } in changes {
        let unit = &promise.unit;
        let by = worse.map_or("-".into(), |worse| match worse {
            worse if worse >= 1.0 => format!("x {} worse", shown(worse)),
            worse => format!("x {} better", shown(1.0 / worse)),
        });
        let by = if *worse == Some(1.0) { "-".into() } else { by };
        let (before, now) = (shown(before.value), shown(now.value));
        writeln!(page, "| {} | {before} {unit} | {now} {unit} | {by} | {} |", promise.what, kind.words())?;
    }
    page += "\n";
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{levels::tests::found, promise::tests::bounded};

    #[test]
    fn ten_percent_worse_is_a_regression_in_either_direction() {
        let (mut most, mut least) = (bounded("us", None, Some(9.0)), bounded("/s", Some(9.0), None));
        (most.steady, least.steady) = (true, true);
        let judged = |promise: &Promise, before: f64, now: f64| {
            let (before, mut now) = (found(before), found(now));
            now.unix_time += 1;
            kind(promise, &before, &now, worse(promise, before.value, now.value))
        };
        for (before, now, of_most, of_least) in [
            (100.0, 111.0, Kind::Regression, Kind::Better),
            (100.0, 109.0, Kind::Same, Kind::Same),
            (100.0, 89.0, Kind::Better, Kind::Regression),
            (100.0, 92.0, Kind::Same, Kind::Same),
            (0.0, 0.0, Kind::Same, Kind::Same),
        ] {
            assert_eq!(
                (judged(&most, before, now), judged(&least, before, now)),
                (of_most, of_least),
                "{before} {now}"
            );
        }
        most.steady = false;
        assert_eq!(judged(&most, 100.0, 900.0), Kind::Tracked);
        let share = bounded("%", Some(99.0), None);
        assert!((worse(&share, 99.8, 99.6).expect("both lack something") - 2.0).abs() < 1e-6);
        assert_eq!(worse(&share, 100.0, 99.6), None);
    }

    #[test]
    fn what_cannot_be_compared_is_not_judged() {
        let mut promise = bounded("us", None, Some(9.0));
        promise.steady = true;
        let judged = |change: &dyn Fn(&mut Found)| {
            let mut now = found(500.0);
            now.unix_time += 1;
            change(&mut now);
            kind(&promise, &found(100.0), &now, Some(5.0))
        };
        assert_eq!(judged(&|_| ()), Kind::Regression);
        assert_eq!(judged(&|now| now.machine = "4 x m".into()), Kind::OtherMachine);
        assert_eq!(judged(&|now| now.scale = 0.5), Kind::OtherLength);
        assert_eq!(judged(&|now| now.unix_time -= 1), Kind::SameRecord);
    }

    #[test]
    fn the_page_says_by_how_much() {
        let promise = bounded("us", None, Some(9.0));
        let now = found(300.0);
        let change =
            Change { promise: &promise, before: found(200.0), now: &now, worse: Some(1.5), kind: Kind::Regression };
        let page = page(&[change]).expect("a page");
        assert!(page.contains("| w | 200 us | 300 us | x 1.500 worse | **regression** |"), "{page}");
    }
}
