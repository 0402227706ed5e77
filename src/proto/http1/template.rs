//! Heads that are alike: a client says nearly the same head with each request, so one that is like an earlier one is
//! compared with it, and only the values that may differ are read.
//!
//! A template is a head that [`parse_front`] read once, with gaps where values stand. Kept are names, and the values of
//! fields that say what kind of client this is (`KEPT`); every other value is a gap, so no secret is kept, none can
//! be found out by the time that a comparison takes, and one template serves all clients of a kind. Not here: what a
//! head may say, which is [`super::head`]'s, and errors: a head that no template fits is read as if there were none.
//!
//! Invariant: what a template says of a head is what [`parse_front`] says of it. Outside its gaps the head is the same,
//! byte for byte; a gap holds printable ASCII without white space at its ends, so that neither lines nor trimmed values
//! come out otherwise; and no field in a gap decides anything but `Content-Length`, which is read anew.

use std::mem;

use wide::{i8x16, u8x16};

use super::head::{BodyFraming, Head, Method, content_length, parse_front};
use crate::limits::{HEAD_TEMPLATE_BYTES_MAX, HEAD_TEMPLATES, HTTP_HEAD_BYTES_MAX};

/// Fields whose values are compared, in lower case: those that decide how the message is framed and who may send it,
/// and those that are the same for all clients of a kind. None of them is ever secret.
const KEPT: [&str; 11] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "connection",
    "content-encoding",
    "content-type",
    "expect",
    "host",
    "mcp-protocol-version",
    "origin",
    "user-agent",
];

/// A head is not looked at for a template before so many others found none: a peer whose heads are all different pays
/// for its own, and for few of them.
pub(super) const LEARN_EVERY: u32 = 16;
/// Gaps of a template; a head with more fields that vary has none.
const GAPS_MAX: usize = 12;

/// The templates of one core.
#[derive(Debug, Default)]
pub struct HeadTemplates {
    /// The one that fitted last is the first.
    templates: Vec<Template>,
    /// So many heads that none fits are still to come before one is looked at.
    wait: u32,
}

#[derive(Debug)]
struct Template {
    /// What stands between the gaps, one after the other.
    text: Box<[u8]>,
    pieces: Box<[Piece]>,
    method: Method,
    path_bytes: u16,
    /// Without its `?`.
    query_bytes: Option<u16>,
    path_at: u16,
    minor_version: u8,
    keep_alive: bool,
    expect_continue: bool,
    accept_repeated: bool,
    mcp_param_count: u8,
    /// Where the first field's name begins.
    lines_at: u16,
}

/// So many bytes of a template's text, and the gap behind them.
#[derive(Debug)]
struct Piece {
    bytes: u16,
    /// Known fields whose values lie in it: which, and where.
    known: Box<[(Slot, u16, u16)]>,
    gap: Gap,
}

/// What a gap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gap {
    /// Nothing: it is the end.
    End,
    Length,
    Known(Slot),
    Unknown,
}

/// The fields of a head that are read by name, and where each is kept: one table, so that none is left out.
macro_rules! slots {
    ($($slot:ident $field:ident,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Slot { $($slot,)* }

        impl Slot {
            const ALL: &[Self] = &[$(Self::$slot,)*];

            #[inline]
            fn of<'h, 'a>(self, head: &'h mut Head<'a>) -> &'h mut Option<&'a [u8]> {
                match self { $(Self::$slot => &mut head.$field,)* }
            }
        }
    };
}

slots! {
    Host host,
    Origin origin,
    ContentType content_type,
    Accept accept,
    ContentEncoding content_encoding,
    SessionId session_id,
    ProtocolVersion protocol_version,
    McpMethod mcp_method,
    McpName mcp_name,
    LastEventId last_event_id,
    Authorization authorization,
    RequestTimeoutMs request_timeout_ms,
    AccessControlRequestMethod access_control_request_method,
    AccessControlRequestHeaders access_control_request_headers,
    Traceparent traceparent,
}

impl HeadTemplates {
    /// As [`parse_front`], which it asks when no template fits.
    #[inline]
    pub fn read<'a>(&mut self, buffer: &'a [u8]) -> Option<(usize, Head<'a>)> {
        if let Some(found) = self.templates.first().and_then(|template| template.read(buffer)) {
            return Some(found);
        }
        self.read_on(buffer)
    }

    fn read_on<'a>(&mut self, buffer: &'a [u8]) -> Option<(usize, Head<'a>)> {
        for place in 1..self.templates.len() {
            if let Some(found) = self.templates[place].read(buffer) {
                self.templates.swap(0, place);
                return Some(found);
            }
        }
        let found = parse_front(buffer)?;
        match self.wait.checked_sub(1) {
            Some(left) => self.wait = left,
            None => self.learn(&buffer[..found.0], &found.1),
        }
        Some(found)
    }

    /// Keeps a template of this head, in place of one that fitted long ago.
    #[cold]
    fn learn(&mut self, bytes: &[u8], head: &Head<'_>) {
        self.wait = LEARN_EVERY;
        let Some(template) = Template::of(bytes, head) else { return };
        if self.templates.len() == HEAD_TEMPLATES {
            self.templates.pop();
        }
        self.templates.push(template);
        let last = self.templates.len() - 1;
        self.templates.swap(0, last);
    }
}

