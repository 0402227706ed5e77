//! Tools held to what was pinned: a list that was read is compared with it, and what is not the same is reported and,
//! under quarantine, kept from callers.
//!
//! Not here: what is pinned, and who approves (`boot::pins` keeps it for all cores, in files too).
//! Invariant: no definition is told to a caller before it was compared with its pin; a verdict is a look at this core's
//! own tables, and where nothing is pinned it is one comparison.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::Gateway;
use super::flight::ListKind;
use super::merge::own_name;
use super::reload::{self, Latest};
use super::server::Verdict;
use crate::ids::CoreId;
use crate::proto::json::{Object, visibly};
use crate::proto::jsonrpc::{Code, RpcError};
use crate::proto::mcp::{Method, pin};
use crate::server::service::{Call, Change, Host, Mail, Nanos, Service};

/// SHA-256 of a definition.
pub type Sha256 = [u8; 32];

/// What happens when a server changes a tool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pinning {
    /// Nothing.
    #[default]
    Off,
    /// The tool is kept from callers until it is approved.
    Quarantine,
    /// It is said and counted.
    Warn,
}

/// What is pinned on all servers; the same for every core.
#[derive(Debug, Default)]
pub struct Pins {
    /// By the server's name.
    pub servers: HashMap<Box<str>, Arc<ServerPins>>,
    /// By core: the number of the last of its sightings that is reckoned in.
    pub heard: Vec<Nanos>,
}

/// What is pinned on one server.
#[derive(Debug, Default)]
pub struct ServerPins {
    /// By the server's own name for the tool.
    pub tools: HashMap<Box<str>, ToolPin>,
    /// How many of them are something else now.
    pub changed: usize,
    /// Counts how often a tool was let in again: approved, or back to what it was.
    pub readmitted: u64,
}

/// What is pinned of one tool.
#[derive(Clone, Debug)]
pub struct ToolPin {
    /// What it is to be.
    pub pinned: Sha256,
    /// What it is instead.
    pub changed: Option<ChangedTool>,
}

/// What a tool is that is not what was pinned.
#[derive(Clone, Debug)]
pub struct ChangedTool {
    /// Its definition.
    pub sha256: Sha256,
    /// What of it differs, in words.
    pub differing: Arc<str>,
}

/// A list that one core read and that differs from what is pinned.
#[derive(Debug)]
pub struct Sighting {
    /// Which core.
    pub core: CoreId,
    /// Grows with each sighting of the core, over its deaths.
    pub number: Nanos,
    /// Of which server.
    pub server: Box<str>,
    /// The tools in which it differs.
    pub tools: Vec<SeenTool>,
}

/// A tool as it was read.
#[derive(Clone, Debug)]
pub struct SeenTool {
    /// The server's own name for it.
    pub name: Box<str>,
    /// The hash of its definition.
    pub sha256: Sha256,
    /// The definition, in canonical form.
    pub text: Box<str>,
}

/// A core's way to what is pinned: how it stands, and where to report what was read.
#[derive(Clone, Debug)]
pub struct PinPort {
    /// What is pinned now, and later.
    pub pins: watch::Receiver<Arc<Pins>>,
    /// Takes what was read.
    pub sightings: mpsc::Sender<Sighting>,
}

/// The same, on the core's own thread.
pub(super) struct Board {
    sightings: mpsc::Sender<Sighting>,
    /// What is pinned, as far as it was taken up.
    now: Arc<Pins>,
    /// What was heard of and not taken up yet.
    heard: Latest<Pins>,
    /// The number of the last sighting.
    last: Nanos,
}

/// What a core knows of one server's tools.
#[derive(Default)]
pub(super) struct PinnedTools {
    pub policy: Pinning,
    pins: Arc<ServerPins>,
    /// What each tool was when the list was read last.
    seen: HashMap<Box<str>, Sha256>,
    /// What was pinned when that list was found to have nothing new.
    settled: Option<Arc<ServerPins>>,
    /// The whole list, while some of it is kept back.
    whole: Option<Vec<Box<[u8]>>>,
    /// A list that waits until what is new in it is reckoned in.
    held: Option<Held>,
}

struct Held {
    items: Vec<Box<[u8]>>,
    seen: HashMap<Box<str>, Sha256>,
    at: Nanos,
    /// What is still to be reported, or the number it was reported under.
    report: Result<Nanos, Vec<SeenTool>>,
}

