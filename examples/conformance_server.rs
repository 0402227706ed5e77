//! The server that the MCP conformance suite talks to: every name and text here is one the suite looks for.
//!
//! `cargo run --release --example conformance_server -- --listen 127.0.0.1:3104` (or `--stdio`), then
//! `npx conformance server --url http://127.0.0.1:3104/mcp --requirements 2026-07-28`. With `--era legacy` or
//! `--era modern` it is a server that never knew the other era.

use std::time::Duration;

use corelane::{
    Ask, CacheHint, Capabilities, Code, Completing, Content, Contents, Context, Elicited, Failure, Form, LogLevel,
    NoArguments, Prompt, PromptArgument, PromptArguments, PromptResult, Reading, Resource, ResourceTemplate, RpcError,
    Sampling, ServeOptions, Server, ServerBuilder, TaskSupport, Tool, ToolResult, Visit,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// A red pixel.
const PNG: &[u8] =
    b"\x89PNG\x0d\x0a\x1a\x0a\x00\x00\x00\x0dIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde\x00\
\x00\x00\x0cIDATx\x9cc\xf8\xcf\xc0\x00\x00\x03\x01\x01\x00\xc9\xfe\x92\xef\x00\x00\x00\x00IEND\xaeB`\x82";
/// No sound at all: 44.1 kHz, 16 bit, mono.
const WAV: &[u8] = b"RIFF$\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0D\xac\0\0\x88X\x01\0\x02\0\x10\0data\0\0\0\0";

/// Kept to the byte: the suite looks for every keyword.
const SCHEMA_2020_12: &str = r##"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","$defs":{"address":{"$anchor":"addressDef","type":"object","properties":{"street":{"type":"string"},"city":{"type":"string"}}}},"properties":{"name":{"type":"string"},"address":{"$ref":"#/$defs/address"},"contactMethod":{"type":"string","enum":["phone","email"]},"phone":{"type":"string"},"email":{"type":"string"}},"allOf":[{"anyOf":[{"required":["phone"]},{"required":["email"]}]}],"if":{"properties":{"contactMethod":{"const":"phone"}},"required":["contactMethod"]},"then":{"required":["phone"]},"else":{"required":["email"]},"additionalProperties":false}"##;

const CUSTOM_HEADER: &str =
    r#"{"type":"object","properties":{"value":{"type":"string","x-mcp-header":"Value"}},"required":["value"]}"#;

const DEFAULTS: &str = r#"{"type":"object","properties":{
    "name":{"type":"string","description":"User's name","default":"John Doe"},
    "age":{"type":"integer","description":"User's age","default":30},
    "score":{"type":"number","description":"User's score","default":95.5},
    "status":{"type":"string","enum":["active","inactive","pending"],"default":"active"},
    "verified":{"type":"boolean","description":"Whether the user is verified","default":true}}}"#;

const ENUMS: &str = r#"{"type":"object","properties":{
    "untitledSingle":{"type":"string","enum":["option1","option2","option3"]},
    "titledSingle":{"type":"string","oneOf":[{"const":"value1","title":"First Option"},
        {"const":"value2","title":"Second Option"},{"const":"value3","title":"Third Option"}]},
    "legacyEnum":{"type":"string","enum":["opt1","opt2","opt3"],"enumNames":["Option One","Option Two","Option Three"]},
    "untitledMulti":{"type":"array","items":{"type":"string","enum":["option1","option2","option3"]}},
    "titledMulti":{"type":"array","items":{"anyOf":[{"const":"value1","title":"First Choice"},
        {"const":"value2","title":"Second Choice"},{"const":"value3","title":"Third Choice"}]}}}}"#;

type Builder = ServerBuilder<()>;

#[derive(Deserialize, JsonSchema)]
struct PromptText {
    prompt: String,
}

#[derive(Deserialize, JsonSchema)]
struct Message {
    message: String,
}

