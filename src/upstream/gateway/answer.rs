//! A server's result as its caller should read it: what the caller's era wants in it, and the caller's names.
//!
//! Not here: whose result it is (`server`). Invariant: within an era a result is passed on byte for byte, unless names
//! in it are the gateway's.

use crate::proto::json::{Object, Value, ValueKind, splice, string};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Method, Version};
use crate::server::service::Offers;

/// A result for a caller of 2026-07-28 from a server that does not know that revision (mcp 2026-07-28, "Results":
/// `resultType` in all of them, hints for caches in those of lists and reads, and who answered).
pub fn for_modern(result: &[u8], method: Method, server_info: &[u8]) -> Vec<u8> {
    let value = Value::new(result);
    let mut out = Vec::with_capacity(result.len() + 160 + server_info.len());
    let mut object = Object::begin(&mut out);
    if value.get("resultType").is_none() {
        object.string("resultType", "complete");
    }
    if is_cacheable(method) && value.get("ttlMs").is_none() {
        // What a legacy server says may depend on the session it says it in.
        object.integer("ttlMs", 0);
        object.string("cacheScope", "private");
    }
    let mut meta = None;
    for (name, member) in value.members() {
        let Some(name) = name.unescaped() else { continue };
        if name == "_meta" {
            meta = Some(member);
        } else {
            object.raw(&name, member.raw());
        }
    }
    let mut about = object.object("_meta");
    for (name, member) in meta.into_iter().flat_map(Value::members) {
        if let Some(name) = name.unescaped() {
            about.raw(&name, member.raw());
        }
    }
    if meta.is_none_or(|meta| meta.get(SERVER_INFO).is_none()) && !server_info.is_empty() {
        about.raw(SERVER_INFO, server_info);
    }
    about.end();
    object.end();
    out
}

pub const SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// Whether results of the method say how long they may be kept.
pub fn is_cacheable(method: Method) -> bool {
    matches!(
        method,
        Method::ToolsList
            | Method::PromptsList
            | Method::ResourcesList
            | Method::ResourcesTemplatesList
            | Method::ResourcesRead
    )
}

/// An error of a server's, in the codes of its caller's era; the method is that of a call of a modern server, if it is
/// of one.
pub fn error_for(caller: Version, method: Option<Method>, text: &[u8]) -> RpcError {
    let value = Value::new(text);
    let code = value.get("code").and_then(Value::as_i64).and_then(|code| i32::try_from(code).ok());
    let code = match code.map_or(Code::INTERNAL, Code) {
        // Not-found of a resource has another code in each era (SEP-2164).
        Code::RESOURCE_NOT_FOUND if caller.is_modern() => Code::INVALID_PARAMS,
        Code::INVALID_PARAMS if !caller.is_modern() && method == Some(Method::ResourcesRead) => {
            Code::RESOURCE_NOT_FOUND
        }
        // Only 2025-11-25 knows it: in others the words and addresses are all that is left of it.
        Code::URL_ELICITATION_REQUIRED if caller != Version::V2025_11_25 => Code::INTERNAL,
        code => code,
    };
    let message = value.get("message").and_then(Value::as_str).map(|message| message.into_owned());
    let error = RpcError::new(code, message.unwrap_or_else(|| "the server answered with an error".to_owned()));
    match value.get("data").filter(|data| data.kind() != ValueKind::Malformed) {
        Some(data) => error.with_data(data.raw()),
        None => error,
    }
}

/// An error of a read, with the URI in its data (2025-11-25, "Resources: Error Handling") as its caller sees it.
pub fn of_resource(error: RpcError, before: &str) -> RpcError {
    let data = error.data.as_deref().map(Value::new);
    let uri = data.and_then(|data| data.get("uri")).and_then(Value::as_str);
    match data.zip(uri).map(|(data, uri)| renamed(data, "uri", &format!("{before}{uri}"))) {
        Some(data) => error.with_data(data),
        None => error,
    }
}

