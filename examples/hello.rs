//! The smallest server: one tool. `cargo run --example hello`, then call `hello` at http://127.0.0.1:8808/mcp.

use corelane::{Context, ServeOptions, Server, Tool};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Hello {
    /// Whom to greet
    name: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::builder("hello", "1.0")
        .tool(Tool::new("hello").description("Greets somebody"), |hello: Hello, _: &Context| {
            format!("Hello, {}!", hello.name)
        })
        .build()?;
    Ok(server.serve(ServeOptions::from_args())?)
}