#[derive(Deserialize, JsonSchema)]
struct Greet {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct SlowCompute {
    #[serde(default)]
    seconds: Option<f64>,
    #[serde(default)]
    label: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
struct ConfirmDelete {
    #[serde(default)]
    filename: Option<String>,
}

fn string_form(message: &str, field: &str) -> Form {
    Form::new(message).field(field, r#"{"type":"string"}"#)
}

fn tool(name: &str, description: &str) -> Tool {
    Tool::new(name).description(description)
}

// Content.

fn contents(builder: Builder) -> Builder {
    let mixed = || {
        let resource = Contents::text(r#"{"test":"data","value":123}"#)
            .uri("test://mixed-content-resource")
            .mime_type("application/json");
        vec![
            Content::text("Multiple content types test:"),
            Content::image(PNG, "image/png"),
            Content::resource(resource),
        ]
    };
    let embedded = || {
        let contents = Contents::text("This is an embedded resource content.");
        Content::resource(contents.uri("test://embedded-resource").mime_type("text/plain"))
    };
    builder
        .tool(
            tool("test_simple_text", "Returns text"),
            |_: NoArguments, _: &Context| "This is a simple text response for testing.",
        )
        .tool(tool("test_image_content", "Returns an image"), |_: NoArguments, _: &Context| {
            Content::image(PNG, "image/png")
        })
        .tool(tool("test_audio_content", "Returns a sound"), |_: NoArguments, _: &Context| {
            Content::audio(WAV, "audio/wav")
        })
        .tool(tool("test_embedded_resource", "Returns a resource"), move |_: NoArguments, _: &Context| embedded())
        .tool(tool("test_multiple_content_types", "Returns several things"), move |_: NoArguments, _: &Context| mixed())
        .tool(tool("test_error_handling", "Fails"), |_: NoArguments, _: &Context| {
            ToolResult::text("This tool intentionally returns an error for testing").error()
        })
        .raw_tool(
            tool("json_schema_2020_12_tool", "Tool with JSON Schema 2020-12 features"),
            SCHEMA_2020_12,
            |args, _, output| {
                output.text(&format!("Hello, {}!", args.str("name").as_deref().unwrap_or("world")));
                Ok(())
            },
        )
        .raw_tool(tool("test_custom_header", "Has a parameter in a header"), CUSTOM_HEADER, |args, _, output| {
            let value = args.get("value").filter(|value| value.as_raw_str().is_some());
            output.text_raw(value.ok_or_else(|| Failure::new("`value` must be a string"))?);
            Ok(())
        })
}

// What happens during a call.

async fn with_progress(_: NoArguments, ctx: Context) -> &'static str {
    for (progress, message) in [(0.0, "Starting"), (50.0, "Halfway"), (100.0, "Complete")] {
        ctx.progress(progress, Some(100.0), Some(message));
        ctx.sleep(Duration::from_millis(50)).await;
    }
    "Progress test completed"
}

async fn with_logging(_: NoArguments, ctx: Context) -> &'static str {
    for message in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        ctx.log(LogLevel::Info, Some("conformance-server"), message);
        ctx.sleep(Duration::from_millis(50)).await;
    }
    "Logging test completed"
}

async fn reconnection(_: NoArguments, ctx: Context) -> &'static str {
    ctx.end_stream();
    ctx.sleep(Duration::from_millis(100)).await;
    "Reconnection test completed"
}

fn during_calls(builder: Builder) -> Builder {
    builder
        .async_tool(tool("test_tool_with_progress", "Tells its progress"), with_progress)
        .async_tool(tool("test_tool_with_logging", "Logs what it does"), with_logging)
        .async_tool(tool("test_reconnection", "Ends its stream early"), reconnection)
        .tool(tool("test_logging_tool", "Logs if that is wanted"), |_: NoArguments, ctx: &Context| {
            ctx.log(LogLevel::Info, Some("conformance-server"), "logLevel was requested");
            "Logging tool completed"
        })
        .tool(tool("test_trigger_tool_change", "Says that the tools changed"), |_: NoArguments, ctx: &Context| {
            ctx.notify_tools_changed();
            "Tool list change triggered"
        })
        .tool(tool("test_trigger_prompt_change", "Says that the prompts changed"), |_: NoArguments, ctx: &Context| {
            ctx.notify_prompts_changed();
            "Prompt list change triggered"
        })
        .tool(tool("test_trigger_resource_update", "Says that a resource changed"), |_: NoArguments, ctx: &Context| {
            ctx.resource_updated("test://watched-resource");
            "Resource update triggered"
        })
        .tool(tool("test_missing_capability", "Needs sampling"), |_: NoArguments, ctx: &Context| {
            ctx.require(Capabilities::SAMPLING).map(|()| "Required capability declared")
        })
}

// Questions in the way of the legacy scenarios.

async fn sampling(args: PromptText, ctx: Context) -> Result<String, Failure> {
    let sample = ctx.sample("sampling", Sampling::new(100).user(args.prompt)).await?;
    Ok(format!("LLM response: {}", sample.text().unwrap_or_else(|| "No text response".into())))
}

