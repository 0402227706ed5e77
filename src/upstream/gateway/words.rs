//! What gateways of two cores say to each other about a server that only one of them, its owner, speaks to.
//!
//! Not here: what is done about it (`remote`, `mod`). Invariant: what was written is read back as it was; bytes that
//! nobody wrote so are read as nothing.

use super::flight::ListKind;
use super::merge::Hint;
use super::request::Era;
use crate::ids::View;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, LogLevel, Method, Version};
use crate::server::service::{About, CallKey, Nanos, Offers, Subject, Watched};

/// What a word is about; the number that goes with it is in brackets.
pub(super) mod kind {
    /// To everybody: a list of the server's changed (which).
    pub const CHANGED: u8 = 1;
    /// To the owner: a call (its key).
    pub const CALL: u8 = 2;
    /// To the owner: nobody waits for a call any more (its key).
    pub const CANCEL: u8 = 3;
    /// To the owner: the answer to a question (the call's key).
    pub const ANSWER: u8 = 4;
    /// To the owner: how far a caller is with a question (the call's key).
    pub const PROGRESS: u8 = 19;
    /// To the owner: a list is wanted (which).
    pub const FETCH: u8 = 5;
    /// To the core that listens to a server: somebody wants to hear of a resource or task (which of these).
    pub const WATCH: u8 = 12;
    /// To the core that listens to a server: nobody does any more (which of these).
    pub const UNWATCH: u8 = 13;
    /// To the owner: clients that can do this have other roots (their capabilities).
    pub const ROOTS_CHANGED: u8 = 17;
    /// From the owner: something for a session (its number).
    pub const SESSION: u8 = 18;
    /// To the owner: somebody waits for the server to be reached.
    pub const WANTED: u8 = 15;
    /// To everybody: this core begins, or begins anew.
    pub const BEGUN: u8 = 14;
    /// To the owner: how does the server stand?
    pub const GREET: u8 = 6;
    /// From the owner: the outcome of a call (its key).
    pub const REPLY: u8 = 7;
    /// From the owner: a notification in the course of a call (its key).
    pub const NOTICE: u8 = 8;
    /// From the owner: a question in the course of a call (its key).
    pub const ASK: u8 = 9;
    /// From the owner: the server let go of a call's stream, and keeps the outcome (its key).
    pub const STREAM_ENDED: u8 = 16;
    /// From the owner: a list (which).
    pub const LIST: u8 = 10;
    /// From the owner: how the server stands.
    pub const STAND: u8 = 11;
    /// To a core on which calls of the native server wait: a seat is free.
    pub const SEAT: u8 = 20;
}

/// The number that stands for a call's key.
pub(super) fn number_of(key: CallKey) -> u64 {
    u64::from(key.generation) << 32 | u64::from(key.index)
}

/// The inverse of `number_of`.
pub(super) fn key_of(number: u64) -> CallKey {
    CallKey { index: number as u32, generation: (number >> 32) as u32 }
}

/// The number that stands for what is watched.
pub(super) fn number_of_watched(what: Watched) -> u64 {
    u64::from(what == Watched::Task)
}

/// The inverse of `number_of_watched`.
pub(super) fn watched_of(number: u64) -> Watched {
    if number == 0 { Watched::Resource } else { Watched::Task }
}

/// The number that stands for a list.
pub(super) fn number_of_list(kind: ListKind) -> u64 {
    ListKind::ALL.iter().position(|one| *one == kind).unwrap_or_default() as u64
}

/// The inverse of `number_of_list`.
pub(super) fn list_of(number: u64) -> Option<ListKind> {
    ListKind::ALL.get(usize::try_from(number).ok()?).copied()
}

/// Bits of the number of a list that is told: which list, how it may be kept if that is known, and how long.
const LIST_BITS: u32 = 4;
const HINT: u64 = 1 << LIST_BITS;
const PUBLIC: u64 = HINT << 1;
const TTL_AT: u32 = LIST_BITS + 2;

/// The number that stands for a list that is told, and how long it may be kept.
pub(super) fn number_of_told_list(kind: ListKind, hint: Option<Hint>) -> u64 {
    let hint = hint.map_or(0, |Hint { ttl_ms, is_public }| {
        HINT | if is_public { PUBLIC } else { 0 } | ttl_ms.min(u64::MAX >> TTL_AT) << TTL_AT
    });
    number_of_list(kind) | hint
}

/// The inverse of `number_of_told_list`.
pub(super) fn told_list_of(number: u64) -> Option<(ListKind, Option<Hint>)> {
    let hint = Hint { ttl_ms: number >> TTL_AT, is_public: number & PUBLIC != 0 };
    Some((list_of(number & (HINT - 1))?, (number & HINT != 0).then_some(hint)))
}

pub(super) fn subject(kind: u8, server: u16, number: u64) -> Subject {
    Subject { kind, about: u32::from(server), number }
}

