//! The way through an egress proxy: what is said to it, and how it answers, before a link reaches its server.
//!
//! A tunnel by CONNECT (RFC 9110 section 9.3.6), for TLS and without: the proxy sees the server's host and port, and
//! looks the name up itself. Not here: sockets, time-outs, TLS. Invariant: nothing is said to the server, or heard of
//! it, before the proxy has said that the way is open.

use std::fmt;

use super::pool::Failure;
use crate::proto::http1::{Piece, ResponseReader};

/// What a proxy is asked.
#[derive(Clone)]
pub struct TunnelSettings {
    request: Vec<u8>,
}

/// Shows no request: it may hold a secret.
impl fmt::Debug for TunnelSettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("TunnelSettings").finish_non_exhaustive()
    }
}

impl TunnelSettings {
    /// A way to `authority`, which is `host:port`; `authorization` is what the proxy wants to see, if it does: a value
    /// of the field `Proxy-Authorization` without line ends.
    pub fn new(authority: &str, authorization: Option<&[u8]>) -> TunnelSettings {
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n").into_bytes();
        if let Some(value) = authorization {
            request.extend_from_slice(b"Proxy-Authorization: ");
            request.extend_from_slice(value);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        TunnelSettings { request }
    }

    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }
}

/// A way that is being opened.
#[derive(Default)]
pub(super) struct Tunnel {
    reader: ResponseReader,
    /// The beginning of a head; the reader bounds it.
    carry: Vec<u8>,
}

impl Tunnel {
    /// Takes bytes of the proxy's answer. Once the way is open, those behind the answer, which are the server's.
    ///
    /// # Errors
    /// The proxy refuses, or does not speak HTTP.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        self.carry.extend_from_slice(bytes);
        let (used, piece) =
            self.reader.next(&self.carry).map_err(|error| Failure::Proxy(format!("its answer: {error}")))?;
        let status = match piece {
            Piece::Head(head) => Some(head.status),
            Piece::More | Piece::Body(_) | Piece::End => None,
        };
        let rest = self.carry.split_off(used);
        self.carry = rest;
        match status {
            None => Ok(None),
            // Whatever the head says of a body: an answer that opens the way has none.
            Some(200..300) => Ok(Some(std::mem::take(&mut self.carry))),
            Some(407) => Err(Failure::Proxy("it wants to know who asks (HTTP 407): proxy_authorization".to_owned())),
            Some(status) => Err(Failure::Proxy(format!("it opens no way to the server (HTTP {status})"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answer: &[u8], cut: usize) -> Result<Option<Vec<u8>>, Failure> {
        let mut tunnel = Tunnel::default();
        let (first, rest) = answer.split_at(cut);
        match tunnel.open(first)? {
            None => tunnel.open(rest),
            Some(mut behind) => {
                behind.extend_from_slice(rest);
                Ok(Some(behind))
            }
        }
    }

    #[test]
    fn a_way_is_open_once_the_proxy_says_so_however_its_answer_is_cut() {
        for (answer, behind) in [
            (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], &b""[..]),
            (b"HTTP/1.0 200 OK\r\n\r\n\x16\x03", b"\x16\x03"),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\nx", b"x"),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        ] {
            for cut in 0..=answer.len() {
                assert_eq!(told(answer, cut), Ok(Some(behind.to_vec())), "{} at {cut}", answer.escape_ascii());
            }
        }
        assert_eq!(told(b"HTTP/1.1 200 OK\r\n", 3), Ok(None));
    }

    #[test]
    fn a_refusal_is_told_with_what_to_change() {
        for (answer, said) in [
            (&b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"[..], "proxy_authorization"),
            (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "HTTP 403"),
            (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "not with `HTTP/1.`"),
        ] {
            let failure = told(answer, 4).expect_err("a refusal").to_string();
            assert!(failure.contains(said), "{failure}");
        }
        let endless = vec![b'a'; 1 << 20];
        assert!(Tunnel::default().open(&[b"HTTP/1.1 200 OK\r\nX: ", &endless[..]].concat()).is_err(), "no bound");
    }

    #[test]
    fn what_is_asked_names_the_server_and_who_asks() {
        let plain = TunnelSettings::new("mcp.example:443", None);
        assert_eq!(plain.request(), b"CONNECT mcp.example:443 HTTP/1.1\r\nHost: mcp.example:443\r\n\r\n");
        let known = TunnelSettings::new("[2001:db8::1]:8443", Some(b"Basic abc"));
        assert!(known.request().ends_with(b"\r\nProxy-Authorization: Basic abc\r\n\r\n"));
        assert!(!format!("{known:?}").contains("abc"), "{known:?}");
    }
}
