//! A server's URL: where it is, and what to ask for there.
//!
//! Not a general reader of URLs: only what can be asked for over HTTP, in one spelling, so that what is judged is
//! what is dialled. Invariant: a host that ends in a number is an IPv4 address in four decimal parts, and none that is
//! never to be dialled.

use super::given::{Given, Refused, Setting, quoted};
use super::problem::nearest;
use super::secret::{self, HIDDEN};
use crate::limits::HTTP_TARGET_BYTES_MAX;
use crate::proto::address::{AddressRule, Network};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// `http://host[:port][/path][?query]`, or `https:`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    is_tls: bool,
    host: UrlHost,
    port: u16,
    target: String,
}

/// `http://host[:port]` of a proxy: what is said to it is not encrypted, what is said through it may be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProxyUrl(ServerUrl);

/// The host of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum UrlHost {
    /// An address literal.
    Address(IpAddr),
    /// A name in lower case, to be looked up.
    Name(String),
}

/// Longest host name.
const NAME_BYTES_MAX: usize = 253;

impl ServerUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What to change.
    pub fn parse(text: &str) -> Result<ServerUrl, String> {
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, rest),
            Some(("https", rest)) => (true, rest),
            Some((scheme, _)) if ["http", "https"].contains(&scheme.to_ascii_lowercase().as_str()) => {
                return Err("write the scheme in lower case".to_owned());
            }
            Some((scheme, _)) => return Err(format!("the scheme `{scheme}` is not spoken: write http:// or https://")),
            None => return Err("begin it with http:// or https://".to_owned()),
        };
        if text.contains('#') {
            return Err("leave out the fragment, the `#` and what follows: it is never sent".to_owned());
        }
        if text.ends_with(HIDDEN) {
            let advice = "is what `corelane config` prints instead of a query that holds a secret: put the query back";
            return Err(format!("{HIDDEN} {advice}"));
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("leave out the user before the `@`, and put an Authorization field into headers".to_owned());
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, port),
            _ => (authority, if is_tls { "443" } else { "80" }),
        };
        let canonical = port.parse::<u16>().ok().filter(|number| *number > 0 && number.to_string() == port);
        let port = canonical.ok_or_else(|| format!("the port `{port}` is not a number from 1 to 65535"))?;
        let host = UrlHost::parse(host)?;
        if let UrlHost::Address(address) = host
            && let Network::Never(what) = Network::of(address)
        {
            return Err(format!("{address} is {what}, which is never dialled: name another host"));
        }
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        if target.len() > HTTP_TARGET_BYTES_MAX {
            return Err(format!("path and query are {} bytes, of at most {HTTP_TARGET_BYTES_MAX}", target.len()));
        }
        if let Some(odd) = target.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '"' | '<' | '>' | '\\' | '^')) {
            return Err(format!("write {odd:?} in path and query percent-encoded"));
        }
        Ok(ServerUrl { is_tls, host, port, target })
    }

    /// The host.
    pub fn host(&self) -> &UrlHost {
        &self.host
    }

    /// Whether it is reached over TLS.
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Path and query, as they are asked for.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of the field `Host`.
    pub fn authority(&self) -> String {
        let standard = if self.is_tls { 443 } else { 80 };
        if self.port == standard { self.host.to_string() } else { format!("{}:{}", self.host, self.port) }
    }

    fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// The URL in full. Its query may hold a secret.
    pub fn in_full(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.target)
    }

    /// The URL without its query, which may hold a secret.
    pub fn without_query(&self) -> String {
        format!("{}://{}{}", self.scheme(), self.authority(), self.target.split('?').next().unwrap_or_default())
    }

    fn hides_secret(&self) -> bool {
        let parts = self.target.split_once('?').map_or("", |(_, query)| query).split('&');
        let secret = |(name, value): (&str, &str)| secret::sounds_secret(name) || secret::looks_secret(value);
        parts.filter_map(|part| part.split_once('=')).any(secret)
    }

    /// Which addresses the host may lead to if nothing is said: private ones if the host itself says that it is one.
    pub fn default_rule(&self) -> AddressRule {
        let private = match &self.host {
            UrlHost::Address(address) => Network::of(*address) != Network::Public,
            UrlHost::Name(name) => name == "localhost" || name.ends_with(".localhost"),
        };
        if private { AddressRule::Private } else { AddressRule::Public }
    }
}

impl ProxyUrl {
    /// The host.
    pub fn host(&self) -> &UrlHost {
        self.0.host()
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port()
    }
}

