//! `/admin/v1/transports`, `/bindings` and `/messages`: the registry's transports, those that are registered by
//! request, and what each is bound to.
//!
//! Not here: the registry, and whose a transport is (`boot`, behind `Desk`). Invariant: what is refused is told with
//! its cause; nothing is dropped silently.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::admin::{Desk, Door, Refused, ask, may_change, refused, whole};
use super::condition::{Condition, Unmet, quoted};
use super::http::Shown;
use crate::shard::registry::{Kind, Refusal};

/// Most transports that `/bindings` looks up.
const BINDINGS_MAX: usize = 1000;
/// Most messages of one answer.
const MESSAGES_MAX: usize = 100;

/// A transport of the registry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TransportShown {
    /// Whose it is: `administration`, `core N`, or the embedding `program`.
    pub owned_by: String,
    /// It was registered by request.
    pub is_administered: bool,
    /// The server that it is bound to.
    pub server: Option<String>,
    /// Stands for whose it is.
    pub tag: String,
}

/// A change of the registry that was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Every live core knows of it.
    pub applied: bool,
    /// There was none before.
    pub is_new: bool,
    /// The tag of what is there since, or was before.
    pub tag: String,
}

/// A message that came for a transport that was registered by request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// For which; empty if it was removed meanwhile.
    pub transport: String,
    /// From which server.
    pub from: String,
    /// What it says; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Why the registry was not changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotChanged {
    /// It belongs to somebody else.
    Foreign {
        /// The transport.
        transport: String,
        /// To whom.
        owned_by: String,
    },
    /// So many were registered by request, which is the most.
    NoRoom(usize),
    /// It is to be bound to a server behind the gateway.
    OfGateway(String),
    /// The registry says no.
    Refused(Refusal),
    /// It is not as the request says.
    Unmet(Unmet),
}

impl From<Refusal> for NotChanged {
    fn from(refusal: Refusal) -> NotChanged {
        NotChanged::Refused(refusal)
    }
}

impl From<Unmet> for NotChanged {
    fn from(unmet: Unmet) -> NotChanged {
        NotChanged::Unmet(unmet)
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        let status = match refusal {
            Refusal::AlreadyRegistered(_) => StatusCode::CONFLICT,
            Refusal::ConfigTooLarge { .. } | Refusal::Name { .. } => StatusCode::BAD_REQUEST,
            Refusal::NotBound | Refusal::ShardUnknown | Refusal::Unknown(_) => StatusCode::NOT_FOUND,
            Refusal::AdmissionClosed { .. }
            | Refusal::Busy
            | Refusal::InboxFull
            | Refusal::NoAnswer
            | Refusal::OwnerGone
            | Refusal::ShardFull
            | Refusal::ShardLost => StatusCode::SERVICE_UNAVAILABLE,
        };
        refused(status, json!({ "error": refusal.to_string() }))
    }
}

impl From<NotChanged> for Refused {
    fn from(why: NotChanged) -> Refused {
        match why {
            NotChanged::Foreign { transport, owned_by } => {
                let error = format!(
                    "transport {transport} belongs to {owned_by}, and ends with its owner: removed here are only those \
                     that were registered here; its binding can be removed"
                );
                refused(StatusCode::CONFLICT, json!({ "error": error, "owned_by": owned_by }))
            }
            NotChanged::NoRoom(most) => {
                let error =
                    format!("{most} transports were registered by request, and that is the most: remove one first");
                refused(StatusCode::INSUFFICIENT_STORAGE, json!({ "error": error }))
            }
            NotChanged::OfGateway(server) => {
                let error = format!(
                    "server {server} is behind the gateway, and not in the registry: calls find it by its path, and \
                     transports are bound to what programs register beside it; the two are two things"
                );
                refused(StatusCode::NOT_FOUND, json!({ "error": error }))
            }
            NotChanged::Refused(refusal) => refusal.into(),
            NotChanged::Unmet(unmet) => unmet.into(),
        }
    }
}

/// The tag of a binding: the server's name, with what has no place in a tag escaped.
pub fn tag_of_name(server: &str) -> String {
    const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b':');
    utf8_percent_encode(server, ESCAPED).to_string()
}

/// What a change is answered with.
fn written(done: &Written, mut body: Value, is_there: bool) -> Response {
    body["applied"] = done.applied.into();
    let status = if done.is_new { StatusCode::CREATED } else { StatusCode::OK };
    match is_there {
        true => (status, [(header::ETAG, quoted(&done.tag))], Json(body)).into_response(),
        false => (status, Json(body)).into_response(),
    }
}

/// The server that a body names. None if there is no body.
fn named_server(body: Result<Bytes, BytesRejection>) -> Result<Option<String>, Refused> {
    let body = whole(body)?;
    if body.is_empty() {
        return Ok(None);
    }
    let named = serde_json::from_slice::<Value>(&body).ok().and_then(|body| {
        let keys = body.as_object()?;
        Some((keys.get("server")?.as_str()?.to_owned(), keys.len()))
            .filter(|(server, keys)| !server.is_empty() && *keys == 1)
    });
    let example = || json!({ "error": "the body names a server, and nothing else: {\"server\":\"NAME\"}" });
    named.map(|(server, _)| Some(server)).ok_or_else(|| refused(StatusCode::BAD_REQUEST, example()))
}