/// Why a tool is kept back.
enum KeptBack<'a> {
    /// It is something else than what was pinned.
    Changed(&'a ToolPin, &'a ChangedTool),
    /// This core knows no better than an older definition; it is being read.
    Outdated,
    /// There were too many to pin it.
    Unpinned,
}

impl Board {
    pub fn new(port: PinPort, host: &Rc<dyn Host>) -> Board {
        let PinPort { mut pins, sightings } = port;
        let now = Arc::clone(&pins.borrow_and_update());
        Board { sightings, now, heard: reload::listen(pins, host), last: 0 }
    }

    /// What is known of a server that is to be treated so.
    pub fn tools_of(&self, server: &str, policy: Pinning) -> PinnedTools {
        let pins = self.now.servers.get(server).filter(|_| policy != Pinning::Off).cloned().unwrap_or_default();
        PinnedTools { policy, pins, ..PinnedTools::default() }
    }

    /// Whether something was heard and not taken up.
    pub fn has_news(&self) -> bool {
        self.heard.borrow().is_some()
    }
}

impl PinnedTools {
    /// Whether calls of this method have to be looked at by name.
    pub fn concerns(&self, method: Method) -> bool {
        match self.policy {
            Pinning::Off => false,
            Pinning::Quarantine => matches!(method, Method::ToolsCall | Method::ToolsList),
            Pinning::Warn => method == Method::ToolsList,
        }
    }

    /// A list that is being compared, as it was read.
    pub fn held(&self) -> Option<&[Box<[u8]>]> {
        self.held.as_ref().map(|held| &*held.items)
    }

    /// The whole list, while some of it is kept back.
    pub fn whole(&self) -> Option<&[Box<[u8]>]> {
        self.whole.as_deref()
    }

    /// When whoever waits for a list that is held is not to wait longer.
    pub fn deadline(&self, time: Nanos) -> Option<Nanos> {
        self.held.as_ref().map(|held| held.at + time)
    }

    fn kept_back(&self, name: &str) -> Option<KeptBack<'_>> {
        if self.policy != Pinning::Quarantine {
            return None;
        }
        match (self.pins.tools.get(name), self.seen.get(name)) {
            (Some(pin @ ToolPin { changed: Some(changed), .. }), _) => Some(KeptBack::Changed(pin, changed)),
            (Some(pin), Some(seen)) if pin.pinned != *seen => Some(KeptBack::Outdated),
            (None, Some(_)) => Some(KeptBack::Unpinned),
            _ => None,
        }
    }

    /// What of a list has to be reported.
    fn news(&self, read: Vec<SeenTool>) -> Vec<SeenTool> {
        let is_news = |tool: &SeenTool| match self.pins.tools.get(&tool.name) {
            None => true,
            Some(ToolPin { changed: Some(changed), .. }) => changed.sha256 != tool.sha256,
            Some(pin) => pin.pinned != tool.sha256,
        };
        read.into_iter().filter(is_news).collect()
    }

    /// What of a list callers may see.
    fn sift(&mut self, items: Vec<Box<[u8]>>) -> Vec<Box<[u8]>> {
        let is_kept_back =
            |item: &[u8]| own_name(ListKind::Tools, item).is_some_and(|name| self.kept_back(&name).is_some());
        let shown: Vec<bool> = items.iter().map(|item| !is_kept_back(item)).collect();
        if shown.iter().all(|shown| *shown) {
            self.whole = None;
            return items;
        }
        let passed = items.iter().zip(shown).filter(|(_, shown)| *shown).map(|(item, _)| item.clone()).collect();
        self.whole = Some(items);
        passed
    }

    /// Whether what was read last of some tool is neither what it is to be nor what it was reported to be.
    fn is_behind(&self) -> bool {
        self.seen.iter().any(|(name, seen)| {
            self.pins.tools.get(name).is_some_and(|pin| {
                pin.pinned != *seen && pin.changed.as_ref().is_none_or(|changed| changed.sha256 != *seen)
            })
        })
    }

    /// What a caller of a tool is told that is kept back.
    fn refusal(&self, server: &str, name: &str) -> Option<RpcError> {
        let kept_back = self.kept_back(name)?;
        let shown = visibly(name);
        let mut data = Vec::new();
        let mut object = Object::begin(&mut data);
        object.string("server", server);
        object.string("tool", name);
        let text = match kept_back {
            KeptBack::Changed(pin, changed) => {
                object.string("approved", &hex(&pin.pinned));
                object.string("seen", &hex(&changed.sha256));
                format!(
                    "tool {shown} of server {server} is quarantined: it is not what was approved ({} changed); see \
                     `corelane servers diff {server}`, and let it in with `corelane servers approve {server} {shown}`",
                    changed.differing
                )
            }
            KeptBack::Outdated => {
                format!("tool {shown} of server {server} is being read anew after a change; try again shortly")
            }
            KeptBack::Unpinned => format!(
                "tool {shown} of server {server} is quarantined: the server has had more tools, or larger ones, than \
                 can be pinned; hide some with servers.{server}.tools.exclude"
            ),
        };
        object.end();
        Some(RpcError::new(Code::QUARANTINED, text).with_data(data))
    }
}

