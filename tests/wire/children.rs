//! Servers that are child processes, behind the endpoint: one child for all cores, its life and its end.
//!
//! The children are corelane itself, over its standard input and output.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, below, until};
use crate::request::{Request, echo, legacy, modern, sleep, text, told_sleep};
use crate::script;
use crate::upstream::{Reply, Upstream};

/// A gateway with a child of this name; `more` are further lines of its section.
fn with_child(name: &str, more: &str) -> Server {
    let program = env!("CARGO_BIN_EXE_corelane");
    Server::configured(&format!(
        "[servers.{name}]\nkind = \"stdio\"\ncommand = \"{program}\"\nargs = [\"stdio\"]\n{more}\n"
    ))
}

/// The child itself: what was started with `stdio`.
fn child_of(gateway: &Server) -> u32 {
    let is_child = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.ends_with(b"\0stdio\0")
    };
    until("the child runs", || below(gateway.pid()).into_iter().find(is_child))
}

#[test]
fn one_child_serves_callers_of_both_eras_on_every_core() {
    for era in ["auto", "legacy", "modern"] {
        let gateway = with_child("c", &format!("era = \"{era}\""));
        reached(&gateway, "/mcp/c");
        for core in 0..2 {
            let ask =
                |path: &str, message: &Value| gateway.connect_on(core).ask(&Request::modern(message).target(path));
            assert_eq!(text(&ask("/mcp/c", &modern("a", "tools/call", echo("\u{e9}\n"))).json()), "\u{e9}\n", "{era}");
            let among_others = json!({"name": "c_echo", "arguments": {"data": "x"}});
            assert_eq!(text(&ask("/mcp", &modern(1, "tools/call", among_others)).json()), "x", "{era}");
            let listed = ask("/mcp", &modern(1, "tools/list", json!({}))).json();
            assert!(listed["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "c_echo"));
            let unknown = ask("/mcp/c", &modern(1, "tools/call", json!({"name": "nobody", "arguments": {}})));
            assert_eq!((unknown.status, unknown.code()), (200, -32602), "{era}");

            let mut peer = gateway.connect_on(core);
            let session = open_at(&mut peer, "2025-11-25", "/mcp/c");
            let answer = peer.ask(&Request::legacy(&session, &legacy(7, "tools/call", echo("y"))).target("/mcp/c"));
            assert_eq!((text(&answer.json()), &answer.json()["id"]), ("y", &json!(7)), "{era}");

            let mut peer = gateway.connect_on(core);
            peer.open(&Request::modern(&modern(1, "tools/call", told_sleep(40, 2, "mine"))).target("/mcp/c"));
            let told = peer.rest();
            let (last, before) = told.split_last().expect("an answer");
            assert!(before.len() >= 2 && before.iter().all(|one| one["params"]["progressToken"] == "mine"), "{told:?}");
            assert!(last["result"].is_object(), "{era} {core}");
        }
    }
}

#[test]
fn a_body_over_several_lines_is_one_line_to_a_child() {
    let gateway = with_child("c", "");
    reached(&gateway, "/mcp/c");
    let message = modern(1, "tools/call", echo("a b"));
    let pretty = serde_json::to_string_pretty(&message).expect("JSON");
    let request = Request::modern(&message).target("/mcp/c").body(pretty);
    assert_eq!(text(&gateway.connect().ask(&request).json()), "a b");
}

#[test]
fn a_child_that_dies_is_said_to_have_and_is_started_again() {
    let gateway = with_child("c", "");
    reached(&gateway, "/mcp/c");
    for core in 0..2 {
        let child = child_of(&gateway);
        let mut peer = gateway.connect_on(core);
        peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).target("/mcp/c").bytes());
        // The call has reached the child once a later one was answered.
        gateway.until_total("corelane_calls_in_flight", 1);
        let later =
            gateway.connect_on(core).ask(&Request::modern(&modern(2, "tools/call", echo("x"))).target("/mcp/c"));
        assert_eq!(later.status, 200);
        let killed = Command::new("kill").args(["-KILL", &child.to_string()]).status();
        assert!(killed.expect("kill(1)").success());
        let answer = peer.answer();
        assert_eq!((answer.status, answer.code()), (502, -31502), "{}", answer.text());
        assert!(answer.text().contains("signal: 9"), "{}", answer.text());
        reached(&gateway, "/mcp/c");
        assert_ne!(child_of(&gateway), child);
        let again =
            gateway.connect_on(core).ask(&Request::modern(&modern(3, "tools/call", echo("x"))).target("/mcp/c"));
        assert_eq!(text(&again.json()), "x");
    }
}

