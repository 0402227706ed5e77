//! The server in this process, by a section of its own: what is seen of it, under which names, and how many of its
//! calls there are at once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::reloading::File;
use crate::request::{Request, echo, legacy, modern, sleep, text, told_sleep};

const RULES: &str = "[servers.mine]
kind = \"native\"
prefix = \"own\"
[servers.mine.tools]
exclude = [\"fail\", \"now\"]
rename = { echo = \"say\" }
describe = { add = \"Better words\" }
[servers.mine.prompts]
include = [\"rev*\"]
[servers.mine.resources]
exclude = [\"corelane://echoes\", \"corelane://greeting/*\"]
";

fn ask(gateway: &Server, path: &str, message: &Value) -> Value {
    gateway.connect().ask(&Request::modern(message).target(path)).json()
}

fn names(gateway: &Server, path: &str, list: &str, member: &str, key: &str) -> Vec<String> {
    let listed = ask(gateway, path, &modern(1, list, json!({})));
    let items = listed["result"][member].as_array().unwrap_or_else(|| panic!("{listed}"));
    items.iter().map(|item| item[key].as_str().expect("a name").to_owned()).collect()
}

/// What is seen of it at a path, where its names begin so.
fn seen_by_the_rules(gateway: &Server, path: &str, before: &str) {
    let of = |own: &str| format!("{before}{own}");
    let tools = names(gateway, path, "tools/list", "tools", "name");
    let own: Vec<_> = tools.iter().filter(|name| name.starts_with(before) && !name.starts_with("a_")).collect();
    assert_eq!(own, [&of("say"), &of("add"), &of("sleep")], "{path}: {tools:?}");
    let call = |name: &str, arguments: Value| {
        ask(gateway, path, &modern(1, "tools/call", json!({"name": name, "arguments": arguments})))
    };
    assert_eq!(text(&call(&of("say"), json!({"data": "x"}))), "x");
    assert_eq!(text(&call(&of("add"), json!({"a": 1, "b": 2}))), "3");
    assert_eq!(text(&call(&of("sleep"), json!({"ms": 1}))), "slept 1 ms");
    for hidden in ["fail", "now", "echo"] {
        let refused = call(&of(hidden), json!({"data": "x"}));
        assert_eq!(refused["error"]["code"], -32602, "{path} {hidden}: {refused}");
    }
    let listed = ask(gateway, path, &modern(1, "tools/list", json!({})));
    let words = listed["result"]["tools"].as_array().expect("tools").iter().find(|tool| tool["name"] == of("add"));
    assert_eq!(words.expect("it is there")["description"], "Better words");

    assert!(names(gateway, path, "prompts/list", "prompts", "name").contains(&of("review")));
    let arguments = json!({"language": "rust", "code": "x"});
    let prompt = ask(gateway, path, &modern(1, "prompts/get", json!({"name": of("review"), "arguments": arguments})));
    assert!(prompt["result"]["messages"][0]["content"]["text"].as_str().expect("text").contains("rust"), "{prompt}");
    let reference = json!({"type": "ref/prompt", "name": of("review")});
    let completing = json!({"ref": reference, "argument": {"name": "language", "value": "r"}});
    let completed = ask(gateway, path, &modern(1, "completion/complete", completing));
    assert_eq!(completed["result"]["completion"]["values"], json!(["rust"]), "{completed}");

    // Its URIs are its own: those of other servers begin with their names.
    let uris = names(gateway, path, "resources/list", "resources", "uri");
    assert!(uris.contains(&"corelane://about".to_owned()), "{uris:?}");
    assert!(!uris.contains(&"corelane://echoes".to_owned()), "{uris:?}");
    let read = |uri: &str| ask(gateway, path, &modern(1, "resources/read", json!({"uri": uri})));
    assert_eq!(read("corelane://about")["result"]["contents"][0]["uri"], "corelane://about");
    for hidden in ["corelane://echoes", "corelane://greeting/x"] {
        assert_eq!(read(hidden)["error"]["code"], -32602, "{hidden}");
    }
}

#[test]
fn it_has_a_path_a_prefix_and_rules_like_any_other() {
    let alone = Server::configured(RULES);
    seen_by_the_rules(&alone, "/mcp", "own_");
    seen_by_the_rules(&alone, "/mcp/mine", "");
    // Who is alone at a path says itself who it is.
    let mut peer = alone.connect();
    let hello =
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "w", "version": "1"}});
    let about = |peer: &mut crate::peer::Peer, path: &str| {
        peer.ask(&Request::post(&legacy(1, "initialize", hello.clone())).target(path)).json()["result"]["serverInfo"]
            ["name"]
            .clone()
    };
    assert_eq!(about(&mut peer, "/mcp/mine"), "corelane-demonstration");
    assert_eq!(about(&mut peer, "/mcp"), "corelane");
    assert_eq!(
        alone.connect().ask(&Request::modern(&modern(1, "tools/list", json!({}))).target("/mcp/other")).status,
        404
    );
}

#[test]
fn it_stands_beside_others_whose_names_are_kept_apart_and_in_views() {
    let server = Server::start();
    let more = format!(
        "[servers.a]\nkind = \"http\"\nurl = \"http://{}/mcp\"\n[servers.a.tools]\nrename = {{ now = \"b_x\" }}\n\
         [views.some]\nservers = [\"mine\", \"a\"]\ntools = [\"own_say\", \"a_echo\"]\nrename = {{ own_say = \"talk\" }}\n",
        server.http
    );
    let gateway = Server::configured(&format!("{RULES}{more}"));
    reached(&gateway, "/mcp/a");
    seen_by_the_rules(&gateway, "/mcp", "own_");
    seen_by_the_rules(&gateway, "/mcp/mine", "");
    let tools = names(&gateway, "/mcp", "tools/list", "tools", "name");
    assert!(tools.contains(&"a_echo".to_owned()) && tools.contains(&"a_b_x".to_owned()), "{tools:?}");
    assert_eq!(names(&gateway, "/mcp/@some", "tools/list", "tools", "name"), ["talk", "a_echo"]);
    let said = |name: &str| {
        ask(&gateway, "/mcp/@some", &modern(1, "tools/call", json!({"name": name, "arguments": {"data": "x"}})))
    };
    assert_eq!((text(&said("talk")), text(&said("a_echo"))), ("x", "x"));
    for hidden in ["own_say", "own_add", "a_add", "say"] {
        assert_eq!(said(hidden)["error"]["code"], -32602, "{hidden}");
    }
}

#[test]
fn names_that_would_be_the_same_are_all_other_ones() {
    let server = Server::start();
    let text = format!(
        "[servers.mine]\nkind = \"native\"\nprefix = \"a\"\ntools.rename = {{ echo = \"b_c\" }}\n\
         [servers.other]\nkind = \"http\"\nurl = \"http://{}/mcp\"\nprefix = \"a_b\"\ntools.rename = {{ echo = \"c\" }}\n",
        server.http
    );
    let gateway = Server::configured(&text);
    reached(&gateway, "/mcp/other");
    let tools = names(&gateway, "/mcp", "tools/list", "tools", "name");
    let alike: Vec<_> = tools.iter().filter(|name| name.starts_with("a_b_c")).collect();
    assert!(alike.len() == 2 && alike[0] != alike[1] && alike.iter().all(|name| name.len() > 10), "{tools:?}");
    for name in alike {
        let said = ask(&gateway, "/mcp", &modern(1, "tools/call", json!({"name": name, "arguments": {"data": "x"}})));
        assert_eq!(crate::request::text(&said), "x");
    }
}

#[test]
fn a_limit_of_its_calls_holds_over_all_cores_and_all_have_their_turn() {
    let gateway = Server::configured("[servers.mine]\nkind = \"native\"\nprefix = \"\"\nconcurrency = 1\n");
    let (calls, ms) = (12, 50);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for side in 0..calls {
            let mut peer = gateway.connect_on(side as usize % 2);
            scope.spawn(move || {
                let call = modern(1, "tools/call", sleep(ms));
                let answer = peer.ask(&Request::modern(&call)).json();
                assert_eq!(text(&answer), format!("slept {ms} ms"));
            });
        }
    });
    // Of two at once the whole would take less time than they sleep one after the other.
    assert!(begun.elapsed() >= Duration::from_millis(ms) * calls, "{:?}", begun.elapsed());
    // Those that are answered at once take their turn as well, and leave none taken.
    for core in [0, 1, 0, 1] {
        let call = modern(1, "tools/call", echo("x"));
        assert_eq!(text(&gateway.connect_on(core).ask(&Request::modern(&call)).json()), "x");
    }
}

