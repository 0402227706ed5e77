//! `Host` and `Origin` against allow lists: what keeps a web page from talking to a server on its visitor's machine.
//!
//! Not here: reading the fields (`head`), deciding which requests need an `Origin` (none does; a browser sends it).
//! Invariant: only a value that is well-formed and listed passes; nothing is normalised but the case of ASCII letters.
//! A trailing dot, user information, an empty or padded port, an IPv4 address in another notation: all refused.

use std::fmt;
use std::net::Ipv6Addr;

use thiserror::Error;

/// Why a request is refused for the host it names or the origin it comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum OriginError {
    /// `Host` is not `name[:port]`.
    #[error("Host is not a host name or address with an optional port")]
    HostMalformed,
    /// `Host` is not on the list.
    #[error("this Host is not served here; add it to the allowed hosts if it should be")]
    HostNotAllowed,
    /// `Origin` is not `http(s)://name[:port]`.
    #[error("Origin is not http(s)://host[:port]")]
    OriginMalformed,
    /// `Origin` is not on the list.
    #[error("requests from this Origin are not allowed; add it to the allowed origins if they should be")]
    OriginNotAllowed,
}

impl OriginError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::HostMalformed => 400,
            Self::HostNotAllowed | Self::OriginMalformed | Self::OriginNotAllowed => 403,
        }
    }
}

/// One accepted host: every port, or exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostRule {
    /// Written `*`: every host that is well-formed. Only for listeners that a proxy guards.
    Any,
    /// A name or an address literal in lower case (IPv6 in brackets); `port` absent accepts every port.
    Named {
        /// Name or address literal.
        host: String,
        /// The one port accepted, or every port.
        port: Option<u16>,
    },
}

/// One accepted origin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginRule {
    scheme: Scheme,
    host: String,
    port: OriginPort,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum OriginPort {
    Any,
    /// As it is written, so none for the scheme's own.
    Exactly(Option<u16>),
}

/// Names a machine has for itself.
pub const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

impl HostRule {
    /// A host with every port; it has to be well-formed.
    pub fn every_port(host: impl Into<String>) -> HostRule {
        HostRule::Named { host: host.into(), port: None }
    }

    /// Reads `name`, `name:port` or `*`; none for what could never match.
    pub fn read(text: &str) -> Option<HostRule> {
        if text == "*" {
            return Some(HostRule::Any);
        }
        let Authority { name, port } = Authority::read(text.as_bytes())?;
        Some(HostRule::Named { host: lower_case(name), port })
    }

    fn accepts(&self, authority: &Authority<'_>) -> bool {
        match self {
            HostRule::Any => true,
            HostRule::Named { host, port } => {
                authority.name.eq_ignore_ascii_case(host.as_bytes()) && (port.is_none() || *port == authority.port)
            }
        }
    }
}

impl fmt::Display for HostRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HostRule::Any => f.write_str("*"),
            HostRule::Named { host, port: None } => f.write_str(host),
            HostRule::Named { host, port: Some(port) } => write!(f, "{host}:{port}"),
        }
    }
}

impl OriginRule {
    /// Reads `http://name` or `https://name`, either with a port; none for what could never match.
    pub fn read(text: &str) -> Option<OriginRule> {
        let (scheme, Authority { name, port }) = read_origin(text.as_bytes())?;
        Some(OriginRule { scheme, host: lower_case(name), port: OriginPort::Exactly(port) })
    }

    /// The origins of this machine: its names, by both schemes, with every port.
    pub fn loopback() -> impl Iterator<Item = OriginRule> {
        let of = |scheme| move |host: &str| OriginRule { scheme, host: host.to_owned(), port: OriginPort::Any };
        LOOPBACK_NAMES.into_iter().map(of(Scheme::Http)).chain(LOOPBACK_NAMES.into_iter().map(of(Scheme::Https)))
    }

    fn accepts(&self, scheme: Scheme, authority: &Authority<'_>) -> bool {
        let port = match self.port {
            OriginPort::Any => true,
            OriginPort::Exactly(port) => port == authority.port,
        };
        port && self.scheme == scheme && authority.name.eq_ignore_ascii_case(self.host.as_bytes())
    }
}

impl fmt::Display for OriginRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.scheme == Scheme::Http { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.host)?;
        match self.port {
            OriginPort::Any => f.write_str(":*"),
            OriginPort::Exactly(None) => Ok(()),
            OriginPort::Exactly(Some(port)) => write!(f, ":{port}"),
        }
    }
}

/// What a listener answers to, and to whom. By default to nobody.
#[derive(Clone, Default, Debug)]
pub struct HostRules {
    hosts: Vec<HostRule>,
    origins: Vec<OriginRule>,
}

impl HostRules {
    /// These hosts and origins.
    pub fn new(hosts: Vec<HostRule>, origins: Vec<OriginRule>) -> HostRules {
        HostRules { hosts, origins }
    }

