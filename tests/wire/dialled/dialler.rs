//! A server that dials in, in a thread: what it answers, what it was asked, and how it was let go.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::KEY;
use crate::process::{PATIENCE, until};
use crate::request::MODERN;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Wire {
    Lines,
    WebSocket,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Era {
    Legacy,
    Modern,
    /// What nobody speaks yet.
    Unheard,
}

/// One end of a connection on which messages go both ways.
pub enum Link {
    Lines(BufReader<TcpStream>),
    WebSocket(Box<WebSocket<TcpStream>>),
}

/// How a link ended: with a code, where it has one.
pub type Farewell = Option<u16>;

impl Link {
    pub fn connect(address: SocketAddr, wire: Wire) -> Link {
        let stream = TcpStream::connect(address).expect("somebody listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(2 * PATIENCE)).expect("a socket");
        match wire {
            Wire::Lines => Link::Lines(BufReader::new(stream)),
            Wire::WebSocket => {
                let (socket, _) = tungstenite::client(format!("ws://{address}/"), stream).expect("a handshake");
                Link::WebSocket(Box::new(socket))
            }
        }
    }

    pub fn stream(&self) -> &TcpStream {
        match self {
            Link::Lines(reader) => reader.get_ref(),
            Link::WebSocket(socket) => socket.get_ref(),
        }
    }

    pub fn write(&mut self, message: &Value) {
        match self {
            // Whoever has let go does not read it.
            Link::Lines(reader) => drop(reader.get_mut().write_all(format!("{message}\n").as_bytes())),
            Link::WebSocket(socket) => drop(socket.send(Message::text(message.to_string()))),
        }
    }

    /// The next message, or how the link ended.
    pub fn read(&mut self) -> Result<Value, Farewell> {
        let text = match self {
            Link::Lines(reader) => {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return Err(None),
                    Ok(_) => line,
                }
            }
            Link::WebSocket(socket) => loop {
                match socket.read() {
                    Ok(Message::Text(text)) => break text.as_str().to_owned(),
                    Ok(Message::Close(frame)) => {
                        let code = frame.map(|frame| u16::from(frame.code));
                        while socket.read().is_ok() {}
                        return Err(code);
                    }
                    Ok(_) => {}
                    Err(_) => return Err(None),
                }
            },
        };
        Ok(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// Presents itself; the answer.
    pub fn present(&mut self, name: &str, key: &str) -> Result<Value, Farewell> {
        let params = json!({"name": name, "key": key});
        self.write(&json!({"jsonrpc": "2.0", "id": 1, "method": "corelane/dial", "params": params}));
        self.read()
    }
}

pub struct Dialler {
    stream: TcpStream,
    asked: Arc<Mutex<Vec<Value>>>,
    release: Sender<()>,
    thread: JoinHandle<Farewell>,
}

/// Dials in as `w`, and answers from then on.
pub fn dial(address: SocketAddr, wire: Wire, era: Era, tag: &'static str) -> Dialler {
    let mut link = Link::connect(address, wire);
    let admitted = link.present("w", KEY).unwrap_or_else(|code| panic!("not let in: {code:?}"));
    assert_eq!(admitted, json!({"jsonrpc": "2.0", "id": 1, "result": {"name": "w"}}));
    let stream = link.stream().try_clone().expect("a descriptor");
    let (asked, (release, released)) = (Arc::default(), channel());
    let seen = Arc::clone(&asked);
    let thread = std::thread::spawn(move || serve(&mut link, era, tag, &seen, &released));
    Dialler { stream, asked, release, thread }
}

impl Dialler {
    /// Breaks the connection off.
    pub fn kill(self) {
        // It may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.thread.join().expect("the server's thread");
    }

    /// How often it was asked for a tool.
    pub fn asked(&self, tool: &str) -> usize {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().filter(|one| one["params"]["name"] == tool).count()
    }

    /// How often it was sent a message of this method.
    pub fn sent(&self, method: &str) -> usize {
        self.asked.lock().expect("no panic").iter().filter(|one| one["method"] == method).count()
    }

    pub fn until_asked(&self, tool: &str, count: usize) {
        until("the server was asked", || (self.asked(tool) == count).then_some(()));
    }

    /// Has it answer all that waits, now and later.
    pub fn release(&self) {
        self.release.send(()).expect("it lives");
    }

    /// How it was let go.
    pub fn farewell(self) -> Farewell {
        until("it is let go", || self.thread.is_finished().then_some(()));
        self.thread.join().expect("the server's thread")
    }
}

impl Link {
    /// The same, if it comes within a moment.
    fn read_soon(&mut self, time: Duration) -> Option<Result<Value, Farewell>> {
        let is_buffered = matches!(self, Link::Lines(reader) if !reader.buffer().is_empty());
        self.stream().set_read_timeout(Some(time)).expect("a socket");
        let is_silent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
        let read = match self {
            // Half a line would be lost with the time.
            Link::Lines(reader) if !is_buffered && reader.get_ref().peek(&mut [0]).is_err_and(|e| is_silent(&e)) => {
                None
            }
            Link::Lines(_) => {
                self.stream().set_read_timeout(Some(2 * PATIENCE)).expect("a socket");
                Some(self.read())
            }
            Link::WebSocket(socket) => match socket.read() {
                Err(tungstenite::Error::Io(error)) if is_silent(&error) => None,
                Ok(Message::Text(text)) => Some(Ok(serde_json::from_str(text.as_str()).expect("JSON"))),
                Ok(Message::Close(frame)) => {
                    let code = frame.map(|frame| u16::from(frame.code));
                    while socket.read().is_ok() {}
                    Some(Err(code))
                }
                Ok(_) => None,
                Err(_) => Some(Err(None)),
            },
        };
        self.stream().set_read_timeout(Some(2 * PATIENCE)).expect("a socket");
        read
    }
}

/// Answers until the link ends. `wait` is answered once that is released, `ask` once its caller has answered.
fn serve(link: &mut Link, era: Era, tag: &str, seen: &Mutex<Vec<Value>>, released: &Receiver<()>) -> Farewell {
    let (mut waiting, mut asking, mut is_released) = (Vec::new(), Vec::new(), false);
    let tools = ["who", "wait", "echo", "ask"].map(|name| json!({"name": name, "inputSchema": {"type": "object"}}));
    loop {
        is_released |= released.try_recv().is_ok();
        if is_released {
            for id in waiting.drain(..) {
                link.write(&said(&id, &format!("waited {tag}")));
            }
        }
        let message = match link.read_soon(Duration::from_millis(5)) {
            Some(Ok(message)) => message,
            Some(Err(farewell)) => return farewell,
            None => continue,
        };
        seen.lock().expect("no panic").push(message.clone());
        let id = &message["id"];
        let answer = |result: Value| json!({"jsonrpc": "2.0", "id": id, "result": result});
        let (info, capabilities) = (json!({"name": tag, "version": "1"}), json!({"tools": {}}));
        let (legacy, modern) = if era == Era::Unheard { ("2099-01-01", "2099-01-01") } else { ("2025-11-25", MODERN) };
        match (message["method"].as_str(), era) {
            (Some("initialize"), Era::Legacy | Era::Unheard) => link
                .write(&answer(json!({"protocolVersion": legacy, "capabilities": capabilities, "serverInfo": info}))),
            (Some("server/discover"), Era::Modern | Era::Unheard) => link.write(&answer(json!({
                "resultType": "complete", "supportedVersions": [modern], "capabilities": capabilities,
                "_meta": {"io.modelcontextprotocol/serverInfo": info},
            }))),
            (Some("tools/list"), _) => link
                .write(&answer(json!({"resultType": "complete", "tools": tools, "ttlMs": 0, "cacheScope": "public"}))),
            (Some("tools/call"), _) => match message["params"]["name"].as_str() {
                Some("who") => link.write(&said(id, tag)),
                Some("echo") => link.write(&said(id, message["params"]["arguments"]["data"].as_str().expect("text"))),
                Some("ask") => {
                    let params = json!({"message": tag, "requestedSchema": {"type": "object", "properties": {}}});
                    // Every connection gives its questions the same ids.
                    link.write(&json!({"jsonrpc": "2.0", "id": 1, "method": "elicitation/create", "params": params}));
                    asking.push(id.clone());
                }
                _ => waiting.push(id.clone()),
            },
            (Some(_), _) if id.is_null() => {}
            (Some(_), _) => link.write(&json!({
                "jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "no such method"},
            })),
            (None, _) => {
                let told = message["result"]["content"]["name"].as_str().unwrap_or("nothing").to_owned();
                for id in asking.drain(..) {
                    link.write(&said(&id, &format!("{tag} was told {told}")));
                }
            }
        }
    }
}

fn said(id: &Value, text: &str) -> Value {
    let content = json!([{"type": "text", "text": text}]);
    json!({"jsonrpc": "2.0", "id": id, "result": {"resultType": "complete", "content": content}})
}
