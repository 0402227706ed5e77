//! Questions: as requests in legacy revisions, by replay in modern ones.

use std::cell::Cell;
use std::rc::Rc;

use serde_json::{Value, json};

use super::rig::{LEGACY, MODERN, Rig, text_of};
use crate::limits::INPUT_RESPONSES_MAX;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::server::service::Service;
use crate::upstream::native::*;

type Counter = Rc<Cell<u32>>;

fn name_form() -> Form {
    Form::new("What is your name?").field("name", r#"{"type":"string"}"#)
}

async fn greet(_: NoArguments, ctx: Context<Counter>) -> Result<String, Failure> {
    ctx.state().set(ctx.state().get() + 1);
    let answer = ctx.elicit("user_name", name_form()).await?;
    Ok(format!("Hello, {}! ({})", answer.str("name").unwrap_or_default(), answer.action()))
}

async fn rounds(_: NoArguments, ctx: Context<Counter>) -> Result<String, Failure> {
    let number: u32 = ctx
        .once("number", async {
            ctx.state().set(ctx.state().get() + 1);
            ctx.state().get()
        })
        .await?;
    let name = ctx.elicit("step1", name_form()).await?.str("name").unwrap_or_default();
    let color = ctx.elicit("step2", Form::new("Color?")).await?.str("color").unwrap_or_default();
    Ok(format!("{number} {name} {color}"))
}

async fn many(_: NoArguments, ctx: Context<Counter>) -> Result<String, Failure> {
    let sampling = Sampling::new(50).user("Generate a greeting").system_prompt("Be kind");
    let asks = [Ask::elicit("name", name_form()), Ask::sample("greeting", sampling), Ask::roots("roots")];
    let answers = ctx.ask_all(asks).await?;
    let name = answers.elicited("name").and_then(|answer| answer.str("name"));
    let greeting = answers.sampled("greeting").and_then(|sample| sample.text());
    Ok(format!("{name:?} {greeting:?} {:?}", answers.roots("roots")))
}

fn server() -> Server<Counter> {
    Server::builder("test", "1")
        .state(Counter::default)
        .async_tool(Tool::new("greet"), greet)
        .async_tool(Tool::new("rounds"), rounds)
        .async_tool(Tool::new("many"), many)
        .async_tool(Tool::new("tooled"), async |_: NoArguments, ctx: Context<Counter>| -> Result<String, Failure> {
            let sampling = Sampling::new(5)
                .user(Content::image(b"x", "image/png"))
                .message("{\"role\":\"assistant\",\n\"content\":[{\"type\":\"tool_use\",\"id\":\"1\"}]}")
                .member("tools", "[]");
            Ok(ctx.ask_all([Ask::sample("s", sampling)]).await?.sampled("s").and_then(|s| s.text()).unwrap_or_default())
        })
        .async_tool(Tool::new("knowing"), async |_: NoArguments, ctx: Context<Counter>| -> Result<(), Failure> {
            let asking = |what: &str| Ask::sample(what, Sampling::new(5).member("includeContext", format!("{what:?}")));
            ctx.ask_all([asking("none")]).await?;
            ctx.ask_all([asking("thisServer")]).await?;
            Ok(())
        })
        .async_tool(Tool::new("visit"), async |_: NoArguments, ctx: Context<Counter>| -> Result<String, Failure> {
            let done = ctx.elicit_url("pay", "Please pay", "https://example.com/").await?;
            Ok(done.action().to_owned())
        })
        .async_tool(
            Tool::new("named_visit"),
            async |_: NoArguments, ctx: Context<Counter>| -> Result<String, Failure> {
                let visit = Visit::new("v1", "Please pay", "https://example.com/");
                ctx.ask_all([Ask::visit("pay", visit)]).await?;
                ctx.visit_complete("v1");
                Ok("paid".to_owned())
            },
        )
        .tool(Tool::new("needs_visit"), |_: NoArguments, ctx: &Context<Counter>| {
            Err::<(), _>(ctx.needs_visits([Visit::new("v1", "Please pay", "https://example.com/")]))
        })
        .async_prompt(Prompt::new("prompt"), async |_: PromptArguments, ctx: Context<Counter>| {
            let answer = ctx.elicit("user_context", Form::new("Context?")).await?;
            Ok::<_, Failure>(answer.str("context").unwrap_or_default())
        })
        .async_resource(Resource::new("test://asks"), async |_: Reading, ctx: Context<Counter>| {
            Ok::<_, AskError>(format!("{} roots", ctx.roots("where").await?.len()))
        })
        .build()
        .expect("a good server")
}

fn accept(content: Value) -> Value {
    json!({"action": "accept", "content": content})
}

/// A call as a modern client makes it, with the answers of a round.
fn retry(name: &str, answers: Value, state: &Value) -> Value {
    json!({"name": name, "arguments": {}, "inputResponses": answers, "requestState": state})
}

#[test]
fn legacy_questions_are_requests() {
    let mut rig = Rig::new(&server());
    let key = rig.begin(LEGACY, "tools/call", json!({"name": "greet"})).expect_err("pending");
    rig.settle();
    let (_, _, method, params) = &rig.asked[0];
    let schema = json!({"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]});
    let expected = json!({"mode": "form", "message": "What is your name?", "requestedSchema": schema});
    assert_eq!((*method, params), ("elicitation/create", &expected));
    assert_eq!(rig.reply(key), None);
    rig.answer(accept(json!({"name": "Alice"})));
    assert_eq!(text_of(&rig.reply(key).expect("a reply").expect("a result")), "Hello, Alice! (accept)");
    assert_eq!((rig.service.state().get(), rig.host.running()), (1, 0));

    let key = rig.begin(Version::V2025_06_18, "tools/call", json!({"name": "greet"})).expect_err("pending");
    rig.settle();
    assert_eq!(rig.asked[0].3.get("mode"), None, "2025-06-18 had no modes");
    rig.answer(json!({"action": "decline"}));
    assert_eq!(text_of(&rig.reply(key).expect("a reply").expect("a result")), "Hello, ! (decline)");
}

#[test]
fn legacy_answers_may_be_errors_or_nonsense() {
    let mut rig = Rig::new(&server());
    let key = rig.begin(LEGACY, "tools/call", json!({"name": "greet"})).expect_err("pending");
    rig.settle();
    let (call, ask, ..) = rig.asked.remove(0);
    rig.service.answered(0, call, ask, Err(RpcError::new(Code(-1), "no user here")));
    let result = rig.reply(key).expect("a reply").expect("a result");
    assert_eq!((&result["isError"], text_of(&result).contains("no user here")), (&json!(true), true));

    let key = rig.begin(LEGACY, "tools/call", json!({"name": "greet"})).expect_err("pending");
    rig.settle();
    rig.answer(json!({"what": "ever"}));
    assert_eq!(rig.reply(key).expect("a reply").expect("a result")["isError"], true);
    rig.service.answered(0, key, 0, Ok(b"{}"));
}

#[test]
fn modern_questions_end_the_attempt_and_the_retry_runs_again() {
    let mut rig = Rig::new(&server());
    let first = rig.tool(MODERN, "greet", json!({})).expect("a result");
    assert_eq!(first["resultType"], "input_required");
    assert_eq!(first["inputRequests"]["user_name"]["method"], "elicitation/create");
    assert!(first["_meta"]["io.modelcontextprotocol/serverInfo"].is_object() && first.get("content").is_none());
    assert_eq!((rig.host.running(), rig.service.state().get()), (0, 1), "nothing is kept for it");

    let answers = json!({"user_name": accept(json!({"name": "Alice"})), "extra": 5});
    let second = rig.ask(MODERN, "tools/call", retry("greet", answers, &first["requestState"])).expect("a result");
    assert_eq!(
        (second["resultType"].as_str(), text_of(&second).as_str()),
        (Some("complete"), "Hello, Alice! (accept)")
    );
    assert_eq!(rig.service.state().get(), 2, "it ran from its beginning");
    assert!(rig.sent.is_empty(), "modern servers send no requests");
}

#[test]
fn rounds_remember_answers_and_values() {
    let mut rig = Rig::new(&server());
    let first = rig.tool(MODERN, "rounds", json!({})).expect("a result");
    let answers = json!({"step1": accept(json!({"name": "Alice"}))});
    let second = rig.ask(MODERN, "tools/call", retry("rounds", answers, &first["requestState"])).expect("a result");
    assert_eq!(
        second["inputRequests"].as_object().map(|asks| asks.keys().cloned().collect()),
        Some(vec!["step2".into()])
    );
    assert_ne!(first["requestState"], second["requestState"]);
    let answers = json!({"step2": accept(json!({"color": "blue"}))});
    let third = rig.ask(MODERN, "tools/call", retry("rounds", answers, &second["requestState"])).expect("a result");
    assert_eq!(text_of(&third), "1 Alice blue");
    assert_eq!(rig.service.state().get(), 1, "`once` ran once");
}

#[test]
fn several_questions_go_together() {
    let mut rig = Rig::new(&server());
    let first = rig.tool(MODERN, "many", json!({})).expect("a result");
    let asks = &first["inputRequests"];
    let message = json!({"role": "user", "content": {"type": "text", "text": "Generate a greeting"}});
    let params = json!({"messages": [message], "maxTokens": 50, "systemPrompt": "Be kind"});
    assert_eq!(asks["greeting"], json!({"method": "sampling/createMessage", "params": params}));
    assert_eq!(asks["roots"], json!({"method": "roots/list", "params": {}}));

    let name = accept(json!({"name": "A"}));
    let sample = json!({"role": "assistant", "content": {"type": "text", "text": "Hi"}, "model": "m"});
    let some = json!({"name": name, "greeting": 12345});
    let second = rig.ask(MODERN, "tools/call", retry("many", some, &first["requestState"])).expect("a result");
    let mut missing: Vec<_> = second["inputRequests"].as_object().expect("asks").keys().cloned().collect();
    missing.sort();
    assert_eq!(missing, ["greeting", "roots"], "what is missing or misshapen is asked again");
    let rest = json!({"greeting": sample, "roots": {"roots": [{"uri": "file:///x", "name": "X"}]}});
    let third = rig.ask(MODERN, "tools/call", retry("many", rest, &second["requestState"])).expect("a result");
    assert!(text_of(&third).starts_with(r#"Some("A") Some("Hi") [Root { uri: "file:///x""#));
}

#[test]
fn answers_without_a_state_count_too_and_others_do_not_disturb() {
    let mut rig = Rig::new(&server());
    let call = |answers: Value| json!({"name": "greet", "inputResponses": answers});
    let good = call(json!({"user_name": accept(json!({"name": "B"})), "other": {}}));
    assert_eq!(text_of(&rig.ask(MODERN, "tools/call", good).expect("a result")), "Hello, B! (accept)");
    for answers in [json!({"wrong_key": accept(json!({}))}), json!({"user_name": 12345}), Value::Null, json!([1])] {
        let again = rig.ask(MODERN, "tools/call", call(answers)).expect("a result");
        assert_eq!(again["resultType"], "input_required");
    }
}

#[test]
fn more_answers_than_can_have_been_asked_for_are_refused_before_they_cost_anything() {
    let mut rig = Rig::new(&server());
    let with = |count: usize| {
        let mut answers: Value =
            (0..count).map(|at| (format!("k{at}"), json!({}))).collect::<serde_json::Map<_, _>>().into();
        answers["user_name"] = accept(json!({"name": "B"}));
        json!({"name": "greet", "inputResponses": answers})
    };
    let result = rig.ask(MODERN, "tools/call", with(INPUT_RESPONSES_MAX - 1)).expect("a result");
    assert_eq!(text_of(&result), "Hello, B! (accept)", "what is not known is ignored");
    for count in [INPUT_RESPONSES_MAX, 30_000] {
        let (code, text, _) = rig.ask(MODERN, "tools/call", with(count)).expect_err("too many");
        assert!(code == -32602 && text.contains("256"), "{code} {text}");
    }
}

#[test]
fn a_state_is_good_for_its_call_for_a_while() {
    let mut rig = Rig::new(&server());
    let first = rig.tool(MODERN, "greet", json!({})).expect("a result");
    let state = first["requestState"].as_str().expect("a string").to_owned();
    let answers = || json!({"user_name": accept(json!({"name": "Eve"}))});
    let mut refused = |params: Value| {
        let (code, message, _) = rig.ask(MODERN, "tools/call", params).expect_err("refused");
        assert_eq!(code, -32602, "{message}");
    };
    refused(retry("greet", answers(), &json!(format!("{state}-TAMPERED"))));
    refused(retry("greet", answers(), &json!(format!("{}f", &state[..state.len() - 1]))));
    refused(retry("greet", answers(), &json!("")));
    refused(retry("greet", answers(), &json!(5)));
    refused(retry("rounds", answers(), &json!(state)));
    let mut other = retry("greet", answers(), &json!(state));
    other["arguments"] = json!({"x": 1});
    refused(other);
    rig.pass(std::time::Duration::from_secs(601));
    let (code, ..) = rig.ask(MODERN, "tools/call", retry("greet", answers(), &json!(state))).expect_err("expired");
    assert_eq!(code, -32602);
}

#[test]
fn only_what_was_declared_is_asked() {
    let mut rig = Rig::new(&server());
    rig.capabilities = Capabilities::ELICITATION_FORM;
    let (code, _, data) = rig.tool(MODERN, "many", json!({})).expect_err("refused");
    assert_eq!((code, data), (-32021, json!({"requiredCapabilities": {"sampling": {}}})));
    let (code, _, data) = rig.tool(MODERN, "visit", json!({})).expect_err("refused");
    assert_eq!((code, data), (-32021, json!({"requiredCapabilities": {"elicitation": {"url": {}}}})));
    // Within `sampling` as well: what makes a sample one with tools, or with what the client knows of servers.
    rig.capabilities = Capabilities::SAMPLING;
    let (code, text, data) = rig.tool(MODERN, "tooled", json!({})).expect_err("refused");
    assert_eq!((code, data), (-32021, json!({"requiredCapabilities": {"sampling": {"tools": {}}}})));
    assert!(text.contains("`sampling.tools`"), "{text}");
    let first = rig.tool(MODERN, "knowing", json!({})).expect("a result");
    assert_eq!(first["resultType"], "input_required", "of none it asks nobody more");
    let sample = json!({"role": "assistant", "content": {"type": "text", "text": "Hi"}, "model": "m"});
    let params = retry("knowing", json!({"none": sample}), &first["requestState"]);
    let (code, _, data) = rig.ask(MODERN, "tools/call", params).expect_err("refused");
    assert_eq!((code, data), (-32021, json!({"requiredCapabilities": {"sampling": {"context": {}}}})));
    rig.capabilities = Capabilities::SAMPLING.with(Capabilities::SAMPLING_TOOLS);
    let first = rig.tool(MODERN, "tooled", json!({})).expect("a result");
    let params = &first["inputRequests"]["s"]["params"];
    assert_eq!((&params["messages"][0]["content"]["type"], &params["tools"]), (&json!("image"), &json!([])));
    assert_eq!(params["messages"][1]["content"][0]["type"], "tool_use");
    rig.capabilities = Capabilities::default();
    let result = rig.tool(LEGACY, "greet", json!({})).expect("a result");
    assert_eq!((&result["isError"], rig.asked.len()), (&json!(true), 0));
}

#[test]
fn prompts_and_resources_ask_too() {
    let mut rig = Rig::new(&server());
    let first = rig.ask(MODERN, "prompts/get", json!({"name": "prompt"})).expect("a result");
    assert_eq!(first["resultType"], "input_required");
    let params = retry("prompt", json!({"user_context": accept(json!({"context": "c"}))}), &first["requestState"]);
    let second = rig.ask(MODERN, "prompts/get", params).expect("a result");
    assert_eq!(second["messages"][0]["content"]["text"], "c");

    let first = rig.ask(MODERN, "resources/read", json!({"uri": "test://asks"})).expect("a result");
    let state = &first["requestState"];
    let params = json!({"uri": "test://asks", "requestState": state, "inputResponses": {"where": {"roots": []}}});
    let second = rig.ask(MODERN, "resources/read", params).expect("a result");
    assert_eq!((&second["contents"][0]["text"], &second["ttlMs"]), (&json!("0 roots"), &json!(0)));
    for list in ["tools/list", "prompts/list", "resources/list"] {
        assert_eq!(rig.ask(MODERN, list, json!({})).expect("a list")["resultType"], "complete");
    }
}

#[test]
fn a_visit_has_an_id_in_legacy_revisions() {
    let mut rig = Rig::new(&server());
    let key = rig.begin(LEGACY, "tools/call", json!({"name": "visit"})).expect_err("pending");
    rig.settle();
    assert!(rig.asked[0].3["elicitationId"].is_string() && rig.asked[0].3["mode"] == "url");
    rig.answer(json!({"action": "accept"}));
    assert_eq!(text_of(&rig.reply(key).expect("a reply").expect("a result")), "accept");
    let modern = rig.tool(MODERN, "visit", json!({})).expect("a result");
    assert_eq!(modern["inputRequests"]["pay"]["params"].get("elicitationId"), None);
}

#[test]
fn a_visit_is_told_to_be_done_where_that_is_known() {
    let mut rig = Rig::new(&server());
    let key = rig.begin(LEGACY, "tools/call", json!({"name": "named_visit"})).expect_err("pending");
    rig.settle();
    assert_eq!(rig.asked[0].3["elicitationId"], "v1");
    rig.answer(json!({"action": "accept"}));
    assert_eq!(text_of(&rig.reply(key).expect("a reply").expect("a result")), "paid");
    let complete = r#"notifications/elicitation/complete {"elicitationId":"v1"}"#;
    assert!(rig.sent.iter().any(|sent| sent == complete), "{:?}", rig.sent);
    rig.sent.clear();
    let asked = rig.tool(MODERN, "named_visit", json!({})).expect("a question");
    let answers = json!({"pay": {"action": "accept"}});
    let params = json!({"name": "named_visit", "arguments": {}, "inputResponses": answers,
        "requestState": asked["requestState"]});
    assert_eq!(text_of(&rig.ask(MODERN, "tools/call", params).expect("a result")), "paid");
    assert!(!rig.sent.iter().any(|sent| sent.contains("elicitation/complete")), "removed in 2026-07-28");
}

#[test]
fn a_visit_that_is_needed_first_is_an_error_of_its_own_where_that_is_known() {
    let mut rig = Rig::new(&server());
    let (code, _, data) = rig.tool(LEGACY, "needs_visit", json!({})).expect_err("an error");
    let visit = json!({"mode": "url", "message": "Please pay", "url": "https://example.com/", "elicitationId": "v1"});
    assert_eq!((code, &data["elicitations"]), (-32042, &json!([visit])));
    for version in [MODERN, Version::V2025_06_18] {
        let result = rig.tool(version, "needs_visit", json!({})).expect("no such error there");
        assert_eq!((&result["isError"], text_of(&result).as_str()), (&json!(true), "Please pay: https://example.com/"));
    }
    rig.capabilities = Capabilities::ELICITATION_FORM;
    let result = rig.tool(LEGACY, "needs_visit", json!({})).expect("not to a client that knows no visits");
    assert_eq!(result["isError"], true);
}

#[test]
fn a_server_hears_of_roots_that_changed_and_of_sessions_that_ended() {
    let server = Server::builder("test", "1")
        .state(Counter::default)
        .on_roots_changed(|count, session| count.set(count.get() * 100 + session as u32))
        .on_session_end(|count, session| count.set(count.get() * 100 + session as u32 + 50))
        .build()
        .expect("right");
    let mut rig = Rig::new(&server);
    let none = Capabilities::default();
    rig.service.roots_changed(0, crate::ids::View::ALL, 7, none);
    rig.service.roots_changed(0, crate::ids::View::ALL, 8, none);
    rig.service.session_ended(0, 7);
    assert_eq!(rig.service.state().get(), 70_857, "once each, in order, by the number of the session");
    let server = Server::builder("test", "1")
        .state(Counter::default)
        .on_roots_changed(|_, _| panic!("told"))
        .on_session_end(|count, session| assert_eq!(count.replace(7), session as u32, "told"))
        .build()
        .expect("right");
    let mut rig = Rig::new(&server);
    rig.service.roots_changed(0, crate::ids::View::ALL, 7, none);
    rig.service.session_ended(0, 8);
    assert_eq!((rig.service.other_counts().panics, rig.service.state().get()), (2, 7), "the core goes on");
    let early = Server::builder("test", "1").on_session_end(|(), _| ()).state(Counter::default).build();
    assert_eq!(early.err(), Some(BuildError::StateTooLate), "it would be made for a state that is no more");
}
