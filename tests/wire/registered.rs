//! Servers and transports that are registered over the administration API while callers are served.

use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, echo, legacy, modern, sleep, text};

/// Said where nothing was before.
const NEW: &str = "If-None-Match: *\r\n";
const ANY: &str = "If-Match: *\r\n";

/// A gateway with an administration socket, and a file that may change.
struct Gateway {
    server: Server,
    folder: tempfile::TempDir,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Value,
}

impl Answer {
    fn tag(&self) -> String {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with("etag:"));
        line.and_then(|line| line.split_once(": ")).unwrap_or_else(|| panic!("no tag: {self:?}")).1.to_owned()
    }

    fn error(&self) -> &str {
        self.body["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}"))
    }
}

/// One request and its answer.
pub fn exchange(mut stream: impl std::io::Read + std::io::Write, line: &str, fields: &str, body: &str) -> Answer {
    let length = body.len();
    write!(
        stream,
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{body}"
    )
    .expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let body = match body {
        "" => Value::Null,
        body => serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")),
    };
    Answer { status, head: head.to_owned(), body }
}

impl Gateway {
    fn start(sections: &str) -> Gateway {
        let folder = tempfile::tempdir().expect("a place for files");
        let write = folder.path().join("corelane.toml");
        std::fs::write(&write, Gateway::config(&folder, sections)).expect("room for a file");
        Gateway { server: Server::by_file(&write), folder }
    }

    fn config(folder: &tempfile::TempDir, sections: &str) -> String {
        format!("[control]\nsocket = \"{}\"\n{sections}", folder.path().join("admin.sock").display())
    }

