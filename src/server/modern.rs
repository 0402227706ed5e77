//! The modern era, 2026-07-28: stateless requests that say everything about themselves in `_meta`.
//!
//! Not here: the legacy era (`router`), subscription streams once they are open (`deliver`).
//! Invariant: the order of the checks is that of the SDKs: `_meta`, version header, version, mirrored headers, method,
//! parameters. (mcp-protocol 1.2)

use std::borrow::Cow;

use super::core::Core;
use super::parcel::Header;
use super::router::{Facts, Lane, Shape, Told, is_method, valid_id};
use super::service::{Offers, Service};
use super::settings::Eras;
use crate::ids::{CoreId, View};
use crate::metrics::Refusal;
use crate::proto::http1::Head;
use crate::proto::http1::mirror::{BodyValue, agrees};
use crate::proto::json::{Envelope, Key, Object, Root, Value, ValueKind};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::shard::seal::Purpose;

/// The revisions that may stand in `_meta`; `initialize` negotiates the older ones.
pub(super) const SUPPORTED: &[u8] = br#"["2026-07-28"]"#;

/// Names what `_meta` lacks.
pub(super) fn missing_meta(envelope: &Envelope) -> RpcError {
    let missing: Vec<&str> = [Key::MetaProtocolVersion, Key::MetaClientCapabilities]
        .into_iter()
        .filter(|&key| !envelope.has(key))
        .map(Key::name)
        .collect();
    RpcError::new(Code::INVALID_PARAMS, format!("params._meta lacks {}", missing.join(" and ")))
}

