//! How much servers behind the gateway log, and who hears of it: a session with a legacy server is shared, so it logs
//! the most that any caller asks for, and each caller hears what it asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern, notice, text};
use crate::upstream::{Reply, Upstream};

const LEVEL: &str = "io.modelcontextprotocol/logLevel";
const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];

/// A server that logs in each call what it was told to, and errors before that; it takes its time to hear of it.
fn talkative(era: &'static str, pause: Duration) -> Upstream {
    let least = Arc::new(AtomicUsize::new(3));
    Upstream::start(era, json!({"tools": {}, "logging": {}}), move |heard| match heard.method() {
        "tools/call" => {
            let said = |level: &&str| notice("notifications/message", json!({"level": level, "data": "d"}));
            Reply::After(
                LEVELS[least.load(Ordering::SeqCst)..].iter().map(said).collect(),
                json!({"content": [{"type": "text", "text": "done"}], "resultType": "complete"}),
            )
        }
        "logging/setLevel" => {
            std::thread::sleep(pause);
            let level = LEVELS.iter().position(|level| heard.params()["level"] == *level);
            least.store(level.expect("one of these"), Ordering::SeqCst);
            Reply::Usual
        }
        _ => Reply::Usual,
    })
}

fn call() -> Value {
    json!({"name": "t", "arguments": {}})
}

/// The levels that came before the answer, which is one.
fn heard(peer: &mut Peer) -> Vec<String> {
    let mut messages = peer.rest();
    assert_eq!(text(&messages.pop().expect("an answer")), "done");
    messages.iter().map(|one| one["params"]["level"].as_str().expect("a level").to_owned()).collect()
}

/// What a modern caller hears that wants this logged.
fn modern_hears(gateway: &Server, level: Option<&str>) -> Vec<String> {
    let mut message = modern(1, "tools/call", call());
    if let Some(level) = level {
        message["params"]["_meta"][LEVEL] = level.into();
    }
    let mut peer = gateway.connect_on(0);
    if level.is_none() {
        assert_eq!(text(&peer.ask(&Request::modern(&message).target("/mcp/s")).json()), "done");
        return Vec::new();
    }
    peer.open(&Request::modern(&message).target("/mcp/s"));
    heard(&mut peer)
}

/// The levels that the server was told, in order.
fn told(server: &Upstream) -> Vec<String> {
    let told = server.heard("logging/setLevel");
    told.iter().map(|one| one.params()["level"].as_str().expect("a level").to_owned()).collect()
}

#[test]
fn a_legacy_server_logs_the_most_that_somebody_asks_for_and_each_hears_what_it_asked_for() {
    let server = talkative("legacy", Duration::from_millis(200));
    for more in ["", "concurrency = 8"] {
        let before = told(&server).len();
        let gateway = server.gateway(more);
        let told = || told(&server)[before..].to_vec();
        // It has heard of each level before it is called by who asks for it, however long it takes for that.
        // Who does not ask hears nothing, and the server need not know.
        assert_eq!(modern_hears(&gateway, None), Vec::<String>::new());
        assert_eq!(told(), Vec::<String>::new());
        assert_eq!(modern_hears(&gateway, Some("warning")), ["warning", "error"]);
        assert_eq!(modern_hears(&gateway, Some("error")), ["error"], "less is told by the gateway alone");
        assert_eq!(modern_hears(&gateway, Some("debug")), LEVELS);
        assert_eq!(modern_hears(&gateway, Some("info")), LEVELS[1..]);
        assert_eq!(told(), ["warning", "debug"], "{more}");
        // A legacy client is a caller like any other.
        let mut peer = gateway.connect_on(0);
        let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
        peer.open(&Request::legacy(&session, &legacy(7, "tools/call", call())).target("/mcp/s"));
        assert_eq!(heard(&mut peer), LEVELS[1..], "what is usual");
        let level = legacy(8, "logging/setLevel", json!({"level": "error"}));
        assert_eq!(peer.ask(&Request::legacy(&session, &level).target("/mcp/s")).json()["result"], json!({}));
        peer.open(&Request::legacy(&session, &legacy(9, "tools/call", call())).target("/mcp/s"));
        assert_eq!(heard(&mut peer), LEVELS[3..]);
        assert_eq!(told(), ["warning", "debug", "error"], "another session, of clients that can do more: {more}");
        let level = legacy(8, "logging/setLevel", json!({"level": "debug"}));
        peer.ask(&Request::legacy(&session, &level).target("/mcp/s"));
        peer.open(&Request::legacy(&session, &legacy(9, "tools/call", call())).target("/mcp/s"));
        assert_eq!(heard(&mut peer), LEVELS);
        assert_eq!(told().last().map(String::as_str), Some("debug"), "{more}");
    }
}

