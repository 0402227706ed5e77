//! The result of a tool, written while the handler speaks.
//!
//! Not here: the outcome of the call around it (`outcome`).
//! Invariant: `content` is always an array that is closed, and nothing a handler does can add a second one.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;

use super::content::Content;
use super::failure::Failure;
use super::outcome::Rendered;
use crate::proto::json::{self, Object};
use crate::proto::mcp::Version;

/// Where a tool writes its result.
///
/// Raw tools get one to write to directly; the others return something that [`IntoToolResult`] writes for them.
pub struct ToolOutput<'a> {
    out: &'a mut Vec<u8>,
    version: Version,
    pieces: usize,
    is_error: bool,
    structured: Vec<u8>,
    meta: Vec<u8>,
}

impl<'a> ToolOutput<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>, version: Version) -> ToolOutput<'a> {
        out.extend_from_slice(br#""content":["#);
        ToolOutput { out, version, pieces: 0, is_error: false, structured: Vec::new(), meta: Vec::new() }
    }

    #[inline]
    fn next_piece(&mut self) {
        if self.pieces > 0 {
            self.out.push(b',');
        }
        self.pieces += 1;
    }

    /// Adds text.
    #[inline]
    pub fn text(&mut self, text: &str) {
        self.next_piece();
        self.out.extend_from_slice(br#"{"type":"text","text":"#);
        json::string(self.out, text);
        self.out.push(b'}');
    }

    /// Adds text that is a JSON string already (in its quotes, escaped), such as a member of the arguments: it is
    /// copied, not parsed.
    #[inline]
    pub fn text_raw(&mut self, string: json::Value<'_>) {
        self.next_piece();
        self.out.extend_from_slice(br#"{"type":"text","text":"#);
        match string.as_raw_str() {
            Some(_) => self.out.extend_from_slice(string.raw()),
            None => json::string(self.out, &String::from_utf8_lossy(string.raw())),
        }
        self.out.push(b'}');
    }

    /// Adds any content.
    pub fn content(&mut self, content: &Content) {
        self.next_piece();
        content.write(self.out, self.version);
    }

    /// Sets `structuredContent`. Without other content, its JSON is also sent as text, for older clients.
    pub fn structured<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.structured.clear();
        serde_json::to_writer(&mut self.structured, value)?;
        Ok(())
    }

    /// Says that the tool failed; the content tells the model why.
    pub fn error(&mut self) {
        self.is_error = true;
    }

    /// Adds a member to the result's `_meta`; `value` is a JSON text.
    pub fn meta(&mut self, key: &str, value: &str) {
        if !self.meta.is_empty() {
            self.meta.push(b',');
        }
        json::string(&mut self.meta, key);
        self.meta.push(b':');
        self.meta.extend(value.bytes().map(|byte| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte }));
    }

    /// Closes the result's members; what belongs into `_meta` is handed back.
    #[inline]
    pub(super) fn finish(mut self) -> Vec<u8> {
        if !self.structured.is_empty() {
            if self.pieces == 0 {
                let text = String::from_utf8_lossy(&self.structured).into_owned();
                self.text(&text);
            }
            self.out.push(b']');
            // Before 2026-07-28 it had to be an object, before 2025-06-18 there was none.
            let fits = self.version.is_modern()
                || (self.version >= Version::V2025_06_18 && self.structured.first() == Some(&b'{'));
            if fits {
                self.out.extend_from_slice(br#","structuredContent":"#);
                self.out.extend_from_slice(&self.structured);
            }
        } else {
            self.out.push(b']');
        }
        let tail: &[u8] = if self.is_error { br#","isError":true"# } else { br#","isError":false"# };
        self.out.extend_from_slice(tail);
        self.meta
    }
}

/// The members of a tool result that says `text` and `isError`.
pub(super) fn error_result(text: &str, version: Version) -> Rendered {
    let mut members = Vec::with_capacity(text.len() + 64);
    let mut output = ToolOutput::begin(&mut members, version);
    output.text(text);
    output.error();
    let meta = output.finish();
    Rendered { members, meta }
}

/// What a tool's handler may return.
///
/// Text, numbers and booleans become text; [`Content`] and `Vec<Content>` themselves; [`Structured`] becomes
/// `structuredContent` with an output schema; [`ToolResult`] says everything; `Result` works with any error.
pub trait IntoToolResult {
    /// Writes the result.
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure>;

    /// The JSON Schema of `structuredContent`, when the type has one.
    fn output_schema() -> Option<String> {
        None
    }
}

impl IntoToolResult for () {
    fn write(self, _: &mut ToolOutput<'_>) -> Result<(), Failure> {
        Ok(())
    }
}

impl IntoToolResult for &str {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.text(self);
        Ok(())
    }
}

impl IntoToolResult for String {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.text(&self);
        Ok(())
    }
}

impl IntoToolResult for Cow<'_, str> {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.text(&self);
        Ok(())
    }
}

