//! Tasks of several servers behind one endpoint: each id leads to the server whose task it is, from every core, in both
//! eras.

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, initialize, legacy, modern, text};
use crate::upstream::{Reply, Upstream};

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
    // So a session's list is of its own tasks, of each server in turn, and another's is empty.
    let listed = |session: &str, core: usize| {
        let (mut ids, mut params) = (Vec::new(), json!({}));
        loop {
            let message = legacy(7, "tasks/list", params);
            let page = gateway.connect_on(core).ask(&Request::legacy(session, &message)).json()["result"].clone();
            let tasks = page["tasks"].as_array().unwrap_or_else(|| panic!("no tasks: {page}")).clone();
            ids.extend(tasks.iter().map(|task| task["taskId"].as_str().expect("an id").to_owned()));
            match page.get("nextCursor") {
                Some(cursor) => params = json!({ "cursor": cursor }),
                None => return ids,
            }
        }
    };
    for core in 0..2 {
        assert_eq!(listed(&session, core), ids);
        let bystander = open_at(&mut gateway.connect_on(core), "2025-11-25", "/mcp");
        assert_eq!(listed(&bystander, core), Vec::<String>::new());
        // Nor can it ask of one, though it shares their servers' sessions and knows the ids.
        for method in ["tasks/get", "tasks/result", "tasks/cancel"] {
            let message = legacy(7, method, json!({"taskId": ids[0]}));
            let refused = gateway.connect_on(core).ask(&Request::legacy(&bystander, &message)).json();
            assert_eq!(refused["error"]["code"], json!(-32602), "{method}: {refused}");
        }
    }
    assert_eq!(ask(0, "tasks/list", json!({"cursor": "0"}))["error"]["code"], json!(-32602));
    // By a server's own path its tasks have its own ids.
    let mut alone = gateway.connect_on(0);
    let session = open_at(&mut alone, "2025-11-25", "/mcp/a");
    let call = json!({"name": "slow_compute", "arguments": {"seconds": 0.01}, "task": {"ttl": 60_000}});
    let created = alone.ask(&Request::legacy(&session, &legacy(1, "tools/call", call)).target("/mcp/a")).json();
    let id = created["result"]["task"]["taskId"].clone();
    assert!(id.as_str().is_some_and(|id| !id.contains('+')), "{created}");
    let bystander = open_at(&mut alone, "2025-11-25", "/mcp/a");
    for (session, expected) in [(&session, vec![id]), (&bystander, vec![])] {
        let list = alone.ask(&Request::legacy(session, &legacy(2, "tasks/list", json!({}))).target("/mcp/a")).json();
        let ids: Vec<Value> =
            list["result"]["tasks"].as_array().expect("tasks").iter().map(|task| task["taskId"].clone()).collect();
        assert_eq!(ids, expected, "{list}");
    }
    let get = legacy(3, "tasks/get", json!({"taskId": created["result"]["task"]["taskId"]}));
    let asked = [&session, &bystander].map(|one| alone.ask(&Request::legacy(one, &get).target("/mcp/a")).json());
    assert!(asked[0]["result"].is_object(), "{}", asked[0]);
    assert_eq!(asked[1]["error"]["code"], json!(-32602), "{}", asked[1]);
}

