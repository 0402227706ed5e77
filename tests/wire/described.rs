//! The administration API answers what its document says: every operation that there is on a `corelane serve`, asked
//! for real. What wants servers in the registry is asked in `boot`'s tests, where a program has some.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::openapi::Document;
use crate::pinned::{Changeable, Folder, pair, tool, until_listed};
use crate::registered::exchange;

/// Operations on bindings, of which there are none without a server in the registry.
const OF_PROGRAMS: [&str; 4] = [
    "delete /admin/v1/bindings/{transport} 200",
    "get /admin/v1/bindings/{transport} 200",
    "put /admin/v1/bindings/{transport} 200",
    "put /admin/v1/bindings/{transport} 201",
];

#[test]
fn every_answer_is_what_the_document_says() {
    let folder = Folder::new();
    let changing = Changeable::new(&[tool("a", "one")]);
    let gateway = folder.start("quarantine", &changing.section());
    let document = Document::read();
    let mut seen = BTreeSet::new();
    let mut ask = |line: &str, fields: &str, body: &str| -> (u16, Value) {
        let stream = std::os::unix::net::UnixStream::connect(folder.path("admin.sock")).expect("it listens");
        let answer = exchange(stream, line, fields, body);
        let (method, target) = line.split_once(' ').expect("a method");
        seen.extend(document.hold(method, target, answer.status, &answer.body));
        (answer.status, answer.body)
    };
    until_listed(&gateway, "/mcp/s", &[pair("a", "one")]);
    changing.lists(&[tool("a", "two")]);
    until_listed(&gateway, "/mcp/s", &[]);
    let pins = ask("GET /admin/v1/servers/s/pins", "", "").1;
    assert_eq!(pins["changed"].as_array().map(Vec::len), Some(1), "{pins}");
    let url = json!({"kind": "http", "url": format!("http://{}/mcp", gateway.http)}).to_string();
    let other = json!({"kind": "http", "url": format!("http://{}/mcp", gateway.http), "timeout_ms": 500}).to_string();
    let (any, new) = ("If-Match: *\r\n", "If-None-Match: *\r\n");
    for (line, fields, body, status) in [
        ("GET /admin/v1/servers", "", "", 200),
        ("GET /admin/v1/servers/s", "", "", 200),
        ("POST /admin/v1/servers/s/pins", any, "{\"approve\":\"all\"}", 200),
        ("PUT /admin/v1/servers/more", new, &url, 201),
        ("PUT /admin/v1/servers/more", any, &other, 200),
        ("GET /admin/v1/servers/more", "", "", 200),
        ("DELETE /admin/v1/servers/more", any, "", 200),
        ("GET /admin/v1/sessions", "", "", 200),
        ("GET /admin/v1/shards", "", "", 200),
        ("POST /admin/v1/shards/reset", "", "", 204),
        ("GET /admin/v1/contention", "", "", 200),
        ("GET /admin/v1/zones", "", "", 200),
        ("GET /admin/v1/limits", "", "", 200),
        ("GET /admin/v1/admission", "", "", 200),
        ("PUT /admin/v1/admission", any, "{\"admission\":\"off\"}", 200),
        ("PUT /admin/v1/transports/t", "", "", 201),
        ("GET /admin/v1/transports", "", "", 200),
        ("GET /admin/v1/transports/t", "", "", 200),
        ("GET /admin/v1/bindings", "", "", 200),
        ("POST /admin/v1/messages", "", "", 200),
        ("DELETE /admin/v1/transports/t", any, "", 200),
        ("POST /admin/v1/reload", "", "", 200),
        ("GET /admin/v1/openapi.json", "", "", 200),
    ] {
        let answer = ask(line, fields, body);
        assert_eq!(answer.0, status, "{line}: {}", answer.1);
    }
    let unseen: Vec<_> = document.answers().into_iter().filter(|answer| !seen.contains(answer)).collect();
    assert_eq!(unseen, OF_PROGRAMS);
}

#[test]
#[should_panic(expected = "get /admin/v1/admission 200: more is not described")]
fn a_member_that_is_not_described_is_seen() {
    let body = json!({"admission": "auto", "more": 1});
    Document::read().hold("GET", "/admin/v1/admission", 200, &body);
}

#[test]
#[should_panic(expected = "get /admin/v1/sessions 200 cores 1: \"calls_in_flight\" is missing")]
fn a_member_that_is_missing_deep_inside_is_seen() {
    let core = json!({"sessions": 1, "connections": 1, "calls_in_flight": 0});
    let mut body = core.clone();
    body["cores"] = json!([core, {"sessions": 1, "connections": 1}]);
    Document::read().hold("GET", "/admin/v1/sessions", 200, &body);
}
