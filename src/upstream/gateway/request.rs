//! A caller's request as the server behind it should read it: another id, its own names, the `_meta` of its era.
//!
//! Not here: which server (`mod`), the bytes of HTTP.
//! Invariant: what is not named here is passed on byte for byte.

use super::items;
use super::server::CLIENT_INFO;
use crate::proto::json::{Envelope, Key, Object, Span, Value, is_empty};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::server::service::{Call, Nanos};

/// How a server is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Era {
    /// With `initialize` and a session, in this revision.
    Legacy(Version),
    /// 2026-07-28.
    Modern,
}

impl Era {
    /// Whether it is 2026-07-28.
    pub fn is_modern(self) -> bool {
        self == Era::Modern
    }
}

/// A call on its way to a server.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// The caller's message.
    pub text: &'a [u8],
    /// Where its members are.
    pub envelope: &'a Envelope,
    /// Field lines that came with it, among which `Mcp-Param-*` may be.
    pub param_lines: &'a [u8],
    /// The caller's revision.
    pub version: Version,
    /// The caller's legacy session, by its number on the caller's core.
    pub session: Option<u64>,
    /// What the caller can do.
    pub capabilities: Capabilities,
    /// What the caller wants logged.
    pub log_level: Option<LogLevel>,
    /// When it is over whatever comes of it; `Nanos::MAX` if its caller did not say.
    pub latest: Nanos,
    /// What is asked.
    pub method: Method,
    /// The server's own name of the tool or prompt, URI of the resource, or id of the task, if the caller knows it by
    /// another.
    pub name: Option<&'a str>,
    /// Answers and state of an earlier round, as members of `params` with a comma behind each.
    pub round: &'a [u8],
}

impl<'a> Outgoing<'a> {
    /// A call that was just taken; `name` if the server has another for it.
    pub fn of(call: &Call<'a>, name: Option<&'a str>) -> Outgoing<'a> {
        Outgoing {
            text: call.text,
            envelope: call.envelope,
            param_lines: call.param_lines,
            version: call.version,
            session: call.session,
            capabilities: call.capabilities,
            log_level: call.log_level,
            latest: call.latest(),
            method: call.method,
            name,
            round: b"",
        }
    }
}

/// Members of `_meta` that only 2026-07-28 has.
const MODERN_META: [&str; 4] = [
    "io.modelcontextprotocol/protocolVersion",
    "io.modelcontextprotocol/clientCapabilities",
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/logLevel",
];

/// What a caller of an older revision cannot have: tasks that the server makes of its own accord, whatever it says
/// (2025-11-25 has others), and a way to say that its roots are others.
const NOT_BETWEEN_ERAS: Capabilities = Capabilities::TASKS_EXTENSION.with(Capabilities::ROOTS_LIST_CHANGED);

