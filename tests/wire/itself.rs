//! A gateway whose configuration has its own endpoint among the servers.

use serde_json::{Value, json};

use crate::process::{Server, until};
use crate::reloading::File;
use crate::request::{Request, modern};
use crate::upstream::{Reply, Upstream};

#[test]
fn a_server_that_is_corelane_itself_is_refused_and_lists_nothing_twice() {
    let upstream = Upstream::start("modern", json!({"tools": {}}), |_| Reply::Usual);
    let file = File::new(&upstream.section("s", ""));
    let gateway = Server::by_file(&file.path());
    crate::gateway::reached(&gateway, "/mcp/s");
    let itself = |name: &str, path: &str, era: &str| {
        let address = gateway.http;
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}{path}\"\nera = \"{era}\"\n")
    };
    let loops = [("a", "/mcp", "auto"), ("b", "/mcp", "legacy"), ("c", "/mcp/s", "modern"), ("d", "/mcp/d", "auto")];
    let sections = loops.map(|(name, path, era)| itself(name, path, era)).concat();
    file.write(&(upstream.section("s", "") + &sections));
    let ask = |core: usize, path: &str, message: &Value| {
        gateway.connect_on(core).ask(&Request::modern(message).target(path)).json()
    };
    let listed = |core: usize| -> Vec<String> {
        let list = ask(core, "/mcp", &modern(1, "tools/list", json!({})));
        let tools = list["result"]["tools"].as_array().expect("a list").iter();
        tools.map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    };
    for core in 0..2 {
        for (name, ..) in loops {
            let call = modern(1, "tools/call", json!({"name": "t", "arguments": {}}));
            until("it is known why", || {
                let answer = ask(core, &format!("/mcp/{name}"), &call);
                assert!(answer.get("result").is_none(), "{name}: {answer}");
                let said = answer["error"]["message"].as_str()?;
                (answer["error"]["code"] == -31502 && said.contains("a server behind itself")).then_some(())
            });
        }
        for _ in 0..3 {
            assert_eq!(listed(core), ["s_t", "s_u"]);
        }
    }
}
