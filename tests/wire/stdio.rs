//! How `corelane stdio` ends: at once and with a reason when its standard output does not do, unless its reader has
//! left; and soon when its standard input ends, whatever is in flight.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::process::until;
use crate::request::{echo, modern, sleep};

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
fn a_reader_that_takes_nothing_is_waited_for_while_it_keeps_its_side_open() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut command = started("", writer.into());
    command.env("CORELANE_LIMITS_WRITE_STALL_MS", "100");
    let mut child = command.spawn().expect("a shell");
    drop(command);
    let mut input = child.stdin.take().expect("piped");
    // More than a pipe holds.
    writeln!(input, "{}", modern(1, "tools/call", echo(&"x".repeat(200_000)))).expect("it reads");
    // Ten times as long as anybody else would have.
    std::thread::sleep(Duration::from_secs(1));
    assert!(child.try_wait().expect("our child").is_none(), "its client may have stopped for a while");
    drop(input);
    until("it ends although there is something to say", || child.try_wait().expect("our child"));
    let ended = child.wait_with_output().expect("our child");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.code() == Some(1) && text.contains("its reader takes nothing"), "{text}");
    drop(reader);
}

/// Says it, and has it end while that is in flight; how long it then took.
fn left(mut command: Command, message: &serde_json::Value, goes_altogether: bool) -> (Output, Duration) {
    let mut child = command.spawn().expect("a shell");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "{}", modern(1, "server/discover", json!({}))).expect("it reads");
    writeln!(input, "{message}").expect("it reads");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut told = String::new();
    output.read_line(&mut told).expect("UTF-8");
    if goes_altogether {
        drop(output);
        drop(input);
    } else {
        child.stdout = Some(output.into_inner());
        drop(input);
    }
    let since = Instant::now();
    until("it ends", || child.try_wait().expect("our child"));
    (child.wait_with_output().expect("our child"), since.elapsed())
}

#[test]
fn calls_have_a_moment_when_the_input_ends() {
    // Answered before the moment is over.
    let (ended, _) = left(started("", Stdio::piped()), &modern(2, "tools/call", sleep(200)), false);
    let text = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.code() == Some(0) && text.contains("slept 200 ms"), "{text}");
    // Called off after it.
    let (ended, took) = left(started("", Stdio::piped()), &modern(2, "tools/call", sleep(60_000)), false);
    let (text, said) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert_eq!((ended.status.code(), &*said), (Some(0), ""), "{text}");
    assert!(text.contains("\"id\":2") && text.contains("waits for this call no longer"), "{text}");
    assert!((Duration::from_secs(1)..Duration::from_secs(5)).contains(&took), "{took:?}");
}

#[test]
fn who_leaves_altogether_is_not_waited_for() {
    let (ended, took) = left(started("", Stdio::piped()), &modern(2, "tools/call", sleep(60_000)), true);
    assert_eq!((ended.status.code(), &*String::from_utf8_lossy(&ended.stderr)), (Some(0), ""));
    assert!(took < Duration::from_millis(900), "{took:?}");
}
