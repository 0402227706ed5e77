//! Servers that dial in, over TCP and by WebSocket: who is let in, the pool behind a name, and what is left when they
//! go.
//!
//! The servers are threads of the test, at the other end of a real connection.

mod dialler;
mod examples;
mod pool;
mod refusals;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern, text};
use dialler::{Era, Link, Wire, dial};

pub const KEY: &str = "0123456789abcdef-hunter2";

/// A gateway at which a server may dial in.
pub struct Hall {
    pub gateway: Server,
    folder: tempfile::TempDir,
}

impl Hall {
    /// `more` are further lines of the sections of `w` and of `[dial_in]`.
    pub fn new(more: &str, dial_in: &str) -> Hall {
        let folder = tempfile::tempdir().expect("a place for files");
        let (file, key) = (folder_path(&folder, "corelane.toml"), folder_path(&folder, "key"));
        std::fs::write(&key, format!("{KEY}\n")).expect("room for a file");
        std::fs::write(&file, configuration(&key, more, dial_in)).expect("room for a file");
        Hall { gateway: Server::by_file(&file), folder }
    }

    /// Configures it anew.
    pub fn write(&self, more: &str) {
        let (fresh, file) = (folder_path(&self.folder, "fresh"), folder_path(&self.folder, "corelane.toml"));
        std::fs::write(&fresh, configuration(&folder_path(&self.folder, "key"), more, "")).expect("room for a file");
        std::fs::rename(fresh, file).expect("the same file system");
    }

    pub fn address(&self) -> SocketAddr {
        self.gateway.dial_in
    }

    /// Waits until so many connections take part.
    pub fn until_there(&self, count: u64) {
        self.gateway.until_total("corelane_server_connections", count);
    }

    pub fn ask(&self, core: usize, path: &str, message: &Value) -> Value {
        self.gateway.connect_on(core).ask(&Request::modern(message).target(path)).json()
    }

    /// The names of the tools that a core tells of all servers.
    pub fn tools(&self, core: usize) -> Vec<String> {
        let listed = self.ask(core, "/mcp", &modern(1, "tools/list", json!({})));
        let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {listed}"));
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }
}

fn folder_path(folder: &tempfile::TempDir, name: &str) -> std::path::PathBuf {
    folder.path().join(name)
}

fn configuration(key: &Path, more: &str, dial_in: &str) -> String {
    let key = key.display();
    format!(
        "[dial_in]\nlisten = [\"127.0.0.1:0\"]\n{dial_in}\n[servers.w]\nkind = \"dial_in\"\nkey = {{ file = \"{key}\" }}\n\
         {more}\n"
    )
}

pub fn call(tool: &str) -> Value {
    modern(1, "tools/call", json!({"name": tool, "arguments": {}}))
}

#[test]
fn a_server_is_there_for_as_long_as_it_stays_by_every_wire_and_in_every_era() {
    for (wire, era) in [
        (Wire::Lines, Era::Legacy),
        (Wire::Lines, Era::Modern),
        (Wire::WebSocket, Era::Legacy),
        (Wire::WebSocket, Era::Modern),
    ] {
        let hall = Hall::new("", "");
        let place = format!("{wire:?} {era:?}");
        for core in 0..2 {
            let absent = hall.ask(core, "/mcp/w", &call("who"));
            assert_eq!(absent["error"]["code"], -31502, "{place}: {absent}");
            assert!(absent.to_string().contains("server w has not dialled in"), "{place}: {absent}");
            assert_eq!(hall.tools(core), Vec::<String>::new(), "{place}");
        }
        let server = dial(hall.address(), wire, era, "one");
        reached(&hall.gateway, "/mcp/w");
        hall.until_there(1);
        for core in 0..2 {
            assert_eq!(text(&hall.ask(core, "/mcp/w", &call("who"))), "one", "{place}");
            assert_eq!(text(&hall.ask(core, "/mcp", &call("w_who"))), "one", "{place}");
            assert!(hall.tools(core).contains(&"w_who".to_owned()), "{place}");
            let mut peer = hall.gateway.connect_on(core);
            let session = open_at(&mut peer, "2025-11-25", "/mcp/w");
            let message = legacy(7, "tools/call", json!({"name": "who", "arguments": {}}));
            let answer = peer.ask(&Request::legacy(&session, &message).target("/mcp/w"));
            assert_eq!((text(&answer.json()), &answer.json()["id"]), ("one", &json!(7)), "{place}");
        }
        let long = modern(1, "tools/call", json!({"name": "echo", "arguments": {"data": "\u{e9}\n".repeat(50_000)}}));
        assert_eq!(text(&hall.ask(0, "/mcp/w", &long)).chars().count(), 100_000, "{place}");
        server.kill();
        for core in 0..2 {
            until("it is gone", || hall.tools(core).is_empty().then_some(()));
            let absent = hall.ask(core, "/mcp/w", &call("who"));
            assert_eq!(absent["error"]["code"], -31502, "{place}: {absent}");
        }
        hall.until_there(0);
        let again = dial(hall.address(), wire, era, "two");
        until("it is back", || (hall.ask(1, "/mcp/w", &call("who"))["result"].is_object()).then_some(()));
        assert_eq!(text(&hall.ask(1, "/mcp", &call("w_who"))), "two", "{place}");
        drop(again);
    }
}

