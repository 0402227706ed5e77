//! The names of tools that come and go, by the rules of `naming`, kept so that a change costs what it changes.
//!
//! Not here: which tools there are. Invariant: once settled, every tool has the name that `naming::names` gives it
//! among all that are there, whatever came and went before and in whichever order.
//!
//! Why that holds: hashed are those whose plain name another has, and those whose plain name is the hashed one of
//! another that is hashed; the fewest for which that is so, in whatever order one looks. Who comes or goes changes this
//! for those only whose plain name is its own plain or hashed one, and so on from these. They are all taken back, then
//! judged anew; nobody else is looked at.

use std::cell::{Cell, OnceCell, Ref, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::{hashed, prefixed};

/// A tool: a server's prefix, and a name behind it. Of two servers without a prefix both may have it.
#[derive(Debug)]
pub struct Tool<T> {
    server: Box<str>,
    tool: Box<str>,
    plain: Box<str>,
    hashed: OnceCell<Box<str>>,
    is_hashed: Cell<bool>,
    /// Those that have it, in their order.
    owners: RefCell<Vec<T>>,
}

impl<T> Tool<T> {
    fn hashed(&self) -> &str {
        self.hashed.get_or_init(|| hashed(&self.server, &self.tool).into())
    }

    fn is(&self, server: &str, tool: &str) -> bool {
        *self.server == *server && *self.tool == *tool
    }

    /// The first of those that have it.
    pub fn owner(&self) -> Option<Ref<'_, T>> {
        Ref::filter_map(self.owners.borrow(), |owners| owners.first()).ok()
    }
}

/// All tools, each of which one or more have.
#[derive(Debug)]
pub struct Table<T> {
    /// By plain name, all that have that one.
    plain: HashMap<Box<str>, Vec<Rc<Tool<T>>>>,
    /// By hashed name, those that are called by it.
    hashed: HashMap<Box<str>, Vec<Rc<Tool<T>>>>,
    /// Names that have come or gone since the names were settled.
    changed: BTreeSet<Box<str>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { plain: HashMap::new(), hashed: HashMap::new(), changed: BTreeSet::new() }
    }
}

impl<T: Ord> Table<T> {
    /// Somebody has a tool.
    pub fn add(&mut self, server: &str, tool: &str, owner: T) -> Rc<Tool<T>> {
        let plain: Box<str> = prefixed(server, tool).into();
        let same = self.plain.entry(plain.clone()).or_default();
        let found = match same.iter().find(|one| one.is(server, tool)) {
            Some(found) => Rc::clone(found),
            None => {
                self.changed.insert(plain.clone());
                let fresh = Rc::new(Tool {
                    server: server.into(),
                    tool: tool.into(),
                    plain,
                    hashed: OnceCell::new(),
                    is_hashed: Cell::new(false),
                    owners: RefCell::new(Vec::new()),
                });
                same.push(Rc::clone(&fresh));
                fresh
            }
        };
        let mut owners = found.owners.borrow_mut();
        if let Err(place) = owners.binary_search(&owner) {
            owners.insert(place, owner);
        }
        drop(owners);
        found
    }

    /// Somebody has a tool no longer.
    pub fn remove(&mut self, tool: &Rc<Tool<T>>, owner: &T) {
        let mut owners = tool.owners.borrow_mut();
        owners.retain(|one| one != owner);
        if !owners.is_empty() {
            return;
        }
        leave(&mut self.plain, &tool.plain, tool);
        self.changed.insert(tool.plain.clone());
        if tool.is_hashed.replace(false) {
            leave(&mut self.hashed, tool.hashed(), tool);
            self.changed.insert(tool.hashed().into());
        }
    }