impl Template {
    /// The template of a head that was read; none if it says something that is said rarely.
    fn of(bytes: &[u8], head: &Head<'_>) -> Option<Self> {
        // Where a part of the head stands in it; what was put for a part that is missing stands elsewhere.
        let offset = |part: &[u8]| {
            let at = part.as_ptr().addr().checked_sub(bytes.as_ptr().addr())?;
            (at <= bytes.len().checked_sub(part.len())?).then_some(at)
        };
        let path_at = offset(head.path.as_bytes())?;
        // A target with a host in it is compared with `Host`; a chunked body and repeated fields are as rare.
        let is_usual =
            bytes[..path_at].ends_with(b" ") && head.body != BodyFraming::Chunked && head.duplicate.is_none();
        if !is_usual || bytes.len() > HEAD_TEMPLATE_BYTES_MAX {
            return None;
        }
        let (mut text, mut pieces) = (Vec::new(), Vec::new());
        let (mut known, mut from) = (Vec::new(), 0);
        let slots: Vec<(Slot, &[u8])> =
            Slot::ALL.iter().filter_map(|&slot| Some((slot, (*slot.of(&mut { *head }))?))).collect();
        for (name, value) in head.fields() {
            // A value without a byte lies nowhere.
            if value.is_empty() {
                return None;
            }
            let at = offset(value)?;
            let slot = slots.iter().find(|(_, held)| held.as_ptr() == value.as_ptr()).map(|(slot, _)| *slot);
            let is_kept = KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
            // One that stands twice means nothing, which a gap would not say.
            if slot.is_none() && name.eq_ignore_ascii_case("traceparent") {
                return None;
            }
            let gap = match slot {
                _ if is_kept => {
                    known.extend(slot.map(|slot| (slot, (at - from) as u16, value.len() as u16)));
                    continue;
                }
                _ if name.eq_ignore_ascii_case("content-length") => Gap::Length,
                Some(slot) => Gap::Known(slot),
                None => Gap::Unknown,
            };
            text.extend_from_slice(&bytes[from..at]);
            pieces.push(Piece { bytes: (at - from) as u16, known: mem::take(&mut known).into(), gap });
            from = at + value.len();
        }
        text.extend_from_slice(&bytes[from..]);
        pieces.push(Piece { bytes: (bytes.len() - from) as u16, known: known.into(), gap: Gap::End });
        let template = Self {
            text: text.into(),
            pieces: pieces.into(),
            method: head.method,
            path_at: path_at as u16,
            path_bytes: head.path.len() as u16,
            query_bytes: head.query.map(|query| query.len() as u16),
            minor_version: head.minor_version,
            keep_alive: head.keep_alive,
            expect_continue: head.expect_continue,
            accept_repeated: head.accept_repeated,
            mcp_param_count: head.mcp_param_count,
            lines_at: offset(head.field_lines)? as u16,
        };
        (template.pieces.len() <= GAPS_MAX + 1).then_some(template)
    }

