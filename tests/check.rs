//! `corelane check`, run as an operator runs it: what it prints, and what its exit code says.
//!
//! Not here: verdicts on hosts of other kinds (`boot::host` and `boot::check` test those without one).
//! Invariant: a configuration that `check` calls fit is one that `serve` starts with, on this host, now.
#![cfg(feature = "host")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A `check` with these settings; every port is the kernel's choice unless a test chooses.
fn check(settings: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.arg("check").env("CORELANE_SERVE_LISTEN", "127.0.0.1:0").env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
    command.env("CORELANE_CORES_LIST", "1").env_remove("CORELANE_DISABLE");
    command.envs(settings.iter().copied()).stdin(Stdio::null()).output().expect("the program runs")
}

fn printed(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

/// The line of the table for one thing looked at, and the advice under it.
fn finding<'a>(table: &'a str, name: &str) -> (&'a str, &'a str) {
    let mut lines = table.lines().skip_while(|line| line.split_ascii_whitespace().nth(1) != Some(name));
    (lines.next().unwrap_or_else(|| panic!("no {name} in\n{table}")), lines.next().unwrap_or(""))
}

#[test]
fn a_fit_host_is_told_so_with_the_plan() {
    let output = check(&[]);
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{table}{}", said(&output));
    assert!(table.contains("corelane would serve here") && !table.contains("FAIL"), "{table}");
    for name in ["kernel", "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "net.core.somaxconn", "cores.list", "uring.descriptors"] {
        finding(&table, name);
    }
    assert!(table.contains("threads: 1 core, pinned") && table.contains("shards: 16"), "{table}");
    assert!(table.contains("serve.listen = [\"127.0.0.1:0\"] (from CORELANE_SERVE_LISTEN)"), "{table}");
    assert_eq!(said(&output), "", "standard error is for what went wrong");
}

#[test]
fn the_shards_for_so_many_connections_are_said_with_what_they_need() {
    for (connections, shards) in [("10000", 16), ("25000", 32), ("50000", 64), ("100000", 128), ("200000", 256)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["check", "--connections", connections]).env("CORELANE_CORES_LIST", "1");
        command.env("CORELANE_SERVE_LISTEN", "127.0.0.1:0").env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
        command.env("CORELANE_LIMITS_CONNECTIONS_PER_CORE", "60000");
        let output = command.output().expect("the program runs");
        let table = printed(&output);
        let (line, _) = finding(&table, "cores.shards");
        assert_eq!(line.split_whitespace().nth(2), Some(&*shards.to_string()), "{table}");
        assert!(table.contains(&format!("shards: {shards}, one contiguous range per core; chosen for")), "{table}");
        let told = table.contains(&format!("cores.expected_connections = {connections} (from --connections)"));
        assert_eq!(told, connections != "10000", "the default is not told: {table}");
        // The file table of a ring and of the host, memory, the backlog.
        let (line, _) = finding(&table, "uring.descriptors");
        assert!(line.ends_with(&format!("{connections} connections, and a reserve")), "{table}");
        assert!(finding(&table, "fs.file-max").0.ends_with(&format!(">= {connections}, the connections")), "{table}");
        let (line, _) = finding(&table, "MemAvailable");
        assert!(line.ends_with(&format!("MiB, {connections} idle connections")), "{table}");
        assert!(finding(&table, "net.core.somaxconn").0.contains("the backlog"), "{table}");
        let (line, advice) = finding(&table, "cores.expected_connections");
        let fits = shards < 128;
        assert_eq!(line.starts_with("ok"), fits, "{table}");
        assert!(fits || advice.contains(&format!("set limits.connections_per_core = {connections}")), "{table}");
        // Who asks for so many is answered by the exit code, whatever of it has no room.
        let room = ["MemAvailable", "RLIMIT_NOFILE", "cores.expected_connections", "fs.file-max", "uring.descriptors"];
        let has_room = !room.iter().any(|name| finding(&table, name).0.starts_with("warn"));
        assert!(fits || !has_room, "{table}");
        assert_eq!(output.status.code(), Some(i32::from(!has_room)), "{table}");
        let no_room = format!("has no room for {connections} connections");
        assert_eq!((table.contains(&no_room), said(&output).contains(&no_room)), (!has_room, !has_room), "{table}");
    }
    // What the configuration expects is no more than advice: `serve` starts all the same.
    let expects = ("CORELANE_CORES_EXPECTED_CONNECTIONS", "100000");
    let output = check(&[expects, ("CORELANE_LIMITS_CONNECTIONS_PER_CORE", "60000")]);
    let table = printed(&output);
    assert!(finding(&table, "cores.expected_connections").0.starts_with("warn"), "{table}");
    assert_eq!(output.status.code(), Some(0), "{table}");
}

