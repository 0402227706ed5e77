//! Looks at the process once a second, keeps the zones of what it reads, and says so when one changes.
//!
//! Not here: when a zone changes (`shard/zone`); anything that a core does. Invariant: no core is asked for anything or
//! waits for a look; at most `ALERTS_MAX` changes are kept, and `LOOKS` counts.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::ZoneInputs;
use super::http::Shown;
use crate::metrics::{Metric, Refusal, Registry, Snapshot, Step, write_gauges};
use crate::shard::zone::{Change, Reading, Zone, Zones};
use crate::sys::memory;
use crate::sys::thread::ScheduleStat;

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(1);
/// Looks that are kept: calls, waits and CPU time are counted over ten seconds.
const LOOKS: usize = 11;
/// Fewest failures that count: of few calls one is a large part.
const FAILURES_MIN: u64 = 20;
/// Looks after which it is read anew how much memory there may be.
const LIMIT_EVERY: u64 = 60;
/// Changes that are kept.
const ALERTS_MAX: usize = 64;
/// What to do about a reading stands there, under its name.
const RUNBOOK: &str = "RUNBOOK.md";

/// Requests and connections that were turned away for want of room of ours.
const OURS: [Refusal; 8] = [
    Refusal::AcceptRate,
    Refusal::ComingFull,
    Refusal::ConnectionsFull,
    Refusal::OutboxFull,
    Refusal::SessionsFull,
    Refusal::ShardLost,
    Refusal::StreamsFull,
    Refusal::TableFull,
];

/// What was counted at a look.
#[derive(Clone, Debug)]
pub(super) struct Counts {
    at: Instant,
    ended: u64,
    failed: u64,
    turned_away: u64,
    waits: Snapshot,
    /// CPU time of the thread of each core, by its kernel id.
    cores: Vec<Option<(u32, Duration)>>,
}

/// A change of a zone, and when it was seen.
#[derive(Clone, Copy, Debug)]
struct Alert {
    change: Change,
    unix_ms: u64,
}

/// The zones, and what led to them.
#[derive(Debug)]
pub(super) struct Watched {
    /// Connections that all cores may have open.
    connections_max: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    zones: Zones,
    began: Instant,
    looks: VecDeque<Counts>,
    alerts: VecDeque<Alert>,
}

impl Watched {
    pub(super) fn new(inputs: &ZoneInputs, now: Instant) -> Watched {
        let ZoneInputs { settings, connections_max } = *inputs;
        let zones = Zones::new(settings.rise_ms.duration(), settings.fall_ms.duration())
            .with(Reading::Calls, settings.calls.thresholds())
            .with(Reading::Connections, settings.connections_percent.thresholds())
            .with(Reading::Cpu, settings.cpu_percent.thresholds())
            .with(Reading::Errors, settings.errors_per_million.thresholds())
            .with(Reading::Memory, settings.memory_percent.thresholds())
            .with(Reading::Wait, settings.wait_ms.thresholds());
        let inner = Inner { zones, began: now, looks: VecDeque::new(), alerts: VecDeque::new() };
        Watched { connections_max, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worst zone of all.
    pub(super) fn worst(&self) -> Zone {
        self.inner().zones.worst()
    }

    /// A look: what was counted, what is open, and how much memory is taken of how much there is.
    fn look(&self, counts: Counts, open: u64, in_flight: u64, memory: Option<(u64, u64)>) {
        let mut inner = self.inner();
        let now = counts.at.saturating_duration_since(inner.began);
        let since = inner.looks.front().map(|before| counts.since(before)).unwrap_or_default();
        let readings = [
            (Reading::Calls, in_flight),
            (Reading::Connections, percent(open, self.connections_max)),
            (Reading::Cpu, since.cpu_percent),
            (Reading::Errors, since.errors_per_million),
            (Reading::Memory, memory.map_or(0, |(taken, there)| percent(taken, there))),
            (Reading::Wait, since.wait_ms),
        ];
        for (reading, value) in readings {
            let Some(change) = inner.zones.look(now, reading, value) else { continue };
            tell(&change);
            if inner.alerts.len() == ALERTS_MAX {
                inner.alerts.pop_front();
            }
            inner.alerts.push_back(Alert { change, unix_ms: unix_ms() });
        }
        if inner.looks.len() == LOOKS {
            inner.looks.pop_front();
        }
        inner.looks.push_back(counts);
    }

    /// As `/admin/v1/zones` shows it.
    pub(super) fn shown(&self) -> Value {
        let inner = self.inner();
        let readings: Vec<Value> = Reading::ALL
            .into_iter()
            .map(|reading| {
                let (zone, value, thresholds) = inner.zones.of(reading);
                json!({
                    "reading": reading.label(), "zone": zone.label(), "value": value, "unit": reading.unit(),
                    "thresholds": thresholds.map_or_else(Vec::new, Vec::from), "runbook": runbook(reading),
                })
            })
            .collect();
        let alerts: Vec<Value> = inner
            .alerts
            .iter()
            .rev()
            .map(|Alert { change, unix_ms }| {
                json!({
                    "unix_ms": unix_ms, "reading": change.reading.label(), "from": change.from.label(),
                    "to": change.to.label(), "value": change.value, "threshold": change.threshold,
                    "unit": change.reading.unit(), "runbook": runbook(change.reading),
                })
            })
            .collect();
        json!({ "zone": inner.zones.worst().label(), "readings": readings, "alerts": alerts })
    }

    /// Appends the zone and the value of each reading in the Prometheus text format.
    pub(super) fn export_prometheus(&self, out: &mut String) {
        let of: Vec<_> = {
            let inner = self.inner();
            Reading::ALL.into_iter().map(|reading| (reading, inner.zones.of(reading))).collect()
        };
        let zones = of.iter().map(|(reading, (zone, ..))| (reading.label(), *zone as u64));
        let help = "Zone of a reading: 0 green, 1 yellow, 2 orange, 3 red.";
        write_gauges(out, "corelane_zone", help, "reading", zones);
        let values = of.iter().map(|(reading, (_, value, _))| (reading.label(), *value));
        let help = "A reading as it was looked at last; its unit is in /admin/v1/zones.";
        write_gauges(out, "corelane_zone_reading", help, "reading", values);
    }
}

/// `GET /admin/v1/zones`.
pub(super) async fn zones(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(shown.zones.shown())
}

/// What came of the time between two looks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Since {
    cpu_percent: u64,
    errors_per_million: u64,
    wait_ms: u64,
}

impl Counts {
    /// What is counted now.
    fn of(registry: &Registry, threads: &[Option<u32>], at: Instant) -> Counts {
        let cpu = |thread: &Option<u32>| {
            let id = (*thread)?;
            Some((id, ScheduleStat::of_thread(id).ok()?.running))
        };
        Counts {
            at,
            ended: registry.total(Metric::CallsFinished) + registry.total(Metric::CallsFailed),
            failed: registry.total(Metric::CallsFailed),
            turned_away: OURS.into_iter().map(|cause| registry.refused(cause)).sum(),
            waits: registry.step(Step::QueueWait),
            cores: threads.iter().map(cpu).collect(),
        }
    }

