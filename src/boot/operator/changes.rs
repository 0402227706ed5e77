//! `corelane servers add|remove`, `transports` and `bindings`: what is asked of the API, and how its answer is told.
//!
//! Not here: asking (`operator`), judging what is asked (the process that is asked does). Invariant: a name is one
//! segment of the path, whatever characters it has.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::{OperatorError, cell, rows_of, table};

/// A server as flags describe it: the JSON text that registers it.
///
/// # Errors
/// If a setting is no `KEY=VALUE`, or is given twice.
pub(super) fn described(url: &str, kind: &str, settings: &[String]) -> Result<Value, OperatorError> {
    let refused = |what: String| OperatorError::Refused { what };
    let mut keys = Map::new();
    keys.insert("kind".to_owned(), kind.into());
    keys.insert("url".to_owned(), url.into());
    for setting in settings {
        let Some((key, word)) = setting.split_once('=') else {
            let advice = "such as --set timeout_ms=5000 or --set 'tools.include=[\"get_*\"]'";
            return Err(refused(format!("--set {setting:?} cannot be: allowed is KEY=VALUE, {advice}")));
        };
        // What is no JSON is a text.
        let value = serde_json::from_str(word).unwrap_or_else(|_| Value::from(word));
        let (within, key) = match key.split_once('.') {
            None => (Some(&mut keys), key),
            Some((table, key)) => {
                let table = keys.entry(table).or_insert_with(|| Value::Object(Map::new()));
                (table.as_object_mut(), key)
            }
        };
        let taken = within.is_none_or(|within| within.insert(key.to_owned(), value).is_some());
        if taken {
            return Err(refused(format!("--set {setting:?} sets what is set already; give each key once")));
        }
    }
    Ok(Value::Object(keys))
}

/// A name as a segment of a path.
pub(super) fn segment(name: &str) -> String {
    // Not even dots stay: `..` means another path.
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'~');
    utf8_percent_encode(name, ESCAPED).to_string()
}

/// A server was registered.
pub(super) fn registered(answer: &Value) -> String {
    let done = if answer["created"] == Value::Bool(true) { "registered" } else { "changed" };
    format!("server {} is {done}; it lasts {}\n", cell(answer, "server"), cell(answer, "lasts"))
}

/// A server was removed.
pub(super) fn unregistered(answer: &Value) -> String {
    format!("server {} is removed; calls: {}\n", cell(answer, "removed"), cell(answer, "calls"))
}

/// The names of transports.
pub(super) fn transports(answer: &Value) -> String {
    let names = answer["transports"].as_array().map(Vec::as_slice).unwrap_or_default();
    if names.is_empty() {
        return "no transports are registered; clients' connections are none (see ARCHITECTURE.md, The registry)\n"
            .to_owned();
    }
    names.iter().filter_map(Value::as_str).fold(String::new(), |out, name| out + name + "\n")
}

/// Transports, and the servers that they are bound to.
pub(super) fn bindings(answer: &Value) -> String {
    let columns = ["transport", "server"];
    let rows = rows_of(answer, "bindings", &columns);
    let rest = if answer["complete"] == Value::Bool(false) { "there are more\n" } else { "" };
    match rows.is_empty() {
        true => format!("no transport is bound\n{rest}"),
        false => table(&columns, &rows) + rest,
    }
}

/// Something of the registry was changed.
pub(super) fn done(answer: &Value) -> String {
    match answer["applied"] {
        Value::Bool(false) => {
            "done; a core has not said within 50 ms that it knows, and will as soon as it can\n".to_owned()
        }
        _ => "done\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn flags_become_a_server() {
        let set = |settings: &[&str]| {
            let settings: Vec<String> = settings.iter().map(|one| (*one).to_owned()).collect();
            described("http://a/", "http", &settings).map_err(|error| error.to_string())
        };
        let settings = ["timeout_ms=5", "prefix=a=b", "tools.include=[\"x\"]", "tools.exclude=[]", "era=\"auto\""];
        let wanted = json!({"kind": "http", "url": "http://a/", "timeout_ms": 5, "prefix": "a=b", "era": "auto",
            "tools": {"include": ["x"], "exclude": []}});
        assert_eq!(set(&settings), Ok(wanted));
        assert!(set(&["timeout_ms"]).is_err_and(|why| why.contains("allowed is KEY=VALUE")));
        for twice in [&["kind=sse"][..], &["a=1", "a=2"], &["tools=1", "tools.include=[]"]] {
            assert!(set(twice).is_err_and(|why| why.contains("give each key once")), "{twice:?}");
        }
    }

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("a-b_1"), "a-b_1");
        assert_eq!(segment("a/../b?c#d%e .\u{e9}"), "a%2F%2E%2E%2Fb%3Fc%23d%25e%20%2E%C3%A9");
    }

    #[test]
    fn what_was_done_is_told() {
        let answer = json!({"server": "a", "created": true, "lasts": "until a restart"});
        assert_eq!(registered(&answer), "server a is registered; it lasts until a restart\n");
        let listed = json!({"bindings": [{"transport": "t", "server": "s"}], "complete": false});
        assert_eq!(bindings(&listed), "transport  server\nt          s\nthere are more\n");
        assert_eq!(transports(&json!({"transports": ["a", "b"]})), "a\nb\n");
        assert!(transports(&json!({"transports": []})).starts_with("no transports"));
        assert!(done(&json!({"applied": false})).contains("50 ms") && done(&json!({"applied": true})) == "done\n");
    }
}
