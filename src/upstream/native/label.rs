//! How tools, prompts, resources and templates present themselves: title, description, icons, `_meta`.
//!
//! Not here: their names, which are what they are called by.
//! Invariant: a revision is told only what it knows.

use super::ask::one_line;
use crate::proto::json::Object;
use crate::proto::mcp::Version;

/// A picture for a list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Icon {
    src: String,
    mime_type: Option<String>,
    sizes: Vec<String>,
}

impl Icon {
    /// A picture at a URL (`https:` or `data:`).
    pub fn new(src: impl Into<String>) -> Icon {
        Icon { src: src.into(), mime_type: None, sizes: Vec::new() }
    }

    /// Its media type.
    pub fn mime_type(mut self, mime_type: impl Into<String>) -> Icon {
        self.mime_type = Some(mime_type.into());
        self
    }

    /// A size it looks good in: `48x48` or `any`.
    pub fn size(mut self, size: impl Into<String>) -> Icon {
        self.sizes.push(size.into());
        self
    }
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Label {
    pub title: Option<String>,
    pub description: Option<String>,
    pub icons: Vec<Icon>,
    pub meta: Vec<(String, String)>,
}

impl Label {
    pub fn add_meta(&mut self, key: String, value: String) {
        self.meta.push((key, one_line(value)));
    }

    pub fn write_head(&self, object: &mut Object<'_>, version: Version) {
        if let Some(title) = self.title.as_ref().filter(|_| version >= Version::V2025_06_18) {
            object.string("title", title);
        }
        if let Some(description) = &self.description {
            object.string("description", description);
        }
    }

    pub fn write_tail(&self, object: &mut Object<'_>, version: Version) {
        write_icons(&self.icons, object, version);
        if !self.meta.is_empty() && version >= Version::V2025_06_18 {
            let mut meta = object.object("_meta");
            self.meta.iter().for_each(|(key, value)| meta.raw(key, value.as_bytes()));
        }
    }
}

pub(super) fn write_icons(icons: &[Icon], object: &mut Object<'_>, version: Version) {
    if icons.is_empty() || version < Version::V2025_11_25 {
        return;
    }
    let mut array = object.array("icons");
    for icon in icons {
        let mut entry = array.object();
        entry.string("src", &icon.src);
        if let Some(mime_type) = &icon.mime_type {
            entry.string("mimeType", mime_type);
        }
        if !icon.sizes.is_empty() {
            let mut sizes = entry.array("sizes");
            icon.sizes.iter().for_each(|size| sizes.string(size));
        }
    }
}

/// The methods that set a label.
macro_rules! labelled {
    ($type:ident) => {
        impl $type {
            /// What people read; the name is for programs.
            pub fn title(mut self, title: impl Into<String>) -> Self {
                self.label.title = Some(title.into());
                self
            }

            /// What it is for.
            pub fn description(mut self, description: impl Into<String>) -> Self {
                self.label.description = Some(description.into());
                self
            }

            /// Adds a picture.
            pub fn icon(mut self, icon: $crate::upstream::native::Icon) -> Self {
                self.label.icons.push(icon);
                self
            }

            /// Adds a member to `_meta`; `value` is a JSON text.
            pub fn meta(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
                self.label.add_meta(key.into(), value.into());
                self
            }
        }
    };
}
pub(super) use labelled;
