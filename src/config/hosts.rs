//! Which `Host` and `Origin` values are answered: the guard against DNS rebinding.
//!
//! Not authentication. Invariant: with nothing configured, only names of this machine's own listeners and of loopback
//! are accepted; nothing is ever accepted because of how a name resolves.

use super::given::{Given, Refused, Setting, quoted};
use std::net::SocketAddr;

/// One accepted host: every port, or exactly one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HostRule {
    /// Written `*`: every host. Only for listeners that a proxy guards.
    Any,
    /// A name or an address literal in lower case (IPv6 in brackets); `port` absent accepts every port.
    Named {
        /// Name or address literal.
        host: String,
        /// The one port accepted, or every port.
        port: Option<u16>,
    },
}

/// The accepted hosts: those configured, or else those that follow from the listeners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedHosts {
    given: Vec<HostRule>,
    derived: Vec<HostRule>,
}

/// One accepted origin in lower case, e.g. `https://app.example:8443`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OriginRule(String);

/// The accepted origins: those configured, or else those of loopback.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedOrigins(Vec<OriginRule>);

/// Names a machine has for itself.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Splits `host[:port]`; `None` if the port is no number. The host keeps the brackets of an IPv6 literal.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let end_of_host = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[end_of_host..].find(':') {
        None => Some((authority, None)),
        Some(at) => {
            let (host, port) = (&authority[..end_of_host + at], &authority[end_of_host + at + 1..]);
            let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            Some((host, Some(port.parse().ok().filter(|_| digits)?)))
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(literal) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return literal.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
}

impl HostRule {
    fn accepts(&self, host: &str, port: Option<u16>) -> bool {
        match self {
            HostRule::Any => true,
            HostRule::Named { host: own, port: wanted } => {
                own.eq_ignore_ascii_case(host) && (wanted.is_none() || *wanted == port)
            }
        }
    }
}

/// Loopback names only.
impl Default for AllowedHosts {
    fn default() -> AllowedHosts {
        let mut hosts = AllowedHosts { given: Vec::new(), derived: Vec::new() };
        hosts.derive_from(&[]);
        hosts
    }
}

impl AllowedHosts {
    /// Whether a request with this `Host` field value is answered.
    pub fn accepts(&self, field: &str) -> bool {
        let Some((host, port)) = split_port(field) else { return false };
        is_host(host) && self.rules().iter().any(|rule| rule.accepts(host, port))
    }

    /// The rules in force.
    pub fn rules(&self) -> &[HostRule] {
        if self.given.is_empty() { &self.derived } else { &self.given }
    }

    /// Whether the configuration names them, so that nothing is derived from the listeners.
    pub fn is_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Derives the rules in force when none are configured: loopback names, and the addresses listened on.
    ///
    /// An address literal is safe to accept: a browser that was rebound still sends the attacker's name.
    pub(super) fn derive_from(&mut self, listeners: &[SocketAddr]) {
        let named = |host: String| HostRule::Named { host, port: None };
        let mut derived: Vec<HostRule> = LOOPBACK_NAMES.iter().map(|name| named((*name).to_owned())).collect();
        for address in listeners.iter().filter(|a| !a.ip().is_unspecified() && !a.ip().is_loopback()) {
            derived.push(match address {
                SocketAddr::V4(v4) => named(v4.ip().to_string()),
                SocketAddr::V6(v6) => named(format!("[{}]", v6.ip())),
            });
        }
        self.derived = derived;
    }
}

impl AllowedOrigins {
    /// Whether a request with this `Origin` field value is answered. A request without one is not a browser's.
    pub fn accepts(&self, field: &str) -> bool {
        if !self.0.is_empty() {
            return self.0.iter().any(|rule| rule.0.eq_ignore_ascii_case(field));
        }
        let Some((scheme, authority)) = field.split_once("://") else { return false };
        let http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
        let host = split_port(authority).map(|(host, _)| host);
        http && host.is_some_and(|host| LOOPBACK_NAMES.iter().any(|name| name.eq_ignore_ascii_case(host)))
    }

    /// The configured origins; empty means those of loopback.
    pub fn rules(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|rule| rule.0.as_str())
    }
}

impl Setting for HostRule {
    fn allowed() -> String {
        "a host name or address literal with an optional port, such as \"mcp.example\" or \"10.0.0.7:8808\", or \"*\""
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        if text == "*" {
            return Ok(HostRule::Any);
        }
        let refused = || {
            let refused = given.refused(Self::allowed());
            if text.contains("://") { refused.advise("leave out the scheme") } else { refused }
        };
        let (host, port) = split_port(text).filter(|(host, _)| is_host(host)).ok_or_else(refused)?;
        Ok(HostRule::Named { host: host.to_ascii_lowercase(), port })
    }

