//! The tables of streams: one entry for each direct descriptor in use, and one for each pair of pipes.
//!
//! Not here: submissions and completions (`driver`, `receive`).
//! Invariant: an entry's generation grows when its last operation has ended and its descriptor is closed, never before,
//! so a completion that carries an older generation belongs to nobody. A descriptor that a stream owns is closed only
//! when no operation names it, so its number means nothing else while one does.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::ids::ConnectionId;

/// What is true of a stream, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State(u32);

impl State {
    pub(super) const OPEN: State = State(1);
    pub(super) const CLOSING: State = State(1 << 1);
    /// Its owner wants to hear more.
    pub(super) const WANTED: State = State(1 << 2);
    pub(super) const RECEIVING: State = State(1 << 3);
    /// The receive in flight has been told to stop.
    pub(super) const STOPPING: State = State(1 << 4);
    pub(super) const SENDING: State = State(1 << 5);
    pub(super) const SHUTTING: State = State(1 << 6);
    /// The peer will send no more.
    pub(super) const ENDED: State = State(1 << 7);
    /// Waits in the queue for receive buffers, or in the list of those to be armed.
    pub(super) const QUEUED: State = State(1 << 8);
    pub(super) const DESCRIPTOR_CLOSING: State = State(1 << 9);
    /// Used up its credit where the kernel keeps no limit: received singly until it has nothing more waiting.
    pub(super) const FLOODING: State = State(1 << 10);
    /// What is in flight as its receive is a wait until there is something to read.
    pub(super) const READ_POLLED: State = State(1 << 11);
    /// What is in flight as its send is a wait until there is room to write.
    pub(super) const WRITE_POLLED: State = State(1 << 12);
    /// To be shut down when the send in flight has ended.
    pub(super) const SHUT_AFTER_SEND: State = State(1 << 13);
    /// On its way to another core.
    pub(super) const HANDING: State = State(1 << 14);
    /// A send heard that the peer broke it off. The kernel says so once: a receive would see an end like any other.
    pub(super) const RESET: State = State(1 << 15);
    /// Its connect is in flight.
    pub(super) const CONNECTING: State = State(1 << 16);
    /// Its owner has not heard of it: it ends as the outcome of an attempt to connect.
    pub(super) const UNTOLD: State = State(1 << 17);
    /// Opened from here.
    pub(super) const OUTBOUND: State = State(1 << 18);
    /// What is in flight as its receive is a wait for the peer to shut its side.
    pub(super) const HANG_UP_POLLED: State = State(1 << 19);
    /// The peer has shut its side while nothing was read, and its owner was told.
    pub(super) const HUNG_UP: State = State(1 << 20);

    /// Bytes came, and since then nothing was sent and the receive not armed: its end may have been missed.
    pub(super) const UNCONFIRMED: State = State(1 << 21);
    /// In the list of those whose receive is looked after (`confirm`).
    pub(super) const DOUBTED: State = State(1 << 22);

    pub(super) const fn and(self, other: State) -> State {
        State(self.0 | other.0)
    }
}

/// Where a stream's bytes come from and go to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// The direct descriptor with the entry's own index.
    Socket,
    /// Two descriptors of the process: one to read, one to write until it is shut down.
    Pipes { read: RawFd, write: Option<RawFd> },
}

/// A stream of two descriptors.
struct Pipes {
    stream: Stream,
    medium: Medium,
    /// What is closed with the stream: the end that is read, and the one that is written, unless that went before.
    owned: Option<(OwnedFd, Option<OwnedFd>)>,
}

/// One entry of a table. 16 bytes: 1.6 MB for 100,000 connections.
#[derive(Clone, Copy, Default)]
pub(super) struct Stream {
    pub(super) generation: u32,
    /// Bytes that came since the receive was armed.
    pub(super) received: u32,
    /// Place of the buffer being sent, while `SENDING`; number of the attempt to connect, while `UNTOLD`.
    pub(super) send: u32,
    state: State,
}

impl Stream {
    pub(super) fn is(&self, state: State) -> bool {
        self.state.0 & state.0 == state.0
    }

    pub(super) fn any(&self, state: State) -> bool {
        self.state.0 & state.0 != 0
    }

    pub(super) fn set(&mut self, state: State) {
        self.state.0 |= state.0;
    }

    pub(super) fn clear(&mut self, state: State) {
        self.state.0 &= !state.0;
    }

    /// Clears the state; whether it was set.
    pub(super) fn take(&mut self, state: State) -> bool {
        let was = self.is(state);
        self.clear(state);
        was
    }

    /// A new tenancy.
    fn open(&mut self) {
        self.state = State::OPEN.and(State::WANTED);
        self.received = 0;
    }
}

/// All streams of a core.
pub(super) struct Streams {
    sockets: Vec<Stream>,
    sockets_open: usize,
    /// How many of those were opened from here.
    outbound_open: usize,
    /// Slot of the first pipe: the number of direct descriptors.
    first_pipe: u32,
    pipes: Vec<Pipes>,
    /// Indices of entries that are free; the last one left is the next one taken.
    pipes_free: Vec<u32>,
}