    /// Reads the head that `buffer` begins with, if it is like this.
    fn read<'a>(&self, buffer: &'a [u8]) -> Option<(usize, Head<'a>)> {
        let buffer = &buffer[..buffer.len().min(HTTP_HEAD_BYTES_MAX)];
        let path = usize::from(self.path_at)..usize::from(self.path_at) + usize::from(self.path_bytes);
        let query = self.query_bytes.map(|bytes| path.end + 1..path.end + 1 + usize::from(bytes));
        let mut head = Head {
            method: self.method,
            path: std::str::from_utf8(buffer.get(path)?).ok()?,
            query: match query {
                Some(query) => Some(std::str::from_utf8(buffer.get(query)?).ok()?),
                None => None,
            },
            minor_version: self.minor_version,
            keep_alive: self.keep_alive,
            expect_continue: self.expect_continue,
            mcp_param_count: self.mcp_param_count,
            accept_repeated: self.accept_repeated,
            ..Head::EMPTY
        };
        let (mut at, mut text) = (0, &self.text[..]);
        for piece in &self.pieces {
            let (fixed, behind) = text.split_at_checked(usize::from(piece.bytes))?;
            text = behind;
            let end = at + fixed.len();
            if buffer.get(at..end)? != fixed {
                return None;
            }
            for &(slot, from, bytes) in &piece.known {
                let from = at + usize::from(from);
                *slot.of(&mut head) = buffer.get(from..from + usize::from(bytes));
            }
            at = end;
            if piece.gap == Gap::End {
                break;
            }
            let value = &buffer[at..at + value_bytes(&buffer[at..])?];
            at += value.len();
            match piece.gap {
                Gap::Length => head.body = BodyFraming::Length(content_length(value)?),
                Gap::Known(slot) => *slot.of(&mut head) = Some(value),
                Gap::Unknown | Gap::End => {}
            }
        }
        head.field_lines = &buffer[usize::from(self.lines_at)..at];
        Some((at, head))
    }
}

