//! The servers of one core: those that are configured, by their place, and behind them those of one session each.
//!
//! Not here: when a session needs one (`own`). Invariant: a number is one server's for as long as that is here; numbers
//! of sessions' own servers are never those of configured ones; a turn looks at those servers only that were lent to be
//! changed since the last one, or have heard something meanwhile, or are due, however many there are.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::rc::Rc;

use super::deadlines::Deadlines;
use super::server::Server;
use crate::limits::SERVER_PLACES_MAX;
use crate::server::service::Nanos;
use crate::upstream::talk::Bell;

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
    own: Vec<Option<Box<Server>>>,
    /// Those that the next turn looks at, each once.
    touched: Vec<u16>,
    /// Rings for servers by their numbers.
    bell: Bell,
    /// When each wants to be told that time has passed, by `due_place`.
    dues: Deadlines,
    #[cfg(test)]
    visits: usize,
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
        self.configured.push(server);
        self.touch(self.configured.len() - 1);
    }

    /// Those that are configured.
    pub fn iter(&self) -> impl Iterator<Item = &Server> {
        self.configured.iter()
    }

    /// All of them, sessions' own included.
    pub fn all(&self) -> impl Iterator<Item = &Server> {
        self.configured.iter().chain(self.own.iter().flatten().map(|own| &**own))
    }

    /// The server of this number, if there is one; the next turn looks at it.
    pub fn get_mut(&mut self, number: usize) -> Option<&mut Server> {
        self.touch(number);
        self.find_mut(number)
    }

    /// The same to look at it.
    fn find_mut(&mut self, number: usize) -> Option<&mut Server> {
        match number.checked_sub(OWN) {
            None => self.configured.get_mut(number),
            Some(own) => self.own.get_mut(own)?.as_deref_mut(),
        }
    }

    fn touch(&mut self, number: usize) {
        if let Some(server) = self.find_mut(number)
            && !std::mem::replace(&mut server.is_touched, true)
        {
            self.touched.push(number as u16);
        }
    }

    /// The next turn looks at all of them.
    pub fn touch_all(&mut self) {
        (0..self.configured.len()).chain(OWN..OWN + self.own.len()).for_each(|number| self.touch(number));
    }

    /// What rings for those that heard something outside any link.
    pub fn bell(&self) -> Bell {
        Rc::clone(&self.bell)
    }

    /// A server that this turn has to look at and has not; `looked_at` follows.
    pub fn next_touched(&mut self) -> Option<u16> {
        let rung = std::mem::take(&mut *self.bell.borrow_mut());
        for number in rung {
            self.touch(number as usize);
        }
        while let Some(number) = self.touched.pop() {
            // It may have gone since.
            if self.find_mut(usize::from(number)).is_some() {
                #[cfg(test)]
                {
                    self.visits += 1;
                }
                return Some(number);
            }
        }
        None
    }

    /// This turn has looked at a server, which is due then; from now on changes are for another look.
    pub fn looked_at(&mut self, number: u16, due: Option<Nanos>) {
        if let Some(server) = self.find_mut(usize::from(number)) {
            server.is_touched = false;
            self.set_due(number, due);
        }
    }

    fn set_due(&mut self, number: u16, due: Option<Nanos>) {
        self.dues.remove(due_place(number));
        self.dues.insert(due.unwrap_or(Nanos::MAX), due_place(number));
    }

    /// When the first of them is due.
    pub fn deadline(&self) -> Option<Nanos> {
        self.dues.first().map(|(due, _)| due)
    }

    /// Those that are due, each of which has to say when it is due next.
    pub fn take_due(&mut self, now: Nanos) -> Vec<u16> {
        let mut numbers = Vec::new();
        while let Some((_, place)) = self.dues.first().filter(|(due, _)| *due <= now) {
            self.dues.remove(place);
            numbers.push(number_at(place));
        }
        #[cfg(test)]
        {
            self.visits += numbers.len();
        }
        numbers
    }

    /// How many were looked at since this was asked last.
    #[cfg(test)]
    pub fn take_visits(&mut self) -> usize {
        std::mem::take(&mut self.visits)
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
        self.touch(usize::from(number));
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
        let Some(own) = self.own[usize::from(number) - OWN].take() else { return };
        // The session may go on without it, when its server was taken out of the configuration or is another now.
        if let Some(numbers) = self.by_session.get_mut(&own.of_session) {
            numbers.retain(|(_, other)| *other != number);
            if numbers.is_empty() {
                self.by_session.remove(&own.of_session);
            }
        }
        self.set_due(number, None);
        self.vacant.push(number);
    }
}

/// Where deadlines of servers stand: close together, whosever they are.
fn due_place(number: u16) -> u32 {
    let number = usize::from(number);
    (if number < OWN { 2 * number } else { 2 * (number - OWN) + 1 }) as u32
}

/// The inverse of `due_place`.
fn number_at(place: u32) -> u16 {
    let (half, is_own) = (place as usize / 2, place % 2 == 1);
    (if is_own { OWN + half } else { half }) as u16
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
        self.get_mut(number).unwrap_or_else(|| unreachable!("a number that is kept is there"))
    }
}
