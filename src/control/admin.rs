//! The administration API, `/admin/v1`: what servers, sessions, shards and transports there are, and the few things
//! that may be changed.
//!
//! Not here: who may come in (`http::guard` by TCP, peer credentials on the Unix socket). Invariant: what changes
//! something is answered on the Unix socket only; no request says what is run.

use std::sync::{Arc, OnceLock};

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::http::Shown;
use super::pins;
use crate::metrics::{Metric, ServerMetrics, ServerRow, ServerState};
use crate::shard::registry::{Admission, ContentionStatus, Refusal, ShardStatistics};

/// The document that describes this API, for machines.
const OPENAPI: &str = include_str!("openapi.json");
/// Most transports that `/bindings` looks up.
const BINDINGS_MAX: usize = 1000;

/// What the API asks the registry. Each call may take as long as the registry's answers do: two seconds at most.
#[allow(missing_docs, reason = "each does what it says")]
pub trait Desk: Send + Sync {
    /// # Errors
    /// If a core does not answer.
    fn shards(&self) -> Result<Vec<ShardStatistics>, Refusal>;
    /// # Errors
    /// If a core does not answer.
    fn contention(&self) -> Result<ContentionStatus, Refusal>;
    /// # Errors
    /// If a core does not answer.
    fn reset(&self) -> Result<(), Refusal>;
    /// # Errors
    /// If a core does not answer.
    fn set_admission(&self, admission: Admission) -> Result<(), Refusal>;
    /// # Errors
    /// If a core does not answer.
    fn transports(&self) -> Result<Vec<String>, Refusal>;
    /// # Errors
    /// If it is bound to none, or a core does not answer.
    fn server_of(&self, transport: &str) -> Result<String, Refusal>;
}

/// The registry's desk, once the cores are there.
pub type DeskCell = Arc<OnceLock<Box<dyn Desk>>>;

/// Reads the configuration again: what changed, or why it stays as it was. May take as long as a name takes to resolve.
pub type Reload = Arc<dyn Fn() -> Result<String, String> + Send + Sync>;

/// By which door a request came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Door {
    /// The control address: for looking only.
    Tcp,
    /// The Unix socket: for changes as well.
    Unix,
}

/// The routes of the API.
pub(super) const PATHS: [&str; 12] = [
    "/admin/v1/servers",
    "/admin/v1/servers/{name}",
    "/admin/v1/sessions",
    "/admin/v1/shards",
    "/admin/v1/shards/reset",
    "/admin/v1/contention",
    "/admin/v1/admission",
    "/admin/v1/transports",
    "/admin/v1/bindings",
    "/admin/v1/openapi.json",
    "/admin/v1/reload",
    "/admin/v1/servers/{name}/pins",
];

pub(super) fn routes() -> Router<Arc<Shown>> {
    Router::new()
        .route(PATHS[0], get(servers))
        .route(PATHS[1], get(server))
        .route(PATHS[2], get(sessions))
        .route(PATHS[3], get(shards))
        .route(PATHS[4], post(reset))
        .route(PATHS[5], get(contention))
        .route(PATHS[6], get(admission).put(set_admission))
        .route(PATHS[7], get(transports))
        .route(PATHS[8], get(bindings))
        .route(PATHS[9], get(openapi))
        .route(PATHS[10], post(reload))
        .route(PATHS[11], get(pins::pins).post(pins::approve))
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
}

fn described(shown: &Shown, row: &ServerRow) -> Value {
    let sum = |value: fn(&ServerMetrics) -> u64| row.cores().iter().map(|core| value(core)).sum::<u64>();
    let states: Vec<ServerState> = row.cores().iter().map(|core| core.state()).collect();
    // One core that reached it knows what it speaks.
    let state = states.iter().max_by_key(|state| **state as u8).copied().unwrap_or(ServerState::Away);
    json!({
        "name": row.name,
        "kind": row.kind,
        "reached_by": row.reached_by,
        "state": state.label(),
        "calls": sum(|core| core.calls.get()),
        "failures": sum(|core| core.failures.get()),
        "in_flight": sum(|core| core.in_flight.get()),
        "waiting": sum(|core| core.waiting.get()),
        "reached": sum(|core| core.reached.get()),
        "lost": sum(|core| core.lost.get()),
        "tools": row.cores().iter().map(|core| core.tools.get()).max().unwrap_or(0),
        "pinning": pins::summary(shown, &row.name),
        "cores": states.iter().map(|state| state.label()).collect::<Vec<_>>(),
    })
}

