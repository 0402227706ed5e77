//! The network: sockets between clients and cores, with a driver's manners on the cores' side.
//!
//! What `uring` promises is kept here: events come in the order in which they happened, one send is in flight at a time
//! and comes back once, a close ends with `Closed` and nothing after it, bytes that came in before reading was stopped
//! still arrive. Not here: what bytes mean.
//! Invariant: bytes arrive in the order in which they were written, or not at all; a slot has its next tenant only
//! after `Closed` was handed over.

use std::collections::VecDeque;

use corelane::ids::ConnectionId;
use corelane::server::core::End;

use super::chance::Quirk;
use super::ready::Ready;
use super::sim::Sim;

/// Bytes that one direction of a socket holds.
const SOCKET_BYTES: usize = 8 * 1024;
/// Bytes of one receive buffer.
const RECEIVE_BYTES: usize = 4096;
/// Bytes of events of one connection that wait for its core.
const COMPLETED_BYTES: usize = 16 * 1024;

/// Bytes in the order in which they were written.
#[derive(Default)]
pub struct Bytes {
    held: Vec<u8>,
    start: usize,
}

impl Bytes {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.held.len() - self.start
    }

    /// Puts some behind.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 && self.start == self.held.len() {
            self.held.clear();
            self.start = 0;
        }
        self.held.extend_from_slice(bytes);
    }

    /// Takes so many from the front.
    fn take(&mut self, count: usize) -> &[u8] {
        let taken = &self.held[self.start..self.start + count];
        self.start += count;
        taken
    }

    fn clear(&mut self) {
        self.held.clear();
        self.start = 0;
    }
}

/// What the driver of a core has completed.
pub enum Event {
    Accepted { socket: u32, listener: usize },
    Closed { socket: u32 },
    Ended { socket: u32, how: End },
    Received { socket: u32, bytes: Vec<u8> },
    Sent { socket: u32, buffer: Vec<u8>, whole: bool },
    SentSome { socket: u32 },
}

struct Send {
    buffer: Vec<u8>,
    taken: usize,
}

/// One connection, both ends of it.
pub struct Socket {
    /// Where its other end is, and who the core thinks it is.
    pub core: usize,
    pub id: ConnectionId,
    /// Whose it is, and which of that client's.
    pub client: u32,
    pub link: usize,
    up: Bytes,
    up_end: Option<End>,
    down: Bytes,
    /// The core's side sends no more; broken off, if so.
    down_end: Option<End>,
    sending: Option<Send>,
    /// Bytes of events that its core was not handed yet.
    completed: usize,
    is_wanted: bool,
    is_closing: bool,
    is_shutting: bool,
    /// The end of the client's side was told.
    is_told: bool,
    /// `Closed` is on its way, or was handed over.
    is_closed: bool,
    /// The core knows it no more.
    is_forgotten: bool,
    /// Its client reads.
    is_read: bool,
    /// Its client is gone.
    is_left: bool,
}

/// What a client hears of a socket.
pub enum Heard<'a> {
    Bytes(&'a [u8]),
    End(End),
}

/// One core's table of connections, and what its driver has completed.
#[derive(Default)]
pub struct Shore {
    pub events: VecDeque<Event>,
    /// By slot: the socket, and how many tenants there were.
    slots: Vec<(Option<u32>, u32)>,
    vacant: Vec<u32>,
    /// Connections that the core was told of and not told the end of.
    pub known: usize,
    /// Sends that have not come back.
    pub sends: usize,
}

impl Shore {
    fn arrive(&mut self, socket: u32) -> ConnectionId {
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.slots.push((None, 0));
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize].0 = Some(socket);
        ConnectionId { slot, generation: self.slots[slot as usize].1 }
    }

    /// The socket that a core means.
    pub fn find(&self, id: ConnectionId) -> Option<u32> {
        self.slots.get(id.slot as usize).filter(|slot| slot.1 == id.generation)?.0
    }

    fn leave(&mut self, id: ConnectionId) {
        let slot = &mut self.slots[id.slot as usize];
        *slot = (None, slot.1.wrapping_add(1));
        self.vacant.push(id.slot);
    }
}

