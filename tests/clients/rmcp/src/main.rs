//! The Rust SDK (rmcp) as a black-box client.
//!
//! Does one of everything that the script names and prints what it saw, one JSON object a line. It asserts nothing:
//! `tests/clients/judge.py` does, with the same rules for every client. `main` reads top to bottom as the visit it
//! pays.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rmcp::model::{
    ArgumentInfo, CallToolRequestParams, ClientCapabilities, ClientConfig, CompleteRequestParams, ElicitRequestParams,
    ElicitResult, ElicitationAction, ElicitationCapability, GetPromptRequestParams, Implementation, JsonObject,
    ProgressNotificationParam, ProtocolVersion, ReadResourceRequestParams, Reference,
};
use rmcp::service::{
    ClientLifecycleMode, ClientServiceExt, NotificationContext, RequestContext, RoleClient, RunningService,
};
use rmcp::transport::{StreamableHttpClientTransport, TokioChildProcess};
use rmcp::{ClientHandler, ErrorData, ServiceError};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Tool {
    name: String,
    #[serde(default)]
    arguments: JsonObject,
}

#[derive(Deserialize)]
struct Place {
    uri: String,
}

#[derive(Deserialize)]
struct Completion {
    prompt: String,
    argument: ArgumentInfo,
}

#[derive(Deserialize)]
struct Elicitation {
    #[serde(flatten)]
    tool: Tool,
    answer: Value,
}

#[derive(Deserialize)]
struct ElicitationByEra {
    legacy: Elicitation,
    modern: Elicitation,
}

/// The part of an expectations file that says what to do; the rest is for the judge.
#[derive(Deserialize)]
struct Script {
    call: Option<Tool>,
    call_error: Option<Tool>,
    calls: Option<Vec<Tool>>,
    progress: Option<Tool>,
    resource: Option<Place>,
    resource_template: Option<Place>,
    prompt: Option<Tool>,
    completion: Option<Completion>,
    elicitation: Option<ElicitationByEra>,
    unknown_tool: Option<Tool>,
    unknown_resource: Option<Place>,
}

/// The user at the keyboard: answers every question with the scripted answer and remembers what was asked.
#[derive(Clone)]
struct Visitor {
    /// What `initialize` names; rmcp's own default is a version that has no `initialize`.
    version: ProtocolVersion,
    answer: Arc<Mutex<Value>>,
    asked: Arc<Mutex<Vec<Value>>>,
    progress: Arc<Mutex<Vec<Value>>>,
}

impl ClientHandler for Visitor {
    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let question =
            serde_json::to_value(&request).map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        self.asked.lock().expect("no holder panics").push(question);
        let answer = self.answer.lock().expect("no holder panics").clone();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(answer))
    }

    async fn on_progress(&self, step: ProgressNotificationParam, _context: NotificationContext<RoleClient>) {
        self.progress.lock().expect("no holder panics").push(json!([step.progress, step.total]));
    }

    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation = Some(ElicitationCapability::default());
        ClientConfig::new(capabilities, Implementation::new("corelane-tests-rmcp", env!("CARGO_PKG_VERSION")))
            .with_protocol_version(self.version.clone())
    }
}

fn report(step: &str, mut seen: Value) {
    seen["step"] = json!(step);
    println!("{seen}");
}

/// The JSON-RPC error that `outcome` is, or the result it should not have been.
fn refused<T: serde::Serialize>(outcome: Result<T, ServiceError>) -> Result<Value> {
    match outcome {
        Ok(result) => Ok(json!({ "result": result })),
        Err(ServiceError::McpError(error)) => Ok(json!({ "error": error })),
        Err(error) => Err(error.into()),
    }
}

fn call_of(tool: Tool) -> CallToolRequestParams {
    CallToolRequestParams::new(tool.name).with_arguments(tool.arguments)
}