async fn servers(State(shown): State<Arc<Shown>>) -> Json<Value> {
    let servers = shown.registry.servers();
    Json(json!({ "servers": servers.iter().map(|row| described(&shown, row)).collect::<Vec<_>>() }))
}

async fn server(State(shown): State<Arc<Shown>>, Path(name): Path<String>) -> Response {
    match shown.registry.servers().iter().find(|row| *row.name == *name) {
        Some(row) => Json(described(&shown, row)).into_response(),
        None => no_such_server(&shown).into_response(),
    }
}

pub(super) fn no_such_server(shown: &Shown) -> Refused {
    let servers = shown.registry.servers();
    let names: Vec<_> = servers.iter().map(|row| &row.name).collect();
    refused(StatusCode::NOT_FOUND, json!({ "error": "there is no such server", "servers": names }))
}

async fn sessions(State(shown): State<Arc<Shown>>) -> Json<Value> {
    let cores: Vec<Value> = (0..shown.registry.cores())
        .map(|core| {
            let core = shown.registry.core(crate::ids::CoreId(core as u16));
            json!({
                "sessions": core.value(Metric::SessionsOpen),
                "connections": core.value(Metric::ConnectionsOpen),
                "calls_in_flight": core.value(Metric::CallsInFlight),
            })
        })
        .collect();
    Json(json!({
        "sessions": shown.registry.total(Metric::SessionsOpen),
        "connections": shown.registry.total(Metric::ConnectionsOpen),
        "calls_in_flight": shown.registry.total(Metric::CallsInFlight),
        "cores": cores,
    }))
}

