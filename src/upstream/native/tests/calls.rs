//! Calls that ask nothing: results, errors, lists, order, panics, cancellation.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rig::{LEGACY, MODERN, Rig, text_of};
use crate::ids::View;
use crate::proto::mcp::{HeaderParamKind, LogLevel, Version};
use crate::server::service::Service;
use crate::upstream::native::*;

#[derive(Deserialize, JsonSchema)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Serialize, JsonSchema)]
struct Sum {
    sum: i64,
}

#[derive(Default)]
struct Drops(Rc<Cell<u32>>);

struct CountDrop(Rc<Cell<u32>>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

const RAW: &str = "{\"type\":\"object\",  \"properties\":{\"data\":{\"type\":\"string\",\"x-mcp-header\":\"Data\"}}}";

async fn steps(_: NoArguments, ctx: Context<Drops>) -> &'static str {
    for step in [0.0, 50.0, 50.0, 20.0, 100.0] {
        ctx.progress(step, Some(100.0), None);
        ctx.sleep(Duration::from_millis(50)).await;
    }
    "done"
}

async fn patient(_: NoArguments, ctx: Context<Drops>) {
    let _drop = CountDrop(Rc::clone(&ctx.state().0));
    ctx.sleep(Duration::from_secs(30)).await;
}

async fn tidy(_: NoArguments, ctx: Context<Drops>) {
    ctx.cancelled().await;
    ctx.state().0.set(ctx.state().0.get() + 10);
    ctx.sleep(Duration::from_secs(30)).await;
    ctx.state().0.set(1000);
}

fn panic_in_handler(_: NoArguments, _: &Context<Drops>) -> String {
    panic!("a secret")
}

async fn late_panic(_: NoArguments, ctx: Context<Drops>) -> String {
    ctx.sleep(Duration::from_millis(1)).await;
    panic!("a secret")
}