/// What a server's `capabilities` offer.
pub fn offers(capabilities: Value<'_>, modern: bool) -> Offers {
    let has = |name: &str| capabilities.get(name).is_some_and(|value| value.kind() == ValueKind::Object);
    let flag = |name: &str, member: &str| {
        capabilities.get(name).and_then(|value| value.get(member)).and_then(Value::as_bool).unwrap_or(false)
    };
    let extension =
        || capabilities.get("extensions").is_some_and(|all| all.get("io.modelcontextprotocol/tasks").is_some());
    Offers {
        tools: has("tools"),
        tools_list_changed: flag("tools", "listChanged"),
        prompts: has("prompts"),
        prompts_list_changed: flag("prompts", "listChanged"),
        resources: has("resources"),
        resources_list_changed: flag("resources", "listChanged"),
        resources_subscribe: flag("resources", "subscribe"),
        completions: has("completions"),
        logging: has("logging"),
        tasks: !modern && has("tasks"),
        tasks_extension: modern && extension(),
    }
}

/// The text of a notification's parameters with the caller's own token of progress in them.
pub fn with_token(params: Value<'_>, token: &[u8]) -> Vec<u8> {
    replaced(params, "progressToken", token)
}

/// The text of an object with one string member replaced by another string.
pub fn renamed(item: Value<'_>, member: &str, to: &str) -> Vec<u8> {
    let mut name = Vec::new();
    string(&mut name, to);
    replaced(item, member, &name)
}

/// The text of an object with another value in the place of a member's; as it is, if there is no such member.
fn replaced(object: Value<'_>, member: &str, by: &[u8]) -> Vec<u8> {
    let Some(place) = object.get(member).and_then(|old| old.span_in(object.raw())) else {
        return object.raw().to_vec();
    };
    let mut out = Vec::new();
    splice(&mut out, object.raw(), &[(place, by)]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_result_becomes_a_modern_one() {
        let text = |result: &[u8], method| String::from_utf8(for_modern(result, method, b"{}")).expect("text");
        assert_eq!(
            text(br#"{"content":[],"_meta":{"a":1}}"#, Method::ToolsCall),
            r#"{"resultType":"complete","content":[],"_meta":{"a":1,"io.modelcontextprotocol/serverInfo":{}}}"#
        );
        assert_eq!(
            text(br#"{"tools":[]}"#, Method::ToolsList),
            r#"{"resultType":"complete","ttlMs":0,"cacheScope":"private","tools":[],"_meta":{"io.modelcontextprotocol/serverInfo":{}}}"#
        );
    }

    #[test]
    fn errors_keep_what_they_say() {
        let error =
            error_for(Version::V2026_07_28, None, br#"{"code":-32002,"message":"no \"x\"","data":{"uri":"x"}}"#);
        assert_eq!((error.code, &*error.message), (Code::INVALID_PARAMS, "no \"x\""));
        assert_eq!(error.data.as_deref(), Some(&br#"{"uri":"x"}"#[..]));
        assert_eq!(of_resource(error, "s+").data.as_deref(), Some(&br#"{"uri":"s+x"}"#[..]));
        let other = error_for(Version::V2026_07_28, None, br#"{"code":1,"message":"","data":{"uri":7}}"#);
        assert_eq!(of_resource(other, "s+").data.as_deref(), Some(&br#"{"uri":7}"#[..]));
        assert_eq!(error_for(Version::V2025_11_25, None, br#"{"code":-32002,"message":""}"#).code.0, -32002);
        assert_eq!(error_for(Version::V2025_11_25, None, b"{}").code, Code::INTERNAL);
        let unknown = |caller, method| error_for(caller, Some(method), br#"{"code":-32602,"message":""}"#).code.0;
        assert_eq!(unknown(Version::V2025_11_25, Method::ResourcesRead), -32002);
        assert_eq!(unknown(Version::V2025_11_25, Method::ToolsCall), -32602);
        assert_eq!(unknown(Version::V2026_07_28, Method::ResourcesRead), -32602);
        let visit = |caller| error_for(caller, Some(Method::ToolsCall), br#"{"code":-32042,"message":""}"#).code.0;
        assert_eq!((visit(Version::V2025_11_25), visit(Version::V2025_06_18)), (-32042, -32603));
        assert_eq!(visit(Version::V2026_07_28), -32603, "2026-07-28 has no such code");
    }

    #[test]
    fn a_name_is_replaced_where_it_stands() {
        let item = Value::new(br#"{ "name" : "a\"b", "inputSchema":{"name":1} }"#);
        assert_eq!(renamed(item, "name", "s_a"), br#"{ "name" : "s_a", "inputSchema":{"name":1} }"#);
    }
}
