//! Resources of servers behind the gateway that callers subscribe to: many here, one there.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::faulty::{answer, scripted};
use crate::gateway::reached;
use crate::legacy::open_at;
use crate::peer::Peer;
use crate::process::{Server, until};
use crate::request::{Request, legacy, modern};
use crate::upstream::{Reply, Upstream};

pub const WATCHED: &str = "test://watched-resource";

/// Has the server at a path say that its watched resource changed, and then that its tools did.
pub fn change(gateway: &Server, path: &str) {
    for name in ["test_trigger_resource_update", "test_trigger_tool_change"] {
        let call = modern(1, "tools/call", json!({"name": name, "arguments": {}}));
        assert_eq!(gateway.connect().ask(&Request::modern(&call).target(path)).status, 200);
    }
}

/// The URIs of resources that were told of, up to the news that tools changed.
pub fn told(stream: &mut Peer) -> Vec<String> {
    let mut uris = Vec::new();
    loop {
        let message = stream.event().expect("the stream goes on").json();
        match message["method"].as_str() {
            Some("notifications/resources/updated") => {
                uris.push(message["params"]["uri"].as_str().expect("a URI").to_owned());
            }
            Some("notifications/tools/list_changed") => return uris,
            _ => {}
        }
    }
}

/// A session at a path, with its stream, each on its core.
pub fn session(gateway: &Server, path: &str, core: usize) -> (String, Peer) {
    let id = open_at(&mut gateway.connect_on(core), "2025-11-25", path);
    let mut stream = gateway.connect_on(core);
    stream.open(&Request::stream(&id).target(path));
    (id, stream)
}

pub fn subscribe(gateway: &Server, path: &str, core: usize, id: &str, uri: &str, what: &str) -> Value {
    let message = legacy(7, &format!("resources/{what}"), json!({"uri": uri}));
    gateway.connect_on(core).ask(&Request::legacy(id, &message).target(path)).json()
}

#[test]
fn whoever_subscribes_to_a_resource_behind_the_gateway_hears_of_it_and_of_no_other() {
    let (a, b) = (Server::conformance(), Server::conformance());
    for era in ["legacy", "modern"] {
        let section = |name, server: &Server| {
            format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nera = \"{era}\"\n", server.http)
        };
        let gateway = Server::configured(&(section("a", &a) + &section("b", &b)));
        reached(&gateway, "/mcp/a");
        reached(&gateway, "/mcp/b");
        let merged = "a+test://watched-resource";
        let (of_a, mut alone) = session(&gateway, "/mcp/a", 0);
        let (of_all, mut among_others) = session(&gateway, "/mcp", 1);
        let (of_b, mut bystander) = session(&gateway, "/mcp/b", 0);
        for (path, core, id, uri) in
            [("/mcp/a", 0, &of_a, WATCHED), ("/mcp", 1, &of_all, merged), ("/mcp/b", 0, &of_b, WATCHED)]
        {
            let answer = subscribe(&gateway, path, core, id, uri, "subscribe");
            assert_eq!(answer["result"], json!({}), "{era}: {answer}");
        }
        let wanted = json!({"toolsListChanged": true, "resourceSubscriptions": [merged, "nobody+x:y"]});
        let listen = modern("l", "subscriptions/listen", json!({"notifications": wanted}));
        let mut listening = gateway.connect_on(0);
        listening.open(&Request::modern(&listen));
        let acknowledged = listening.event().expect("an event").json();
        assert_eq!(acknowledged["params"]["notifications"]["resourceSubscriptions"], json!([merged]), "{era}");
        // The servers are told a moment later than their callers.
        for (stream, uri) in [(&mut alone, WATCHED), (&mut among_others, merged), (&mut listening, merged)] {
            until("the change is heard of", || {
                change(&gateway, "/mcp/a");
                told(stream).contains(&uri.to_owned()).then_some(())
            });
        }
        let mut heard = told(&mut bystander);
        until("the neighbour's change is heard of", || {
            change(&gateway, "/mcp/b");
            let seen = heard.contains(&WATCHED.to_owned());
            assert!(seen || heard.is_empty(), "{era}: {heard:?}");
            heard = told(&mut bystander);
            seen.then_some(())
        });
        let unknown = subscribe(&gateway, "/mcp", 0, &of_all, "nobody+x:y", "subscribe");
        assert_eq!(unknown["error"]["code"], -32002, "{unknown}");
    }
}

