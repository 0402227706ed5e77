//! An upstream, a proxy before it, and the wait until the one has reached the other.
//!
//! It knows how each proxy is told where its upstream is, and nothing of what is measured.
//!
//! Invariant: the proxy ends before its upstream, and both end with their `Chain`.

use std::{fs, net::SocketAddr, path::PathBuf};

use super::Forwarding;
use crate::{
    Failure,
    message::{Payload, Script, Wire},
    server::{Ports, Program, Running, Sizes, Start},
};

/// What stands before the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// No proxy and no upstream: bytes.
    Floor,
    /// The upstream alone.
    Nobody,
    /// The same, on the CPU where a proxy would be.
    NobodyFar,
    Corelane,
    Rmcp,
    Fastmcp,
}

/// See the module. Fields are dropped in this order.
pub struct Chain {
    /// What the load is set on.
    pub front: Running,
    _upstreams: Vec<Running>,
    _config: Option<Config>,
}

impl Chain {
    /// Starts what a rung needs; a call as `payload` says has gone through it when this returns.
    pub fn start(run: &Forwarding, front: Front, payload: &Payload, reply_bytes: usize) -> Result<Self, Failure> {
        let (program, cpu) = (run.program(front)?, run.terms.server_cpu);
        if front == Front::Floor {
            let sizing = |target| -> Result<Sizes, String> {
                let script = Script::new(Wire::HttpModern, false, target, payload)?;
                Ok(Sizes { ndjson_reply: 0, http_reply: reply_bytes, http_request: script.call_bytes() })
            };
            let floor = Running::rung(Program::FloorHttp, &program, "", cpu, sizing)?;
            return Ok(Self { front: floor, _upstreams: Vec::new(), _config: None });
        }
        let upstream = upstream(if front == Front::NobodyFar { cpu } else { run.terms.load_cpu })?;
        if matches!(front, Front::Nobody | Front::NobodyFar) {
            return Ok(Self { front: upstream, _upstreams: Vec::new(), _config: None });
        }
        let (listen, url) = (Ports::free()?.http, format!("http://{}/mcp", upstream.target));
        let upstreams = vec![upstream];
        let mut config = None;
        let words = match front {
            Front::Rmcp => format!("--listen {listen} --upstream {url}"),
            Front::Fastmcp => format!("{} {listen} {url}", run.fastmcp.display()),
            _ => {
                config = Some(Config::write(&upstreams, &run.section)?);
                format!("serve --listen {listen} --cores {cpu}-{cpu}")
            }
        };
        let environment: Vec<_> = config.iter().map(Config::variable).collect();
        let start = Start { binary: &program, words, environment: &environment, cpu: Some(cpu), target: listen };
        let chain = Self { front: Running::start(start)?, _upstreams: upstreams, _config: config };
        chain.reached(Wire::HttpModern, run.terms.load_cpu, payload, 1)?;
        Ok(chain)
    }

    /// Starts corelane before one upstream, with a further section in its configuration.
    pub fn with(run: &Forwarding, section: &str, payload: &Payload) -> Result<Self, Failure> {
        let (program, cpu) = (run.program(Front::Corelane)?, run.terms.server_cpu);
        let upstreams = vec![upstream(run.terms.load_cpu)?];
        let config = Config::write(&upstreams, &format!("{}\n{section}", run.section))?;
        let listen = Ports::free()?.http;
        let words = format!("serve --listen {listen} --cores {cpu}-{cpu}");
        let environment = [config.variable()];
        let start = Start { binary: &program, words, environment: &environment, cpu: Some(cpu), target: listen };
        let chain = Self { front: Running::start(start)?, _upstreams: upstreams, _config: Some(config) };
        chain.reached(Wire::HttpModern, run.terms.load_cpu, payload, 1)?;
        Ok(chain)
    }

    /// Starts corelane on two cores before `count` upstreams, with `more` in the section of each; what it tells of
    /// itself is at `control`.
    pub fn on_two_cores(run: &Forwarding, count: usize, more: &str, control: SocketAddr) -> Result<Self, Failure> {
        let program = run.program(Front::Corelane)?;
        let upstreams = (0..count).map(|_| upstream(run.terms.server_cpu)).collect::<Result<Vec<_>, _>>()?;
        let config = Config::write(&upstreams, &format!("{}\n{more}", run.section))?;
        let listen = Ports::free()?.http;
        let environment = [config.variable(), ("CORELANE_CONTROL_LISTEN".into(), control.to_string())];
        let words = format!("serve --listen {listen} --cores 2");
        let start = Start { binary: &program, words, environment: &environment, cpu: None, target: listen };
        Ok(Self { front: Running::start(start)?, _upstreams: upstreams, _config: Some(config) })
    }

    /// Waits until calls on so many connections are all answered: so many that each core is asked for itself.
    pub fn reached(&self, wire: Wire, cpu: usize, payload: &Payload, connections: usize) -> Result<(), Failure> {
        self.front.reached(wire, cpu, payload, connections)
    }
}

/// An upstream on this CPU.
pub fn upstream(cpu: usize) -> Result<Running, Failure> {
    let (binary, ports) = (std::env::current_exe()?, Ports::free()?);
    let words = format!("upstream --listen {} --cpu {cpu}", ports.http);
    Running::start(Start { binary: &binary, words, environment: &[], cpu: Some(cpu), target: ports.http })
}

/// The name of an upstream in corelane's configuration: `up`, then `up2` and so on.
pub fn name(index: usize) -> String {
    if index == 0 { "up".into() } else { format!("up{}", index + 1) }
}

/// A configuration file of corelane's that goes when it is dropped.
pub struct Config(PathBuf);

impl Config {
    /// With a section for each upstream, which has these further lines.
    pub fn write(upstreams: &[Running], more: &str) -> Result<Self, Failure> {
        let first = upstreams.first().ok_or("at least one upstream is needed")?.target.port();
        let file = std::env::temp_dir().join(format!("corelane-forwarding-{}-{first}.toml", std::process::id()));
        let section = |(index, upstream): (usize, &Running)| {
            let (name, target) = (name(index), upstream.target);
            format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{target}/mcp\"\n{more}\n")
        };
        fs::write(&file, upstreams.iter().enumerate().map(section).collect::<String>())?;
        Ok(Self(file))
    }

    /// By which corelane finds it.
    pub fn variable(&self) -> (String, String) {
        ("CORELANE_CONFIG".into(), self.0.display().to_string())
    }
}

impl Drop for Config {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
