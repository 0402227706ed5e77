//! Resources and resource templates: their description and their readers.
//!
//! Not here: matching of templates (`proto::uri_template`).
//! Invariant: a reader is called only with a URI it was registered for, and what it returns is never an empty list.

use std::future::Future;

use super::content::Contents;
use super::context::Context;
use super::failure::{Asked, Failure};
use super::label::{Label, labelled};
use super::listing::CacheHint;
use super::outcome::{Outcome, Rendered};
use crate::proto::json::Object;
use crate::proto::mcp::Version;
use crate::proto::uri_template::{UriTemplate, percent_decode};
use crate::server::service::LocalFuture;

/// A resource at one URI.
///
/// ```
/// use corelane::{Contents, Context, Reading, Resource, Server};
///
/// let server = Server::builder("notes", "1.0")
///     .resource(
///         Resource::new("notes://readme").title("Read me").mime_type("text/plain"),
///         |_: &Reading, _: &Context| "Notes live here.",
///     )
///     .resource(Resource::new("notes://logo").mime_type("image/png"), |_: &Reading, _: &Context| {
///         Contents::bytes(b"\x89PNG...")
///     })
///     .build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Resource {
    pub(super) uri: String,
    pub(super) about: About,
    pub(super) label: Label,
}

/// Resources whose URIs have one form. Variables are given to the reader percent-decoded.
///
/// ```
/// use corelane::{Context, Failure, Reading, ResourceTemplate, Server};
///
/// let server = Server::builder("notes", "1.0")
///     .resource_template(
///         ResourceTemplate::new("notes://{folder}/{id}").mime_type("text/plain"),
///         |reading: &Reading, _: &Context| match reading.variable("id") {
///             Some("1") => Ok(format!("note 1 in {}", reading.variable("folder").unwrap_or_default())),
///             _ => Err(Failure::not_found()),
///         },
///     )
///     .build()?;
/// # Ok::<(), corelane::BuildError>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct ResourceTemplate {
    pub(super) template: String,
    pub(super) about: About,
    pub(super) label: Label,
}

#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct About {
    pub name: Option<String>,
    pub mime_type: Option<String>,
    pub size: Option<u64>,
    pub cache: Option<CacheHint>,
}

labelled!(Resource);
labelled!(ResourceTemplate);

macro_rules! described {
    ($type:ident) => {
        impl $type {
            /// The name for programs; by default the URI itself.
            pub fn name(mut self, name: impl Into<String>) -> Self {
                self.about.name = Some(name.into());
                self
            }

            /// The media type, of the list entry and of contents that do not say their own.
            pub fn mime_type(mut self, mime_type: impl Into<String>) -> Self {
                self.about.mime_type = Some(mime_type.into());
                self
            }

            /// How long and by whom its contents may be kept, where that differs from the server's setting.
            pub fn cache(mut self, hint: CacheHint) -> Self {
                self.about.cache = Some(hint);
                self
            }
        }
    };
}
described!(Resource);
described!(ResourceTemplate);

impl Resource {
    /// A resource at an absolute URI.
    pub fn new(uri: impl Into<String>) -> Resource {
        Resource { uri: uri.into(), about: About::default(), label: Label::default() }
    }

    /// Its size in bytes.
    pub fn size(mut self, bytes: u64) -> Resource {
        self.about.size = Some(bytes);
        self
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: Version) {
        write_entry(out, ("uri", &self.uri), &self.about, &self.label, version);
    }
}

impl ResourceTemplate {
    /// A template such as `notes://{folder}/{id}` (RFC 6570 level 1). A variable is at least one character, and holds
    /// neither a `/` nor a control character, percent-encoded or not; it may be `..`, so look before it becomes a path.
    pub fn new(template: impl Into<String>) -> ResourceTemplate {
        ResourceTemplate { template: template.into(), about: About::default(), label: Label::default() }
    }

    pub(super) fn write(&self, out: &mut Vec<u8>, version: Version) {
        write_entry(out, ("uriTemplate", &self.template), &self.about, &self.label, version);
    }
}

fn write_entry(out: &mut Vec<u8>, (key, uri): (&str, &str), about: &About, label: &Label, version: Version) {
    let mut object = Object::begin(out);
    object.string(key, uri);
    object.string("name", about.name.as_deref().unwrap_or(uri));
    label.write_head(&mut object, version);
    if let Some(mime_type) = &about.mime_type {
        object.string("mimeType", mime_type);
    }
    if let Some(size) = about.size.filter(|_| version >= Version::V2025_03_26) {
        object.integer("size", size);
    }
    label.write_tail(&mut object, version);
    object.end();
}

