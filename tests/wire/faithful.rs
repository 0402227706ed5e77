//! What callers and servers of one era say to each other goes through the gateway byte by byte: a corpus of what other
//! programs would write otherwise, in `params` on its way there and in `result` on its way back.
//!
//! Not here: what changes between the eras (`gateway`, `tests/clients/conformance`). Invariant: nothing here reads JSON
//! but to find its way; what is compared is bytes. Rewritten are, and nothing else: the message's own id, a token of
//! progress, names and URIs where several servers are seen; and by lines, which end at a newline, text that has any
//! comes without its white space.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::Server;
use crate::request::{Request, legacy, modern};

/// How a server's messages travel.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Wire {
    Body,
    Events,
    Lines,
}

/// A server in each way and of each era, by the name that the gateway has for it.
const SERVERS: [(&str, Wire, bool); 6] = [
    ("body-old", Wire::Body, false),
    ("body-new", Wire::Body, true),
    ("events-old", Wire::Events, false),
    ("events-new", Wire::Events, true),
    ("lines-old", Wire::Lines, false),
    ("lines-new", Wire::Lines, true),
];

/// The corpus: names and texts of JSON objects and arrays.
fn corpus() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/relay_corpus");
    let files = std::fs::read_dir(folder).expect("the corpus").map(|entry| entry.expect("a file").path());
    let mut texts: Vec<(String, String)> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("UTF-8"))
        })
        .collect();
    assert!(texts.len() >= 11, "{} files", texts.len());
    // Longer than any buffer on the way.
    texts.push(("long".into(), format!("[\"{}\"]", "\\u00e9/\\/é0123456789".repeat(2_000))));
    texts.sort();
    texts
}

/// The id, method and parameters of a message, as they stand in it: the gateway has its own order of members.
fn parts(message: &str) -> (Option<&str>, &str, &str) {
    let rest = message.strip_prefix(r#"{"jsonrpc":"2.0","#).unwrap_or_else(|| panic!("not as usual: {message}"));
    let (id, rest) = match rest.strip_prefix(r#""id":"#) {
        Some(rest) => rest.split_once(',').map(|(id, rest)| (Some(id), rest)).expect("a method"),
        None => (None, rest),
    };
    let rest = rest.strip_prefix(r#""method":""#).unwrap_or_else(|| panic!("not as usual: {message}"));
    let (method, rest) = rest.split_once('"').expect("its end");
    let params = rest.strip_prefix(r#","params":"#).and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
    (id, method, params)
}

/// What is answered to a call whose parameters came so: they stand in it, so one answer shows both ways.
fn echoed(method: &str, params: &str) -> String {
    let own = match method {
        "prompts/get" => r#""messages":[ ]"#,
        "resources/read" => r#""contents" : [ {"text":"" , "uri" : "x:y","\u0078":1.0 } ]"#,
        "completion/complete" => r#""completion":{"values":[ ]}"#,
        _ => r#""content" :[]"#,
    };
    format!(r#"{{ {own} , "resultType":"complete","ttlMs":1.0e+3,"cacheScope":"pri\u0076ate","echo":{params}}}"#)
}

/// The tools that are listed, one for each text of the corpus, which stands in its schema and beside it.
fn tools() -> Vec<String> {
    let tool = |(name, text): &(String, String)| {
        format!(
            r#"{{ "x":{text},"inputSchema" : {{"type":"obj\u0065ct","x-kept":{text}}}, "name":"{name}" ,"_meta":{{"com.example/x":{text}}}}}"#
        )
    };
    corpus().iter().filter(|(name, _)| has_no_newline(name)).map(tool).collect()
}

fn has_no_newline(name: &str) -> bool {
    name != "newlines"
}

fn listed() -> String {
    format!(r#"{{ "unknown":{{"" :1.0}},"tools" : [{}],"resultType":"complete","ttlMs":1.0}}"#, tools().join(" ,\t"))
}

/// The answer to a message, if it wants one.
fn respond(message: &str, is_modern: bool) -> Option<String> {
    let (id, method, params) = parts(message);
    let id = id?;
    let capabilities = json!({"tools": {}, "prompts": {}, "resources": {}, "completions": {}});
    let result = match method {
        "server/discover" if is_modern => json!({"resultType": "complete", "supportedVersions": ["2026-07-28"],
            "capabilities": capabilities, "ttlMs": 60_000, "cacheScope": "public"})
        .to_string(),
        "initialize" if !is_modern => json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
            "serverInfo": {"name": "echoes", "version": "1"}})
        .to_string(),
        "tools/list" => listed(),
        "tools/call" | "prompts/get" | "resources/read" | "completion/complete" => echoed(method, params),
        _ => return Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#)),
    };
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#))
}

/// A server that listens; by lines it is a child that listens with what is at the other end of its pipes.
fn serve(wire: Wire, is_modern: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || match wire {
                Wire::Lines => speak_lines(stream, is_modern),
                Wire::Body | Wire::Events => speak_http(stream, wire, is_modern),
            });
        }
    });
    address
}

