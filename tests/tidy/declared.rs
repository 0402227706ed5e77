//! Rules about what is declared in one place to be used in another: metrics, causes, keys of the configuration.
//!
//! Not here: what the compiler sees. A metric's field is read by the export and a key by its own table, so neither is
//! ever dead code, however little it means.
//! Invariant: a declaration counts as used only by code that is no test.

use super::Violation;
use super::source::{Source, Token};

/// Declarations that nobody gives a meaning.
pub fn check(sources: &[Source]) -> Vec<Violation> {
    let tokens: Vec<(&Source, Vec<Token>)> = sources
        .iter()
        .filter(|source| source.path.starts_with("src/") && !source.path.contains("/tests"))
        .map(|source| (source, source.tokens()))
        .collect();
    let mut violations = Vec::new();
    let mut demand = |place: &Source, token: &Token, used: bool, instead: &str| {
        if !used {
            violations.push(Violation {
                rule: "what is declared is used",
                place: format!("{}:{}", place.path, token.line),
                found: format!("nothing uses {}", token.text),
                instead: instead.to_owned(),
            });
        }
    };
    let occurs = |outside: &str, wanted: &dyn Fn(&[Token]) -> bool| {
        tokens.iter().any(|(source, tokens)| !source.path.starts_with(outside) && tokens.windows(4).any(wanted))
    };
    for (source, declared) in &tokens {
        for five in declared.windows(5) {
            let [_, field, colon, cell, kind] = five else { unreachable!("windows of five") };
            let cells = ["Counter", "Gauge", "Peak"].contains(&cell.text.as_str());
            if source.path != "src/metrics/cores.rs"
                || colon.text != ":"
                || !cells
                || !["Counter", "Gauge", "Seconds"].contains(&kind.text.as_str())
            {
                continue;
            }
            let writes = |four: &[Token]| {
                four[0].text == "."
                    && four[1].text == field.text
                    && four[2].text == "."
                    && ["add", "sub", "set", "observe"].contains(&four[3].text.as_str())
            };
            demand(source, field, occurs("src/metrics/cells.rs", &writes), "count it where it happens, or take it out");
        }
        let mut set = "";
        for three in declared.windows(3) {
            let [one, two, _] = three else { unreachable!("windows of three") };
            if source.path != "src/metrics/causes.rs" {
                break;
            }
            match (one.text.as_str(), two.text.as_str()) {
                ("Refusal", "{") => set = "Refusal",
                ("CloseCause", "{") => set = "CloseCause",
                ("}", _) => set = "",
                (_, "=") if !set.is_empty() => {
                    let named =
                        |four: &[Token]| four[0].text == set && four[1].text == "::" && four[2].text == one.text;
                    let used = occurs("src/metrics/causes.rs", &named);
                    demand(source, one, used, "count the cause where it occurs, or take it out");
                }
                _ => {}
            }
        }
        for five in declared.windows(5) {
            let [begin, _, dot, name, comma] = five else { unreachable!("windows of five") };
            let is_row = ["{", ";"].contains(&begin.text.as_str()) && dot.text == "." && comma.text == ",";
            if source.path != "src/config/table.rs" || !is_row {
                continue;
            }
            let read = |four: &[Token]| four[0].text == "." && four[1].text == name.text;
            demand(source, name, occurs("src/config/", &read), "enforce the key where it belongs, or take it out");
        }
    }
    violations
}
