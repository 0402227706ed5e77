//! What servers and clients tell each other through the gateway outside any call: visits that are done, tasks that
//! stand otherwise, roots that changed. Each reaches those to whom it belongs, under the names that they know, and no
//! others.
//!
//! What is not to be heard is proved by what comes next, never by waiting.

use std::time::Instant;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{Request, initialize, legacy, modern, notice};
use crate::upstream::{Heard, Reply, Upstream};

const CHANGED: &str = "notifications/tools/list_changed";
const COMPLETE: &str = "notifications/elicitation/complete";
const PROGRESS: &str = "notifications/progress";
const STATUS: &str = "notifications/tasks/status";

/// A server of 2025-11-25 whose tool `t` needs a visit first and whose tool `u` runs as a task; both are named by the
/// argument `id`.
fn promising() -> Upstream {
    let capabilities = json!({"tools": {"listChanged": true}, "tasks": {"requests": {"tools": {"call": {}}}}});
    Upstream::start("legacy", capabilities, |heard| {
        let id = &heard.params()["arguments"]["id"];
        match (heard.method(), heard.params()["name"].as_str()) {
            ("tools/call", Some("t")) => {
                let visit = json!({"mode": "url", "elicitationId": id, "url": "https://x.example/", "message": "go"});
                Reply::Error(json!({"code": -32042, "message": "visit", "data": {"elicitations": [visit]}}))
            }
            ("tools/call", Some("u")) => Reply::Result(json!({"task": {"taskId": id, "status": "working"}})),
            _ => Reply::Usual,
        }
    })
}

/// A session at a path, and its stream, both on a core.
fn session(gateway: &Server, path: &str, core: usize, version: &str) -> (String, Peer) {
    let id = open_at(&mut gateway.connect_on(core), version, path);
    let mut stream = gateway.connect_on(core);
    stream.open(&Request::stream(&id).target(path));
    (id, stream)
}

/// What comes on a stream up to the news that tools changed.
fn heard(stream: &mut Peer) -> Vec<Value> {
    let next = || Some(stream.event().expect("the stream goes on").json());
    std::iter::from_fn(next).take_while(|message| message["method"] != CHANGED).collect()
}

#[test]
fn what_a_server_says_of_a_visit_or_task_reaches_the_session_that_was_told_of_it() {
    for (more, version) in [("", "2025-11-25"), ("concurrency = 8", "2025-11-25"), ("", "2025-06-18")] {
        let server = promising();
        let gateway = server.gateway(more);
        let knows = version == "2025-11-25";
        for (core, path, before) in [(0, "/mcp/s", ""), (1, "/mcp/s", ""), (1, "/mcp", "s+")] {
            let (one, mut stream) = session(&gateway, path, core, version);
            let (_, mut bystander) = session(&gateway, path, core, version);
            let name = |tool: &str| if before.is_empty() { tool.to_owned() } else { format!("s_{tool}") };
            let of = format!("{core}{before}");
            let call = |tool: &str, id: &str| {
                let params = json!({"name": name(tool), "arguments": {"id": id}, "task": {"ttl": 1000}});
                let message = legacy(7, "tools/call", params);
                gateway.connect_on(core).ask(&Request::legacy(&one, &message).target(path)).json()
            };
            let (visit, task) = (format!("visit {of}"), format!("task {of}"));
            let answer = call("t", &visit);
            assert_eq!(answer["error"]["code"], if knows { -32042 } else { -32603 }, "{answer}");
            let answer = call("u", &task);
            assert_eq!(answer["result"]["task"]["taskId"], format!("{before}{task}"));
            let called = server.heard("tools/call").pop().expect("it was called");
            let there = called.field("Mcp-Session-Id").expect("in a session").to_owned();
            // What nobody was told of, or has another name, is nobody's.
            for (id, method) in [("x", COMPLETE), (&*task, COMPLETE), (&*visit, STATUS)] {
                server.say_in(&there, method, &json!({"elicitationId": id, "taskId": id, "status": "failed"}));
            }
            server.say_in(&there, COMPLETE, &json!({"elicitationId": visit}));
            server.say_in(&there, STATUS, &json!({"taskId": task, "status": "completed", "ttl": 1000}));
            let mut expected = Vec::new();
            if knows {
                expected.push(notice(COMPLETE, json!({"elicitationId": visit})));
                let task = format!("{before}{task}");
                expected.push(notice(STATUS, json!({"taskId": task, "status": "completed", "ttl": 1000})));
            }
            let came: Vec<Value> = expected.iter().map(|_| stream.event().expect("news").json()).collect();
            assert_eq!(came, expected, "{more} {path} {core}");
            // That is all, and all for this one.
            server.say_in(&there, CHANGED, &json!({}));
            assert_eq!(heard(&mut stream), Vec::<Value>::new(), "{more} {path} {core}");
            assert_eq!(heard(&mut bystander), Vec::<Value>::new(), "{more} {path} {core}");
        }
    }
}

