//! Tests of the driver's rules, over real sockets; this file has what they share: a rig of one driver and one listener.
//!
//! Not here: a rule (each has a file of its own).
//! Invariant: every wait has an end, so a rule that is broken shows as a failure and not as a hang.

mod accepting;
mod bells;
mod confirm;
mod connecting;
mod credit;
mod fallbacks;
mod hand_over;
mod idle;
mod kernel_memory;
mod leaving;
mod overflow;
mod owned_pipes;
mod pipes;
mod shortage;
mod slots;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use super::{Disabled, Driver, DriverSettings, Ended, Event, Features};
use crate::ids::ConnectionId;

/// Longest any wait in a test lasts.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long something is watched that is not to happen.
const QUIET: Duration = Duration::from_millis(60);

fn features(disabled: Disabled) -> Features {
    Features::probe(disabled).expect("io_uring works here")
}

fn small() -> DriverSettings {
    DriverSettings { descriptors: 64, buffers: 16, buffers_max: 16, accepts: 4, ..DriverSettings::default() }
}

/// A driver, and what its events said.
struct Rig {
    driver: Driver,
    start: Instant,
    /// What each stream received, in the order in which it came.
    received: HashMap<ConnectionId, Vec<u8>>,
    accepted: Vec<(ConnectionId, usize, Option<SocketAddr>)>,
    ended: HashMap<ConnectionId, Ended>,
    hung_up: Vec<ConnectionId>,
    kept: Vec<(ConnectionId, usize)>,
    closed: Vec<ConnectionId>,
    connected: HashMap<u64, Result<ConnectionId, i32>>,
    sent: Vec<(ConnectionId, Vec<u8>, Result<(), i32>)>,
    bells: usize,
    foreign: usize,
    /// Kinds of all events: a letter each.
    order: String,
}

impl Rig {
    fn new(settings: DriverSettings, disabled: Disabled) -> Rig {
        Rig::of(Driver::new(settings, features(disabled)).expect("a ring"))
    }

    fn of(driver: Driver) -> Rig {
        Rig {
            driver,
            start: Instant::now(),
            received: HashMap::new(),
            accepted: Vec::new(),
            ended: HashMap::new(),
            hung_up: Vec::new(),
            kept: Vec::new(),
            closed: Vec::new(),
            connected: HashMap::new(),
            sent: Vec::new(),
            bells: 0,
            foreign: 0,
            order: String::new(),
        }
    }

    /// A driver that accepts on a port of its own.
    fn listening(settings: DriverSettings, disabled: Disabled) -> (Rig, TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut rig = Rig::new(settings, disabled);
        rig.driver.listen(&[listener.as_raw_fd()]);
        (rig, listener, address)
    }

    /// One turn, and all its events. Returns how many bytes came in.
    fn turn(&mut self, wait: Option<Duration>) -> usize {
        self.driver.turn(self.start.elapsed(), wait).expect("the ring is usable");
        let mut bytes = 0;
        while let Some(event) = self.driver.next_event() {
            bytes += self.note(event);
        }
        bytes
    }

    fn note(&mut self, event: Event) -> usize {
        match event {
            Event::Accepted { stream, listener, peer } => {
                self.order.push('a');
                self.accepted.push((stream, listener, peer));
            }
            Event::Bell => self.bells += 1,
            Event::Closed { stream } => {
                self.order.push('c');
                self.closed.push(stream);
            }
            Event::Connected { token, outcome } => {
                self.order.push('o');
                assert!(self.connected.insert(token, outcome).is_none(), "a connect ends once");
            }
            Event::Ended { stream, why } => {
                self.order.push('e');
                assert!(self.ended.insert(stream, why).is_none(), "a stream ends once");
            }
            Event::Foreign => self.foreign += 1,
            Event::HungUp { stream } => self.hung_up.push(stream),
            Event::Kept { stream, listener } => self.kept.push((stream, listener)),
            Event::Received { stream, lease } => {
                self.order.push('r');
                assert!(!self.closed.contains(&stream), "nothing comes in after the end");
                let bytes = self.driver.bytes(&lease).to_vec();
                self.driver.release(lease);
                self.received.entry(stream).or_default().extend_from_slice(&bytes);
                return bytes.len();
            }
            Event::Sent { stream, buffer, result } => {
                self.order.push('s');
                assert!(!self.closed.contains(&stream), "a buffer comes back before the end");
                self.sent.push((stream, buffer, result));
            }
            Event::SentSome { stream } => {
                self.order.push('p');
                assert!(!self.closed.contains(&stream), "a send moves before the end");
            }
        }
        0
    }