    /// Puts another file in its place, and waits until it was read.
    fn reload(&self, sections: &str) -> String {
        let fresh = self.folder.path().join("fresh");
        std::fs::write(&fresh, Gateway::config(&self.folder, sections)).expect("room for a file");
        std::fs::rename(fresh, self.folder.path().join("corelane.toml")).expect("the same file system");
        let output = self.corelane(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn ask(&self, line: &str, fields: &str, body: &str) -> Answer {
        exchange(UnixStream::connect(self.socket()).expect("it listens"), line, fields, body)
    }

    fn put(&self, name: &str, fields: &str, body: &Value) -> Answer {
        self.ask(&format!("PUT /admin/v1/servers/{name}"), fields, &body.to_string())
    }

    fn delete(&self, name: &str, fields: &str) -> Answer {
        self.ask(&format!("DELETE /admin/v1/servers/{name}"), fields, "")
    }

    fn shown(&self, name: &str) -> Answer {
        self.ask(&format!("GET /admin/v1/servers/{name}"), "", "")
    }

    fn corelane(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.args(arguments).args(["--socket", self.socket().to_str().expect("a plain path")]);
        command.output().expect("the program was built with this test")
    }

    fn status(&self, core: usize, path: &str) -> u16 {
        let call = Request::modern(&modern(1, "tools/call", echo("x"))).target(path);
        self.server.connect_on(core).ask(&call).status
    }

    /// Each core takes a change up for itself.
    fn until_status(&self, path: &str, status: u16) {
        for core in 0..2 {
            until("both cores have taken it up", || (self.status(core, path) == status).then_some(()));
        }
    }

    fn tools(&self, core: usize) -> Vec<String> {
        let list = self.server.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
        let tools = list["result"]["tools"].as_array().unwrap_or_else(|| panic!("no list: {list}"));
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }
}

fn at(address: SocketAddr) -> Value {
    json!({"kind": "http", "url": format!("http://{address}/mcp")})
}

fn section(name: &str, address: SocketAddr) -> String {
    format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n")
}

#[test]
fn a_server_comes_changes_and_goes_while_others_are_called() {
    let (one, other) = (Server::start(), Server::start());
    let gateway = Gateway::start(&section("stays", one.http));
    gateway.until_status("/mcp/stays", 200);
    let mut stays = gateway.server.connect();
    let session = open_at(&mut stays, "2025-11-25", "/mcp/stays");
    let call = Request::legacy(&session, &legacy(7, "tools/call", echo("s"))).target("/mcp/stays");
    let mut undisturbed = || assert_eq!(text(&stays.ask(&call).json()), "s", "the same connection, the same session");
    undisturbed();

    let made = gateway.put("new", NEW, &at(other.http));
    assert_eq!((made.status, &made.body["created"]), (201, &json!(true)), "{made:?}");
    assert!(made.body["lasts"].as_str().is_some_and(|lasts| lasts.contains("until this process ends")), "{made:?}");
    let shown = gateway.shown("new");
    assert_eq!((shown.tag(), &shown.body["configured_by"]), (made.tag(), &json!("request")));
    assert_eq!(gateway.shown("stays").body["configured_by"], json!("file"));
    gateway.until_status("/mcp/new", 200);
    undisturbed();
    for core in 0..2 {
        until("its tools are among those of all", || {
            gateway.tools(core).contains(&"new_echo".to_owned()).then_some(())
        });
        let named = json!({"name": "new_echo", "arguments": {"data": "all"}});
        let answer = gateway.server.connect_on(core).ask(&Request::modern(&modern(1, "tools/call", named)));
        assert_eq!(text(&answer.json()), "all");
    }

    let described = json!({"kind": "http", "url": format!("http://{}/mcp", one.http), "prefix": "n",
        "tools": {"include": ["echo"], "rename": {"echo": "say"}}});
    let changed = gateway.put("new", &format!("If-Match: {}\r\n", made.tag()), &described);
    assert_eq!((changed.status, &changed.body["created"]), (200, &json!(false)), "{changed:?}");
    assert_ne!(changed.tag(), made.tag());
    for core in 0..2 {
        until("it is another", || {
            let tools = gateway.tools(core);
            (tools.contains(&"n_say".to_owned()) && !tools.iter().any(|tool| tool.starts_with("new_"))).then_some(())
        });
    }
    let again = gateway.put("new", ANY, &described);
    assert_eq!((again.status, again.tag()), (200, changed.tag()), "nothing is another");
    undisturbed();

    // A call of a server that is removed finishes; no other is taken.
    let plain = gateway.put("new", ANY, &at(other.http));
    assert_eq!(plain.status, 200);
    gateway.until_status("/mcp/new", 200);
    let mut under_way = gateway.server.connect();
    under_way.send(Request::modern(&modern(9, "tools/call", sleep(1500))).target("/mcp/new").bytes());
    other.until_total("corelane_calls_in_flight", 1);
    let removed = gateway.delete("new", &format!("If-Match: {}\r\n", plain.tag()));
    assert_eq!((removed.status, &removed.body["removed"]), (200, &json!("new")), "{removed:?}");
    gateway.until_status("/mcp/new", 404);
    // Others come and go meanwhile.
    assert_eq!(gateway.put("more", NEW, &at(one.http)).status, 201);
    gateway.until_status("/mcp/more", 200);
    assert_eq!(gateway.delete("more", ANY).status, 200);
    gateway.until_status("/mcp/more", 404);
    let finished = under_way.answer();
    assert_eq!((finished.status, finished.json()["result"].is_object()), (200, true), "{}", finished.text());
    assert_eq!(gateway.shown("new").status, 404);
    until("its links are closed", || (other.total("corelane_connections_open") == 0).then_some(()));
    undisturbed();
}

#[test]
fn servers_that_come_and_go_leave_nothing() {
    let (one, other) = (Server::start(), Server::start());
    let gateway = Gateway::start(&section("stays", one.http));
    gateway.until_status("/mcp/stays", 200);
    for round in 0..20 {
        let name = format!("n{round}");
        assert_eq!(gateway.put(&name, NEW, &at(other.http)).status, 201, "{name}");
        gateway.until_status(&format!("/mcp/{name}"), 200);
        assert_eq!(gateway.delete(&name, ANY).status, 200, "{name}");
        gateway.until_status(&format!("/mcp/{name}"), 404);
    }
    until("its links are closed", || (other.total("corelane_connections_open") == 0).then_some(()));
    gateway.until_status("/mcp/stays", 200);
    // Nor do figures of those that are gone stay.
    let shown = gateway.ask("GET /admin/v1/servers", "", "").body;
    assert_eq!(shown["servers"].as_array().map(Vec::len), Some(1), "{shown}");
}

#[test]
fn a_change_says_of_what_and_comes_by_the_right_door() {
    let one = Server::start();
    let gateway = Gateway::start(&section("filed", one.http));
    let body = at(one.http);
    assert_eq!(gateway.put("a", "", &body).status, 428);
    assert_eq!(gateway.put("a", ANY, &body).status, 412, "there is none to be changed");
    let made = gateway.put("a", NEW, &body);
    assert_eq!(made.status, 201);
    let exists = gateway.put("a", NEW, &body);
    assert_eq!((exists.status, exists.body["etag"].as_str()), (412, Some(&*made.tag())), "{exists:?}");
    assert!(exists.error().contains("If-Match"), "{exists:?}");
    let stale = gateway.put("a", "If-Match: \"0-0\"\r\n", &body);
    assert!(stale.status == 412 && stale.error().contains("changed meanwhile"), "{stale:?}");
    assert_eq!(gateway.delete("a", "").status, 428);
    assert_eq!(gateway.delete("a", "If-Match: \"0-0\"\r\n").status, 412);
    let unknown = gateway.delete("b", ANY);
    assert!(unknown.status == 404 && unknown.error().contains("corelane servers"), "{unknown:?}");

    // What the file names is changed there.
    for answer in [gateway.put("filed", ANY, &body), gateway.put("filed", NEW, &body), gateway.delete("filed", ANY)] {
        assert_eq!((answer.status, &answer.body["refusal"]), (409, &json!("named_by_file")), "{answer:?}");
        assert!(answer.error().contains("edit [servers.filed]"), "{answer:?}");
    }
    for line in ["PUT /admin/v1/servers/c", "DELETE /admin/v1/servers/a"] {
        let stream = std::net::TcpStream::connect(gateway.server.control).expect("it listens");
        let refused = exchange(stream, line, ANY, &body.to_string());
        assert!(refused.status == 403 && refused.error().contains("Unix socket"), "{refused:?}");
    }
    assert_eq!(gateway.shown("a").tag(), made.tag(), "nothing has changed it");
}

#[test]
fn what_is_wrong_with_a_server_is_said_and_changes_nothing() {
    let gateway = Gateway::start("");
    let written = gateway.folder.path().join("secret");
    std::fs::write(&written, "hunter2").expect("room for a file");
    let secret =
        format!(r#"{{"kind":"http","url":"http://10.0.0.7/","headers":{{"A":{{"file":"{}"}}}}}}"#, written.display());
    for (body, status, said) in [
        ("", 400, "the body is no JSON text"),
        ("[1]", 400, "no object: write an object with the keys of [servers.NAME]"),
        (r#"{"kind":"http","kind":"sse","url":"http://10.0.0.7/"}"#, 400, "already occurs in the same object"),
        (
            r#"{"command":"/bin/sh","kind":"stdio"}"#,
            403,
            "comes from the configuration file only, never from a request",
        ),
        (r#"{"kind":"stdio"}"#, 403, "`corelane reload`"),
        (r#"{"kind":"http","url":"http://10.0.0.7/","env":{"A":"b"}}"#, 403, "`servers.a.env`"),
        (r#"{"kind":"http","url":"https://10.0.0.7/","roots":"/etc/ca.pem"}"#, 403, "write \"webpki\" or \"native\""),
        (r#"{"kind":"http","url":"http://10.0.0.7/","headers":{"A":{"env":"HOME"}}}"#, 403, "write the value itself"),
        (&*secret, 403, "`servers.a.headers.A"),
        (r#"{"url":"http://10.0.0.7/"}"#, 422, "[servers.a] has no `kind`; add kind = \"http\""),
        (r#"{"kind":"http"}"#, 422, "[servers.a] has no `url`"),
        (r#"{"kind":"http","url":"http://169.254.169.254/"}"#, 422, "never dialled"),
        (r#"{"kind":"http","url":"http://10.0.0.7/","addresses":"public"}"#, 422, "write \"private\", or leave it out"),
        (r#"{"kind":"http","url":"http://10.0.0.7/","timeout":5}"#, 422, "did you mean"),
        (r#"{"kind":"http","url":"http://10.0.0.7/","timeout_ms":"5"}"#, 422, "write the number without quotes"),
        (r#"{"kind":"http","url":"http://10.0.0.7/","tools":{"include":"x"}}"#, 422, "put it into brackets"),
    ] {
        let answer = gateway.ask("PUT /admin/v1/servers/a", NEW, body);
        assert_eq!(answer.status, status, "{body}: {answer:?}");
        assert!(answer.error().contains(said) && !answer.error().contains("hunter2"), "{body}: {answer:?}");
    }
    // Two things wrong are said at once.
    let answer = gateway.put("a", NEW, &json!({"kind": "http", "url": "x", "prefix": "no good"}));
    assert_eq!(answer.body["complaints"].as_array().map(Vec::len), Some(2), "{answer:?}");
    let answer = gateway.put("No%20Good", NEW, &json!({}));
    assert!(answer.status == 422 && answer.error().contains("call it `no-good`"), "{answer:?}");
    let large = format!("{{\"kind\":\"{}\"}}", "x".repeat(1024 * 1024));
    let answer = gateway.ask("PUT /admin/v1/servers/a", NEW, &large);
    assert_eq!(answer.status, 413, "{answer:?}");
    assert_eq!(gateway.shown("a").status, 404);
    assert_eq!(gateway.status(0, "/mcp"), 200, "the demonstration server is still the one that is there");
}

#[test]
fn the_file_wins_and_what_is_registered_beside_it_outlives_a_reload() {
    let (one, other) = (Server::start(), Server::start());
    let mut gateway = Gateway::start(&section("filed", one.http));
    for name in ["kept", "taken", "alike"] {
        assert_eq!(gateway.put(name, NEW, &at(other.http)).status, 201);
        gateway.until_status(&format!("/mcp/{name}"), 200);
    }
    let tag = gateway.shown("kept").tag();
    let refused = gateway.put("clash", NEW, &json!({"kind": "http", "url": "http://10.0.0.7/", "prefix": "filed"}));
    assert!(refused.status == 422 && refused.error().contains("`servers.filed` has as well"), "{refused:?}");
    gateway.server.signal("HUP");
    gateway
        .server
        .until_said("SIGHUP: the configuration was read again: no server, view or gateway setting is another");
    for name in ["kept", "taken", "alike"] {
        assert_eq!(gateway.status(0, &format!("/mcp/{name}")), 200, "{name}");
    }

    let sections = section("taken", one.http) + &section("b", one.http) + "prefix = \"alike\"\n";
    let said = gateway.reload(&sections);
    // The file is looked at as well, and may have been faster.
    assert!(
        said.contains("takes the place of what was registered: alike, taken") || said.contains("no server"),
        "{said}"
    );
    gateway.until_status("/mcp/filed", 404);
    gateway.until_status("/mcp/alike", 404);
    gateway.until_status("/mcp/b", 200);
    gateway.until_status("/mcp/taken", 200);
    assert_eq!(gateway.shown("taken").body["reached_by"], json!(format!("http://{}/mcp", one.http)));
    assert_eq!(gateway.delete("taken", ANY).status, 409, "it is the file's now");
    assert_eq!((gateway.shown("kept").tag(), gateway.status(1, "/mcp/kept")), (tag, 200));
    // What the file lets go of is nobody's again.
    gateway.reload("");
    gateway.until_status("/mcp/taken", 404);
    assert_eq!(gateway.put("taken", NEW, &at(other.http)).status, 201);
    gateway.until_status("/mcp/taken", 200);
}

#[test]
fn so_many_are_registered_and_no_more() {
    let gateway = Gateway::start("");
    // Nobody listens there.
    let body = |n: usize| json!({"kind": "http", "url": "http://127.0.0.1:9/", "prefix": format!("p{n}")});
    for n in 0..256 {
        assert_eq!(gateway.put(&format!("s{n}"), NEW, &body(n)).status, 201, "{n}");
    }
    let refused = gateway.put("more", NEW, &body(256));
    assert_eq!((refused.status, &refused.body["refusal"]), (507, &json!("no_room")), "{refused:?}");
    assert!(refused.error().contains("256 servers are registered") && refused.error().contains("remove one"));
    assert_eq!(gateway.put("s7", ANY, &body(999)).status, 200, "one that is there may change");
    assert_eq!(gateway.delete("s8", ANY).status, 200);
    assert_eq!(gateway.put("more", NEW, &body(256)).status, 201);
}

#[test]
fn the_command_line_adds_and_removes_servers() {
    let one = Server::start();
    let gateway = Gateway::start("");
    let url = format!("http://{}/mcp", one.http);
    let add = |more: &[&str]| gateway.corelane(&[&["servers", "add", "a", "--url", &url], more].concat());
    let said = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let added = add(&["--set", "timeout_ms=5000", "--set", "tools.exclude=[\"sleep\"]"]);
    assert!(added.status.success() && said(&added).contains("server a is registered; it lasts until"), "{added:?}");
    gateway.until_status("/mcp/a", 200);
    assert!(said(&gateway.corelane(&["servers"])).contains(&url));
    let twice = add(&[]);
    assert!(twice.status.code() == Some(1) && complained(&twice).contains("it is there already"), "{twice:?}");
    let other = add(&["--replace", "--set", "prefix=other"]);
    assert!(other.status.success() && said(&other).contains("server a is changed"), "{other:?}");
    let wrong = add(&["--replace", "--set", "timeout_ms=never"]);
    assert!(wrong.status.code() == Some(1) && complained(&wrong).contains("servers.a.timeout_ms"), "{wrong:?}");
    let run = add(&["--replace", "--set", "command=sh"]);
    assert!(run.status.code() == Some(1) && complained(&run).contains("configuration file only"), "{run:?}");
    let removed = gateway.corelane(&["servers", "remove", "a"]);
    assert!(removed.status.success() && said(&removed).contains("server a is removed"), "{removed:?}");
    gateway.until_status("/mcp/a", 404);
    let gone = gateway.corelane(&["servers", "remove", "a"]);
    assert!(gone.status.code() == Some(1) && complained(&gone).contains("there is no server a"), "{gone:?}");
}

#[test]
fn transports_are_registered_and_removed() {
    let gateway = Gateway::start("");
    let path = "/admin/v1/transports/a%2Fb%20c";
    let ask = |method: &str, fields: &str, body: &str| gateway.ask(&format!("{method} {path}"), fields, body);
    let made = ask("PUT", "", "");
    assert_eq!((made.status, &made.body["applied"]), (201, &json!(true)), "{made:?}");
    let shown = ask("GET", "", "");
    let body = json!({"transport": "a/b c", "owned_by": "administration", "server": null});
    assert_eq!((shown.status, &shown.body, shown.tag()), (200, &body, made.tag()));
    assert_eq!(gateway.ask("GET /admin/v1/transports", "", "").body, json!({"transports": ["a/b c"]}));
    let twice = ask("PUT", "", "");
    assert!(twice.status == 409 && twice.error().contains("registered already; unregister it first"), "{twice:?}");
    assert_eq!(ask("PUT", "", "{\"server\":1}").status, 400);
    // The gateway's servers are no servers of the registry: nobody takes messages for them.
    let unknown = gateway.ask("PUT /admin/v1/bindings/a%2Fb%20c", NEW, "{\"server\":\"nobody\"}");
    assert!(unknown.status == 404 && unknown.error().contains("no such server"), "{unknown:?}");
    assert_eq!(gateway.ask("PUT /admin/v1/bindings/none", NEW, "{\"server\":\"nobody\"}").status, 404);
    assert_eq!(gateway.ask("GET /admin/v1/bindings/none", "", "").status, 404);
    assert_eq!(gateway.ask("DELETE /admin/v1/bindings/a%2Fb%20c", ANY, "").status, 404);
    assert_eq!(gateway.ask("GET /admin/v1/bindings", "", "").body, json!({"bindings": [], "complete": true}));
    assert_eq!(gateway.ask("POST /admin/v1/messages", "", "").body, json!({"messages": []}));
    assert_eq!((ask("DELETE", "", "").status, ask("DELETE", "If-Match: \"0\"\r\n", "").status), (428, 412));
    assert_eq!(ask("DELETE", &format!("If-Match: {}\r\n", made.tag()), "").status, 200);
    assert_eq!((ask("DELETE", ANY, "").status, ask("GET", "", "").status), (404, 404));

    // With admission closed nothing new is let in, and whoever asks hears when to try again.
    assert!(gateway.corelane(&["shards", "--admission", "on"]).status.success());
    let closed = ask("PUT", "", "");
    assert_eq!(closed.status, 503, "{closed:?}");
    assert!(closed.head.to_ascii_lowercase().contains("retry-after: 1") && closed.error().contains("admission"));
    let by_tcp = std::net::TcpStream::connect(gateway.server.control).expect("it listens");
    assert_eq!(exchange(by_tcp, &format!("PUT {path}"), "", "").status, 403);
    assert!(gateway.corelane(&["shards", "--admission", "auto"]).status.success());

    let said = |arguments: &[&str]| {
        let output = gateway.corelane(arguments);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(said(&["transports"]).starts_with("no transports"));
    assert_eq!(said(&["transports", "add", "a/b c"]), "done\n");
    assert_eq!(said(&["transports"]), "a/b c\n");
    assert_eq!(said(&["bindings"]), "no transport is bound\n");
    let refused = gateway.corelane(&["bindings", "set", "a/b c", "nobody"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("no such server"), "{refused:?}");
    assert_eq!(said(&["transports", "remove", "a/b c"]), "done\n");
}

#[test]
fn an_operator_who_closes_admission_keeps_new_servers_out_too() {
    let one = Server::start();
    let gateway = Gateway::start("");
    let url = format!("http://{}/mcp", one.http);
    let body = json!({"kind": "http", "url": url});
    assert_eq!(gateway.put("before", NEW, &body).status, 201);
    assert!(gateway.corelane(&["shards", "--admission", "on"]).status.success());
    let closed = gateway.put("during", NEW, &body);
    assert_eq!(closed.status, 503, "{closed:?}");
    for said in [closed.error(), gateway.ask("PUT /admin/v1/transports/t", "", "").error()] {
        assert!(said.contains("an operator closed it") && said.contains("corelane shards --admission auto"), "{said}");
        assert!(!said.contains("slow"), "{said}");
    }
    let added = gateway.corelane(&["servers", "add", "during", "--url", &url]);
    let complained = String::from_utf8_lossy(&added.stderr).into_owned();
    assert!(added.status.code() == Some(1) && complained.contains("an operator closed it"), "{added:?}");
    // What is there already may be changed.
    let changed = json!({"kind": "http", "url": url, "timeout_ms": 7000});
    assert_eq!(gateway.put("before", ANY, &changed).status, 200);
    assert!(gateway.corelane(&["shards", "--admission", "auto"]).status.success());
    assert_eq!(gateway.put("during", NEW, &body).status, 201);

    // Such a server is no server of the registry.
    assert!(gateway.corelane(&["transports", "add", "t"]).status.success());
    let bound = gateway.corelane(&["bindings", "set", "t", "during"]);
    let complained = String::from_utf8_lossy(&bound.stderr).into_owned();
    assert!(bound.status.code() == Some(1) && complained.contains("is behind the gateway"), "{bound:?}");
}