impl<S: Service> Core<S> {
    /// A message whose body claims a modern revision.
    pub(super) fn modern(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8], out: &mut Vec<u8>) -> Told {
        self.logged(envelope, text, out, |core, out| core.modern_message(lane, envelope, text, out))
    }

    fn modern_message(&mut self, lane: Lane<'_>, envelope: &Envelope, text: &[u8], out: &mut Vec<u8>) -> Told {
        let shape = match Self::shape(envelope, text) {
            Ok(shape) => shape,
            Err(error) => {
                return self.refuse_message(Refusal::BadRequest, valid_id(envelope, text), false, 400, error, out);
            }
        };
        let Some(claim) = envelope.plain(Key::MetaProtocolVersion, text) else {
            let problem = "params._meta[\"io.modelcontextprotocol/protocolVersion\"] has to be a string";
            let error = RpcError::new(Code::INVALID_PARAMS, problem);
            return self.refuse_message(Refusal::BadRequest, valid_id(envelope, text), false, 400, error, out);
        };
        let (id, name) = match shape {
            Shape::Request { id, method } => (id, method),
            Shape::Notice { method } => {
                if let Err(error) = self.version_agrees(lane, claim) {
                    return self.fail(None, false, 400, error, out);
                }
                self.noticed(lane, method, envelope, text);
                return Told::Accepted;
            }
            Shape::Answer { .. } => {
                let error = RpcError::new(
                    Code::INVALID_REQUEST,
                    "2026-07-28 servers ask nothing, so there is nothing to answer",
                );
                return self.refuse_message(Refusal::BadRequest, None, false, 400, error, out);
            }
        };
        let facts = match self.admit(lane, envelope, text, claim, name) {
            Ok(facts) => facts,
            Err(error) => {
                let status = if error.code == Code::INVALID_PARAMS { 400 } else { error.code.http_status() };
                return self.fail(Some(id), false, status, error, out);
            }
        };
        if self.is_duplicate(lane, id) {
            return self.duplicate(id, out);
        }
        if name == Method::ServerDiscover.as_str().as_bytes()
            && let Some(error) = self.comes_from_itself(envelope, text)
        {
            return self.fail(Some(id), false, 400, error, out);
        }
        let offers = match self.service.about(lane.view) {
            Ok(about) => about.offers,
            Err(error) => return self.not_known(lane, id, error.code.http_status(), error, out),
        };
        let known = Method::parse(name)
            .filter(|method| method.known_to(Version::V2026_07_28) && method.is_offered(&offers, Version::V2026_07_28));
        match known {
            None => self.unknown_method(id, name, 404, out),
            Some(Method::ServerDiscover) => match self.discover(lane.view) {
                Ok(result) => self.respond(id, &result, out),
                Err(error) => self.fail(Some(id), false, error.code.http_status(), error, out),
            },
            Some(Method::SubscriptionsListen) => self.listen(lane, facts.capabilities, id, envelope, text, out),
            Some(_) if let Some(owner) = self.owner_elsewhere(envelope, text) => {
                if self.is_over_limit(lane) {
                    return self.over_limit(id, out);
                }
                let view = lane.view.0;
                let payload = self.pool.filled(&[text]);
                let header = |ticket| Header::Modern { ticket, view };
                match self.forward(owner, lane.sink, (id, Version::V2026_07_28), lane.patience, header, payload) {
                    Ok(key) => Told::Pending(key),
                    Err(error) => self.fail(Some(id), false, 503, error, out),
                }
            }
            Some(method) => self.call(lane, facts, method, id, envelope, text, out),
        }
    }

    /// A notification: the one that there is says which call of its connection is not wanted any more. Over HTTP that
    /// is said by closing the connection. Unlike a request it need not name a revision. (2026-07-28, "Cancellation")
    fn noticed(&mut self, lane: Lane<'_>, method: &[u8], envelope: &Envelope, text: &[u8]) {
        if method == b"notifications/cancelled" && lane.head.is_none() {
            self.client_cancelled(lane, envelope.get(Key::RequestId).of(text));
        }
    }

    /// A message that has to be a modern one, by its version header or because there are no others here, but claims
    /// nothing in its body: the missing keys are named.
    pub(super) fn without_claim(
        &mut self,
        lane: Lane<'_>,
        envelope: &Envelope,
        text: &[u8],
        out: &mut Vec<u8>,
    ) -> Told {
        if envelope.root() != Root::Object {
            let text = match envelope.root() {
                Root::Array => "a body is one JSON-RPC message: 2026-07-28 has no batches",
                _ => "a JSON-RPC message is an object",
            };
            return self.refuse_message(
                Refusal::BadRequest,
                None,
                false,
                400,
                RpcError::new(Code::INVALID_REQUEST, text),
                out,
            );
        }
        let id = valid_id(envelope, text);
        let opens = is_method(envelope, text, Method::Initialize);
        if self.settings.eras == Eras::Modern
            && id.is_some()
            && let Some(requested) = older(lane, opens, envelope, text)
        {
            return self.refuse_message(Refusal::UnsupportedVersion, id, false, 400, unsupported(&requested), out);
        }
        if opens {
            let error = RpcError::new(
                Code::HEADER_MISMATCH,
                "MCP-Protocol-Version names 2026-07-28, which has no initialize; send server/discover, or an older version",
            );
            return self.refuse_message(Refusal::BadHeaderMirror, id, false, 400, error, out);
        }
        match Self::shape(envelope, text) {
            Ok(Shape::Notice { method }) => {
                self.noticed(lane, method, envelope, text);
                Told::Accepted
            }
            Ok(Shape::Answer { .. }) => {
                let error = RpcError::new(
                    Code::INVALID_REQUEST,
                    "2026-07-28 servers ask nothing, so there is nothing to answer",
                );
                self.refuse_message(Refusal::BadRequest, None, false, 400, error, out)
            }
            Ok(Shape::Request { .. }) => {
                let error = missing_meta(envelope);
                self.refuse_message(Refusal::BadRequest, id, false, 400, error, out)
            }
            Err(error) => self.refuse_message(Refusal::BadRequest, id, false, 400, error, out),
        }
    }

    /// Checks everything that does not depend on the method.
    fn admit(
        &mut self,
        lane: Lane<'_>,
        envelope: &Envelope,
        text: &[u8],
        claim: &[u8],
        name: &[u8],
    ) -> Result<Facts, RpcError> {
        let capabilities = match envelope.text(Key::MetaClientCapabilities, text) {
            None => {
                self.refused(Refusal::BadRequest);
                return Err(missing_meta(envelope));
            }
            Some(declared) => {
                let Some(capabilities) = Capabilities::parse(declared) else {
                    self.refused(Refusal::BadRequest);
                    let text = "params._meta[\"io.modelcontextprotocol/clientCapabilities\"] has to be an object";
                    return Err(RpcError::new(Code::INVALID_PARAMS, text));
                };
                // There is no message any more to tell it by.
                capabilities.without(Capabilities::ROOTS_LIST_CHANGED)
            }
        };
        let log_level = envelope.str(Key::MetaLogLevel, text).and_then(|level| LogLevel::parse(level.as_bytes()));
        if log_level.is_none() && envelope.has(Key::MetaLogLevel) {
            self.refused(Refusal::BadRequest);
            return Err(bad_level());
        }
        self.version_agrees(lane, claim)?;
        if Version::parse(claim) != Some(Version::V2026_07_28) {
            self.refused(Refusal::UnsupportedVersion);
            return Err(unsupported(&String::from_utf8_lossy(claim)));
        }
        if let Some(head) = lane.head {
            self.headers_agree(lane.view, head, envelope, text, name)
                .inspect_err(|_| self.refused(Refusal::BadHeaderMirror))?;
        }
        let is_level_chosen = log_level.is_some();
        Ok(Facts { version: Version::V2026_07_28, capabilities, log_level, is_level_chosen, may_ask: false })
    }

    /// The version header has to say what the body says (2026-07-28, "Protocol Version Header").
    fn version_agrees(&mut self, lane: Lane<'_>, claim: &[u8]) -> Result<(), RpcError> {
        let Some(head) = lane.head else { return Ok(()) };
        let text = match (head.duplicate, head.protocol_version) {
            (Some(name), _) => format!("the header {name} stands twice"),
            (None, None) => "the MCP-Protocol-Version header is missing".to_owned(),
            (None, Some(header)) if header != claim => {
                let claim = String::from_utf8_lossy(claim);
                format!("the MCP-Protocol-Version header and params._meta disagree; the body says {claim}")
            }
            _ => return Ok(()),
        };
        self.refused(Refusal::BadHeaderMirror);
        Err(RpcError::new(Code::HEADER_MISMATCH, text))
    }

    /// `Mcp-Method`, `Mcp-Name` and `Mcp-Param-*` have to say what the body says (SEP-2243).
    fn headers_agree(
        &self,
        view: View,
        head: &Head<'_>,
        envelope: &Envelope,
        text: &[u8],
        name: &[u8],
    ) -> Result<(), RpcError> {
        let mismatch = |text: String| Err(RpcError::new(Code::HEADER_MISMATCH, text));
        match head.mcp_method {
            None => return mismatch("the Mcp-Method header is missing".to_owned()),
            Some(header) if header != name => {
                return mismatch("the Mcp-Method header is not the body's method".to_owned());
            }
            Some(_) => {}
        }
        let (key, member) = match name {
            b"tools/call" | b"prompts/get" => (Key::Name, "params.name"),
            b"resources/read" => (Key::Uri, "params.uri"),
            b"tasks/get" | b"tasks/update" | b"tasks/cancel" => (Key::TaskId, "params.taskId"),
            _ => return Ok(()),
        };
        let Some(header) = head.mcp_name else {
            return mismatch(format!("the Mcp-Name header is missing; it repeats {member}"));
        };
        let body = envelope.str(key, text);
        match &body {
            // A plain name that is the same to the byte needs no decoding, unless it looks like an encoded one.
            Some(body) if body.as_bytes() == header && !header.starts_with(b"=?") => {}
            Some(body) if agrees(header, BodyValue::Text(body)).is_ok() => {}
            None => return mismatch(format!("{member} has to be a string, which the Mcp-Name header repeats")),
            Some(_) => return mismatch(format!("the Mcp-Name header does not agree with {member}")),
        }
        if name == b"tools/call"
            && let Some(tool) = &body
        {
            self.params_agree(view, head, tool, envelope.text(Key::Arguments, text))?;
        }
        Ok(())
    }

    /// Arguments annotated with `x-mcp-header` have to stand in their header, and only they.
    fn params_agree(&self, view: View, head: &Head<'_>, tool: &str, arguments: Option<&[u8]>) -> Result<(), RpcError> {
        for param in self.service.header_params(view, tool) {
            let mut value = arguments.map(Value::new);
            for property in &param.path {
                value = value.and_then(|value| value.get(property));
            }
            let value = value.filter(|value| !value.is_null());
            let header = head
                .mcp_params()
                .find(|(suffix, _)| suffix.eq_ignore_ascii_case(&param.header_suffix))
                .map(|(_, header)| header);
            let problem = match (value, header) {
                (None, None) => continue,
                (Some(value), Some(header)) if is_mirrored(header, value) => continue,
                (Some(_), None) => "is missing: it repeats the argument",
                (None, Some(_)) => "is there, and the argument that it repeats is not",
                (Some(_), Some(_)) => "does not agree with the argument that it repeats",
            };
            let text = format!("the Mcp-Param-{} header {problem}", param.header_suffix);
            return Err(RpcError::new(Code::HEADER_MISMATCH, text));
        }
        Ok(())
    }

    /// The other core where the task of a request lives, or the call goes on that it comes back to.
    fn owner_elsewhere(&self, envelope: &Envelope, text: &[u8]) -> Option<CoreId> {
        if envelope.has(Key::RequestState) {
            let state = envelope.str(Key::RequestState, text)?;
            return self.service.elsewhere(&state);
        }
        let id = envelope.str(Key::TaskId, text)?;
        let plain = self.sealer.open(Purpose::Task, id.as_bytes())?;
        let core = CoreId(u16::from_le_bytes(*plain.first_chunk()?));
        (core != self.id && core.0 < self.cores).then_some(core)
    }

    /// The result of `server/discover`.
    fn discover(&self, view: View) -> Result<Vec<u8>, RpcError> {
        let about = self.service.about(view)?;
        let mut out = Vec::new();
        let mut result = Object::begin(&mut out);
        result.string("resultType", "complete");
        result.raw("supportedVersions", SUPPORTED);
        result.raw("capabilities", &about.offers.capabilities(Version::V2026_07_28));
        if let Some(instructions) = &about.instructions {
            result.raw("instructions", instructions);
        }
        result.integer("ttlMs", self.settings.discover_ttl_ms);
        result.string("cacheScope", "public");
        let mut meta = result.object("_meta");
        meta.raw("io.modelcontextprotocol/serverInfo", &about.server_info);
        meta.end();
        result.end();
        Ok(out)
    }
}

