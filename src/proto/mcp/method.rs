//! The requests and notifications a client may send, with the revisions that know them.
//!
//! Not here: their parameters. A request that a server sends is written by whoever asks (`upstream/native`).
//! Invariant: one table; `Method::parse` and `Method::known_to` cannot disagree about what exists.

use super::Version;
use crate::proto::json::{Envelope, Key};

macro_rules! methods {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $from:ident ..= $to:ident;)*) => {
        /// A request from a client.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u8)]
        pub enum Method { $($(#[$doc])* $variant),* }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Method] = &[$(Method::$variant),*];

            /// The method with this name.
            pub fn parse(name: &[u8]) -> Option<Method> {
                $(const $variant: &[u8] = $name.as_bytes();)*
                #[allow(non_upper_case_globals)]
                match name { $($variant => Some(Method::$variant),)* _ => None }
            }

            /// The name on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Method::$variant => $name),* }
            }

            /// Whether the revision has this method.
            pub fn known_to(self, version: Version) -> bool {
                match self { $(Method::$variant => (Version::$from..=Version::$to).contains(&version)),* }
            }
        }
    };
}

#[allow(non_upper_case_globals)]
mod table {
    use super::Version;
    methods! {
        /// Argument completion.
        CompletionComplete = "completion/complete", V2024_11_05 ..= V2026_07_28;
        /// The legacy handshake.
        Initialize = "initialize", V2024_11_05 ..= V2025_11_25;
        /// Least severe level a legacy session wants logged.
        LoggingSetLevel = "logging/setLevel", V2024_11_05 ..= V2025_11_25;
        /// Are you there?
        Ping = "ping", V2024_11_05 ..= V2025_11_25;
        /// One prompt, filled in.
        PromptsGet = "prompts/get", V2024_11_05 ..= V2026_07_28;
        /// The prompts.
        PromptsList = "prompts/list", V2024_11_05 ..= V2026_07_28;
        /// The resources.
        ResourcesList = "resources/list", V2024_11_05 ..= V2026_07_28;
        /// One resource's contents.
        ResourcesRead = "resources/read", V2024_11_05 ..= V2026_07_28;
        /// Be told when a resource changes.
        ResourcesSubscribe = "resources/subscribe", V2024_11_05 ..= V2025_11_25;
        /// The resource templates.
        ResourcesTemplatesList = "resources/templates/list", V2024_11_05 ..= V2026_07_28;
        /// No longer be told.
        ResourcesUnsubscribe = "resources/unsubscribe", V2024_11_05 ..= V2025_11_25;
        /// What a modern server can do.
        ServerDiscover = "server/discover", V2026_07_28 ..= V2026_07_28;
        /// A stream of chosen notifications.
        SubscriptionsListen = "subscriptions/listen", V2026_07_28 ..= V2026_07_28;
        /// Stop a task.
        TasksCancel = "tasks/cancel", V2025_11_25 ..= V2026_07_28;
        /// A task's state.
        TasksGet = "tasks/get", V2025_11_25 ..= V2026_07_28;
        /// The caller's tasks (2025-11-25 only).
        TasksList = "tasks/list", V2025_11_25 ..= V2025_11_25;
        /// A task's result, once there (2025-11-25 only).
        TasksResult = "tasks/result", V2025_11_25 ..= V2025_11_25;
        /// Answer what a task asked for (tasks extension, SEP-2663).
        TasksUpdate = "tasks/update", V2026_07_28 ..= V2026_07_28;
        /// Call a tool.
        ToolsCall = "tools/call", V2024_11_05 ..= V2026_07_28;
        /// The tools.
        ToolsList = "tools/list", V2024_11_05 ..= V2026_07_28;
    }
}
pub use table::Method;

/// A notification from a client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// `notifications/cancelled`: the client no longer wants the answer to a request.
    Cancelled,
    /// `notifications/initialized`: the legacy handshake is complete.
    Initialized,
    /// `notifications/progress`: progress on something the server asked for.
    Progress,
    /// `notifications/roots/list_changed`: the client's roots are others now.
    RootsListChanged,
    /// Anything else: accepted and ignored, as JSON-RPC wants it.
    Unknown,
}

/// What a message says its method is, unescaped where a table knows it: `tools\/list`, as some encoders write `/`, is
/// `tools/list`. What no table knows stays as it is written; none if it is no string.
pub fn method_name<'a>(envelope: &Envelope, text: &'a [u8]) -> Option<&'a [u8]> {
    if let Some(plain) = envelope.plain(Key::Method, text) {
        return Some(plain);
    }
    let unescaped = envelope.str(Key::Method, text)?;
    let known = Method::parse(unescaped.as_bytes()).map(Method::as_str);
    let notice = || Notice::NAMED.into_iter().map(|(name, _)| name).find(|name| **name == *unescaped);
    match known.or_else(notice) {
        Some(name) => Some(name.as_bytes()),
        None => envelope.get(Key::Method).of(text).strip_prefix(b"\"")?.strip_suffix(b"\""),
    }
}

impl Notice {
    const NAMED: [(&'static str, Self); 4] = [
        ("notifications/cancelled", Self::Cancelled),
        ("notifications/initialized", Self::Initialized),
        ("notifications/progress", Self::Progress),
        ("notifications/roots/list_changed", Self::RootsListChanged),
    ];

    /// The notification with this name.
    pub fn parse(name: &[u8]) -> Notice {
        let known = Self::NAMED.into_iter().find(|(known, _)| known.as_bytes() == name);
        known.map_or(Self::Unknown, |(_, notice)| notice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_method() {
        for &method in Method::ALL {
            assert_eq!(Method::parse(method.as_str().as_bytes()), Some(method));
        }
        assert_eq!(Method::parse(b"Tools/call"), None);
        assert_eq!(Method::parse(b""), None);
    }

    #[test]
    fn a_method_is_the_same_however_it_is_escaped() {
        for (written, meant) in [
            (r#""tools\/list""#, Some("tools/list")),
            (r#""tools/list""#, Some("tools/list")),
            (r#""\u0069nitialize""#, Some("initialize")),
            (r#""notifications\/initialized""#, Some("notifications/initialized")),
            (r#""notifications\/roots\/list_changed""#, Some("notifications/roots/list_changed")),
            (r#""no\/such""#, Some(r"no\/such")),
            ("5", None),
        ] {
            let text = format!(r#"{{"method":{written}}}"#);
            let mut envelope = Envelope::default();
            crate::proto::json::Scanner::new().scan(text.as_bytes(), &mut envelope).expect("JSON");
            assert_eq!(method_name(&envelope, text.as_bytes()), meant.map(str::as_bytes), "{written}");
        }
        assert!(Notice::NAMED.into_iter().all(|(name, notice)| Notice::parse(name.as_bytes()) == notice));
    }

    #[test]
    fn removed_methods_are_unknown_to_the_modern_revision() {
        let removed = [
            Method::Initialize,
            Method::Ping,
            Method::LoggingSetLevel,
            Method::ResourcesSubscribe,
            Method::ResourcesUnsubscribe,
            Method::TasksList,
            Method::TasksResult,
        ];
        for method in removed {
            assert!(!method.known_to(Version::V2026_07_28), "{}", method.as_str());
        }
        assert!(!Method::ServerDiscover.known_to(Version::V2025_11_25));
    }
}
