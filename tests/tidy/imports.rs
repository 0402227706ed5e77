//! Who may import whom: the arrows of ARCHITECTURE.md, as a table.
//!
//! Not here: crates of others (`words`), tests, which may look anywhere.
//! Invariant: a module that is not in the table fails, so a new one has to find its place first.

use super::Violation;
use super::paths;
use super::source::Source;

/// A module and what it may name of its own crate, the lowest first. A name such as `server::service` opens only that
/// part.
const TABLE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("limits", &[]),
    ("metrics", &["ids", "limits"]),
    ("proto", &["ids", "limits"]),
    ("shard", &["ids", "limits", "metrics", "proto"]),
    ("ring", &["ids", "limits", "metrics"]),
    // A steering program is made from the table of boundaries, which is a value of `shard`.
    ("sys", &["ids", "limits", "shard::range"]),
    ("uring", &["ids", "limits", "metrics", "ring", "sys"]),
    // A waker that is called from another thread writes the core's eventfd.
    ("runtime", &["ids", "limits", "metrics", "sys::eventfd"]),
    ("server", &["ids", "limits", "metrics", "proto", "ring", "runtime", "shard", "uring"]),
    // The seam: whatever answers calls implements `Service`, which the machines of a core define.
    (
        "upstream",
        &["ids", "limits", "metrics", "proto", "ring", "runtime", "server::service", "shard", "uring", "sys::guard"],
    ),
    ("control", &["ids", "limits", "metrics", "proto", "ring", "runtime", "shard", "sys", "uring", "config::"]),
    ("config", &["ids", "limits", "proto"]),
    (
        "boot",
        &[
            "config", "control", "ids", "limits", "metrics", "proto", "ring", "runtime", "server", "shard", "sys",
            "upstream", "uring",
        ],
    ),
    ("main", &["boot", "config", "control::log"]),
];

/// What a module may name of `config`: its own settings and the values in them, never the whole.
const OWN_SETTINGS: &[(&str, &[&str])] = &[(
    "control",
    &["AllowedHosts", "ControlSettings", "HostRule", "LogFormat", "LogLevel", "LogSettings", "ZoneSettings"],
)];

/// Only the crate's root is allowed everything: it declares the modules and says what is public.
const ROOT: &str = "lib";

/// Files that may name more, and why.
const EXCEPTIONS: &[(&str, &[&str], &str)] = &[(
    "src/upstream/native/serve.rs",
    &["boot", "config", "control::log"],
    "the door to boot: `Server::serve` of the library does what main does for the program",
)];

/// The files named above.
pub fn exceptions() -> impl Iterator<Item = &'static str> {
    EXCEPTIONS.iter().map(|(path, _, _)| *path)
}

/// Holds the table over one source.
pub fn check(source: &Source) -> Vec<Violation> {
    let Some(module) = source.module() else { return Vec::new() };
    if module == ROOT {
        return Vec::new();
    }
    let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
        let instead = "give it a row in tests/tidy/imports.rs and a paragraph in ARCHITECTURE.md".to_owned();
        let found = format!("`{module}` has no place among the modules");
        return vec![Violation { rule: "every module has a place", place: source.path.clone(), found, instead }];
    };
    let excepted = EXCEPTIONS.iter().find(|(path, _, _)| *path == source.path).map_or(&[][..], |(_, names, _)| names);
    let mut violations = Vec::new();
    for named in paths::of(source) {
        let [root, target, rest @ ..] = named.segments.as_slice() else { continue };
        if root != "crate" || target == module || target.starts_with(char::is_uppercase) || target == "self" {
            continue;
        }
        let inside = rest.join("::");
        let permits = |name: &str| match name.split_once("::") {
            None => name == target,
            Some((outer, "")) => outer == target && own_settings(module, rest),
            Some((outer, part)) => outer == target && (inside == part || inside.starts_with(&format!("{part}::"))),
        };
        if allowed.iter().chain(excepted).any(|name| permits(name)) {
            continue;
        }
        let (rule, instead) = advice(module, target, allowed);
        let place = format!("{}:{}", source.path, named.line);
        violations.push(Violation { rule, place, found: format!("`{}` in `{module}`", named.text()), instead });
    }
    violations
}

fn own_settings(module: &str, rest: &[String]) -> bool {
    let own = OWN_SETTINGS.iter().find(|(name, _)| *name == module).map_or(&[][..], |(_, names)| names);
    rest.first().is_some_and(|name| own.contains(&name.as_str()))
}

fn advice(module: &str, target: &str, allowed: &[&str]) -> (&'static str, String) {
    if target == "config" {
        let own: Vec<_> = OWN_SETTINGS.iter().filter(|(name, _)| *name == module).flat_map(|(_, own)| *own).collect();
        let own = if own.is_empty() { "nothing of it".to_owned() } else { format!("{own:?}") };
        let instead = format!("`{module}` may name {own}; let boot::cut fill in a struct that `{module}` defines");
        return ("only boot sees the whole configuration", instead);
    }
    let names = if allowed.is_empty() { "nothing".to_owned() } else { allowed.join(", ") };
    let instead = format!("`{module}` may name {names}; pass the rest in as a value or a trait from above");
    ("imports point one way", instead)
}
