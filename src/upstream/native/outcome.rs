//! What became of a handler: the members of a result, or an error.
//!
//! Not here: to whom it goes (a call, a task).
//! Invariant: `members` is never empty, begins with a quote, and holds no `resultType` and no `_meta`, so that one
//! outcome can be written for a call, for `tasks/get` and for `tasks/result`.

use super::output::{close_result, open_result, opening};
use crate::proto::json::Value;
use crate::proto::jsonrpc::RpcError;
use crate::proto::mcp::Version;
use crate::server::service::ResultObject;

/// A result without the braces around it and without what the revision adds.
#[derive(Clone, Default, Debug)]
pub(super) struct Rendered {
    /// For example `"content":[],"isError":false`.
    pub members: Vec<u8>,
    /// Members of `_meta`, or nothing.
    pub meta: Vec<u8>,
}

/// A handler's outcome.
pub(super) type Outcome = Result<Rendered, RpcError>;

impl Rendered {
    /// How many bytes it holds.
    pub fn size(&self) -> usize {
        self.members.len() + self.meta.len()
    }

    /// Whether it is the result of a tool that failed.
    pub fn is_error(&self) -> bool {
        let whole = [b"{", &self.members[..], b"}"].concat();
        Value::new(&whole).get("isError").and_then(Value::as_bool) == Some(true)
    }

    /// The whole result object.
    pub fn whole(self, version: Version, modern_tail: &[u8]) -> ResultObject {
        let mut closing = Vec::with_capacity(self.meta.len() + modern_tail.len() + 16);
        close_result(&mut closing, version, &self.meta, modern_tail);
        ResultObject { opening: opening(version), members: self.members, closing }
    }

    /// Appends the whole result object.
    pub fn write(&self, out: &mut Vec<u8>, version: Version, modern_tail: &[u8]) {
        open_result(out, version);
        out.extend_from_slice(&self.members);
        close_result(out, version, &self.meta, modern_tail);
    }
}
