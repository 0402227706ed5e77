//! Admission: whether a connection that came in is served.
//!
//! Not here: accepting (`uring`). The driver keeps a reserve of slots, because a kernel whose table is full accepts and
//! closes by itself, without a word.
//! Invariant: refusing is a decision: it is taken here, counted by cause, and told to the peer.

use crate::metrics::Refusal;

/// A core's rule for connections.
#[derive(Clone, Copy, Debug)]
pub struct Admission {
    max: usize,
    reserve: usize,
}

impl Admission {
    /// At most `max` connections are served; up to `reserve` more are told that there is no room.
    pub fn new(max: usize, reserve: usize) -> Admission {
        Admission { max, reserve }
    }

    /// Whether the connection that makes it `open` in all is served.
    ///
    /// # Errors
    /// Why it is not.
    pub fn admit(&self, open: usize, draining: bool) -> Result<(), Refusal> {
        debug_assert!(open <= self.max + self.reserve, "the table has no more slots than that");
        if draining {
            Err(Refusal::Draining)
        } else if open > self.max {
            Err(Refusal::TableFull)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_for_refusing() {
        let admission = Admission::new(2, 1);
        assert_eq!(admission.admit(2, false), Ok(()));
        assert_eq!(admission.admit(3, false), Err(Refusal::TableFull));
        assert_eq!(admission.admit(1, true), Err(Refusal::Draining));
    }
}