macro_rules! printed {
    ($($kind:ty),*) => {$(
        impl IntoToolResult for $kind {
            fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
                output.text(&self.to_string());
                Ok(())
            }
        }
    )*};
}
printed!(bool, f32, f64, i8, i16, i32, i64, i128, isize, u8, u16, u32, u64, u128, usize);

impl IntoToolResult for Content {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.content(&self);
        Ok(())
    }
}

impl IntoToolResult for Vec<Content> {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        self.iter().for_each(|content| output.content(content));
        Ok(())
    }
}

impl<const N: usize> IntoToolResult for [Content; N] {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        self.iter().for_each(|content| output.content(content));
        Ok(())
    }
}

impl<T: IntoToolResult, E: Into<Failure>> IntoToolResult for Result<T, E> {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        self.map_err(Into::into)?.write(output)
    }

    fn output_schema() -> Option<String> {
        T::output_schema()
    }
}

/// A typed result: `structuredContent`, its JSON as text for older clients, and an output schema in the list of tools.
///
/// ```
/// use corelane::{Context, Server, Structured, Tool, NoArguments};
///
/// #[derive(serde::Serialize, schemars::JsonSchema)]
/// struct Weather {
///     celsius: f64,
/// }
/// let server = Server::builder("weather", "1.0")
///     .tool(Tool::new("now"), |_: NoArguments, _: &Context| Structured(Weather { celsius: 21.5 }))
///     .build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Structured<T>(pub T);

impl<T: Serialize + JsonSchema> IntoToolResult for Structured<T> {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        output.structured(&self.0)
    }

    fn output_schema() -> Option<String> {
        Some(super::schema::of::<T>())
    }
}

/// A result with everything a result can have.
///
/// ```
/// use corelane::{Content, ToolResult};
///
/// let found = ToolResult::text("2 files").content(Content::resource_link("file:///a", "a"));
/// let failed = ToolResult::text("the disk is full").error();
/// # let _ = (found, failed);
/// ```
#[derive(Clone, Default, PartialEq, Debug)]
pub struct ToolResult {
    contents: Vec<Content>,
    structured: Option<serde_json::Value>,
    is_error: bool,
    meta: Vec<(String, String)>,
}

impl ToolResult {
    /// An empty result.
    pub fn new() -> ToolResult {
        ToolResult::default()
    }

    /// A result with one text.
    pub fn text(text: impl Into<String>) -> ToolResult {
        ToolResult::new().content(Content::text(text))
    }

    /// Adds content.
    pub fn content(mut self, content: Content) -> ToolResult {
        self.contents.push(content);
        self
    }

    /// Sets `structuredContent`.
    pub fn structured(mut self, value: serde_json::Value) -> ToolResult {
        self.structured = Some(value);
        self
    }

    /// Says that the tool failed.
    pub fn error(mut self) -> ToolResult {
        self.is_error = true;
        self
    }

    /// Adds a member to `_meta`; `value` is a JSON text.
    pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> ToolResult {
        self.meta.push((key.into(), value.into()));
        self
    }
}

impl IntoToolResult for ToolResult {
    fn write(self, output: &mut ToolOutput<'_>) -> Result<(), Failure> {
        self.contents.iter().for_each(|content| output.content(content));
        if let Some(structured) = &self.structured {
            output.structured(structured)?;
        }
        if self.is_error {
            output.error();
        }
        self.meta.iter().for_each(|(key, value)| output.meta(key, value));
        Ok(())
    }
}

/// The opening of a result for the revision.
#[inline]
pub(super) fn opening(version: Version) -> &'static [u8] {
    if version.is_modern() { br#"{"resultType":"complete","# } else { b"{" }
}

/// Appends it.
#[inline]
pub(super) fn open_result(out: &mut Vec<u8>, version: Version) {
    out.extend_from_slice(opening(version));
}

/// Closes a result: `_meta` with the members collected and, in modern revisions, `serverInfo`.
#[inline]
pub(super) fn close_result(out: &mut Vec<u8>, version: Version, meta: &[u8], modern_tail: &[u8]) {
    match (version.is_modern(), meta.is_empty()) {
        (true, true) => out.extend_from_slice(modern_tail),
        (true, false) => {
            // `,"_meta":{` + theirs + `,` + the rest of the tail, which repeats neither.
            out.extend_from_slice(br#","_meta":{"#);
            out.extend_from_slice(meta);
            out.push(b',');
            out.extend_from_slice(modern_tail.strip_prefix(br#","_meta":{"#).unwrap_or_default());
        }
        (false, true) => out.push(b'}'),
        (false, false) => {
            out.extend_from_slice(br#","_meta":{"#);
            out.extend_from_slice(meta);
            out.extend_from_slice(b"}}");
        }
    }
}

/// The end of every modern result: `,"_meta":{"io.modelcontextprotocol/serverInfo":...}}`.
pub(super) fn modern_tail(server_info: &[u8]) -> Vec<u8> {
    let mut tail = br#","_meta":"#.to_vec();
    let mut object = Object::begin(&mut tail);
    object.raw("io.modelcontextprotocol/serverInfo", server_info);
    object.end();
    tail.push(b'}');
    tail
}
