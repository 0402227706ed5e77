//! What tools and prompts are called in a view of several servers, and whose each name is.
//!
//! Not here: the rules of naming (`proto::mcp::naming`), what an operator hides (`rules`).
//! Invariant: the table says what the lists said that were read last, also while they are read anew; it is made anew
//! when one of them is another.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::Gateway;
use super::flight::ListKind;
use super::native::NATIVE;
use crate::ids::View;
use crate::proto::mcp::naming;
use crate::server::service::Service;

/// The names in one view, of one kind.
#[derive(Default)]
pub(super) struct Told {
    /// By server and its own name: the name that it has, or none if another came first.
    names: HashMap<(u16, Box<str>), Option<String>>,
    /// The inverse.
    owners: HashMap<String, (u16, Box<str>)>,
}

impl Told {
    /// What an item is called; none if it is not seen.
    pub fn name_of(&self, server: u16, own: &str) -> Option<&str> {
        self.names.get(&(server, own.into()))?.as_deref()
    }

    /// Whether an item was listed, under whichever name.
    pub fn knows(&self, server: u16, own: &str) -> bool {
        self.names.contains_key(&(server, own.into()))
    }

    /// Whose name it is, and what the server itself calls it.
    pub fn owner_of(&self, name: &str) -> Option<(u16, &str)> {
        self.owners.get(name).map(|(server, own)| (*server, &**own))
    }
}

/// The tables that were made, by view and kind.
pub(super) type Tables = RefCell<HashMap<(View, ListKind), Rc<Told>>>;

impl<S: Service> Gateway<S> {
    /// The names in a view.
    pub(super) fn told_in(&self, view: View, kind: ListKind) -> Rc<Told> {
        if let Some(told) = self.told.borrow().get(&(view, kind)) {
            return Rc::clone(told);
        }
        let told = Rc::new(self.tell_apart(view, kind));
        self.told.borrow_mut().insert((view, kind), Rc::clone(&told));
        told
    }

    /// Some server's list of this kind is another.
    pub(super) fn forget_told(&mut self, kind: ListKind) {
        self.written.forget(Some(kind));
        self.told.borrow_mut().retain(|(_, other), _| *other != kind);
    }

    fn tell_apart(&self, view: View, kind: ListKind) -> Told {
        let mut own_names: Vec<(u16, String)> = Vec::new();
        if self.seen(view).is_some_and(|seen| seen.native) && self.native.rules().is_some() {
            own_names.extend(self.native.names(kind).iter().map(|own| (NATIVE, own.to_string())));
        }
        for &server in self.seen(view).map_or(&[][..], |seen| &seen.servers) {
            let names = self.lists.get(&(server, kind)).and_then(|cached| cached.names.as_deref());
            own_names.extend(names.unwrap_or_default().iter().map(|own| (server, own.to_string())));
        }
        let name = |(server, own): &(u16, String)| Some(self.rules_of(*server)?.seen(kind, own)?.to_owned());
        own_names.retain(|named| name(named).is_some());
        let seen = |named: &(u16, String)| name(named).unwrap_or_default();
        let seen_names: Vec<String> = own_names.iter().map(seen).collect();
        let prefixes = own_names.iter().map(|(server, _)| self.prefix_of(*server));
        let pairs: Vec<(&str, &str)> = prefixes.zip(seen_names.iter().map(String::as_str)).collect();
        let mut told = Told::default();
        for ((server, own), name) in own_names.into_iter().zip(naming::names(&pairs)) {
            let own: Box<str> = own.into();
            if let Some(name) = &name {
                // Two servers without a prefix may have tools of one name: the first has it.
                told.owners.entry(name.clone()).or_insert((server, own.clone()));
            }
            let is_its = name.as_ref().is_some_and(|name| told.owners.get(name) == Some(&(server, own.clone())));
            told.names.entry((server, own)).or_insert(name.filter(|_| is_its));
        }
        told
    }
}
