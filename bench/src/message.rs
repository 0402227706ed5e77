//! What the load says: message M and the few other requests, as bytes of each wire.
//!
//! It reads nothing; `answer` does. Message M is a `tools/call` with sorted keys and a 175-byte encoding whatever the
//! width of its id (the padding shrinks as the id grows), so all requests of a run have the same length; the modern
//! wire adds the `_meta` that the protocol requires, which is not counted in the 175.
//!
//! Invariant: two requests of one connection never have the same id, so a server that drops repeated ids drops none of
//! ours.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// How messages travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wire {
    /// One JSON message per line over TCP.
    Ndjson,
    /// Streamable HTTP, 2026-07-28: no handshake, no session.
    HttpModern,
    /// Streamable HTTP, 2025-11-25: a handshake per connection, and its session if the server gives one.
    HttpLegacy,
}

impl Wire {
    /// The name used on the command line and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::HttpModern => "http-modern",
            Self::HttpLegacy => "http-legacy",
        }
    }

    /// Whether messages are lines of JSON.
    pub fn is_lines(self) -> bool {
        self == Self::Ndjson
    }
}

/// A request other than message M.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ask {
    pub method: String,
    /// Its parameters; a `tools/call` without any is message M.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub params: Option<serde_json::Map<String, serde_json::Value>>,
}

/// The tool that is called.
#[derive(Clone, Debug, clap::Args)]
pub struct Payload {
    /// Encoded length of message M, by exact padding; 175 is the original's, 512, 1024, 4096 and 102400 its size sweep.
    #[arg(long, default_value_t = 175)]
    pub payload: usize,
    /// Tool to call.
    #[arg(long, default_value = "echo")]
    pub tool: String,
    /// Its arguments; `$PAD` is where the padding goes.
    #[arg(long, default_value = r#"{"data":"$PAD"}"#)]
    pub arguments: String,
    /// Path of the HTTP endpoint.
    #[arg(long, default_value = "/mcp")]
    pub path: String,
}

const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";
const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/clientCapabilities":{},"#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"corelane-bench","version":"0.1.0"},"#,
    r#""io.modelcontextprotocol/protocolVersion":"2026-07-28"},"#
);
/// The first id of a connection: six digits, as most ids of the original are.
pub const FIRST_ID: u64 = 100_000;
/// Digits that an id may have.
const WIDTHS: usize = 20;
/// How the header line of a session begins and ends.
pub const SESSION: &[u8] = b"Mcp-Session-Id: ";
pub const LINE_END: &[u8] = b"\r\n";
/// Ids 1 and 2 belong to the handshake.
pub const INITIALIZE_ID: u64 = 1;

/// All that a connection may say.
pub struct Script {
    pub wire: Wire,
    /// Whether a connection opens with `initialize`.
    pub handshake: bool,
    /// The session header of a connection that opens without one; else empty.
    pub session: Vec<u8>,
    host: SocketAddr,
    path: String,
    tool: String,
    /// Of message M, one per width of the id.
    calls: Vec<Call>,
    /// The same of each other request.
    asks: Vec<Vec<Call>>,
}

