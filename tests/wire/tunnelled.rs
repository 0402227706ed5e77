//! Servers behind an egress proxy: a small one that knows names nobody else does, and notes what it is asked.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::gateway::reached;
use crate::process::Server;
use crate::request::{Request, echo, modern, text};
use crate::secured::{Terminator, called, until_refused};

/// A proxy before one server, which it calls `mcp.invalid`; it wants to see `Basic b2s6b2s=`.
struct Proxy {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let heads = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&heads);
        std::thread::spawn(move || {
            for wire in listener.incoming().map_while(Result::ok) {
                let noted = Arc::clone(&noted);
                std::thread::spawn(move || lead(wire, server, &noted));
            }
        });
        Proxy { address, heads }
    }

    /// The section of a server that this proxy leads to.
    fn section(&self, name: &str, url: &str, more: &str) -> String {
        let proxy = self.address;
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"{url}\"\nproxy = \"http://{proxy}\"\n{more}\n")
    }
}

/// One connection: what is asked of the proxy, and then both ways until either side ends it.
fn lead(mut wire: TcpStream, server: SocketAddr, noted: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        wire.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("a head is a text");
    noted.lock().expect("no thread panicked").push(head.clone());
    if !head.contains("\r\nProxy-Authorization: Basic b2s6b2s=\r\n") {
        let refusal =
            "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n";
        return wire.write_all(refusal.as_bytes()).ok();
    }
    if !head.starts_with("CONNECT mcp.invalid:") {
        return wire.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno\r\n").ok();
    }
    let mut behind = TcpStream::connect(server).expect("the server is there");
    // By single bytes: an answer has no right to come whole.
    for byte in b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n" {
        wire.write_all(&[*byte]).ok()?;
    }
    let (mut back, mut there) = (behind.try_clone().expect("a descriptor"), wire.try_clone().expect("a descriptor"));
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut back, &mut there);
        let _ = there.shutdown(Shutdown::Both);
    });
    let _ = std::io::copy(&mut wire, &mut behind);
    behind.shutdown(Shutdown::Both).ok()
}

/// What is shown to the proxy, from a file.
fn login(file: &tempfile::NamedTempFile) -> String {
    std::fs::write(file.path(), "b2s6b2s=\n").expect("room for a file");
    format!("proxy_authorization = {{ file = \"{}\", before = \"Basic \" }}", file.path().display())
}

#[test]
fn a_proxy_leads_to_servers_whose_names_only_it_knows() {
    let server = Server::configured("[serve]\nallowed_hosts = [\"mcp.invalid\"]\n");
    let secured = Terminator::before(server.http, &["mcp.invalid"], true);
    let (plain, tls) = (Proxy::before(server.http), Proxy::before(secured.address));
    let file = tempfile::NamedTempFile::new().expect("a place for files");
    let login = login(&file);
    let roots = format!("{login}\nroots = \"{}\"", secured.authority.path().display());
    let gateway = Server::configured(
        &(plain.section("plain", "http://mcp.invalid/mcp", &login)
            + &tls.section("tls", "https://mcp.invalid:8443/mcp", &roots)),
    );
    for (name, proxy, asked) in [("plain", &plain, "mcp.invalid:80"), ("tls", &tls, "mcp.invalid:8443")] {
        reached(&gateway, &format!("/mcp/{name}"));
        let mut peer = gateway.connect_on(0);
        for data in ["short", &"\u{e9}".repeat(150_000), "short again"] {
            let call = Request::modern(&modern(7, "tools/call", echo(data))).target(&format!("/mcp/{name}"));
            assert_eq!(text(&peer.ask(&call).json()), data);
        }
        let heads = proxy.heads.lock().expect("no thread panicked");
        let begin = format!("CONNECT {asked} HTTP/1.1\r\nHost: {asked}\r\n");
        assert!(heads.iter().all(|head| head.starts_with(&begin)), "{heads:?}");
        // Requests one after the other take the same way; streams of changes have their own.
        assert!((1..=8).contains(&heads.len()), "{heads:?}");
    }
    assert_eq!(secured.shaken.load(std::sync::atomic::Ordering::SeqCst), tls.heads.lock().expect("sound").len());
}

#[test]
fn a_proxy_that_opens_no_way_is_named_with_the_reason() {
    let server = Server::start();
    let proxy = Proxy::before(server.http);
    let file = tempfile::NamedTempFile::new().expect("a place for files");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = (silent.local_addr().expect("its address"), silent);
    let closing = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closes = closing.local_addr().expect("its address");
    std::thread::spawn(move || closing.incoming().map_while(Result::ok).for_each(drop));
    let at = |name: &str, address: SocketAddr| {
        format!(
            "[servers.{name}]\nkind = \"http\"\nurl = \"https://mcp.invalid/mcp\"\nproxy = \"http://{address}\"\n\
             connect_timeout_ms = 300\n"
        )
    };
    let gateway = Server::configured(
        &(proxy.section("stranger", "http://mcp.invalid/mcp", "")
            + &proxy.section("forbidden", "http://other.invalid/mcp", &login(&file))
            + &at("silent", silent.0)
            + &at("closing", closes)),
    );
    until_refused(&gateway, "stranger", "the proxy before it fails: it wants to know who asks (HTTP 407)");
    until_refused(&gateway, "forbidden", "the proxy before it fails: it opens no way to the server (HTTP 403)");
    until_refused(&gateway, "silent", "the proxy before it fails: it had opened no way after 300 ms");
    until_refused(&gateway, "closing", "the proxy before it fails: it ended the connection and opened no way");
    assert_eq!(called(&gateway, "stranger")["error"]["code"], -31502);
}