async fn visit(visitor: Visitor, client: RunningService<RoleClient, Visitor>, script: Script) -> Result<()> {
    let server = client.peer_info().context("the handshake left no server info")?;
    let version = server.protocol_version.as_str().to_owned();
    report("connected", json!({ "protocolVersion": version, "serverInfo": server.server_info }));
    report("tools", json!({ "result": { "tools": client.list_all_tools().await? } }));

    if let Some(tool) = script.call {
        report("call", json!({ "result": client.call_tool(call_of(tool)).await? }));
    }
    if let Some(tool) = script.call_error {
        report("call_error", json!({ "result": client.call_tool(call_of(tool)).await? }));
    }
    if let Some(tools) = script.calls {
        let mut results = Vec::new();
        for tool in tools {
            results.push(client.call_tool(call_of(tool)).await?);
        }
        report("calls", json!({ "results": results }));
    }
    if let Some(tool) = script.progress {
        let result = client.call_tool(call_of(tool)).await?;
        // rmcp hands a notification to its own task, so the last one may be told after the result.
        tokio::time::sleep(Duration::from_millis(100)).await;
        report("progress", json!({ "result": result, "seen": *visitor.progress.lock().expect("no holder panics") }));
    }
    if let Some(place) = script.resource {
        report("resources", json!({ "result": { "resources": client.list_all_resources().await? } }));
        let result = client.read_resource(ReadResourceRequestParams::new(place.uri)).await?;
        report("resource", json!({ "result": result }));
    }
    if let Some(place) = script.resource_template {
        let templates = client.list_all_resource_templates().await?;
        report("templates", json!({ "result": { "resourceTemplates": templates } }));
        let result = client.read_resource(ReadResourceRequestParams::new(place.uri)).await?;
        report("template", json!({ "result": result }));
    }
    if let Some(prompt) = script.prompt {
        report("prompts", json!({ "result": { "prompts": client.list_all_prompts().await? } }));
        let params = GetPromptRequestParams::new(prompt.name).with_arguments(prompt.arguments);
        report("prompt", json!({ "result": client.get_prompt(params).await? }));
    }
    if let Some(Completion { prompt, argument }) = script.completion {
        let params = CompleteRequestParams::new(Reference::for_prompt(prompt), argument);
        report("completion", json!({ "result": client.complete(params).await? }));
    }
    if let Some(eras) = script.elicitation {
        let modern = version.as_str() >= ProtocolVersion::V_2026_07_28.as_str();
        let Elicitation { tool, answer } = if modern { eras.modern } else { eras.legacy };
        *visitor.answer.lock().expect("no holder panics") = answer;
        let result = client.call_tool(call_of(tool)).await?;
        report("elicitation", json!({ "result": result, "asked": *visitor.asked.lock().expect("no holder panics") }));
    }
    if let Some(tool) = script.unknown_tool {
        report("unknown_tool", refused(client.call_tool(call_of(tool)).await)?);
    }
    if let Some(place) = script.unknown_resource {
        report("unknown_resource", refused(client.read_resource(ReadResourceRequestParams::new(place.uri)).await)?);
    }
    client.cancel().await?;
    report("closed", json!({}));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let option = |name: &str| arguments.windows(2).find(|pair| pair[0] == name).map(|pair| pair[1].clone());
    let file = option("--script").context("usage: --script FILE [--mode M] (--url URL | --stdio JSON-ARRAY)")?;
    let script: Script = serde_json::from_str(&std::fs::read_to_string(&file).context(file)?)?;
    let modern = || vec![ProtocolVersion::V_2026_07_28];
    let (lifecycle, version) = match option("--mode").as_deref() {
        // The trap that every user of `serve` walks into: `initialize` naming a version that has none.
        None | Some("default") => (ClientLifecycleMode::Initialize, ProtocolVersion::default()),
        Some("legacy") => (ClientLifecycleMode::Initialize, ProtocolVersion::LATEST_WITH_INITIALIZE),
        Some("auto") => {
            let auto = ClientLifecycleMode::Auto { preferred_versions: modern(), legacy_version: None };
            (auto, ProtocolVersion::LATEST_WITH_INITIALIZE)
        }
        Some("2026-07-28") => {
            (ClientLifecycleMode::Discover { preferred_versions: modern() }, ProtocolVersion::V_2026_07_28)
        }
        Some(other) => bail!("mode {other} is none of default, legacy, auto, 2026-07-28"),
    };
    let visitor = Visitor { version, answer: Arc::default(), asked: Arc::default(), progress: Arc::default() };
    let client = match (option("--url"), option("--stdio")) {
        (Some(url), None) => {
            let transport = StreamableHttpClientTransport::from_uri(url);
            visitor.clone().serve_with_lifecycle(transport, lifecycle).await?
        }
        (None, Some(command)) => {
            let words: Vec<String> = serde_json::from_str(&command)?;
            let (program, rest) = words.split_first().context("--stdio needs a command")?;
            let mut child = tokio::process::Command::new(program);
            child.args(rest);
            visitor.clone().serve_with_lifecycle(TokioChildProcess::new(child)?, lifecycle).await?
        }
        _ => bail!("exactly one of --url and --stdio"),
    };
    visit(visitor, client, script).await
}
