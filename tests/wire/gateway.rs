//! Servers behind the endpoint: real ones, on connections of their own, in both eras and between them.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, echo, initialize, legacy, modern, sleep, text, told_sleep};

/// A gateway before these servers: name, address, and further lines of its section.
fn gateway(servers: &[(&str, SocketAddr, &str)]) -> Server {
    let section = |(name, address, more): &(&str, SocketAddr, &str)| {
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n{more}\n")
    };
    Server::configured(&servers.iter().map(section).collect::<String>())
}

/// Asks until the server behind the path was reached, by each core for itself.
pub fn reached(gateway: &Server, path: &str) {
    for core in 0..2 {
        until("the server behind the gateway is reached", || {
            let discover = Request::modern(&modern(1, "server/discover", json!({}))).target(path);
            (gateway.connect_on(core).ask(&discover).status == 200).then_some(())
        });
    }
}

fn names(list: &Value, member: &str) -> Vec<String> {
    let items = list["result"][member].as_array().unwrap_or_else(|| panic!("no {member}: {list}"));
    items.iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn one_server_is_seen_as_it_is_in_every_pair_of_eras() {
    let server = Server::start();
    let (auto, old, new) =
        (("auto", server.http, ""), ("old", server.http, "era = \"legacy\""), ("new", server.http, "era = \"modern\""));
    let gateway = gateway(&[auto, old, new]);
    for name in ["auto", "old", "new"] {
        let path = format!("/mcp/{name}");
        reached(&gateway, &path);
        let ask = |message: &Value| gateway.connect().ask(&Request::modern(message).target(&path));
        assert_eq!(text(&ask(&modern("a", "tools/call", echo("\u{e9}"))).json()), "\u{e9}", "{name}");
        let listed = ask(&modern(1, "tools/list", json!({}))).json();
        assert!(names(&listed, "tools").contains(&"echo".to_owned()), "{listed}");
        assert_eq!(listed["result"]["resultType"], "complete");
        let unknown = ask(&modern(1, "tools/call", json!({"name": "nobody", "arguments": {}})));
        assert_eq!((unknown.status, unknown.code()), (200, -32602));

        let mut peer = gateway.connect();
        let session = open_at(&mut peer, "2025-11-25", &path);
        let call = legacy(7, "tools/call", echo("legacy"));
        let answer = peer.ask(&Request::legacy(&session, &call).target(&path));
        assert_eq!((text(&answer.json()), &answer.json()["id"]), ("legacy", &json!(7)), "{name}");
        // An id is good where it was given, and nowhere else.
        assert_eq!(peer.ask(&Request::legacy(&session, &call)).status, 404);
    }
    assert_eq!(gateway.connect().ask(&Request::post(&initialize(1, "2025-11-25")).target("/mcp/nobody")).status, 404);
}

#[test]
fn progress_comes_with_the_callers_own_token() {
    let server = Server::start();
    let gateway = gateway(&[("old", server.http, "era = \"legacy\""), ("new", server.http, "era = \"modern\"")]);
    for path in ["/mcp/old", "/mcp/new"] {
        reached(&gateway, path);
        let mut peer = gateway.connect();
        peer.open(&Request::modern(&modern(1, "tools/call", told_sleep(40, 2, "mine"))).target(path));
        let told = peer.rest();
        let (last, before) = told.split_last().expect("an answer");
        assert!(before.len() >= 2 && before.iter().all(|one| one["params"]["progressToken"] == "mine"), "{told:?}");
        assert!(last["result"].is_object());
    }
}

#[test]
fn several_servers_are_seen_by_their_names() {
    let (one, other) = (Server::start(), Server::conformance());
    let gateway = gateway(&[
        ("a", one.http, ""),
        ("b", other.http, "prefix = \"bee\""),
        ("dead", "127.0.0.1:9".parse().unwrap(), ""),
    ]);
    reached(&gateway, "/mcp/a");
    reached(&gateway, "/mcp/b");
    let ask = |message: &Value| gateway.connect().ask(&Request::modern(message)).json();
    let tools = names(&ask(&modern(1, "tools/list", json!({}))), "tools");
    assert!(tools.contains(&"a_echo".to_owned()) && tools.contains(&"bee_test_simple_text".to_owned()), "{tools:?}");
    assert_eq!(tools, names(&ask(&modern(1, "tools/list", json!({}))), "tools"), "the order stays");
    assert_eq!(text(&ask(&modern(1, "tools/call", json!({"name": "a_echo", "arguments": {"data": "x"}})))), "x");
    let simple = ask(&modern(1, "tools/call", json!({"name": "bee_test_simple_text", "arguments": {}})));
    assert_eq!(text(&simple), "This is a simple text response for testing.");
    let unknown = ask(&modern(1, "tools/call", json!({"name": "echo", "arguments": {}})));
    assert_eq!(unknown["error"]["code"], -32602);

    let resources = ask(&modern(1, "resources/list", json!({})));
    let uris: Vec<&str> =
        resources["result"]["resources"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap()).collect();
    assert!(uris.contains(&"b+test://static-text"), "{uris:?}");
    let read = ask(&modern(1, "resources/read", json!({"uri": "b+test://static-text"})));
    assert_eq!(read["result"]["contents"][0]["uri"], "b+test://static-text");
    let template = ask(&modern(1, "resources/read", json!({"uri": "b+test://template/7/data"})));
    assert!(template["result"]["contents"][0]["text"].as_str().unwrap().contains("Data for ID: 7"), "{template}");
    let embedded = ask(&modern(1, "tools/call", json!({"name": "bee_test_embedded_resource", "arguments": {}})));
    assert_eq!(embedded["result"]["content"][0]["resource"]["uri"], "b+test://embedded-resource");
    let missing = ask(&modern(1, "resources/read", json!({"uri": "nobody+x:y"})));
    assert_eq!(missing["error"]["code"], -32602);

    let prompt = json!({"name": "bee_test_prompt_with_arguments", "arguments": {"arg1": "1", "arg2": "2"}});
    let prompt = ask(&modern(1, "prompts/get", prompt));
    assert!(prompt["result"]["messages"][0]["content"]["text"].as_str().unwrap().contains("arg1='1'"), "{prompt}");
    let complete = json!({"ref": {"type": "ref/prompt", "name": "bee_test_prompt_with_arguments"}, "argument": {"name": "arg1", "value": ""}});
    assert!(ask(&modern(1, "completion/complete", complete))["result"]["completion"]["values"].is_array());
}

#[test]
fn the_programs_own_tools_stand_beside_those_of_servers_from_the_first_list_on() {
    let server = Server::start();
    let own = format!(
        "[gateway]\ndemonstration = \"on\"\n[servers.a]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nera = \"legacy\"\n",
        server.http
    );
    let gateway = Server::configured(&own);
    reached(&gateway, "/mcp/a");
    // A legacy server's list is not read before somebody asks, so the first caller on a core waits for it.
    for core in [0, 1, 0, 1] {
        let listed = gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
        let tools = names(&listed, "tools");
        assert!(tools.contains(&"echo".to_owned()) && tools.contains(&"a_echo".to_owned()), "{core}: {tools:?}");
    }
}

#[test]
fn what_the_operator_hides_or_renames_is_hidden_and_renamed() {
    let server = Server::start();
    let rules = "[servers.a.tools]\ninclude = [\"e*\", \"add\"]\nexclude = [\"add\"]\nrename = { echo = \"say\" }\ndescribe = { echo = \"Better words\" }";
    let gateway = gateway(&[("a", server.http, rules)]);
    reached(&gateway, "/mcp/a");
    for (path, name) in [("/mcp/a", "say"), ("/mcp", "a_say")] {
        let ask = |message: &Value| gateway.connect().ask(&Request::modern(message).target(path)).json();
        let listed = ask(&modern(1, "tools/list", json!({})));
        assert_eq!(names(&listed, "tools"), [name]);
        assert_eq!(listed["result"]["tools"][0]["description"], "Better words");
        assert_eq!(text(&ask(&modern(1, "tools/call", json!({"name": name, "arguments": {"data": "x"}})))), "x");
        for hidden in ["add", "echo", "a_add", "a_echo"] {
            let refused = ask(&modern(1, "tools/call", json!({"name": hidden, "arguments": {"a": 1, "b": 2}})));
            assert_eq!(refused["error"]["code"], -32602, "{path} {hidden}");
        }
    }
}

#[test]
fn questions_cross_the_eras() {
    let server = Server::conformance();
    let gateway = gateway(&[("old", server.http, "era = \"legacy\""), ("new", server.http, "era = \"modern\"")]);
    let arguments = json!({"name": "test_elicitation", "arguments": {"message": "Who?"}});
    let content = json!({"username": "alice", "email": "a@b"});
    for path in ["/mcp/old", "/mcp/new"] {
        reached(&gateway, path);
        // A modern caller is sent away with the question and comes back with the answer, to whichever core.
        for core in 0..2 {
            let mut call = modern(1, "tools/call", arguments.clone());
            call["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}});
            let asked = gateway.connect_on(0).ask(&Request::modern(&call).target(path)).json();
            assert_eq!(asked["result"]["resultType"], "input_required", "{asked}");
            let (key, question) = asked["result"]["inputRequests"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(question["method"], "elicitation/create");
            call["id"] = json!(2);
            call["params"]["requestState"] = asked["result"]["requestState"].clone();
            call["params"]["inputResponses"] = json!({key: {"action": "accept", "content": content}});
            let answer = gateway.connect_on(core).ask(&Request::modern(&call).target(path)).json();
            assert!(text(&answer).contains("alice"), "{path} {core}: {answer}");
        }
        // A legacy caller is asked on its stream.
        let mut peer = gateway.connect();
        let session = open_at(&mut peer, "2025-11-25", path);
        peer.open(&Request::legacy(&session, &legacy(1, "tools/call", arguments.clone())).target(path));
        let question = peer.event().unwrap().json();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let accept =
            json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": content}});
        assert_eq!(gateway.connect().ask(&Request::legacy(&session, &accept).target(path)).status, 202);
        let result = peer.event().unwrap().json();
        assert!(text(&result).contains("alice"), "{path}: {result}");
    }
}

#[test]
fn a_server_that_is_gone_is_said_to_be_and_is_found_again() {
    let server = Server::start();
    let address = server.http;
    let gateway = gateway(&[("a", address, "")]);
    reached(&gateway, "/mcp/a");
    let ask = |message: &Value| gateway.connect().ask(&Request::modern(message).target("/mcp/a"));
    // In the midst of a call: its caller hears of it.
    let mut peer = gateway.connect();
    peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).target("/mcp/a").bytes());
    server.until_total("corelane_calls_in_flight", 1);
    drop(server);
    let answer = peer.answer();
    assert_eq!((answer.status, answer.code()), (502, -31502));
    let answer = ask(&modern(2, "tools/call", echo("x")));
    assert_eq!((answer.status, answer.code()), (502, -31502), "{}", answer.text());
    let _again = Server::at(address);
    until("the server is found again", || (ask(&modern(3, "tools/call", echo("x"))).status == 200).then_some(()));
}

#[test]
fn a_list_says_which_servers_it_is_without_and_which_it_remembers() {
    let (here, there) = (Server::start(), Server::start());
    let address = there.http;
    let section = |name, address| format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\n");
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let sections = section("a", here.http) + &section("b", address) + &section("dead", nobody);
    let gateway = Server::configured(&(sections + "[gateway]\nlist_ttl_ms = 20\n"));
    reached(&gateway, "/mcp/a");
    reached(&gateway, "/mcp/b");
    let list = |method: &str| gateway.connect_on(0).ask(&Request::modern(&modern(1, method, json!({})))).json();
    let meta = |listed: &Value, name: &str| listed["result"]["_meta"][format!("corelane/{name}")].clone();
    // What a server does not have it is not said to be away for: the demonstration has no templates but these.
    for method in ["tools/list", "prompts/list", "resources/list", "resources/templates/list"] {
        let listed = list(method);
        assert_eq!((meta(&listed, "absent"), meta(&listed, "stale")), (json!(["dead"]), Value::Null), "{listed}");
    }
    assert!(names(&list("tools/list"), "tools").contains(&"b_echo".to_owned()));
    drop(there);
    let remembered = until("it is found to be away", || {
        let listed = list("tools/list");
        (meta(&listed, "stale") == json!(["b"])).then_some(listed)
    });
    assert!(names(&remembered, "tools").contains(&"b_echo".to_owned()), "{remembered}");
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp");
    let listed = peer.ask(&Request::legacy(&session, &legacy(1, "tools/list", json!({})))).json();
    assert_eq!(meta(&listed, "absent"), json!(["dead"]), "{listed}");
    let _again = Server::at(address);
    until("it is there again", || meta(&list("tools/list"), "stale").is_null().then_some(()));
}

#[test]
fn a_session_that_the_server_lost_is_opened_again() {
    let server = Server::start();
    let address = server.http;
    let gateway = gateway(&[("a", address, "era = \"legacy\"")]);
    reached(&gateway, "/mcp/a");
    let ask = || gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/call", echo("x"))).target("/mcp/a"));
    assert_eq!(text(&ask().json()), "x");
    drop(server);
    let _again = Server::at(address);
    // Another start of the server knows none of the sessions: the first call opens one, unseen by its caller.
    until("the server is there again", || (ask().status == 200).then_some(()));
}

#[test]
fn a_stream_that_a_legacy_server_lets_go_of_is_let_go_of_for_its_caller_too() {
    let server = Server::conformance_of("legacy");
    let gateway = gateway(&[("each", server.http, ""), ("one", server.http, "concurrency = 4")]);
    for path in ["/mcp/each", "/mcp/one"] {
        reached(&gateway, path);
        for core in 0..2 {
            let mut peer = gateway.connect_on(core);
            let session = open_at(&mut peer, "2025-11-25", path);
            let call = legacy(1, "tools/call", json!({"name": "test_reconnection", "arguments": {}}));
            peer.open(&Request::legacy(&session, &call).target(path));
            let primed = peer.primed();
            assert_eq!(peer.event(), None, "{path}: it ends without the outcome");
            peer.open(&Request::stream(&session).with("Last-Event-ID", &primed).target(path));
            assert_eq!(text(&peer.event().unwrap().json()), "Reconnection test completed");
            assert_eq!(peer.event(), None);
        }
        // In the other era a stream that ends is lost: its caller's stays as it is.
        let call = modern(2, "tools/call", json!({"name": "test_reconnection", "arguments": {}}));
        let answer = gateway.connect().ask(&Request::modern(&call).target(path));
        assert_eq!(text(&answer.json()), "Reconnection test completed");
    }
}

#[test]
fn a_caller_that_leaves_cancels_its_call_behind_the_gateway() {
    let server = Server::start();
    let gateway = gateway(&[("new", server.http, "era = \"modern\""), ("old", server.http, "era = \"legacy\"")]);
    for path in ["/mcp/new", "/mcp/old"] {
        reached(&gateway, path);
        let mut peer = gateway.connect();
        peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).target(path).bytes());
        server.until_total("corelane_calls_in_flight", 1);
        drop(peer);
        server.until_total("corelane_calls_in_flight", 0);
        gateway.until_total("corelane_calls_in_flight", 0);
    }
}

