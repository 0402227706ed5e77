//! What the native server is called and shown as, where an operator says so in its section.
//!
//! Not here: seats and deadlines of its calls (`native`), names of other servers (`names`). Invariant: what is hidden
//! cannot be called, and nothing has another name in a list than by which it is called.
//!
//! Its resources and tasks keep their URIs and ids among other servers: those of the others begin with their names.

use super::flight::ListKind;
use super::merge::{self, Job};
use super::native::NATIVE;
use super::rules::Rules;
use super::told::Told;
use super::{Gateway, Seen, answer, invalid};
use crate::ids::View;
use crate::proto::json::{Envelope, Key, Scanner, Value, splice, string};
use crate::proto::mcp::{HeaderParam, Method};
use crate::server::service::{Call, Served, Service};
use crate::upstream::missing;

impl<S: Service> Gateway<S> {
    /// What is seen of a server, or of the native one.
    pub(super) fn rules_of(&self, server: u16) -> Option<&Rules> {
        match server {
            NATIVE => self.native.rules(),
            server => Some(&self.servers[usize::from(server)].settings.rules),
        }
    }

    /// What stands before the names of a server, or of the native one.
    pub(super) fn prefix_of(&self, server: u16) -> &str {
        match server {
            NATIVE => self.native.settings().map_or("", |settings| &settings.prefix),
            server => &self.servers[usize::from(server)].settings.prefix,
        }
    }

    /// The native server's own name of what is called so in a view; none if it is not seen there.
    fn native_own(&self, view: View, kind: ListKind, name: &str) -> Option<String> {
        let (seen, rules) = (self.seen(view)?, self.native.rules()?);
        if seen.is_native_alone {
            return rules.own(kind, name).map(str::to_owned);
        }
        let told = self.told_in(view, kind);
        let (_, own) = told.owner_of(seen.own(kind, name)?).filter(|(server, _)| *server == NATIVE)?;
        Some(own.to_owned())
    }

    /// Which arguments of a tool of the native server stand in headers too.
    pub(super) fn native_header_params(&self, view: View, tool: &str) -> &[HeaderParam] {
        if self.native.rules().is_none() {
            return self.native.service.header_params(view, tool);
        }
        let own = self.native_own(view, ListKind::Tools, tool);
        own.map_or(&[], |own| self.native.service.header_params(view, &own))
    }

    /// A call of what no other server has.
    pub(super) fn call_native(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        if self.native.rules().is_none() {
            return self.native.call(call, out);
        }
        match call.method {
            Method::ToolsCall | Method::PromptsGet => {
                let Some(name) = call.envelope.str(Key::Name, call.text) else {
                    return invalid("`name` must be a string");
                };
                let kind = if call.method == Method::ToolsCall { ListKind::Tools } else { ListKind::Prompts };
                let Some(own) = self.native_own(call.view, kind, &name) else {
                    return Served::Failed(self.unknown(call.view, kind, &name));
                };
                let mut fresh = Vec::new();
                string(&mut fresh, &own);
                self.call_native_saying(call, Key::Name, (own != *name).then_some(fresh), out)
            }
            Method::ResourcesRead => match call.envelope.str(Key::Uri, call.text) {
                Some(uri) if !self.native.admits_resource(&uri) => {
                    Served::Failed(missing::resource(&uri, call.version))
                }
                _ => self.native.call(call, out),
            },
            Method::CompletionComplete => {
                let Some(reference) = call.envelope.value(Key::Ref, call.text) else {
                    return self.native.call(call, out);
                };
                let text = |member: &str| reference.get(member).and_then(Value::as_str);
                match (text("type").as_deref(), text("name"), text("uri")) {
                    (Some("ref/prompt"), Some(name), _) => {
                        let Some(own) = self.native_own(call.view, ListKind::Prompts, &name) else {
                            return Served::Failed(self.unknown(call.view, ListKind::Prompts, &name));
                        };
                        let fresh = (own != *name).then(|| answer::renamed(reference, "name", &own));
                        self.call_native_saying(call, Key::Ref, fresh, out)
                    }
                    (Some("ref/resource"), _, Some(uri)) if !self.native.admits_resource(&uri) => {
                        Served::Failed(missing::resource(&uri, call.version))
                    }
                    _ => self.native.call(call, out),
                }
            }
            _ => self.native.call(call, out),
        }
    }

    /// The same call with another value in one place, if there is to be another.
    fn call_native_saying(&mut self, call: &Call<'_>, place: Key, fresh: Option<Vec<u8>>, out: &mut Vec<u8>) -> Served {
        let Some(fresh) = fresh else { return self.native.call(call, out) };
        let (mut text, mut envelope) = (Vec::with_capacity(call.text.len() + fresh.len()), Envelope::default());
        splice(&mut text, call.text, &[(call.envelope.get(place), fresh)]);
        if Scanner::new().scan(&text, &mut envelope).is_err() {
            return invalid("the call cannot be read");
        }
        self.native.call(&Call { text: &text, envelope: &envelope, ..*call }, out)
    }

    /// An item of the native server as it is seen in a view; none if it is not.
    pub(super) fn shown_native(&self, job: &Job, seen: &Seen, told: Option<&Told>, item: &[u8]) -> Option<Vec<u8>> {
        let Some(rules) = self.native.rules() else { return Some(item.to_vec()) };
        let own = merge::own_name(job.kind, item)?;
        let name = match told.filter(|_| !seen.is_native_alone) {
            Some(told) => told.name_of(NATIVE, &own)?,
            None => rules.seen(job.kind, &own)?,
        };
        let item = merge::seen(job.kind, item, &own, name, rules);
        if job.kind == ListKind::Tools { merge::chosen(item, &seen.tools) } else { Some(item) }
    }
}
