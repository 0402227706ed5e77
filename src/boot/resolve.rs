//! Where a server's host is, or the proxy that leads to it: its addresses by the resolver of this host, those that may
//! be dialled only.
//!
//! Not here: who is told when they are others (`reload`). Invariant: the address that is judged is the address that is
//! dialled.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use crate::config::{HttpServer, UrlHost};

/// Looks a name up, for a port.
pub(super) type Lookup = fn(&str, u16) -> io::Result<Vec<SocketAddr>>;

/// The resolver of this host, which may take seconds.
pub(super) fn by_system(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    (name, port).to_socket_addrs().map(Iterator::collect)
}

/// The addresses that the server's host leads to and that its rule allows, at least one.
///
/// # Errors
/// Why there is none.
pub(super) fn addresses(http: &HttpServer, lookup: Lookup) -> Result<Vec<SocketAddr>, String> {
    let (host, port, rule) = http.dialled();
    let found = match host {
        UrlHost::Address(address) => vec![(*address, port).into()],
        UrlHost::Name(name) => {
            lookup(name, port).map_err(|error| format!("the name {name} cannot be resolved: {error}"))?
        }
    };
    let mut refusal = None;
    let mut allowed = found;
    allowed.retain(|address| match rule.judge(address.ip()) {
        Ok(()) => true,
        Err(error) => {
            refusal = Some(error.to_string());
            false
        }
    });
    match refusal {
        _ if !allowed.is_empty() => Ok(allowed),
        Some(refusal) => Err(refusal),
        None => Err("its name leads to no address".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerUrl;

    #[test]
    fn only_what_may_be_dialled_is_found() {
        let lookup: Lookup = |name, port| match name {
            "both.example" => Ok(vec![([10, 0, 0, 7], port).into(), ([1, 1, 1, 1], port).into()]),
            "inside.example" => Ok(vec![([10, 0, 0, 7], port).into()]),
            "none.example" => Ok(Vec::new()),
            _ => Err(io::Error::other("no such name")),
        };
        let found = |url: &str| addresses(&HttpServer::new(ServerUrl::parse(url).expect("a URL")), lookup);
        assert_eq!(found("http://both.example/"), Ok(vec![([1, 1, 1, 1], 80).into()]));
        assert_eq!(found("http://10.0.0.7:81/"), Ok(vec![([10, 0, 0, 7], 81).into()]));
        assert!(found("http://inside.example/").is_err_and(|why| why.contains("10.0.0.7")));
        assert_eq!(found("http://none.example/"), Err("its name leads to no address".to_owned()));
        assert!(found("http://odd.example/").is_err_and(|why| why.contains("cannot be resolved: no such name")));
    }
}
