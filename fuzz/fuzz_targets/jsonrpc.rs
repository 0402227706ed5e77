//! JSON-RPC in both eras, through a whole core: lines, modern HTTP, and legacy HTTP in a session of any revision.
//!
//! What a message is gets judged a second time here, from serde_json's reading of it, and the core has to answer just
//! that: each request once and with the bytes of its id, nothing else with anything but what it deserves. How the bytes
//! were cut makes no difference, and the connection serves the next request afterwards.
//!
//! The first byte says how it comes, the second how it is cut; the rest is the message, or lines of them.
#![no_main]

mod machine;

use std::collections::BTreeMap;

use corelane::ids::View;
use corelane::proto::json::{Envelope, Key, Scanner};
use corelane::proto::jsonrpc::RpcError;
use corelane::proto::mcp::Method;
use corelane::server::connection::Wire;
use corelane::server::service::{About, Call, CallKey, Mail, Nanos, Offers, Served, Service};
use libfuzzer_sys::fuzz_target;
use machine::Machine;
use serde_json::value::RawValue;

/// The `id` of an answer: none, or the exact bytes (`null` among them).
type Id = Option<Vec<u8>>;
type Members<'a> = BTreeMap<String, &'a RawValue>;

const DISCOVER: &[u8] = br#"{"jsonrpc":"2.0","id":"next","method":"server/discover","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}"#;
const CLAIM: &str = "io.modelcontextprotocol/protocolVersion";
const LEGACY: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// Its tool `wait` answers when everything else is done.
struct Late {
    about: About,
    waiting: Vec<CallKey>,
}

impl Service for Late {
    fn about(&self, _view: View) -> Result<&About, RpcError> {
        Ok(&self.about)
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        if call.method == Method::ToolsCall && call.envelope.str(Key::Name, call.text).as_deref() == Some("wait") {
            self.waiting.push(call.key);
            return Served::Pending;
        }
        out.extend_from_slice(br#"{"resultType":"complete","content":[]}"#);
        Served::Done
    }

    fn cancel(&mut self, _now: Nanos, key: CallKey) {
        self.waiting.retain(|waiting| *waiting != key);
    }

    fn answered(&mut self, _now: Nanos, _: CallKey, _: u32, _: Result<&[u8], RpcError>) {}
}

fn machine(wire: Wire) -> Machine<Late> {
    let offers = Offers {
        tools: true,
        tools_list_changed: true,
        logging: true,
        tasks: true,
        tasks_extension: true,
        ..Offers::default()
    };
    let about = About { server_info: b"{}".to_vec(), instructions: None, offers };
    Machine::new(wire, Late { about, waiting: Vec::new() })
}

/// Sends bytes in pieces of so many and lets every late call answer; what came back.
fn say(machine: &mut Machine<Late>, bytes: &[u8], piece: usize) -> Vec<u8> {
    for piece in bytes.chunks(piece) {
        machine.say(piece);
    }
    while !machine.service().waiting.is_empty() {
        let key = machine.service().waiting.remove(0);
        machine.mail(Mail::Reply { key, outcome: Ok(br#"{"content":["late"]}"#.to_vec().into()) });
    }
    std::mem::take(machine.heard())
}

fuzz_target!(|input: &[u8]| {
    let [way, seed, text @ ..] = input else { return };
    match way % 4 {
        0 | 1 => lines(text, *seed),
        2 => modern_http(text, *seed),
        _ => legacy_http(text, *seed, LEGACY[usize::from(way >> 2) % LEGACY.len()]),
    }
});

fn lines(text: &[u8], seed: u8) {
    // A request line of HTTP, of whatever version, ends the connection, and so does a handshake of TLS; nothing behind
    // it is looked at.
    let is_of_a_browser = |line: &[u8]| {
        let version = line.len().checked_sub(9).map(|at| &line[at..]).unwrap_or_default();
        line.starts_with(&[22, 3]) || (version.starts_with(b" HTTP/") && version[8].is_ascii_digit())
    };
    if text.split(|&byte| byte == b'\n').any(|line| is_of_a_browser(line.strip_suffix(b"\r").unwrap_or(line))) {
        return;
    }
    let is_blank = |line: &[u8]| line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'));
    let mut whole = machine(Wire::Lines);
    let mut heard = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        let answer = say(&mut whole, line, usize::MAX);
        heard.extend_from_slice(&answer);
        let content = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let said = messages(answer.split(|&byte| byte == b'\n'));
        match content {
            Some(content) if !is_blank(content) => check(content, said, Era::Either),
            _ => assert!(said.is_empty(), "an answer to half a line, or to none"),
        }
    }
    let mut pieces = machine(Wire::Lines);
    let mut again = Vec::new();
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        again.extend_from_slice(&say(&mut pieces, line, usize::from(seed) + 1));
    }
    assert!(again == heard, "cut otherwise, the same lines are answered otherwise");
}

fn modern_http(text: &[u8], seed: u8) {
    let body = members(text);
    let params = body.as_ref().and_then(|body| body.get("params")).and_then(|params| members(params.get().as_bytes()));
    let meta = params.as_ref().and_then(|params| params.get("_meta")).and_then(|meta| members(meta.get().as_bytes()));
    let claim = meta.as_ref().and_then(|meta| meta.get(CLAIM));
    let version = claim.map_or(Some("2026-07-28"), |claim| header(claim));
    let method = body.as_ref().and_then(|body| body.get("method"));
    let method = method.map_or(Some("server/discover"), |method| header(method));
    // A header cannot say it: that mismatch is tested elsewhere.
    let (Some(version), Some(method)) = (version, method) else { return };
    let mirrored = match method {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => "taskId",
    };
    let name = params.as_ref().and_then(|params| params.get(mirrored)).and_then(|name| header(name)).unwrap_or("none");
    let fields = format!("MCP-Protocol-Version: {version}\r\nMcp-Method: {method}\r\nMcp-Name: {name}\r\n");
    let is_modern = claim.is_some() || version == "2026-07-28";
    let (status, said) = exchange(text, &fields, seed, machine(Wire::Http));
    match status {
        // Nothing was opened that would let a subscription's stream be told from an answer.
        200 if method == "subscriptions/listen" => {}
        // Only the header says in which era a text without meaning was meant.
        _ if is_modern && version == "2026-07-28" => check(text, said, Era::Modern),
        _ if is_modern => check(text, said, Era::Claimed),
        _ => {}
    }
}

fn legacy_http(text: &[u8], seed: u8, version: &str) {
    let claims = members(text)
        .and_then(|body| members(body.get("params")?.get().as_bytes()))
        .and_then(|params| members(params.get("_meta")?.get().as_bytes()))
        .is_some_and(|meta| meta.contains_key(CLAIM));
    if claims {
        return;
    }
    let mut machine = self::machine(Wire::Http);
    let hello = format!(
        r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}},"clientInfo":{{"name":"f","version":"1"}}}}}}"#
    );
    let answer =
        String::from_utf8(say(&mut machine, &post("", hello.as_bytes()), usize::MAX)).expect("our answers are UTF-8");
    assert!(answer.contains(version), "{answer}");
    let session =
        answer.split_once("Mcp-Session-Id: ").and_then(|(_, rest)| rest.split_once("\r\n")).expect("a session").0;
    let (_, said) = exchange(text, &format!("Mcp-Session-Id: {session}\r\n"), seed, machine);
    check(text, said, Era::Legacy);
}

