//! A server on one core: `Service` for native handlers.
//!
//! Not here: what is shared by all cores (`catalog`), the life of a future (`run`), tasks (`tasks`, `task_methods`).
//! Invariant: a plain handler's result is written straight behind what the core already wrote, and taken back whole if
//! the handler fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use super::arguments::RawJson;
use super::ask::AskError;
use super::builder::SessionHandler;
use super::catalog::Catalog;
use super::completion::{self, Completer, Completing};
use super::content::JsonText;
use super::context::{Context, Station, TaskWish};
use super::desk::{Desk, HandlerCounts, Open, panicked};
use super::exchange::{Exchange, Way};
use super::listing::Listing;
use super::names;
use super::outcome::Outcome;
use super::output::{ToolOutput, close_result, open_result};
use super::prompt::{PromptArguments, PromptHandler};
use super::request_state;
use super::resource::{self, Reader};
use super::run::{Run, Sink};
use super::task_methods;
use super::tasks;
use super::tool::{PlainTool, TaskSupport, ToolHandler, settle};
use crate::ids::View;
use crate::limits::INPUT_RESPONSES_MAX;
use crate::proto::json::{Key, RawStr, Value, ValueKind};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, HeaderParam, Method, Version};
use crate::server::service::{About, Call, CallKey, Host, LocalFuture, Mail, Mailbox, Nanos, Served, Service};
use crate::upstream::missing;

/// A server on one core.
pub struct NativeService<S> {
    catalog: Arc<Catalog<S>>,
    station: Rc<Station<S>>,
}

