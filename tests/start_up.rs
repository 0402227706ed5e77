//! What the program says on its way up and down to whoever reads its log by program.
//!
//! Not here: the report for people (`tests/wire/process.rs` reads it, `tests/placement.rs` its plan).
//! Invariant: under `--log-format json` every line on standard error is one JSON object.
#![cfg(feature = "host")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn serve(listen: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["--log-format", "json", "serve", "--cores", "1", "--listen", listen]);
    command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0").env_remove("CORELANE_DISABLE").env_remove("CORELANE_LOG");
    command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs")
}

fn lines(child: &mut Child) -> impl Iterator<Item = Value> + use<> {
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    lines.map(|line| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

#[test]
fn everything_is_said_in_json_where_that_is_asked_for() {
    let mut child = serve("127.0.0.1:0");
    let mut lines = lines(&mut child);
    let starting = lines.find(|line| line["message"] == "starting").expect("it says that it starts");
    assert!(starting["http"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{starting}");
    assert!(starting["control"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")), "{starting}");
    assert_eq!((&starting["endpoint"], &starting["shards"]), (&"/mcp".into(), &16.into()), "{starting}");
    let told = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(told.expect("kill(1)").success());
    assert!(lines.any(|line| line["signal"] == "SIGTERM"), "it says why it ends");
    assert_eq!(lines.last(), None, "and nothing else");
    assert!(child.wait().expect("our child").success());
}

#[test]
fn also_why_it_cannot_start() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut child = serve(&taken.local_addr().expect("bound").to_string());
    let last = lines(&mut child).last().expect("it says why");
    assert_eq!(last["level"], "ERROR");
    assert!(last["timestamp"].is_string(), "like every other line: {last}");
    assert!(last["message"].as_str().is_some_and(|text| text.contains("in use")), "{last}");
    assert_eq!(child.wait().expect("our child").code(), Some(1));
}

/// Ends with this code, and says so once.
fn says_once(arguments: &[&str], variables: &[(&str, &str)], code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(arguments).env_remove("CORELANE_CONFIG").env_remove("CORELANE_LOG_FORMAT");
    command.envs(variables.iter().copied()).stdin(Stdio::null());
    let ended = command.output().expect("the program runs");
    let said = String::from_utf8(ended.stderr).expect("UTF-8");
    assert_eq!(ended.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[test]
fn also_what_is_wrong_with_the_configuration() {
    let (json, nowhere) = (("CORELANE_LOG_FORMAT", "json"), "/nowhere/corelane.toml");
    let flag = |more: &[&'static str]| [&["--log-format", "json"], more].concat();
    for (arguments, variables, code, about) in [
        (flag(&["serve", "--cores", "0-99999"]), &[][..], 2, "cores.list"),
        (flag(&["check", "--config", nowhere]), &[], 1, nowhere),
        (flag(&["stdio"]), &[("CORELANE_CONFIG", nowhere)], 1, nowhere),
        (vec!["serve", "--listen", "x"], &[json], 2, "serve.listen"),
        (vec!["config"], &[json, ("CORELANE_LIMITS_BODY_BYTES", "many")], 1, "CORELANE_LIMITS_BODY_BYTES"),
        (vec!["config"], &[json, ("CORELANE_DISABLE", "steering,warp")], 1, "`warp`"),
    ] {
        let said = says_once(&arguments, variables, code);
        let line: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"));
        assert_eq!(line["level"], "ERROR", "{line}");
        assert!(line["message"].as_str().is_some_and(|text| text.contains(about)), "{line}");
        assert!(line["timestamp"].as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{line}");
    }
    let said = says_once(&["--log-format", "text", "config", "--config", nowhere], &[json], 1);
    assert!(said.starts_with("corelane: "), "the flag wins: {said}");
    assert!(says_once(&["config", "--config", nowhere], &[], 1).starts_with("corelane: "));
}

#[test]
fn a_file_that_is_named_by_nothing_is_none() {
    let said = says_once(&["config"], &[("CORELANE_CONFIG", "")], 0);
    assert_eq!(said, "");
    let said = says_once(&["config", "--config", ""], &[], 2);
    assert!(said.contains("--config"), "a flag is meant: {said}");
}

#[test]
fn a_program_that_logs_for_itself_can_serve_and_more_than_once() {
    // Whatever was set up before stays what it was.
    let _ = tracing_subscriber::fmt().with_writer(std::io::sink).try_init();
    for _ in 0..2 {
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound").to_string();
        let options = corelane::ServeOptions::default().listen("127.0.0.1:0").control("127.0.0.1:0");
        let options = options.cores("1").tcp(&free);
        let server = corelane::Server::builder("embedded", "1").build().expect("right");
        let (say, ended) = std::sync::mpsc::channel();
        std::thread::spawn(move || say.send(server.serve(options).map_err(|error| error.to_string())));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::net::TcpStream::connect(&free).is_err() {
            if let Ok(outcome) = ended.try_recv() {
                panic!("it ended: {outcome:?}");
            }
            assert!(std::time::Instant::now() < deadline, "nobody listens");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
