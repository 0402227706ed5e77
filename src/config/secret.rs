//! Values that nobody may see: what goes into headers and the environment of children.
//!
//! Not encryption: the value stands in memory, and is overwritten when it is dropped. Invariant: a `Secret` cannot be
//! shown, logged or printed, whether it is called a secret where it is configured or not; only `reveal` gives it away.

use crate::limits::{DIAL_KEY_BYTES_MAX, DIAL_KEY_BYTES_MIN};
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::hint::black_box;
use std::io::Read;
use std::path::{Path, PathBuf};

/// What is printed instead of a secret.
pub(super) const HIDDEN: &str = "***";
/// Longest value.
const VALUE_BYTES_MAX: usize = 64 * 1024;
/// Longest value of a header field: a request's head has to stay acceptable to servers.
const FIELD_BYTES_MAX: usize = 8 * 1024;

/// A text that has neither `Display` nor a telling `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Source {
    /// An environment variable of corelane.
    Env(String),
    /// A file; one line end at its end is not part of the value.
    File(PathBuf),
    /// It stands in the configuration file itself.
    #[default]
    Written,
}

/// A value, and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Supplied {
    pub(super) source: Source,
    /// Put before what the source holds, such as `Bearer `; part of the value.
    pub(super) before: String,
    pub(super) value: Secret,
}

impl Secret {
    /// Keeps a text secret.
    pub fn new(text: String) -> Secret {
        Secret(text)
    }

    /// The text, for whoever has to send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl Supplied {
    /// A value that stands in the configuration file itself.
    pub fn written(text: impl Into<String>) -> Supplied {
        Supplied { source: Source::Written, before: String::new(), value: Secret::new(text.into()) }
    }

    /// Where it comes from.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The whole value. Empty for a server that is not enabled, if its source is not there.
    pub fn value(&self) -> &Secret {
        &self.value
    }
}

/// What a value is for, and so what it may consist of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Field,
    /// What whoever dials in shows.
    Key,
    Variable,
}

/// Why a value is not there or does not do: what is wrong, and advice. Never with the value.
pub(super) struct Unsupplied {
    pub(super) what: String,
    pub(super) advice: String,
}

impl Supplied {
    /// Fetches the value from where it is.
    pub(super) fn fetch(&mut self, purpose: Purpose, variables: &[(OsString, OsString)]) -> Result<(), Unsupplied> {
        let (text, holder) = match &self.source {
            Source::Written => (std::mem::take(&mut self.value), "it".to_owned()),
            Source::Env(name) => (from_variable(name, variables)?, format!("the variable {name}")),
            Source::File(path) => (from_file(path)?, format!("the file {}", path.display())),
        };
        let whole = Secret(format!("{}{}", self.before, text.reveal()));
        let unfit =
            |(what, advice): (String, &str)| Unsupplied { what: format!("{holder} {what}"), advice: advice.to_owned() };
        purpose.judge(whole.reveal()).map_err(unfit)?;
        self.value = whole;
        Ok(())
    }
}

fn from_variable(name: &str, variables: &[(OsString, OsString)]) -> Result<Secret, Unsupplied> {
    let unsupplied = |what: &str| Unsupplied {
        what: format!("the variable {name} {what}"),
        advice: format!("export {name} before corelane starts, or write enabled = false"),
    };
    let (_, value) = variables.iter().find(|(other, _)| other == name).ok_or_else(|| unsupplied("is not set"))?;
    match value.to_str() {
        None => Err(unsupplied("is not UTF-8")),
        Some("") => Err(unsupplied("is empty")),
        Some(text) => Ok(Secret(text.to_owned())),
    }
}

fn from_file(path: &Path) -> Result<Secret, Unsupplied> {
    let unsupplied = |what: String| Unsupplied {
        what: format!("the file {} {what}", path.display()),
        advice: "let it hold the value alone, readable by the user of corelane".to_owned(),
    };
    let unread = |error: std::io::Error| unsupplied(format!("cannot be read: {error}"));
    // Opening a pipe would wait for whoever writes it.
    if !std::fs::metadata(path).map_err(unread)?.is_file() {
        return Err(unsupplied("is not a regular file".to_owned()));
    }
    let mut secret = Secret::default();
    let most = VALUE_BYTES_MAX as u64 + 3;
    File::open(path).and_then(|file| file.take(most).read_to_string(&mut secret.0)).map_err(unread)?;
    for end in ["\n", "\r"] {
        if secret.0.ends_with(end) {
            secret.0.pop();
        }
    }
    if secret.0.is_empty() { Err(unsupplied("is empty".to_owned())) } else { Ok(secret) }
}

impl Purpose {
    /// What is wrong with a text, and advice.
    fn judge(self, text: &str) -> Result<(), (String, &'static str)> {
        let most = match self {
            Purpose::Field => FIELD_BYTES_MAX,
            Purpose::Key => DIAL_KEY_BYTES_MAX,
            Purpose::Variable => VALUE_BYTES_MAX,
        };
        if text.len() > most {
            return Err((format!("holds {} bytes, of at most {most}", text.len()), "shorten it"));
        }
        let (sound, advice): (fn(u8) -> bool, _) = match self {
            Purpose::Field => (
                |byte| matches!(byte, b' '..=b'~' | b'\t'),
                "line ends, control characters and letters beyond ASCII do not do in a header",
            ),
            Purpose::Key => (
                |byte| matches!(byte, b'!'..=b'~'),
                "spaces, line ends, control characters and letters beyond ASCII do not do in a key",
            ),
            Purpose::Variable => (|byte| byte != 0, "take the NUL character out"),
        };
        if let Some(at) = text.bytes().position(|byte| !sound(byte)) {
            return Err((format!("holds a character that cannot be sent, at byte {}", at + 1), advice));
        }
        if matches!(self, Purpose::Key) && text.len() < DIAL_KEY_BYTES_MIN {
            let what = format!("holds {} bytes, of at least {DIAL_KEY_BYTES_MIN}", text.len());
            return Err((what, "make one that nobody guesses: `openssl rand -hex 32`"));
        }
        if matches!(self, Purpose::Field) && text.trim() != text {
            return Err(("begins or ends with a space".to_owned(), "take the space away: it would not arrive"));
        }
        Ok(())
    }
}

