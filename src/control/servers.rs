//! `/admin/v1/servers`: the servers behind the gateway, how each stands, and those that are registered by request.
//!
//! Not here: what may be registered (`boot` keeps it, behind `ServerDesk`). Invariant: a server that the configuration
//! file names is changed there only.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admin::{Door, Refused, ask, may_change, refused, whole};
use super::condition::{Condition, Unmet, quoted};
use super::http::Shown;
use super::pins;
use crate::metrics::{ServerMetrics, ServerRow, ServerState};
use crate::shard::registry::Admission;

/// Said with every server that is registered by request.
const LASTS: &str = "until this process ends, over reloads of the configuration file too; to keep it, write it there";

/// Where servers are registered. A change may take as long as a name takes to resolve.
pub trait ServerDesk: Send + Sync {
    /// The servers that are registered by request, and the tag of each.
    fn registered(&self) -> Arc<BTreeMap<String, String>>;

    /// Registers the server that a JSON text describes, or changes it. Cores take it up between two turns.
    ///
    /// # Errors
    /// If nothing was changed.
    fn register(&self, name: &str, body: &[u8], condition: &Condition) -> Result<Registered, NotRegistered>;

    /// Takes a registered server out; its calls finish.
    ///
    /// # Errors
    /// If nothing was changed.
    fn unregister(&self, name: &str, condition: &Condition) -> Result<(), NotRegistered>;
}

/// What became of a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registered {
    /// The tag of how it is since.
    pub tag: String,
    /// There was none of this name.
    pub is_new: bool,
}

/// Why no server was changed. Each is told with advice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotRegistered {
    /// The configuration file names it.
    OfFile(String),
    /// What describes it is no JSON object.
    NoObject(String),
    /// It says what only the configuration file may say.
    OnlyInFile(String),
    /// There is no room for it.
    NoRoom(String),
    /// It is not there.
    Unknown(String),
    /// It is not as the request says.
    Unmet(Unmet),
    /// What is wrong with it, in the words of the configuration.
    Wrong(Vec<String>),
}

impl From<NotRegistered> for Refused {
    fn from(why: NotRegistered) -> Refused {
        let because =
            |status, refusal: &str, error: String| refused(status, json!({ "error": error, "refusal": refusal }));
        match why {
            NotRegistered::OfFile(why) => because(StatusCode::CONFLICT, "named_by_file", why),
            NotRegistered::NoObject(why) => because(StatusCode::BAD_REQUEST, "no_object", why),
            NotRegistered::OnlyInFile(why) => because(StatusCode::FORBIDDEN, "only_in_file", why),
            NotRegistered::NoRoom(why) => because(StatusCode::INSUFFICIENT_STORAGE, "no_room", why),
            NotRegistered::Unknown(why) => because(StatusCode::NOT_FOUND, "unknown", why),
            NotRegistered::Unmet(unmet) => unmet.into(),
            NotRegistered::Wrong(complaints) => {
                let error = complaints.join("\n");
                let what = json!({ "error": error, "refusal": "wrong", "complaints": complaints });
                refused(StatusCode::UNPROCESSABLE_ENTITY, what)
            }
        }
    }
}

fn described(shown: &Shown, row: &ServerRow, registered: &BTreeMap<String, String>) -> Value {
    let sum = |value: fn(&ServerMetrics) -> u64| row.cores().iter().map(|core| value(core)).sum::<u64>();
    let states: Vec<ServerState> = row.cores().iter().map(|core| core.state()).collect();
    // One core that reached it knows what it speaks.
    let state = states.iter().max_by_key(|state| **state as u8).copied().unwrap_or(ServerState::Away);
    json!({
        "name": row.name,
        "kind": row.kind,
        "reached_by": row.reached_by,
        "configured_by": if registered.contains_key(&*row.name) { "request" } else { "file" },
        "state": state.label(),
        "last_failure": last_failure(row),
        "calls": sum(|core| core.calls.get()),
        "failures": sum(|core| core.failures.get()),
        "in_flight": sum(|core| core.in_flight.get()),
        "waiting": sum(|core| core.waiting.get()),
        "reached": sum(|core| core.reached.get()),
        "lost": sum(|core| core.lost.get()),
        "connections": sum(|core| core.connections.get()),
        "tools": row.cores().iter().map(|core| core.tools.get()).max().unwrap_or(0),
        "pinning": pins::summary(shown, &row.name),
        "cores": states.iter().map(|state| state.label()).collect::<Vec<_>>(),
    })
}

