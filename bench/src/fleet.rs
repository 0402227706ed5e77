//! Many client connections on one ring: connect, send, receive, leave, close, and open again. Bytes only.
//!
//! It knows no protocol: a `Crew` decides what is sent and what the answers mean. It is bound to the thread that made
//! it; more connections than one table holds take more threads, each with a fleet of its own.
//!
//! Invariant: a connection has at most one send in flight, and the buffer of that send is neither moved nor changed
//! until its completion; a slot is used again only when nothing of what it held before is in flight. Fleets are leaked,
//! not dropped, so no buffer dies before the ring.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::OwnedFd,
    path::PathBuf,
    time::Duration,
};

use io_uring::{opcode, types};
use socket2::SockAddr;

use crate::{
    ring::{Done, Ring},
    sys,
};

const CONNECT: u64 = 1 << 60;
const RECV: u64 = 2 << 60;
const SEND: u64 = 3 << 60;
const CLOSE: u64 = 4 << 60;
const LEAVE: u64 = 5 << 60;
const CANCEL: u64 = 6 << 60;
const INDEX: u64 = (1 << 60) - 1;

/// Connects in flight at once: well below any listen backlog, so that none is dropped and retried after a second.
const CONNECTING_MAX: usize = 256;
/// Connections per source address: well below half of the 28 thousand ephemeral ports that a pair of addresses has,
/// because connect tries all ports of one parity before the other, and with that half full each connect walks 14
/// thousand of them.
const PER_SOURCE: usize = 10_000;
/// The receive buffer of a connection that is not read: the least that Linux gives, so that its window closes soon.
const UNREAD_WINDOW: usize = 2304;

/// Where connections lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    Inet(SocketAddr),
    Unix(PathBuf),
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Inet(address)
    }
}

impl std::str::FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(path.into())),
            _ => text.parse().map(Self::Inet).map_err(|_| {
                format!("{text:?} is no address: 127.0.0.1:8808, [::1]:8808 and unix:/run/corelane.sock are")
            }),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// How much of what comes is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Reading {
    /// All, at once.
    #[default]
    All,
    /// This many bytes, then none for so many ns.
    Sips { bytes: u32, every_ns: u64 },
    /// Nothing once the crew has had enough (`Crew::enough`).
    None,
}

/// What a connection died of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The connect failed.
    Connect(i32),
    /// The other side closed.
    Closed,
    /// Recv failed: mostly a reset.
    Receive(i32),
    /// Send failed.
    Send(i32),
}

/// Who uses the connections.
pub trait Crew {
    /// Completions were taken from the ring and will be handed on now: the moment at which they count as received.
    fn taken(&mut self) {}
    /// `link` is up; anything written to `out` is sent.
    fn connected(&mut self, link: usize, out: &mut Outbox);
    /// Bytes came on `link`.
    fn received(&mut self, link: usize, bytes: &[u8], out: &mut Outbox);
    /// `link` is gone; nothing more comes from it.
    fn lost(&mut self, link: usize, why: Loss);
    /// Nothing of `link` is in flight any more: it may be opened again.
    fn free(&mut self, _link: usize) {}
    /// Whether `link` is read no more, or no more at once, as the fleet's `Reading` says.
    fn enough(&self, _link: usize) -> bool {
        false
    }
}

/// What waits to be sent, per connection.
pub struct Outbox {
    waiting: Vec<Vec<u8>>,
    dirty: Vec<u32>,
}

impl Outbox {
    /// The buffer to append to; it is sent at the next turn, after what is already in flight.
    pub fn to(&mut self, link: usize) -> &mut Vec<u8> {
        let waiting = &mut self.waiting[link];
        if waiting.is_empty() {
            self.dirty.push(link as u32);
        }
        waiting
    }

    /// An outbox that nobody sends from.
    #[cfg(test)]
    pub fn for_tests(links: usize) -> Self {
        Self { waiting: vec![Vec::new(); links], dirty: Vec::new() }
    }
}

