//! How long lists of servers behind the gateway may be kept, and where their pages go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::peer::Answer;
use crate::process::{Server, until};
use crate::request::{Request, modern};
use crate::upstream::{Reply, Upstream};

/// A server that says how long its list of tools may be kept, on two pages, the first of which may be kept longer.
fn keeping(era: &'static str, ttl_ms: u64, scope: &'static str) -> Upstream {
    Upstream::start(era, json!({"tools": {}}), move |heard| match heard.method() {
        "tools/list" => {
            let is_first = heard.params().get("cursor").is_none();
            let tool = json!({"name": if is_first { "t" } else { "u" }, "inputSchema": {"type": "object"}});
            let mut result = json!({"tools": [tool], "resultType": "complete"});
            if era == "modern" {
                result["ttlMs"] = (ttl_ms + 100_000 * u64::from(is_first)).into();
                result["cacheScope"] = if is_first { "public".into() } else { scope.into() };
            }
            if is_first {
                result["nextCursor"] = "more".into();
            }
            Reply::Result(result)
        }
        _ => Reply::Usual,
    })
}

fn listed(gateway: &Server, core: usize, path: &str, params: Value) -> Answer {
    gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", params)).target(path))
}

/// What is said of a list of so many tools.
fn hints(gateway: &Server, core: usize, path: &str, count: usize) -> (u64, String) {
    let result = until("all are listed", || {
        let result = listed(gateway, core, path, json!({})).json()["result"].clone();
        (result["tools"].as_array()?.len() == count && result["ttlMs"] != 0).then_some(result)
    });
    let scope = result["cacheScope"].as_str().expect("a scope").to_owned();
    (result["ttlMs"].as_u64().expect("a time"), scope)
}

#[test]
fn a_list_of_several_servers_is_kept_as_long_as_each_of_them_says_and_no_longer_than_is_configured() {
    let long = keeping("modern", 60_000, "public");
    let short = keeping("modern", 2000, "public");
    let private = keeping("modern", 60_000, "private");
    let legacy = keeping("legacy", 0, "");
    let view = |name: &str, servers: &str| format!("[views.{name}]\nservers = [{servers}]\n");
    let sections = long.section("long", "")
        + &short.section("short", "concurrency = 4")
        + &private.section("private", "concurrency = 4")
        + &legacy.section("legacy", "")
        + &view("one", "\"long\"")
        + &view("two", "\"long\", \"short\"")
        + &view("three", "\"long\", \"private\"")
        + &view("four", "\"long\", \"legacy\"")
        + "[gateway]\nlist_ttl_ms = 20000\n";
    let gateway = Server::configured(&sections);
    for name in ["long", "short", "private", "legacy"] {
        reached(&gateway, &format!("/mcp/{name}"));
    }
    for core in 0..2 {
        for (path, count, most, scope) in [
            ("/mcp/@one", 2, 20_000, "public"),
            ("/mcp/@two", 4, 2000, "public"),
            ("/mcp/@three", 4, 20_000, "private"),
            ("/mcp/@four", 4, 20_000, "private"),
            ("/mcp", 8, 2000, "private"),
        ] {
            let (ttl_ms, said) = hints(&gateway, core, path, count);
            assert!(ttl_ms <= most && said == scope, "{core} {path}: {ttl_ms} {said}");
            // A machine that is busy takes its time, but not this long.
            assert!(most < 20_000 || ttl_ms > 2000, "{core} {path}: {ttl_ms}");
        }
    }
    // What may be kept no longer is read again, and what may be is not.
    let read = |server: &Upstream| server.heard("tools/list").len();
    let before = (read(&long), read(&short));
    std::thread::sleep(Duration::from_millis(2100));
    until("it is read again", || {
        listed(&gateway, 0, "/mcp/@two", json!({}));
        (read(&short) > before.1).then_some(())
    });
    assert_eq!(read(&long), before.0);
}

#[test]
fn all_pages_together_hold_each_tool_once_and_nothing_of_an_older_list() {
    let made = Arc::new(AtomicUsize::new(0));
    let generation = Arc::clone(&made);
    let server = Upstream::start("modern", json!({"tools": {}}), move |heard| match heard.method() {
        "tools/list" => {
            let (made, schema) = (generation.load(Ordering::SeqCst), json!({"type": "object"}));
            let tool = |number: usize| json!({"name": format!("g{made}_{number}"), "inputSchema": schema});
            Reply::Result(json!({"tools": (0..600).map(tool).collect::<Vec<_>>()}))
        }
        _ => Reply::Usual,
    });
    let gateway =
        Server::configured(&(server.section("s", "") + "[gateway]\ndemonstration = \"on\"\nlist_ttl_ms = 1000\n"));
    reached(&gateway, "/mcp/s");
    let page = |core, params| {
        let result = listed(&gateway, core, "/mcp", params).json()["result"].clone();
        let tools = result["tools"].as_array().unwrap_or_else(|| panic!("no tools: {result}"));
        let names: Vec<String> = tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect();
        (names, result["nextCursor"].as_str().map(str::to_owned))
    };
    let own = ["echo", "add", "now", "sleep", "fail"].map(String::from);
    for now in 0..2 {
        made.store(now, Ordering::SeqCst);
        let expected: Vec<String> =
            own.iter().cloned().chain((0..600).map(|number| format!("s_g{now}_{number}"))).collect();
        for core in 0..2 {
            let (mut names, mut next) = until("the list is this generation's", || {
                let (names, next) = page(core, json!({}));
                (names.last() == expected.get(249)).then_some((names, next))
            });
            let second = next.clone().expect("there are more");
            while let Some(cursor) = next {
                let (more, after) = page(core, json!({ "cursor": cursor }));
                names.extend(more);
                next = after;
            }
            assert_eq!(names, expected, "core {core}");
            // Whoever comes back to a page finds it as it was.
            assert_eq!(page(core, json!({ "cursor": second })).0, expected[250..500], "core {core}");
        }
    }
}

