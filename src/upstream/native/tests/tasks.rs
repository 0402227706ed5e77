//! Tasks: the extension (SEP-2663) and those of 2025-11-25.

use std::time::Duration;

use serde_json::{Value, json};

use super::rig::{LEGACY, MODERN, Rig, text_of};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Capabilities;
use crate::server::service::{Change, Service};
use crate::upstream::native::*;

async fn slow(_: NoArguments, ctx: Context) -> &'static str {
    ctx.progress(1.0, None, None);
    ctx.sleep(Duration::from_secs(2)).await;
    "slow"
}

async fn two(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let form = || Form::new("?").field("value", r#"{"type":"string"}"#);
    let answers = ctx.ask_all([Ask::elicit("a", form()), Ask::elicit("b", form())]).await?;
    let value = |key| answers.elicited(key).and_then(|answer| answer.str("value")).unwrap_or_default();
    Ok(format!("{}{}", value("a"), value("b")))
}

async fn later(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    let name = ctx.elicit("name", Form::new("Name?")).await?.str("name").unwrap_or_default();
    let is_task = ctx.become_task().await?;
    ctx.sleep(Duration::from_millis(200)).await;
    Ok(format!("{name} {is_task}"))
}

fn server() -> Server {
    let optional = |name: &str| Tool::new(name).task_support(TaskSupport::Optional);
    Server::builder("test", "1")
        .tasks(Duration::from_secs(60), Duration::from_millis(100), 3)
        .async_tool(optional("slow"), slow)
        .async_tool(optional("two"), two)
        .async_tool(Tool::new("later").task_support(TaskSupport::Required).becomes_task(), later)
        .async_tool(optional("rpc"), async |_: NoArguments, _: Context| -> Result<(), Failure> {
            Err(RpcError::new(Code::INTERNAL, "broken"))?
        })
        .async_tool(optional("error"), async |_: NoArguments, _: Context| -> Result<(), Failure> {
            Err(Failure::new("not today"))
        })
        .tool(Tool::new("plain"), |_: NoArguments, _: &Context| "plain")
        .build()
        .expect("a good server")
}

fn id(result: &Value) -> Value {
    json!({"taskId": result["taskId"]})
}

#[test]
fn a_modern_call_becomes_a_task() {
    let mut rig = Rig::new(&server());
    let created =
        rig.ask(MODERN, "tools/call", json!({"name": "slow", "_meta": {"progressToken": 1}})).expect("a task");
    assert_eq!((&created["resultType"], &created["status"]), (&json!("task"), &json!("working")));
    assert_eq!((&created["ttlMs"], &created["pollIntervalMs"]), (&json!(60_000), &json!(100)));
    for absent in ["task", "result", "error", "inputRequests", "requestState", "ttl", "pollInterval"] {
        assert_eq!(created.get(absent), None);
    }
    assert_eq!(rig.ask(MODERN, "tasks/get", id(&created)).expect("the task")["status"], "working");
    rig.pass(Duration::from_secs(3));
    let done = rig.ask(MODERN, "tasks/get", id(&created)).expect("the task");
    assert_eq!((&done["status"], &done["resultType"]), (&json!("completed"), &json!("complete")));
    assert_eq!(text_of(&done["result"]), "slow");
    assert!(done["result"].get("_meta").is_none_or(|meta| meta.get("io.modelcontextprotocol/related-task").is_none()));
    assert!(rig.sent.is_empty(), "no progress on tasks");
    let statuses: Vec<_> = rig
        .changes
        .iter()
        .filter_map(|change| match change {
            Change::Task { params, .. } => {
                Some(serde_json::from_slice::<Value>(params).expect("JSON")["status"].clone())
            }
            _ => None,
        })
        .collect();
    assert_eq!(statuses, ["completed"]);

    let ack = rig.ask(MODERN, "tasks/cancel", id(&created)).expect("idempotent");
    assert_eq!((&ack["resultType"], ack.get("taskId")), (&json!("complete"), None));
    rig.pass(Duration::from_secs(60));
    assert_eq!(rig.ask(MODERN, "tasks/get", id(&created)).expect_err("forgotten").0, -32602);
    assert_eq!((rig.service.tasks_len(), rig.host.running()), (0, 0));
}

#[test]
fn failures_of_tools_and_of_the_protocol_differ() {
    let mut rig = Rig::new(&server());
    let created = rig.tool(MODERN, "error", json!({})).expect("a task");
    let done = rig.ask(MODERN, "tasks/get", id(&created)).expect("the task");
    assert_eq!((&done["status"], &done["result"]["isError"]), (&json!("completed"), &json!(true)));
    let created = rig.tool(MODERN, "rpc", json!({})).expect("a task");
    let done = rig.ask(MODERN, "tasks/get", id(&created)).expect("the task");
    assert_eq!((&done["status"], &done["error"]["code"], done.get("result")), (&json!("failed"), &json!(-32603), None));
    // In 2025-11-25 a task has failed as well if its tool has, and says why ("Task Execution Errors").
    let mut rig = Rig::new(&server());
    for (name, why) in [("error", "the tool failed, and its result says how"), ("rpc", "broken")] {
        let created = rig.ask(LEGACY, "tools/call", json!({"name": name, "task": {}})).expect("a task");
        let done = rig.ask(LEGACY, "tasks/get", id(&created["task"])).expect("the task");
        assert_eq!((&done["status"], &done["statusMessage"]), (&json!("failed"), &json!(why)), "{name}");
    }
    let created = rig.ask(LEGACY, "tools/call", json!({"name": "error", "task": {}})).expect("a task");
    assert_eq!(rig.ask(LEGACY, "tasks/result", id(&created["task"])).expect("a result")["isError"], true);
}

#[test]
fn what_asks_for_a_task_is_looked_at_only_where_there_are_tasks() {
    let mut rig = Rig::new(&server());
    for task in [json!("yes"), json!([]), json!(7), json!({"ttl": "x"}), json!({"ttl": -1})] {
        let refusal = rig.ask(LEGACY, "tools/call", json!({"name": "slow", "task": task})).expect_err("no object");
        assert!(refusal.0 == -32602 && refusal.1.contains("params.task"), "{task}: {refusal:?}");
    }
    for task in [json!({}), json!({"ttl": null}), json!({"ttl": 5, "more": 1})] {
        let created = rig.ask(LEGACY, "tools/call", json!({"name": "slow", "task": task})).expect("a task");
        assert!(created["task"]["taskId"].is_string(), "{task}");
    }
    let answer = rig.ask(LEGACY, "tools/call", json!({"name": "plain", "task": null})).expect("no task was asked for");
    assert_eq!(text_of(&answer), "plain");
    assert_eq!(rig.ask(LEGACY, "tools/call", json!({"name": "plain", "task": {}})).expect_err("none of its").0, -32601);
    // Whoever declares no tasks takes no notice ("Task Support and Handling").
    let plain = Server::builder("test", "1").tool(Tool::new("plain"), |_: NoArguments, _: &Context| "plain");
    let mut rig = Rig::new(&plain.build().expect("right"));
    for task in [json!({}), json!({"ttl": 60_000}), json!("yes")] {
        let answer = rig.ask(LEGACY, "tools/call", json!({"name": "plain", "task": task})).expect("an answer");
        assert_eq!(text_of(&answer), "plain");
    }
}

#[test]
fn a_task_can_be_cancelled_and_the_table_is_bounded() {
    let mut rig = Rig::new(&server());
    let created: Vec<_> = (0..3).map(|_| rig.tool(MODERN, "slow", json!({})).expect("a task")).collect();
    assert_eq!(rig.tool(MODERN, "slow", json!({})).expect_err("full").0, -31503);
    let running = rig.host.running();
    rig.ask(MODERN, "tasks/cancel", id(&created[0])).expect("an ack");
    assert_eq!(rig.ask(MODERN, "tasks/get", id(&created[0])).expect("the task")["status"], "cancelled");
    assert_eq!(rig.host.running(), running - 1);
    rig.pass(Duration::from_secs(61));
    assert!(rig.tool(MODERN, "slow", json!({})).is_ok(), "the old ones are forgotten");
}

#[test]
fn tasks_count_what_they_were_given_as_long_as_they_run() {
    let mut rig = Rig::new(&server());
    let large = || json!({"x": "y".repeat(9 << 20)});
    let first = rig.tool(MODERN, "slow", large()).expect("a task");
    let (code, text, _) = rig.tool(MODERN, "slow", large()).expect_err("too much");
    assert!(code == -31503 && text.contains("as many bytes as it may"), "{code} {text}");
    rig.ask(MODERN, "tasks/cancel", id(&first)).expect("an ack");
    rig.tool(MODERN, "slow", large()).expect("there is room again");
    rig.pass(Duration::from_secs(3));
    rig.tool(MODERN, "slow", large()).expect("what has ended keeps no arguments");
}

#[test]
fn a_task_may_be_kept_for_no_time_at_all_and_harms_nobody() {
    let server = Server::builder("test", "1")
        .tasks(Duration::ZERO, Duration::ZERO, 3)
        .answer_within(Duration::MAX)
        .async_tool(Tool::new("slow").task_support(TaskSupport::Optional), slow)
        .async_tool(Tool::new("two").task_support(TaskSupport::Optional), two)
        .build()
        .expect("a good server");
    let mut rig = Rig::new(&server);
    for ttl in [0, 1, u64::MAX] {
        rig.ask(LEGACY, "tools/call", json!({"name": "slow", "task": {"ttl": ttl}})).expect("a task");
        rig.pass(Duration::from_secs(3));
    }
    rig.capabilities = Capabilities::ELICITATION_FORM;
    assert_eq!(rig.tool(MODERN, "two", json!({})).expect("questions")["resultType"], "input_required");
}

#[test]
fn the_time_that_a_task_has_is_that_of_the_task() {
    let optional = Tool::new("left").task_support(TaskSupport::Optional);
    let server = Server::builder("test", "1")
        .tasks(Duration::from_secs(600), Duration::from_millis(100), 3)
        .async_tool(optional, async |_: NoArguments, ctx: Context| {
            ctx.sleep(Duration::from_secs(100)).await;
            ctx.time_left().as_secs().to_string()
        })
        .build()
        .expect("a good server");
    let mut rig = Rig::new(&server);
    let created = rig.tool(MODERN, "left", json!({})).expect("a task");
    rig.pass(Duration::from_secs(101));
    let done = rig.ask(MODERN, "tasks/get", id(&created)).expect("the task");
    assert_eq!(text_of(&done["result"]), "500");
}

#[test]
fn clients_without_the_extension_get_plain_answers() {
    let mut rig = Rig::new(&server());
    rig.capabilities = Capabilities::ELICITATION_FORM;
    assert_eq!(rig.text(MODERN, "slow", json!({})), "slow");
    let (code, _, data) = rig.tool(MODERN, "later", json!({})).expect_err("it must be a task");
    let extension = json!({"extensions": {"io.modelcontextprotocol/tasks": {}}});
    assert_eq!((code, data), (-32021, json!({"requiredCapabilities": extension})));
    for method in ["tasks/get", "tasks/update", "tasks/cancel"] {
        assert_eq!(rig.ask(MODERN, method, json!({"taskId": "x"})).expect_err("gated").0, -32021);
    }
    rig.capabilities = super::rig::everything();
    assert_eq!(rig.ask(MODERN, "tasks/get", json!({"taskId": "x"})).expect_err("unknown").0, -32602);
    let hint = json!({"name": "plain", "task": {"ttl": 1}});
    assert_eq!(rig.ask(MODERN, "tools/call", hint).expect("the hint means nothing")["resultType"], "complete");
}

#[test]
fn a_task_asks_through_its_state() {
    let mut rig = Rig::new(&server());
    let created = rig.tool(MODERN, "two", json!({})).expect("a task");
    let waiting = rig.ask(MODERN, "tasks/get", id(&created)).expect("the task");
    assert_eq!(waiting["status"], "input_required");
    assert_eq!(waiting["inputRequests"].as_object().map(|asks| asks.len()), Some(2));
    let update = |rig: &mut Rig<()>, answers: Value| {
        let ack = rig.ask(MODERN, "tasks/update", json!({"taskId": created["taskId"], "inputResponses": answers}));
        assert_eq!(ack.expect("an ack")["resultType"], "complete");
        rig.settle();
        rig.ask(MODERN, "tasks/get", id(&created)).expect("the task")
    };
    let accept = |value: &str| json!({"action": "accept", "content": {"value": value}});
    let partly = update(&mut rig, json!({"a": accept("x"), "b": 5, "c": {}}));
    assert_eq!(partly["status"], "input_required");
    assert_eq!(partly["inputRequests"].as_object().map(|asks| asks.contains_key("b") && asks.len() == 1), Some(true));
    let done = update(&mut rig, json!({"b": accept("y")}));
    assert_eq!((done["status"].as_str(), text_of(&done["result"]).as_str()), (Some("completed"), "xy"));
}

#[test]
fn questions_first_then_a_task() {
    let mut rig = Rig::new(&server());
    let first = rig.tool(MODERN, "later", json!({})).expect("a question");
    assert_eq!((first["resultType"].as_str(), first.get("taskId")), (Some("input_required"), None));
    let answers = json!({"name": {"action": "accept", "content": {"name": "Alice"}}});
    let state = &first["requestState"];
    let params = json!({"name": "later", "arguments": {}, "inputResponses": answers, "requestState": state});
    let second = rig.ask(MODERN, "tools/call", params).expect("a task");
    assert_eq!((second["resultType"].as_str(), second.get("requestState")), (Some("task"), None));
    rig.pass(Duration::from_secs(1));
    let done = rig.ask(MODERN, "tasks/get", id(&second)).expect("the task");
    assert_eq!(text_of(&done["result"]), "Alice true");
}

#[test]
fn legacy_tasks_are_asked_for() {
    let mut rig = Rig::new(&server());
    assert_eq!(rig.text(LEGACY, "slow", json!({})), "slow", "not asked for, not made");
    assert_eq!(rig.tool(LEGACY, "later", json!({})).expect_err("only as a task").0, -32601);
    let plain = json!({"name": "plain", "task": {}});
    assert_eq!(rig.ask(LEGACY, "tools/call", plain).expect_err("never a task").0, -32601);

    let created = rig.ask(LEGACY, "tools/call", json!({"name": "slow", "task": {"ttl": 30_000}})).expect("a task");
    let task = created["task"].clone();
    assert_eq!((&task["ttl"], &task["status"]), (&json!(30_000), &json!("working")));
    assert_eq!(rig.ask(LEGACY, "tasks/get", id(&task)).expect("the task")["taskId"], task["taskId"]);
    let waiter = rig.begin(LEGACY, "tasks/result", id(&task)).expect_err("it waits");
    rig.pass(Duration::from_secs(3));
    let told = rig.sent.iter().find_map(|sent| sent.strip_prefix("session 1: notifications/tasks/status "));
    let told: serde_json::Value = serde_json::from_str(told.expect("its session is told")).expect("JSON");
    assert_eq!(
        (&told["taskId"], &told["status"], &told["ttl"]),
        (&task["taskId"], &json!("completed"), &json!(30_000))
    );
    assert_eq!(told.get("result"), None);
    let result = rig.reply(waiter).expect("a reply").expect("a result");
    assert_eq!(text_of(&result), "slow");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], task["taskId"]);
    assert_eq!(text_of(&rig.ask(LEGACY, "tasks/result", id(&task)).expect("again")), "slow");
    assert_eq!(rig.ask(LEGACY, "tasks/cancel", id(&task)).expect_err("it is over").0, -32602);
    assert_eq!(rig.ask(LEGACY, "tasks/list", json!({})).expect("a list")["tasks"].as_array().map(Vec::len), Some(1));

    rig.session = 2;
    assert_eq!(rig.ask(LEGACY, "tasks/get", id(&task)).expect_err("not theirs").0, -32602);
    assert_eq!(rig.ask(LEGACY, "tasks/list", json!({})).expect("a list")["tasks"], json!([]));
    assert_eq!(rig.ask(MODERN, "tasks/get", id(&task)).expect_err("another era").0, -32602);
}