/// Of a legacy call the stream is not the life (2025-11-25, "Sending Messages to the Server": a disconnection is no
/// cancellation): it goes on behind the gateway, and is there to be resumed.
#[test]
fn a_legacy_caller_that_leaves_cancels_nothing_behind_the_gateway() {
    let server = Server::start();
    let gateway = gateway(&[("new", server.http, "era = \"modern\""), ("old", server.http, "era = \"legacy\"")]);
    for path in ["/mcp/new", "/mcp/old"] {
        reached(&gateway, path);
        let mut peer = gateway.connect();
        let session = open_at(&mut peer, "2025-11-25", path);
        peer.open(&Request::legacy(&session, &legacy(7, "tools/call", told_sleep(1_500, 2, "p"))).target(path));
        let primed = peer.primed();
        server.until_total("corelane_calls_in_flight", 1);
        drop(peer);
        server.until_total("corelane_calls_in_flight", 0);
        let mut peer = gateway.connect();
        peer.open(&Request::stream(&session).with("Last-Event-ID", &primed).target(path));
        let told = peer.rest();
        assert!(told.last().is_some_and(|last| last["result"].is_object() && last["id"] == 7), "{path}: {told:?}");
    }
}

#[test]
fn a_server_of_2024_is_spoken_to_by_its_event_stream() {
    let server = Server::start();
    let gateway = Server::configured(&format!(
        "[servers.old]\nkind = \"sse\"\nurl = \"http://{}/sse\"\nconnections_per_core = 1\n",
        server.http
    ));
    reached(&gateway, "/mcp/old");
    for core in 0..2 {
        let ask = |message: &Value| gateway.connect_on(core).ask(&Request::modern(message).target("/mcp/old"));
        assert_eq!(text(&ask(&modern("a", "tools/call", echo("\u{e9}"))).json()), "\u{e9}");
        let unknown = ask(&modern(1, "tools/call", json!({"name": "nobody", "arguments": {}})));
        assert_eq!((unknown.status, unknown.code()), (200, -32602));
        let mut peer = gateway.connect_on(core);
        let session = open_at(&mut peer, "2025-11-25", "/mcp/old");
        let answer = peer.ask(&Request::legacy(&session, &legacy(7, "tools/call", echo("y"))).target("/mcp/old"));
        assert_eq!(text(&answer.json()), "y");
        let mut peer = gateway.connect_on(core);
        peer.open(&Request::modern(&modern(1, "tools/call", told_sleep(40, 2, "mine"))).target("/mcp/old"));
        let told = peer.rest();
        let (last, before) = told.split_last().expect("an answer");
        assert!(before.len() >= 2 && before.iter().all(|one| one["params"]["progressToken"] == "mine"), "{told:?}");
        assert!(last["result"].is_object());
    }
    // Its end is heard of by whoever waits.
    let mut peer = gateway.connect();
    peer.send(Request::modern(&modern(1, "tools/call", sleep(60_000))).target("/mcp/old").bytes());
    server.until_total("corelane_calls_in_flight", 1);
    drop(server);
    let answer = peer.answer();
    assert_eq!((answer.status, answer.code()), (502, -31502), "{}", answer.text());
}