/// A call, as its home tells the owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct CallWord<'a> {
    pub view: View,
    pub version: Version,
    pub session: Option<u64>,
    pub method: Method,
    pub capabilities: Capabilities,
    pub log_level: Option<LogLevel>,
    pub is_level_chosen: bool,
    pub may_ask: bool,
    pub latest: Nanos,
    pub name: Option<&'a str>,
    pub uris: Option<&'a str>,
    pub text: &'a [u8],
    pub param_lines: &'a [u8],
}

impl<'a> CallWord<'a> {
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.text.len());
        part(&mut out, &self.view.0.to_le_bytes());
        part(&mut out, self.version.as_str().as_bytes());
        part(&mut out, self.session.map(u64::to_le_bytes).as_ref().map_or(&[][..], |number| number));
        part(&mut out, self.method.as_str().as_bytes());
        part(&mut out, &self.capabilities.to_bits().to_le_bytes());
        part(&mut out, self.log_level.map_or("", LogLevel::as_str).as_bytes());
        part(&mut out, &[u8::from(self.is_level_chosen)]);
        part(&mut out, &[u8::from(self.may_ask)]);
        part(&mut out, &self.latest.to_le_bytes());
        for name in [self.name, self.uris] {
            part(&mut out, &[u8::from(name.is_some())]);
            part(&mut out, name.unwrap_or_default().as_bytes());
        }
        part(&mut out, self.text);
        part(&mut out, self.param_lines);
        out
    }

    pub fn read(bytes: &'a [u8]) -> Option<CallWord<'a>> {
        let mut parts = Parts(bytes);
        let view = View(u16::from_le_bytes(parts.next()?.try_into().ok()?));
        let version = Version::parse(parts.next()?)?;
        let session = parts.next()?.try_into().ok().map(u64::from_le_bytes);
        let method = Method::parse(parts.next()?)?;
        let capabilities = Capabilities::from_bits(u16::from_le_bytes(parts.next()?.try_into().ok()?));
        let log_level = LogLevel::parse(parts.next()?);
        let (is_level_chosen, may_ask) = (parts.flag()?, parts.flag()?);
        let latest = Nanos::from_le_bytes(parts.next()?.try_into().ok()?);
        let mut name = || Some((parts.flag()?, parts.text()?)).map(|(is_there, text)| is_there.then_some(text));
        let (name, uris) = (name()?, name()?);
        let (text, param_lines) = (parts.next()?, parts.next()?);
        Some(CallWord {
            view,
            version,
            session,
            method,
            capabilities,
            log_level,
            is_level_chosen,
            may_ask,
            latest,
            name,
            uris,
            text,
            param_lines,
        })
    }
}

/// How a server stands.
#[derive(Clone, Debug)]
pub(super) enum Stand {
    /// It cannot be reached; why, or nothing if that was not tried yet.
    Away(String),
    /// It speaks so, and says that of itself.
    Known(Era, About),
}

impl Stand {
    pub fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Stand::Away(why) => part(&mut out, why.as_bytes()),
            Stand::Known(era, about) => {
                part(&mut out, b"");
                part(&mut out, if let Era::Legacy(version) = era { version.as_str().as_bytes() } else { b"" });
                part(&mut out, &about.server_info);
                part(&mut out, about.instructions.as_deref().unwrap_or_default());
                part(&mut out, &bits_of(about.offers));
            }
        }
        out
    }

    pub fn read(bytes: &[u8]) -> Option<Stand> {
        let mut parts = Parts(bytes);
        let why = parts.text()?;
        let Some(version) = parts.next() else { return Some(Stand::Away(why.to_owned())) };
        let era = if version.is_empty() { Era::Modern } else { Era::Legacy(Version::parse(version)?) };
        let server_info = parts.next()?.to_vec();
        let instructions = Some(parts.next()?.to_vec()).filter(|text| !text.is_empty());
        let offers = offers_of(parts.next()?)?;
        Some(Stand::Known(era, About { server_info, instructions, offers }))
    }
}

/// An outcome: of a call, of a question, of the reading of a list.
pub(super) fn write_outcome(outcome: &Result<impl AsRef<[u8]>, RpcError>) -> Vec<u8> {
    let mut out = Vec::new();
    match outcome {
        Ok(result) => {
            out.reserve(16 + result.as_ref().len());
            part(&mut out, b"");
            part(&mut out, result.as_ref());
        }
        Err(error) => {
            part(&mut out, &error.code.0.to_le_bytes());
            part(&mut out, error.message.as_bytes());
            part(&mut out, error.data.as_deref().unwrap_or_default());
        }
    }
    out
}

/// The inverse of `write_outcome`.
pub(super) fn read_outcome(bytes: &[u8]) -> Option<Result<&[u8], RpcError>> {
    let mut parts = Parts(bytes);
    let code = parts.next()?;
    if code.is_empty() {
        return Some(Ok(parts.next()?));
    }
    let code = Code(i32::from_le_bytes(code.try_into().ok()?));
    let error = RpcError::new(code, parts.text()?.to_owned());
    let data = parts.next()?;
    Some(Err(if data.is_empty() { error } else { error.with_data(data) }))
}