impl<S: 'static> NativeService<S> {
    pub(super) fn new(catalog: Arc<Catalog<S>>, host: Rc<dyn Host>, mailbox: Mailbox) -> NativeService<S> {
        // One set of counters per tool, one for everything else.
        let others = ["a resource, prompt or completion".to_owned()];
        let names = catalog.tools.iter().map(|entry| entry.tool.name.clone()).chain(others).collect();
        let desk = Desk::new(host, mailbox, catalog.settings, catalog.modern_tail.clone(), names);
        let station = Rc::new(Station { state: (catalog.state)(), desk: Rc::new(desk) });
        NativeService { catalog, station }
    }

    /// This core's state.
    pub fn state(&self) -> &S {
        &self.station.state
    }

    /// What a tool did on this core; `None` if there is no such tool.
    pub fn tool_counts(&self, tool: &str) -> Option<HandlerCounts> {
        self.catalog.tool_names.get(tool.as_bytes()).map(|&index| self.desk().counts(index))
    }

    /// What every tool did on this core, in the order of registration.
    pub fn all_tool_counts(&self) -> impl Iterator<Item = (&str, HandlerCounts)> {
        let names = self.catalog.tools.iter().map(|entry| entry.tool.name.as_str());
        names.enumerate().map(|(index, name)| (name, self.desk().counts(index)))
    }

    /// What readers, prompts and completers did on this core, together.
    pub fn other_counts(&self) -> HandlerCounts {
        self.desk().counts(self.others())
    }

    /// How many tasks this core keeps.
    pub fn tasks_len(&self) -> usize {
        self.desk().tasks.borrow().len()
    }

    fn desk(&self) -> &Rc<Desk> {
        &self.station.desk
    }

    fn others(&self) -> usize {
        self.catalog.tools.len()
    }

    fn call_tool(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Result<Served, RpcError> {
        let name = call_name(call)?;
        let Some(index) = names::find(&self.catalog.tool_names, name) else {
            return Err(invalid(format!("Unknown tool: {}", name.unescaped().unwrap_or_default())));
        };
        let arguments = arguments(call)?;
        let entry = &self.catalog.tools[index];
        self.desk().count_call(index);
        match &entry.handler {
            ToolHandler::Plain(handler) if !self.asks_for_task(call)? => {
                Ok(self.call_plain_tool(call, handler, index, arguments, out))
            }
            ToolHandler::Plain(_) => Err(no_task()),
            ToolHandler::Async(handler) => {
                let wish = self.task_wish(call, entry.tool.task_support)?;
                let exchange = self.exchange(call, &entry.tool.name, arguments)?;
                exchange.arguments_bytes.set(arguments.len());
                let ctx = Context::new(&self.station, call, Some(Rc::clone(&exchange)), wish);
                let (mark, noted) = (out.len(), self.desk().noted());
                let begun = catch_unwind(AssertUnwindSafe(|| handler(RawJson::new(arguments), ctx)));
                let future: LocalFuture<Outcome> = match begun {
                    Ok(Ok(future)) => future,
                    Ok(Err(failure)) => {
                        let served = self.finish(settle(failure, call.version), call.version, out);
                        return Ok(self.in_order(call.key, mark, noted, served, out));
                    }
                    Err(_) => {
                        let served = Served::Failed(self.count_panic(index));
                        return Ok(self.in_order(call.key, mark, noted, served, out));
                    }
                };
                let run = Run::new(self.desk(), exchange, index, Sink::Call(call.key), future);
                match wish {
                    TaskWish::Yes { ttl_ms } if !entry.tool.becomes_task => {
                        let created = tasks::create(self.desk(), &run, call.session, ttl_ms)?;
                        out.extend_from_slice(&created);
                        run.spawn();
                        Ok(self.in_order(call.key, mark, noted, Served::Done, out))
                    }
                    _ => Ok(run.start(call.key, noted, out)),
                }
            }
        }
    }

    #[inline]
    fn call_plain_tool(
        &self,
        call: &Call<'_>,
        handler: &PlainTool<S>,
        index: usize,
        arguments: &[u8],
        out: &mut Vec<u8>,
    ) -> Served {
        let desk = self.desk();
        let (mark, noted) = (out.len(), desk.noted());
        let ctx = Context::new(&self.station, call, None, TaskWish::No);
        open_result(out, call.version);
        let mut output = ToolOutput::begin(out, call.version);
        let ended = catch_unwind(AssertUnwindSafe(|| handler(RawJson::new(arguments), &ctx, &mut output)));
        desk.count_plain_call(index, call.now);
        let served = match ended {
            Ok(Ok(())) => {
                let meta = output.finish();
                close_result(out, call.version, &meta, &self.catalog.modern_tail);
                Served::Done
            }
            Ok(Err(failure)) => {
                out.truncate(mark);
                self.finish(settle(failure, call.version), call.version, out)
            }
            Err(_) => {
                out.truncate(mark);
                Served::Failed(self.count_panic(index))
            }
        };
        self.in_order(call.key, mark, noted, served, out)
    }

    /// What a handler left in the mail must arrive before its outcome: then the outcome goes by mail too.
    #[inline]
    fn in_order(&self, key: CallKey, mark: usize, noted: u64, served: Served, out: &mut Vec<u8>) -> Served {
        if self.desk().noted() == noted {
            return served;
        }
        let outcome = match served {
            Served::Done => Ok(out.split_off(mark).into()),
            Served::Failed(error) => Err(error),
            Served::Pending => return Served::Pending,
        };
        self.desk().mailbox.push(Mail::Reply { key, outcome });
        Served::Pending
    }

    fn finish(&self, outcome: Outcome, version: Version, out: &mut Vec<u8>) -> Served {
        match outcome {
            Ok(rendered) => {
                rendered.write(out, version, &self.catalog.modern_tail);
                Served::Done
            }
            Err(error) => Served::Failed(error),
        }
    }

    fn count_panic(&self, index: usize) -> RpcError {
        self.desk().count_panic(index);
        panicked()
    }

    /// Tells a handler of a session, if there is such a handler.
    fn tell(&self, handler: Option<&SessionHandler<S>>, session: u64) {
        let told = handler.map(|handler| catch_unwind(AssertUnwindSafe(|| handler(self.state(), session))));
        if let Some(Err(_)) = told {
            self.desk().count_panic(self.others());
        }
    }

    /// Runs a plain handler that is not a tool.
    fn call_plain(&self, call: &Call<'_>, out: &mut Vec<u8>, handler: impl FnOnce(&Context<S>) -> Outcome) -> Served {
        let desk = self.desk();
        let (mark, noted) = (out.len(), desk.noted());
        let ctx = Context::new(&self.station, call, None, TaskWish::No);
        let ended = catch_unwind(AssertUnwindSafe(|| handler(&ctx)));
        desk.count_plain_call(self.others(), call.now);
        let served = match ended {
            Ok(outcome) => self.finish(outcome, call.version, out),
            Err(_) => Served::Failed(self.count_panic(self.others())),
        };
        self.in_order(call.key, mark, noted, served, out)
    }

    /// Runs an asynchronous handler that is not a tool.
    fn call_async(
        &self,
        call: &Call<'_>,
        out: &mut Vec<u8>,
        name: &str,
        arguments: &[u8],
        handler: impl FnOnce(Context<S>) -> LocalFuture<Outcome>,
    ) -> Result<Served, RpcError> {
        let exchange = self.exchange(call, name, arguments)?;
        let ctx = Context::new(&self.station, call, Some(Rc::clone(&exchange)), TaskWish::No);
        let (mark, noted) = (out.len(), self.desk().noted());
        match catch_unwind(AssertUnwindSafe(|| handler(ctx))) {
            Ok(future) => {
                let run = Run::new(self.desk(), exchange, self.others(), Sink::Call(call.key), future);
                Ok(run.start(call.key, noted, out))
            }
            Err(_) => {
                let served = Served::Failed(self.count_panic(self.others()));
                Ok(self.in_order(call.key, mark, noted, served, out))
            }
        }
    }

    /// The questions and answers of a call: for a retry, those of the rounds before.
    fn exchange(&self, call: &Call<'_>, name: &str, arguments: &[u8]) -> Result<Rc<Exchange>, RpcError> {
        if call.method == Method::CompletionComplete {
            // Its result cannot be `input_required` (2026-07-28, "Multi Round-Trip Requests").
            return Ok(Rc::new(Exchange::new(Way::Live, call.version, call.capabilities, false, 0)));
        }
        if !call.version.is_modern() {
            return Ok(Rc::new(Exchange::new(Way::Live, call.version, call.capabilities, call.may_ask, 0)));
        }
        let binding = self.catalog.binding_keys.bind(call.method.as_str(), name, arguments);
        let exchange = Exchange::new(Way::Replay, call.version, call.capabilities, call.may_ask, binding);
        if let Some(state) = call.envelope.value(Key::RequestState, call.text) {
            let refused = || invalid("requestState is not valid for this call, or no longer");
            let sealed = state.as_str().ok_or_else(refused)?;
            let host = &self.desk().host;
            let plain = host.open(&sealed).ok_or_else(refused)?;
            request_state::read(&plain, &exchange, host.now()).ok_or_else(refused)?;
        }
        if let Some(responses) = call.envelope.value(Key::InputResponses, call.text) {
            let mut answers = exchange.answers.borrow_mut();
            // A scanned text has no key twice, so an answer can only take the place of one that the state brought.
            let known = answers.len();
            for (count, (key, answer)) in responses.members().enumerate() {
                if count == INPUT_RESPONSES_MAX {
                    return Err(invalid(format!(
                        "inputResponses has more than {INPUT_RESPONSES_MAX} members; answer what was asked"
                    )));
                }
                let key = key.unescaped().unwrap_or_default();
                let answer = JsonText::new(answer.raw());
                match answers[..known].iter_mut().find(|(other, _)| *other == key) {
                    Some((_, before)) => *before = answer,
                    None => answers.push((key.into_owned(), answer)),
                }
            }
        }
        Ok(Rc::new(exchange))
    }

    /// Whether a call asks to be a task. Modern clients may still send `task`, which means nothing there, and where no
    /// tool can be one it is ignored as well (2025-11-25, "Task Support and Handling"). A null is as good as nothing.
    #[inline]
    fn asks_for_task(&self, call: &Call<'_>) -> Result<bool, RpcError> {
        let is_asked = call.version == Version::V2025_11_25 && call.envelope.has(Key::Task);
        if !is_asked || !self.catalog.about.offers.tasks {
            return Ok(false);
        }
        let Some(task) = call.envelope.value(Key::Task, call.text).filter(|task| !task.is_null()) else {
            return Ok(false);
        };
        let ttl = task.get("ttl").filter(|ttl| !ttl.is_null());
        if task.kind() != ValueKind::Object || ttl.is_some_and(|ttl| ttl.as_u64().is_none()) {
            return Err(invalid("params.task has to be an object, and its ttl a whole number of milliseconds"));
        }
        Ok(true)
    }

    fn task_wish(&self, call: &Call<'_>, support: TaskSupport) -> Result<TaskWish, RpcError> {
        let ttl_ms = self.catalog.settings.task_ttl.as_millis() as u64;
        if call.version.is_modern() {
            let able = call.capabilities.has(Capabilities::TASKS_EXTENSION);
            return match support {
                TaskSupport::Required if !able => Err(missing::capability(Capabilities::TASKS_EXTENSION)),
                TaskSupport::Optional | TaskSupport::Required if able => Ok(TaskWish::Yes { ttl_ms }),
                _ => Ok(TaskWish::No),
            };
        }
        match (support, self.asks_for_task(call)?) {
            (TaskSupport::Forbidden, true) => Err(no_task()),
            (TaskSupport::Required, false) => {
                Err(RpcError::new(Code::METHOD_NOT_FOUND, "this tool only runs as a task: send `task` with the call"))
            }
            (_, false) => Ok(TaskWish::No),
            (_, true) => {
                let task = call.envelope.value(Key::Task, call.text);
                let wished = task.and_then(|task| task.get("ttl")).and_then(Value::as_u64);
                Ok(TaskWish::Yes { ttl_ms: wished.unwrap_or(ttl_ms).clamp(1, ttl_ms.max(1)) })
            }
        }
    }

    fn get_prompt(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Result<Served, RpcError> {
        let name = call_name(call)?;
        let Some(index) = names::find(&self.catalog.prompt_names, name) else {
            return Err(invalid(format!("Unknown prompt: {}", name.unescaped().unwrap_or_default())));
        };
        let entry = &self.catalog.prompts[index];
        let text = arguments(call)?;
        let read = PromptArguments::read(Some(Value::new(text)));
        let arguments = read.ok_or_else(|| invalid("the arguments of a prompt must be strings"))?;
        if let Some(missing) = entry.prompt.missing(&arguments) {
            return Err(invalid(format!("Missing argument: {missing}")));
        }
        self.desk().count_call(self.others());
        match &entry.handler {
            PromptHandler::Plain(handler) => Ok(self.call_plain(call, out, |ctx| handler(&arguments, ctx))),
            PromptHandler::Async(handler) => {
                self.call_async(call, out, &entry.prompt.name, text, |ctx| handler(arguments, ctx))
            }
        }
    }

    fn read_resource(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Result<Served, RpcError> {
        let uri = call.envelope.str(Key::Uri, call.text).ok_or_else(|| invalid("`uri` must be a string"))?;
        let Some((reader, reading, mime_type, cache)) = self.catalog.reader(&uri) else {
            return Err(missing::resource(&uri, call.version));
        };
        self.desk().count_call(self.others());
        let version = call.version;
        match reader {
            Reader::Plain(reader) => Ok(self
                .call_plain(call, out, |ctx| resource::render(reader(&reading, ctx), &uri, mime_type, cache, version))),
            Reader::Async(reader) => {
                let (owned_uri, mime_type) = (uri.clone().into_owned(), mime_type.map(str::to_owned));
                self.call_async(call, out, &uri, b"{}", |ctx| {
                    let future = reader(reading, ctx);
                    Box::pin(
                        async move { resource::render(future.await, &owned_uri, mime_type.as_deref(), cache, version) },
                    )
                })
            }
        }
    }

    fn complete(&self, call: &Call<'_>, out: &mut Vec<u8>) -> Result<Served, RpcError> {
        let string = |value: Option<Value<'_>>, name: &str| Some(value?.get(name)?.as_str()?.into_owned());
        let (reference, argument) =
            (call.envelope.value(Key::Ref, call.text), call.envelope.value(Key::Argument, call.text));
        let name = string(argument, "name").ok_or_else(|| invalid("`argument.name` must be a string"))?;
        let value = string(argument, "value").ok_or_else(|| invalid("`argument.value` must be a string"))?;
        let found = match string(reference, "type").as_deref() {
            Some("ref/prompt") => {
                let prompt = string(reference, "name").ok_or_else(|| invalid("`ref.name` must be a string"))?;
                let found = self.catalog.prompt_completer(&prompt, &name);
                found.ok_or_else(|| invalid(format!("Unknown prompt: {prompt}")))?
            }
            Some("ref/resource") => {
                let uri = string(reference, "uri").ok_or_else(|| invalid("`ref.uri` must be a string"))?;
                let found = self.catalog.template_completer(&uri, &name);
                found.ok_or_else(|| invalid(format!("Unknown resource template: {uri}")))?
            }
            _ => return Err(invalid("`ref.type` must be ref/prompt or ref/resource")),
        };
        let chosen = call.envelope.value(Key::Context, call.text).and_then(|context| context.get("arguments"));
        let others = PromptArguments::read(chosen).ok_or_else(|| invalid("`context.arguments` must be strings"))?;
        let completing = Completing { value, others };
        self.desk().count_call(self.others());
        match found {
            None => Ok(self.call_plain(call, out, |_| Ok(completion::render(&[])))),
            Some(Completer::Plain(completer)) => Ok(self.call_plain(call, out, |ctx| completer(&completing, ctx))),
            Some(Completer::Async(completer)) => {
                self.call_async(call, out, &name, b"{}", |ctx| completer(completing, ctx))
            }
        }
    }

    fn list(&self, list: &Listing, call: &Call<'_>, out: &mut Vec<u8>) -> Result<Served, RpcError> {
        let cursor = match call.envelope.value(Key::Cursor, call.text) {
            None => None,
            Some(cursor) => Some(cursor.as_str().ok_or_else(|| invalid("`cursor` must be a string"))?),
        };
        let page = list.page(call.version, cursor.as_deref());
        out.extend_from_slice(page.ok_or_else(|| invalid("this cursor is not one of ours, or the list has changed"))?);
        Ok(Served::Done)
    }
}

#[inline]
fn call_name<'a>(call: &Call<'a>) -> Result<RawStr<'a>, RpcError> {
    let name = call.envelope.value(Key::Name, call.text).and_then(Value::as_raw_str);
    name.ok_or_else(|| invalid("`name` must be a string"))
}

