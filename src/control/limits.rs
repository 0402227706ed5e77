//! The limits on connections as operators see them: what they are, how much of each is taken, how often somebody was
//! refused by it; and the alert when the soft one is passed. Beside them, how many calls wait for each server.
//!
//! Not here: who is refused (`server/accept`), zones (`zones`, whose thresholds are of what tables hold). Invariant: no
//! core is asked for anything; what is shown is what cores have counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::LimitInputs;
use super::http::Shown;
use crate::ids::CoreId;
use crate::metrics::{Metric, Refusal, Registry, ServerRow, Unserved};
use crate::shard::soft::{Alert, SoftLimit};

/// What to do when the soft limit is passed, or the hard one.
const RUNBOOK: &str = "RUNBOOK.md#connections";

/// The limits, and what was said of the soft one.
#[derive(Debug)]
pub(super) struct Limits {
    inputs: LimitInputs,
    began: Instant,
    soft: Mutex<SoftLimit>,
}

impl Limits {
    pub(super) fn new(inputs: &LimitInputs, now: Instant) -> Limits {
        Limits { inputs: *inputs, began: now, soft: Mutex::new(SoftLimit::new(inputs.soft)) }
    }

    fn soft(&self) -> std::sync::MutexGuard<'_, SoftLimit> {
        self.soft.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A look, once a second.
    pub(super) fn look(&self, registry: &Registry, now: Instant) {
        let served = registry.total(Metric::ConnectionsServed);
        let beyond = registry.total(Metric::ConnectionsOverSoft);
        let alert = self.soft().look(now.saturating_duration_since(self.began), served, beyond);
        let LimitInputs { soft, hard, .. } = self.inputs;
        match alert {
            Some(Alert::Passed) => tracing::warn!(
                limit = "connections",
                value = served,
                threshold = soft,
                hard,
                beyond,
                runbook = RUNBOOK,
                "connections are beyond limits.connections_soft: {served} now, {beyond} came beyond {soft} so far; \
                 {hard} are the most"
            ),
            Some(Alert::Kept) => tracing::info!(
                limit = "connections",
                value = served,
                threshold = soft,
                hard,
                beyond,
                "connections are within limits.connections_soft again: {served} of {soft}"
            ),
            None => {}
        }
    }

    /// As `/admin/v1/limits` shows them.
    fn shown(&self, registry: &Registry) -> Value {
        let LimitInputs { soft, hard, per_core, accepts_per_s, per_peer, per_loopback } = self.inputs;
        let busiest = (0..registry.cores()).map(|core| registry.core(CoreId(core as u16)).connections_open.get()).max();
        let row = |limit: &str, key: &str, unit: &str, most: u64, cause: Refusal| {
            let (refused, cause) = (registry.refused(cause), cause.label());
            json!({
                "limit": limit, "key": key, "unit": unit, "most": most, "refused": refused, "cause": cause,
                "runbook": RUNBOOK,
            })
        };
        let mut all = row("connections", "limits.connections", "connections", hard, Refusal::ConnectionsFull);
        all["now"] = json!(registry.total(Metric::ConnectionsServed));
        all["soft"] = json!(soft);
        all["beyond_soft"] = json!(registry.total(Metric::ConnectionsOverSoft));
        all["alerted"] = json!(self.soft().is_passed());
        let (limit, key) = ("connections of a core", "limits.connections_per_core");
        let mut core = row(limit, key, "connections", per_core, Refusal::TableFull);
        core["now"] = json!(busiest.unwrap_or_default());
        let (limit, key, unit) = ("accepts", "limits.accepts_per_s", "connections a second");
        let accepts = row(limit, key, unit, accepts_per_s, Refusal::AcceptRate);
        let (limit, key) = ("connections of an address", "limits.connections_per_peer");
        let mut peer = row(limit, key, "connections", per_peer, Refusal::PeerFull);
        peer["most_of_loopback"] = json!(per_loopback);
        let servers = registry.servers();
        let servers = servers.iter().map(|server| waiting_for(server));
        let rows: Vec<Value> = [all, core, accepts, peer].into_iter().chain(servers).collect();
        json!({ "limits": rows })
    }
}

/// How many calls wait for a server, on the core where they are most, and how many were not sent to it on all.
fn waiting_for(server: &ServerRow) -> Value {
    let cores = || server.cores().iter();
    let unserved = |cause: Unserved| cores().map(|core| core.unserved(cause)).sum::<u64>();
    let causes = Unserved::ALL.iter().map(|cause| (cause.label(), unserved(*cause)));
    let causes: BTreeMap<&str, u64> = causes.filter(|(_, count)| *count > 0).collect();
    // The one that is seen most says what to do.
    let most_seen =
        causes.iter().max_by_key(|(_, count)| **count).map_or(Unserved::QueueCalls.label(), |(cause, _)| cause);
    json!({
        "limit": format!("calls waiting for server {}", server.name),
        "key": format!("servers.{}.queue_calls", server.name),
        "unit": "calls",
        "now": cores().map(|core| core.waiting.get()).max(),
        "most": cores().map(|core| core.waiting_most.get()).max(),
        "refused": causes.values().sum::<u64>(),
        "cause": most_seen,
        "causes": causes,
        "alerted": cores().any(|core| core.overloaded.get() > 0),
        "runbook": "RUNBOOK.md#calls",
    })
}

/// `GET /admin/v1/limits`.
pub(super) async fn limits(State(shown): State<Arc<Shown>>) -> Json<Value> {
    Json(shown.limits.shown(&shown.registry))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_limit_is_shown_with_what_is_taken_and_who_was_refused() {
        let (registry, now) = (Registry::new(2), Instant::now());
        let limits = Limits::new(
            &LimitInputs { soft: 150, hard: 200, per_core: 500, accepts_per_s: 100, per_peer: 9, per_loopback: None },
            now,
        );
        let alerted = |limits: &Limits| limits.shown(&registry)["limits"][0]["alerted"].clone();
        limits.look(&registry, now);
        assert_eq!(alerted(&limits), json!(false));
        for (core, served) in [(0, 120), (1, 80)] {
            let core = registry.core(CoreId(core));
            core.connections_served.add(served);
            core.connections_open.add(served + 3);
            core.connections_over_soft.add(25);
            core.refuse(Refusal::ConnectionsFull);
        }
        limits.look(&registry, now + Duration::from_secs(1));
        let shown = limits.shown(&registry);
        let all = &shown["limits"][0];
        assert_eq!((&all["now"], &all["soft"], &all["most"]), (&json!(200), &json!(150), &json!(200)), "{shown}");
        assert_eq!((&all["refused"], &all["beyond_soft"], &all["alerted"]), (&json!(2), &json!(50), &json!(true)));
        let core = &shown["limits"][1];
        assert_eq!((&core["now"], &core["most"], &core["refused"]), (&json!(123), &json!(500), &json!(0)), "{shown}");
        assert_eq!((&shown["limits"][2]["most"], &shown["limits"][3]["most"]), (&json!(100), &json!(9)));
        registry.core(CoreId(0)).connections_served.sub(100);
        limits.look(&registry, now + Duration::from_secs(2));
        assert_eq!(alerted(&limits), json!(false));
    }
}