#[test]
fn more_calls_than_may_wait_are_refused_and_one_that_is_given_up_makes_room() {
    let gateway = Server::configured("[servers.mine]\nkind = \"native\"\nprefix = \"\"\nconcurrency = 1\n");
    let mut peer = gateway.connect_on(0);
    let session = open_at(&mut peer, "2025-11-25", "/mcp");
    let mut long = gateway.connect_on(0);
    long.send(Request::legacy(&session, &legacy("long", "tools/call", sleep(20_000))).bytes());
    let call = modern(1, "tools/call", sleep(1));
    let mut waiting: Vec<_> = Vec::new();
    // One on the other core, which waits for this core's seat.
    let mut other = gateway.connect_on(1);
    other.send(Request::modern(&call).bytes());
    for _ in 0..64 {
        let mut peer = gateway.connect_on(0);
        peer.send(Request::modern(&call).bytes());
        waiting.push(peer);
    }
    let refused = until("there is no room for another", || {
        let mut peer = gateway.connect_on(0);
        peer.send(Request::modern(&call).bytes());
        (!peer.is_silent_for(Duration::from_millis(300))).then(|| peer.answer().json())
    });
    assert_eq!(refused["error"]["code"], -31503, "{refused}");
    let gone = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "long"}});
    assert!(peer.ask(&Request::legacy(&session, &gone)).status < 300);
    for peer in waiting.iter_mut().chain([&mut other]) {
        assert_eq!(text(&peer.answer().json()), "slept 1 ms");
    }
}

