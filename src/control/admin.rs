//! The administration API, `/admin/v1`: what servers, sessions, shards and transports there are, and the few things
//! that may be changed.
//!
//! Not here: who may come in (`http::guard` by TCP, peer credentials on the Unix socket). Invariant: what changes
//! something is answered on the Unix socket only; no request says what is run.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::condition::{Condition, quoted};
use super::http::Shown;
use super::transports::{NotChanged, Sent, TransportShown, Written};
use super::{limits, pins, rates, servers, transports, zones};
use crate::limits::ADMIN_BODY_BYTES_MAX;
use crate::metrics::Metric;
use crate::shard::registry::{Admission, ContentionStatus, Refusal, ShardStatistics};

/// The document that describes this API, for machines.
const OPENAPI: &str = include_str!("openapi.json");

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
    /// # Errors
    /// If there is none, or a core does not answer.
    fn transport(&self, transport: &str) -> Result<TransportShown, Refusal>;
    /// # Errors
    /// If nothing was changed.
    fn register_transport(&self, transport: &str, server: Option<&str>) -> Result<Written, NotChanged>;
    /// # Errors
    /// If nothing was changed.
    fn unregister_transport(&self, transport: &str, condition: &Condition) -> Result<Written, NotChanged>;
    /// # Errors
    /// If nothing was changed.
    fn bind(&self, transport: &str, server: &str, condition: &Condition) -> Result<Written, NotChanged>;
    /// # Errors
    /// If nothing was changed.
    fn unbind(&self, transport: &str, condition: &Condition) -> Result<Written, NotChanged>;
    /// Whether anything was registered by request. Waits for nothing.
    fn has_own(&self) -> bool;
    /// Looks after what was registered by request; to be called now and then while there is some.
    fn attend(&self);
    /// The oldest messages for transports that were registered by request.
    fn take_messages(&self, most: usize) -> Vec<Sent>;
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

/// A path, the methods that are answered there, and by whom.
pub(super) struct Route {
    path: &'static str,
    methods: &'static [&'static str],
    answers: fn() -> MethodRouter<Arc<Shown>>,
}

/// Shows as `GET|PUT /path`.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.methods.join("|").to_ascii_uppercase(), self.path)
    }
}

macro_rules! routes {
    ($($path:literal => $($method:ident $answer:path),+;)+) => {
        &[$(Route {
            path: $path,
            methods: &[$(stringify!($method)),+],
            answers: || MethodRouter::new()$(.$method($answer))+,
        },)+]
    };
}

/// The whole API.
pub(super) const ROUTES: &[Route] = routes! {
    "/admin/v1/servers" => get servers::servers;
    "/admin/v1/servers/{name}" => get servers::server, put servers::register, delete servers::unregister;
    "/admin/v1/servers/{name}/pins" => get pins::pins, post pins::approve;
    "/admin/v1/sessions" => get sessions;
    "/admin/v1/shards" => get shards;
    "/admin/v1/shards/reset" => post reset;
    "/admin/v1/contention" => get contention;
    "/admin/v1/admission" => get admission, put set_admission;
    "/admin/v1/transports" => get transports::transports;
    "/admin/v1/transports/{name}" =>
        get transports::transport, put transports::register, delete transports::unregister;
    "/admin/v1/bindings" => get transports::bindings;
    "/admin/v1/bindings/{transport}" => get transports::binding, put transports::bind, delete transports::unbind;
    "/admin/v1/messages" => post transports::take_messages;
    "/admin/v1/reload" => post reload;
    "/admin/v1/zones" => get zones::zones;
    "/admin/v1/limits" => get limits::limits;
    "/admin/v1/openapi.json" => get openapi;
};

pub(super) fn routes() -> Router<Arc<Shown>> {
    let bounded = DefaultBodyLimit::max(ADMIN_BODY_BYTES_MAX);
    let router = ROUTES.iter().fold(Router::new(), |router, route| router.route(route.path, (route.answers)()));
    router.layer(bounded).layer(map_response(with_retry))
}