/// All sockets.
#[derive(Default)]
pub struct Net {
    pub shores: Vec<Shore>,
    sockets: Vec<Option<Socket>>,
    vacant: Vec<u32>,
    /// Sockets on which something can move.
    pub ready: Ready,
    /// Cores whose driver has completed something.
    pub stirred: Vec<usize>,
    /// Buffers for receiving, as many as were used at once.
    spare: Vec<Vec<u8>>,
}

impl Net {
    /// Between so many cores and their clients.
    pub fn of(cores: usize) -> Net {
        Net { shores: (0..cores).map(|_| Shore::default()).collect(), ..Net::default() }
    }

    /// Whether a core's table has a slot left.
    pub fn has_slot(&self, core: usize, slots: usize) -> bool {
        let shore = &self.shores[core];
        shore.slots.len() - shore.vacant.len() < slots
    }

    /// A client connects to a core.
    pub fn connect(&mut self, core: usize, listener: usize, client: u32, link: usize) -> u32 {
        let socket = self.vacant.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() as u32 - 1
        });
        let id = self.shores[core].arrive(socket);
        self.sockets[socket as usize] = Some(Socket {
            core,
            id,
            client,
            link,
            up: Bytes::default(),
            up_end: None,
            down: Bytes::default(),
            down_end: None,
            sending: None,
            completed: 0,
            is_wanted: true,
            is_closing: false,
            is_shutting: false,
            is_told: false,
            is_closed: false,
            is_forgotten: false,
            is_read: true,
            is_left: false,
        });
        self.complete(core, Event::Accepted { socket, listener });
        socket
    }

    /// The socket of this number.
    pub fn socket(&self, socket: u32) -> Option<&Socket> {
        self.sockets.get(socket as usize)?.as_ref()
    }

    fn get(&mut self, socket: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(socket as usize)?.as_mut()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sockets.iter().flatten().count()
    }

    fn complete(&mut self, core: usize, event: Event) {
        self.shores[core].events.push_back(event);
        self.stirred.push(core);
    }

    // The client's side.

    /// A client writes.
    pub fn write(&mut self, socket: u32, bytes: &[u8]) {
        if let Some(one) = self.get(socket).filter(|one| one.up_end.is_none()) {
            one.up.push(bytes);
        }
        self.settle(socket);
    }

    /// Whether a client can write without being held up.
    pub fn has_room(&self, socket: u32) -> bool {
        self.socket(socket).is_some_and(|one| one.up.len() < SOCKET_BYTES && one.up_end.is_none())
    }

    /// A client reads, or does not.
    pub fn reads(&mut self, socket: u32, does: bool) {
        if let Some(one) = self.get(socket) {
            one.is_read = does;
        }
        self.settle(socket);
    }

    /// A client says that it will send no more, or breaks off.
    pub fn end(&mut self, socket: u32, how: End) {
        if let Some(one) = self.get(socket) {
            one.up_end = Some(how);
            if how == End::Reset {
                one.up.clear();
                one.is_left = true;
            }
        }
        self.settle(socket);
    }

    /// A client closes its end altogether.
    pub fn leave(&mut self, socket: u32) {
        if let Some(one) = self.get(socket) {
            let unread = one.down.len() > 0;
            one.up_end = Some(if unread { End::Reset } else { one.up_end.unwrap_or(End::Finished) });
            one.is_left = true;
        }
        self.settle(socket);
    }

    // The core's side.

    /// A core reads a connection, or does not.
    pub fn want(&mut self, core: usize, id: ConnectionId, wanted: bool) {
        let Some(socket) = self.shores[core].find(id) else { return };
        if let Some(one) = self.get(socket).filter(|one| !one.is_closing && !one.is_told) {
            one.is_wanted = wanted;
        }
        self.settle(socket);
    }

    /// A core sends.
    ///
    /// # Errors
    /// The buffer, if the connection is closing or closed.
    pub fn send(&mut self, sim: &mut Sim, core: usize, id: ConnectionId, buffer: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(socket) = self.shores[core].find(id) else { return Err(buffer) };
        let Some(one) = self.get(socket).filter(|one| !one.is_closing) else { return Err(buffer) };
        sim.hold(one.sending.is_none(), || format!("{id}: a second send while one is in flight"));
        sim.hold(!one.is_shutting, || format!("{id}: a send after its side was shut"));
        sim.hold(!buffer.is_empty(), || format!("{id}: a send of nothing"));
        one.sending = Some(Send { buffer, taken: 0 });
        self.shores[core].sends += 1;
        self.settle(socket);
        Ok(())
    }

    /// A core shuts its side of a connection.
    pub fn shut(&mut self, core: usize, id: ConnectionId) {
        let Some(socket) = self.shores[core].find(id) else { return };
        if let Some(one) = self.get(socket).filter(|one| !one.is_closing) {
            one.is_shutting = true;
            if one.sending.is_none() {
                one.down_end = one.down_end.or(Some(End::Finished));
            }
        }
        self.settle(socket);
    }

    /// A core closes a connection.
    pub fn close(&mut self, sim: &mut Sim, core: usize, id: ConnectionId) {
        let Some(socket) = self.shores[core].find(id) else {
            return sim.fail(format!("core {core} closes {id}, which is no connection of its"));
        };
        if let Some(one) = self.get(socket) {
            sim.hold(!one.is_closing, || format!("{id} is closed twice"));
            one.is_closing = true;
            one.is_wanted = false;
        }
        self.settle(socket);
    }

    /// The next event for a core: of a connection that it has closed, only how its sends and itself end.
    pub fn next_event(&mut self, core: usize) -> Option<Event> {
        loop {
            let event = self.shores[core].events.pop_front()?;
            match &event {
                Event::Received { socket, bytes } => {
                    let (socket, length) = (*socket, bytes.len());
                    let one = self.get(socket)?;
                    one.completed -= length;
                    if one.is_closing {
                        continue;
                    }
                    self.settle(socket);
                }
                Event::Ended { socket, .. } | Event::SentSome { socket } => {
                    if self.get(*socket)?.is_closing {
                        continue;
                    }
                }
                Event::Sent { .. } => self.shores[core].sends -= 1,
                Event::Closed { socket } => {
                    let id = self.socket(*socket)?.id;
                    self.shores[core].leave(id);
                    self.shores[core].known -= 1;
                }
                Event::Accepted { .. } => self.shores[core].known += 1,
            }
            return Some(event);
        }
    }

    /// A core was handed the end of a connection.
    pub fn forget(&mut self, socket: u32) {
        if let Some(one) = self.get(socket) {
            one.is_forgotten = true;
        }
        self.settle(socket);
    }

    /// A core is gone, and the kernel closes what it had.
    pub fn lose(&mut self, core: usize) {
        for number in 0..self.sockets.len() as u32 {
            let Some(one) = self.get(number).filter(|one| one.core == core && !one.is_forgotten) else { continue };
            (one.is_forgotten, one.is_closing, one.is_closed, one.completed) = (true, true, true, 0);
            (one.sending, one.is_wanted) = (None, false);
            // What was not read is answered by a reset, which may overtake what was sent.
            if one.up.len() > 0 {
                one.down.clear();
            }
            one.down_end = one.down_end.or(Some(End::Reset));
            self.settle(number);
        }
        self.shores[core] = Shore::default();
    }

    /// A receive buffer comes back.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare.push(buffer);
    }

    // What moves.

    /// Notes whether something can move on a socket, and lets go of it if nobody knows it any more.
    fn settle(&mut self, socket: u32) {
        let Some(one) = self.sockets.get(socket as usize).and_then(|one| one.as_ref()) else { return };
        if one.is_forgotten && one.is_left {
            self.sockets[socket as usize] = None;
            self.vacant.push(socket);
            return self.ready.set(socket, false);
        }
        let moves = one.moves() != 0;
        self.ready.set(socket, moves);
    }

    /// Moves something on a socket: whatever can and chance picks. What its client is to hear is handed to `hear`.
    pub fn pump(&mut self, sim: &mut Sim, number: u32, hear: impl FnOnce(&mut Sim, &Socket, Heard<'_>)) {
        let Some(one) = self.sockets.get_mut(number as usize).and_then(|one| one.as_mut()) else { return };
        let core = one.core;
        let mut moves = one.moves();
        if moves == 0 {
            return self.ready.set(number, false);
        }
        for _ in 0..sim.chance.below(u64::from(moves.count_ones())) {
            moves &= moves - 1;
        }
        match 1 << moves.trailing_zeros() {
            RECEIVE => {
                let most = one.up.len().min(RECEIVE_BYTES);
                let count = if sim.show(Quirk::TornFrames, 2) {
                    sim.chance.between(1, 24).min(most as u64) as usize
                } else {
                    most
                };
                let mut bytes = self.spare.pop().unwrap_or_default();
                bytes.extend_from_slice(one.up.take(count));
                one.completed += count;
                self.complete(core, Event::Received { socket: number, bytes });
            }
            END => {
                one.is_told = true;
                let how = one.up_end.unwrap_or(End::Finished);
                self.complete(core, Event::Ended { socket: number, how });
            }
            SEND => {
                let Some(send) = &mut one.sending else { return };
                let room = if one.is_left { usize::MAX } else { SOCKET_BYTES - one.down.len() };
                let most = (send.buffer.len() - send.taken).min(room);
                let few = sim.show(Quirk::PartialSends, 2);
                let count = if few { sim.chance.between(1, 64).min(most as u64) as usize } else { most };
                if !one.is_left {
                    one.down.push(&send.buffer[send.taken..send.taken + count]);
                }
                send.taken += count;
                let is_broken = one.up_end == Some(End::Reset);
                if send.taken == send.buffer.len() || is_broken {
                    let whole = !is_broken;
                    let buffer = one.sending.take().map(|send| send.buffer).unwrap_or_default();
                    if one.is_shutting {
                        one.down_end = one.down_end.or(Some(End::Finished));
                    }
                    // Whoever is gone says so when it is sent something.
                    if one.is_left {
                        one.up_end = Some(End::Reset);
                    }
                    self.complete(core, Event::Sent { socket: number, buffer, whole });
                } else {
                    self.complete(core, Event::SentSome { socket: number });
                }
            }
            CLOSE => {
                if sim.show(Quirk::LateCloses, 2) {
                    return;
                }
                if let Some(send) = one.sending.take() {
                    self.complete(core, Event::Sent { socket: number, buffer: send.buffer, whole: false });
                } else {
                    one.is_closed = true;
                    let is_broken = one.up.len() > 0 && one.down_end.is_none();
                    one.down_end = one.down_end.or(Some(if is_broken { End::Reset } else { End::Finished }));
                    self.complete(core, Event::Closed { socket: number });
                }
            }
            HEAR => {
                let most = one.down.len();
                let few = sim.show(Quirk::TornFrames, 2);
                let count = if few { sim.chance.between(1, 24).min(most as u64) as usize } else { most };
                let mut bytes = std::mem::take(&mut one.down);
                hear(sim, one, Heard::Bytes(bytes.take(count)));
                one.down = bytes;
            }
            _ => {
                let how = one.down_end.unwrap_or(End::Finished);
                one.is_left = true;
                one.up_end = one.up_end.or(Some(End::Finished));
                hear(sim, one, Heard::End(how));
            }
        }
        self.settle(number);
    }
}

const RECEIVE: u32 = 1;
const END: u32 = 2;
const SEND: u32 = 4;
const CLOSE: u32 = 8;
const HEAR: u32 = 16;
const HEAR_END: u32 = 32;

impl Socket {
    /// What can move on it, one bit each.
    fn moves(&self) -> u32 {
        let is_reset = self.up_end == Some(End::Reset);
        let mut moves = 0;
        if self.is_wanted && !self.is_told {
            if self.up.len() > 0 && self.completed < COMPLETED_BYTES {
                moves |= RECEIVE;
            }
            if (self.up.len() == 0 && self.up_end.is_some()) || is_reset {
                moves |= END;
            }
        }
        if self.sending.is_some() && !self.is_closing && (self.is_left || self.down.len() < SOCKET_BYTES) {
            moves |= SEND;
        }
        if self.is_closing && !self.is_closed {
            moves |= CLOSE;
        }
        if self.is_read && !self.is_left {
            if self.down.len() > 0 {
                moves |= HEAR;
            } else if self.down_end.is_some() {
                moves |= HEAR_END;
            }
        }
        moves
    }

    /// Whether its client may still write.
    pub fn is_open(&self) -> bool {
        !self.is_left && self.up_end.is_none()
    }
}
