//! Event streams: pieces give the same items as the whole, limits hold, and what was read can be written and read
//! again.
//!
//! The first byte seeds how the rest is cut, and what is written again; the next two are the limits; the rest is the
//! stream.
#![no_main]

use corelane::limits::SSE_FIELD_BYTES_MAX;
use corelane::proto::sse::{Item, SseDecoder, SseError, SseLimits, event};
use libfuzzer_sys::fuzz_target;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Event { id: Vec<u8>, event: Vec<u8>, data: Vec<u8> },
    Id(Vec<u8>),
    Retry(u64),
    Refused(SseError),
}

fuzz_target!(|input: &[u8]| {
    let [seed, line, event, stream @ ..] = input else { return };
    let limits = SseLimits { line_bytes_max: usize::from(*line) * 8, event_bytes_max: usize::from(*event) * 8 };
    let whole = read(stream, limits, &mut || stream.len());
    let mut state = u32::from(*seed);
    let mut piece = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % (usize::from(*seed) + 1)
    };
    assert_eq!(read(stream, limits, &mut piece), whole);
    for said in &whole {
        check(said, limits, usize::from(*seed));
    }
});

fn read(stream: &[u8], limits: SseLimits, piece: &mut dyn FnMut() -> usize) -> Vec<Said> {
    let (mut decoder, mut all, mut rest) = (SseDecoder::new(limits), Vec::new(), stream);
    while !rest.is_empty() {
        let (mut input, after) = rest.split_at(piece().min(rest.len()));
        rest = after;
        loop {
            all.push(match decoder.next(&mut input) {
                Ok(None) => break,
                Ok(Some(Item::Event(event))) => {
                    Said::Event { id: event.id.into(), event: event.event.into(), data: event.data.into() }
                }
                Ok(Some(Item::Id(id))) => Said::Id(id.into()),
                Ok(Some(Item::Retry(ms))) => Said::Retry(ms),
                Err(error) => {
                    all.push(Said::Refused(error));
                    return all;
                }
            });
        }
        assert!(input.is_empty());
    }
    all
}

fn check(said: &Said, limits: SseLimits, seed: usize) {
    let Said::Event { id, event: name, data } = said else { return };
    assert!(data.len() <= limits.event_bytes_max && id.len().max(name.len()) <= SSE_FIELD_BYTES_MAX);
    // The writer takes one-line names without NUL in UTF-8, as ours are.
    let Ok(text) = std::str::from_utf8(name) else { return };
    if text.contains('\0') {
        return;
    }
    let mut written = Vec::new();
    let (one, other) = data.split_at(seed % (data.len() + 1));
    event(&mut written, Some(id), Some(text), &[one, other]);
    let wide = SseLimits { line_bytes_max: usize::MAX, event_bytes_max: usize::MAX };
    assert_eq!(read(&written, wide, &mut || usize::MAX), std::slice::from_ref(said));
}
