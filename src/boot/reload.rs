//! The servers behind the gateway, as they are configured and as they come to be configured later.
//!
//! Not here: what cores do about it (`upstream::gateway`), what is registered by request (`registered`). Invariant: a
//! file that is wrong changes nothing; of one that is right servers, views and `[gateway]` are taken up, and what else
//! is in it is said to need a restart.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::gateway;
use super::pins::Keeper;
use super::registered::{Registrations, Tags};
use super::resolve::{self, Lookup};
use crate::config::{Config, GatewaySettings, HttpServer, ServerKind, ServerName, ServerSettings, Settings, UrlHost};
use crate::ids::OutboundAddress;
use crate::limits::SERVER_PLACES_MAX;
use crate::metrics::{Registry, ServerRow};
use crate::upstream::dial_in::Gates;
use crate::upstream::gateway as to;
use crate::upstream::gateway::{Behind, Choices};

/// Keys that are taken up without a restart, and one of them that is not: what is pinned would be another.
const TAKEN_UP: &str = "gateway.";
const NOT_TAKEN_UP: &str = "gateway.pins";

/// What there is to do when the last place is taken.
pub(super) const NO_PLACES: &str = "each server that comes, or that is another, takes a place for as long as this process \
                                    lives, and all are taken; restart corelane";

/// A server's place, which is its for good.
struct Place {
    name: ServerName,
    configured: ServerSettings,
    settings: Arc<to::ServerSettings>,
    row: Arc<ServerRow>,
    is_retired: bool,
}

/// All servers there were.
pub(super) struct Servers {
    places: Vec<Place>,
    pub(super) places_max: usize,
    /// What is in force, with what was taken up since the start, and what is registered.
    pub(super) settings: Settings,
    /// The servers that the file names.
    pub(super) of_file: Vec<(ServerName, ServerSettings)>,
    pub(super) registrations: Registrations,
    choices: watch::Sender<Arc<Behind>>,
    /// The names of all views that there ever were.
    view_names: Vec<Box<str>>,
    gates: watch::Sender<Arc<Gates>>,
    registry: Arc<Registry>,
    pins: Keeper,
    cores: usize,
    /// What calls of the native server take, whatever is said of it.
    seats: Arc<to::Seats>,
    is_demonstration: bool,
    has_guard: bool,
    pub(super) lookup: Lookup,
}

/// Servers with the settings that cores are told of.
pub(super) type Ready<'a> = Option<(&'a ServerName, &'a Arc<to::ServerSettings>)>;

/// Reads the configuration again, and takes in what is registered by request.
#[derive(Clone)]
pub(super) struct Reloader {
    held: Arc<Mutex<(Servers, Config)>>,
    /// What is registered, for whoever must not wait until a name is resolved.
    tags: Tags,
}

impl Servers {
    /// The servers of these settings, whose names are looked up.
    pub fn new(
        settings: &Settings,
        registry: &Arc<Registry>,
        pins: Keeper,
        is_demonstration: bool,
        has_guard: bool,
        lookup: Lookup,
    ) -> Servers {
        let (choices, _) = watch::channel(Arc::default());
        let cores = registry.cores();
        let (settings, registry) = (settings.clone(), Arc::clone(registry));
        let mut servers = Servers {
            places: Vec::new(),
            places_max: SERVER_PLACES_MAX,
            of_file: settings.servers.clone(),
            registrations: Registrations::default(),
            settings,
            choices,
            view_names: Vec::new(),
            gates: watch::channel(Arc::default()).0,
            registry,
            pins,
            cores,
            seats: Arc::new(to::Seats::new(cores)),
            is_demonstration,
            has_guard,
            lookup,
        };
        servers.place_all(None);
        servers.publish();
        servers
    }

    /// What is there now and later.
    pub fn choices(&self) -> Choices {
        self.choices.subscribe()
    }

    /// By what those are let in that dial in, now and later.
    pub fn gates(&self) -> watch::Receiver<Arc<Gates>> {
        self.gates.subscribe()
    }

