//! Where servers dial in: one listener for lines over TCP and for WebSocket, and the first message on either, after
//! which a connection is handed to the core that speaks to its server.
//!
//! Runs on the control thread, beside the cores. Not here: who is let in (`upstream::dial_in`), what is said from then
//! on (`upstream::gateway`). Invariant: a connection that has not shown its key costs one place of a bounded number,
//! for a bounded time and with bounded bytes; a web page can open none.

use std::collections::VecDeque;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;
use tungstenite::handshake::machine::TryParse as _;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header;

use super::BootError;
use crate::config::DialInSettings;
use crate::control::{Health, until_one_panics};
use crate::limits::DIAL_BYTES_MAX;
use crate::proto::http1::HostRules;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::sys::socket::{listen_group, watch_over};
use crate::upstream::dial_in::{DIAL, Gates, NotAdmitted, Presented, Said, Seat, WebSocket, Wire, accepted, refused};

/// Connections that the kernel completes before they are looked at.
const BACKLOG: u32 = 128;
/// Pause after an accept that failed, most likely because files are short.
const PAUSE: Duration = Duration::from_millis(50);
/// How long who is refused may go on sending, so that the reason arrives.
const LINGER: Duration = Duration::from_millis(500);
/// Most refusals in one second that are logged.
const LOGGED_MAX: u32 = 20;
const SECOND: Duration = Duration::from_secs(1);
/// The status of a head that is too large (RFC 6585, 5).
const TOO_LARGE: &str = "431 Request Header Fields Too Large";

/// The listeners, before anybody is let in.
pub(super) struct Entrance {
    listeners: Vec<std::net::TcpListener>,
    /// Where that is, with the ports that the kernel chose.
    pub addresses: Vec<SocketAddr>,
    hall: Arc<Hall>,
}

/// What connections that are not known yet have in common.
struct Hall {
    hosts: HostRules,
    timeout: Duration,
    unknown_max: usize,
    gates: watch::Receiver<Arc<Gates>>,
    health: Health,
    /// Those that are being heard, the oldest first.
    unknown: Mutex<VecDeque<AbortHandle>>,
    refusals: Mutex<Refusals>,
}

/// How many refusals were logged in this second, and how many not.
struct Refusals {
    since: Instant,
    logged: u32,
    left_out: u32,
}

/// Who is not let in: why, for the log, and what it is told.
struct Refusal {
    why: String,
    words: Vec<u8>,
}

/// Who is.
struct Admitted {
    seat: Seat,
    wire: Wire,
}

impl Entrance {
    /// Listens, if servers may dial in at all.
    ///
    /// # Errors
    /// If an address cannot be listened on.
    pub fn open(
        settings: &DialInSettings,
        gates: watch::Receiver<Arc<Gates>>,
        health: Health,
    ) -> Result<Entrance, BootError> {
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for &address in &settings.listen {
            let group = super::launch::patiently(|| listen_group(address, 1, BACKLOG))?;
            addresses.push(group.local_addr);
            listeners.extend(group.fds.into_iter().map(std::net::TcpListener::from));
        }
        let hall = Hall {
            hosts: settings.allowed_hosts.alone(),
            timeout: settings.timeout_ms.duration(),
            unknown_max: settings.unknown_max.usize(),
            gates,
            health,
            unknown: Mutex::default(),
            refusals: Mutex::new(Refusals { since: Instant::now(), logged: 0, left_out: 0 }),
        };
        Ok(Entrance { listeners, addresses, hall: Arc::new(hall) })
    }

    /// Hears whoever comes, until the thread ends; what its life before was hearing is gone.
    pub async fn attend(&self) {
        let mut accepting = JoinSet::new();
        for listener in &self.listeners {
            let listener = listener.try_clone().and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            });
            match listener {
                Ok(listener) => drop(accepting.spawn(accept(listener, Arc::clone(&self.hall)))),
                Err(error) => tracing::error!("servers cannot dial in: {error}"),
            }
        }
        until_one_panics(&mut accepting).await;
    }
}