    fn since(&self, before: &Counts) -> Since {
        let time = self.at.saturating_duration_since(before.at);
        let turned_away = self.turned_away.saturating_sub(before.turned_away);
        let failures = self.failed.saturating_sub(before.failed) + turned_away;
        let all = self.ended.saturating_sub(before.ended) + turned_away;
        let ran = self.cores.iter().zip(&before.cores).filter_map(|(now, then)| {
            let ((id, now), (then_id, then)) = ((*now)?, (*then)?);
            // A core that was begun anew has another thread.
            Some(if id == then_id { now.saturating_sub(then) } else { now })
        });
        Since {
            cpu_percent: percent(ran.max().unwrap_or_default().as_nanos() as u64, time.as_nanos() as u64),
            errors_per_million: if failures < FAILURES_MIN { 0 } else { failures * 1_000_000 / all.max(1) },
            wait_ms: self.waits.since(&before.waits).quantile(0.95) / 1_000_000,
        }
    }
}

fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 { 0 } else { (u128::from(part) * 100 / u128::from(whole)) as u64 }
}

fn runbook(reading: Reading) -> String {
    format!("{RUNBOOK}#{}", reading.label())
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// The line of the alert log: what, from where to where, how much of how much, what to do.
fn tell(change: &Change) {
    let Change { reading, from, to, value, threshold } = *change;
    let (what, unit, from, to, runbook) = (reading.label(), reading.unit(), from.label(), to.label(), runbook(reading));
    match (change.to > change.from, change.to) {
        (true, Zone::Red) => {
            tracing::error!(
                reading = what,
                from,
                to,
                value,
                threshold,
                unit,
                runbook,
                "{what} is {to}: {value} {unit}"
            );
        }
        (true, _) => {
            tracing::warn!(reading = what, from, to, value, threshold, unit, runbook, "{what} is {to}: {value} {unit}");
        }
        (false, _) => {
            tracing::info!(reading = what, from, to, value, threshold, unit, "{what} is {to} again: {value} {unit}");
        }
    }
}

/// The kernel's ids of the threads of cores, by core; none for one that is not there.
fn core_threads(cores: usize) -> Vec<Option<u32>> {
    let mut found = vec![None; cores];
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return found };
    for thread in threads.flatten() {
        let Ok(name) = std::fs::read_to_string(thread.path().join("comm")) else { continue };
        let core = name.trim_end().strip_prefix("corelane-").and_then(|number| number.parse::<usize>().ok());
        let Some(place) = core.and_then(|core| found.get_mut(core)) else { continue };
        let id = thread.file_name().to_str().and_then(|id| id.parse().ok());
        // Of two of that name the first is the core, the second its executor's helper (ARCHITECTURE, "Threads").
        *place = match (*place, id) {
            (Some(one), Some(other)) => Some(if one < other { one } else { other }),
            (one, other) => one.or(other),
        };
    }
    found
}