    /// Gives all their names, after tools came and went; how many were looked at.
    pub fn settle(&mut self) -> usize {
        let mut names: Vec<Box<str>> = self.changed.iter().cloned().collect();
        let mut seen = std::mem::take(&mut self.changed);
        let mut anew: Vec<Rc<Tool<T>>> = Vec::new();
        while let Some(name) = names.pop() {
            for tool in self.plain.get(&name).into_iter().flatten() {
                anew.push(Rc::clone(tool));
                if tool.is_hashed.replace(false) {
                    leave(&mut self.hashed, tool.hashed(), tool);
                    if seen.insert(tool.hashed().into()) {
                        names.push(tool.hashed().into());
                    }
                }
            }
        }
        let looked_at = anew.len();
        let is_shared = |tool: &Rc<Tool<T>>| {
            self.plain.get(&tool.plain).is_some_and(|same| same.len() > 1) || self.hashed.contains_key(&tool.plain)
        };
        let mut to_hash: Vec<Rc<Tool<T>>> = anew.into_iter().filter(is_shared).collect();
        while let Some(tool) = to_hash.pop() {
            if tool.is_hashed.replace(true) {
                continue;
            }
            self.hashed.entry(tool.hashed().into()).or_default().push(Rc::clone(&tool));
            let others = self.plain.get(tool.hashed()).into_iter().flatten();
            to_hash.extend(others.filter(|other| !Rc::ptr_eq(other, &tool)).cloned());
        }
        looked_at
    }

    /// What a tool is called; none if another has its name.
    pub fn name_of<'a>(&self, tool: &'a Tool<T>) -> Option<&'a str> {
        if !tool.is_hashed.get() {
            return Some(&tool.plain);
        }
        let same = self.hashed.get(tool.hashed())?;
        std::ptr::eq(&**first(same)?, tool).then(|| tool.hashed())
    }

    /// The tool of this name.
    pub fn named(&self, name: &str) -> Option<&Tool<T>> {
        if let Some(same) = self.hashed.get(name) {
            return first(same).map(|tool| &**tool);
        }
        self.plain.get(name)?.iter().find(|tool| !tool.is_hashed.get()).map(|tool| &**tool)
    }
}

/// Of those with one hash the one that comes first in order of bytes.
fn first<T>(same: &[Rc<Tool<T>>]) -> Option<&Rc<Tool<T>>> {
    same.iter().min_by_key(|one| (&one.server, &one.tool))
}