#[test]
fn tools_of_two_servers_never_share_a_name() {
    let (one, other) = (Server::start(), Server::start());
    let gateway = gateway(&[
        ("x", one.http, "prefix = \"a\"\n[servers.x.tools]\nrename = { echo = \"b_c\" }"),
        ("y", other.http, "prefix = \"a_b\"\n[servers.y.tools]\nrename = { echo = \"c\" }"),
    ]);
    reached(&gateway, "/mcp/x");
    reached(&gateway, "/mcp/y");
    let ask = |message: &Value| gateway.connect_on(0).ask(&Request::modern(message)).json();
    let mut tools = Vec::new();
    until("both are listed", || {
        tools = names(&ask(&modern(1, "tools/list", json!({}))), "tools");
        (tools.len() >= 10).then_some(())
    });
    let mut unlike = tools.clone();
    unlike.sort();
    unlike.dedup();
    assert_eq!(unlike.len(), tools.len(), "{tools:?}");
    // Neither has the name that both would have had.
    let shared = ask(&modern(1, "tools/call", json!({"name": "a_b_c", "arguments": {"data": "x"}})));
    assert_eq!(shared["error"]["code"], -32602, "{shared}");
    for name in tools.iter().filter(|name| name.starts_with("a_b_c_")) {
        let answer = ask(&modern(1, "tools/call", json!({"name": name, "arguments": {"data": name}})));
        assert_eq!(text(&answer), name);
    }
}
