//! WebSocket of one connection, behind its handshake: bytes of the wire to messages and back, by tungstenite.
//!
//! Not here: sockets, the handshake (`boot::dial_in`), what is said. Invariant: a message larger than was allowed ends
//! the connection before it is there; whatever is to be written is taken out by `take_out`, nothing is kept back.

use std::io::{self, ErrorKind, Read, Write};

use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

/// Bytes that are read ahead; messages take what they need.
const READ_BYTES: usize = 4 * 1024;

/// What came.
#[derive(PartialEq, Eq, Debug)]
pub enum Said {
    /// A text.
    Message(Vec<u8>),
    /// The peer takes its leave.
    Farewell,
}

/// One connection.
pub struct WebSocket {
    context: WebSocketContext,
    out: Vec<u8>,
}

/// What the context reads and writes for the length of a call.
struct Ends<'a> {
    wire: &'a [u8],
    out: &'a mut Vec<u8>,
}

impl Read for Ends<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.wire.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.wire.read(into)
    }
}

impl Write for Ends<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WebSocket {
    /// The server's side of a connection on which messages are of so many bytes at most.
    pub fn new(message_bytes_max: usize) -> WebSocket {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(message_bytes_max))
            .max_frame_size(Some(message_bytes_max));
        WebSocket { context: WebSocketContext::new(Role::Server, Some(config)), out: Vec::new() }
    }

    /// From now on messages are of so many bytes at most.
    pub fn set_message_bytes_max(&mut self, most: usize) {
        self.context.set_config(|config| {
            config.max_message_size = Some(most);
            config.max_frame_size = Some(most);
        });
    }

    /// Takes bytes from the wire; what they brought is handed to `hear`, in order. There may be something to
    /// `take_out` behind it, also behind an error.
    ///
    /// # Errors
    /// What is wrong with them, as the end of a sentence that begins with who sent them.
    pub fn open(&mut self, wire: &[u8], mut hear: impl FnMut(Said)) -> Result<(), String> {
        let WebSocket { context, out } = self;
        let mut ends = Ends { wire, out };
        loop {
            match context.read(&mut ends) {
                Ok(Message::Text(text)) => hear(Said::Message(text.as_bytes().to_vec())),
                Ok(Message::Binary(_)) => {
                    let why = "sent a binary message, and only texts are understood";
                    Self::end(context, &mut ends, CloseCode::Unsupported, why);
                    return Err(why.to_owned());
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_)) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    hear(Said::Farewell);
                    return Ok(());
                }
                Err(error) => {
                    let code = match error {
                        Error::Capacity(_) => CloseCode::Size,
                        Error::Utf8(_) => CloseCode::Invalid,
                        _ => CloseCode::Protocol,
                    };
                    Self::end(context, &mut ends, code, "");
                    return Err(format!("broke the rules of WebSocket: {error}"));
                }
            }
        }
    }

    /// Says a text.
    pub fn say(&mut self, text: &[u8]) {
        // What is sent was judged when it came, or is our own.
        let text = String::from_utf8_lossy(text).into_owned();
        self.send(Message::text(text));
    }

    /// Asks whether the peer is still there; it has to answer.
    pub fn ping(&mut self) {
        self.send(Message::Ping(Vec::new().into()));
    }

    /// Takes leave.
    pub fn farewell(&mut self, why: &'static str) {
        let WebSocket { context, out } = self;
        Self::end(context, &mut Ends { wire: &[], out }, CloseCode::Away, why);
    }

    /// What is to be written by now.
    pub fn take_out(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// How much that is.
    pub fn unsent(&self) -> usize {
        self.out.len()
    }

    fn send(&mut self, message: Message) {
        let WebSocket { context, out } = self;
        // Fails only when the connection is over, which is heard of otherwise.
        let mut ends = Ends { wire: &[], out };
        let _ = context.write(&mut ends, message).and_then(|()| context.flush(&mut ends));
    }

    fn end(context: &mut WebSocketContext, ends: &mut Ends<'_>, code: CloseCode, why: &'static str) {
        // Fails only when the connection is over.
        let _ = context.close(ends, Some(CloseFrame { code, reason: why.into() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames as a client masks them, with a key of zeros.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(0x80 | short as u8),
            long => {
                out.push(0x80 | 126);
                out.extend_from_slice(&u16::try_from(long).expect("short enough").to_be_bytes());
            }
        }
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(payload);
        out
    }

    fn heard(socket: &mut WebSocket, wire: &[u8]) -> (Vec<Said>, Option<String>) {
        let mut heard = Vec::new();
        let error = socket.open(wire, |said| heard.push(said)).err();
        (heard, error)
    }

    #[test]
    fn texts_come_whole_however_they_are_cut() {
        let wire = [frame(0x01, b"{\"a\":"), frame(0x89, b"!"), frame(0x80, b"1}"), frame(0x81, b"{}")].concat();
        for cut in 1..wire.len() {
            let mut socket = WebSocket::new(64);
            let (mut texts, none) = heard(&mut socket, &wire[..cut]);
            let (more, neither) = heard(&mut socket, &wire[cut..]);
            texts.extend(more);
            assert_eq!(texts, [Said::Message(b"{\"a\":1}".to_vec()), Said::Message(b"{}".to_vec())], "{cut}");
            let mut out = Vec::new();
            socket.take_out(&mut out);
            assert_eq!((none, neither, &out[..]), (None, None, &b"\x8a\x01!"[..]), "a ping is answered");
        }
    }

    #[test]
    fn what_breaks_the_rules_is_refused_and_said_so() {
        let cases = [
            (frame(0x82, b"{}"), 1003, "binary"),
            (frame(0x81, &[b'x'; 65]), 1009, "too long"),
            (frame(0x81, b"\xff"), 1007, "UTF-8"),
            (b"\x81\x02{}".to_vec(), 1002, "mask"),
            (frame(0xf1, b""), 1002, "reserved"),
        ];
        for (wire, code, words) in cases {
            let mut socket = WebSocket::new(64);
            let (said, error) = heard(&mut socket, &wire);
            let error = error.unwrap_or_else(|| panic!("{wire:?} passed: {said:?}"));
            assert!(said.is_empty() && error.to_lowercase().contains(&words.to_lowercase()), "{error}");
            let mut out = Vec::new();
            socket.take_out(&mut out);
            assert_eq!((out[0], u16::from_be_bytes([out[2], out[3]])), (0x88, code), "{error}");
        }
        let mut socket = WebSocket::new(64);
        let long = [frame(0x01, &[b'x'; 40]), frame(0x80, &[b'x'; 40])].concat();
        assert!(heard(&mut socket, &long).1.is_some(), "in parts neither");
        let mut socket = WebSocket::new(64);
        socket.set_message_bytes_max(65);
        assert_eq!(heard(&mut socket, &frame(0x81, &[b'x'; 65])).0.len(), 1);
    }

    #[test]
    fn leave_is_taken_by_either_side() {
        let mut socket = WebSocket::new(64);
        assert_eq!(heard(&mut socket, &frame(0x88, &1000_u16.to_be_bytes())), (vec![Said::Farewell], None));
        let mut socket = WebSocket::new(64);
        socket.say(b"{}");
        socket.farewell("bye");
        socket.say(b"{}");
        let mut out = Vec::new();
        socket.take_out(&mut out);
        assert_eq!(out, b"\x81\x02{}\x88\x05\x03\xe9bye", "nothing is said behind it");
        assert_eq!(socket.unsent(), 0);
    }
}
