//! What a child writes to standard error, as lines that are fit for the log: bounded, without control characters,
//! without the secrets that the child was given.
//!
//! Not here: reading the pipe, and writing the log. Invariant: whatever bytes come in, in whatever portions, a line
//! that goes out is one line of printable text of at most `CHILD_LINE_BYTES_MAX` bytes and its mark, and holds no whole
//! secret; at most one line is kept.

use std::fmt::Write as _;

use crate::limits::CHILD_LINE_BYTES_MAX;

/// Stands in the place of a secret.
const REDACTED: &str = "***";
/// Ends a line whose rest was left out.
pub const CUT: &str = " [cut]";
/// Shorter values are no secrets, and taking them out would only make lines unreadable.
pub const SECRET_BYTES_MIN: usize = 4;

/// One child's standard error. Not `Debug`: the line may hold a secret.
pub struct StderrLines {
    server: Box<str>,
    secrets: Secrets,
    /// The line that has not ended: what may be shown of it, and enough behind that to see a whole secret.
    line: Vec<u8>,
    /// The line was cut and handed on, and its end is still to come.
    is_cut: bool,
}

impl StderrLines {
    /// For the server of this name, which was given these secrets.
    pub fn new(server: &str, secrets: &[impl AsRef<[u8]>]) -> StderrLines {
        StderrLines { server: server.into(), secrets: Secrets::new(secrets), line: Vec::new(), is_cut: false }
    }

    /// Takes in what was read, and hands on the name of the server with each line that ended in it. A line that is
    /// longer than the bound is handed on as soon as that shows.
    pub fn take(&mut self, bytes: &[u8], mut hand_on: impl FnMut(&str, &str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ended = piece.ends_with(b"\n");
            let piece = piece.strip_suffix(b"\n").unwrap_or(piece);
            if !self.is_cut {
                let room = self.kept_max() - self.line.len();
                self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                if ended || self.line.len() == self.kept_max() {
                    self.hand_on(&mut hand_on);
                    self.is_cut = true;
                }
            }
            self.is_cut &= !ended;
        }
    }

    /// The pipe has ended: hands on what had no line end.
    pub fn end(&mut self, mut hand_on: impl FnMut(&str, &str)) {
        if !self.is_cut {
            self.hand_on(&mut hand_on);
        }
        self.is_cut = false;
    }

    /// A secret that begins within the bound can be seen in so many bytes.
    fn kept_max(&self) -> usize {
        CHILD_LINE_BYTES_MAX + self.secrets.longest.max(1)
    }

    fn hand_on(&mut self, hand_on: &mut impl FnMut(&str, &str)) {
        let line = self.line.strip_suffix(b"\r").unwrap_or(&self.line);
        let text = self.secrets.shown(line);
        if !text.is_empty() {
            hand_on(&self.server, &text);
        }
        self.line.clear();
    }
}

/// Values that must not be shown. Not `Debug`, for the same reason.
struct Secrets {
    /// The longest first, so that one which begins like another is taken out whole.
    values: Vec<Box<[u8]>>,
    longest: usize,
}

impl Secrets {
    fn new(given: &[impl AsRef<[u8]>]) -> Secrets {
        // A key of several lines is written in several lines.
        let lines = given.iter().flat_map(|secret| secret.as_ref().split(|byte| matches!(byte, b'\n' | b'\r')));
        let lines = lines.map(<[u8]>::trim_ascii).filter(|line| line.len() >= SECRET_BYTES_MIN);
        let mut values: Vec<Box<[u8]>> = lines.map(Box::from).collect();
        values.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        let longest = values.first().map_or(0, |value| value.len());
        Secrets { values, longest }
    }

    /// How long the secret is that these bytes begin with.
    fn at_front_of(&self, bytes: &[u8]) -> Option<usize> {
        self.values.iter().find(|value| bytes.starts_with(value)).map(|value| value.len())
    }

    /// A line as it may be shown: what begins within the bound.
    fn shown(&self, line: &[u8]) -> String {
        let most = whole_characters(line, CHILD_LINE_BYTES_MAX);
        let mut text = String::with_capacity(most);
        let (mut plain, mut at) = (0, 0);
        let mut fits = true;
        while fits && at < most {
            let Some(secret) = self.at_front_of(&line[at..]) else {
                at += 1;
                continue;
            };
            fits = write_printable(&mut text, &line[plain..at]) && write_printable(&mut text, REDACTED.as_bytes());
            at += secret;
            plain = at;
        }
        fits = fits && (plain >= most || write_printable(&mut text, &line[plain..most]));
        if !fits || line.len() > at {
            text.push_str(CUT);
        }
        text
    }
}

/// So many of the first `most` bytes are whole characters, if they are characters at all.
fn whole_characters(line: &[u8], most: usize) -> usize {
    let is_boundary = |at: &usize| line.get(*at).is_none_or(|byte| byte & 0xc0 != 0x80);
    let most = most.min(line.len());
    (most.saturating_sub(3)..=most).rev().find(is_boundary).unwrap_or(most)
}

/// Writes bytes as printable text, as far as a line goes; false if that was not far enough.
fn write_printable(text: &mut String, bytes: &[u8]) -> bool {
    for chunk in bytes.utf8_chunks() {
        let broken = if chunk.invalid().is_empty() { "" } else { "\u{fffd}" };
        for character in chunk.valid().chars().chain(broken.chars()) {
            let before = text.len();
            match character {
                '\t' => text.push_str("    "),
                character if is_unprintable(character) => {
                    // Writing to a string does not fail.
                    let _ = write!(text, "{}", character.escape_default());
                }
                character => text.push(character),
            }
            if text.len() > CHILD_LINE_BYTES_MAX {
                text.truncate(before);
                return false;
            }
        }
    }
    true
}