fn told(what: &str, answer: &Elicited) -> String {
    let content = answer.content().map_or_else(|| "{}".to_owned(), ToString::to_string);
    format!("{what}: action={}, content={content}", answer.action())
}

async fn elicitation(args: Message, ctx: Context) -> Result<String, Failure> {
    let form = Form::new(args.message)
        .field("username", r#"{"type":"string","description":"User's response"}"#)
        .field("email", r#"{"type":"string","description":"User's email address"}"#);
    Ok(told("User response", &ctx.elicit("user", form).await?))
}

async fn defaults(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let form = Form::with_schema("Please provide values (all have defaults)", DEFAULTS);
    Ok(told("Elicitation completed", &ctx.elicit("defaults", form).await?))
}

async fn enums(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let form = Form::with_schema("Test enum schema improvements", ENUMS);
    Ok(told("Elicitation completed", &ctx.elicit("enums", form).await?))
}

async fn streaming_elicitation(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let answer = ctx.elicit("streaming_elicitation", string_form("Provide a value", "value")).await?;
    Ok(told("Elicitation completed", &answer))
}

fn questions(builder: Builder) -> Builder {
    builder
        .async_tool(tool("test_sampling", "Asks the client's model"), sampling)
        .async_tool(tool("test_elicitation", "Asks the user"), elicitation)
        .async_tool(tool("test_elicitation_sep1034_defaults", "Asks with defaults (SEP-1034)"), defaults)
        .async_tool(tool("test_elicitation_sep1330_enums", "Asks with choices (SEP-1330)"), enums)
        .async_tool(tool("test_streaming_elicitation", "Asks during a call"), streaming_elicitation)
        .tool(tool("test_visit_needed", "Needs a visit to a page first"), |_: NoArguments, ctx: &Context| {
            let visit = Visit::new("visit-1", "Please log in", "https://example.com/login?to=1");
            Err::<(), _>(ctx.needs_visits([visit]))
        })
        .tool(tool("test_visit_complete", "Says that the visit is done"), |_: NoArguments, ctx: &Context| {
            ctx.visit_complete("visit-1");
            "Visit completed"
        })
}

// Questions in the way of SEP-2322.

fn name_form() -> Form {
    string_form("What is your name?", "name")
}

async fn ask_name(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let answer = ctx.elicit("user_name", name_form()).await?;
    Ok(format!("Hello, {}!", answer.str("name").unwrap_or_else(|| "friend".into())))
}

async fn ask_capital(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let question = Sampling::new(100).user("What is the capital of France?");
    let sample = ctx.sample("capital_question", question).await?;
    Ok(format!("Sampling response: {}", sample.text().unwrap_or_default()))
}

async fn ask_roots(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let roots = ctx.roots("client_roots").await?;
    let uris: Vec<_> = roots.into_iter().map(|root| root.uri).collect();
    Ok(format!("Client roots: [{}]", uris.join(", ")))
}

async fn confirm(_: NoArguments, ctx: Context) -> Result<&'static str, Failure> {
    ctx.elicit("confirm", Form::new("Please confirm").field("ok", r#"{"type":"boolean"}"#)).await?;
    Ok("Confirmed: state-ok")
}

fn greeting() -> Sampling {
    Sampling::new(50).user("Generate a greeting")
}

async fn ask_everything(_: NoArguments, ctx: Context) -> Result<&'static str, Failure> {
    ctx.ask_all([
        Ask::elicit("user_name", name_form()),
        Ask::sample("greeting", greeting()),
        Ask::roots("client_roots"),
    ])
    .await?;
    Ok("All inputs received")
}

async fn ask_twice(_: NoArguments, ctx: Context) -> Result<&'static str, Failure> {
    ctx.elicit("step1", string_form("Step 1: What is your name?", "name")).await?;
    ctx.elicit("step2", string_form("Step 2: What is your favorite color?", "color")).await?;
    Ok("Multi-round flow complete")
}

async fn ask_what_is_declared(_: NoArguments, ctx: Context) -> Result<&'static str, Failure> {
    let can = ctx.capabilities();
    let asks = [
        (Capabilities::ELICITATION_FORM, Ask::elicit("user_name", name_form())),
        (Capabilities::SAMPLING, Ask::sample("greeting", greeting())),
        (Capabilities::ROOTS, Ask::roots("client_roots")),
    ];
    ctx.ask_all(asks.into_iter().filter(|(needs, _)| can.has(*needs)).map(|(_, ask)| ask)).await?;
    Ok("Capability-aware flow complete")
}

