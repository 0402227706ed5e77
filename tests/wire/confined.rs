//! Child processes with limits of their own: what is configured is what they meet.

use serde_json::json;

use crate::gateway::reached;
use crate::process::Server;
use crate::request::{Request, modern, text};
use crate::script::{child, one_tool};

/// The one tool of a server tries how many files it may open and how much memory it may have: it says its own limits,
/// what stopped it, and how many files it had by then.
const TRYING: &str = r#"
import errno, json, os, resource
def limit(which):
    soft, hard = resource.getrlimit(which)
    return soft if soft == hard else [soft, hard]
def files():
    opened = []
    try:
        while len(opened) < 2000:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return errno.errorcode[error.errno], opened[-1] + 1
    finally:
        for one in opened:
            os.close(one)
    return "none", len(opened)
def memory():
    try:
        return "had" if bytearray(400 << 20) else ""
    except MemoryError:
        return "MemoryError"
def said():
    return json.dumps([limit(resource.RLIMIT_NOFILE), *files(), limit(resource.RLIMIT_AS), memory(),
                       limit(resource.RLIMIT_CORE)])
"#;

/// What a child with these keys in its section meets.
fn met(keys: &str) -> serde_json::Value {
    let gateway = Server::configured(&child("python3", &one_tool("try", TRYING), keys));
    reached(&gateway, "/mcp/c");
    let call = modern(1, "tools/call", json!({"name": "try", "arguments": {}}));
    let answer = gateway.connect().ask(&Request::modern(&call).target("/mcp/c"));
    serde_json::from_str(text(&answer.json())).expect("a list")
}

#[test]
fn a_child_meets_the_limits_of_its_section() {
    let few = met("open_files = 40\naddress_space_bytes = 268435456\n");
    assert_eq!(few, json!([40, "EMFILE", 40, 268_435_456, "MemoryError", 0]));
    // Without them it has what corelane was started with, not what corelane raised its own to.
    let free = met("");
    assert_ne!((&free[0], &free[3]), (&few[0], &few[3]), "{free}");
    assert_eq!((&free[4], &free[5]), (&json!("had"), &json!(0)), "{free}");
}