pub(super) async fn transports(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    ask(&shown, |desk| desk.transports()).await.map(|names| Json(json!({ "transports": names })))
}

pub(super) async fn transport(State(shown): State<Arc<Shown>>, Path(name): Path<String>) -> Result<Response, Refused> {
    let asked = name.clone();
    let found = ask(&shown, move |desk| desk.transport(&asked)).await?;
    let body = json!({ "transport": name, "owned_by": found.owned_by, "server": found.server });
    Ok(([(header::ETAG, quoted(&found.tag))], Json(body)).into_response())
}

pub(super) async fn register(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    may_change(door)?;
    let (server, asked) = (named_server(body)?, name.clone());
    let bound = server.clone();
    let done = ask(&shown, move |desk| desk.register_transport(&asked, bound.as_deref())).await?;
    let body = json!({ "transport": name, "owned_by": "administration", "server": server });
    Ok(written(&done, body, true))
}

pub(super) async fn unregister(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    fields: HeaderMap,
) -> Result<Response, Refused> {
    may_change(door)?;
    let (condition, asked) = (Condition::of(&fields), name.clone());
    let done = ask(&shown, move |desk| desk.unregister_transport(&asked, &condition)).await?;
    Ok(written(&done, json!({ "removed": name }), false))
}

pub(super) async fn bindings(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    let (bound, is_all) = ask(&shown, |desk| {
        let transports = desk.transports()?;
        let is_all = transports.len() <= BINDINGS_MAX;
        let server_of = |name: String| desk.server_of(&name).ok().map(|server| (name, server));
        Ok::<_, Refusal>((transports.into_iter().take(BINDINGS_MAX).filter_map(server_of).collect::<Vec<_>>(), is_all))
    })
    .await?;
    let bound = bound.into_iter().map(|(transport, server)| json!({ "transport": transport, "server": server }));
    Ok(Json(json!({ "bindings": bound.collect::<Vec<_>>(), "complete": is_all })))
}

pub(super) async fn binding(State(shown): State<Arc<Shown>>, Path(name): Path<String>) -> Result<Response, Refused> {
    let asked = name.clone();
    let server = ask(&shown, move |desk| desk.server_of(&asked)).await?;
    let tag = quoted(&tag_of_name(&server));
    Ok(([(header::ETAG, tag)], Json(json!({ "transport": name, "server": server }))).into_response())
}

pub(super) async fn bind(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    fields: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    may_change(door)?;
    let Some(server) = named_server(body)? else {
        let error = "a body such as {\"server\":\"NAME\"} is needed: a server of the registry";
        return Err(refused(StatusCode::BAD_REQUEST, json!({ "error": error })));
    };
    let (condition, asked, to) = (Condition::of(&fields), name.clone(), server.clone());
    let is_behind_gateway = shown.registry.servers().iter().any(|row| *row.name == *to);
    let bind = move |desk: &dyn Desk| match desk.bind(&asked, &to, &condition) {
        Err(NotChanged::Refused(Refusal::Unknown(Kind::Server))) if is_behind_gateway => Err(NotChanged::OfGateway(to)),
        done => done,
    };
    let done = ask(&shown, bind).await?;
    Ok(written(&done, json!({ "transport": name, "server": server }), true))
}

pub(super) async fn unbind(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    fields: HeaderMap,
) -> Result<Response, Refused> {
    may_change(door)?;
    let (condition, asked) = (Condition::of(&fields), name.clone());
    let done = ask(&shown, move |desk| desk.unbind(&asked, &condition)).await?;
    Ok(written(&done, json!({ "unbound": name }), false))
}

pub(super) async fn take_messages(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
) -> Result<Json<Value>, Refused> {
    may_change(door)?;
    let taken = ask(&shown, |desk| Ok::<_, Refusal>(desk.take_messages(MESSAGES_MAX))).await?;
    let message = |sent: Sent| json!({ "transport": sent.transport, "from": sent.from, "message": sent.text });
    Ok(Json(json!({ "messages": taken.into_iter().map(message).collect::<Vec<_>>() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_one_server_or_is_not_there() {
        let named = |body: &'static str| named_server(Ok(Bytes::from_static(body.as_bytes()))).map_err(|why| why.0);
        assert_eq!(named(""), Ok(None));
        assert_eq!(named("{\"server\":\"s\"}"), Ok(Some("s".to_owned())));
        for wrong in ["{", "{}", "[]", "{\"server\":1}", "{\"server\":\"\"}", "{\"server\":\"s\",\"more\":1}"] {
            assert_eq!(named(wrong), Err(StatusCode::BAD_REQUEST), "{wrong}");
        }
    }

    #[test]
    fn any_name_makes_a_tag() {
        assert_eq!(tag_of_name("a-b.c:1"), "a-b.c:1");
        assert_eq!(tag_of_name("a\"b, \u{e9}*"), "a%22b%2C%20%C3%A9%2A");
    }
}