fn server() -> Server<Drops> {
    let ctx = |ctx: &Context<Drops>| ctx.version() as u8;
    Server::builder("test", "1")
        .title("A test")
        .instructions("say \"hi\"")
        .state(Drops::default)
        .page_size(4)
        .tool(Tool::new("add").description("adds").read_only(true), |add: Add, _: &Context<Drops>| add.a + add.b)
        .tool(Tool::new("sum").title("Sum"), |add: Add, _: &Context<Drops>| Structured(Sum { sum: add.a + add.b }))
        .raw_tool(Tool::new("echo"), RAW, |args, _, output| {
            output.text_raw(args.get("data").ok_or_else(|| Failure::new("no data"))?);
            Ok(())
        })
        .tool(Tool::new("fail"), |_: NoArguments, _: &Context<Drops>| -> Result<(), Failure> {
            Err(std::io::Error::other("disk on fire"))?
        })
        .tool(Tool::new("rpc"), |_: NoArguments, _: &Context<Drops>| -> Result<(), Failure> {
            Err(crate::proto::jsonrpc::RpcError::new(crate::proto::jsonrpc::Code(-5), "five"))?
        })
        .tool(Tool::new("panic"), panic_in_handler)
        .async_tool(Tool::new("late_panic"), late_panic)
        .async_tool(Tool::new("steps"), steps)
        .async_tool(Tool::new("at_once"), async |_: NoArguments, ctx: Context<Drops>| {
            ctx.log(LogLevel::Info, Some("me"), "kept");
            "now"
        })
        .async_tool(Tool::new("patient"), patient)
        .async_tool(Tool::new("tidy"), tidy)
        .async_tool(Tool::new("offloaded"), async |_: NoArguments, ctx: Context<Drops>| -> Result<String, Failure> {
            let slept = ctx.offload(async { tokio::time::sleep(Duration::from_millis(5)).await }).await;
            let added = ctx.blocking(|| 40 + 2).await?;
            let panicked: Result<(), _> = ctx.blocking(|| panic!("on the pool")).await;
            Ok(format!("{slept:?} {added} {panicked:?}"))
        })
        .tool(Tool::new("chatty"), |_: NoArguments, ctx: &Context<Drops>| {
            ctx.log(LogLevel::Debug, None, "too quiet");
            ctx.log(LogLevel::Error, Some("unit"), &json!({"x": 1}));
            "said"
        })
        .tool(Tool::new("rich"), |_: NoArguments, _: &Context<Drops>| {
            ToolResult::text("t")
                .content(Content::image(b"abc", "image/png"))
                .content(Content::audio(b"abc", "audio/wav"))
                .content(Content::resource(Contents::text("inner").uri("x://y")))
                .content(Content::resource_link("x://z", "z").mime_type("text/plain"))
                .structured(json!([1]))
                .meta("k", "1")
                .error()
        })
        .resource(Resource::new("test://text").mime_type("text/plain"), |_: &Reading, _: &Context<Drops>| "words")
        .resource(Resource::new("test://bytes").cache(CacheHint::public(7)), |_: &Reading, _: &Context<Drops>| {
            vec![0_u8, 255]
        })
        .async_resource(Resource::new("test://late"), async |_: Reading, ctx: Context<Drops>| {
            ctx.sleep(Duration::from_millis(1)).await;
            "late"
        })
        .resource_template(ResourceTemplate::new("test://{id}/data"), |reading: &Reading, _: &Context<Drops>| {
            match reading.variable("id") {
                Some("none") => Err(Failure::not_found()),
                id => Ok(id.unwrap_or_default().to_owned()),
            }
        })
        .prompt(
            Prompt::new("p").argument(PromptArgument::new("who").required()).argument("how"),
            move |arguments: &PromptArguments, c: &Context<Drops>| {
                format!("{} {:?} {}", &arguments["who"], arguments.get("how"), ctx(c) > 0)
            },
        )
        .complete_prompt("p", "who", |completing, _| {
            (0..150).map(|number| format!("{}{number}", completing.value())).collect()
        })
        .complete_template("test://{id}/data", "id", |completing, _| {
            vec![completing.argument("how").unwrap_or("?").to_owned()]
        })
        .async_complete_prompt("p", "how", async |completing: Completing, ctx: Context<Drops>| {
            ctx.sleep(Duration::from_millis(1)).await;
            match completing.value() {
                "none" => Err(Failure::new("nothing begins so")),
                "ask" => ctx.roots("r").await.map(|_| Vec::new()).map_err(Failure::from),
                value => Ok(vec![format!("{value}!")]),
            }
        })
        .build()
        .expect("a good server")
}

