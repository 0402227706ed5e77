//! What one pass over a message leaves behind: where the members that routing reads begin and end.
//!
//! Not here: the pass itself (`scan`), or any judgement whether the message is good JSON-RPC.
//! Invariant: a span is absent, or it covers exactly one value of the text that was scanned, quotes and brackets
//! included. An envelope means nothing without that text.

use std::borrow::Cow;

use super::value::Value;

/// A half-open range of bytes of a text; empty means absent, since no JSON value is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of `text` it covers; nothing when `text` is too short to be the one it was taken from.
    #[inline]
    pub fn of(self, text: &[u8]) -> &[u8] {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Whether it covers nothing.
    #[inline]
    pub fn is_absent(self) -> bool {
        self.start >= self.end
    }
}

/// What the whole text is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Root {
    /// A batch, if anything.
    Array,
    /// A message, if anything.
    Object,
    /// A string, number, boolean or null; also what an envelope says before any text was scanned.
    #[default]
    Scalar,
}

/// What a member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// Not there.
    #[default]
    Absent,
    /// An array.
    Array,
    /// An object.
    Object,
    /// A string, number, boolean or null.
    Other,
}

impl Kind {
    #[inline]
    fn of(value: &[u8]) -> Self {
        match value.first() {
            None => Self::Absent,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(_) => Self::Other,
        }
    }
}

/// What the `id` of a message is. Its span keeps the exact bytes, because the answer must repeat them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdKind {
    /// Not there: a notification.
    #[default]
    Absent,
    /// A number with a fraction or an exponent.
    Fraction,
    /// A number without fraction and exponent, of any length; `-0` is one.
    Integer,
    /// `null`.
    Null,
    /// A boolean, an array or an object.
    Other,
    /// A string.
    String,
}

impl IdKind {
    fn of(value: &[u8]) -> Self {
        match value.first() {
            None => Self::Absent,
            Some(b'"') => Self::String,
            Some(b'n') => Self::Null,
            Some(b'-' | b'0'..=b'9') if value.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')) => Self::Fraction,
            Some(b'-' | b'0'..=b'9') => Self::Integer,
            Some(_) => Self::Other,
        }
    }
}

/// A key reduced to one word: its first eight bytes with its length mixed in.
///
/// Two keys of the same length and at most eight bytes are equal when their tags are; longer ones need a look at the
/// rest.
pub(super) const fn tag(first_eight: u64, length: usize) -> u64 {
    first_eight ^ ((length as u64) << 56)
}

/// [`tag`] of a whole key.
pub(super) const fn tag_of(key: &[u8]) -> u64 {
    let mut word = 0;
    let mut at = 0;
    while at < key.len() && at < 8 {
        word |= (key[at] as u64) << (8 * at);
        at += 1;
    }
    tag(word, key.len())
}