/// `arguments` of a call, an object; `{}` if there are none.
#[inline]
fn arguments<'a>(call: &Call<'a>) -> Result<&'a [u8], RpcError> {
    match call.envelope.value(Key::Arguments, call.text) {
        None => Ok(b"{}"),
        Some(value) if value.kind() == ValueKind::Object => Ok(value.raw()),
        Some(_) => Err(invalid("`arguments` must be an object")),
    }
}

fn no_task() -> RpcError {
    RpcError::new(Code::METHOD_NOT_FOUND, "this tool does not run as a task")
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> RpcError {
    RpcError::new(Code::INVALID_PARAMS, text)
}

impl<S: 'static> Service for NativeService<S> {
    fn about(&self, _view: View) -> Result<&About, RpcError> {
        Ok(&self.catalog.about)
    }

    fn header_params(&self, _view: View, tool: &str) -> &[HeaderParam] {
        self.catalog.tool_names.get(tool.as_bytes()).map_or(&[], |&index| &self.catalog.tools[index].header_params)
    }

    fn names(&self, list: Method) -> Vec<Box<str>> {
        let catalog = &self.catalog;
        match list {
            Method::ToolsList => catalog.tools.iter().map(|entry| entry.tool.name.as_str().into()).collect(),
            Method::PromptsList => catalog.prompts.iter().map(|entry| entry.prompt.name.as_str().into()).collect(),
            _ => Vec::new(),
        }
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        let served = match call.method {
            Method::ToolsCall => self.call_tool(call, out),
            Method::ToolsList => self.list(&self.catalog.tool_list, call, out),
            Method::PromptsGet => self.get_prompt(call, out),
            Method::PromptsList => self.list(&self.catalog.prompt_list, call, out),
            Method::ResourcesList => self.list(&self.catalog.resource_list, call, out),
            Method::ResourcesTemplatesList => self.list(&self.catalog.template_list, call, out),
            Method::ResourcesRead => self.read_resource(call, out),
            Method::CompletionComplete => self.complete(call, out),
            Method::TasksCancel | Method::TasksGet | Method::TasksList | Method::TasksResult | Method::TasksUpdate => {
                Ok(task_methods::serve(self.desk(), call, out))
            }
            // The core answers these itself.
            Method::Initialize
            | Method::LoggingSetLevel
            | Method::Ping
            | Method::ResourcesSubscribe
            | Method::ResourcesUnsubscribe
            | Method::ServerDiscover
            | Method::SubscriptionsListen => Err(RpcError::new(Code::METHOD_NOT_FOUND, "not a method of a service")),
        };
        served.unwrap_or_else(Served::Failed)
    }

    fn topic(&mut self, _: View, uri: &str, version: Version, _session: Option<u64>) -> Result<Box<str>, RpcError> {
        if self.catalog.reader(uri).is_some() { Ok(uri.into()) } else { Err(missing::resource(uri, version)) }
    }

    fn roots_changed(&mut self, _: Nanos, _: View, session: u64, _: Capabilities) {
        self.tell(self.catalog.roots_changed.as_ref(), session);
    }

    fn session_ended(&mut self, _: Nanos, session: u64) {
        self.tell(self.catalog.session_ended.as_ref(), session);
    }

    fn cancel(&mut self, _now: Nanos, key: CallKey) {
        let open = self.desk().open.borrow_mut().remove(&key);
        match open {
            Some(Open::Run(run)) => run.cancel(),
            Some(Open::TaskResult(task)) => tasks::stop_waiting(self.desk(), task, key),
            None => {}
        }
    }

    fn answered(&mut self, _now: Nanos, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>) {
        let (exchange, task) = match self.desk().open.borrow().get(&key) {
            Some(Open::Run(run)) => (Rc::clone(&run.exchange), None),
            Some(Open::TaskResult(task)) => match self.desk().tasks.borrow().get(*task) {
                Some(entry) => (Rc::clone(&entry.exchange), Some(*task)),
                None => return,
            },
            None => return,
        };
        let refused = |error: RpcError| AskError::Refused { code: error.code.0, message: error.message.into_owned() };
        exchange.answered(ask, answer.map_err(refused));
        if let Some(task) = task {
            tasks::observe(self.desk(), task);
        }
    }
}

/// Futures hold the station, and the station's desk holds them: the circle is cut here.
impl<S> Drop for NativeService<S> {
    fn drop(&mut self) {
        let desk = &self.station.desk;
        let open = std::mem::take(&mut *desk.open.borrow_mut());
        for (_, open) in open {
            if let Open::Run(run) = open {
                run.cancel();
            }
        }
        let tasks = desk.tasks.borrow_mut().take_all();
        tasks.into_iter().for_each(|task| tasks::end_quietly(desk, task));
    }
}
