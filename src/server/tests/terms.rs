//! The session that is a connection's own: what was settled holds for every call, and it lives as long as the
//! connection.

use super::rig::{INITIALIZE, PING, Rig, SECOND, WAIT};
use crate::ids::ConnectionId;
use crate::proto::mcp::{LogLevel, Version};
use crate::server::connection::Wire;
use crate::server::core::{End, Input};

const ECHO: &str = r#"{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{"name":"echo"}}"#;

fn set_level(level: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":4,"method":"logging/setLevel","params":{{"level":"{level}"}}}}"#)
}

/// A connection of lines with a session of its own.
fn open(rig: &mut Rig, version: &str) -> (usize, u32) {
    let peer = rig.connect(0, Wire::Lines);
    let answer = say(rig, peer, &INITIALIZE.replace("2025-11-25", version));
    assert!(answer.contains(version), "{answer}");
    peer
}

fn say(rig: &mut Rig, peer: (usize, u32), message: &str) -> String {
    rig.ask(peer, format!("{message}\n"))
}

#[test]
fn a_level_that_is_set_is_the_level_of_the_calls_after_it_wherever_it_stands() {
    let mut rig = Rig::new(1);
    let peer = open(&mut rig, "2025-03-26");
    let other = open(&mut rig, "2025-11-25");
    say(&mut rig, peer, ECHO);
    assert!(say(&mut rig, peer, &set_level("error")).contains("\"result\""));
    say(&mut rig, peer, ECHO);
    let answer = say(&mut rig, peer, &format!("[{},{ECHO}]", set_level("debug")));
    assert_eq!(answer.matches("\"result\"").count(), 2, "{answer}");
    say(&mut rig, peer, ECHO);
    say(&mut rig, other, ECHO);
    let (old, new) = (Version::V2025_03_26, Version::V2025_11_25);
    let heard = std::mem::take(&mut rig.cores[0].service().heard);
    let levels = [(old, LogLevel::Info), (old, LogLevel::Error), (old, LogLevel::Debug), (old, LogLevel::Debug)];
    assert_eq!(heard[..4], levels.map(|(version, level)| (version, Some(level))));
    assert_eq!(heard[4..], [(new, Some(LogLevel::Info))], "another connection has its own");
    assert!(say(&mut rig, other, &format!("[{ECHO}]")).contains("-32600"), "its revision has no batches");
}

#[test]
fn it_does_not_idle_and_ends_with_its_connection() {
    let mut rig = Rig::new(1);
    let peer = open(&mut rig, "2025-11-25");
    rig.pass(4 * 1800 * SECOND);
    assert_eq!(rig.cores[0].population().2, 1, "it is as old as its connection, however silent");
    assert!(say(&mut rig, peer, PING).contains("\"result\":{}"));
    rig.step(0, Input::Ended { id: ConnectionId { slot: peer.1, generation: 0 }, how: End::Finished });
    assert_eq!(rig.cores[0].population().2, 0);
}

#[test]
fn its_calls_are_counted_by_its_connection() {
    let mut rig = Rig::new(1);
    let peer = open(&mut rig, "2025-03-26");
    let wait = |id: u32| WAIT.replace("\"id\":3", &format!("\"id\":{id}"));
    assert_eq!(say(&mut rig, peer, &wait(10)), "");
    let batch: Vec<_> = (11..15).map(wait).collect();
    let answer = say(&mut rig, peer, &format!("[{}]", batch.join(",")));
    assert!(answer.matches("-31429").count() == 1 && answer.contains("\"id\":14"), "{answer}");
    assert!(say(&mut rig, peer, ECHO).contains("-31429"));
    rig.reply(0);
    assert!(say(&mut rig, peer, ECHO).contains("\"result\""), "there is room again");
}