    /// Turns until the condition holds; panics if that takes too long.
    fn until(&mut self, what: &str, mut reached: impl FnMut(&Rig) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            self.turn(Some(Duration::from_millis(20)));
        }
    }

    /// Turns for a while.
    fn linger(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            self.turn(Some(Duration::from_millis(5)));
        }
    }

    /// Turns until the alarm is not set any more, setting none.
    fn until_rung(&mut self) {
        let start = Instant::now();
        while self.driver.alarm.rings_at.is_some() {
            assert!(start.elapsed() < PATIENCE, "it never rings");
            self.turn(Some(Duration::from_micros(500)));
        }
    }

    /// A connected client and its stream.
    fn client(&mut self, address: SocketAddr) -> (TcpStream, ConnectionId) {
        let before = self.accepted.len();
        let client = connect(address);
        self.until("a connection", |rig| rig.accepted.len() > before);
        (client, self.accepted[before].0)
    }

    /// Many connected clients and their streams, in the same order.
    fn clients(&mut self, address: SocketAddr, count: usize) -> Vec<(TcpStream, ConnectionId)> {
        let first = self.accepted.len();
        let mut clients: Vec<TcpStream> = Vec::new();
        while clients.len() < count {
            // The backlog has room for 128.
            let more = (count - clients.len()).min(100);
            clients.extend((0..more).map(|_| connect(address)));
            let due = first + clients.len();
            self.until("connections", |rig| rig.accepted.len() >= due);
        }
        let of: HashMap<SocketAddr, ConnectionId> =
            self.accepted[first..].iter().map(|(id, _, peer)| (peer.expect("by TCP"), *id)).collect();
        clients
            .into_iter()
            .map(|client| (of[&client.local_addr().expect("connected")], client))
            .map(|(id, client)| (client, id))
            .collect()
    }

    fn bytes_of(&self, id: ConnectionId) -> &[u8] {
        self.received.get(&id).map_or(&[], Vec::as_slice)
    }

    fn close(&mut self, id: ConnectionId) {
        self.driver.close(id);
        self.until("the end of a stream", |rig| rig.closed.contains(&id));
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("the backlog has room");
    client.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    client.set_write_timeout(Some(PATIENCE)).expect("a time-out");
    client
}

/// Reads to the end; a reset counts as the end.
fn read_to_end(client: &mut impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    match client.read_to_end(&mut all) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("no end: {error}"),
        _ => all,
    }
}

/// Bytes that are different everywhere, so that a loss or a wrong order shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| ((index / 7) ^ (index >> 11) ^ (index >> 3)) as u8).collect()
}

/// Writes from a thread of its own, and keeps the connection open until it is joined.
fn write_behind(client: &TcpStream, bytes: Vec<u8>) -> std::thread::JoinHandle<()> {
    let mut client = client.try_clone().expect("a descriptor");
    std::thread::spawn(move || client.write_all(&bytes).expect("the reader reads on"))
}

/// Makes a descriptor not block.
fn nonblocking(fd: &impl AsRawFd) {
    // SAFETY: needed because the standard library sets this for sockets only. Both calls take integers.
    #[allow(unsafe_code)]
    unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        assert!(flags >= 0 && libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) == 0);
    }
}

/// Runs a test in a process of its own, because other tests open descriptors at the same time.
fn alone(name: &str, test: impl FnOnce()) {
    const ALONE: &str = "CORELANE_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let this = std::env::current_exe().expect("this test");
    let run = std::process::Command::new(this).args(["--exact", name]).env(ALONE, "1").output().expect("it runs");
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.contains("1 passed"), "{said}");
}

/// Open descriptors of the process, and the one by which they are counted.
fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("it is Linux").count()
}
