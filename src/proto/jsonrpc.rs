//! JSON-RPC 2.0: the codes of errors and the writing of whole messages.
//!
//! Not here: reading (`json::scan` finds the members of a message in one pass).
//! Invariant: an id is written back byte for byte as it came; a message never holds a newline of ours.

use std::borrow::Cow;

use super::json::{compact, has_newline, integer, string};

/// A JSON-RPC error code. The constants are the only ones this program makes up or passes on by name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Code(pub i32);

impl Code {
    /// Not JSON (JSON-RPC 2.0, 5.1).
    pub const PARSE: Code = Code(-32700);
    /// JSON, but not a request.
    pub const INVALID_REQUEST: Code = Code(-32600);
    /// No such method for this revision or this server.
    pub const METHOD_NOT_FOUND: Code = Code(-32601);
    /// The parameters do not fit; in modern revisions also an unknown tool, prompt, resource or cursor.
    pub const INVALID_PARAMS: Code = Code(-32602);
    /// Our fault.
    pub const INTERNAL: Code = Code(-32603);
    /// Legacy: the session is unknown or over (as the TypeScript SDK writes it).
    pub const SESSION_NOT_FOUND: Code = Code(-32001);
    /// Legacy: no such resource. Modern revisions use `INVALID_PARAMS` (SEP-2164).
    pub const RESOURCE_NOT_FOUND: Code = Code(-32002);
    /// Legacy 2025-11-25: the client must visit a URL first.
    pub const URL_ELICITATION_REQUIRED: Code = Code(-32042);
    /// A header is missing, malformed or disagrees with the body (2026-07-28).
    pub const HEADER_MISMATCH: Code = Code(-32020);
    /// The request needs a capability that the client did not declare (2026-07-28).
    pub const MISSING_CAPABILITY: Code = Code(-32021);
    /// The protocol version is not served (2026-07-28).
    pub const UNSUPPORTED_VERSION: Code = Code(-32022);
    /// Who dials in has not shown the key of a server's name. Application range, as all below.
    pub const NOT_ADMITTED: Code = Code(-31403);
    /// A tool is not what was approved, and kept from callers until it is.
    pub const QUARANTINED: Code = Code(-31409);
    /// The caller's own limit. Application range: -32000..-32099 belongs to the specification.
    pub const RATE_LIMITED: Code = Code(-31429);
    /// The server behind a gateway could not be reached, or its answer not be read.
    pub const BAD_GATEWAY: Code = Code(-31502);
    /// We are at a limit of ours.
    pub const OVERLOADED: Code = Code(-31503);
    /// The deadline passed.
    pub const DEADLINE: Code = Code(-31504);

    /// The HTTP status that a *modern* error is sent with, if it is sent before anything else (2026-07-28, Errors).
    /// Legacy errors that reached JSON-RPC go with 200.
    pub const fn http_status(self) -> u16 {
        match self {
            Code::PARSE | Code::INVALID_REQUEST => 400,
            Code::HEADER_MISMATCH | Code::MISSING_CAPABILITY | Code::UNSUPPORTED_VERSION => 400,
            Code::NOT_ADMITTED => 403,
            Code::METHOD_NOT_FOUND => 404,
            Code::QUARANTINED => 409,
            Code::RATE_LIMITED => 429,
            Code::BAD_GATEWAY => 502,
            Code::OVERLOADED => 503,
            Code::DEADLINE => 504,
            _ => 200,
        }
    }
}

/// The error member of a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RpcError {
    /// What kind of error.
    pub code: Code,
    /// One sentence for a person.
    pub message: Cow<'static, str>,
    /// A JSON text for programs, or nothing.
    pub data: Option<Vec<u8>>,
}

impl RpcError {
    /// An error without `data`.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> RpcError {
        RpcError { code, message: message.into(), data: None }
    }

    /// The same error with `data`, a JSON text. Its line breaks are left out: where messages are lines it has to be
    /// one.
    pub fn with_data(mut self, data: impl Into<Vec<u8>>) -> RpcError {
        let data = data.into();
        self.data = Some(match has_newline(&data) {
            true => {
                let mut line = Vec::new();
                compact(&mut line, &data);
                line
            }
            false => data,
        });
        self
    }
}

/// What [`begin_result`] writes besides the id, in bytes.
pub const RESULT_HEAD_BYTES: usize = 32;

/// Opens a response up to its result, which the caller appends before `end`. `id` is the request's, as it came.
pub fn begin_result(out: &mut Vec<u8>, id: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    out.extend_from_slice(id);
    out.extend_from_slice(br#","result":"#);
}

/// What closes what `begin_result` opened.
pub const END: &[u8] = b"}";

/// Closes what `begin_result` opened.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(END);
}

/// Appends an error response. Without an id the member is left out (modern) or null (`null_id`, legacy).
pub fn error(out: &mut Vec<u8>, id: Option<&[u8]>, null_id: bool, error: &RpcError) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","#);
    match id {
        Some(id) => {
            out.extend_from_slice(br#""id":"#);
            out.extend_from_slice(id);
            out.push(b',');
        }
        None if null_id => out.extend_from_slice(br#""id":null,"#),
        None => {}
    }
    out.extend_from_slice(br#""error":{"code":"#);
    integer(out, i64::from(error.code.0));
    out.extend_from_slice(br#","message":"#);
    string(out, &error.message);
    if let Some(data) = &error.data {
        out.extend_from_slice(br#","data":"#);
        out.extend_from_slice(data);
    }
    out.extend_from_slice(b"}}");
}

/// Appends a notification; `params` is a JSON text.
pub fn notification(out: &mut Vec<u8>, method: &str, params: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    string(out, method);
    out.extend_from_slice(br#","params":"#);
    out.extend_from_slice(params);
    out.push(b'}');
}

/// Appends a request of ours with a string id; `params` is a JSON text.
pub fn request(out: &mut Vec<u8>, id: &str, method: &str, params: &[u8]) {
    out.extend_from_slice(br#"{"jsonrpc":"2.0","id":"#);
    string(out, id);
    out.extend_from_slice(br#","method":"#);
    string(out, method);
    out.extend_from_slice(br#","params":"#);
    out.extend_from_slice(params);
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_of_several_lines_becomes_one() {
        let error = RpcError::new(Code::INTERNAL, "no").with_data("{\n  \"a\": [1,\r\n 2]\n}");
        let mut out = Vec::new();
        super::error(&mut out, Some(b"1"), true, &error);
        assert!(!has_newline(&out) && out.ends_with(br#""data":{"a":[1,2]}}}"#), "{}", String::from_utf8_lossy(&out));
    }

    #[test]
    fn messages_are_written_as_json_rpc_wants_them() {
        let mut out = Vec::new();
        begin_result(&mut out, b"\"a\"");
        out.extend_from_slice(b"{}");
        end(&mut out);
        assert_eq!(out, br#"{"jsonrpc":"2.0","id":"a","result":{}}"#);

        let failure = RpcError::new(Code::PARSE, "not \"JSON\"").with_data(*b"[1]");
        out.clear();
        error(&mut out, None, true, &failure);
        assert_eq!(out, br#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not \"JSON\"","data":[1]}}"#);
        out.clear();
        error(&mut out, None, false, &failure);
        assert!(out.starts_with(br#"{"jsonrpc":"2.0","error":"#));
    }
}
