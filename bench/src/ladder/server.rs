//! Starts the server of a rung, waits until it listens, and ends it.
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

use crate::{Failure, sys};

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

/// How long a server may take until it listens.
const START: Duration = Duration::from_secs(10);
/// How long it may take to end before it is killed.
const STOP: Duration = Duration::from_secs(3);

impl Running {
    /// Starts `program` pinned to `cpu` on free ports; `sizes` is asked once the port is known.
    pub fn start(
        program: Program,
        binary: &Path,
        corelane_args: &str,
        cpu: usize,
        sizes: impl Fn(SocketAddr) -> Result<Sizes, String>,
    ) -> Result<Self, Failure> {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (first, second) = (sys::free_port(local)?, sys::free_port(local)?);
        let (http, tcp) = (SocketAddr::new(local, first), SocketAddr::new(local, second));
        let target = if matches!(program, Program::CorelaneTcp) { tcp } else { http };
        let sizes = sizes(target)?;
        let line = match program {
            Program::FloorLines => {
                format!("floor --shape ndjson --listen {http} --cpu {cpu} --reply-bytes {}", sizes.ndjson_reply)
            }
            Program::FloorHttp => format!(
                "floor --shape http --listen {http} --cpu {cpu} --reply-bytes {} --request-bytes {}",
                sizes.http_reply, sizes.http_request
            ),
            Program::CorelaneTcp | Program::CorelaneHttp => corelane_args
                .replace("{http}", &http.to_string())
                .replace("{tcp}", &tcp.to_string())
                .replace("{cpu}", &cpu.to_string()),
            Program::RmcpJson => format!("--mode json --threads 1 --listen {http}"),
            Program::RmcpStateful => format!("--mode stateful --threads 1 --listen {http}"),
        };
        let log = std::env::temp_dir().join(format!("corelane-ladder-{}-{first}.log", std::process::id()));
        let output = fs::File::create(&log)?;
        let mut command = Command::new(binary);
        command.args(line.split_whitespace()).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        sys::confine(&mut command, cpu);
        let child = command.spawn().map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut running = Self { child, log, target };
        running.wait()?;
        Ok(running)
    }

    fn wait(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + START;
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
