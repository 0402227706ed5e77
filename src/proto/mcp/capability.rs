//! What a client says it can do, as bits, and the levels of a log message.
//!
//! Not here: what our side can do (that follows from what the service serves).
//! Invariant: a bit is set only if the client declared the capability as an object.

use super::version::Version;
use crate::proto::json::{Object, Value, ValueKind};

/// The client's capabilities that change what a server may ask or answer.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Capabilities(u16);

impl Capabilities {
    /// May be asked by a form (`elicitation`, or `elicitation.form`).
    pub const ELICITATION_FORM: Capabilities = Capabilities(1);
    /// May be sent to a URL (`elicitation.url`).
    pub const ELICITATION_URL: Capabilities = Capabilities(1 << 1);
    /// Has a language model to sample from.
    pub const SAMPLING: Capabilities = Capabilities(1 << 2);
    /// Sampling with tools.
    pub const SAMPLING_TOOLS: Capabilities = Capabilities(1 << 3);
    /// Has roots.
    pub const ROOTS: Capabilities = Capabilities(1 << 4);
    /// Knows the tasks extension (`extensions["io.modelcontextprotocol/tasks"]`).
    pub const TASKS_EXTENSION: Capabilities = Capabilities(1 << 5);

    /// Adds what it knows of servers to a sample (`sampling.context`).
    pub const SAMPLING_CONTEXT: Capabilities = Capabilities(1 << 7);

    /// Tells when its roots are others (`roots.listChanged`, until 2025-11-25).
    pub const ROOTS_LIST_CHANGED: Capabilities = Capabilities(1 << 6);

    /// Reads a `ClientCapabilities` object; `None` if the text is not an object.
    pub fn parse(text: &[u8]) -> Option<Capabilities> {
        let value = Value::new(text);
        if !is_object(&value) {
            return None;
        }
        let mut bits = Capabilities::default();
        for (name, capability) in value.members().filter(|(_, capability)| is_object(capability)) {
            if name.is("elicitation") {
                bits = bits.with(Capabilities::of_elicitation(&capability));
            } else if name.is("sampling") {
                bits = bits.with(Capabilities::SAMPLING);
                for (_, bit) in SAMPLING.into_iter().filter(|(name, _)| capability.get(name).is_some()) {
                    bits = bits.with(bit);
                }
            } else if name.is("roots") {
                bits = bits.with(Capabilities::ROOTS);
                if capability.get("listChanged").and_then(Value::as_bool) == Some(true) {
                    bits = bits.with(Capabilities::ROOTS_LIST_CHANGED);
                }
            } else if name.is("extensions")
                && capability.get("io.modelcontextprotocol/tasks").is_some_and(|tasks| is_object(&tasks))
            {
                bits = bits.with(Capabilities::TASKS_EXTENSION);
            }
        }
        Some(bits)
    }

    fn of_elicitation(elicitation: &Value<'_>) -> Capabilities {
        match (elicitation.get("form").is_some(), elicitation.get("url").is_some()) {
            // 2025-06-18 knew only forms and wrote `{}`.
            (_, false) => Capabilities::ELICITATION_FORM,
            (true, true) => Capabilities::ELICITATION_FORM.with(Capabilities::ELICITATION_URL),
            (false, true) => Capabilities::ELICITATION_URL,
        }
    }

    /// These and those.
    pub const fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// These, but not those.
    pub const fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Whether all of `other` are declared.
    pub const fn has(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }

    /// Those of them that a revision knows: what was declared beyond is no promise, since the revision does not say how
    /// it would be kept. (2025-06-18 brought elicitation, 2025-11-25 its mode "url" and tools in sampling.)
    pub fn known_to(self, version: Version) -> Capabilities {
        let mut unknown = Capabilities::default();
        if version < Version::V2025_06_18 {
            unknown = unknown.with(Capabilities::ELICITATION_FORM);
        }
        if version < Version::V2025_11_25 {
            unknown =
                SAMPLING.into_iter().fold(unknown.with(Capabilities::ELICITATION_URL), |all, (_, bit)| all.with(bit));
        }
        self.without(unknown)
    }

