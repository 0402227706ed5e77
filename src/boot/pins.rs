//! What is pinned of servers' tools, kept for all cores: cores report what they read, operators approve, and everybody
//! is told what is pinned since.
//!
//! Not here: what a core does about it (`upstream::gateway`), the API (`control`). Invariant: what is approved is in
//! the file before anybody hears of it; no core waits for a lock or a disk: it hears by a watch channel and reports by
//! a bounded one.

mod file;
mod ledger;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest as _, Sha256 as Hasher};
use tokio::sync::{mpsc, watch};

use crate::config::{Pinning, Settings};
use crate::control::{Approved, Definition, Difference, NotApproved, PinDesk, Standing};
use crate::limits::SIGHTINGS_MAX;
use crate::proto::json::visibly;
use crate::upstream::gateway::{PinPort, Pins, Sighting, hex};
pub use file::PinsError;
use file::PinsFile;
use ledger::{Event, Ledger};

/// Keeps pins. Clones are of one and the same.
#[derive(Clone)]
pub(super) struct Keeper(Arc<Kept>);

struct Kept {
    state: Mutex<State>,
    /// Taken before `state` by whoever writes it.
    file: Option<Mutex<PinsFile>>,
    told: watch::Sender<Arc<Pins>>,
    /// What cores report, for whoever attends.
    heard: tokio::sync::Mutex<mpsc::Receiver<Sighting>>,
}

#[derive(Default)]
struct State {
    ledger: Ledger,
    /// Of the servers that are configured.
    policies: BTreeMap<String, Pinning>,
    /// There is something that the file does not hold.
    is_unwritten: bool,
    /// Somebody writes.
    is_writing: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `check` says of the file of pins: how many servers it holds.
///
/// # Errors
/// If `serve` would refuse it.
pub(super) fn look(settings: &Settings) -> Result<Option<usize>, PinsError> {
    let Some(path) = settings.gateway.pins.as_path() else { return Ok(None) };
    Ok(PinsFile::look(path)?.map(|ledger| ledger.servers.len()))
}

impl Keeper {
    /// With what the configured file holds, and the way for cores.
    ///
    /// # Errors
    /// If there is a file that cannot be used.
    pub fn new(settings: &Settings) -> Result<(Keeper, PinPort), PinsError> {
        let (file, ledger) = match settings.gateway.pins.as_path() {
            Some(path) => {
                let (file, ledger) = PinsFile::open(path)?;
                if !file.is_ours() {
                    let path = file.path().display();
                    tracing::warn!(
                        "gateway.pins: another corelane keeps {path}: what it holds counts, and nothing is approved here"
                    );
                }
                (Some(Mutex::new(file)), ledger)
            }
            None => (None, Ledger::default()),
        };
        let (told, pins) = watch::channel(Arc::new(ledger.pins()));
        let (sightings, heard) = mpsc::channel(SIGHTINGS_MAX);
        let state = Mutex::new(State { ledger, ..State::default() });
        let heard = tokio::sync::Mutex::new(heard);
        let keeper = Keeper(Arc::new(Kept { state, file, told, heard }));
        keeper.take_up(settings);
        Ok((keeper, PinPort { pins, sightings }))
    }

    /// Hears what cores report, until they are gone. One at a time does.
    pub async fn attend(self) {
        let mut heard = self.0.heard.lock().await;
        let mut batch = Vec::new();
        while heard.recv_many(&mut batch, SIGHTINGS_MAX).await > 0 {
            if self.hear(&batch) {
                let writer = self.clone();
                // Cores have heard already, so nobody waits for the disk.
                drop(tokio::task::spawn_blocking(move || writer.write_what_is_new()));
            }
            batch.clear();
        }
    }

    /// Which servers there are now, and what happens when one changes a tool.
    pub fn take_up(&self, settings: &Settings) {
        let enabled = settings.servers.iter().filter(|(_, server)| server.enabled);
        let policies = enabled.map(|(name, server)| (name.to_string(), server.pinning(&settings.gateway)));
        lock(&self.0.state).policies = policies.collect();
    }

    /// Reckons in what cores read, and tells everybody; whether somebody has to write the file.
    fn hear(&self, batch: &[Sighting]) -> bool {
        let mut said = Vec::new();
        let is_to_write = {
            let mut state = lock(&self.0.state);
            let State { ledger, policies, .. } = &mut *state;
            let edits = ledger.edits;
            for sighting in batch {
                let events = ledger.see(sighting, |name| policies.contains_key(name));
                let policy = policies.get(&*sighting.server).copied().unwrap_or(Pinning::Off);
                said.push((&sighting.server, policy, events));
            }
            let is_news = ledger.edits != edits;
            self.0.told.send_replace(Arc::new(ledger.pins()));
            state.is_unwritten |= is_news;
            self.0.file.is_some() && state.is_unwritten && !std::mem::replace(&mut state.is_writing, true)
        };
        for (server, policy, events) in said {
            events.into_iter().for_each(|event| say(server, policy, event));
        }
        is_to_write
    }

