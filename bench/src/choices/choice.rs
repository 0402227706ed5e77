//! What is chosen between, and under which load the choice shows.
//!
//! Data only; nothing is started here.
//!
//! Invariant: the first variant is what corelane does by default, and the first situation is a closed loop with one
//! call in flight: its capacity sets the rate of the open loops.

use std::path::{Path, PathBuf};

use super::{Asked, Record};
use crate::{judge, message::Wire};

/// One question.
pub struct Choice {
    pub name: &'static str,
    pub question: &'static str,
    pub variants: Vec<Variant>,
    pub situations: Vec<Situation>,
}

/// One answer to it.
pub struct Variant {
    pub name: String,
    pub binary: PathBuf,
    pub environment: Vec<(String, String)>,
}

/// A server and a load.
#[derive(Clone, Copy)]
pub struct Situation {
    pub title: &'static str,
    pub wire: Wire,
    pub connections: usize,
    pub kind: Kind,
    /// How the server is started; {http} and {tcp} are filled in.
    pub words: &'static str,
    /// To one CPU; else it may use all, the generator's included.
    pub confined: bool,
}

/// What the connections do.
#[derive(Clone, Copy)]
pub enum Kind {
    Load {
        depth: usize,
        /// Open loop at this share of the capacity of the first variant in the first situation.
        share: Option<f64>,
        /// Every call is made in a session that another connection set up.
        swapped: bool,
    },
    /// One call each, then silence.
    Idle,
}

const CLOSED: Kind = Kind::Load { depth: 1, share: None, swapped: false };
const SWAPPED: Kind = Kind::Load { depth: 1, share: None, swapped: true };

const ONE_CORE: &str = "serve --listen {http} --tcp {tcp} --cores 0-0";
/// As many executors as asked for, on the CPUs that the process may use.
const TWO_CORES: &str = "serve --listen {http} --tcp {tcp} --cores 2";

impl Choice {
    /// As it goes into the record.
    pub fn asked(&self) -> Asked {
        Asked {
            name: self.name.into(),
            question: self.question.into(),
            variants: self.variants.iter().map(|variant| variant.name.clone()).collect(),
            situations: self.situations.iter().map(|situation| situation.title.into()).collect(),
        }
    }

    /// Calls per second that one CPU could serve in the first situation, as corelane is by default.
    pub fn capacity(&self, record: &Record) -> Option<f64> {
        let (variant, situation) = (self.variants.first()?, self.situations.first()?);
        let figures =
            record.figures(self.name, situation.title, &variant.name, |round| judge::cpu(round.load.as_ref()?));
        judge::median(&judge::values(&figures)).map(|cost| 1e6 / cost)
    }
}

/// All questions; that of allocators only with a second binary.
pub fn all(corelane: &Path, mimalloc: Option<&Path>) -> Vec<Choice> {
    let mut choices = vec![pinning(corelane), batch(corelane), rate(corelane)];
    choices.extend(mimalloc.map(|mimalloc| allocator(corelane, mimalloc)));
    choices
}

fn variant(name: String, binary: &Path, environment: &[(&str, String)]) -> Variant {
    let environment = environment.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    Variant { name, binary: binary.into(), environment }
}

fn open(share: f64, swapped: bool) -> Kind {
    Kind::Load { depth: 1, share: Some(share), swapped }
}

fn pinning(corelane: &Path) -> Choice {
    let situation = |title, connections, kind, words| Situation {
        title,
        wire: Wire::HttpModern,
        connections,
        kind,
        words,
        confined: false,
    };
    Choice {
        name: "pinning",
        question: "Core threads pinned to their CPUs (`cores.pin`), or left to the scheduler. The generator stays pinned.",
        variants: vec![
            variant("pinned".into(), corelane, &[]),
            variant("unpinned".into(), corelane, &[("CORELANE_CORES_PIN", "false".into())]),
        ],
        situations: vec![
            situation("one core, 64 connections", 64, CLOSED, ONE_CORE),
            situation("one core, 1000 connections", 1000, CLOSED, ONE_CORE),
            situation("one core, 64 connections, open loop at 40 %", 64, open(0.4, false), ONE_CORE),
            situation("two cores, one beside the generator, 1000 connections", 1000, CLOSED, TWO_CORES),
        ],
    }
}