#[test]
fn the_programs_own_tasks_and_pages_of_servers_are_listed_in_turn() {
    let tasks = json!({"tools": {}, "tasks": {"list": {}, "requests": {"tools": {"call": {}}}}});
    let paged = Upstream::start("legacy", tasks, |heard| match (heard.method(), &heard.params()["cursor"]) {
        ("tools/call", _) => Reply::Result(json!({"task": {"taskId": heard.params()["arguments"]["id"]}})),
        ("tasks/list", Value::Null) => {
            Reply::Result(json!({"tasks": [{"taskId": "one", "status": "working"}], "nextCursor": "é\"more"}))
        }
        ("tasks/list", cursor) => {
            assert_eq!(cursor, "é\"more");
            Reply::Result(json!({"tasks": [{"taskId": "nobody's"}, {"taskId": "two", "ttl": null}], "_meta": {"k": 1}}))
        }
        _ => Reply::Usual,
    });
    for more in ["", "concurrency = 4"] {
        let gateway = Server::configured(&format!("[gateway]\ndemonstration = \"on\"\n{}", paged.section("p", more)));
        reached(&gateway, "/mcp/p");
        let session = open_at(&mut gateway.connect_on(1), "2025-11-25", "/mcp");
        let ask = |method: &str, params: Value| {
            gateway.connect_on(1).ask(&Request::legacy(&session, &legacy(7, method, params))).json()["result"].clone()
        };
        for id in ["one", "two"] {
            let call = json!({"name": "p_t", "arguments": {"id": id}, "task": {"ttl": 1000}});
            assert_eq!(ask("tools/call", call)["task"]["taskId"], format!("p+{id}"));
        }
        let mut pages = vec![ask("tasks/list", json!({}))];
        while let Some(cursor) = pages.last().and_then(|page| page.get("nextCursor")).cloned() {
            pages.push(ask("tasks/list", json!({ "cursor": cursor })));
        }
        let tasks: Vec<&Value> = pages.iter().map(|page| &page["tasks"]).collect();
        let one = json!([{"taskId": "p+one", "status": "working"}]);
        let two = json!([{"taskId": "p+two", "ttl": null}]);
        assert_eq!(tasks, [&json!([]), &one, &two, &json!([])], "{more}");
        assert_eq!(pages[2]["_meta"], json!({"k": 1}), "all else stays");
    }
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

/// A server of one era whose tools run as tasks, in every way that there is.
fn tasking(era: &'static str) -> Upstream {
    let capabilities = json!({"tools": {}, "tasks": {"requests": {"tools": {"call": {}}}},
        "extensions": {"io.modelcontextprotocol/tasks": {}}});
    Upstream::start(era, capabilities, |heard| match heard.method() {
        "tools/list" => {
            let tool = |support: &str| {
                let schema = json!({"type": "object"});
                json!({"name": support, "inputSchema": schema, "execution": {"taskSupport": support}})
            };
            let tools = ["forbidden", "optional", "required"].map(tool);
            Reply::Result(json!({ "tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "public" }))
        }
        _ => Reply::Usual,
    })
}

#[test]
fn tasks_of_one_era_are_not_offered_in_the_other() {
    let (old, new) = (tasking("legacy"), tasking("modern"));
    let gateway = Server::configured(&(old.section("old", "") + &new.section("new", "")));
    reached(&gateway, "/mcp/old");
    reached(&gateway, "/mcp/new");
    let extension = "io.modelcontextprotocol/tasks";
    for (name, is_modern) in [("old", false), ("new", true)] {
        let path = format!("/mcp/{name}");
        let said = gateway.connect_on(0).ask(&Request::modern(&modern(1, "server/discover", json!({}))).target(&path));
        let said = said.json()["result"]["capabilities"].clone();
        assert_eq!(said["extensions"][extension].is_object(), is_modern, "{name}: {said}");
        let said = gateway.connect_on(0).ask(&Request::post(&initialize(1, "2025-11-25")).target(&path)).json();
        assert_eq!(said["result"]["capabilities"]["tasks"].is_object(), !is_modern, "{name}: {said}");
    }
    // In the one list for all, each tool says it of itself; one that would run as a task only is not there.
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp");
    let names = |result: &Value| {
        let tools = result["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {result}")).clone();
        let said =
            |tool: &Value| (tool["name"].as_str().unwrap_or_default().to_owned(), tool.get("execution").is_some());
        tools.iter().map(said).collect::<Vec<_>>()
    };
    let own = |prefix: &str, is_its: bool| {
        let kinds = ["forbidden", "optional", "required"].into_iter().filter(|kind| is_its || *kind != "required");
        kinds.map(|kind| (format!("{prefix}{kind}"), is_its)).collect::<Vec<_>>()
    };
    let list = until("both are listed", || {
        let list = peer.ask(&Request::legacy(&session, &legacy(2, "tools/list", json!({})))).json();
        (list["result"]["tools"].as_array()?.len() == 5).then_some(list)
    });
    assert_eq!(names(&list), [own("new_", false), own("old_", true)].concat());
    let list = gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/list", json!({})))).json();
    assert_eq!(names(&list), [own("new_", true), own("old_", false)].concat());
    // So do the lists of each, as its own path tells them.
    for (name, is_modern) in [("old", false), ("new", true)] {
        let path = format!("/mcp/{name}");
        let list = gateway.connect_on(0).ask(&Request::modern(&modern(1, "tools/list", json!({}))).target(&path));
        assert_eq!(names(&list.json()), own("", is_modern), "{name}");
        let alone = open_at(&mut peer, "2025-11-25", &path);
        let list = peer.ask(&Request::legacy(&alone, &legacy(2, "tools/list", json!({}))).target(&path)).json();
        assert_eq!(names(&list), own("", !is_modern), "{name}");
    }
    // Who asks for one all the same is told no, and the server nothing.
    let call = json!({"name": "new_optional", "arguments": {}, "task": {"ttl": 1000}});
    let refused = peer.ask(&Request::legacy(&session, &legacy(3, "tools/call", call))).json();
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
    assert!(new.heard("tools/call").is_empty());
    for (core, name) in [(0, "old"), (1, "old"), (1, "new")] {
        let params = json!({"taskId": format!("{name}+x")});
        let mut asks_new = modern(4, "tasks/get", params.clone());
        asks_new["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] =
            json!({"extensions": {extension: {}}});
        let of_new = gateway.connect_on(core).ask(&Request::modern(&asks_new)).json();
        let of_old = gateway.connect_on(core).ask(&Request::legacy(&session, &legacy(4, "tasks/get", params))).json();
        let (is_there, is_not) = if name == "new" { (of_new, of_old) } else { (of_old, of_new) };
        assert!(is_there["result"].is_object(), "{is_there}");
        assert_eq!(is_not["error"]["code"], -32602, "{name}: {is_not}");
    }
    // Nor does a server of the other era begin one for a client that only has its own kind of tasks.
    let mut opening = initialize(4, "2025-11-25");
    opening["params"]["capabilities"] = json!({"extensions": {extension: {}}, "roots": {}});
    let opened = peer.ask(&Request::post(&opening).target("/mcp/new"));
    let session = opened.field("Mcp-Session-Id").expect("a session").to_owned();
    let call = json!({"name": "optional", "arguments": {}, "task": {"ttl": 1000}});
    let answer = peer.ask(&Request::legacy(&session, &legacy(5, "tools/call", call)).target("/mcp/new")).json();
    assert_eq!(text(&answer), "done", "it was not offered, so it is not heeded: {answer}");
    let heard = new.heard("tools/call").pop().expect("it was called");
    assert_eq!(heard.params()["_meta"]["io.modelcontextprotocol/clientCapabilities"], json!({"roots": {}}));
}
