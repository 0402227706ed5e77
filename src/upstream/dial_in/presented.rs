//! The first message of a server that dials in, and its answer.
//!
//! Not here: whether it is let in (`gate`). Invariant: what is kept of the key is its digest; no answer has it in it.

use super::gate::KeyDigest;
use crate::proto::json::{Envelope, IdKind, Key, Object, Scanner, Value};
use crate::proto::jsonrpc::{self, Code, RpcError};

/// The method of that message.
pub const DIAL: &str = "corelane/dial";

/// Who somebody says to be.
pub struct Presented {
    /// The id of the request, as it came.
    pub id: Vec<u8>,
    /// The name of the server.
    pub name: String,
    /// The digest of the key that was shown.
    pub digest: KeyDigest,
}

impl Presented {
    /// Reads it.
    ///
    /// # Errors
    /// The whole answer to what is no such message.
    pub fn read(text: &[u8]) -> Result<Presented, Vec<u8>> {
        let mut envelope = Envelope::default();
        if let Err(error) = Scanner::new().scan(text, &mut envelope) {
            let text = format!("the first message is no JSON-RPC: {error}; send one request of {DIAL} first");
            return Err(refused(None, &RpcError::new(Code::PARSE, text)));
        }
        let id = envelope.text(Key::Id, text).map(<[u8]>::to_vec);
        let wrong = |code: Code, what: &str| {
            let example = format!(
                "{what}; the first message is {{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{DIAL}\",\
                 \"params\":{{\"name\":\"NAME\",\"key\":\"KEY\"}}}}"
            );
            Err(refused(id.as_deref(), &RpcError::new(code, example)))
        };
        if envelope.str(Key::Method, text).as_deref() != Some(DIAL) {
            return wrong(Code::INVALID_REQUEST, "a server that dials in says first who it is");
        }
        let is_one = matches!(envelope.id_kind(), IdKind::Integer | IdKind::String);
        let Some(id) = id.clone().filter(|_| is_one) else {
            return wrong(Code::INVALID_REQUEST, "this is a request and needs an id, a number or a string");
        };
        let params = envelope.value(Key::Params, text);
        let string = |name: &str| params.and_then(|params| params.get(name)).and_then(Value::as_str);
        let Some(name) = string("name") else { return wrong(Code::INVALID_PARAMS, "`name` must be a string") };
        let Some(key) = string("key") else { return wrong(Code::INVALID_PARAMS, "`key` must be a string") };
        Ok(Presented { id, name: name.into_owned(), digest: KeyDigest::of(key.as_bytes()) })
    }
}

/// The answer to who is let in.
pub fn accepted(id: &[u8], name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    jsonrpc::begin_result(&mut out, id);
    let mut result = Object::begin(&mut out);
    result.string("name", name);
    result.end();
    jsonrpc::end(&mut out);
    out
}

/// The answer to who is not.
pub fn refused(id: Option<&[u8]>, error: &RpcError) -> Vec<u8> {
    let mut out = Vec::new();
    jsonrpc::error(&mut out, id, true, error);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        match Presented::read(text.as_bytes()) {
            Ok(presented) => panic!("{text} passed as {}", presented.name),
            Err(answer) => String::from_utf8(answer).expect("UTF-8"),
        }
    }

    #[test]
    fn name_and_key_are_read() {
        let text = r#"{"jsonrpc":"2.0","id":"a","method":"corelane/dial","params":{"key":"k\u00e9y","name":"w"}}"#;
        let presented = Presented::read(text.as_bytes()).unwrap_or_else(|_| panic!("it is right"));
        assert_eq!((&presented.id[..], &presented.name[..]), (&b"\"a\""[..], "w"));
        assert!(presented.digest.is(&KeyDigest::of("k\u{e9}y".as_bytes())), "the key unescaped");
        assert_eq!(accepted(&presented.id, "w"), br#"{"jsonrpc":"2.0","id":"a","result":{"name":"w"}}"#);
    }

    #[test]
    fn what_is_no_presentation_is_told_what_one_is() {
        for (text, code, words) in [
            ("", -32700, "no JSON-RPC"),
            ("GET / HTTP/1.1", -32700, "no JSON-RPC"),
            ("[]", -32600, "says first who it is"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#, -32600, "says first who it is"),
            (r#"{"jsonrpc":"2.0","method":"corelane/dial","params":{"name":"w","key":"k"}}"#, -32600, "needs an id"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"corelane/dial"}"#, -32602, "`name` must be"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"corelane/dial","params":{"name":1,"key":"k"}}"#, -32602, "`name`"),
            (r#"{"jsonrpc":"2.0","id":1,"method":"corelane/dial","params":{"name":"w"}}"#, -32602, "`key` must be"),
        ] {
            let answer = refusal(text);
            assert!(answer.contains(&format!("\"code\":{code}")) && answer.contains(words), "{text}: {answer}");
        }
        let answer = refusal(r#"{"jsonrpc":"2.0","id":7,"method":"corelane/dial","params":{"key":"hunter2"}}"#);
        assert!(answer.contains("\"id\":7") && !answer.contains("hunter2"), "{answer}");
    }
}
