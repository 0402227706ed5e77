//! Tests of the control thread over real sockets: what is answered, to whom, and what signals do.

use super::thread::BOUNDS;
use super::*;
use crate::config::ControlSettings;
use crate::ids::CoreId;
use crate::metrics::Registry;
use crate::sys::affinity;
use crate::sys::cpu::CpuSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// Wherever the test runs.
fn here() -> CpuSet {
    affinity::current_thread().expect("readable")
}

fn start(health: &Health, on_signal: impl Fn(Stop) + Send + Sync + 'static) -> (ControlThread, Arc<Registry>) {
    start_beside(health, None, on_signal)
}

fn start_beside(
    health: &Health,
    beside: Option<Beside>,
    on_signal: impl Fn(Stop) + Send + Sync + 'static,
) -> (ControlThread, Arc<Registry>) {
    let registry = Arc::new(Registry::new(2));
    let settings = ControlSettings { listen: ([127, 0, 0, 1], 0).into(), ..ControlSettings::default() };
    let (shown, rules) = (Arc::clone(&registry), Administration::default());
    let handle = ControlThread::start(settings, shown, health.clone(), rules, beside, here(), on_signal);
    let handle = handle.expect("a free port");
    assert_ne!(address(&handle).port(), 0);
    (handle, registry)
}

fn address(handle: &ControlThread) -> SocketAddr {
    handle.address().expect("it listens")
}

/// Sends `head` (without its last empty line), returns the status and the whole answer.
fn exchange(handle: &ControlThread, head: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address(handle)).expect("connected");
    stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status line");
    (status, answer)
}

fn get(handle: &ControlThread, path: &str) -> (u16, String) {
    exchange(handle, &format!("GET {path} HTTP/1.1\r\nHost: localhost:{}", address(handle).port()))
}

#[test]
fn readiness_follows_the_cores_and_the_drain() {
    let health = Health::new(2);
    let (handle, registry) = start(&health, |_| {});
    assert_eq!(get(&handle, "/healthz").0, 200);
    assert_eq!(get(&handle, "/readyz").0, 503);
    health.set(CoreId(0), CoreState::Ready);
    assert_eq!(get(&handle, "/readyz").0, 503);
    health.set(CoreId(1), CoreState::Ready);
    registry.core(CoreId(1)).registry_alarmed.set(3);
    let (status, answer) = get(&handle, "/readyz");
    assert_eq!(status, 200);
    let body = concat!(
        r#"{"admission_closed":false,"alarmed_shards":3,"cores":["ready","ready"],"draining":false,"ok":true,"#,
        r#""zone":"green"}"#
    );
    assert!(answer.ends_with(body), "{answer}");
    health.begin_drain();
    assert_eq!((get(&handle, "/readyz").0, get(&handle, "/healthz").0), (503, 200));
    health.set(CoreId(0), CoreState::Dead);
    assert_eq!(get(&handle, "/healthz").0, 200);
    health.set(CoreId(1), CoreState::Dead);
    assert_eq!(get(&handle, "/healthz").0, 503);
    handle.stop().expect("no panic");
}

