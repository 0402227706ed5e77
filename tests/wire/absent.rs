//! Lists of several servers, one of which does not give its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern};
use crate::upstream::{Reply, Upstream};

/// Longer than anybody here has patience: whoever waits for a read that hangs waits in vain.
const LONG: &str = "list_timeout_ms = 60000";

fn listed(gateway: &Server, core: usize) -> Value {
    let answer = gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", json!({}))));
    answer.json()["result"].clone()
}

fn names(list: &Value) -> Vec<&str> {
    list["tools"].as_array().expect("a list").iter().map(|tool| tool["name"].as_str().expect("a name")).collect()
}

#[test]
fn a_server_that_does_not_give_its_list_keeps_nobody_waiting_and_is_back_by_itself() {
    let may_answer = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&may_answer);
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let bad = Upstream::start("legacy", json!({"tools": {}}), move |heard| {
        if heard.method() != "tools/list" || answers.load(Ordering::Relaxed) {
            return Reply::Usual;
        }
        // It fails the first time that a core asks, and hangs ever after.
        let core = heard.field("Mcp-Session-Id").expect("a session").to_owned();
        let mut asked = asked.lock().expect("nobody panics with it");
        if !asked.contains(&core) {
            asked.push(core);
            return Reply::Error(json!({"code": -32603, "message": "not now"}));
        }
        drop(asked);
        while !answers.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        Reply::Usual
    });
    let good = Upstream::start("legacy", json!({"tools": {}}), |_| Reply::Usual);
    let gateway = Server::configured(&(bad.section("bad", LONG) + &good.section("good", "")));
    for path in ["/mcp/bad", "/mcp/good"] {
        reached(&gateway, path);
    }
    for core in 0..2 {
        let list = until("the others are listed", || {
            let list = listed(&gateway, core);
            (names(&list).len() == 2).then_some(list)
        });
        assert_eq!(list["_meta"]["corelane/absent"], json!(["bad"]), "{list}");
    }
    until("it hangs for both cores", || (bad.heard("tools/list").len() >= 4).then_some(()));
    for core in 0..2 {
        for _ in 0..3 {
            let list = listed(&gateway, core);
            assert_eq!((names(&list), &list["_meta"]["corelane/absent"]), (vec!["good_t", "good_u"], &json!(["bad"])));
        }
    }
    let session = open(&mut gateway.connect_on(0), "2025-11-25");
    let mut stream = gateway.connect_on(0);
    stream.open(&Request::stream(&session));
    stream.primed();
    may_answer.store(true, Ordering::Relaxed);
    // Nobody asks for it, and whoever listens hears that it is there.
    gateway.until_total("corelane_server_tools{server=\"bad\"}", 4);
    loop {
        let event = stream.event().expect("the stream goes on").json();
        if event["method"] == "notifications/tools/list_changed" {
            break;
        }
    }
    let list = gateway.connect_on(0).ask(&Request::legacy(&session, &legacy(2, "tools/list", json!({})))).json();
    assert_eq!(names(&list["result"]), ["bad_t", "bad_u", "good_t", "good_u"]);
    assert_eq!(list["result"].get("_meta"), None, "{list}");
}

#[test]
fn a_list_that_is_good_for_no_time_and_slow_keeps_nobody_waiting_who_has_seen_it() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let hasty = Upstream::start("modern", json!({"tools": {}}), move |heard| {
        if heard.method() != "tools/list" {
            return Reply::Usual;
        }
        let was_slow = slow.load(Ordering::Relaxed);
        while slow.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let name = if was_slow { "new" } else { "old" };
        let tool = json!({"name": name, "inputSchema": {"type": "object"}});
        Reply::Result(json!({"resultType": "complete", "tools": [tool], "ttlMs": 0, "cacheScope": "private"}))
    });
    let good = Upstream::start("modern", json!({"tools": {}}), |_| Reply::Usual);
    let gateway = Server::configured(&(hasty.section("hasty", LONG) + &good.section("good", "")));
    for path in ["/mcp/hasty", "/mcp/good"] {
        reached(&gateway, path);
    }
    let list = until("both are listed", || {
        let list = listed(&gateway, 0);
        (names(&list).len() == 3).then_some(list)
    });
    assert_eq!((names(&list)[2], list["_meta"].get("corelane/stale")), ("hasty_old", None), "{list}");
    let session = open(&mut gateway.connect_on(0), "2025-11-25");
    let mut stream = gateway.connect_on(0);
    stream.open(&Request::stream(&session));
    stream.primed();
    is_slow.store(true, Ordering::Relaxed);
    for _ in 0..2 {
        let list = listed(&gateway, 0);
        assert_eq!((names(&list)[2], &list["_meta"]["corelane/stale"]), ("hasty_old", &json!(["hasty"])), "{list}");
        assert_eq!(list["ttlMs"], 0, "{list}");
    }
    is_slow.store(false, Ordering::Relaxed);
    // What they were told was old, and it is another by now.
    while stream.event().expect("the stream goes on").json()["method"] != "notifications/tools/list_changed" {}
    let list = gateway.connect_on(0).ask(&Request::legacy(&session, &legacy(2, "tools/list", json!({})))).json();
    assert!(names(&list["result"]).iter().any(|name| name.starts_with("hasty_")), "{list}");
    assert_eq!(list["result"].get("_meta"), None, "{list}");
}
