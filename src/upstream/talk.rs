//! A way to a server on which both sides talk as they like, so that only ids tell which answer is to which request: the
//! lines of a child process, the event stream of 2024-11-05, the connections of servers that dial in.
//!
//! Not here: what is said. Invariant: a request that was taken is answered or failed once, unless it is dropped; what
//! is said on one line answers nothing that was asked on another.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use crate::ids::ConnectionId;
use crate::server::service::{End, Nanos, Wish};
use crate::upstream::dial_in::Dialled;

/// One of the lines of a way that has several. A number is never given twice.
pub type Line = u32;
/// The line of a way that has but one.
pub const ONLY: Line = 0;

/// Where those that hear something outside any link leave their tags, so that only they are looked at.
pub type Bell = Rc<RefCell<Vec<u32>>>;

/// How a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passage {
    /// As a request of this id, on whichever line suits.
    Request(u64),
    /// As a request of this id, on one line and no other.
    RequestOn(u64, Line),
    /// As something that is not answered, on the line that it belongs to.
    Notice(Line),
}

impl Passage {
    /// The id of a request.
    pub fn id(self) -> Option<u64> {
        match self {
            Passage::Request(id) | Passage::RequestOn(id, _) => Some(id),
            Passage::Notice(_) => None,
        }
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Heard {
    /// A further line is there, on which nothing was said yet.
    Arrived(Line),
    /// The server said something.
    Message {
        /// On which line.
        line: Line,
        /// What it said.
        text: Vec<u8>,
    },
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

/// Requests that wait for their answers: the errand, and the line it went by, by the id on the wire.
#[derive(Default)]
pub struct Outstanding {
    by_id: HashMap<u64, (u32, Line)>,
    /// How many there are on each line that has some.
    on: HashMap<Line, usize>,
}

impl Outstanding {
    /// A request was sent.
    pub fn insert(&mut self, id: u64, errand: u32, line: Line) {
        self.by_id.insert(id, (errand, line));
        *self.on.entry(line).or_default() += 1;
    }

    /// The errand of this id, which is answered now on this line.
    pub fn answered(&mut self, id: u64, line: Line) -> Option<u32> {
        let errand = self.errand_of(id, line)?;
        self.by_id.remove(&id);
        self.one_less(line);
        Some(errand)
    }

    /// The errand of this id, which goes on, if it went by this line.
    pub fn errand_of(&self, id: u64, line: Line) -> Option<u32> {
        self.by_id.get(&id).filter(|(_, other)| *other == line).map(|(errand, _)| *errand)
    }

    /// The line by which a request went that waits for its answer.
    pub fn line_of(&self, id: u64) -> Option<Line> {
        self.by_id.get(&id).map(|(_, line)| *line)
    }

    /// How many wait for an answer on a line.
    pub fn count_on(&self, line: Line) -> usize {
        self.on.get(&line).copied().unwrap_or_default()
    }

    /// The errands that wait for an answer on a line.
    pub fn errands_on(&self, line: Line) -> impl Iterator<Item = u32> {
        self.by_id.values().filter(move |(_, other)| *other == line).map(|(errand, _)| *errand)
    }

    /// Nobody waits for an errand's answer any more.
    pub fn drop_errand(&mut self, errand: u32) {
        let Outstanding { by_id, on } = self;
        by_id.retain(|_, (other, line)| {
            let stays = *other != errand;
            if !stays && let Some(count) = on.get_mut(line) {
                *count -= 1;
            }
            stays
        });
        on.retain(|_, count| *count > 0);
    }

    /// None of those on a line is answered any more.
    pub fn fail(&mut self, line: Line, why: &str, heard: &mut VecDeque<Heard>) {
        let lost: Vec<u64> = self.by_id.iter().filter(|(_, (_, on))| *on == line).map(|(id, _)| *id).collect();
        for id in lost {
            if let Some(errand) = self.answered(id, line) {
                heard.push_back(Heard::Failed { errand, why: why.to_owned(), is_overload: false });
            }
        }
    }

    fn one_less(&mut self, line: Line) {
        if let Some(count) = self.on.get_mut(&line) {
            *count -= 1;
            if *count == 0 {
                self.on.remove(&line);
            }
        }
    }
}

/// The way.
pub trait Talk {
    /// Opens it, unless it is open or on its way.
    fn start(&mut self, now: Nanos);

    /// Ends it for good.
    fn shut(&mut self, now: Nanos);

    /// Sends a message, which waits until the way is open.
    fn submit(&mut self, now: Nanos, errand: u32, passage: Passage, text: &[u8]);

    /// The requests that wait for their answers.
    fn outstanding(&mut self) -> &mut Outstanding;

    /// Nobody waits for an errand's answer any more.
    fn drop_errand(&mut self, _now: Nanos, errand: u32) {
        self.outstanding().drop_errand(errand);
    }

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

    /// Whether nothing can come any more that is addressed by its server's number; children and servers that dial in
    /// are told apart by other marks.
    fn has_let_go(&self) -> bool {
        true
    }

    /// Lines that come and go, if that is what this way is made of.
    fn dialled(&mut self) -> Option<&mut Dialled> {
        None
    }

    /// Whether nothing is left that should leave before this way is cut off.
    fn is_gone(&self) -> bool {
        true
    }

    /// How many lines there are, where they come and go.
    fn connections(&self) -> Option<usize> {
        None
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_on_one_line_is_not_answered_on_another() {
        let mut outstanding = Outstanding::default();
        outstanding.insert(1, 10, 4);
        outstanding.insert(2, 20, 4);
        outstanding.insert(3, 30, 5);
        assert_eq!((outstanding.count_on(4), outstanding.count_on(5), outstanding.line_of(3)), (2, 1, Some(5)));
        assert_eq!((outstanding.answered(1, 5), outstanding.errand_of(1, 5)), (None, None), "it was asked elsewhere");
        assert_eq!((outstanding.answered(1, 4), outstanding.answered(1, 4)), (Some(10), None));
        outstanding.drop_errand(30);
        assert_eq!((outstanding.count_on(4), outstanding.count_on(5), outstanding.line_of(3)), (1, 0, None));
        let mut heard = VecDeque::new();
        outstanding.fail(5, "has gone", &mut heard);
        assert!(heard.is_empty() && outstanding.errands_on(4).eq([20]));
        outstanding.fail(4, "has gone", &mut heard);
        assert!(matches!(heard.pop_front(), Some(Heard::Failed { errand: 20, .. })) && outstanding.count_on(4) == 0);
    }
}
