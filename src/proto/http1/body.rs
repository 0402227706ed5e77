//! Chunked bodies: chunk framing taken off as the bytes arrive, in any pieces.
//!
//! Not here: bodies of a stated length (those need no decoding), time-outs, decompression.
//! Invariant: each input byte is looked at once; the output never grows past the caller's limit; what is not chunked
//! coding to the letter ends the decoder for good, since any later byte might be somebody else's request.

use thiserror::Error;

use super::token::is_token_byte;
use crate::limits::{HTTP_CHUNK_EXTENSION_BYTES_MAX, HTTP_HEAD_BYTES_MAX};

/// Why a chunked body is refused. The connection's framing is lost: answer, then close.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum ChunkError {
    /// The body is larger than the caller's limit.
    #[error("the body is larger than {max} bytes; send less, or raise the limit")]
    BodyTooLarge {
        /// The limit.
        max: usize,
    },
    /// The extension of one chunk, or of all chunks together, is longer than the limit.
    #[error(
        "a chunk extension is longer than {HTTP_CHUNK_EXTENSION_BYTES_MAX} bytes, or all of them than {HTTP_HEAD_BYTES_MAX}; send none"
    )]
    ExtensionTooLong,
    /// A line or a chunk does not end in CRLF.
    #[error("a chunk or its size line does not end in CRLF")]
    LineEnd,
    /// The size is not 1 to 16 hexadecimal digits.
    #[error("a chunk size is not 1 to 16 hexadecimal digits")]
    Size,
    /// A trailer line is not a header field.
    #[error("a trailer line is not a header field; send none")]
    Trailer,
    /// The trailers are larger than a head may be.
    #[error("the trailers are larger than {HTTP_HEAD_BYTES_MAX} bytes; send none")]
    TrailersTooLarge,
}

impl ChunkError {
    /// The HTTP status to answer with.
    pub fn status(&self) -> u16 {
        match self {
            Self::BodyTooLarge { .. } => 413,
            Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }
}

/// What one call to [`ChunkedDecoder::decode`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// Input bytes used. Less than all of them only once `finished`: the rest belongs to the next request.
    pub consumed: usize,
    /// The body is complete.
    pub finished: bool,
}

/// What one call to [`ChunkedDecoder::next`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chunked<'a> {
    /// The input is used up; nothing of the body was in it, or all of that has been handed out.
    More,
    /// Some of the body, never empty.
    Body(&'a [u8]),
    /// The body is complete.
    End,
}

const SIZE_DIGITS_MAX: u8 = 16;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the digits of a chunk size.
    Size,
    /// After the `;` of a chunk extension.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// In a chunk, with so many bytes to come.
    Data(u64),
    /// After a chunk.
    DataCr,
    /// After the CR behind a chunk.
    DataLf,
    /// At the beginning of a trailer line.
    TrailerStart,
    /// In the name of a trailer.
    TrailerName,
    /// In the value of a trailer.
    TrailerValue,
    /// After the CR of a trailer line.
    TrailerLf,
    /// After the CR of the empty line.
    LastLf,
    /// The body is complete.
    Finished,
    /// The body was refused.
    Refused(ChunkError),
}

/// Takes the chunk framing off one body.
#[derive(Clone, Debug)]
pub struct ChunkedDecoder {
    state: State,
    /// Value of the size digits read so far.
    size: u64,
    size_digits: u8,
    /// Extension bytes of this chunk, and of all chunks.
    extension_bytes: usize,
    extension_bytes_total: usize,
    trailer_bytes: usize,
    body_bytes: usize,
}

impl Default for ChunkedDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ChunkedDecoder {
    /// A decoder at the beginning of a body.
    pub const fn new() -> Self {
        Self {
            state: State::Size,
            size: 0,
            size_digits: 0,
            extension_bytes: 0,
            extension_bytes_total: 0,
            trailer_bytes: 0,
            body_bytes: 0,
        }
    }

    /// Body bytes decoded so far.
    pub fn body_bytes(&self) -> usize {
        self.body_bytes
    }