impl UrlHost {
    fn parse(text: &str) -> Result<UrlHost, String> {
        if let Some(literal) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr = literal.parse().map_err(|_| format!("`{literal}` is no IPv6 address"))?;
            return Ok(UrlHost::Address(address.into()));
        }
        let labels = || text.split('.');
        let last = labels().next_back().unwrap_or("");
        if last.starts_with(|c: char| c.is_ascii_digit()) {
            // What resolvers read as an address in older notations (0x7f.1, 017700000001) has to be one in the usual.
            let address: Ipv4Addr = text.parse().map_err(|_| format!("write `{text}` as four decimal numbers"))?;
            return Ok(UrlHost::Address(address.into()));
        }
        if text.is_empty() {
            return Err("name a host after http://".to_owned());
        }
        if text.ends_with('.') {
            return Err("leave out the dot at the end of the host".to_owned());
        }
        let letters = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        let sound = |label: &str| (1..=63).contains(&label.len()) && letters(label) && !label.starts_with('-');
        if text.len() > NAME_BYTES_MAX || !labels().all(sound) {
            let advice = "parts of letters, digits, `-` and `_`, with dots between (other letters as xn--)";
            return Err(format!("`{text}` is no host name: {advice}"));
        }
        Ok(UrlHost::Name(text.to_ascii_lowercase()))
    }
}

impl Setting for ServerUrl {
    fn allowed() -> String {
        "a URL such as \"http://127.0.0.1:3000/mcp\", without user and fragment".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        ServerUrl::parse(text).map_err(|advice| {
            let refused = given.refused(Self::allowed()).advise(advice);
            // A password or a key may stand there.
            if text.contains(['@', '?']) { refused.without_value() } else { refused }
        })
    }

    fn write(&self) -> String {
        quoted(&if self.hides_secret() { self.to_string() } else { self.in_full() })
    }
}

impl Setting for ProxyUrl {
    fn allowed() -> String {
        "a URL such as \"http://proxy.internal:3128\", without user and path".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        let refused = |advice: String| {
            let refused = given.refused(Self::allowed()).advise(advice);
            if text.contains('@') { refused.without_value() } else { refused }
        };
        let url = match ServerUrl::parse(text) {
            Ok(url) => url,
            Err(_) if text.contains('@') => {
                return Err(refused("leave out the user before the `@`, and write proxy_authorization".to_owned()));
            }
            Err(advice) => return Err(refused(advice)),
        };
        if url.is_tls() {
            return Err(refused(
                "write http://: a proxy is spoken to without TLS, the server through it with".to_owned(),
            ));
        }
        if url.target() != "/" {
            return Err(refused("leave out the path: only the server's URL has one".to_owned()));
        }
        Ok(ProxyUrl(url))
    }

    fn write(&self) -> String {
        quoted(self.0.in_full().trim_end_matches('/'))
    }
}

impl Setting for AddressRule {
    fn allowed() -> String {
        "one of \"public\" \"private\" \"any\"".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        let rules = [AddressRule::Public, AddressRule::Private, AddressRule::Any];
        rules.into_iter().find(|rule| rule.to_string() == text).ok_or_else(|| {
            let refused = given.refused(Self::allowed());
            match nearest(text, ["public", "private", "any"]) {
                Some(word) => refused.advise(format!("did you mean \"{word}\"?")),
                None => refused,
            }
        })
    }

    fn write(&self) -> String {
        quoted(&self.to_string())
    }
}

/// As in URLs: IPv6 in brackets.
impl fmt::Display for UrlHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlHost::Address(IpAddr::V4(v4)) => v4.fmt(f),
            UrlHost::Address(IpAddr::V6(v6)) => write!(f, "[{v6}]"),
            UrlHost::Name(name) => f.write_str(name),
        }
    }
}

