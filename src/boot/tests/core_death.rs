//! A core's thread dies under load: what its clients see, what the others see, what is left behind.
//!
//! Each test runs in a process of its own, because descriptors, threads and memory are counted by process.

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
use crate::boot::launch::{Doors, Intensity, Launch, News};
use crate::config::Config;
use crate::control::{CoreState, Health};
use crate::metrics::CoreMetrics;
use crate::server::drive::Orders;
use crate::upstream::native::{Context, NoArguments, Server, Tool};
use crate::uring::Chime;

const CORES: usize = 2;
/// How long anything may take before it counts as lost. What is aimed at is in the output: 250 ms.
const PATIENCE: Duration = Duration::from_secs(2);

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
static ILL_MANNERED: AtomicBool = AtomicBool::new(false);

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
    fn in_flight(&self) -> u64 {
        self.calls_started.get() - self.calls_finished.get() - self.calls_failed.get()
    }
}

/// A process that serves, in the background of this one.
pub struct Running {
    address: SocketAddr,
    orders: Vec<Arc<Orders>>,
    chimes: Vec<Arc<Chime>>,
    metrics: Vec<&'static CoreMetrics>,
    health: Health,
    news: Sender<News>,
    thread: JoinHandle<Result<(), BootError>>,
}

impl Running {
    fn start(intensity: Intensity) -> Running {
        let text = "[serve]\nlisten = [\"127.0.0.1:0\"]\ndrain_deadline_ms = 2000\n[cores]\nlist = 2\n\
                    [control]\nlisten = \"127.0.0.1:0\"\n";
        let config = Config::from_toml("test", text).unwrap_or_else(|error| panic!("{error}"));
        Running::launch(Launch::prepare(server(), config, &Doors::Listeners).expect("this host serves"), intensity)
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

    fn kill(&self, core: usize) -> Instant {
        let now = Instant::now();
        self.orders[core].panic.store(true, Ordering::Relaxed);
        self.chimes[core].eventfd.write().expect("the core can be woken");
        now
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// A connection whose home is that core.
    fn connect_to(&self, core: usize) -> Client {
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
    life: u64,
}

pub struct Client {
    stream: TcpStream,
    address: SocketAddr,
}

pub struct Answer {
    pub status: u16,
    session: Option<String>,
    pub text: String,
}

impl Answer {
    fn place(&self) -> Option<Place> {
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
        Client { stream, address }
    }

    fn post(&mut self, headers: &str, body: &str) -> bool {
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
    fn call_in(&mut self, session: &str, tool: &str, arguments: &str) -> bool {
        let body = format!(
            r#"{{"id":7,"jsonrpc":"2.0","method":"tools/call","params":{{"arguments":{arguments},"name":"{tool}"}}}}"#
        );
        self.post(&format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n"), &body)
    }

    pub fn initialize(&mut self) -> String {
        self.initialize_as("2025-11-25")
    }

    fn initialize_as(&mut self, version: &str) -> String {
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
    fn rest_of_stream(&mut self) -> String {
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

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < Duration::from_secs(5), "not in time: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens a batch of connections at once and waits until each is served; true if one was, by that core after that life.
fn served_by_successor(running: &Running, dead: Place, batch: usize) -> bool {
    let mut clients: Vec<Client> = (0..batch).map(|_| running.connect()).collect();
    let asked: Vec<bool> = clients.iter_mut().map(|client| client.call("where", "{}")).collect();
    let mut served = false;
    for (client, asked) in clients.iter_mut().zip(asked) {
        // One that the dying core had accepted sees its end; one that it had not waits for the successor.
        let place = if asked { client.answer().and_then(|answer| answer.place()) } else { None };
        served |= place.is_some_and(|place| place.core == dead.core && place.life > dead.life);
    }
    served
}

#[test]
fn a_core_dies_with_a_thousand_connections() {
    alone("core_death::a_core_dies_with_a_thousand_connections", || {
        let running = Running::start(Intensity::default());
        let mut idle: Vec<(Client, Place)> = (0..1000)
            .map(|_| {
                let mut client = running.connect();
                let place = client.place().expect("an answer");
                (client, place)
            })
            .collect();
        let share = idle.iter().filter(|(_, place)| place.core == 1).count();
        assert!((1..1000).contains(&share), "both cores have connections");
        let dead = running.connect_to(1).place().expect("an answer");

        // Sessions of both cores, and calls that wait at the core that will die, asked for from the other core.
        let (lost, kept) = (running.connect_to(1).initialize(), running.connect_to(0).initialize());
        let mut home = running.connect_to(0);
        assert_eq!(home.place_in(&lost), dead, "the session's owner is the core that will die");
        let before = home.place_in(&kept);
        assert_eq!(before.core, 0);
        let mut waiting: Vec<Client> = (0..8).map(|_| running.connect_to(0)).collect();
        for client in &mut waiting {
            assert!(client.call_in(&lost, "sleep", r#"{"ms":30000}"#));
        }
        // Streams that come from the core that will die.
        let mut listening = running.connect_to(0);
        let get = format!(
            "GET /mcp HTTP/1.1\r\nHost: {}\r\nAccept: text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n\
             Mcp-Session-Id: {lost}\r\n\r\n",
            running.address
        );
        listening.stream.write_all(get.as_bytes()).expect("the connection is up");
        let old = running.connect_to(1).initialize_as("2025-03-26");
        let mut batch = running.connect_to(0);
        let call = |id| {
            format!(
                r#"{{"id":{id},"jsonrpc":"2.0","method":"tools/call","params":{{"arguments":{{"ms":30000}},"name":"sleep"}}}}"#
            )
        };
        let headers = format!("MCP-Protocol-Version: 2025-03-26\r\nMcp-Session-Id: {old}\r\n");
        assert!(batch.post(&headers, &format!("[{},{}]", call(1), call(2))));
        let mut orphan = running.connect_to(1);
        assert!(orphan.call_in(&kept, "sleep", r#"{"ms":30000}"#));
        let dying = running.metrics[1];
        until("the calls run at the core that will die", || dying.in_flight() >= 10);

        let died = running.kill(1);
        for client in &mut waiting {
            let answer = client.answer().expect("the home is up");
            assert_eq!(answer.status, 503, "{}", answer.text);
            assert!(answer.text.contains("-31503") && answer.text.contains(r#""id":7"#), "{}", answer.text);
        }
        println!("measured: 8 pending forwarded calls answered after {:?}", died.elapsed());
        let ended = listening.rest_of_stream();
        assert!(ended.contains("200 OK") && !ended.contains("error"), "a stream of no request just ends: {ended}");
        let ended = batch.rest_of_stream();
        assert!(ended.contains("-31503"), "a batch has its answer: {ended}");
        assert_eq!(listening.place_in(&kept).core, 0, "the connection goes on after its stream");
        until("somebody is served by the successor", || served_by_successor(&running, dead, 8));
        println!("measured: new connections to the dead core's share served after {:?}", died.elapsed());
        assert!(died.elapsed() < PATIENCE);
        orphan.sees_its_end();
        for (client, _) in idle.iter_mut().filter(|(_, place)| place.core == 1) {
            client.sees_its_end();
        }
        println!("measured: {share} of 1000 connections saw their end after {:?}", died.elapsed());
        assert!(died.elapsed() < PATIENCE);
        for (client, place) in idle.iter_mut().filter(|(_, place)| place.core == 0) {
            assert_eq!(client.place(), Some(*place), "the other core goes on");
        }

        let recreated = home.place_in(&lost);
        assert!(recreated.core == 1 && recreated.life > dead.life, "re-created from its id: {recreated:?}");
        assert_eq!(home.place_in(&lost), recreated);
        assert_eq!(running.connect_to(1).place_in(&lost), recreated);
        assert_eq!(running.connect_to(1).place_in(&kept), before, "the other core's session is untouched");
        for client in &mut waiting {
            assert_eq!(client.place_in(&lost), recreated, "the connection goes on after its 503");
        }
        assert!(
            dying.in_flight() == 0 && dying.connections_open.get() < share as u64,
            "what went down is accounted for"
        );
        assert!(running.health.is_ready());
        drop((idle, listening, batch, waiting, home, orphan));
        running.end().expect("it drains");
    });
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("/proc is there").count()
}

/// Threads, but for those of the offload pool, which comes and goes with its work.
fn threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").expect("/proc is there").flatten();
    let names = names.filter_map(|task| std::fs::read_to_string(task.path().join("comm")).ok());
    names.filter(|name| !name.starts_with("corelane-offlo")).count()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn fifty_restarts_leave_nothing_behind() {
    alone("core_death::fifty_restarts_leave_nothing_behind", || {
        const WARM: usize = 10;
        let restarts: usize =
            std::env::var("CORELANE_TEST_RESTARTS").map_or(50, |given| given.parse().expect("a number"));
        let running = Running::start(Intensity { deaths: usize::MAX, window: Duration::from_secs(60) });
        let (mut longest, mut sum, mut at_first) = (Duration::ZERO, Duration::ZERO, (0, 0, 0));
        let now = || (descriptors(), threads(), resident_kib());
        for round in 0..WARM + restarts {
            let core = round % CORES;
            let (mut owner, mut other) = (running.connect_to(core), running.connect_to(1 - core));
            let dead = owner.place().expect("an answer");
            let session = owner.initialize();
            // Handlers that wait, for another core's client, for an alarm and for another thread.
            let in_flight = || running.metrics[core].in_flight();
            assert!(other.call_in(&session, "sleep", r#"{"ms":60000}"#));
            until("the forwarded call runs", || in_flight() == 1);
            let mut calls: Vec<Client> = (0..20).map(|_| running.connect_to(core)).collect();
            for client in &mut calls {
                assert!(client.call("sleep", r#"{"ms":60000}"#));
            }
            assert!(owner.call("blocks", r#"{"ms":20}"#));
            until("all calls run", || in_flight() >= 21);
            let died = running.kill(core);
            assert_eq!(other.answer().expect("the other core is up").status, 503);
            until("somebody is served by the successor", || served_by_successor(&running, dead, 8));
            let took = died.elapsed();
            (longest, sum) = (longest.max(took), sum + took);
            owner.sees_its_end();
            calls.iter_mut().for_each(Client::sees_its_end);
            assert_eq!(other.place_in(&session).core, core, "the session is re-created");
            drop((owner, other, calls));
            if round + 1 == WARM {
                until("the connections are gone", || running.metrics.iter().all(|m| m.connections_open.get() == 0));
                std::thread::sleep(Duration::from_millis(100));
                at_first = now();
            }
        }
        until("the connections are gone", || running.metrics.iter().all(|m| m.connections_open.get() == 0));
        std::thread::sleep(Duration::from_millis(100));
        let at_last = now();
        let average = sum / (WARM + restarts) as u32;
        println!("measured: {restarts} restarts, served again after {average:?} on average, {longest:?} at most");
        println!("measured: descriptors, threads, KiB resident: {at_first:?} before them, {at_last:?} after");
        assert_eq!(at_last.0, at_first.0, "descriptors");
        assert_eq!(at_last.1, at_first.1, "threads");
        assert!(at_last.2 <= at_first.2 + 2048, "memory");
        assert!(longest < PATIENCE);
        running.end().expect("it drains");
    });
}

#[test]
fn too_many_deaths_drain_the_rest_and_fail() {
    alone("core_death::too_many_deaths_drain_the_rest_and_fail", || {
        let running = Running::start(Intensity::default());
        let session = running.connect_to(1).initialize();
        let mut kept = running.connect_to(0);
        for death in 1..=5 {
            let dead = running.connect_to(1).place().expect("an answer");
            // Not even a state whose drop panics ends the process.
            ILL_MANNERED.store(death == 1, Ordering::Relaxed);
            running.kill(1);
            until("it is restarted", || served_by_successor(&running, dead, 4));
            assert!(!running.health.is_draining(), "after {death} deaths");
        }
        let mut busy = running.connect_to(0);
        assert!(busy.call("sleep", r#"{"ms":500}"#));
        let mut waiting = running.connect_to(0);
        assert!(waiting.call_in(&session, "sleep", r#"{"ms":30000}"#));
        until("both calls run", || running.metrics.iter().all(|metrics| metrics.in_flight() == 1));
        let died = running.kill(1);
        assert_eq!(waiting.answer().expect("the home is up").status, 503, "tickets towards the dead core are answered");
        println!("measured: the last pending call answered after {:?}", died.elapsed());
        kept.sees_its_end();
        let answer = busy.answer().expect("what is in flight is finished");
        assert!(answer.text.contains("slept"), "{}", answer.text);
        drop((kept, busy, waiting));
        let outcome = running.thread.join().expect("no panic");
        assert!(matches!(outcome, Err(BootError::TooManyDeaths { deaths: 6 })), "{outcome:?}");
        println!("measured: all over after {:?}", died.elapsed());
    });
}

#[test]
fn a_handlers_panic_fails_its_own_call_only() {
    alone("core_death::a_handlers_panic_fails_its_own_call_only", || {
        let running = Running::start(Intensity::default());
        let mut client = running.connect_to(0);
        let before = client.place().expect("an answer");
        let mut beside = running.connect_to(0);
        assert!(beside.call("sleep", r#"{"ms":100}"#));
        for (tool, arguments) in [("panics", "{}"), ("panics_later", r#"{"ms":0}"#), ("panics_later", r#"{"ms":20}"#)] {
            assert!(client.call(tool, arguments));
            let answer = client.answer().expect("the connection stays");
            assert!(answer.text.contains("-32603") && answer.text.contains(r#""id":7"#), "{tool}: {}", answer.text);
            assert_eq!(client.place(), Some(before), "the core stays");
        }
        assert!(beside.answer().expect("an answer").text.contains("slept"));
        assert_eq!(running.health.get(crate::ids::CoreId(0)), CoreState::Ready);
        drop((client, beside));
        running.end().expect("it drains");
    });
}
