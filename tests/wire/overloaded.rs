//! A server behind the gateway that is asked for more than it gets done: who waits, who is told at once, who is next.
//!
//! Not here: the rules in virtual time (`shard::queue`), limits on connections (`limited`). Nothing is asserted of how
//! long anything took: only who was answered how, in which order, and how often.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{Answer, Peer};
use crate::process::{Server, until};
use crate::request::{Request, modern};
use crate::upstream::{Heard, Reply, Upstream};

/// A server with some permits, each of which is held for as long as a call takes: 10 ms, or for `slow` 200, or for
/// `hold` until it is let go.
#[derive(Clone, Default)]
struct Permits {
    taken: Arc<Mutex<usize>>,
    freed: Arc<Condvar>,
    most: Arc<AtomicUsize>,
    is_let_go: Arc<AtomicBool>,
}

impl Permits {
    fn serve(&self, heard: &Heard, permits: usize) -> Reply {
        if heard.method() != "tools/call" {
            return Reply::Usual;
        }
        let mut taken = self.taken.lock().expect("nobody panics with it");
        while *taken >= permits {
            taken = self.freed.wait(taken).expect("nobody panics with it");
        }
        *taken += 1;
        self.most.fetch_max(*taken, SeqCst);
        drop(taken);
        match heard.params()["name"].as_str() {
            Some("hold") => until("it is let go", || self.is_let_go.load(SeqCst).then_some(())),
            Some("slow") => std::thread::sleep(Duration::from_millis(200)),
            _ => std::thread::sleep(Duration::from_millis(10)),
        }
        *self.taken.lock().expect("nobody panics with it") -= 1;
        self.freed.notify_one();
        Reply::Usual
    }

    /// A server with so many, and a gateway before it that keeps to them.
    fn behind(&self, permits: usize, more: &str) -> (Upstream, Server) {
        let one = self.clone();
        let upstream = Upstream::start("modern", json!({"tools": {}}), move |heard| one.serve(heard, permits + 5));
        let gateway = upstream.gateway(&format!("concurrency = {permits}\n{more}"));
        (upstream, gateway)
    }
}

fn request(message: &Value) -> Request {
    Request::modern(message).target("/mcp/s")
}

fn call(name: &str, number: usize) -> Value {
    modern(number, "tools/call", json!({"name": name, "arguments": {"n": number}}))
}

/// A connection on which this was asked and not read.
fn asking(gateway: &Server, message: &Value) -> Peer {
    let mut peer = gateway.connect();
    peer.send(request(message).bytes());
    peer
}

/// The same, once it waits as the last of so many.
fn waiting(gateway: &Server, message: &Value, count: u64) -> Peer {
    let peer = asking(gateway, message);
    gateway.until_total("corelane_server_calls_waiting{server=\"s\"}", count);
    peer
}

/// The numbers of the calls of a tool that reached the server, in order.
fn numbers(upstream: &Upstream, name: &str) -> Vec<u64> {
    let calls = upstream.heard("tools/call").into_iter().filter(|one| one.params()["name"] == name);
    calls.map(|one| one.params()["arguments"]["n"].as_u64().expect("a number")).collect()
}

fn unserved(gateway: &Server, cause: &str) -> u64 {
    gateway.total(&format!("corelane_server_calls_unserved_total{{server=\"s\",cause=\"{cause}\"}}"))
}

/// Why a call was refused; that says so, and when to come back.
fn reason(answer: &Answer) -> String {
    let error = &answer.json()["error"];
    assert_eq!((answer.status, &error["code"]), (503, &json!(-31503)), "{error}");
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|ms| (1000..=30_000).contains(&ms)), "{error}");
    assert!(answer.field("Retry-After").is_some(), "{answer:?}");
    error["data"]["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn ten_times_what_a_server_gets_done_is_answered_once_each() {
    const CALLS: usize = 400;
    let permits = Permits::default();
    let (upstream, gateway) = permits.behind(5, "");
    let serves = |number: usize| assert_eq!(gateway.connect().ask(&request(&call("t", number))).status, 200);
    // From these it learns how long calls take.
    (0..10).for_each(serves);
    let mut peers: Vec<Peer> = (0..CALLS).map(|_| gateway.connect()).collect();
    for (number, peer) in (100..).zip(&mut peers) {
        peer.send(request(&call("t", number)).bytes());
        std::thread::sleep(Duration::from_micros(200));
    }
    let answers: Vec<Answer> = peers.iter_mut().map(Peer::answer).collect();
    let served: BTreeSet<u64> = (100..).zip(&answers).filter(|(_, one)| one.status == 200).map(|(n, _)| n).collect();
    let mut reasons: Vec<String> = answers.iter().filter(|one| one.status != 200).map(reason).collect();
    assert_eq!(served.len() + reasons.len(), CALLS, "refused and admitted are all that were offered");
    assert!(!reasons.is_empty() && served.len() >= 5, "{} served, {} refused", served.len(), reasons.len());
    let heard: Vec<u64> = numbers(&upstream, "t").into_iter().filter(|number| *number >= 100).collect();
    assert_eq!(heard.iter().copied().collect::<BTreeSet<_>>(), served, "what was refused never reached it");
    assert_eq!(heard.len(), served.len(), "and the rest did once");
    assert!(permits.most.load(SeqCst) <= 5, "never more than its permits");
    reasons.sort_unstable();
    reasons.dedup();
    let counted: u64 = reasons.iter().map(|cause| unserved(&gateway, cause)).sum();
    assert_eq!(counted, (CALLS - served.len()) as u64, "each is counted by its cause: {reasons:?}");
    // And then it is as it was.
    (10..60).for_each(serves);
    gateway.until_total("corelane_server_calls_waiting{server=\"s\"}", 0);
    gateway.until_total("corelane_server_calls_in_flight{server=\"s\"}", 0);
}