    /// Decodes `input` and appends the body's bytes to `out`, at most `max` over the whole body.
    ///
    /// A chunk that would pass `max` is refused when its size is known, before any of it is copied.
    ///
    /// # Errors
    /// A [`ChunkError`]; every later call returns it again.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<Decoded, ChunkError> {
        let mut consumed = 0;
        loop {
            let (used, step) = self.next(&input[consumed..], max)?;
            consumed += used;
            match step {
                Chunked::More => return Ok(Decoded { consumed, finished: false }),
                Chunked::Body(piece) => out.extend_from_slice(piece),
                Chunked::End => return Ok(Decoded { consumed, finished: true }),
            }
        }
    }

    /// Reads `input` up to the next piece of the body and tells how many bytes that took. Nothing is copied, and a
    /// piece ends where its chunk or `input` does. `max` bounds the whole body, as in [`ChunkedDecoder::decode`].
    ///
    /// # Errors
    /// A [`ChunkError`]; every later call returns it again.
    pub fn next<'a>(&mut self, input: &'a [u8], max: usize) -> Result<(usize, Chunked<'a>), ChunkError> {
        let mut consumed = 0;
        while let Some(&byte) = input.get(consumed) {
            match self.state {
                State::Data(remaining) => {
                    let present = &input[consumed..];
                    let piece = usize::try_from(remaining).map_or(present, |n| &present[..n.min(present.len())]);
                    if piece.len() > max.saturating_sub(self.body_bytes) {
                        return Err(self.refuse(ChunkError::BodyTooLarge { max }));
                    }
                    self.body_bytes += piece.len();
                    let remaining = remaining - piece.len() as u64;
                    self.state = if remaining == 0 { State::DataCr } else { State::Data(remaining) };
                    return Ok((consumed + piece.len(), Chunked::Body(piece)));
                }
                State::Finished => break,
                State::Refused(error) => return Err(error),
                _ => {
                    self.state = self.step(byte, max).map_err(|error| self.refuse(error))?;
                    consumed += 1;
                }
            }
        }
        match self.state {
            State::Finished => Ok((consumed, Chunked::End)),
            State::Refused(error) => Err(error),
            _ => Ok((consumed, Chunked::More)),
        }
    }

    fn refuse(&mut self, error: ChunkError) -> ChunkError {
        self.state = State::Refused(error);
        error
    }

    /// One byte of framing.
    fn step(&mut self, byte: u8, max: usize) -> Result<State, ChunkError> {
        match self.state {
            State::Size => self.step_size(byte),
            State::Extension => match byte {
                b'\r' => Ok(State::SizeLf),
                b'\n' => Err(ChunkError::LineEnd),
                _ => self.count_extension(byte),
            },
            State::SizeLf if byte == b'\n' => self.begin_chunk(max),
            State::DataCr if byte == b'\r' => Ok(State::DataLf),
            State::DataLf if byte == b'\n' => {
                (self.size, self.size_digits, self.extension_bytes) = (0, 0, 0);
                Ok(State::Size)
            }
            State::TrailerLf if byte == b'\n' => Ok(State::TrailerStart),
            State::LastLf if byte == b'\n' => Ok(State::Finished),
            State::TrailerStart if byte == b'\r' => Ok(State::LastLf),
            State::TrailerStart | State::TrailerName | State::TrailerValue => self.step_trailer(byte),
            _ => Err(ChunkError::LineEnd),
        }
    }

    fn step_size(&mut self, byte: u8) -> Result<State, ChunkError> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if self.size_digits > 0 => return Ok(State::SizeLf),
            b';' if self.size_digits > 0 => return self.count_extension(byte),
            b'\n' if self.size_digits > 0 => return Err(ChunkError::LineEnd),
            _ => return Err(ChunkError::Size),
        };
        if self.size_digits == SIZE_DIGITS_MAX {
            return Err(ChunkError::Size);
        }
        self.size_digits += 1;
        // Sixteen digits of four bits fill a u64 and cannot overflow it.
        self.size = (self.size << 4) | u64::from(digit);
        Ok(State::Size)
    }

    fn count_extension(&mut self, byte: u8) -> Result<State, ChunkError> {
        if byte != b'\t' && byte.is_ascii_control() {
            return Err(ChunkError::Size);
        }
        self.extension_bytes += 1;
        // Bounded over the body as well: otherwise one byte of body buys 256 bytes of work, without end.
        self.extension_bytes_total += 1;
        if self.extension_bytes > HTTP_CHUNK_EXTENSION_BYTES_MAX || self.extension_bytes_total > HTTP_HEAD_BYTES_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(State::Extension)
    }

    fn begin_chunk(&mut self, max: usize) -> Result<State, ChunkError> {
        if self.size == 0 {
            return Ok(State::TrailerStart);
        }
        match usize::try_from(self.size) {
            Ok(size) if size <= max.saturating_sub(self.body_bytes) => Ok(State::Data(self.size)),
            _ => Err(ChunkError::BodyTooLarge { max }),
        }
    }

    fn step_trailer(&mut self, byte: u8) -> Result<State, ChunkError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > HTTP_HEAD_BYTES_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => Ok(State::TrailerName),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (State::TrailerValue, _) if byte == b'\t' || !byte.is_ascii_control() => Ok(State::TrailerValue),
            _ => Err(ChunkError::Trailer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(input: &[u8], max: usize) -> Result<(Vec<u8>, Decoded), ChunkError> {
        let mut out = Vec::new();
        let decoded = ChunkedDecoder::new().decode(input, &mut out, max)?;
        Ok((out, decoded))
    }

    /// Body and bytes left over, which must be complete.
    fn complete(input: &[u8]) -> (Vec<u8>, usize) {
        let (out, decoded) = decode(input, 100).unwrap();
        assert!(decoded.finished, "{}", input.escape_ascii());
        (out, input.len() - decoded.consumed)
    }

    #[test]
    fn accepted() {
        assert_eq!(complete(b"0\r\n\r\n"), (b"".to_vec(), 0));
        assert_eq!(complete(b"3\r\nabc\r\n0\r\n\r\n"), (b"abc".to_vec(), 0));
        assert_eq!(complete(b"000000000000000A\r\n0123456789\r\n0\r\n\r\nGET /"), (b"0123456789".to_vec(), 5));
        assert_eq!(complete(b"1;a=\"b\";c\r\nx\r\n00;z\r\n\r\n"), (b"x".to_vec(), 0));
        assert_eq!(complete(b"2\r\n\r\n\r\n0\r\nTrailer: t\r\nX:\r\n\r\n\r\n"), (b"\r\n".to_vec(), 2));
    }

    #[test]
    fn refused() {
        let cases: &[(&[u8], ChunkError)] = &[
            (b"\r\n", ChunkError::Size),
            (b"+3\r\nabc", ChunkError::Size),
            (b"-3\r\nabc", ChunkError::Size),
            (b"0x3\r\nabc", ChunkError::Size),
            (b" 3\r\nabc", ChunkError::Size),
            (b"3 \r\nabc", ChunkError::Size),
            (b"3_0\r\nabc", ChunkError::Size),
            (b"g\r\nabc", ChunkError::Size),
            (b"\xef\xbc\x93\r\nabc", ChunkError::Size),
            (b";a\r\nabc", ChunkError::Size),
            (b"00000000000000003\r\nabc", ChunkError::Size),
            (b"10000000000000003\r\nabc", ChunkError::Size),
            (b"3\nabc", ChunkError::LineEnd),
            (b"3\r\r\nabc", ChunkError::LineEnd),
            (b"3\rabc", ChunkError::LineEnd),
            (b"3;a\nabc", ChunkError::LineEnd),
            (b"3;a\r\r\nabc", ChunkError::LineEnd),
            (b"3;\0\r\nabc", ChunkError::Size),
            (b"3\r\nabc\n0\r\n\r\n", ChunkError::LineEnd),
            (b"3\r\nabc0\r\n\r\n", ChunkError::LineEnd),
            (b"3\r\nabcd\r\n0\r\n\r\n", ChunkError::LineEnd),
            (b"3\r\nabc\r0\r\n\r\n", ChunkError::LineEnd),
            (b"3\r\nabc\r\n\r\n0\r\n\r\n", ChunkError::Size),
            (b"0\r\n\n", ChunkError::Trailer),
            (b"0\r\n\r\r\n", ChunkError::LineEnd),
            (b"0\r\n\rX", ChunkError::LineEnd),
            (b"0\r\nX: y\n\r\n", ChunkError::LineEnd),
            (b"0\r\nX: y\rz\r\n", ChunkError::LineEnd),
            (b"0\r\nX: \0\r\n", ChunkError::Trailer),
            (b"0\r\nX : y\r\n", ChunkError::Trailer),
            (b"0\r\n: y\r\n", ChunkError::Trailer),
            (b"0\r\nX: y\r\n z\r\n\r\n", ChunkError::Trailer),
            (b"0\r\nGET / HTTP/1.1\r\n", ChunkError::Trailer),
            (b"ffffffffffffffff\r\n", ChunkError::BodyTooLarge { max: 100 }),
            (b"65\r\n", ChunkError::BodyTooLarge { max: 100 }),
            (b"1\r\na\r\nffffffffffffffff\r\n", ChunkError::BodyTooLarge { max: 100 }),
        ];
        for &(input, expected) in cases {
            assert_eq!(decode(input, 100).map(|_| ()), Err(expected), "{}", input.escape_ascii());
        }
    }

    #[test]
    fn refusal_is_final() {
        let mut decoder = ChunkedDecoder::new();
        let mut out = Vec::new();
        assert_eq!(decoder.decode(b"x", &mut out, 9), Err(ChunkError::Size));
        assert_eq!(decoder.decode(b"0\r\n\r\n", &mut out, 9), Err(ChunkError::Size));
        assert_eq!(decoder.decode(b"", &mut out, 9), Err(ChunkError::Size));
    }

    #[test]
    fn limits() {
        let mut input = b"64\r\n".to_vec();
        input.extend([b'a'; 100]);
        input.extend(b"\r\n1\r\na");
        assert_eq!(decode(&input, 101).unwrap().0.len(), 101);
        let mut out = Vec::new();
        let error = ChunkedDecoder::new().decode(&input, &mut out, 100).unwrap_err();
        assert_eq!((error.status(), out.len()), (413, 100));

        // Refused by its size alone, before any of it is there to be copied.
        let mut out = Vec::new();
        let verdict = ChunkedDecoder::new().decode(b"2\r\nab\r\n2\r\n", &mut out, 3);
        assert_eq!((verdict, out.len()), (Err(ChunkError::BodyTooLarge { max: 3 }), 2));

        let extension = |bytes: usize| format!("1;{}\r\na\r\n", "e".repeat(bytes - 1)).into_bytes();
        assert!(decode(&extension(HTTP_CHUNK_EXTENSION_BYTES_MAX), 9).is_ok());
        let long = extension(HTTP_CHUNK_EXTENSION_BYTES_MAX + 1);
        assert_eq!(decode(&long, 9).unwrap_err(), ChunkError::ExtensionTooLong);
        let many = HTTP_HEAD_BYTES_MAX / HTTP_CHUNK_EXTENSION_BYTES_MAX;
        let full = extension(HTTP_CHUNK_EXTENSION_BYTES_MAX).repeat(many);
        assert_eq!(decode(&full, 1000).unwrap().0.len(), many);
        assert_eq!(decode(&[&full[..], b"1;"].concat(), 1000).unwrap_err(), ChunkError::ExtensionTooLong);

        // The line's CRLF costs its CR: the last line is "X:", a's, CR.
        let trailers = |bytes: usize| format!("0\r\nX:{}\r\n\r\n", "a".repeat(bytes - 3)).into_bytes();
        assert!(decode(&trailers(HTTP_HEAD_BYTES_MAX), 9).unwrap().1.finished);
        assert_eq!(decode(&trailers(HTTP_HEAD_BYTES_MAX + 1), 9).unwrap_err().status(), 431);
    }

    #[test]
    fn memory_follows_the_bytes_not_the_promise() {
        let mut out = Vec::new();
        ChunkedDecoder::new().decode(b"7fffffff\r\nab", &mut out, usize::MAX).unwrap();
        assert!(out.capacity() < 64);
    }

    proptest! {
        #[test]
        fn any_split_decodes_the_same(
            input in "([0-3];?[ab]{0,2}\r\n[abc\r\n]{0,3}(\r\n|\n|\r)?){0,5}(0\r\n(X: y\r\n)?\r\n.{0,3})?",
            pieces in proptest::collection::vec(1usize..6, 1..60),
            max in 0usize..8,
        ) {
            let input = input.as_bytes();
            let mut whole_out = Vec::new();
            let whole = ChunkedDecoder::new().decode(input, &mut whole_out, max);
            let (mut out, mut decoder, mut at) = (Vec::new(), ChunkedDecoder::new(), 0);
            let mut verdict = Ok(Decoded { consumed: 0, finished: false });
            for piece in pieces.iter().copied().cycle() {
                if at == input.len() {
                    break;
                }
                let end = (at + piece).min(input.len());
                verdict = decoder.decode(&input[at..end], &mut out, max);
                match verdict {
                    Ok(Decoded { consumed, finished: false }) => prop_assert_eq!(consumed, end - at),
                    Ok(Decoded { consumed, finished: true }) => { at += consumed; break; }
                    Err(_) => break,
                }
                at = end;
            }
            prop_assert_eq!(verdict.map(|decoded| Decoded { consumed: at, ..decoded }), whole);
            prop_assert_eq!(&out, &whole_out);
            prop_assert!(out.len() <= max);
        }

        #[test]
        fn what_is_chunked_is_decoded(body in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
            let mut input = Vec::new();
            for chunk in body.chunks(size) {
                input.extend(format!("{:x}\r\n", chunk.len()).bytes());
                input.extend(chunk);
                input.extend(b"\r\n");
            }
            input.extend(b"0\r\n\r\n");
            let (out, decoded) = decode(&input, body.len()).unwrap();
            prop_assert!(decoded.finished && decoded.consumed == input.len());
            prop_assert_eq!(out, body);
        }
    }
}