/// Appends the request; `id` is its id and, if the caller wants to hear of progress, its progress token.
pub fn write(out: &mut Vec<u8>, call: &Outgoing<'_>, era: Era, id: u64) {
    let mut number = itoa::Buffer::new();
    let number = number.format(id).as_bytes();
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(number);
    out.extend_from_slice(br#","method":""#);
    out.extend_from_slice(call.method.as_str().as_bytes());
    out.push(b'"');
    let params = call.envelope.get(Key::Params);
    if params.is_absent() && !era.is_modern() {
        out.push(b'}');
        return;
    }
    out.extend_from_slice(br#","params":"#);
    let meta = call.envelope.get(Key::Meta);
    // The usual case: the eras are the same, and only a token of progress is another.
    let same_era = call.version.is_modern() == era.is_modern();
    let mut fresh = Vec::new();
    if !same_era {
        fresh = rebuilt_meta(call, era, number);
    }
    let mut name = Vec::new();
    if let Some(own) = call.name {
        crate::proto::json::string(&mut name, own);
    }
    let mut edits: [(Span, &[u8]); 2] = [(Span::default(), b""); 2];
    if call.name.is_some() {
        edits[0] = (call.envelope.get(name_key(call.method)), &name);
    }
    if !fresh.is_empty() && !meta.is_absent() {
        edits[1] = (meta, &fresh);
    } else if fresh.is_empty() {
        edits[1] = (call.envelope.get(Key::MetaProgressToken), number);
    }
    edits.sort_by_key(|(span, _)| span.start);
    if params.is_absent() {
        out.extend_from_slice(br#"{"_meta":"#);
        out.extend_from_slice(&fresh);
        out.extend_from_slice(b"}}");
        return;
    }
    out.push(b'{');
    let comma = !is_empty(call.text, params);
    out.extend_from_slice(if comma { call.round } else { call.round.strip_suffix(b",").unwrap_or(call.round) });
    if !fresh.is_empty() && meta.is_absent() {
        if !comma && !call.round.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(br#""_meta":"#);
        out.extend_from_slice(&fresh);
        if comma {
            out.push(b',');
        }
    }
    let mut at = params.start as usize + 1;
    for (span, with) in edits.into_iter().filter(|(span, _)| !span.is_absent()) {
        out.extend_from_slice(&call.text[at..span.start as usize]);
        out.extend_from_slice(with);
        at = span.end as usize;
    }
    out.extend_from_slice(&call.text[at..params.end as usize]);
    out.push(b'}');
}

/// A caller's message without a wish for a task (`task`, 2025-11-25), which means nothing in 2026-07-28 and would mean
/// something to a legacy server; none if there is no such wish.
pub fn without_task(call: &Outgoing<'_>) -> Option<Vec<u8>> {
    let params = call.envelope.get(Key::Params);
    let rest = call.envelope.has(Key::Task).then(|| items::without(Value::new(params.of(call.text)), "task"))?;
    Some([&call.text[..params.start as usize], &rest, &call.text[params.end as usize..]].concat())
}

/// The member that says which one is meant.
pub fn name_key(method: Method) -> Key {
    match method {
        Method::ResourcesRead => Key::Uri,
        Method::TasksCancel | Method::TasksGet | Method::TasksResult | Method::TasksUpdate => Key::TaskId,
        _ => Key::Name,
    }
}

/// The `_meta` of a call that goes from one era to the other.
fn rebuilt_meta(call: &Outgoing<'_>, era: Era, number: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    let members = call.envelope.value(Key::Meta, call.text).into_iter().flat_map(Value::members);
    for (name, value) in members {
        let Some(name) = name.unescaped() else { continue };
        if name == "progressToken" {
            object.raw("progressToken", number);
        } else if !MODERN_META.contains(&&*name) {
            object.raw(&name, value.raw());
        }
    }
    if era.is_modern() {
        object.string(MODERN_META[0], Version::V2026_07_28.as_str());
        object.raw(MODERN_META[1], &call.capabilities.without(NOT_BETWEEN_ERAS).to_json());
        object.raw(MODERN_META[2], CLIENT_INFO);
        if let Some(level) = call.log_level {
            object.string(MODERN_META[3], level.as_str());
        }
    }
    object.end();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::Scanner;

    fn written(text: &str, version: Version, era: Era, name: Option<&str>) -> String {
        let mut envelope = Envelope::default();
        Scanner::new().scan(text.as_bytes(), &mut envelope).expect("valid");
        let call = Outgoing {
            text: text.as_bytes(),
            envelope: &envelope,
            param_lines: b"",
            version,
            session: None,
            capabilities: Capabilities::default(),
            log_level: None,
            latest: Nanos::MAX,
            method: Method::parse(envelope.plain(Key::Method, text.as_bytes()).expect("one")).expect("known"),
            name,
            round: b"",
        };
        let mut out = Vec::new();
        write(&mut out, &call, era, 7);
        Scanner::new().scan(&out, &mut Envelope::default()).expect("still valid");
        String::from_utf8(out).expect("text")
    }

    const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"x":1}"#;

    #[test]
    fn within_an_era_only_id_and_names_change() {
        let text = format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{ "name":"w_b" ,"arguments":{{"z":1.0}},{META}}}}}"#
        );
        let expected = text.replace("\"id\":\"a\"", "\"id\":7").replace("w_b", "b");
        assert_eq!(written(&text, Version::V2026_07_28, Era::Modern, Some("b")), expected);
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
        assert_eq!(
            written(text, Version::V2025_11_25, Era::Legacy(Version::V2025_11_25), None),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#
        );
    }

    #[test]
    fn a_token_of_progress_becomes_the_id() {
        let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"_meta":{"progressToken":"p","k":2},"name":"b"}}"#;
        assert_eq!(
            written(text, Version::V2025_11_25, Era::Legacy(Version::V2025_06_18), None),
            text.replace("\"id\":1", "\"id\":7").replace("\"p\"", "7")
        );
    }

    #[test]
    fn between_eras_meta_is_rebuilt() {
        let text = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"b",{META}}}}}"#);
        assert_eq!(
            written(&text, Version::V2026_07_28, Era::Legacy(Version::V2025_11_25), None),
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"b","_meta":{"x":1}}}"#
        );
        for (text, rest) in [
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, "}}"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}"#, "}}"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"c"}}"#, r#"},"cursor":"c"}}"#),
        ] {
            let out = written(text, Version::V2025_11_25, Era::Modern, None);
            assert!(
                out.contains(r#""params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28""#),
                "{out}"
            );
            assert!(out.ends_with(rest), "{out}");
        }
    }
}
