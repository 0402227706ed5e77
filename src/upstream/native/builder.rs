//! `Server` and how one is built.
//!
//! Not here: serving (`service` for one core, `serve` for a process).
//! Invariant: a `Server` that exists is right: names, URIs, templates and schemas were checked, and all lists are
//! written.

use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::arguments::{RawArguments, RawJson};
use super::catalog::Catalog;
use super::completion::{self, Completer, Completing, IntoCompletion};
use super::context::Context;
use super::desk::Settings;
use super::failure::Failure;
use super::label::{Icon, Label};
use super::listing::CacheHint;
use super::output::{IntoToolResult, ToolOutput};
use super::prompt::{self, IntoPromptResult, Prompt, PromptArguments, PromptEntry, PromptHandler};
use super::resource::{self, IntoContents, Reader, Reading, Resource, ResourceEntry, ResourceTemplate, TemplateEntry};
use super::schema::{self, SchemaError};
use super::service::NativeService;
use super::tool::{self, TaskSupport, Tool, ToolEntry, ToolHandler, is_name};
use crate::limits::{LIST_PAGE_DEFAULT, TASKS_PER_CORE_MAX};
use crate::proto::uri_template::{TemplateError, UriError, UriTemplate, check_uri};
use crate::server::service::{Host, Mailbox};

/// Why a server cannot be built. Its `Debug` is its `Display`: that is what a `main` prints which returns it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Something is registered twice.
    #[error("{kind} `{name}` is registered twice")]
    Duplicate {
        /// A tool, a prompt, ...
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A tool's name does not fit every client.
    #[error("the tool name `{0}` does not fit: 1 to 64 letters, digits, `_`, `.`, `-`, `/`")]
    Name(String),
    /// A schema does not fit.
    #[error("the schema of tool `{tool}` does not fit: {error}")]
    Schema {
        /// The tool.
        tool: String,
        /// What is wrong.
        error: SchemaError,
    },
    /// `state` came after something that uses it.
    #[error("call `state` before tools, resources and prompts are added: they are made for the state they work with")]
    StateTooLate,
    /// A tool that cannot run as a task says it can.
    #[error("tool `{0}` cannot run as a task: only asynchronous tools can")]
    TaskSupport(String),
    /// A template does not fit.
    #[error("the template `{template}` does not fit: {error}")]
    Template {
        /// The template.
        template: String,
        /// What is wrong.
        error: TemplateError,
    },
    /// Completion for something that does not exist.
    #[error("there is no {0} to complete: add it before its completion")]
    UnknownCompletion(String),
    /// A resource's URI does not fit.
    #[error("the URI `{uri}` does not fit: {error}")]
    Uri {
        /// The URI.
        uri: String,
        /// What is wrong.
        error: UriError,
    },
}

impl std::fmt::Debug for BuildError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// A server's tools, resources and prompts, ready to be served on any number of cores.
///
/// ```
/// use corelane::{Context, Server, Tool};
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Add {
///     a: f64,
///     b: f64,
/// }
///
/// let server = Server::builder("calculator", "1.0")
///     .instructions("Adds numbers.")
///     .tool(Tool::new("add").description("Adds two numbers"), |args: Add, _: &Context| args.a + args.b)
///     .build()?;
/// # let _ = server;
/// # Ok::<(), corelane::BuildError>(())
/// ```
pub struct Server<S = ()> {
    pub(super) catalog: Arc<Catalog<S>>,
}

impl<S> Clone for Server<S> {
    fn clone(&self) -> Server<S> {
        Server { catalog: Arc::clone(&self.catalog) }
    }
}

impl Server {
    /// Begins a server with a name and a version of its own.
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> ServerBuilder<()> {
        ServerBuilder {
            draft: Draft {
                name: name.into(),
                version: version.into(),
                website: None,
                label: Label::default(),
                instructions: None,
                tools_change: false,
                prompts_change: false,
                resources_change: false,
                subscriptions: false,
                page_size: LIST_PAGE_DEFAULT,
                list_cache: CacheHint::private(60_000),
                read_cache: CacheHint::private(0),
                settings: Settings {
                    request_state_ttl: Duration::from_secs(600),
                    task_ttl: Duration::from_secs(600),
                    task_poll_interval: Duration::from_millis(500),
                    tasks_max: TASKS_PER_CORE_MAX,
                    logging: true,
                },
            },
            state: Box::new(|| ()),
            tools: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            prompts: Vec::new(),
            prompt_completers: Vec::new(),
            template_completers: Vec::new(),
            roots_changed: None,
            session_ended: None,
            failed: None,
        }
    }
}

impl<S: 'static> Server<S> {
    /// The service of one core, with a state of its own.
    pub fn per_core(&self, host: Rc<dyn Host>, mailbox: Mailbox) -> NativeService<S> {
        NativeService::new(Arc::clone(&self.catalog), host, mailbox)
    }
}

