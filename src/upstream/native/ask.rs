//! What a handler may ask the client for: a form, a visit to a URL, a sample from its model, its roots.
//!
//! Not here: how a question travels (`exchange`): as a request in legacy revisions, inside `input_required` results in
//! modern ones, through `tasks/update` for tasks.
//! Invariant: an answer that reaches a handler has the shape its question promised.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::content::{Content, JsonText};
use super::failure::Failure;
use crate::proto::json::{self, Object, Value, ValueKind};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};
use crate::upstream::missing;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AskError {
    /// The client answered with something else than what was asked.
    #[error("the client's answer to `{key}` does not have the form of an answer")]
    Answer {
        /// The question.
        key: String,
    },
    /// The client did not declare what the question needs.
    #[error("this needs a client that declares {}", missing::needs(*.0))]
    NotDeclared(Capabilities),
    /// The client answered with an error.
    #[error("the client refused: {message} ({code})")]
    Refused {
        /// Its code.
        code: i32,
        /// Its message.
        message: String,
    },
    /// The call came by a way that carries no questions.
    #[error("the client cannot be asked on this transport")]
    Unreachable,
    /// The handler is a plain function; only `async` handlers can wait for an answer.
    #[error("only asynchronous handlers can ask")]
    Synchronous,
}

impl AskError {
    /// The error a modern client gets for it, when there is one.
    pub(super) fn to_rpc(&self) -> Option<RpcError> {
        match self {
            AskError::NotDeclared(capabilities) => Some(missing::capability(*capabilities)),
            _ => None,
        }
    }
}

/// A question with the key its answer comes back under.
///
/// The key is chosen by the handler and must be the same every time the handler runs.
#[derive(Clone, PartialEq, Debug)]
pub struct Ask {
    pub(super) key: String,
    pub(super) needs: Capabilities,
    pub(super) question: Question,
}

#[derive(Clone, PartialEq, Debug)]
pub(super) enum Question {
    Elicit(Form),
    Roots,
    Sample(Sampling),
    Visit(Visit),
}

impl Ask {
    /// A form for the user.
    pub fn elicit(key: impl Into<String>, form: Form) -> Ask {
        Ask { key: key.into(), needs: Capabilities::ELICITATION_FORM, question: Question::Elicit(form) }
    }

    /// A page for the user to visit.
    pub fn elicit_url(key: impl Into<String>, message: impl Into<String>, url: impl Into<String>) -> Ask {
        let visit = Visit { id: None, message: message.into(), url: url.into() };
        Ask { key: key.into(), needs: Capabilities::ELICITATION_URL, question: Question::Visit(visit) }
    }

    /// A page for the user to visit under an id of the server's own, so that
    /// [`Context::visit_complete`](super::Context::visit_complete) can tell when it is done.
    pub fn visit(key: impl Into<String>, visit: Visit) -> Ask {
        Ask { key: key.into(), needs: Capabilities::ELICITATION_URL, question: Question::Visit(visit) }
    }

    /// The client's roots.
    pub fn roots(key: impl Into<String>) -> Ask {
        Ask { key: key.into(), needs: Capabilities::ROOTS, question: Question::Roots }
    }

    /// A sample from the client's model.
    pub fn sample(key: impl Into<String>, sampling: Sampling) -> Ask {
        let needs = Capabilities::SAMPLING.with(sampling.needs);
        Ask { key: key.into(), needs, question: Question::Sample(sampling) }
    }

    pub(super) fn method(&self) -> &'static str {
        match self.question {
            Question::Elicit(_) | Question::Visit(_) => "elicitation/create",
            Question::Roots => "roots/list",
            Question::Sample(_) => "sampling/createMessage",
        }
    }

    /// The parameters, a JSON object. `elicitation_id` names a visit in legacy revisions.
    pub(super) fn params(&self, version: Version, elicitation_id: impl FnOnce() -> String) -> Vec<u8> {
        let mut params = Vec::new();
        let mut object = Object::begin(&mut params);
        match &self.question {
            Question::Elicit(form) => {
                // 2025-06-18 had no modes.
                if version >= Version::V2025_11_25 {
                    object.string("mode", "form");
                }
                object.string("message", &form.message);
                form.write_schema(object.key("requestedSchema"));
            }
            Question::Roots => {}
            Question::Sample(sampling) => sampling.write(&mut object, version),
            Question::Visit(visit) => visit.write(&mut object, version, elicitation_id),
        }
        object.end();
        params
    }
}

