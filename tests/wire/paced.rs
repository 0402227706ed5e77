//! A connection that sends more messages than it may: slowed down by its own transport, at nobody else's cost.

use std::time::{Duration, Instant};

use crate::process::Server;
use crate::request::{Request, echo, modern, text};

const PER_SECOND: u64 = 50;
const BURST: usize = 5;

fn server() -> Server {
    Server::configured(&format!("[limits]\nmessages_per_s = {PER_SECOND}\nmessage_burst = {BURST}\n"))
}

/// The least time that so many messages take on one connection.
fn least(count: usize) -> Duration {
    Duration::from_secs_f64((count - BURST) as f64 / PER_SECOND as f64)
}

#[test]
fn lines_that_come_too_fast_are_answered_in_order_at_the_rate() {
    let server = server();
    let mut peer = server.lines();
    let started = Instant::now();
    (0..40).for_each(|id| peer.write_line(&modern(id, "tools/call", echo("x"))));
    let mut other = server.lines();
    for id in 0..40 {
        let answer = peer.read_line();
        assert_eq!((&answer["id"], text(&answer)), (&id.into(), "x"));
        if id == 4 {
            other.write_line(&modern(7, "tools/call", echo("y")));
            assert_eq!(text(&other.read_line()), "y");
        }
    }
    assert!(started.elapsed() >= least(40), "{:?}", started.elapsed());
    assert!(server.refused("rate_limited") > 0);
}

#[test]
fn a_client_of_http_that_asks_without_a_pause_is_slowed_down_and_refused_nothing() {
    let server = server();
    let mut peer = server.connect();
    let started = Instant::now();
    for id in 0..30 {
        let answer = peer.ask(&Request::modern(&modern(id, "tools/call", echo("x"))));
        assert_eq!((answer.status, text(&answer.json())), (200, "x"));
    }
    assert!(started.elapsed() >= least(30), "{:?}", started.elapsed());
    assert!(server.refused("rate_limited") > 0);
}
