//! One link: a request out, its answer in, as JSON or as a stream of events.
//!
//! Not here: which link a request takes (`pool`). Invariant: bytes are looked at once; what is kept of an answer is
//! bounded, and an answer that goes on past its bound, or says that it will, is an error.

use super::pool::{Failure, Outcome, Reply};
use super::tls::Tls;
use super::tunnel::Tunnel;
use crate::ids::ConnectionId;
use crate::proto::http1::{Eof, MediaType, Piece, ResponseFraming, ResponseReader};
use crate::proto::sse::{Item, SseDecoder, SseLimits};
use crate::server::service::Nanos;

/// One link's state between two steps.
pub(super) struct Link {
    /// Its connection; none while it is being opened.
    pub id: Option<ConnectionId>,
    /// Counts the uses of its place.
    pub generation: u16,
    /// What it works for; none while it is idle.
    pub errand: Option<u32>,
    /// The index of the address that it leads to.
    pub address: usize,
    /// It takes notices only.
    pub is_for_notices: bool,
    /// Bytes to be sent.
    pub out: Vec<u8>,
    /// A send is on its way.
    pub sending: bool,
    /// When it was opened, or became idle, or was given its errand.
    pub since: Nanos,
    /// Answers it has brought.
    pub answers: u32,
    /// Something of the answer has come.
    pub heard: bool,
    /// The way through a proxy, while it is not open.
    pub tunnel: Option<Box<Tunnel>>,
    /// What stands between its bytes and those of HTTP.
    pub tls: Option<Box<Tls>>,
    reader: ResponseReader,
    carry: Vec<u8>,
    body: Vec<u8>,
    reply: Option<Reply>,
    keep_alive: bool,
    events: Option<Box<SseDecoder>>,
    retry_ms: Option<u64>,
}

/// Whether a link's answer is over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    /// More is to come.
    Open,
    /// The answer is whole; the link can be used again, or not.
    Over { keep_alive: bool },
}

impl Link {
    pub(super) fn new(generation: u16, now: Nanos, address: usize, is_for_notices: bool) -> Link {
        Link {
            id: None,
            generation,
            errand: None,
            address,
            is_for_notices,
            out: Vec::new(),
            sending: false,
            since: now,
            answers: 0,
            heard: false,
            tunnel: None,
            tls: None,
            reader: ResponseReader::new(),
            carry: Vec::new(),
            body: Vec::new(),
            reply: None,
            keep_alive: false,
            events: None,
            retry_ms: None,
        }
    }

    /// Whether nothing can be asked on it yet: it is being opened, itself or its way, or hands are being shaken.
    pub(super) fn is_opening(&self) -> bool {
        self.id.is_none() || self.tunnel.is_some() || self.tls.as_ref().is_some_and(|tls| tls.is_shaking())
    }

    /// What is wrong with one that nothing can be asked on yet: the proxy's silence, or the handshake's.
    pub(super) fn not_open(&self, proxy: impl Into<String>, handshake: impl Into<String>) -> Failure {
        match self.tunnel {
            Some(_) => Failure::Proxy(proxy.into()),
            None => Failure::Tls(handshake.into()),
        }
    }

    /// Puts a request behind what waits to be sent.
    pub(super) fn say(&mut self, text: Vec<u8>) {
        match &mut self.tls {
            Some(tls) => tls.seal(&text, &mut self.out),
            None if self.out.is_empty() => self.out = text,
            None => self.out.extend_from_slice(&text),
        }
    }