/// Looks for as long as it is polled. What hardly changes is looked up seldom: a process that does nothing else should
/// not be seen to do this.
pub(super) async fn watch(shown: Arc<Shown>) {
    let cores = shown.registry.cores();
    let (mut threads, mut allowed) = (vec![None; cores], None);
    for look in 0_u64.. {
        if look.is_multiple_of(LIMIT_EVERY) {
            allowed = memory::allowed().ok();
        }
        let now = Instant::now();
        shown.limits.look(&shown.registry, now);
        let counts = Counts::of(&shown.registry, &threads, now);
        if counts.cores.contains(&None) {
            // At first, and when a core was begun anew.
            threads = core_threads(cores);
        }
        let open = shown.registry.total(Metric::ConnectionsOpen);
        let in_flight = shown.registry.total(Metric::CallsInFlight);
        shown.zones.look(counts, open, in_flight, memory::resident().ok().zip(allowed));
        tokio::time::sleep(EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::ids::CoreId;

    fn counts(registry: &Registry, at: Instant, cpu_ms: u64) -> Counts {
        Counts { cores: vec![Some((7, Duration::from_millis(cpu_ms))), None], ..Counts::of(registry, &[], at) }
    }

    #[test]
    fn what_came_between_two_looks_is_read() {
        let (registry, start) = (Registry::new(2), Instant::now());
        let core = registry.core(CoreId(1));
        core.calls_finished.add(5_000);
        core.calls_failed.add(900);
        let before = counts(&registry, start, 1_000);
        assert_eq!(before.since(&before), Since::default());
        core.calls_finished.add(960);
        core.calls_failed.add(FAILURES_MIN - 1);
        (0..100).for_each(|ms| core.step(Step::QueueWait).record(ms * 1_000_000));
        let later = start + Duration::from_secs(10);
        let after = counts(&registry, later, 8_000).since(&before);
        assert_eq!((after.cpu_percent, after.errors_per_million), (70, 0), "too few failed to say anything");
        assert!((94..=98).contains(&after.wait_ms), "{after:?}");
        // What found no room counts as well, and what the client did wrong does not.
        core.refuse(Refusal::TableFull);
        core.refuse(Refusal::BadJson);
        let after = counts(&registry, later, 8_000).since(&before);
        assert_eq!(after.errors_per_million, 20 * 1_000_000 / 980);
        // A core that was begun anew has another thread.
        let mut anew = counts(&registry, later, 0);
        anew.cores[0] = Some((8, Duration::from_millis(500)));
        assert_eq!(anew.since(&before).cpu_percent, 5);
    }

    #[test]
    fn changes_are_kept_up_to_a_bound_the_last_first() {
        let (registry, start) = (Registry::new(1), Instant::now());
        let mut settings = Settings::default().zones;
        settings.rise_ms = crate::config::Millis::known(0);
        settings.fall_ms = crate::config::Millis::known(0);
        let watched = Watched::new(&ZoneInputs { settings, connections_max: 100 }, start);
        for look in 0..2 * ALERTS_MAX as u64 {
            let at = start + Duration::from_secs(look);
            watched.look(Counts::of(&registry, &[], at), if look % 2 == 0 { 99 } else { 0 }, 0, Some((1, 100)));
        }
        let shown = watched.shown();
        let alerts = shown["alerts"].as_array().expect("a list");
        assert_eq!((alerts.len(), &alerts[0]["to"], &alerts[1]["to"]), (ALERTS_MAX, &json!("green"), &json!("red")));
        assert_eq!((watched.worst(), watched.inner().looks.len()), (Zone::Green, LOOKS));
        let mut text = String::new();
        watched.export_prometheus(&mut text);
        assert!(text.contains("corelane_zone_reading{reading=\"memory\"} 1\n"), "{text}");
    }

    #[test]
    fn a_cores_thread_is_found_by_its_name() {
        let body = || {
            crate::sys::thread::set_name("corelane-1").expect("no zero byte");
            (core_threads(2), crate::sys::thread::current_id())
        };
        let (found, own) = std::thread::spawn(body).join().expect("no panic");
        // Other tests of this process run cores as well.
        assert!(found[1].is_some_and(|id| id <= own), "{found:?}");
    }
}
