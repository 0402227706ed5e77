//! The server that is simulated: tools that answer at once, later, never, wrongly, or fall over.
//!
//! Not here: who calls them (`client`).
//! Invariant: every result holds the data of its call, and what a handler takes it gives back, however it ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use corelane::{
    Context, Failure, Form, IntoToolResult, RawArguments, RawJson, Reading, ResourceTemplate, Server, Tool, ToolOutput,
};

/// What each core's handlers share.
#[derive(Default)]
pub struct Site {
    /// Permits that handlers hold now.
    permits: Rc<Cell<usize>>,
}

impl Site {
    /// Permits that handlers hold now.
    pub fn permits(&self) -> usize {
        self.permits.get()
    }
}

/// Held by a handler for as long as its future lives.
struct Permit(Rc<Cell<usize>>);

impl Permit {
    fn of(site: &Site) -> Permit {
        site.permits.set(site.permits.get() + 1);
        Permit(Rc::clone(&site.permits))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

const SCHEMA: &str = r#"{"type":"object","properties":{"data":{"type":"string"}},"required":["data"]}"#;

/// What was given, said back.
struct Echoed(RawArguments);

fn write_data(arguments: RawJson<'_>, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
    let data = arguments.get("data").filter(|data| data.as_raw_str().is_some());
    output.text_raw(data.ok_or_else(|| Failure::new("`data` must be a string"))?);
    Ok(())
}

impl IntoToolResult for Echoed {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        write_data(self.0.json(), output)
    }
}

fn number(arguments: &RawArguments, name: &str) -> u64 {
    arguments.json().get(name).and_then(|value| value.as_u64()).unwrap_or(0)
}

async fn nap(arguments: RawArguments, ctx: Context<Site>) -> Echoed {
    let _permit = Permit::of(ctx.state());
    let (micros, steps) = (number(&arguments, "micros"), number(&arguments, "steps").clamp(1, 50));
    for done in 0..steps {
        ctx.progress((done + 1) as f64, None, None);
        ctx.sleep(Duration::from_micros(micros / steps)).await;
    }
    Echoed(arguments)
}

async fn hang(arguments: RawArguments, ctx: Context<Site>) -> Echoed {
    let _permit = Permit::of(ctx.state());
    std::future::pending::<()>().await;
    Echoed(arguments)
}

/// Asks the caller something first. What is asked holds the data as well, so that who is asked knows by what.
async fn ask(arguments: RawArguments, ctx: Context<Site>) -> Result<Echoed, Failure> {
    let _permit = Permit::of(ctx.state());
    let data = arguments.json().str("data").unwrap_or_default().into_owned();
    let form = Form::new(data).field("name", r#"{"type":"string"}"#);
    ctx.elicit("name", form).await?;
    Ok(Echoed(arguments))
}

/// Falls over without a word: the panic hook is for panics that nobody planned.
async fn fall(arguments: RawArguments, ctx: Context<Site>) -> Echoed {
    let _permit = Permit::of(ctx.state());
    if number(&arguments, "micros") > 0 {
        ctx.sleep(Duration::from_micros(number(&arguments, "micros"))).await;
    }
    std::panic::resume_unwind(Box::new("planned"))
}

/// The server, one for all cores.
pub fn server() -> Server<Site> {
    let built = Server::builder("simulated", "1")
        .state(Site::default)
        .announces_resource_updates()
        .raw_tool(Tool::new("echo"), SCHEMA, |arguments, _: &Context<Site>, output| write_data(arguments, output))
        .raw_tool(Tool::new("fail"), SCHEMA, |arguments, _: &Context<Site>, _| {
            Err(Failure::new(arguments.str("data").unwrap_or_default().into_owned()))
        })
        .raw_tool(Tool::new("touch"), SCHEMA, |arguments, ctx: &Context<Site>, output| {
            ctx.resource_updated(arguments.str("uri").unwrap_or_default());
            write_data(arguments, output)
        })
        .async_raw_tool(Tool::new("ask"), SCHEMA, ask)
        .async_raw_tool(Tool::new("nap"), SCHEMA, nap)
        .async_raw_tool(Tool::new("hang"), SCHEMA, hang)
        .async_raw_tool(Tool::new("fall"), SCHEMA, fall)
        .resource_template(ResourceTemplate::new("sim://clients/{client}"), |_: &Reading, _: &Context<Site>| "here")
        .build();
    built.expect("a good server")
}
