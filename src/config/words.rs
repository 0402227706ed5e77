//! Settings that are words: core lists, HTTP paths, socket paths, log levels, the ticket key.
//!
//! Not numbers (`bounded`) and not hosts (`hosts`). Invariant: each type has one spelling for one meaning, and what was
//! read can be written and read again, except a key given in hex, which is never written.

use super::given::{Given, Refused, Setting, Value, quoted};
use super::shapes::PATH_BYTES_MAX;
use crate::limits::CORES_MAX;
use std::fmt;
use std::path::{Path, PathBuf};

/// Which CPUs get a core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreList {
    /// One core for every CPU this process may run on.
    All,
    /// The first so many of them; at least 1.
    Count(std::num::NonZeroU16),
    /// These CPUs: ascending, without repetition, at least one.
    Cpus(Vec<u16>),
}

/// A path in a request target: begins with `/`, no query, no fragment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HttpPath(String);

/// An HTTP path, or off (written as the empty text).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OptionalHttpPath(pub Option<HttpPath>);

/// A path a Unix socket can be bound to: 1 to 107 bytes without NUL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnixPath(PathBuf);

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[expect(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether the built-in demonstration server is one of the servers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demonstration {
    /// If no other server is configured.
    Auto,
    /// Never.
    Off,
    /// Always.
    On,
}

/// Which eras of the protocol clients are served in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServedEra {
    /// Every revision.
    Both,
    /// 2024-11-05 to 2025-11-25.
    Legacy,
    /// 2026-07-28 and later.
    Modern,
}

/// What happens when a server changes the definition of a tool that was seen before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pinning {
    /// Nothing.
    Off,
    /// The tool is kept from callers until the change is approved.
    Quarantine,
    /// The change is logged and counted.
    Warn,
}

/// The key that seals session ids.
#[derive(Clone, PartialEq, Eq)]
pub enum TicketKey {
    /// 256 random bits made at start: sessions do not survive it.
    MadeAtStart,
    /// A key of the operator's, and where it came from.
    Fixed {
        /// The 256 bits.
        bytes: [u8; 32],
        /// `file:PATH`, `env:NAME`, or `hex`.
        source: String,
    },
}

/// Largest CPU number accepted; that of a `cpu_set_t`.
const CPU_MAX: u16 = 1023;

impl CoreList {
    /// How many cores it makes, if that does not depend on the machine.
    pub fn count(&self) -> Option<usize> {
        match self {
            CoreList::All => None,
            CoreList::Count(n) => Some(usize::from(n.get())),
            CoreList::Cpus(cpus) => Some(cpus.len()),
        }
    }

    fn from_ranges(text: &str) -> Option<CoreList> {
        let mut cpus = Vec::new();
        for part in text.split(',').map(str::trim).filter(|p| !p.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u16, u16) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > CPU_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        let repeated = cpus.windows(2).any(|pair| pair[0] == pair[1]);
        (!repeated && (1..=CORES_MAX).contains(&cpus.len())).then_some(CoreList::Cpus(cpus))
    }
}

impl Setting for CoreList {
    fn allowed() -> String {
        format!(
            "\"all\", a number of cores from 1 to {CORES_MAX}, or CPUs such as \"0-3,8\" (one CPU: \"3-3\"; \
             each once, at most {CORES_MAX}, none above {CPU_MAX})"
        )
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let count = |n: i64| u16::try_from(n).ok().and_then(std::num::NonZeroU16::new).map(CoreList::Count);
        let list = match &given.value {
            Value::Integer(n) => count(*n),
            Value::Text(text) | Value::Word(text) if text == "all" => Some(CoreList::All),
            Value::Text(text) | Value::Word(text) => match text.trim().parse() {
                Ok(n) => count(n),
                Err(_) => CoreList::from_ranges(text),
            },
            _ => None,
        };
        list.filter(|list| list.count().unwrap_or(1) <= CORES_MAX).ok_or_else(|| given.refused(Self::allowed()))
    }

