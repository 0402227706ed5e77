//! Zones: how near the process is to its limits, from green to red, by what it reads of itself.
//!
//! Not here: where readings come from (`control/zones`), clocks, what is done about a zone.
//! Invariant: a reading comes into a worse zone only if every look of the time to rise was beyond the threshold of that
//! zone, and into a better one only if every look of the time to fall was below by a tenth; so neither one odd look nor
//! a value that stays at a threshold moves anything back and forth. The zone of all is the worst of each.

use std::time::Duration;

/// Time since a fixed moment.
type Moment = Duration;

/// How near a limit is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Zone {
    /// All is well.
    #[default]
    Green,
    /// Somebody should know.
    Yellow,
    /// Somebody should do something.
    Orange,
    /// It is about to fail, or does.
    Red,
}

/// What is read.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reading {
    /// Calls in flight.
    Calls,
    /// Connections, in percent of what may be open.
    Connections,
    /// CPU time of the busiest core, in percent.
    Cpu,
    /// Calls that failed or found no room, for each million.
    Errors,
    /// Memory, in percent of what the process may have.
    Memory,
    /// What 95 of 100 messages wait at most before their work begins, in milliseconds.
    Wait,
}

/// From which value on yellow, orange and red begin, in the unit of the reading; none if it is not looked at.
pub type Thresholds = Option<[u64; 3]>;

/// A reading is in another zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which.
    pub reading: Reading,
    /// Where it was.
    pub from: Zone,
    /// Where it is.
    pub to: Zone,
    /// What was read.
    pub value: u64,
    /// The threshold that was passed: of the zone it came into, or of the one it left downwards.
    pub threshold: u64,
}

/// What would be another zone if it stayed so.
#[derive(Clone, Copy, Debug)]
struct Pending {
    since: Moment,
    to: Zone,
    /// Whether that is worse.
    worse: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Track {
    thresholds: Thresholds,
    zone: Zone,
    value: u64,
    pending: Option<Pending>,
}

/// The zones of all readings.
#[derive(Clone, Debug)]
pub struct Zones {
    rise: Duration,
    fall: Duration,
    tracks: [Track; Reading::ALL.len()],
}

impl Zone {
    /// All, the best first.
    pub const ALL: [Zone; 4] = [Zone::Green, Zone::Yellow, Zone::Orange, Zone::Red];

    /// The word under which it is shown.
    pub const fn label(self) -> &'static str {
        match self {
            Zone::Green => "green",
            Zone::Yellow => "yellow",
            Zone::Orange => "orange",
            Zone::Red => "red",
        }
    }

    /// The worst whose threshold this value reaches, each threshold being less by so many tenths.
    fn of(value: u64, thresholds: &[u64; 3], less: u64) -> Zone {
        let reached = thresholds.iter().filter(|threshold| value * 10 >= **threshold * (10 - less)).count();
        Zone::ALL[reached]
    }

    /// The threshold from which on it begins; 0 of green.
    fn threshold(self, thresholds: &[u64; 3]) -> u64 {
        (self as usize).checked_sub(1).map_or(0, |place| thresholds[place])
    }
}

impl Reading {
    /// All, in the order in which they are shown.
    pub const ALL: [Reading; 6] =
        [Reading::Calls, Reading::Connections, Reading::Cpu, Reading::Errors, Reading::Memory, Reading::Wait];

    /// The word under which it is shown.
    pub const fn label(self) -> &'static str {
        match self {
            Reading::Calls => "calls",
            Reading::Connections => "connections",
            Reading::Cpu => "cpu",
            Reading::Errors => "errors",
            Reading::Memory => "memory",
            Reading::Wait => "wait",
        }
    }

    /// In what it is counted.
    pub const fn unit(self) -> &'static str {
        match self {
            Reading::Calls => "calls",
            Reading::Connections | Reading::Cpu | Reading::Memory => "percent",
            Reading::Errors => "per million",
            Reading::Wait => "ms",
        }
    }
}

impl Zones {
    /// All green. A reading has to be worse for as long as `rise` before its zone is, and better for as long as `fall`.
    pub fn new(rise: Duration, fall: Duration) -> Zones {
        Zones { rise, fall, tracks: [Track::default(); Reading::ALL.len()] }
    }

    /// Looks at a reading from now on, by these thresholds, which ascend.
    pub fn with(mut self, reading: Reading, thresholds: Thresholds) -> Zones {
        self.tracks[reading as usize].thresholds = thresholds;
        self
    }

    /// A look at one reading; what came of it, if its zone is another now.
    pub fn look(&mut self, now: Moment, reading: Reading, value: u64) -> Option<Change> {
        let (rise, fall) = (self.rise, self.fall);
        let track = &mut self.tracks[reading as usize];
        track.value = value;
        let thresholds = track.thresholds.as_ref()?;
        let (reached, held) = (Zone::of(value, thresholds, 0), Zone::of(value, thresholds, 1));
        let from = track.zone;
        let worse = reached > from;
        if !worse && held >= from {
            track.pending = None;
            return None;
        }
        // Of all looks since then the mildest counts on the way up, and the worst on the way down.
        let before = track.pending.filter(|pending| pending.worse == worse);
        let to = match (worse, before) {
            (true, before) => before.map_or(reached, |before| before.to.min(reached)),
            (false, before) => before.map_or(held, |before| before.to.max(held)),
        };
        let since = before.map_or(now, |before| before.since);
        if now.saturating_sub(since) < if worse { rise } else { fall } {
            track.pending = Some(Pending { since, to, worse });
            return None;
        }
        track.pending = None;
        track.zone = to;
        let passed = if worse { to } else { from };
        Some(Change { reading, from, to, value, threshold: passed.threshold(thresholds) })
    }