#[derive(Default)]
struct Link {
    flying: Vec<u8>,
    sent: usize,
    up: bool,
    sending: bool,
    /// A receive is in flight.
    armed: bool,
    /// The close is in flight, or has ended and other operations have not.
    closing: bool,
    /// The shutdown is in flight. The kernel may do it on a thread of its own, and looks up the slot then.
    leaving: bool,
    /// Has begun to connect and is not free again.
    taken: bool,
}

/// The connections of one thread.
pub struct Fleet {
    ring: Ring,
    links: Vec<Link>,
    pub outbox: Outbox,
    to_connect: VecDeque<u32>,
    connecting: usize,
    /// Connection n of the whole process leads to the nth of these, and round again.
    targets: Vec<(Address, Box<SockAddr>)>,
    /// Number of this fleet's first connection in the whole process: chooses the source address.
    first: usize,
    reading: Reading,
    /// Connections that are read again at these moments, in order.
    thirsty: VecDeque<(u64, u32)>,
    done: Vec<Done>,
}

impl Fleet {
    /// A fleet of `count` connections to `address`, none of them open yet. Leaked: see the invariant.
    pub fn new(address: SocketAddr, count: usize, first: usize) -> io::Result<&'static mut Self> {
        Self::towards(&[address.into()], count, first, Reading::All)
    }

    /// The same, to several addresses in turn, reading so much.
    pub fn towards(
        addresses: &[Address],
        count: usize,
        first: usize,
        reading: Reading,
    ) -> io::Result<&'static mut Self> {
        let ring = Ring::new(count as u32)?;
        assert!(count <= ring.slots() as usize, "the caller cuts its connections by the size of a table");
        let target = |address: &Address| {
            let told = match address {
                Address::Inet(address) => (*address).into(),
                Address::Unix(path) => SockAddr::unix(path)?,
            };
            Ok((address.clone(), Box::new(told)))
        };
        Ok(Box::leak(Box::new(Self {
            ring,
            links: (0..count).map(|_| Link::default()).collect(),
            outbox: Outbox { waiting: vec![Vec::new(); count], dirty: Vec::new() },
            to_connect: VecDeque::new(),
            connecting: 0,
            targets: addresses.iter().map(target).collect::<io::Result<_>>()?,
            first,
            reading,
            thirsty: VecDeque::new(),
            done: Vec::with_capacity(65_536),
        })))
    }

    /// Opens a connection as soon as few enough others are opening.
    pub fn open(&mut self, link: usize) {
        debug_assert!(!self.links[link].taken, "a slot that is free");
        self.links[link].taken = true;
        self.to_connect.push_back(link as u32);
    }

    /// Says that nothing more will be sent; the other side then closes, and `lost` tells (`Loss::Closed`).
    pub fn leave(&mut self, link: usize) {
        if self.links[link].up {
            let shutdown = opcode::Shutdown::new(types::Fixed(link as u32), libc::SHUT_WR).build();
            self.links[link].leaving = true;
            // SAFETY: a shutdown points to no memory.
            unsafe { self.ring.push(shutdown.user_data(LEAVE | link as u64)) };
        }
    }

    /// Closes a connection at once with a reset, so that no port lingers; `Crew::free` tells when its slot is free.
    pub fn close(&mut self, link: usize) {
        if std::mem::take(&mut self.links[link].up) {
            self.links[link].closing = true;
            if self.links[link].armed || self.links[link].sending {
                let all = types::CancelBuilder::fd(types::Fixed(link as u32)).all();
                // SAFETY: a cancellation points to no memory. It goes before the close, since an operation in flight
                // keeps the file, and a send to who does not read never ends by itself.
                unsafe { self.ring.push(opcode::AsyncCancel2::new(all).build().user_data(CANCEL)) };
            }
            let close = opcode::Close::new(types::Fixed(link as u32)).build().user_data(CLOSE | link as u64);
            // SAFETY: a close points to no memory; the buffers of a receive are the ring's own.
            unsafe { self.ring.push(close) };
        }
    }

    /// One turn: sends what waits, sleeps for `wait` at most, hands what came to `crew`.
    pub fn turn(&mut self, crew: &mut impl Crew, wait: Option<Duration>) -> io::Result<()> {
        while self.connecting < CONNECTING_MAX
            && let Some(link) = self.to_connect.pop_front()
        {
            self.connect(link)?;
        }
        for link in std::mem::take(&mut self.outbox.dirty) {
            self.send(link as usize);
        }
        let wait = self.drink(wait);
        let mut done = std::mem::take(&mut self.done);
        let turned = self.ring.turn(wait, &mut done);
        crew.taken();
        for completion in done.drain(..) {
            let link = (completion.tag & INDEX) as usize;
            match completion.tag & !INDEX {
                CONNECT => self.connected(link, completion, crew),
                RECV => self.received(link, completion, crew),
                SEND => self.sent(link, completion, crew),
                CLOSE => self.closed(link, crew),
                LEAVE => self.has_left(link, crew),
                _ => {}
            }
        }
        self.done = done;
        turned
    }

    fn connect(&mut self, link: u32) -> io::Result<()> {
        let (address, told) = &self.targets[(self.first + link as usize) % self.targets.len()];
        let window = (self.reading != Reading::All).then_some(UNREAD_WINDOW);
        let socket: OwnedFd = match address {
            Address::Inet(address) => sys::outgoing(*address, self.source(*address, link as usize), window)?,
            Address::Unix(_) => sys::outgoing_unix()?,
        };
        self.ring.install(link, &socket)?;
        self.connecting += 1;
        let connect = opcode::Connect::new(types::Fixed(link), told.as_ptr().cast(), told.len()).build();
        // SAFETY: the address is boxed in a leaked fleet and never written again.
        unsafe { self.ring.push(connect.user_data(CONNECT | u64::from(link))) };
        Ok(())
    }

    /// 127.0.0.2 and up, one for each ten thousand connections; none towards anything that is not IPv4 loopback.
    fn source(&self, target: SocketAddr, link: usize) -> Option<SocketAddr> {
        match target.ip() {
            IpAddr::V4(target) if target.is_loopback() => {
                let host = (self.first + link) / PER_SOURCE + 2;
                let source = Ipv4Addr::new(127, 0, (host >> 8) as u8, host as u8);
                Some(SocketAddr::new(source.into(), 0))
            }
            _ => None,
        }
    }

    fn connected(&mut self, link: usize, completion: Done, crew: &mut impl Crew) {
        self.connecting -= 1;
        if completion.result < 0 {
            crew.lost(link, Loss::Connect(-completion.result));
            // The socket that did not connect is in the table still.
            self.links[link].up = true;
            self.close(link);
            return;
        }
        self.links[link].up = true;
        self.receive(link);
        crew.connected(link, &mut self.outbox);
    }

    fn receive(&mut self, link: usize) {
        self.links[link].armed = true;
        let (file, tag) = (types::Fixed(link as u32), RECV | link as u64);
        let recv = match self.reading {
            Reading::All => opcode::RecvMulti::new(file, 0).build(),
            Reading::Sips { bytes, .. } => bounded(file, bytes),
            Reading::None => bounded(file, 0),
        };
        // SAFETY: the bytes go into provided buffers, which live for ever.
        unsafe { self.ring.push(recv.user_data(tag)) };
    }

    /// Reads from those whose time has come; how long may be slept until the next.
    fn drink(&mut self, wait: Option<Duration>) -> Option<Duration> {
        let now = if self.thirsty.is_empty() { return wait } else { sys::now_ns() };
        while let Some(&(at, link)) = self.thirsty.front() {
            if at > now {
                let until = Duration::from_nanos(at - now);
                return Some(wait.map_or(until, |wait| wait.min(until)));
            }
            self.thirsty.pop_front();
            let this = &self.links[link as usize];
            // It may have been closed since, and opened again.
            if this.up && !this.armed {
                self.receive(link as usize);
            }
        }
        wait
    }

    fn received(&mut self, link: usize, completion: Done, crew: &mut impl Crew) {
        let this = &mut self.links[link];
        this.armed = completion.armed();
        let up = this.up;
        if let Some(buffer) = completion.buffer() {
            if up {
                crew.received(link, self.ring.buffers.filled(buffer, completion.result.max(0)), &mut self.outbox);
            }
            self.ring.buffers.stage(buffer);
        }
        if completion.armed() {
            return;
        }
        if !self.links[link].up {
            self.settle(link, crew);
            return;
        }
        match completion.result {
            0 => self.lose(link, Loss::Closed, crew),
            error if error < 0 && error != -libc::ENOBUFS => self.lose(link, Loss::Receive(-error), crew),
            _ if !crew.enough(link) => self.receive(link),
            _ => match self.reading {
                Reading::All => self.receive(link),
                Reading::Sips { every_ns, .. } => self.thirsty.push_back((sys::now_ns() + every_ns, link as u32)),
                Reading::None => {}
            },
        }
    }

    fn lose(&mut self, link: usize, why: Loss, crew: &mut impl Crew) {
        crew.lost(link, why);
        self.close(link);
    }

    fn closed(&mut self, link: usize, crew: &mut impl Crew) {
        self.links[link].closing = false;
        self.settle(link, crew);
    }

    fn has_left(&mut self, link: usize, crew: &mut impl Crew) {
        self.links[link].leaving = false;
        self.settle(link, crew);
    }

    /// Frees the slot if nothing of it is in flight.
    fn settle(&mut self, link: usize, crew: &mut impl Crew) {
        let this = &mut self.links[link];
        if this.taken && !this.up && !this.closing && !this.leaving && !this.armed && !this.sending {
            this.taken = false;
            this.flying.clear();
            self.outbox.waiting[link].clear();
            crew.free(link);
        }
    }

    fn send(&mut self, link: usize) {
        let this = &mut self.links[link];
        if this.sending || !this.up {
            return;
        }
        std::mem::swap(&mut this.flying, &mut self.outbox.waiting[link]);
        this.sent = 0;
        self.send_rest(link);
    }

    fn send_rest(&mut self, link: usize) {
        let this = &mut self.links[link];
        let rest = &this.flying[this.sent..];
        if rest.is_empty() {
            return;
        }
        this.sending = true;
        let send = opcode::Send::new(types::Fixed(link as u32), rest.as_ptr(), rest.len() as u32).build();
        // SAFETY: `flying` is not touched while `sending` is set, which only the completion clears; its heap block
        // stays where it is, and the fleet is leaked.
        unsafe { self.ring.push(send.user_data(SEND | link as u64)) };
    }

    fn sent(&mut self, link: usize, completion: Done, crew: &mut impl Crew) {
        let this = &mut self.links[link];
        this.sending = false;
        if !this.up {
            self.settle(link, crew);
            return;
        }
        if completion.result < 0 {
            self.lose(link, Loss::Send(-completion.result), crew);
            return;
        }
        this.sent += completion.result as usize;
        if this.sent < this.flying.len() {
            self.send_rest(link);
            return;
        }
        this.flying.clear();
        if !self.outbox.waiting[link].is_empty() {
            self.send(link);
        }
    }
}

/// A receive of at most so many bytes (0: a whole buffer) that ends with what it brings.
fn bounded(file: types::Fixed, bytes: u32) -> io_uring::squeue::Entry {
    let recv = opcode::Recv::new(file, std::ptr::null_mut(), bytes).buf_group(0).build();
    recv.flags(io_uring::squeue::Flags::BUFFER_SELECT)
}
