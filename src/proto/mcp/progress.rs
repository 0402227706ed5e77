//! The token by which a caller wants to hear how far its request is.
//!
//! Not here: what is sent under it (`upstream`).
//! Invariant: a token that passes can be repeated byte by byte in notifications that every client can read.

use crate::limits::PROGRESS_TOKEN_BYTES_MAX;
use crate::proto::json::{Envelope, Key};
use crate::proto::jsonrpc::{Code, RpcError};

/// Judges `params._meta.progressToken`: a string or a number, if there is one (`ProgressToken` of every revision), and
/// no longer than is repeated over and over.
///
/// # Errors
/// [`Code::INVALID_PARAMS`] for anything else.
pub fn judge_token(envelope: &Envelope, text: &[u8]) -> Result<(), RpcError> {
    let token = envelope.get(Key::MetaProgressToken).of(text);
    if token.len() > PROGRESS_TOKEN_BYTES_MAX {
        let text = format!(
            "params._meta.progressToken has {} bytes, the most is {PROGRESS_TOKEN_BYTES_MAX}; send a shorter one",
            token.len()
        );
        return Err(RpcError::new(Code::INVALID_PARAMS, text));
    }
    match token.first() {
        None | Some(b'"' | b'-' | b'0'..=b'9') => Ok(()),
        Some(_) => {
            let text = "params._meta.progressToken has to be a string or a number; leave it out to hear of no progress";
            Err(RpcError::new(Code::INVALID_PARAMS, text))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::json::Scanner;

    #[test]
    fn a_token_is_a_string_or_a_number() {
        for (token, good) in [
            (r#""a""#, true),
            (r#""""#, true),
            ("0", true),
            ("-1.5", true),
            ("true", false),
            ("null", false),
            ("{}", false),
            (r#"["a"]"#, false),
        ] {
            let text = format!(r#"{{"params":{{"_meta":{{"progressToken":{token}}}}}}}"#);
            let mut envelope = Envelope::default();
            Scanner::new().scan(text.as_bytes(), &mut envelope).expect("JSON");
            assert_eq!(judge_token(&envelope, text.as_bytes()).is_ok(), good, "{token}");
        }
        assert!(judge_token(&Envelope::default(), b"").is_ok(), "none is wanted");
    }

    #[test]
    fn a_token_has_an_end() {
        for (length, good) in [(PROGRESS_TOKEN_BYTES_MAX - 2, true), (PROGRESS_TOKEN_BYTES_MAX - 1, false)] {
            let text = format!(r#"{{"params":{{"_meta":{{"progressToken":"{}"}}}}}}"#, "x".repeat(length));
            let mut envelope = Envelope::default();
            Scanner::new().scan(text.as_bytes(), &mut envelope).expect("JSON");
            assert_eq!(judge_token(&envelope, text.as_bytes()).is_ok(), good, "{length} and its quotes");
        }
    }
}
