//! What is pinned on every server, and what was seen in its place: a plain value that sightings and approvals change.
//!
//! Not here: locks, files (`file`), cores. Invariant: a pin changes by an approval only; what cannot be kept within the
//! bounds is not pinned, and that is said.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::limits::{PIN_BYTES_PER_SERVER_MAX, PINNED_SERVERS_MAX, PINS_PER_SERVER_MAX};
use crate::proto::mcp::pin;
use crate::server::service::Nanos;
use crate::upstream::gateway::{ChangedTool, Pins, SeenTool, ServerPins, Sha256, Sighting, ToolPin};

/// What a tool is, or was seen to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Definition {
    pub sha256: Sha256,
    /// In canonical form; none if there was no room to keep it.
    pub text: Option<Arc<str>>,
}

/// One tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Tool {
    /// What it is to be.
    pub pinned: Definition,
    /// What it is instead, if it is something else.
    pub changed: Option<Definition>,
    /// The change that was said last, so that each is said once.
    said: Option<Sha256>,
    /// And that it is taken back.
    is_back_said: bool,
}

/// One server.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub tools: BTreeMap<Box<str>, Tool>,
    readmitted: u64,
    /// It was said that there is no room for more.
    is_full_said: bool,
    /// As cores were told last.
    told: Arc<ServerPins>,
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub servers: BTreeMap<Box<str>, Server>,
    /// By core: the number of its last sighting.
    heard: Vec<Nanos>,
    /// Counts what sightings changed.
    pub edits: u64,
}

/// What came of a sighting, to be said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A server was seen for the first time, and so many of its tools are pinned.
    First { tools: usize },
    /// A tool that was not there before is pinned.
    New { tool: Box<str> },
    /// A tool is not what was pinned.
    Changed { tool: Box<str>, differing: String },
    /// A tool is again what was pinned.
    Back { tool: Box<str> },
    /// There is no room to pin a tool.
    Full { tool: Box<str> },
}

impl Definition {
    fn of(tool: &SeenTool, room: usize) -> Definition {
        let text = (tool.text.len() <= room).then(|| Arc::from(&*tool.text));
        Definition { sha256: tool.sha256, text }
    }

    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len())
    }
}

impl Tool {
    /// One that is pinned as it is.
    pub fn new(pinned: Definition, changed: Option<Definition>) -> Tool {
        Tool { pinned, changed, said: None, is_back_said: false }
    }

    /// What differs, in words.
    pub fn differing(&self) -> String {
        let changed = self.changed.as_ref().and_then(|changed| changed.text.as_deref());
        let (Some(one), Some(other)) = (self.pinned.text.as_deref(), changed) else {
            return "its definition".to_owned();
        };
        match &pin::differing(one.as_bytes(), other.as_bytes())[..] {
            [] => "how often it is listed".to_owned(),
            members => members.join(", "),
        }
    }

    fn bytes(&self) -> usize {
        self.pinned.bytes() + self.changed.as_ref().map_or(0, Definition::bytes)
    }
}

impl Server {
    fn see(&mut self, seen: &SeenTool, is_first: bool, bytes: &mut usize, edits: &mut u64) -> Option<Event> {
        let room = PIN_BYTES_PER_SERVER_MAX.saturating_sub(*bytes);
        let Some(tool) = self.tools.get_mut(&seen.name) else {
            let definition = Definition::of(seen, room);
            if self.tools.len() >= PINS_PER_SERVER_MAX || definition.text.is_none() {
                let is_said = std::mem::replace(&mut self.is_full_said, true);
                return (!is_said).then(|| Event::Full { tool: seen.name.clone() });
            }
            *bytes += definition.bytes();
            *edits += 1;
            self.tools.insert(seen.name.clone(), Tool::new(definition, None));
            return (!is_first).then(|| Event::New { tool: seen.name.clone() });
        };
        *bytes -= tool.bytes();
        let event = if tool.pinned.sha256 == seen.sha256 {
            let is_back = tool.changed.take().is_some();
            self.readmitted += u64::from(is_back);
            *edits += u64::from(is_back);
            let is_news = is_back && !std::mem::replace(&mut tool.is_back_said, true);
            is_news.then(|| Event::Back { tool: seen.name.clone() })
        } else {
            let room = PIN_BYTES_PER_SERVER_MAX.saturating_sub(*bytes + tool.pinned.bytes());
            let is_known = tool.changed.as_ref().is_some_and(|changed| changed.sha256 == seen.sha256);
            *edits += u64::from(!is_known);
            tool.changed = Some(Definition::of(seen, room));
            let is_said = tool.said.replace(seen.sha256) == Some(seen.sha256);
            tool.is_back_said &= is_said;
            (!is_said).then(|| Event::Changed { tool: seen.name.clone(), differing: tool.differing() })
        };
        *bytes += tool.bytes();
        event
    }