#[test]
fn a_caller_that_leaves_cancels_its_call_in_the_child() {
    let gateway = with_child("c", "concurrency = 1");
    reached(&gateway, "/mcp/c");
    for core in 0..2 {
        let mut peer = gateway.connect_on(core);
        peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).target("/mcp/c").bytes());
        gateway.until_total("corelane_calls_in_flight", 1);
        drop(peer);
        gateway.until_total("corelane_calls_in_flight", 0);
        // With room for one call, the next is served only because the first was given up.
        let next =
            gateway.connect_on(1 - core).ask(&Request::modern(&modern(2, "tools/call", echo("x"))).target("/mcp/c"));
        assert_eq!(text(&next.json()), "x");
    }
}

#[test]
fn a_program_that_cannot_be_started_is_said_to_be_so() {
    let gateway = Server::configured("[servers.c]\nkind = \"stdio\"\ncommand = \"/nowhere/at-all\"\n");
    let ask = || gateway.connect().ask(&Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/c"));
    let answer = until("it was tried", || {
        let answer = ask();
        answer.text().contains("/nowhere/at-all").then_some(answer)
    });
    assert_eq!((answer.status, answer.code()), (502, -31502), "{}", answer.text());
}

/// What is left of a gateway's children once it is gone, given time to go.
fn is_left(pids: &[u32]) -> bool {
    pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists() && !is_zombie(*pid))
}

/// A zombie whose parent is not ours is somebody else's to wait for.
fn is_zombie(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn nothing_is_left_of_a_gateway_that_ends_or_is_killed() {
    for signal in ["TERM", "KILL"] {
        let mut gateway = with_child("c", "");
        reached(&gateway, "/mcp/c");
        let pids = below(gateway.pid());
        assert!(pids.len() >= 3, "a guard, a keeper, a child: {pids:?}");
        gateway.signal(signal);
        let status = gateway.wait();
        assert_eq!(status.success(), signal == "TERM", "{status}");
        until("nothing is left", || (!is_left(&pids)).then_some(()));
    }
}

/// A limit that was chosen holds over all cores: the server counts how many calls it has at a time.
#[test]
fn a_limit_of_calls_holds_over_all_cores() {
    const CALLS: usize = 12;
    for (limit, most_wanted) in [("concurrency = 1", 1), ("concurrency = 3", 3), ("", CALLS)] {
        // Now, and the most there ever were.
        let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
        let counted = Arc::clone(&counts);
        let server = Upstream::start("modern", json!({"tools": {}}), move |heard| {
            if heard.method() == "tools/call" {
                let (now, most) = &*counted;
                most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                std::thread::sleep(Duration::from_millis(60));
                now.fetch_sub(1, SeqCst);
            }
            Reply::Usual
        });
        let gateway = server.gateway(limit);
        let mut peers: Vec<_> = (0..CALLS).map(|call| gateway.connect_on(call % 2)).collect();
        for peer in &mut peers {
            let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
            peer.send(Request::modern(&call).target("/mcp/s").bytes());
        }
        for peer in &mut peers {
            assert_eq!(peer.answer().status, 200);
        }
        let most = counts.1.load(SeqCst);
        // Without a limit they are there together, so it is the limit that keeps them apart.
        let held = if limit.is_empty() { most > 3 } else { most == most_wanted };
        assert!(held, "{limit:?}: {most} at a time");
    }
}

/// What a child starts in a session of its own is no child of its group, and goes all the same.
#[test]
fn nothing_is_left_when_the_program_is_killed_with_a_grandchild_in_a_session_of_its_own() {
    let program = "import os, subprocess, sys, time\n\
                   subprocess.Popen(['setsid', '--fork', 'sleep', '86397'], stdin=subprocess.DEVNULL, \
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n\
                   time.sleep(86397)\n";
    let gateway = Server::configured(&script::child("python3", program, ""));
    let is_asleep = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line == b"sleep\x0086397\0"
    };
    // Whoever has asked for a session of its own is below nobody of the child's any more.
    let grandchild = until("the grandchild runs", || below(gateway.pid()).into_iter().find(is_asleep));
    let all = below(gateway.pid());
    assert!(all.len() >= 4 && all.contains(&grandchild), "guard, keeper, child and grandchild: {all:?}");
    gateway.signal("KILL");
    until("nobody is left", || (!is_left(&all)).then_some(()));
}
