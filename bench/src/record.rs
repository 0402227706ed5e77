//! The files that a comparison leaves behind: its rounds as JSON, and beside it the tables, made from that file alone.
//!
//! What is in a record, and how it is shown, is each comparison's own business.
//!
//! Invariant: a table is only ever written from a record that was read back from its file.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::ser::{PrettyFormatter, Serializer};

use crate::Failure;

/// Writes a record, in place of what was in the file.
pub fn write(file: &Path, record: &impl Serialize) -> Result<(), Failure> {
    // One space a level: a long run has more blanks than figures otherwise.
    let mut text = Vec::new();
    record.serialize(&mut Serializer::with_formatter(&mut text, PrettyFormatter::with_indent(b" ")))?;
    text.push(b'\n');
    Ok(fs::write(file, text)?)
}

/// Reads a record back.
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, Failure> {
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()).into())
}

/// Puts the page beside its record, and prints it.
pub fn publish(file: &Path, page: &str) -> Result<(), Failure> {
    fs::write(file.with_extension("md"), page)?;
    // Both files are written; a reader who closed the pipe has seen enough.
    let _ = writeln!(io::stdout(), "{page}");
    Ok(())
}
