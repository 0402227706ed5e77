//! Newline-delimited messages, as stdio children send them: complete lines out of a growing buffer.
//!
//! Not here: whether a line is JSON, reading, moving the remainder to the front of the buffer.
//! Invariant: each byte is searched once, however the bytes arrive; a line over the limit is refused as soon as the
//! bytes that are there show it, so that a buffer holds at most one such limit and one read.

use memchr::memchr;
use thiserror::Error;

/// A line is longer than the limit, whether it has ended or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a line is longer than {max} bytes; send smaller messages or raise the limit")]
pub struct LineTooLong {
    /// The limit, without the line end.
    pub max: usize,
}

/// Finds lines in a buffer that grows at its end and is emptied from its beginning.
#[derive(Clone, Default, Debug)]
pub struct LineFinder {
    /// Bytes at the beginning of the buffer that were searched and hold no line end.
    scanned: usize,
    /// What comes up to the next line end is the rest of a line that is not wanted.
    skips: bool,
}

impl LineFinder {
    /// A finder for an empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets the line go that was too long, whatever is still to come of it: the next one begins behind its end.
    pub fn skip_line(&mut self) {
        self.skips = true;
    }

    /// The complete lines of `buffer`, in order, without copying: line ends (LF or CRLF) taken off, blank lines
    /// skipped.
    ///
    /// Afterwards remove [`Lines::consumed`] bytes from the front of the buffer. One may stop early: the lines that
    /// were not taken are found again.
    pub fn lines<'f, 'b>(&'f mut self, buffer: &'b [u8], max: usize) -> Lines<'f, 'b> {
        debug_assert!(self.scanned <= buffer.len(), "the buffer lost bytes that were not consumed");
        Lines { finder: self, buffer, consumed: 0, max }
    }
}

/// The complete lines of a buffer.
#[derive(Debug)]
pub struct Lines<'f, 'b> {
    finder: &'f mut LineFinder,
    buffer: &'b [u8],
    consumed: usize,
    max: usize,
}

impl<'b> Lines<'_, 'b> {
    /// Bytes up to the end of the last line taken.
    pub fn consumed(&self) -> usize {
        self.consumed
    }

    /// What is not yet taken: after the last line, the beginning of one that has not ended.
    pub fn remainder(&self) -> &'b [u8] {
        &self.buffer[self.consumed..]
    }
}

impl<'b> Iterator for Lines<'_, 'b> {
    type Item = Result<&'b [u8], LineTooLong>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self.remainder();
            if self.finder.skips {
                let end = memchr(b'\n', rest);
                self.finder.scanned = 0;
                self.consumed += end.map_or(rest.len(), |at| at + 1);
                self.finder.skips = end.is_none();
                end?;
                continue;
            }
            let from = self.finder.scanned.min(rest.len());
            let line_end = memchr(b'\n', &rest[from..]).map(|at| from + at);
            let line = &rest[..line_end.unwrap_or(rest.len())];
            // A CR at the very end may yet turn out to be half of a line end.
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.len() > self.max {
                self.finder.scanned = from;
                return Some(Err(LineTooLong { max: self.max }));
            }
            let Some(at) = line_end else {
                self.finder.scanned = rest.len();
                return None;
            };
            self.finder.scanned = 0;
            self.consumed += at + 1;
            if !is_blank(line) {
                return Some(Ok(line));
            }
        }
    }
}

