//! The peer of forwarding: what somebody would write who wants a proxy and has rmcp and axum, set up as well as their
//! options allow.
//!
//! A call is taken by a handler, made again by the one client that all callers share, and its result handed back;
//! nothing is renamed, looked up or kept. Both sides speak 2026-07-28, and the proxy answers with JSON, not events.
//! Connections to the upstream are kept and used again, which rmcp's own default client does not do.
//!
//! Invariant: one thread, and TCP_NODELAY on every connection, on both sides.

use std::{net::SocketAddr, process::exit, sync::Arc, time::Duration};

use axum::{Router, serve::ListenerExt};
use rmcp::{
    ErrorData, Peer, RoleClient, RoleServer, ServerHandler, ServiceError,
    model::{
        CallToolRequestParams, CallToolResponse, ListToolsResult, PaginatedRequestParams, ProtocolVersion,
        ServerCapabilities, ServerConfig,
    },
    service::{ClientLifecycleMode, ClientServiceExt, RequestContext},
    transport::{
        StreamableHttpClientTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
        streamable_http_server::{
            StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
        },
    },
};

const USAGE: &str = "usage: rmcp-proxy --listen ADDR --upstream URL";

/// Calls that may be under way at once: more than any load makes, where the default is 16.
const CALLS_MAX: usize = 4096;

/// The handler; one clone per request.
#[derive(Clone)]
struct Proxy {
    upstream: Peer<RoleClient>,
}

impl ServerHandler for Proxy {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn call_tool(
        &self,
        mut request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        // The client puts its own there.
        request.meta = None;
        self.upstream.call_tool_once(request).await.map_err(passed_on)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        self.upstream.list_tools(request).await.map_err(passed_on)
    }
}

/// What the upstream says is wrong, as it says it.
fn passed_on(error: ServiceError) -> ErrorData {
    match error {
        ServiceError::McpError(error) => error,
        other => ErrorData::internal_error(format!("the upstream did not answer: {other}"), None),
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<(SocketAddr, String), String> {
    let (mut listen, mut upstream) = (None, None);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--listen" => listen = Some(value.parse().map_err(|_| format!("--listen {value}: not an address"))?),
            "--upstream" => upstream = Some(value),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok((listen.ok_or("--listen is missing")?, upstream.ok_or("--upstream is missing")?))
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

async fn serve(listen: SocketAddr, upstream: String) -> Result<(), Box<dyn std::error::Error>> {
    let http = reqwest::Client::builder()
        .tcp_nodelay(true)
        .pool_max_idle_per_host(CALLS_MAX)
        .pool_idle_timeout(Duration::from_secs(60))
        .build()?;
    let mut config = StreamableHttpClientTransportConfig::with_uri(upstream).max_concurrent_requests(CALLS_MAX);
    config.channel_buffer_capacity = CALLS_MAX;
    let versions = ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] };
    let client = ().serve_with_lifecycle(StreamableHttpClientTransport::with_client(http, config), versions).await?;
    let proxy = Proxy { upstream: client.peer().clone() };
    let config = StreamableHttpServerConfig::default().with_legacy_session_mode(false).with_json_response(true);
    let sessions = Arc::new(LocalSessionManager::default());
    let service = StreamableHttpService::new(move || Ok(proxy.clone()), sessions, config);
    let listener = listener(listen)?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY refused: {error}");
        }
    });
    eprintln!("rmcp-proxy listens on {listen}");
    axum::serve(listener, Router::new().route_service("/mcp", service)).await?;
    drop(client);
    Ok(())
}

fn main() {
    let (listen, upstream) = parse(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("{wrong}\n{USAGE}");
        exit(2)
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(serve(listen, upstream)));
    if let Err(error) = ended {
        eprintln!("rmcp-proxy: {error}");
        exit(1)
    }
}