    /// How many places are left once these servers have theirs; none if there are too few.
    pub(super) fn places_left(&self, wanted: &[(ServerName, ServerSettings)]) -> Option<usize> {
        let has_place = |name: &ServerName, configured: &ServerSettings| {
            let mut alive = self.places.iter().filter(|place| !place.is_retired);
            alive.any(|place| place.name == *name && is_same_but_for_pinning(configured, &place.configured))
        };
        let placed = wanted.iter().filter(|(_, configured)| self::has_place(configured));
        let new = placed.filter(|(name, configured)| !has_place(name, configured)).count();
        self.places_max.checked_sub(self.places.len() + new)
    }

    /// Gives servers places that have none, and retires those that are gone; what was done, in words. The settings of
    /// one may be there already.
    pub(super) fn place_all(&mut self, ready: Ready<'_>) -> Vec<String> {
        let (mut added, mut changed, mut removed, mut repinned) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let wanted: Vec<(ServerName, ServerSettings)> = self
            .settings
            .servers
            .iter()
            .filter(|(_, server)| has_place(server))
            .map(|(name, server)| (name.clone(), server.clone()))
            .collect();
        for place in self.places.iter_mut().filter(|place| !place.is_retired) {
            match wanted.iter().find(|(name, _)| *name == place.name) {
                Some((_, configured)) if *configured == place.configured => {}
                // Cores are told of it beside the server, which goes on.
                Some((_, configured)) if is_same_but_for_pinning(configured, &place.configured) => {
                    place.configured.pinning = configured.pinning;
                    repinned.push(place.name.to_string());
                }
                Some(_) => {
                    place.is_retired = true;
                    changed.push(place.name.to_string());
                }
                None => {
                    place.is_retired = true;
                    removed.push(place.name.to_string());
                }
            }
        }
        for (name, configured) in wanted {
            if self.places.iter().any(|place| !place.is_retired && place.name == name) {
                continue;
            }
            if !changed.contains(&name.to_string()) {
                added.push(name.to_string());
            }
            let settings = match ready {
                Some((ready, settings)) if *ready == name => Arc::clone(settings),
                _ => match gateway::server(&self.settings, &name, &configured, self.lookup) {
                    Some(settings) => Arc::new(settings),
                    None => continue,
                },
            };
            let (kind, reached_by) = gateway::shown(&configured);
            let row = Arc::new(ServerRow::new(name.as_str(), kind, &reached_by, self.cores));
            self.places.push(Place { name, configured, settings, row, is_retired: false });
        }
        let said = |what: &str, names: Vec<String>| (!names.is_empty()).then(|| format!("{what} {}", names.join(", ")));
        let said = [
            said("added", added),
            said("changed", changed),
            said("removed", removed),
            said("pinning of tools is another for", repinned),
        ];
        said.into_iter().flatten().collect()
    }

    /// Servers behind names: their places, how they are configured, and the addresses in use.
    fn named(&self) -> Vec<(usize, HttpServer, Vec<SocketAddr>)> {
        let of = |(number, place): (usize, &Place)| {
            let (ServerKind::Http(http) | ServerKind::Sse(http)) = &place.configured.kind else { return None };
            let is_name = matches!(http.dialled().0, UrlHost::Name(_));
            (is_name && !place.is_retired).then(|| (number, http.clone(), place.addresses()))
        };
        self.places.iter().enumerate().filter_map(of).collect()
    }

    /// Tells cores and exporters.
    pub(super) fn publish(&mut self) {
        let mut settings = gateway::gateway(&self.settings, self.is_demonstration, &self.seats);
        settings.servers = self.places.iter().map(|place| Arc::clone(&place.settings)).collect();
        let retired = (0..).zip(&self.places).filter(|(_, place)| place.is_retired);
        settings.retired = retired.map(|(number, _)| number).collect();
        settings.pinning =
            self.places.iter().map(|place| gateway::pinning(&self.settings, &place.configured)).collect();
        self.pins.take_up(&self.settings);
        let rows: Vec<Arc<ServerRow>> = self.places.iter().map(|place| Arc::clone(&place.row)).collect();
        let alive = self.places.iter().filter(|place| !place.is_retired);
        self.registry.set_servers(alive.map(|place| Arc::clone(&place.row)).collect());
        let gate = |place: &Place| match &place.settings.link {
            to::LinkSettings::DialIn(gate) if !place.is_retired => Some(Arc::clone(gate)),
            _ => None,
        };
        self.gates.send_replace(Arc::new(Gates(self.places.iter().filter_map(gate).collect())));
        let behind = Behind::new(settings, rows, &mut self.view_names);
        self.choices.send_replace(Arc::new(behind));
        self.registrations.publish();
    }
}

