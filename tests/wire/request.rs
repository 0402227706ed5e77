//! HTTP requests as the test wants them, right or wrong, and the messages in them.
//!
//! Invariant: nothing is added that the test did not ask for, but Host, Connection's absence and Content-Length.

use serde_json::{Value, json};

pub const MODERN: &str = "2026-07-28";
pub const BOTH: &str = "application/json, text/event-stream";

#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: String,
    version: &'static str,
    fields: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    chunks: Option<usize>,
}

impl Request {
    pub fn new(method: &str, target: &str) -> Request {
        Request {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            fields: vec![("Host".to_owned(), "localhost".to_owned())],
            body: None,
            chunks: None,
        }
    }

    /// POST /mcp with a JSON body.
    pub fn post(message: &Value) -> Request {
        Request::new("POST", "/mcp").with("Content-Type", "application/json").with("Accept", BOTH).json(message)
    }

    /// A modern message with every header that belongs to it.
    pub fn modern(message: &Value) -> Request {
        let mut request = Request::post(message).with("MCP-Protocol-Version", MODERN);
        if let Some(method) = message["method"].as_str() {
            request = request.with("Mcp-Method", method);
            let name = match method {
                "tools/call" | "prompts/get" => message["params"]["name"].as_str(),
                "resources/read" => message["params"]["uri"].as_str(),
                "tasks/get" | "tasks/update" | "tasks/cancel" => message["params"]["taskId"].as_str(),
                _ => None,
            };
            if let Some(name) = name {
                request = request.with("Mcp-Name", name);
            }
        }
        request
    }

    /// A message in a legacy session.
    pub fn legacy(session: &str, message: &Value) -> Request {
        Request::post(message).with("Mcp-Session-Id", session)
    }

    /// GET of a legacy session's stream.
    pub fn stream(session: &str) -> Request {
        Request::new("GET", "/mcp").with("Accept", "text/event-stream").with("Mcp-Session-Id", session)
    }

    /// Another field, or another value of one.
    pub fn with(mut self, name: &str, value: &str) -> Request {
        self = self.without(name);
        self.also(name, value)
    }

    /// Another field, even if there is one of that name.
    pub fn also(mut self, name: &str, value: &str) -> Request {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Request {
        self.fields.retain(|(field, _)| !field.eq_ignore_ascii_case(name));
        self
    }

    pub fn json(self, message: &Value) -> Request {
        self.body(message.to_string())
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = Some(body.into());
        self
    }

    /// Another body, as it stands.
    pub fn saying(mut self, body: String) -> Request {
        self.body = Some(body.into_bytes());
        self
    }

    /// The body in chunks of so many bytes.
    pub fn chunked(mut self, bytes: usize) -> Request {
        self.chunks = Some(bytes);
        self
    }

    pub fn http10(mut self) -> Request {
        self.version = "HTTP/1.0";
        self
    }

    pub fn target(mut self, target: &str) -> Request {
        self.target = target.to_owned();
        self
    }

    /// The head alone.
    pub fn head(&self) -> Vec<u8> {
        let mut out = format!("{} {} {}\r\n", self.method, self.target, self.version);
        for (name, value) in &self.fields {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
        let explicit = self.fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        match (&self.body, self.chunks) {
            (Some(_), Some(_)) => out.push_str("Transfer-Encoding: chunked\r\n"),
            (Some(body), None) if !explicit => out.push_str(&format!("Content-Length: {}\r\n", body.len())),
            _ => {}
        }
        out.push_str("\r\n");
        out.into_bytes()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.head();
        let body = self.body.as_deref().unwrap_or_default();
        match self.chunks {
            Some(bytes) => {
                for chunk in body.chunks(bytes) {
                    out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                    out.extend_from_slice(chunk);
                    out.extend_from_slice(b"\r\n");
                }
                out.extend_from_slice(b"0\r\n\r\n");
            }
            None => out.extend_from_slice(body),
        }
        out
    }
}

/// A modern request.
pub fn modern(id: impl Into<Value>, method: &str, params: Value) -> Value {
    let mut message = json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params});
    message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = MODERN.into();
    message["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
    message
}

/// A legacy request.
pub fn legacy(id: impl Into<Value>, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": method, "params": params})
}

pub fn notice(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// Parameters of the demonstration's tools.
pub fn echo(data: &str) -> Value {
    json!({"name": "echo", "arguments": {"data": data}})
}

pub fn sleep(ms: u64) -> Value {
    json!({"name": "sleep", "arguments": {"ms": ms}})
}

/// The same, with its progress told.
pub fn told_sleep(ms: u64, steps: u32, token: &str) -> Value {
    json!({"name": "sleep", "arguments": {"ms": ms, "steps": steps}, "_meta": {"progressToken": token}})
}

pub fn initialize(id: impl Into<Value>, version: &str) -> Value {
    let capabilities = json!({"elicitation": {}, "sampling": {}, "roots": {}});
    let client = json!({"name": "wire", "version": "1"});
    legacy(id, "initialize", json!({"protocolVersion": version, "capabilities": capabilities, "clientInfo": client}))
}

/// The text of a tool's result.
pub fn text(message: &Value) -> &str {
    let text = message["result"]["content"][0]["text"].as_str();
    text.unwrap_or_else(|| panic!("not a tool's result: {message}"))
}