/// Posts a body, whole and to another machine in pieces; the status and the messages of the answer.
fn exchange(body: &[u8], fields: &str, seed: u8, mut machine: Machine<Late>) -> (u16, Vec<Vec<u8>>) {
    let request = post(fields, body);
    let answer = say(&mut machine, &request, usize::from(seed) + 1);
    let status: u16 =
        std::str::from_utf8(&answer[9..12]).ok().and_then(|code| code.parse().ok()).expect("a status line");
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    let (head, rest) = answer.split_at(end);
    let streams = head.windows(17).any(|field| field == b"text/event-stream");
    let said = if streams {
        messages(rest.split(|&byte| byte == b'\n').filter_map(|line| line.strip_prefix(b"data: ")))
    } else {
        messages([rest])
    };
    assert!(matches!(status, 200 | 202 | 400 | 404 | 413 | 503), "{status}");
    assert_eq!(status == 202, rest.is_empty(), "accepted is said without a body, and all else with one");
    let open_stream = streams && !answer.ends_with(b"0\r\n\r\n");
    if !open_stream {
        let next = "MCP-Protocol-Version: 2026-07-28\r\nMcp-Method: server/discover\r\n";
        let answer = say(&mut machine, &post(next, DISCOVER), usize::MAX);
        assert!(answer.starts_with(b"HTTP/1.1 200"), "the connection does not serve the next request");
    }
    (status, said)
}

