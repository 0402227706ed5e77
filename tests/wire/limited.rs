//! Limits on connections: how many there may be, what one too many is told, and that whoever came is counted as served
//! or as refused.
//!
//! Not here: a core's own table (`http_status`), what a connection may send (`paced`, `excess`).

use std::process::Command;

use serde_json::{Value, json};

use crate::peer::{Answer, Peer};
use crate::process::{Server, until};
use crate::request::{Request, legacy};

fn ping() -> Request {
    Request::new("OPTIONS", "/mcp")
}

/// The row of a limit in what the control address shows.
pub fn shown(server: &Server, limit: &str) -> Value {
    let all = Peer::connect(server.control).ask(&Request::new("GET", "/admin/v1/limits")).json();
    let rows = all["limits"].as_array().expect("a list");
    rows.iter().find(|row| row["limit"] == limit).unwrap_or_else(|| panic!("no {limit} in {all}")).clone()
}

/// What `corelane limits` prints.
pub fn told(server: &Server) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.args(["limits", "--control", &server.control.to_string()]).output().expect("it runs");
    String::from_utf8(output.stdout).expect("text")
}

/// What a connection is told that comes now; it is kept if it is served.
fn knock(server: &Server, kept: &mut Vec<Peer>) -> Option<Answer> {
    let mut peer = server.connect();
    let answer = peer.ask(&ping());
    if answer.status == 204 {
        kept.push(peer);
        return None;
    }
    assert!(peer.ends(), "it is closed");
    Some(answer)
}

/// The refusal of a line, which is closed behind it.
fn refused_line(server: &Server) -> Value {
    let mut peer = server.lines();
    let told = peer.read_line();
    assert!(peer.ends(), "it is closed");
    told
}

fn is_refusal(error: &Value, code: i64, reason: &str) {
    assert_eq!((&error["code"], &error["data"]["reason"]), (&json!(code), &json!(reason)), "{error}");
    assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|ms| ms >= 1), "{error}");
}

#[test]
fn the_originals_first_phase_alerts_at_150_and_refuses_the_201st() {
    let mut server = Server::with(&[("PROFILE", "phase1"), ("LIMITS_ACCEPTS_PER_S", "100000")]);
    let mut served = Vec::new();
    let mut attempted = 0;
    while served.len() < 150 {
        attempted += 1;
        assert!(knock(&server, &mut served).is_none(), "the {attempted}th");
    }
    let row = shown(&server, "connections");
    assert_eq!((&row["now"], &row["soft"], &row["most"]), (&json!(150), &json!(150), &json!(200)), "{row}");
    assert_eq!((&row["beyond_soft"], &row["alerted"]), (&json!(0), &json!(false)), "{row}");
    while served.len() < 200 {
        attempted += 1;
        assert!(knock(&server, &mut served).is_none(), "the {attempted}th is beyond the soft limit only");
    }
    server.until_said("connections are beyond limits.connections_soft");
    let row = until("the alert", || Some(shown(&server, "connections")).filter(|row| row["alerted"] == true));
    assert_eq!((&row["now"], &row["beyond_soft"], &row["refused"]), (&json!(200), &json!(50), &json!(0)), "{row}");
    for _ in 0..20 {
        attempted += 1;
        let answer = knock(&server, &mut served).expect("one too many");
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
        is_refusal(&answer.json()["error"], -31503, "connections_full");
        attempted += 1;
        is_refusal(&refused_line(&server)["error"], -31503, "connections_full");
    }
    assert_eq!(server.total("corelane_connections_served"), 200);
    assert_eq!(server.total("corelane_connections_over_soft_total"), 50);
    assert_eq!(server.total("corelane_connections_accepted_total"), attempted);
    assert_eq!(served.len() as u64 + server.refused("connections_full"), attempted, "accepted and refused are all");
    assert_eq!(server.closed("refused"), server.refused("connections_full"));
    // Whoever was there never noticed, and the place of one who leaves is taken by the next, wherever it comes.
    assert!(served.iter_mut().all(|peer| peer.ask(&ping()).status == 204));
    for _ in 0..10 {
        served.truncate(199);
        server.until_total("corelane_connections_served", 199);
        assert!(knock(&server, &mut served).is_none());
    }
    let table = told(&server);
    let row = table.lines().find(|line| line.starts_with("limits.connections ")).expect("a row").split_whitespace();
    let row: Vec<_> = row.collect();
    let refused = server.refused("connections_full").to_string();
    assert_eq!(row[1..7], ["200", "150", "200", "connections", &refused, "connections_full"], "{table}");
    drop(served);
    server.until_total("corelane_connections_served", 0);
    server.until_said("within limits.connections_soft again");
    assert_eq!(server.count_said("connections are beyond"), 1, "once");
    assert_eq!(shown(&server, "connections")["alerted"], false);
}

