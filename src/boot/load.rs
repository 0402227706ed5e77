//! What the connections that are expected ask for: shards, room on each core, memory.
//!
//! Not here: whether the host has it (`host`), and limits on one connection (`config`).
//! Invariant: pure, and the only place that chooses the number of shards, so `check` prints what `serve` takes.

use super::host::{Finding, Severity};
use crate::config::{CoreSettings, Settings};
use crate::limits::SHARDS_MAX;
use crate::shard::range::default_shards;

/// Memory of a core that holds no connection yet, in bytes: its rings, buffers, stack and histograms.
const CORE_BYTES: u64 = 8 * 1024 * 1024;
/// Memory of an idle connection with its session, in bytes: what the ladder holds it to (`bench/results/ladder.md`).
const CONNECTION_BYTES: u64 = 2048;
/// Memory of its socket in the kernel, in bytes: TCP, inode, file and directory entry are 3.5 KiB on Linux 6.18.
const SOCKET_BYTES: u64 = 4096;

/// How many shards there are on so many cores: as configured, or by the policy; never fewer than cores.
pub(super) fn shards(settings: &CoreSettings, cores: usize) -> usize {
    let by_policy = || default_shards(settings.expected_connections.usize(), cores);
    let wanted = settings.shards.fixed().map_or_else(by_policy, |shards| shards as usize);
    wanted.clamp(cores, SHARDS_MAX)
}

/// How that number came about.
pub(super) fn why_so_many(settings: &CoreSettings, cores: usize) -> String {
    let expected = settings.expected_connections.get();
    let chosen = shards(settings, cores);
    if let Some(fixed) = settings.shards.fixed() {
        if (fixed as usize) < chosen {
            return format!("cores.shards says {fixed}, but each core owns at least one");
        }
        let policy = default_shards(expected as usize, cores);
        return format!("as configured; {policy} would be chosen for {expected} connections");
    }
    let each = expected.div_ceil(chosen as u64);
    format!("chosen for {expected} connections, about {each} a shard")
}

/// Connections that one core is to hold, if they spread evenly.
pub(super) fn per_core(settings: &CoreSettings, cores: usize) -> usize {
    settings.expected_connections.usize().div_ceil(cores)
}

/// Memory in bytes, ours and the kernel's, once all connections that are expected are open and idle.
pub(super) fn memory(settings: &CoreSettings, cores: usize) -> u64 {
    cores as u64 * CORE_BYTES + settings.expected_connections.get() * (CONNECTION_BYTES + SOCKET_BYTES)
}

/// Whether limits that are configured leave room for the connections that are expected, and their sessions.
pub(super) fn room(settings: &Settings, cores: usize) -> Finding {
    const NAME: &str = "cores.expected_connections";
    let expected = settings.cores.expected_connections.get();
    let each = per_core(&settings.cores, cores) as u64;
    let hard = settings.limits.connections.fixed().unwrap_or(u64::MAX);
    if hard < expected {
        let advice = format!(
            "limits.connections is {hard}, so {} of the connections that are expected would be refused; raise it, or \
             lower cores.expected_connections",
            expected - hard
        );
        let (seen, wanted) = (expected.to_string(), format!("at most {hard}"));
        return Finding { name: NAME, severity: Severity::Warn, seen, wanted, advice };
    }
    let bounds = [
        ("limits.connections_per_core", settings.limits.connections_per_core.fixed().unwrap_or(u64::MAX)),
        ("sessions.per_core_max", settings.sessions.per_core_max.get()),
    ];
    let (seen, wanted) = (expected.to_string(), format!("room for {each} per core"));
    match bounds.into_iter().find(|(_, most)| *most < each) {
        None => Finding { name: NAME, severity: Severity::Ok, seen, wanted, advice: String::new() },
        Some((key, most)) => {
            let advice = format!(
                "{key} is {most}, so {} of the connections that are expected would find no room; set {key} = {each}, \
                 or use more cores",
                expected.saturating_sub(most * cores as u64)
            );
            Finding { name: NAME, severity: Severity::Warn, seen, wanted, advice }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AutoOr, Bounded};

    fn expecting(connections: u64) -> Settings {
        let mut settings = Settings::default();
        settings.cores.expected_connections = Bounded::new(connections).expect("within bounds");
        settings
    }

    #[test]
    fn shards_follow_the_expected_connections() {
        for (connections, wanted) in [(10_000, 16), (25_000, 32), (50_000, 64), (100_000, 128), (200_000, 256)] {
            for cores in [1, 2, 16] {
                let settings = expecting(connections);
                assert_eq!(shards(&settings.cores, cores), wanted, "{connections} connections on {cores} cores");
                // None carries more than it is meant to, by more than what is rounded up.
                assert!(connections.div_ceil(wanted as u64) <= 782, "{connections}");
            }
        }
        assert_eq!(shards(&expecting(100_000_000).cores, 2), SHARDS_MAX);
        assert_eq!(shards(&expecting(1).cores, 64), 64, "every core owns one");
    }

    #[test]
    fn a_number_that_is_set_is_kept_as_far_as_cores_allow() {
        let mut settings = expecting(100_000);
        settings.cores.shards = AutoOr::Fixed(Bounded::new(5).expect("within bounds"));
        assert_eq!((shards(&settings.cores, 2), shards(&settings.cores, 8)), (5, 8));
        assert!(why_so_many(&settings.cores, 2).starts_with("as configured"));
        assert_eq!(why_so_many(&settings.cores, 8), "cores.shards says 5, but each core owns at least one");
        let why = why_so_many(&settings.cores, 2);
        assert_eq!(why, "as configured; 128 would be chosen for 100000 connections");
        assert_eq!(why_so_many(&expecting(50_000).cores, 2), "chosen for 50000 connections, about 782 a shard");
    }

    #[test]
    fn limits_below_what_is_expected_are_told() {
        let mut settings = expecting(100_000);
        assert_eq!(room(&settings, 2).severity, Severity::Ok);
        settings.limits.connections = AutoOr::Fixed(Bounded::new(99_990).expect("within bounds"));
        let few = room(&settings, 2);
        assert!(few.severity == Severity::Warn && few.advice.contains("so 10 of the"), "{few:?}");
        settings.limits.connections = AutoOr::Fixed(Bounded::new(100_000).expect("within bounds"));
        assert_eq!(room(&settings, 2).severity, Severity::Ok);
        settings.sessions.per_core_max = Bounded::new(49_999).expect("within bounds");
        let few = room(&settings, 2);
        assert_eq!(few.severity, Severity::Warn);
        assert!(few.advice.contains("so 2 of the") && few.advice.contains("sessions.per_core_max = 50000"), "{few:?}");
        assert_eq!(room(&settings, 3).severity, Severity::Ok, "a core more");
        settings.limits.connections_per_core = AutoOr::Fixed(Bounded::new(1000).expect("within bounds"));
        let few = room(&settings, 3);
        assert!(few.advice.contains("limits.connections_per_core = 33334"), "{few:?}");
    }

    #[test]
    fn memory_grows_by_what_one_connection_takes() {
        let more = memory(&expecting(100_000).cores, 2) - memory(&expecting(50_000).cores, 2);
        assert_eq!(more, 50_000 * 6 * 1024);
        assert_eq!(memory(&expecting(1).cores, 3) - memory(&expecting(1).cores, 2), CORE_BYTES);
    }
}