    fn write(&self) -> String {
        match self {
            CoreList::All => quoted("all"),
            CoreList::Count(n) => n.to_string(),
            CoreList::Cpus(_) => quoted(&self.to_string()),
        }
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpus = match self {
            CoreList::All => return f.write_str("all"),
            CoreList::Count(n) => return write!(f, "{n}"),
            CoreList::Cpus(cpus) => cpus,
        };
        let runs: Vec<&[u16]> = cpus.chunk_by(|a, b| a + 1 == *b).collect();
        let alone = runs.len() == 1;
        let parts: Vec<String> = runs
            .iter()
            .map(|run| match run {
                // Alone, "3" would read as a count.
                [cpu] if !alone => cpu.to_string(),
                _ => format!("{}-{}", run[0], run[run.len() - 1]),
            })
            .collect();
        f.write_str(&parts.join(","))
    }
}

impl HttpPath {
    /// A path known when this program is compiled.
    pub(super) fn known(path: &str) -> HttpPath {
        HttpPath(path.to_owned())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl OptionalHttpPath {
    /// The path as text, unless it is off.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_ref().map(HttpPath::as_str)
    }
}

impl Setting for HttpPath {
    fn allowed() -> String {
        "a path such as \"/mcp\": begins with a slash, at most 256 visible ASCII characters, no `?` and no `#`"
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        let visible = text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
        if text.starts_with('/') && text.len() <= 256 && visible {
            return Ok(HttpPath(text.to_owned()));
        }
        let refused = given.refused(Self::allowed());
        Err(if text.starts_with('/') { refused } else { refused.advise(format!("write \"/{text}\"")) })
    }

    fn write(&self) -> String {
        quoted(&self.0)
    }
}

impl Setting for OptionalHttpPath {
    fn allowed() -> String {
        format!("\"\" (off) or {}", HttpPath::allowed())
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        if given.text(Self::allowed)?.is_empty() {
            return Ok(OptionalHttpPath(None));
        }
        HttpPath::read(given).map(|path| OptionalHttpPath(Some(path)))
    }

    fn write(&self) -> String {
        quoted(self.as_str().unwrap_or(""))
    }
}

/// The path of a Unix socket, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OptionalUnixPath(pub(super) Option<UnixPath>);

impl OptionalUnixPath {
    /// The path, if there is one.
    pub fn as_path(&self) -> Option<&Path> {
        self.0.as_ref().map(UnixPath::as_path)
    }
}

impl Setting for OptionalUnixPath {
    fn allowed() -> String {
        format!("\"\" (none) or {}", UnixPath::allowed())
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        if given.text(Self::allowed)?.is_empty() {
            return Ok(OptionalUnixPath(None));
        }
        UnixPath::read(given).map(|path| OptionalUnixPath(Some(path)))
    }

    fn write(&self) -> String {
        self.0.as_ref().map_or_else(|| quoted(""), UnixPath::write)
    }
}

/// The path of a file of our own, or none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OptionalFilePath(Option<PathBuf>);

impl OptionalFilePath {
    /// The path, if there is one.
    pub fn as_path(&self) -> Option<&Path> {
        self.0.as_deref()
    }
}

impl Setting for OptionalFilePath {
    fn allowed() -> String {
        format!("\"\" (none) or a file path of at most {PATH_BYTES_MAX} bytes (the kernel's limit)")
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        if text.len() > PATH_BYTES_MAX || text.contains('\0') {
            return Err(given.refused(Self::allowed()));
        }
        if text.ends_with('/') {
            return Err(given.refused(Self::allowed()).advise("this names a folder: add the file's name"));
        }
        Ok(OptionalFilePath((!text.is_empty()).then(|| PathBuf::from(text))))
    }

    fn write(&self) -> String {
        self.0.as_ref().map_or_else(|| quoted(""), |path| quoted(&path.to_string_lossy()))
    }
}

impl UnixPath {
    /// The path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }
}

impl Setting for UnixPath {
    fn allowed() -> String {
        "a file path of 1 to 107 bytes (the kernel's limit for a Unix socket)".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        if text.is_empty() || text.len() > 107 || text.contains('\0') {
            return Err(given.refused(Self::allowed()));
        }
        Ok(UnixPath(PathBuf::from(text)))
    }

