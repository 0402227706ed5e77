//! Profiles: the settings of the system that corelane reimplements, at three of its scales.
//!
//! Not defaults: those are what this program would choose (`settings`). A profile is what its users compare with, so
//! its figures are the original's, whether or not they would be chosen today. Invariant: a profile is the weakest of
//! all sources: whatever a file, the environment or a flag says of a key wins.

use super::given::{Given, Refused, Setting, quoted};
use super::words::word_set;

/// Whose figures are taken where nothing else is said.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Profile {
    /// The defaults.
    #[default]
    None,
    /// The original's first phase: 150 connections and a hard limit of 200.
    Phase1,
    /// Its redesign for 15,000 connections.
    Connections15k,
    /// Its third phase: 100,000 connections.
    Connections100k,
}

word_set!(Profile { None = "none", Phase1 = "phase1", Connections15k = "15k", Connections100k = "100k" });

/// The mean write latency that alarms a shard of the original's registry: 100 ms, at every scale.
const WRITE_LIMIT_US: &str = "100000";
/// Messages that may wait for one connection, at every scale.
const PENDING: &str = "1000";
/// Messages that may come at once, at every scale.
const BURST: &str = "1000";

impl Profile {
    /// The keys it sets, with what a file would say.
    pub(super) fn values(self) -> Vec<(&'static str, &'static str)> {
        let (connections, soft, messages_per_s) = match self {
            Profile::None => return Vec::new(),
            // Its second tier: 500 a second, and twice as many at once.
            Profile::Phase1 => ("200", "150", "500"),
            // Its connection limiter alerts at 70 %.
            Profile::Connections15k => ("15000", "10500", "10000"),
            Profile::Connections100k => ("100000", "70000", "10000"),
        };
        let mut values = vec![
            ("cores.expected_connections", connections),
            ("limits.connections", connections),
            ("limits.connections_soft", soft),
            ("limits.in_flight_per_connection", PENDING),
            ("limits.messages_per_s", messages_per_s),
            ("limits.message_burst", BURST),
            ("registry.write_limit_us", WRITE_LIMIT_US),
        ];
        if self == Profile::Phase1 {
            // Its first tier, a window of one second, and what waits to be accepted.
            values.extend([("limits.accepts_per_s", "100"), ("limits.accept_burst", "100"), ("serve.backlog", "100")]);
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::KEYS;
    use super::super::{Config, Settings};
    use super::*;

    #[test]
    fn every_profile_sets_what_there_is_to_what_it_may_be() {
        for profile in [Profile::Phase1, Profile::Connections15k, Profile::Connections100k] {
            let mut settings = Settings::default();
            for (path, word) in profile.values() {
                let key = KEYS.iter().find(|key| key.path() == path).unwrap_or_else(|| panic!("{path}"));
                (key.set)(&mut settings, &Given::word(word)).unwrap_or_else(|refused| panic!("{path}: {refused:?}"));
            }
            assert_eq!(settings.registry.write_limit_us.get(), 100_000, "the original's 100 ms");
            let (soft, hard) = (settings.limits.connections_soft.fixed(), settings.limits.connections.fixed());
            assert!(soft.is_some() && soft < hard, "{profile:?}: {soft:?} of {hard:?}");
        }
    }

    #[test]
    fn whatever_else_is_said_of_a_key_wins() {
        let config = Config::from_toml("t", "profile = \"15k\"\n[limits]\nmessage_burst = 7\n").expect("valid");
        let settings = config.settings();
        assert_eq!(settings.profile, Profile::Connections15k);
        assert_eq!(settings.limits.message_burst.get(), 7, "by the file");
        assert_eq!(settings.cores.expected_connections.get(), 15_000, "by the profile");
        assert_eq!(settings.limits.egress_bytes, Settings::default().limits.egress_bytes, "by nobody");
        let shown: Vec<String> = config.non_defaults().iter().map(ToString::to_string).collect();
        assert!(shown.contains(&"registry.write_limit_us = 100000 (from the profile 15k)".to_owned()), "{shown:?}");
        assert_eq!(Config::from_toml("printed", &config.to_commented_toml()).expect("valid"), config);
        assert!(config.warnings().is_empty());
        let printed = config.to_commented_toml();
        let warned = Config::from_toml("printed", &printed).expect("valid").warnings();
        assert!(warned.len() == 1 && warned[0].contains("sets nothing"), "{warned:?}");
        let error = Config::from_toml("t", "profile = \"15\"").expect_err("no such profile").to_string();
        assert!(error.contains("`profile`") && error.contains("did you mean \"15k\"?"), "{error}");
    }
}
