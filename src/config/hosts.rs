//! Which hosts and origins are configured to be answered: the guard against DNS rebinding.
//!
//! Not here: what a rule is and what it accepts (`proto::http1::origin`), and no authentication.
//! Invariant: with nothing configured, only names of this machine's own listeners and of loopback are accepted.

use super::given::{Given, Refused, Setting, quoted};
use crate::proto::http1::origin::LOOPBACK_NAMES;
use crate::proto::http1::{HostRule, HostRules, OriginRule};
use std::net::SocketAddr;

/// The accepted hosts: those configured, or else those that follow from the listeners.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowedHosts {
    given: Vec<HostRule>,
    derived: Vec<HostRule>,
}

/// The accepted origins: those configured, or else those of loopback.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AllowedOrigins(Vec<OriginRule>);

/// Loopback names only.
impl Default for AllowedHosts {
    fn default() -> AllowedHosts {
        let mut hosts = AllowedHosts { given: Vec::new(), derived: Vec::new() };
        hosts.derive_from(&[]);
        hosts
    }
}

impl AllowedHosts {
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
        let mut derived = LOOPBACK_NAMES.map(HostRule::every_port).to_vec();
        for address in listeners.iter().filter(|address| !address.ip().is_unspecified()) {
            let name = match address {
                SocketAddr::V4(v4) => v4.ip().to_string(),
                SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
            };
            if !LOOPBACK_NAMES.contains(&name.as_str()) {
                derived.push(HostRule::every_port(name));
            }
        }
        self.derived = derived;
    }
}

impl AllowedOrigins {
    /// The rules in force: those configured, or the origins of loopback.
    fn rules(&self) -> Vec<OriginRule> {
        if self.0.is_empty() { OriginRule::loopback().collect() } else { self.0.clone() }
    }
}

impl AllowedHosts {
    /// What these hosts accept, where no page of another origin has any business.
    pub fn alone(&self) -> HostRules {
        HostRules::new(self.rules().to_vec(), Vec::new())
    }

    /// What these hosts and origins accept.
    pub fn with(&self, origins: &AllowedOrigins) -> HostRules {
        HostRules::new(self.rules().to_vec(), origins.rules())
    }
}

impl Setting for HostRule {
    fn allowed() -> String {
        "a host name or address literal with an optional port, such as \"mcp.example\" or \"10.0.0.7:8808\", or \"*\""
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        HostRule::read(text).ok_or_else(|| {
            let refused = given.refused(Self::allowed());
            if text.contains("://") { refused.advise("leave out the scheme") } else { refused }
        })
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

impl Setting for OriginRule {
    fn allowed() -> String {
        "an origin such as \"https://app.example\" or \"http://localhost:3000\", of http or https, without a path"
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        match OriginRule::read(text) {
            Some(rule) => Ok(rule),
            _ if text == "*" => {
                Err(given.refused(Self::allowed()).advise("name every origin: a wildcard would let any web page in"))
            }
            _ if text.ends_with('/') => Err(given.refused(Self::allowed()).advise("remove the slash at the end")),
            _ => Err(given.refused(Self::allowed())),
        }
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
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

    fn accepts(hosts: &AllowedHosts, field: &str) -> bool {
        hosts.with(&AllowedOrigins::default()).check_host(field.as_bytes()).is_ok()
    }

    #[test]
    fn loopback_names_and_own_addresses_are_the_default() {
        let own = hosts("", &["127.0.0.1:8808", "127.0.0.2:1", "10.0.0.7:8808", "0.0.0.0:1", "[2001:db8::1]:8808"]);
        for field in
            ["127.0.0.2", "localhost", "LOCALHOST:8808", "127.0.0.1:1", "[::1]:8808", "10.0.0.7", "[2001:db8::1]:8808"]
        {
            assert!(accepts(&own, field), "{field}");
        }
        for field in
            ["", "127.0.0.3", "evil.example", "localhost.evil.example", "10.0.0.8", "0.0.0.0", "[::]", "user@localhost"]
        {
            assert!(!accepts(&own, field), "{field}");
        }
    }

    #[test]
    fn configured_hosts_replace_the_default() {
        let own = hosts("mcp.example,other.example:444", &["127.0.0.1:8808"]);
        assert!(accepts(&own, "MCP.example:9") && accepts(&own, "other.example:444"));
        for field in ["other.example", "other.example:443", "localhost"] {
            assert!(!accepts(&own, field), "{field}");
        }
        assert!(accepts(&hosts("*", &[]), "whatever.example") && !accepts(&hosts("*", &[]), "not a host"));
        assert!(<HostRule as Setting>::read(&Given::word("http://x.example")).expect_err("a URL").advice.is_some());
    }

    #[test]
    fn origins_are_loopback_unless_named() {
        let accepts = |origins: &AllowedOrigins, field: &str| {
            AllowedHosts::default().with(origins).check_origin(field.as_bytes()).is_ok()
        };
        let own = AllowedOrigins::default();
        assert!(accepts(&own, "http://localhost:3000") && accepts(&own, "https://[::1]"));
        for field in ["null", "http://evil.example", "http://localhost.evil.example", "file://localhost", "localhost"] {
            assert!(!accepts(&own, field), "{field}");
        }
        let named = AllowedOrigins::read(&Given::word("https://App.example:8443")).expect("an origin");
        assert!(accepts(&named, "https://app.example:8443"));
        assert!(!accepts(&named, "https://app.example") && !accepts(&named, "http://localhost"));
        for word in ["*", "https://app.example/", "app.example", "https://"] {
            assert!(AllowedOrigins::read(&Given::word(word)).is_err(), "{word}");
        }
    }
}
