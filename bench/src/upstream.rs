//! `corelane-bench upstream`: the cheapest server that still answers MCP, for proxies to stand in front of.
//!
//! It is the floor with as much sense as a proxy needs of the server behind it: it finds where requests of any length
//! end and answers each under its own id. One thread, one ring, direct descriptors, multishot accept and recv, one send
//! in flight per connection, one `io_uring_enter` per turn, in which it also sleeps.
//!
//! Invariant: a connection's slot is closed only when neither its recv nor its send is armed, and the buffer of a send
//! is neither moved nor changed until its completion.

mod talk;

use std::{io, net::SocketAddr, os::fd::AsRawFd};

use io_uring::{opcode, types};

use crate::{
    ring::{Done, Ring},
    sys,
};
use talk::Talk;

/// `corelane-bench upstream`.
#[derive(clap::Args)]
pub struct Upstream {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9901")]
    listen: SocketAddr,
    /// CPU to pin to.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// Bytes of the text with which the tool `echo` answers, whatever it is told.
    #[arg(long, default_value_t = 76)]
    text_bytes: usize,
    /// Direct descriptors; the limit of open files unless given.
    #[arg(long)]
    slots: Option<u32>,
}

const ACCEPT: u64 = 1 << 60;
const RECV: u64 = 2 << 60;
const SEND: u64 = 3 << 60;
/// A close, or a shutdown: nothing follows from its end.
const NOTHING: u64 = 4 << 60;
const SLOT: u64 = (1 << 60) - 1;

/// Answers that may wait for somebody who asks and does not read.
const OUT_MAX: usize = 1 << 20;

/// One connection.
#[derive(Default)]
struct Peer {
    /// An unfinished request.
    kept: Vec<u8>,
    /// Answers not yet handed to a send.
    out: Vec<u8>,
    /// Answers that are being sent, and how much of them the kernel has taken.
    flying: Vec<u8>,
    sent: usize,
    sending: bool,
    receiving: bool,
    listed: bool,
    ended: bool,
}

struct Server {
    ring: Ring,
    talk: Talk,
    peers: Vec<Peer>,
    dirty: Vec<u32>,
    listener: i32,
}

impl Upstream {
    /// Serves until killed.
    pub fn run(&self) -> Result<(), crate::Failure> {
        sys::pin(self.cpu)?;
        let limit = u32::try_from(sys::raise_nofile()?).unwrap_or(u32::MAX);
        let listener = sys::listening(self.listen, false)?;
        eprintln!("upstream listens on {}", self.listen);
        serve(&listener, self.slots.unwrap_or(limit).min(limit), self.text_bytes)?;
        Ok(())
    }
}

/// Serves what connects to `listener` for as long as this thread lives.
fn serve(listener: &impl AsRawFd, slots: u32, text_bytes: usize) -> io::Result<()> {
    let server = Server {
        ring: Ring::new(slots)?,
        talk: Talk::new(text_bytes),
        peers: (0..slots).map(|_| Peer::default()).collect(),
        dirty: Vec::new(),
        listener: listener.as_raw_fd(),
    };
    // Leaked: the kernel may read what is being sent for as long as the ring lives.
    Box::leak(Box::new(server)).serve()
}

impl Server {
    fn serve(&mut self) -> io::Result<()> {
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
                self.send(slot);
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
            self.receive(slot);
        } else {
            eprintln!("upstream: accept: {}", io::Error::from_raw_os_error(-completion.result));
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
            let taken = peer.ended || self.talk.take(&mut peer.kept, bytes, &mut peer.out).is_ok();
            if !taken || peer.out.len() > OUT_MAX {
                (peer.ended, peer.out) = (true, Vec::new());
                let shutdown = opcode::Shutdown::new(types::Fixed(slot), libc::SHUT_RDWR).build();
                // SAFETY: a shutdown points to no memory. It ends the recv, after which the slot is closed.
                unsafe { self.ring.push(shutdown.user_data(NOTHING)) };
            }
            self.ring.buffers.stage(buffer);
        }
        if !completion.armed() {
            peer.receiving = false;
            // Zero is the peer's end; anything below, but for a lack of buffers, is a broken connection.
            peer.ended |= completion.result == 0 || (completion.result < 0 && completion.result != -libc::ENOBUFS);
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
            Ok(taken) => peer.sent += taken,
            // The recv ends by itself once the connection is broken.
            Err(_) => {
                peer.sent = peer.flying.len();
                peer.out.clear();
            }
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

    /// Sends what there is, or closes when all is over.
    fn send(&mut self, slot: u32) {
        let peer = &mut self.peers[slot as usize];
        if peer.sending {
            return;
        }
        if peer.ended {
            if !peer.receiving {
                *peer = Peer::default();
                // SAFETY: a close points to no memory.
                unsafe { self.ring.push(opcode::Close::new(types::Fixed(slot)).build().user_data(NOTHING)) };
            }
            return;
        }
        if peer.sent == peer.flying.len() {
            peer.sent = 0;
            peer.flying.clear();
            std::mem::swap(&mut peer.flying, &mut peer.out);
        }
        let rest = &peer.flying[peer.sent..];
        if rest.is_empty() {
            return;
        }
        peer.sending = true;
        let send = opcode::Send::new(types::Fixed(slot), rest.as_ptr(), rest.len() as u32).build();
        // SAFETY: `flying` is not touched while `sending` is set, which only the completion clears; its heap block
        // stays where it is, and the server is leaked.
        unsafe { self.ring.push(send.user_data(SEND | u64::from(slot))) };
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
        time::Duration,
    };

    use super::*;

    /// An upstream on a thread of its own, for as long as the tests run.
    fn upstream() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || serve(&listener, 16, 3));
        address
    }

    fn connect(address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        stream
    }

    fn request(id: u64, padding: usize) -> Vec<u8> {
        let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","x":"{}"}}"#, "y".repeat(padding));
        format!("POST /mcp HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    /// One whole answer.
    fn answer(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).expect("an answer within the time");
            assert!(count > 0, "ended after {:?}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&piece[..count]);
            let text = String::from_utf8(bytes.clone()).expect("text");
            if text.ends_with('}') && text.contains("\r\n\r\n") {
                return text;
            }
        }
    }

    #[test]
    fn requests_of_any_length_and_in_any_pieces_are_answered_under_their_ids() {
        let address = upstream();
        let mut streams: Vec<_> = (0..8).map(|_| connect(address)).collect();
        for (id, stream) in streams.iter_mut().enumerate() {
            // Beyond one provided buffer, and in pieces.
            let bytes = request(id as u64, id * 2000);
            bytes.chunks(700).for_each(|piece| stream.write_all(piece).expect("taken"));
        }
        for (id, stream) in streams.iter_mut().enumerate() {
            assert!(answer(stream).contains(&format!(r#""id":{id},"result""#)));
        }
    }

    #[test]
    fn slots_are_used_again_and_whoever_talks_nonsense_is_cut_off() {
        let address = upstream();
        // Five times as many as there are slots, a third of them cut off.
        for id in 0..80 {
            let mut stream = connect(address);
            if id % 3 == 0 {
                stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n").expect("taken");
                // A reset is as good an end.
                assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
            } else {
                stream.write_all(&request(id, 10)).expect("taken");
                assert!(answer(&mut stream).contains(&format!(r#""id":{id},"#)));
            }
        }
    }
}
