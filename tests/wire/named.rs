//! Names behind `/mcp` that do not say whose they are: without a prefix, and hashed. They lead where they should from a
//! core's first call on, and while lists are read anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::process::{Server, until};
use crate::request::{Request, modern, text};
use crate::upstream::{Heard, Reply, Upstream};

/// How the servers of a test answer for their lists.
#[derive(Default)]
struct Lists {
    /// How long it takes them.
    ms: AtomicU64,
    /// There is one item more in each.
    are_longer: AtomicBool,
}

/// A server whose tools and prompts have these names, and say whose they are: in their descriptions, and when called.
fn server(server: &'static str, names: &'static [&'static str], lists: &Arc<Lists>) -> Upstream {
    let (lists, listed) = (Arc::clone(lists), json!({"listChanged": true}));
    let capabilities = json!({"tools": listed, "prompts": listed, "completions": {}});
    Upstream::start("legacy", capabilities, move |heard: &Heard| {
        let called = |name: &Value| format!("{server}:{}", name.as_str().unwrap_or("?"));
        let said = called(&heard.params()["name"]);
        let item = |name: &String| {
            let described = called(&name.as_str().into());
            json!({"name": name, "description": described, "inputSchema": {"type": "object"}})
        };
        let items = || {
            std::thread::sleep(Duration::from_millis(lists.ms.load(Ordering::Relaxed)));
            let more = lists.are_longer.load(Ordering::Relaxed).then(|| format!("{server} has/more"));
            let names = names.iter().map(|name| (*name).to_owned()).chain(more);
            names.map(|name| item(&name)).collect::<Vec<_>>()
        };
        Reply::Result(match heard.method() {
            "tools/list" => json!({"tools": items()}),
            "prompts/list" => json!({"prompts": items()}),
            "tools/call" => json!({"content": [{"type": "text", "text": said}]}),
            "prompts/get" => json!({"messages": [{"role": "user", "content": {"type": "text", "text": said}}]}),
            "completion/complete" => json!({"completion": {"values": [called(&heard.params()["ref"]["name"])]}}),
            _ => return Reply::Usual,
        })
    })
}

const LONG: &str = "a-name-that-is-longer-than-any-provider-takes-and-so-has-a-hash-at-its-end";

struct Rig {
    lists: Arc<Lists>,
    servers: Vec<Upstream>,
    configuration: String,
}

/// Two servers without a prefix, who share a name, and two with one, whose names would collide. Of each pair one core
/// speaks to the second for all.
fn rig() -> Rig {
    let lists = Arc::default();
    let named = [
        ("one", "prefix = \"\"", &["echo", "with spaces", LONG][..]),
        ("other", "prefix = \"\"\nconcurrency = 4", &["echo", "say", "with/slashes"]),
        ("short", "prefix = \"mod\"\nconcurrency = 4", &["ule_run", "run", LONG]),
        ("whole", "prefix = \"mod_ule\"", &["run", "two words"]),
    ];
    let mut rig = Rig { lists, servers: Vec::new(), configuration: String::new() };
    for (name, prefix, names) in named {
        let server = server(name, names, &rig.lists);
        rig.configuration += &server.section(name, prefix);
        rig.servers.push(server);
    }
    rig
}

impl Rig {
    fn gateway(&self) -> Server {
        let gateway = Server::configured(&self.configuration);
        for name in ["one", "other", "short", "whole"] {
            reached(&gateway, &format!("/mcp/{name}"));
        }
        gateway
    }

    fn say(&self, method: &str) {
        self.servers.iter().for_each(|server| server.say(method, &json!({})));
    }

    /// How often some list was asked for.
    fn reads(&self, method: &str) -> usize {
        self.servers.iter().map(|server| server.heard(method).len()).sum()
    }

    /// No server was ever sent a name that is not its own.
    fn assert_heard_their_own_names(&self) {
        for server in &self.servers {
            let own: Vec<Value> = {
                let listed = ["echo", "with spaces", LONG, "say", "with/slashes", "ule_run", "run", "two words"];
                let more = ["one", "other", "short", "whole"].map(|name| json!(format!("{name} has/more")));
                listed.into_iter().map(Value::from).chain(more).collect()
            };
            for method in ["tools/call", "prompts/get"] {
                for heard in server.heard(method) {
                    assert!(own.contains(&heard.params()["name"]), "{method}: {}", heard.body);
                }
            }
        }
    }
}

fn ask(gateway: &Server, core: usize, message: &Value) -> Value {
    gateway.connect_on(core).ask(&Request::modern(message)).json()
}

/// Names in a list, each with the description of what it stands for.
fn listed(gateway: &Server, core: usize, member: &str) -> Vec<(String, String)> {
    let list = ask(gateway, core, &modern(1, &format!("{member}/list"), json!({})));
    let items = list["result"][member].as_array().unwrap_or_else(|| panic!("no {member}: {list}"));
    let text = |item: &Value, member: &str| item[member].as_str().expect("text").to_owned();
    items.iter().map(|item| (text(item, "name"), text(item, "description"))).collect()
}

/// What a call, a prompt and a completion of this name come to, on a connection of its own.
fn outcomes(gateway: &Server, core: usize, name: &str) -> [(&'static str, Value); 3] {
    let complete = json!({"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": ""}});
    [
        ("tools/call", json!({"name": name, "arguments": {}})),
        ("prompts/get", json!({"name": name})),
        ("completion/complete", complete),
    ]
    .map(|(method, params)| (method, ask(gateway, core, &modern(1, method, params))))
}

fn assert_leads(gateway: &Server, core: usize, (name, whose): &(String, String)) {
    for (method, outcome) in outcomes(gateway, core, name) {
        let result = &outcome["result"];
        let said = match method {
            "tools/call" => &result["content"][0]["text"],
            "prompts/get" => &result["messages"][0]["content"]["text"],
            _ => &result["completion"]["values"][0],
        };
        assert_eq!(said, whose, "{method} of {name} on core {core}: {outcome}");
    }
}

/// Of eleven names one is another's already, as the first server's.
const NAMES: usize = 10;

#[test]
fn names_lead_to_one_server_from_a_cores_first_call_on() {
    let rig = rig();
    let gateway = rig.gateway();
    // What one core tells is good on the other, which nobody has asked for a list.
    let (tools, prompts) = (listed(&gateway, 0, "tools"), listed(&gateway, 0, "prompts"));
    assert_eq!((tools.len(), &tools), (NAMES, &prompts), "tools and prompts are called alike");
    assert!(tools.contains(&("echo".into(), "one:echo".into())), "{tools:?}");
    for name in &tools {
        [1, 0].iter().for_each(|&core| assert_leads(&gateway, core, name));
    }
    // Nor do names that were learnt before have to be listed: the call waits for the lists.
    drop(gateway);
    rig.lists.ms.store(300, Ordering::Relaxed);
    let gateway = Server::configured(&rig.configuration);
    for name in &tools {
        [1, 0].iter().for_each(|&core| assert_leads(&gateway, core, name));
    }
    rig.assert_heard_their_own_names();
}

#[test]
fn names_lead_on_while_lists_are_read_anew() {
    let rig = rig();
    let gateway = rig.gateway();
    let names = until("all are listed on both cores", || {
        let all = [0, 1].map(|core| [listed(&gateway, core, "tools"), listed(&gateway, core, "prompts")]);
        all.iter().flatten().all(|one| one.len() == NAMES).then(|| all[0][0].clone())
    });
    rig.servers.iter().for_each(|server| server.until_streams(1));
    rig.lists.ms.store(1000, Ordering::Relaxed);
    for are_longer in [false, true] {
        rig.lists.are_longer.store(are_longer, Ordering::Relaxed);
        for member in ["tools", "prompts"] {
            let method = format!("{member}/list");
            let before = rig.reads(&method);
            rig.say(&format!("notifications/{member}/list_changed"));
            until("they are read again", || (rig.reads(&method) > before).then_some(()));
            for name in &names {
                [0, 1].iter().for_each(|&core| assert_leads(&gateway, core, name));
            }
        }
    }
    // What came with the change is found by either core, whichever told of it.
    rig.lists.ms.store(0, Ordering::Relaxed);
    let longer = listed(&gateway, 0, "tools");
    assert_eq!(longer.len(), NAMES + 4, "{longer:?}");
    for name in &longer {
        [1, 0].iter().for_each(|&core| assert_leads(&gateway, core, name));
    }
    rig.assert_heard_their_own_names();
}

#[test]
fn a_server_that_tells_no_changes_is_looked_at_again_for_a_name_that_is_new() {
    let lists = Arc::<Lists>::default();
    let quiet = server("quiet", &["echo"], &lists);
    let gateway = Server::configured(&quiet.section("quiet", "prefix = \"\""));
    reached(&gateway, "/mcp/quiet");
    for core in [0, 1] {
        assert_eq!(listed(&gateway, core, "tools").len(), 1);
    }
    lists.are_longer.store(true, Ordering::Relaxed);
    let call = modern(1, "tools/call", json!({"name": "quiet_has_more_wrong", "arguments": {}}));
    assert_eq!(ask(&gateway, 0, &call)["error"]["code"], -32602);
    until("it is found", || {
        let found = listed(&gateway, 0, "tools");
        (found.len() == 2).then_some(())
    });
    let names = listed(&gateway, 0, "tools");
    until("the other core finds it when it is called", || {
        let call = modern(1, "tools/call", json!({"name": names[1].0, "arguments": {}}));
        let outcome = ask(&gateway, 1, &call);
        (outcome["result"].is_object() && text(&outcome) == names[1].1).then_some(())
    });
}

#[test]
fn a_list_that_does_not_come_costs_its_own_servers_names_only() {
    let (never, lists) =
        (Arc::new(Lists { ms: AtomicU64::new(3_600_000), ..Lists::default() }), Arc::<Lists>::default());
    let (hangs, good) = (server("hangs", &["echo"], &never), server("good", &["run", "two words"], &lists));
    // Who asks before the good one has told its names waits for both, and is not kept by the other when they are there.
    for (ms, is_bounded, until_told) in [(60_000, false, 0), (60_000, false, 500), (1000, true, 0)] {
        lists.ms.store(until_told, Ordering::Relaxed);
        let gateway = Server::configured(&format!(
            "{}{}",
            hangs.section("hangs", &format!("prefix = \"\"\nlist_timeout_ms = {ms}")),
            good.section("good", "prefix = \"b\"")
        ));
        for core in [0, 1] {
            let plain = modern(1, "tools/call", json!({"name": "b_run", "arguments": {}}));
            assert_eq!(text(&ask(&gateway, core, &plain)), "good:run");
            if is_bounded {
                let call = modern(1, "tools/call", json!({"name": "echo", "arguments": {}}));
                let unknown = ask(&gateway, core, &call);
                assert_eq!(unknown["error"]["code"], -31502, "{unknown}");
                assert!(unknown.to_string().contains("server hangs"), "{unknown}");
            }
        }
    }
}
