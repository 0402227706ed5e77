//! The table of streams: one entry for each direct descriptor, and a few more for pipes of the process itself.
//!
//! Not here: submissions and completions (`driver`, `receive`).
//! Invariant: an entry's generation grows when its last operation has ended and its descriptor is closed, never before,
//! so a completion that carries an older generation belongs to nobody.

use crate::ids::ConnectionId;

/// What is true of a stream, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State(u16);

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

    pub(super) const fn and(self, other: State) -> State {
        State(self.0 | other.0)
    }
}

/// Where a stream's bytes come from and go to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Medium {
    /// The direct descriptor with the entry's own index.
    Socket,
    /// Two descriptors of the process: one to read, one to write. They are not closed with the stream.
    Pipes { read: i32, write: i32 },
}

/// One entry of the table.
#[derive(Clone, Copy)]
pub(super) struct Stream {
    pub(super) generation: u32,
    state: State,
    /// Bytes that came since the receive was armed.
    pub(super) received: u32,
    /// Place of the buffer being sent, while `SENDING`.
    pub(super) send: u32,
    pub(super) medium: Medium,
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
}

/// All streams of a core.
pub(super) struct Streams {
    entries: Vec<Stream>,
    open: usize,
}

impl Streams {
    pub(super) fn new() -> Streams {
        Streams { entries: Vec::new(), open: 0 }
    }

    /// How many are open or still closing.
    pub(super) fn open(&self) -> usize {
        self.open
    }

    /// Gives the slot a new tenant.
    pub(super) fn enter(&mut self, slot: u32, medium: Medium) -> ConnectionId {
        let index = slot as usize;
        if index >= self.entries.len() {
            let vacant =
                Stream { generation: 0, state: State::default(), received: 0, send: 0, medium: Medium::Socket };
            self.entries.resize(index + 1, vacant);
        }
        let stream = &mut self.entries[index];
        assert!(!stream.any(State::OPEN), "slot {slot} was handed out while its last stream was still there");
        stream.state = State::OPEN.and(State::WANTED);
        stream.received = 0;
        stream.medium = medium;
        self.open += 1;
        ConnectionId { slot, generation: stream.generation }
    }

    /// The stream, if it is this tenant's.
    pub(super) fn find(&mut self, id: ConnectionId) -> Option<&mut Stream> {
        self.entries
            .get_mut(id.slot as usize)
            .filter(|stream| stream.generation == id.generation && stream.is(State::OPEN))
    }

    /// Ends the tenancy.
    pub(super) fn leave(&mut self, id: ConnectionId) {
        let stream = self.find(id).expect("only an open stream is left");
        stream.generation = stream.generation.wrapping_add(1);
        stream.state = State::default();
        self.open -= 1;
    }
}