    /// The worst zone that any reading is in.
    pub fn worst(&self) -> Zone {
        self.tracks.iter().map(|track| track.zone).max().unwrap_or_default()
    }

    /// The zone of a reading, what was read last, and its thresholds.
    pub fn of(&self, reading: Reading) -> (Zone, u64, Thresholds) {
        let track = &self.tracks[reading as usize];
        (track.zone, track.value, track.thresholds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RISE: Duration = Duration::from_secs(3);
    const FALL: Duration = Duration::from_secs(6);
    const AT: [u64; 3] = [50, 100, 1000];

    fn zones() -> Zones {
        Zones::new(RISE, FALL).with(Reading::Errors, Some(AT))
    }

    /// Looks once a second; when what changed.
    fn looks(zones: &mut Zones, from: u64, values: impl IntoIterator<Item = u64>) -> Vec<(u64, Zone, u64)> {
        let at = |second: u64| Duration::from_secs(second);
        (from..)
            .zip(values)
            .filter_map(|(second, value)| {
                zones.look(at(second), Reading::Errors, value).map(|change| (second, change.to, change.threshold))
            })
            .collect()
    }

    #[test]
    fn every_zone_is_reached_and_left() {
        for (value, zone, threshold) in [(50, Zone::Yellow, 50), (100, Zone::Orange, 100), (1000, Zone::Red, 1000)] {
            let mut zones = zones();
            assert_eq!(looks(&mut zones, 0, [value - 1; 20]).last().map(|(_, zone, _)| *zone).unwrap_or_default(), {
                Zone::ALL[zone as usize - 1]
            });
            let mut zones = self::zones();
            assert_eq!(looks(&mut zones, 0, [value; 20]), [(3, zone, threshold)], "after the time to rise, once");
            assert_eq!((zones.worst(), zones.of(Reading::Errors)), (zone, (zone, value, Some(AT))));
            assert_eq!(looks(&mut zones, 20, [0; 20]), [(26, Zone::Green, threshold)], "after the time to fall");
            assert_eq!(zones.worst(), Zone::Green);
        }
    }

    #[test]
    fn one_odd_look_changes_nothing() {
        let mut zones = zones();
        assert_eq!(looks(&mut zones, 0, [5000, 5000, 5000, 0, 5000, 5000, 5000, 0]), []);
        // The mildest of the looks is what is reached.
        assert_eq!(looks(&mut zones, 10, [5000, 60, 5000, 5000]), [(13, Zone::Yellow, 50)]);
        assert_eq!(looks(&mut zones, 14, [5000; 4]), [(17, Zone::Red, 1000)]);
        assert_eq!(looks(&mut zones, 18, [0, 0, 0, 0, 0, 1000, 0, 0, 0, 0, 0]), []);
        // The worst of the looks is where it falls to.
        assert_eq!(looks(&mut zones, 29, [0, 95, 0, 0, 0, 0, 0]), [(30, Zone::Orange, 1000)]);
    }

    #[test]
    fn what_stays_at_a_threshold_stays_in_its_zone() {
        let mut zones = zones();
        let wavering = (0..1000).map(|look| if look % 20 < 10 { 102 } else { 93 });
        assert_eq!(looks(&mut zones, 0, wavering), [(3, Zone::Orange, 100)], "93 is not below 100 by a tenth");
        assert_eq!(looks(&mut zones, 1000, [89; 10]), [(1006, Zone::Yellow, 100)]);
    }

    #[test]
    fn what_is_not_looked_at_is_green() {
        let mut zones = Zones::new(Duration::ZERO, Duration::ZERO).with(Reading::Cpu, Some([1, 2, 3]));
        assert_eq!(zones.look(Duration::ZERO, Reading::Memory, u64::MAX / 10), None);
        assert_eq!(zones.worst(), Zone::Green);
        let change = zones.look(Duration::ZERO, Reading::Cpu, 2).expect("at once");
        assert_eq!((change.from, change.to), (Zone::Green, Zone::Orange));
        assert_eq!(zones.worst(), Zone::Orange, "the worst of all");
    }

    proptest! {
        /// What a zone is follows from the looks alone: it is never worse than the worst of the time to rise, and never
        /// better than the best of the time to fall.
        #[test]
        fn no_change_is_without_its_looks(values in proptest::collection::vec(0u64..1500, 1..200)) {
            let mut zones = zones();
            let mut zone = Zone::Green;
            for (second, value) in (0u64..).zip(&values) {
                let Some(change) = zones.look(Duration::from_secs(second), Reading::Errors, *value) else { continue };
                prop_assert_eq!(change.from, zone);
                prop_assert_ne!(change.to, zone);
                let time = if change.to > zone { RISE } else { FALL };
                let seen = &values[(second - time.as_secs()) as usize..=second as usize];
                match change.to > zone {
                    true => prop_assert!(seen.iter().all(|seen| Zone::of(*seen, &AT, 0) >= change.to)),
                    false => prop_assert!(seen.iter().all(|seen| Zone::of(*seen, &AT, 1) <= change.to)),
                }
                zone = change.to;
            }
        }
    }
}
