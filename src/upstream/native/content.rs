//! The pieces of content that tools and prompts answer with.
//!
//! Not here: the result around them (`output`).
//! Invariant: a piece is written in a form the client's revision knows; what it does not know is told as text.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::proto::json::{self, Object};
use crate::proto::mcp::Version;

/// One piece of content.
///
/// ```
/// use corelane::Content;
///
/// let answer = [
///     Content::text("The chart you asked for:"),
///     Content::image(b"\x89PNG...", "image/png"),
///     Content::resource_link("file:///chart.csv", "chart.csv").mime_type("text/csv"),
/// ];
/// # let _ = answer;
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Content {
    body: Body,
    annotations: Option<String>,
}

#[derive(Clone, PartialEq, Debug)]
enum Body {
    Audio { base64: String, mime_type: String },
    Image { base64: String, mime_type: String },
    Link { uri: String, name: String, mime_type: Option<String>, description: Option<String> },
    Resource(Contents),
    Text(String),
}

impl Content {
    fn new(body: Body) -> Content {
        Content { body, annotations: None }
    }

    /// Plain text.
    pub fn text(text: impl Into<String>) -> Content {
        Content::new(Body::Text(text.into()))
    }

    /// An image, for example `image/png`; sent as base64.
    pub fn image(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Content {
        Content::new(Body::Image { base64: STANDARD.encode(bytes), mime_type: mime_type.into() })
    }

    /// A sound, for example `audio/wav`; sent as base64.
    pub fn audio(bytes: impl AsRef<[u8]>, mime_type: impl Into<String>) -> Content {
        Content::new(Body::Audio { base64: STANDARD.encode(bytes), mime_type: mime_type.into() })
    }

    /// A resource's contents, carried along. Give it a URI with [`Contents::uri`].
    pub fn resource(contents: Contents) -> Content {
        Content::new(Body::Resource(contents))
    }

    /// A pointer to a resource that the client may read later.
    pub fn resource_link(uri: impl Into<String>, name: impl Into<String>) -> Content {
        Content::new(Body::Link { uri: uri.into(), name: name.into(), mime_type: None, description: None })
    }

    /// The media type of a link.
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Content {
        if let Body::Link { mime_type: place, .. } = &mut self.body {
            *place = Some(mime_type.into());
        }
        self
    }

    /// The description of a link.
    pub fn description(mut self, description: impl Into<String>) -> Content {
        if let Body::Link { description: place, .. } = &mut self.body {
            *place = Some(description.into());
        }
        self
    }

    /// Annotations for the client (`audience`, `priority`, ...), a JSON object as text.
    pub fn annotations(mut self, object: impl Into<String>) -> Content {
        self.annotations = Some(object.into().replace(['\n', '\r'], " "));
        self
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: Version) {
        let mut object = Object::begin(out);
        match &self.body {
            Body::Text(text) => {
                object.string("type", "text");
                object.string("text", text);
            }
            Body::Image { base64, mime_type } => write_media(&mut object, "image", base64, mime_type),
            Body::Audio { base64, mime_type } if version >= Version::V2025_03_26 => {
                write_media(&mut object, "audio", base64, mime_type);
            }
            Body::Audio { mime_type, .. } => {
                object.string("type", "text");
                object.string("text", &format!("[{mime_type}: this revision of the protocol has no audio]"));
            }
            Body::Link { uri, name, mime_type, description } if version >= Version::V2025_06_18 => {
                object.string("type", "resource_link");
                object.string("uri", uri);
                object.string("name", name);
                if let Some(description) = description {
                    object.string("description", description);
                }
                if let Some(mime_type) = mime_type {
                    object.string("mimeType", mime_type);
                }
            }
            Body::Link { uri, .. } => {
                object.string("type", "text");
                object.string("text", uri);
            }
            Body::Resource(contents) => {
                object.string("type", "resource");
                contents.write(object.key("resource"), "", None);
            }
        }
        if let Some(annotations) = &self.annotations {
            object.raw("annotations", annotations.as_bytes());
        }
        object.end();
    }
}

fn write_media(object: &mut Object<'_>, kind: &str, base64: &str, mime_type: &str) {
    object.string("type", kind);
    object.key("data").extend(quoted(base64));
    object.string("mimeType", mime_type);
}

/// Base64 needs no escapes.
fn quoted(base64: &str) -> impl Iterator<Item = u8> {
    std::iter::once(b'"').chain(base64.bytes()).chain(std::iter::once(b'"'))
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::text(text)
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::text(text)
    }
}

/// What a resource holds: text, or bytes.
///
/// URI and media type default to those of the resource that was asked for.
#[derive(Clone, PartialEq, Debug)]
pub struct Contents {
    uri: Option<String>,
    mime_type: Option<String>,
    body: ContentsBody,
}

#[derive(Clone, PartialEq, Debug)]
enum ContentsBody {
    Base64(String),
    Text(String),
}

impl Contents {
    /// Text.
    pub fn text(text: impl Into<String>) -> Contents {
        Contents { uri: None, mime_type: None, body: ContentsBody::Text(text.into()) }
    }

    /// Bytes, sent as base64.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Contents {
        Contents { uri: None, mime_type: None, body: ContentsBody::Base64(STANDARD.encode(bytes)) }
    }

    /// Where it is.
    pub fn uri(mut self, uri: impl Into<String>) -> Contents {
        self.uri = Some(uri.into());
        self
    }

    /// Its media type.
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Contents {
        self.mime_type = Some(mime_type.into());
        self
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, default_uri: &str, default_mime_type: Option<&str>) {
        let mut object = Object::begin(out);
        object.string("uri", self.uri.as_deref().unwrap_or(default_uri));
        if let Some(mime_type) = self.mime_type.as_deref().or(default_mime_type) {
            object.string("mimeType", mime_type);
        }
        match &self.body {
            ContentsBody::Text(text) => object.string("text", text),
            ContentsBody::Base64(base64) => object.key("blob").extend(quoted(base64)),
        }
        object.end();
    }
}

impl From<&str> for Contents {
    fn from(text: &str) -> Contents {
        Contents::text(text)
    }
}

impl From<String> for Contents {
    fn from(text: String) -> Contents {
        Contents::text(text)
    }
}

impl From<Vec<u8>> for Contents {
    fn from(bytes: Vec<u8>) -> Contents {
        Contents::bytes(bytes)
    }
}

impl From<&[u8]> for Contents {
    fn from(bytes: &[u8]) -> Contents {
        Contents::bytes(bytes)
    }
}

/// A JSON text that came from outside and was judged before it got here: an answer, an argument.
#[derive(Clone, PartialEq, Eq)]
pub struct JsonText(Vec<u8>);

impl JsonText {
    pub(super) fn new(text: impl Into<Vec<u8>>) -> JsonText {
        JsonText(text.into())
    }

    /// The text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, to look around in without parsing it whole.
    pub fn value(&self) -> json::Value<'_> {
        json::Value::new(&self.0)
    }

    /// The string member `name` of an object, unescaped.
    pub fn str(&self, name: &str) -> Option<String> {
        self.value().get(name)?.as_str().map(|text| text.into_owned())
    }

    /// As a Rust value.
    pub fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }
}

impl std::fmt::Debug for JsonText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::fmt::Display for JsonText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