    /// The names of this machine and the origins on them, each with every port.
    pub fn loopback() -> HostRules {
        HostRules::new(LOOPBACK_NAMES.map(HostRule::every_port).to_vec(), OriginRule::loopback().collect())
    }

    /// Whether a request that names this `Host` is for us.
    pub fn check_host(&self, host: &[u8]) -> Result<(), OriginError> {
        let authority = Authority::read(host).ok_or(OriginError::HostMalformed)?;
        let ours = self.hosts.iter().any(|rule| rule.accepts(&authority));
        if ours { Ok(()) } else { Err(OriginError::HostNotAllowed) }
    }

    /// Whether a request that comes from this `Origin` may come in. `null` may not.
    pub fn check_origin(&self, origin: &[u8]) -> Result<(), OriginError> {
        if origin == b"null" {
            return Err(OriginError::OriginNotAllowed);
        }
        let (scheme, authority) = read_origin(origin).ok_or(OriginError::OriginMalformed)?;
        let listed = self.origins.iter().any(|rule| rule.accepts(scheme, &authority));
        if listed { Ok(()) } else { Err(OriginError::OriginNotAllowed) }
    }

    /// Whether a request that comes from this `Origin` comes from one of the hosts, by either scheme.
    pub fn is_own_origin(&self, origin: &[u8]) -> bool {
        read_origin(origin).is_some_and(|(_, authority)| self.hosts.iter().any(|rule| rule.accepts(&authority)))
    }
}

/// A field of a request whose head is not whole, or is none: what stands in a line of that `name`, which ends in a
/// colon, if there is one such line. Good for how a refusal is dressed, and for nothing else.
pub fn field_in<'a>(begun: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let lines = begun.split(|&byte| byte == b'\n').skip(1).map(<[u8]>::trim_ascii_end);
    let mut found = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let (front, value) = line.split_at_checked(name.len())?;
        front.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
    });
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

fn lower_case(name: &[u8]) -> String {
    String::from_utf8_lossy(name).to_ascii_lowercase()
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scheme {
    Http,
    Https,
}

fn read_scheme(origin: &[u8]) -> Option<(Scheme, &[u8])> {
    let rest_after = |scheme: &[u8]| {
        let (begin, rest) = origin.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    rest_after(b"http://")
        .map(|rest| (Scheme::Http, rest))
        .or_else(|| rest_after(b"https://").map(|rest| (Scheme::Https, rest)))
}

fn read_origin(origin: &[u8]) -> Option<(Scheme, Authority<'_>)> {
    let (scheme, rest) = read_scheme(origin)?;
    Some((scheme, Authority::read(rest)?))
}

/// `name[:port]`, checked.
struct Authority<'a> {
    name: &'a [u8],
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let name_end = match bytes {
            [b'[', ..] => bytes.iter().position(|&byte| byte == b']')? + 1,
            _ => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
        };
        let (name, rest) = bytes.split_at(name_end);
        let well_formed = match name {
            [b'[', inner @ .., b']'] => std::str::from_utf8(inner).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok()),
            _ => is_name(name),
        };
        let port = match rest {
            [] => None,
            [b':', digits @ ..] => Some(read_port(digits)?),
            _ => return None,
        };
        well_formed.then_some(Self { name, port })
    }
}

/// Labels of letters, digits, `-` and `_`, none empty: so no leading, doubled or trailing dot.
fn is_name(name: &[u8]) -> bool {
    let is_label_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    name.len() <= 253
        && name.split(|&byte| byte == b'.').all(|label| !label.is_empty() && label.iter().all(is_label_byte))
}

