//! Starts a peer, with the server behind it if it is a gateway, and waits until it has answered a call.
//!
//! It knows how each program is called and where it is installed, and nothing of what is measured.
//!
//! Invariant: a peer ends before the server behind it, and what it wrote to its own directory goes with it.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    Peers, Sizes,
    lineup::{Peer, Program, version_after},
};
use crate::{
    Failure,
    forwarding::chain::{self, Config},
    message::{Payload, Script, Wire},
    server::{self, Ports, Running, Start},
};

/// How long a program may take until it listens: ContextForge makes its database first.
const LISTENS: Duration = Duration::from_secs(300);
/// How long it may then take to say that it is ready.
const READY: Duration = Duration::from_secs(60);
/// Connections that nginx may hold.
const NGINX_CONNECTIONS: usize = 16_384;

/// A peer that has answered a call. Fields are dropped in this order.
pub struct Served {
    pub front: Running,
    /// The call that it answers.
    pub payload: Payload,
    _behind: Option<Running>,
    _config: Option<Config>,
    _directory: Option<Directory>,
}

impl Served {
    /// Starts it on the server's CPU; what is behind it shares the load's.
    pub fn start(run: &Peers, peer: &Peer, sizes: &Sizes) -> Result<Self, Failure> {
        let mut payload = run.payload(peer);
        if peer.program == Program::Floor {
            let front = floor(run, peer, sizes, &payload)?;
            return Ok(Self { front, payload, _behind: None, _config: None, _directory: None });
        }
        let (program, cpu) = (run.program(peer)?, run.terms.server_cpu);
        let listen = Ports::free()?.http;
        let is_gateway = matches!(
            peer.program,
            Program::RmcpProxy | Program::FastmcpProxy | Program::Contextforge | Program::NginxProxy
        ) || peer.path == CORELANE_FORWARDS;
        let behind = is_gateway.then(|| chain::upstream(run.terms.load_cpu)).transpose()?;
        let url = behind.as_ref().map_or(String::new(), |behind| format!("http://{}/mcp", behind.target));
        let (mut config, mut directory) = (None, None);
        let script = |name: &str| run.programs.join(name).display().to_string();
        let words = match peer.program {
            Program::Floor | Program::Corelane => {
                config = behind.as_ref().map(|behind| Config::write(std::slice::from_ref(behind), "")).transpose()?;
                format!("serve --listen {listen} --cores {cpu}-{cpu}")
            }
            Program::RmcpEcho(mode) => format!("--mode {mode} --threads 1 --listen {listen}"),
            Program::FastmcpEcho(mode) => format!("{} {listen} {mode}", script("fastmcp_echo.py")),
            Program::TypescriptEcho(mode) => format!("{} {listen} {mode}", script("ts_echo/server.ts")),
            Program::RmcpProxy => format!("--listen {listen} --upstream {url}"),
            Program::FastmcpProxy => format!("{} {listen} {url}", script("fastmcp_proxy.py")),
            Program::Contextforge => {
                let own = directory.insert(Directory::new(listen)?);
                format!("{} {listen} {url} {}", script("contextforge.py"), own.0.display())
            }
            Program::NginxFixed | Program::NginxProxy => {
                let own = directory.insert(Directory::new(listen)?);
                let file = own.0.join("nginx.conf");
                fs::write(&file, nginx(listen, &own.0, behind.as_ref().map(|behind| behind.target)))?;
                format!("-p {} -e stderr -c {}", own.0.display(), file.display())
            }
        };
        let environment: Vec<_> = config.iter().map(Config::variable).collect();
        let start = Start { binary: &program, words, environment: &environment, cpu: Some(cpu), target: listen };
        let front = Running::start_within(start, LISTENS)?;
        if peer.program == Program::Contextforge {
            (payload.path, payload.tool) = awaited(&front)?;
        }
        if !peer.is_fixed() {
            front.reached(peer.wire, run.terms.load_cpu, &payload, 1)?;
        }
        Ok(Self { front, payload, _behind: behind, _config: config, _directory: directory })
    }
}

/// Where corelane has the server behind it; at its other paths it serves by itself.
const CORELANE_FORWARDS: &str = "/mcp/up";

/// The echo whose requests and answers are as long as corelane's.
fn floor(run: &Peers, peer: &Peer, sizes: &Sizes, payload: &Payload) -> Result<Running, Failure> {
    let binary = run.program(peer)?;
    let http_reply = sizes.reply(peer.wire);
    Running::rung(server::Program::FloorHttp, &binary, "", run.terms.server_cpu, |target| {
        let script = Script::new(peer.wire, false, target, payload)?;
        let script = if peer.wire == Wire::HttpLegacy { script.in_session(sizes.session)? } else { script };
        Ok(server::Sizes { ndjson_reply: 0, http_reply, http_request: script.call_bytes() })
    })
}

impl Peers {
    /// The program of a peer, or why there is none.
    pub(super) fn program(&self, peer: &Peer) -> Result<PathBuf, Failure> {
        let own = std::env::current_exe()?;
        let beside = |name: &str| match &self.binaries {
            Some(folder) => folder.join(name),
            None => own.with_file_name(name),
        };
        let file = match peer.program {
            Program::Floor => return Ok(own),
            Program::Corelane => beside("corelane"),
            Program::RmcpEcho(_) => beside("rmcp-echo"),
            Program::RmcpProxy => beside("rmcp-proxy"),
            Program::FastmcpEcho(_) | Program::FastmcpProxy => self.tools.join("fastmcp/bin/python"),
            Program::TypescriptEcho(_) => self.tools.join("typescript/bin/node"),
            Program::Contextforge => self.tools.join("contextforge/bin/python"),
            Program::NginxFixed | Program::NginxProxy => self.tools.join("nginx/usr/sbin/nginx"),
        };
        if file.exists() {
            return Ok(file);
        }
        Err(format!("there is no {}; `scripts/peers.sh` builds or installs it", file.display()).into())
    }

