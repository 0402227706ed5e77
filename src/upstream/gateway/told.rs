//! What tools and prompts are called in a view of several servers, and whose each name is.
//!
//! Not here: the rules of naming (`proto::mcp::naming`), what an operator hides (`rules`).
//! Invariant: the table says what the lists said that were read last, also while they are read anew. When a server's
//! list is another, no other server's names are looked at but those that collide with its own.

use std::cell::{Ref, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::Gateway;
use super::flight::ListKind;
use super::native::NATIVE;
use crate::ids::View;
use crate::proto::mcp::naming::table::{Table, Tool};
use crate::server::service::Service;

/// Whose a tool is: where its server stands in the view, which it is, and what it calls the tool.
type Owner = (usize, u16, Box<str>);

/// The names in one view, of one kind.
#[derive(Default)]
pub(super) struct Told {
    table: Table<Owner>,
    /// By server and its own names.
    tools: HashMap<u16, HashMap<Box<str>, Rc<Tool<Owner>>>>,
}

impl Told {
    /// What an item is called; none if it is not seen, or another came first.
    pub fn name_of(&self, server: u16, own: &str) -> Option<&str> {
        let tool = self.tools.get(&server)?.get(own)?;
        let is_its = tool.owner().is_some_and(|owner| owner.1 == server && *owner.2 == *own);
        self.table.name_of(tool).filter(|_| is_its)
    }

    /// Whether an item was listed, under whichever name.
    pub fn knows(&self, server: u16, own: &str) -> bool {
        self.tools.get(&server).is_some_and(|tools| tools.contains_key(own))
    }

    /// Whose name it is, and what the server itself calls it.
    pub fn owner_of(&self, name: &str) -> Option<(u16, Ref<'_, str>)> {
        let owner = self.table.named(name)?.owner()?;
        Some((owner.1, Ref::map(owner, |owner| &*owner.2)))
    }

    /// The server whose name it is.
    pub fn server_of(&self, name: &str) -> Option<u16> {
        self.owner_of(name).map(|(server, _)| server)
    }

    /// A server, which stands there in the view, lists these, by its own names and by those that are seen; how many
    /// names were looked at.
    fn list<'a>(
        &mut self,
        place: usize,
        server: u16,
        prefix: &str,
        listed: impl Iterator<Item = (&'a str, &'a str)>,
    ) -> usize {
        let mut before = self.tools.remove(&server).unwrap_or_default();
        let (mut now, mut looked_at) = (HashMap::with_capacity(before.len()), 0);
        for (own, seen) in listed {
            looked_at += 1;
            if now.contains_key(own) {
                continue;
            }
            let tool = match before.remove_entry(own) {
                Some((_, tool)) => tool,
                None => self.table.add(prefix, seen, (place, server, own.into())),
            };
            now.insert(Box::from(own), tool);
        }
        for (own, tool) in before {
            self.table.remove(&tool, &(place, server, own));
        }
        self.tools.insert(server, now);
        looked_at + self.table.settle()
    }
}

/// The names in views, as far as somebody asked for them.
#[derive(Default)]
pub(super) struct Tables {
    made: RefCell<HashMap<(View, ListKind), Made>>,
    /// How many names were looked at.
    #[cfg(test)]
    pub looked_at: std::cell::Cell<usize>,
}

/// A table, and the servers whose lists are others since.
struct Made {
    told: Rc<Told>,
    stale: BTreeSet<u16>,
}

impl Tables {
    /// The views are others.
    pub fn clear(&mut self) {
        self.made.get_mut().clear();
    }
}

impl<S: Service> Gateway<S> {
    /// The names in a view.
    pub(super) fn told_in(&self, view: View, kind: ListKind) -> Rc<Told> {
        let mut made = self.told.made.borrow_mut();
        let all = || self.sources(view);
        let made = made.entry((view, kind)).or_insert_with(|| Made { told: Rc::default(), stale: all().collect() });
        if !made.stale.is_empty() {
            if Rc::get_mut(&mut made.told).is_none() {
                // Somebody still reads what was told before, so that another is made.
                *made = Made { told: Rc::default(), stale: all().collect() };
            }
            let stale = std::mem::take(&mut made.stale);
            if let Some(told) = Rc::get_mut(&mut made.told) {
                for (place, server) in all().enumerate().filter(|(_, server)| stale.contains(server)) {
                    self.tell_of(told, place, server, kind);
                }
            }
        }
        Rc::clone(&made.told)
    }

    /// A server's list of this kind is another.
    pub(super) fn told_anew(&mut self, server: u16, kind: ListKind) {
        self.written.forget(Some(kind));
        for (_, made) in self.told.made.get_mut().iter_mut().filter(|((_, of), _)| *of == kind) {
            made.stale.insert(server);
        }
    }

    /// Whose names there are in a view, in its order; the native server's are, if an operator says how.
    fn sources(&self, view: View) -> impl Iterator<Item = u16> {
        let seen = self.seen(view);
        let native = seen.is_some_and(|seen| seen.native) && self.native.rules().is_some();
        native.then_some(NATIVE).into_iter().chain(seen.into_iter().flat_map(|seen| seen.servers.iter().copied()))
    }

    /// Tells of one server what its list says.
    fn tell_of(&self, told: &mut Told, place: usize, server: u16, kind: ListKind) {
        let names = match server {
            NATIVE => self.native.names(kind),
            _ => self.lists.get(&(server, kind)).and_then(|cached| cached.names.as_deref()).unwrap_or_default(),
        };
        let Some(rules) = self.rules_of(server) else { return };
        let listed = names.iter().filter_map(|own| Some((&**own, rules.seen(kind, own)?)));
        let looked_at = told.list(place, server, self.prefix_of(server), listed);
        #[cfg(test)]
        self.told.looked_at.set(self.told.looked_at.get() + looked_at);
        #[cfg(not(test))]
        let _ = looked_at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mcp::naming;

    /// What three servers list, of which two have no prefix: told one after the other, and all at once.
    #[test]
    fn names_do_not_depend_on_who_changed_when() {
        let prefixes = ["", "", "a"];
        let lists = |turn: usize| -> [Vec<String>; 3] {
            let name = |server: usize, item: usize| match (server + item + turn) % 5 {
                0 => "x".to_owned(),
                1 => format!("a_{item}"),
                2 => format!("{item}"),
                3 => "b c".to_owned(),
                _ => naming::hashed("a", &format!("{item}")),
            };
            [0, 1, 2].map(|server| (0..(turn * (server + 3)) % 7).map(|item| name(server, item)).collect())
        };
        let list = |told: &mut Told, server: usize, names: &[String]| {
            let listed = names.iter().map(|name| (&**name, &**name));
            told.list(server, server as u16, prefixes[server], listed)
        };
        let (mut kept, mut current) = (Told::default(), lists(0));
        for turn in 0..200 {
            let changed = turn * 7 % 3;
            current[changed].clone_from(&lists(turn)[changed]);
            list(&mut kept, changed, &current[changed]);
            let mut fresh = Told::default();
            for server in [2, 0, 1] {
                list(&mut fresh, server, &current[server]);
            }
            for (server, names) in current.iter().enumerate() {
                for own in names {
                    let name = kept.name_of(server as u16, own);
                    assert_eq!(name, fresh.name_of(server as u16, own), "{server} {own} of {current:?}");
                    let Some(name) = name else { continue };
                    let owner = kept.owner_of(name).map(|(server, own)| (server, own.to_owned()));
                    assert_eq!(owner, Some((server as u16, own.clone())), "{current:?}");
                }
            }
        }
    }
}