#[test]
fn a_result_fits_its_revision() {
    let mut rig = Rig::new(&server());
    let legacy = rig.tool(LEGACY, "add", json!({"a": 1, "b": 2})).expect("a result");
    assert_eq!(legacy, json!({"content": [{"type": "text", "text": "3"}], "isError": false}));
    let modern = rig.tool(MODERN, "add", json!({"a": 1, "b": 2})).expect("a result");
    let info = json!({"name": "test", "title": "A test", "version": "1"});
    let expected = json!({"resultType": "complete", "content": [{"type": "text", "text": "3"}], "isError": false,
        "_meta": {"io.modelcontextprotocol/serverInfo": info}});
    assert_eq!(modern, expected);
    assert_eq!(rig.text(MODERN, "echo", json!({"data": "a\n\"é\u{1}"})), "a\n\"é\u{1}");
    let about = rig.service.about(View::ALL).expect("known");
    assert_eq!(about.instructions.as_deref(), Some(&br#""say \"hi\"""#[..]));
    assert!(about.offers.completions && !about.offers.tasks);
}

#[test]
fn structured_results_depend_on_the_revision() {
    let mut rig = Rig::new(&server());
    let result = rig.tool(LEGACY, "sum", json!({"a": 1, "b": 2})).expect("a result");
    assert_eq!((&result["structuredContent"], text_of(&result).as_str()), (&json!({"sum": 3}), r#"{"sum":3}"#));
    let old = rig.tool(Version::V2025_03_26, "sum", json!({"a": 1, "b": 2})).expect("a result");
    assert_eq!(old.get("structuredContent"), None);
    let rich = rig.tool(LEGACY, "rich", json!({})).expect("a result");
    assert_eq!((rich.get("structuredContent"), &rich["_meta"]), (None, &json!({"k": 1})));
    assert_eq!(rich["content"][1], json!({"type": "image", "data": "YWJj", "mimeType": "image/png"}));
    assert_eq!(rich["content"][3]["resource"], json!({"uri": "x://y", "text": "inner"}));
    assert_eq!(rich["content"][4]["type"], "resource_link");
    let rich = rig.tool(MODERN, "rich", json!({})).expect("a result");
    assert_eq!((&rich["structuredContent"], &rich["isError"]), (&json!([1]), &json!(true)));
    assert!(rich["_meta"]["k"] == 1 && rich["_meta"]["io.modelcontextprotocol/serverInfo"].is_object());
    let old = rig.tool(Version::V2024_11_05, "rich", json!({})).expect("a result");
    assert_eq!((&old["content"][2]["type"], &old["content"][4]["text"]), (&json!("text"), &json!("x://z")));
}

#[test]
fn errors_are_told_where_they_belong() {
    let mut rig = Rig::new(&server());
    let result = rig.tool(MODERN, "fail", json!({})).expect("a result");
    assert_eq!((&result["isError"], text_of(&result).as_str()), (&json!(true), "disk on fire"));
    assert_eq!(rig.tool(LEGACY, "rpc", json!({})).expect_err("an error").0, -5);
    assert_eq!(rig.tool(MODERN, "nobody", json!({})).expect_err("an error").0, -32602);

    let wrong = json!({"a": "x", "b": 2});
    let result = rig.tool(LEGACY, "add", wrong.clone()).expect("since 2025-11-25 the model reads it");
    assert_eq!(text_of(&result), r#"Invalid arguments: invalid type: string "x", expected i64"#);
    assert_eq!(rig.tool(Version::V2025_06_18, "add", wrong).expect_err("before, the client").0, -32602);
    let list = rig.ask(LEGACY, "tools/call", json!({"name": "add", "arguments": [1]})).expect_err("not an object");
    assert_eq!(list.0, -32602);
    assert!(rig.ask(LEGACY, "tools/call", json!({"name": "fail"})).is_ok(), "arguments may be left out");
}

struct Echoed(RawArguments);

impl IntoToolResult for Echoed {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.text_raw(self.0.json().get("data").ok_or_else(|| Failure::new("no data"))?);
        Ok(())
    }
}

#[test]
fn a_raw_tool_may_wait_and_its_schema_and_arguments_stay_as_they_are() {
    let later = async |arguments: RawArguments, ctx: Context| {
        ctx.sleep(Duration::from_millis(5)).await;
        Echoed(arguments)
    };
    let server = Server::builder("t", "1").async_raw_tool(Tool::new("later"), RAW, later).build().expect("it is one");
    let mut rig = Rig::new(&server);
    assert_eq!(rig.text(MODERN, "later", json!({"data": "a\u{fc}\n"})), "a\u{fc}\n");
    let failed = rig.tool(LEGACY, "later", json!({"other": 1})).expect("a result");
    assert_eq!((text_of(&failed).as_str(), &failed["isError"]), ("no data", &json!(true)));
    let schema = Server::builder("t", "1").async_raw_tool(Tool::new("a"), "[]", later).build();
    assert!(matches!(schema.err(), Some(BuildError::Schema { .. })));
    let task = Tool::new("a").task_support(TaskSupport::Optional);
    assert!(Server::builder("t", "1").async_raw_tool(task, RAW, later).build().is_ok(), "what waits may be a task");
}

#[test]
fn a_panic_is_the_callers_own() {
    let mut rig = Rig::new(&server());
    for tool in ["panic", "late_panic"] {
        let (code, message, _) = rig.tool(MODERN, tool, json!({})).expect_err("an error");
        assert_eq!((code, message.as_str()), (-32603, "the handler panicked"));
        assert_eq!(rig.service.tool_counts(tool).expect("a tool").panics, 1);
    }
    assert_eq!(rig.host.panics.get(), 2, "the core counts them too");
    assert_eq!(rig.text(MODERN, "add", json!({"a": 1, "b": 1})), "2");
    assert_eq!(rig.host.running(), 0);
}

#[test]
fn signs_arrive_before_the_outcome() {
    let mut rig = Rig::new(&server());
    rig.log_level = Some(LogLevel::Info);
    let result = rig.tool(LEGACY, "chatty", json!({})).expect("a result");
    assert_eq!(text_of(&result), "said");
    let log = r#"notifications/message {"data":{"x":1},"level":"error","logger":"unit"}"#;
    assert_eq!(rig.sent, [log, "reply"]);
    rig.sent.clear();
    assert_eq!(rig.text(MODERN, "at_once", json!({})), "now");
    assert_eq!(rig.sent.len(), 2);
    rig.sent.clear();
    rig.log_level = None;
    assert_eq!(rig.text(MODERN, "chatty", json!({})), "said");
    assert!(rig.sent.is_empty(), "nobody wanted logs, so the outcome came at once");
}

#[test]
fn what_is_said_before_a_handler_waits_comes_before_its_outcome() {
    let says = |ctx: &Context| ctx.log(LogLevel::Error, None, "begins");
    let server = Server::builder("test", "1")
        .async_tool(Tool::new("good"), move |_: NoArguments, ctx: Context| {
            says(&ctx);
            async move { "done" }
        })
        .async_tool(Tool::new("panics"), move |_: NoArguments, ctx: Context| {
            says(&ctx);
            assert!(ctx.is_cancelled(), "it panics before it has a future");
            async move { "done" }
        })
        .build()
        .expect("a good server");
    for (name, is_good) in [("good", true), ("panics", false)] {
        let mut rig = Rig::new(&server);
        rig.log_level = Some(LogLevel::Info);
        assert_eq!(rig.tool(LEGACY, name, json!({})).is_ok(), is_good);
        assert_eq!(rig.sent.len(), 2, "{name}: {:?}", rig.sent);
        assert!(rig.sent[0].contains("begins") && rig.sent[1] == "reply", "{name}: {:?}", rig.sent);
    }
}

#[test]
fn what_time_is_left_is_known_when_it_has_become_more() {
    fn left(ctx: &Context) -> u64 {
        ctx.time_left().as_secs()
    }
    let server = Server::builder("test", "1")
        .async_tool(Tool::new("shows"), async |_: NoArguments, ctx: Context| {
            ctx.sleep(Duration::from_secs(50)).await;
            let before = left(&ctx);
            ctx.progress(1.0, None, None);
            format!("{before} {}", left(&ctx))
        })
        .async_tool(Tool::new("asks"), async |_: NoArguments, ctx: Context| -> Result<String, Failure> {
            ctx.elicit("a", Form::new("?")).await?;
            Ok(left(&ctx).to_string())
        })
        .build()
        .expect("a good server");
    let mut rig = Rig::new(&server);
    let shows = json!({"name": "shows", "_meta": {"progressToken": 1}});
    assert_eq!(text_of(&rig.ask(LEGACY, "tools/call", shows).expect("a result")), "10 30");
    let key = rig.begin(LEGACY, "tools/call", json!({"name": "asks"})).expect_err("it asks");
    rig.pass(Duration::from_secs(300));
    let (_, ask, ..) = rig.asked.pop().expect("a question");
    rig.service.answered(0, key, ask, Ok(br#"{"action":"accept","content":{}}"#));
    assert_eq!(text_of(&rig.reply(key).expect("answered").expect("a result")), "30");
}

#[test]
fn progress_goes_up_and_only_to_who_asked() {
    let mut rig = Rig::new(&server());
    let params = json!({"name": "steps", "_meta": {"progressToken": "tok\u{e9}n"}});
    assert_eq!(text_of(&rig.ask(MODERN, "tools/call", params).expect("a result")), "done");
    let progress = |n: u32| {
        format!("notifications/progress {}", json!({"progressToken": "tok\u{e9}n", "progress": n, "total": 100}))
    };
    assert_eq!(rig.sent, [progress(0), progress(50), progress(100), "reply".into()]);
    rig.sent.clear();
    assert_eq!(rig.text(LEGACY, "steps", json!({})), "done");
    assert_eq!(rig.sent, ["reply"]);
}

#[test]
fn a_cancelled_call_is_dropped_and_not_answered() {
    let mut rig = Rig::new(&server());
    let drops = Rc::clone(&rig.service.state().0);
    let params = json!({"name": "patient"});
    let key = rig.begin(LEGACY, "tools/call", params).expect_err("pending");
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.host.alarms.count(), 1, "it sleeps");
    rig.service.cancel(0, key);
    assert_eq!((drops.get(), rig.host.alarms.count()), (1, 0), "dropped at once, and nothing of it stays");
    rig.pass(Duration::from_secs(60));
    assert_eq!((rig.reply(key), rig.host.running()), (None, 0));

    let key = rig.begin(LEGACY, "tools/call", json!({"name": "tidy"})).expect_err("pending");
    rig.settle();
    rig.service.cancel(0, key);
    rig.pass(Duration::from_secs(60));
    assert_eq!((drops.get(), rig.host.running()), (11, 0), "one poll to tidy up, no more");

    let key = rig.begin(MODERN, "tools/call", json!({"name": "patient"})).expect_err("pending");
    let _ = key;
    drop(rig);
    assert_eq!(drops.get(), 12, "the end of the core drops what runs on it");
}

#[test]
fn work_goes_to_other_threads_and_comes_back() {
    let mut rig = Rig::new(&server());
    assert_eq!(rig.text(MODERN, "offloaded", json!({})), "Ok(()) 42 Err(Panicked)");
}

#[test]
fn slow_polls_are_counted() {
    let mut rig = Rig::new(&server());
    rig.host.tick.set(2_000_000);
    rig.text(MODERN, "add", json!({"a": 1, "b": 1}));
    let counts = rig.service.tool_counts("add").expect("a tool");
    assert_eq!((counts.calls, counts.slow_polls, counts.panics), (1, 1, 0));
    assert_eq!(rig.host.slow_polls.get(), 1, "the core counts them too");
    assert_eq!(rig.service.tool_counts("nobody"), None);
}

#[test]
fn lists_are_paged_in_order() {
    let mut rig = Rig::new(&server());
    let (mut names, mut cursor) = (Vec::new(), Value::Null);
    loop {
        let params = if cursor.is_null() { json!({}) } else { json!({"cursor": cursor}) };
        let page = rig.ask(MODERN, "tools/list", params).expect("a page");
        assert_eq!((&page["ttlMs"], &page["cacheScope"]), (&json!(60_000), &json!("private")));
        names.extend(page["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].clone()));
        match page.get("nextCursor") {
            Some(next) => cursor = next.clone(),
            None => break,
        }
    }
    assert_eq!((names.len(), &names[0], &names[13]), (14, &json!("add"), &json!("rich")));
    let error = rig.ask(MODERN, "tools/list", json!({"cursor": "forged"})).expect_err("an error");
    assert_eq!(error.0, -32602);
    assert_eq!(rig.ask(MODERN, "prompts/list", json!({"cursor": 5})).expect_err("an error").0, -32602);

    let page = rig.ask(LEGACY, "tools/list", json!({})).expect("a page");
    assert_eq!(page.get("ttlMs"), None);
    assert_eq!(page["tools"][0]["annotations"], json!({"readOnlyHint": true}));
    assert_eq!(page["tools"][1]["outputSchema"]["type"], "object");
    assert_eq!(page["tools"][2]["inputSchema"], serde_json::from_str::<Value>(RAW).expect("JSON"));
    let old = rig.ask(Version::V2024_11_05, "tools/list", json!({})).expect("a page");
    assert!(old["tools"][1].get("title").is_none() && old["tools"][1].get("outputSchema").is_none());
    let templates = rig.ask(LEGACY, "resources/templates/list", json!({})).expect("a page");
    assert_eq!(templates["resourceTemplates"][0]["uriTemplate"], "test://{id}/data");
}

#[test]
fn raw_schemas_go_out_byte_for_byte() {
    let server = server();
    let page = server.catalog.tool_list.page(LEGACY, None).expect("a page");
    assert!(String::from_utf8_lossy(page).contains(&format!("\"inputSchema\":{RAW}")));
}

#[test]
fn resources_are_read_by_uri_and_by_template() {
    let mut rig = Rig::new(&server());
    let mut read = |version, uri: &str| rig.ask(version, "resources/read", json!({"uri": uri}));
    let text = read(MODERN, "test://text").expect("contents");
    assert_eq!(text["contents"], json!([{"uri": "test://text", "mimeType": "text/plain", "text": "words"}]));
    assert_eq!((&text["ttlMs"], &text["cacheScope"]), (&json!(0), &json!("private")));
    let bytes = read(MODERN, "test://bytes").expect("contents");
    assert_eq!((&bytes["contents"][0]["blob"], &bytes["ttlMs"]), (&json!("AP8="), &json!(7)));
    assert_eq!(read(LEGACY, "test://late").expect("contents")["contents"][0]["text"], "late");
    assert_eq!(read(LEGACY, "test://a%20b/data").expect("contents")["contents"][0]["text"], "a b");
    for uri in ["test://nothing", "test://none/data", "test://%ff/data"] {
        let (code, _, data) = read(MODERN, uri).expect_err("not found");
        assert_eq!((code, data), (-32602, json!({"uri": uri})));
        assert_eq!(read(LEGACY, uri).expect_err("not found").0, -32002);
    }
    assert_eq!(rig.service.topic(View::ALL, "test://a%20b/data", LEGACY, None), Ok("test://a%20b/data".into()));
    assert_eq!(rig.service.topic(View::ALL, "test://nothing", LEGACY, None).expect_err("not found").code.0, -32002);
}

#[test]
fn a_server_without_logging_logs_nothing() {
    let say = |_: NoArguments, ctx: &Context| ctx.log(LogLevel::Emergency, None, "it burns");
    for (server, said) in [
        (Server::builder("t", "1").tool(Tool::new("say"), say), 1),
        (Server::builder("t", "1").without_logging().tool(Tool::new("say"), say), 0),
    ] {
        let mut rig = Rig::new(&server.build().expect("a good server"));
        rig.log_level = Some(LogLevel::Debug);
        rig.tool(LEGACY, "say", json!({})).expect("a result");
        let messages = rig.sent.iter().filter(|sent| sent.starts_with("notifications/message"));
        assert_eq!(messages.count(), said, "{:?}", rig.sent);
    }
}

#[test]
fn prompts_and_completion() {
    let mut rig = Rig::new(&server());
    let get = |arguments: Value| json!({"name": "p", "arguments": arguments});
    let result = rig.ask(LEGACY, "prompts/get", get(json!({"who": "me"}))).expect("a prompt");
    let message = json!({"role": "user", "content": {"type": "text", "text": "me None true"}});
    assert_eq!(result, json!({"messages": [message]}));
    assert_eq!(rig.ask(LEGACY, "prompts/get", get(json!({}))).expect_err("no `who`").0, -32602);
    assert_eq!(rig.ask(LEGACY, "prompts/get", get(json!({"who": 1}))).expect_err("a number").0, -32602);

    let complete = |reference: Value, name: &str| json!({"ref": reference, "argument": {"name": name, "value": "x"}});
    let prompt = json!({"type": "ref/prompt", "name": "p"});
    let result = rig.ask(MODERN, "completion/complete", complete(prompt.clone(), "who")).expect("values");
    let completion = &result["completion"];
    assert_eq!(completion["values"].as_array().map(Vec::len), Some(100));
    assert_eq!((&completion["total"], &completion["hasMore"]), (&json!(150), &json!(true)));
    for version in [LEGACY, MODERN] {
        let result = rig.ask(version, "completion/complete", complete(prompt.clone(), "how")).expect("values, later");
        assert_eq!(result["completion"]["values"], json!(["x!"]));
        for (value, why) in [("none", "nothing begins so"), ("ask", "cannot be asked")] {
            let mut params = complete(prompt.clone(), "how");
            params["argument"]["value"] = json!(value);
            let (code, text, _) = rig.ask(version, "completion/complete", params).expect_err("it fails");
            assert!(code == -32603 && text.contains(why), "{version}: {text}");
        }
    }
    let result = rig.ask(LEGACY, "completion/complete", complete(prompt, "else")).expect("nobody completes it");
    assert_eq!(result["completion"]["values"], json!([]));
    let mut params = complete(json!({"type": "ref/resource", "uri": "test://{id}/data"}), "id");
    params["context"] = json!({"arguments": {"how": "this"}});
    let result = rig.ask(LEGACY, "completion/complete", params).expect("values");
    assert_eq!(result["completion"]["values"], json!(["this"]));
    let unknown = complete(json!({"type": "ref/prompt", "name": "q"}), "who");
    assert_eq!(rig.ask(LEGACY, "completion/complete", unknown).expect_err("unknown").0, -32602);
}

#[test]
fn header_params_are_told() {
    let rig = Rig::new(&server());
    let params = rig.service.header_params(View::ALL, "echo");
    assert_eq!((params.len(), params[0].header_suffix.as_str()), (1, "Data"));
    assert_eq!((&params[0].path[..], params[0].kind), (&["data".to_owned()][..], HeaderParamKind::String));
    assert!(
        rig.service.header_params(View::ALL, "add").is_empty()
            && rig.service.header_params(View::ALL, "nobody").is_empty()
    );
}

#[test]
fn mistakes_are_found_when_the_server_is_built() {
    let none = |_: NoArguments, _: &Context| ();
    let refused = |builder: ServerBuilder<()>| builder.build().err().expect("refused");
    let builder = || Server::builder("t", "1");
    assert!(matches!(refused(builder().tool(Tool::new("a b"), none)), BuildError::Name(_)));
    let told = format!("{:?}", refused(builder().tool(Tool::new("a b"), none)));
    assert!(told.contains("`a b` does not fit"), "as a `main` prints it: {told}");
    assert!(matches!(refused(builder().tool(Tool::new("x".repeat(65)), none)), BuildError::Name(_)));
    let twice = builder().tool(Tool::new("a"), none).tool(Tool::new("a"), none);
    assert!(matches!(refused(twice), BuildError::Duplicate { .. }));
    let task = Tool::new("a").task_support(TaskSupport::Optional);
    assert!(matches!(refused(builder().tool(task, none)), BuildError::TaskSupport(_)));
    let schema = builder().raw_tool(Tool::new("a"), "[]", |_, _, _| Ok(()));
    assert!(matches!(refused(schema), BuildError::Schema { .. }));
    let uri = builder().resource(Resource::new("no scheme"), |_: &Reading, _: &Context| "");
    assert!(matches!(refused(uri), BuildError::Uri { .. }));
    let template = builder().resource_template(ResourceTemplate::new("a:{x}{y}"), |_: &Reading, _: &Context| "");
    assert!(matches!(refused(template), BuildError::Template { .. }));
    let completion = builder().complete_prompt("p", "a", |_, _| Vec::new());
    assert!(matches!(refused(completion), BuildError::UnknownCompletion(_)));
    let late = builder().tool(Tool::new("a"), none).state(|| 1_u8).build().err();
    assert_eq!(late, Some(BuildError::StateTooLate));
}