/// A list's items.
pub(super) fn write_items(items: &[Box<[u8]>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(items.iter().map(|item| item.len() + 4).sum());
    items.iter().for_each(|item| part(&mut out, item));
    out
}

/// The inverse of `write_items`.
pub(super) fn read_items(bytes: &[u8]) -> Vec<Box<[u8]>> {
    let mut parts = Parts(bytes);
    std::iter::from_fn(|| parts.next().map(Box::from)).collect()
}

/// A question or notification: a number, a method, parameters.
pub(super) fn write_said(number: u32, method: &str, params: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + params.len());
    part(&mut out, &number.to_le_bytes());
    part(&mut out, method.as_bytes());
    part(&mut out, params);
    out
}

/// The inverse of `write_said`.
pub(super) fn read_said(bytes: &[u8]) -> Option<(u32, &str, &[u8])> {
    let mut parts = Parts(bytes);
    Some((u32::from_le_bytes(parts.next()?.try_into().ok()?), parts.text()?, parts.next()?))
}

/// Appends one part: its length, then its bytes.
fn part(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Reads parts one after the other.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.next()?).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        self.next()?.first().map(|flag| *flag != 0)
    }
}

/// Everything that can be offered, in the order in which it is written.
const OFFERS: [fn(&mut Offers) -> &mut bool; 11] = [
    |offers| &mut offers.tools,
    |offers| &mut offers.tools_list_changed,
    |offers| &mut offers.prompts,
    |offers| &mut offers.prompts_list_changed,
    |offers| &mut offers.resources,
    |offers| &mut offers.resources_list_changed,
    |offers| &mut offers.resources_subscribe,
    |offers| &mut offers.completions,
    |offers| &mut offers.logging,
    |offers| &mut offers.tasks,
    |offers| &mut offers.tasks_extension,
];

const _: () = assert!(size_of::<Offers>() == OFFERS.len(), "every offer is written");

fn bits_of(mut offers: Offers) -> [u8; OFFERS.len()] {
    OFFERS.map(|offer| u8::from(*offer(&mut offers)))
}

fn offers_of(bits: &[u8]) -> Option<Offers> {
    let bits: [u8; OFFERS.len()] = bits.try_into().ok()?;
    let mut offers = Offers::default();
    for (offer, bit) in OFFERS.iter().zip(bits) {
        *offer(&mut offers) = bit != 0;
    }
    Some(offers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let call = CallWord {
            view: View(300),
            version: Version::V2025_06_18,
            session: Some(u64::MAX - 1),
            method: Method::ToolsCall,
            capabilities: Capabilities::SAMPLING,
            log_level: Some(LogLevel::Info),
            is_level_chosen: true,
            may_ask: false,
            latest: 7,
            name: Some(""),
            uris: None,
            text: b"{}",
            param_lines: b"Mcp-Param-A: b\r\n",
        };
        assert_eq!(CallWord::read(&call.write()), Some(call));
        let error = RpcError::new(Code::DEADLINE, "late").with_data(*b"1");
        assert_eq!(read_outcome(&write_outcome(&Err::<Vec<u8>, _>(error.clone()))), Some(Err(error)));
        assert_eq!(read_outcome(&write_outcome(&Ok(b"{}"))), Some(Ok(&b"{}"[..])));
        let items: Vec<Box<[u8]>> = vec![b"1".as_slice().into(), b"".as_slice().into()];
        assert_eq!(read_items(&write_items(&items)), items);
        assert_eq!(read_said(&write_said(7, "ping", b"{}")), Some((7, "ping", &b"{}"[..])));
        let key = CallKey { index: 5, generation: u32::MAX };
        assert_eq!(key_of(number_of(key)), key);
        for kind in ListKind::ALL {
            assert_eq!(list_of(number_of_list(kind)), Some(kind));
            for hint in [None, Some(Hint { ttl_ms: 0, is_public: true }), Some(Hint { ttl_ms: 7, is_public: false })] {
                assert_eq!(told_list_of(number_of_told_list(kind, hint)), Some((kind, hint)));
            }
        }
        assert_eq!(list_of(4), None);
    }

    #[test]
    fn how_a_server_stands_is_read_back() {
        let offers = Offers { tools: true, completions: true, ..Offers::default() };
        let about = About { server_info: b"{}".to_vec(), instructions: Some(b"\"do\"".to_vec()), offers };
        for era in [Era::Modern, Era::Legacy(Version::V2025_11_25)] {
            let Some(Stand::Known(read, said)) = Stand::read(&Stand::Known(era, about.clone()).write()) else {
                panic!("it was known")
            };
            assert_eq!((read, said.offers, said.instructions.as_deref()), (era, offers, Some(&b"\"do\""[..])));
        }
        assert!(matches!(Stand::read(&Stand::Away("x".into()).write()), Some(Stand::Away(why)) if why == "x"));
    }

    #[test]
    fn what_nobody_wrote_is_nothing() {
        for bytes in [&b""[..], b"\x01", b"\xff\xff\xff\xff", b"\x04\x00\x00\x00abc", &[0; 4]] {
            assert!(CallWord::read(bytes).is_none() && read_outcome(bytes).is_none() && read_said(bytes).is_none());
        }
    }
}