#[test]
fn a_visit_that_is_asked_for_in_a_question_is_told_to_be_done_on_its_own_call() {
    let server = Upstream::start("legacy", json!({"tools": {}}), |heard| match heard.method() {
        "tools/call" => Reply::After(
            vec![
                json!({"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"mode": "url",
                    "elicitationId": "v", "url": "https://x.example/", "message": "go"}}),
                notice(COMPLETE, json!({"elicitationId": "v"})),
            ],
            json!({"content": []}),
        ),
        _ => Reply::Usual,
    });
    let gateway = server.gateway("");
    let mut opening = initialize(1, "2025-11-25");
    opening["params"]["capabilities"] = json!({"elicitation": {"url": {}}});
    let opened = gateway.connect_on(0).ask(&Request::post(&opening).target("/mcp/s"));
    let session = opened.field("Mcp-Session-Id").expect("a session").to_owned();
    let mut peer = gateway.connect_on(0);
    let call = legacy(2, "tools/call", json!({"name": "t", "arguments": {}}));
    peer.open(&Request::legacy(&session, &call).target("/mcp/s"));
    let messages = peer.rest();
    assert_eq!(messages[0]["params"]["elicitationId"], "v", "{messages:?}");
    assert_eq!(messages[1], notice(COMPLETE, json!({"elicitationId": "v"})));
    // Nobody waits for an answer any more.
    assert_eq!(messages[2]["method"], "notifications/cancelled");
    assert_eq!(messages[2]["params"]["requestId"], messages[0]["id"]);
    assert_eq!((messages.len(), &messages[3]["id"]), (4, &json!(2)));
}

#[test]
fn how_far_a_client_is_with_a_question_is_told_to_the_server_that_asked() {
    let asking = || {
        Upstream::start("legacy", json!({"tools": {}}), |heard| match heard.method() {
            "tools/call" => {
                // Each has the same token.
                let params = json!({"_meta": {"progressToken": 7}, "messages": [], "maxTokens": 1});
                let id = &heard.params()["arguments"]["id"];
                let question =
                    json!({"jsonrpc": "2.0", "id": id, "method": "sampling/createMessage", "params": params});
                Reply::Asking(question, json!({"content": []}))
            }
            _ => Reply::Usual,
        })
    };
    for more in ["", "concurrency = 8"] {
        let (one, other) = (asking(), asking());
        let gateway = Server::configured(&(one.section("one", more) + &other.section("other", more)));
        for core in 0..2 {
            ["/mcp/one", "/mcp/other"].iter().for_each(|path| reached(&gateway, path));
            let open = || {
                let mut opening = initialize(1, "2025-11-25");
                opening["params"]["capabilities"] = json!({"sampling": {}});
                let opened = gateway.connect_on(core).ask(&Request::post(&opening));
                opened.field("Mcp-Session-Id").expect("a session").to_owned()
            };
            let (session, stranger) = (open(), open());
            let say = |session: &str, message: &Value| {
                assert_eq!(gateway.connect_on(1 - core).ask(&Request::legacy(session, message)).status, 202);
            };
            let mut calls = ["one_t", "other_t"].map(|tool| {
                let mut peer = gateway.connect_on(core);
                let params = json!({"name": tool, "arguments": {"id": format!("q{core}")}});
                peer.open(&Request::legacy(&session, &legacy(tool, "tools/call", params)));
                peer.primed();
                let question = peer.event().expect("a question").json();
                (peer, question)
            });
            let token = |call: &(Peer, Value)| call.1["params"]["_meta"]["progressToken"].clone();
            let (first, second) = (token(&calls[0]), token(&calls[1]));
            assert!(first.is_string() && first != second, "{first} {second}");
            let half = |token: &Value| json!({"progressToken": token, "progress": 0.5, "message": "half"});
            say(&stranger, &notice(PROGRESS, half(&first)));
            say(&session, &notice(PROGRESS, half(&json!(7))));
            say(&session, &notice(PROGRESS, half(&second)));
            until("it is told", || (other.heard(PROGRESS).len() == core + 1).then_some(()));
            assert_eq!(*other.heard(PROGRESS)[core].params(), half(&json!(7)), "{more} {core}");
            for (peer, question) in &mut calls {
                let sampled = json!({"role": "assistant", "content": {"type": "text", "text": "x"}, "model": "m"});
                say(&session, &json!({"jsonrpc": "2.0", "id": question["id"], "result": sampled}));
                assert_eq!(peer.event().expect("the result").json()["result"], json!({"content": []}));
            }
            assert_eq!((one.heard(PROGRESS).len(), other.heard(PROGRESS).len()), (0, core + 1), "{more} {core}");
        }
    }
}

/// The streams of a modern server's that are asked to tell of tasks, by these.
fn listened(server: &Upstream) -> Vec<Value> {
    let all = server.heard("subscriptions/listen");
    all.iter().map(|one| one.params()["notifications"]["taskIds"].clone()).collect()
}

