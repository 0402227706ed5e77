//! `corelane import`, run as an operator runs it: what it prints is a configuration, and its exit code says whether.
//!
//! Not here: what each entry of another program's file becomes (`config::import` tests that).
//! Invariant: a file that is read gives a configuration that is read; one that is not is an error with its place.
#![cfg(feature = "host")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn corelane(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null()).output().expect("the program runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

fn word(path: &Path) -> &str {
    path.to_str().expect("text")
}

#[test]
fn what_is_imported_is_a_configuration() {
    let folder = tempfile::tempdir().expect("a folder");
    let (theirs, ours) = (folder.path().join("claude_desktop_config.json"), folder.path().join("corelane.toml"));
    let json = r#"{"mcpServers": {
        "Everything": {"command": "npx", "args": ["-y", "server-everything"], "env": {"API_KEY": "hunter2"}},
        "near": {"type": "http", "url": "http://127.0.0.1:3000/mcp", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        "far": {"type": "http", "url": "https://mcp.example/mcp"},
        "odd": {"type": "websocket", "url": "ws://mcp.example/mcp"}
    }}"#;
    std::fs::write(&theirs, json).expect("writable");
    let imported = corelane(&["import", word(&theirs)], &[]);
    assert_eq!(imported.status.code(), Some(0), "{}", text(&imported.stderr));
    assert!(!text(&imported.stdout).contains("hunter2") && imported.stderr.is_empty());
    std::fs::write(&ours, &imported.stdout).expect("writable");

    let without = corelane(&["config", "--config", word(&ours)], &[]);
    assert_eq!(without.status.code(), Some(1), "its secrets are not exported");
    let exported = [("API_KEY", "hunter2"), ("TOKEN", "hunter2")];
    let effective = corelane(&["config", "--config", word(&ours)], &exported);
    let (printed, said) = (text(&effective.stdout), text(&effective.stderr));
    assert_eq!(effective.status.code(), Some(0), "{said}");
    assert!(printed.contains("\n[servers.everything]\n") && printed.contains("\n[servers.near]\n"), "{printed}");
    assert!(printed.contains("url = \"https://mcp.example/mcp\""), "{printed}");
    assert!(!printed.contains("\n[servers.odd]\n") && !printed.contains("hunter2"), "{printed}");
}

#[test]
fn what_is_no_json_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mcp.json");
    std::fs::write(&path, "{\n  \"mcpServers\": {,}\n}\n").expect("writable");
    for (path, said) in [(path.as_path(), "mcp.json:2:18"), (Path::new("/nonexistent/x"), "cannot be read")] {
        let output = corelane(&["import", word(path)], &[]);
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{}", text(&output.stdout));
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}