    /// The version of a peer: what is installed, or for what is built from this tree, what that pins.
    pub(super) fn version(&self, peer: &Peer) -> Option<String> {
        let said = |words: &[&str]| {
            let done = Command::new(self.program(peer).ok()?).args(words).output().ok()?;
            Some(String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned())
        };
        let package = |name: &str| {
            said(&["-c", &format!("import importlib.metadata as all; print('{name}==' + all.version('{name}'))")])
        };
        let (text, name) = match peer.program {
            Program::Floor => return None,
            Program::Corelane => (said(&["--version"])?, "corelane "),
            Program::RmcpEcho(_) => (include_str!("../../peers/rmcp_echo/Cargo.toml").to_owned(), "rmcp = "),
            Program::RmcpProxy => (include_str!("../../peers/rmcp_proxy/Cargo.toml").to_owned(), "rmcp = "),
            Program::FastmcpEcho(_) | Program::FastmcpProxy => (package("fastmcp")?, "fastmcp=="),
            Program::Contextforge => (package("mcp-contextforge-gateway")?, "gateway=="),
            Program::NginxFixed | Program::NginxProxy => (said(&["-v"])?, "nginx/"),
            Program::TypescriptEcho(_) => {
                let manifest = "typescript/node_modules/@modelcontextprotocol/server/package.json";
                (fs::read_to_string(self.tools.join(manifest)).ok()?, "\"version\"")
            }
        };
        version_after(&text, name).map(str::to_owned)
    }
}

/// A directory of a peer's own that goes when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(listen: SocketAddr) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("corelane-peer-{}-{}", std::process::id(), listen.port()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The whole configuration: one process that serves one body, or hands on to the server behind it and keeps its
/// connections to that. The body has the id of a connection's first call, so one call on each can be verified.
fn nginx(listen: SocketAddr, directory: &Path, behind: Option<SocketAddr>) -> String {
    let directory = directory.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("  {name}_temp_path {directory}/{name};\n"))
        .concat();
    let (upstream, location) = match behind {
        None => {
            let (id, text) = (crate::message::FIRST_ID, "X".repeat(76));
            let body =
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"content":[{{"type":"text","text":"{text}"}}]}}}}"#);
            (String::new(), format!("return 200 '{body}';"))
        }
        Some(server) => (
            format!("  upstream up {{ server {server}; keepalive 4096; keepalive_requests 1000000000; }}\n"),
            "proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';".to_owned(),
        ),
    };
    format!(
        "daemon off;\nmaster_process off;\npid {directory}/pid;\nerror_log stderr crit;\n\
         events {{ worker_connections {NGINX_CONNECTIONS}; }}\n\
         http {{\n{temporary}{upstream}  access_log off;\n  default_type application/json;\n  keepalive_timeout 3600s;\n  \
         keepalive_requests 1000000000;\n  server {{\n    listen {listen} backlog=4096;\n    \
         location = /mcp {{ {location} }}\n  }}\n}}\n"
    )
}

/// Waits until a peer has said where it is to be called.
fn awaited(front: &Running) -> Result<(String, String), Failure> {
    let end = Instant::now() + READY;
    loop {
        let said = front.last_words();
        if let Some(found) = ready(&said) {
            return Ok(found);
        }
        if Instant::now() > end || said.contains("Traceback") {
            return Err(format!("it did not say that it is ready; it said: {said}").into());
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The path and the tool of a line `ready PATH TOOL`.
fn ready(said: &str) -> Option<(String, String)> {
    let words = |line: &str| -> Option<(String, String)> {
        let (path, tool) = line.strip_prefix("ready ")?.split_once(' ')?;
        (path.starts_with('/') && !tool.contains(' ')).then(|| (path.into(), tool.into()))
    };
    said.lines().find_map(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_called_where_it_says() {
        let said = "It makes its tables.\nready /servers/4f/mcp up-echo\nINFO more";
        assert_eq!(ready(said), Some(("/servers/4f/mcp".into(), "up-echo".into())));
        for other in ["", "ready", "ready /servers/4f/mcp", "already /mcp echo", "ready mcp echo", "ready /mcp echo it"]
        {
            assert_eq!(ready(other), None, "{other}");
        }
    }

    #[test]
    fn nginx_answers_by_itself_or_hands_on() {
        let listen = ([127, 0, 0, 1], 8080).into();
        let fixed = nginx(listen, Path::new("own"), None);
        assert!(fixed.contains("listen 127.0.0.1:8080 backlog=4096;"), "{fixed}");
        let body = fixed.split('\'').nth(1).expect("a body in quotes");
        let answer: serde_json::Value = serde_json::from_str(body).expect("valid JSON");
        assert_eq!(answer["id"], crate::message::FIRST_ID);
        let proxy = nginx(listen, Path::new("own"), Some(([127, 0, 0, 1], 9).into()));
        assert!(proxy.contains("server 127.0.0.1:9; keepalive") && proxy.contains("proxy_pass http://up"), "{proxy}");
        for text in [fixed, proxy] {
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
            assert!(text.contains("own/client_body;"), "nothing is written elsewhere: {text}");
        }
    }
}
