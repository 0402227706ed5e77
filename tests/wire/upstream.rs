//! A server of one era behind the gateway, by script: it notes whatever it is told, and says what a test wants said.
//!
//! Not here: servers that are broken (`faulty`). Invariant: what was heard is noted before it is answered, so that a
//! test that has its answer finds all that led to it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::process::{Server, until};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// `POST`, `GET` or `DELETE`.
    pub verb: String,
    fields: Vec<(String, String)>,
    pub body: Value,
}

impl Heard {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands once: {self:?}");
        value
    }

    /// Fields whose names begin like this, by what follows, in small letters.
    pub fn fields_like(&self, prefix: &str) -> Vec<(String, String)> {
        let named = |(name, value): &(String, String)| {
            Some((name.to_ascii_lowercase().strip_prefix(prefix)?.to_owned(), value.clone()))
        };
        self.fields.iter().filter_map(named).collect()
    }

    pub fn method(&self) -> &str {
        self.body["method"].as_str().unwrap_or_default()
    }

    pub fn params(&self) -> &Value {
        &self.body["params"]
    }

    /// The next request on a connection; none if it ends.
    pub fn read(stream: &mut TcpStream) -> Option<Heard> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let mut lines = head.lines();
        let verb = lines.next()?.split(' ').next()?.to_owned();
        let field = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let mut heard = Heard { verb, fields: lines.filter_map(field).collect(), body: Value::Null };
        let length = heard.field("Content-Length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        stream.read_exact(&mut body).ok()?;
        heard.body = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Some(heard)
    }
}

/// A listener at this address whose connections are served by `serve`, one request after the other.
pub fn listening(address: SocketAddr, serve: impl Fn(&mut TcpStream, &Heard) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(address).expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                while let Some(request) = Heard::read(&mut stream) {
                    serve(&mut stream, &request);
                }
            });
        }
    });
    address
}

/// What a script answers.
pub enum Reply {
    /// What is usual.
    Usual,
    /// This result.
    Result(Value),
    /// This error.
    Error(Value),
    /// These messages on the request's stream, and then this result.
    After(Vec<Value>, Value),
    /// This question on the request's stream, and this result once it was answered.
    Asking(Value, Value),
    /// Nothing but this HTTP status, whatever was asked.
    Status(u16),
}

/// The server; there for as long as the process.
#[derive(Clone)]
pub struct Upstream {
    pub address: SocketAddr,
    era: &'static str,
    heard: Arc<Mutex<Vec<Heard>>>,
    /// Streams on which it may say what it likes, and the session or subscription that each is of.
    streams: Arc<Mutex<Vec<(TcpStream, Value)>>>,
}

impl Upstream {
    /// A server of 2025-11-25 (`legacy`) or 2026-07-28 (`modern`) with these capabilities.
    pub fn start(
        era: &'static str,
        capabilities: Value,
        script: impl Fn(&Heard) -> Reply + Clone + Send + 'static,
    ) -> Upstream {
        let (heard, streams) = (Arc::default(), Arc::default());
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut upstream = Upstream { address: nowhere, era, heard, streams };
        let one = upstream.clone();
        upstream.address = listening(nowhere, move |stream, heard| one.serve(stream, heard, &capabilities, &script));
        upstream
    }

    fn serve(&self, stream: &mut TcpStream, heard: &Heard, capabilities: &Value, script: &impl Fn(&Heard) -> Reply) {
        let number = {
            let mut all = self.heard.lock().expect("nobody panics with it");
            all.push(heard.clone());
            all.len()
        };
        // Whoever gave up does not read it.
        let mut write = |text: &str| drop(stream.write_all(text.as_bytes()));
        let events = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
        let id = &heard.body["id"];
        let said = |member: &str, value: &Value| json!({"jsonrpc": "2.0", "id": id, member: value}).to_string();
        let refuse = |status: u16| format!("HTTP/1.1 {status} No\r\nContent-Length: 0\r\n\r\n");
        if heard.verb != "POST"
            && let Reply::Status(status) = script(heard)
        {
            return write(&refuse(status));
        }
        if heard.verb == "GET" || heard.method() == "subscriptions/listen" {
            write(events);
            if heard.verb == "POST" {
                let honoured = &heard.params()["notifications"];
                let params = json!({"_meta": {SUBSCRIPTION: id}, "notifications": honoured});
                let acknowledged = notice("notifications/subscriptions/acknowledged", params);
                write(&format!("data: {acknowledged}\n\n"));
            }
            let held = stream.try_clone().expect("a descriptor more");
            let of = heard.field("Mcp-Session-Id").map_or_else(|| id.clone(), Value::from);
            return self.streams.lock().expect("nobody panics with it").push((held, of));
        }
        if id.is_null() || heard.method().is_empty() {
            return write("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n");
        }
        let (more, text) = match script(heard) {
            Reply::After(messages, result) => {
                write(events);
                messages.iter().for_each(|message| write(&format!("data: {message}\n\n")));
                write(&format!("data: {}\n\n", said("result", &result)));
                return drop(stream.shutdown(std::net::Shutdown::Both));
            }
            Reply::Asking(question, result) => {
                write(events);
                write(&format!("data: {question}\n\n"));
                until("its question is answered", || {
                    self.heard("").iter().any(|one| one.body["id"] == question["id"]).then_some(())
                });
                write(&format!("data: {}\n\n", said("result", &result)));
                return drop(stream.shutdown(std::net::Shutdown::Both));
            }
            Reply::Status(status) => return write(&refuse(status)),
            Reply::Error(error) => (String::new(), said("error", &error)),
            Reply::Result(result) => (String::new(), said("result", &result)),
            Reply::Usual => {
                let opens = heard.method() == "initialize";
                let more = if opens { format!("Mcp-Session-Id: session-{number}\r\n") } else { String::new() };
                (more, said("result", &self.usual(heard, capabilities)))
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", text.len());
        write(&format!("{head}{more}\r\n{text}"));
    }

    fn usual(&self, heard: &Heard, capabilities: &Value) -> Value {
        let about = json!({"name": "scripted", "version": "7"});
        let mut result = match heard.method() {
            "initialize" => json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
                "serverInfo": about, "instructions": "Be brief."}),
            "server/discover" => json!({"supportedVersions": ["2026-07-28"], "capabilities": capabilities,
                "instructions": "Be brief.", "ttlMs": 1000, "cacheScope": "public"}),
            "tools/list" => {
                let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
                let tools = ["t", "u"].map(tool);
                json!({ "tools": tools })
            }
            "resources/list" => json!({"resources": [{"uri": "x:y", "name": "y"}]}),
            "resources/templates/list" => json!({"resourceTemplates": []}),
            "prompts/list" => json!({"prompts": [{"name": "p"}]}),
            "resources/read" => json!({"contents": [{"uri": heard.params()["uri"], "text": "z"}]}),
            "tools/call" => json!({"content": [{"type": "text", "text": "done"}]}),
            _ => json!({}),
        };
        if self.era == "modern" {
            result["resultType"] = "complete".into();
            result["_meta"]["io.modelcontextprotocol/serverInfo"] = about;
        }
        result
    }

