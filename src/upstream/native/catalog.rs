//! What a server serves, as all cores share it: read only, found by name, lists written.
//!
//! Not here: state and calls, which each core has for itself.
//! Invariant: nothing in it changes after it was made.

use std::collections::HashMap;

use super::builder::{Draft, ServerBuilder, SessionHandler};
use super::completion::Completer;
use super::desk::Settings;
use super::label::write_icons;
use super::listing::{CacheHint, Listing};
use super::names::Names;
use super::output::modern_tail;
use super::prompt::PromptEntry;
use super::request_state::BindingKeys;
use super::resource::Reading;
use super::resource::{Reader, ResourceEntry, TemplateEntry};
use super::tool::{TaskSupport, ToolEntry};
use crate::proto::json::{self, Object};
use crate::proto::mcp::Version;
use crate::server::service::{About, Offers};

pub(super) struct Catalog<S> {
    pub about: About,
    pub modern_tail: Vec<u8>,
    pub settings: Settings,
    pub read_cache: CacheHint,
    pub binding_keys: BindingKeys,
    pub state: Box<dyn Fn() -> S + Send + Sync>,
    pub tools: Vec<ToolEntry<S>>,
    pub tool_names: Names,
    pub resources: Vec<ResourceEntry<S>>,
    /// Keyed with secrets: URIs come from outside in any number.
    resource_uris: HashMap<String, usize>,
    pub templates: Vec<TemplateEntry<S>>,
    pub prompts: Vec<PromptEntry<S>>,
    pub prompt_names: Names,
    prompt_completers: Vec<(usize, String, Completer<S>)>,
    template_completers: Vec<(usize, String, Completer<S>)>,
    pub roots_changed: Option<SessionHandler<S>>,
    pub session_ended: Option<SessionHandler<S>>,
    pub tool_list: Listing,
    pub resource_list: Listing,
    pub template_list: Listing,
    pub prompt_list: Listing,
}

impl<S> Catalog<S> {
    pub fn new(builder: ServerBuilder<S>) -> Catalog<S> {
        let ServerBuilder { draft, state, tools, resources, templates, prompts, .. } = builder;
        let server_info = server_info(&draft);
        let modern_tail = modern_tail(&server_info);
        let list = |member, count, write: &dyn Fn(usize, &mut Vec<u8>, Version)| {
            Listing::build(member, count, draft.page_size, draft.list_cache, &modern_tail, write)
        };
        let has_tasks = tools.iter().any(|entry| entry.tool.task_support != TaskSupport::Forbidden);
        let offers = Offers {
            tools: !tools.is_empty(),
            tools_list_changed: draft.tools_change,
            prompts: !prompts.is_empty(),
            prompts_list_changed: draft.prompts_change,
            resources: !resources.is_empty() || !templates.is_empty(),
            resources_list_changed: draft.resources_change,
            resources_subscribe: draft.subscriptions,
            completions: !builder.prompt_completers.is_empty() || !builder.template_completers.is_empty(),
            logging: draft.settings.logging,
            tasks: has_tasks,
            tasks_extension: has_tasks,
        };
        let instructions = draft.instructions.as_ref().map(|text| {
            let mut quoted = Vec::new();
            json::string(&mut quoted, text);
            quoted
        });
        let tool_list = list("tools", tools.len(), &|index, out, version| {
            let entry = &tools[index];
            entry.tool.write(out, &entry.input_schema, entry.output_schema.as_ref(), version);
        });
        Catalog {
            about: About { server_info, instructions, offers },
            settings: draft.settings,
            read_cache: draft.read_cache,
            binding_keys: BindingKeys::default(),
            state,
            tool_list,
            tool_names: names(tools.iter().map(|entry| entry.tool.name.as_str())),
            resource_list: list("resources", resources.len(), &|index, out, version| {
                resources[index].resource.write(out, version);
            }),
            template_list: list("resourceTemplates", templates.len(), &|index, out, version| {
                templates[index].template.write(out, version);
            }),
            prompt_list: list("prompts", prompts.len(), &|index, out, version| {
                prompts[index].prompt.write(out, version);
            }),
            prompt_names: names(prompts.iter().map(|entry| entry.prompt.name.as_str())),
            resource_uris: resources.iter().enumerate().map(|(at, entry)| (entry.resource.uri.clone(), at)).collect(),
            prompt_completers: builder.prompt_completers,
            template_completers: builder.template_completers,
            roots_changed: builder.roots_changed,
            session_ended: builder.session_ended,
            tools,
            resources,
            templates,
            prompts,
            modern_tail,
        }
    }

    /// What reads a URI: its resource, or the first template that matches.
    pub fn reader(&self, uri: &str) -> Option<(&Reader<S>, Reading, Option<&str>, CacheHint)> {
        if let Some(&index) = self.resource_uris.get(uri) {
            let ResourceEntry { resource, reader } = &self.resources[index];
            let cache = resource.about.cache.unwrap_or(self.read_cache);
            return Some((reader, Reading::plain(uri), resource.about.mime_type.as_deref(), cache));
        }
        self.templates.iter().find_map(|entry| {
            let reading = Reading::of_template(&entry.matcher, uri)?;
            let about = &entry.template.about;
            Some((&entry.reader, reading, about.mime_type.as_deref(), about.cache.unwrap_or(self.read_cache)))
        })
    }

    /// What completes an argument: `None` if there is no such prompt, `Some(None)` if nobody completes it.
    pub fn prompt_completer(&self, prompt: &str, argument: &str) -> Option<Option<&Completer<S>>> {
        let index = *self.prompt_names.get(prompt.as_bytes())?;
        Some(find(&self.prompt_completers, index, argument))
    }

    /// The same for a template, or a resource, which has nothing to complete.
    pub fn template_completer(&self, uri: &str, variable: &str) -> Option<Option<&Completer<S>>> {
        if self.resource_uris.contains_key(uri) {
            return Some(None);
        }
        let index = self.templates.iter().position(|entry| entry.template.template == uri)?;
        Some(find(&self.template_completers, index, variable))
    }
}

fn find<'c, S>(
    completers: &'c [(usize, String, Completer<S>)],
    index: usize,
    argument: &str,
) -> Option<&'c Completer<S>> {
    let found = completers.iter().find(|(other, name, _)| *other == index && name == argument);
    found.map(|(_, _, completer)| completer)
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> Names {
    names.enumerate().map(|(index, name)| (Box::from(name.as_bytes()), index)).collect()
}

fn server_info(draft: &Draft) -> Vec<u8> {
    let mut text = Vec::new();
    let mut object = Object::begin(&mut text);
    object.string("name", &draft.name);
    if let Some(title) = &draft.label.title {
        object.string("title", title);
    }
    object.string("version", &draft.version);
    if let Some(website) = &draft.website {
        object.string("websiteUrl", website);
    }
    write_icons(&draft.label.icons, &mut object, Version::V2026_07_28);
    object.end();
    text
}