    /// The `ClientCapabilities` object that says so.
    pub fn to_json(self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut object = Object::begin(&mut out);
        let (form, url) = (self.has(Capabilities::ELICITATION_FORM), self.has(Capabilities::ELICITATION_URL));
        if form || url {
            let mut elicitation = object.object("elicitation");
            for (name, _) in [("form", form), ("url", url)].into_iter().filter(|(_, declared)| *declared) {
                elicitation.raw(name, b"{}");
            }
            elicitation.end();
        }
        if self.has(Capabilities::SAMPLING) {
            let mut sampling = object.object("sampling");
            for (name, _) in SAMPLING.into_iter().filter(|(_, bit)| self.has(*bit)) {
                sampling.raw(name, b"{}");
            }
            sampling.end();
        }
        if self.has(Capabilities::ROOTS) {
            let tells = self.has(Capabilities::ROOTS_LIST_CHANGED);
            object.raw("roots", if tells { br#"{"listChanged":true}"# } else { b"{}" });
        }
        if self.has(Capabilities::TASKS_EXTENSION) {
            object.raw("extensions", br#"{"io.modelcontextprotocol/tasks":{}}"#);
        }
        object.end();
        out
    }

    /// The bits, for a sealed session id.
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// From the bits of a sealed session id.
    pub const fn from_bits(bits: u16) -> Capabilities {
        Capabilities(bits)
    }
}

/// What a client may declare within `sampling`. (2025-11-25)
const SAMPLING: [(&str, Capabilities); 2] =
    [("context", Capabilities::SAMPLING_CONTEXT), ("tools", Capabilities::SAMPLING_TOOLS)];

fn is_object(value: &Value<'_>) -> bool {
    value.kind() == ValueKind::Object
}

/// Severity of a log message (RFC 5424), least severe first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum LogLevel {
    /// Details for finding faults.
    Debug = 0,
    /// What went on.
    Info = 1,
    /// Normal but worth noting.
    Notice = 2,
    /// May become a fault.
    Warning = 3,
    /// A fault.
    Error = 4,
    /// A part is failing.
    Critical = 5,
    /// Somebody must act.
    Alert = 6,
    /// Unusable.
    Emergency = 7,
}

impl LogLevel {
    /// Every level, least severe first.
    pub const ALL: [LogLevel; 8] = [
        LogLevel::Debug,
        LogLevel::Info,
        LogLevel::Notice,
        LogLevel::Warning,
        LogLevel::Error,
        LogLevel::Critical,
        LogLevel::Alert,
        LogLevel::Emergency,
    ];

    /// The level with this name.
    pub fn parse(name: &[u8]) -> Option<LogLevel> {
        LogLevel::ALL.into_iter().find(|level| level.as_str().as_bytes() == name)
    }

    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Notice => "notice",
            LogLevel::Warning => "warning",
            LogLevel::Error => "error",
            LogLevel::Critical => "critical",
            LogLevel::Alert => "alert",
            LogLevel::Emergency => "emergency",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_follow_what_the_client_declared() {
        let all = Capabilities::parse(
            br#"{"elicitation":{"url":{}},"sampling":{"tools":{},"context":{}},"roots":{"listChanged":true},
                "extensions":{"io.modelcontextprotocol/tasks":{}}}"#,
        )
        .expect("an object");
        assert!(all.has(Capabilities::ELICITATION_URL) && !all.has(Capabilities::ELICITATION_FORM));
        assert!(all.has(Capabilities::ROOTS_LIST_CHANGED));
        let again = Capabilities::parse(&all.to_json());
        assert_eq!(again, Some(all), "what is written is read back");
        assert!(all.has(Capabilities::SAMPLING_CONTEXT));
        assert!(all.has(Capabilities::SAMPLING_TOOLS.with(Capabilities::ROOTS).with(Capabilities::TASKS_EXTENSION)));
        assert!(Capabilities::parse(br#"{"elicitation":{}}"#).expect("ok").has(Capabilities::ELICITATION_FORM));
        assert_eq!(Capabilities::parse(br#"{"sampling":true}"#), Some(Capabilities::default()));
        assert_eq!(Capabilities::parse(b"[]"), None);
    }

    #[test]
    fn a_revision_knows_no_capability_that_came_after_it() {
        let all = Capabilities::from_bits(u16::MAX);
        let (form, url) = (Capabilities::ELICITATION_FORM, Capabilities::ELICITATION_URL);
        for (version, knows_forms, knows_visits) in [
            (Version::V2024_11_05, false, false),
            (Version::V2025_03_26, false, false),
            (Version::V2025_06_18, true, false),
            (Version::V2025_11_25, true, true),
            (Version::V2026_07_28, true, true),
        ] {
            let known = all.known_to(version);
            assert_eq!((known.has(form), known.has(url)), (knows_forms, knows_visits), "{version}");
            assert_eq!(known.has(Capabilities::SAMPLING_TOOLS), knows_visits, "{version}");
            assert_eq!(known.has(Capabilities::SAMPLING_CONTEXT), knows_visits, "{version}");
            assert!(known.has(Capabilities::SAMPLING.with(Capabilities::ROOTS)), "{version}");
        }
    }
}
