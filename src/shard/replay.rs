//! What a legacy session's streams sent, kept for clients that lost a connection (2025-03-26 and later,
//! "Resumability").
//!
//! Not here: connections. Invariant: at most `events` events and `bytes` bytes are kept, oldest forgotten first; an
//! event is replayed only to the stream it was sent on.

use std::collections::VecDeque;

/// An event's id: which stream of the session, and its number on it, from 1. Number 0 is the priming event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct EventId {
    /// The stream, from 1.
    pub stream: u32,
    /// The event on the stream.
    pub number: u32,
}

impl EventId {
    /// As it stands in an `id:` field.
    pub fn write(self, out: &mut Vec<u8>) {
        let mut digits = itoa::Buffer::new();
        out.extend_from_slice(digits.format(self.stream).as_bytes());
        out.push(b'-');
        out.extend_from_slice(digits.format(self.number).as_bytes());
    }

    /// From a `Last-Event-ID` header: exactly what `write` writes, since numbers can be written in many ways.
    pub fn parse(text: &[u8]) -> Option<EventId> {
        let (stream, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        let id = EventId { stream: stream.parse().ok()?, number: number.parse().ok()? };
        let mut written = Vec::with_capacity(text.len());
        id.write(&mut written);
        (written == text).then_some(id)
    }
}

/// The bounds of one session's replay buffer.
#[derive(Clone, Copy, Debug)]
pub struct ReplayLimits {
    /// Most events.
    pub events: usize,
    /// Most bytes, summed over the messages.
    pub bytes: usize,
}

/// What an event costs beside its bytes: its own place here, and one in the order in which all were kept.
pub const EVENT_BYTES: usize = 96;

/// That an event was kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Keeping {
    /// How many the session had kept before, those forgotten included.
    pub ordinal: u64,
    /// What it costs.
    pub cost: usize,
    /// What was forgotten for it, by its number and by what it had cost.
    pub forgotten: Forgotten,
}

/// Events that are kept no longer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Forgotten {
    /// How many.
    pub events: usize,
    /// What they had cost.
    pub cost: usize,
}

#[derive(Debug)]
struct Kept {
    id: EventId,
    message: Box<[u8]>,
    last: bool,
}

/// One session's kept events.
#[derive(Default, Debug)]
pub struct Replay {
    kept: VecDeque<Kept>,
    bytes: usize,
    /// How many were forgotten before the first that is kept.
    forgotten: u64,
}

impl Replay {
    /// Keeps an event; `last` if its stream ends with it. None if there is no room for such a one.
    pub fn keep(&mut self, id: EventId, message: &[u8], last: bool, limits: ReplayLimits) -> Option<Keeping> {
        if message.len() > limits.bytes || limits.events == 0 {
            return None;
        }
        let mut forgotten = Forgotten::default();
        while self.kept.len() >= limits.events || self.bytes + message.len() > limits.bytes {
            let Some(cost) = self.forget_first() else { break };
            forgotten = Forgotten { events: forgotten.events + 1, cost: forgotten.cost + cost };
        }
        let ordinal = self.forgotten + self.kept.len() as u64;
        self.bytes += message.len();
        self.kept.push_back(Kept { id, message: message.into(), last });
        Some(Keeping { ordinal, cost: message.len() + EVENT_BYTES, forgotten })
    }

    /// Forgets the event of this number, if it is the oldest that is kept; what it had cost.
    pub fn forget(&mut self, ordinal: u64) -> Option<usize> {
        if ordinal == self.forgotten { self.forget_first() } else { None }
    }

    fn forget_first(&mut self) -> Option<usize> {
        let first = self.kept.pop_front()?;
        self.forgotten += 1;
        self.bytes -= first.message.len();
        Some(first.message.len() + EVENT_BYTES)
    }

    /// Whether the event of this number is kept.
    pub fn holds(&self, ordinal: u64) -> bool {
        ordinal >= self.forgotten && ordinal - self.forgotten < self.kept.len() as u64
    }

    /// All that is kept.
    pub fn all(&self) -> Forgotten {
        Forgotten { events: self.kept.len(), cost: self.bytes + self.kept.len() * EVENT_BYTES }
    }

    /// The stream's events after `seen`, in order, each with whether it is the stream's last.
    pub fn after(&self, seen: EventId) -> impl Iterator<Item = (EventId, &[u8], bool)> {
        self.kept
            .iter()
            .filter(move |kept| kept.id.stream == seen.stream && kept.id.number > seen.number)
            .map(|kept| (kept.id, &*kept.message, kept.last))
    }

    /// Whether an event is kept, and its stream ended with it.
    pub fn was_last(&self, event: EventId) -> bool {
        self.kept.iter().any(|kept| kept.id == event && kept.last)
    }

    /// Bytes kept.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: ReplayLimits = ReplayLimits { events: 3, bytes: 10 };

    fn id(stream: u32, number: u32) -> EventId {
        EventId { stream, number }
    }

    #[test]
    fn ids_round_trip_and_strange_ones_are_refused() {
        let mut text = Vec::new();
        id(7, 12).write(&mut text);
        assert_eq!(text, b"7-12");
        assert_eq!(EventId::parse(&text), Some(id(7, 12)));
        for strange in ["", "7", "-1", "7-", "+7-1", "7-1-2", "7-99999999999", "a-b", "7 -1", "07-1", "7-01", "7-+1"] {
            assert_eq!(EventId::parse(strange.as_bytes()), None, "{strange}");
        }
    }

    #[test]
    fn a_stream_gets_only_its_own_events_and_only_newer_ones() {
        let mut replay = Replay::default();
        replay.keep(id(1, 1), b"a", false, LIMITS);
        replay.keep(id(2, 1), b"b", false, LIMITS);
        replay.keep(id(1, 2), b"c", true, LIMITS);
        let seen: Vec<_> = replay.after(id(1, 1)).collect();
        assert_eq!(seen, [(id(1, 2), &b"c"[..], true)]);
        assert_eq!(replay.after(id(3, 0)).count(), 0);
    }

    #[test]
    fn count_and_bytes_are_bounded() {
        let mut replay = Replay::default();
        for number in 1..=9 {
            replay.keep(id(1, number), b"xxxx", false, LIMITS);
            assert!(replay.bytes() <= LIMITS.bytes);
        }
        assert_eq!(replay.after(id(1, 0)).map(|(id, ..)| id.number).collect::<Vec<_>>(), [8, 9]);
        replay.keep(id(1, 10), b"longer than all", false, LIMITS);
        assert_eq!(replay.after(id(1, 9)).count(), 0, "what cannot fit is not kept");
    }

    #[test]
    fn what_is_kept_and_forgotten_adds_up() {
        let mut replay = Replay::default();
        let mut cost = 0;
        for number in 1..=50 {
            let kept = replay.keep(id(1, number), &vec![b'x'; number as usize % 5], false, LIMITS).expect("room");
            assert_eq!(kept.ordinal, u64::from(number) - 1);
            assert!(replay.holds(kept.ordinal) && !replay.holds(kept.ordinal + 1));
            cost = cost + kept.cost - kept.forgotten.cost;
            assert_eq!(replay.all().cost, cost);
        }
        let first = 50 - replay.all().events as u64;
        assert!(!replay.holds(first - 1) && replay.forget(first - 1).is_none() && replay.forget(first + 1).is_none());
        cost -= replay.forget(first).expect("the oldest");
        assert_eq!(replay.all().cost, cost);
        assert!(replay.keep(id(1, 51), b"longer than all", false, LIMITS).is_none());
    }
}