/// Asks the registry, beside the runtime: it may wait for cores.
async fn ask<T: Send + 'static>(
    shown: &Arc<Shown>,
    question: impl FnOnce(&dyn Desk) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refused> {
    let desk = Arc::clone(&shown.desk);
    let answer = tokio::task::spawn_blocking(move || desk.get().map(|desk| question(&**desk))).await;
    match answer {
        Ok(Some(Ok(answer))) => Ok(answer),
        Ok(Some(Err(refusal))) => {
            let status = match refusal {
                Refusal::Unknown(_) | Refusal::NotBound | Refusal::ShardUnknown => StatusCode::NOT_FOUND,
                _ => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(refused(status, json!({ "error": refusal.to_string() })))
        }
        Ok(None) | Err(_) => {
            Err(refused(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the cores are not there yet" })))
        }
    }
}

/// A no, and why.
pub(super) type Refused = (StatusCode, Json<Value>);

pub(super) fn refused(status: StatusCode, what: Value) -> Refused {
    (status, Json(what))
}

async fn shards(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    let shards = ask(&shown, |desk| desk.shards()).await?;
    let shown = |shard: &ShardStatistics| {
        json!({
            "shard": shard.shard.0, "servers": shard.servers, "transports": shard.transports,
            "bindings": shard.bindings, "writes": shard.writes, "refused": shard.refused, "samples": shard.samples,
            "mean_ns": shard.mean_ns, "least_ns": shard.least_ns, "most_ns": shard.most_ns, "alarmed": shard.alarmed,
        })
    };
    Ok(Json(json!({ "shards": shards.iter().map(shown).collect::<Vec<_>>() })))
}

fn contention_shown(status: ContentionStatus) -> Value {
    json!({
        "admission": word_of(status.admission), "admission_closed": status.admission_closed,
        "alarmed": status.alarmed, "shards": status.shards,
    })
}

async fn contention(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    ask(&shown, |desk| desk.contention()).await.map(|status| Json(contention_shown(status)))
}

const WORDS: [(&str, Admission); 3] = [("auto", Admission::Auto), ("on", Admission::On), ("off", Admission::Off)];

fn word_of(admission: Admission) -> &'static str {
    WORDS.iter().find(|(_, one)| *one == admission).map_or("auto", |(word, _)| word)
}

/// The tag of what is in force (RFC 9110, 8.8.3): a change says which state it is a change of.
fn tag_of(admission: Admission) -> String {
    format!("\"{}\"", word_of(admission))
}

async fn admission(State(shown): State<Arc<Shown>>) -> Result<Response, Refused> {
    let status = ask(&shown, |desk| desk.contention()).await?;
    let body = Json(json!({ "admission": word_of(status.admission) }));
    Ok(([(header::ETAG, tag_of(status.admission))], body).into_response())
}

/// Refuses a change that came by the wrong door.
pub(super) fn may_change(door: Door) -> Result<(), Refused> {
    match door {
        Door::Unix => Ok(()),
        Door::Tcp => Err(refused(
            StatusCode::FORBIDDEN,
            json!({ "error": "changes are taken on the Unix socket only; set control.socket, and `--socket` of the command" }),
        )),
    }
}

async fn set_admission(
    State(shown): State<Arc<Shown>>,
    Extension(door): Extension<Door>,
    fields: HeaderMap,
    body: axum::body::Bytes,
) -> Result<Response, Refused> {
    may_change(door)?;
    let wanted = serde_json::from_slice::<Value>(&body).ok().and_then(|body| {
        let word = body.get("admission")?.as_str()?.to_owned();
        WORDS.into_iter().find(|(known, _)| **known == *word).map(|(_, admission)| admission)
    });
    let Some(wanted) = wanted else {
        let what = json!({ "error": "a body such as {\"admission\":\"auto\"} is needed; allowed are auto, on, off" });
        return Err(refused(StatusCode::BAD_REQUEST, what));
    };
    let before = ask(&shown, |desk| desk.contention()).await?.admission;
    let tag = tag_of(before);
    match fields.get(header::IF_MATCH).map(|given| given.to_str().unwrap_or_default()) {
        None => {
            let what = json!({ "error": "If-Match is needed, with the ETag of what is to be changed", "etag": tag });
            return Err(refused(StatusCode::PRECONDITION_REQUIRED, what));
        }
        Some("*") => {}
        Some(given) if given == tag => {}
        Some(_) => {
            let what = json!({ "error": "it was changed meanwhile; look at it and try again", "etag": tag });
            return Err(refused(StatusCode::PRECONDITION_FAILED, what));
        }
    }
    ask(&shown, move |desk| desk.set_admission(wanted)).await?;
    let body = Json(json!({ "admission": word_of(wanted) }));
    Ok(([(header::ETAG, tag_of(wanted))], body).into_response())
}

async fn reset(State(shown): State<Arc<Shown>>, Extension(door): Extension<Door>) -> Result<StatusCode, Refused> {
    may_change(door)?;
    ask(&shown, |desk| desk.reset()).await.map(|()| StatusCode::NO_CONTENT)
}

async fn reload(State(shown): State<Arc<Shown>>, Extension(door): Extension<Door>) -> Result<Json<Value>, Refused> {
    may_change(door)?;
    let Some(reload) = shown.reload.clone() else {
        let error = "there is no configuration file to read again; start with --config";
        return Err(refused(StatusCode::CONFLICT, json!({ "error": error })));
    };
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(changed)) => Ok(Json(json!({ "changed": changed }))),
        Ok(Err(why)) => Err(refused(StatusCode::UNPROCESSABLE_ENTITY, json!({ "error": why }))),
        Err(_) => Err(refused(StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": "reading it again failed" }))),
    }
}

async fn transports(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    ask(&shown, |desk| desk.transports()).await.map(|names| Json(json!({ "transports": names })))
}

async fn bindings(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    let (bound, is_all) = ask(&shown, |desk| {
        let transports = desk.transports()?;
        let is_all = transports.len() <= BINDINGS_MAX;
        let server_of = |name: String| desk.server_of(&name).ok().map(|server| (name, server));
        Ok((transports.into_iter().take(BINDINGS_MAX).filter_map(server_of).collect::<Vec<_>>(), is_all))
    })
    .await?;
    let bound = bound.into_iter().map(|(transport, server)| json!({ "transport": transport, "server": server }));
    Ok(Json(json!({ "bindings": bound.collect::<Vec<_>>(), "complete": is_all })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_what_is_routed() {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let mut described: Vec<&str> =
            document["paths"].as_object().expect("paths").keys().map(String::as_str).collect();
        let mut routed = PATHS.to_vec();
        described.sort_unstable();
        routed.sort_unstable();
        assert_eq!(described, routed);
    }
}