    /// Writes the file until it holds everything.
    fn write_what_is_new(&self) {
        let Some(file) = &self.0.file else { return };
        loop {
            let mut file = lock(file);
            if !file.is_ours() {
                return;
            }
            let ledger = {
                let mut state = lock(&self.0.state);
                if !std::mem::replace(&mut state.is_unwritten, false) {
                    state.is_writing = false;
                    return;
                }
                state.ledger.clone()
            };
            if let Err(error) = file.write(&ledger) {
                let mut state = lock(&self.0.state);
                (state.is_unwritten, state.is_writing) = (true, false);
                let path = file.path().display();
                tracing::error!(
                    "gateway.pins: {path} cannot be written, and is tried again with the next change: {error}"
                );
                return;
            }
        }
    }

    /// Writes what is not written yet, at the end.
    pub fn finish(&self) {
        self.write_what_is_new();
    }
}

fn say(server: &str, policy: Pinning, event: Event) {
    let what_then = match policy {
        Pinning::Off | Pinning::Warn => "callers see it as it is",
        Pinning::Quarantine => "it is kept from callers until it is approved",
    };
    match event {
        Event::First { tools } => tracing::info!(server, tools, "the tools of a server are pinned at first sight"),
        Event::New { tool } => {
            let tool = visibly(&tool);
            tracing::warn!(server, tool, "a tool that was not there before is pinned as it is");
        }
        Event::Changed { tool, differing } => {
            let tool = visibly(&tool);
            tracing::warn!(
                server,
                tool,
                "a tool is not what was approved ({differing}); {what_then}: see `corelane servers diff {server}`"
            );
        }
        Event::Back { tool } => {
            let tool = visibly(&tool);
            tracing::info!(server, tool, "a tool is again what was approved");
        }
        Event::Full { tool } => {
            let tool = visibly(&tool);
            tracing::warn!(
                server,
                tool,
                "there is no room to pin this tool and others; hide some with servers.{server}.tools.exclude"
            );
        }
    }
}

fn shown(definition: &ledger::Definition) -> Definition {
    Definition { sha256: hex(&definition.sha256), text: definition.text.clone() }
}

/// Stands for the changes of a server.
fn tag_of(ledger: &Ledger, server: &str) -> String {
    let mut hasher = Hasher::new();
    for (name, tool, changed) in ledger.servers.get(server).into_iter().flat_map(ledger::Server::changed) {
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name);
        hasher.update(tool.pinned.sha256);
        hasher.update(changed.sha256);
    }
    hex(&hasher.finalize()[..8])
}

impl PinDesk for Keeper {
    fn standing(&self, server: &str) -> Standing {
        let state = lock(&self.0.state);
        let known = state.ledger.servers.get(server);
        let changed = known.into_iter().flat_map(ledger::Server::changed);
        Standing {
            policy: state.policies.get(server).copied().unwrap_or(Pinning::Off).as_str(),
            pinned: known.map_or(0, |known| known.tools.len()),
            changed: changed
                .map(|(name, tool, seen)| Difference {
                    tool: name.to_owned(),
                    differing: tool.differing(),
                    pinned: shown(&tool.pinned),
                    seen: shown(seen),
                })
                .collect(),
            tag: tag_of(&state.ledger, server),
        }
    }

    fn approve(&self, server: &str, tools: Option<&[String]>, tag: Option<&str>) -> Result<Approved, NotApproved> {
        let mut file = self.0.file.as_ref().map(lock);
        let (approved, ledger) = {
            let state = lock(&self.0.state);
            let now = tag_of(&state.ledger, server);
            if tag.is_some_and(|tag| tag != now) {
                return Err(NotApproved::Changed(now));
            }
            let approved = chosen(&state.ledger, server, tools)?;
            let mut ledger = state.ledger.clone();
            ledger.approve(server, &approved);
            (approved, ledger)
        };
        if let Some(file) = &mut file {
            file.write(&ledger).map_err(|error| NotApproved::File(error.to_string()))?;
        }
        let tag = {
            let mut state = lock(&self.0.state);
            state.ledger.approve(server, &approved);
            self.0.told.send_replace(Arc::new(state.ledger.pins()));
            tag_of(&state.ledger, server)
        };
        for (tool, definition) in &approved {
            let (tool, sha256) = (visibly(tool), hex(&definition.sha256));
            tracing::info!(server, tool, sha256, "a tool is approved as it is");
        }
        let tools = approved.iter().map(|(tool, definition)| (tool.to_string(), hex(&definition.sha256))).collect();
        Ok(Approved { tools, tag })
    }
}

/// The tools of a server that are to be approved, and what they are.
fn chosen(
    ledger: &Ledger,
    server: &str,
    tools: Option<&[String]>,
) -> Result<Vec<(Box<str>, ledger::Definition)>, NotApproved> {
    let changed: BTreeMap<&str, &ledger::Definition> = ledger
        .servers
        .get(server)
        .into_iter()
        .flat_map(ledger::Server::changed)
        .map(|(name, _, definition)| (name, definition))
        .collect();
    let names: Vec<&str> = match tools {
        Some(tools) => tools.iter().map(String::as_str).collect(),
        None => changed.keys().copied().collect(),
    };
    let mut approved = Vec::with_capacity(names.len());
    for name in names {
        let Some(definition) = changed.get(name) else {
            return Err(NotApproved::Same(name.to_owned(), changed.keys().map(|&name| name.to_owned()).collect()));
        };
        if definition.text.is_none() {
            return Err(NotApproved::TooLarge(name.to_owned()));
        }
        approved.push((name.into(), (*definition).clone()));
    }
    Ok(approved)
}