/// What is to be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reading {
    uri: String,
    variables: Vec<(String, String)>,
}

impl Reading {
    pub(super) fn plain(uri: &str) -> Reading {
        Reading { uri: uri.to_owned(), variables: Vec::new() }
    }

    /// `None` if the URI does not have the template's form, or a variable is not percent-encoded UTF-8, or is what no
    /// handler expects of one part of a path once it is decoded.
    pub(super) fn of_template(template: &UriTemplate, uri: &str) -> Option<Reading> {
        let captures = template.matches(uri)?;
        let variable = |name: &str| {
            let value = percent_decode(template.value(&captures, uri, name)?)?;
            let is_one_part = !value.contains(|letter: char| letter == '/' || letter.is_control());
            is_one_part.then(|| (name.to_owned(), value))
        };
        let variables = template.names().map(variable).collect::<Option<Vec<_>>>()?;
        Some(Reading { uri: uri.to_owned(), variables })
    }

    /// The URI as the client wrote it.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The value of a template's variable, percent-decoded.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

/// What a reader may return: text, bytes, [`Contents`], several of them, or a `Result` of these.
pub trait IntoContents {
    /// The contents.
    fn into_contents(self) -> Result<Vec<Contents>, Failure>;
}

macro_rules! contents {
    ($($type:ty),*) => {$(
        impl IntoContents for $type {
            fn into_contents(self) -> Result<Vec<Contents>, Failure> {
                Ok(vec![Contents::from(self)])
            }
        }
    )*};
}
contents!(&str, String, Vec<u8>, &[u8], Contents);

impl IntoContents for Vec<Contents> {
    fn into_contents(self) -> Result<Vec<Contents>, Failure> {
        Ok(self)
    }
}

impl<T: IntoContents, E: Into<Failure>> IntoContents for Result<T, E> {
    fn into_contents(self) -> Result<Vec<Contents>, Failure> {
        self.map_err(Into::into)?.into_contents()
    }
}

type Read = Result<Vec<Contents>, Failure>;
type AsyncReader<S> = Box<dyn Fn(Reading, Context<S>) -> LocalFuture<Read> + Send + Sync>;
type PlainReader<S> = Box<dyn Fn(&Reading, &Context<S>) -> Read + Send + Sync>;

pub(super) enum Reader<S> {
    Async(AsyncReader<S>),
    Plain(PlainReader<S>),
}

pub(super) fn plain<S, R, F>(reader: F) -> Reader<S>
where
    R: IntoContents,
    F: Fn(&Reading, &Context<S>) -> R + Send + Sync + 'static,
{
    Reader::Plain(Box::new(move |reading, ctx| reader(reading, ctx).into_contents()))
}

pub(super) fn asynchronous<S, R, F, Fut>(reader: F) -> Reader<S>
where
    R: IntoContents,
    F: Fn(Reading, Context<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = R> + 'static,
{
    Reader::Async(Box::new(move |reading, ctx| {
        let future = reader(reading, ctx);
        Box::pin(async move { future.await.into_contents() })
    }))
}

pub(super) struct ResourceEntry<S> {
    pub resource: Resource,
    pub reader: Reader<S>,
}

pub(super) struct TemplateEntry<S> {
    pub template: ResourceTemplate,
    pub matcher: UriTemplate,
    pub reader: Reader<S>,
}

/// What a reader returned, as an outcome.
pub(super) fn render(
    read: Result<Vec<Contents>, Failure>,
    uri: &str,
    mime_type: Option<&str>,
    cache: CacheHint,
    version: Version,
) -> Outcome {
    // An empty list would say that the resource exists and holds nothing.
    let read = read.and_then(|contents| if contents.is_empty() { Err(Failure::not_found()) } else { Ok(contents) });
    let contents = match read {
        Ok(contents) => contents,
        Err(failure) => {
            let settled = failure.settle(Asked::Resource { uri }, version);
            return settled.map(|_| Rendered::default());
        }
    };
    let mut members = br#""contents":["#.to_vec();
    for (index, contents) in contents.iter().enumerate() {
        if index > 0 {
            members.push(b',');
        }
        contents.write(&mut members, uri, mime_type);
    }
    members.push(b']');
    cache.write(&mut members, version);
    Ok(Rendered { members, meta: Vec::new() })
}
