//! The servers of one core: those that are configured, by their place, and behind them those of one session each.
//!
//! Not here: when a session needs one (`own`). Invariant: a number is one server's for as long as that is here; numbers
//! of sessions' own servers are never those of configured ones.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};

use super::server::Server;
use crate::limits::SERVER_PLACES_MAX;

/// Numbers from here on are those of sessions' own servers. There are fewer places of
/// configured ones.
const OWN: usize = 0x8000;
const _: () = assert!(SERVER_PLACES_MAX <= OWN);
/// Most servers of sessions' own on one core.
pub(super) const OWN_MAX: usize = 0x4000;

/// All servers of a core.
#[derive(Default)]
pub(super) struct Fleet {
    configured: Vec<Server>,
    /// Those of them that may have something to do: a turn does not look at what came and went before.
    present: Vec<u16>,
    own: Vec<Option<Box<Server>>>,
    vacant: Vec<u16>,
    /// By the session's number: places of configured servers, and the number of what is its own there.
    by_session: HashMap<u64, Vec<(u16, u16)>>,
}

impl Fleet {
    /// How many are configured, those that are gone included.
    pub fn len(&self) -> usize {
        self.configured.len()
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.configured.is_empty()
    }

    /// A server that was configured, at the next place.
    pub fn push(&mut self, server: Server) {
        self.present.push(self.configured.len() as u16);
        self.configured.push(server);
    }

    /// From now on no turn looks at configured servers that are gone and have nothing left to do.
    pub fn leave_those_gone(&mut self) {
        let Fleet { configured, present, .. } = self;
        present.retain(|number| !configured[usize::from(*number)].is_gone());
    }

    /// Something came for a configured server all the same: turns look at it again.
    pub fn look_again(&mut self, number: u16) {
        if usize::from(number) < self.configured.len() && !self.present.contains(&number) {
            self.present.push(number);
        }
    }

    /// Those that are configured.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.configured.iter()
    }

    /// Those that are configured.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.configured.iter_mut()
    }

    /// The server of this number, if there is one.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Server> {
        match number.checked_sub(OWN) {
            None => self.configured.get_mut(number),
            Some(own) => self.own.get_mut(own)?.as_deref_mut(),
        }
    }

    /// Places to look through for all that may have something to do, sessions' own included.
    pub fn places(&self) -> usize {
        self.present.len() + self.own.len()
    }

    /// The number of the server at such a place, if there is one.
    pub fn number_at(&self, place: usize) -> Option<u16> {
        match place.checked_sub(self.present.len()) {
            None => self.present.get(place).copied(),
            Some(own) => self.own.get(own)?.as_ref().map(|_| (OWN + own) as u16),
        }
    }

    /// Numbers of sessions' own servers.
    pub fn own_numbers(&self) -> impl Iterator<Item = u16> {
        let is_there = |(_, own): &(u16, &Option<Box<Server>>)| own.is_some();
        (OWN as u16..).zip(&self.own).filter(is_there).map(|(number, _)| number)
    }

    /// Numbers of sessions' own servers in the place of a configured one.
    pub fn own_at(&self, place: u16) -> Vec<u16> {
        self.own_numbers().filter(|&number| self[usize::from(number)].base == place).collect()
    }

    /// The server that is this session's own in the place of a configured one.
    pub fn own_of(&self, place: u16, session: u64) -> Option<u16> {
        self.by_session.get(&session)?.iter().find(|(at, _)| *at == place).map(|(_, number)| *number)
    }

    /// Whether a session's own server more can be kept.
    pub fn has_room(&self) -> bool {
        !self.vacant.is_empty() || self.own.len() < OWN_MAX
    }

    /// Keeps a session's own server, which is made with its number.
    ///
    /// # Errors
    /// If there are as many as may be: that number.
    pub fn keep(&mut self, place: u16, session: u64, make: impl FnOnce(u16) -> Server) -> Result<u16, usize> {
        let number = match self.vacant.pop() {
            Some(number) => number,
            None if self.own.len() >= OWN_MAX => return Err(OWN_MAX),
            None => {
                self.own.push(None);
                (OWN + self.own.len() - 1) as u16
            }
        };
        self.own[usize::from(number) - OWN] = Some(Box::new(make(number)));
        self.by_session.entry(session).or_default().push((place, number));
        Ok(number)
    }

    /// A session is over: the numbers of what was its own, which is to end.
    pub fn leave(&mut self, session: u64) -> Vec<u16> {
        let left = self.by_session.remove(&session).unwrap_or_default();
        left.into_iter().map(|(_, number)| number).collect()
    }

    /// Lets go of a session's own server that has ended.
    pub fn remove(&mut self, number: u16) {
        if self.own[usize::from(number) - OWN].take().is_some() {
            self.vacant.push(number);
        }
    }
}

impl Index<usize> for Fleet {
    type Output = Server;

    fn index(&self, number: usize) -> &Server {
        match number.checked_sub(OWN) {
            None => &self.configured[number],
            Some(own) => self.own[own].as_deref().unwrap_or_else(|| unreachable!("a number that is kept is there")),
        }
    }
}

impl IndexMut<usize> for Fleet {
    fn index_mut(&mut self, number: usize) -> &mut Server {
        match number.checked_sub(OWN) {
            None => &mut self.configured[number],
            Some(own) => self.own[own].as_deref_mut().unwrap_or_else(|| unreachable!("a number that is kept is there")),
        }
    }
}
