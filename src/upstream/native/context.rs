//! What a handler knows about its call and can do during it.
//!
//! Not here: arguments (they are arguments) and results (they are returned).
//! Invariant: nothing here blocks, and nothing here needs to know the revision: one interface serves all of them.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ask::{Answers, Ask, AskError, Elicited, Form, Root, Sampled, Sampling, Visit, visits_needed};
use super::desk::{Desk, Open, log_params};
use super::exchange::{Exchange, StopSignal, Way};
use super::failure::Failure;
use super::tasks;
use super::wait::{self, Asking, Cancelled, Offloaded, Sleep};
use crate::proto::json::{self, Object};
use crate::proto::mcp::{Capabilities, LogLevel, Version};
use crate::server::service::{Call, CallKey, Change, Mail, Nanos, nanos};

/// What handlers on one core share.
pub(super) struct Station<S> {
    pub state: S,
    pub desk: Rc<Desk>,
}

/// Whether a call may be turned into a task, and how long that is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum TaskWish {
    No,
    Yes { ttl_ms: u64 },
}

/// The call a handler works on, and the core it works on.
///
/// # What may be awaited
///
/// A handler runs on a core, and a core serves thousands of connections. A handler therefore never blocks, and it
/// awaits only what it gets from here: [`sleep`](Context::sleep), [`offload`](Context::offload),
/// [`blocking`](Context::blocking), the questions, [`cancelled`](Context::cancelled), and combinations of them
/// (channels that any thread may send on, such as `tokio::sync`, are fine too). **tokio's sleeps and sockets do not
/// work on a core**, nor do libraries built on them such as `reqwest`: there is no tokio reactor there. Give their
/// futures to `offload`:
///
/// ```
/// use corelane::{Context, Failure};
/// # use corelane::NoArguments;
///
/// async fn fetch(_: NoArguments, ctx: Context) -> Result<String, Failure> {
///     let text = ctx.offload(async { reqwest::get("http://127.0.0.1/").await?.text().await }).await??;
///     Ok(text)
/// }
/// # corelane::Server::builder("s", "1").async_tool(corelane::Tool::new("fetch"), fetch).build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
///
/// Every poll is timed; one over a millisecond is counted: in `corelane_slow_polls_total` of its core, and for its tool
/// in [`NativeService::tool_counts`](super::service::NativeService::tool_counts).
pub struct Context<S = ()> {
    pub(super) station: Rc<Station<S>>,
    key: CallKey,
    version: Version,
    capabilities: Capabilities,
    log_level: Option<LogLevel>,
    session: Option<u64>,
    /// When the core gives the call up, as far as this side can know.
    deadline: Cell<Nanos>,
    since: Nanos,
    latest: Nanos,
    task_wish: TaskWish,
    progress_token: Option<Box<[u8]>>,
    last_progress: Cell<f64>,
    exchange: Option<Rc<Exchange>>,
}

impl<S> Context<S> {
    #[inline]
    pub(super) fn new(
        station: &Rc<Station<S>>,
        call: &Call<'_>,
        exchange: Option<Rc<Exchange>>,
        task_wish: TaskWish,
    ) -> Context<S> {
        let token = call.envelope.text(json::Key::MetaProgressToken, call.text);
        Context {
            station: Rc::clone(station),
            key: call.key,
            version: call.version,
            capabilities: call.capabilities,
            log_level: call.log_level.filter(|_| station.desk.settings.logging),
            session: call.session,
            deadline: Cell::new(call.deadline),
            since: call.now,
            latest: call.latest(),
            task_wish,
            progress_token: token.map(Box::from),
            last_progress: Cell::new(f64::NEG_INFINITY),
            exchange,
        }
    }

