//! A client's end of a connection: bytes out as they are, HTTP answers, events and lines in.
//!
//! Invariant: a read that gets nothing for `PATIENCE` fails the test; nothing is read twice and nothing skipped.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::process::PATIENCE;
use crate::request::Request;

pub struct Peer {
    stream: TcpStream,
    /// Bytes that came and were not taken yet.
    buffer: Vec<u8>,
    /// The peer has sent its last byte.
    ended: bool,
    /// Bytes of an event stream, out of their chunks.
    events: Vec<u8>,
    chunked: bool,
    /// The event stream is over.
    pub over: bool,
}

/// An answer, or the head of one.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands once: {self:?}");
        value
    }

    /// Every final answer says when it was made (RFC 9110, 6.6.1); the clocks are those of one host.
    fn is_dated(&self) {
        if self.status >= 200 {
            let date = self.field("Date").unwrap_or_else(|| panic!("without a Date: {self:?}"));
            let made = httpdate::parse_http_date(date).unwrap_or_else(|_| panic!("{date:?} is no date"));
            assert_eq!(httpdate::fmt_http_date(made), date, "the one form that is sent");
            let off = made.elapsed().unwrap_or_else(|error| error.duration());
            assert!(off < PATIENCE, "{date} is {off:?} away");
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("UTF-8")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.text()))
    }

    /// The code of the JSON-RPC error in it.
    pub fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error: {}", self.text()))
    }
}

/// One block of an event stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub event: Option<String>,
    pub data: Option<String>,
    pub retry: Option<String>,
    pub comment: bool,
}

impl Event {
    pub fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_default();
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Peer {
        Peer::try_connect(address).expect("somebody listens")
    }

