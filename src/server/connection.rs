//! One connection: the bytes that came and wait, the bytes that are to go, and how the first become frames.
//!
//! Not here: what a frame asks for (`http`, `lines`), sockets.
//! Invariant: an idle connection holds no buffer; no byte is looked at again because more arrived, except that a head
//! whose body is still coming is read once more when the body is there.

use std::cell::Cell;
use std::net::SocketAddr;

use super::carried::Load;
use super::early::Early;
use super::exchange::ExchangeKey;
use super::filter::ByteFilter;
use super::service::Nanos;
use super::wheel::Handle;
use crate::ids::{ConnectionId, View};
use crate::proto::http1::{
    BodyFraming, ChunkError, ChunkedDecoder, Head, HeadError, HeadFinder, HeadTemplates, StreamFraming, parse,
};
use crate::proto::ndjson::{LineFinder, LineTooLong};
use crate::shard::rate::Bucket;
use crate::shard::session::{SessionKey, Terms};

/// What is spoken on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// HTTP/1.1.
    Http,
    /// One JSON message per line, both ways.
    Lines,
}

/// How far a connection's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Frames are taken.
    Open,
    /// What is in `out` is sent, then the connection is closed.
    Finishing,
    /// The last answer is sent and our side shut; what the peer still sends is thrown away, so that the answer is not
    /// lost to a reset (RFC 9112, 9.6).
    Lingering,
    /// Given up; only its end is awaited.
    Closing,
}

/// The answer to the HTTP request that occupies a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HttpAnswer {
    /// Nothing written yet: it may still become JSON or an event stream.
    Undecided {
        /// The peer takes an event stream.
        stream: bool,
        /// The peer wants no body (HEAD).
        bodiless: bool,
        /// HTTP minor version.
        minor: u8,
        /// The connection may serve another request after it.
        keep_alive: bool,
    },
    /// Events are going out.
    Stream {
        /// How they are delimited.
        framing: StreamFraming,
        /// The connection may serve another request after it.
        keep_alive: bool,
    },
}

/// A connection's state, between two steps.
pub struct Connection {
    /// Who it is.
    pub id: ConnectionId,
    /// Index of the listener it came by.
    pub listener: u16,
    /// What its requests see: for HTTP, by the path of the one being served.
    pub view: View,
    /// Lines: a message has come.
    pub has_spoken: bool,
    /// How far its life has come.
    pub phase: Phase,
    /// Where it came from, for internet sockets.
    pub peer: Option<SocketAddr>,
    /// Bytes that came and belong to no complete frame yet, or to frames whose turn has not come.
    pub carry: Vec<u8>,
    /// Bytes to be sent.
    pub out: Vec<u8>,
    /// How much of that is what nobody asked for.
    pub unasked: usize,
    /// Bytes of the send in flight; 0 for none.
    pub sending: usize,
    /// When that send began, if it is timed; else 0.
    pub sending_since: Nanos,
    /// It is one of those that the core serves, and holds a permit.
    pub is_served: bool,
    /// It is in the core's list of those with something to send.
    pub dirty: bool,
    /// The driver reads it.
    pub reading: bool,
    /// The peer will send no more.
    pub ended: bool,
    /// HTTP: the exchange whose answer is being waited for or streamed.
    pub exchange: Option<ExchangeKey>,
    /// HTTP: calls of one batch that are still to answer into the stream.
    pub batch_left: u16,
    /// HTTP: how that answer stands.
    pub answer: Option<HttpAnswer>,
    /// HTTP: the origin that may read the answer, if a browser asked.
    pub origin: Option<Box<[u8]>>,
    /// HTTP: the request says that it is a modern one, whose errors leave out an id that is not known.
    pub is_modern: bool,
    /// A message that waits until it is known who is to be asked; nothing behind it is read before.
    pub early: Option<Box<Early>>,
    /// The message that is being handled has waited.
    pub has_waited: bool,
    /// Lines: calls and subscriptions in flight. HTTP: the pending calls of a batch, or of a 2024-11-05 stream.
    pub calls: Vec<ExchangeKey>,
    /// HTTP: the session used last, so that its id need not be opened again. Lines: the connection's own session.
    pub session: Option<SessionKey>,
    /// The terms of the session that is the connection's own, so that a call need not wait for the memory of a session
    /// that was last touched thousands of calls ago. In a cell because a message may change them while it is handled.
    pub terms: Option<Cell<Terms>>,
    /// Lines: stands for the connection as a place to send to, once a legacy session is open on it.
    pub duplex: Option<ExchangeKey>,
    /// Clear bytes out of the wire's, unless they are the same.
    pub filter: Option<Box<dyn ByteFilter>>,
    /// Frames out of bytes.
    pub framing: Framing,
    /// When something has to happen, `Nanos::MAX` for never.
    pub deadline: Nanos,
    /// The tick of its entry on the wheel, and the entry.
    pub timer: Option<(u64, Handle)>,
    /// When the frame that is being received began, or the body's first byte came.
    pub frame_since: Nanos,
    /// What it was last seen to carry.
    pub load: Load,
    /// What its messages have used of their rate.
    pub bucket: Bucket,
    /// When its next message may be read, while that has to wait and until somebody has seen to it that it is; else 0.
    pub paced_until: Nanos,
    /// When something was sent or received last.
    pub active_at: Nanos,
    /// When the send that is under way began or made progress last.
    pub sent_at: Nanos,
}