/// A stream on each core that hears of what changes from now on.
fn streams(hall: &Hall) -> Vec<Peer> {
    let stream = |core| {
        let session = open_at(&mut hall.gateway.connect_on(core), "2025-11-25", "/mcp");
        let mut stream = hall.gateway.connect_on(core);
        stream.open(&Request::stream(&session));
        stream
    };
    (0..2).map(stream).collect()
}

/// Waits until a stream says that the tools have changed.
fn told(stream: &mut Peer) {
    while stream.event().expect("the stream goes on").json()["method"] != "notifications/tools/list_changed" {}
}

#[test]
fn clients_are_told_when_its_tools_go_and_when_they_are_back() {
    let hall = Hall::new("", "");
    for round in ["first", "second"] {
        let mut coming = streams(&hall);
        let server = dial(hall.address(), Wire::Lines, Era::Legacy, round);
        coming.iter_mut().for_each(told);
        for core in 0..2 {
            until("the tool is there", || hall.tools(core).contains(&"w_who".to_owned()).then_some(()));
        }
        // These hear of nothing that was before.
        let mut going = streams(&hall);
        server.kill();
        going.iter_mut().for_each(told);
        for core in 0..2 {
            assert_eq!(hall.tools(core), Vec::<String>::new(), "who is told may ask at once");
        }
    }
}

#[test]
fn a_drain_answers_what_is_in_flight_and_takes_leave() {
    for wire in [Wire::Lines, Wire::WebSocket] {
        let mut hall = Hall::new("", "");
        let server = dial(hall.address(), wire, Era::Legacy, "one");
        reached(&hall.gateway, "/mcp/w");
        // The server is the first, so the first core speaks to it, which has no caller of its own.
        let mut peer = hall.gateway.connect_on(1);
        peer.send(Request::modern(&call("wait")).target("/mcp/w").bytes());
        server.until_asked("wait", 1);
        hall.gateway.signal("TERM");
        hall.gateway.until_said("draining");
        // An idle core would be gone within a turn.
        assert!(peer.is_silent_for(Duration::from_millis(100)), "{wire:?}: the core goes on");
        server.release();
        assert_eq!(text(&peer.answer().json()), "waited one", "{wire:?}");
        drop(peer);
        assert_eq!(hall.gateway.wait().code(), Some(0), "{wire:?}");
        assert_eq!(server.farewell(), matches!(wire, Wire::WebSocket).then_some(1001), "{wire:?}");
    }
}

#[test]
fn another_configuration_lets_its_connections_go() {
    let mut hall = Hall::new("", "");
    let first = dial(hall.address(), Wire::WebSocket, Era::Legacy, "first");
    reached(&hall.gateway, "/mcp/w");
    // A call that is in flight is answered all the same.
    let mut peer = hall.gateway.connect_on(1);
    peer.send(Request::modern(&call("wait")).target("/mcp/w").bytes());
    first.until_asked("wait", 1);
    hall.write("prefix = \"other\"\n");
    hall.gateway.until_said("changed w");
    // Its core takes the new section up a moment later, and says so until then.
    until("its core is ready", || {
        let answer = Link::connect(hall.address(), Wire::Lines).present("w", KEY).ok()?;
        answer["result"].is_object().then_some(())
    });
    let second = dial(hall.address(), Wire::Lines, Era::Legacy, "second");
    until("the new section lets it in", || hall.ask(0, "/mcp", &call("other_who")).get("result").map(drop));
    first.release();
    assert_eq!(text(&peer.answer().json()), "waited first");
    assert_eq!(first.farewell(), Some(1001));
    assert_eq!(text(&hall.ask(1, "/mcp", &call("other_who"))), "second");
    drop(second);
}
