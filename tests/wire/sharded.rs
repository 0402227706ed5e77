//! Shards: which one a session lives in, and what is told of each.

use std::process::Command;

use corelane::ids::CoreId;
use corelane::shard::range::BoundaryTable;
use corelane::shard::seal::Sealer;
use corelane::shard::session::SessionTicket;
use serde_json::{Value, json};

use crate::legacy::open;
use crate::process::{Server, until};
use crate::request::{Request, legacy, sleep};

/// A key of our own, so that ids can be opened here.
const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

/// The shard that an id leads to.
fn shard_of(session: &str) -> usize {
    let digit = |at: usize| u8::from_str_radix(&KEY[2 * at..2 * at + 2], 16).expect("a digit");
    let sealer = Sealer::new(&std::array::from_fn(digit), [0; 12]);
    SessionTicket::open(&sealer, session.as_bytes()).expect("sealed with our key").key.shard.index()
}

#[test]
fn sessions_land_on_the_predicted_of_256_shards() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--shards", "256", "--cores", "2", "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0"]);
    let server = Server::run(command, &[("SESSIONS_TICKET_KEY", KEY)]);
    let table = BoundaryTable::new(256, 2).expect("valid");
    let mut wanted = [0; 256];
    for core in 0..2 {
        let range = table.range_of(CoreId(core as u16));
        let (mut here, mut there) = (server.connect_on(core), server.connect_on(1 - core));
        // More than the core has shards: the first ones get a second session.
        for count in 0..range.count() + 2 {
            let session = open(&mut here, "2025-11-25");
            let shard = range.first().index() + (count + 1) % range.count();
            assert_eq!(shard_of(&session), shard, "session {count} of core {core}");
            wanted[shard] += 1;
            let ping = Request::legacy(&session, &legacy(1, "ping", json!({})));
            assert_eq!((here.ask(&ping).status, there.ask(&ping).status), (200, 200));
        }
    }
    assert_eq!(server.metric("corelane_shard_sessions"), wanted);
    // The notice behind `initialize`, and a ping from each core.
    assert_eq!(server.metric("corelane_shard_messages_total"), wanted.map(|sessions| 3 * sessions));
}

fn rows(server: &Server) -> Vec<Value> {
    let answer = crate::peer::Peer::connect(server.control).ask(&Request::new("GET", "/admin/v1/shards"));
    answer.json()["shards"].as_array().expect("a list").clone()
}

#[test]
fn what_a_shard_has_to_do_is_told_everywhere() {
    let server = Server::with(&[("SESSIONS_TICKET_KEY", KEY)]);
    let mut owner = server.connect_on(1);
    let session = open(&mut owner, "2025-11-25");
    let shard = shard_of(&session);
    assert!(shard >= 8, "of 16, core 1 has the second half");
    let value = |name: &str| server.metric(&format!("corelane_shard_{name}"))[shard];
    assert_eq!((value("sessions"), value("messages_total"), value("queue_depth")), (1, 1, 0));
    assert_eq!(value("connections"), 1);
    // A second connection of the same client's.
    let mut second = server.connect_on(1);
    assert_eq!(second.ask(&Request::legacy(&session, &legacy(1, "ping", json!({})))).status, 200);
    assert_eq!((value("connections"), value("messages_total")), (2, 2));
    drop(second);
    until("it is closed", || (value("connections") == 1).then_some(()));
    // From the other core, two calls that take a while.
    let mut callers: Vec<_> = (0..2).map(|_| server.connect_on(0)).collect();
    for (id, caller) in callers.iter_mut().enumerate() {
        caller.send(Request::legacy(&session, &legacy(id, "tools/call", sleep(1500))).bytes());
    }
    until("both wait", || (value("queue_depth") == 2).then_some(()));
    let row = &rows(&server)[shard];
    assert_eq!((&row["shard"], &row["core"]), (&json!(shard), &json!(1)));
    assert_eq!((&row["sessions"], &row["messages"], &row["queue_depth"]), (&json!(1), &json!(4), &json!(2)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    let output = command.args(["shards", "--control", &server.control.to_string()]).output().expect("it runs");
    let table = String::from_utf8(output.stdout).expect("text");
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let head = cells(table.lines().nth(4).unwrap_or_default());
    let heads = ["shard", "core", "sessions", "connections", "messages", "messages_per_s", "queue_depth"];
    assert_eq!(head[..7], heads, "{table}");
    let line = cells(table.lines().nth(5 + shard).unwrap_or_default());
    assert_eq!(line[..5], [shard.to_string(), "1".into(), "1".into(), "1".into(), "4".into()]);
    assert_eq!(line[6], "2");
    for caller in &mut callers {
        assert_eq!(caller.answer().status, 200);
    }
    assert_eq!(value("queue_depth"), 0);
    // Messages a second are those of the last seconds.
    until("they are told", || {
        let ping = Request::legacy(&session, &legacy(9, "ping", json!({})));
        assert_eq!(owner.ask(&ping).status, 200);
        (rows(&server)[shard]["messages_per_s"].as_f64().expect("a number") > 0.0).then_some(())
    });
    assert!(rows(&server).iter().filter(|row| row["shard"] != shard).all(|row| row["messages_per_s"] == 0.0));
    // A call that is in flight when its session ends leaves the queue with it.
    callers[0].send(Request::legacy(&session, &legacy(1, "tools/call", sleep(5000))).bytes());
    until("it waits", || (value("queue_depth") == 1).then_some(()));
    assert_eq!(owner.ask(&Request::new("DELETE", "/mcp").with("Mcp-Session-Id", &session)).status, 204);
    assert_eq!((value("sessions"), value("queue_depth")), (0, 0));
    assert_eq!(value("connections"), 0);
    // A connection that is closed is none of the shard's any more.
    let mut last = server.connect_on(1);
    let shard = shard_of(&open(&mut last, "2025-11-25"));
    assert_eq!(server.metric("corelane_shard_connections")[shard], 1);
    drop(last);
    until("it is closed", || (server.metric("corelane_shard_connections")[shard] == 0).then_some(()));
}