    pub fn try_connect(address: SocketAddr) -> Option<Peer> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        let (buffer, events) = (Vec::new(), Vec::new());
        Some(Peer { stream, buffer, ended: false, events, chunked: false, over: false })
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes it");
    }

    /// Sends what the server may have had enough of.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends bytes in pieces, so that each arrives by itself: `cuts` are where a piece ends.
    pub fn send_torn(&mut self, bytes: &[u8], cuts: impl IntoIterator<Item = usize>) {
        let mut from = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            self.send(&bytes[from..cut]);
            from = cut;
            std::thread::yield_now();
        }
    }

    /// Says that nothing more will be sent.
    pub fn finish(&self) {
        self.stream.shutdown(Shutdown::Write).expect("connected");
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 16 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.ended = true,
            Ok(count) => self.buffer.extend_from_slice(&bytes[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {
                self.ended = true
            }
            // A debugger, or a machine that was paused, interrupts reads that have a time limit.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}; what came so far: {:?}", String::from_utf8_lossy(&self.buffer)),
        }
        !self.ended
    }

    /// Whether the connection ends without another byte.
    pub fn ends(&mut self) -> bool {
        while self.buffer.is_empty() && self.fill() {}
        assert!(self.buffer.is_empty(), "unexpected: {:?}", String::from_utf8_lossy(&self.buffer));
        true
    }

    /// Whether nothing comes for a while. For what must not happen: it can only pass by mistake, never fail by one.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        assert!(self.buffer.is_empty() && self.events.is_empty(), "something came before");
        self.stream.set_read_timeout(Some(time)).expect("a socket");
        let silent = matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        silent
    }

    /// Whether the server closes without an answer, or says that it takes nothing.
    pub fn was_refused(&mut self) -> bool {
        while self.buffer.is_empty() && self.fill() {}
        self.buffer.is_empty() || self.answer().status == 503
    }

    fn take_line(&mut self) -> String {
        let at = loop {
            match self.buffer.windows(2).position(|two| two == b"\r\n") {
                Some(at) => break at,
                None => assert!(self.fill(), "ended in the middle: {:?}", String::from_utf8_lossy(&self.buffer)),
            }
        };
        let line = self.buffer.drain(..at + 2).take(at).collect();
        String::from_utf8(line).expect("a head is text")
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        while self.buffer.len() < count {
            assert!(self.fill(), "ended {} bytes too early", count - self.buffer.len());
        }
        self.buffer.drain(..count).collect()
    }

    /// The status line and fields of the next answer.
    pub fn head(&mut self) -> Answer {
        let line = self.take_line();
        let status = line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {line:?}"));
        let mut fields = Vec::new();
        loop {
            let line = self.take_line();
            if line.is_empty() {
                let answer = Answer { status, fields, body: Vec::new() };
                answer.is_dated();
                return answer;
            }
            let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field: {line:?}"));
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The next answer, whole.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        if let Some(length) = answer.field("Content-Length") {
            answer.body = self.take(length.parse().expect("a number"));
        } else if answer.field("Transfer-Encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                answer.body.extend(chunk);
            }
        } else if answer.status != 204 && answer.status >= 200 {
            while self.fill() {}
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer
    }

    fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.take_line();
        let size = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no chunk size: {size:?}"));
        let bytes = self.take(size);
        assert_eq!(self.take(2), b"\r\n");
        (size > 0).then_some(bytes)
    }

    /// Sends a request and takes its answer.
    pub fn ask(&mut self, request: &Request) -> Answer {
        self.send(request.bytes());
        self.answer()
    }

    /// Sends a request whose answer is an event stream; its head.
    pub fn open(&mut self, request: &Request) -> Answer {
        self.send(request.bytes());
        self.stream_head()
    }

    pub fn stream_head(&mut self) -> Answer {
        let mut head = self.head();
        if head.field("Content-Type") != Some("text/event-stream") {
            let length = head.field("Content-Length").map_or(0, |length| length.parse().expect("a number"));
            head.body = self.take(length);
            panic!("not a stream: {head:?} {}", head.text());
        }
        self.chunked = head.field("Transfer-Encoding") == Some("chunked");
        self.over = false;
        head
    }

    /// The next block of the stream; none once it is over.
    pub fn block(&mut self) -> Option<Event> {
        loop {
            if let Some(at) = self.events.windows(2).position(|two| two == b"\n\n") {
                let block: Vec<u8> = self.events.drain(..at + 2).take(at).collect();
                return Some(read_block(&String::from_utf8(block).expect("events are UTF-8")));
            }
            if self.over {
                assert!(self.events.is_empty(), "the stream ended inside an event");
                return None;
            }
            if self.chunked {
                match self.chunk() {
                    Some(chunk) => self.events.extend(chunk),
                    None => self.over = true,
                }
            } else {
                self.over = !self.fill();
                self.events.append(&mut self.buffer);
            }
        }
    }

    /// The next event that carries a message, past comments, `retry` and priming.
    pub fn event(&mut self) -> Option<Event> {
        let mut comments = 0;
        loop {
            let block = self.block()?;
            // Each comes after a pause, so a stream that says nothing else would be waited for without end.
            comments += u32::from(block.comment);
            assert!(comments < 3, "nothing but comments");
            if block.data.as_ref().is_some_and(|data| !data.is_empty()) {
                return Some(block);
            }
        }
    }

    /// The id of the priming event that a stream begins with, and the wait that the client is told before it.
    pub fn primed(&mut self) -> String {
        let told = self.block().expect("a stream begins with a block");
        assert_eq!((told.retry.as_deref(), told.id, told.data), (Some("1000"), None, None));
        let priming = self.block().expect("and goes on with another");
        assert_eq!((priming.data.as_deref(), priming.event), (Some(""), None), "older clients could not read this");
        priming.id.expect("a priming event carries an id")
    }

    /// The messages of the rest of the stream.
    pub fn rest(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.event()).map(|event| event.json()).collect()
    }

    /// A JSON message on a line of its own.
    pub fn write_line(&mut self, message: &Value) {
        self.send(format!("{message}\n"));
    }

    /// The next line, as it came.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|&byte| byte == b'\n') {
                return Some(self.buffer.drain(..=at).take(at).collect());
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "cut: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        }
    }

    /// The next line, read.
    pub fn read_line(&mut self) -> Value {
        let line = self.line().expect("another line");
        serde_json::from_slice(&line).unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&line)))
    }
}

fn read_block(text: &str) -> Event {
    let mut event = Event::default();
    for line in text.lines() {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
        match name {
            "" => event.comment = true,
            "data" => event.data = Some(event.data.map_or(value.clone(), |data| format!("{data}\n{value}"))),
            "event" => event.event = Some(value),
            "id" => event.id = Some(value),
            "retry" => event.retry = Some(value),
            _ => panic!("an unknown field: {line:?}"),
        }
    }
    event
}