#[test]
fn lines_of_who_is_served_are_answered_at_the_limit() {
    let server = Server::on(1, &[("LIMITS_CONNECTIONS", "1")]);
    let mut peer = server.lines();
    peer.write_line(&legacy(1, "ping", json!({})));
    assert_eq!(peer.read_line()["id"], 1);
    is_refusal(&refused_line(&server)["error"], -31503, "connections_full");
    peer.write_line(&legacy(2, "ping", json!({})));
    assert_eq!(peer.read_line()["id"], 2);
}

#[test]
fn who_comes_faster_than_they_may_is_refused_and_may_come_back() {
    let server = Server::with(&[("PROFILE", "phase1"), ("LIMITS_ACCEPTS_PER_S", "1"), ("LIMITS_ACCEPT_BURST", "100")]);
    let mut served = Vec::new();
    let refused: Vec<Answer> = (0..200).filter_map(|_| knock(&server, &mut served)).collect();
    for answer in &refused {
        assert_eq!((answer.status, answer.field("Retry-After")), (503, Some("1")));
        is_refusal(&answer.json()["error"], -31503, "accept_rate");
    }
    // A hundred, and what the seconds brought that the test took.
    assert!((90..150).contains(&served.len()), "{} served", served.len());
    assert_eq!(server.refused("accept_rate"), refused.len() as u64);
    assert_eq!(server.total("corelane_connections_accepted_total"), 200, "accepted and refused are all");
    assert_eq!(server.total("corelane_connections_served"), served.len() as u64);
    is_refusal(&refused_line(&server)["error"], -31503, "accept_rate");
    assert!(served.iter_mut().all(|peer| peer.ask(&ping()).status == 204), "who is in stays");
    let row = shown(&server, "accepts");
    assert_eq!((&row["most"], &row["cause"]), (&json!(1), &json!("accept_rate")), "{row}");
    until("the next is taken in time", || knock(&server, &mut served).is_none().then_some(()));
}

#[test]
fn one_address_has_only_so_many_connections_if_that_is_set_for_this_host() {
    let server = Server::on(1, &[("LIMITS_CONNECTIONS_PER_PEER", "1"), ("LIMITS_CONNECTIONS_PER_LOOPBACK", "3")]);
    let mut served = Vec::new();
    (0..3).for_each(|_| assert!(knock(&server, &mut served).is_none()));
    let answer = knock(&server, &mut served).expect("a fourth");
    assert_eq!((answer.status, answer.field("Retry-After")), (429, Some("1")));
    is_refusal(&answer.json()["error"], -31429, "peer_full");
    is_refusal(&refused_line(&server)["error"], -31429, "peer_full");
    assert_eq!((server.refused("peer_full"), server.total("corelane_connections_served")), (2, 3));
    assert!(served.iter_mut().all(|peer| peer.ask(&ping()).status == 204));
    served.pop();
    server.until_total("corelane_connections_served", 2);
    assert!(knock(&server, &mut served).is_none(), "there is room again");
    let row = shown(&server, "connections of an address");
    assert_eq!((&row["most"], &row["most_of_loopback"], &row["refused"]), (&json!(1), &json!(3), &json!(2)), "{row}");
    // Unless it is set, this host has no limit of its own, whatever others have.
    let server = Server::on(1, &[("LIMITS_CONNECTIONS_PER_PEER", "1")]);
    let mut served = Vec::new();
    (0..20).for_each(|_| assert!(knock(&server, &mut served).is_none()));
    assert_eq!(shown(&server, "connections of an address")["most_of_loopback"], Value::Null);
}
