//! Streams of legacy sessions: priming, replay after a connection is lost, one GET stream, nothing to strangers.

use serde_json::{Value, json};

use crate::legacy::open;
use crate::peer::{Event, Peer};
use crate::process::Server;
use crate::request::{Request, legacy, modern, notice, sleep, text, told_sleep};

fn resume(session: &str, last: &str) -> Request {
    Request::stream(session).with("Last-Event-ID", last)
}

/// How far the progress notifications among the events count, and the result if it is there.
fn read(events: &[Event]) -> (Vec<u64>, Option<String>) {
    let messages: Vec<Value> = events.iter().map(Event::json).collect();
    let steps = messages.iter().filter_map(|message| message["params"]["progress"].as_f64()).map(|step| step as u64);
    let result = messages.iter().find(|message| message.get("result").is_some());
    (steps.collect(), result.map(|message| text(message).to_owned()))
}

#[test]
fn only_the_newest_revision_is_primed() {
    let server = Server::start();
    for core in 0..2 {
        for (version, primes) in [("2025-03-26", false), ("2025-06-18", false), ("2025-11-25", true)] {
            let session = open(&mut server.connect_on(0), version);
            let mut peer = server.connect_on(core);
            peer.open(&Request::legacy(&session, &legacy(1, "tools/call", told_sleep(20, 2, "t"))));
            if primes {
                peer.primed();
            }
            let events: Vec<_> = std::iter::from_fn(|| peer.block()).collect();
            assert!(events.iter().all(|event| event.id.is_some()), "every event can be resumed behind");
            assert_eq!(read(&events).1.as_deref(), Some("slept 20 ms"));
            let mut stream = server.connect_on(core);
            stream.open(&Request::stream(&session));
            if primes {
                stream.primed();
            }
            assert!(stream.is_silent_for(std::time::Duration::from_millis(20)), "{version}");
        }
    }
}

#[test]
fn a_call_that_is_silent_for_long_becomes_a_stream_that_can_be_come_back_to() {
    let server = Server::with(&[("STREAMS_KEEP_ALIVE_MS", "1000")]);
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let called = [0, 1].map(|core| {
        let mut peer = server.connect_on(core);
        peer.send(Request::legacy(&session, &legacy(10 + core as u64, "tools/call", sleep(1500))).bytes());
        peer
    });
    for mut peer in called {
        peer.stream_head();
        peer.primed();
        let events: Vec<_> = std::iter::from_fn(|| peer.event()).collect();
        assert_eq!(read(&events).1.as_deref(), Some("slept 1500 ms"));
        assert!(events.iter().all(|event| event.id.is_some()), "every event can be resumed behind");
    }
}

#[test]
fn a_lost_connection_loses_nothing() {
    let server = Server::start();
    for version in ["2025-03-26", "2025-11-25"] {
        for (home, called_on, resumed_on) in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)] {
            let session = open(&mut server.connect_on(home), version);
            let mut peer = server.connect_on(called_on);
            peer.open(&Request::legacy(&session, &legacy(1, "tools/call", told_sleep(200, 10, "t"))));
            let mut events = vec![peer.event().unwrap(), peer.event().unwrap()];
            let last = events[1].id.clone().unwrap();
            drop(peer);
            let mut peer = server.connect_on(resumed_on);
            peer.open(&resume(&session, &last));
            events.extend(std::iter::from_fn(|| peer.event()));
            let place = format!("{version}, session on {home}, called on {called_on}, resumed on {resumed_on}");
            assert_eq!(read(&events), ((0..=10).collect(), Some("slept 200 ms".to_owned())), "{place}");
            let mut ids: Vec<_> = events.iter().map(|event| event.id.clone().unwrap()).collect();
            ids.dedup();
            assert_eq!(ids.len(), events.len(), "ids are unique");
            // Once more: the stream is over, but what was on it is still known.
            assert_eq!(peer.open(&resume(&session, &last)).status, 200);
            let again: Vec<_> = std::iter::from_fn(|| peer.event()).collect();
            assert_eq!(again, events[2..], "{place}");
            assert_eq!(server.total("corelane_calls_in_flight"), 0);
        }
    }
}

#[test]
fn the_outcome_waits_for_a_client_that_comes_back_late() {
    let server = Server::start();
    for core in 0..2 {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(core);
        peer.open(&Request::legacy(&session, &legacy(7, "tools/call", told_sleep(60, 2, "t"))));
        let primed = peer.primed();
        drop(peer);
        server.until_total("corelane_calls_in_flight", 0);
        let mut peer = server.connect_on(1 - core);
        peer.open(&resume(&session, &primed));
        let events: Vec<_> = std::iter::from_fn(|| peer.event()).collect();
        assert_eq!(read(&events), (vec![0, 1, 2], Some("slept 60 ms".to_owned())));
    }
}

