//! The tap: the native server with somebody at its door who counts, and who lets planted bugs in.
//!
//! Not here: what a call does (`tools`).
//! Invariant: of each call the service hears at most one end, and a key names one call at a time.

use std::cell::RefCell;
use std::rc::Rc;

use corelane::ids::View;
use corelane::proto::json::Key;
use corelane::proto::jsonrpc::RpcError;
use corelane::proto::mcp::{Capabilities, HeaderParam, Version};
use corelane::server::service::{About, Call, CallKey, Nanos, Served, Service};
use corelane::upstream::native::NativeService;

use super::chance::Chance;
use super::planted::Bug;
use super::tools::Site;

/// What goes on between a core and its service.
pub struct Door {
    /// The generation of the call that is pending at each index.
    pending: Vec<Option<u32>>,
    /// Calls that are pending.
    pub open: usize,
    /// What was found wrong.
    pub wrong: Option<String>,
    planted: Option<Bug>,
    chance: Chance,
}

impl Door {
    /// Nobody has come yet.
    pub fn new(planted: Option<Bug>, chance: Chance) -> Door {
        Door { pending: Vec::new(), open: 0, wrong: None, planted, chance }
    }

    fn begin(&mut self, key: CallKey) {
        let index = key.index as usize;
        if self.pending.len() <= index {
            self.pending.resize(index + 1, None);
        }
        if let Some(before) = self.pending[index].replace(key.generation) {
            self.wrong = Some(format!("{key:?} was given to a call while the one of generation {before} was pending"));
        }
        self.open += 1;
    }

    /// A call that was pending is over; whether it was.
    pub fn end(&mut self, key: CallKey) -> bool {
        let Some(pending) = self.pending.get_mut(key.index as usize) else { return false };
        let was = *pending == Some(key.generation);
        if was {
            *pending = None;
            self.open -= 1;
        }
        was
    }

    fn is_bitten(&mut self, bug: Bug, times: u64) -> bool {
        self.planted == Some(bug) && self.chance.once_in(times)
    }
}

/// See the module.
pub struct Tap {
    native: NativeService<Site>,
    pub door: Rc<RefCell<Door>>,
}

impl Tap {
    /// With somebody at its door.
    pub fn new(native: NativeService<Site>, door: Rc<RefCell<Door>>) -> Tap {
        Tap { native, door }
    }

    /// What handlers share.
    pub fn site(&self) -> &Site {
        self.native.state()
    }
}

impl Service for Tap {
    fn about(&self, view: View) -> Result<&About, RpcError> {
        self.native.about(view)
    }

    fn header_params(&self, view: View, tool: &str) -> &[HeaderParam] {
        self.native.header_params(view, tool)
    }

    fn call(&mut self, call: &Call<'_>, out: &mut Vec<u8>) -> Served {
        let start = out.len();
        let served = self.native.call(call, out);
        let mut door = self.door.borrow_mut();
        match served {
            Served::Pending => door.begin(call.key),
            Served::Done if door.is_bitten(Bug::DoubleCompletion, 16) => {
                let (result, id) = (out[start..].to_vec(), call.envelope.text(Key::Id, call.text).unwrap_or_default());
                out.extend_from_slice(b"}\n{\"jsonrpc\":\"2.0\",\"id\":");
                out.extend_from_slice(id);
                out.extend_from_slice(b",\"result\":");
                out.extend_from_slice(&result);
            }
            Served::Done | Served::Failed(_) => {}
        }
        served
    }

    fn topic(&mut self, view: View, uri: &str, version: Version, session: Option<u64>) -> Result<Box<str>, RpcError> {
        self.native.topic(view, uri, version, session)
    }

    fn roots_changed(&mut self, now: Nanos, view: View, session: u64, capabilities: Capabilities) {
        self.native.roots_changed(now, view, session, capabilities);
    }

    fn session_ended(&mut self, now: Nanos, session: u64) {
        self.native.session_ended(now, session);
    }

    fn cancel(&mut self, now: Nanos, key: CallKey) {
        let mut door = self.door.borrow_mut();
        door.end(key);
        if door.is_bitten(Bug::CreditLeak, 8) {
            return;
        }
        drop(door);
        self.native.cancel(now, key);
    }

    fn answered(&mut self, now: Nanos, key: CallKey, ask: u32, answer: Result<&[u8], RpcError>) {
        self.native.answered(now, key, ask, answer);
    }
}