    fn write(&self) -> String {
        quoted(&self.0.to_string_lossy())
    }
}

/// The permissions of a socket file, as chmod(1) takes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketMode(u32);

impl SocketMode {
    /// Its owner alone.
    pub const OWNER: SocketMode = SocketMode(0o600);

    /// The permissions as bits.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl Setting for SocketMode {
    fn allowed() -> String {
        "three octal digits with a 0 before them, such as \"0600\" (its owner alone) or \"0660\" (its group as well)"
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed)?;
        match u32::from_str_radix(text, 8) {
            Ok(bits) if text.len() == 4 && text.starts_with('0') => Ok(SocketMode(bits)),
            _ => Err(given.refused(Self::allowed())),
        }
    }

    fn write(&self) -> String {
        quoted(&format!("{:04o}", self.0))
    }
}

/// Gives a closed set of words its spelling.
macro_rules! word_set {
    ($name:ident { $($variant:ident = $word:literal),+ }) => {
        impl $name {
            /// The word as it is configured.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl Setting for $name {
            fn allowed() -> String {
                ["one of", $(concat!("\"", $word, "\"")),+].join(" ")
            }

            fn read(given: &Given) -> Result<Self, Refused> {
                let text = given.text(Self::allowed)?;
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => {
                        let refused = given.refused(Self::allowed());
                        Err(match $crate::config::problem::nearest(text, [$($word),+]) {
                            Some(word) => refused.advise(format!("did you mean \"{word}\"?")),
                            None => refused,
                        })
                    }
                }
            }

            fn write(&self) -> String {
                quoted(self.as_str())
            }
        }
    };
}

pub(super) use word_set;

word_set!(LogLevel { Error = "error", Warn = "warn", Info = "info", Debug = "debug", Trace = "trace" });
word_set!(LogFormat { Text = "text", Json = "json" });
word_set!(Demonstration { Auto = "auto", On = "on", Off = "off" });
word_set!(ServedEra { Both = "both", Legacy = "legacy", Modern = "modern" });
word_set!(Pinning { Off = "off", Warn = "warn", Quarantine = "quarantine" });

/// A key that repeats itself after so many bytes was typed, or is an example.
const WEAK: [usize; 4] = [1, 2, 4, 8];

impl TicketKey {
    fn from_hex(text: &str) -> Option<[u8; 32]> {
        let text = text.trim();
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }
}

impl Setting for TicketKey {
    fn allowed() -> String {
        "\"\" (made at start), 64 hex digits, \"file:PATH\" or \"env:NAME\" of a place that holds 64 hex digits"
            .to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        let text = given.text(Self::allowed).map_err(Refused::without_value)?;
        let refused = || given.refused(Self::allowed()).without_value();
        let (hex, source) = if let Some(path) = text.strip_prefix("file:") {
            let hex = std::fs::read_to_string(path)
                .map_err(|error| given.refused(Self::allowed()).advise(format!("{path} cannot be read: {error}")))?;
            (hex, text)
        } else if let Some(name) = text.strip_prefix("env:") {
            let hex = std::env::var(name)
                .map_err(|_| given.refused(Self::allowed()).advise(format!("the variable {name} is not set")))?;
            (hex, text)
        } else if text.is_empty() {
            return Ok(TicketKey::MadeAtStart);
        } else {
            (text.to_owned(), "hex")
        };
        let advice = "make a key with `openssl rand -hex 32`";
        let bytes = TicketKey::from_hex(&hex).ok_or_else(|| refused().advise(advice))?;
        if let Some(repeated) =
            WEAK.into_iter().find(|length| bytes.chunks(*length).all(|one| *one == bytes[..*length]))
        {
            let repeated = if repeated == 1 { "one byte".to_owned() } else { format!("the same {repeated} bytes") };
            let allowed = "32 bytes that nobody could guess, as 64 hex digits";
            let why = format!("it is {repeated} over and over, which is tried before any other: {advice}");
            return Err(given.refused(allowed).without_value().advise(why));
        }
        Ok(TicketKey::Fixed { bytes, source: source.to_owned() })
    }

