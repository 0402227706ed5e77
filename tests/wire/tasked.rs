//! Tasks of several servers behind one endpoint: each id leads to the server whose task it is, from every core, in both
//! eras.

use serde_json::{Value, json};

use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern, text};

const RELATED: &str = "io.modelcontextprotocol/related-task";

/// A gateway before two servers that have the same tools, and are spoken to in an era.
fn gateway(era: &str, one: &Server, other: &Server) -> Server {
    let section = |name: &str, server: &Server| {
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nera = \"{era}\"\n", server.http)
    };
    let gateway = Server::configured(&(section("a", one) + &section("b", other)));
    for core in 0..2 {
        until("both are listed", || {
            let list = gateway.connect_on(core).ask(&Request::modern(&modern(1, "tools/list", json!({})))).text();
            (list.contains("a_slow_compute") && list.contains("b_slow_compute")).then_some(())
        });
    }
    gateway
}

#[test]
fn tasks_of_2025_11_25_are_found_at_their_servers() {
    let (one, other) = (Server::conformance(), Server::conformance());
    let gateway = gateway("legacy", &one, &other);
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp");
    // Whichever connection asks, and on whichever core it is.
    let ask = |core: usize, method: &str, params: Value| {
        gateway.connect_on(core).ask(&Request::legacy(&session, &legacy(7, method, params))).json()
    };
    let mut ids = Vec::new();
    for (server, seconds) in [("a", 0.01), ("b", 0.01), ("b", 600.0)] {
        let arguments = json!({"seconds": seconds, "label": format!("of {server}")});
        let call = json!({"name": format!("{server}_slow_compute"), "arguments": arguments, "task": {"ttl": 60_000}});
        let created = ask(0, "tools/call", call);
        let id =
            created["result"]["task"]["taskId"].as_str().unwrap_or_else(|| panic!("no task: {created}")).to_owned();
        assert!(id.starts_with(&format!("{server}+")), "{id}");
        ids.push(id);
    }
    for (core, id, label) in [(0, &ids[0], "of a"), (1, &ids[1], "of b")] {
        let result = ask(core, "tasks/result", json!({"taskId": id}));
        assert!(text(&result).contains(label), "{result}");
        assert_eq!(result["result"]["_meta"][RELATED]["taskId"], json!(id), "{result}");
        let stands = ask(1 - core, "tasks/get", json!({"taskId": id}));
        assert_eq!((&stands["result"]["taskId"], &stands["result"]["status"]), (&json!(id), &json!("completed")));
    }
    let cancelled = ask(1, "tasks/cancel", json!({"taskId": ids[2]}));
    assert_eq!((&cancelled["result"]["taskId"], &cancelled["result"]["status"]), (&json!(ids[2]), &json!("cancelled")));
    // An id is good for its own server and view only, and none is told to others.
    let swapped = format!("b{}", ids[0].trim_start_matches('a'));
    for id in [&*swapped, "c+x", "nothing", ""] {
        let unknown = ask(0, "tasks/get", json!({"taskId": id}));
        assert_eq!(unknown["error"]["code"], json!(-32602), "{id}: {unknown}");
    }
    assert_eq!(ask(0, "tasks/list", json!({}))["result"], json!({"tasks": []}));
    // By a server's own path its tasks have its own ids.
    let mut alone = gateway.connect_on(0);
    let session = open_at(&mut alone, "2025-11-25", "/mcp/a");
    let call = json!({"name": "slow_compute", "arguments": {"seconds": 0.01}, "task": {"ttl": 60_000}});
    let created = alone.ask(&Request::legacy(&session, &legacy(1, "tools/call", call)).target("/mcp/a")).json();
    assert!(created["result"]["task"]["taskId"].as_str().is_some_and(|id| !id.contains('+')), "{created}");
}

#[test]
fn tasks_of_2026_07_28_are_found_at_their_servers() {
    let (one, other) = (Server::conformance(), Server::conformance());
    let gateway = gateway("modern", &one, &other);
    let ask = |core: usize, method: &str, params: Value| {
        let mut message = modern(7, method, params);
        message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
            json!({"elicitation": {}, "extensions": {"io.modelcontextprotocol/tasks": {}}});
        gateway.connect_on(core).ask(&Request::modern(&message)).json()
    };
    for server in ["a", "b"] {
        let call = json!({"name": format!("{server}_confirm_delete"), "arguments": {"filename": server}});
        let created = ask(0, "tools/call", call);
        assert_eq!(created["result"]["resultType"], "task", "{created}");
        let id = created["result"]["taskId"].as_str().expect("an id").to_owned();
        assert!(id.starts_with(&format!("{server}+")), "{id}");
        let task = |core: usize| ask(core, "tasks/get", json!({"taskId": id}));
        assert_eq!(task(1)["error"], Value::Null, "{}", task(1));
        let asked = until("it asks", || Some(task(1)).filter(|task| task["result"]["status"] == "input_required"));
        assert_eq!(asked["result"]["taskId"], json!(id));
        let key = asked["result"]["inputRequests"].as_object().and_then(|all| all.keys().next().cloned()).expect("one");
        let answers = json!({key: {"action": "accept", "content": {"confirm": true}}});
        let told = ask(1, "tasks/update", json!({"taskId": id, "inputResponses": answers}));
        assert_eq!(told["result"]["resultType"], "complete", "{told}");
        let done = until("it is done", || Some(task(0)).filter(|task| task["result"]["status"] == "completed"));
        let said = done["result"]["result"]["content"][0]["text"].as_str();
        assert!(
            said.is_some_and(|said| said.contains(&format!("confirm_delete({server}): confirmed = true"))),
            "{done}"
        );
    }
    let call = json!({"name": "a_slow_compute", "arguments": {"seconds": 600.0}});
    let created = ask(0, "tools/call", call);
    let id = created["result"]["taskId"].as_str().unwrap_or_else(|| panic!("no task: {created}"));
    let cancelled = ask(1, "tasks/cancel", json!({"taskId": id}));
    assert_eq!(cancelled["result"]["resultType"], "complete", "{cancelled}");
    until("it is cancelled", || {
        (ask(1, "tasks/get", json!({"taskId": id}))["result"]["status"] == "cancelled").then_some(())
    });
    assert_eq!(ask(0, "tasks/get", json!({"taskId": "c+x"}))["error"]["code"], json!(-32602));
}