/// A page that the user is to visit: to log in, to pay, to consent. What happens there the client does not see.
///
/// ```
/// use corelane::Visit;
///
/// let visit = Visit::new("login-17", "Please log in to the calendar", "https://calendar.example/login?to=17");
/// # let _ = visit;
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Visit {
    id: Option<String>,
    message: String,
    url: String,
}

impl Visit {
    /// A visit with an id by which its completion is told later (2025-11-25); unique for each visit.
    pub fn new(id: impl Into<String>, message: impl Into<String>, url: impl Into<String>) -> Visit {
        Visit { id: Some(id.into()), message: message.into(), url: url.into() }
    }

    fn write(&self, object: &mut Object<'_>, version: Version, fallback_id: impl FnOnce() -> String) {
        object.string("mode", "url");
        object.string("message", &self.message);
        object.string("url", &self.url);
        if !version.is_modern() {
            match &self.id {
                Some(id) => object.string("elicitationId", id),
                None => object.string("elicitationId", &fallback_id()),
            }
        }
    }
}

/// Why a call cannot go on before the user has visited these pages: the error -32042 where the client knows it
/// (2025-11-25), words elsewhere.
pub(super) fn visits_needed(visits: &[Visit], version: Version, capabilities: Capabilities) -> Failure {
    if version != Version::V2025_11_25 || !capabilities.has(Capabilities::ELICITATION_URL) {
        let pages = visits.iter().map(|visit| format!("{}: {}", visit.message, visit.url));
        return Failure::new(pages.collect::<Vec<_>>().join("\n"));
    }
    let mut data = Vec::new();
    let mut object = Object::begin(&mut data);
    let mut elicitations = object.array("elicitations");
    for visit in visits {
        let mut elicitation = elicitations.object();
        visit.write(&mut elicitation, version, String::new);
        elicitation.end();
    }
    elicitations.end();
    object.end();
    let text = "This request needs the user to visit a page first; try again once it is done";
    Failure::rpc(RpcError::new(Code::URL_ELICITATION_REQUIRED, text).with_data(data))
}

/// Whether `answer` has the form of an answer to `method`.
pub(super) fn is_answer(method: &str, answer: &[u8]) -> bool {
    let answer = Value::new(answer);
    let has = |name: &str, kinds: &[ValueKind]| answer.get(name).is_some_and(|value| kinds.contains(&value.kind()));
    match method {
        "elicitation/create" => {
            let action = answer.get("action").and_then(Value::as_str);
            matches!(action.as_deref(), Some("accept" | "decline" | "cancel"))
                && answer.get("content").is_none_or(|content| content.kind() == ValueKind::Object)
        }
        "sampling/createMessage" => has("content", &[ValueKind::Object, ValueKind::Array]),
        _ => has("roots", &[ValueKind::Array]),
    }
}

/// A form for the user: a message and a flat object schema (strings, numbers, booleans, choices).
///
/// ```
/// use corelane::Form;
///
/// let form = Form::new("Where should it be delivered?")
///     .field("city", r#"{"type":"string"}"#)
///     .optional_field("gift", r#"{"type":"boolean","default":false}"#);
/// # let _ = form;
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Form {
    message: String,
    schema: Option<String>,
    fields: Vec<(String, String, bool)>,
}

impl Form {
    /// A form without fields.
    pub fn new(message: impl Into<String>) -> Form {
        Form { message: message.into(), schema: None, fields: Vec::new() }
    }

    /// A form with a schema written out, a JSON object.
    pub fn with_schema(message: impl Into<String>, schema: impl Into<String>) -> Form {
        Form { message: message.into(), schema: Some(one_line(schema.into())), fields: Vec::new() }
    }

    /// A form with the fields of a type; read the answer with [`Elicited::parse`].
    pub fn of<T: JsonSchema>(message: impl Into<String>) -> Form {
        Form::with_schema(message, super::schema::of::<T>())
    }

    /// Adds a field that must be filled in; `schema` is a JSON object.
    pub fn field(mut self, name: impl Into<String>, schema: impl Into<String>) -> Form {
        self.fields.push((name.into(), one_line(schema.into()), true));
        self
    }