#[test]
fn metrics_are_exported_and_other_paths_are_not_found() {
    let (handle, registry) = start(&Health::new(2), |_| {});
    registry.core(CoreId(1)).messages_in.add(42);
    let (status, answer) = get(&handle, "/metrics");
    assert_eq!(status, 200);
    assert!(answer.contains("text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("corelane_messages_in_total{core=\"1\"} 42\n"));
    let (status, answer) = get(&handle, "/admin");
    assert_eq!(status, 404);
    assert!(answer.contains("application/json") && answer.contains("no such path"), "{answer}");
    assert!(answer.contains("\"GET /metrics\"") && answer.contains("\"GET|PUT /admin/v1/admission\""), "{answer}");
    let (status, answer) = exchange(&handle, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0");
    assert_eq!(status, 405);
    assert!(answer.contains("openapi.json"), "{answer}");
    handle.stop().expect("no panic");
}

#[test]
fn strangers_are_refused_on_every_path() {
    let (handle, _) = start(&Health::new(2), |_| {});
    for path in ["/healthz", "/readyz", "/metrics", "/nowhere"] {
        let ask = |rest: &str| exchange(&handle, &format!("GET {path} HTTP/1.1{rest}")).0;
        assert_eq!(ask("\r\nHost: evil.example"), 403, "{path}");
        assert_eq!(ask("\r\nHost: localhost.evil.example:80"), 403, "{path}");
        assert_eq!(ask(""), 400, "{path} without a Host");
        assert_eq!(ask("\r\nHost: localhost\r\nHost: localhost"), 400, "{path} with two Hosts");
        assert_eq!(ask("\r\nHost: localhost\r\nOrigin: http://evil.example"), 403, "{path}");
        assert_eq!(ask("\r\nHost: localhost\r\nOrigin: null"), 403, "{path}");
        let mirrored = format!("GET http://evil.example{path} HTTP/1.1\r\nHost: localhost");
        assert_eq!(exchange(&handle, &mirrored).0, 400, "{path} with another host in the target");
    }
    let welcome = "GET /healthz HTTP/1.1\r\nHost: LOCALHOST\r\nOrigin: http://localhost:3000";
    assert_eq!(exchange(&handle, welcome).0, 200);
    handle.stop().expect("no panic");
}

#[test]
fn a_used_address_is_told_with_advice() {
    let (handle, registry) = start(&Health::new(2), |_| {});
    let settings = ControlSettings { listen: address(&handle), ..ControlSettings::default() };
    let rules = Administration::default();
    let again = ControlThread::start(settings, registry, Health::new(2), rules, None, here(), |_| {});
    let error = again.expect_err("in use");
    assert!(error.to_string().contains("choose another address"), "{error}");
    handle.stop().expect("no panic");
}

#[test]
fn stopping_does_not_wait_for_idle_connections() {
    let (handle, _) = start(&Health::new(2), |_| {});
    let idle = TcpStream::connect(address(&handle)).expect("connected");
    let begun = Instant::now();
    handle.stop().expect("no panic");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    drop(idle);
}

#[test]
fn idle_connections_do_not_keep_a_probe_out() {
    let (handle, _) = start(&Health::new(2), |_| {});
    let idle: Vec<_> =
        (0..2 * BOUNDS.connections_max).map(|_| TcpStream::connect(address(&handle)).expect("connected")).collect();
    let begun = Instant::now();
    for _ in 0..3 {
        assert_eq!(get(&handle, "/healthz").0, 200);
    }
    // Sooner than idle ones go by themselves: it took the place of one.
    assert!(begun.elapsed() < BOUNDS.idle, "{:?}", begun.elapsed());
    drop(idle);
    handle.stop().expect("no panic");
}

/// Waits for the death of the thread.
fn dies(handle: &ControlThread) {
    let since = Instant::now();
    while !handle.is_dead() {
        assert!(since.elapsed() < Duration::from_secs(5), "it lives");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs beside each life, and ends it whenever that is wanted.
fn killer() -> (Beside, mpsc::Sender<()>, Arc<AtomicU32>) {
    let (kill, killed) = mpsc::channel();
    let (killed, lives) = (Arc::new(std::sync::Mutex::new(killed)), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&lives);
    let beside: Beside = Arc::new(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        let killed = Arc::clone(&killed);
        Box::pin(async move {
            while killed.lock().expect("it is not held when it panics").try_recv().is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            panic!("whatever went wrong");
        })
    });
    (beside, kill, lives)
}

#[test]
fn what_dies_is_started_again_and_whoever_came_meanwhile_is_answered() {
    let health = Health::new(1);
    let (beside, kill, lives) = killer();
    let (mut handle, _) = start_beside(&health, Some(beside), |_| {});
    for life in 1..=3 {
        assert_eq!(get(&handle, "/healthz").0, 200);
        assert_eq!(lives.load(Ordering::Relaxed), life, "what is beside it runs once in each life");
        kill.send(()).expect("somebody is beside it");
        dies(&handle);
        let mut early = TcpStream::connect(address(&handle)).expect("it is still listened on");
        early.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        handle.restart().expect("it can be started");
        let mut answer = String::new();
        early.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    handle.stop().expect("the last life does not panic");
}

/// The name of the test below, to run it alone in a child process.
const CHILD: &str = "control::tests::child_that_is_signalled";

/// Signals reach every control thread of a process, so the one that gets them is alone in its own.
#[test]
#[ignore = "run by `the_first_signal_drains_and_the_second_ends` in a process of its own"]
fn child_that_is_signalled() {
    let health = Health::new(1);
    health.set(CoreId(0), CoreState::Ready);
    let (sender, receiver) = mpsc::channel();
    let (beside, kill, _) = killer();
    let (mut handle, _) = start_beside(&health, Some(beside), move |stop| sender.send(stop).expect("the test waits"));
    eprintln!("signal me");
    for expected in [Stop::Drain, Stop::Now, Stop::Now] {
        let stop = receiver.recv_timeout(Duration::from_secs(20)).expect("a signal arrives");
        assert_eq!(stop, expected);
        assert!(health.is_draining());
        assert_eq!(get(&handle, "/readyz").0, 503);
        // Another life knows what this one heard, and hears what comes before it.
        kill.send(()).expect("somebody is beside it");
        dies(&handle);
        if expected == Stop::Drain {
            eprintln!("signal me");
            thread::sleep(Duration::from_millis(50));
            handle.restart().expect("it can be started");
            continue;
        }
        handle.restart().expect("it can be started");
        eprintln!("signal me");
    }
    handle.stop().expect("no panic");
}

#[test]
fn the_first_signal_drains_and_the_second_ends() {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test binary runs");
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    for signal in ["TERM", "INT", "TERM"] {
        assert!(lines.any(|line| line.is_ok_and(|line| line == "signal me")), "the child waits for a signal");
        let command = format!("kill -{signal} {}", child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().expect("a shell").success());
    }
    assert!(lines.any(|line| line.is_ok_and(|line| line == "signal me")), "the last signal was understood");
    assert!(child.wait().expect("the child ends").success());
}
