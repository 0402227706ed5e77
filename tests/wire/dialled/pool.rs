//! Several connections under one name.

use std::time::Duration;

use serde_json::{Value, json};

use super::dialler::{Dialler, Era, Link, Wire, dial};
use super::{Hall, KEY, call};
use crate::asked;
use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::until;
use crate::request::{Request, legacy, text};

/// Two of them, one by each wire, that both take calls.
fn two(hall: &Hall, era: Era) -> [Dialler; 2] {
    let one = dial(hall.address(), Wire::Lines, era, "one");
    reached(&hall.gateway, "/mcp/w");
    let other = dial(hall.address(), Wire::WebSocket, era, "other");
    hall.until_there(2);
    until("calls go to both", || {
        let said = [0, 1].map(|core| text(&hall.ask(core, "/mcp/w", &call("who"))).to_owned());
        (said[0] != said[1]).then_some(())
    });
    [one, other]
}

#[test]
fn calls_that_come_one_at_a_time_go_to_each_in_turn() {
    for era in [Era::Legacy, Era::Modern] {
        let hall = Hall::new("", "");
        let [one, other] = two(&hall, era);
        let before = (one.asked("who"), other.asked("who"));
        for call_number in 0..20 {
            assert!(hall.ask(call_number % 2, "/mcp/w", &call("who"))["result"].is_object());
        }
        let taken = (one.asked("who") - before.0, other.asked("who") - before.1);
        // A list that is read meanwhile has a turn as well.
        assert!(taken.0 + taken.1 == 20 && taken.0.abs_diff(taken.1) <= 4, "{era:?}: {taken:?}");
    }
}

#[test]
fn of_a_pool_one_that_dies_takes_only_its_own_calls() {
    for era in [Era::Legacy, Era::Modern] {
        let hall = Hall::new("", "");
        let [one, other] = two(&hall, era);
        let before = (one.asked("wait"), other.asked("wait"));
        let mut peers: Vec<_> = (0..4).map(|number| hall.gateway.connect_on(number % 2)).collect();
        for (count, peer) in (1..).zip(&mut peers) {
            peer.send(Request::modern(&call("wait")).target("/mcp/w").bytes());
            hall.gateway.until_total("corelane_server_calls_in_flight", count);
        }
        until("each has two", || {
            ((one.asked("wait"), other.asked("wait")) == (before.0 + 2, before.1 + 2)).then_some(())
        });
        let lost_before = hall.gateway.total("corelane_server_lost_total");
        one.kill();
        hall.until_there(1);
        other.release();
        let answers: Vec<_> = peers.iter_mut().map(|peer| peer.answer()).collect();
        let lost: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
        assert_eq!(lost.len(), 2, "{era:?}: {answers:?}");
        for answer in lost {
            assert_eq!((answer.status, answer.code()), (502, -31502), "{era:?}: {}", answer.text());
            assert!(answer.text().contains("server w"), "{era:?}: {}", answer.text());
        }
        for answer in answers.iter().filter(|answer| answer.status == 200) {
            assert_eq!(text(&answer.json()), "waited other", "{era:?}");
        }
        for core in 0..2 {
            assert_eq!(text(&hall.ask(core, "/mcp/w", &call("who"))), "other", "{era:?}: the other goes on");
            assert!(hall.tools(core).contains(&"w_who".to_owned()), "{era:?}: and so do its tools");
        }
        assert_eq!(hall.gateway.total("corelane_server_lost_total"), lost_before, "{era:?}: the server was not");
    }
}

#[test]
fn people_may_take_longer_than_tools_that_dialled_in() {
    let hall = Hall::new("timeout_ms = 1000", "");
    let _server = dial(hall.address(), Wire::Lines, Era::Legacy, "w");
    reached(&hall.gateway, "/mcp/w");
    let told = asked::told_late(&hall.gateway, "/mcp/w", Duration::from_millis(2500));
    assert_eq!(told, ["w was told Ada", "w was told Ada"]);
}

#[test]
fn questions_and_answers_stay_on_their_connection() {
    let hall = Hall::new("", "");
    let [one, other] = two(&hall, Era::Legacy);
    let mut callers: Vec<_> = (0..2)
        .map(|core| {
            let mut peer = hall.gateway.connect_on(core);
            let session = open_at(&mut peer, "2025-11-25", "/mcp/w");
            let ask = legacy(5, "tools/call", json!({"name": "ask", "arguments": {}}));
            peer.open(&Request::legacy(&session, &ask).target("/mcp/w"));
            let question = peer.event().expect("a question").json();
            assert_eq!(question["method"], "elicitation/create");
            (peer, session, question)
        })
        .collect();
    assert_eq!((one.asked("ask"), other.asked("ask")), (1, 1));
    for (core, (peer, session, question)) in callers.iter_mut().enumerate() {
        let content = json!({"name": format!("caller {core}")});
        let result = json!({"action": "accept", "content": content});
        let answer: Value = json!({"jsonrpc": "2.0", "id": question["id"], "result": result});
        let told = hall.gateway.connect_on(core).ask(&Request::legacy(session, &answer).target("/mcp/w"));
        assert_eq!(told.status, 202);
        let asked_by = question["params"]["message"].as_str().expect("its tag");
        let said = peer.event().expect("a result").json();
        assert_eq!(text(&said), format!("{asked_by} was told caller {core}"));
    }
}

