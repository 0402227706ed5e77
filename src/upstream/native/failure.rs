//! Why a handler did not deliver, and what the client is told about it.
//!
//! Not here: faults of the transport or limits of the core, which never reach a handler.
//! Invariant: a tool's own error is a result with `isError`, for the model to read; only what the protocol calls an
//! error becomes a JSON-RPC error.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use super::ask::AskError;
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::Version;
use crate::upstream::missing;

/// Why a handler failed. `?` turns any [`Error`] into one; [`Failure::new`] makes one from a sentence.
///
/// ```
/// use corelane::Failure;
///
/// fn read(path: &str) -> Result<String, Failure> {
///     if path.contains("..") {
///         return Err(Failure::new(format!("{path} leaves the folder")));
///     }
///     Ok(std::fs::read_to_string(path)?)
/// }
/// assert_eq!(read("../x").unwrap_err().to_string(), "../x leaves the folder");
/// ```
pub struct Failure(Reason);

enum Reason {
    Arguments(String),
    Ask(AskError),
    NotFound,
    Rpc(RpcError),
    Text(Cow<'static, str>),
}

/// What the handler was for, which decides how its failure is told.
#[derive(Clone, Copy)]
pub(super) enum Asked<'a> {
    Completion,
    Prompt,
    Resource { uri: &'a str },
    Tool,
}

impl Failure {
    /// A failure with a sentence for the reader: the model for a tool (`isError`), a person otherwise.
    pub fn new(text: impl Into<Cow<'static, str>>) -> Failure {
        Failure(Reason::Text(text.into()))
    }

    /// There is no such resource (or nothing behind this URI of a template).
    pub fn not_found() -> Failure {
        Failure(Reason::NotFound)
    }

    /// An error of the protocol, as it stands: for tools too it becomes a JSON-RPC error.
    pub fn rpc(error: RpcError) -> Failure {
        Failure(Reason::Rpc(error))
    }

    /// The arguments do not fit: for the model to read since 2025-11-25, an error of the protocol before.
    pub(super) fn arguments(text: String) -> Failure {
        Failure(Reason::Arguments(text))
    }

    /// `Ok` is the text of a tool result with `isError`.
    pub(super) fn settle(self, asked: Asked<'_>, version: Version) -> Result<Cow<'static, str>, RpcError> {
        let text = match self.0 {
            Reason::Rpc(error) => return Err(error),
            Reason::Arguments(text) if version < Version::V2025_11_25 => {
                return Err(RpcError::new(Code::INVALID_PARAMS, text));
            }
            Reason::Arguments(text) => Cow::Owned(text),
            Reason::Ask(error) => {
                if version.is_modern()
                    && let Some(error) = error.to_rpc()
                {
                    return Err(error);
                }
                Cow::Owned(error.to_string())
            }
            Reason::NotFound => match asked {
                Asked::Resource { uri } => return Err(missing::resource(uri, version)),
                Asked::Completion | Asked::Prompt | Asked::Tool => Cow::Borrowed("not found"),
            },
            Reason::Text(text) => text,
        };
        match asked {
            Asked::Tool => Ok(text),
            Asked::Completion | Asked::Prompt | Asked::Resource { .. } => Err(RpcError::new(Code::INTERNAL, text)),
        }
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Failure {
        if let Some(ask) = (&error as &dyn Any).downcast_ref::<AskError>() {
            return Failure(Reason::Ask(ask.clone()));
        }
        // The chain of causes is what a reader needs: reqwest, for one, says nothing itself.
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Failure(Reason::Text(Cow::Owned(text)))
    }
}

impl From<RpcError> for Failure {
    fn from(error: RpcError) -> Failure {
        Failure::rpc(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Reason::Arguments(text) => f.write_str(text),
            Reason::Ask(error) => error.fmt(f),
            Reason::NotFound => f.write_str("not found"),
            Reason::Rpc(error) => write!(f, "{} ({})", error.message, error.code.0),
            Reason::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Failure({self})")
    }
}
