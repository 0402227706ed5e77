//! The ledger: every request that a client has made, whose it is, and how it ended.
//!
//! Not here: which ending is right (`client`).
//! Invariant: a request ends once; its tag is in no other's answer.

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Not yet.
    Open,
    /// With a result or an error that was allowed.
    Answered,
    /// Its client had taken it back, and no answer came.
    TakenBack,
    /// Its connection was lost, and there was a reason for that.
    Lost,
}

struct Entry {
    client: u32,
    fate: Fate,
}

/// See the module.
#[derive(Default)]
pub struct Ledger {
    entries: Vec<Entry>,
    counts: [u64; 4],
}

impl Ledger {
    /// A client makes a request; its tag.
    pub fn open(&mut self, client: u32) -> u64 {
        self.entries.push(Entry { client, fate: Fate::Open });
        self.counts[Fate::Open as usize] += 1;
        (self.entries.len() - 1) as u64
    }

    /// A request ends.
    ///
    /// # Errors
    /// If it is not this client's, or has ended before.
    pub fn end(&mut self, client: u32, tag: u64, fate: Fate) -> Result<(), String> {
        let Some(entry) = self.entries.get_mut(tag as usize) else {
            return Err(format!("request {tag} was never made"));
        };
        if entry.client != client {
            return Err(format!("client {client} was told of request {tag} of client {}", entry.client));
        }
        if entry.fate != Fate::Open {
            return Err(format!("request {tag} ended as {fate:?} after it had ended as {:?}", entry.fate));
        }
        entry.fate = fate;
        self.counts[Fate::Open as usize] -= 1;
        self.counts[fate as usize] += 1;
        Ok(())
    }

    /// Who made the request of a tag.
    pub fn client_of(&self, tag: u64) -> Option<u32> {
        self.entries.get(tag as usize).map(|entry| entry.client)
    }

    /// How many ended so.
    pub fn count(&self, fate: Fate) -> u64 {
        self.counts[fate as usize]
    }
}
