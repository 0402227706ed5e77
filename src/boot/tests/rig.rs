//! A process that serves, its clients, and a process of its own for each test that wants one.
//!
//! Invariant: nothing here waits longer than `PATIENCE` for a peer.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::boot::BootError;
use crate::boot::launch::{Doors, Launch, News};
use crate::boot::on_core::Hooks;
use crate::config::Config;
use crate::control::Health;
use crate::metrics::CoreMetrics;
use crate::server::drive::Orders;
use crate::shard::restarts::Intensity;
use crate::upstream::native::{Context, NoArguments, Server, Tool};
use crate::uring::Chime;

/// Ends every stall of this process, however long it is to last.
pub static GO_ON: AtomicBool = AtomicBool::new(false);

/// How long anything may take before it counts as lost. What is aimed at is in the output: 250 ms.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Runs the body in a process of its own: this program, asked for this test alone.
pub fn alone(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "CORELANE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return body();
    }
    let path = format!("boot::tests::{name}");
    let output = std::process::Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", &path, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        // Some handlers panic on purpose. To write how they came to it takes so long that their core is seen to stand
        // still, and on a busy machine longer than a test waits for an answer.
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("this program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    for (_, measured) in text.lines().filter_map(|line| line.split_once("measured: ")) {
        println!("measured: {measured}");
    }
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("1 passed"), "the test has another name than {path}: {text}");
}

/// One life of one core.
pub struct Life(u64);

/// Whether a state that is dropped panics over it.
pub static ILL_MANNERED: AtomicBool = AtomicBool::new(false);

impl Drop for Life {
    fn drop(&mut self) {
        assert!(!ILL_MANNERED.load(Ordering::Relaxed), "the state's");
    }
}

#[derive(Deserialize, JsonSchema)]
struct Nap {
    ms: u64,
}

#[derive(Deserialize, JsonSchema)]
struct Words {
    text: String,
}

pub fn server() -> Server<Life> {
    static LIVES: AtomicU64 = AtomicU64::new(0);
    let place = |ctx: &Context<Life>| {
        let thread = std::thread::current().name().unwrap_or_default().to_owned();
        format!("{thread}/{}", ctx.state().0)
    };
    Server::builder("test", "1")
        .state(|| Life(LIVES.fetch_add(1, Ordering::Relaxed)))
        .tool(Tool::new("where"), move |_: NoArguments, ctx: &Context<Life>| place(ctx))
        .tool(Tool::new("stalls"), |nap: Nap, _: &Context<Life>| {
            let (since, time) = (Instant::now(), Duration::from_millis(nap.ms));
            while since.elapsed() < time && !GO_ON.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            "stalled"
        })
        .tool(Tool::new("says"), |words: Words, _: &Context<Life>| words.text)
        .async_tool(Tool::new("sleep"), async |nap: Nap, ctx: Context<Life>| {
            ctx.sleep(Duration::from_millis(nap.ms)).await;
            "slept"
        })
        .async_tool(Tool::new("blocks"), async |nap: Nap, ctx: Context<Life>| {
            let slept = ctx.blocking(move || std::thread::sleep(Duration::from_millis(nap.ms))).await;
            if slept.is_ok() { "blocked" } else { "lost" }
        })
        .tool(Tool::new("panics"), |_: NoArguments, _: &Context<Life>| -> String { panic!("a plain handler's") })
        .async_tool(Tool::new("panics_later"), async |nap: Nap, ctx: Context<Life>| -> String {
            ctx.sleep(Duration::from_millis(nap.ms)).await;
            panic!("a future's")
        })
        .build()
        .expect("the server is well-formed")
}

impl CoreMetrics {
    /// Calls that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        self.calls_started.get() - self.calls_finished.get() - self.calls_failed.get()
    }
}

/// A process that serves, in the background of this one.
pub struct Running {
    pub address: SocketAddr,
    pub orders: Vec<Arc<Orders>>,
    pub chimes: Vec<Arc<Chime>>,
    pub metrics: Vec<&'static CoreMetrics>,
    pub health: Health,
    pub news: Sender<News>,
    pub thread: JoinHandle<Result<(), BootError>>,
}

impl Running {
    pub fn start(intensity: Intensity) -> Running {
        Running::configured("", intensity)
    }

    /// With more said of its cores.
    pub fn configured(cores: &str, intensity: Intensity) -> Running {
        let text = format!(
            "[serve]\nlisten = [\"127.0.0.1:0\"]\ndrain_deadline_ms = 2000\n\
             [control]\nlisten = \"127.0.0.1:0\"\n[cores]\nlist = 2\n{cores}"
        );
        let config = Config::from_toml("test", &text).unwrap_or_else(|error| panic!("{error}"));
        Running::launch(
            Launch::prepare(server(), config, &Doors::Listeners, Hooks::default(), false).expect("this host serves"),
            intensity,
        )
    }

    /// Starts what is prepared.
    pub fn launch(mut launch: Launch<Life>, intensity: Intensity) -> Running {
        launch.intensity = intensity;
        let running = |thread, launch: &Launch<Life>| Running {
            address: launch.opened.http[0].local_addr,
            orders: launch.slots.iter().map(|slot| Arc::clone(&slot.seed.orders)).collect(),
            chimes: launch.slots[0].seed.chimes.clone(),
            metrics: launch.slots.iter().map(|slot| slot.seed.metrics).collect(),
            health: launch.health.clone(),
            news: launch.news.clone(),
            thread,
        };
        let (go, wait) = std::sync::mpsc::channel::<Launch<Life>>();
        let thread = std::thread::spawn(move || wait.recv().expect("a launch").run());
        let running = running(thread, &launch);
        assert!(go.send(launch).is_ok(), "the thread waits");
        until("all cores are ready", || running.health.is_ready());
        running
    }