struct Call {
    head: Vec<u8>,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Script {
    /// The script for `payload` over `wire`; fails if the arguments are not a JSON object or do not fit.
    pub fn new(wire: Wire, handshake: bool, host: SocketAddr, payload: &Payload) -> Result<Self, String> {
        let example: serde_json::Value = serde_json::from_str(&payload.arguments)
            .map_err(|error| format!("--arguments {}: {error}", payload.arguments))?;
        if !example.is_object() {
            return Err(format!("--arguments {}: must be an object", payload.arguments));
        }
        let mut script = Self {
            wire,
            handshake: handshake || wire == Wire::HttpLegacy,
            session: Vec::new(),
            host,
            path: payload.path.clone(),
            tool: payload.tool.clone(),
            calls: Vec::new(),
            asks: Vec::new(),
        };
        script.calls = (1..=WIDTHS).map(|width| script.cut(payload, width)).collect::<Result<_, _>>()?;
        Ok(script)
    }

    /// The same without a handshake, each call under a session header of `bytes` bytes, its line end included: what a
    /// session looks like to a server that keeps none. Fails if `bytes` are too few for the header's name.
    pub fn in_session(mut self, bytes: usize) -> Result<Self, String> {
        let bare = SESSION.len() + LINE_END.len();
        if bytes <= bare {
            return Err(format!("--session-bytes {bytes}: more than {bare} are needed"));
        }
        self.handshake = false;
        self.session = [SESSION, &b"X".repeat(bytes - bare), LINE_END].concat();
        Ok(self)
    }

    /// The same, which can also say each of `asks`, by its place (`ask`).
    pub fn asking<'a>(mut self, asks: impl IntoIterator<Item = &'a Ask>) -> Self {
        let cut = |ask: &Ask| (1..=WIDTHS).map(|width| self.cut_ask(ask, width)).collect();
        self.asks = asks.into_iter().map(cut).collect();
        self
    }

    fn cut_ask(&self, ask: &Ask, id_width: usize) -> Call {
        let Some(params) = &ask.params else {
            if ask.method == "tools/call" {
                let call = &self.calls[id_width - 1];
                return Call { head: call.head.clone(), before: call.before.clone(), after: call.after.clone() };
            }
            return self.cut_params(&ask.method, None, "", id_width);
        };
        let name = params.get("name").or(params.get("uri")).and_then(|name| name.as_str());
        let text = serde_json::to_string(params).expect("a map of JSON values");
        self.cut_params(&ask.method, name, &text[1..text.len() - 1], id_width)
    }