#[test]
fn whoever_listens_to_a_task_of_a_modern_server_hears_how_it_stands() {
    let capabilities = json!({"tools": {"listChanged": true}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
    for more in ["", "concurrency = 8"] {
        let server = Upstream::start("modern", capabilities.clone(), |_| Reply::Usual);
        let gateway = server.gateway(more);
        let listen = |core: usize, path: &str, ids: Value| {
            let wanted = json!({"toolsListChanged": true, "taskIds": ids});
            let mut message = modern("l", "subscriptions/listen", json!({"notifications": wanted}));
            message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
                json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
            let mut stream = gateway.connect_on(core);
            stream.open(&Request::modern(&message).target(path));
            let granted = stream.event().expect("an event").json()["params"]["notifications"]["taskIds"].clone();
            (stream, granted)
        };
        let (mut alone, granted) = listen(0, "/mcp/s", json!(["one", "two"]));
        assert_eq!(granted, json!(["one", "two"]));
        let (mut among, granted) = listen(1, "/mcp", json!(["s+one", "one", "t+one"]));
        assert_eq!(granted, json!(["s+one"]), "what is no server's is not honoured");
        let (mut bystander, _) = listen(1, "/mcp/s", json!(["two"]));
        until("all are listened to, once", || (listened(&server).last()? == &json!(["one", "two"])).then_some(()));
        let asked = server.heard("subscriptions/listen").pop().expect("it was");
        let can = &asked.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"];
        assert_eq!(*can, json!({"extensions": {"io.modelcontextprotocol/tasks": {}}}));
        let content = |uri: &str| json!([{"type": "resource", "resource": {"uri": uri, "text": ""}}]);
        let told = |id: &str, uri: &str| json!({"taskId": id, "status": "completed", "ttlMs": null, "result": {"content": content(uri)}});
        // The stream before is let go of once the new one is there: what is said on both is said twice.
        let stands = |stream: &mut Peer| {
            server.say("notifications/tasks", &told("one", "x:y"));
            server.say("notifications/tasks", &told("nobody's", "x:y"));
            server.say(CHANGED, &json!({}));
            heard(stream)
        };
        for (stream, id, uri) in [(&mut alone, "one", "x:y"), (&mut among, "s+one", "s+x:y")] {
            let mut messages = until("it is told", || Some(stands(stream)).filter(|all| !all.is_empty()));
            let mut message = messages.pop().expect("one");
            assert_eq!(message["method"], "notifications/tasks");
            let meta = message["params"].as_object_mut().expect("parameters").remove("_meta").expect("whose it is");
            assert_eq!(meta, json!({"io.modelcontextprotocol/subscriptionId": "l"}));
            assert_eq!(message["params"], told(id, uri), "{more}");
            assert!(messages.iter().all(|other| other["params"]["taskId"] == id));
        }
        assert_eq!(heard(&mut bystander), Vec::<Value>::new(), "it listens to another");
        // The last one who listens ends it.
        drop((alone, among));
        until("nobody listens to it", || (listened(&server).last()? == &json!(["two"])).then_some(()));
    }
}

#[test]
fn roots_that_changed_are_told_to_the_servers_that_may_have_asked_for_them() {
    let capabilities = json!({"tools": {}});
    let (old, new) = (
        Upstream::start("legacy", capabilities.clone(), |_| Reply::Usual),
        Upstream::start("modern", capabilities, |_| Reply::Usual),
    );
    let sections = old.section("each", "")
        + &old.section("owned", "concurrency = 8")
        + &old.section("own", "sessions = \"per_session\"")
        + &new.section("new", "");
    let gateway = Server::configured(&sections);
    let news = notice("notifications/roots/list_changed", json!({}));
    for name in ["each", "owned", "own", "new"] {
        let path = format!("/mcp/{name}");
        reached(&gateway, &path);
        for (core, roots, hears) in [(0, json!({"listChanged": true}), true), (1, json!({}), false)] {
            let mut opening = initialize(1, "2025-11-25");
            opening["params"]["capabilities"] = json!({ "roots": roots });
            let opened = gateway.connect_on(core).ask(&Request::post(&opening).target(&path));
            let session = opened.field("Mcp-Session-Id").expect("a session").to_owned();
            let post =
                |message: &Value| gateway.connect_on(1).ask(&Request::legacy(&session, message).target(&path)).status;
            let call = legacy(2, "tools/call", json!({"name": "t", "arguments": {}}));
            assert_eq!(post(&call), 200);
            let server = if name == "new" { &new } else { &old };
            let called = server.heard("tools/call").pop().expect("it was called");
            let in_session = |one: &Heard| one.field("Mcp-Session-Id").map(str::to_owned);
            let told = || {
                let told = server.heard("notifications/roots/list_changed");
                told.iter().filter(|one| in_session(one) == in_session(&called)).count()
            };
            // A client that says so all the time is heard now and then.
            let (mut peer, began) = (gateway.connect_on(1), Instant::now());
            let one = Request::legacy(&session, &news).target(&path).bytes();
            peer.send(one.repeat(100));
            (0..100).for_each(|_| assert_eq!(peer.answer().status, 202));
            assert_eq!(post(&call), 200);
            let most = 2 + began.elapsed().as_millis() as usize / 50;
            if name != "new" && hears {
                until("it is told", || (told() > 0).then_some(()));
                assert!(told() <= most, "{} times", told());
            } else {
                assert_eq!(told(), 0, "{name}");
            }
        }
    }
}
