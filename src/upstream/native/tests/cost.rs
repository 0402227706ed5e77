//! What a call costs: `cargo test --release --lib cost -- --ignored --nocapture`, and in instructions
//! `valgrind --tool=callgrind --toggle-collect='*NativeService*Service*::call' TEST echo_alone --ignored`, divided by
//! 200,000.

use std::hint::black_box;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;
use std::time::Instant;

use super::rig::{LEGACY, MODERN};
use crate::proto::json::{Envelope, Scanner};
use crate::proto::mcp::{Capabilities, Method, Version};
use crate::server::service::{Call, CallKey, Host, LocalFuture, Mailbox, Nanos, Served, Service};
use crate::upstream::native::demonstration;

/// A host that reads a clock as a real one does.
struct Clock(Instant);

impl Host for Clock {
    fn spawn(&self, _: LocalFuture<()>) {}

    fn now(&self) -> Nanos {
        self.0.elapsed().as_nanos() as Nanos
    }

    fn wake_at(&self, _: Nanos, _: Waker) {}

    fn offload(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}

    fn blocking(&self, _: Box<dyn FnOnce() + Send>) {}

    fn count_panic(&self) {}

    fn seal(&self, _: &[u8]) -> String {
        String::new()
    }

    fn open(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn task_id(&self, _: u32, _: u32) -> String {
        String::new()
    }

    fn open_task_id(&self, _: &str) -> Option<(u32, u32)> {
        None
    }
}

fn measure(version: Version, method: Method, params: &str) -> f64 {
    measure_rounds(7, version, method, params)
}

fn measure_rounds(rounds: u32, version: Version, method: Method, params: &str) -> f64 {
    let host: Rc<dyn Host> = Rc::new(Clock(Instant::now()));
    let server = demonstration::server().expect("a good server");
    let mut service = server.per_core(host, Mailbox::default());
    let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}","params":{params}}}"#, method.as_str());
    let mut envelope = Envelope::default();
    Scanner::new().scan(text.as_bytes(), &mut envelope).expect("well-formed");
    let call = Call {
        key: CallKey { index: 0, generation: 0 },
        version,
        method,
        text: text.as_bytes(),
        envelope: &envelope,
        capabilities: Capabilities::default(),
        log_level: None,
        may_ask: false,
        session: None,
        now: 0,
        deadline: 1_000_000_000,
    };
    let mut out = Vec::with_capacity(8192);
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..200_000 {
            out.clear();
            let served = service.call(black_box(&call), &mut out);
            assert!(matches!(served, Served::Done));
            black_box(&out);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / 200_000.0);
    }
    best
}

#[test]
#[ignore = "a measurement"]
fn cost() {
    let clock = Instant::now();
    let start = Instant::now();
    (0..1_000_000).for_each(|_| {
        black_box(clock.elapsed());
    });
    println!("one look at the clock: {:.0} ns (two per call)", start.elapsed().as_nanos() as f64 / 1e6);
    let echo = format!(r#"{{"name":"echo","arguments":{{"data":"{}"}}}}"#, "x".repeat(64));
    println!("echo, 64 bytes, modern: {:.0} ns", measure(MODERN, Method::ToolsCall, &echo));
    println!("echo, 64 bytes, legacy: {:.0} ns", measure(LEGACY, Method::ToolsCall, &echo));
    let add = r#"{"name":"add","arguments":{"a":1.5,"b":2}}"#;
    println!("add (typed), modern: {:.0} ns", measure(MODERN, Method::ToolsCall, add));
    println!("tools/list, modern: {:.0} ns", measure(MODERN, Method::ToolsList, "{}"));
    let read = r#"{"uri":"corelane://about"}"#;
    println!("resources/read, modern: {:.0} ns", measure(MODERN, Method::ResourcesRead, read));
}

#[test]
#[ignore = "a measurement"]
fn echo_alone() {
    let echo = format!(r#"{{"name":"echo","arguments":{{"data":"{}"}}}}"#, "x".repeat(64));
    measure_rounds(1, MODERN, Method::ToolsCall, &echo);
}