#[test]
fn a_port_in_use_by_another_program_does_not_fit() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    for (variable, name) in [
        ("CORELANE_SERVE_LISTEN", "serve.listen"),
        ("CORELANE_SERVE_TCP", "serve.tcp"),
        ("CORELANE_CONTROL_LISTEN", "control.listen"),
    ] {
        let output = check(&[(variable, &address)]);
        let table = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{table}");
        let (line, advice) = finding(&table, name);
        assert!(line.starts_with("FAIL") && line.contains(&address), "{table}");
        assert!(advice.contains("in use") && advice.contains("ss -ltnp"), "{table}");
        assert!(table.contains("would not serve here"), "{table}");
        assert!(said(&output).contains("would not serve"), "{}", said(&output));
    }
}

#[test]
fn a_port_that_a_corelane_holds_already_is_noted() {
    let mut serving = Serving::start();
    let output = check(&[("CORELANE_SERVE_LISTEN", &serving.address.to_string())]);
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{table}");
    let (line, advice) = finding(&table, "serve.listen");
    assert!(line.starts_with("note") && advice.contains(&format!("process {}", serving.child.id())), "{table}");
    assert!(serving.child.try_wait().expect("ours").is_none(), "it was not disturbed");
}

/// A corelane that serves, until it is dropped.
struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start() -> Serving {
        // Chosen by the kernel and let go: nobody else takes it within the moment until it is bound again.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["serve", "--cores", "1", "--listen", &address.to_string()]);
        command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0").stdin(Stdio::null()).stderr(Stdio::null());
        let serving = Serving { child: command.spawn().expect("the program runs"), address };
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "it serves within 20 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        serving
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Best effort: it may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn cores_that_cannot_be_had_do_not_fit() {
    let output = check(&[("CORELANE_CORES_LIST", "0,1023")]);
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{table}");
    let (line, advice) = finding(&table, "cores.list");
    assert!(line.starts_with("FAIL") && advice.contains("CPU 1023"), "{table}");
    assert!(finding(&table, "serve.listen").0.starts_with("ok"), "everything else is still looked at: {table}");
}

#[test]
fn a_table_of_descriptors_beyond_the_limit_does_not_fit() {
    let shell = "ulimit -n 256 && exec \"$0\" check";
    let mut command = Command::new("sh");
    command.args(["-c", shell, env!("CARGO_BIN_EXE_corelane")]).env("CORELANE_URING_DESCRIPTORS", "4096");
    command.env("CORELANE_SERVE_LISTEN", "127.0.0.1:0").env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
    let output = command.env("CORELANE_CORES_LIST", "1").output().expect("sh");
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(1), "{table}{}", said(&output));
    let (line, advice) = finding(&table, "uring.descriptors");
    assert!(line.starts_with("FAIL") && advice.contains("LimitNOFILE=4096"), "{table}");
}

