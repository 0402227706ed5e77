//! Unix sockets: one core accepts, all cores serve.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::process::{PATIENCE, Server};
use crate::request::{initialize, modern, text};

struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(path: &Path) -> Client {
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Client(BufReader::new(stream))
    }

    fn ask(&mut self, message: &Value) -> Value {
        writeln!(self.0.get_mut(), "{message}").expect("somebody reads");
        let mut line = String::new();
        self.0.read_line(&mut line).expect("an answer in time");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    fn adds_up(&mut self) {
        let call = modern(1, "tools/call", json!({"name": "add", "arguments": {"a": 2, "b": 3}}));
        let answer = self.ask(&call);
        assert_eq!(text(&answer), "5", "{answer}");
    }
}

#[test]
fn the_connections_of_a_unix_socket_are_dealt_out_to_all_cores() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcp.sock");
    let server = Server::on(3, &[("SERVE_UNIX", path.to_str().expect("UTF-8"))]);
    let mut clients: Vec<Client> = (0..12).map(|_| Client::connect(&path)).collect();
    for client in &mut clients {
        client.adds_up();
    }
    assert_eq!(server.metric("corelane_connections_accepted_total"), [4, 4, 4]);
    // A session is its connection's own, on whichever core that is.
    for client in &mut clients {
        let answer = client.ask(&initialize(1, "2025-11-25"));
        assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
        assert_eq!(client.ask(&json!({"jsonrpc": "2.0", "id": 2, "method": "ping"}))["result"], json!({}));
    }
    drop(clients);
    server.until_total("corelane_connections_open", 0);
}

#[test]
fn where_nothing_can_be_handed_over_one_core_serves_what_it_accepts() {
    for missing in ["msg-ring", "hand-over"] {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mcp.sock");
        let server = Server::on(2, &[("SERVE_UNIX", path.to_str().expect("UTF-8")), ("DISABLE", missing)]);
        let mut clients: Vec<Client> = (0..4).map(|_| Client::connect(&path)).collect();
        for client in &mut clients {
            client.adds_up();
        }
        assert_eq!(server.metric("corelane_connections_accepted_total"), [4, 0], "{missing}");
    }
}