fn batch(corelane: &Path) -> Choice {
    let situation = |title, connections, kind, confined| Situation {
        title,
        wire: Wire::HttpLegacy,
        connections,
        kind,
        words: TWO_CORES,
        confined,
    };
    let capped = |cap: usize| variant(cap.to_string(), corelane, &[("CORELANE_CORES_BATCH_MAX", cap.to_string())]);
    Choice {
        name: "batch",
        question: "Most parcels read from another core in a row (`cores.batch_max`). Calls are made in sessions that \
                   other connections set up, so about half of the connections cross cores; in a closed loop they make \
                   fewer calls than the others, because each takes longer.",
        variants: vec![capped(50), capped(1), capped(10), capped(200)],
        situations: vec![
            situation("two cores on one CPU, 64 connections", 64, SWAPPED, true),
            situation("two cores on one CPU, 1000 connections", 1000, SWAPPED, true),
            situation("two cores on one CPU, 64 connections, open loop at 10 %", 64, open(0.1, true), true),
            situation("two cores, one beside the generator, 1000 connections", 1000, SWAPPED, false),
        ],
    }
}

fn rate(corelane: &Path) -> Choice {
    let situation =
        |title, wire, connections, kind| Situation { title, wire, connections, kind, words: ONE_CORE, confined: true };
    let limited =
        |count: u32| variant(count.to_string(), corelane, &[("CORELANE_LIMITS_MESSAGES_PER_S", count.to_string())]);
    Choice {
        name: "rate",
        question: "What it costs that a connection's messages have a limit which they do not reach \
                   (`limits.messages_per_s`; 0 is none).",
        variants: vec![limited(0), limited(10_000)],
        situations: vec![
            situation("HTTP, 64 connections", Wire::HttpModern, 64, CLOSED),
            situation("lines, 64 connections", Wire::Ndjson, 64, CLOSED),
        ],
    }
}

fn allocator(corelane: &Path, mimalloc: &Path) -> Choice {
    let situation =
        |title, wire, connections, kind| Situation { title, wire, connections, kind, words: ONE_CORE, confined: true };
    let deep = Kind::Load { depth: 16, share: None, swapped: false };
    Choice {
        name: "allocator",
        question: "The system's allocator, or mimalloc (feature `mimalloc`) for the whole program.",
        variants: vec![variant("system".into(), corelane, &[]), variant("mimalloc".into(), mimalloc, &[])],
        situations: vec![
            situation("HTTP, 64 connections", Wire::HttpModern, 64, CLOSED),
            situation("HTTP with sessions, 1000 connections", Wire::HttpLegacy, 1000, CLOSED),
            situation("lines, 64 connections, 16 calls in flight on each", Wire::Ndjson, 64, deep),
            situation("HTTP, 64 connections, open loop at 40 %", Wire::HttpModern, 64, open(0.4, false)),
            situation("8000 idle connections with sessions", Wire::HttpLegacy, 8000, Kind::Idle),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_can_pace_its_open_loops_and_tell_its_situations_apart() {
        for choice in all(Path::new("a"), Some(Path::new("b"))) {
            let first = choice.situations[0].kind;
            assert!(
                matches!(first, Kind::Load { depth: 1, share: None, .. }),
                "{}: the first sets the pace",
                choice.name
            );
            let mut titles: Vec<_> = choice.situations.iter().map(|situation| situation.title).collect();
            titles.sort_unstable();
            titles.dedup();
            assert_eq!(titles.len(), choice.situations.len(), "{}: rounds are found by title", choice.name);
        }
        assert!(all(Path::new("a"), None).iter().all(|choice| choice.name != "allocator"));
    }
}