impl Connection {
    /// Whether no answer is to come.
    pub fn owes_nothing(&self) -> bool {
        self.exchange.is_none() && self.calls.is_empty() && self.early.is_none()
    }

    /// A connection that has just come in.
    pub fn new(id: ConnectionId, listener: u16, wire: Wire, peer: Option<SocketAddr>, now: Nanos) -> Connection {
        Connection {
            id,
            listener,
            view: View::ALL,
            has_spoken: false,
            phase: Phase::Open,
            peer,
            carry: Vec::new(),
            out: Vec::new(),
            unasked: 0,
            sending: 0,
            sending_since: 0,
            is_served: false,
            dirty: false,
            reading: true,
            ended: false,
            exchange: None,
            batch_left: 0,
            answer: None,
            origin: None,
            is_modern: false,
            early: None,
            has_waited: false,
            calls: Vec::new(),
            session: None,
            terms: None,
            duplex: None,
            filter: None,
            framing: Framing::new(wire),
            deadline: Nanos::MAX,
            timer: None,
            frame_since: now,
            load: Load::None,
            bucket: Bucket::default(),
            paced_until: 0,
            active_at: now,
            sent_at: now,
        }
    }

    /// What is spoken on it.
    pub fn wire(&self) -> Wire {
        match self.framing {
            Framing::Lines(_) => Wire::Lines,
            _ => Wire::Http,
        }
    }

    /// Bytes on their way out.
    pub fn egress(&self) -> usize {
        self.out.len() + self.sending + self.filter.as_ref().map_or(0, |filter| filter.held())
    }

    /// Whether there is something to send that may be sent now.
    pub fn has_to_send(&self) -> bool {
        !self.out.is_empty() || self.filter.as_ref().is_some_and(|filter| filter.has_words())
    }

    /// A send begins or makes progress.
    pub fn send_moves(&mut self, now: Nanos) {
        (self.active_at, self.sent_at) = (now, now);
    }

    /// Whether nothing of a frame has come, nor of what a filter makes frames of.
    pub fn is_between_frames(&self) -> bool {
        self.framing.is_between_frames(self.carry.len())
            && self.filter.as_ref().is_none_or(|filter| !filter.is_within_record())
    }

    /// Whether a connection of lines has answered every line that came.
    pub fn has_no_line_left(&self) -> bool {
        let awaits_none = self.calls.is_empty() && self.early.is_none();
        self.wire() == Wire::Lines && awaits_none && memchr::memchr(b'\n', &self.carry).is_none()
    }