#[test]
fn a_session_that_nobody_wants_so_much_of_any_more_is_told_less() {
    let server = talkative("legacy", Duration::ZERO);
    let gateway = server.gateway("");
    assert_eq!(modern_hears(&gateway, Some("debug")), LEVELS);
    until("it is told less", || (told(&server) == ["debug", "info"]).then_some(()));
    assert_eq!(modern_hears(&gateway, Some("debug")), LEVELS);
    assert_eq!(told(&server), ["debug", "info", "debug"]);
}

#[test]
fn what_is_logged_on_no_calls_stream_is_heard_where_no_other_client_could_be_meant() {
    for (more, is_heard) in [("", false), ("sessions = \"per_session\"", true)] {
        let may_end = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&may_end);
        let server = Upstream::start("legacy", json!({"tools": {}, "logging": {}}), move |heard| {
            while heard.method() == "tools/call" && !ends.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Reply::Usual
        });
        let gateway = server.gateway(more);
        let mut peer = gateway.connect_on(1);
        let session = open_at(&mut peer, "2025-11-25", "/mcp/s");
        peer.send(Request::legacy(&session, &legacy(1, "tools/call", call())).target("/mcp/s").bytes());
        until("it is called", || (server.heard("tools/call").len() == 1).then_some(()));
        // One for changes, on the core that listens, and one for this core's caller.
        server.until_streams(2);
        server.say("notifications/message", &json!({"level": "debug", "data": "no"}));
        server.say("notifications/message", &json!({"level": "error", "data": "yes"}));
        if is_heard {
            peer.stream_head();
            may_end.store(true, Ordering::Relaxed);
            assert_eq!(heard(&mut peer), ["error"]);
        } else {
            assert!(peer.is_silent_for(Duration::from_millis(200)));
            may_end.store(true, Ordering::Relaxed);
            assert_eq!(text(&peer.answer().json()), "done");
        }
    }
}

#[test]
fn a_child_is_told_by_a_line_like_any_other_and_a_modern_server_in_each_call() {
    let program = crate::process::conformance_program();
    let child = |name: &str, era: &str| {
        let args = format!("[\"--stdio\", \"--cores\", \"1\", \"--era\", \"{era}\"]");
        format!("[servers.{name}]\nkind = \"stdio\"\ncommand = \"{}\"\nargs = {args}\n", program.display())
    };
    let gateway = Server::configured(&(child("old", "legacy") + &child("new", "modern")));
    for path in ["/mcp/old", "/mcp/new"] {
        reached(&gateway, path);
        for core in 0..2 {
            let mut message = modern(1, "tools/call", json!({"name": "test_logging_tool", "arguments": {}}));
            let answer = gateway.connect_on(core).ask(&Request::modern(&message).target(path)).json();
            assert_eq!(text(&answer), "Logging tool completed", "{path}");
            message["params"]["_meta"][LEVEL] = "info".into();
            let mut peer = gateway.connect_on(core);
            peer.open(&Request::modern(&message).target(path));
            let messages = peer.rest();
            assert_eq!(messages[0]["params"]["data"], "logLevel was requested", "{path}: {messages:?}");
            assert_eq!(messages.len(), 2);
        }
    }
}