/// The older revision that a request without a claim is of: the one that `initialize` asks for, or a header names.
fn older<'a>(lane: Lane<'a>, opens: bool, envelope: &Envelope, text: &'a [u8]) -> Option<Cow<'a, str>> {
    if opens {
        return Some(envelope.str(Key::ProtocolVersion, text).unwrap_or_default());
    }
    let named = Version::parse(lane.head?.protocol_version?)?;
    (!named.is_modern()).then(|| named.as_str().into())
}

/// What is said of a revision that is not served.
fn unsupported(requested: &str) -> RpcError {
    let mut data = Vec::new();
    let mut object = Object::begin(&mut data);
    object.raw("supported", SUPPORTED);
    object.string("requested", requested);
    object.end();
    RpcError::new(Code::UNSUPPORTED_VERSION, "this protocol version is not served").with_data(data)
}

/// Whether a header says the same as an argument.
fn is_mirrored(header: &[u8], value: Value<'_>) -> bool {
    let text = value.as_str();
    let body = match value.kind() {
        ValueKind::String => text.as_deref().map(BodyValue::Text),
        ValueKind::Bool => value.as_bool().map(BodyValue::Bool),
        ValueKind::Number => Some(BodyValue::Number(value.raw())),
        _ => None,
    };
    body.is_some_and(|body| agrees(header, body).is_ok())
}

