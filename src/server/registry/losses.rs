//! Deaths of other cores, for owners whose entries lay in the shards of a core that died.
//!
//! Not here: what a death does to the registry (`member`). Invariant: whoever waits is woken by the next death, once.

use std::task::Waker;

/// What this core heard.
#[derive(Default)]
pub(super) struct Losses {
    count: u64,
    waiting: Vec<Waker>,
}

impl Losses {
    /// A core died.
    pub fn heard(&mut self) {
        self.count += 1;
        self.waiting.drain(..).for_each(Waker::wake);
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Has somebody woken by the next.
    pub fn wait(&mut self, waker: &Waker) {
        if !self.waiting.iter().any(|waiting| waiting.will_wake(waker)) {
            self.waiting.push(waker.clone());
        }
    }
}
