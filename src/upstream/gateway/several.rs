//! Calls by somebody who sees several servers, or one by an operator's rules: each goes to the server that has what it
//! names.
//!
//! Not here: whose a name is (`names`, `native_names`), how a call gets to its server (`send`). Invariant: a call goes
//! to one server at most; one that is nobody's is refused, and never sent by guess.

use super::flight::ListKind;
use super::{Gateway, invalid, task_ids};
use crate::proto::json::Key;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Served, Service};
use crate::upstream::missing;

impl<S: Service> Gateway<S> {
    /// A call by somebody who sees several servers. It may wait for the lists that say whose a name is, once.
    pub(super) fn call_merged(&mut self, call: &Call<'_>, may_wait: bool, out: &mut Vec<u8>) -> Served {
        if let Some(kind) = ListKind::of(call.method) {
            // Its own pages hold nothing that would have to be looked at.
            return match self.seen(call.view).is_some_and(|seen| seen.is_native_alone && seen.is_plain) {
                true => self.native.call(call, out),
                false => self.list(call, kind, out),
            };
        }
        let string = |key: Key| call.envelope.str(key, call.text);
        match call.method {
            Method::ToolsCall | Method::PromptsGet => {
                let Some(name) = string(Key::Name) else { return invalid("`name` must be a string") };
                let kind = if call.method == Method::ToolsCall { ListKind::Tools } else { ListKind::Prompts };
                if may_wait && self.waits_for_names(call, kind, &name) {
                    return Served::Pending;
                }
                match self.owner_of_name(call.view, kind, &name) {
                    Some((server, own)) => {
                        if let Some(refusal) = self.quarantined(call, server, &own) {
                            return Served::Failed(refusal);
                        }
                        if task_ids::is_of_other_era(call, self.servers[usize::from(server)].verdict) {
                            let text = format!("{name} does not run as a task for clients of this revision");
                            return Served::Failed(RpcError::new(Code::METHOD_NOT_FOUND, text));
                        }
                        let before = self.before_uris(call.view, server);
                        self.relay(call, server, Some(&own), before.as_deref())
                    }
                    None if self.seen(call.view).is_some_and(|seen| seen.native) => self.call_native(call, out),
                    None => Served::Failed(self.unknown(call.view, kind, &name)),
                }
            }
            Method::ResourcesRead => {
                let Some(uri) = string(Key::Uri) else { return invalid("`uri` must be a string") };
                match self.owner_of_uri(call.view, &uri) {
                    Some((server, own)) => {
                        let before = self.before_uris(call.view, server);
                        self.relay(call, server, Some(&own), before.as_deref())
                    }
                    None if self.seen(call.view).is_some_and(|seen| seen.native) => self.call_native(call, out),
                    None => Served::Failed(missing::resource(&uri, call.version)),
                }
            }
            Method::CompletionComplete => self.complete(call, may_wait, out),
            Method::TasksCancel | Method::TasksGet | Method::TasksResult | Method::TasksUpdate => {
                self.of_task(call, out)
            }
            Method::TasksList => self.list_tasks(call, out),
            _ if self.seen(call.view).is_some_and(|seen| seen.native) => self.call_native(call, out),
            _ if let Some(server) = self.seen(call.view).and_then(|seen| seen.alone) => {
                self.relay(call, server, None, None)
            }
            _ => Served::Failed(RpcError::new(
                Code::METHOD_NOT_FOUND,
                "this is asked of one server: use its own path, behind the endpoint's",
            )),
        }
    }
}