/// `corelane` with so many open files and the arguments given, on so many cores.
fn with_open_files(most: u64, arguments: &str, cores: &str) -> Command {
    let mut command = Command::new("sh");
    let shell = format!("ulimit -n {most} && exec \"$0\" {arguments}");
    command.args(["-c", &shell, env!("CARGO_BIN_EXE_corelane")]).env("CORELANE_CORES_LIST", cores);
    command.env("CORELANE_SERVE_LISTEN", "127.0.0.1:0").env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
    command.stdin(Stdio::null());
    command
}

#[test]
fn cores_that_could_not_open_their_files_do_not_fit() {
    for (cores, too_few) in [("2", 24), ("8", 64)] {
        let output = with_open_files(too_few, "check", cores).output().expect("sh");
        let table = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{table}{}", said(&output));
        let (line, advice) = finding(&table, "open");
        assert!(line.starts_with("FAIL"), "{table}");
        // With what it asks for it fits, and what fits starts.
        let asked = advice.split_once("LimitNOFILE=").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let enough: u64 = asked.unwrap_or_else(|| panic!("no number in {advice}"));
        let output = with_open_files(enough, "check", cores).output().expect("sh");
        assert_eq!(output.status.code(), Some(0), "{}", printed(&output));
        let mut child = with_open_files(enough, "serve", cores).stderr(Stdio::piped()).spawn().expect("sh");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
        let control = lines.find(|line| line.starts_with("health, metrics")).expect("it starts");
        let address = control.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let until = Instant::now() + Duration::from_secs(20);
        let ready = || {
            let mut stream = TcpStream::connect(address).ok()?;
            stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
            stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        };
        while ready().is_none() {
            assert!(Instant::now() < until, "{cores} cores are ready within 20 s");
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().expect("it serves");
        child.wait().expect("our child");
    }
}

#[test]
fn whatever_cannot_be_opened_at_the_start_is_said_with_advice() {
    // From what a dynamic linker needs to what two cores do not get by with. How many files something needs differs a
    // little from kernel to kernel, so none of these is near the edge.
    for few in 8..18 {
        let mut child = with_open_files(few, "serve", "2").stderr(Stdio::piped()).spawn().expect("sh");
        let mut said = String::new();
        let until = Instant::now() + Duration::from_secs(20);
        let status = loop {
            match child.try_wait().expect("our child") {
                Some(status) => break status,
                None if Instant::now() > until => {
                    child.kill().expect("our child");
                    panic!("it serves with {few} open files, or hangs");
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        child.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert_eq!(status.code(), Some(1), "{few} open files: {said}");
        assert!(said.contains("os error 24") && said.contains("LimitNOFILE"), "{few} open files: {said}");
    }
}

#[test]
fn a_feature_that_does_not_exist_cannot_be_switched_off() {
    let output = check(&[("CORELANE_DISABLE", "epoll")]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(printed(&output), "", "nothing is known about a host that was asked wrongly");
    assert!(said(&output).contains("`epoll`") && said(&output).contains("recv-multishot"), "{}", said(&output));
    let output = check(&[("CORELANE_DISABLE", "recv-multishot,msg-ring")]);
    let table = printed(&output);
    assert_eq!(output.status.code(), Some(0), "{table}");
    assert!(table.contains("4 missing") && table.contains("bells by eventfd"), "{table}");
}

#[test]
fn ports_are_wanted_for_the_connections_to_the_busiest_server_behind() {
    let mut file = tempfile::NamedTempFile::new().expect("a place for files");
    let server = |name, most| {
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://127.0.0.1:9\"\nconnections_per_core = {most}\n")
    };
    file.write_all((server("a", 100) + &server("b", 300)).as_bytes()).expect("room for a file");
    let path = file.path().to_str().expect("a plain path").to_owned();
    let output = check(&[("CORELANE_CONFIG", &path), ("CORELANE_CORES_LIST", "2")]);
    let table = printed(&output);
    assert!(finding(&table, "net.ipv4.ip_local_port_range").0.contains("600"), "{table}{}", said(&output));
}
