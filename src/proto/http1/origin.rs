//! `Host` and `Origin` against allow lists: what keeps a web page from talking to a server on its visitor's machine.
//!
//! Not here: reading the fields (`head`), deciding which requests need an `Origin` (none does; a browser sends it).
//! Invariant: only a value that is well-formed and listed passes; nothing is normalised but the case of ASCII letters.
//! A trailing dot, user information, an empty or padded port, an IPv4 address in another notation: all refused.

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

/// An entry of a list that can never match, and what it is an entry of.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RuleError {
    /// Not `name`, `name:port` or `name:*`.
    #[error("allowed host {0:?} is not `name`, `name:port` or `name:*`")]
    Host(String),
    /// Not `http(s)://` followed by what a host may be.
    #[error("allowed origin {0:?} is not `http://name`, `https://name`, either with `:port` or `:*`")]
    Origin(String),
}

/// What a listener answers to, and to whom.
#[derive(Clone, Default, Debug)]
pub struct HostRules {
    /// `name`, `name:port` or `name:*`, exact.
    allowed: Vec<String>,
    /// `scheme://name`, `scheme://name:port` or `scheme://name:*`, exact.
    origins: Vec<String>,
    /// The listener is on loopback, with this port.
    loopback_port: Option<u16>,
    /// Whatever is well-formed is for us.
    any_host: bool,
}

impl HostRules {
    /// The rules of a loopback listener: `localhost`, `127.0.0.1` and `[::1]` with its own port or none; origins on
    /// those hosts with any port.
    pub fn loopback(port: u16) -> Self {
        Self { loopback_port: Some(port), ..Self::default() }
    }

    /// These rules, and one more host. An entry without a port matches a `Host` without one; `:*` matches either.
    pub fn allow_host(mut self, entry: &str) -> Result<Self, RuleError> {
        let name = entry.strip_suffix(":*").unwrap_or(entry);
        match Authority::read(name.as_bytes()) {
            Some(authority) if name.len() == entry.len() || authority.port.is_none() => {
                self.allowed.push(entry.to_owned());
                Ok(self)
            }
            _ => Err(RuleError::Host(entry.to_owned())),
        }
    }

    /// These rules, and every host: for a listener behind a proxy that has checked it.
    pub fn allow_any_host(mut self) -> Self {
        self.any_host = true;
        self
    }

    /// These rules, and one more origin.
    pub fn allow_origin(mut self, entry: &str) -> Result<Self, RuleError> {
        let name = entry.strip_suffix(":*").unwrap_or(entry);
        match read_origin(name.as_bytes()) {
            Some((_, authority)) if name.len() == entry.len() || authority.port.is_none() => {
                self.origins.push(entry.to_owned());
                Ok(self)
            }
            _ => Err(RuleError::Origin(entry.to_owned())),
        }
    }

    /// Whether a request that names this `Host` is for us.
    pub fn check_host(&self, host: &[u8]) -> Result<(), OriginError> {
        let authority = Authority::read(host).ok_or(OriginError::HostMalformed)?;
        let own = self
            .loopback_port
            .is_some_and(|port| authority.is_loopback() && authority.port.is_none_or(|named| named == port));
        if own || self.any_host || self.allowed.iter().any(|entry| authority.matches(entry.as_bytes())) {
            Ok(())
        } else {
            Err(OriginError::HostNotAllowed)
        }
    }

    /// Whether a request that comes from this `Origin` may come in. `null` may not.
    pub fn check_origin(&self, origin: &[u8]) -> Result<(), OriginError> {
        if origin == b"null" {
            return Err(OriginError::OriginNotAllowed);
        }
        let (scheme, authority) = read_origin(origin).ok_or(OriginError::OriginMalformed)?;
        let local = self.loopback_port.is_some() && authority.is_loopback();
        let listed = |entry: &String| {
            read_scheme(entry.as_bytes()).is_some_and(|(known, rest)| known == scheme && authority.matches(rest))
        };
        if local || self.origins.iter().any(listed) { Ok(()) } else { Err(OriginError::OriginNotAllowed) }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
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

    fn is_loopback(&self) -> bool {
        self.name.eq_ignore_ascii_case(b"localhost") || self.name == b"127.0.0.1" || self.name == b"[::1]"
    }

    /// Whether an entry, `name`, `name:port` or `name:*`, means this.
    fn matches(&self, entry: &[u8]) -> bool {
        if let Some(name) = entry.strip_suffix(b":*") {
            return name.eq_ignore_ascii_case(self.name);
        }
        Authority::read(entry)
            .is_some_and(|entry| entry.name.eq_ignore_ascii_case(self.name) && entry.port == self.port)
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
        let rules = HostRules::loopback(8080);
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"] {
            assert_eq!(rules.check_host(host.as_bytes()), Ok(()), "{host}");
        }
        let others = [
            "localhost:8081",
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
        let rules = HostRules::loopback(8080);
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
        let rules = HostRules::default()
            .allow_host("mcp.example.com")
            .and_then(|rules| rules.allow_host("MCP.example.com:8443"))
            .and_then(|rules| rules.allow_host("localhost:*"))
            .and_then(|rules| rules.allow_host("[2001:db8::1]:80"))
            .and_then(|rules| rules.allow_origin("https://app.example.com"))
            .and_then(|rules| rules.allow_origin("http://localhost:*"))
            .unwrap();
        let hosts = ["mcp.example.com", "mcp.EXAMPLE.com:8443", "localhost", "localhost:9", "[2001:db8::1]:80"];
        for host in hosts {
            assert_eq!(rules.check_host(host.as_bytes()), Ok(()), "{host}");
        }
        for host in ["example.com", "mcp.example.com:443", "x.mcp.example.com", "127.0.0.1", "[2001:db8::1]"] {
            assert_eq!(rules.check_host(host.as_bytes()), Err(OriginError::HostNotAllowed), "{host}");
        }
        for origin in ["https://app.example.com", "http://localhost:5173", "http://localhost"] {
            assert_eq!(rules.check_origin(origin.as_bytes()), Ok(()), "{origin}");
        }
        for origin in ["http://app.example.com", "https://app.example.com:444", "https://localhost", "http://127.0.0.1"]
        {
            assert_eq!(rules.check_origin(origin.as_bytes()), Err(OriginError::OriginNotAllowed), "{origin}");
        }
    }

    #[test]
    fn entries_that_could_never_match() {
        for entry in MALFORMED_HOSTS.iter().chain(&["*", "*:*", "a:*:*", "a:80:*", "https://a"]) {
            assert!(HostRules::default().allow_host(entry).is_err(), "{entry}");
        }
        for entry in ["null", "*", "a.com", "https://*", "https://a.com/", "https://a.com:80:*"] {
            assert!(HostRules::default().allow_origin(entry).is_err(), "{entry}");
        }
    }
}