fn leave<T>(tools: &mut HashMap<Box<str>, Vec<Rc<Tool<T>>>>, name: &str, tool: &Rc<Tool<T>>) {
    if let Some(same) = tools.get_mut(name) {
        same.retain(|one| !Rc::ptr_eq(one, tool));
        if same.is_empty() {
            tools.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::names;
    use super::*;

    /// A table, and the tools in it by who has them.
    #[derive(Default)]
    struct Rig {
        table: Table<u8>,
        tools: BTreeMap<(String, String, u8), Rc<Tool<u8>>>,
    }

    impl Rig {
        fn add(&mut self, server: &str, tool: &str, owner: u8) {
            let entry = self.table.add(server, tool, owner);
            self.tools.insert((server.to_owned(), tool.to_owned(), owner), entry);
        }

        fn remove(&mut self, server: &str, tool: &str, owner: u8) {
            if let Some(entry) = self.tools.remove(&(server.to_owned(), tool.to_owned(), owner)) {
                self.table.remove(&entry, &owner);
            }
        }

        /// That all names are what they are when all of them are given at once.
        fn is_as_from_scratch(&self) {
            let pairs: Vec<(&str, &str)> = self.tools.keys().map(|(server, tool, _)| (&**server, &**tool)).collect();
            for (((server, tool, _), entry), wanted) in self.tools.iter().zip(names(&pairs)) {
                assert_eq!(self.table.name_of(entry), wanted.as_deref(), "{server} {tool} of {pairs:?}");
                if let Some(wanted) = wanted {
                    let named = self.table.named(&wanted).expect("it leads to it");
                    assert!(named.is(server, tool), "{wanted} leads to {named:?}");
                    let least = self.tools.keys().find(|(s, t, _)| named.is(s, t)).map(|(.., owner)| *owner);
                    assert_eq!(named.owner().as_deref(), least.as_ref(), "the first has it");
                }
            }
        }
    }

    /// Tools whose names collide often: by their prefixes, by hashes that were forged, and by those of the forged.
    fn tools() -> Vec<(String, String)> {
        let mut tools: Vec<(String, String)> = Vec::new();
        for server in ["", "a", "a_b", "b"] {
            for tool in ["a", "b_c", "c", "b", "b c", "a_b_c"] {
                tools.push((server.to_owned(), tool.to_owned()));
            }
        }
        for _ in 0..3 {
            for (server, tool) in tools.clone() {
                let forged = hashed(&server, &tool);
                for forger in ["", "a"] {
                    let rest = if forger.is_empty() { Some(&*forged) } else { forged.strip_prefix("a_") };
                    let pair = rest.map(|rest| (forger.to_owned(), rest.to_owned()));
                    tools.extend(pair.filter(|pair| !tools.contains(pair)).filter(|_| tools.len() < 90));
                }
            }
        }
        tools
    }

    proptest! {
        #[test]
        fn after_any_changes_names_are_as_from_scratch(
            steps in prop::collection::vec((any::<bool>(), 0..90usize, 0..3u8, 0..4u8), 1..200),
        ) {
            let (pool, mut rig) = (tools(), Rig::default());
            for (is_there, which, owner, settles) in steps {
                let (server, tool) = &pool[which % pool.len()];
                match is_there {
                    true => rig.add(server, tool, owner),
                    false => rig.remove(server, tool, owner),
                }
                // Several changes at once, or one by one.
                if settles > 0 {
                    rig.table.settle();
                    rig.is_as_from_scratch();
                }
            }
            for (server, tool, owner) in rig.tools.keys().cloned().collect::<Vec<_>>() {
                rig.remove(&server, &tool, owner);
            }
            rig.table.settle();
            prop_assert!(rig.table.plain.is_empty() && rig.table.hashed.is_empty(), "nothing stays behind");
        }
    }

    #[test]
    fn a_change_looks_at_what_it_concerns_however_many_there_are() {
        let mut rig = Rig::default();
        for number in 0..10_000 {
            rig.add("large", &format!("tool_{number}"), 0);
        }
        assert_eq!(rig.table.settle(), 10_000);
        rig.add("small", "one", 1);
        assert_eq!(rig.table.settle(), 1);
        // One that takes a name away looks at whose it was.
        rig.add("large_tool", "7", 1);
        assert_eq!(rig.table.settle(), 2);
        rig.is_as_from_scratch();
        rig.remove("large_tool", "7", 1);
        rig.remove("small", "one", 1);
        assert_eq!(rig.table.settle(), 1);
        assert_eq!(rig.table.settle(), 0);
        rig.is_as_from_scratch();
    }

    /// A server that forges the hash of each of its tools in the next cannot make a change cost more than they are.
    #[test]
    fn a_chain_of_forged_names_is_looked_at_once() {
        let mut rig = Rig::default();
        let mut tool = "b_c".to_owned();
        for _ in 0..1_000 {
            rig.add("a", &tool, 0);
            let forged = hashed("a", &tool);
            forged.strip_prefix("a_").expect("its prefix").clone_into(&mut tool);
        }
        assert_eq!(rig.table.settle(), 1_000);
        // All of them collide with the first, and so with each other.
        rig.add("a_b", "c", 1);
        rig.add("", "a_b_c", 2);
        assert!(rig.table.settle() <= 1_003);
        rig.is_as_from_scratch();
        rig.remove("", "a_b_c", 2);
        rig.remove("a_b", "c", 1);
        assert!(rig.table.settle() <= 1_003);
        rig.is_as_from_scratch();
        assert_eq!(rig.table.named("a_b_c").and_then(|tool| tool.owner().map(|owner| *owner)), Some(0));
    }
}
