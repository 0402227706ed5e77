//! The line that the start-up report says to try, run by a shell as it stands.
//!
//! Not here: the rest of the report (`process` reads it). Needs curl.

use std::process::Command;

use serde_json::Value;

use crate::process::Server;

/// What the line of a server with such flags and variables is answered.
fn tried(listen: &str, variables: &[(&str, &str)]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--listen", listen, "--cores", "1"]);
    let mut server = Server::run(command, variables);
    server.until_said("  curl ");
    let line = server.said("  curl ").expect("it was said");
    let output = Command::new("sh").args(["-c", line]).output().expect("there is a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let json =
        text.lines().map(|line| line.trim_start_matches("data:")).find_map(|line| serde_json::from_str(line).ok());
    json.unwrap_or_else(|| panic!("{line}\nsays {text:?} {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn the_line_to_try_is_answered_with_a_result_in_every_era_that_is_served() {
    for era in ["both", "modern"] {
        let answer = tried("127.0.0.1:0", &[("SERVE_ERA", era)]);
        assert!(answer["result"]["tools"].is_array(), "{era}: {answer}");
    }
    let answer = tried("127.0.0.1:0", &[("SERVE_ERA", "legacy")]);
    assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
}

#[test]
fn the_line_to_try_names_a_host_that_is_served() {
    for hosts in ["mcp.example", "mcp.example:444,other.example", "*", ""] {
        let answer = tried("0.0.0.0:0", &[("SERVE_ALLOWED_HOSTS", hosts)]);
        assert!(answer["result"]["tools"].is_array(), "{hosts}: {answer}");
    }
    let answer = tried("[::1]:0", &[("SERVE_ALLOWED_HOSTS", "mcp.example"), ("SERVE_ENDPOINT", "/it's/{mcp}&$HOME")]);
    assert!(answer["result"]["tools"].is_array(), "{answer}");
}