    pub fn kill(&self, core: usize) -> Instant {
        let now = Instant::now();
        self.orders[core].panic.store(true, Ordering::Relaxed);
        self.chimes[core].eventfd.write().expect("the core can be woken");
        now
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A connection whose home is that core.
    pub fn connect_to(&self, core: usize) -> Client {
        let mine = |client: &mut Client| client.place().is_some_and(|place| place.core == core);
        (0..200).map(|_| self.connect()).find_map(|mut client| mine(&mut client).then_some(client)).expect("a share")
    }

    pub fn end(self) -> Result<(), BootError> {
        self.news.send(News::Drain).expect("somebody listens");
        self.thread.join().expect("the launching thread does not panic")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    pub core: usize,
    pub life: u64,
}

pub struct Client {
    pub stream: TcpStream,
    pub address: SocketAddr,
    /// Of its calls in sessions, which others may share: no two connections have the same port.
    pub id: u16,
}

pub struct Answer {
    pub status: u16,
    pub session: Option<String>,
    pub text: String,
}

impl Answer {
    pub fn place(&self) -> Option<Place> {
        let (_, rest) = self.text.split_once("corelane-")?;
        let (core, rest) = rest.split_once('/')?;
        let life: String = rest.chars().take_while(char::is_ascii_digit).collect();
        Some(Place { core: core.parse().ok()?, life: life.parse().ok()? })
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let id = stream.local_addr().expect("a socket").port();
        Client { stream, address, id }
    }

    pub fn post(&mut self, headers: &str, body: &str) -> bool {
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            self.address,
            body.len()
        );
        self.stream.write_all(head.as_bytes()).is_ok()
    }

    /// Calls a tool in the modern era: it runs where the connection is.
    pub fn call(&mut self, tool: &str, arguments: &str) -> bool {
        let body = format!(
            r#"{{"id":7,"jsonrpc":"2.0","method":"tools/call","params":{{"_meta":{{"io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"t","version":"1"}},"io.modelcontextprotocol/protocolVersion":"2026-07-28"}},"arguments":{arguments},"name":"{tool}"}}}}"#
        );
        let headers = format!("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: {tool}\r\n");
        self.post(&headers, &body)
    }

    /// Calls a tool in a session: it runs where the session is.
    pub fn call_in(&mut self, session: &str, tool: &str, arguments: &str) -> bool {
        let body = format!(
            r#"{{"id":{},"jsonrpc":"2.0","method":"tools/call","params":{{"arguments":{arguments},"name":"{tool}"}}}}"#,
            self.id
        );
        self.post(&format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n"), &body)
    }

    pub fn initialize(&mut self) -> String {
        self.initialize_as("2025-11-25")
    }

    pub fn initialize_as(&mut self, version: &str) -> String {
        let body = format!(
            r#"{{"id":1,"jsonrpc":"2.0","method":"initialize","params":{{"capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}},"protocolVersion":"{version}"}}}}"#
        );
        self.post("", &body);
        let session = self.answer().and_then(|answer| answer.session).expect("a session");
        self.post(
            &format!("MCP-Protocol-Version: {version}\r\nMcp-Session-Id: {session}\r\n"),
            r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#,
        );
        assert_eq!(self.answer().expect("an answer").status, 202);
        session
    }

    /// Ends a session.
    pub fn delete(&mut self, session: &str) {
        let request = format!("DELETE /mcp HTTP/1.1\r\nHost: {}\r\nMcp-Session-Id: {session}\r\n\r\n", self.address);
        self.stream.write_all(request.as_bytes()).expect("the connection is up");
        assert_eq!(self.answer().expect("an answer").status, 204);
    }

    /// The next answer with a length; `None` if the connection ended.
    pub fn answer(&mut self) -> Option<Answer> {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
                let length: usize = field("content-length:").map_or(0, |length| length.parse().expect("a length"));
                if bytes.len() >= end + 4 + length {
                    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
                    let cased = String::from_utf8_lossy(&bytes[..end]).into_owned();
                    let session = cased.lines().find_map(|line| {
                        let (name, value) = line.split_once(':')?;
                        name.eq_ignore_ascii_case("mcp-session-id").then(|| value.trim().to_owned())
                    });
                    let text = String::from_utf8_lossy(&bytes[end + 4..]).into_owned();
                    return Some(Answer { status, session, text });
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(error.kind()) => return None,
                Err(error) => panic!("no answer in time: {error}"),
            }
        }
    }

    /// Everything up to the end of the event stream that is the answer.
    pub fn rest_of_stream(&mut self) -> String {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
        while !bytes.ends_with(b"0\r\n\r\n") {
            match self.stream.read(&mut buffer) {
                Ok(0) => panic!("the connection ended before its stream"),
                Ok(read) => bytes.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no end of the stream in time: {error}"),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    pub fn place(&mut self) -> Option<Place> {
        if self.call("where", "{}") { self.answer()?.place() } else { None }
    }

    pub fn place_in(&mut self, session: &str) -> Place {
        assert!(self.call_in(session, "where", "{}"), "the connection is up");
        let answer = self.answer().expect("the connection is up");
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.place().expect("a place")
    }

    /// Waits for the end of the connection.
    pub fn sees_its_end(&mut self) {
        loop {
            match self.stream.read(&mut [0; 64]) {
                Ok(0) => return,
                Ok(read) => panic!("{read} bytes in place of the end"),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return assert!(is_end(error.kind()), "no end in time: {error}"),
            }
        }
    }
}

fn is_end(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted)
}

pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(5), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