async fn ask_in_prompt(_: PromptArguments, ctx: Context) -> Result<String, Failure> {
    let form = string_form("What context should the prompt use?", "context");
    let answer = ctx.elicit("user_context", form).await?;
    Ok(format!("Use this context: {}", answer.str("context").unwrap_or_default()))
}

fn input_required(builder: Builder) -> Builder {
    let tool = |name: &str| Tool::new(format!("test_input_required_result_{name}")).description("Asks (SEP-2322)");
    builder
        .async_tool(tool("elicitation"), ask_name)
        .async_tool(tool("sampling"), ask_capital)
        .async_tool(tool("list_roots"), ask_roots)
        .async_tool(tool("request_state"), confirm)
        .async_tool(tool("tampered_state"), confirm)
        .async_tool(tool("multiple_inputs"), ask_everything)
        .async_tool(tool("multi_round"), ask_twice)
        .async_tool(tool("capabilities"), ask_what_is_declared)
        .async_prompt(Prompt::new("test_input_required_result_prompt").description("Asks (SEP-2322)"), ask_in_prompt)
}

// Tasks.

async fn slow_compute(args: SlowCompute, ctx: Context) -> String {
    let seconds = args.seconds.unwrap_or(1.0).clamp(0.0, 3600.0);
    ctx.sleep(Duration::from_secs_f64(seconds)).await;
    format!("slow_compute({}) done after {seconds}s", args.label.as_deref().unwrap_or("compute"))
}

async fn failing_job(_: NoArguments, ctx: Context) -> Result<(), Failure> {
    ctx.sleep(Duration::from_secs(1)).await;
    Err(Failure::new("failing_job: intentional tool execution error"))
}

async fn protocol_error_job(_: NoArguments, ctx: Context) -> Result<(), Failure> {
    ctx.sleep(Duration::from_millis(200)).await;
    Err(RpcError::new(Code::INTERNAL, "protocol_error_job: intentional protocol-level failure"))?
}

