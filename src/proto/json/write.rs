//! Writing JSON: appends to a `Vec<u8>` and never reads it back.
//!
//! Not here: when to flush, framing, or values built first and written later.
//! Invariant: what the writers append is one well-formed value without newlines, provided that `raw` is given such.

/// Appends `value` as a string: quoted, with escapes only where JSON demands them.
pub fn string(out: &mut Vec<u8>, value: &str) {
    out.reserve(value.len() + 2);
    out.push(b'"');
    let mut rest = value.as_bytes();
    while let Some(plain) = rest.iter().position(|byte| must_be_escaped(*byte)) {
        out.extend_from_slice(&rest[..plain]);
        escaped(out, rest[plain]);
        rest = &rest[plain + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends an integer of any width.
pub fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends JSON text that is already good: a span of a scanned message, or a literal.
pub fn raw(out: &mut Vec<u8>, text: &[u8]) {
    debug_assert!(!text.is_empty(), "no JSON value is empty: an absent span was written");
    out.extend_from_slice(text);
}

/// Appends `text`, a judged JSON text, without the whitespace outside its strings, hence without newlines.
pub fn compact(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len());
    let mut rest = text;
    while let Some(&first) = rest.first() {
        let taken = match first {
            b' ' | b'\n' | b'\r' | b'\t' => {
                rest = &rest[1..];
                continue;
            }
            b'"' => string_length(rest),
            _ => rest.iter().position(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t' | b'"')).unwrap_or(rest.len()),
        };
        out.extend_from_slice(&rest[..taken]);
        rest = &rest[taken..];
    }
}

/// Whether `text` has a newline, so that it needs [`compact`] before it goes into an SSE or ndjson frame. In judged
/// text newlines stand only outside strings.
pub fn has_newline(text: &[u8]) -> bool {
    memchr::memchr2(b'\n', b'\r', text).is_some()
}

#[inline]
fn must_be_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

#[cold]
fn escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
            return out.extend_from_slice(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// How many bytes the string takes that `text` begins with; all of them when it does not end.
fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(found) = text.get(at..).and_then(|rest| memchr::memchr2(b'"', b'\\', rest)) {
        at += found;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Writes one object, member by member; its end is written by [`Object::end`] or when it is dropped.
///
/// ```
/// use corelane::proto::json::Object;
/// let mut out = Vec::new();
/// let mut message = Object::begin(&mut out);
/// message.string("jsonrpc", "2.0");
/// message.raw("id", b"7");
/// let mut result = message.object("result");
/// result.boolean("isError", false);
/// result.end();
/// message.end();
/// assert_eq!(out, br#"{"jsonrpc":"2.0","id":7,"result":{"isError":false}}"#);
/// ```
#[derive(Debug)]
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Adds a string.
    pub fn string(&mut self, name: &str, value: &str) {
        string(self.key(name), value);
    }

    /// Adds an integer.
    pub fn integer(&mut self, name: &str, value: impl itoa::Integer) {
        integer(self.key(name), value);
    }

    /// Adds a boolean.
    pub fn boolean(&mut self, name: &str, value: bool) {
        raw(self.key(name), if value { b"true" } else { b"false" });
    }

    /// Adds `null`.
    pub fn null(&mut self, name: &str) {
        raw(self.key(name), b"null");
    }

    /// Adds JSON text that is already good.
    pub fn raw(&mut self, name: &str, text: &[u8]) {
        raw(self.key(name), text);
    }

    /// Opens an object inside this one.
    pub fn object(&mut self, name: &str) -> Object<'_> {
        Object::begin(self.key(name))
    }

    /// Opens an array inside this object.
    pub fn array(&mut self, name: &str) -> Array<'_> {
        Array::begin(self.key(name))
    }

    /// Closes it.
    pub fn end(self) {}

    /// Writes the comma, `name` and the colon: exactly one value must follow at the end of what is returned.
    pub fn key(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        string(self.out, name);
        self.out.push(b':');
        self.out
    }
}

impl Drop for Object<'_> {
    fn drop(&mut self) {
        self.out.push(b'}');
    }
}

/// Writes one array, element by element; its end is written by [`Array::end`] or when it is dropped.
#[derive(Debug)]
pub struct Array<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Array<'a> {
    /// Opens an array at the end of `out`.
    pub fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'[');
        Self { out, empty: true }
    }

    /// Adds a string.
    pub fn string(&mut self, value: &str) {
        string(self.element(), value);
    }

    /// Adds an integer.
    pub fn integer(&mut self, value: impl itoa::Integer) {
        integer(self.element(), value);
    }

    /// Adds a boolean.
    pub fn boolean(&mut self, value: bool) {
        raw(self.element(), if value { b"true" } else { b"false" });
    }

    /// Adds `null`.
    pub fn null(&mut self) {
        raw(self.element(), b"null");
    }

    /// Adds JSON text that is already good.
    pub fn raw(&mut self, text: &[u8]) {
        raw(self.element(), text);
    }

    /// Opens an object inside this array.
    pub fn object(&mut self) -> Object<'_> {
        Object::begin(self.element())
    }

    /// Opens an array inside this one.
    pub fn array(&mut self) -> Array<'_> {
        Array::begin(self.element())
    }

    /// Closes it.
    pub fn end(self) {}

    /// Writes the comma: exactly one value must follow at the end of what is returned.
    pub fn element(&mut self) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.empty) {
            self.out.push(b',');
        }
        self.out
    }
}

impl Drop for Array<'_> {
    fn drop(&mut self) {
        self.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_where_json_demands_it() {
        let mut out = Vec::new();
        string(&mut out, "a\"b\\c/\u{0}\u{1f}\u{8}\u{c}\n\r\té\u{7f}\u{2028}😀");
        assert_eq!(out, "\"a\\\"b\\\\c/\\u0000\\u001f\\b\\f\\n\\r\\té\u{7f}\u{2028}😀\"".as_bytes());
    }

    #[test]
    fn commas_stand_between_and_brackets_around() {
        let mut out = b">".to_vec();
        let mut object = Object::begin(&mut out);
        object.integer("a\"", u64::MAX);
        object.null("n");
        let mut array = object.array("l");
        array.array().end();
        array.object().end();
        array.string("s");
        array.integer(-1);
        array.boolean(true);
        array.null();
        array.raw(b"0.5");
        array.end();
        object.boolean("f", false);
        object.object("o").raw("x", b"{}");
        object.end();
        let expected =
            r#">{"a\"":18446744073709551615,"n":null,"l":[[],{},"s",-1,true,null,0.5],"f":false,"o":{"x":{}}}"#;
        assert_eq!(std::str::from_utf8(&out), Ok(expected));
    }

    #[test]
    fn whitespace_goes_but_that_in_strings_stays() {
        let mut out = Vec::new();
        let text = b" {\r\n\t\"a b\" : [ 1 ,\"x \\\" \\\\\" ,\n {} ] }\n";
        assert!(has_newline(text) && has_newline(b"\r") && !has_newline(b" \t"));
        compact(&mut out, text);
        assert_eq!(out, br#"{"a b":[1,"x \" \\",{}]}"#);
        for cut_off in [&b"\"a"[..], b"\"a\\", b"\"", b""] {
            out.clear();
            compact(&mut out, cut_off);
            assert_eq!(out, cut_off);
        }
    }
}