/// The tools of a list under the names by which they are pinned, each name once.
fn read(items: &[Box<[u8]>], is_seen: impl Fn(&str) -> bool) -> Vec<SeenTool> {
    let mut by_name: HashMap<Box<str>, Vec<&[u8]>> = HashMap::with_capacity(items.len());
    let mut order = Vec::with_capacity(items.len());
    for item in items {
        let Some(name) = own_name(ListKind::Tools, item).filter(|name| is_seen(name)) else { continue };
        let same = by_name.entry((*name).into()).or_default();
        if same.is_empty() {
            order.push(Box::<str>::from(&*name));
        }
        same.push(item);
    }
    let mut tools = Vec::with_capacity(order.len());
    let mut text = Vec::new();
    for name in order {
        text.clear();
        let is_written = pin::pinned_together(&mut text, &by_name[&name]);
        debug_assert!(is_written, "it came in a message that was judged");
        let sha256 = pin::sha256(&text);
        tools.push(SeenTool { name, sha256, text: String::from_utf8_lossy(&text).into() });
    }
    tools
}

/// A hash as people write it.
pub fn hex(hash: &[u8]) -> String {
    use std::fmt::Write as _;
    hash.iter().fold(String::with_capacity(2 * hash.len()), |mut out, byte| {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
        out
    })
}

impl<S: Service> Gateway<S> {
    /// A list was read. It is handed back at once, unless it has to wait until what is new in it is reckoned in.
    pub(super) fn compared(
        &mut self,
        now: Nanos,
        index: u16,
        kind: ListKind,
        outcome: Result<Vec<Box<[u8]>>, RpcError>,
    ) -> Option<Result<Vec<Box<[u8]>>, RpcError>> {
        let server = &mut self.servers[usize::from(index)];
        let tools = &mut server.pinned;
        let items = match outcome {
            Ok(items) if kind == ListKind::Tools && tools.policy != Pinning::Off => items,
            outcome => return Some(outcome),
        };
        let cached = self.lists.get(&(index, kind)).and_then(|cached| cached.items.as_deref());
        let is_settled = tools.settled.as_ref().is_some_and(|pins| Arc::ptr_eq(pins, &tools.pins));
        // The same bytes under the same pins have the same verdict: nothing is hashed.
        if is_settled && tools.held.is_none() && tools.whole.as_deref().or(cached) == Some(&*items) {
            return Some(Ok(tools.sift(items)));
        }
        let settings = &server.settings;
        let read = read(&items, |own| settings.rules.seen(ListKind::Tools, own).is_some());
        let seen = read.iter().map(|tool| (tool.name.clone(), tool.sha256)).collect();
        let news = tools.news(read);
        if news.is_empty() {
            (tools.seen, tools.held) = (seen, None);
            tools.settled = Some(Arc::clone(&tools.pins));
            return Some(Ok(tools.sift(items)));
        }
        tools.held = Some(Held { items, seen, at: now, report: Err(news) });
        self.report(now, index);
        None
    }

    /// Reports what is new in a list that is held, unless there is no room for that now.
    fn report(&mut self, now: Nanos, index: u16) {
        let server = &mut self.servers[usize::from(index)];
        let Some(Held { report, .. }) = &mut server.pinned.held else { return };
        let Err(tools) = report else { return };
        let number = now.max(self.board.last + 1);
        let tools = std::mem::take(tools);
        let sighting = Sighting { core: self.core, number, server: server.settings.name.clone(), tools };
        match self.board.sightings.try_send(sighting) {
            Ok(()) => {
                self.board.last = number;
                *report = Ok(number);
            }
            // Nobody keeps pins any more, and the process is about to end: nothing is waited for.
            Err(TrySendError::Closed(_)) => *report = Ok(0),
            Err(TrySendError::Full(sighting)) => *report = Err(sighting.tools),
        }
    }

