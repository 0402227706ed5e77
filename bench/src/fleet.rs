//! Many client connections on one ring: connect, send, receive, close. Bytes only.
//!
//! It knows no protocol: a `Crew` decides what is sent and what the answers mean. It is bound to the thread that made
//! it; more connections than one table holds take more threads, each with a fleet of its own.
//!
//! Invariant: a connection has at most one send in flight, and the buffer of that send is neither moved nor changed
//! until its completion. Fleets are leaked, not dropped, so no buffer dies before the ring.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
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
const INDEX: u64 = (1 << 60) - 1;

/// Connects in flight at once: well below any listen backlog, so that none is dropped and retried after a second.
const CONNECTING_MAX: usize = 256;
/// Connections per source address: well below half of the 28 thousand ephemeral ports that a pair of addresses has,
/// because connect tries all ports of one parity before the other, and with that half full each connect walks 14
/// thousand of them.
const PER_SOURCE: usize = 10_000;

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
}

/// The connections of one thread.
pub struct Fleet {
    ring: Ring,
    links: Vec<Link>,
    pub outbox: Outbox,
    to_connect: VecDeque<u32>,
    connecting: usize,
    target: Box<SockAddr>,
    address: SocketAddr,
    /// Number of this fleet's first connection in the whole process: chooses the source address.
    first: usize,
    done: Vec<Done>,
}

impl Fleet {
    /// A fleet of `count` connections to `address`, none of them open yet. Leaked: see the invariant.
    pub fn new(address: SocketAddr, count: usize, first: usize) -> io::Result<&'static mut Self> {
        let ring = Ring::new(count as u32)?;
        assert!(count <= ring.slots() as usize, "the caller cuts its connections by the size of a table");
        Ok(Box::leak(Box::new(Self {
            ring,
            links: (0..count).map(|_| Link::default()).collect(),
            outbox: Outbox { waiting: vec![Vec::new(); count], dirty: Vec::new() },
            to_connect: VecDeque::new(),
            connecting: 0,
            target: Box::new(address.into()),
            address,
            first,
            done: Vec::with_capacity(65_536),
        })))
    }

    /// Opens a connection as soon as few enough others are opening.
    pub fn open(&mut self, link: usize) {
        self.to_connect.push_back(link as u32);
    }

    /// Closes a connection at once with a reset, so that no port lingers.
    pub fn close(&mut self, link: usize) {
        if std::mem::take(&mut self.links[link].up) {
            // SAFETY: a close points to no memory. The recv that is armed keeps the file until it ends, and its buffers
            // are the ring's own; the slot is not used again.
            unsafe { self.ring.push(opcode::Close::new(types::Fixed(link as u32)).build().user_data(CLOSE)) };
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
        let mut done = std::mem::take(&mut self.done);
        let turned = self.ring.turn(wait, &mut done);
        crew.taken();
        for completion in done.drain(..) {
            let link = (completion.tag & INDEX) as usize;
            match completion.tag & !INDEX {
                CONNECT => self.connected(link, completion, crew),
                RECV => self.received(link, completion, crew),
                SEND => self.sent(link, completion, crew),
                _ => {}
            }
        }
        self.done = done;
        turned
    }

    fn connect(&mut self, link: u32) -> io::Result<()> {
        let socket = sys::outgoing(self.address, self.source(link as usize))?;
        self.ring.install(link, &socket)?;
        self.connecting += 1;
        let connect = opcode::Connect::new(types::Fixed(link), self.target.as_ptr().cast(), self.target.len()).build();
        // SAFETY: the address is boxed in a leaked fleet and never written again.
        unsafe { self.ring.push(connect.user_data(CONNECT | u64::from(link))) };
        Ok(())
    }

    /// 127.0.0.2 and up, one for each ten thousand connections; none towards anything that is not IPv4 loopback.
    fn source(&self, link: usize) -> Option<SocketAddr> {
        match self.address.ip() {
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
            return;
        }
        self.links[link].up = true;
        self.receive(link);
        crew.connected(link, &mut self.outbox);
    }

    fn receive(&mut self, link: usize) {
        let recv = opcode::RecvMulti::new(types::Fixed(link as u32), 0).build().user_data(RECV | link as u64);
        // SAFETY: the bytes go into provided buffers, which live for ever.
        unsafe { self.ring.push(recv) };
    }

    fn received(&mut self, link: usize, completion: Done, crew: &mut impl Crew) {
        if let Some(buffer) = completion.buffer() {
            if self.links[link].up {
                crew.received(link, self.ring.buffers.filled(buffer, completion.result.max(0)), &mut self.outbox);
            }
            self.ring.buffers.stage(buffer);
        }
        if completion.armed() || !self.links[link].up {
            return;
        }
        match completion.result {
            0 => self.lose(link, Loss::Closed, crew),
            error if error < 0 && error != -libc::ENOBUFS => self.lose(link, Loss::Receive(-error), crew),
            _ => self.receive(link),
        }
    }

    fn lose(&mut self, link: usize, why: Loss, crew: &mut impl Crew) {
        self.close(link);
        crew.lost(link, why);
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
        if completion.result < 0 {
            if this.up {
                self.lose(link, Loss::Send(-completion.result), crew);
            }
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