/// How long the value at the front of `text` is: printable ASCII, not empty, without white space at its ends, and with
/// something behind it that is no part of it.
#[inline]
fn value_bytes(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(block) = text[at..].first_chunk() {
        let bytes = u8x16::new(*block).cast_signed();
        // As signed numbers, everything from 0x80 is below a space, too.
        let marks = (bytes.simd_lt(i8x16::splat(0x20)) | bytes.simd_eq(i8x16::splat(0x7f))).to_bitmask();
        if marks != 0 {
            at += marks.trailing_zeros() as usize;
            break;
        }
        at += 16;
    }
    // The last bytes, fewer than a block; none where a mark was found.
    at += text[at..].iter().take_while(|byte| (0x20..0x7f).contains(*byte)).count();
    let is_trimmed = at > 0 && at < text.len() && text[0] != b' ' && text[at - 1] != b' ';
    is_trimmed.then_some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::head::{HeadFinder, parse};
    use super::super::head_tests::TYPICAL;
    use super::*;

    /// What the head at the front of `buffer` says, if it is whole and good, without any template.
    fn plainly(buffer: &[u8]) -> Option<(usize, Head<'_>)> {
        let length = HeadFinder::new().find(buffer).ok()??;
        parse(&buffer[..length]).ok().map(|head| (length, head))
    }

    fn taught(head: &[u8]) -> HeadTemplates {
        let mut templates = HeadTemplates::default();
        templates.read(head).expect("a good head");
        templates
    }

    /// Whether a template fits, without asking anything else.
    fn fits(templates: &HeadTemplates, head: &[u8]) -> bool {
        templates.templates.iter().any(|template| template.read(head).is_some())
    }

    fn with(from: &str, to: &str) -> Vec<u8> {
        let text = std::str::from_utf8(TYPICAL).expect("ASCII");
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1).into_bytes()
    }

    #[test]
    fn other_values_of_fields_that_vary_fit_and_are_read() {
        let templates = taught(TYPICAL);
        for (from, to) in [
            ("Length: 226", "Length: 9"),
            ("Length: 226", "Length: 1048576"),
            ("get_weather", "x"),
            ("tools/call", "tools/list"),
            ("0123456789abcdef", "another secret with spaces, and longer than a block"),
        ] {
            let head = with(from, to);
            assert!(fits(&templates, &head), "{to}");
            assert_eq!(taught(TYPICAL).read(&head), plainly(&head), "{to}");
        }
    }

    #[test]
    fn what_decides_something_is_compared_and_what_is_odd_is_read_as_ever() {
        let templates = taught(TYPICAL);
        for (from, to) in [
            ("POST", "PUT"),
            ("/mcp", "/mcq"),
            ("1.1", "1.0"),
            ("localhost", "evil"),
            ("application/json\r\nAccept", "text/plain\r\nAccept"),
            ("2026-07-28", "2025-11-25"),
            ("Length: 226", "Length: +26"),
            ("Length: 226", "Length: 007"),
            ("Length: 226", "Length: 22 6"),
            ("Length: 226", "Length: 18446744073709551616"),
            ("Length: 226", "Length: 1\r\nContent-Length: 1"),
            ("Length: 226", "Length: 1\r\nTransfer-Encoding: chunked"),
            ("Content-Length: 226", "Transfer-Encoding: chunked"),
            ("Mcp-Name: get_weather", "Mcp-Name: "),
            ("get_weather", "get\u{1}weather"),
            ("get_weather", "get_wetter für morgen"),
            ("get_weather", "get_weather "),
            ("get_weather", " \tget_weather"),
            ("get_weather", "a\r\n b"),
            ("get_weather", "a\nX: b"),
            ("get_weather", "a\r\nMcp-Name: b"),
            ("get_weather", "a\r\nConnection: close"),
            ("Bearer", "Bearer\r\n\r\n"),
        ] {
            let head = with(from, to);
            assert!(!fits(&templates, &head), "{to:?}");
            assert_eq!(taught(TYPICAL).read(&head), plainly(&head), "{to:?}");
        }
    }

    #[test]
    fn what_is_said_of_the_connection_and_of_the_body_is_compared() {
        for (line, others) in [
            ("Connection: keep-alive", ["Connection: close", "Connection: keep-alive, close", "Connection: x"]),
            ("Expect: 100-continue", ["Expect: 100-Continue", "Expect: 100-continues", "Expect: x"]),
            ("Content-Encoding: gzip", ["Content-Encoding: br", "Content-Encoding: identity", "Content-Encoding: x"]),
            ("Origin: http://a", ["Origin: http://b", "Origin: null", "Origin: x"]),
        ] {
            let base = with("Content-Length", &format!("{line}\r\nContent-Length"));
            for other in others {
                let head = with("Content-Length", &format!("{other}\r\nContent-Length"));
                let mut templates = taught(&base);
                assert!(!fits(&templates, &head), "{other}");
                assert_eq!(templates.read(&head), plainly(&head), "{other}");
            }
        }
    }

    #[test]
    fn no_value_of_a_field_that_may_be_secret_is_kept() {
        let head = b"POST /mcp HTTP/1.1\r\nHost: a\r\nX-Api-Key: s3cret\r\nCookie: s3cret\r\nAuthorization: s3cret\r\n\
            Mcp-Session-Id: s3cret\r\nMcp-Param-Key: s3cret\r\nContent-Length: 1\r\n\r\n";
        let templates = taught(head);
        let text = format!("{:?}", std::str::from_utf8(&templates.templates[0].text));
        assert!(text.contains("X-Api-Key") && !text.contains("s3cret"), "{text}");
    }

    #[test]
    fn heads_that_say_rare_things_have_no_template() {
        for head in [
            "POST http://a/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST http://a HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\nMcp-Name: a\r\nmcp-name: b\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: a\r\ntraceparent: a\r\ntraceparent: b\r\n\r\n",
            "POST /mcp HTTP/1.1\r\nHost: \r\n\r\n",
            "GET /mcp HTTP/1.0\r\n\r\n",
        ] {
            let templates = taught(head.as_bytes());
            assert!(!fits(&templates, head.as_bytes()), "{head}");
            assert_eq!(taught(TYPICAL).read(head.as_bytes()), plainly(head.as_bytes()), "{head}");
        }
    }

    #[test]
    fn templates_are_few_and_the_one_in_use_stays() {
        let mut templates = taught(TYPICAL);
        for number in 0..10_000 {
            let other = with("User-Agent: ", &format!("User-Agent: {number}"));
            assert_eq!(templates.read(&other), plainly(&other));
            if number % 8 == 0 {
                assert!(fits(&templates, TYPICAL), "{number}");
                templates.read(TYPICAL);
            }
            assert!(templates.templates.len() <= HEAD_TEMPLATES);
        }
    }

    #[test]
    fn each_byte_in_each_position_of_a_value_is_seen() {
        for byte in 0..=255u8 {
            for position in 0..40 {
                let mut text = [b'x'; 48];
                (text[position], text[40]) = (byte, b'\r');
                let is_in = (0x20..0x7f).contains(&byte);
                let at_an_end = byte == b' ' && (position == 0 || position == 39);
                let expected = if !is_in { (position > 0).then_some(position) } else { (!at_an_end).then_some(40) };
                assert_eq!(value_bytes(&text), expected, "{byte:#x} at {position}");
                assert_eq!(value_bytes(&text[..41]), expected, "{byte:#x} at {position}, nothing behind");
            }
        }
        assert_eq!((value_bytes(b"abc"), value_bytes(b""), value_bytes(&[b'a'; 32])), (None, None, None));
    }

    fn line() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec![
            "Host",
            "Accept",
            "Content-Type",
            "Content-Length",
            "Mcp-Session-Id",
            "mcp-name",
            "Mcp-Method",
            "X-Other",
            "Authorization",
            "traceparent",
            "Mcp-Param-A",
            "Connection",
            "Expect",
            "Origin",
            "User-Agent",
        ]);
        let value = prop_oneof![
            4 => "[!-~]{1,40}", 2 => "[0-9]{1,4}", 1 => "[ -~]{0,20}", 1 => Just("close".to_owned()),
            1 => Just("100-continue".to_owned()), 1 => "[\\t\u{80}-\u{ff} a]{0,5}", 1 => "[\r\n\u{0}a]{1,3}",
        ];
        (name, prop::sample::select(vec![": ", ":", ": \t"]), value)
            .prop_map(|(name, colon, value)| [name, colon, &value].concat())
    }

    fn head() -> impl Strategy<Value = Vec<String>> {
        let target =
            prop::sample::select(vec!["POST /mcp HTTP/1.1", "GET /mcp?a=b HTTP/1.1", "POST http://a/mcp HTTP/1.1"]);
        (target, prop::collection::vec(line(), 0..8))
            .prop_map(|(target, lines)| [vec![target.to_owned(), "Host: a".to_owned()], lines].concat())
    }

    fn text(lines: &[String]) -> Vec<u8> {
        format!("{}\r\n\r\nbehind it", lines.join("\r\n")).into_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]
        #[test]
        fn a_template_says_what_a_parser_says(
            learnt in prop::collection::vec(head(), 1..4),
            line in line(), at in 0..10usize, change in 0..3u8, cut in prop::option::of(0..200usize),
        ) {
            let mut templates = HeadTemplates::default();
            for lines in &learnt {
                (0..=LEARN_EVERY).for_each(|_| _ = templates.read(&text(lines)));
            }
            for lines in &learnt {
                let mut other = lines.clone();
                let at = at.min(other.len());
                match other.get_mut(at.max(1)) {
                    // The same field says something else.
                    Some(same) if change == 0 => {
                        let value = line.split_once(':').map_or("", |(_, value)| value);
                        *same = format!("{}:{value}", same.split(':').next().unwrap_or_default());
                    }
                    Some(same) if change == 1 => same.clone_from(&line),
                    _ => other.insert(at.max(1), line.clone()),
                }
                for lines in [lines, &other] {
                    let mut bytes = text(lines);
                    bytes.truncate(cut.unwrap_or(usize::MAX));
                    prop_assert_eq!(templates.read(&bytes), plainly(&bytes));
                    let mut twice = HeadTemplates::default();
                    twice.read(&bytes);
                    prop_assert_eq!(twice.read(&bytes), plainly(&bytes));
                }
            }
        }
    }
}