/// Whether a name is that of a secret: generously, since hiding too much is only a nuisance.
pub(super) fn sounds_secret(name: &str) -> bool {
    // MAX_TOKENS is a number.
    let name = name.to_ascii_uppercase().replace("TOKENS", "");
    let within = ["AUTHORIZATION", "BEARER", "COOKIE", "CREDENTIAL", "KEY", "PASSWD", "PASSWORD", "SECRET", "TOKEN"];
    let alone = ["AUTH", "PASS", "PAT", "PWD"];
    within.iter().any(|word| name.contains(word))
        || name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| alone.contains(&word))
}

/// Whether a text is a secret whatever its name: an address with a password, or a key of a well-known form.
pub(super) fn looks_secret(text: &str) -> bool {
    let keys = ["AIza", "AKIA", "Bearer ", "eyJ", "ghp_", "gho_", "github_pat_", "glpat-", "sk-", "xox"];
    let password = |rest: &str| rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@'));
    keys.iter().any(|key| text.starts_with(key)) || text.split_once("://").is_some_and(|(_, rest)| password(rest))
}

/// Overwrites the text. The compiler is kept from seeing that nobody reads it again.
impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        black_box(&bytes);
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let supplied = Supplied::written("hunter2");
        assert_eq!(supplied.value().reveal(), "hunter2");
        assert!(!format!("{supplied:?}").contains("hunter2"), "{supplied:?}");
    }

    fn fetched(source: Source, before: &str, purpose: Purpose) -> Result<String, String> {
        let variables = [("TOKEN", "t0p"), ("EMPTY", ""), ("LINES", "a\nb")].map(|(n, v)| (n.into(), v.into()));
        let mut supplied = Supplied { source, before: before.to_owned(), ..Supplied::default() };
        match supplied.fetch(purpose, &variables) {
            Ok(()) => Ok(supplied.value().reveal().to_owned()),
            Err(Unsupplied { what, .. }) => Err(what),
        }
    }

    #[test]
    fn values_are_fetched_from_variables_and_files() {
        let env = |name: &str| Source::Env(name.to_owned());
        let field = |source| fetched(source, "", Purpose::Field);
        assert_eq!(field(env("TOKEN")).expect("set"), "t0p");
        assert_eq!(fetched(env("TOKEN"), "Bearer ", Purpose::Field).expect("set"), "Bearer t0p");
        assert_eq!(field(env("NONE")).expect_err("not set"), "the variable NONE is not set");
        assert_eq!(field(env("EMPTY")).expect_err("empty"), "the variable EMPTY is empty");
        let key = |name: &str| fetched(env(name), "", Purpose::Key).expect_err("no key");
        assert_eq!(key("TOKEN"), "the variable TOKEN holds 3 bytes, of at least 16");
        assert!(key("LINES").contains("cannot be sent, at byte 2"));
        let said = "the variable LINES holds a character that cannot be sent, at byte 2";
        assert_eq!(field(env("LINES")).expect_err("two lines"), said);
        assert_eq!(fetched(env("LINES"), "", Purpose::Variable).expect("fit for a child"), "a\nb");

        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("writable");
            Source::File(path)
        };
        assert_eq!(field(file("unix", "abc\n")).expect("a line"), "abc");
        assert_eq!(field(file("dos", "abc\r\n")).expect("a line"), "abc");
        assert!(field(file("two", "abc\n\n")).expect_err("two line ends").contains("at byte 4"));
        assert!(field(file("none", "\n")).expect_err("empty").ends_with("is empty"));
        assert!(field(file("long", &"x".repeat(9000))).expect_err("long").contains("of at most 8192"));
        assert!(field(file("space", "abc ")).expect_err("a space").contains("ends with a space"));
        assert!(field(Source::File(folder.path().into())).expect_err("a folder").contains("not a regular file"));
        assert!(field(Source::File("/nonexistent".into())).expect_err("missing").contains("cannot be read"));
    }

    #[test]
    fn secrets_are_known_by_their_names_and_by_themselves() {
        for name in ["GITHUB_TOKEN", "api_key", "Authorization", "X-Api-Key", "--password", "DB_PWD", "GITHUB_PAT"] {
            assert!(sounds_secret(name), "{name}");
        }
        for name in ["PATH", "MAX_TOKENS", "GIT_AUTHOR_NAME", "X-Team", "--compass", "PATTERN"] {
            assert!(!sounds_secret(name), "{name}");
        }
        for text in ["postgres://me:pw@host/db", "sk-abc", "Bearer x", "ghp_abc"] {
            assert!(looks_secret(text), "{text}");
        }
        for text in ["http://host/@scope", "npx", "@modelcontextprotocol/server-everything", "http://host?q=a@b"] {
            assert!(!looks_secret(text), "{text}");
        }
    }
}
