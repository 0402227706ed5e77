//! The server behind `corelane serve` when nothing else is configured: something to call, to measure and to break.
//!
//! Not here: what the conformance suite wants (`examples/conformance_server.rs`).
//! Invariant: it uses the public interface only, so that it is also an example of it.

use std::cell::Cell;
use std::time::{Duration, SystemTime};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    BuildError, CacheHint, Context, Failure, NoArguments, Prompt, PromptArgument, PromptArguments, RawJson, Reading,
    Resource, ResourceTemplate, Server, Tool, ToolOutput,
};

/// What each core remembers.
#[derive(Default)]
pub struct Demonstration {
    echoes: Cell<u64>,
}

const ECHO_SCHEMA: &str =
    r#"{"type":"object","properties":{"data":{"type":"string","description":"What to say back"}},"required":["data"]}"#;

const LANGUAGES: [&str; 5] = ["c", "go", "python", "rust", "zig"];

#[derive(Deserialize, JsonSchema)]
struct Add {
    /// The first number
    a: f64,
    /// The second number
    b: f64,
}

#[derive(Deserialize, JsonSchema)]
struct Nap {
    /// How long, in milliseconds; at most a minute, and more than calls.timeout_ms (30 s) only if progress is told
    ms: u64,
    /// In how many steps progress is told
    #[serde(default = "one")]
    steps: u32,
}

fn one() -> u32 {
    1
}

/// Says `data` back without parsing it: what a tool call costs when the tool costs nothing.
fn echo(arguments: RawJson<'_>, ctx: &Context<Demonstration>, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
    let data = arguments.get("data").filter(|data| data.as_raw_str().is_some());
    let data = data.ok_or_else(|| Failure::new("`data` must be a string"))?;
    let echoes = &ctx.state().echoes;
    echoes.set(echoes.get() + 1);
    output.text_raw(data);
    Ok(())
}

async fn sleep(nap: Nap, ctx: Context<Demonstration>) -> String {
    let (ms, steps) = (nap.ms.min(60_000), nap.steps.clamp(1, 1000));
    let step = Duration::from_millis(ms) / steps;
    for done in 0..steps {
        ctx.progress(f64::from(done), Some(f64::from(steps)), Some("sleeping"));
        ctx.sleep(step).await;
    }
    ctx.progress(f64::from(steps), Some(f64::from(steps)), Some("awake"));
    format!("slept {ms} ms")
}

fn now(_: NoArguments, _: &Context<Demonstration>) -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

fn fail(_: NoArguments, _: &Context<Demonstration>) -> Result<(), Failure> {
    Err(Failure::new("this tool always fails"))
}

fn review(arguments: &PromptArguments, _: &Context<Demonstration>) -> String {
    format!("Please review this {} code for faults of memory safety:\n\n{}", &arguments["language"], &arguments["code"])
}

/// The server.
pub fn server() -> Result<Server<Demonstration>, BuildError> {
    Server::builder("corelane-demonstration", env!("CARGO_PKG_VERSION"))
        .title("Corelane demonstration")
        .instructions("A few small tools to try a client with.")
        .state(Demonstration::default)
        .list_cache(CacheHint::public(3_600_000))
        .raw_tool(Tool::new("echo").description("Says back what it is given").read_only(true), ECHO_SCHEMA, echo)
        .tool(
            Tool::new("add").description("Adds two numbers").read_only(true).idempotent(true),
            |add: Add, _: &Context<Demonstration>| add.a + add.b,
        )
        .tool(Tool::new("now").description("Tells the time (UTC)").read_only(true), now)
        .async_tool(Tool::new("sleep").description("Sleeps and tells its progress").read_only(true), sleep)
        .tool(Tool::new("fail").description("Fails").read_only(true), fail)
        .resource(
            Resource::new("corelane://about").name("about").mime_type("text/plain").description("What this server is"),
            |_: &Reading, _: &Context<Demonstration>| {
                "Corelane is a thread-per-core MCP server engine and router for Linux, on io_uring."
            },
        )
        .resource(
            Resource::new("corelane://echoes").name("echoes").mime_type("text/plain").description("Echoes of this core"),
            |_: &Reading, ctx: &Context<Demonstration>| ctx.state().echoes.get().to_string(),
        )
        .resource_template(
            ResourceTemplate::new("corelane://greeting/{name}").name("greeting").mime_type("text/plain"),
            |reading: &Reading, _: &Context<Demonstration>| {
                format!("Hello, {}!", reading.variable("name").unwrap_or("stranger"))
            },
        )
        .prompt(
            Prompt::new("review")
                .description("Reviews a piece of code")
                .argument(PromptArgument::new("language").description("What it is written in").required())
                .argument(PromptArgument::new("code").description("The code").required()),
            review,
        )
        .complete_prompt("review", "language", |completing, _| {
            LANGUAGES.into_iter().filter(|name| name.starts_with(completing.value())).map(String::from).collect()
        })
        .build()
}