fn bad_level() -> RpcError {
    let text = "params._meta[\"io.modelcontextprotocol/logLevel\"] has to be one of debug to emergency";
    RpcError::new(Code::INVALID_PARAMS, text)
}

impl Offers {
    /// The `capabilities` object of `initialize` and `server/discover`.
    pub fn capabilities(&self, version: Version) -> Vec<u8> {
        let mut out = Vec::new();
        let mut all = Object::begin(&mut out);
        let listed = |all: &mut Object<'_>, name: &str, offered: bool, changes: bool| {
            if offered {
                let mut one = all.object(name);
                if changes {
                    one.boolean("listChanged", true);
                }
                one.end();
            }
        };
        listed(&mut all, "tools", self.tools, self.tools_list_changed);
        listed(&mut all, "prompts", self.prompts, self.prompts_list_changed);
        if self.resources {
            let mut resources = all.object("resources");
            if self.resources_subscribe {
                resources.boolean("subscribe", true);
            }
            if self.resources_list_changed {
                resources.boolean("listChanged", true);
            }
            resources.end();
        }
        if self.completions && version >= Version::V2025_03_26 {
            all.raw("completions", b"{}");
        }
        if self.logging {
            all.raw("logging", b"{}");
        }
        if self.tasks && version == Version::V2025_11_25 {
            all.raw("tasks", br#"{"list":{},"cancel":{},"requests":{"tools":{"call":{}}}}"#);
        }
        if self.tasks_extension && version.is_modern() {
            all.raw("extensions", br#"{"io.modelcontextprotocol/tasks":{}}"#);
        }
        all.end();
        out
    }
}

impl Method {
    /// Whether a server with these offers serves the method at all to a client of this revision.
    pub(super) fn is_offered(self, offers: &Offers, version: Version) -> bool {
        let tasks = if version.is_modern() { offers.tasks_extension } else { offers.tasks };
        match self {
            Method::Initialize | Method::Ping | Method::ServerDiscover => true,
            Method::ToolsCall | Method::ToolsList => offers.tools,
            Method::PromptsGet | Method::PromptsList => offers.prompts,
            Method::ResourcesList | Method::ResourcesRead | Method::ResourcesTemplatesList => offers.resources,
            Method::ResourcesSubscribe | Method::ResourcesUnsubscribe => offers.resources_subscribe,
            Method::CompletionComplete => offers.completions,
            Method::LoggingSetLevel => offers.logging,
            Method::TasksCancel | Method::TasksGet | Method::TasksList | Method::TasksResult | Method::TasksUpdate => {
                tasks
            }
            Method::SubscriptionsListen => {
                offers.tools_list_changed
                    || offers.prompts_list_changed
                    || offers.resources_list_changed
                    || offers.resources_subscribe
                    || tasks
            }
        }
    }
}