/// 1 to 65535 without leading zeros.
fn read_port(digits: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if text.starts_with('0') { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MALFORMED_HOSTS: &[&str] = &[
        "",
        ":8080",
        "localhost:",
        "localhost:0",
        "localhost:08080",
        "localhost:+8080",
        "localhost:65536",
        "localhost:8080:8080",
        "localhost:8080@evil.com",
        "evil.com@localhost:8080",
        "user:pw@localhost",
        "localhost.",
        "localhost.:8080",
        ".localhost",
        "a..b",
        "localhost ",
        "localhost, evil.com",
        "localhost/",
        "localhost?",
        "localhost#",
        "local%68ost",
        "localhost\\",
        "loc\u{e4}lhost",
        "::1",
        "[::1",
        "[::1]8080",
        "[::1]:",
        "[]",
        "[::1%25lo]",
        "[localhost]",
        "x[::1]",
    ];

    #[test]
    fn hosts_of_a_loopback_listener() {
        let rules = HostRules::loopback();
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8081"] {
            assert_eq!(rules.check_host(host.as_bytes()), Ok(()), "{host}");
        }
        let others = [
            "evil.com",
            "evil.com:8080",
            "localhost.evil.com",
            "evil-localhost",
            "127.0.0.2",
            "127.1",
            "2130706433",
            "0x7f.0.0.1",
            "0.0.0.0",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[0:0:0:0:0:0:0:1]",
        ];
        for host in others {
            let error = rules.check_host(host.as_bytes()).unwrap_err();
            assert_eq!((error, error.status()), (OriginError::HostNotAllowed, 403), "{host}");
        }
        for host in MALFORMED_HOSTS {
            let error = rules.check_host(host.as_bytes()).unwrap_err();
            assert_eq!((error, error.status()), (OriginError::HostMalformed, 400), "{host}");
        }
    }

    #[test]
    fn origins_of_a_loopback_listener() {
        let rules = HostRules::loopback();
        for origin in ["http://localhost", "https://localhost:3000", "http://127.0.0.1:1", "HTTP://[::1]:6274"] {
            assert_eq!(rules.check_origin(origin.as_bytes()), Ok(()), "{origin}");
        }
        for origin in ["null", "http://evil.com", "https://localhost.evil.com:8080", "http://192.168.0.1"] {
            assert_eq!(rules.check_origin(origin.as_bytes()), Err(OriginError::OriginNotAllowed), "{origin}");
        }
        let malformed = [
            "",
            "localhost",
            "NULL",
            "null, http://localhost",
            "http://localhost/",
            "http://localhost http://evil.com",
            "file://",
            "ftp://localhost",
            "http:/localhost",
            "http://",
            "https:///localhost",
        ];
        let from_hosts = MALFORMED_HOSTS.iter().map(|host| format!("http://{host}"));
        for origin in malformed.iter().map(|text| (*text).to_owned()).chain(from_hosts) {
            let error = rules.check_origin(origin.as_bytes()).unwrap_err();
            assert_eq!((error, error.status()), (OriginError::OriginMalformed, 403), "{origin}");
        }
    }

    #[test]
    fn lists() {
        let hosts = ["MCP.example.com:8443", "other.example.com", "[2001:db8::1]:80"].map(HostRule::read);
        let origins = ["https://App.example.com", "http://localhost:5173"].map(OriginRule::read);
        let rules = HostRules::new(hosts.into_iter().flatten().collect(), origins.into_iter().flatten().collect());
        for host in ["mcp.EXAMPLE.com:8443", "other.example.com", "other.example.com:9", "[2001:db8::1]:80"] {
            assert_eq!(rules.check_host(host.as_bytes()), Ok(()), "{host}");
        }
        for host in ["example.com", "mcp.example.com", "mcp.example.com:443", "x.other.example.com", "[2001:db8::1]"] {
            assert_eq!(rules.check_host(host.as_bytes()), Err(OriginError::HostNotAllowed), "{host}");
        }
        for origin in ["https://app.example.com", "HTTP://localhost:5173"] {
            assert_eq!(rules.check_origin(origin.as_bytes()), Ok(()), "{origin}");
        }
        for origin in ["http://app.example.com", "https://app.example.com:444", "http://localhost", "http://127.0.0.1"]
        {
            assert_eq!(rules.check_origin(origin.as_bytes()), Err(OriginError::OriginNotAllowed), "{origin}");
        }
        assert!(
            rules.is_own_origin(b"https://other.example.com:1") && !rules.is_own_origin(b"https://app.example.com")
        );
        let any = HostRules::new(vec![HostRule::Any], Vec::new());
        assert_eq!(any.check_host(b"whatever.example"), Ok(()));
        assert_eq!(any.check_host(b"not a host"), Err(OriginError::HostMalformed));
    }

    #[test]
    fn entries_that_could_never_match() {
        for entry in MALFORMED_HOSTS.iter().chain(&["*:*", "a:*", "a:*:*", "a:80:*", "https://a"]) {
            assert_eq!(HostRule::read(entry), None, "{entry}");
        }
        for entry in ["null", "*", "a.com", "https://*", "https://a.com/", "https://a.com:*", "ftp://a.com"] {
            assert_eq!(OriginRule::read(entry), None, "{entry}");
        }
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        for text in ["*", "mcp.example", "mcp.example:80", "[::1]:8808"] {
            assert_eq!(HostRule::read(text).map(|rule| rule.to_string()).as_deref(), Some(text));
        }
        for text in ["https://app.example", "http://localhost:3000"] {
            assert_eq!(OriginRule::read(text).map(|rule| rule.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn an_origin_is_found_in_what_is_no_head() {
        for (begun, found) in [
            (&b"POST /mcp HTTP/1.1\r\nHost: a\r\norigin: http://a \r\nX: aaa"[..], Some(&b"http://a"[..])),
            (b"POST /mcp HTTP/1.1\r\nOrigin:http://a\r\n\r\nOrigin: http://b", Some(b"http://a")),
            (b"POST /mcp HTTP/1.1\nOrigin: http://a\norigin: http://b\n", None),
            (b"POST /mcp HTTP/1.1\r\n\r\nOrigin: http://b\r\n", None),
            (b"Origin: http://a\r\nX", None),
            (b"POST /mcp HTTP/1.1\r\nOrigin", None),
            (b"", None),
        ] {
            assert_eq!(field_in(begun, "Origin:"), found, "{:?}", String::from_utf8_lossy(begun));
        }
    }
}
