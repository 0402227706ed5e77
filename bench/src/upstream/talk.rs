//! What the upstream says: where a request ends, and what it is answered.
//!
//! It knows no socket. It reads as little as an answer needs: the length of the body, the id, the method. Headers are
//! not judged, and an id is found by its name, so a message whose `params` hold a member `id` before the message's own
//! would be misread; no client that is measured here writes one.
//!
//! Invariant: any split of the same bytes gives the same answers, and what is kept of a request is bounded.

use memchr::memmem::Finder;

/// Longest head, and longest body.
const HEAD_MAX: usize = 16 << 10;
const BODY_MAX: usize = 1 << 20;

const SERVER: &str = r#"{"name":"corelane-bench","version":"0.1.0"}"#;
const MODERN: &str = "2026-07-28";
const LEGACY: &str = "2025-11-25";

/// What is no request that could be answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// A whole request: its head with the empty line, and its body.
struct Request<'a> {
    head: &'a [u8],
    body: &'a [u8],
}

/// An answer but for the length of its body and its id.
struct Answer {
    /// Up to the value of `Content-Length`.
    head: Vec<u8>,
    /// The body before and behind the id.
    before: &'static [u8],
    after: Vec<u8>,
}

impl Answer {
    fn new(status: &str, fields: &str, after: String) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}Content-Length: ");
        Self { head: head.into_bytes(), before: br#"{"jsonrpc":"2.0","id":"#, after: after.into_bytes() }
    }

    fn result(fields: &str, result: &str) -> Self {
        Self::new("200 OK", fields, format!(r#","result":{result}}}"#))
    }

    fn write(&self, id: &[u8], out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(&self.head);
        out.extend_from_slice(digits.format(self.before.len() + id.len() + self.after.len()).as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        out.extend_from_slice(self.before);
        out.extend_from_slice(id);
        out.extend_from_slice(&self.after);
    }
}

/// All that the upstream may say.
pub struct Talk {
    empty_line: Finder<'static>,
    id: Finder<'static>,
    method: Finder<'static>,
    call: Answer,
    others: [(&'static [u8], Answer); 4],
    unknown: Answer,
}

impl Talk {
    /// `text_bytes` is the length of the text with which the tool answers.
    pub fn new(text_bytes: usize) -> Self {
        let text = "X".repeat(text_bytes);
        let call =
            format!(r#"{{"resultType":"complete","content":[{{"type":"text","text":"{text}"}}],"isError":false}}"#);
        let kept = r#""ttlMs":3600000,"cacheScope":"public""#;
        let discover = format!(
            r#"{{"resultType":"complete","supportedVersions":["{MODERN}"],"capabilities":{{"tools":{{}}}},{kept},"_meta":{{"io.modelcontextprotocol/serverInfo":{SERVER}}}}}"#
        );
        let schema = r#"{"type":"object","properties":{"data":{"type":"string"}}}"#;
        let tool = format!(r#"{{"name":"echo","description":"Answers the same each time","inputSchema":{schema}}}"#);
        let list = format!(r#"{{"resultType":"complete","tools":[{tool}],{kept}}}"#);
        let initialize =
            format!(r#"{{"protocolVersion":"{LEGACY}","capabilities":{{"tools":{{}}}},"serverInfo":{SERVER}}}"#);
        // One session for all: nothing is kept in it.
        let session = "Mcp-Session-Id: bench\r\n";
        let unknown = r#","error":{"code":-32601,"message":"no such method"}}"#;
        Self {
            empty_line: Finder::new(b"\r\n\r\n"),
            id: Finder::new(br#""id""#),
            method: Finder::new(br#""method""#),
            call: Answer::result("", &call),
            others: [
                (b"server/discover", Answer::result("", &discover)),
                (b"tools/list", Answer::result("", &list)),
                (b"initialize", Answer::result(session, &initialize)),
                (b"ping", Answer::result("", "{}")),
            ],
            unknown: Answer::new("404 Not Found", "", unknown.into()),
        }
    }

    /// Takes bytes as they came, with what was `kept` of an unfinished request, and appends every answer to `out`.
    ///
    /// # Errors
    /// If what came is no request; the connection is of no more use then.
    pub fn take(&self, kept: &mut Vec<u8>, fresh: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        if kept.is_empty() {
            // The common case: whole requests, which are not copied.
            let used = self.answer_all(fresh, out)?;
            kept.extend_from_slice(&fresh[used..]);
        } else {
            kept.extend_from_slice(fresh);
            let used = self.answer_all(kept, out)?;
            kept.drain(..used);
        }
        Ok(())
    }

    /// Answers what is whole; how many bytes that was.
    fn answer_all(&self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Malformed> {
        let mut used = 0;
        while let Some(request) = self.request(&input[used..])? {
            self.answer(&request, out);
            used += request.head.len() + request.body.len();
        }
        Ok(used)
    }

    /// The first request, if it is whole.
    fn request<'a>(&self, input: &'a [u8]) -> Result<Option<Request<'a>>, Malformed> {
        let Some(end) = self.empty_line.find(input) else {
            return if input.len() > HEAD_MAX { Err(Malformed) } else { Ok(None) };
        };
        let (head, rest) = input.split_at(end + 4);
        match content_length(head)? {
            length if length > BODY_MAX => Err(Malformed),
            length => Ok(rest.get(..length).map(|body| Request { head, body })),
        }
    }

    fn answer(&self, Request { head, body }: &Request<'_>, out: &mut Vec<u8>) {
        if !head.starts_with(b"POST ") {
            // No stream to listen to, and no session to end.
            out.extend_from_slice(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: POST\r\nContent-Length: 0\r\n\r\n");
            return;
        }
        let Some(id) = member(&self.id, body).and_then(scalar) else {
            out.extend_from_slice(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
            return;
        };
        let method = member(&self.method, body).and_then(scalar).unwrap_or_default();
        let method = method.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or_default();
        let answer = if method == b"tools/call" {
            &self.call
        } else {
            self.others.iter().find(|(name, _)| *name == method).map_or(&self.unknown, |(_, answer)| answer)
        };
        answer.write(id, out);
    }
}

/// The length of the body; nothing is said of it in a request without one.
fn content_length(head: &[u8]) -> Result<usize, Malformed> {
    const NAME: &[u8] = b"content-length:";
    let mut from = 0;
    for end in memchr::memchr_iter(b'\n', head) {
        let line = &head[from..end];
        from = end + 1;
        if line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME) {
            let digits = std::str::from_utf8(line[NAME.len()..].trim_ascii()).map_err(|_| Malformed)?;
            return digits.parse().map_err(|_| Malformed);
        }
    }
    Ok(0)
}

/// What follows the first member of that name.
fn member<'a>(name: &Finder<'_>, body: &'a [u8]) -> Option<&'a [u8]> {
    let mut rest = body;
    while let Some(at) = name.find(rest) {
        rest = &rest[at + name.needle().len()..];
        // A value may be the same text as a name.
        if let Some(value) = rest.trim_ascii_start().strip_prefix(b":") {
            return Some(value.trim_ascii_start());
        }
    }
    None
}

/// The number or string that `value` begins with.
fn scalar(value: &[u8]) -> Option<&[u8]> {
    match value.first()? {
        b'"' => {
            let mut from = 1;
            loop {
                from += memchr::memchr2(b'"', b'\\', &value[from..])? + 1;
                match value[from - 1] {
                    b'"' => return Some(&value[..from]),
                    _ => from += 1,
                }
                if from > value.len() {
                    return None;
                }
            }
        }
        b'-' | b'0'..=b'9' => {
            let end = value.iter().position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'));
            Some(&value[..end.unwrap_or(value.len())])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Part, Reader};
    use crate::message::{Payload, Script, Wire};

    fn post(body: &str) -> String {
        format!("POST /mcp HTTP/1.1\r\nHost: h\r\ncontent-length:{}\r\nX: y\r\n\r\n{body}", body.len())
    }

    /// What is answered, as text, if the bytes come cut in two at `at`.
    fn answers(bytes: &[u8], at: usize) -> String {
        answers_to([&bytes[..at], &bytes[at..]])
    }

    fn answers_to<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> String {
        let (talk, mut kept, mut out) = (Talk::new(4), Vec::new(), Vec::new());
        for piece in pieces {
            talk.take(&mut kept, piece, &mut out).expect("requests");
        }
        assert!(kept.is_empty(), "every request was whole");
        String::from_utf8(out).expect("text")
    }

    /// Status and message of each of the answers in `text`.
    fn read(text: &str) -> Vec<(u16, serde_json::Value)> {
        let mut all = Vec::new();
        let mut seen = |part: Part<'_>| match part {
            Part::Head { status, .. } => all.push((status, serde_json::Value::Null)),
            Part::Message(message) => {
                all.last_mut().expect("a head comes first").1 = serde_json::from_slice(message).expect("valid JSON");
            }
            Part::End => {}
        };
        Reader::new(Wire::HttpModern).take(text.as_bytes(), &mut seen).expect("HTTP");
        all
    }

    #[test]
    fn any_split_gives_the_same_answers() {
        let payload =
            Payload { payload: 175, tool: "echo".into(), arguments: r#"{"data":"$PAD"}"#.into(), path: "/mcp".into() };
        let script = Script::new(Wire::HttpModern, false, ([127, 0, 0, 1], 1).into(), &payload).expect("fits");
        let mut bytes = Vec::new();
        script.call(123_456, b"", &mut bytes);
        bytes.extend(post(r#"{"method" : "tools/list", "params":{"x":"id"}, "id" : "a\"b" }"#).into_bytes());
        bytes.extend(post(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).into_bytes());
        bytes.extend(b"GET /mcp HTTP/1.1\r\nHost: h\r\n\r\n");
        let whole = answers(&bytes, 0);
        let read = read(&whole);
        assert_eq!(read.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 202, 405]);
        assert_eq!(read[0].1["id"], 123_456);
        assert_eq!(read[0].1["result"]["content"][0]["text"], "XXXX");
        assert_eq!((&read[1].1["id"], &read[1].1["result"]["tools"][0]["name"]), (&"a\"b".into(), &"echo".into()));
        for at in 0..=bytes.len() {
            assert_eq!(answers(&bytes, at), whole, "cut at {at}");
        }
        for size in [1, 7, 100, 300, 550] {
            assert_eq!(answers_to(bytes.chunks(size)), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn each_method_has_its_answer() {
        let ask = |method: &str| {
            let text = answers(post(&format!(r#"{{"id":7,"method":"{method}"}}"#)).as_bytes(), 0);
            let (status, message) = read(&text).remove(0);
            assert_eq!(message["id"], 7, "{text}");
            (status, message, text)
        };
        assert_eq!(ask("server/discover").1["result"]["supportedVersions"][0], "2026-07-28");
        let (_, initialized, text) = ask("initialize");
        assert_eq!(initialized["result"]["protocolVersion"], "2025-11-25");
        assert!(text.contains("Mcp-Session-Id: bench\r\n"), "{text}");
        let (status, refused, _) = ask("resources/list");
        assert_eq!((status, refused["error"]["code"].as_i64()), (404, Some(-32601)));
    }

    #[test]
    fn what_is_no_request_is_refused_and_nothing_grows_without_bound() {
        let talk = Talk::new(3);
        let take = |bytes: &[u8]| talk.take(&mut Vec::new(), bytes, &mut Vec::new());
        assert_eq!(take(&[b'x'; HEAD_MAX + 1]), Err(Malformed));
        assert_eq!(take(b"POST / HTTP/1.1\r\nContent-Length: 1048577\r\n\r\n"), Err(Malformed));
        assert_eq!(take(b"POST / HTTP/1.1\r\nContent-Length: ten\r\n\r\n"), Err(Malformed));
        assert_eq!(take(b"POST / HTTP/1.1\r\nContent-Length: 1048576\r\n\r\n"), Ok(()));
    }
}
