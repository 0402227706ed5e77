//! Servers that are registered by request, beside those of the configuration file.
//!
//! Not here: who may ask (`control`), how they come to be served (`reload`). Invariant: the file wins: what it names
//! cannot be changed by request, and what it comes to name is registered no more. What is registered outlives a reload
//! of the file, and ends with the process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::gateway;
use super::reload::{NO_PLACES, Reloader};
use crate::config::{GatewaySettings, NotRequested, ServerName, ServerSettings, clash, requested};
use crate::control::{Condition, NotRegistered, Registered, ServerDesk, Unmet};
use crate::limits::{REGISTERED_SERVERS_MAX, SERVER_PLACES_OF_FILE};
use crate::sys::entropy;

/// The tag of each server that is registered, as it was last.
pub(super) type Tags = Arc<Mutex<Arc<BTreeMap<String, String>>>>;

/// What is registered by request.
#[derive(Clone)]
pub(super) struct Registrations {
    servers: BTreeMap<ServerName, (ServerSettings, String)>,
    /// Counts changes.
    changes: u64,
    /// Tells this start of the process from others, whose tags are worth nothing here.
    start: u32,
    tags: Tags,
}

impl Default for Registrations {
    fn default() -> Registrations {
        // Without entropy a tag is only as good as its count.
        let start = entropy::word32().unwrap_or_default();
        Registrations { servers: BTreeMap::new(), changes: 0, start, tags: Tags::default() }
    }
}

impl Registrations {
    /// What is registered, for whoever looks.
    pub fn tags(&self) -> Tags {
        Arc::clone(&self.tags)
    }

    /// Lets others see what is registered.
    pub fn publish(&self) {
        let tags = self.servers.iter().map(|(name, (_, tag))| (name.to_string(), tag.clone())).collect();
        *self.tags.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tags);
    }

    /// These servers and those of a file, sorted by name.
    pub fn with(&self, of_file: &[(ServerName, ServerSettings)]) -> Vec<(ServerName, ServerSettings)> {
        let registered = self.servers.iter().map(|(name, (settings, _))| (name.clone(), settings.clone()));
        let mut all: Vec<_> = of_file.iter().cloned().chain(registered).collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all
    }

    /// What stays registered beside the servers of a file and what it says of all, and the names of what does not: it
    /// has a name or a prefix that the file gives to another, or is at a port that the file does not allow.
    pub fn beside(
        &self,
        of_file: &[(ServerName, ServerSettings)],
        gateway: &GatewaySettings,
    ) -> (Registrations, Vec<String>) {
        let mut kept = self.clone();
        kept.servers.retain(|name, (settings, _)| {
            let is_free = !of_file.iter().any(|(other, _)| other == name) && clash(name, settings, of_file).is_none();
            is_free && gateway.refuses_port(name, settings).is_none()
        });
        let is_gone = |name: &&ServerName| !kept.servers.contains_key(*name);
        let gone = self.servers.keys().filter(is_gone).map(ServerName::to_string).collect();
        (kept, gone)
    }

    fn tag(&self, name: &ServerName) -> Option<&str> {
        self.servers.get(name).map(|(_, tag)| tag.as_str())
    }

    fn insert(&mut self, name: ServerName, settings: ServerSettings) -> String {
        self.changes += 1;
        let tag = format!("{:08x}-{:x}", self.start, self.changes);
        self.servers.insert(name, (settings, tag.clone()));
        tag
    }
}

impl From<NotRequested> for NotRegistered {
    fn from(why: NotRequested) -> NotRegistered {
        match why {
            NotRequested::NoObject(why) => NotRegistered::NoObject(why),
            NotRequested::OnlyInFile(why) => NotRegistered::OnlyInFile(why),
            NotRequested::Wrong(complaints) => NotRegistered::Wrong(complaints),
        }
    }
}

impl From<Unmet> for NotRegistered {
    fn from(unmet: Unmet) -> NotRegistered {
        NotRegistered::Unmet(unmet)
    }
}

fn of_file(name: &str) -> NotRegistered {
    NotRegistered::OfFile(format!(
        "server {name} is named by the configuration file, and changed there only: edit [servers.{name}] and `corelane \
         reload`, or choose another name"
    ))
}

