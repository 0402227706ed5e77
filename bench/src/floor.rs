//! The floor: the cheapest server of the same bytes that this kernel allows.
//!
//! It is not an MCP server: it parses nothing, it finds where a request ends and answers fixed bytes of a length given
//! on the command line. One thread, one ring, direct descriptors, multishot accept and recv into provided buffers, one
//! send in flight per connection, one `io_uring_enter` per turn, in which it also sleeps.
//!
//! Invariant: a connection's slot is closed only when neither its recv nor its send is armed; until then the kernel may
//! use both, and the answers it sends from are never moved.

use std::{io, net::SocketAddr, os::fd::AsRawFd};

use io_uring::{opcode, types};

use crate::{
    ring::{Done, Ring},
    sys,
};

/// What a request ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// A newline.
    Ndjson,
    /// `--request-bytes` bytes after the last one: the cheapest framing there is.
    Http,
}

/// `corelane-bench floor`.
#[derive(clap::Args)]
pub struct Floor {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9900")]
    listen: SocketAddr,
    /// How requests are told apart.
    #[arg(long, value_enum)]
    shape: Shape,
    /// CPU to pin to.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Bytes of each answer on the wire, newline or HTTP head included.
    #[arg(long, default_value_t = 175)]
    reply_bytes: usize,
    /// Bytes of each request on the wire (shape http only; `corelane-bench load --print-sizes` tells).
    #[arg(long, default_value_t = 0, required_if_eq("shape", "http"))]
    request_bytes: usize,
    /// Rings, each with a thread and a table of its own, all on the same CPU: for more connections than one table
    /// holds.
    #[arg(long, default_value_t = 1)]
    rings: usize,
    /// Direct descriptors of each; the limit of open files unless given.
    #[arg(long)]
    slots: Option<u32>,
}

/// Answers sent by one operation at most; what is more waits for the next.
const ANSWERS_PER_SEND: usize = 64;

const ACCEPT: u64 = 1 << 60;
const RECV: u64 = 2 << 60;
const SEND: u64 = 3 << 60;
const CLOSE: u64 = 4 << 60;
const SLOT: u64 = (1 << 60) - 1;

/// One connection: counts only, since all answers are the same bytes.
#[derive(Clone, Copy, Default)]
struct Peer {
    /// Bytes of an unfinished request (shape http).
    partial: usize,
    /// Answers not yet handed to a send.
    owed: usize,
    /// Bytes of answers handed to a send that the kernel has not taken yet.
    unsent: usize,
    sending: bool,
    receiving: bool,
    listed: bool,
    ended: bool,
}

struct Server {
    ring: Ring,
    peers: Vec<Peer>,
    dirty: Vec<u32>,
    answers: &'static [u8],
    shape: Shape,
    request_bytes: usize,
    reply_bytes: usize,
    listener: i32,
}

impl Floor {
    /// Serves until killed.
    pub fn run(&self) -> Result<(), crate::Failure> {
        if self.shape == Shape::Http && self.request_bytes == 0 {
            return Err("--request-bytes must be above zero".into());
        }
        sys::pin(self.cpu)?;
        let limit = u32::try_from(sys::raise_nofile()?).unwrap_or(u32::MAX);
        // Above about a million the kernel refuses whatever the limit says.
        let slots = self.slots.unwrap_or(limit).min(limit).min(1 << 20);
        let answer = answer(self.shape, self.reply_bytes)?;
        // Never freed: the kernel may read it as long as a ring lives.
        let answers: &'static [u8] = answer.repeat(ANSWERS_PER_SEND).leak();
        let rings = self.rings.max(1);
        eprintln!(
            "floor listens on {}, {rings} x {slots} direct descriptors, {} bytes per answer",
            self.listen,
            answer.len()
        );
        std::thread::scope(|scope| {
            for _ in 1..rings {
                scope.spawn(|| {
                    if let Err(error) = self.serve(slots, answers, answer.len()) {
                        eprintln!("floor: {error}");
                        std::process::exit(1);
                    }
                });
            }
            self.serve(slots, answers, answer.len())
        })
    }

    /// One ring, on this thread.
    fn serve(&self, slots: u32, answers: &'static [u8], reply_bytes: usize) -> Result<(), crate::Failure> {
        sys::pin(self.cpu)?;
        let listener = sys::listening(self.listen, self.rings > 1)?;
        let server = Server {
            ring: Ring::new(slots)?,
            peers: vec![Peer::default(); slots as usize],
            dirty: Vec::new(),
            answers,
            shape: self.shape,
            request_bytes: self.request_bytes,
            reply_bytes,
            listener: listener.as_raw_fd(),
        };
        server.serve()?;
        Ok(())
    }
}