/// A server of 2025-11-25 that tells what is subscribed to, and the end of that.
fn noting() -> (std::net::SocketAddr, Receiver<String>) {
    let (note, notes) = channel();
    let address = scripted(move |stream, request| {
        let method = request["method"].as_str().unwrap_or_default();
        let result = match method {
            "initialize" => json!({"protocolVersion": "2025-11-25", "serverInfo": {"name": "noting", "version": "1"},
                "capabilities": {"resources": {"subscribe": true}}}),
            "resources/subscribe" | "resources/unsubscribe" => {
                let uri = request["params"]["uri"].as_str().unwrap_or_default();
                note.send(format!("{method} {uri}")).expect("the test listens");
                json!({})
            }
            _ if request["id"].is_null() => {
                use std::io::Write as _;
                return drop(stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n"));
            }
            _ => json!({"resources": [], "resourceTemplates": []}),
        };
        answer(stream, "200 OK", &json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string());
    });
    (address, notes)
}

#[test]
fn many_subscribers_are_one_to_the_server_and_the_last_one_ends_it() {
    let (address, notes) = noting();
    let gateway = Server::configured(&format!(
        "[servers.n]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"legacy\"\n"
    ));
    reached(&gateway, "/mcp/n");
    let next = || notes.recv_timeout(Duration::from_secs(20)).expect("the server is told");
    let sessions: Vec<(usize, String)> =
        [0, 1, 0, 1].map(|core| (core, open_at(&mut gateway.connect_on(core), "2025-11-25", "/mcp/n"))).into();
    for (core, id) in &sessions {
        assert_eq!(subscribe(&gateway, "/mcp/n", *core, id, "x:y", "subscribe")["result"], json!({}));
    }
    assert_eq!(next(), "resources/subscribe x:y");
    let (first, rest) = sessions.split_first().expect("four");
    for (core, id) in rest {
        subscribe(&gateway, "/mcp/n", *core, id, "x:y", "unsubscribe");
    }
    // Whoever is left keeps it, until the session ends.
    subscribe(&gateway, "/mcp/n", first.0, &first.1, "x:z", "subscribe");
    assert_eq!(next(), "resources/subscribe x:z", "nothing else in between");
    let gone = Request::new("DELETE", "/mcp/n").with("Mcp-Session-Id", &first.1);
    assert!(gateway.connect_on(first.0).ask(&gone).status < 300);
    let mut last = [next(), next()];
    last.sort();
    assert_eq!(last, ["resources/unsubscribe x:y", "resources/unsubscribe x:z"]);
}

/// A server of this era, a gateway before it, and the stream of a session on it that subscribed to this.
fn subscribed(era: &'static str, uri: &str) -> (Upstream, Server, Peer) {
    let capabilities = json!({"resources": {"subscribe": true}, "tools": {"listChanged": true}});
    let server = Upstream::start(era, capabilities, |_| Reply::Usual);
    let gateway = server.gateway("");
    let (id, stream) = session(&gateway, "/mcp/s", 1);
    assert_eq!(subscribe(&gateway, "/mcp/s", 1, &id, uri, "subscribe")["result"], json!({}));
    (server, gateway, stream)
}

#[test]
fn a_resource_that_changes_all_the_time_is_told_of_now_and_then() {
    for era in ["legacy", "modern"] {
        let (server, _gateway, mut stream) = subscribed(era, "x:y");
        until("the server is told", || {
            let asked = if era == "legacy" { "resources/subscribe" } else { "subscriptions/listen" };
            let is_it = |one: &crate::upstream::Heard| one.body.to_string().contains("x:y");
            server.heard(asked).iter().any(is_it).then_some(())
        });
        let mut heard = Vec::new();
        until("it is heard of", || {
            for _ in 0..1000 {
                server.say("notifications/resources/updated", &json!({"uri": "x:y"}));
                server.say("notifications/resources/updated", &json!({"uri": "x:z"}));
            }
            server.say("notifications/tools/list_changed", &json!({}));
            heard = told(&mut stream);
            (!heard.is_empty()).then_some(())
        });
        assert!(heard.iter().all(|uri| uri == "x:y") && heard.len() < 100, "{era}: {} times", heard.len());
    }
}

#[test]
fn a_change_of_a_part_is_told_to_those_who_watch_the_whole() {
    for era in ["legacy", "modern"] {
        let (server, _gateway, mut stream) = subscribed(era, "x:/d");
        let mut heard = Vec::new();
        until("it is heard of", || {
            for uri in ["x:/d/e", "x:/dd", "x:/"] {
                server.say("notifications/resources/updated", &json!({"uri": uri}));
            }
            server.say("notifications/tools/list_changed", &json!({}));
            heard = told(&mut stream);
            (!heard.is_empty()).then_some(())
        });
        assert!(heard.iter().all(|uri| uri == "x:/d"), "{era}: {heard:?}");
    }
}