#[test]
fn its_calls_have_its_time_and_more_while_they_tell_their_progress() {
    let gateway =
        Server::configured("[servers.mine]\nkind = \"native\"\nprefix = \"\"\ntimeout_ms = 400\nconcurrency = 1\n");
    let begun = Instant::now();
    let late = ask(&gateway, "/mcp", &modern(1, "tools/call", sleep(10_000)));
    assert_eq!(late["error"]["code"], -31504, "{late}");
    assert!(late["error"]["message"].as_str().expect("words").contains("server mine"), "{late}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    // It gave its seat back; and who tells how far it is may go on.
    let mut peer = gateway.connect_on(1);
    let session = open_at(&mut peer, "2025-11-25", "/mcp/mine");
    peer.open(&Request::legacy(&session, &legacy(1, "tools/call", told_sleep(1_000, 10, "t"))).target("/mcp/mine"));
    let last = std::iter::from_fn(|| peer.event()).map(|event| event.json()).find(|message| message["id"] == 1);
    assert_eq!(text(&last.expect("an answer")), "slept 1000 ms");
}

#[test]
fn the_section_comes_and_goes_while_it_serves() {
    let file = File::new("");
    let gateway = Server::by_file(&file.path());
    let tools = || names(&gateway, "/mcp", "tools/list", "tools", "name");
    assert!(tools().contains(&"echo".to_owned()));
    file.write("[servers.mine]\nkind = \"native\"\ntools.include = [\"echo\"]\n");
    until("the section is taken up", || (tools() == ["mine_echo"]).then_some(()));
    assert_eq!(names(&gateway, "/mcp/mine", "tools/list", "tools", "name"), ["echo"]);
    file.write("");
    until("it is as it was", || tools().contains(&"echo".to_owned()).then_some(()));
}
