//! The registry as operators change it, with real cores that own what operators do not.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use axum::http::HeaderMap;

use super::openapi::Document;
use super::registry_rig::{Cores, keep};
use super::rig::{alone, until};
use crate::boot::OnCore;
use crate::boot::administered::Administered;
use crate::control::{Condition, Desk, NotChanged, Sent};
use crate::limits::REGISTRY_WRITE_LIMIT_NS_DEFAULT;
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

/// The rest of the API is asked by `tests/wire/described.rs`: only here there are servers to bind to.
#[test]
fn answers_about_bindings_are_what_the_document_says() {
    let folder = tempfile::tempdir().expect("a place for a socket");
    let socket = folder.path().join("admin.sock");
    let control = format!("socket = \"{}\"", socket.display());
    let cores = Cores::administered(2, 16, REGISTRY_WRITE_LIMIT_NS_DEFAULT, &control);
    cores.on(1, async |core: OnCore| {
        let owner = core.registry().owner().expect("room");
        core.registry().register_server(&owner, "s", b"").await.expect("free");
        core.registry().register_server(&owner, "other", b"").await.expect("free");
        core.registry().register_transport(&owner, "theirs", b"", Some("s")).await.expect("free");
        keep("o", owner);
    });
    let (document, seen) = (Document::read(), RefCell::new(BTreeSet::new()));
    let ask = |method: &str, target: &str, condition: &str, body: &str| {
        let mut stream = UnixStream::connect(&socket).expect("it listens");
        let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{condition}");
        write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).expect("it is read");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let body = serde_json::from_str(body).expect("JSON");
        let answered = document.hold(method, target, status, &body).expect("an operation of the document");
        seen.borrow_mut().insert(answered.clone());
        (answered, body)
    };
    let (any, new) = ("If-Match: *\r\n", "If-None-Match: *\r\n");
    let (own, theirs) = ("/admin/v1/bindings/own", "/admin/v1/bindings/theirs");
    for (method, target, condition, body, answered) in [
        ("PUT", "/admin/v1/transports/own", "", "{\"server\":\"s\"}", "put /admin/v1/transports/{name} 201"),
        ("GET", "/admin/v1/transports/theirs", "", "", "get /admin/v1/transports/{name} 200"),
        ("GET", own, "", "", "get /admin/v1/bindings/{transport} 200"),
        ("PUT", own, any, "{\"server\":\"other\"}", "put /admin/v1/bindings/{transport} 200"),
        ("DELETE", theirs, any, "", "delete /admin/v1/bindings/{transport} 200"),
        ("PUT", theirs, new, "{\"server\":\"other\"}", "put /admin/v1/bindings/{transport} 201"),
        ("PUT", theirs, new, "{\"server\":\"s\"}", "put /admin/v1/bindings/{transport} 412"),
    ] {
        assert_eq!(ask(method, target, condition, body).0, answered);
    }
    let asked = |answer: &String| answer.contains("/bindings/{") && !seen.borrow().contains(answer);
    assert_eq!(document.answers().into_iter().find(asked), None, "all that is described of bindings was asked");
    let (_, bindings) = ask("GET", "/admin/v1/bindings", "", "");
    assert_eq!(bindings["bindings"].as_array().map(Vec::len), Some(2), "{bindings}");
    let routed = cores.begin(0, async |core: OnCore| core.registry().route_to_transport("own", "s", b"{}").await);
    let mut taken = serde_json::Value::Null;
    until("it came", || {
        taken = ask("POST", "/admin/v1/messages", "", "").1;
        taken["messages"].as_array().is_some_and(|messages| !messages.is_empty())
    });
    assert_eq!(taken["messages"], serde_json::json!([{"transport": "own", "from": "s", "message": "{}"}]));
    assert_eq!(routed.recv_timeout(Duration::from_secs(5)), Ok(Ok(())));
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