    fn cut_params(&self, method: &str, name: Option<&str>, params: &str, id_width: usize) -> Call {
        let meta = if self.wire == Wire::HttpModern { META } else { "" };
        let meta = if params.is_empty() { meta.trim_end_matches(',') } else { meta };
        let before = br#"{"id":"#.to_vec();
        let after = format!(r#","jsonrpc":"2.0","method":"{method}","params":{{{meta}{params}}}}}"#);
        let head = self.head(method, name, before.len() + id_width + after.len());
        Call { head, before, after: self.framed(after.into_bytes()) }
    }

    fn cut(&self, payload: &Payload, id_width: usize) -> Result<Call, String> {
        let bare = self.after_id("", &payload.arguments.replace("$PAD", ""));
        let bytes = r#"{"id":"#.len() + id_width + bare.len();
        let padded = payload.arguments.contains("$PAD");
        if padded && bytes > payload.payload {
            return Err(format!("--payload {}: the message is {bytes} bytes without any padding", payload.payload));
        }
        let pad = "X".repeat(payload.payload.saturating_sub(bytes));
        let arguments = payload.arguments.replacen("$PAD", &pad, 1).replace("$PAD", "");
        let before = br#"{"id":"#.to_vec();
        let after = self.after_id(if self.wire == Wire::HttpModern { META } else { "" }, &arguments);
        let head = self.head("tools/call", Some(&self.tool), before.len() + id_width + after.len());
        Ok(Call { head, before, after: self.framed(after.into_bytes()) })
    }

    fn after_id(&self, meta: &str, arguments: &str) -> String {
        let name = serde_json::Value::from(self.tool.as_str());
        let params = format!(r#"{{{meta}"arguments":{arguments},"name":{name}}}"#);
        format!(r#","jsonrpc":"2.0","method":"tools/call","params":{params}}}"#)
    }

    /// The HTTP head up to, but without, the session header and the empty line; nothing on a wire without heads.
    fn head(&self, method: &str, name: Option<&str>, body: usize) -> Vec<u8> {
        let (host, path) = (self.host, &self.path);
        let common = format!(
            "POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n\
             Accept: application/json, text/event-stream\r\nContent-Length: {body}\r\n"
        );
        let more = match self.wire {
            Wire::Ndjson => return Vec::new(),
            Wire::HttpModern => {
                let name = name.map_or(String::new(), |name| format!("Mcp-Name: {name}\r\n"));
                format!("MCP-Protocol-Version: {MODERN}\r\nMcp-Method: {method}\r\n{name}")
            }
            Wire::HttpLegacy if method == "initialize" => String::new(),
            Wire::HttpLegacy => format!("MCP-Protocol-Version: {LEGACY}\r\n"),
        };
        (common + &more).into_bytes()
    }

    fn framed(&self, mut body: Vec<u8>) -> Vec<u8> {
        if self.wire == Wire::Ndjson {
            body.push(b'\n');
        }
        body
    }

    fn say(&self, method: &str, body: String, session: &[u8], out: &mut Vec<u8>) {
        let head = self.head(method, None, body.len());
        self.assemble(&head, session, out);
        out.extend(self.framed(body.into_bytes()));
    }

    fn assemble(&self, head: &[u8], session: &[u8], out: &mut Vec<u8>) {
        if self.wire != Wire::Ndjson {
            out.extend_from_slice(head);
            out.extend_from_slice(session);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Message M.
    pub fn call(&self, id: u64, session: &[u8], out: &mut Vec<u8>) {
        self.numbered(&self.calls, id, session, out);
    }

    /// The request at `place` of those that it was told.
    pub fn ask(&self, place: usize, id: u64, session: &[u8], out: &mut Vec<u8>) {
        self.numbered(&self.asks[place], id, session, out);
    }

    fn numbered(&self, calls: &[Call], id: u64, session: &[u8], out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(id).as_bytes();
        let call = &calls[digits.len() - 1];
        self.assemble(&call.head, session, out);
        out.extend_from_slice(&call.before);
        out.extend_from_slice(digits);
        out.extend_from_slice(&call.after);
    }

    /// `tools/list`.
    pub fn list(&self, id: u64, session: &[u8], out: &mut Vec<u8>) {
        let meta = if self.wire == Wire::HttpModern { META.trim_end_matches(',') } else { "" };
        let body = format!(r#"{{"id":{id},"jsonrpc":"2.0","method":"tools/list","params":{{{meta}}}}}"#);
        self.say("tools/list", body, session, out);
    }

    /// A call of another tool, without arguments.
    pub fn call_named(&self, tool: &str, id: u64, session: &[u8], out: &mut Vec<u8>) {
        let name = serde_json::Value::from(tool);
        let body = format!(
            r#"{{"id":{id},"jsonrpc":"2.0","method":"tools/call","params":{{"arguments":{{}},"name":{name}}}}}"#
        );
        self.say("tools/call", body, session, out);
    }

    /// `initialize`.
    pub fn initialize(&self, out: &mut Vec<u8>) {
        let params = format!(
            r#"{{"capabilities":{{}},"clientInfo":{{"name":"corelane-bench","version":"0.1.0"}},"protocolVersion":"{LEGACY}"}}"#
        );
        let body = format!(r#"{{"id":{INITIALIZE_ID},"jsonrpc":"2.0","method":"initialize","params":{params}}}"#);
        self.say("initialize", body, b"", out);
    }

    /// `notifications/initialized`.
    pub fn initialized(&self, session: &[u8], out: &mut Vec<u8>) {
        let body = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_string();
        self.say("notifications/initialized", body, session, out);
    }

    /// `ping`.
    pub fn ping(&self, id: u64, session: &[u8], out: &mut Vec<u8>) {
        self.say("ping", format!(r#"{{"id":{id},"jsonrpc":"2.0","method":"ping"}}"#), session, out);
    }

    /// The GET that opens a session's event stream.
    pub fn listen(&self, session: &[u8], out: &mut Vec<u8>) {
        let (host, path) = (self.host, &self.path);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\nMCP-Protocol-Version: {LEGACY}\r\n"
        );
        self.assemble(head.as_bytes(), session, out);
    }

    /// The GET that asks for the server's health at its control address.
    pub fn health(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }

    /// Bytes of one call on the wire, without the header of a session that the server gives.
    pub fn call_bytes(&self) -> usize {
        let mut out = Vec::new();
        self.call(FIRST_ID, &self.session, &mut out);
        out.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(bytes: usize) -> Payload {
        Payload { payload: bytes, tool: "echo".into(), arguments: r#"{"data":"$PAD"}"#.into(), path: "/mcp".into() }
    }

    #[test]
    fn message_m_has_its_length_whatever_the_id() {
        let script = Script::new(Wire::Ndjson, false, ([127, 0, 0, 1], 1).into(), &payload(175)).expect("fits");
        for id in [1, 999_999, 1_000_000, u64::MAX] {
            let mut line = Vec::new();
            script.call(id, b"", &mut line);
            assert_eq!(line.len(), 176, "175 bytes and the newline");
            let value: serde_json::Value = serde_json::from_slice(&line).expect("valid JSON");
            assert_eq!(value["id"], id);
        }
    }

    #[test]
    fn other_requests_are_named_in_head_and_body() {
        let read = |uri: &str| Ask {
            method: "resources/read".into(),
            params: serde_json::json!({"uri": uri}).as_object().cloned(),
        };
        let asks = [
            Ask { method: "tools/list".into(), params: None },
            read("test://x"),
            Ask { method: "tools/call".into(), params: None },
        ];
        let host = ([127, 0, 0, 1], 1).into();
        let script = Script::new(Wire::HttpModern, false, host, &payload(175)).expect("fits").asking(&asks);
        let (mut said, mut m) = (vec![Vec::new(); 3], Vec::new());
        (0..3).for_each(|place| script.ask(place, 55, b"", &mut said[place]));
        script.call(55, b"", &mut m);
        assert_eq!(said[2], m, "a tools/call without parameters is message M");
        for (place, name) in [(0, None), (1, Some("test://x"))] {
            let text = String::from_utf8(said[place].clone()).expect("ASCII");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            let body_of: serde_json::Value = serde_json::from_str(body).expect("valid JSON");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
            assert!(head.contains(&format!("Mcp-Method: {}", asks[place].method)), "{head}");
            assert_eq!(head.contains("Mcp-Name"), name.is_some());
            assert_eq!(body_of["params"]["uri"].as_str(), name);
            assert!(body_of["params"]["_meta"].is_object());
        }
    }

    #[test]
    fn a_payload_that_cannot_fit_is_refused() {
        assert!(Script::new(Wire::Ndjson, false, ([127, 0, 0, 1], 1).into(), &payload(50)).is_err());
    }

    #[test]
    fn a_session_that_nobody_gave_has_the_bytes_that_were_asked_for() {
        let script = || Script::new(Wire::HttpLegacy, false, ([127, 0, 0, 1], 1).into(), &payload(175)).expect("fits");
        let bare = script().call_bytes();
        let told = script().in_session(60).expect("room for a name");
        assert_eq!((told.handshake, told.call_bytes()), (false, bare + 60));
        assert!(script().in_session(18).is_err(), "no room for an id");
    }

    #[test]
    fn content_length_is_the_length_of_the_body() {
        for wire in [Wire::HttpModern, Wire::HttpLegacy] {
            let script = Script::new(wire, false, ([127, 0, 0, 1], 1).into(), &payload(175)).expect("fits");
            let mut bytes = Vec::new();
            let mut list = Vec::new();
            script.call(123_456, b"Mcp-Session-Id: s\r\n", &mut bytes);
            script.list(7, b"Mcp-Session-Id: s\r\n", &mut list);
            for bytes in [bytes, list] {
                let text = String::from_utf8(bytes).expect("ASCII");
                let (head, body) = text.split_once("\r\n\r\n").expect("a head");
                assert!(head.contains(&format!("Content-Length: {}", body.len())), "{head}");
                serde_json::from_str::<serde_json::Value>(body).expect("valid JSON");
            }
        }
    }
}
