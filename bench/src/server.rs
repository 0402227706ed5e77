//! Starts a server, waits until it listens, sets a client on it, and ends it.
//!
//! It knows how each program is called and nothing of what is measured.
//!
//! Invariant: a server lives exactly as long as its `Running`, and dies with this process whatever happens.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::de::DeserializeOwned;

use crate::{
    Failure, hlog,
    message::{Payload, Wire},
    sys,
    tally::Report,
};

/// What can be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    FloorLines,
    FloorHttp,
    CorelaneTcp,
    CorelaneHttp,
    RmcpJson,
    RmcpStateful,
}

impl Program {
    /// Whether its answers are fixed bytes, which cannot be verified.
    pub fn is_floor(self) -> bool {
        matches!(self, Self::FloorLines | Self::FloorHttp)
    }
}

/// The bytes that the floor must know.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub ndjson_reply: usize,
    pub http_reply: usize,
    pub http_request: usize,
}

/// A server that listens.
pub struct Running {
    child: Child,
    log: PathBuf,
    pub target: SocketAddr,
}

/// What of corelane's settings is not the default here: what one connection may send has no limit.
pub const SETTING: (&str, &str) = ("CORELANE_LIMITS_MESSAGES_PER_S", "0");
/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(30);
/// How long a call may take until one succeeds: a proxy has to find its upstream first.
const REACH: Duration = Duration::from_secs(20);
/// Seconds of the first look and of the longest.
const GLANCE: (f64, f64) = (0.05, 1.0);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(3);

/// How a program is called: its binary, its words, and where it will then listen.
pub struct Start<'a> {
    pub binary: &'a Path,
    pub words: String,
    pub environment: &'a [(String, String)],
    /// The only CPU it may use, or all that this process may.
    pub cpu: Option<usize>,
    pub target: SocketAddr,
}

/// Two free ports of this machine: for HTTP and for lines.
pub struct Ports {
    pub http: SocketAddr,
    pub tcp: SocketAddr,
}

impl Ports {
    /// Free a moment ago.
    pub fn free() -> Result<Self, Failure> {
        let [http, tcp] = sys::free_ports(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        Ok(Self { http, tcp })
    }

    /// Fills in {http} and {tcp}.
    pub fn fill(&self, words: &str) -> String {
        words.replace("{http}", &self.http.to_string()).replace("{tcp}", &self.tcp.to_string())
    }
}

impl Running {
    /// Starts the program of a rung, confined to `cpu`, on free ports; `sizes` is asked once the port is known.
    pub fn rung(
        program: Program,
        binary: &Path,
        corelane_args: &str,
        cpu: usize,
        sizes: impl Fn(SocketAddr) -> Result<Sizes, String>,
    ) -> Result<Self, Failure> {
        let ports = Ports::free()?;
        let target = if matches!(program, Program::CorelaneTcp) { ports.tcp } else { ports.http };
        let (sizes, http) = (sizes(target)?, ports.http);
        let words = match program {
            Program::FloorLines => {
                format!("floor --shape ndjson --listen {http} --cpu {cpu} --reply-bytes {}", sizes.ndjson_reply)
            }
            Program::FloorHttp => format!(
                "floor --shape http --listen {http} --cpu {cpu} --reply-bytes {} --request-bytes {}",
                sizes.http_reply, sizes.http_request
            ),
            Program::CorelaneTcp | Program::CorelaneHttp => {
                ports.fill(corelane_args).replace("{cpu}", &cpu.to_string())
            }
            Program::RmcpJson => format!("--mode json --threads 1 --listen {http}"),
            Program::RmcpStateful => format!("--mode stateful --threads 1 --listen {http}"),
        };
        Self::start(Start { binary, words, environment: &[], cpu: Some(cpu), target })
    }

    /// Starts any program and waits until it listens.
    pub fn start(start: Start<'_>) -> Result<Self, Failure> {
        Self::start_within(start, START)
    }

    /// The same for a program that may take `limit` until it listens.
    pub fn start_within(start: Start<'_>, limit: Duration) -> Result<Self, Failure> {
        Self::launch(start, limit, Some(SETTING))
    }

    /// The same without `SETTING`: as whoever runs it has it.
    pub fn start_plain(start: Start<'_>) -> Result<Self, Failure> {
        Self::launch(start, START, None)
    }

