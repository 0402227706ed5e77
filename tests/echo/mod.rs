//! Calls of the demonstration server's echo through a core without an operating system.
//!
//! Not here: what is counted (`tests/instructions.rs`, `tests/call_allocations.rs`, `tests/call_copies.rs`).

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

use corelane::server::alarms::{Alarm, Alarms};
use corelane::server::connection::Wire;
use corelane::server::service::{Host, LocalFuture, Mailbox, Nanos};
use corelane::upstream::native::NativeService;
use corelane::upstream::native::demonstration::{Demonstration, server};

#[path = "../../fuzz/fuzz_targets/machine/mod.rs"]
#[allow(dead_code, reason = "nothing here is answered late")]
mod machine;
pub use machine::Machine;
#[allow(dead_code, reason = "not every test crosses cores")]
pub mod pair;

/// A core that serves echo.
pub type EchoCore = Machine<NativeService<Demonstration>>;

/// A host for tools that need none.
#[derive(Default)]
pub struct Nothing {
    /// What would run in the background.
    pub spawned: Rc<RefCell<Vec<LocalFuture<()>>>>,
}

impl Host for Nothing {
    fn spawn(&self, future: LocalFuture<()>) {
        self.spawned.borrow_mut().push(future);
    }

    fn now(&self) -> Nanos {
        0
    }

    fn wake_at(&self, at: Nanos, waker: Waker) -> Alarm {
        Alarms::default().set(at, waker)
    }

    fn offload(&self, _: Pin<Box<dyn Future<Output = ()> + Send>>) {}

    fn blocking(&self, _: Box<dyn FnOnce() + Send>) {}

    fn seal(&self, _: &[u8]) -> String {
        String::new()
    }

    fn open(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn task_id(&self, _: u32, _: u32) -> String {
        String::new()
    }

    fn count_panic(&self) {}

    fn count_slow_poll(&self) {}

    fn open_task_id(&self, _: &str) -> Option<(u32, u32)> {
        None
    }
}

/// A call with 83 bytes to echo.
pub const ECHO: &str = r#"{"jsonrpc":"2.0","id":100000,"method":"tools/call","params":{"name":"echo","arguments":{"data":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}}}"#;
const META: &str = r#"{"_meta":{"io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"instructions","version":"1"},"io.modelcontextprotocol/protocolVersion":"2026-07-28"},"name""#;
/// What opens a legacy session.
pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"instructions","version":"1"}}}"#;

/// The modern form of a legacy call.
pub fn modern(echo: &str) -> String {
    echo.replace(r#"{"name""#, META)
}

/// A POST with further fields.
pub fn post(fields: &str, body: &str) -> Vec<u8> {
    let head = "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Accept: application/json, text/event-stream\r\n";
    format!("{head}{fields}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A modern call over HTTP.
pub fn modern_post(echo: &str) -> Vec<u8> {
    post("MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: tools/call\r\nMcp-Name: echo\r\n", &modern(echo))
}

/// A core without sessions.
pub fn core(wire: Wire) -> EchoCore {
    Machine::new(wire, server().expect("a good server").per_core(Rc::<Nothing>::default(), Mailbox::default()))
}

/// A core with room for so many sessions.
#[allow(dead_code, reason = "not every test opens many")]
pub fn roomy_core(wire: Wire, sessions_max: usize) -> EchoCore {
    let service = server().expect("a good server").per_core(Rc::<Nothing>::default(), Mailbox::default());
    Machine::with_sessions(wire, service, sessions_max)
}

/// A core with a legacy session, and a call in it.
pub fn legacy_core(echo: &str) -> (EchoCore, Vec<u8>) {
    let mut machine = core(Wire::Http);
    machine.say(&post("", INITIALIZE));
    let call = call_in_session(machine.heard(), echo);
    (machine, call)
}

/// A call in the session that an answer to `initialize` opens.
fn call_in_session(answer: &[u8], echo: &str) -> Vec<u8> {
    let answer = std::str::from_utf8(answer).expect("UTF-8");
    let session = answer.split_once("Mcp-Session-Id: ").and_then(|(_, rest)| rest.split_once("\r\n")).expect("one").0;
    post(&format!("MCP-Protocol-Version: 2025-11-25\r\nMcp-Session-Id: {session}\r\n"), echo)
}

/// Says the same again and again, and is answered every time.
pub fn converse(machine: &mut EchoCore, bytes: &[u8], times: u64) {
    for _ in 0..times {
        machine.heard().clear();
        machine.say(std::hint::black_box(bytes));
        assert!(machine.heard().ends_with(b"}") || machine.heard().ends_with(b"}\n"));
    }
}
