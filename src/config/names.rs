//! Names in the configuration: of servers, views, tools, header fields.
//!
//! Not patterns (`proto::mcp::NamePattern`). Invariant: each type is a text that its rule allows, and `RULE` says the
//! rule to whoever broke it.

use super::given::{Given, Refused, Setting, quoted};
use crate::limits::TOOL_NAME_BYTES_MAX;
use std::fmt;

/// A server's name: a segment of a URL, and by default the prefix of its tools.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerName(String);

/// A view's name: a segment of a URL, after an `@`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ViewName(String);

/// What a server's names begin with where several servers are seen together, without the `_` behind it. Empty means
/// that they are left as they are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix(String);

/// A name that a tool is shown by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ToolName(String);

/// The name of a header field that may be added to requests, as it is written.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HeaderName(String);

/// Fields that describe one connection, or that corelane writes itself.
const HEADERS_TAKEN: [&str; 17] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "last-event-id",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What a name of a server or a view consists of.
const SEGMENT_RULE: &str = "1 to 32 characters of a-z, 0-9 and `-`, the first not `-`";

fn is_segment(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(allowed) && !text.starts_with('-')
}

fn is_tool_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-')
}

/// Gives each kind of name the same door: `new` is the only way in.
macro_rules! names {
    ($($name:ident: $rule:expr, $test:expr;)+) => {$(
        impl $name {
            /// What such a name consists of.
            pub const RULE: &str = $rule;

            /// The name, if the rule allows it.
            pub fn new(text: &str) -> Option<$name> {
                let test: fn(&str) -> bool = $test;
                test(text).then(|| $name(text.to_owned()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Setting for $name {
            fn allowed() -> String {
                $name::RULE.to_owned()
            }

            fn read(given: &Given) -> Result<Self, Refused> {
                $name::new(given.text(Self::allowed)?).ok_or_else(|| given.refused(Self::allowed()))
            }

            fn write(&self) -> String {
                quoted(&self.0)
            }
        }
    )+};
}

names! {
    ServerName: SEGMENT_RULE, is_segment;
    ViewName: SEGMENT_RULE, is_segment;
    Prefix: "\"\" (none) or 1 to 32 characters of A-Z, a-z, 0-9, `_`, `.` and `-`",
        |text| text.len() <= 32 && text.bytes().all(is_tool_byte);
    ToolName: "1 to 64 characters of A-Z, a-z, 0-9, `_`, `.` and `-`",
        |text| (1..=TOOL_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_tool_byte);
    HeaderName: "a token of HTTP (letters, digits, `-` and the like), neither Host, Content-* nor Accept*, none of a \
        connection (Connection, Upgrade, Transfer-Encoding and the like), and none that begins with Mcp-",
        may_be_added;
}

impl Prefix {
    /// The default: the server's name.
    pub fn of(server: &ServerName) -> Prefix {
        Prefix(server.0.clone())
    }
}

fn may_be_added(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    crate::proto::http1::is_token(name.as_bytes())
        && name.len() <= 64
        && !HEADERS_TAKEN.contains(&lower.as_str())
        && !lower.starts_with("mcp-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_rules() {
        for text in ["a", "0", "weather", "a-b-", "0123456789-0123456789-0123456789"] {
            assert!(ServerName::new(text).is_some() && ViewName::new(text).is_some(), "{text}");
        }
        for text in ["", "-a", "A", "a_b", "a.b", "@a", "a b", "\u{e9}", "0123456789-0123456789-0123456789-"] {
            assert!(ServerName::new(text).is_none() && ViewName::new(text).is_none(), "{text}");
        }
        for text in ["", "My_Server", "a.b-c"] {
            assert!(Prefix::new(text).is_some(), "{text}");
        }
        assert!(Prefix::new(&"x".repeat(33)).is_none() && Prefix::new("a b").is_none());
        assert!(ToolName::new(&"x".repeat(64)).is_some() && ToolName::new(&"x".repeat(65)).is_none());
        assert!(ToolName::new("").is_none() && ToolName::new("a/b").is_none());
    }

    #[test]
    fn headers_that_frame_a_message_are_not_to_be_added() {
        for name in ["Authorization", "X-Team", "cookie", "User-Agent", "!x"] {
            assert!(HeaderName::new(name).is_some(), "{name}");
        }
        for name in ["", "a b", "a:b", "HOST", "Content-Length", "transfer-encoding", "Mcp-Session-Id", "mcp-x", "TE"] {
            assert!(HeaderName::new(name).is_none(), "{name}");
        }
    }
}