    fn write(&self) -> String {
        match self {
            TicketKey::MadeAtStart => quoted(""),
            TicketKey::Fixed { source, .. } => quoted(source),
        }
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TicketKey::MadeAtStart => f.write_str("MadeAtStart"),
            TicketKey::Fixed { source, .. } => write!(f, "Fixed({source}, not shown)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(word: &str) -> Result<T, Refused> {
        T::read(&Given::word(word))
    }

    #[test]
    fn core_lists_are_read_and_written() {
        for (word, written) in [
            ("all", "\"all\""),
            ("4", "4"),
            ("0-3,8", "\"0-3,8\""),
            ("8, 0-1,2", "\"0-2,8\""),
            ("3-3", "\"3-3\""),
            ("3,", "\"3-3\""),
            ("64", "64"),
        ] {
            let list = read::<CoreList>(word).expect(word);
            assert_eq!(list.write(), written);
            assert_eq!(read::<CoreList>(written.trim_matches('"')).expect(written), list);
        }
        for word in ["", "0", "65", "-1", "a", "3-1", "0-64", "1,1", "0-3,2", "1024", "0-1024", "1--2", "99999999999"] {
            assert!(read::<CoreList>(word).is_err(), "{word}");
        }
    }

    #[test]
    fn paths_begin_with_a_slash() {
        assert_eq!(read::<HttpPath>("/a/b").expect("a path").as_str(), "/a/b");
        assert_eq!(read::<HttpPath>("mcp").expect_err("no slash").advice.as_deref(), Some("write \"/mcp\""));
        for word in ["", "/a b", "/a?b", "/a#b", "/\u{e9}"] {
            assert!(read::<HttpPath>(word).is_err(), "{word}");
        }
        assert_eq!(read::<OptionalHttpPath>("").expect("off").as_str(), None);
        assert!(read::<UnixPath>(&"x".repeat(108)).is_err());
        assert!(read::<UnixPath>(&"x".repeat(107)).is_ok());
        assert_eq!(read::<OptionalFilePath>("").expect("none").as_path(), None);
        assert_eq!(read::<OptionalFilePath>("/a/b").expect("a path").as_path(), Some(Path::new("/a/b")));
        assert!(read::<OptionalFilePath>("/a/").expect_err("a folder").advice.is_some());
        assert!(read::<OptionalFilePath>(&"x".repeat(4096)).is_err());
    }

    #[test]
    fn ticket_keys_come_from_four_places_and_are_never_shown() {
        let hex = "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";
        assert_eq!(read::<TicketKey>("").expect("made at start"), TicketKey::MadeAtStart);
        let key = read::<TicketKey>(hex).expect("hex");
        assert!(matches!(&key, TicketKey::Fixed { bytes, .. } if bytes[..3] == [0, 0x11, 0x22] && bytes[31] == 0xff));
        assert!(!format!("{key:?} {}", key.write()).contains("0011"));
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("key");
        std::fs::write(&path, format!("{hex}\n")).expect("written");
        let from_file = read::<TicketKey>(&format!("file:{}", path.display())).expect("a file");
        assert!(matches!(from_file, TicketKey::Fixed { bytes, .. } if bytes[1] == 0x11));
        for word in ["1234", "file:/nonexistent", "env:SURELY_NOT_SET", &"0".repeat(64), &hex.replace('3', "x")] {
            let refused = read::<TicketKey>(word).expect_err(word);
            assert!(refused.advice.is_some(), "{word}");
        }
        for (weak, why) in
            [("ab", "one byte over"), ("abcd", "the same 2 bytes"), ("0123456789abcdef", "the same 8 bytes")]
        {
            let refused = read::<TicketKey>(&weak.repeat(64 / weak.len())).expect_err(weak);
            let advice = refused.advice.expect("it says why");
            assert!(advice.contains(why) && refused.allowed.contains("nobody could guess"), "{weak}: {advice}");
        }
        assert!(!read::<TicketKey>("hunter2").expect_err("not a key").seen.contains("hunter2"));
    }

    #[test]
    fn close_words_are_suggested() {
        assert_eq!(
            read::<LogLevel>("debugg").expect_err("no level").advice.as_deref(),
            Some("did you mean \"debug\"?")
        );
        assert_eq!(read::<LogFormat>("json").expect("a format"), LogFormat::Json);
    }
}