/// Whether there is nothing on a line but JSON's white space.
fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lines, remainder and error of a stream that arrives in pieces.
    fn read(bytes: &[u8], pieces: impl Iterator<Item = usize>, max: usize) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
        let (mut finder, mut buffer, mut rest, mut found) = (LineFinder::new(), Vec::new(), bytes, Vec::new());
        for piece in pieces {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(piece.min(rest.len()));
            rest = later;
            buffer.extend_from_slice(now);
            let mut lines = finder.lines(&buffer, max);
            for line in lines.by_ref() {
                match line {
                    Ok(line) => found.push(line.to_vec()),
                    Err(_) => return (found, Vec::new(), true),
                }
            }
            let consumed = lines.consumed();
            assert_eq!(lines.remainder(), &buffer[consumed..]);
            buffer.drain(..consumed);
            assert!(buffer.len() <= max + 1);
        }
        (found, buffer, false)
    }

    #[test]
    fn what_is_left_of_a_line_that_was_too_long_is_skipped_however_it_comes() {
        for piece in 1..12 {
            let (mut finder, mut buffer, mut found, mut refused) = (LineFinder::new(), Vec::new(), Vec::new(), 0);
            for piece in b"ab\naaaaaaaaa\ncd\n\nbbbbbbbb\r\ne\n".chunks(piece) {
                buffer.extend_from_slice(piece);
                loop {
                    let mut lines = finder.lines(&buffer, 5);
                    let line = lines.next().map(|line| line.map(<[u8]>::to_vec));
                    let consumed = lines.consumed();
                    buffer.drain(..consumed);
                    match line {
                        Some(Ok(line)) => found.push(line),
                        Some(Err(LineTooLong { .. })) => {
                            refused += 1;
                            finder.skip_line();
                        }
                        None => break,
                    }
                }
                assert!(buffer.len() <= 7);
            }
            assert_eq!((found, refused), (vec![b"ab".to_vec(), b"cd".to_vec(), b"e".to_vec()], 2), "{piece}");
        }
    }

    fn whole(bytes: &[u8], max: usize) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
        read(bytes, std::iter::once(bytes.len()), max)
    }

    #[test]
    fn lines() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("", &[], ""),
            ("{}\n", &["{}"], ""),
            ("{}\r\n[]\n", &["{}", "[]"], ""),
            ("\n\r\n{}\n\n\n1", &["{}"], "1"),
            ("{}", &[], "{}"),
            ("a\rb\n", &["a\rb"], ""),
            ("a\r\r\n", &["a\r"], ""),
            ("a\r", &[], "a\r"),
            (" \n\t \r\n\r\r\n {}\n ", &[" {}"], " "),
            ("\x0c\n\0\n", &["\x0c", "\0"], ""),
        ];
        for &(bytes, lines, remainder) in cases {
            let lines: Vec<_> = lines.iter().map(|line| line.as_bytes().to_vec()).collect();
            assert_eq!(whole(bytes.as_bytes(), 99), (lines, remainder.as_bytes().to_vec(), false), "{bytes:?}");
        }
    }

    #[test]
    fn limit() {
        for (bytes, refused) in [
            ("1234\n", false),
            ("1234\r\n", false),
            ("1234\r", false),
            ("1234", false),
            ("12345\n", true),
            ("12345", true),
            ("1234\rx", true),
            ("12345\r\n", true),
            ("1\n12345", true),
        ] {
            assert_eq!(whole(bytes.as_bytes(), 4).2, refused, "{bytes:?}");
        }
    }

    #[test]
    fn no_byte_is_searched_twice() {
        let mut finder = LineFinder::new();
        let mut buffer = b"abc".to_vec();
        assert!(finder.lines(&buffer, 9).next().is_none());
        assert_eq!(finder.scanned, 3);
        // Were the first three searched again, this line end would be found.
        buffer[1] = b'\n';
        buffer.extend_from_slice(b"d\n");
        assert_eq!(finder.lines(&buffer, 9).next(), Some(Ok(&b"a\ncd"[..])));
    }

    #[test]
    fn stopping_early_loses_nothing() {
        let mut finder = LineFinder::new();
        let buffer = b"a\nb\nc";
        let mut lines = finder.lines(buffer, 9);
        assert_eq!(lines.next(), Some(Ok(&b"a"[..])));
        let consumed = lines.consumed();
        let mut lines = finder.lines(&buffer[consumed..], 9);
        assert_eq!(lines.next(), Some(Ok(&b"b"[..])));
        assert_eq!((lines.next(), lines.remainder()), (None, &b"c"[..]));
    }

    proptest! {
        #[test]
        fn any_split_reads_the_same(
            bytes in "[ab \r\n]{0,40}",
            pieces in proptest::collection::vec(1usize..8, 1..40),
            max in 0usize..8,
        ) {
            let pieces = pieces.iter().copied().cycle();
            prop_assert_eq!(read(bytes.as_bytes(), pieces, max), whole(bytes.as_bytes(), max));
        }
    }
}