/// Hears of a legacy session by its number ([`Context::session`]), on the core where it lives.
pub(super) type SessionHandler<S> = Box<dyn Fn(&S, u64) + Send + Sync>;

/// What a server is, without what it serves.
pub(super) struct Draft {
    pub name: String,
    pub version: String,
    pub website: Option<String>,
    pub label: Label,
    pub instructions: Option<String>,
    pub tools_change: bool,
    pub prompts_change: bool,
    pub resources_change: bool,
    pub subscriptions: bool,
    pub page_size: usize,
    pub list_cache: CacheHint,
    pub read_cache: CacheHint,
    pub settings: Settings,
}

/// A server that is being built; [`build`](ServerBuilder::build) says what is wrong with it.
pub struct ServerBuilder<S> {
    pub(super) draft: Draft,
    pub(super) state: Box<dyn Fn() -> S + Send + Sync>,
    pub(super) tools: Vec<ToolEntry<S>>,
    pub(super) resources: Vec<ResourceEntry<S>>,
    pub(super) templates: Vec<TemplateEntry<S>>,
    pub(super) prompts: Vec<PromptEntry<S>>,
    /// Prompt or template by index, argument, completer.
    pub(super) prompt_completers: Vec<(usize, String, Completer<S>)>,
    pub(super) template_completers: Vec<(usize, String, Completer<S>)>,
    pub(super) roots_changed: Option<SessionHandler<S>>,
    pub(super) session_ended: Option<SessionHandler<S>>,
    /// The first thing that was wrong.
    failed: Option<BuildError>,
}

impl ServerBuilder<()> {
    /// Gives every core a state of its own, made by `make` on that core. The state never leaves its core: no locks.
    pub fn state<S>(self, make: impl Fn() -> S + Send + Sync + 'static) -> ServerBuilder<S> {
        let used = !self.tools.is_empty()
            || !self.resources.is_empty()
            || !self.templates.is_empty()
            || !self.prompts.is_empty()
            || self.roots_changed.is_some()
            || self.session_ended.is_some();
        ServerBuilder {
            draft: self.draft,
            state: Box::new(make),
            tools: Vec::new(),
            resources: Vec::new(),
            templates: Vec::new(),
            prompts: Vec::new(),
            prompt_completers: Vec::new(),
            template_completers: Vec::new(),
            roots_changed: None,
            session_ended: None,
            failed: self.failed.or(used.then_some(BuildError::StateTooLate)),
        }
    }
}