#[test]
fn a_caller_that_leaves_is_told_to_the_connection_that_works_for_it() {
    let hall = Hall::new("", "");
    let [one, other] = two(&hall, Era::Legacy);
    let cancelled = |server: &Dialler| server.sent("notifications/cancelled");
    let before = (cancelled(&one), cancelled(&other), one.asked("wait"));
    let mut peer = hall.gateway.connect_on(1);
    peer.send(Request::modern(&call("wait")).target("/mcp/w").bytes());
    hall.gateway.until_total("corelane_server_calls_in_flight", 1);
    until("one of them has it", || (one.asked("wait") + other.asked("wait") > 0).then_some(()));
    drop(peer);
    hall.gateway.until_total("corelane_server_calls_in_flight", 0);
    until("it is told", || (cancelled(&one) + cancelled(&other) == before.0 + before.1 + 1).then_some(()));
    let is_at_one = one.asked("wait") > before.2;
    assert_eq!(cancelled(&one) > before.0, is_at_one, "the one that was asked, and no other");
}

#[test]
fn all_of_a_name_speak_one_era() {
    let hall = Hall::new("", "");
    let one = dial(hall.address(), Wire::Lines, Era::Legacy, "one");
    reached(&hall.gateway, "/mcp/w");
    let other = dial(hall.address(), Wire::WebSocket, Era::Modern, "other");
    assert_eq!(other.farewell(), None, "it is let go");
    hall.until_there(1);
    assert_eq!(text(&hall.ask(0, "/mcp/w", &call("who"))), "one");
    one.kill();
    hall.until_there(0);
    let other = dial(hall.address(), Wire::WebSocket, Era::Modern, "other");
    until("alone it may", || hall.ask(1, "/mcp/w", &call("who"))["result"].is_object().then_some(()));
    let one = dial(hall.address(), Wire::Lines, Era::Legacy, "one");
    assert_eq!(one.farewell(), None, "and now it is the other way round");
    other.kill();
    hall.until_there(0);
    for era in [Era::Legacy, Era::Modern] {
        let unheard = dial(hall.address(), Wire::Lines, Era::Unheard, "unheard");
        assert_eq!(unheard.farewell(), None, "what nobody speaks does not do alone");
        let known = dial(hall.address(), Wire::Lines, era, "known");
        until("it is there", || hall.ask(1, "/mcp/w", &call("who"))["result"].is_object().then_some(()));
        let unheard = dial(hall.address(), Wire::Lines, Era::Unheard, "unheard");
        assert_eq!(unheard.farewell(), None, "nor beside {era:?}");
        assert_eq!(text(&hall.ask(0, "/mcp/w", &call("who"))), "known");
        known.kill();
        hall.until_there(0);
    }
}

#[test]
fn a_limit_of_calls_holds_for_all_connections_together() {
    let hall = Hall::new("concurrency = 1", "");
    let one = dial(hall.address(), Wire::Lines, Era::Legacy, "one");
    reached(&hall.gateway, "/mcp/w");
    let other = dial(hall.address(), Wire::Lines, Era::Legacy, "other");
    hall.until_there(2);
    let mut first = hall.gateway.connect_on(0);
    first.send(Request::modern(&call("wait")).target("/mcp/w").bytes());
    hall.gateway.until_total("corelane_server_calls_in_flight", 1);
    let mut second = hall.gateway.connect_on(1);
    second.send(Request::modern(&call("who")).target("/mcp/w").bytes());
    hall.gateway.until_total("corelane_server_calls_waiting", 1);
    assert_eq!(one.asked("who") + other.asked("who"), 0);
    one.release();
    other.release();
    assert!(text(&first.answer().json()).starts_with("waited"));
    assert_eq!(second.answer().status, 200);
}

#[test]
fn one_that_goes_while_it_is_asked_what_it_speaks_costs_nobody_else() {
    let hall = Hall::new("", "");
    let mut first = Link::connect(hall.address(), Wire::Lines);
    assert!(first.present("w", KEY).expect("an answer")["result"].is_object());
    let asked = first.read().expect("it is asked");
    assert_eq!(asked["method"], "server/discover");
    let second = dial(hall.address(), Wire::Lines, Era::Legacy, "second");
    first.write(&json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}}));
    assert_eq!(first.read().expect("it is asked again")["method"], "initialize");
    drop(first);
    until("the other serves", || hall.ask(1, "/mcp/w", &call("who"))["result"].is_object().then_some(()));
    assert_eq!(second.sent("initialize"), 1);
    hall.until_there(1);
}