/// Without the query, which may hold a secret.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.target.split_once('?').map_or((self.target.as_str(), ""), |(path, _)| (path, "?***"));
        write!(f, "{}://{}{path}{query}", self.scheme(), self.authority())
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> ServerUrl {
        ServerUrl::parse(text).expect(text)
    }

    #[test]
    fn urls_are_cut_into_what_is_dialled_and_what_is_asked_for() {
        for (text, authority, port, target) in [
            ("http://localhost:3000/mcp", "localhost:3000", 3000, "/mcp"),
            ("http://Mcp.Example", "mcp.example", 80, "/"),
            ("http://mcp.example:80/a?b=c", "mcp.example", 80, "/a?b=c"),
            ("http://mcp.example?b", "mcp.example", 80, "/?b"),
            ("http://[::1]:1/", "[::1]:1", 1, "/"),
            ("http://[0:0::1]", "[::1]", 80, "/"),
            ("http://10.0.0.7:65535/x%20y", "10.0.0.7:65535", 65_535, "/x%20y"),
            ("http://a_b.c-d.xn--e", "a_b.c-d.xn--e", 80, "/"),
            ("https://Mcp.example/mcp", "mcp.example", 443, "/mcp"),
            ("https://mcp.example:443", "mcp.example", 443, "/"),
            ("https://mcp.example:80/", "mcp.example:80", 80, "/"),
            ("http://mcp.example:443/", "mcp.example:443", 443, "/"),
        ] {
            let url = parse(text);
            assert_eq!(url.is_tls(), text.starts_with("https:"), "{text}");
            assert_eq!((url.authority().as_str(), url.port(), url.target()), (authority, port, target), "{text}");
            assert_eq!(parse(&url.in_full()), url, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said() {
        let long = format!("http://a/{}", "x".repeat(HTTP_TARGET_BYTES_MAX));
        for (text, advice) in [
            ("HTTP://a", "lower case"),
            ("Https://a", "lower case"),
            ("ftp://a", "the scheme `ftp` is not spoken"),
            ("mcp.example/mcp", "begin it with http://"),
            ("http://", "name a host"),
            ("http:///mcp", "name a host"),
            ("http://a/#b", "leave out the fragment"),
            ("http://me:pw@a/", "put an Authorization field into headers"),
            ("http://a:0/", "the port `0` is not a number from 1 to 65535"),
            ("http://a:65536/", "65535"),
            ("http://a:080/", "`080`"),
            ("http://a:/", "the port `` is not"),
            ("http://a./", "leave out the dot"),
            ("http://a..b/", "no host name"),
            ("http://-a/", "no host name"),
            ("http://m\u{fc}nchen.example/", "xn--"),
            ("http://a%2eb/", "no host name"),
            ("http://[::1/", "no host name"),
            ("http://[fe80::1%25eth0]/", "no IPv6 address"),
            ("http://127.1/", "write `127.1` as four decimal numbers"),
            ("http://0x7f000001/", "four decimal numbers"),
            ("http://2130706433/", "four decimal numbers"),
            ("http://0177.0.0.1/", "four decimal numbers"),
            ("http://127.0.0.0x1/", "four decimal numbers"),
            ("http://169.254.169.254/latest", "link-local, where clouds keep their metadata service"),
            ("http://[::ffff:169.254.169.254]/", "never dialled"),
            ("http://[fe80::1]/", "link-local"),
            ("http://0.0.0.0/", "no host's address"),
            ("http://a/b c", "write ' ' in path and query percent-encoded"),
            ("http://a/\u{e9}", "percent-encoded"),
            ("http://a/?***", "prints instead of a query"),
            (&long, "of at most 4096"),
        ] {
            let said = ServerUrl::parse(text).expect_err(text);
            assert!(said.contains(advice), "{text}: {said}");
        }
    }

    #[test]
    fn a_host_that_is_private_by_itself_may_lead_to_private_addresses() {
        for text in ["http://localhost", "http://api.localhost", "http://127.0.0.1", "http://10.1.1.1", "http://[::1]"]
        {
            assert_eq!(parse(text).default_rule(), AddressRule::Private, "{text}");
        }
        for text in ["http://mcp.example", "http://localhost.example", "http://1.1.1.1", "http://[2606:4700::1]"] {
            assert_eq!(parse(text).default_rule(), AddressRule::Public, "{text}");
        }
    }

    #[test]
    fn a_query_is_not_shown_where_it_may_be_a_secret() {
        let url = parse("http://a/b?api_key=hunter2");
        assert_eq!(url.to_string(), "http://a/b?***");
        assert!(!format!("{url:?} {}", url.write()).contains("hunter2"));
        assert_eq!(parse("http://a/b?c=d").write(), "\"http://a/b?c=d\"");
        for text in ["http://me:hunter2@a/", "http://a:0/?key=hunter2"] {
            let refused = <ServerUrl as Setting>::read(&Given::word(text)).expect_err(text);
            assert!(refused.secret && !refused.seen.contains("hunter2"), "{text}");
        }
    }
}