impl Place {
    /// Where the server is, as its name led there.
    fn addresses(&self) -> Vec<SocketAddr> {
        let (to::LinkSettings::Http(link) | to::LinkSettings::Sse(link, _)) = &self.settings.link else {
            return Vec::new();
        };
        let internet = |address: &OutboundAddress| match address {
            OutboundAddress::Internet(address) => Some(*address),
            OutboundAddress::Unix(_) => None,
        };
        link.addresses.iter().flatten().filter_map(internet).collect()
    }
}

/// Whether a server is reached by a place of its own.
fn has_place(server: &ServerSettings) -> bool {
    server.enabled && !server.is_native()
}

fn is_same_but_for_pinning(one: &ServerSettings, other: &ServerSettings) -> bool {
    ServerSettings { pinning: other.pinning, ..one.clone() } == *other
}

fn needs_restart(key: &str) -> bool {
    !key.starts_with(TAKEN_UP) || key == NOT_TAKEN_UP
}

impl Reloader {
    /// Looks names up again every so often; never ends.
    pub async fn look_up_names(self, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let reloader = self.clone();
            // Its panic was printed by the panic hook.
            if let Ok(Some(changed)) = tokio::task::spawn_blocking(move || reloader.resolve()).await {
                tracing::info!("names lead elsewhere: {changed}");
            }
        }
    }

    /// Looks names up again. A server whose name no longer leads to any of the addresses in use gets a new place, from
    /// whose links on the name is right; what changed, in words.
    pub fn resolve(&self) -> Option<String> {
        let (named, lookup) = {
            let held = self.lock();
            (held.0.named(), held.0.lookup)
        };
        // Without the lock: a name server may take its time, and a reload should not.
        let moved = named.into_iter().filter_map(|(number, http, used)| {
            let found = resolve::addresses(&http, lookup).ok()?;
            let stays = used.iter().any(|used| found.contains(used));
            (!stays).then_some((number, found[0]))
        });
        let moved: Vec<(usize, SocketAddr)> = moved.collect();
        let servers = &mut self.lock().0;
        let mut said = Vec::new();
        let room = servers.places_max - servers.places.len();
        if moved.len() > room {
            tracing::warn!(
                "{} servers stay where their names led, though they lead elsewhere: {NO_PLACES}",
                moved.len() - room
            );
        }
        for (number, address) in moved.into_iter().take(room) {
            let place = &mut servers.places[number];
            if !std::mem::replace(&mut place.is_retired, true) {
                said.push(format!("server {} is at {address} now", place.name));
            }
        }
        if said.is_empty() {
            return None;
        }
        servers.place_all(None);
        servers.publish();
        Some(said.join(", "))
    }

    /// For servers that were read from the configuration's sources.
    pub fn new(servers: Servers, config: Config) -> Reloader {
        let tags = servers.registrations.tags();
        Reloader { held: Arc::new(Mutex::new((servers, config))), tags }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, (Servers, Config)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is registered by request.
    pub(super) fn tags(&self) -> &Tags {
        &self.tags
    }

    /// Reads the configuration again; what was taken up.
    ///
    /// # Errors
    /// Why nothing was.
    pub fn reload(&self) -> Result<String, String> {
        let mut held = self.lock();
        let (servers, config) = &mut *held;
        let fresh = Config::load(config.sources()).map_err(|error| error.to_string())?;
        if gateway::has_children(fresh.settings()) && !servers.has_guard {
            return Err("a server over standard input and output was added, and there was none at start: the process \
                        that starts children must be there before all others, so this needs a restart"
                .to_owned());
        }
        let native_before = servers.settings.native().cloned();
        let views_before = (servers.settings.views.clone(), servers.settings.gateway.clone());
        let needs_restart: Vec<String> =
            fresh.differences(config.settings()).into_iter().filter(|key| needs_restart(key)).collect();
        let of_file = fresh.settings().servers.clone();
        let (kept, replaced) = servers.registrations.beside(&of_file, &fresh.settings().gateway);
        let wanted = kept.with(&of_file);
        if servers.places_left(&wanted).is_none() {
            return Err(format!("the servers of the file find no room: {NO_PLACES}"));
        }
        servers.settings.servers = wanted;
        (servers.of_file, servers.registrations) = (of_file, kept);
        servers.settings.views.clone_from(&fresh.settings().views);
        servers.settings.gateway =
            GatewaySettings { pins: servers.settings.gateway.pins.clone(), ..fresh.settings().gateway.clone() };
        let mut done = servers.place_all(None);
        if !replaced.is_empty() {
            done.push(format!("the file takes the place of what was registered: {}", replaced.join(", ")));
        }
        if views_before != (servers.settings.views.clone(), servers.settings.gateway.clone()) {
            done.push("changed views or gateway settings".to_owned());
        }
        if native_before.as_ref() != servers.settings.native() {
            done.push("changed the section of the native server".to_owned());
        }
        if !done.is_empty() {
            servers.publish();
        }
        if done.is_empty() {
            done.push("no server, view or gateway setting is another".to_owned());
        }
        if !needs_restart.is_empty() {
            done.push(format!("needs a restart: {}", needs_restart.join(", ")));
        }
        Ok(done.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU8, Ordering};

    /// What the name leads to by now.
    static LAST: AtomicU8 = AtomicU8::new(1);

    fn looked_up(name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let last = LAST.load(Ordering::SeqCst);
        let at = |last| SocketAddr::from(([1, 1, 1, last], port));
        match (name, last) {
            (_, 0) => Err(std::io::Error::other("no name server")),
            ("moves.example", last) => Ok(vec![at(last)]),
            // One that has several, in an order that changes.
            _ => Ok(vec![at(last), at(1)]),
        }
    }

    #[test]
    fn a_server_is_left_only_when_its_name_leads_elsewhere() {
        let section = |name: &str, host: &str| format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://{host}/\"\n");
        let text =
            section("moves", "moves.example") + &section("stays", "stays.example") + &section("fixed", "1.1.1.1");
        let config = Config::from_toml("c.toml", &text).expect("valid");
        let registry = Arc::new(Registry::new(1));
        let (pins, ..) = Keeper::new(config.settings()).expect("no file is named");
        let servers = Servers::new(config.settings(), &registry, pins, true, false, looked_up);
        let choices = servers.choices();
        let reloader = Reloader::new(servers, config);
        let alive = || -> Vec<(String, SocketAddr)> {
            let held = reloader.lock();
            let alive = held.0.places.iter().filter(|place| !place.is_retired);
            alive.map(|place| (place.name.to_string(), place.addresses()[0])).collect()
        };
        let at = |last: u8| SocketAddr::from(([1, 1, 1, last], 80));
        let named = |name: &str, last: u8| (name.to_owned(), at(last));
        assert_eq!(reloader.resolve(), None, "nothing has changed");
        LAST.store(0, Ordering::SeqCst);
        assert_eq!(reloader.resolve(), None, "a name server that is down moves nobody");
        LAST.store(2, Ordering::SeqCst);
        assert_eq!(reloader.resolve().as_deref(), Some("server moves is at 1.1.1.2:80 now"));
        assert_eq!(alive(), [named("fixed", 1), named("stays", 1), named("moves", 2)]);
        let behind = choices.borrow().clone();
        assert_eq!((behind.settings.servers.len(), behind.settings.retired.len()), (4, 1));
        assert_eq!(reloader.resolve(), None, "once is enough");
    }
}
