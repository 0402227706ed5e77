//! One running server: started on free ports, asked for its metrics, sent signals, killed when the test is over.
//!
//! Invariant: no child outlives the value that stands for it.

use std::fmt::Debug;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::peer::Peer;
use crate::request::Request;

/// Longer than anything here takes on a loaded machine; reached only by a test that fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `probe` gives something.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The conformance example, which `cargo test` builds beside this test (`cargo test --test wire` alone does not).
pub fn conformance_program() -> PathBuf {
    let here = std::env::current_exe().expect("a running test has a path");
    let target = here.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps/<test>");
    let program = target.join("examples/conformance_server");
    assert!(program.exists(), "not built: cargo build --example conformance_server");
    program
}

/// The processes that have this one as their parent, or their parent's parent and so on.
pub fn below(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let processes = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        found.extend(pids.filter(|pid| parent_of(*pid) == Some(parent)));
        at += 1;
    }
    found.split_off(1)
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

pub struct Server {
    child: Child,
    reader: Option<JoinHandle<()>>,
    lines: Receiver<String>,
    seen: String,
    pub http: SocketAddr,
    pub tcp: SocketAddr,
    pub control: SocketAddr,
    /// Where servers dial in, if they may.
    pub dial_in: SocketAddr,
}

impl Server {
    /// `corelane serve` on two cores.
    pub fn start() -> Server {
        Server::with(&[])
    }

    /// The same with variables of the environment, such as `("LIMITS_HEAD_TIMEOUT_MS", "100")`.
    pub fn with(variables: &[(&str, &str)]) -> Server {
        Server::on(2, variables)
    }

    /// The same on so many cores.
    pub fn on(cores: usize, variables: &[(&str, &str)]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--cores", &cores.to_string()]);
        Server::run(command, variables)
    }