/// One table makes the enum, the names and the three look-ups, so that they cannot drift apart.
macro_rules! keys {
    ($($(#[$doc:meta])* $place:ident { $($variant:ident = $name:literal,)* })*) => {
        /// A member whose span is recorded: of the message, of its `params`, or of `params._meta`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Key {
            $($(#[doc = concat!("`", $name, "`, a member of ", stringify!($place))] $variant,)*)*
        }

        impl Key {
            /// Every key, in the order of their discriminants.
            pub const ALL: [Self; Self::COUNT] = [$($(Self::$variant,)*)*];
            /// How many there are.
            pub const COUNT: usize = [$($(stringify!($variant),)*)*].len();
            const NAMES: [&'static str; Self::COUNT] = [$($($name,)*)*];

            $($(#[$doc])*
            #[inline]
            #[allow(non_upper_case_globals)]
            pub(super) fn $place(tag: u64, key: &[u8]) -> Option<Self> {
                $(const $variant: u64 = tag_of($name.as_bytes());)*
                let candidate = match tag {
                    $($variant => Self::$variant,)*
                    _ => return None,
                };
                candidate.is_named(key).then_some(candidate)
            })*
        }
    };
}

keys! {
    /// The member of a message with this name.
    message {
        Jsonrpc = "jsonrpc",
        Id = "id",
        Method = "method",
        Params = "params",
        Result = "result",
        Error = "error",
    }
    /// The member of `params` with this name.
    params {
        Name = "name",
        Uri = "uri",
        Arguments = "arguments",
        Meta = "_meta",
        Cursor = "cursor",
        ProtocolVersion = "protocolVersion",
        Capabilities = "capabilities",
        ClientInfo = "clientInfo",
        Level = "level",
        RequestId = "requestId",
        Reason = "reason",
        ProgressToken = "progressToken",
        Notifications = "notifications",
        RequestState = "requestState",
        InputResponses = "inputResponses",
        TaskId = "taskId",
        Task = "task",
        Ref = "ref",
        Argument = "argument",
        Context = "context",
    }
    /// The member of `params._meta` with this name.
    meta {
        MetaProtocolVersion = "io.modelcontextprotocol/protocolVersion",
        MetaClientCapabilities = "io.modelcontextprotocol/clientCapabilities",
        MetaClientInfo = "io.modelcontextprotocol/clientInfo",
        MetaLogLevel = "io.modelcontextprotocol/logLevel",
        MetaProgressToken = "progressToken",
        MetaTraceparent = "traceparent",
    }
}

impl Key {
    /// How it is spelled in its object.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// Whether `key`, whose tag is that of this one, is this one.
    #[inline]
    fn is_named(self, key: &[u8]) -> bool {
        let name = self.name().as_bytes();
        key.len() == name.len() && (name.len() <= 8 || key[8..] == name[8..])
    }
}

/// Where the members that routing reads are in one scanned message. Copy it, keep it, reuse it: it owns nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    pub(super) spans: [Span; Key::COUNT],
    pub(super) root: Root,
    /// One bit for each key whose value is a string without escapes.
    plain: u32,
    id_kind: IdKind,
    params_kind: Kind,
    meta_kind: Kind,
}

impl Envelope {
    /// What the whole text is. Only an object can have spans.
    #[inline]
    pub fn root(&self) -> Root {
        self.root
    }

    /// What the `id` is.
    #[inline]
    pub fn id_kind(&self) -> IdKind {
        self.id_kind
    }

    /// What `params` is; its members have spans only when it is an object.
    #[inline]
    pub fn params_kind(&self) -> Kind {
        self.params_kind
    }

    /// What `params._meta` is; its members have spans only when it is an object.
    #[inline]
    pub fn meta_kind(&self) -> Kind {
        self.meta_kind
    }

    /// Where the value of `key` is: quotes and brackets included, absent when the message has no such member.
    #[inline]
    pub fn get(&self, key: Key) -> Span {
        self.spans[key as usize]
    }

    /// Whether the message has this member, be it `null`.
    #[inline]
    pub fn has(&self, key: Key) -> bool {
        !self.get(key).is_absent()
    }

    /// The exact bytes of the value of `key` in the `text` that was scanned.
    #[inline]
    pub fn text<'a>(&self, key: Key, text: &'a [u8]) -> Option<&'a [u8]> {
        let value = self.get(key).of(text);
        (!value.is_empty()).then_some(value)
    }

    /// The value of `key` in the `text` that was scanned, for a closer look.
    #[inline]
    pub fn value<'a>(&self, key: Key, text: &'a [u8]) -> Option<Value<'a>> {
        self.text(key, text).map(Value::new)
    }

    /// The content of a string that has no escapes, without its quotes and without a copy; `None` for all else. The
    /// scanner saw that it is UTF-8; what is compared with names needs no second look.
    #[inline]
    pub fn plain<'a>(&self, key: Key, text: &'a [u8]) -> Option<&'a [u8]> {
        if self.plain & 1 << key as u32 == 0 {
            return None;
        }
        self.get(key).of(text).strip_prefix(b"\"")?.strip_suffix(b"\"")
    }

    /// The content of a string, unescaped, borrowed when it has no escapes; `None` when absent or not a string.
    #[inline]
    pub fn str<'a>(&self, key: Key, text: &'a [u8]) -> Option<Cow<'a, str>> {
        match self.plain(key, text) {
            Some(plain) => std::str::from_utf8(plain).ok().map(Cow::Borrowed),
            None => self.value(key, text)?.as_str(),
        }
    }

    #[inline]
    pub(super) fn record(&mut self, key: Key, span: Span, text: &[u8], is_plain: bool) {
        debug_assert!(!span.is_absent(), "no JSON value is empty");
        self.spans[key as usize] = span;
        self.plain |= u32::from(is_plain) << key as u32;
        match key {
            Key::Id => self.id_kind = IdKind::of(span.of(text)),
            Key::Params => self.params_kind = Kind::of(span.of(text)),
            Key::Meta => self.meta_kind = Kind::of(span.of(text)),
            _ => {}
        }
    }
}

const _: () = assert!(Key::COUNT <= u32::BITS as usize, "one bit for each key");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_its_own_place_only() {
        for key in Key::ALL {
            let (tag, name) = (tag_of(key.name().as_bytes()), key.name().as_bytes());
            let found = [Key::message(tag, name), Key::params(tag, name), Key::meta(tag, name)];
            assert!(found.contains(&Some(key)), "{key:?} is not found by its name");
            let both = matches!(key, Key::ProgressToken | Key::MetaProgressToken);
            assert_eq!(found.iter().flatten().count(), if both { 2 } else { 1 }, "{key:?}");
        }
        assert_eq!(Key::ALL.map(|key| key as usize), std::array::from_fn(|index| index));
    }

    #[test]
    fn a_name_is_not_found_by_its_tag_alone() {
        for name in ["protocolVersioN", "id\0", "ID", "methoD", "argumentz", "io.modelcontextprotocol/logLevex"] {
            let (tag, name) = (tag_of(name.as_bytes()), name.as_bytes());
            assert_eq!([Key::message(tag, name), Key::params(tag, name), Key::meta(tag, name)], [None; 3]);
        }
        // The tag of this nine byte key is that of `argument`, which has eight.
        let forged = b"argumen\x74s";
        assert_eq!(Key::params(tag_of(b"argument"), forged), None);
    }

    #[test]
    fn a_span_of_another_text_is_harmless() {
        assert_eq!(Span { start: 5, end: 9 }.of(b"abc"), b"");
        assert_eq!(Span { start: 3, end: 1 }.of(b"abcdef"), b"");
        assert!(Span::default().is_absent() && Span { start: 3, end: 1 }.is_absent());
    }
}
