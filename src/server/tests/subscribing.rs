//! Resources that clients subscribe to: who hears of a change, in both eras, on every core, and who no longer does.

use super::rig::{Rig, delete, get, legacy};
use crate::server::connection::Wire;
use crate::server::core::Input;
use crate::server::service::{Change, Mail};

const UPDATED: &str = "notifications/resources/updated";

fn request(method: &str, uri: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":5,"method":"resources/{method}","params":{{"uri":"{uri}"}}}}"#)
}

fn update(rig: &mut Rig, core: usize, uri: &str) {
    rig.step(core, Input::Mail(Mail::Changed(Change::Resource(uri.to_owned()))));
}

#[test]
fn a_session_hears_of_its_resources_wherever_it_is_and_they_change() {
    let mut rig = Rig::new(2);
    let home = rig.connect(0, Wire::Http);
    let session = rig.open(home);
    let stream = rig.connect(1, Wire::Http);
    rig.ask(stream, get(&session, None));
    let peer = rig.connect(1, Wire::Http);
    // Twice is once.
    for _ in 0..2 {
        assert!(rig.ask(peer, legacy(Some(&session), &request("subscribe", "a:b"))).ends_with(r#""result":{}}"#));
    }
    for core in 0..2 {
        update(&mut rig, core, "a:c");
        assert_eq!(rig.take(stream), "", "nobody asked for that one");
        update(&mut rig, core, "a:b");
        let heard = rig.take(stream);
        assert_eq!(heard.matches(UPDATED).count(), 1, "{heard}");
        assert!(heard.contains(r#""params":{"uri":"a:b"}"#), "{heard}");
    }
    assert!(rig.ask(peer, legacy(Some(&session), &request("unsubscribe", "a:b"))).ends_with(r#""result":{}}"#));
    update(&mut rig, 0, "a:b");
    assert_eq!(rig.take(stream), "");
    // What was never subscribed to can be let go.
    assert!(rig.ask(peer, legacy(Some(&session), &request("unsubscribe", "a:z"))).ends_with(r#""result":{}}"#));
}

#[test]
fn a_session_subscribes_to_so_many_resources_and_its_end_is_the_end_of_them() {
    let mut rig = Rig::new(1);
    let peer = rig.connect(0, Wire::Http);
    let session = rig.open(peer);
    for number in 0..8 {
        let answer = rig.ask(peer, legacy(Some(&session), &request("subscribe", &format!("a:{number}"))));
        assert!(answer.ends_with(r#""result":{}}"#), "{answer}");
    }
    let answer = rig.ask(peer, legacy(Some(&session), &request("subscribe", "a:8")));
    assert!(answer.contains("-32602") && answer.contains("unsubscribe from some first"), "{answer}");
    let answer = rig.ask(peer, legacy(Some(&session), &request("subscribe", "").replace(r#""uri":"""#, r#""uri":7"#)));
    assert!(answer.contains("-32602"), "{answer}");
    rig.ask(peer, delete(&session));
    // The next tenant of its slot hears nothing of them.
    let next = rig.open(peer);
    let stream = rig.connect(0, Wire::Http);
    rig.ask(stream, get(&next, None));
    update(&mut rig, 0, "a:0");
    assert_eq!(rig.take(stream), "");
}

#[test]
fn a_modern_stream_hears_of_the_resources_and_tasks_it_names() {
    let mut rig = Rig::new(2);
    let listener = rig.connect(1, Wire::Lines);
    let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}"#;
    let wanted = r#"{"resourceSubscriptions":["a:b"],"taskIds":["t1"]}"#;
    let listen = format!(
        r#"{{"jsonrpc":"2.0","id":"s","method":"subscriptions/listen","params":{{"notifications":{wanted},{meta}}}}}"#
    );
    let acknowledged = rig.ask(listener, listen.clone() + "\n");
    assert!(acknowledged.contains(&format!(r#""notifications":{wanted}"#)), "{acknowledged}");
    // Whoever does not know tasks is not told of any.
    let stranger = rig.connect(0, Wire::Lines);
    let without = listen.replace(r#""extensions":{"io.modelcontextprotocol/tasks":{}}"#, "");
    let acknowledged = rig.ask(stranger, without + "\n");
    assert!(acknowledged.contains(r#""notifications":{"resourceSubscriptions":["a:b"]}"#), "{acknowledged}");
    update(&mut rig, 0, "a:c");
    assert_eq!(rig.take(listener), "");
    update(&mut rig, 0, "a:b");
    let heard = rig.take(listener);
    let named = r#"{"_meta":{"io.modelcontextprotocol/subscriptionId":"s"},"uri":"a:b"}"#;
    assert!(heard.contains(UPDATED) && heard.contains(named), "{heard}");
    for (id, is_heard) in [("t2", false), ("t1", true)] {
        let params = format!(r#"{{"taskId":"{id}","status":"working","_meta":{{"x":1}}}}"#).into_bytes();
        rig.step(0, Input::Mail(Mail::Changed(Change::Task { id: id.to_owned(), params })));
        let heard = rig.take(listener);
        assert_eq!(heard.contains(r#""status":"working""#), is_heard, "{heard}");
        assert!(!heard.contains(r#""x":1"#), "whose subscription it is stands in _meta, and nothing else");
    }
}

#[test]
fn what_is_subscribed_to_has_a_bound_in_bytes_for_each_and_for_all() {
    let mut rig = Rig::new(1);
    rig.cores[0].settings.subscriptions_max = 256;
    rig.cores[0].settings.sessions_max = 200;
    let peer = rig.connect(0, Wire::Http);
    let long = |number: usize| format!("a:{number:08}{}", "x".repeat(8_000));
    let fill = |rig: &mut Rig, session: &str| {
        (0..256)
            .map(|number| rig.ask(peer, legacy(Some(session), &request("subscribe", &long(number)))))
            .find(|answer| !answer.ends_with(r#""result":{}}"#))
    };
    let first = rig.open(peer);
    let refusal = fill(&mut rig, &first).expect("a session has its bound");
    assert!(refusal.contains("-32602") && refusal.contains("262144 bytes"), "{refusal}");
    let mut sessions = vec![first];
    let refusal = loop {
        sessions.push(rig.open(peer));
        let refusal = fill(&mut rig, sessions.last().expect("one")).expect("there is an end");
        if !refusal.contains("262144 bytes") {
            break refusal;
        }
        assert!(sessions.len() < 190, "a core has no bound");
    };
    assert!(refusal.contains("-31503"), "{refusal}");
    let (weighed, _) = rig.cores[0].subscriptions.weigh();
    assert!(weighed <= 64 << 20 && weighed > 63 << 20, "{weighed}");
    for session in &sessions {
        rig.ask(peer, delete(session));
    }
    assert_eq!(rig.cores[0].subscriptions.weigh(), (0, 0));

    let lines = rig.connect(0, Wire::Lines);
    let listen = |uris: usize| {
        let uris = (0..uris).map(|number| format!("\"{}\"", long(number))).collect::<Vec<_>>().join(",");
        let meta = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
        let wanted = format!(r#"{{"resourceSubscriptions":[{uris}]}}"#);
        format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":\"s\",\"method\":\"subscriptions/listen\",\"params\":{{\"notifications\":{wanted},{meta}}}}}\n"
        )
    };
    assert!(rig.ask(lines, listen(40)).contains("the most that one stream may subscribe to has 262144"));
    assert!(rig.ask(lines, listen(30)).contains("acknowledged"));
    assert!(rig.cores[0].subscriptions.weigh().0 > 30 * 8_000);
}
