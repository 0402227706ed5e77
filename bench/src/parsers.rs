//! simd-json against serde_json for what corelane decodes: the arguments of a tool call, into a Rust type. And for what
//! it does by a scan of its own: judging a message of which nothing is kept.
//!
//! It measures the two calls that corelane could make and nothing around them. simd-json edits its input, and the input
//! is a message that is still needed, so it works on a copy, in a buffer that is kept; its own buffers are kept too.
//!
//! Invariant: both parsers read the same bytes into the same type, in alternating order, round after round.

use std::{hint::black_box, time::Instant};

use serde::{
    Deserialize, Serialize,
    de::{DeserializeOwned, IgnoredAny},
};

use crate::message::{FIRST_ID, Payload, Script, Wire};

/// One kind of arguments, and what each round took.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Decoded {
    pub what: String,
    pub bytes: usize,
    pub serde_json_ns: Vec<f64>,
    pub simd_json_ns: Vec<f64>,
}

/// As most tools take them: a few short fields.
#[derive(Debug, PartialEq, Deserialize)]
struct Search {
    query: String,
    limit: u32,
    exact: bool,
    tags: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Numbers {
    values: Vec<f64>,
}

/// Time for each parser in each round.
const ROUND_NS: u128 = 20_000_000;

/// All kinds, `rounds` times.
pub fn compare(rounds: usize) -> Vec<Decoded> {
    let search = |text: &str| format!(r#"{{"query":"{text}","limit":10,"exact":false,"tags":["a","b"]}}"#);
    let values: Vec<String> = (0..200).map(|index| (f64::from(index) * 1.234_567 - 100.0).to_string()).collect();
    let numbers = format!(r#"{{"values":[{}]}}"#, values.join(","));
    vec![
        one::<Search>("short fields", &search("io_uring"), rounds),
        one::<Search>("a sentence", &search(&"word ".repeat(50)), rounds),
        one::<Search>("a page of text", &search(&"word ".repeat(800)), rounds),
        one::<Search>("a page with escapes", &search(&r#"a \"word\" \n"#.repeat(300)), rounds),
        one::<Numbers>("200 numbers", &numbers, rounds),
        one::<IgnoredAny>("message M, judged and not kept", &message(), rounds),
    ]
}

/// Message M without its newline.
fn message() -> String {
    let payload =
        Payload { payload: 175, tool: "echo".into(), arguments: r#"{"data":"$PAD"}"#.into(), path: "/".into() };
    let script = Script::new(Wire::Ndjson, false, ([127, 0, 0, 1], 1).into(), &payload).expect("M fits itself");
    let mut line = Vec::new();
    script.call(FIRST_ID, b"", &mut line);
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

fn one<T: DeserializeOwned>(what: &str, text: &str, rounds: usize) -> Decoded {
    let text = text.as_bytes();
    let mut serde = || {
        black_box(serde_json::from_slice::<T>(black_box(text)).expect("the text is ours"));
    };
    let (mut copy, mut buffers) = (Vec::new(), simd_json::Buffers::new(text.len()));
    let mut simd = || {
        copy.clear();
        copy.extend_from_slice(black_box(text));
        let parsed = simd_json::serde::from_slice_with_buffers::<T>(&mut copy, &mut buffers);
        black_box(parsed.expect("the text is ours"));
    };
    // What is first in line finds caches cold.
    time(&mut serde);
    time(&mut simd);
    let mut decoded =
        Decoded { what: what.into(), bytes: text.len(), serde_json_ns: Vec::new(), simd_json_ns: Vec::new() };
    for round in 0..rounds {
        let first_serde = round % 2 == 0;
        if first_serde {
            decoded.serde_json_ns.push(time(&mut serde));
        }
        decoded.simd_json_ns.push(time(&mut simd));
        if !first_serde {
            decoded.serde_json_ns.push(time(&mut serde));
        }
    }
    decoded
}

/// Nanoseconds for one run, on average over a round.
fn time(run: &mut dyn FnMut()) -> f64 {
    let (start, mut runs) = (Instant::now(), 0u32);
    while start.elapsed().as_nanos() < ROUND_NS {
        // Many between two looks at the clock, which costs as much as a short parse.
        (0..64).for_each(|_| run());
        runs += 64;
    }
    start.elapsed().as_nanos() as f64 / f64::from(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parsers_read_the_same() {
        let text = br#"{"query":"a \"b\"","limit":10,"exact":false,"tags":["a","b"]}"#;
        let serde: Search = serde_json::from_slice(text).expect("valid");
        let mut buffers = simd_json::Buffers::new(64);
        let simd = simd_json::serde::from_slice_with_buffers::<Search>(&mut text.to_vec(), &mut buffers);
        assert_eq!(simd.expect("valid"), serde);
    }

    #[test]
    fn every_kind_is_timed_in_every_round() {
        for decoded in compare(2) {
            assert_eq!((decoded.serde_json_ns.len(), decoded.simd_json_ns.len()), (2, 2), "{}", decoded.what);
        }
    }
}
