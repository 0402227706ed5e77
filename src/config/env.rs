//! Overrides from the environment: `CORELANE_<SECTION>_<KEY>`.
//!
//! Not a reader of the process environment: variables are an argument. Invariant: a variable that begins with
//! `CORELANE_` is a key, reserved, of Kubernetes, or a problem; a misspelt one is never ignored.

use super::file::NAMED_SECTIONS;
use super::given::Given;
use super::problem::{Place, Problem, nearest};
use super::table::KEYS;
use std::ffi::OsString;

/// Every override begins with it.
pub(super) const PREFIX: &str = "CORELANE_";
/// Variables with a meaning of their own.
const RESERVED: [&str; 3] = ["CORELANE_CONFIG", "CORELANE_DISABLE", "CORELANE_LOG"];
/// Variables of the test harness.
const RESERVED_PREFIX: &str = "CORELANE_TEST_";
/// What Kubernetes puts into each container beside a service that is called `corelane`.
const OF_KUBERNETES: [&str; 2] = ["CORELANE_PORT", "CORELANE_SERVICE"];
/// Short names beside the regular ones: the variable, and the regular name it stands for.
const SHORT: [(&str, &str); 1] = [("CORELANE_CORES", "CORELANE_CORES_LIST")];

/// An override: the index of its key, the variable it came from, and the word.
pub(super) struct Override {
    pub(super) key: usize,
    pub(super) variable: String,
    pub(super) given: Given,
}

/// The overrides among `variables`, in order of their names; what cannot be one becomes a problem.
pub(super) fn overrides(variables: &[(OsString, OsString)], problems: &mut Vec<Problem>) -> Vec<Override> {
    let mut ours: Vec<(String, &OsString)> = Vec::new();
    for (name, value) in variables {
        let name = name.to_string_lossy();
        let reserved =
            RESERVED.contains(&name.as_ref()) || name.starts_with(RESERVED_PREFIX) || is_of_kubernetes(&name);
        if name.starts_with(PREFIX) && !reserved {
            ours.push((name.into_owned(), value));
        }
    }
    ours.sort();
    let mut found: Vec<Override> = Vec::new();
    for (variable, value) in ours {
        let regular = SHORT.iter().find(|(short, _)| *short == variable).map_or(variable.as_str(), |(_, long)| long);
        let Some(key) = KEYS.iter().position(|key| key.variable() == regular) else {
            problems.push(unknown(variable));
            continue;
        };
        if let Some(first) = found.iter().find(|other| other.key == key) {
            let what = format!("sets `{}`, which {} sets too", KEYS[key].path(), first.variable);
            problems.push(Problem::new(Place::Env(variable), what).advise(Some("unset one of them".to_owned())));
            continue;
        }
        let Some(word) = value.to_str() else {
            problems.push(Problem::new(Place::Env(variable), "the value is not UTF-8"));
            continue;
        };
        found.push(Override { key, variable, given: Given::word(word) });
    }
    found
}

/// Whether it is one of those, or what their names go on with.
fn is_of_kubernetes(name: &str) -> bool {
    let rest = |before: &&str| name.strip_prefix(*before);
    OF_KUBERNETES.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('_'))
}

fn unknown(variable: String) -> Problem {
    if NAMED_SECTIONS.iter().any(|section| variable[PREFIX.len()..].starts_with(&section.to_ascii_uppercase())) {
        let advice = "servers and views stand in the configuration file only; a secret of theirs may be in a variable \
                      of another name, which the file names: { env = \"NAME\" }";
        return Problem::new(Place::Env(variable), "no such setting").advise(Some(advice.to_owned()));
    }
    let names: Vec<String> = KEYS.iter().map(|key| key.variable()).collect();
    let all = names.iter().map(String::as_str).chain(RESERVED).chain(SHORT.map(|(short, _)| short));
    // What all begin with makes no two of them alike.
    let advice = match nearest(&variable[PREFIX.len()..], all.map(|name| &name[PREFIX.len()..])) {
        Some(name) => format!("did you mean `{PREFIX}{name}`?"),
        None => {
            "a variable is CORELANE_, the section, `_` and the key in capitals; `corelane config --default` lists them"
                .to_owned()
        }
    };
    Problem::new(Place::Env(variable), "no such setting").advise(Some(advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_variable_sets_one_key() {
        let mut names: HashSet<String> =
            RESERVED.iter().chain(SHORT.iter().map(|(s, _)| s)).map(|s| (*s).into()).collect();
        for key in KEYS {
            let name = key.variable();
            assert!(!name.starts_with(RESERVED_PREFIX), "{name}");
            assert!(names.insert(name.clone()), "{name} is unambiguous");
        }
        for (_, regular) in SHORT {
            assert!(KEYS.iter().any(|key| key.variable() == regular));
        }
    }

    #[test]
    fn what_kubernetes_says_of_a_service_of_the_name_sets_nothing() {
        for name in ["CORELANE_PORT", "CORELANE_PORT_8808_TCP_ADDR", "CORELANE_SERVICE_HOST", "CORELANE_SERVICE_PORT"] {
            let mut problems = Vec::new();
            assert!(overrides(&[(name.into(), "x".into())], &mut problems).is_empty() && problems.is_empty(), "{name}");
        }
        assert!(KEYS.iter().all(|key| !is_of_kubernetes(&key.variable())));
        let mut problems = Vec::new();
        overrides(&[("CORELANE_PORTS".into(), "x".into())], &mut problems);
        assert_eq!(problems.len(), 1);
    }
}