/// Whether a character could make a log say something else than what was written to it: it moves the cursor, begins a
/// line or a terminal's command, or turns the direction of the text around.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that come out of portions, each of them checked for what holds for all.
    fn lines_of<'a>(secrets: &[&str], portions: impl IntoIterator<Item = &'a [u8]>) -> Vec<String> {
        let mut stderr = StderrLines::new("files", secrets);
        let mut lines = Vec::new();
        let mut hand_on = |server: &str, line: &str| {
            assert_eq!(server, "files");
            assert!(line.len() <= CHILD_LINE_BYTES_MAX + CUT.len(), "{} bytes", line.len());
            assert!(!line.chars().any(char::is_control), "{line:?}");
            let told = |secret: &&&str| secret.len() >= SECRET_BYTES_MIN && line.contains(**secret);
            assert!(!secrets.iter().any(|secret| told(&secret)), "{line:?}");
            lines.push(line.to_owned());
        };
        for portion in portions {
            stderr.take(portion, &mut hand_on);
            assert!(stderr.line.len() < stderr.kept_max());
        }
        stderr.end(&mut hand_on);
        lines
    }

    fn lines(secrets: &[&str], text: &str) -> Vec<String> {
        let whole = lines_of(secrets, [text.as_bytes()]);
        assert_eq!(lines_of(secrets, text.as_bytes().chunks(1)), whole, "byte by byte");
        assert_eq!(lines_of(secrets, text.as_bytes().chunks(7)), whole, "in sevens");
        whole
    }

    #[test]
    fn lines_are_handed_on_when_they_end() {
        assert_eq!(lines(&[], "one\ntwo\r\n\n\r\nthree"), ["one", "two", "three"]);
        assert_eq!(lines(&[], ""), [""; 0]);
        let mut stderr = StderrLines::new("files", &[""; 0]);
        let mut count = 0;
        stderr.take(b"not yet", |_, _| count += 1);
        assert_eq!(count, 0);
    }

    #[test]
    fn a_line_is_cut_as_soon_as_it_is_too_long() {
        let exact = "x".repeat(CHILD_LINE_BYTES_MAX);
        assert_eq!(lines(&[], &format!("{exact}\nnext")), [exact.as_str(), "next"]);
        let cut = format!("{exact}{CUT}");
        assert_eq!(lines(&[], &format!("{exact}yz\nnext")), [cut.as_str(), "next"]);
        assert_eq!(lines(&["verysecret"], &format!("{exact}yz\nnext")), [cut.as_str(), "next"]);
        let mut stderr = StderrLines::new("files", &[""; 0]);
        let mut seen = Vec::new();
        for _ in 0..100 {
            stderr.take(exact.as_bytes(), |_, line| seen.push(line.to_owned()));
        }
        assert_eq!(seen, [cut], "a line without end is one line");
    }

    #[test]
    fn no_character_is_cut_in_two() {
        let text = format!("{}\u{20ac}\u{20ac}\n", "x".repeat(CHILD_LINE_BYTES_MAX - 1));
        assert_eq!(lines(&[], &text), [format!("{}{CUT}", "x".repeat(CHILD_LINE_BYTES_MAX - 1))]);
    }

    #[test]
    fn a_log_cannot_be_forged() {
        for (written, shown) in [
            ("ok\r2026-01-01 ERROR forged", r"ok\r2026-01-01 ERROR forged"),
            ("\u{1b}[2J\u{1b}]0;title\u{7}", r"\u{1b}[2J\u{1b}]0;title\u{7}"),
            ("\u{9b}31m\u{2028}\u{202e}x\0\ta", r"\u{9b}31m\u{2028}\u{202e}x\u{0}    a"),
        ] {
            assert_eq!(lines(&[], written), [shown]);
        }
    }

    #[test]
    fn what_is_no_text_becomes_text() {
        assert_eq!(lines_of(&[], [&b"a\xff\xfe\xe2\x82b\n"[..]]), ["a\u{fffd}\u{fffd}\u{fffd}b"]);
        let escapes = "\u{1}".repeat(CHILD_LINE_BYTES_MAX);
        let line = &lines(&[], &escapes)[0];
        assert!(line.ends_with(CUT) && line.len() > CHILD_LINE_BYTES_MAX - 10, "what is written is bounded");
    }

    #[test]
    fn secrets_are_taken_out() {
        let secrets = ["hunter22", "hunter22-long", "abc", "-----BEGIN-----\nMIIEvQIBAD\n-----END-----\n"];
        let text = "key=hunter22-long, hunter22hunter22; abc\nMIIEvQIBAD\nhunter2\n";
        assert_eq!(lines(&secrets, text), ["key=***, ******; abc", "***", "hunter2"]);
    }

    #[test]
    fn a_secret_at_the_cut_is_not_shown_in_part() {
        let secret = "0123456789abcdef";
        for before in CHILD_LINE_BYTES_MAX - 20..CHILD_LINE_BYTES_MAX + 2 {
            let text = format!("{}{secret} and more\n", "x".repeat(before));
            let line = &lines(&[secret], &text)[0];
            assert!(!line.contains("0123") && line.ends_with(CUT), "{before}: {}", &line[before - 10..]);
        }
        // Secrets make a line shorter; what lies behind the bound is not shown for that.
        let text = format!("{}{}\n", secret.repeat(CHILD_LINE_BYTES_MAX / 16), &secret[..12]);
        assert_eq!(lines(&[secret], &text), [format!("{}{CUT}", "***".repeat(CHILD_LINE_BYTES_MAX / 16))]);
    }
}
