//! Names in a view: which server has a tool, prompt or resource, and what it calls it itself.
//!
//! Not here: how names are put together for lists (`merge`), what an operator hides (`rules`).
//! Invariant: a name leads to one server at most, and never to what is not seen in the view.

use std::rc::Rc;

use super::flight::ListKind;
use super::native::NATIVE;
use super::{Gateway, answer, invalid, uris};
use crate::ids::View;
use crate::proto::json::{Envelope, Key, Scanner, Value};
use crate::proto::mcp::naming;
use crate::server::service::{Call, Served, Service};

impl<S: Service> Gateway<S> {
    /// The server in a view that has something by this name, and its own name for it.
    pub(super) fn owner_of_name(&self, view: View, kind: ListKind, name: &str) -> Option<(u16, String)> {
        let seen = self.seen(view)?;
        let settings = |server: u16| &self.servers[usize::from(server)].settings;
        if let Some(server) = seen.alone {
            let own = settings(server).rules.own(kind, name)?;
            let is_left_out = kind == ListKind::Tools && self.servers[usize::from(server)].left_out.contains(own);
            return (!is_left_out).then(|| (server, own.to_owned()));
        }
        let name = seen.own(kind, name)?;
        let told = self.told_in(view, kind);
        if let Some((server, own)) = told.owner_of(name) {
            return (server != NATIVE).then(|| (server, own.to_owned()));
        }
        // What is not listed may be there all the same, if its own name can be told from this one. The longest prefix
        // that fits: `a_b` before `a`; but what is listed has no other name than the listed one.
        if naming::may_be_hashed(name) {
            return None;
        }
        let rest = |server: u16| {
            let prefix = &*settings(server).prefix;
            name.strip_prefix(prefix)?.strip_prefix('_').filter(|_| !prefix.is_empty())
        };
        let own = |server: u16| settings(server).rules.own(kind, rest(server)?);
        let fits = |server: &u16| own(*server).is_some_and(|own| !told.knows(*server, own));
        let best = seen.servers.iter().copied().filter(fits).max_by_key(|&server| settings(server).prefix.len())?;
        Some((best, own(best)?.to_owned()))
    }

    pub(super) fn owner_of_uri(&self, view: View, uri: &str) -> Option<(u16, String)> {
        let seen = self.seen(view)?;
        seen.servers.iter().find_map(|&server| {
            let settings = &self.servers[usize::from(server)].settings;
            let own = if seen.alone.is_some() { uri } else { uris::own(uri, &settings.name)? };
            settings.rules.resources.admits(own).then(|| (server, own.to_owned()))
        })
    }

    /// What stands before a server's URIs in a view.
    pub(super) fn before_uris(&self, view: View, server: u16) -> Option<Rc<str>> {
        let among_others = self.seen(view).is_some_and(|seen| seen.alone.is_none());
        among_others.then(|| Rc::clone(&self.servers[usize::from(server)].before_uris))
    }

    /// `completion/complete`: what is completed is named within `ref`.
    pub(super) fn complete(&mut self, call: &Call<'_>, may_wait: bool, out: &mut Vec<u8>) -> Served {
        let Some(reference) = call.envelope.value(Key::Ref, call.text) else {
            return invalid("`ref` must be an object");
        };
        let (member, found) = match reference.get("type").and_then(Value::as_str).as_deref() {
            Some("ref/prompt") => {
                let Some(name) = reference.get("name").and_then(Value::as_str) else {
                    return invalid("`ref.name` must be a string");
                };
                if may_wait && self.waits_for_names(call, ListKind::Prompts, &name) {
                    return Served::Pending;
                }
                ("name", self.owner_of_name(call.view, ListKind::Prompts, &name))
            }
            Some("ref/resource") => {
                let Some(uri) = reference.get("uri").and_then(Value::as_str) else {
                    return invalid("`ref.uri` must be a string");
                };
                ("uri", self.owner_of_uri(call.view, &uri))
            }
            _ => return invalid("`ref.type` must be ref/prompt or ref/resource"),
        };
        let Some((server, own)) = found else {
            return match self.seen(call.view).is_some_and(|seen| seen.native) {
                true => self.call_native(call, out),
                false => invalid("there is no such prompt or resource"),
            };
        };
        let span = call.envelope.get(Key::Ref);
        let fresh = answer::renamed(reference, member, &own);
        let text = [&call.text[..span.start as usize], &fresh, &call.text[span.end as usize..]].concat();
        let mut envelope = Envelope::default();
        if Scanner::new().scan(&text, &mut envelope).is_err() {
            return invalid("`ref` cannot be read");
        }
        self.relay(&Call { text: &text, envelope: &envelope, ..*call }, server, None, None)
    }
}