#[test]
fn one_too_many_is_told_at_once_and_then_the_newest_goes_first() {
    let permits = Permits::default();
    let (upstream, gateway) = permits.behind(1, "");
    assert_eq!(gateway.connect().ask(&request(&call("slow", 1))).status, 200);
    let mut held = asking(&gateway, &call("hold", 2));
    until("it is at work", || (numbers(&upstream, "hold") == [2]).then_some(()));
    // An interval is twenty calls here, the one that is under way not counted.
    let mut peers: Vec<Peer> = (0..20).map(|at| waiting(&gateway, &call("t", 100 + at), at as u64 + 1)).collect();
    assert_eq!(gateway.total("corelane_server_overloaded{server=\"s\"}"), 0);
    for number in [200, 201] {
        let refused = gateway.connect().ask(&request(&call("t", number)));
        assert_eq!(reason(&refused), "queue_delay", "nothing has moved, and it is told all the same");
    }
    assert_eq!(gateway.total("corelane_server_overloaded{server=\"s\"}"), 1);
    // Whoever goes leaves the place to others.
    peers.drain(..15);
    gateway.until_total("corelane_server_calls_waiting{server=\"s\"}", 5);
    permits.is_let_go.store(true, SeqCst);
    assert!(peers.iter_mut().chain([&mut held]).all(|peer| peer.answer().status == 200));
    assert_eq!(numbers(&upstream, "t"), [119, 118, 117, 116, 115], "the newest first, and nobody who had gone");
    assert_eq!(unserved(&gateway, "queue_delay"), 2);
    // Whoever finds a place says that it is over.
    until("it is well again", || {
        assert_eq!(gateway.connect().ask(&request(&call("t", 300))).status, 200);
        (gateway.total("corelane_server_overloaded{server=\"s\"}") == 0).then_some(())
    });
}

#[test]
fn lists_are_shed_before_calls_and_calls_before_answers() {
    let permits = Permits::default();
    let (upstream, gateway) = permits.behind(1, "queue_calls = 4");
    let mut held = asking(&gateway, &call("hold", 1));
    until("it is at work", || (numbers(&upstream, "hold") == [1]).then_some(()));
    let list = modern(7, "tools/list", json!({}));
    let mut lists: Vec<Peer> = (1..=4).map(|count| waiting(&gateway, &list, count)).collect();
    assert_eq!(reason(&gateway.connect().ask(&request(&list))), "queue_calls", "as many wait as may");
    // Each call takes the place of a list, the one that came last first.
    let mut calls = Vec::new();
    for number in 10..13 {
        calls.push(asking(&gateway, &call("t", number)));
        assert_eq!(reason(&lists.pop().expect("one more").answer()), "displaced");
    }
    // An answer to what was asked in the midst of a call takes that of the last list, and then of a call.
    let mut answer = call("t", 20);
    answer["params"]["requestState"] = "of the server's own".into();
    let mut answers = vec![asking(&gateway, &answer)];
    assert_eq!(reason(&lists.pop().expect("the last").answer()), "displaced");
    answer["params"]["arguments"]["n"] = 21.into();
    answers.push(asking(&gateway, &answer));
    assert_eq!(reason(&calls.pop().expect("the newest").answer()), "displaced");
    assert_eq!(reason(&gateway.connect().ask(&request(&call("t", 30)))), "queue_calls", "none is worse than a call");
    permits.is_let_go.store(true, SeqCst);
    assert!(calls.iter_mut().chain(&mut answers).chain([&mut held]).all(|peer| peer.answer().status == 200));
    assert_eq!(numbers(&upstream, "t"), [20, 21, 10, 11], "the best class first, and in it who came first");
    assert_eq!((unserved(&gateway, "displaced"), unserved(&gateway, "queue_calls")), (5, 2));
    let row = crate::limited::shown(&gateway, "calls waiting for server s");
    assert_eq!(
        (&row["key"], &row["most"], &row["now"]),
        (&json!("servers.s.queue_calls"), &json!(4), &json!(0)),
        "{row}"
    );
    assert_eq!((&row["refused"], &row["cause"]), (&json!(7), &json!("displaced")), "{row}");
    assert_eq!(row["causes"], json!({"displaced": 5, "queue_calls": 2}));
    let told = crate::limited::told(&gateway);
    assert!(told.lines().any(|line| line.starts_with("servers.s.queue_calls ")), "{told}");
}

#[test]
fn who_has_no_time_left_is_told_and_never_sent() {
    let permits = Permits::default();
    let (upstream, gateway) = permits.behind(1, "");
    let mut held = asking(&gateway, &call("hold", 1));
    until("it is at work", || (numbers(&upstream, "hold") == [1]).then_some(()));
    let late = gateway.connect().ask(&request(&call("t", 2)).with("X-Request-Timeout-Ms", "50"));
    assert_eq!((late.status, late.code()), (504, -31504));
    gateway.until_total("corelane_server_calls_waiting{server=\"s\"}", 0);
    permits.is_let_go.store(true, SeqCst);
    assert_eq!(held.answer().status, 200);
    assert_eq!(gateway.connect().ask(&request(&call("t", 3))).status, 200);
    assert_eq!(numbers(&upstream, "t"), [3]);
}