fn speak_lines(mut stream: TcpStream, is_modern: bool) {
    let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
    for answer in lines.map_while(Result::ok).filter_map(|line| respond(&line, is_modern)) {
        if stream.write_all((answer + "\n").as_bytes()).is_err() {
            return;
        }
    }
}

fn speak_http(mut stream: TcpStream, wire: Wire, is_modern: bool) {
    let mut reader = BufReader::new(stream.try_clone().expect("a socket"));
    loop {
        let (mut length, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if reader.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a number");
                }
            } else {
                return;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let body = String::from_utf8(body).expect("UTF-8");
        // Without a body it is no message: who asks for the session's stream, which this server does not have.
        if body.is_empty() {
            if stream.write_all(b"HTTP/1.1 405 Method Not Allowed\r\nContent-Length: 0\r\n\r\n").is_err() {
                return;
            }
            continue;
        }
        let (status, media, text) = match (respond(&body, is_modern), wire) {
            (None, _) => ("202 Accepted", "text/plain", String::new()),
            (Some(answer), Wire::Events) => ("200 OK", "text/event-stream", format!(": one\n\ndata: {answer}\n\n")),
            (Some(answer), _) => ("200 OK", "application/json", answer),
        };
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n", text.len());
        if stream.write_all((head + &text).as_bytes()).is_err() {
            return;
        }
    }
}

/// A gateway before all of them. The child is a shell that is nothing but pipes.
fn gateway() -> Server {
    let section = |(name, wire, is_modern): &(&str, Wire, bool)| {
        let (era, address) = (if *is_modern { "modern" } else { "legacy" }, serve(*wire, *is_modern));
        let reached = match wire {
            Wire::Body | Wire::Events => format!("kind = \"http\"\nurl = \"http://{address}/mcp\""),
            Wire::Lines => format!(
                "kind = \"stdio\"\ncommand = \"bash\"\nargs = [\"-c\", \"exec 3<>/dev/tcp/{}/{}; cat <&3 & exec cat >&3\"]",
                address.ip(),
                address.port()
            ),
        };
        format!("[servers.{name}]\nera = \"{era}\"\n{reached}\n")
    };
    let gateway = Server::configured(&SERVERS.iter().map(section).collect::<String>());
    SERVERS.iter().for_each(|(name, ..)| reached(&gateway, &format!("/mcp/{name}")));
    gateway
}

/// Parameters with the text in every place that a message has for it.
fn params(method: &str, text: &str, is_modern: bool) -> String {
    let name = match method {
        "resources/read" => r#""uri" : "x:y""#,
        "completion/complete" => {
            r#""ref" : {"type":"ref/prompt" ,"name":"p"} ,"argument":{"name":"\u0061","value":""}"#
        }
        _ => r#""name" : "t""#,
    };
    let version =
        r#""io.modelcontextprotocol/protocolVersion" : "2026-07-28","io.modelcontextprotocol/clientCapabilities":{ },"#;
    let version = if is_modern { version } else { "" };
    format!(
        r#"{{ "unknown":{text}, {name},"arguments":{text} ,"_meta":{{{version}"com.example/x":{text},"":1.0}},"1e0":-0 }}"#
    )
}

/// Asks with exactly these parameters; the answer's body, whole.
fn ask(gateway: &Server, path: &str, session: Option<&str>, method: &str, id: &str, params: &str) -> String {
    let body = format!(r#"{{"id" :{id},"params" : {params} ,"method":"{method}","jsonrpc":"2.0"}}"#);
    let read: Value = serde_json::from_str(params).unwrap_or_else(|error| panic!("{error}: {params}"));
    // Headers repeat what the body says; the body is then sent as it is.
    let request = match session {
        Some(session) => Request::legacy(session, &legacy(1, method, read)),
        None => Request::modern(&modern(1, method, read)),
    };
    let answer = gateway.connect().ask(&request.target(path).body(body));
    assert_eq!(answer.status, 200, "{path} {method}: {}", answer.text());
    answer.text()
}

fn compact(text: &str) -> String {
    let (mut is_text, mut is_escaped) = (false, false);
    let keep = |byte: &char| {
        is_text ^= *byte == '"' && !is_escaped;
        is_escaped = is_text && *byte == '\\' && !is_escaped;
        is_text || !matches!(byte, ' ' | '\t' | '\r' | '\n')
    };
    text.chars().filter(keep).collect()
}

#[test]
fn params_and_results_of_one_era_pass_byte_by_byte() {
    let (gateway, corpus) = (gateway(), corpus());
    for (server, wire, is_modern) in SERVERS {
        let path = format!("/mcp/{server}");
        let session = (!is_modern).then(|| open_at(&mut gateway.connect(), "2025-11-25", &path));
        for (name, text) in &corpus {
            for method in ["tools/call", "prompts/get", "resources/read", "completion/complete"] {
                // An event has no place for a carriage return, and this server writes one line of data.
                if wire == Wire::Events && !has_no_newline(name) {
                    continue;
                }
                let params = params(method, text, is_modern);
                let id = r#""\u0069\/d 1.0""#;
                let came = ask(&gateway, &path, session.as_deref(), method, id, &params);
                let arrived = if wire == Wire::Lines && !has_no_newline(name) { compact(&params) } else { params };
                let wanted = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, echoed(method, &arrived));
                assert!(came == wanted, "{path} {method} {name}:\n{came}\nis not\n{wanted}");
            }
        }
    }
}