    /// Takes up what is pinned now, if that is news.
    pub(super) fn take_up_pins(&mut self, now: Nanos) {
        let Some(pins) = self.board.heard.borrow_mut().take() else { return };
        self.board.now = pins;
        for index in 0..self.servers.len() as u16 {
            let server = &mut self.servers[usize::from(index)];
            if server.pinned.policy == Pinning::Off || server.is_retired {
                continue;
            }
            let before = Arc::clone(&server.pinned.pins);
            if let Some(fresh) = self.board.now.servers.get(&server.settings.name) {
                server.pinned.pins = Arc::clone(fresh);
            }
            let (tools, readmitted) = (&server.pinned, server.pinned.pins.readmitted != before.readmitted);
            server.metrics.tools_changed.set(tools.pins.changed as u64);
            if tools.held.is_some() {
                self.report(now, index);
                self.settle(now, index);
            } else if !Arc::ptr_eq(&before, &tools.pins) && tools.policy == Pinning::Quarantine {
                let is_there = matches!(server.verdict, Verdict::Known(_));
                if readmitted && is_there && tools.is_behind() {
                    self.read_tools_anew(index);
                    self.settle(now, index);
                } else {
                    self.sift_again(index);
                }
            }
        }
    }

    /// A list that is held is told once what was reported of it is reckoned in, or whoever waits has waited too long:
    /// then without what is not pinned.
    pub(super) fn end_hold(&mut self, now: Nanos, index: u16) {
        let server = &mut self.servers[usize::from(index)];
        let heard = self.board.now.heard.get(self.core.index()).copied().unwrap_or(0);
        let is_over = server.pinned.deadline(server.settings.list_time).is_some_and(|deadline| deadline <= now);
        let is_done = |held: &mut Held| is_over || held.report.as_ref().is_ok_and(|number| *number <= heard);
        let Some(held) = server.pinned.held.take_if(is_done) else { return };
        if server.is_retired {
            return;
        }
        (server.pinned.seen, server.pinned.settled) = (held.seen, None);
        let shown = server.pinned.sift(held.items);
        let before = self.lists.get_mut(&(index, ListKind::Tools)).and_then(|cached| cached.items.take());
        self.listed(held.at, index, ListKind::Tools, Ok(Some(shown)));
        let cached = self.lists.get(&(index, ListKind::Tools)).and_then(|cached| cached.items.as_ref());
        if before.is_some() && before.as_ref() != cached {
            self.mailbox.push(Mail::Changed(Change::Tools));
        }
    }

    /// What of the list that is at hand is shown is decided again.
    fn sift_again(&mut self, index: u16) {
        let server = &mut self.servers[usize::from(index)];
        let Some(cached) = self.lists.get_mut(&(index, ListKind::Tools)) else { return };
        let Some(before) = cached.items.clone() else { return };
        let whole = server.pinned.whole.take().unwrap_or_else(|| before.clone());
        let mut items = server.pinned.sift(whole);
        server.note_annotations(&mut items);
        if items == before {
            return;
        }
        server.metrics.tools.set(items.len() as u64);
        cached.items = Some(items);
        self.told_anew(index, ListKind::Tools);
        self.tell_own_annotations(index);
        self.mailbox.push(Mail::Changed(Change::Tools));
    }

    /// The tools of a server are read again, and callers are told.
    fn read_tools_anew(&mut self, index: u16) {
        self.make_stale(index, super::remote::TOOLS);
        self.mailbox.push(Mail::Changed(Change::Tools));
    }

    /// From now on a server's tools are treated so.
    pub(super) fn set_pinning(&mut self, index: u16, policy: Pinning) {
        let server = &mut self.servers[usize::from(index)];
        if server.pinned.policy == policy {
            return;
        }
        let was_held = server.pinned.held.is_some();
        server.pinned = self.board.tools_of(&server.settings.name, policy);
        server.metrics.tools_changed.set(server.pinned.pins.changed as u64);
        // It is read again and compared, or told whole; callers are told by whoever takes up the choice.
        self.make_stale(index, super::remote::TOOLS);
        if let Some(cached) = self.lists.get_mut(&(index, ListKind::Tools)).filter(|_| was_held) {
            cached.fetching = false;
        }
    }

    /// Why a call of a server's tool is refused, if it is.
    pub(super) fn quarantined(&mut self, call: &Call<'_>, index: u16, own: &str) -> Option<RpcError> {
        let server = &self.servers[usize::from(index)];
        if call.method != Method::ToolsCall || server.pinned.policy != Pinning::Quarantine {
            return None;
        }
        let refusal = server.pinned.refusal(&server.settings.name, own)?;
        server.metrics.quarantined.add(1);
        Some(refusal)
    }
}