impl ServerDesk for Reloader {
    fn registered(&self) -> Arc<BTreeMap<String, String>> {
        Arc::clone(&self.tags().lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn register(&self, name: &str, body: &[u8], condition: &Condition) -> Result<Registered, NotRegistered> {
        let (name, settings) = requested(name, body)?;
        let (before, lookup) = {
            let held = self.lock();
            (held.0.settings.clone(), held.0.lookup)
        };
        // Without the lock: a name server may take its time, and others should not wait for it.
        let ready = gateway::server(&before, &name, &settings, lookup).map(Arc::new);
        let servers = &mut self.lock().0;
        if servers.of_file.iter().any(|(named, _)| *named == name) {
            return Err(of_file(name.as_str()));
        }
        let tag = servers.registrations.tag(&name).map(str::to_owned);
        condition.judge(tag.as_deref())?;
        if let Some(port) = servers.settings.gateway.refuses_port(&name, &settings) {
            return Err(NotRegistered::Wrong(vec![format!("{port}; correct the URL, or have the port allowed")]));
        }
        if let Some(why) = clash(&name, &settings, &servers.settings.servers) {
            return Err(NotRegistered::Wrong(vec![why]));
        }
        if let Some(tag) = tag.clone()
            && servers.settings.servers.iter().any(|(named, there)| *named == name && *there == settings)
        {
            return Ok(Registered { tag, is_new: false });
        }
        if tag.is_none() && servers.registrations.servers.len() >= REGISTERED_SERVERS_MAX {
            return Err(NotRegistered::NoRoom(format!(
                "{REGISTERED_SERVERS_MAX} servers are registered, and that is the most: remove one, or write this one into \
                 the configuration file"
            )));
        }
        let mut registrations = servers.registrations.clone();
        let reached_by = gateway::shown(&settings).1;
        let fresh = registrations.insert(name.clone(), settings);
        let wanted = registrations.with(&servers.of_file);
        if servers.places_left(&wanted).is_none_or(|left| left < SERVER_PLACES_OF_FILE) {
            return Err(NotRegistered::NoRoom(format!("there is no place for it: {NO_PLACES}")));
        }
        (servers.settings.servers, servers.registrations) = (wanted, registrations);
        servers.place_all(ready.as_ref().map(|ready| (&name, ready)));
        servers.publish();
        let done = if tag.is_none() { "registered" } else { "changed" };
        tracing::info!(server = name.as_str(), "{done} by request: {reached_by}");
        Ok(Registered { tag: fresh, is_new: tag.is_none() })
    }

    fn unregister(&self, name: &str, condition: &Condition) -> Result<(), NotRegistered> {
        let servers = &mut self.lock().0;
        let unknown = || {
            let why = format!("there is no server {name}, so there is none to remove; `corelane servers` lists them");
            NotRegistered::Unknown(why)
        };
        let name = ServerName::new(name).ok_or_else(unknown)?;
        if servers.of_file.iter().any(|(named, _)| *named == name) {
            return Err(of_file(name.as_str()));
        }
        let tag = servers.registrations.tag(&name).ok_or_else(unknown)?;
        condition.judge(Some(tag))?;
        servers.registrations.servers.remove(&name);
        servers.settings.servers = servers.registrations.with(&servers.of_file);
        servers.place_all(None);
        servers.publish();
        tracing::info!(server = name.as_str(), "removed by request");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::pins::Keeper;
    use crate::boot::reload::Servers;
    use crate::config::{Config, Sources};
    use crate::metrics::Registry;
    use axum::http::HeaderMap;
    use std::net::SocketAddr;

    fn looked_up(_: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![([1, 1, 1, 1], port).into()])
    }

    fn condition(field: &'static str) -> Condition {
        let mut fields = HeaderMap::new();
        fields.insert(field, "*".parse().expect("a value"));
        Condition::of(&fields)
    }

    #[test]
    fn places_run_out_and_requests_leave_some_to_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("c.toml");
        let write = |text: &str| std::fs::write(&file, text).expect("writable");
        write("");
        let sources = Sources { file: Some(file.clone()), ..Sources::default() };
        let config = Config::load(&sources).expect("valid");
        let registry = Arc::new(Registry::new(1));
        let (pins, ..) = Keeper::new(config.settings()).expect("no file is named");
        let mut servers = Servers::new(config.settings(), &registry, pins, true, false, looked_up);
        servers.places_max = SERVER_PLACES_OF_FILE + 3;
        let choices = servers.choices();
        let reloader = Reloader::new(servers, config);
        let body = |n: usize| format!(r#"{{"kind":"http","url":"http://a.example/{n}"}}"#);
        let (any, new) = (condition("if-match"), condition("if-none-match"));
        let register =
            |name: &str, n: usize, condition: &Condition| reloader.register(name, body(n).as_bytes(), condition);
        let alive = || -> Vec<String> { registry.servers().iter().map(|row| row.name.to_string()).collect() };
        assert!(register("a", 0, &new).is_ok_and(|done| done.is_new));
        // What is no change takes no place, one that is takes another, and so does what comes after a removal.
        for _ in 0..9 {
            assert!(register("a", 0, &any).is_ok_and(|done| !done.is_new));
        }
        assert!(register("a", 1, &any).is_ok());
        assert_eq!(reloader.unregister("a", &any), Ok(()));
        assert!(register("a", 1, &new).is_ok());
        let before = reloader.registered();
        for (name, condition) in [("a", &any), ("b", &new)] {
            let refused = register(name, 2, condition);
            assert!(matches!(refused, Err(NotRegistered::NoRoom(ref why)) if why.contains("restart")), "{refused:?}");
        }
        assert_eq!((reloader.registered(), alive()), (before, vec!["a".to_owned()]), "a refusal changes nothing");
        // The file has places left, until it has not.
        let section = |name: &str| format!("[servers.{name}]\nkind = \"http\"\nurl = \"http://b.example/\"\n");
        write(&section("c"));
        assert_eq!(reloader.reload().as_deref(), Ok("added c"));
        assert_eq!(alive(), ["a", "c"]);
        {
            let servers = &mut reloader.lock().0;
            servers.places_max = choices.borrow().settings.servers.len();
        }
        write(&section("d"));
        assert!(reloader.reload().is_err_and(|why| why.contains("restart corelane")));
        assert_eq!(alive(), ["a", "c"]);
        // To take out needs no place.
        write("");
        assert_eq!(reloader.reload().as_deref(), Ok("removed c"));
        assert_eq!(reloader.unregister("a", &any), Ok(()));
        assert_eq!((alive().len(), reloader.registered().len()), (0, 0));
    }
}