    fn launch(start: Start<'_>, limit: Duration, setting: Option<(&str, &str)>) -> Result<Self, Failure> {
        let Start { binary, words, environment, cpu, target } = start;
        let log = std::env::temp_dir().join(format!("corelane-ladder-{}-{}.log", std::process::id(), target.port()));
        let output = fs::File::create(&log)?;
        let mut command = Command::new(binary);
        command.args(words.split_whitespace()).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // Only corelane reads it: its health and metrics must not collide with those of a corelane that runs already.
        command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
        command.envs(setting);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        sys::confine(&mut command, cpu);
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut running = Self { child, log, target };
        running.wait(limit)?;
        Ok(running)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), Failure> {
        let end = Instant::now() + limit;
        while TcpStream::connect(self.target).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended at once ({status}): {}", self.last_words()).into());
            }
            if Instant::now() > end {
                return Err(format!("the server does not listen on {}: {}", self.target, self.last_words()).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// This program's `subcommand` against it, to be run in a process of its own pinned to `cpu`.
    pub fn client(
        &self,
        subcommand: &str,
        wire: Wire,
        cpu: usize,
        payload: &Payload,
        more: &[String],
    ) -> Result<Command, Failure> {
        let mut client = Command::new(std::env::current_exe()?);
        client.arg(subcommand).args(["--target", &self.target.to_string(), "--wire", wire.name()]);
        client.args(["--cpu", &cpu.to_string(), "--server-pid", &self.pid().to_string()]);
        client.args(["--payload", &payload.payload.to_string(), "--tool", &payload.tool]);
        client.args(["--arguments", &payload.arguments, "--path", &payload.path]).args(more);
        Ok(client)
    }

    /// Runs that and gives its report.
    pub fn measured<T: DeserializeOwned>(
        &self,
        subcommand: &str,
        wire: Wire,
        cpu: usize,
        payload: &Payload,
        more: &[String],
    ) -> Result<T, Failure> {
        let done = self.client(subcommand, wire, cpu, payload, more)?.stdin(Stdio::null()).output()?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr).trim().to_string();
            return Err(format!("{why} {}", self.last_words()).into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }

    /// Runs `load` so and gives its report, with the histograms behind its percentiles.
    pub fn loaded(&self, wire: Wire, cpu: usize, payload: &Payload, more: &[String]) -> Result<Report, Failure> {
        let file = self.log.with_extension("hlog");
        let more = [more, &["--hlog".into(), file.display().to_string()]].concat();
        let report = self.measured::<Report>("load", wire, cpu, payload, &more);
        let histograms = hlog::read(&file);
        // It was never written if that failed.
        let _ = fs::remove_file(&file);
        let report = report?;
        Ok(Report { histograms: histograms?, ..report })
    }

    /// Waits until calls on so many connections are all answered: so many that each core of a proxy is asked for
    /// itself.
    pub fn reached(&self, wire: Wire, cpu: usize, payload: &Payload, connections: usize) -> Result<(), Failure> {
        let end = Instant::now() + REACH;
        let mut seconds = GLANCE.0;
        loop {
            let counts = [("--connections", connections.to_string()), ("--seconds", seconds.to_string())];
            let mut more = vec!["--warmup".to_owned(), "0".to_owned()];
            more.extend(counts.into_iter().flat_map(|(option, value)| [option.to_owned(), value]));
            let ran: Result<Report, Failure> = self.measured("load", wire, cpu, payload, &more);
            let told = match ran {
                Ok(report) if report.calls > 0 && report.errors.is_empty() => return Ok(()),
                Ok(report) => format!("{} calls, errors {:?}", report.calls, report.errors),
                Err(error) => error.to_string(),
            };
            if Instant::now() > end {
                let said = self.last_words();
                return Err(format!("no call came through within {REACH:?}: {told}; it said: {said}").into());
            }
            // Only calls that end in the window count, and there are gateways that take longer than the first one.
            seconds = (seconds * 2.0).min(GLANCE.1);
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// The process whose CPU time is counted.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of what it wrote.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(1000)..];
        String::from_utf8_lossy(tail).trim().to_string()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        sys::terminate(self.child.id());
        let end = Instant::now() + STOP;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > end {
                // It may have ended in the meantime, which is as good.
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        let _ = fs::remove_file(&self.log);
    }
}