/// Why a core could not reach it, or lost it; null if every core that tried reached it since.
fn last_failure(row: &ServerRow) -> Option<String> {
    row.cores().iter().map(|core| core.last_failure.get()).find(|why| !why.is_empty())
}

fn registered(shown: &Shown) -> Arc<BTreeMap<String, String>> {
    shown.servers.as_ref().map(|desk| desk.registered()).unwrap_or_default()
}

pub(super) async fn servers(State(shown): State<Arc<Shown>>) -> Json<Value> {
    let (servers, registered) = (shown.registry.servers(), registered(&shown));
    Json(json!({ "servers": servers.iter().map(|row| described(&shown, row, &registered)).collect::<Vec<_>>() }))
}

pub(super) async fn server(State(shown): State<Arc<Shown>>, Path(name): Path<String>) -> Response {
    let registered = registered(&shown);
    let servers = shown.registry.servers();
    let Some(row) = servers.iter().find(|row| *row.name == *name) else {
        return no_such_server(&shown).into_response();
    };
    let mut answer = Json(described(&shown, row, &registered)).into_response();
    // A tag is hexadecimal.
    if let Some(tag) = registered.get(&name).and_then(|tag| quoted(tag).parse().ok()) {
        answer.headers_mut().insert(header::ETAG, tag);
    }
    answer
}

pub(super) fn no_such_server(shown: &Shown) -> Refused {
    let servers = shown.registry.servers();
    let names: Vec<_> = servers.iter().map(|row| &row.name).collect();
    refused(StatusCode::NOT_FOUND, json!({ "error": "there is no such server", "servers": names }))
}

/// Has the desk do something, beside the runtime: it may wait for a name server.
async fn with_desk<T: Send + 'static>(
    shown: &Shown,
    act: impl FnOnce(&dyn ServerDesk) -> Result<T, NotRegistered> + Send + 'static,
) -> Result<T, Refused> {
    let Some(desk) = shown.servers.clone() else {
        let error = "this process has no gateway that servers could be registered with";
        return Err(refused(StatusCode::CONFLICT, json!({ "error": error })));
    };
    match tokio::task::spawn_blocking(move || act(&*desk)).await {
        Ok(done) => done.map_err(Refused::from),
        // Its panic was printed by the panic hook.
        Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": "registering failed" }))),
    }
}

pub(super) async fn register(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    fields: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Refused> {
    may_change(door)?;
    let body = whole(body)?;
    if !registered(&shown).contains_key(&name) {
        // Alarms of the registry's shards say nothing of the gateway's servers; what an operator says is meant.
        let status = ask(&shown, |desk| desk.contention()).await?;
        if status.admission == Admission::On {
            status.admits()?;
        }
    }
    let (condition, of_request) = (Condition::of(&fields), name.clone());
    let done = with_desk(&shown, move |desk| desk.register(&of_request, &body, &condition)).await?;
    let status = if done.is_new { StatusCode::CREATED } else { StatusCode::OK };
    let tag = quoted(&done.tag);
    let body = json!({ "server": name, "created": done.is_new, "etag": tag, "lasts": LASTS });
    Ok((status, [(header::ETAG, tag)], Json(body)).into_response())
}

pub(super) async fn unregister(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    Path(name): Path<String>,
    fields: HeaderMap,
) -> Result<Json<Value>, Refused> {
    may_change(door)?;
    let (condition, of_request) = (Condition::of(&fields), name.clone());
    with_desk(&shown, move |desk| desk.unregister(&of_request, &condition)).await?;
    Ok(Json(json!({ "removed": name, "calls": "those in flight finish; no other is taken" })))
}