    fn bytes(&self) -> usize {
        self.tools.values().map(Tool::bytes).sum()
    }

    /// Tools that are not what was pinned.
    pub fn changed(&self) -> impl Iterator<Item = (&str, &Tool, &Definition)> {
        self.tools.iter().filter_map(|(name, tool)| Some((&**name, tool, tool.changed.as_ref()?)))
    }

    /// Makes anew what cores are told.
    fn retell(&mut self) {
        let pin = |tool: &Tool| {
            let changed = tool.changed.as_ref();
            ToolPin {
                pinned: tool.pinned.sha256,
                changed: changed
                    .map(|changed| ChangedTool { sha256: changed.sha256, differing: tool.differing().into() }),
            }
        };
        let tools: HashMap<Box<str>, ToolPin> =
            self.tools.iter().map(|(name, tool)| (name.clone(), pin(tool))).collect();
        let changed = self.changed().count();
        self.told = Arc::new(ServerPins { tools, changed, readmitted: self.readmitted });
    }
}

impl Ledger {
    /// Of what a file holds.
    pub fn of(servers: BTreeMap<Box<str>, BTreeMap<Box<str>, Tool>>) -> Ledger {
        let server = |tools| {
            let mut server = Server { tools, ..Server::default() };
            server.retell();
            server
        };
        let servers = servers.into_iter().map(|(name, tools)| (name, server(tools))).collect();
        Ledger { servers, ..Ledger::default() }
    }

    /// A core reports what it read. `is_configured` says of a server whether there is one now.
    pub fn see(&mut self, sighting: &Sighting, is_configured: impl Fn(&str) -> bool) -> Vec<Event> {
        let core = sighting.core.index();
        if self.heard.len() <= core {
            self.heard.resize(core + 1, 0);
        }
        self.heard[core] = self.heard[core].max(sighting.number);
        if sighting.tools.is_empty() {
            return Vec::new();
        }
        if !self.servers.contains_key(&sighting.server) && self.servers.len() >= PINNED_SERVERS_MAX {
            // Room for one that is there, in place of one that is not.
            self.servers.retain(|name, _| is_configured(name));
        }
        let server = self.servers.entry(sighting.server.clone()).or_default();
        let is_first = server.tools.is_empty();
        let (mut bytes, edits) = (server.bytes(), self.edits);
        let see = |tool| server.see(tool, is_first, &mut bytes, &mut self.edits);
        let mut events: Vec<Event> = sighting.tools.iter().filter_map(see).collect();
        if is_first && !server.tools.is_empty() {
            events.insert(0, Event::First { tools: server.tools.len() });
        }
        // What stayed as it was stays the same value, so that cores see it at a glance.
        if self.edits != edits {
            server.retell();
        }
        events
    }

    /// Tools of a server are from now on to be what they were seen to be; those that have changed since stay changed.
    pub fn approve(&mut self, server: &str, approved: &[(Box<str>, Definition)]) {
        let Some(server) = self.servers.get_mut(server) else { return };
        for (name, definition) in approved {
            let Some(tool) = server.tools.get_mut(name) else { continue };
            tool.pinned = definition.clone();
            if tool.changed.as_ref().is_some_and(|changed| changed.sha256 == definition.sha256) {
                tool.changed = None;
            }
            server.readmitted += 1;
        }
        server.retell();
    }