#[test]
fn lists_of_one_server_pass_byte_by_byte_and_items_among_others_but_for_their_names() {
    let gateway = gateway();
    for (server, _, is_modern) in SERVERS {
        let path = format!("/mcp/{server}");
        let session = (!is_modern).then(|| open_at(&mut gateway.connect(), "2025-11-25", &path));
        let meta = if is_modern { &params("none", "0", true) } else { "{}" };
        let came = ask(&gateway, &path, session.as_deref(), "tools/list", "-9007199254740993", meta);
        let wanted = format!(r#"{{"jsonrpc":"2.0","id":-9007199254740993,"result":{}}}"#, listed());
        assert!(came == wanted, "{path}:\n{came}\nis not\n{wanted}");
    }
    for is_modern in [false, true] {
        let session = (!is_modern).then(|| open_at(&mut gateway.connect(), "2025-11-25", "/mcp"));
        let meta = if is_modern { &params("none", "0", true) } else { "{}" };
        let came = ask(&gateway, "/mcp", session.as_deref(), "tools/list", "1", meta);
        for (server, _, _) in SERVERS {
            for ((name, _), tool) in corpus().iter().filter(|(name, _)| has_no_newline(name)).zip(tools()) {
                let wanted = tool.replace(&format!(r#""name":"{name}""#), &format!(r#""name":"{server}_{name}""#));
                assert!(wanted != tool && came.contains(&wanted), "{server} {name}: {wanted}\nis not in\n{came}");
            }
        }
    }
}

/// Where several servers are seen, names and URIs are others where they stand, and nothing else is.
#[test]
fn among_others_a_name_a_uri_and_a_token_are_all_that_changes() {
    let gateway = gateway();
    let path = "/mcp";
    for (server, _, is_modern) in SERVERS {
        let session = (!is_modern).then(|| open_at(&mut gateway.connect(), "2025-11-25", path));
        let ask = |method: &str, params: &str| ask(&gateway, path, session.as_deref(), method, "1", params);
        let result =
            |method: &str, params: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{}}}"#, echoed(method, params));
        for (name, text) in corpus().iter().filter(|(name, _)| has_no_newline(name)) {
            let own =
                params("tools/call", text, is_modern).replace(r#""name" : "t""#, &format!(r#""name" : "{name}""#));
            let seen = own.replace(&format!(r#" : "{name}""#), &format!(r#" : "{server}_{name}""#));
            let (came, wanted) = (ask("tools/call", &seen), result("tools/call", &own));
            assert!(came == wanted, "{server} {name}:\n{came}\nis not\n{wanted}");
            let own = params("resources/read", text, is_modern);
            let seen = own.replace(r#""uri" : "x:y""#, &format!(r#""uri" : "{server}+x:y""#));
            let wanted = result("resources/read", &own);
            let content = format!(r#""uri" : "{server}+x:y","\u0078""#);
            let (came, wanted) = (ask("resources/read", &seen), wanted.replace(r#""uri" : "x:y","\u0078""#, &content));
            assert!(came == wanted, "{server} {name}:\n{came}\nis not\n{wanted}");
        }
        // What the server is told to say of progress, it is told by the gateway's own id.
        let own = params("tools/call", "0", is_modern).replace(r#""":1.0"#, r#""progressToken" :"\u0070""#);
        let seen = own.replace(r#" : "t""#, &format!(r#" : "{server}_key_order""#));
        let came = ask("tools/call", &seen);
        let (before, after) = own.split_once(r#""\u0070""#).expect("a token");
        let before = before.replace(r#" : "t""#, r#" : "key_order""#);
        let token = came.split_once(&before).and_then(|(_, rest)| rest.split_once(after)).map(|(token, _)| token);
        assert!(token.is_some_and(|token| token.parse::<u64>().is_ok()), "{server}: {came}");
    }
}
