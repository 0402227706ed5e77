//! Servers behind https: real ones, each behind an end of TLS of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::{ServerConfig, ServerConnection};
use serde_json::{Value, json};

use crate::gateway::reached;
use crate::legacy::open_at;
use crate::process::{Server, until};
use crate::request::{Request, echo, legacy, modern, text, told_sleep};

/// Takes TLS off and passes on what was said, as what stands before most servers does.
pub struct Terminator {
    pub address: SocketAddr,
    /// Connections on which hands were shaken.
    pub shaken: Arc<AtomicUsize>,
    /// Its certificate, a PEM file.
    pub authority: tempfile::NamedTempFile,
}

impl Terminator {
    /// Before `behind`, with a certificate for these names. Without `says_farewell` its connections end as cut ones do.
    pub fn before(behind: SocketAddr, names: &[&str], says_farewell: bool) -> Terminator {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let mut authority = tempfile::NamedTempFile::new().expect("a place for files");
        authority.write_all(made.cert.pem().as_bytes()).expect("room for a file");
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .expect("a certificate and its key");
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let shaken = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&shaken);
        std::thread::spawn(move || {
            for wire in listener.incoming().map_while(Result::ok) {
                let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || relay(wire, behind, session, says_farewell, &counted));
            }
        });
        Terminator { address, shaken, authority }
    }

    /// Its section of a configuration.
    fn section(&self, name: &str, host: &str, authority: &Path, more: &str) -> String {
        let (port, roots) = (self.address.port(), authority.display());
        format!("[servers.{name}]\nkind = \"http\"\nurl = \"https://{host}:{port}/mcp\"\nroots = \"{roots}\"\n{more}\n")
    }
}

/// One connection, both ways, until either side ends it.
fn relay(
    mut wire: TcpStream,
    behind: SocketAddr,
    session: ServerConnection,
    says_farewell: bool,
    shaken: &AtomicUsize,
) -> Option<()> {
    let mut clear = TcpStream::connect(behind).ok()?;
    let session = Arc::new(Mutex::new(session));
    let (mut from, mut to, other) = (clear.try_clone().ok()?, wire.try_clone().ok()?, Arc::clone(&session));
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).unwrap_or(0);
            let mut session = other.lock().expect("no thread panicked");
            if read > 0 {
                session.writer().write_all(&buffer[..read]).expect("memory");
            } else if says_farewell {
                session.send_close_notify();
            }
            if flush(&mut session, &mut to).is_none() || read == 0 {
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    });
    let mut buffer = vec![0; 16 * 1024];
    let mut was_shaking = true;
    loop {
        let read = wire.read(&mut buffer).unwrap_or(0);
        let mut session = session.lock().expect("no thread panicked");
        let mut said = Vec::new();
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            session.read_tls(&mut rest).ok()?;
            let is_sound = session.process_new_packets().is_ok();
            flush(&mut session, &mut wire)?;
            if !is_sound {
                return None;
            }
            // Ends with an error where there is no more for now.
            let _ = session.reader().read_to_end(&mut said);
        }
        if was_shaking && !session.is_handshaking() {
            was_shaking = false;
            shaken.fetch_add(1, Ordering::SeqCst);
        }
        drop(session);
        if read == 0 || clear.write_all(&said).is_err() {
            let _ = clear.shutdown(Shutdown::Both);
            return Some(());
        }
    }
}

fn flush(session: &mut ServerConnection, wire: &mut TcpStream) -> Option<()> {
    while session.wants_write() {
        session.write_tls(wire).ok()?;
    }
    Some(())
}

/// What a call of a server's tool is answered.
pub fn called(gateway: &Server, name: &str) -> Value {
    let call = Request::modern(&modern(1, "tools/call", echo("x"))).target(&format!("/mcp/{name}"));
    gateway.connect_on(0).ask(&call).json()
}

/// The error of a server that is never reached, once it says so.
pub fn until_refused(gateway: &Server, name: &str, said: &str) {
    until("the server is found not to be reachable", || {
        let answer = called(gateway, name);
        assert_eq!(answer["error"]["code"], -31502, "{answer}");
        let words = answer["error"]["message"].as_str().expect("words");
        assert!(words.contains(name), "{words}");
        words.contains(said).then_some(())
    });
}

#[test]
fn calls_go_over_tls_in_both_eras_on_few_connections() {
    let server = Server::start();
    let terminator = Terminator::before(server.http, &["localhost", "127.0.0.1"], true);
    let authority = terminator.authority.path();
    let gateway = Server::configured(
        &(terminator.section("named", "localhost", authority, "era = \"legacy\"")
            + &terminator.section("numbered", "127.0.0.1", authority, "")),
    );
    let long = "\u{e9}".repeat(150_000);
    for path in ["/mcp/named", "/mcp/numbered"] {
        reached(&gateway, path);
        let mut peer = gateway.connect_on(0);
        for data in ["short", &long, "short again"] {
            let call = modern(7, "tools/call", echo(data));
            assert_eq!(text(&peer.ask(&Request::modern(&call).target(path)).json()), data);
        }
        peer.open(&Request::modern(&modern(1, "tools/call", told_sleep(40, 2, "mine"))).target(path));
        let told = peer.rest();
        assert!(told.len() >= 3 && told.iter().rev().skip(1).all(|one| one["params"]["progressToken"] == "mine"));

        let mut peer = gateway.connect();
        let session = open_at(&mut peer, "2025-11-25", path);
        let call = legacy(9, "tools/call", echo("legacy"));
        assert_eq!(text(&peer.ask(&Request::legacy(&session, &call).target(path)).json()), "legacy");
    }
    // Requests one after the other take the same connection; streams of changes have their own.
    assert!(terminator.shaken.load(Ordering::SeqCst) <= 16, "{:?}", terminator.shaken);
}

