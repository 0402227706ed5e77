//! The registry as operators change it, with real cores that own what operators do not.

use std::time::Duration;

use axum::http::HeaderMap;

use super::registry_rig::{Cores, keep};
use super::rig::{alone, until};
use crate::boot::OnCore;
use crate::boot::administered::Administered;
use crate::control::{Condition, Desk, NotChanged, Sent};
use crate::shard::registry::{Kind, Refusal};

fn condition(field: &'static str, value: &str) -> Condition {
    let mut fields = HeaderMap::new();
    fields.insert(field, value.parse().expect("a value"));
    Condition::of(&fields)
}

#[test]
fn operators_change_bindings_and_only_their_own_transports() {
    let cores = Cores::start(2, 16);
    let desk = Administered::new(cores.registry.clone());
    assert!(!desk.has_own());
    let (any, new) = (condition("If-Match", "*"), condition("If-None-Match", "*"));
    cores.on(1, async |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        core.registry().register_server(&owner, "s", b"").await.expect("free");
        core.registry().register_server(&owner, "other, one", b"").await.expect("free");
        core.registry().register_transport(&owner, "theirs", b"", Some("s")).await.expect("free");
        keep("o", owner);
    });
    assert_eq!(desk.register_transport("own", Some("none")), Err(Refusal::Unknown(Kind::Server).into()));
    assert!(desk.register_transport("own", Some("s")).is_ok_and(|done| done.applied && done.is_new));
    assert!(desk.has_own());
    assert_eq!(desk.register_transport("own", None), Err(Refusal::AlreadyRegistered(Kind::Transport).into()));
    assert_eq!(desk.register_transport("theirs", None), Err(Refusal::AlreadyRegistered(Kind::Transport).into()));
    let shown = desk.transport("theirs").expect("there");
    assert_eq!((&*shown.owned_by, shown.is_administered, shown.server.as_deref()), ("core 1", false, Some("s")));
    assert_eq!(&*desk.transport("own").expect("there").owned_by, "administration");

    // A core's own stays, whatever is asked; its binding is the operator's to change.
    let foreign = desk.unregister_transport("theirs", &any);
    assert!(matches!(foreign, Err(NotChanged::Foreign { ref owned_by, .. }) if owned_by == "core 1"), "{foreign:?}");
    assert!(matches!(desk.bind("theirs", "other, one", &new), Err(NotChanged::Unmet(_))));
    assert!(matches!(desk.bind("theirs", "other, one", &condition("If-Match", "\"t\"")), Err(NotChanged::Unmet(_))));
    let bound = desk.bind("theirs", "other, one", &condition("If-Match", "\"s\"")).expect("that is what it was");
    assert_eq!((bound.is_new, &*bound.tag), (false, "other%2C%20one"));
    assert_eq!(desk.server_of("theirs").as_deref(), Ok("other, one"));
    assert!(matches!(desk.unbind("theirs", &condition("If-Match", "\"s\"")), Err(NotChanged::Unmet(_))));
    assert!(desk.unbind("theirs", &condition("If-Match", "\"other%2C%20one\"")).is_ok());
    assert_eq!(desk.unbind("theirs", &any), Err(Refusal::NotBound.into()));
    assert!(desk.bind("theirs", "s", &new).is_ok_and(|bound| bound.is_new));

    // What is sent to an operator's transport can be read; who sends hears of it once the port is attended to.
    let routed = cores.begin(0, async |core: OnCore| core.registry().route_to_transport("own", "s", b"{}").await);
    let mut taken = Vec::new();
    until("it came", || {
        desk.attend();
        taken.extend(desk.take_messages(10));
        !taken.is_empty()
    });
    assert_eq!(taken, [Sent { transport: "own".into(), from: "s".into(), text: "{}".into() }]);
    desk.attend();
    assert_eq!(routed.recv_timeout(Duration::from_secs(5)), Ok(Ok(())));
    assert!(desk.unregister_transport("own", &any).is_ok());
    assert_eq!(desk.unregister_transport("own", &any), Err(Refusal::Unknown(Kind::Transport).into()));
    cores.end();
}

#[test]
fn what_operators_registered_outlives_a_core() {
    alone("administered::what_operators_registered_outlives_a_core", || {
        let cores = Cores::start(2, 16);
        let desk = Administered::new(cores.registry.clone());
        let names: Vec<String> = (0..32).map(|n| format!("t{n}")).collect();
        cores.on(0, async |core: OnCore| {
            let owner = core.registry().owner().expect("room");
            core.registry().register_server(&owner, "s", b"").await.expect("free");
            keep("o", owner);
        });
        for name in &names {
            desk.register_transport(name, None).expect("free");
        }
        std::panic::set_hook(Box::new(|_| ()));
        cores.running.kill(1);
        until("the port hears of it", || cores.registry.losses() > 0);
        until("the successor is ready", || cores.running.health.is_ready());
        let lost = names.iter().filter(|name| desk.transport(name).is_err()).count();
        drop(std::panic::take_hook());
        assert!(lost > 0, "some of them lay on the core that died");
        until("all are there again", || {
            desk.attend();
            names.iter().all(|name| desk.transport(name).is_ok_and(|shown| shown.is_administered))
        });
        cores.end();
    });
}
