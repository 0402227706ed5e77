//! What a connection of lines sees: all servers, or what its first message or the command line chose.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{echo, initialize, legacy, modern, notice, text};

fn configuration(one: &Server, other: &Server) -> String {
    let section =
        |name, server: &Server| format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n", server.http);
    section("one", one) + &section("other", other) + "[views.few]\nservers = [\"one\"]\ntools = [\"one_echo\"]\n"
}

fn attach(id: u64, view: &str) -> Value {
    legacy(id, "corelane/attach", json!({"view": view}))
}

fn asked(lines: &mut Peer, message: &Value) -> Value {
    lines.write_line(message);
    lines.read_line()
}

fn called(name: &str) -> Value {
    let mut params = echo("x");
    params["name"] = json!(name);
    modern(7, "tools/call", params)
}

#[test]
fn the_first_line_chooses_what_is_seen() {
    let (one, other) = (Server::start(), Server::start());
    let gateway = Server::configured(&configuration(&one, &other));
    for path in ["/mcp/one", "/mcp/other"] {
        reached(&gateway, path);
    }
    for (view, tool) in [("one", "echo"), ("@few", "one_echo"), ("", "other_echo")] {
        let mut lines = gateway.lines();
        assert_eq!(asked(&mut lines, &attach(1, view)), json!({"jsonrpc": "2.0", "id": 1, "result": {}}), "{view}");
        assert_eq!(text(&asked(&mut lines, &called(tool))), "x", "{view}");
        let unseen = if tool == "echo" { "one_echo" } else { "echo" };
        assert_eq!(asked(&mut lines, &called(unseen))["error"]["code"], -32602, "{view}");
    }
    // A legacy session on the connection sees the same.
    let mut lines = gateway.lines();
    asked(&mut lines, &attach(1, "one"));
    asked(&mut lines, &initialize(2, "2025-11-25"));
    lines.write_line(&notice("notifications/initialized", json!({})));
    assert_eq!(text(&asked(&mut lines, &legacy(3, "tools/call", echo("y")))), "y");

    let mut lines = gateway.lines();
    let refused = asked(&mut lines, &attach(1, "nobody"));
    assert_eq!(refused["error"]["code"], -32602);
    assert!(refused["error"]["message"].as_str().expect("words").contains("there is no view \"nobody\""), "{refused}");
    assert_eq!(text(&asked(&mut lines, &called("one_echo"))), "x", "what was refused changed nothing");
    // Later it is a method that does not exist, and one without a name is refused.
    assert_eq!(asked(&mut lines, &attach(2, "one"))["error"]["code"], -32600, "no session, no such request");
    let nameless = asked(&mut gateway.lines(), &legacy(1, "corelane/attach", json!({"view": 7})));
    assert_eq!(nameless["error"]["code"], -32602);
    // What only speaks of it is a call like any other.
    let mut lines = gateway.lines();
    let mut call = called("one_echo");
    call["params"]["arguments"]["data"] = json!("\"corelane/attach\"");
    assert_eq!(text(&asked(&mut lines, &call)), "\"corelane/attach\"");
}

#[test]
fn a_desktop_program_is_shown_what_its_command_line_says() {
    let (one, other) = (Server::start(), Server::start());
    let mut file = tempfile::NamedTempFile::new().expect("a place for files");
    file.write_all(configuration(&one, &other).as_bytes()).expect("room for a file");
    let stdio = |view: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["stdio", "--view", view, "--config"]).arg(file.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program")
    };
    let mut child = stdio("one");
    let mut input = child.stdin.take().expect("piped");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    until("the server behind it is reached", || {
        writeln!(input, "{}", called("echo")).expect("it reads");
        let mut line = String::new();
        output.read_line(&mut line).expect("it answers");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        (answer["result"].is_object() && text(&answer) == "x").then_some(())
    });
    drop(input);
    assert!(child.wait().expect("our child").success());

    let refused = stdio("nobody").wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1));
    assert!(said.contains("--view nobody: there is no such server or view; there are one, other, @few"), "{said}");
}