/// The host's list is wherever OpenSSL's variable says it is, which is how a test has one of its own.
#[test]
fn the_hosts_own_authorities_are_believed_where_that_is_configured() {
    let server = Server::start();
    let terminator = Terminator::before(server.http, &["localhost"], true);
    let section = |name: &str, roots: &str| terminator.section(name, "localhost", Path::new(roots), "");
    let file = tempfile::NamedTempFile::new().expect("a place for files");
    std::fs::write(file.path(), section("native", "native") + &section("webpki", "webpki")).expect("room for a file");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_corelane"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--tcp", "127.0.0.1:0", "--cores", "2", "--config"]);
    command.arg(file.path()).env("SSL_CERT_FILE", terminator.authority.path());
    let gateway = Server::run(command, &[]);
    reached(&gateway, "/mcp/native");
    assert_eq!(text(&called(&gateway, "native")), "x");
    until_refused(&gateway, "webpki", "certificate");
}

#[test]
fn an_event_stream_of_2024_goes_over_tls() {
    let server = Server::start();
    let terminator = Terminator::before(server.http, &["localhost"], true);
    let (port, roots) = (terminator.address.port(), terminator.authority.path().display());
    let gateway = Server::configured(&format!(
        "[servers.old]\nkind = \"sse\"\nurl = \"https://localhost:{port}/sse\"\nroots = \"{roots}\"\n"
    ));
    reached(&gateway, "/mcp/old");
    assert_eq!(text(&called(&gateway, "old")), "x");
}

#[test]
fn a_server_with_a_strangers_certificate_hears_nothing() {
    let server = Server::start();
    let own = Terminator::before(server.http, &["localhost"], true);
    let strange = Terminator::before(server.http, &["localhost"], true);
    let misnamed = Terminator::before(server.http, &["other.example"], true);
    let gateway = Server::configured(
        &(own.section("own", "localhost", own.authority.path(), "")
            + &strange.section("strange", "localhost", own.authority.path(), "")
            + &misnamed.section("misnamed", "localhost", misnamed.authority.path(), "")
            + &own.section("numbered", "127.0.0.1", own.authority.path(), "")
            + &own.section("public", "localhost", Path::new("webpki"), "")),
    );
    until_refused(&gateway, "strange", "invalid peer certificate");
    until_refused(&gateway, "misnamed", "not valid for name");
    until_refused(&gateway, "numbered", "not valid for name");
    until_refused(&gateway, "public", "invalid peer certificate");
    assert_eq!((strange.shaken.load(Ordering::SeqCst), misnamed.shaken.load(Ordering::SeqCst)), (0, 0));
    reached(&gateway, "/mcp/own");
    assert_eq!(text(&called(&gateway, "own")), "x");
}

#[test]
fn who_does_not_shake_hands_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let plain = Server::start();
    let (port, http) = (silent.local_addr().expect("its address").port(), plain.http.port());
    let closing = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = closing.local_addr().expect("its address").port();
    std::thread::spawn(move || closing.incoming().map_while(Result::ok).for_each(drop));
    let gateway = Server::configured(&format!(
        "[servers.silent]\nkind = \"http\"\nurl = \"https://localhost:{port}/mcp\"\nconnect_timeout_ms = 300\n\
         [servers.plain]\nkind = \"http\"\nurl = \"https://localhost:{http}/mcp\"\n\
         [servers.closing]\nkind = \"http\"\nurl = \"https://localhost:{closed}/mcp\"\n"
    ));
    until_refused(&gateway, "silent", "the handshake was not over after 300 ms");
    until_refused(&gateway, "plain", "TLS with it fails");
    until_refused(&gateway, "closing", "during the handshake");
}

#[test]
fn an_answer_that_was_cut_off_is_none() {
    // Ends its answers by closing, without a length: by itself nobody can tell whether it is whole.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    request.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                let mut body = vec![0; length.unwrap_or(0)];
                let _ = stream.read_exact(&mut body);
                let request: Value = serde_json::from_slice(&body).unwrap_or_default();
                let result = match request["method"].as_str() {
                    Some("tools/call") => json!({"content": [{"type": "text", "text": "whole"}]}),
                    Some("tools/list") => json!({"tools": []}),
                    _ => json!({"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}}),
                };
                let answer = json!({"jsonrpc": "2.0", "id": request["id"], "result": result});
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(format!("{head}{answer}").as_bytes());
            });
        }
    });
    let polite = Terminator::before(server, &["localhost"], true);
    let cut = Terminator::before(server, &["localhost"], false);
    let gateway = Server::configured(
        &(polite.section("polite", "localhost", polite.authority.path(), "")
            + &cut.section("cut", "localhost", cut.authority.path(), "")),
    );

    reached(&gateway, "/mcp/polite");
    assert_eq!(text(&called(&gateway, "polite")), "whole");
    until_refused(&gateway, "cut", "the connection to it ended in the midst of its answer");
}