#[test]
fn a_cursor_is_good_for_its_list_and_endpoint_and_is_nobody_elses() {
    let server = Upstream::start("modern", json!({"tools": {}, "prompts": {}}), |heard| {
        let tool = |number: usize| json!({"name": format!("t{number}"), "inputSchema": {"type": "object"}});
        let prompt = |number: usize| json!({"name": format!("p{number}")});
        match heard.method() {
            "tools/list" => Reply::Result(json!({"tools": (0..600).map(tool).collect::<Vec<_>>()})),
            "prompts/list" => Reply::Result(json!({"prompts": (0..600).map(prompt).collect::<Vec<_>>()})),
            _ => Reply::Usual,
        }
    });
    let sections = server.section("s", "") + "[views.v]\nservers = [\"s\"]\n";
    let (gateway, other) = (Server::configured(&sections), Server::configured(&sections));
    for gateway in [&gateway, &other] {
        reached(gateway, "/mcp/s");
    }
    let cursor_of = |gateway: &Server, path: &str| {
        let page = listed(gateway, 0, path, json!({})).json();
        page["result"]["nextCursor"].as_str().unwrap_or_else(|| panic!("no cursor: {page}")).to_owned()
    };
    let cursor = cursor_of(&gateway, "/mcp");
    // From every core, as often as somebody likes.
    let mut names = Vec::new();
    for core in [1, 0] {
        let mut next = Some(cursor.clone());
        names.clear();
        while let Some(cursor) = next {
            let page = listed(&gateway, core, "/mcp", json!({ "cursor": cursor })).json()["result"].clone();
            let tools = page["tools"].as_array().unwrap_or_else(|| panic!("no tools: {page}"));
            names.extend(tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()));
            next = page["nextCursor"].as_str().map(str::to_owned);
        }
        assert_eq!(names, (250..600).map(|number| format!("s_t{number}")).collect::<Vec<_>>());
    }
    let (elsewhere, stranger) = (cursor_of(&gateway, "/mcp/@v"), cursor_of(&other, "/mcp"));
    let mut forged = cursor.clone().into_bytes();
    forged[20] ^= 1;
    let forged = String::from_utf8(forged).expect("text");
    let refused = |path: &str, method: &str, cursor: Value| {
        let message = modern(1, method, json!({ "cursor": cursor }));
        let answer = gateway.connect_on(0).ask(&Request::modern(&message).target(path));
        assert_eq!(answer.code(), -32602, "{path} {method} {cursor}: {}", answer.text());
    };
    for cursor in [&*elsewhere, &*stranger, &*forged, "at-250", "250", ""] {
        refused("/mcp", "tools/list", json!(cursor));
    }
    refused("/mcp", "tools/list", json!(250));
    refused("/mcp", "prompts/list", json!(cursor));
    refused("/mcp/@v", "tools/list", json!(cursor));
    let page = listed(&gateway, 0, "/mcp/@v", json!({ "cursor": elsewhere })).json();
    assert_eq!(page["result"]["tools"][0]["name"], "s_t250", "there it is good: {page}");
}

#[test]
fn a_list_that_is_good_for_no_time_is_read_for_whoever_asks() {
    let reads = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&reads);
    let upstream = Upstream::start("modern", json!({"tools": {}}), move |heard| match heard.method() {
        "tools/list" => {
            let name = format!("made_{}", count.fetch_add(1, Ordering::SeqCst));
            Reply::Result(json!({"tools": [{"name": name, "inputSchema": {"type": "object"}}],
                "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}))
        }
        _ => Reply::Usual,
    });
    let view = "[views.v]\nservers = [\"s\"]\n";
    let gateway = Server::configured(&(upstream.section("s", "") + view));
    reached(&gateway, "/mcp/s");
    let mut last = None;
    for core in [0, 0, 1, 1, 0] {
        let before = reads.load(Ordering::SeqCst);
        let answer = listed(&gateway, core, "/mcp/@v", json!({})).json();
        let name = answer["result"]["tools"][0]["name"].as_str().unwrap_or_default().to_owned();
        let number: usize = name.rsplit('_').next().and_then(|number| number.parse().ok()).unwrap_or(0);
        assert!(number >= before, "{name} was made before it was asked for ({before}): {answer}");
        assert!(last.replace(name.clone()) != Some(name), "nobody is told what was read for somebody else");
    }
}
