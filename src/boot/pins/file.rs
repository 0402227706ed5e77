//! The file in which pins outlast the process: JSON that people can read and compare.
//!
//! Not here: when it is written. Invariant: it is replaced as a whole or not at all, by one process at a time (who has
//! the lock on it, which goes with the process); a file that cannot be understood, or whose hashes are not those of its
//! definitions, is refused and left as it is.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::ledger::{Definition, Ledger, Tool};
use crate::limits::{PIN_BYTES_PER_SERVER_MAX, PINNED_SERVERS_MAX, PINS_PER_SERVER_MAX};
use crate::proto::json::{Envelope, Object, Scanner, canonical, pretty};
use crate::proto::mcp::pin;
use crate::upstream::gateway::hex;

/// The form of the file.
const FORMAT: u64 = 1;
/// Only its owner reads and writes it.
const MODE: u32 = 0o600;
/// Whoever may write it may approve.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// Why the file of pins cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PinsError {
    /// It cannot be read or written.
    #[error("gateway.pins: {path} cannot be {done}: {source}; correct the path or its permissions, or leave it empty")]
    Access {
        /// Its path.
        path: PathBuf,
        /// What was tried.
        done: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// It is not what was written.
    #[error(
        "gateway.pins: {path} is not a file of pins: {why}; restore it from a copy, or move it away and every tool is \
         pinned anew as it is then seen"
    )]
    Broken {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Others could approve.
    #[error("gateway.pins: {path} may be written by others (mode {mode:o}), who could approve tools: chmod 600 {path}")]
    Open {
        /// Its path.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    corelane_pins: u64,
    servers: BTreeMap<Box<str>, BTreeMap<Box<str>, StoredTool>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredTool {
    sha256: String,
    definition: Box<RawValue>,
    seen: Option<StoredChange>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredChange {
    sha256: String,
    /// Not there if it was too large to be kept.
    definition: Option<Box<RawValue>>,
}

/// The file, at its place.
#[derive(Debug)]
pub(super) struct PinsFile {
    path: PathBuf,
    /// The file that is there, locked; none if another process has it.
    held: Option<File>,
}

impl PinsFile {
    /// The file at a path, and what it holds; made if there is none.
    ///
    /// # Errors
    /// If it cannot be used; then it is left as it is.
    pub fn open(path: &Path) -> Result<(PinsFile, Ledger), PinsError> {
        let mut file = PinsFile::at(path);
        if file.path.exists() {
            // Before it is read: whoever had it may have replaced it until then.
            file.held = file.lock().map_err(|source| file.failed("locked", source))?;
        }
        if let Some(ledger) = file.read()? {
            return Ok((file, ledger));
        }
        // Better refused now than when something is to be approved.
        let made = file.replace(&Ledger::default()).map_err(|source| file.failed("written", source))?;
        Ok((PinsFile { held: Some(made), ..file }, Ledger::default()))
    }

    fn at(path: &Path) -> PinsFile {
        // What stands behind a link is replaced, not the link.
        PinsFile { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()), held: None }
    }

    /// Locks the file that is there; none if another process has it.
    fn lock(&self) -> io::Result<Option<File>> {
        loop {
            let file = File::open(&self.path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // It may have been replaced between the two.
            if fs::metadata(&self.path)?.ino() == file.metadata()?.ino() {
                return Ok(Some(file));
            }
        }
    }

    /// Whether this process may write it.
    pub fn is_ours(&self) -> bool {
        self.held.is_some()
    }

    /// What the file at a path holds, if there is one.
    ///
    /// # Errors
    /// If it cannot be used.
    pub fn look(path: &Path) -> Result<Option<Ledger>, PinsError> {
        PinsFile::at(path).read()
    }

    fn read(&self) -> Result<Option<Ledger>, PinsError> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("read", source)),
        };
        let mode = fs::metadata(&self.path).map_err(|source| self.failed("read", source))?.mode() & 0o7777;
        if mode & OTHERS_MAY_WRITE != 0 {
            return Err(PinsError::Open { path: self.path.clone(), mode });
        }
        parse(&text).map(Some).map_err(|why| PinsError::Broken { path: self.path.clone(), why })
    }

    fn failed(&self, done: &'static str, source: io::Error) -> PinsError {
        PinsError::Access { path: self.path.clone(), done, source }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts another content in the place of what it holds, and comes back when that is on the disk.
    ///
    /// # Errors
    /// If that cannot be, or another process has it; what it held is still there.
    pub fn write(&mut self, ledger: &Ledger) -> io::Result<()> {
        if !self.is_ours() {
            return Err(io::Error::other("another corelane keeps it; approve there"));
        }
        self.held = Some(self.replace(ledger)?);
        Ok(())
    }

    fn replace(&self, ledger: &Ledger) -> io::Result<File> {
        let mut fresh = self.path.clone().into_os_string();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let written = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&fresh).and_then(|mut file| {
            // Ours from the moment on in which others see it.
            file.try_lock().map_err(io::Error::from)?;
            file.write_all(print(ledger).as_bytes())?;
            file.sync_all()?;
            Ok(file)
        });
        let replaced = written.and_then(|file| fs::rename(&fresh, &self.path).map(|()| file));
        let file = replaced.inspect_err(|_| {
            // What is left over is in nobody's way: it is removed before the next attempt.
            let _ = fs::remove_file(&fresh);
        })?;
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok(file)
    }
}