fn post(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Accept: application/json, text/event-stream\r\n{fields}Content-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// What a string says, if a header can say it as it stands.
fn header(value: &RawValue) -> Option<&str> {
    let plain = value.get().strip_prefix('"')?.strip_suffix('"')?;
    (!plain.is_empty() && plain.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')).then_some(plain)
}

/// The single messages among JSON texts, batches taken apart; each of them whole and well-formed.
fn messages<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        assert_eq!(Scanner::new().scan(text, &mut Envelope::default()), Ok(()), "we write what we would refuse");
        match serde_json::from_slice::<Vec<&RawValue>>(text) {
            Ok(batch) => all.extend(batch.iter().map(|message| message.get().as_bytes().to_vec())),
            Err(_) => all.push(text.to_vec()),
        }
    }
    all
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Era {
    /// The body says which.
    Either,
    Legacy,
    /// Both the header and the body say that it is modern.
    Modern,
    /// Only the body does, in a claim of a version that is none.
    Claimed,
}

impl Era {
    fn is_modern(self) -> bool {
        matches!(self, Era::Modern | Era::Claimed)
    }
}

fn check(text: &[u8], said: Vec<Vec<u8>>, era: Era) {
    let mut answers = Vec::new();
    let mut listens = false;
    for message in &said {
        let members = members(message).expect("an object");
        assert_eq!(members["jsonrpc"].get(), r#""2.0""#);
        if members.contains_key("method") {
            listens = true;
            continue;
        }
        assert!(members.contains_key("result") != members.contains_key("error"));
        answers.push(members.get("id").map(|id| id.get().as_bytes().to_vec()));
    }
    let (mut wanted, loose) = deserved(text, era);
    if listens {
        assert!(wanted.len() == 1 && text.windows(6).any(|word| word == b"listen"), "what nobody asked for");
        return;
    }
    answers.sort();
    wanted.sort();
    if answers == wanted || (loose && answers.iter().all(|id| wanted.contains(id))) {
        return;
    }
    // A batch in a revision that has none, or before any session, is refused as a whole.
    let is_batch = serde_json::from_slice::<Vec<&RawValue>>(text).is_ok();
    assert!(is_batch && answers == [Some(b"null".to_vec())], "deserved {wanted:?}, said {answers:?}");
}

/// The ids of the answers that a text deserves; whether some of them may be missing, because their call was cancelled.
fn deserved(text: &[u8], era: Era) -> (Vec<Id>, bool) {
    let null = || Some(b"null".to_vec());
    if Scanner::new().scan(text, &mut Envelope::default()).is_err() {
        return (vec![if era == Era::Modern { None } else { null() }], false);
    }
    if let Ok(batch) = serde_json::from_slice::<Vec<&RawValue>>(text) {
        if era.is_modern() {
            return (vec![None], false);
        }
        if batch.is_empty() {
            return (vec![null()], false);
        }
        let mut loose = false;
        let mut all = Vec::new();
        for message in batch {
            let Some(members) = members(message.get().as_bytes()) else {
                all.push(null());
                continue;
            };
            loose |= says(&members, "method", "notifications/cancelled");
            if says(&members, "method", "initialize") {
                all.push(valid_id(&members).or(null()));
            } else {
                all.extend(of_message(&members, false));
            }
        }
        return (all, loose);
    }
    let Some(members) = members(text) else {
        return (vec![if era.is_modern() { None } else { null() }], false);
    };
    (
        of_message(&members, era.is_modern() || (era == Era::Either && claim(&members).is_some()))
            .into_iter()
            .collect(),
        false,
    )
}

/// The answer that one message deserves.
fn of_message(members: &Members<'_>, modern: bool) -> Option<Id> {
    let nobody = if modern { None } else { Some(b"null".to_vec()) };
    let id = valid_id(members);
    let refused = Some(id.clone().or(nobody));
    if modern && says(members, "method", "initialize") && claim(members).is_none() {
        return refused;
    }
    if !says(members, "jsonrpc", "2.0") || (members.contains_key("id") && id.is_none()) {
        return refused;
    }
    match members.get("method") {
        None if id.is_some() && members.contains_key("result") != members.contains_key("error") => {
            // A claim that is no string is noticed first, and then the id is known.
            match claim(members) {
                Some(claim) if modern && !is_plain_string(claim.as_ref()) => refused,
                _ => modern.then_some(None),
            }
        }
        None => refused,
        Some(method) if !method.get().starts_with('"') => refused,
        Some(_) if members.get("params").is_some_and(|params| !params.get().starts_with('{')) => refused,
        Some(_) if id.is_none() => match claim(members) {
            Some(claim) if modern && !is_plain_string(claim.as_ref()) => Some(None),
            _ => None,
        },
        Some(_) => Some(id),
    }
}

fn valid_id(members: &Members<'_>) -> Id {
    let id = members.get("id")?.get();
    let good = id.starts_with('"') || id.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    good.then(|| id.as_bytes().to_vec())
}

fn claim(members: &Members<'_>) -> Option<Box<str>> {
    let params = self::members(members.get("params")?.get().as_bytes())?;
    let meta = self::members(params.get("_meta")?.get().as_bytes())?;
    meta.get(CLAIM).map(|claim| claim.get().into())
}

fn is_plain_string(value: &str) -> bool {
    value.starts_with('"') && !value.contains('\\')
}

fn says(members: &Members<'_>, key: &str, text: &str) -> bool {
    members
        .get(key)
        .is_some_and(|value| value.get().strip_prefix('"').and_then(|value| value.strip_suffix('"')) == Some(text))
}

fn members(text: &[u8]) -> Option<Members<'_>> {
    serde_json::from_slice(text).ok()
}
