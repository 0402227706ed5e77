//! The administration API and the commands that speak to it.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::process::{Server, until};
use crate::request::{Request, echo, modern};
use crate::upstream::{Reply, Upstream};

fn corelane(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORELANE_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("the program was built with this test")
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn with_socket(more: &str) -> (Server, tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a place for files");
    let path = folder.path().join("admin.sock").to_str().expect("a plain path").to_owned();
    (Server::configured(&format!("[control]\nsocket = \"{path}\"\n{more}")), folder, path)
}

#[test]
fn servers_are_shown_as_they_stand() {
    let upstream = Server::start();
    let (gateway, _folder, _) = with_socket(&format!(
        "[servers.a]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n[servers.gone]\nkind = \"http\"\nurl = \
         \"http://127.0.0.1:9/mcp?token=hunter2\"\n",
        upstream.http
    ));
    let ask = || gateway.connect().ask(&Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/a"));
    until("the server is reached", || (ask().status == 200).then_some(()));
    let control = gateway.control.to_string();
    // Its tools are listed a moment after it was reached.
    until("its tools are listed", || (gateway.total("corelane_server_tools{server=\"a\"}") >= 4).then_some(()));
    let shown = said(&corelane(&["servers", "--json", "--control", &control]));
    assert!(!shown.contains("hunter2"), "{shown}");
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let row = |name: &str| {
        let rows = shown["servers"].as_array().expect("a list");
        rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {shown}")).clone()
    };
    assert_eq!((&row("a")["state"], &row("a")["kind"]), (&json!("modern"), &json!("http")));
    assert!(row("a")["calls"].as_u64().unwrap() >= 1 && row("a")["tools"].as_u64().unwrap() >= 4);
    assert_ne!(row("gone")["state"], "modern");
    let table = said(&corelane(&["servers", "--control", &control]));
    assert!(table.lines().next().is_some_and(|head| head.starts_with("name")), "{table}");
    assert!(gateway.total("corelane_server_calls_total{server=\"a\"}") >= 1);
    let sessions = said(&corelane(&["sessions", "--control", &control]));
    assert!(sessions.contains("core 1") && sessions.contains("all"), "{sessions}");
}

#[test]
fn why_a_server_is_away_is_said_until_it_is_there() {
    let is_well = Arc::new(AtomicBool::new(false));
    let answers = Arc::clone(&is_well);
    let upstream = Upstream::start("legacy", json!({"tools": {}}), move |heard| match heard.method() {
        "initialize" if !answers.load(Ordering::Relaxed) => Reply::Error(json!({"code": -32603, "message": "not now"})),
        _ => Reply::Usual,
    });
    let (gateway, _folder, _) = with_socket(&upstream.section("ill", ""));
    let control = gateway.control.to_string();
    let why = until("it is said why", || shown(&gateway)["last_failure"].as_str().map(str::to_owned));
    assert!(why.contains("server ill") && why.contains("not now"), "{why}");
    let table = said(&corelane(&["servers", "--control", &control]));
    assert!(table.ends_with(&format!("\n\n{why}\n")), "{table}");
    is_well.store(true, Ordering::Relaxed);
    until("both cores have reached it", || {
        let shown = shown(&gateway);
        (shown["last_failure"].is_null() && shown["cores"] == json!(["legacy", "legacy"])).then_some(())
    });
}

/// What is shown of the one server behind a gateway.
fn shown(gateway: &Server) -> Value {
    let shown = said(&corelane(&["servers", "--json", "--control", &gateway.control.to_string()]));
    serde_json::from_str::<Value>(&shown).expect("JSON")["servers"][0].clone()
}

#[test]
fn a_server_that_went_away_is_not_shown_as_there() {
    let mut upstream = Server::start();
    let (gateway, _folder, _) =
        with_socket(&format!("[servers.one]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n", upstream.http));
    let call = Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/one");
    let each = || (0..2).map(|core| gateway.connect_on(core).ask(&call).status).collect::<Vec<_>>();
    until("both cores reach it", || (each() == [200, 200]).then_some(()));
    assert_eq!((&shown(&gateway)["lost"], &shown(&gateway)["last_failure"]), (&json!(0), &Value::Null));
    upstream.signal("KILL");
    upstream.wait();
    until("both cores know", || (each() == [502, 502] && shown(&gateway)["state"] == "away").then_some(()));
    let away = shown(&gateway);
    let why = away["last_failure"].as_str().expect("why");
    assert!(why.contains("server one") && why.contains("cannot be reached"), "{away}");
    assert_eq!((&away["cores"], &away["lost"]), (&json!(["away", "away"]), &json!(2)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--cores", "2", "--tcp", "127.0.0.1:0", "--listen", &upstream.http.to_string()]);
    let _again = Server::run(command, &[]);
    until("both cores reach it again", || (each() == [200, 200]).then_some(()));
    let back = shown(&gateway);
    assert_eq!((&back["cores"], &back["last_failure"]), (&json!(["modern", "modern"]), &Value::Null), "{back}");
}

#[test]
fn a_server_of_one_core_is_not_lost_by_the_others_before_it_was_reached() {
    let child = format!(
        "[servers.c]\nkind = \"stdio\"\ncommand = \"{}\"\nargs = [\"stdio\"]\n",
        env!("CARGO_BIN_EXE_corelane")
    );
    let (gateway, _folder, _) = with_socket(&child);
    until("both cores know it", || (shown(&gateway)["cores"] == json!(["modern", "modern"])).then_some(()));
    let there = shown(&gateway);
    assert_eq!((&there["lost"], &there["last_failure"]), (&json!(0), &Value::Null), "{there}");
}

#[test]
fn who_asks_for_a_list_before_a_server_was_tried_waits_for_it() {
    let folder = tempfile::tempdir().expect("a place for files");
    let file = folder.path().join("slow.toml");
    let program = env!("CARGO_BIN_EXE_corelane");
    let child = format!(
        "[servers.c]\nkind = \"stdio\"\ncommand = \"sh\"\nargs = [\"-c\", \"sleep 0.3; exec {program} stdio\"]\n"
    );
    std::fs::write(&file, child).expect("room for a file");
    let mut command = Command::new(program);
    command.arg("stdio").arg("--config").arg(&file);
    let mut stdio =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    // In the pipe before it is read.
    writeln!(stdio.stdin.take().expect("a pipe"), "{}", modern(1, "tools/list", json!({}))).expect("it is read");
    let output = stdio.wait_with_output().expect("it ends");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("one message");
    let names: Vec<&str> =
        answer["result"]["tools"].as_array().expect("a list").iter().filter_map(|tool| tool["name"].as_str()).collect();
    assert!(names.contains(&"c_echo"), "{answer}");
    assert_eq!(answer["result"]["_meta"].get("corelane/absent"), None, "{answer}");
}

#[test]
fn a_failure_that_cannot_be_told_is_still_one() {
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    for (arguments, code) in [(&["serve", "--listen", "localhost:1"][..], 2), (&["check", "--config", "/nowhere"], 1)] {
        let status =
            Command::new(env!("CARGO_BIN_EXE_corelane")).args(arguments).stderr(full()).stdout(full()).status();
        assert_eq!(status.expect("it starts").code(), Some(code), "{arguments:?}");
    }
}

#[test]
fn changes_are_taken_on_the_unix_socket_only() {
    let (gateway, _folder, path) = with_socket("");
    let control = gateway.control.to_string();
    for change in [["--reset", ""], ["--admission", "on"]] {
        let change: Vec<&str> = change.into_iter().filter(|word| !word.is_empty()).collect();
        let refused = corelane(&[&["shards", "--control", &control], &change[..]].concat());
        assert!(!refused.status.success());
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(words.contains("Unix socket"), "{words}");
        let done = said(&corelane(&[&["shards", "--socket", &path], &change[..]].concat()));
        assert!(done.contains("admission"), "{done}");
    }
    let shown = said(&corelane(&["shards", "--json", "--control", &control]));
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["contention"]["admission"], "on");
    assert_eq!(shown["contention"]["admission_closed"], true);
    until("health and metrics say so", || {
        let health = crate::peer::Peer::connect(gateway.control).ask(&Request::new("GET", "/healthz")).json();
        let closed = gateway.metric("corelane_registry_admission_closed");
        (health["admission_closed"] == true && closed.iter().all(|&closed| closed == 1)).then_some(())
    });
    assert_eq!(shown["shards"].as_array().expect("a list").len(), 16);
    assert!(
        said(&corelane(&["shards", "--socket", &path, "--admission", "auto"])).contains("registrations are let in")
    );
}

#[test]
fn a_stranger_is_not_heard_whatever_the_permissions_became() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::os::unix::process::CommandExt as _;
    let (_gateway, folder, path) = with_socket("");
    for (path, mode) in [(folder.path(), 0o755), (std::path::Path::new(&path), 0o666)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let ask = |path: &str, user: u32| {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--unix-socket", path, "http://localhost/admin/v1/shards"]);
        command.uid(user).output().expect("curl is installed")
    };
    let own = std::fs::metadata(folder.path()).expect("it is there").uid();
    assert!(said(&ask(&path, own)).contains("\"shards\""));
    if own != 0 {
        eprintln!("only its own user was tried: it takes root to be somebody else");
        return;
    }
    let stranger = ask(&path, 65_534);
    assert!(!stranger.status.success() && stranger.stdout.is_empty(), "{stranger:?}");
    // Not for want of a way to it.
    let beside = folder.path().join("beside.sock");
    let listener = std::os::unix::net::UnixListener::bind(&beside).expect("room for a file");
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o666)).expect("it is ours");
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody comes");
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("it is read");
        // Until it has been.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    assert_eq!(said(&ask(beside.to_str().expect("a plain path"), 65_534)), "ok");
    answering.join().expect("it was asked");
}

#[test]
fn a_change_names_what_it_changes() {
    use std::io::Read as _;
    let (_gateway, _folder, path) = with_socket("");
    let put = |condition: &str, word: &str| {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("it listens");
        let body = format!("{{\"admission\":\"{word}\"}}");
        write!(
            stream,
            "PUT /admin/v1/admission HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{condition}Content-Length: \
             {}\r\n\r\n{body}",
            body.len()
        )
        .expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split(' ').nth(1).expect("a status").parse::<u16>().expect("a number")
    };
    assert_eq!(put("", "on"), 428);
    assert_eq!(put("If-Match: \"off\"\r\n", "on"), 412);
    assert_eq!(put("If-Match: \"auto\"\r\n", "sometimes"), 400);
    assert_eq!(put("If-Match: \"auto\"\r\n", "off"), 200);
    assert_eq!(put("If-Match: \"auto\"\r\n", "on"), 412);
}

#[test]
fn the_socket_is_its_users_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (gateway, _folder, path) = with_socket("");
    let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(gateway);
}

#[test]
fn nobody_there_is_an_error_with_advice() {
    let output = corelane(&["servers", "--control", "127.0.0.1:9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("corelane serve"), "{output:?}");
}