    /// Whether nothing is in flight and nothing of a frame has come.
    pub fn is_idle(&self) -> bool {
        let awaits_none = self.exchange.is_none() && self.early.is_none() && self.calls.is_empty();
        awaits_none && self.carry.is_empty() && self.egress() == 0
    }
}

/// Where the framing of a connection stands.
pub enum Framing {
    /// A request head is awaited or has come in part.
    Head(HeadFinder),
    /// A head has come and `total` bytes make the request, head included.
    Body {
        /// Bytes of the head.
        head: usize,
        /// Bytes of head and body.
        total: usize,
    },
    /// A chunked body is coming in.
    Chunked(Box<Assembly>),
    /// Lines.
    Lines(LineFinder),
}

/// A request with a chunked body, put together.
pub struct Assembly {
    /// The head's bytes.
    pub head: Vec<u8>,
    /// The body so far.
    pub body: Vec<u8>,
    decoder: ChunkedDecoder,
}

/// What a connection's next bytes are.
#[allow(clippy::large_enum_variant, reason = "a frame lives on the stack for one step; a box would cost more")]
pub enum Frame<'b> {
    /// A chunked request, whole.
    Assembled(Box<Assembly>),
    /// The peer waits for leave to send the body behind this head.
    Continue(Head<'b>),
    /// The bytes cannot be read as frames.
    Fault(Fault),
    /// A line, without its end.
    Line(&'b [u8]),
    /// Nothing yet: more bytes are needed.
    More,
    /// A request, whole.
    Request(Head<'b>, &'b [u8]),
}

/// Why a connection cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A body longer than allowed.
    #[error("the body has {bytes} bytes or more, {max} are allowed; raise limits.body_bytes if that is meant")]
    BodyTooLarge {
        /// Bytes announced or seen.
        bytes: u64,
        /// Bytes allowed.
        max: usize,
    },
    /// A chunked body that is none.
    #[error("the chunked body cannot be read: {0}")]
    Chunk(#[from] ChunkError),
    /// A head that cannot be read in one way only.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// A request line of HTTP where lines of JSON are spoken. Whatever a browser can be made to send begins with one,
    /// so nothing behind it is looked at.
    #[error("this is a port for lines of JSON, and HTTP or TLS was sent; HTTP is spoken on serve.listen")]
    HttpOnLines,
    /// A line longer than allowed.
    #[error("the line has more than {max} bytes; raise limits.line_bytes if that is meant")]
    LineTooLong {
        /// Bytes allowed.
        max: usize,
    },
}

impl Fault {
    /// The HTTP status that answers it.
    pub fn status(&self) -> u16 {
        match self {
            Fault::BodyTooLarge { .. } | Fault::LineTooLong { .. } => 413,
            Fault::HttpOnLines => 400,
            Fault::Chunk(error) => error.status(),
            Fault::Head(error) => error.status(),
        }
    }
}

impl Framing {
    fn new(wire: Wire) -> Framing {
        match wire {
            Wire::Http => Framing::Head(HeadFinder::new()),
            Wire::Lines => Framing::Lines(LineFinder::new()),
        }
    }

    /// Nothing more is read: a body that has come in part is forgotten.
    pub fn let_go(&mut self) {
        if let Framing::Chunked(_) = self {
            *self = Framing::new(Wire::Http);
        }
    }

    /// Whether part of a frame has come.
    pub fn is_between_frames(&self, carry: usize) -> bool {
        match self {
            Framing::Head(_) | Framing::Lines(_) => carry == 0,
            Framing::Body { .. } | Framing::Chunked(_) => false,
        }
    }

    /// The next frame of `buffer`, and how many bytes at its front are used up. The rest must stand at the front of the
    /// buffer of the next call, with more behind it.
    pub fn next<'b>(
        &mut self,
        buffer: &'b [u8],
        heads: &mut HeadTemplates,
        body_max: usize,
        line_max: usize,
    ) -> (usize, Frame<'b>) {
        match self {
            Framing::Head(finder) => match finder.read(buffer, heads) {
                Ok(Some((length, head))) => self.begin_request(buffer, length, head, body_max),
                Ok(None) => (finder.skip_empty_line().unwrap_or(0), Frame::More),
                Err(error) => (0, Frame::Fault(error.into())),
            },
            &mut Framing::Body { head, total } => {
                if buffer.len() < total {
                    return (0, Frame::More);
                }
                *self = Framing::new(Wire::Http);
                let again = &buffer[..head];
                match heads.read(again).map_or_else(|| parse(again), |(_, parsed)| Ok(parsed)) {
                    Ok(parsed) => (total, Frame::Request(parsed, &buffer[head..total])),
                    Err(error) => (0, Frame::Fault(error.into())),
                }
            }
            Framing::Chunked(assembly) => match assembly.decoder.decode(buffer, &mut assembly.body, body_max) {
                Ok(decoded) if !decoded.finished => (decoded.consumed, Frame::More),
                Ok(decoded) => {
                    let Framing::Chunked(assembly) = std::mem::replace(self, Framing::new(Wire::Http)) else {
                        unreachable!("the state was matched above")
                    };
                    (decoded.consumed, Frame::Assembled(assembly))
                }
                Err(error) => (0, Frame::Fault(error.into())),
            },
            Framing::Lines(finder) => {
                let mut lines = finder.lines(buffer, line_max);
                let line = lines.next();
                let consumed = lines.consumed();
                match line {
                    Some(Ok(line)) if is_of_a_browser(line) => (consumed, Frame::Fault(Fault::HttpOnLines)),
                    Some(Ok(line)) => (consumed, Frame::Line(line)),
                    None => (consumed, Frame::More),
                    Some(Err(LineTooLong { max })) => (consumed, Frame::Fault(Fault::LineTooLong { max })),
                }
            }
        }
    }

    fn begin_request<'b>(
        &mut self,
        buffer: &'b [u8],
        head: usize,
        parsed: Head<'b>,
        body_max: usize,
    ) -> (usize, Frame<'b>) {
        let body_awaited = |parsed: Head<'b>| {
            if parsed.expect_continue && buffer.len() == head { Frame::Continue(parsed) } else { Frame::More }
        };
        match parsed.body {
            BodyFraming::None => {
                *self = Framing::new(Wire::Http);
                (head, Frame::Request(parsed, &[]))
            }
            BodyFraming::Length(bytes) => {
                if bytes > body_max as u64 {
                    return (0, Frame::Fault(Fault::BodyTooLarge { bytes, max: body_max }));
                }
                let total = head + bytes as usize;
                if buffer.len() >= total {
                    *self = Framing::new(Wire::Http);
                    return (total, Frame::Request(parsed, &buffer[head..total]));
                }
                *self = Framing::Body { head, total };
                (0, body_awaited(parsed))
            }
            BodyFraming::Chunked => {
                let assembly =
                    Assembly { head: buffer[..head].to_vec(), body: Vec::new(), decoder: ChunkedDecoder::default() };
                *self = Framing::Chunked(Box::new(assembly));
                // The bytes behind the head are looked at in the next call.
                (head, body_awaited(parsed))
            }
        }
    }
}

/// Whether a line is the request line of HTTP (RFC 9112, 3), whatever its method, or begins a handshake of TLS (RFC
/// 8446, 5.1). A page can have a browser send both, with bytes of its own in lines behind.
fn is_of_a_browser(line: &[u8]) -> bool {
    let version = || line.len().checked_sub(b" HTTP/1.1".len()).map_or(&[][..], |at| &line[at..]);
    match line {
        [22, 3, ..] => true,
        // Of JSON-RPC nothing ends so.
        [.., b'0'..=b'9'] => version().starts_with(b" HTTP/"),
        _ => false,
    }
}
