//! Which certificate authorities are trusted for a server behind https.
//!
//! Not here: reading a file of them (`boot`). Invariant: a path is absolute.

use super::given::{Given, Refused, Setting, quoted};
use super::problem::nearest;
use super::shapes::PATH_BYTES_MAX;
use std::path::PathBuf;

/// Where the certificate authorities stand that may vouch for a server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Roots {
    /// Mozilla's list, built in.
    #[default]
    Webpki,
    /// This host's.
    Native,
    /// A PEM file; no others are trusted.
    File(PathBuf),
}

impl Setting for Roots {
    fn allowed() -> String {
        "\"webpki\" (built in), \"native\" (this host's), or the absolute path of a PEM file".to_owned()
    }

    fn read(given: &Given) -> Result<Self, Refused> {
        match given.text(Self::allowed)? {
            "webpki" => Ok(Roots::Webpki),
            "native" => Ok(Roots::Native),
            path if path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains('\0') => {
                Ok(Roots::File(PathBuf::from(path)))
            }
            text => {
                let refused = given.refused(Self::allowed());
                Err(match nearest(text, ["webpki", "native"]) {
                    Some(word) => refused.advise(format!("did you mean \"{word}\"?")),
                    None => refused.advise("begin a path with a slash"),
                })
            }
        }
    }

    fn write(&self) -> String {
        match self {
            Roots::Webpki => quoted("webpki"),
            Roots::Native => quoted("native"),
            Roots::File(path) => quoted(&path.to_string_lossy()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_a_word_or_a_path() {
        for (text, roots) in [
            ("webpki", Roots::Webpki),
            ("native", Roots::Native),
            ("/etc/ca.pem", Roots::File(PathBuf::from("/etc/ca.pem"))),
        ] {
            let read = <Roots as Setting>::read(&Given::word(text)).expect(text);
            assert_eq!((read.write(), &read), (quoted(text), &roots));
        }
        for (text, said) in [("webpk", "did you mean"), ("ca.pem", "begin a path with a slash"), ("", "slash")] {
            let refused = <Roots as Setting>::read(&Given::word(text)).expect_err(text);
            assert!(format!("{refused:?}").contains(said), "{text}: {refused:?}");
        }
    }
}