    /// Its section of a configuration.
    pub fn section(&self, name: &str, more: &str) -> String {
        let Upstream { address, era, .. } = self;
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{address}/mcp\"\nera = \"{era}\"\n{more}\n")
    }

    /// A gateway before it, behind `/mcp/s`, that has reached it.
    pub fn gateway(&self, more: &str) -> Server {
        let gateway = Server::configured(&self.section("s", more));
        crate::gateway::reached(&gateway, "/mcp/s");
        gateway
    }

    /// What it was asked by this method, or told, in order.
    pub fn heard(&self, method: &str) -> Vec<Heard> {
        let all = self.heard.lock().expect("nobody panics with it");
        all.iter().filter(|one| one.method() == method).cloned().collect()
    }

    /// The methods of everything that it heard.
    pub fn methods(&self) -> Vec<String> {
        let all = self.heard.lock().expect("nobody panics with it");
        all.iter().map(|one| one.method().to_owned()).collect()
    }

    /// The sessions that it opened as is usual, sorted.
    pub fn opened_sessions(&self) -> Vec<String> {
        let all = self.heard.lock().expect("nobody panics with it");
        let opened = (1..).zip(all.iter()).filter(|(_, one)| one.method() == "initialize");
        let mut opened: Vec<String> = opened.map(|(number, _)| format!("session-{number}")).collect();
        opened.sort_unstable();
        opened
    }

    /// The sessions that it was told are over, sorted.
    pub fn ended_sessions(&self) -> Vec<String> {
        let all = self.heard.lock().expect("nobody panics with it");
        let deleted = all.iter().filter(|one| one.verb == "DELETE");
        let id = |one: &Heard| one.field("Mcp-Session-Id").expect("it says which").to_owned();
        let mut ended: Vec<String> = deleted.map(id).collect();
        ended.sort_unstable();
        ended
    }

    /// Says something on every stream that is open for such; a stream of subscriptions has its name in it.
    pub fn say(&self, method: &str, params: &Value) {
        self.say_where(method, params, |_| true);
    }

    /// Says something on the stream of one session.
    pub fn say_in(&self, session: &str, method: &str, params: &Value) {
        let said = until("the session has a stream", || {
            let said = self.say_where(method, params, |of| of == session);
            (said > 0).then_some(said)
        });
        assert_eq!(said, 1, "a session has one stream");
    }

    fn say_where(&self, method: &str, params: &Value, is_wanted: impl Fn(&Value) -> bool) -> usize {
        let (mut streams, mut said) = (self.streams.lock().expect("nobody panics with it"), 0);
        streams.retain_mut(|(stream, of)| {
            let mut params = params.clone();
            if of.is_number() {
                params["_meta"][SUBSCRIPTION] = of.clone();
            }
            let text = if is_wanted(of) { format!("data: {}\n\n", notice(method, params)) } else { ":\n\n".to_owned() };
            let is_open = stream.write_all(text.as_bytes()).is_ok();
            said += usize::from(is_open && is_wanted(of));
            is_open
        });
        said
    }

    /// Waits until so many streams are open at the same time, for such as come of their own accord.
    pub fn until_streams(&self, count: usize) {
        until("its streams are open", || {
            let mut streams = self.streams.lock().expect("nobody panics with it");
            streams.retain_mut(|(stream, _)| stream.write_all(b": there?\n\n").is_ok());
            (streams.len() >= count).then_some(())
        });
    }

    /// Waits until no more than so many streams are open, of those that were opened so far.
    pub fn until_no_more_streams(&self, count: usize) {
        until("its other streams are closed", || {
            let mut streams = self.streams.lock().expect("nobody panics with it");
            streams.retain_mut(|(stream, _)| stream.write_all(b": there?\n\n").is_ok());
            (streams.len() <= count).then_some(())
        });
    }
}

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn notice(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}
