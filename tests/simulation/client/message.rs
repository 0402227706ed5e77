//! Messages: what clients say, and what a message of the server's is.
//!
//! Not here: how they travel (`hearing`, `net`).
//! Invariant: each request has an id of its own in its client, and a tag of its own in the world, which only its answer
//! may hold.

use std::fmt::Write;

use super::What;

/// What the server says.
#[derive(Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// The result of a request.
    Result { id: u64, text: &'a [u8] },
    /// The error of a request, or of none in particular.
    Error { id: Option<u64>, code: i32 },
    /// How far a request has come.
    Progress { id: u64, progress: u64 },
    /// A question to the client, on behalf of a request of its.
    Asked { id: &'a str, tag: Option<u64> },
    /// A question is taken back.
    TakenBack { id: &'a str },
    /// A resource changed.
    Updated { uri: &'a str },
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
    let digits = std::str::from_utf8(&bytes[..end]).ok()?;
    Some((digits.parse().ok()?, &bytes[end..]))
}

/// A string up to its quote, and what is behind that.
fn quoted(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = memchr::memchr(b'"', bytes)?;
    Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))
}

fn code(bytes: &[u8]) -> Option<i32> {
    let (is_negative, digits) = bytes.strip_prefix(b"-").map_or((false, bytes), |digits| (true, digits));
    let (code, _) = number(digits)?;
    let code = i32::try_from(code).ok()?;
    Some(if is_negative { -code } else { code })
}

/// Reads a message; none if it is nothing that a server may say.
pub fn read(text: &[u8]) -> Option<Said<'_>> {
    let rest = text.strip_prefix(br#"{"jsonrpc":"2.0","#)?;
    if !text.ends_with(b"}") {
        return None;
    }
    if let Some(rest) = rest.strip_prefix(br#""method":""#) {
        if let Some(rest) = rest.strip_prefix(br#"notifications/progress","params":{"progressToken":"#) {
            let (id, rest) = number(rest)?;
            let (progress, _) = number(rest.strip_prefix(br#","progress":"#)?)?;
            return Some(Said::Progress { id, progress });
        }
        if let Some(rest) = rest.strip_prefix(br#"notifications/cancelled","params":{"requestId":""#) {
            return Some(Said::TakenBack { id: quoted(rest)?.0 });
        }
        let rest = rest.strip_prefix(br#"notifications/resources/updated","params":{"uri":""#)?;
        return Some(Said::Updated { uri: quoted(rest)?.0 });
    }
    if let Some(rest) = rest.strip_prefix(br#""id":""#) {
        let (id, rest) = quoted(rest)?;
        let rest = rest.strip_prefix(br#","method":"elicitation/create","#)?;
        return Some(Said::Asked { id, tag: tag_in(rest) });
    }
    let (id, rest) = match rest.strip_prefix(br#""id":"#) {
        Some(rest) => match rest.strip_prefix(b"null") {
            Some(rest) => (None, rest.strip_prefix(b",")?),
            None => {
                let (id, rest) = number(rest)?;
                (Some(id), rest.strip_prefix(b",")?)
            }
        },
        None => (None, rest),
    };
    if let Some(rest) = rest.strip_prefix(br#""error":{"code":"#) {
        return Some(Said::Error { id, code: code(rest)? });
    }
    Some(Said::Result { id: id?, text: rest.strip_prefix(br#""result":"#)? })
}

/// The elements of an array, if this is one.
pub fn elements(text: &[u8]) -> Option<Vec<&[u8]>> {
    let inner = text.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let (mut elements, mut start, mut depth, mut is_string, mut is_escaped) = (Vec::new(), 0, 0, false, false);
    for (at, byte) in inner.iter().enumerate() {
        match byte {
            _ if std::mem::take(&mut is_escaped) => {}
            b'\\' => is_escaped = true,
            b'"' => is_string = !is_string,
            _ if is_string => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            b',' if depth == 0 => {
                elements.push(&inner[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    elements.push(&inner[start..]);
    Some(elements)
}

/// The tag in a result, if there is one.
pub fn tag_in(text: &[u8]) -> Option<u64> {
    let start = memchr::memchr(b'~', text)?;
    let (tag, rest) = number(&text[start + 1..])?;
    rest.starts_with(b"~").then_some(tag)
}

const META: &str = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;

/// Appends a request. `micros`, `steps` and `padding` are what a tool is to do.
pub fn write(out: &mut String, request: &Request) {
    let Request { id, tag, what, is_modern, micros, steps, padding, .. } = *request;
    let method = match what {
        What::Initialize => "initialize",
        What::Ping => "ping",
        What::Subscribe => "resources/subscribe",
        What::Unknown => "no/such/method",
        _ => "tools/call",
    };
    let _ = write!(out, r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{"#);
    match what {
        What::Initialize => {
            let version = request.version;
            let _ = write!(
                out,
                r#""protocolVersion":"{version}","capabilities":{{"elicitation":{{}}}},"clientInfo":{{"name":"s","version":"1"}}"#
            );
        }
        What::Subscribe => {
            let _ = write!(out, r#""uri":"sim://clients/{}""#, request.client);
        }
        What::Ping | What::Unknown => {}
        _ => {
            let tool = what.tool();
            let _ = write!(out, r#""name":"{tool}","arguments":{{"data":"~{tag}~"#);
            out.extend(std::iter::repeat_n('x', padding));
            let _ = write!(out, r#"","micros":{micros},"steps":{steps}"#);
            if what == What::Touch {
                let _ = write!(out, r#","uri":"sim://clients/{}""#, request.client);
            }
            out.push('}');
        }
    }
    let separate = if out.ends_with('{') { "" } else { "," };
    if is_modern {
        let _ = write!(out, "{separate}{META}");
        if what == What::Nap {
            let _ = write!(out, r#","progressToken":{id}"#);
        }
        out.push('}');
    } else if what == What::Nap {
        let _ = write!(out, r#"{separate}"_meta":{{"progressToken":{id}}}"#);
    }
    out.push_str("}}");
}

/// A request that is to be written.
#[derive(Clone, Copy)]
pub struct Request {
    pub client: u32,
    pub id: u64,
    pub tag: u64,
    pub what: What,
    pub is_modern: bool,
    pub version: &'static str,
    pub micros: u64,
    pub steps: u64,
    pub padding: usize,
}

/// A request's cancellation.
pub fn cancelled(id: u64, is_modern: bool) -> String {
    let meta = if is_modern { format!(",{META}}}") } else { String::new() };
    format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}{meta}}}}}"#)
}

/// A client's answer to a question.
pub fn answer(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","result":{{"action":"accept","content":{{"name":"somebody"}}}}}}"#)
}

/// A POST.
pub fn post(out: &mut String, request: Option<&Request>, session: Option<&str>, version: &str, body: &str) {
    out.push_str("POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n");
    match request {
        Some(request) if request.is_modern => {
            let (method, name) = match request.what {
                What::Unknown => ("no/such/method", None),
                _ => ("tools/call", Some(request.what.tool())),
            };
            let _ = write!(out, "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: {method}\r\n");
            if let Some(name) = name {
                let _ = write!(out, "Mcp-Name: {name}\r\n");
            }
        }
        _ => {
            if let Some(session) = session {
                let _ = write!(out, "MCP-Protocol-Version: {version}\r\nMcp-Session-Id: {session}\r\n");
            }
        }
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
}

/// A GET of a session's stream, or its DELETE.
pub fn bodiless(method: &str, session: &str, version: &str, last: Option<&str>) -> String {
    let last = last.map_or(String::new(), |last| format!("Last-Event-ID: {last}\r\n"));
    format!(
        "{method} /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\
         MCP-Protocol-Version: {version}\r\nMcp-Session-Id: {session}\r\n{last}\r\n"
    )
}
