//! Another choice of servers and views, taken up while callers are served.
//!
//! Not here: reading it (`boot`). Invariant: a server keeps its number for as long as the process lives, and a number
//! is never another server's; a server that stayed as it was notices nothing; calls of one that is gone finish.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::watch;

use super::server::{Place, Server};
use super::settings::GatewaySettings;
use super::{Gateway, MERGED, Seen, ToolRules};
use crate::ids::CoreId;
use crate::metrics::{ServerMetrics, ServerRow};
use crate::server::service::{About, Change, Host, Mail, Nanos, Service};

/// What there is behind the gateway, and where each server is counted; the same on every core.
#[derive(Debug, Default)]
pub struct Behind {
    /// Servers and views.
    pub settings: GatewaySettings,
    /// The figures of each server, in the order of the settings.
    pub rows: Vec<Arc<ServerRow>>,
    /// The names of all views that there ever were, by their numbers, which are sealed into what clients bring back:
    /// they are the same on every core, however many choices it missed, and in every life of it.
    pub view_names: Vec<Box<str>>,
}

impl Behind {
    /// These servers and their views. Names that are new get the next numbers.
    pub fn new(settings: GatewaySettings, rows: Vec<Arc<ServerRow>>, names: &mut Vec<Box<str>>) -> Behind {
        for (name, _) in made(&settings) {
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
        }
        Behind { settings, rows, view_names: names.clone() }
    }

    /// One core's figures of a server.
    pub(super) fn metrics(&self, server: usize, core: CoreId) -> Arc<ServerMetrics> {
        Arc::clone(&self.rows[server].cores()[core.index()])
    }
}

/// What is there now, and what is chosen later.
pub type Choices = watch::Receiver<Arc<Behind>>;

/// What was heard of last and not taken up yet.
pub(super) type Latest<T> = Rc<RefCell<Option<Arc<T>>>>;

/// Choices that were heard of and not taken up yet.
pub(super) type Chosen = Latest<Behind>;

/// Hears of what comes later, on the core's own thread.
pub(super) fn listen<T: Send + Sync + 'static>(mut later: watch::Receiver<Arc<T>>, host: &Rc<dyn Host>) -> Latest<T> {
    let latest = Latest::default();
    let heard = Rc::clone(&latest);
    host.spawn(Box::pin(async move {
        // It fails when nobody can send any more.
        while later.changed().await.is_ok() {
            *heard.borrow_mut() = Some(Arc::clone(&later.borrow_and_update()));
        }
    }));
    latest
}

/// The views that these settings make, with their names.
fn made(settings: &GatewaySettings) -> Vec<(String, Seen)> {
    let alive = |index: &usize| !settings.retired.contains(&(*index as u16));
    let mut numbers: Vec<u16> = (0..settings.servers.len()).filter(alive).map(|index| index as u16).collect();
    // Places tell who changed when; of two servers without a prefix the same one has a name whatever happened before.
    numbers.sort_by_key(|&at| &settings.servers[usize::from(at)].name);
    let number_of = |name: &str| numbers.iter().copied().find(|&at| *settings.servers[usize::from(at)].name == *name);
    let view = |alone, servers, native| view(settings, alone, servers, native);
    let native = settings.native.as_deref();
    let mut made = vec![(String::new(), view(None, numbers.clone(), settings.native_is_seen))];
    for &number in &numbers {
        let name = settings.servers[usize::from(number)].name.to_string();
        made.push((name, view(Some(number), vec![number], false)));
    }
    if let Some(native) = native {
        let seen = view(None, Vec::new(), true);
        made.push((native.name.to_string(), Seen { is_native_alone: true, is_plain: native.rules.is_empty(), ..seen }));
    }
    for chosen in &settings.views {
        let has_native = native.is_some_and(|native| chosen.servers.contains(&native.name));
        let servers = chosen.servers.iter().filter_map(|name| number_of(name)).collect();
        let seen = Seen { tools: chosen.tools.clone(), ..view(None, servers, has_native) };
        made.push((format!("@{}", chosen.name), seen));
    }
    made
}

fn view(settings: &GatewaySettings, alone: Option<u16>, servers: Vec<u16>, native: bool) -> Seen {
    Seen {
        alone,
        is_there: true,
        is_plain: alone.is_some_and(|alone| settings.servers[usize::from(alone)].rules.is_empty()),
        servers,
        tools: ToolRules::default(),
        native,
        is_native_alone: false,
        about: About { server_info: settings.server_info.clone(), instructions: None, offers: MERGED },
    }
}

/// The views of a choice, by their numbers. One that is gone keeps its number, and shows nothing.
pub(super) fn views(behind: &Behind) -> Vec<Seen> {
    let mut made: HashMap<String, Seen> = made(&behind.settings).into_iter().collect();
    let gone = || Seen { is_there: false, ..view(&behind.settings, None, Vec::new(), false) };
    behind.view_names.iter().map(|name| made.remove(&**name).unwrap_or_else(gone)).collect()
}

impl<S: Service> Gateway<S> {
    /// Takes up what was chosen last, if anything was.
    pub(super) fn take_up(&mut self, now: Nanos) {
        let Some(behind) = self.chosen.borrow_mut().take() else { return };
        let settings = &behind.settings;
        for index in 0..settings.servers.len() {
            let number = index as u16;
            if index >= self.servers.len() {
                let place: Place = self.place.clone();
                let metrics = behind.metrics(index, self.core);
                let owner = CoreId(number % self.cores);
                self.servers.push(Server::new(Arc::clone(&settings.servers[index]), number, owner, place, metrics));
            }
            self.set_pinning(number, settings.pinning_of(index));
            if settings.retired.contains(&number) && !self.servers[index].is_retired {
                self.servers[index].retire(now);
                self.retire_own(now, number);
                for kind in super::flight::ListKind::ALL {
                    self.lists.remove(&(number, kind));
                }
            }
        }
        self.native.take_up(now, settings.native.clone());
        self.list_ttl = settings.list_ttl;
        self.views = views(&behind);
        self.view_names.clone_from(&behind.view_names);
        self.told.clear();
        self.written.forget(None);
        self.greet();
        self.tell_all_watched(now);
        for index in 0..self.servers.len() as u16 {
            self.servers[usize::from(index)].reach(now);
            self.settle(now, index);
        }
        for change in [Change::Prompts, Change::Resources, Change::Tools] {
            self.mailbox.push(Mail::Changed(change));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::turn_tests::server;
    use super::*;

    #[test]
    fn the_order_of_servers_is_that_of_their_names_whichever_changed_last() {
        let servers_of = |servers: &[&str], retired: &[u16]| {
            let servers = servers.iter().map(|name| server(name, 1, false)).collect();
            let retired = retired.iter().copied().collect();
            let made = made(&GatewaySettings { servers, retired, ..GatewaySettings::default() });
            made.into_iter().map(|(name, seen)| (name, seen.servers)).collect::<Vec<_>>()
        };
        let view = |name: &str, servers: &[u16]| (name.to_owned(), servers.to_vec());
        assert_eq!(servers_of(&["a", "b"], &[]), [view("", &[0, 1]), view("a", &[0]), view("b", &[1])]);
        // The first of them changed, and has another place.
        assert_eq!(servers_of(&["a", "b", "a"], &[0]), [view("", &[2, 1]), view("a", &[2]), view("b", &[1])]);
    }
}
