//! `/admin/v1/servers/{name}/pins`: how the tools of a server differ from what is pinned, and approving what they are
//! now.
//!
//! Not here: what is pinned (`boot` keeps it, behind `PinDesk`). Invariant: what is approved is what whoever approves
//! has looked at: a change names, by the tag, the state that it is a change of.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admin::{Door, Refused, may_change, refused};
use super::condition::quoted;
use super::http::Shown;
use super::servers::no_such_server;

/// Where pins are kept, as the API needs it. Looking takes a moment; approving may wait for a disk.
pub trait PinDesk: Send + Sync {
    /// How the tools of a server stand.
    fn standing(&self, server: &str) -> Standing;

    /// From now on tools of a server are to be what they are: these, or all. `tag` is that of the state they are taken
    /// from; none for whichever it is.
    ///
    /// # Errors
    /// If nothing was changed.
    fn approve(&self, server: &str, tools: Option<&[String]>, tag: Option<&str>) -> Result<Approved, NotApproved>;
}

/// How the tools of a server stand.
#[derive(Clone, Debug)]
pub struct Standing {
    /// What happens when it changes a tool: `off`, `warn` or `quarantine`.
    pub policy: &'static str,
    /// How many are pinned.
    pub pinned: usize,
    /// Those that are something else.
    pub changed: Vec<Difference>,
    /// Stands for all of this; another if there is another change.
    pub tag: String,
}

/// A tool that is not what is pinned.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The server's own name for it.
    pub tool: String,
    /// What differs, in words.
    pub differing: String,
    /// What is pinned.
    pub pinned: Definition,
    /// What was seen last.
    pub seen: Definition,
}

/// What a tool is.
#[derive(Clone, Debug)]
pub struct Definition {
    /// SHA-256 of its canonical form, in hex digits.
    pub sha256: String,
    /// The canonical form; none if it was too large to be kept.
    pub text: Option<Arc<str>>,
}

/// What was approved.
#[derive(Clone, Debug)]
pub struct Approved {
    /// The tools, and the hashes of what they are.
    pub tools: Vec<(String, String)>,
    /// How the server's tools stand since.
    pub tag: String,
}

/// Why nothing was approved.
#[derive(Clone, Debug)]
pub enum NotApproved {
    /// The tag is of another state than this.
    Changed(String),
    /// The file could not be written.
    File(String),
    /// One of the tools is not changed; those that are.
    Same(String, Vec<String>),
    /// What this tool is was too large to be kept, so nobody can have looked at it.
    TooLarge(String),
}

/// As it stands beside a server's other figures.
pub(super) fn summary(shown: &Shown, server: &str) -> Value {
    let Some(pins) = &shown.pins else { return json!({ "policy": "off", "pinned": 0, "changed": [] }) };
    let standing = pins.standing(server);
    let changed: Vec<&str> = standing.changed.iter().map(|difference| &*difference.tool).collect();
    json!({ "policy": standing.policy, "pinned": standing.pinned, "changed": changed })
}

fn described(definition: &Definition) -> Value {
    // As a text within the text: its hash is that of these bytes, and no reader makes another value of it.
    json!({ "sha256": definition.sha256, "definition": definition.text.as_deref() })
}

fn is_there(shown: &Shown, server: &str) -> Result<(), Refused> {
    match shown.registry.servers().iter().any(|row| *row.name == *server) {
        true => Ok(()),
        false => Err(no_such_server(shown)),
    }
}

pub(super) async fn pins(State(shown): State<Arc<Shown>>, Path(server): Path<String>) -> Result<Response, Refused> {
    is_there(&shown, &server)?;
    let Some(desk) = &shown.pins else { return Err(unkept()) };
    let standing = desk.standing(&server);
    let changed: Vec<Value> = standing
        .changed
        .iter()
        .map(|difference| {
            json!({
                "tool": difference.tool,
                "differing": difference.differing,
                "pinned": described(&difference.pinned),
                "seen": described(&difference.seen),
            })
        })
        .collect();
    let body = json!({
        "server": server, "policy": standing.policy, "pinned": standing.pinned, "changed": changed, "tag": standing.tag,
    });
    Ok(([(header::ETAG, quoted(&standing.tag))], Json(body)).into_response())
}