    /// Bytes of the answer to `errand` came in.
    ///
    /// # Errors
    /// What makes the link unusable.
    pub(super) fn take(
        &mut self,
        errand: u32,
        bytes: &[u8],
        most: usize,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Stand, Failure> {
        self.heard = true;
        if self.carry.is_empty() {
            let (used, stand) = self.read(errand, bytes, most, outcomes)?;
            if used < bytes.len() {
                self.carry.extend_from_slice(&bytes[used..]);
            }
            return Ok(self.over(stand));
        }
        let mut carry = std::mem::take(&mut self.carry);
        carry.extend_from_slice(bytes);
        let (used, stand) = self.read(errand, &carry, most, outcomes)?;
        carry.drain(..used);
        self.carry = carry;
        Ok(self.over(stand))
    }

    /// Bytes behind an answer are nobody's: such a link is not used again.
    fn over(&mut self, stand: Stand) -> Stand {
        match stand {
            Stand::Over { keep_alive } => Stand::Over { keep_alive: keep_alive && self.carry.is_empty() },
            Stand::Open => stand,
        }
    }

    fn read(
        &mut self,
        errand: u32,
        bytes: &[u8],
        most: usize,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(usize, Stand), Failure> {
        let mut used = 0;
        loop {
            let (taken, piece) =
                self.reader.next(&bytes[used..]).map_err(|error| Failure::NotHttp(error.to_string()))?;
            used += taken;
            match piece {
                Piece::More => return Ok((used, Stand::Open)),
                Piece::Head(head) => {
                    let reply = Reply::of(&head);
                    self.keep_alive = head.keep_alive;
                    let is_stream = reply.media == MediaType::EventStream && reply.status == 200;
                    // Nothing of what will not be kept to its end is kept, or waited for.
                    if !is_stream && matches!(head.body, ResponseFraming::Length(bytes) if bytes > most as u64) {
                        return Err(Failure::TooLarge { most });
                    }
                    if is_stream {
                        let limits = SseLimits { line_bytes_max: most, event_bytes_max: most };
                        self.events = Some(Box::new(SseDecoder::new(limits)));
                        outcomes.push(Outcome::Stream { errand, reply: reply.clone() });
                    }
                    self.reply = Some(reply);
                }
                Piece::Body(part) => match &mut self.events {
                    Some(events) => decode(events, &mut self.retry_ms, errand, part, outcomes)?,
                    None if self.body.len() + part.len() > most => return Err(Failure::TooLarge { most }),
                    None => self.body.extend_from_slice(part),
                },
                Piece::End => {
                    self.finish(errand, outcomes);
                    return Ok((used, Stand::Over { keep_alive: self.keep_alive }));
                }
            }
        }
    }

    /// The peer sends no more: the end of an answer that lasts until then, or of the link in the midst of one.
    ///
    /// # Errors
    /// If the answer is not whole.
    pub(super) fn end(&mut self, errand: u32, outcomes: &mut Vec<Outcome>) -> Result<(), Failure> {
        match self.reader.eof() {
            Ok(Eof::End) => {
                self.finish(errand, outcomes);
                Ok(())
            }
            Ok(Eof::Idle) => Err(Failure::Closed { heard: self.heard }),
            Err(_) => Err(Failure::Closed { heard: self.heard }),
        }
    }

    fn finish(&mut self, errand: u32, outcomes: &mut Vec<Outcome>) {
        self.answers += 1;
        self.heard = false;
        let reply = self.reply.take();
        let text = std::mem::take(&mut self.body);
        outcomes.push(match (self.stream_end(errand, true), reply) {
            (None, Some(reply)) => Outcome::Answer { errand, reply, text },
            (Some(end), _) => end,
            (None, None) => Outcome::Failed { errand, failure: Failure::Closed { heard: true } },
        });
    }

    /// The end of a stream, if the answer is one.
    fn stream_end(&mut self, errand: u32, is_whole: bool) -> Option<Outcome> {
        let events = self.events.take()?;
        let last_event_id = events.last_event_id().into();
        Some(Outcome::StreamEnded { errand, last_event_id, retry_ms: self.retry_ms.take(), is_whole })
    }

    /// What becomes of an errand whose link fails: a stream with event ids can be taken up again.
    pub(super) fn cut_off(&mut self, errand: u32, failure: Failure) -> Outcome {
        match self.stream_end(errand, false) {
            Some(Outcome::StreamEnded { last_event_id, retry_ms, is_whole, .. }) if !last_event_id.is_empty() => {
                Outcome::StreamEnded { errand, last_event_id, retry_ms, is_whole }
            }
            _ => Outcome::Failed { errand, failure },
        }
    }
}

fn decode(
    events: &mut SseDecoder,
    retry_ms: &mut Option<u64>,
    errand: u32,
    mut part: &[u8],
    outcomes: &mut Vec<Outcome>,
) -> Result<(), Failure> {
    loop {
        match events.next(&mut part) {
            Ok(None) => return Ok(()),
            // Messages have no type, or this one, and 2024-11-05 has one more; others are for readers who know them
            // (HTML, "Server-sent events": an event without a listener is none).
            Ok(Some(Item::Event(event)))
                if !event.data.is_empty() && matches!(event.event, b"" | b"message" | b"endpoint") =>
            {
                let is_endpoint = event.event == b"endpoint";
                outcomes.push(Outcome::Message { errand, is_endpoint, text: event.data.to_vec() });
            }
            Ok(Some(Item::Retry(ms))) => *retry_ms = Some(ms),
            Ok(Some(Item::Event(_) | Item::Id(_))) => {}
            Err(error) => return Err(Failure::NotHttp(error.to_string())),
        }
    }
}
