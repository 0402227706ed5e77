//! Proof that every rule can fail: each is shown a snippet that breaks it, and one that almost does.
//!
//! Not here: the project's own files.
//! Invariant: a rule added without a snippet here is a rule nobody knows to work.

use super::declared;
use super::files;
use super::imports;
use super::source::Source;
use super::tree::File;
use super::words;

/// The rules that a snippet at a path breaks, each once.
fn broken(path: &str, text: &str) -> Vec<&'static str> {
    let source = Source::new(path, text);
    let file = File::new(path, text);
    let private = ["/somewhere/private/".to_owned()];
    let all = imports::check(&source).into_iter().chain(words::check(&source)).chain(files::check(&file, &private));
    let mut rules: Vec<_> = all
        .map(|violation| {
            assert!(!violation.instead.is_empty() && violation.place.starts_with(path), "{violation}");
            violation.rule
        })
        .collect();
    rules.dedup();
    rules
}

/// The same for code, which is put below a story.
fn broken_by(path: &str, code: &str) -> Vec<&'static str> {
    broken(path, &format!("//! A snippet.\n{code}\n"))
}

#[test]
fn upward_imports_fail_however_they_are_written() {
    const RULE: [&str; 1] = ["imports point one way"];
    for (path, code) in [
        ("src/proto/sse.rs", "use crate::server::core::Core;"),
        ("src/proto/sse.rs", "use crate::{limits::X, shard::range};"),
        ("src/proto/sse.rs", "fn f() -> crate::ring::Mesh { g() }"),
        ("src/proto/mod.rs", "use super::metrics::Registry;"),
        ("src/proto/json/scan.rs", "use super::super::super::shard::range;"),
        ("src/ids.rs", "use crate::limits::CORES_MAX;"),
        ("src/metrics/cells.rs", "use crate::shard::Shards;"),
        ("src/sys/steer.rs", "use crate::shard::session::Session;"),
        ("src/uring/driver.rs", "use crate::server::settings::Settings;"),
        ("src/upstream/native/run.rs", "use crate::server::core::Core;"),
        ("src/control/http.rs", "use crate::server::core::Core;"),
        ("src/server/core.rs", "use crate::upstream::native::Server;"),
        ("src/main.rs", "use corelane::shard::Shards;"),
    ] {
        assert_eq!(broken_by(path, code), RULE, "{path}: {code}");
    }
}