    /// This core's own instance of the server's state: no other thread ever sees it, so a `Cell` or `RefCell` will do.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// #[derive(Default)]
    /// struct Visits(Cell<u64>);
    ///
    /// let server = Server::builder("counter", "1.0")
    ///     .state(Visits::default)
    ///     .tool(Tool::new("visit"), |_: NoArguments, ctx: &Context<Visits>| {
    ///         let visits = &ctx.state().0;
    ///         visits.set(visits.get() + 1);
    ///         visits.get()
    ///     })
    ///     .build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn state(&self) -> &S {
        &self.station.state
    }

    /// The revision the call is spoken in.
    pub fn version(&self) -> Version {
        self.version
    }

    /// What the client says it can do.
    ///
    /// ```
    /// use corelane::{Capabilities, Context, NoArguments, Server, Tool};
    ///
    /// fn advise(_: NoArguments, ctx: &Context) -> &'static str {
    ///     if ctx.capabilities().has(Capabilities::SAMPLING) { "your model can be asked" } else { "do it yourself" }
    /// }
    /// let server = Server::builder("adviser", "1.0").tool(Tool::new("advise"), advise).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// A number for the legacy session, the same for all its calls on this core; `None` for modern calls.
    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// The core's clock: nanoseconds since the process started.
    pub fn now(&self) -> Nanos {
        self.station.desk.host.now()
    }

    /// When the call's time is up, on the same clock; the core answers by itself then and drops the handler. Later
    /// after each sign of progress and each answer of the client's, unless the caller named a deadline; for a task, the
    /// end of the time that it is kept.
    pub fn deadline(&self) -> Nanos {
        match &self.exchange {
            Some(exchange) if exchange.way.get() == Way::Task => exchange.ends.get(),
            _ => self.deadline.get(),
        }
    }

    /// As the core does: whoever shows progress is given more time, up to the most that a call may have.
    fn is_given_more_time(&self) {
        let (now, patience) = (self.now(), self.station.desk.host.patience());
        let most = self.since.saturating_add(patience.call_max).min(self.latest);
        self.deadline.set(self.deadline.get().max(now.saturating_add(patience.call).min(most)));
    }

    /// How much of it is left.
    ///
    /// ```
    /// use std::time::Duration;
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// async fn refine(_: NoArguments, ctx: Context) -> String {
    ///     let mut rounds = 0;
    ///     while rounds < 3 && ctx.time_left() > Duration::from_secs(1) {
    ///         ctx.sleep(Duration::from_millis(1)).await;
    ///         rounds += 1;
    ///     }
    ///     format!("the best of {rounds} rounds")
    /// }
    /// let server = Server::builder("refiner", "1.0").async_tool(Tool::new("refine"), refine).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn time_left(&self) -> Duration {
        Duration::from_nanos(self.deadline().saturating_sub(self.now()))
    }

    /// Whether the caller is gone.
    pub fn is_cancelled(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.cancelled.get())
    }

    /// Completes when the caller is gone. Usually there is no need for it: a handler whose caller is gone is dropped at
    /// its await. One that waits for this is polled once more before, to put things in order without awaiting.
    ///
    /// Gone is who says so (`notifications/cancelled`), whose connection breaks, who closes the stream that an answer
    /// of 2026-07-28 was to come on, and whose time is up. A client of lines (TCP, Unix, stdio) that only stops
    /// sending, which closing its socket looks like at first, may still read: its calls go on and are answered. So do
    /// the calls of a session over HTTP, whose client may come back for the outcome.
    pub fn cancelled(&self) -> Cancelled {
        Cancelled { exchange: self.exchange.clone() }
    }

    /// A sign for other threads that the caller is gone, for loops in [`blocking`](Context::blocking) functions.
    ///
    /// ```
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// async fn count(_: NoArguments, ctx: Context) -> String {
    ///     let stop = ctx.stop_signal();
    ///     let counted = ctx.blocking(move || (0..1_000_000u64).take_while(|_| !stop.is_stopped()).count()).await;
    ///     format!("{counted:?}")
    /// }
    /// let server = Server::builder("counter", "1.0").async_tool(Tool::new("count"), count).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn stop_signal(&self) -> StopSignal {
        self.exchange.as_ref().map(|exchange| exchange.stop.clone()).unwrap_or_default()
    }

    fn is_task(&self) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.way.get() == Way::Task)
    }

    fn notice(&self, method: &'static str, params: Vec<u8>) {
        self.is_given_more_time();
        self.station.desk.note(Mail::Notice { key: self.key, method, params });
    }

    /// Tells the client how far the work is, if it asked for that. A value that is not larger than the last one is
    /// left out, as is progress of tasks.
    ///
    /// ```
    /// use std::time::Duration;
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// async fn bake(_: NoArguments, ctx: Context) -> &'static str {
    ///     for done in 0..3 {
    ///         ctx.progress(f64::from(done), Some(3.0), Some("baking"));
    ///         ctx.sleep(Duration::from_millis(10)).await;
    ///     }
    ///     "a cake"
    /// }
    /// let server = Server::builder("bakery", "1.0").async_tool(Tool::new("bake"), bake).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn progress(&self, progress: f64, total: Option<f64>, message: Option<&str>) {
        let Some(token) = &self.progress_token else { return };
        if !progress.is_finite() || progress <= self.last_progress.get() || self.is_task() {
            return;
        }
        self.last_progress.set(progress);
        let mut params = Vec::with_capacity(96);
        let mut object = Object::begin(&mut params);
        object.raw("progressToken", token);
        object.raw("progress", progress.to_string().as_bytes());
        if let Some(total) = total.filter(|total| total.is_finite()) {
            object.raw("total", total.to_string().as_bytes());
        }
        if let Some(message) = message.filter(|_| self.version >= Version::V2025_03_26) {
            object.string("message", message);
        }
        object.end();
        self.notice("notifications/progress", params);
    }

    /// Sends a log message, if the client wants messages of this level. `message` is text or anything serde can write.
    ///
    /// ```
    /// use corelane::{Context, LogLevel, NoArguments, Server, Tool};
    ///
    /// fn sweep(_: NoArguments, ctx: &Context) -> &'static str {
    ///     ctx.log(LogLevel::Info, Some("broom"), "begun");
    ///     ctx.log(LogLevel::Warning, Some("broom"), &[("room", "attic"), ("dust", "much")]);
    ///     "swept"
    /// }
    /// let server = Server::builder("sweeper", "1.0").tool(Tool::new("sweep"), sweep).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn log<T: Serialize + ?Sized>(&self, level: LogLevel, logger: Option<&str>, message: &T) {
        if self.log_level.is_none_or(|least| level < least) || self.is_task() {
            return;
        }
        if let Ok(json) = serde_json::to_vec(message) {
            self.notice("notifications/message", log_params(level.as_str(), logger, &json));
        }
    }

    /// Ends the HTTP stream of the call early; the client comes back for the outcome (2025-11-25). Does nothing where
    /// there is no such thing.
    pub fn end_stream(&self) {
        if self.version == Version::V2025_11_25 && !self.is_task() {
            self.station.desk.note(Mail::EndStream { key: self.key });
        }
    }

    /// Tells subscribers that the list of tools changed.
    pub fn notify_tools_changed(&self) {
        self.station.desk.mailbox.push(Mail::Changed(Change::Tools));
    }

    /// Tells subscribers that the list of prompts changed.
    pub fn notify_prompts_changed(&self) {
        self.station.desk.mailbox.push(Mail::Changed(Change::Prompts));
    }

    /// Tells subscribers that the list of resources changed.
    pub fn notify_resources_changed(&self) {
        self.station.desk.mailbox.push(Mail::Changed(Change::Resources));
    }

    /// Tells subscribers of a resource that its contents changed.
    ///
    /// ```
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// fn publish(_: NoArguments, ctx: &Context) -> &'static str {
    ///     ctx.resource_updated("news://today");
    ///     ctx.notify_resources_changed();
    ///     "published"
    /// }
    /// let server = Server::builder("press", "1.0").tool(Tool::new("publish"), publish).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn resource_updated(&self, uri: impl Into<String>) {
        self.station.desk.mailbox.push(Mail::Changed(Change::Resource(uri.into())));
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::new(Rc::clone(&self.station.desk.host), self.now().saturating_add(nanos(duration)))
    }

    /// Runs a future on the offload pool, where tokio's reactor and timers are. It is dropped there when this one is
    /// dropped here, so when the caller is gone or the call's time is up.
    pub fn offload<T: Send + 'static>(&self, future: impl Future<Output = T> + Send + 'static) -> Offloaded<T> {
        wait::offload(&*self.station.desk.host, future)
    }

    /// Runs a function that may block, on a thread of its own. A long one should look at
    /// [`stop_signal`](Context::stop_signal) now and then.
    ///
    /// ```
    /// use corelane::{Context, Failure, NoArguments, Server, Tool};
    ///
    /// async fn hosts(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     Ok(ctx.blocking(|| std::fs::read_to_string("/etc/hosts")).await??)
    /// }
    /// let server = Server::builder("files", "1.0").async_tool(Tool::new("hosts"), hosts).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn blocking<T: Send + 'static>(&self, function: impl FnOnce() -> T + Send + 'static) -> Offloaded<T> {
        wait::blocking(&*self.station.desk.host, function)
    }

    /// Asks the user by a form. See [`ask_all`](Context::ask_all) for what asking means.
    ///
    /// ```
    /// use corelane::{Context, Failure, Form, NoArguments, Server, Tool};
    ///
    /// async fn greet(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let form = Form::new("What is your name?").field("name", r#"{"type":"string"}"#);
    ///     let answer = ctx.elicit("user_name", form).await?;
    ///     Ok(format!("Hello, {}!", answer.str("name").unwrap_or("stranger".into())))
    /// }
    /// let server = Server::builder("greeter", "1.0").async_tool(Tool::new("greet"), greet).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub async fn elicit(&self, key: impl Into<String>, form: Form) -> Result<Elicited, AskError> {
        Ok(Elicited::read(&self.ask(Ask::elicit(key, form)).await?))
    }

    /// Asks the user to visit a page.
    pub async fn elicit_url(
        &self,
        key: impl Into<String>,
        message: impl Into<String>,
        url: impl Into<String>,
    ) -> Result<Elicited, AskError> {
        Ok(Elicited::read(&self.ask(Ask::elicit_url(key, message, url)).await?))
    }

    /// The failure of a call that cannot go on before the user has visited these pages, without waiting for it: the
    /// error -32042 for clients of 2025-11-25 that can be asked for visits, and words with the addresses for others.
    /// Modern clients are better asked with [`Ask::visit`].
    ///
    /// ```
    /// use corelane::{Context, Failure, NoArguments, Server, Tool, Visit};
    ///
    /// fn calendar(_: NoArguments, ctx: &Context) -> Result<String, Failure> {
    ///     Err(ctx.needs_visits([Visit::new("login-17", "Please log in", "https://calendar.example/login?to=17")]))
    /// }
    /// # Server::builder("s", "1").tool(Tool::new("calendar"), calendar).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn needs_visits(&self, visits: impl IntoIterator<Item = Visit>) -> Failure {
        visits_needed(&visits.into_iter().collect::<Vec<_>>(), self.version, self.capabilities)
    }

    /// Tells the client that a visit it was asked for is done, by the visit's id, so that it can try again what needed
    /// it. Only 2025-11-25 has that; in others it does nothing.
    ///
    /// ```
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// /// Called once the page that the user visited has reported back.
    /// fn logged_in(_: NoArguments, ctx: &Context) -> &'static str {
    ///     ctx.visit_complete("login-17");
    ///     "logged in"
    /// }
    /// let server = Server::builder("calendar", "1.0").tool(Tool::new("logged_in"), logged_in).build()?;
    /// # // From here on: served on a port of the kernel's choice and called, so that it is known to work.
    /// # use std::io::{BufRead, BufReader, Write};
    /// # let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    /// # let options = corelane::ServeOptions::default().listen("127.0.0.1:0").control("127.0.0.1:0");
    /// # let options = options.cores("1").tcp(&address);
    /// # std::thread::spawn(|| server.serve(options).unwrap());
    /// # let wait = |_: u32| std::thread::sleep(std::time::Duration::from_millis(20));
    /// # let connected = |_: u32| std::net::TcpStream::connect(&address).ok();
    /// # let mut stream = (0..500).inspect(|&n| wait(n)).find_map(connected).expect("it serves");
    /// # let mut answers = BufReader::new(stream.try_clone()?).lines();
    /// # writeln!(stream, "{}", concat!(
    /// #     r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","#,
    /// #     r#""capabilities":{"elicitation":{"url":{}}},"clientInfo":{"name":"c","version":"1"}}}"#,
    /// # ))?;
    /// # writeln!(stream, "{}", concat!(
    /// #     r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"logged_in"}}"#,
    /// # ))?;
    /// # let heard = answers.by_ref().map_while(Result::ok).take(3).collect::<Vec<_>>().join("\n");
    /// # assert!(heard.contains("notifications/elicitation/complete") && heard.contains("login-17"), "{heard}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn visit_complete(&self, id: &str) {
        if self.version != Version::V2025_11_25 || !self.capabilities.has(Capabilities::ELICITATION_URL) {
            return;
        }
        let mut params = Vec::new();
        let mut object = Object::begin(&mut params);
        object.string("elicitationId", id);
        object.end();
        let method = "notifications/elicitation/complete";
        match self.session {
            // The stream of the call is over.
            Some(session) if self.is_task() => self.station.desk.note(Mail::Session { session, method, params }),
            _ => self.notice(method, params),
        }
    }

    /// Asks for a sample from the client's model.
    ///
    /// ```
    /// use corelane::{Context, Failure, NoArguments, Sampling, Server, Tool};
    ///
    /// async fn rhyme(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let sample = ctx.sample("rhyme", Sampling::new(60).user("Write a rhyme")).await?;
    ///     Ok(sample.text().unwrap_or_default().to_string())
    /// }
    /// let server = Server::builder("poet", "1.0").async_tool(Tool::new("rhyme"), rhyme).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub async fn sample(&self, key: impl Into<String>, sampling: Sampling) -> Result<Sampled, AskError> {
        Ok(Sampled(self.ask(Ask::sample(key, sampling)).await?))
    }

    /// Asks for the client's roots.
    ///
    /// ```
    /// use corelane::{Context, Failure, NoArguments, Server, Tool};
    ///
    /// async fn where_to_look(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let roots = ctx.roots("roots").await?;
    ///     Ok(roots.iter().map(|root| root.uri.as_str()).collect::<Vec<_>>().join("\n"))
    /// }
    /// let server = Server::builder("finder", "1.0").async_tool(Tool::new("where"), where_to_look).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub async fn roots(&self, key: impl Into<String>) -> Result<Vec<Root>, AskError> {
        Ok(super::ask::read_roots(&self.ask(Ask::roots(key)).await?))
    }

    async fn ask(&self, ask: Ask) -> Result<super::JsonText, AskError> {
        let Answers(mut answers) = self.ask_all([ask]).await?;
        // One question, one answer.
        answers.pop().map(|(_, answer)| answer).ok_or(AskError::Unreachable)
    }

    /// Asks the client several things at once and waits for all the answers.
    ///
    /// # What stands before a question runs again
    ///
    /// In legacy revisions the question goes out as a request, and the handler goes on where it stopped. In modern
    /// revisions (2026-07-28) a server keeps nothing between requests: **the handler is dropped at the first question
    /// without an answer**, the client gets `input_required` with all questions asked so far and a sealed
    /// `requestState`, and its retry **runs the handler from its beginning**, where questions that were answered return
    /// at once. So keep what stands before a question free of side effects, or wrap it in [`once`](Context::once); and
    /// let a question depend only on arguments, answers and remembered values. A key names one question: asked again it
    /// gives the same answer.
    ///
    /// ```
    /// use corelane::{Ask, Context, Failure, Form, NoArguments, Sampling, Server, Tool};
    ///
    /// async fn introduce(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let name = Form::new("What is your name?").field("name", r#"{"type":"string"}"#);
    ///     let greeting = Sampling::new(50).user("Generate a greeting");
    ///     let answers = ctx.ask_all([Ask::elicit("name", name), Ask::sample("greeting", greeting)]).await?;
    ///     let greeting = answers.sampled("greeting").and_then(|sample| sample.text());
    ///     let name = answers.elicited("name").and_then(|form| form.str("name"));
    ///     Ok(format!("{greeting:?} {name:?}"))
    /// }
    /// # Server::builder("s", "1").async_tool(Tool::new("introduce"), introduce).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Only what the client declared may be asked: [`AskError::NotDeclared`] otherwise, before anything is sent.
    /// Returned from the handler it becomes the error -32021 with `requiredCapabilities` in modern revisions and a tool
    /// error in legacy ones.
    pub async fn ask_all(&self, asks: impl IntoIterator<Item = Ask>) -> Result<Answers, AskError> {
        let exchange = self.exchange.as_ref().ok_or(AskError::Synchronous)?;
        let (desk, asked) = (&self.station.desk, exchange.questions());
        let patience = desk.host.patience();
        let answers = Asking::new(desk, exchange, self.key, asks.into_iter().collect()).await;
        // With its answer a call that has asked has as long as any. It had all the time that it needed until then.
        if patience.call > 0 && exchange.way.get() == Way::Live && exchange.questions() > asked {
            self.deadline.set(self.now().saturating_add(patience.call).min(self.latest));
        }
        answers
    }

    /// Fails unless the client declared these capabilities; for handlers that need them later.
    ///
    /// ```
    /// use corelane::{Capabilities, Context, Failure, NoArguments, Server, Tool};
    ///
    /// fn plan(_: NoArguments, ctx: &Context) -> Result<&'static str, Failure> {
    ///     ctx.require(Capabilities::ELICITATION_FORM)?;
    ///     Ok("the plan; you will be asked before it is carried out")
    /// }
    /// let server = Server::builder("planner", "1.0").tool(Tool::new("plan"), plan).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn require(&self, capabilities: Capabilities) -> Result<(), AskError> {
        if self.capabilities.has(capabilities) { Ok(()) } else { Err(AskError::NotDeclared(capabilities)) }
    }

    /// Runs `work` once per call, however often the handler runs: the value is remembered in the `requestState` and
    /// returned at once when the handler runs again (see [`ask_all`](Context::ask_all)). That is as good as the client:
    /// one that comes back with an older state, or with none, has it run again, and so has one whose last answer was
    /// lost. What must never happen twice wants a key of its own where it happens.
    ///
    /// ```
    /// use corelane::{Context, Failure, Form, NoArguments, Server, Tool};
    ///
    /// async fn order(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let number: u64 = ctx.once("number", async { 42 /* reserve one */ }).await?;
    ///     let form = Form::new(format!("Really order {number}?"));
    ///     Ok(format!("{number}: {}", ctx.elicit("sure", form).await?.action()))
    /// }
    /// # Server::builder("s", "1").async_tool(Tool::new("order"), order).build()?;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub async fn once<T, F>(&self, key: impl Into<String>, work: F) -> Result<T, serde_json::Error>
    where
        T: Serialize + DeserializeOwned,
        F: Future<Output = T>,
    {
        let Some(exchange) = &self.exchange else { return Ok(work.await) };
        let key = key.into();
        let known = exchange.remembered.borrow().iter().find(|(other, _)| *other == key).map(|(_, json)| json.clone());
        if let Some(json) = known {
            return serde_json::from_slice(&json);
        }
        let value = work.await;
        exchange.remembered.borrow_mut().push((key, serde_json::to_vec(&value)?));
        Ok(value)
    }

    /// Turns the call into a task from here on, if the tool supports that, the client can follow it and (in 2025-11-25)
    /// asked for it: the client gets the task's id now and the outcome later. `false` means that the handler goes on as
    /// an ordinary call. Only tools built with [`Tool::becomes_task`](super::Tool::becomes_task) need this; others are
    /// tasks from their beginning. What was asked before is asked as in any call.
    ///
    /// ```
    /// use corelane::{Context, Failure, NoArguments, Server, TaskSupport, Tool};
    /// use std::time::Duration;
    ///
    /// async fn build(_: NoArguments, ctx: Context) -> Result<String, Failure> {
    ///     let is_task = ctx.become_task().await?; // whoever called has the task's id now
    ///     ctx.sleep(Duration::from_millis(50)).await;
    ///     Ok(if is_task { "built meanwhile" } else { "built" }.to_owned())
    /// }
    /// let tool = Tool::new("build").task_support(TaskSupport::Optional).becomes_task();
    /// let server = Server::builder("builder", "1.0").async_tool(tool, build).build()?;
    /// # // From here on: served on a port of the kernel's choice and called, so that it is known to work.
    /// # use std::io::{BufRead, BufReader, Write};
    /// # let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    /// # let options = corelane::ServeOptions::default().listen("127.0.0.1:0").control("127.0.0.1:0");
    /// # let options = options.cores("1").tcp(&address);
    /// # std::thread::spawn(|| server.serve(options).unwrap());
    /// # let wait = |_: u32| std::thread::sleep(std::time::Duration::from_millis(20));
    /// # let connected = |_: u32| std::net::TcpStream::connect(&address).ok();
    /// # let mut stream = (0..500).inspect(|&n| wait(n)).find_map(connected).expect("it serves");
    /// # let mut answers = BufReader::new(stream.try_clone()?).lines();
    /// # writeln!(stream, "{}", concat!(
    /// #     r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"build","#,
    /// #     r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    /// #     r#""io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}}}"#,
    /// # ))?;
    /// # let answer = answers.next().expect("an answer")?;
    /// # let id = answer.split_once(r#""taskId":""#).and_then(|(_, rest)| rest.split_once('"')).expect("a task").0;
    /// # let done = (0..500).inspect(|&n| wait(n)).find_map(|n| {
    /// #     let meta = concat!(
    /// #         r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    /// #         r#""io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}"#
    /// #     );
    /// #     let get = format!(r#""method":"tasks/get","params":{{"taskId":"{id}",{meta}}}"#);
    /// #     writeln!(stream, r#"{{"jsonrpc":"2.0","id":{},{get}}}"#, n + 2).ok()?;
    /// #     answers.next()?.ok().filter(|answer| !answer.contains(r#""working""#))
    /// # });
    /// # assert!(done.as_ref().is_some_and(|done| done.contains("built meanwhile")), "{done:?}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn become_task(&self) -> Result<bool, Failure> {
        let Some(exchange) = &self.exchange else { return Ok(false) };
        let TaskWish::Yes { ttl_ms } = self.task_wish else { return Ok(false) };
        if exchange.way.get() == Way::Task {
            return Ok(true);
        }
        let desk = &self.station.desk;
        let run = match desk.open.borrow().get(&self.key) {
            Some(Open::Run(run)) => Rc::clone(run),
            _ => return Ok(false),
        };
        let created = tasks::create(desk, &run, self.session, ttl_ms)?;
        desk.open.borrow_mut().remove(&self.key);
        desk.mailbox.push(Mail::Reply { key: self.key, outcome: Ok(created.into()) });
        Ok(true)
    }
}
