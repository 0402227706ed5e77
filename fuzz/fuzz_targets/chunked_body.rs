//! Chunked bodies: pieces decode as the whole does, never past the limit, and what is accepted can be written again.
//!
//! The first byte seeds how the rest is cut, the second is the limit; the rest is the connection's input.
#![no_main]

use corelane::proto::http1::body::{ChunkError, ChunkedDecoder, Decoded};
use corelane::proto::http1::respond::{StreamFraming, chunk, last_chunk};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [seed, limit, bytes @ ..] = input else { return };
    let max = usize::from(*limit) * 8;
    let mut whole_out = Vec::new();
    let whole = ChunkedDecoder::new().decode(bytes, &mut whole_out, max);
    let mut out = Vec::new();
    assert_eq!(decode_in_pieces(bytes, *seed, &mut out, max), whole);
    assert_eq!(out, whole_out);
    assert!(out.len() <= max && out.capacity() <= 2 * bytes.len().max(8));

    if let Ok(Decoded { consumed, finished: true }) = whole {
        assert!(bytes[..consumed].ends_with(b"\r\n"));
        let mut written = Vec::new();
        for piece in out.chunks(usize::from(*seed) + 1) {
            chunk(&mut written, StreamFraming::Chunked, |written| written.extend_from_slice(piece));
        }
        last_chunk(&mut written, StreamFraming::Chunked);
        let mut again = Vec::new();
        let decoded = ChunkedDecoder::new().decode(&written, &mut again, max).expect("what we write we read");
        assert!(decoded.finished && decoded.consumed == written.len() && again == out);
    }
});

fn decode_in_pieces(bytes: &[u8], seed: u8, out: &mut Vec<u8>, max: usize) -> Result<Decoded, ChunkError> {
    let (mut decoder, mut at, mut state) = (ChunkedDecoder::new(), 0, u32::from(seed));
    while at < bytes.len() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let end = (at + 1 + (state >> 24) as usize % (usize::from(seed) + 1)).min(bytes.len());
        let decoded = decoder.decode(&bytes[at..end], out, max)?;
        at += decoded.consumed;
        if decoded.finished {
            return Ok(Decoded { consumed: at, finished: true });
        }
        assert_eq!(at, end, "only a finished body leaves bytes");
    }
    Ok(Decoded { consumed: at, finished: false })
}