impl<S: 'static> ServerBuilder<S> {
    /// What people read instead of the name.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.draft.label.title = Some(title.into());
        self
    }

    /// Where more is to be read.
    pub fn website(mut self, url: impl Into<String>) -> Self {
        self.draft.website = Some(url.into());
        self
    }

    /// Adds a picture.
    pub fn icon(mut self, icon: Icon) -> Self {
        self.draft.label.icons.push(icon);
        self
    }

    /// Advice for the model on how to use the server.
    pub fn instructions(mut self, text: impl Into<String>) -> Self {
        self.draft.instructions = Some(text.into());
        self
    }

    /// Entries on one page of a list; at least 1.
    pub fn page_size(mut self, entries: usize) -> Self {
        self.draft.page_size = entries.max(1);
        self
    }

    /// How long and by whom lists may be kept; a minute by the caller, if not said.
    pub fn list_cache(mut self, hint: CacheHint) -> Self {
        self.draft.list_cache = hint;
        self
    }

    /// How long and by whom the contents of resources may be kept; not at all, if not said.
    pub fn read_cache(mut self, hint: CacheHint) -> Self {
        self.draft.read_cache = hint;
        self
    }

    /// How long a client may take to answer questions; ten minutes, if not said.
    pub fn answer_within(mut self, time: Duration) -> Self {
        self.draft.settings.request_state_ttl = time;
        self
    }

    /// How long a task is kept, counted from its creation, and how often a client should look after it; at most
    /// `tasks_max` are kept per core. Both times are a millisecond at least.
    pub fn tasks(mut self, keep: Duration, look_every: Duration, tasks_max: usize) -> Self {
        self.draft.settings.task_ttl = keep.max(Duration::from_millis(1));
        self.draft.settings.task_poll_interval = look_every.max(Duration::from_millis(1));
        self.draft.settings.tasks_max = tasks_max.min(TASKS_PER_CORE_MAX);
        self
    }

    /// Says that handlers call [`Context::notify_tools_changed`].
    pub fn announces_tool_changes(mut self) -> Self {
        self.draft.tools_change = true;
        self
    }

    /// Says that handlers call [`Context::notify_prompts_changed`].
    pub fn announces_prompt_changes(mut self) -> Self {
        self.draft.prompts_change = true;
        self
    }

    /// Says that handlers call [`Context::notify_resources_changed`].
    pub fn announces_resource_changes(mut self) -> Self {
        self.draft.resources_change = true;
        self
    }

    /// Says that handlers call [`Context::resource_updated`], so that clients may subscribe.
    pub fn announces_resource_updates(mut self) -> Self {
        self.draft.subscriptions = true;
        self
    }

    /// Says that handlers never call [`Context::log`].
    pub fn without_logging(mut self) -> Self {
        self.draft.settings.logging = false;
        self
    }

    fn fail(mut self, error: BuildError) -> Self {
        self.failed.get_or_insert(error);
        self
    }

    /// Adds a tool that is a plain function: it runs at once, on the core, and should take microseconds. The input
    /// schema is that of its argument type.
    pub fn tool<A, R, F>(self, tool: Tool, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema,
        R: IntoToolResult,
        F: Fn(A, &Context<S>) -> R + Send + Sync + 'static,
    {
        let output = tool.output_schema.clone().or_else(R::output_schema);
        self.add_tool(tool, schema::input_of::<A>(), output, tool::plain(handler))
    }

    /// Adds a tool that is an `async fn`. See [`Context`] for what it may await.
    pub fn async_tool<A, R, F, Fut>(self, tool: Tool, handler: F) -> Self
    where
        A: DeserializeOwned + JsonSchema,
        R: IntoToolResult,
        F: Fn(A, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let output = tool.output_schema.clone().or_else(R::output_schema);
        self.add_tool(tool, schema::input_of::<A>(), output, tool::asynchronous(handler))
    }

    /// Adds a tool that reads its arguments and writes its result itself: nothing is parsed, nothing is copied twice.
    /// The schema goes out as it is written here, byte for byte but for line breaks, which become spaces.
    pub fn raw_tool<F>(self, tool: Tool, schema: impl AsRef<str>, handler: F) -> Self
    where
        F: Fn(RawJson<'_>, &Context<S>, &mut ToolOutput<'_>) -> Result<(), Failure> + Send + Sync + 'static,
    {
        let output = tool.output_schema.clone();
        self.add_tool(tool, schema::check_input(schema.as_ref()), output, ToolHandler::Plain(Box::new(handler)))
    }

    /// The same for an `async fn`: its arguments are a copy of its own. What it returns may write itself.
    ///
    /// ```
    /// use corelane::{Context, Failure, IntoToolResult, RawArguments, Server, Tool, ToolOutput};
    ///
    /// /// What was given, to be copied into the result as it came.
    /// struct Echoed(RawArguments);
    ///
    /// impl IntoToolResult for Echoed {
    ///     fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
    ///         let data = self.0.json().get("data").ok_or_else(|| Failure::new("`data` is missing"))?;
    ///         output.text_raw(data); // copied, not parsed
    ///         Ok(())
    ///     }
    /// }
    ///
    /// async fn echo(arguments: RawArguments, ctx: Context) -> Echoed {
    ///     ctx.sleep(std::time::Duration::from_millis(10)).await;
    ///     Echoed(arguments)
    /// }
    /// let schema = r#"{"type":"object","properties":{"data":{"type":"string"}},"required":["data"]}"#;
    /// let server = Server::builder("echo", "1.0").async_raw_tool(Tool::new("echo"), schema, echo).build()?;
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
    /// #     r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","#,
    /// #     r#""arguments":{"data":"a\u00fc"},"#,
    /// #     r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    /// #     r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
    /// # ))?;
    /// # let answer = answers.next().expect("an answer")?;
    /// # assert!(answer.contains(r#""text":"a\u00fc""#), "{answer}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn async_raw_tool<R, F, Fut>(self, tool: Tool, schema: impl AsRef<str>, handler: F) -> Self
    where
        R: IntoToolResult,
        F: Fn(RawArguments, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        let output = tool.output_schema.clone().or_else(R::output_schema);
        self.add_tool(tool, schema::check_input(schema.as_ref()), output, tool::asynchronous_raw(handler))
    }

    fn add_tool(
        mut self,
        tool: Tool,
        input: Result<String, SchemaError>,
        output: Option<String>,
        handler: ToolHandler<S>,
    ) -> Self {
        let checked = input.and_then(|input| {
            let params = schema::header_params(&input)?;
            let output = output.as_deref().map(schema::check_output).transpose()?;
            Ok((input, params, output))
        });
        let error = if !is_name(&tool.name) {
            BuildError::Name(tool.name)
        } else if self.tools.iter().any(|other| other.tool.name == tool.name) {
            BuildError::Duplicate { kind: "the tool", name: tool.name }
        } else if tool.task_support != TaskSupport::Forbidden && matches!(handler, ToolHandler::Plain(_)) {
            BuildError::TaskSupport(tool.name)
        } else {
            match checked {
                Ok((input_schema, header_params, output_schema)) => {
                    self.tools.push(ToolEntry { tool, input_schema, output_schema, header_params, handler });
                    return self;
                }
                Err(error) => BuildError::Schema { tool: tool.name, error },
            }
        };
        self.fail(error)
    }

    /// Adds a resource with a plain reader.
    pub fn resource<R, F>(self, resource: Resource, reader: F) -> Self
    where
        R: IntoContents,
        F: Fn(&Reading, &Context<S>) -> R + Send + Sync + 'static,
    {
        self.add_resource(resource, resource::plain(reader))
    }

    /// Adds a resource with an asynchronous reader.
    pub fn async_resource<R, F, Fut>(self, resource: Resource, reader: F) -> Self
    where
        R: IntoContents,
        F: Fn(Reading, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.add_resource(resource, resource::asynchronous(reader))
    }

    fn add_resource(mut self, resource: Resource, reader: Reader<S>) -> Self {
        if let Err(error) = check_uri(&resource.uri) {
            return self.fail(BuildError::Uri { uri: resource.uri, error });
        }
        if self.resources.iter().any(|other| other.resource.uri == resource.uri) {
            return self.fail(BuildError::Duplicate { kind: "the resource", name: resource.uri });
        }
        self.resources.push(ResourceEntry { resource, reader });
        self
    }

    /// Adds a resource template with a plain reader. The first template that matches a URI reads it.
    pub fn resource_template<R, F>(self, template: ResourceTemplate, reader: F) -> Self
    where
        R: IntoContents,
        F: Fn(&Reading, &Context<S>) -> R + Send + Sync + 'static,
    {
        self.add_template(template, resource::plain(reader))
    }

    /// Adds a resource template with an asynchronous reader.
    pub fn async_resource_template<R, F, Fut>(self, template: ResourceTemplate, reader: F) -> Self
    where
        R: IntoContents,
        F: Fn(Reading, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.add_template(template, resource::asynchronous(reader))
    }

    fn add_template(mut self, template: ResourceTemplate, reader: Reader<S>) -> Self {
        let matcher = match UriTemplate::parse(&template.template) {
            Ok(matcher) => matcher,
            Err(error) => return self.fail(BuildError::Template { template: template.template, error }),
        };
        if self.templates.iter().any(|other| other.template.template == template.template) {
            return self.fail(BuildError::Duplicate { kind: "the template", name: template.template });
        }
        self.templates.push(TemplateEntry { template, matcher, reader });
        self
    }

    /// Adds a prompt with a plain handler.
    pub fn prompt<R, F>(self, prompt: Prompt, handler: F) -> Self
    where
        R: IntoPromptResult,
        F: Fn(&PromptArguments, &Context<S>) -> R + Send + Sync + 'static,
    {
        self.add_prompt(prompt, prompt::plain(handler))
    }

    /// Adds a prompt with an asynchronous handler, which may ask the client like a tool.
    pub fn async_prompt<R, F, Fut>(self, prompt: Prompt, handler: F) -> Self
    where
        R: IntoPromptResult,
        F: Fn(PromptArguments, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.add_prompt(prompt, prompt::asynchronous(handler))
    }

    fn add_prompt(mut self, prompt: Prompt, handler: PromptHandler<S>) -> Self {
        if self.prompts.iter().any(|other| other.prompt.name == prompt.name) {
            return self.fail(BuildError::Duplicate { kind: "the prompt", name: prompt.name });
        }
        let repeated = |index: usize| prompt.arguments[..index].iter().any(|a| a.name == prompt.arguments[index].name);
        if let Some(index) = (0..prompt.arguments.len()).find(|&index| repeated(index)) {
            let name = prompt.arguments[index].name.clone();
            return self.fail(BuildError::Duplicate { kind: "the prompt's argument", name });
        }
        self.prompts.push(PromptEntry { prompt, handler });
        self
    }

    /// Completes an argument of a prompt that was added before.
    pub fn complete_prompt<F>(self, prompt: &str, argument: &str, complete: F) -> Self
    where
        F: Fn(&Completing, &Context<S>) -> Vec<String> + Send + Sync + 'static,
    {
        self.add_prompt_completer(prompt, argument, completion::plain(complete))
    }

    /// The same with an asynchronous function, which may fail. It cannot ask the client.
    pub fn async_complete_prompt<R, F, Fut>(self, prompt: &str, argument: &str, complete: F) -> Self
    where
        R: IntoCompletion,
        F: Fn(Completing, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.add_prompt_completer(prompt, argument, completion::asynchronous(complete))
    }

    fn add_prompt_completer(mut self, prompt: &str, argument: &str, completer: Completer<S>) -> Self {
        let found = self
            .prompts
            .iter()
            .position(|other| other.prompt.name == prompt)
            .filter(|&index| self.prompts[index].prompt.arguments.iter().any(|other| other.name == argument));
        let Some(index) = found else {
            return self
                .fail(BuildError::UnknownCompletion(format!("prompt `{prompt}` with an argument `{argument}`")));
        };
        self.prompt_completers.push((index, argument.to_owned(), completer));
        self
    }

    /// Completes a variable of a resource template that was added before.
    ///
    /// ```
    /// use corelane::{Completing, Context, Reading, ResourceTemplate, Server};
    ///
    /// const ROOMS: [&str; 3] = ["attic", "bathroom", "basement"];
    ///
    /// fn rooms(typed: &Completing, _: &Context) -> Vec<String> {
    ///     ROOMS.iter().filter(|room| room.starts_with(typed.value())).map(ToString::to_string).collect()
    /// }
    /// let server = Server::builder("house", "1.0")
    ///     .resource_template(ResourceTemplate::new("room://{name}"), |reading: &Reading, _: &Context| {
    ///         format!("all is well in {}", reading.uri())
    ///     })
    ///     .complete_template("room://{name}", "name", rooms)
    ///     .build()?;
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
    /// #     r#"{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"#,
    /// #     r#""ref":{"type":"ref/resource","uri":"room://{name}"},"argument":{"name":"name","value":"ba"},"#,
    /// #     r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    /// #     r#""io.modelcontextprotocol/clientCapabilities":{}}}}"#,
    /// # ))?;
    /// # let answer = answers.next().expect("an answer")?;
    /// # assert!(answer.contains(r#""values":["bathroom","basement"]"#), "{answer}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn complete_template<F>(self, template: &str, variable: &str, complete: F) -> Self
    where
        F: Fn(&Completing, &Context<S>) -> Vec<String> + Send + Sync + 'static,
    {
        self.add_template_completer(template, variable, completion::plain(complete))
    }

    /// The same with an asynchronous function, as of [`async_complete_prompt`](Self::async_complete_prompt).
    pub fn async_complete_template<R, F, Fut>(self, template: &str, variable: &str, complete: F) -> Self
    where
        R: IntoCompletion,
        F: Fn(Completing, Context<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = R> + 'static,
    {
        self.add_template_completer(template, variable, completion::asynchronous(complete))
    }

    fn add_template_completer(mut self, template: &str, variable: &str, completer: Completer<S>) -> Self {
        let found = self.templates.iter().position(|other| other.template.template == template);
        let found = found.filter(|&index| self.templates[index].matcher.names().any(|name| name == variable));
        let Some(index) = found else {
            let what = format!("template `{template}` with a variable `{variable}`");
            return self.fail(BuildError::UnknownCompletion(what));
        };
        self.template_completers.push((index, variable.to_owned(), completer));
        self
    }

    /// Hears when the client of a legacy session says that its roots are others now; what was learned by
    /// [`Context::roots`] in calls of that session, which [`Context::session`] names, is out of date then.
    ///
    /// It is run on the session's core and must not block. If it panics, that is counted like a handler's panic and
    /// nothing else comes of it.
    /// Modern clients have no such message: ask for the roots in every call that needs them.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::collections::HashMap;
    ///
    /// use corelane::{Root, Server};
    ///
    /// #[derive(Default)]
    /// struct Known(RefCell<HashMap<u64, Vec<Root>>>);
    ///
    /// let forget = |known: &Known, session: u64| drop(known.0.borrow_mut().remove(&session));
    /// let server = Server::builder("files", "1.0")
    ///     .state(Known::default)
    ///     .on_roots_changed(forget)
    ///     .on_session_end(forget)
    ///     .build()?;
    /// # let _ = server;
    /// # Ok::<(), corelane::BuildError>(())
    /// ```
    pub fn on_roots_changed(mut self, handler: impl Fn(&S, u64) + Send + Sync + 'static) -> Self {
        self.roots_changed = Some(Box::new(handler));
        self
    }

    /// Hears when a legacy session is over, so that what is kept for it under [`Context::session`] can go. As
    /// [`on_roots_changed`](Self::on_roots_changed) otherwise.
    pub fn on_session_end(mut self, handler: impl Fn(&S, u64) + Send + Sync + 'static) -> Self {
        self.session_ended = Some(Box::new(handler));
        self
    }

    /// The server.
    ///
    /// # Errors
    ///
    /// The first thing that was wrong with what was added.
    pub fn build(mut self) -> Result<Server<S>, BuildError> {
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(Server { catalog: Arc::new(Catalog::new(self)) }),
        }
    }
}
