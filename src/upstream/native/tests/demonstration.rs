//! The demonstration server: what it says it serves, and that it does.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::rig::{LEGACY, MODERN, Rig};
use crate::upstream::native::demonstration::server;

fn names(result: &Value, member: &str, name: &str) -> Vec<String> {
    let entries = result[member].as_array().expect("a list");
    entries.iter().map(|entry| entry[name].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn it_serves_what_it_lists() {
    let mut rig = Rig::new(&server().expect("right"));
    for version in [LEGACY, MODERN] {
        let mut list =
            |method, member, name| names(&rig.ask(version, method, json!({})).expect("a list"), member, name);
        assert_eq!(list("tools/list", "tools", "name"), ["echo", "add", "now", "sleep", "fail"]);
        assert_eq!(list("resources/list", "resources", "uri"), ["corelane://about", "corelane://echoes"]);
        let templates = list("resources/templates/list", "resourceTemplates", "uriTemplate");
        assert_eq!(templates, ["corelane://greeting/{name}"]);
        assert_eq!(list("prompts/list", "prompts", "name"), ["review"]);

        assert_eq!(rig.text(version, "echo", json!({"data": "a \"b\" \u{e9}"})), "a \"b\" \u{e9}");
        assert_eq!(rig.text(version, "add", json!({"a": 1.5, "b": 2})), "3.5");
        assert_eq!(rig.text(version, "sleep", json!({"ms": 20, "steps": 2})), "slept 20 ms");
        let failed = rig.tool(version, "fail", json!({})).expect("a result that says so");
        assert_eq!(
            (&failed["isError"], &failed["content"][0]["text"]),
            (&json!(true), &json!("this tool always fails"))
        );

        let mut read = |uri: &str| {
            let result = rig.ask(version, "resources/read", json!({"uri": uri})).expect("contents");
            result["contents"][0]["text"].as_str().expect("text").to_owned()
        };
        assert!(read("corelane://about").contains("io_uring"));
        assert_eq!(read("corelane://greeting/Ada%20L"), "Hello, Ada L!");
        assert_eq!(read("corelane://greeting/J\u{f6}rg"), "Hello, J\u{f6}rg!");
        let echoes: u32 = read("corelane://echoes").parse().expect("a number");
        // Nobody gets a path, or the end of a text, into what a handler takes for one name.
        for name in ["..%2f..%2fetc%2fpasswd", "a%00b", "a\u{0}b", "a%0Ab", "a\u{a}b", "a/b"] {
            let uri = json!({"uri": format!("corelane://greeting/{name}")});
            assert!(rig.ask(version, "resources/read", uri).is_err(), "{name}");
        }
        rig.text(version, "echo", json!({"data": "x"}));
        let again = rig.ask(version, "resources/read", json!({"uri": "corelane://echoes"})).expect("contents");
        assert_eq!(again["contents"][0]["text"], (echoes + 1).to_string());

        let arguments = json!({"name": "review", "arguments": {"language": "rust", "code": "fn f() {}"}});
        let review = rig.ask(version, "prompts/get", arguments).expect("a prompt");
        let text = review["messages"][0]["content"]["text"].as_str().expect("text");
        assert!(text.contains("rust") && text.ends_with("fn f() {}"), "{text}");
        let typed =
            json!({"ref": {"type": "ref/prompt", "name": "review"}, "argument": {"name": "language", "value": "p"}});
        assert_eq!(
            rig.ask(version, "completion/complete", typed).expect("values")["completion"]["values"],
            json!(["python"])
        );
    }
}

#[test]
fn now_is_the_time_of_this_host() {
    // It is told in whole seconds.
    let before = SystemTime::now() - Duration::from_secs(1);
    let told = Rig::new(&server().expect("right")).text(MODERN, "now", json!({}));
    let at = httpdate::parse_http_date(&told).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert!((before..=SystemTime::now()).contains(&at), "{told}");
}