fn unkept() -> Refused {
    refused(StatusCode::NOT_FOUND, json!({ "error": "this process pins no tools" }))
}

/// The tools that a body names; none for all.
fn wanted(body: &[u8]) -> Option<Option<Vec<String>>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match body.get("approve")? {
        Value::String(all) if all == "all" => Some(None),
        Value::Array(tools) => {
            tools.iter().map(|tool| Some(tool.as_str()?.to_owned())).collect::<Option<_>>().map(Some)
        }
        _ => None,
    }
}

pub(super) async fn approve(
    State(shown): State<Arc<Shown>>,
    Path(server): Path<String>,
    Extension(door): Extension<Door>,
    fields: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    may_change(door)?;
    is_there(&shown, &server)?;
    let Some(desk) = shown.pins.clone() else { return Err(unkept()) };
    let Some(tools) = wanted(&body) else {
        let what = "a body such as {\"approve\":[\"tool\"]} is needed, or {\"approve\":\"all\"}";
        return Err(refused(StatusCode::BAD_REQUEST, json!({ "error": what })));
    };
    let given = match fields.get(header::IF_MATCH).map(|given| given.to_str().unwrap_or_default()) {
        None => {
            let tag = quoted(&desk.standing(&server).tag);
            let what = json!({ "error": "If-Match is needed, with the ETag of what is to be approved", "etag": tag });
            return Err(refused(StatusCode::PRECONDITION_REQUIRED, what));
        }
        Some("*") => None,
        Some(given) => Some(given.trim_matches('"').to_owned()),
    };
    let outcome = tokio::task::spawn_blocking(move || desk.approve(&server, tools.as_deref(), given.as_deref())).await;
    match outcome {
        Ok(Ok(approved)) => {
            let tools = approved.tools.iter().map(|(tool, sha256)| json!({ "tool": tool, "sha256": sha256 }));
            let body = json!({ "approved": tools.collect::<Vec<_>>(), "tag": approved.tag });
            Ok(([(header::ETAG, quoted(&approved.tag))], Json(body)).into_response())
        }
        Ok(Err(why)) => Err(not_approved(why)),
        Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": "approving failed" }))),
    }
}

fn not_approved(why: NotApproved) -> Refused {
    match why {
        NotApproved::Changed(tag) => {
            let what = json!({ "error": "it changed meanwhile; look at it and try again", "etag": quoted(&tag) });
            refused(StatusCode::PRECONDITION_FAILED, what)
        }
        NotApproved::File(why) => {
            let error = format!("nothing was approved, because gateway.pins could not be written: {why}");
            refused(StatusCode::INSUFFICIENT_STORAGE, json!({ "error": error }))
        }
        NotApproved::Same(tool, changed) => {
            let error = match changed.is_empty() {
                true => format!("tool {tool} has not changed, and no other has"),
                false => format!("tool {tool} has not changed; changed have {}", changed.join(", ")),
            };
            refused(StatusCode::NOT_FOUND, json!({ "error": error, "changed": changed }))
        }
        NotApproved::TooLarge(tool) => {
            let error = format!(
                "what tool {tool} is now was too large to be kept, so nobody can have looked at it; have its server \
                 say less, or hide it with tools.exclude"
            );
            refused(StatusCode::CONFLICT, json!({ "error": error }))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_body_names_tools_or_all() {
        let wanted = |body: &str| super::wanted(body.as_bytes());
        assert_eq!(wanted(r#"{"approve":"all"}"#), Some(None));
        assert_eq!(wanted(r#"{"approve":["a","b"]}"#), Some(Some(vec!["a".to_owned(), "b".to_owned()])));
        for wrong in ["", "{}", r#"{"approve":"some"}"#, r#"{"approve":[1]}"#, r#"{"approve":true}"#, "[]"] {
            assert_eq!(wanted(wrong), None, "{wrong}");
        }
    }
}