    /// Adds a field that may be left out; `schema` is a JSON object.
    pub fn optional_field(mut self, name: impl Into<String>, schema: impl Into<String>) -> Form {
        self.fields.push((name.into(), one_line(schema.into()), false));
        self
    }

    fn write_schema(&self, out: &mut Vec<u8>) {
        if let Some(schema) = &self.schema {
            out.extend_from_slice(schema.as_bytes());
            return;
        }
        let mut object = Object::begin(out);
        object.string("type", "object");
        let mut properties = object.object("properties");
        self.fields.iter().for_each(|(name, schema, _)| properties.raw(name, schema.as_bytes()));
        properties.end();
        if self.fields.iter().any(|(_, _, required)| *required) {
            let mut required = object.array("required");
            self.fields.iter().filter(|(_, _, is)| *is).for_each(|(name, _, _)| required.string(name));
        }
        object.end();
    }
}

/// A message must not hold a newline; between the tokens of a JSON text a space means the same.
pub(super) fn one_line(text: String) -> String {
    if json::has_newline(text.as_bytes()) { text.replace(['\n', '\r'], " ") } else { text }
}

/// What the user did with a form or a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Elicited {
    /// Filled it in: the content, a JSON object (`{}` for a page).
    Accepted(JsonText),
    /// Closed it without an answer.
    Cancelled,
    /// Said no.
    Declined,
}

impl Elicited {
    pub(super) fn read(answer: &JsonText) -> Elicited {
        let value = answer.value();
        match value.get("action").and_then(Value::as_str).as_deref() {
            Some("accept") => {
                let content = value.get("content").map_or(&b"{}"[..], Value::raw);
                Elicited::Accepted(JsonText::new(content))
            }
            Some("decline") => Elicited::Declined,
            _ => Elicited::Cancelled,
        }
    }

    /// The word of the protocol for it.
    pub fn action(&self) -> &'static str {
        match self {
            Elicited::Accepted(_) => "accept",
            Elicited::Cancelled => "cancel",
            Elicited::Declined => "decline",
        }
    }

    /// What was filled in.
    pub fn content(&self) -> Option<&JsonText> {
        match self {
            Elicited::Accepted(content) => Some(content),
            Elicited::Cancelled | Elicited::Declined => None,
        }
    }

    /// A string field that was filled in.
    pub fn str(&self, field: &str) -> Option<String> {
        self.content()?.str(field)
    }

    /// What was filled in, typed; `None` if nothing was.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<Option<T>, serde_json::Error> {
        self.content().map(JsonText::parse).transpose()
    }
}

/// A request for a sample from the client's model.
///
/// ```
/// use corelane::Sampling;
///
/// let request = Sampling::new(100).user("What is the capital of France?").system_prompt("Answer in one word.");
/// # let _ = request;
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Sampling {
    max_tokens: u32,
    messages: Vec<Said>,
    system_prompt: Option<String>,
    members: Vec<(String, String)>,
    /// What a client has to declare besides `sampling`.
    needs: Capabilities,
}

/// A message of a conversation.
#[derive(Clone, PartialEq, Debug)]
enum Said {
    By(&'static str, Content),
    /// Written out, a JSON object.
    Whole(String),
}

/// Members that have a method of their own.
const OWN_METHODS: [&str; 3] = ["maxTokens", "messages", "systemPrompt"];

impl Sampling {
    /// An empty conversation; at most so many tokens may be sampled.
    pub fn new(max_tokens: u32) -> Sampling {
        Sampling {
            max_tokens,
            messages: Vec::new(),
            system_prompt: None,
            members: Vec::new(),
            needs: Capabilities::default(),
        }
    }

    /// Adds what the user said: text, an image or a sound.
    pub fn user(mut self, content: impl Into<Content>) -> Sampling {
        self.messages.push(Said::By("user", content.into()));
        self
    }

    /// Adds what the assistant said.
    pub fn assistant(mut self, content: impl Into<Content>) -> Sampling {
        self.messages.push(Said::By("assistant", content.into()));
        self
    }