#[test]
fn legacy_tasks_ask_whoever_waits_for_the_result() {
    let mut rig = Rig::new(&server());
    let created = rig.ask(LEGACY, "tools/call", json!({"name": "two", "task": {}})).expect("a task");
    let task = created["task"].clone();
    rig.settle();
    assert_eq!(rig.ask(LEGACY, "tasks/get", id(&task)).expect("the task")["status"], "input_required");
    assert!(rig.asked.is_empty(), "nobody to ask yet");
    let gone = rig.begin(LEGACY, "tasks/result", id(&task)).expect_err("it waits");
    rig.settle();
    assert_eq!(rig.asked.len(), 2);
    assert_eq!(rig.asked[0].3["_meta"]["io.modelcontextprotocol/related-task"]["taskId"], task["taskId"]);
    rig.service.cancel(0, gone);
    rig.asked.clear();
    let waiter = rig.begin(LEGACY, "tasks/result", id(&task)).expect_err("it waits");
    rig.settle();
    // Another who waits was asked nothing, so that its leaving has nobody asked again.
    let other = rig.begin(LEGACY, "tasks/result", id(&task)).expect_err("it waits");
    rig.service.cancel(0, other);
    rig.settle();
    assert_eq!(rig.asked.len(), 2);
    rig.answer(json!({"action": "accept", "content": {"value": "x"}}));
    rig.answer(json!({"action": "accept", "content": {"value": "y"}}));
    assert_eq!(text_of(&rig.reply(waiter).expect("a reply").expect("a result")), "xy");
}

#[test]
fn a_cancelled_legacy_task_says_so() {
    let mut rig = Rig::new(&server());
    let created = rig.ask(LEGACY, "tools/call", json!({"name": "slow", "task": {}})).expect("a task");
    let task = created["task"].clone();
    let waiter = rig.begin(LEGACY, "tasks/result", id(&task)).expect_err("it waits");
    let cancelled = rig.ask(LEGACY, "tasks/cancel", id(&task)).expect("the task");
    assert_eq!(cancelled["status"], "cancelled");
    assert!(rig.reply(waiter).expect("a reply").is_err());
}
