//! Who waits for a call, and how they are told: on this core by mail, on another by a word over the mesh.
//!
//! Not here: which call a word is about. Invariant: what is said of a call goes to the core on which its caller is.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::words::{self, kind};
use crate::ids::CoreId;
use crate::metrics::ServerMetrics;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::server::service::{CallKey, Mail, Mailbox, Wish};

/// A call, by the core on which its caller is and its name there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Caller {
    pub core: CoreId,
    pub key: CallKey,
}

/// Words on their way to other cores.
pub(super) type Post = Rc<RefCell<Vec<Wish>>>;

/// Tells callers of one server's calls.
pub(super) struct Callers {
    pub core: CoreId,
    pub server: u16,
    pub mailbox: Mailbox,
    pub post: Post,
    pub metrics: Arc<ServerMetrics>,
}

impl Callers {
    /// A caller on this core.
    pub fn here(&self, key: CallKey) -> Caller {
        Caller { core: self.core, key }
    }

    /// The outcome of a call.
    pub fn reply(&self, caller: Caller, outcome: Result<Vec<u8>, RpcError>) {
        let is_ours = |code| matches!(code, Code::BAD_GATEWAY | Code::DEADLINE | Code::OVERLOADED);
        if outcome.as_ref().is_err_and(|error| is_ours(error.code)) {
            self.metrics.failures.add(1);
        }
        if caller.core == self.core {
            return self.mailbox.push(Mail::Reply { key: caller.key, outcome: outcome.map(Into::into) });
        }
        self.tell(caller.core, kind::REPLY, words::number_of(caller.key), words::write_outcome(&outcome));
    }

    /// A notification in the course of a call.
    pub fn notice(&self, caller: Caller, method: &'static str, params: Vec<u8>) {
        if caller.core == self.core {
            return self.mailbox.push(Mail::Notice { key: caller.key, method, params });
        }
        let text = words::write_said(0, method, &params);
        self.tell(caller.core, kind::NOTICE, words::number_of(caller.key), text);
    }

    /// A question in the course of a call.
    pub fn ask(&self, caller: Caller, ask: u32, method: &'static str, params: Vec<u8>) {
        if caller.core == self.core {
            return self.mailbox.push(Mail::Ask { key: caller.key, ask, method, params });
        }
        let text = words::write_said(ask, method, &params);
        self.tell(caller.core, kind::ASK, words::number_of(caller.key), text);
    }

    /// The server let go of a call's stream, to be asked for the outcome later: so is the caller's.
    pub fn end_stream(&self, caller: Caller) {
        if caller.core == self.core {
            return self.mailbox.push(Mail::EndStream { key: caller.key });
        }
        self.tell(caller.core, kind::STREAM_ENDED, words::number_of(caller.key), Vec::new());
    }

    /// Says a word to the gateway of another core.
    pub fn tell(&self, to: CoreId, kind: u8, number: u64, text: Vec<u8>) {
        let what = words::subject(kind, self.server, number);
        self.post.borrow_mut().push(Wish::Tell { to, what, text });
    }
}