    /// Adds a message that is written out, a JSON object (`SamplingMessage`): what a tool was asked, and what it said.
    ///
    /// ```
    /// use corelane::Sampling;
    ///
    /// let asked = r#"{"role":"assistant","content":[{"type":"tool_use","id":"1","name":"warmth","input":{}}]}"#;
    /// let result = r#"{"type":"tool_result","toolUseId":"1","content":[{"type":"text","text":"21"}]}"#;
    /// let request = Sampling::new(500)
    ///     .user("How warm is it?")
    ///     .message(asked)
    ///     .message(format!(r#"{{"role":"user","content":[{result}]}}"#))
    ///     .member("tools", r#"[{"name":"warmth","inputSchema":{"type":"object"}}]"#);
    /// # let _ = request;
    /// ```
    pub fn message(mut self, message: impl Into<String>) -> Sampling {
        self.messages.push(Said::Whole(one_line(message.into())));
        self
    }

    /// Sets the system prompt.
    pub fn system_prompt(mut self, text: impl Into<String>) -> Sampling {
        self.system_prompt = Some(text.into());
        self
    }

    /// Adds any other parameter (`temperature`, `modelPreferences`, ...); `value` is a JSON text. `tools` and
    /// `toolChoice` make it a question for clients that declare `sampling.tools`, `includeContext` (but for `"none"`)
    /// one for those that declare `sampling.context` (2025-11-25, "Sampling").
    ///
    /// # Panics
    /// If there is a method for it: `messages`, `maxTokens`, `systemPrompt`.
    pub fn member(mut self, name: impl Into<String>, value: impl Into<String>) -> Sampling {
        let (name, value) = (name.into(), one_line(value.into()));
        assert!(!OWN_METHODS.contains(&&*name), "`{name}` of a sample is set by a method of its own");
        self.needs = match &*name {
            "tools" | "toolChoice" => self.needs.with(Capabilities::SAMPLING_TOOLS),
            "includeContext" if value.trim() != r#""none""# => self.needs.with(Capabilities::SAMPLING_CONTEXT),
            _ => self.needs,
        };
        self.members.push((name, value));
        self
    }

    fn write(&self, object: &mut Object<'_>, version: Version) {
        let mut messages = object.array("messages");
        for said in &self.messages {
            match said {
                Said::By(role, content) => {
                    let mut message = messages.object();
                    message.string("role", role);
                    content.write(message.key("content"), version);
                    message.end();
                }
                Said::Whole(message) => messages.raw(message.as_bytes()),
            }
        }
        messages.end();
        object.integer("maxTokens", self.max_tokens);
        if let Some(system_prompt) = &self.system_prompt {
            object.string("systemPrompt", system_prompt);
        }
        self.members.iter().for_each(|(name, value)| object.raw(name, value.as_bytes()));
    }
}

/// What the client's model said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sampled(pub(super) JsonText);

impl Sampled {
    /// The first text in it.
    pub fn text(&self) -> Option<String> {
        let content = self.0.value().get("content")?;
        let is_text = |value: &Value<'_>| value.get("type").and_then(Value::as_str).as_deref() == Some("text");
        let piece = match content.kind() {
            ValueKind::Array => content.elements().find(is_text)?,
            _ => Some(content).filter(is_text)?,
        };
        piece.get("text")?.as_str().map(|text| text.into_owned())
    }

    /// The whole `CreateMessageResult`.
    pub fn json(&self) -> &JsonText {
        &self.0
    }
}

/// A place the client works in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root {
    /// Where, usually a `file://` URI.
    pub uri: String,
    /// What it is called.
    pub name: Option<String>,
}

pub(super) fn read_roots(answer: &JsonText) -> Vec<Root> {
    let Some(roots) = answer.value().get("roots") else { return Vec::new() };
    let string = |root: Value<'_>, name: &str| Some(root.get(name)?.as_str()?.into_owned());
    roots.elements().filter_map(|root| Some(Root { uri: string(root, "uri")?, name: string(root, "name") })).collect()
}

/// The answers to several questions asked at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers(pub(super) Vec<(String, JsonText)>);

impl Answers {
    /// The answer to a question, as it came.
    pub fn json(&self, key: &str) -> Option<&JsonText> {
        self.0.iter().find(|(other, _)| other == key).map(|(_, answer)| answer)
    }

    /// The answer to a form or a visit.
    pub fn elicited(&self, key: &str) -> Option<Elicited> {
        self.json(key).map(Elicited::read)
    }

    /// The answer to a request for a sample.
    pub fn sampled(&self, key: &str) -> Option<Sampled> {
        self.json(key).cloned().map(Sampled)
    }

    /// The answer to a question for roots.
    pub fn roots(&self, key: &str) -> Vec<Root> {
        self.json(key).map(read_roots).unwrap_or_default()
    }
}
