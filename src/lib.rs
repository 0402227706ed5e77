//! Corelane: a thread-per-core MCP server engine and router for Linux, on io_uring.
//!
//! A server written in Rust is a value: its tools, resources and prompts are checked when it is built, and then served
//! on every core, to clients of every revision of the protocol.
//!
//! ```
//! use corelane::{Context, Failure, NoArguments, ServeOptions, Server, Tool};
//! use std::cell::Cell;
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Divide {
//!     /// What is divided
//!     dividend: f64,
//!     /// By what
//!     divisor: f64,
//! }
//!
//! /// What each core remembers: plain cells, because nobody else touches it.
//! #[derive(Default)]
//! struct State {
//!     divided: Cell<u64>,
//! }
//!
//! fn divide(numbers: Divide, ctx: &Context<State>) -> Result<f64, Failure> {
//!     if numbers.divisor == 0.0 {
//!         return Err(Failure::new("nothing can be divided by zero"));
//!     }
//!     ctx.state().divided.set(ctx.state().divided.get() + 1);
//!     Ok(numbers.dividend / numbers.divisor)
//! }
//!
//! /// A handler may wait for what corelane gives it; futures that need tokio go to `ctx.offload`.
//! async fn nap(_: NoArguments, ctx: Context<State>) -> String {
//!     ctx.progress(0.0, Some(1.0), Some("asleep"));
//!     ctx.sleep(std::time::Duration::from_millis(10)).await;
//!     format!("rested; {} divisions so far on this core", ctx.state().divided.get())
//! }
//!
//! fn serve(options: ServeOptions) -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Server::builder("calculator", "1.0")
//!         .state(State::default)
//!         .tool(Tool::new("divide").description("Divides two numbers").read_only(true), divide)
//!         .async_tool(Tool::new("nap").description("Rests for a moment"), nap)
//!         .build()?;
//!     Ok(server.serve(options)?)
//! }
//! # // From here on: served on a port of the kernel's choice and called once, so that the example is known to work.
//! # use std::io::{Read, Write};
//! # fn main() {
//! #     let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
//! #     let options = ServeOptions::default().listen(address.to_string()).control("127.0.0.1:0").cores("1");
//! #     std::thread::spawn(|| serve(options).unwrap());
//! #     let connected = || std::net::TcpStream::connect(address).ok();
//! #     let wait = |_: u32| std::thread::sleep(std::time::Duration::from_millis(20));
//! #     let mut stream = (0..500).inspect(|&n| wait(n)).find_map(|_| connected()).expect("it serves");
//! #     let body = concat!(
//! #         r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"divide","#,
//! #         r#""arguments":{"dividend":7,"divisor":2},"_meta":{"#,
//! #         r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
//! #         r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#
//! #     );
//! #     write!(
//! #         stream,
//! #         "POST /mcp HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
//! #          Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n\
//! #          Mcp-Method: tools/call\r\nMcp-Name: divide\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
//! #         body.len()
//! #     )
//! #     .unwrap();
//! #     let mut answer = String::new();
//! #     stream.read_to_string(&mut answer).unwrap();
//! #     assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("3.5"), "{answer}");
//! # }
//! ```
//!
//! `serve(ServeOptions::default())` in `main` makes it a program: MCP at <http://127.0.0.1:8808/mcp>, health and
//! metrics on port 8809, a core on every CPU. `Server::serve_stdio` serves one client on standard input and output
//! instead.
//!
//! # The tour
//!
//! Whoever writes a server needs the first stop only. The modules stand in the order in which they build on each other;
//! `tests/tidy.rs` keeps their imports pointing one way, and `ARCHITECTURE.md` tells why each is as it is.
//!
//! 1. [`upstream::native`]: [`Server`] and its builder, [`Context`], [`ServeOptions`]. Everything a handler sees.
//! 2. [`proto`]: bytes to values and back. One strict pass over a JSON text finds what routing needs; HTTP, server-sent
//!    events and lines around it. Pure.
//! 3. [`shard`]: what is owned, by one core at a time: legacy sessions, replay, sealed ids. Pure.
//! 4. [`ring`]: how cores talk: single-producer single-consumer rings, doorbells, tickets of reply.
//! 5. [`server`]: the machines of a core, `step(now, input)` and effects; `server::drive` alone touches the world.
//! 6. [`uring`]: one ring per core that carries everything which can wake it. [`runtime`]: the executor beside it.
//!    [`sys`]: the other system calls.
//! 7. [`config`], [`control`], [`metrics`], [`boot`]: from a file and flags to running threads, watched from outside.
//! 8. [`limits`]: every bound, in one place. [`ids`]: the names of things.
//!
//! # Features
//!
//! `host` (default) is everything that needs an operating system. Without it only the pure parts build: `ids`,
//! `limits`, `proto`, `ring`, `shard`, `metrics` and the machines of `server`.
#![warn(missing_docs)]

pub mod ids;
pub mod limits;
pub mod proto;
pub mod ring;
pub mod shard;

pub mod metrics;
pub mod server;

#[cfg(feature = "host")]
pub mod boot;
#[cfg(feature = "host")]
pub mod config;
#[cfg(feature = "host")]
pub mod control;
#[cfg(feature = "host")]
pub mod runtime;
#[cfg(feature = "host")]
pub mod sys;
#[cfg(feature = "host")]
pub mod upstream;
#[cfg(feature = "host")]
pub mod uring;

#[cfg(feature = "host")]
pub use boot::{CoreState, HealthReport, OnCore, OutsideOwner, OwnHealth, Registry};
#[cfg(feature = "host")]
pub use proto::jsonrpc::{Code, RpcError};
#[cfg(feature = "host")]
pub use proto::mcp::{Capabilities, LogLevel, Version};
#[cfg(feature = "host")]
pub use upstream::native::*;
