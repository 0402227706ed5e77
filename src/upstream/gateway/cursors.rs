//! Cursors of lists that the gateway puts together: where the next page begins, sealed.
//!
//! Not here: the pages (`merge`), cursors of one server's own lists, which are passed on as they are. Invariant: a
//! cursor is good for the list and the view that it was given for, in this process, and nobody else makes one.

use crate::ids::View;
use crate::proto::json::{Key, Object, Value};
use crate::proto::mcp::Method;
use crate::server::service::{Call, Host};

/// Where a page begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    pub view: View,
    pub method: Method,
    /// How many items come before; or, of lists that are told server by server, whose is next.
    pub at: u32,
    /// That server's own cursor, if it gave one.
    pub own: Box<str>,
}

const MARK: &[u8] = b"cursor";

impl Cursor {
    /// As the client has it.
    pub fn seal(&self, host: &dyn Host) -> String {
        let mut plain = MARK.to_vec();
        plain.extend_from_slice(&self.view.0.to_le_bytes());
        plain.push(self.method as u8);
        plain.extend_from_slice(&self.at.to_le_bytes());
        plain.extend_from_slice(self.own.as_bytes());
        host.seal(&plain)
    }

    /// Reads what was sealed, if it was for this list in this view.
    pub fn read(plain: &[u8], view: View, method: Method) -> Option<Cursor> {
        let (of, rest) = plain.strip_prefix(MARK)?.split_first_chunk::<2>()?;
        let (list, rest) = rest.split_first()?;
        let (at, own) = rest.split_first_chunk::<4>()?;
        let is_ours = (View(u16::from_le_bytes(*of)), *list) == (view, method as u8);
        let (at, own) = (u32::from_le_bytes(*at), std::str::from_utf8(own).ok()?.into());
        is_ours.then_some(Cursor { view, method, at, own })
    }
}

/// The call with another cursor, or without one.
pub(super) fn with_cursor(call: &Call<'_>, own: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(call.text.len() + own.len());
    let mut message = Object::begin(&mut out);
    message.string("jsonrpc", "2.0");
    message.raw("id", call.envelope.get(Key::Id).of(call.text));
    message.string("method", call.method.as_str());
    let mut params = message.object("params");
    for (name, member) in call.envelope.value(Key::Params, call.text).into_iter().flat_map(Value::members) {
        if let Some(name) = name.unescaped().filter(|name| name != "cursor") {
            params.raw(&name, member.raw());
        }
    }
    if !own.is_empty() {
        params.string("cursor", own);
    }
    params.end();
    message.end();
    out
}
