//! A way to a server on which both sides talk as they like, so that only ids tell which answer is to which request: the
//! lines of a child process, the event stream of 2024-11-05.
//!
//! Not here: what is said. Invariant: a request that was taken is answered or failed once, unless it is dropped.

use std::collections::{HashMap, VecDeque};

use crate::ids::ConnectionId;
use crate::server::service::{End, Nanos, Wish};

/// What came of it.
#[derive(Debug)]
pub enum Heard {
    /// The server said something.
    Message(Vec<u8>),
    /// A request brings no answer any more, or could not be sent.
    Failed {
        /// Which one.
        errand: u32,
        /// Why, as the end of a sentence that begins with the server's name.
        why: String,
        /// It was not sent, because too much waits.
        is_overload: bool,
    },
    /// The way has ended, or was not opened.
    Ended {
        /// Why, as above.
        why: String,
        /// It is opened again no sooner than this.
        retry_at: Nanos,
    },
}

/// Requests that wait for their answers: the errand by the id on the wire.
#[derive(Default)]
pub struct Outstanding(HashMap<u64, u32>);

impl Outstanding {
    /// A request was sent.
    pub fn insert(&mut self, id: u64, errand: u32) {
        self.0.insert(id, errand);
    }

    /// The errand of this id, which is answered now.
    pub fn answered(&mut self, id: u64) -> Option<u32> {
        self.0.remove(&id)
    }

    /// The errand of this id, which goes on.
    pub fn errand_of(&self, id: u64) -> Option<u32> {
        self.0.get(&id).copied()
    }

    /// Nobody waits for an errand's answer any more.
    pub fn drop_errand(&mut self, errand: u32) {
        self.0.retain(|_, other| *other != errand);
    }

    /// None of them is answered any more.
    pub fn fail(&mut self, why: &str, heard: &mut VecDeque<Heard>) {
        for (_, errand) in self.0.drain() {
            heard.push_back(Heard::Failed { errand, why: why.to_owned(), is_overload: false });
        }
    }
}

/// The way.
pub trait Talk {
    /// Opens it, unless it is open or on its way.
    fn start(&mut self, now: Nanos);

    /// Ends it for good.
    fn shut(&mut self, now: Nanos);

    /// Sends a message, which waits until the way is open. One with an id is answered under that.
    fn submit(&mut self, now: Nanos, errand: u32, id: Option<u64>, text: &[u8]);

    /// The requests that wait for their answers.
    fn outstanding(&mut self) -> &mut Outstanding;

    /// What was heard, the oldest first.
    fn heard(&mut self, now: Nanos) -> Option<Heard>;

    /// Whether something was heard outside any link.
    fn has_news(&self) -> bool {
        false
    }

    /// A link was opened, or not; its place if it is one of this way's.
    fn connected(&mut self, now: Nanos, token: u64, outcome: Result<ConnectionId, i32>) -> Option<u16>;

    /// Bytes came in on the link at a place.
    fn received(&mut self, now: Nanos, place: u16, id: ConnectionId, bytes: &[u8]);

    /// The link at a place brings nothing more.
    fn ended(&mut self, now: Nanos, place: u16, id: ConnectionId, how: End);

    /// A send on the link at a place ended.
    fn sent(&mut self, place: u16, id: ConnectionId, buffer: Vec<u8>, whole: bool);

    /// Hands out what is to be done with links.
    fn wishes(&mut self, wish: &mut dyn FnMut(Wish));

    /// Whether it was shut and nothing is left of it.
    fn is_over(&self) -> bool {
        false
    }

    /// Time passed.
    fn tick(&mut self, now: Nanos) {
        let _ = now;
    }

    /// When `tick` is due.
    fn deadline(&self) -> Option<Nanos> {
        None
    }
}
