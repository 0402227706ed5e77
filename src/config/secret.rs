//! Values that nobody may see: what goes into headers and the environment of children.
//!
//! Not encryption: the value stands in memory, and is overwritten when it is dropped. Invariant: a `Secret` cannot be
//! shown, logged or printed, whether it is called a secret where it is configured or not; only `reveal` gives it away.

use std::fmt;
use std::hint::black_box;
use std::path::PathBuf;

/// A text that has neither `Display` nor a telling `Debug`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

/// Where a value comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// An environment variable of corelane.
    Env(String),
    /// A file; one line end at its end is not part of the value.
    File(PathBuf),
    /// It stands in the configuration file itself.
    Written,
}

/// A value, and where it comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
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
}
