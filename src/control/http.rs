//! What the control address answers: `/healthz`, `/readyz`, `/metrics`, `/admin/v1` (in `admin`), and 404 for all else.
//!
//! No message of a client's passes here. Invariant: every request, to a known path or not, passes
//! `guard` first, so that no web page can reach this address under a name of its own.

use super::admin::{self, DeskCell, Door, Reload};
use super::limits::Limits;
use super::pins::PinDesk;
use super::rates::Rates;
use super::servers::ServerDesk;
use super::zones::Watched;
use super::{Health, HealthReport};
use crate::metrics::{Registry, write_counter};
use crate::proto::http1::HostRules;
use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use std::sync::Arc;

/// What the handlers read.
pub(super) struct Shown {
    pub(super) registry: Arc<Registry>,
    pub(super) rates: Rates,
    pub(super) zones: Watched,
    pub(super) limits: Limits,
    pub(super) health: Health,
    pub(super) hosts: HostRules,
    pub(super) desk: DeskCell,
    pub(super) reload: Option<Reload>,
    pub(super) pins: Option<Arc<dyn PinDesk>>,
    pub(super) servers: Option<Arc<dyn ServerDesk>>,
}

const PATHS: [&str; 3] = ["/healthz", "/readyz", "/metrics"];

/// The routes by TCP, behind the guard.
pub(super) fn routes(shown: Arc<Shown>) -> Router {
    let guarded = from_fn_with_state(Arc::clone(&shown), guard);
    all(Door::Tcp).layer(guarded).with_state(shown)
}

/// The routes by the Unix socket, where whoever is let in has shown who it is.
pub(super) fn local_routes(shown: Arc<Shown>) -> Router {
    all(Door::Unix).with_state(shown)
}

fn all(door: Door) -> Router<Arc<Shown>> {
    Router::new()
        .route(PATHS[0], get(healthz))
        .route(PATHS[1], get(readyz))
        .route(PATHS[2], get(metrics))
        .merge(admin::routes())
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(Extension(door))
}

/// Refuses requests that name a host or come from an origin that is not ours.
async fn guard(State(shown): State<Arc<Shown>>, request: Request, next: Next) -> Response {
    match refusal(&shown.hosts, &request) {
        Some((status, reason)) => (status, Json(json!({ "error": reason }))).into_response(),
        None => next.run(request).await,
    }
}

fn refusal(hosts: &HostRules, request: &Request) -> Option<(StatusCode, &'static str)> {
    let Some(host) = only(request.headers(), header::HOST) else {
        return Some((StatusCode::BAD_REQUEST, "exactly one Host is needed"));
    };
    let absolute = request.uri().authority().map(|authority| authority.as_str());
    if absolute.is_some_and(|authority| !authority.eq_ignore_ascii_case(host)) {
        return Some((StatusCode::BAD_REQUEST, "the request target and Host name different hosts"));
    }
    if hosts.check_host(host.as_bytes()).is_err() {
        return Some((StatusCode::FORBIDDEN, "this Host is not one of control.allowed_hosts"));
    }
    if !request.headers().contains_key(header::ORIGIN) {
        return None;
    }
    let origin = only(request.headers(), header::ORIGIN);
    let ours = origin.is_some_and(|origin| hosts.is_own_origin(origin.as_bytes()));
    (!ours).then_some((StatusCode::FORBIDDEN, "this Origin is not one of control.allowed_hosts"))
}

/// The value of a field that stands exactly once.
fn only(fields: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

async fn healthz(State(shown): State<Arc<Shown>>) -> (StatusCode, Json<Value>) {
    let report = shown.health.report(&shown.registry);
    answer(&shown, report.alive, &report)
}

async fn readyz(State(shown): State<Arc<Shown>>) -> (StatusCode, Json<Value>) {
    let report = shown.health.report(&shown.registry);
    answer(&shown, report.ready, &report)
}

fn answer(shown: &Shown, well: bool, report: &HealthReport) -> (StatusCode, Json<Value>) {
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let cores: Vec<_> = report.cores.iter().map(|state| state.label()).collect();
    let zone = shown.zones.worst().label();
    (
        status,
        Json(json!({
            "ok": well, "draining": report.draining, "cores": cores, "alarmed_shards": report.alarmed_shards,
            "admission_closed": report.admission_closed, "zone": zone,
        })),
    )
}

async fn metrics(State(shown): State<Arc<Shown>>) -> impl IntoResponse {
    let mut text = String::with_capacity(64 * 1024);
    shown.registry.export_prometheus(&mut text);
    if let Some(lines) = super::log::lines_dropped() {
        let help = "Lines of the log that found no room to wait for being written.";
        write_counter(&mut text, "corelane_log_lines_dropped_total", help, lines as u64);
    }
    shown.zones.export_prometheus(&mut text);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

async fn not_found() -> (StatusCode, Json<Value>) {
    let own = PATHS.into_iter().map(|path| format!("GET {path}"));
    let paths: Vec<String> = own.chain(admin::ROUTES.iter().map(ToString::to_string)).collect();
    (StatusCode::NOT_FOUND, Json(json!({ "error": "no such path", "paths": paths })))
}

async fn method_not_allowed() -> (StatusCode, Json<Value>) {
    let error = "this method is not answered here; /admin/v1/openapi.json says which are";
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "error": error })))
}
