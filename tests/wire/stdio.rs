//! `corelane stdio` when its standard output does not do: it ends at once and says why, unless its reader has left.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::process::until;
use crate::request::{echo, modern};

/// The program with a command line of the shell's, so that descriptors can be closed.
fn started(redirection: &str, output: Stdio) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("exec \"$0\" stdio {redirection}"), env!("CARGO_BIN_EXE_corelane")]);
    command.stdin(Stdio::piped()).stdout(output).stderr(Stdio::piped());
    command
}

/// Says something, keeps standard input open, and waits for the end.
fn ended(mut command: Command) -> Output {
    let mut child = command.spawn().expect("a shell");
    let mut input = child.stdin.take().expect("piped");
    // It may be gone already.
    let _ = writeln!(input, "{}", modern(1, "tools/call", echo("x")));
    until("it ends although its input is open", || child.try_wait().expect("our child"));
    drop(input);
    child.wait_with_output().expect("our child")
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let full = || File::options().write(true).open("/dev/full").expect("it is always there");
    for (redirection, output, said) in [
        ("", full().into(), "No space left on device"),
        ("1</dev/null", Stdio::null(), "Bad file descriptor"),
        (">&-", Stdio::null(), "standard output is closed"),
    ] {
        let ended = ended(started(redirection, output));
        let text = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{redirection:?}: {text}");
        assert!(text.contains("standard output") && text.contains(said), "{redirection:?}: {text}");
    }
}

#[test]
fn a_reader_that_left_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let ended = ended(started("", writer.into()));
    assert_eq!((ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)), (Some(0), ""));
}

#[test]
fn an_output_that_is_meant_to_be_nothing_is_fine() {
    let mut child = started(">/dev/null", Stdio::null()).spawn().expect("a shell");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{}", modern(1, "server/discover", json!({}))).expect("it reads");
    drop(input);
    let mut said = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut said).expect("UTF-8");
    assert!(child.wait().expect("our child").success(), "{said}");
}

#[test]
fn a_reader_that_takes_nothing_is_an_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = started("", writer.into());
    command.env("CORELANE_LIMITS_WRITE_STALL_MS", "100");
    let mut child = command.spawn().expect("a shell");
    drop(command);
    let mut input = child.stdin.take().expect("piped");
    // More than a pipe holds.
    writeln!(input, "{}", modern(1, "tools/call", echo(&"x".repeat(200_000)))).expect("it reads");
    until("it ends although its input is open", || child.try_wait().expect("our child"));
    let ended = child.wait_with_output().expect("our child");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && text.contains("its reader takes nothing"), "{text}");
    drop(reader);
}
