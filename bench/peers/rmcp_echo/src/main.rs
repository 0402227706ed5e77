//! The peer of the ladder: an echo server on rmcp and axum, set up as well as its own options allow.
//!
//! It is not an example of how to use rmcp: the handler is written by hand, without the tool router, because that is
//! the cheaper of the two, and a comparison is only worth something if the other side stands at its best. The tool
//! `echo` takes `{"data": string}` or `{"message": string}` and answers one text block with that string, as corelane's
//! demonstration tool does; `touch` (only with `--announce`) sends `notifications/tools/list_changed` to every session.
//!
//! Invariant: TCP_NODELAY is set on every accepted connection; without it the SSE mode waits 40 ms for a delayed ACK.

use std::{
    net::SocketAddr,
    process::{Command, exit},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ListToolsResult, PaginatedRequestParams,
        ServerCapabilities, ServerConfig, Tool,
    },
    service::{NotificationContext, Peer, RequestContext},
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};

const USAGE: &str = "usage: rmcp-echo --listen ADDR [--mode stateful|json|sse] [--threads N] [--cpu N] \
                     [--completed-cache-ms MS] [--announce]";

/// How the server answers.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    /// Legacy sessions, answers as SSE: what rmcp does by default.
    Stateful,
    /// No sessions, answers as one JSON body.
    Json,
    /// No sessions, answers as SSE.
    Sse,
}

/// What the command line said.
struct Options {
    listen: SocketAddr,
    mode: Mode,
    threads: usize,
    cpu: Option<usize>,
    completed_cache: Option<Duration>,
    announce: bool,
}

/// The handler; one clone per session or per request.
#[derive(Clone)]
struct Echo {
    /// Every session that finished its handshake, kept only with `--announce`.
    sessions: Option<Arc<Mutex<Vec<Peer<RoleServer>>>>>,
}

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        let tools = ServerCapabilities::builder().enable_tools();
        ServerConfig::new(if self.sessions.is_some() {
            tools.enable_tool_list_changed().build()
        } else {
            tools.build()
        })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        match (request.name.as_ref(), &self.sessions) {
            ("echo", _) => {
                let text = request.arguments.and_then(|mut given| {
                    let text = given.remove("data").or_else(|| given.remove("message"))?;
                    match text {
                        serde_json::Value::String(text) => Some(text),
                        _ => None,
                    }
                });
                let text = text.ok_or_else(|| ErrorData::invalid_params("`data` must be a string", None))?;
                Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
            }
            ("touch", Some(sessions)) => {
                let peers = match sessions.lock() {
                    Ok(peers) => peers.clone(),
                    Err(poisoned) => poisoned.into_inner().clone(),
                };
                let told = peers.len();
                tokio::spawn(async move {
                    for peer in peers {
                        // A session that has gone is not this tool's business.
                        let _ = peer.notify_tool_list_changed().await;
                    }
                });
                Ok(CallToolResult::success(vec![ContentBlock::text(format!("telling {told} sessions"))]).into())
            }
            (other, _) => Err(ErrorData::invalid_params(format!("no tool named {other}"), None)),
        }
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = serde_json::json!({"type": "object", "properties": {"data": {"type": "string"}}});
        let schema = schema.as_object().cloned().unwrap_or_default();
        Ok(ListToolsResult::with_all_items(vec![Tool::new("echo", "Answers with what it was given", Arc::new(schema))]))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        if let Some(sessions) = &self.sessions
            && let Ok(mut peers) = sessions.lock()
        {
            peers.push(context.peer);
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let (mut listen, mut mode, mut threads, mut cpu) = (None, Mode::Json, 1, None);
    let (mut completed_cache, mut announce) = (None, false);
    while let Some(word) = words.next() {
        if word == "--announce" {
            announce = true;
            continue;
        }
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        let number = || value.parse::<usize>().map_err(|_| format!("{word} {value}: not a number"));
        match word.as_str() {
            "--listen" => listen = Some(value.parse().map_err(|_| format!("--listen {value}: not an address"))?),
            "--mode" => {
                mode = match value.as_str() {
                    "stateful" => Mode::Stateful,
                    "json" => Mode::Json,
                    "sse" => Mode::Sse,
                    _ => return Err(format!("--mode {value}: must be stateful, json or sse")),
                }
            }
            "--threads" => threads = number()?.max(1),
            "--cpu" => cpu = Some(number()?),
            "--completed-cache-ms" => completed_cache = Some(Duration::from_millis(number()? as u64)),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    let listen = listen.ok_or("--listen is missing")?;
    Ok(Options { listen, mode, threads, cpu, completed_cache, announce })
}

/// Pins this thread, and so every thread that it will start, by the system's `taskset`.
fn pin(cpu: usize) -> Result<(), String> {
    let pid = std::process::id().to_string();
    let done = Command::new("taskset").args(["--cpu-list", "--pid", &cpu.to_string(), &pid]).output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        Ok(done) => Err(format!("taskset refused CPU {cpu}: {}", String::from_utf8_lossy(&done.stderr).trim())),
        Err(error) => Err(format!("taskset cannot be run: {error}")),
    }
}

fn listener(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    tokio::net::TcpListener::from_std(socket.into())
}

async fn serve(options: Options) -> std::io::Result<()> {
    let echo = Echo { sessions: options.announce.then(Default::default) };
    let mut sessions = LocalSessionManager::default();
    // A mass run holds its sessions for longer than the five minutes after which rmcp ends an idle one.
    sessions.session_config.keep_alive = None;
    if let Some(kept) = options.completed_cache {
        sessions.session_config.completed_cache_ttl = kept;
    }
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(options.mode == Mode::Stateful)
        .with_json_response(options.mode == Mode::Json);
    let service = StreamableHttpService::new(move || Ok(echo.clone()), Arc::new(sessions), config);
    let listener = listener(options.listen)?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY refused: {error}");
        }
    });
    eprintln!("rmcp-echo listens on {}", options.listen);
    axum::serve(listener, Router::new().route_service("/mcp", service)).await
}

fn main() {
    let options = parse(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        exit(2)
    });
    if let Some(cpu) = options.cpu
        && let Err(wrong) = pin(cpu)
    {
        eprintln!("{wrong}");
        exit(1)
    }
    let runtime = if options.threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(options.threads).enable_all().build()
    };
    let ended = runtime.and_then(|runtime| runtime.block_on(serve(options)));
    if let Err(error) = ended {
        eprintln!("rmcp-echo: {error}");
        exit(1)
    }
}