async fn openapi() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI)
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
pub(super) async fn ask<T: Send + 'static, E: Into<Refused> + Send + 'static>(
    shown: &Arc<Shown>,
    question: impl FnOnce(&dyn Desk) -> Result<T, E> + Send + 'static,
) -> Result<T, Refused> {
    let desk = Arc::clone(&shown.desk);
    let answer = tokio::task::spawn_blocking(move || desk.get().map(|desk| question(&**desk))).await;
    match answer {
        Ok(Some(answer)) => answer.map_err(E::into),
        Ok(None) | Err(_) => {
            Err(refused(StatusCode::SERVICE_UNAVAILABLE, json!({ "error": "the cores are not there yet" })))
        }
    }
}

/// What is refused for now says when it may be tried again.
async fn with_retry(mut answer: Response) -> Response {
    if answer.status() == StatusCode::SERVICE_UNAVAILABLE {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// A no, and why.
pub(super) type Refused = (StatusCode, Json<Value>);

pub(super) fn refused(status: StatusCode, what: Value) -> Refused {
    (status, Json(what))
}

/// A request's body, if it came whole and is not too large.
pub(super) fn whole(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Refused> {
    body.map_err(|rejection| refused(rejection.status(), json!({ "error": rejection.body_text() })))
}

async fn shards(State(shown): State<Arc<Shown>>) -> Result<Json<Value>, Refused> {
    let shards = ask(&shown, |desk| desk.shards()).await?;
    let rates = shown.rates.until(Instant::now(), &rates::counts(&shown.registry));
    let own: Vec<_> = shown.registry.shards().zip(rates).collect();
    let shown = |shard: &ShardStatistics| {
        let mut row = json!({
            "shard": shard.shard.0, "servers": shard.servers, "transports": shard.transports,
            "bindings": shard.bindings, "writes": shard.writes, "refused": shard.refused, "samples": shard.samples,
            "mean_ns": shard.mean_ns, "least_ns": shard.least_ns, "most_ns": shard.most_ns, "alarmed": shard.alarmed,
        });
        if let Some(((core, _, own), rate)) = own.get(shard.shard.index()) {
            row["core"] = json!(core.0);
            row["sessions"] = json!(own.sessions.get());
            row["connections"] = json!(own.connections.get());
            row["messages"] = json!(own.messages.get());
            row["messages_per_s"] = json!(rate);
            row["queue_depth"] = json!(own.queue_depth.get());
        }
        row
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

async fn admission(State(shown): State<Arc<Shown>>) -> Result<Response, Refused> {
    let status = ask(&shown, |desk| desk.contention()).await?;
    let body = Json(json!({ "admission": word_of(status.admission) }));
    Ok(([(header::ETAG, quoted(word_of(status.admission)))], body).into_response())
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
    // The tag of what is in force (RFC 9110, 8.8.3) is its word.
    Condition::of(&fields).judge(Some(word_of(before)))?;
    ask(&shown, move |desk| desk.set_admission(wanted)).await?;
    let body = Json(json!({ "admission": word_of(wanted) }));
    Ok(([(header::ETAG, quoted(word_of(wanted)))], body).into_response())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_describes_what_is_routed() {
        let document: Value = serde_json::from_str(OPENAPI).expect("JSON");
        let mut described = Vec::new();
        for (path, item) in document["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("methods") {
                described.push((path.as_str(), method.as_str()));
                let named = |place: &str| {
                    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
                    parameters.iter().filter(|one| one["in"] == place).count()
                };
                let place = format!("{method} {path}");
                assert_eq!(named("path"), path.matches('{').count(), "{place}: each part of the path is described");
                let responses = operation["responses"].as_object().expect("responses");
                // A change is for the Unix socket, and so may be refused.
                assert_eq!(responses.contains_key("403"), method != "get", "{place}");
                assert_eq!(responses.contains_key("428"), responses.contains_key("412"), "{place}");
                assert_eq!(named("header") > 0, responses.contains_key("412"), "{place}: conditions are described");
            }
        }
        let mut routed: Vec<(&str, &str)> = Vec::new();
        for route in ROUTES {
            routed.extend(route.methods.iter().map(|method| (route.path, *method)));
        }
        described.sort_unstable();
        routed.sort_unstable();
        assert_eq!(described, routed);
    }
}