fn print(ledger: &Ledger) -> String {
    let mut out = Vec::new();
    let mut whole = Object::begin(&mut out);
    whole.integer("corelane_pins", FORMAT);
    let mut servers = whole.object("servers");
    for (name, server) in &ledger.servers {
        let mut tools = servers.object(name);
        for (name, tool) in &server.tools {
            let mut object = tools.object(name);
            define(&mut object, &tool.pinned);
            if let Some(changed) = &tool.changed {
                let mut seen = object.object("seen");
                define(&mut seen, changed);
                seen.end();
            }
            object.end();
        }
        tools.end();
    }
    servers.end();
    whole.end();
    pretty(&String::from_utf8_lossy(&out)) + "\n"
}

fn define(object: &mut Object<'_>, definition: &Definition) {
    object.string("sha256", &hex(&definition.sha256));
    if let Some(text) = &definition.text {
        object.raw("definition", text.as_bytes());
    }
}

fn parse(text: &str) -> Result<Ledger, String> {
    let stored: Stored = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if stored.corelane_pins != FORMAT {
        return Err(format!("its form is {}, and this version knows {FORMAT}", stored.corelane_pins));
    }
    if stored.servers.len() > PINNED_SERVERS_MAX {
        return Err(format!("it has {} servers, of at most {PINNED_SERVERS_MAX}", stored.servers.len()));
    }
    let mut servers = BTreeMap::new();
    for (server, stored) in stored.servers {
        if stored.len() > PINS_PER_SERVER_MAX {
            return Err(format!("server {server} has {} tools, of at most {PINS_PER_SERVER_MAX}", stored.len()));
        }
        let (mut tools, mut bytes) = (BTreeMap::new(), 0);
        for (name, StoredTool { sha256, definition, seen }) in stored {
            let wrong = |why: String| format!("tool {name} of server {server}: {why}");
            let pinned = checked(&sha256, Some(&definition)).map_err(wrong)?;
            let changed = seen.map(|seen| checked(&seen.sha256, seen.definition.as_deref())).transpose();
            let changed = changed.map_err(wrong)?;
            if changed.as_ref().is_some_and(|changed| changed.sha256 == pinned.sha256) {
                return Err(wrong("what was seen in its place is the same".to_owned()));
            }
            let size = |definition: &Definition| definition.text.as_ref().map_or(0, |text| text.len());
            bytes += size(&pinned) + changed.as_ref().map_or(0, size);
            if bytes > PIN_BYTES_PER_SERVER_MAX {
                return Err(wrong(format!("with it there are more than {PIN_BYTES_PER_SERVER_MAX} bytes")));
            }
            tools.insert(name, Tool::new(pinned, changed));
        }
        servers.insert(server, tools);
    }
    Ok(Ledger::of(servers))
}

/// A definition whose hash is what it is said to be.
fn checked(sha256: &str, definition: Option<&RawValue>) -> Result<Definition, String> {
    let written = bytes_of(sha256).ok_or_else(|| format!("its sha256 is {sha256:?}, and not 64 digits 0-9 a-f"))?;
    let Some(definition) = definition else { return Ok(Definition { sha256: written, text: None }) };
    let mut text = Vec::new();
    let definition = definition.get().as_bytes();
    Scanner::new().scan(definition, &mut Envelope::default()).map_err(|error| error.to_string())?;
    if !canonical(&mut text, definition) {
        return Err("its definition has no canonical form".to_owned());
    }
    let sha256 = pin::sha256(&text);
    if sha256 != written {
        return Err(format!("its definition hashes to {}, and its sha256 is {}", hex(&sha256), hex(&written)));
    }
    let text = String::from_utf8(text).map_err(|error| error.to_string())?;
    Ok(Definition { sha256, text: Some(text.into()) })
}

fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let digits = hex.as_bytes();
    if digits.len() != 64 || !digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;
    use crate::upstream::gateway::{SeenTool, Sighting};
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt as _;

    fn see(ledger: &mut Ledger, definition: &str) {
        let mut text = Vec::new();
        assert!(canonical(&mut text, definition.as_bytes()));
        let text = String::from_utf8(text).expect("text");
        let tool = SeenTool { name: "a".into(), sha256: pin::sha256(text.as_bytes()), text: text.into() };
        ledger.see(&Sighting { core: CoreId(0), number: 1, server: "s".into(), tools: vec![tool] }, |_| true);
    }

    /// Odd numbers, unseen characters, and a key by which serde_json would read another value.
    const ONE: &str = r#"{"description":"\u200b\u0001e","inputSchema":{"maximum":1e30,"minimum":-0.1e-6},"name":"a"}"#;
    const OTHER: &str = r#"{"inputSchema":{"$serde_json::private::RawValue":"{\"x\":1}"},"name":"a"}"#;

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        see(&mut ledger, ONE);
        see(&mut ledger, OTHER);
        ledger
    }

    #[test]
    fn what_was_written_is_read_as_it_was() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pins.json");
        let (mut file, empty) = PinsFile::open(&path).expect("made");
        assert!(empty.servers.is_empty() && path.exists());
        let ledger = ledger();
        file.write(&ledger).expect("written");
        let mode = fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(file);
        let (_, read) = PinsFile::open(&path).expect("read");
        assert_eq!(read.servers["s"].tools["a"].pinned, ledger.servers["s"].tools["a"].pinned);
        assert_eq!(read.servers["s"].tools["a"].changed, ledger.servers["s"].tools["a"].changed);
        assert!(read.servers["s"].tools["a"].changed.is_some());
        let text = fs::read_to_string(&path).expect("text");
        assert!(text.contains("\n        \"definition\": {\n") && text.contains("\\u200b"), "{text}");
        let names: Vec<_> = fs::read_dir(folder.path()).expect("readable").collect();
        assert_eq!(names.len(), 1, "nothing is left over: {names:?}");
    }

    #[test]
    fn the_file_behind_a_link_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, link) = (folder.path().join("pins.json"), folder.path().join("link"));
        drop(PinsFile::open(&path).expect("made"));
        std::os::unix::fs::symlink(&path, &link).expect("made");
        let (mut file, _) = PinsFile::open(&link).expect("read");
        file.write(&ledger()).expect("written");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&path).expect("text").contains("\u{22}s\u{22}"));
    }

    #[test]
    fn one_at_a_time_writes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pins.json");
        let (mut first, _) = PinsFile::open(&path).expect("made");
        let (mut second, _) = PinsFile::open(&path).expect("read");
        assert!(first.is_ours() && !second.is_ours());
        first.write(&ledger()).expect("written");
        let error = second.write(&Ledger::default()).expect_err("not its").to_string();
        assert!(error.contains("another corelane"), "{error}");
        // Also the file that took the place of the one that was locked.
        let (third, read) = PinsFile::open(&path).expect("read");
        assert!(!third.is_ours() && read.servers.contains_key("s"));
        drop(first);
        assert!(PinsFile::open(&path).expect("read").0.is_ours());
    }

    #[test]
    fn a_broken_file_is_refused_and_left_as_it_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("pins.json");
        let good = print(&ledger());
        let sha256 = good.split("\"sha256\": \"").nth(1).expect("a hash")[..64].to_owned();
        let turned: String = sha256.chars().rev().collect();
        for (broken, said) in [
            (String::new(), "EOF"),
            (good[..good.len() / 2].to_owned(), "EOF"),
            (good.replace("1e+30", "1e+31"), "tool a of server s: its definition hashes to"),
            (good.replace(&sha256, &turned), "its sha256 is"),
            (good.replace(&sha256, "12"), "not 64 digits"),
            (good.replace("\"corelane_pins\": 1", "\"corelane_pins\": 2"), "its form is 2"),
            (good.replace("\"seen\"", "\"sean\""), "unknown field"),
            ("7".to_owned(), "invalid type"),
        ] {
            assert_ne!(broken, good, "{said}");
            fs::write(&path, &broken).expect("written");
            fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("ours");
            let error = PinsFile::open(&path).expect_err(said).to_string();
            assert!(error.contains(said) && error.contains("restore it"), "{said}: {error}");
            assert_eq!(fs::read_to_string(&path).expect("there"), broken);
        }
        fs::write(&path, &good).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(0o620)).expect("ours");
        let error = PinsFile::open(&path).expect_err("others may write it").to_string();
        assert!(error.contains("chmod 600") && error.contains("620"), "{error}");
        let nowhere = folder.path().join("none/pins.json");
        let error = PinsFile::open(&nowhere).expect_err("no folder").to_string();
        assert!(error.contains("cannot be written") && error.contains("none/pins.json"), "{error}");
    }
}