    /// What cores are told.
    pub fn pins(&self) -> Pins {
        let servers = self.servers.iter().map(|(name, server)| (name.clone(), Arc::clone(&server.told))).collect();
        Pins { servers, heard: self.heard.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::CoreId;

    pub fn seen(name: &str, description: &str) -> SeenTool {
        let text = format!(r#"{{"description":"{description}","name":"{name}"}}"#);
        SeenTool { name: name.into(), sha256: pin::sha256(text.as_bytes()), text: text.into() }
    }

    fn see(ledger: &mut Ledger, number: Nanos, tools: &[&SeenTool]) -> Vec<Event> {
        let tools = tools.iter().copied().cloned().collect();
        let sighting = Sighting { core: CoreId(1), number, server: "s".into(), tools };
        ledger.see(&sighting, |_| true)
    }

    fn standing(ledger: &Ledger, tool: &str) -> (Sha256, Option<Sha256>) {
        let pin = &ledger.pins().servers["s"].tools[tool];
        (pin.pinned, pin.changed.as_ref().map(|changed| changed.sha256))
    }

    #[test]
    fn the_first_sight_pins_and_a_change_is_said_once() {
        let mut ledger = Ledger::default();
        let (one, other, third) = (seen("a", "1"), seen("a", "2"), seen("a", "3"));
        assert_eq!(see(&mut ledger, 5, &[&one, &seen("b", "1")]), [Event::First { tools: 2 }]);
        assert_eq!(see(&mut ledger, 6, &[&one]), [], "another core saw the same");
        let changed = |differing: &str| Event::Changed { tool: "a".into(), differing: differing.to_owned() };
        assert_eq!(see(&mut ledger, 7, &[&other]), [changed("description")]);
        assert_eq!(see(&mut ledger, 8, &[&other]), []);
        assert_eq!(standing(&ledger, "a"), (one.sha256, Some(other.sha256)));
        assert_eq!(see(&mut ledger, 9, &[&third]), [changed("description")], "another change is another");
        assert_eq!(see(&mut ledger, 10, &[&one]), [Event::Back { tool: "a".into() }]);
        assert_eq!(standing(&ledger, "a"), (one.sha256, None));
        assert_eq!(see(&mut ledger, 11, &[&third]), [], "a server that goes to and fro does not fill the log");
        assert_eq!(see(&mut ledger, 11, &[&one]), []);
        assert_eq!(see(&mut ledger, 11, &[&third]), []);
        assert_eq!(standing(&ledger, "a"), (one.sha256, Some(third.sha256)));
        assert_eq!(see(&mut ledger, 12, &[&seen("c", "1")]), [Event::New { tool: "c".into() }]);
        let pins = ledger.pins();
        assert_eq!((pins.heard, pins.servers["s"].changed), (vec![0, 12], 1));
    }

    #[test]
    fn what_is_approved_is_what_was_looked_at() {
        let mut ledger = Ledger::default();
        let (one, other, third) = (seen("a", "1"), seen("a", "2"), seen("a", "3"));
        see(&mut ledger, 1, &[&one, &seen("b", "1")]);
        see(&mut ledger, 2, &[&other, &seen("b", "2")]);
        let looked_at = ledger.servers["s"].tools["a"].changed.clone().expect("changed");
        let before = ledger.pins().servers["s"].readmitted;
        ledger.approve("s", &[("a".into(), looked_at.clone())]);
        assert_eq!(standing(&ledger, "a"), (other.sha256, None));
        assert!(standing(&ledger, "b").1.is_some(), "nobody approved that");
        assert_ne!(ledger.pins().servers["s"].readmitted, before);
        see(&mut ledger, 3, &[&third]);
        ledger.approve("s", &[("a".into(), looked_at)]);
        assert_eq!(standing(&ledger, "a"), (other.sha256, Some(third.sha256)), "it changed meanwhile");
    }

    #[test]
    fn there_is_room_for_so_much_and_no_more() {
        let mut ledger = Ledger::default();
        let many: Vec<SeenTool> = (0..PINS_PER_SERVER_MAX + 5).map(|n| seen(&n.to_string(), "")).collect();
        let events = see(&mut ledger, 1, &many.iter().collect::<Vec<_>>());
        assert_eq!(events.len(), 2, "{events:?}");
        assert_eq!(events[0], Event::First { tools: PINS_PER_SERVER_MAX });
        assert!(matches!(events[1], Event::Full { .. }));
        assert_eq!(ledger.pins().servers["s"].tools.len(), PINS_PER_SERVER_MAX);

        let mut ledger = Ledger::default();
        let (small, large) = (seen("a", "x"), seen("a", &"x".repeat(PIN_BYTES_PER_SERVER_MAX)));
        see(&mut ledger, 1, &[&small, &seen("b", "x")]);
        see(&mut ledger, 2, &[&large]);
        let tool = &ledger.servers["s"].tools["a"];
        assert_eq!(tool.changed, Some(Definition { sha256: large.sha256, text: None }), "kept back all the same");
        assert_eq!(tool.differing(), "its definition");
        let nearly = seen("a", &"x".repeat(PIN_BYTES_PER_SERVER_MAX - 1000));
        see(&mut ledger, 3, &[&nearly]);
        assert!(ledger.servers["s"].tools["a"].changed.as_ref().expect("changed").text.is_some());
        let full = see(&mut ledger, 4, &[&seen("c", &"x".repeat(2000))]);
        assert!(matches!(full[..], [Event::Full { .. }]));
        see(&mut ledger, 5, &[&small]);
        assert!(matches!(see(&mut ledger, 6, &[&seen("c", &"x".repeat(2000))])[..], [Event::New { .. }]), "room again");
    }

    #[test]
    fn servers_that_are_gone_make_room() {
        let mut ledger = Ledger::default();
        let mut see = |name: String| {
            let sighting = Sighting { core: CoreId(0), number: 1, server: name.into(), tools: vec![seen("a", "")] };
            ledger.see(&sighting, |name| name.ends_with('7'));
            ledger.servers.len()
        };
        for n in 0..PINNED_SERVERS_MAX {
            assert_eq!(see(n.to_string()), n + 1);
        }
        assert!(see("new".to_owned()) < PINNED_SERVERS_MAX / 5);
    }
}