impl Streams {
    /// Tables for so many direct descriptors; they take memory only for slots that were used.
    pub(super) fn new(descriptors: u32) -> Streams {
        Streams {
            sockets: Vec::new(),
            sockets_open: 0,
            outbound_open: 0,
            first_pipe: descriptors,
            pipes: Vec::new(),
            pipes_free: Vec::new(),
        }
    }

    /// How many are open or still closing.
    pub(super) fn open(&self) -> usize {
        self.sockets_open + self.pipes.len() - self.pipes_free.len()
    }

    /// How many direct descriptors are taken.
    pub(super) fn sockets(&self) -> usize {
        self.sockets_open
    }

    /// How many of those were opened from here.
    pub(super) fn outbound(&self) -> usize {
        self.outbound_open
    }

    /// Gives the direct descriptor a new tenant.
    pub(super) fn enter(&mut self, slot: u32) -> ConnectionId {
        let index = slot as usize;
        if index >= self.sockets.len() {
            self.sockets.resize(index + 1, Stream::default());
        }
        let stream = &mut self.sockets[index];
        assert!(!stream.is(State::OPEN), "slot {slot} was handed out while its last stream was still there");
        stream.open();
        self.sockets_open += 1;
        ConnectionId { slot, generation: stream.generation }
    }

    /// Gives the direct descriptor to attempt number `attempt` to connect.
    pub(super) fn enter_outbound(&mut self, slot: u32, attempt: u32) -> ConnectionId {
        let id = self.enter(slot);
        let stream = &mut self.sockets[slot as usize];
        stream.clear(State::WANTED);
        stream.set(State::OUTBOUND.and(State::UNTOLD));
        stream.send = attempt;
        self.outbound_open += 1;
        id
    }

    /// Makes a stream of two descriptors of the process, which somebody else closes when it is gone.
    pub(super) fn adopt(&mut self, read: RawFd, write: RawFd) -> ConnectionId {
        self.enter_pipes(Medium::Pipes { read, write: Some(write) }, None)
    }

    /// Makes a stream of two descriptors that are closed with it.
    pub(super) fn adopt_owned(&mut self, read: OwnedFd, write: Option<OwnedFd>) -> ConnectionId {
        let medium = Medium::Pipes { read: read.as_raw_fd(), write: write.as_ref().map(AsRawFd::as_raw_fd) };
        self.enter_pipes(medium, Some((read, write)))
    }

    fn enter_pipes(&mut self, medium: Medium, owned: Option<(OwnedFd, Option<OwnedFd>)>) -> ConnectionId {
        let index = self.pipes_free.pop().unwrap_or(self.pipes.len() as u32);
        match self.pipes.get_mut(index as usize) {
            Some(entry) => *entry = Pipes { stream: entry.stream, medium, owned },
            None => self.pipes.push(Pipes { stream: Stream::default(), medium, owned }),
        }
        let stream = &mut self.pipes[index as usize].stream;
        stream.open();
        ConnectionId { slot: self.first_pipe + index, generation: stream.generation }
    }

    /// Closes the end of a pair of pipes that is written, if the stream owns it. Nothing may be in flight on it.
    pub(super) fn close_write_end(&mut self, id: ConnectionId) {
        let Some(stream) = self.find(id) else { return };
        assert!(!stream.is(State::SENDING), "{id}: a descriptor is closed when nothing is in flight on it");
        let Some(index) = id.slot.checked_sub(self.first_pipe) else { return };
        let entry = &mut self.pipes[index as usize];
        if let (Some((_, owned)), Medium::Pipes { write, .. }) = (&mut entry.owned, &mut entry.medium) {
            *write = None;
            *owned = None;
        }
    }

    /// Where the stream's bytes come from and go to.
    pub(super) fn medium(&self, id: ConnectionId) -> Medium {
        id.slot
            .checked_sub(self.first_pipe)
            .and_then(|index| self.pipes.get(index as usize))
            .map_or(Medium::Socket, |entry| entry.medium)
    }

    /// The stream, if it is this tenant's.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Stream> {
        let stream = match id.slot.checked_sub(self.first_pipe) {
            None => self.sockets.get_mut(id.slot as usize)?,
            Some(index) => &mut self.pipes.get_mut(index as usize)?.stream,
        };
        Some(stream).filter(|stream| stream.generation == id.generation && stream.is(State::OPEN))
    }

    /// All that are open or closing.
    pub(super) fn all(&self) -> Vec<ConnectionId> {
        let sockets = (0..).zip(&self.sockets);
        let pipes = (self.first_pipe..).zip(self.pipes.iter().map(|entry| &entry.stream));
        let open = sockets.chain(pipes).filter(|(_, stream)| stream.is(State::OPEN));
        open.map(|(slot, stream)| ConnectionId { slot, generation: stream.generation }).collect()
    }

    /// Ends the tenancy, and closes the descriptors that are the stream's own.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        let stream = self.find(id).expect("only an open stream is left");
        let outbound = stream.is(State::OUTBOUND);
        stream.generation = stream.generation.wrapping_add(1);
        stream.state = State::default();
        match id.slot.checked_sub(self.first_pipe) {
            None => {
                self.sockets_open -= 1;
                self.outbound_open -= usize::from(outbound);
            }
            Some(index) => {
                self.pipes[index as usize].owned = None;
                self.pipes_free.push(index);
            }
        }
    }
}