#[test]
fn a_stream_is_resumed_alone() {
    let server = Server::start();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let stranger = open(&mut server.connect_on(0), "2025-11-25");
    let call = |session: &str, core: usize, ms: u64, token: &str| -> (String, Vec<Event>) {
        let mut peer = server.connect_on(core);
        peer.open(&Request::legacy(session, &legacy(token, "tools/call", told_sleep(ms, 1, token))));
        let primed = peer.primed();
        (primed, std::iter::from_fn(|| peer.event()).collect())
    };
    let (one, of_one) = call(&session, 0, 10, "one");
    let (two, of_two) = call(&session, 1, 11, "two");
    let (_, of_stranger) = call(&stranger, 0, 12, "stranger");
    // One more that is still open: whoever resumes another neither takes it over nor hears of it.
    let mut open_call = server.connect_on(0);
    open_call.open(&Request::legacy(&session, &legacy("open", "tools/call", told_sleep(2_000, 1, "open"))));
    open_call.primed();
    assert_eq!(open_call.event().expect("progress").json()["params"]["progressToken"], "open");
    let mut peer = server.connect_on(1);
    for (primed, events) in [(&one, &of_one), (&two, &of_two)] {
        peer.open(&resume(&session, primed));
        assert_eq!(&std::iter::from_fn(|| peer.event()).collect::<Vec<_>>(), events);
        // The ids are not secret, and mean a stream of the session that is named: never one of somebody else's.
        let request = resume(&stranger, primed);
        peer.send(request.bytes());
        let head = peer.head();
        if head.status == 200 {
            drop(std::mem::replace(&mut peer, server.connect_on(1)));
            let mut peer = server.connect_on(0);
            peer.open(&request);
            assert_eq!(std::iter::from_fn(|| peer.event()).collect::<Vec<_>>(), of_stranger);
        } else {
            assert_eq!(head.status, 400);
            drop(std::mem::replace(&mut peer, server.connect_on(1)));
        }
    }
    assert_eq!(text(open_call.rest().last().expect("a result")), "slept 2000 ms");
    for core in 0..2 {
        let mut peer = server.connect_on(core);
        // The numbers of a stream that there is, in other words.
        let (zero_before, zero_behind) = (format!("0{two}"), format!("{two}0"));
        for last in ["", "x", "999-1", "0-0", "-1-1", "1", "4294967296-0", "1-1-1", &zero_before, &zero_behind] {
            assert_eq!(peer.ask(&resume(&session, last)).status, 400, "{last:?}");
        }
    }
}

#[test]
fn the_newest_get_stream_takes_over() {
    let server = Server::conformance();
    let session = open(&mut server.connect_on(0), "2025-11-25");
    let change = modern(1, "tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}}));
    let mut before: Option<Peer> = None;
    for (stream_on, changed_on) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let mut peer = server.connect_on(stream_on);
        peer.open(&Request::stream(&session));
        if let Some(mut before) = before {
            assert_eq!(before.event(), None, "it ends, and its client is not told 409");
        }
        assert_eq!(server.connect_on(changed_on).ask(&Request::modern(&change)).status, 200);
        assert_eq!(peer.event().unwrap().json()["method"], "notifications/tools/list_changed");
        before = Some(peer);
    }
    server.until_total("corelane_streams_open", 1);
    drop(before);
    server.until_total("corelane_streams_open", 0);
}

#[test]
fn what_is_said_between_loss_and_return_is_kept() {
    let server = Server::conformance();
    let change = modern(1, "tools/call", json!({"name": "test_trigger_tool_change", "arguments": {}}));
    for (lost_on, back_on) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(lost_on);
        peer.open(&Request::stream(&session));
        let primed = peer.primed();
        drop(peer);
        server.until_total("corelane_streams_open", 0);
        for _ in 0..3 {
            assert_eq!(server.connect_on(1).ask(&Request::modern(&change)).status, 200);
        }
        let mut peer = server.connect_on(back_on);
        peer.open(&resume(&session, &primed));
        let events: Vec<_> = (0..3).map(|_| peer.event().expect("kept")).collect();
        assert!(events.iter().all(|event| event.json()["method"] == "notifications/tools/list_changed"), "{events:?}");
        // Half of it was heard: only the other half comes again, and then what is new.
        drop(peer);
        let mut peer = server.connect_on(back_on);
        peer.open(&resume(&session, events[1].id.as_ref().expect("an id")));
        assert_eq!(peer.event().as_ref(), Some(&events[2]));
        assert_eq!(server.connect_on(0).ask(&Request::modern(&change)).status, 200);
        assert_ne!(peer.event().expect("the stream goes on").id, events[2].id);
        drop(peer);
        server.until_total("corelane_streams_open", 0);
    }
}

#[test]
fn a_cancelled_call_is_heard_of_no_more() {
    let server = Server::start();
    for (called_on, cancelled_on) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let session = open(&mut server.connect_on(0), "2025-11-25");
        let stranger = open(&mut server.connect_on(0), "2025-11-25");
        let mut peer = server.connect_on(called_on);
        peer.send(Request::legacy(&session, &legacy("x", "tools/call", sleep(60_000))).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        let cancel = notice("notifications/cancelled", json!({"requestId": "x"}));
        let mut other = server.connect_on(cancelled_on);
        // Not by somebody else's session, and not by another id.
        assert_eq!(other.ask(&Request::legacy(&stranger, &cancel)).status, 202);
        let not_this = notice("notifications/cancelled", json!({"requestId": "y"}));
        assert_eq!(other.ask(&Request::legacy(&session, &not_this)).status, 202);
        assert_eq!(other.ask(&Request::legacy(&session, &legacy(1, "ping", json!({})))).status, 200);
        assert_eq!(server.total("corelane_calls_in_flight"), 1);
        assert_eq!(other.ask(&Request::legacy(&session, &cancel)).status, 202);
        peer.stream_head();
        assert_eq!(peer.rest(), Vec::<Value>::new());
        server.until_total("corelane_calls_in_flight", 0);
        assert_eq!(peer.ask(&Request::legacy(&session, &legacy(1, "ping", json!({})))).status, 200);
    }
}