#[test]
fn downward_imports_comments_texts_and_tests_pass() {
    for (path, code) in [
        ("src/proto/sse.rs", "use crate::limits::{self, SSE_FIELD_BYTES_MAX as MAX};"),
        ("src/proto/sse.rs", "// use crate::server::core::Core;"),
        ("src/proto/sse.rs", r##"const X: &str = r#"use crate::server::core::Core;"#;"##),
        ("src/proto/sse.rs", "#[cfg(test)]\nmod tests {\n    use crate::server::core::Core;\n}"),
        ("src/proto/sse.rs", "#[cfg(all(test, not(loom)))]\nuse crate::server::core::Core;"),
        ("src/sys/steer.rs", "use crate::shard::range::BoundaryTable;"),
        ("src/upstream/native/run.rs", "use crate::server::service::Host;"),
        ("src/upstream/native/serve.rs", "use crate::config::{Config, Flag};"),
        ("src/boot/launch.rs", "use crate::config::Config;"),
        ("src/control/log.rs", "use crate::config::LogSettings;"),
        ("src/lib.rs", "pub use upstream::native::*;"),
        ("src/server/mod.rs", "mod core; use self::core::Core;"),
    ] {
        assert_eq!(broken_by(path, code), [""; 0], "{path}: {code}");
    }
}

#[test]
fn code_behind_a_test_item_is_looked_at_again() {
    let code = "#[cfg(test)]\nmod tests;\n#[cfg(not(test))]\nuse crate::server::core::Core;";
    assert_eq!(broken_by("src/proto/sse.rs", code), ["imports point one way"]);
    let code = "fn f<'a>(x: &'a str) -> char { '\"' }\nuse crate::server::core::Core;";
    assert_eq!(broken_by("src/proto/sse.rs", code), ["imports point one way"], "a quote in a character opens no text");
}

#[test]
fn the_whole_configuration_is_for_boot() {
    for (path, code) in [
        ("src/control/mod.rs", "use crate::config::Config;"),
        ("src/control/mod.rs", "use crate::config::{AllowedHosts, Settings};"),
        ("src/server/core.rs", "use crate::config::LimitSettings;"),
    ] {
        assert_eq!(broken_by(path, code), ["only boot sees the whole configuration"], "{path}: {code}");
    }
}

#[test]
fn a_new_module_has_to_find_its_place() {
    assert_eq!(broken_by("src/gateway/mod.rs", ""), ["every module has a place"]);
}

#[test]
fn names_that_belong_elsewhere_fail() {
    for (path, code, rule) in [
        ("src/server/core.rs", "use glommio::Task;", "only `runtime` names glommio"),
        ("examples/hello.rs", "fn f() { glommio_ng::executor(); }", "only `runtime` names glommio"),
        ("src/runtime/mod.rs", "use io_uring::IoUring;", "only `uring` and the benchmarks name io_uring"),
        ("src/server/pump.rs", "use rtrb::RingBuffer;", "only `ring` names rtrb"),
        ("src/server/core.rs", "use std::sync::Mutex;", "no lock on the path of a message"),
        ("src/proto/sse.rs", "use std::sync::{Arc, Weak};", "no shared count on the path of a message"),
        // A file that may count what it shares may lock nothing.
        ("src/ring/port.rs", "use std::sync::Mutex;", "no lock on the path of a message"),
        ("src/server/drive.rs", "static A: std::sync::Mutex<u8>;", "no lock on the path of a message"),
        ("src/shard/mod.rs", "struct A(std::sync::RwLock<u8>);", "no lock on the path of a message"),
        ("src/uring/driver.rs", "use serde_json::Value;", "no serde_json on the path of a message"),
        (
            "src/boot/launch.rs",
            "fn f() { unsafe { g() } }",
            "unsafe code lives in `uring`, `sys` and the audited file of `ring`",
        ),
        ("src/server/core.rs", "use std::time::{Duration, Instant};", "pure modules know no clock"),
        ("src/proto/sse.rs", "fn f() { std::time::SystemTime::now(); }", "pure modules know no clock"),
        ("src/server/accept.rs", "use std::net::{SocketAddr, TcpStream};", "pure modules know no socket"),
        ("src/ring/port.rs", "fn f() { std::thread::yield_now(); }", "pure modules know no thread"),
        ("src/shard/seal.rs", "fn f() { rand::random() }", "pure modules know no randomness"),
        (
            "src/server/core.rs",
            "use crate::uring::Driver;",
            "the machines of `server` know neither driver nor executor",
        ),
    ] {
        assert_eq!(broken_by(path, code), [rule], "{path}: {code}");
    }
}

#[test]
fn names_at_home_pass() {
    for (path, code) in [
        ("src/runtime/mod.rs", "use glommio::Task;"),
        ("bench/src/floor.rs", "use io_uring::IoUring;"),
        ("src/ring/lane.rs", "use rtrb::Producer;"),
        ("src/server/drive.rs", "use crate::uring::Driver; use std::{sync::Arc, time::Instant};"),
        ("src/ring/audited.rs", "fn f() { unsafe { g() } }"),
        ("src/server/core.rs", "#![allow(unsafe_code)] use std::{net::SocketAddr, time::Duration};"),
        ("src/boot/launch.rs", "use std::sync::{Arc, Mutex};"),
    ] {
        assert_eq!(broken_by(path, code), [""; 0], "{path}: {code}");
    }
}

#[test]
fn untidy_files_fail() {
    let wide = format!("//! {}", "word ".repeat(30));
    let long = "//! Long.\n".repeat(701);
    let large = format!("//! Large.\n// {}\n", "x\n".repeat(200_000));
    let left = |word: &str| format!("//! A snippet.\n// {word}: later\n");
    let story = "a source opens with a story";
    let leftover = "nothing is left for later in the sources";
    let cases = [
        ("src/proto/x.rs", "use std::fmt;\n".to_owned(), vec![story]),
        ("src/proto/x.rs", wide.clone(), vec!["a line has at most 120 columns"]),
        ("scripts/x.sh", wide.clone(), vec!["a line has at most 120 columns"]),
        ("src/proto/x.rs", long, vec!["a source has at most 700 lines"]),
        (
            "src/proto/x.rs",
            large,
            vec!["no file is larger than 256 KiB, or 1 MiB of results", "a source has at most 700 lines"],
        ),
        ("src/proto/x.rs", left(concat!("TO", "DO")), vec![leftover]),
        ("scripts/x.sh", left(concat!("FIX", "ME")), vec![leftover]),
        ("src/proto/x.rs", left(concat!("XX", "X")), vec![leftover]),
        ("src/proto/x.rs", format!("//! S.\nfn f() {{ {}() }}\n", concat!("to", "do!")), vec![leftover]),
        ("src/proto/x.rs", format!("//! S.\nfn f() {{ {}() }}\n", concat!("unimple", "mented!")), vec![leftover]),
        ("src/proto/utils.rs", "//! S.\n".to_owned(), vec!["a module's name says what is inside"]),
        ("bench/src/helpers/mod.rs", "//! S.\n".to_owned(), vec!["a module's name says what is inside"]),
        ("README.md", "see /somewhere/private/notes\n".to_owned(), vec!["no path of somebody's machine"]),
        ("README.md", format!("see {}me/notes\n", concat!("/ho", "me/")), vec!["no path of somebody's machine"]),
    ];
    for (path, text, rules) in cases {
        assert_eq!(broken(path, &text), rules, "{path}");
    }
}

#[test]
fn what_is_almost_untidy_passes() {
    let text = format!("//! S.\nconst X: &str = \"{}\";\n// | {} |\n", "word ".repeat(30), "cell ".repeat(30));
    assert_eq!(broken("src/proto/x.rs", &text), [""; 0], "texts and tables are not broken");
    assert_eq!(broken("README.md", &"word ".repeat(100)), [""; 0], "prose for people is not a source");
    assert_eq!(broken("README.md", "https://example.com/somewhere/private/x"), [""; 0], "a part of a URL is no path");
    assert_eq!(broken("src/proto/database.rs", "//! S.\n"), [""; 0], "a name is compared whole");
}

#[test]
fn what_nobody_counts_enforces_or_names_fails() {
    let found = |user: &str| -> Vec<String> {
        let sources = [
            ("src/metrics/cores.rs", "metrics! {\n  Turns turns: Counter Counter \"a\", \"b\";\n}"),
            ("src/metrics/causes.rs", "closed_set! {\n  Refusal { BadHost = \"bad_host\", \"x\"; }\n}"),
            ("src/config/table.rs", "keys! {\n  cores.pin, \"switch\", \"what\";\n}"),
            ("src/server/core.rs", user),
        ];
        let sources = sources.map(|(path, text)| Source::new(path, text));
        declared::check(&sources).into_iter().map(|violation| violation.found).collect()
    };
    let all = ["nothing uses turns", "nothing uses BadHost", "nothing uses pin"];
    assert_eq!(found(""), all);
    assert_eq!(found("#[cfg(test)]\nmod tests { fn f() { m.turns.add(1); g(Refusal::BadHost, s.pin); } }"), all);
    assert_eq!(found("fn f() { m.turns.get(); g(CloseCause::BadHost, pin); }"), all);
    assert_eq!(found("fn f() { m.turns.add(1); g(Refusal::BadHost, s.pin); h(); }"), [""; 0]);
}
