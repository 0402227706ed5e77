//! A tool that needs tokio: `reqwest` runs on the offload pool, the core goes on meanwhile.

use std::time::Duration;

use corelane::{Context, Failure, ServeOptions, Server, Tool};

/// No more of a page than this goes into an answer.
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Fetch {
    /// An http: URL
    url: String,
}

async fn fetch(fetch: Fetch, ctx: Context) -> Result<String, Failure> {
    let time_left = ctx.time_left().min(Duration::from_secs(20));
    // The first `?` is the pool's, the second the request's. If the caller goes away, the request is dropped.
    let text = ctx
        .offload(async move {
            let client = reqwest::Client::builder().timeout(time_left).build()?;
            let mut page = client.get(&fetch.url).send().await?.error_for_status()?;
            let mut text = Vec::new();
            // Piece by piece: what is not shown is not read either.
            while text.len() < TEXT_BYTES_MAX
                && let Some(piece) = page.chunk().await?
            {
                text.extend_from_slice(&piece);
            }
            Ok::<_, reqwest::Error>(text)
        })
        .await??;
    Ok(String::from_utf8_lossy(&text[..text.len().min(TEXT_BYTES_MAX)]).into_owned())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tool = Tool::new("fetch").description("Fetches a page").read_only(true).open_world(true);
    let server = Server::builder("http_fetch", "1.0").async_tool(tool, fetch).build()?;
    Ok(server.serve(ServeOptions::from_args())?)
}