async fn confirm_delete(args: ConfirmDelete, ctx: Context) -> Result<String, Failure> {
    #[derive(Deserialize)]
    struct Answer {
        confirm: bool,
    }
    let filename = args.filename.unwrap_or_else(|| "file.txt".into());
    let form = Form::new(format!("Delete {filename}?")).field("confirm", r#"{"type":"boolean"}"#);
    let confirmed = ctx.elicit("confirm", form).await?.parse::<Answer>()?.is_some_and(|answer| answer.confirm);
    Ok(format!("confirm_delete({filename}): confirmed = {confirmed}"))
}

async fn multi_input(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let asks = [
        Ask::elicit("input-a", string_form("Provide value A", "value")),
        Ask::elicit("input-b", string_form("Provide value B", "value")),
    ];
    let answers = ctx.ask_all(asks).await?;
    let value = |key| answers.elicited(key).and_then(|answer| answer.str("value")).unwrap_or_else(|| "(none)".into());
    Ok(format!("multi_input: a = {}, b = {}", value("input-a"), value("input-b")))
}

async fn tool_with_task(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let name = ctx.elicit("user_name", name_form()).await?.str("name").unwrap_or_else(|| "friend".into());
    ctx.become_task().await?;
    ctx.sleep(Duration::from_millis(200)).await;
    Ok(format!("Hello, {name}! (async)"))
}

fn tasks(builder: Builder) -> Builder {
    let task = |name: &str, support| Tool::new(name).description("Runs as a task (SEP-2663)").task_support(support);
    builder
        .tool(tool("greet", "Greets at once"), |args: Greet, _: &Context| {
            format!("Hello, {}!", args.name.as_deref().unwrap_or("friend"))
        })
        .async_tool(task("slow_compute", TaskSupport::Optional), slow_compute)
        .async_tool(task("failing_job", TaskSupport::Required), failing_job)
        .async_tool(task("protocol_error_job", TaskSupport::Optional), protocol_error_job)
        .async_tool(task("confirm_delete", TaskSupport::Required), confirm_delete)
        .async_tool(task("multi_input", TaskSupport::Required), multi_input)
        .async_tool(task("test_tool_with_task", TaskSupport::Required).becomes_task(), tool_with_task)
}

// Resources and prompts.

fn resources(builder: Builder) -> Builder {
    builder
        .resource(
            Resource::new("test://static-text")
                .name("Static Text Resource")
                .description("A static text resource for testing")
                .mime_type("text/plain"),
            |_: &Reading, _: &Context| "This is the content of the static text resource.",
        )
        .resource(
            Resource::new("test://static-binary")
                .name("Static Binary Resource")
                .description("A static binary resource for testing")
                .mime_type("image/png"),
            |_: &Reading, _: &Context| Contents::bytes(PNG),
        )
        .resource(
            Resource::new("test://watched-resource")
                .name("Watched Resource")
                .description("A resource to subscribe to")
                .mime_type("text/plain"),
            |_: &Reading, _: &Context| "Watched resource content.",
        )
        .resource_template(
            ResourceTemplate::new("test://template/{id}/data")
                .name("Resource Template")
                .description("A resource template with a parameter")
                .mime_type("application/json"),
            |reading: &Reading, _: &Context| {
                let id = reading.variable("id").unwrap_or_default();
                let body = serde_json::json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
                body.to_string()
            },
        )
}

fn starting_with(values: &[&str], completing: &Completing) -> Vec<String> {
    values.iter().filter(|value| value.starts_with(completing.value())).map(|value| (*value).to_owned()).collect()
}

fn prompts(builder: Builder) -> Builder {
    builder
        .prompt(
            Prompt::new("test_simple_prompt").description("A simple prompt without arguments"),
            |_: &PromptArguments, _: &Context| "This is a simple prompt for testing.",
        )
        .prompt(
            Prompt::new("test_prompt_with_arguments")
                .description("A prompt with two arguments")
                .argument(PromptArgument::new("arg1").description("First test argument").required())
                .argument(PromptArgument::new("arg2").description("Second test argument").required()),
            |args: &PromptArguments, _: &Context| {
                format!("Prompt with arguments: arg1='{}', arg2='{}'", &args["arg1"], &args["arg2"])
            },
        )
        .prompt(
            Prompt::new("test_prompt_with_embedded_resource")
                .description("A prompt that carries a resource")
                .argument(PromptArgument::new("resourceUri").description("URI of the resource").required()),
            |args: &PromptArguments, _: &Context| {
                let contents = Contents::text("Embedded resource content for testing.");
                let contents = contents.uri(&args["resourceUri"]).mime_type("text/plain");
                PromptResult::new()
                    .user(Content::resource(contents))
                    .user("Please process the embedded resource above.")
            },
        )
        .prompt(
            Prompt::new("test_prompt_with_image").description("A prompt that carries an image"),
            |_: &PromptArguments, _: &Context| {
                PromptResult::new().user(Content::image(PNG, "image/png")).user("Please analyze the image above.")
            },
        )
        .complete_prompt("test_prompt_with_arguments", "arg1", |completing, _| {
            starting_with(&["paris", "park", "party", "test-value"], completing)
        })
        .complete_template("test://template/{id}/data", "id", |completing, _| starting_with(&["123"], completing))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let builder = Server::builder("corelane-conformance", env!("CARGO_PKG_VERSION"))
        .title("Corelane conformance server")
        .instructions("Fixtures of the MCP conformance suite.")
        .list_cache(CacheHint::public(60_000))
        .read_cache(CacheHint::public(60_000))
        .announces_tool_changes()
        .announces_prompt_changes()
        .announces_resource_changes()
        .announces_resource_updates();
    let parts = [contents, during_calls, questions, input_required, tasks, resources, prompts];
    let server = parts.into_iter().fold(builder, |builder, part| part(builder)).build()?;

    let mut arguments = std::env::args().skip(1);
    let mut is_stdio = false;
    let (mut listen, mut options) = ("127.0.0.1:3104".to_owned(), ServeOptions::default());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => {
                println!(
                    "Options: --listen ADDRESS [default: {listen}], --cores N, --era legacy|modern, --stdio, --help"
                );
                return Ok(());
            }
            "--stdio" => is_stdio = true,
            "--listen" => listen = arguments.next().ok_or("--listen needs an address")?,
            "--cores" => options = options.cores(arguments.next().ok_or("--cores needs a number or a list of CPUs")?),
            "--era" => options = options.era(arguments.next().ok_or("--era needs legacy or modern")?),
            other => return Err(format!("unknown argument `{other}`; --help names them").into()),
        }
    }
    if is_stdio {
        return Ok(server.serve_stdio_with(options)?);
    }
    Ok(server.serve(options.listen(listen))?)
}