async fn accept(listener: TcpListener, hall: Arc<Hall>) {
    loop {
        match listener.accept().await {
            // Nobody new is taken: whoever comes finds the next process.
            Ok(_) if hall.health.is_draining() => {}
            Ok((stream, peer)) => {
                let heard = tokio::spawn(hear(stream, peer, Arc::clone(&hall)));
                hall.give_place(heard.abort_handle());
            }
            Err(error) => {
                tracing::debug!("a server that dials in could not be accepted: {error}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Hears one connection until it is known, or refused.
async fn hear(stream: TcpStream, peer: SocketAddr, hall: Arc<Hall>) {
    let outcome = tokio::time::timeout(hall.timeout, hall.presented(&stream)).await;
    let refusal = match outcome {
        Ok(Ok(Admitted { seat, wire })) => match handed_over(stream) {
            Ok(stream) => return seat.take(stream, peer, wire),
            Err(error) => return hall.log(peer, &format!("it could not be taken over: {error}")),
        },
        Ok(Err(refusal)) => refusal,
        Err(_) => {
            let ms = hall.timeout.as_millis();
            let text = format!("nobody said within {ms} ms who this is (dial_in.timeout_ms); send {DIAL} first");
            let words = refused(None, &RpcError::new(Code::DEADLINE, text.clone()));
            Refusal { why: text, words: line(words) }
        }
    };
    hall.log(peer, &refusal.why);
    let last_words = async {
        write_all(&stream, &refusal.words).await?;
        SockRef::from(&stream).shutdown(Shutdown::Write)?;
        // What is still on its way would break the connection off, and the reason with it.
        let mut rest = Vec::new();
        while read_some(&stream, &mut rest).await? {
            rest.clear();
        }
        io::Result::Ok(())
    };
    // Whoever does not read it is gone.
    let _ = tokio::time::timeout(LINGER, last_words).await;
}

/// The connection as a core takes it.
fn handed_over(stream: TcpStream) -> io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    watch_over(&stream)?;
    Ok(stream.into())
}

impl Hall {
    /// Notes who is being heard; one too many takes the place of the oldest.
    fn give_place(&self, heard: AbortHandle) {
        let mut unknown = lock(&self.unknown);
        unknown.retain(|one| !one.is_finished());
        while unknown.len() >= self.unknown_max {
            if let Some(oldest) = unknown.pop_front() {
                oldest.abort();
                tracing::debug!("a connection that said nothing yet lost its place (dial_in.unknown_max)");
            }
        }
        unknown.push_back(heard);
    }

    /// Hears who this is.
    async fn presented(&self, stream: &TcpStream) -> Result<Admitted, Refusal> {
        let (mut bytes, mut blanks) = (Vec::<u8>::new(), 0);
        loop {
            // Lines without anything are none.
            let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            bytes.drain(..blank);
            blanks += blank;
            match bytes.first() {
                Some(b'G') => return self.by_web_socket(stream, bytes).await,
                Some(b'{') => return self.by_line(stream, bytes).await,
                Some(_) => {
                    let text = format!(
                        "this is neither a line of JSON nor the handshake of a WebSocket; send {DIAL} on a line first"
                    );
                    let words = line(refused(None, &RpcError::new(Code::PARSE, text.clone())));
                    return Err(Refusal { why: text, words });
                }
                None if blanks > DIAL_BYTES_MAX => return Err(too_long(line)),
                None => more(stream, &mut bytes).await?,
            }
        }
    }

    async fn by_line(&self, stream: &TcpStream, mut bytes: Vec<u8>) -> Result<Admitted, Refusal> {
        let end = loop {
            match memchr::memchr(b'\n', &bytes) {
                Some(end) if end <= DIAL_BYTES_MAX => break end,
                None if bytes.len() <= DIAL_BYTES_MAX => more(stream, &mut bytes).await?,
                Some(_) | None => return Err(too_long(line)),
            }
        };
        let (seat, answer) = self.judged(&bytes[..end], line)?;
        // The key is in it.
        bytes[..end].fill(0);
        say(stream, &line(answer)).await?;
        Ok(Admitted { seat, wire: Wire::Lines(bytes.split_off(end + 1)) })
    }

    async fn by_web_socket(&self, stream: &TcpStream, mut bytes: Vec<u8>) -> Result<Admitted, Refusal> {
        let (size, request) = loop {
            match Request::try_parse(&bytes) {
                Ok(Some(parsed)) => break parsed,
                Ok(None) if bytes.len() <= DIAL_BYTES_MAX => more(stream, &mut bytes).await?,
                Ok(None) => return Err(no(TOO_LARGE, "the head of the handshake is too long")),
                Err(error) => return Err(no("400 Bad Request", &format!("this is no request of HTTP: {error}"))),
            }
        };
        if size > DIAL_BYTES_MAX {
            return Err(no(TOO_LARGE, "the head of the handshake is too long"));
        }
        self.may_come_in(&request)?;
        let response = create_response(&request)
            .map_err(|error| no("400 Bad Request", &format!("this is no handshake of WebSocket: {error}")))?;
        let mut head = Vec::new();
        // A vector takes all it is given, and the fields are ours.
        let _ = write_response(&mut head, &response);
        say(stream, &head).await?;
        let mut socket = WebSocket::new(DIAL_BYTES_MAX);
        let mut messages = VecDeque::new();
        let mut wire = bytes.split_off(size);
        let first = loop {
            let mut is_over = false;
            let opened = socket.open(&wire, |said| match said {
                Said::Message(text) => messages.push_back(text),
                Said::Farewell => is_over = true,
            });
            wire.fill(0);
            wire.clear();
            let mut out = Vec::new();
            socket.take_out(&mut out);
            if let Err(why) = opened {
                return Err(Refusal { why: format!("it {why}"), words: out });
            }
            say(stream, &out).await?;
            match messages.pop_front() {
                Some(first) => break first,
                None if is_over => return Err(left()),
                None => more(stream, &mut wire).await?,
            }
        };
        let (seat, answer) = self.judged(&first, |answer| {
            let mut out = Vec::new();
            socket.say(&answer);
            socket.farewell("refused");
            socket.take_out(&mut out);
            out
        })?;
        let mut out = Vec::new();
        socket.say(&answer);
        socket.take_out(&mut out);
        say(stream, &out).await?;
        Ok(Admitted { seat, wire: Wire::WebSocket { socket: Box::new(socket), early: messages.into() } })
    }

    /// Who a first message says that this is, if that is somebody: a place, and the answer.
    fn judged(&self, text: &[u8], dressed: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Result<(Seat, Vec<u8>), Refusal> {
        let Presented { id, name, digest } = match Presented::read(text) {
            Ok(presented) => presented,
            Err(answer) => {
                let why = format!("its first message is not {DIAL} with a name and a key");
                return Err(Refusal { why, words: dressed(answer) });
            }
        };
        let gates = Arc::clone(&self.gates.borrow());
        let seat = gates.find(&name, &digest).and_then(|gate| gate.seat());
        seat.map(|seat| (seat, accepted(&id, &name))).map_err(|error| {
            let shown: String = name.chars().take(64).collect();
            let (code, why) = match &error {
                NotAdmitted::Unknown { is_known: true } => {
                    (Code::NOT_ADMITTED, format!("it showed another key than {shown:?} has"))
                }
                NotAdmitted::Unknown { is_known: false } => {
                    (Code::NOT_ADMITTED, format!("it gave the name {shown:?}, which no server has that dials in"))
                }
                NotAdmitted::Full { .. } | NotAdmitted::NotReady { .. } => (Code::OVERLOADED, error.to_string()),
            };
            Refusal { why, words: dressed(refused(Some(&id), &RpcError::new(code, error.to_string()))) }
        })
    }

    /// Whether a handshake of WebSocket names a host of ours, and comes from no web page.
    fn may_come_in(&self, request: &Request) -> Result<(), Refusal> {
        let only = |name: header::HeaderName| {
            let mut values = request.headers().get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).map(|value| value.as_bytes())
        };
        let Some(host) = only(header::HOST) else { return Err(no("400 Bad Request", "exactly one Host is needed")) };
        if self.hosts.check_host(host).is_err() {
            return Err(no("403 Forbidden", "this Host is not one of dial_in.allowed_hosts"));
        }
        let is_own = |origin: &[u8]| {
            let authority = [&b"http://"[..], b"https://"].iter().find_map(|scheme| origin.strip_prefix(*scheme));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        };
        if request.headers().contains_key(header::ORIGIN) && !only(header::ORIGIN).is_some_and(is_own) {
            return Err(no("403 Forbidden", "a web page of another Origin may not dial in; a server sends none"));
        }
        Ok(())
    }

    /// Logs that somebody was refused, unless the second had enough of them.
    fn log(&self, peer: SocketAddr, why: &str) {
        let mut refusals = lock(&self.refusals);
        if refusals.since.elapsed() >= SECOND {
            if refusals.left_out > 0 {
                tracing::warn!("{} more were refused that dialled in, of more than {LOGGED_MAX}/s", refusals.left_out);
            }
            *refusals = Refusals { since: Instant::now(), logged: 0, left_out: 0 };
        }
        if refusals.logged < LOGGED_MAX {
            refusals.logged += 1;
            tracing::warn!(%peer, "a server that dialled in was refused: {why}");
        } else {
            refusals.left_out += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn line(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    text
}

/// The refusal of a first message that does not end.
fn too_long(dressed: impl FnOnce(Vec<u8>) -> Vec<u8>) -> Refusal {
    let text = format!("the first message has more than {DIAL_BYTES_MAX} bytes; send {DIAL} with a name and a key");
    let words = dressed(refused(None, &RpcError::new(Code::INVALID_REQUEST, text.clone())));
    Refusal { why: text, words }
}

/// The refusal of a request of HTTP.
fn no(status: &str, why: &str) -> Refusal {
    let (body, length) = (why, why.len() + 1);
    let head = "Connection: close\r\nContent-Type: text/plain; charset=utf-8";
    let words = format!("HTTP/1.1 {status}\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}\n");
    Refusal { why: why.to_owned(), words: words.into_bytes() }
}

fn left() -> Refusal {
    Refusal { why: "it left before it said who it is".to_owned(), words: Vec::new() }
}

/// Reads on; whoever has nothing more to say is refused.
async fn more(stream: &TcpStream, bytes: &mut Vec<u8>) -> Result<(), Refusal> {
    match read_some(stream, bytes).await {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(left()),
    }
}

async fn say(stream: &TcpStream, bytes: &[u8]) -> Result<(), Refusal> {
    write_all(stream, bytes).await.map_err(|_| left())
}

/// Appends what there is to be read; false at the end.
async fn read_some(stream: &TcpStream, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut some = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut some) {
            Ok(count) => {
                bytes.extend_from_slice(&some[..count]);
                some[..count].fill(0);
                return Ok(count > 0);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