/// One answer of exactly `bytes` bytes.
fn answer(shape: Shape, bytes: usize) -> Result<Vec<u8>, String> {
    match shape {
        Shape::Ndjson => {
            let mut line = vec![b'x'; bytes.max(1) - 1];
            line.push(b'\n');
            Ok(line)
        }
        Shape::Http => (0..bytes)
            .rev()
            .map(|body| {
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {body}\r\n\r\n");
                (head, body)
            })
            .find(|(head, body)| head.len() + body <= bytes)
            .map(|(mut head, body)| {
                // Where no body length fits exactly (a digit more in its own count), a space before the number makes it
                // up.
                let short = bytes - head.len() - body;
                let at = head.rfind(':').unwrap_or(0) + 1;
                head.insert_str(at, &" ".repeat(short));
                head.push_str(&"x".repeat(body));
                head.into_bytes()
            })
            .ok_or_else(|| format!("--reply-bytes {bytes} is shorter than an HTTP head")),
    }
}

impl Server {
    fn serve(mut self) -> io::Result<()> {
        let mut done: Vec<Done> = Vec::with_capacity(65_536);
        self.accept();
        loop {
            self.ring.turn(None, &mut done)?;
            for completion in done.drain(..) {
                let slot = (completion.tag & SLOT) as u32;
                match completion.tag & !SLOT {
                    ACCEPT => self.accepted(completion),
                    RECV => self.received(slot, completion),
                    SEND => self.sent(slot, completion),
                    _ => {}
                }
            }
            for slot in std::mem::take(&mut self.dirty) {
                self.peers[slot as usize].listed = false;
                self.answer(slot);
            }
        }
    }

    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener)).allocate_file_index(true).build();
        // SAFETY: a multishot accept points to no memory.
        unsafe { self.ring.push(accept.user_data(ACCEPT)) };
    }

    fn accepted(&mut self, completion: Done) {
        if let Ok(slot) = u32::try_from(completion.result) {
            self.peers[slot as usize] = Peer::default();
            self.receive(slot);
        } else {
            eprintln!("floor: accept: {}", io::Error::from_raw_os_error(-completion.result));
        }
        if !completion.armed() {
            self.accept();
        }
    }

    fn receive(&mut self, slot: u32) {
        self.peers[slot as usize].receiving = true;
        let recv = opcode::RecvMulti::new(types::Fixed(slot), 0).build().user_data(RECV | u64::from(slot));
        // SAFETY: the bytes go into provided buffers, which live for ever.
        unsafe { self.ring.push(recv) };
    }

    fn received(&mut self, slot: u32, completion: Done) {
        let peer = &mut self.peers[slot as usize];
        if let Some(buffer) = completion.buffer() {
            let bytes = self.ring.buffers.filled(buffer, completion.result.max(0));
            match self.shape {
                Shape::Ndjson => peer.owed += memchr::memchr_iter(b'\n', bytes).count(),
                Shape::Http => {
                    let have = peer.partial + bytes.len();
                    peer.owed += have / self.request_bytes;
                    peer.partial = have % self.request_bytes;
                }
            }
            self.ring.buffers.stage(buffer);
        }
        if !completion.armed() {
            peer.receiving = false;
            // Zero is the peer's end; anything below, but for a lack of buffers, is a broken connection.
            peer.ended = completion.result == 0 || (completion.result < 0 && completion.result != -libc::ENOBUFS);
            if !peer.ended {
                self.receive(slot);
            }
        }
        self.list(slot);
    }

    fn sent(&mut self, slot: u32, completion: Done) {
        let peer = &mut self.peers[slot as usize];
        peer.sending = false;
        match usize::try_from(completion.result) {
            Ok(taken) => peer.unsent -= taken,
            // The recv ends by itself once the connection is broken.
            Err(_) => (peer.unsent, peer.owed) = (0, 0),
        }
        self.list(slot);
    }

    fn list(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if !peer.listed {
            peer.listed = true;
            self.dirty.push(slot);
        }
    }

    /// Sends what is owed, or closes when all is over.
    fn answer(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if peer.sending {
            return;
        }
        if peer.ended {
            if !peer.receiving {
                *peer = Peer::default();
                // SAFETY: a close points to no memory.
                unsafe { self.ring.push(opcode::Close::new(types::Fixed(slot)).build().user_data(CLOSE)) };
            }
            return;
        }
        if peer.unsent == 0 {
            let answers = peer.owed.min(ANSWERS_PER_SEND);
            peer.owed -= answers;
            peer.unsent = answers * self.reply_bytes;
        }
        if peer.unsent == 0 {
            return;
        }
        peer.sending = true;
        // The last `unsent` bytes: right for whole answers, and for what a short send left of them.
        let tail = &self.answers[self.answers.len() - peer.unsent..];
        let send = opcode::Send::new(types::Fixed(slot), tail.as_ptr(), tail.len() as u32).build();
        // SAFETY: `answers` is leaked, so it is valid and unchanged for ever.
        unsafe { self.ring.push(send.user_data(SEND | u64::from(slot))) };
    }
}
