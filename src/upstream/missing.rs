//! Errors that say what is missing, the same from whoever answers a call: a capability of the client's, a resource.
//!
//! Not here: failures of handlers, of servers. Invariant: the client reads in `data` what its code has to know.

use crate::proto::json::Object;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Capabilities, Version};

/// What a call needs, for a sentence.
pub(super) fn needs(capabilities: Capabilities) -> &'static str {
    if capabilities.has(Capabilities::TASKS_EXTENSION) {
        "the tasks extension"
    } else if capabilities.has(Capabilities::SAMPLING_TOOLS) {
        "`sampling.tools`"
    } else if capabilities.has(Capabilities::SAMPLING_CONTEXT) {
        "`sampling.context`"
    } else if capabilities.has(Capabilities::SAMPLING) {
        "`sampling`"
    } else if capabilities.has(Capabilities::ROOTS) {
        "`roots`"
    } else if capabilities.has(Capabilities::ELICITATION_URL) {
        "`elicitation.url`"
    } else {
        "`elicitation` by form"
    }
}

/// The error for a call that needs capabilities the client did not declare, with `data.requiredCapabilities`.
pub(super) fn capability(required: Capabilities) -> RpcError {
    let mut data = Vec::new();
    let mut outer = Object::begin(&mut data);
    outer.raw("requiredCapabilities", &required.to_json());
    outer.end();
    let message = format!("Missing required client capability: this call needs {}", needs(required));
    RpcError::new(Code::MISSING_CAPABILITY, message).with_data(data)
}

/// The error for a URI nobody serves, with the URI in its `data` (SEP-2164).
pub(super) fn resource(uri: &str, version: Version) -> RpcError {
    let code = if version.is_modern() { Code::INVALID_PARAMS } else { Code::RESOURCE_NOT_FOUND };
    let mut data = Vec::new();
    let mut object = Object::begin(&mut data);
    object.string("uri", uri);
    object.end();
    RpcError::new(code, "Resource not found").with_data(data)
}