    /// On two cores, where another was before.
    pub fn at(http: SocketAddr) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["serve", "--listen", &http.to_string(), "--tcp", "127.0.0.1:0", "--cores", "2"]);
        Server::run(command, &[])
    }

    /// The same on two cores and free ports, by a configuration file.
    pub fn configured(text: &str) -> Server {
        let mut file = tempfile::NamedTempFile::new().expect("a place for files");
        file.write_all(text.as_bytes()).expect("room for a file");
        // Read before the report is written, so it may go when this comes back.
        Server::by_file(file.path())
    }

    /// The same by a file that stays.
    pub fn by_file(path: &Path) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--cores", "2"]);
        command.arg("--config").arg(path);
        Server::run(command, &[])
    }

    /// The conformance server, whose tools ask their caller things and say that lists changed.
    pub fn conformance() -> Server {
        let mut command = Command::new(conformance_program());
        command.args(["--listen", "127.0.0.1:0", "--cores", "2"]);
        Server::run(command, &[])
    }

    /// The same, and it serves one era only.
    pub fn conformance_of(era: &str) -> Server {
        let mut command = Command::new(conformance_program());
        command.args(["--listen", "127.0.0.1:0", "--cores", "2", "--era", era]);
        Server::run(command, &[])
    }

    /// What such a command starts.
    pub fn run(mut command: Command, variables: &[(&str, &str)]) -> Server {
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("CORELANE_")) {
            command.env_remove(name);
        }
        command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
        command.envs(variables.iter().map(|(name, value)| (format!("CORELANE_{name}"), value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was built with this test");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (said, lines) = channel();
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let (http, tcp, control, dial_in) = (nowhere, nowhere, nowhere, nowhere);
        let mut server =
            Server { child, reader: Some(reader), lines, seen: String::new(), http, tcp, control, dial_in };
        server.read_report();
        until("every core is ready", || (server.probe("/readyz")?.status == 200).then_some(()));
        server
    }

    /// Reads the start-up report up to the address of the control thread, the last of the three.
    fn read_report(&mut self) {
        while self.control.port() == 0 {
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(error) => panic!("no start-up report ({error:?}):\n{}", self.seen),
            };
            let address = line.split_whitespace().find_map(|word| {
                word.trim_start_matches("http://").split('/').next().and_then(|word| word.parse().ok())
            });
            if let (Some(address), false) = (address, line.starts_with(' ')) {
                match line.split(':').next() {
                    Some("MCP over HTTP") => self.http = address,
                    Some("MCP over TCP") => self.tcp = address,
                    Some("servers dial in") => self.dial_in = address,
                    Some("health, metrics") => self.control = address,
                    _ => {}
                }
            }
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
    }

    /// The line of the report that begins so.
    pub fn said(&self, begin: &str) -> Option<&str> {
        self.seen.lines().find(|line| line.starts_with(begin))
    }

    /// Which core the report has on which CPU.
    pub fn planned(&self) -> impl Iterator<Item = (usize, usize)> {
        let table = self.seen.lines().skip_while(|line| !line.starts_with("core ")).skip(1);
        table.map_while(|line| {
            let mut words = line.split_whitespace().map(str::parse);
            Some((words.next()?.ok()?, words.next()?.ok()?))
        })
    }

    /// Its memory.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A connection to the HTTP listener.
    pub fn connect(&self) -> Peer {
        Peer::connect(self.http)
    }

    /// A connection to the listener of lines.
    pub fn lines(&self) -> Peer {
        Peer::connect(self.tcp)
    }

    /// An HTTP connection that is held by the given core.
    pub fn connect_on(&self, core: usize) -> Peer {
        for _ in 0..100 {
            let before = self.accepted();
            let mut peer = self.connect();
            // An answer proves that the connection was accepted and counted.
            assert_eq!(peer.ask(&Request::new("OPTIONS", "/mcp")).status, 204);
            let after = self.accepted();
            if after[core] > before[core] {
                return peer;
            }
        }
        panic!("100 connections, and none came to core {core}");
    }

    fn accepted(&self) -> Vec<u64> {
        self.metric("corelane_connections_accepted_total")
    }

    fn probe(&self, path: &str) -> Option<crate::peer::Answer> {
        let mut peer = Peer::try_connect(self.control)?;
        Some(peer.ask(&Request::new("GET", path).with("Connection", "close")))
    }

    /// What the control thread shows for a metric, core by core; with labels behind it for one that has more of them.
    pub fn metric(&self, name: &str) -> Vec<u64> {
        let text = self.probe("/metrics").expect("the control thread listens").text();
        let (family, label) = name.split_once('{').unwrap_or((name, "}"));
        let label = label.trim_end_matches('}');
        let rows = text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.split_once("} "));
        rows.filter(|(labels, _)| labels.contains(label))
            .map(|(_, value)| value.parse::<f64>().expect("a number") as u64)
            .collect()
    }

    /// The same over all cores.
    pub fn total(&self, name: &str) -> u64 {
        self.metric(name).iter().sum()
    }

    /// Polls until a metric's total is this.
    pub fn until_total(&self, name: &str, wanted: u64) {
        let mut last = 0;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            last = self.total(name);
            if last == wanted {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        panic!("{name} is {last}, not {wanted}");
    }

    /// Waits until a refusal was counted.
    pub fn until_refused(&self, cause: &str) {
        until(cause, || (self.refused(cause) > 0).then_some(()));
    }

    /// How often a refusal was counted.
    pub fn refused(&self, cause: &str) -> u64 {
        self.total(&format!("corelane_refusals_total{{cause=\"{cause}\"}}"))
    }

    /// How many connections were closed for a cause.
    pub fn closed(&self, cause: &str) -> u64 {
        self.total(&format!("corelane_connections_closed_total{{cause=\"{cause}\"}}"))
    }

    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(sent.expect("kill(1)").success(), "the process is there to be told");
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        until("the process ends", || self.child.try_wait().expect("our child"))
    }

    /// Waits until standard error says something.
    pub fn until_said(&mut self, text: &str) {
        self.until_said_in(text, 1);
    }

    /// The same in so many lines.
    pub fn until_said_in(&mut self, text: &str, lines: usize) {
        while self.count_said(text) < lines {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.seen = format!("{}{line}\n", self.seen),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("it never said {text:?} in {lines} lines:\n{}", self.seen)
                }
            }
        }
    }

    /// Reads standard error to its end, which comes when the process has ended.
    pub fn until_ended(&mut self) {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.seen = format!("{}{line}\n", self.seen);
        }
    }

    /// How many lines of standard error, as far as it was read, have this text in them.
    pub fn count_said(&self, text: &str) -> usize {
        self.seen.lines().filter(|line| line.contains(text)).count()
    }
}

impl Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Server({}, {})", self.pid(), self.http)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Coverage is written by a process that ends by itself. The first signal drains, the second ends.
        if std::env::var_os("LLVM_PROFILE_FILE").is_some() && !std::thread::panicking() {
            for _ in 0..2 {
                let _ = Command::new("kill").args(["-TERM", &self.pid().to_string()]).stderr(Stdio::null()).status();
                let deadline = Instant::now() + Duration::from_secs(1);
                while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        // Fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            self.seen.extend(self.lines.try_iter().map(|line| format!("{line}\n")));
            let tail = self.seen.lines().skip_while(|line| !line.contains("health, metrics")).collect::<Vec<_>>();
            eprintln!("--- the server's standard error\n{}\n---", tail.join("\n"));
        }
    }
}
