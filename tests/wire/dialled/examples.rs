//! The example that needs nothing but Python, as it is shown. The one for Node is run by `tests/upstreams/run`, which
//! brings a Node along.

use std::process::{Child, Command, Stdio};

use super::{Hall, KEY, call};
use crate::gateway::reached;
use crate::process::until;
use crate::request::text;

/// One process of the example; killed when it is dropped.
struct Example(Child);

impl Example {
    fn new(hall: &Hall, key: &str) -> Example {
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dial_in.py");
        let mut command = Command::new("python3");
        command.args([program, &hall.address().to_string(), "w"]).env("DIAL_KEY", key).stderr(Stdio::piped());
        Example(command.spawn().expect("python3"))
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.0.kill().expect("our child");
        self.0.wait().expect("our child");
    }
}

#[test]
fn the_python_example_serves_and_is_a_pool_when_it_is_started_twice() {
    let mut hall = Hall::new("", "");
    let one = Example::new(&hall, KEY);
    reached(&hall.gateway, "/mcp/w");
    let who = |core: usize| text(&hall.ask(core, "/mcp", &call("w_whoami"))).to_owned();
    for core in 0..2 {
        assert_eq!(who(core), format!("python {}", one.0.id()));
    }
    let other = Example::new(&hall, KEY);
    hall.until_there(2);
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("servers").env("CORELANE_CONTROL_LISTEN", hall.gateway.control.to_string());
    let printed = String::from_utf8(command.output().expect("it runs").stdout).expect("UTF-8");
    let words: Vec<Vec<&str>> = printed.lines().map(|line| line.split_whitespace().collect()).collect();
    let column = words[0].iter().position(|word| *word == "connections").expect("a column");
    assert_eq!((words[1][0], words[1][1], words[1][column]), ("w", "dial_in", "2"), "{printed}");
    let first = one.0.id();
    drop(one);
    until("the other serves", || {
        let answer = hall.ask(1, "/mcp/w", &call("whoami"));
        let is_other = answer["result"].is_object() && text(&answer) == format!("python {}", other.0.id());
        is_other.then_some(())
    });
    assert_ne!(first, other.0.id());
    let _stranger = Example::new(&hall, "another key, as long");
    hall.gateway.until_said("another key than");
    assert_eq!(hall.gateway.total("corelane_server_connections"), 1);
}

#[test]
fn who_starts_the_example_wrongly_is_told_how() {
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/dial_in.py");
    for (words, key) in [(&[][..], "k"), (&["127.0.0.1:1"], "k"), (&["nowhere", "w"], "k"), (&["127.0.0.1:1", "w"], "")]
    {
        let output = Command::new("python3").arg(program).args(words).env("DIAL_KEY", key).output().expect("python3");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("usage: DIAL_KEY=") && said.lines().count() == 1, "{words:?}: {said}");
        assert_eq!(output.status.code(), Some(1));
    }
}