    fn write(&self) -> String {
        quoted(&match self {
            HostRule::Any => "*".to_owned(),
            HostRule::Named { host, port: None } => host.clone(),
            HostRule::Named { host, port: Some(port) } => format!("{host}:{port}"),
        })
    }
}

impl Setting for OriginRule {
    fn allowed() -> String {
        "an origin such as \"https://app.example\" or \"http://localhost:3000\", without a path".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        let authority =
            text.split_once("://").filter(|(s, _)| !s.is_empty() && s.bytes().all(|b| b.is_ascii_alphanumeric()));
        let host = authority.and_then(|(_, authority)| split_port(authority)).map(|(host, _)| host);
        match host {
            Some(host) if is_host(host) => Ok(OriginRule(text.to_ascii_lowercase())),
            _ if text == "*" => {
                Err(given.refused(Self::allowed()).advise("name every origin: a wildcard would let any web page in"))
            }
            _ if text.ends_with('/') => Err(given.refused(Self::allowed()).advise("remove the slash at the end")),
            _ => Err(given.refused(Self::allowed())),
        }
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for AllowedHosts {
    fn allowed() -> String {
        Vec::<HostRule>::allowed()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        Ok(AllowedHosts { given: Vec::read(given)?, ..AllowedHosts::default() })
    }

    fn write(&self) -> String {
        self.given.write()
    }
}

impl Setting for AllowedOrigins {
    fn allowed() -> String {
        Vec::<OriginRule>::allowed()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        Ok(AllowedOrigins(Vec::read(given)?))
    }

    fn write(&self) -> String {
        self.0.write()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(word: &str, listeners: &[&str]) -> AllowedHosts {
        let mut hosts = AllowedHosts::read(&Given::word(word)).expect("valid hosts");
        let listeners: Vec<SocketAddr> = listeners.iter().map(|a| a.parse().expect("an address")).collect();
        hosts.derive_from(&listeners);
        hosts
    }

    #[test]
    fn loopback_names_and_own_addresses_are_the_default() {
        let own = hosts("", &["127.0.0.1:8808", "10.0.0.7:8808", "0.0.0.0:1", "[2001:db8::1]:8808"]);
        for field in ["localhost", "LOCALHOST:8808", "127.0.0.1:1", "[::1]:8808", "10.0.0.7", "[2001:db8::1]:8808"] {
            assert!(own.accepts(field), "{field}");
        }
        for field in [
            "",
            "evil.example",
            "localhost.evil.example",
            "10.0.0.8",
            "0.0.0.0",
            "localhost:",
            "localhost:x",
            "localhost:99999",
            "localhost:+1",
            "localhost:80:80",
            "[::1",
            "user@localhost",
            "127.0.0.1/",
        ] {
            assert!(!own.accepts(field), "{field}");
        }
    }

    #[test]
    fn configured_hosts_replace_the_default() {
        let own = hosts("mcp.example,other.example:444", &["127.0.0.1:8808"]);
        assert!(own.accepts("MCP.example:9") && own.accepts("other.example:444"));
        assert!(!own.accepts("other.example") && !own.accepts("other.example:443") && !own.accepts("localhost"));
        assert!(hosts("*", &[]).accepts("whatever.example"));
        assert!(!hosts("*", &[]).accepts("not a host"));
        assert!(HostRule::read(&Given::word("http://x.example")).expect_err("a URL").advice.is_some());
    }

    #[test]
    fn origins_are_loopback_unless_named() {
        let own = AllowedOrigins::default();
        assert!(own.accepts("http://localhost:3000") && own.accepts("https://[::1]"));
        for field in
            ["null", "http://evil.example", "http://localhost.evil.example", "file://localhost", "localhost", ""]
        {
            assert!(!own.accepts(field), "{field}");
        }
        let named = AllowedOrigins::read(&Given::word("https://App.example:8443")).expect("an origin");
        assert!(named.accepts("https://app.example:8443"));
        assert!(!named.accepts("https://app.example") && !named.accepts("http://localhost"));
        for word in ["*", "https://app.example/", "app.example", "https://"] {
            assert!(AllowedOrigins::read(&Given::word(word)).is_err(), "{word}");
        }
    }
}
