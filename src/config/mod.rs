//! Configuration: flags, environment and file become a `Config` that can only hold valid values.
//!
//! Not read by the modules it configures: `boot` cuts it into one settings struct for each of them (`Settings`).
//! Invariant: a `Config` exists only if every value is within its bounds and no two contradict each other; unknown keys
//! and variables never pass in silence.

mod bounded;
mod draft;
mod env;
mod file;
mod given;
mod hosts;
mod import;
mod names;
mod problem;
mod profile;
mod requested;
mod roots;
mod rows;
mod secret;
mod sections;
mod servers;
mod settings;
mod shapes;
mod steps;
mod table;
mod text;
mod url;
mod words;

pub use bounded::{AutoOr, Bounded, Millis, PowerOfTwo};
pub use hosts::{AllowedHosts, AllowedOrigins};
pub use import::import;
pub use names::{HeaderName, Prefix, ServerName, ToolName, ViewName};
pub use problem::{ConfigError, Problem};
pub use profile::Profile;
pub use requested::{NotRequested, clash, requested};
pub use roots::Roots;
pub use secret::{Secret, Source, Supplied};
pub use servers::{
    AddressSpace, DialInServer, EraChoice, HttpServer, ListRules, OpenFiles, ServerKind, ServerSettings, SessionUse,
    StdioServer, ToolRules, ViewSettings,
};
pub use settings::{
    CallSettings, ControlSettings, CoreSettings, DialInSettings, GatewaySettings, LimitSettings, LogSettings,
    OffloadSettings, RegistrySettings, ServeSettings, SessionSettings, StreamSettings, UringSettings, ZoneSettings,
};
pub use steps::Steps;
pub use url::{ServerUrl, UrlHost};
pub use words::{
    CoreList, Demonstration, HttpPath, LogFormat, LogLevel, OptionalFilePath, OptionalHttpPath, OptionalUnixPath,
    Pinning, ServedEra, SocketMode, TicketKey, UnixPath,
};

use file::SourceFile;
use given::{Given, Setting};
use problem::{FilePlace, Place};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use table::KEYS;

/// A valid configuration, and where each value came from.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Settings,
    /// One for each of `KEYS`.
    origins: Vec<Origin>,
    /// What servers and views are configured, for the start-up report.
    sections: Vec<NonDefault>,
    /// What it was read from, to be read again; nothing for one that was not.
    sources: Sources,
}

/// The configuration, cut into one struct per consuming module.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Settings {
    /// Whose figures are taken where nothing else is said.
    pub profile: Profile,
    /// Where clients connect.
    pub serve: ServeSettings,
    /// Which CPUs work, and how work is spread over them.
    pub cores: CoreSettings,
    /// What one connection may take.
    pub limits: LimitSettings,
    /// Legacy sessions.
    pub sessions: SessionSettings,
    /// Event streams.
    pub streams: StreamSettings,
    /// Deadlines.
    pub calls: CallSettings,
    /// What all configured servers have in common.
    pub gateway: GatewaySettings,
    /// Where servers dial in.
    pub dial_in: DialInSettings,
    /// The configured servers, by name.
    pub servers: Vec<(ServerName, ServerSettings)>,
    /// The configured views, by name.
    pub views: Vec<(ViewName, ViewSettings)>,
    /// The registry of servers and transports.
    pub registry: RegistrySettings,
    /// Sizes of each core's ring.
    pub uring: UringSettings,
    /// Health and metrics.
    pub control: ControlSettings,
    /// How near its limits the process may come.
    pub zones: ZoneSettings,
    /// The pool for handlers that block or need tokio.
    pub offload: OffloadSettings,
    /// Logging.
    pub log: LogSettings,
}

impl Settings {
    /// The section of the server in this process, if it has one.
    pub fn native(&self) -> Option<&(ServerName, ServerSettings)> {
        self.servers.iter().find(|(_, server)| server.is_native())
    }
}

/// Everything a configuration is made of, the strongest last.
#[derive(Clone, Default)]
pub struct Sources {
    /// The configuration file, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables; those of others are ignored.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags of the command line.
    pub flags: Vec<Flag>,
}

/// Says which variables there are, not what they hold: they are where secrets are.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.variables.iter().map(|(name, _)| name).collect();
        let mut shown = f.debug_struct("Sources");
        shown.field("file", &self.file).field("variables", &names).field("flags", &self.flags).finish()
    }
}

/// A flag that sets a key.
#[derive(Clone, Debug)]
pub struct Flag {
    flag: &'static str,
    key: usize,
    given: Given,
}

/// A value that is not the default, for the start-up report. Shows as `key = value (from where)`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NonDefault {
    /// `section.key`
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// `FILE:LINE`, a variable, or a flag.
    pub origin: String,
}

#[derive(Clone, Debug)]
enum Origin {
    Default,
    Env(String),
    File(FilePlace),
    Flag(&'static str),
    Profile(Profile),
}

impl Flag {
    /// A flag that gives one word for a key such as `"cores.list"`.
    ///
    /// # Panics
    /// If there is no such key; flags are written in this program.
    pub fn word(flag: &'static str, key: &str, word: impl Into<String>) -> Flag {
        Flag { flag, key: Flag::key(key), given: Given::word(word) }
    }

    /// A flag that may be repeated, for a key that holds a list.
    ///
    /// # Panics
    /// If there is no such key; flags are written in this program.
    pub fn words(flag: &'static str, key: &str, words: impl IntoIterator<Item = String>) -> Flag {
        Flag { flag, key: Flag::key(key), given: Given::words(words) }
    }

    fn key(path: &str) -> usize {
        KEYS.iter().position(|key| key.path() == path).expect("flags set keys that exist")
    }
}

impl Sources {
    /// The environment of this process, with a file and flags.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<Flag>) -> Sources {
        Sources { file, variables: std::env::vars_os().collect(), flags }
    }

    /// The form of log lines where a flag or the environment says it, whatever stands in the file.
    pub fn log_format(&self) -> Option<LogFormat> {
        let key = Flag::key("log.format");
        if let Some(flag) = self.flags.iter().rfind(|flag| flag.key == key) {
            return LogFormat::read(&flag.given).ok();
        }
        let variable = KEYS[key].variable();
        let (_, word) = self.variables.iter().find(|(name, _)| name.as_os_str() == variable.as_str())?;
        LogFormat::read(&Given::word(word.to_str()?)).ok()
    }
}

impl Default for Config {
    fn default() -> Config {
        let mut config = Config {
            settings: Settings::default(),
            origins: vec![Origin::Default; KEYS.len()],
            sections: Vec::new(),
            sources: Sources::default(),
        };
        config.derive();
        config
    }
}

/// Two configurations are equal if their values are, wherever these came from.
impl PartialEq for Config {
    fn eq(&self, other: &Config) -> bool {
        self.settings == other.settings
    }
}

impl Config {
    /// Reads all sources; every problem is reported, not just the first.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        let Some(path) = &sources.file else { return Config::from_layers(None, sources) };
        match std::fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Config::from_layers(Some((path, &text)), sources),
            Ok(Err(error)) => {
                let problem = not_utf8(path, &error);
                Err(ConfigError::from_problems(vec![problem]).expect_err("there is a problem"))
            }
            Err(error) => {
                let what = format!("the configuration file {} cannot be read: {error}", path.display());
                let advice = "give its path with --config FILE; `corelane config --default` prints one to start from";
                let problem = Problem::new(Place::Whole, what).advise(Some(advice.to_owned()));
                Err(ConfigError::from_problems(vec![problem]).expect_err("there is a problem"))
            }
        }
    }

    /// Reads TOML text alone; `name` stands for the file in messages.
    pub fn from_toml(name: &str, text: &str) -> Result<Config, ConfigError> {
        Config::from_layers(Some((Path::new(name), text)), &Sources::default())
    }

    fn from_layers(file: Option<(&Path, &str)>, sources: &Sources) -> Result<Config, ConfigError> {
        let (mut config, mut problems) = (Config::default(), Vec::new());
        let file = file.map(|(path, text)| SourceFile::new(path, text, &mut problems));
        let in_file = file.as_ref().map(|file| file.values(&mut problems)).unwrap_or_default();
        let overrides = env::overrides(&sources.variables, &mut problems);
        let given = in_file.iter().map(|(key, given)| (*key, given));
        let given = given.chain(overrides.iter().map(|found| (found.key, &found.given)));
        config.take_up_profile(given.chain(sources.flags.iter().map(|flag| (flag.key, &flag.given))));
        if let Some(file) = &file {
            for (key, given) in in_file {
                let origin = Origin::File(file.place(given.span.clone()));
                config.set(key, &given, origin, Some(file), &mut problems);
            }
            let sections = file.sections(&sources.variables, &mut problems);
            (config.settings.servers, config.settings.views) = (sections.servers, sections.views);
            config.sections = sections.origins;
        }
        for found in overrides {
            config.set(found.key, &found.given, Origin::Env(found.variable), None, &mut problems);
        }
        for Flag { flag, key, given } in &sources.flags {
            config.set(*key, given, Origin::Flag(flag), None, &mut problems);
        }
        config.derive();
        if problems.is_empty() {
            config.contradictions(&mut problems);
        }
        config.sources = sources.clone();
        ConfigError::from_problems(problems).map(|()| config)
    }

    /// What it was read from.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// The keys, `section.name`, whose values are others here than there.
    pub fn differences(&self, other: &Settings) -> Vec<String> {
        let differs = |key: &&table::Key| (key.get)(&self.settings) != (key.get)(other);
        KEYS.iter().filter(differs).map(table::Key::path).collect()
    }

    fn set(
        &mut self,
        key: usize,
        given: &Given,
        origin: Origin,
        file: Option<&SourceFile>,
        problems: &mut Vec<Problem>,
    ) {
        match (KEYS[key].set)(&mut self.settings, given) {
            Ok(()) => self.origins[key] = origin,
            Err(refused) => {
                let place = match (file, &refused.span) {
                    (Some(file), Some(span)) => Place::File(file.place(Some(span.clone()))),
                    _ => origin.into_place(),
                };
                problems.push(Problem::refused(&KEYS[key].path(), refused, place));
            }
        }
    }

    /// Sets what the profile says that is given last, if there is one; a wrong one is told where it is set.
    fn take_up_profile<'a>(&mut self, given: impl Iterator<Item = (usize, &'a Given)>) {
        let key = Flag::key("profile");
        let profile = given.filter(|(one, _)| *one == key).last().and_then(|(_, given)| Profile::read(given).ok());
        let profile = profile.unwrap_or_default();
        for (path, word) in profile.values() {
            self.set(Flag::key(path), &Given::word(word), Origin::Profile(profile), None, &mut Vec::new());
        }
    }

    /// Fills in what follows from other settings.
    fn derive(&mut self) {
        self.settings.serve.allowed_hosts.derive_from(&self.settings.serve.listen);
        self.settings.control.allowed_hosts.derive_from(&[self.settings.control.listen]);
        self.settings.dial_in.allowed_hosts.derive_from(&self.settings.dial_in.listen);
    }

    /// What is valid by itself but not together.
    fn contradictions(&self, problems: &mut Vec<Problem>) {
        let Settings { serve, cores, limits, calls, gateway, uring, control, dial_in, .. } = &self.settings;
        let mut wrong = |key: &str, what: String, advice: &str| {
            let place = self.origins[Flag::key(key)].clone().into_place();
            problems.push(Problem::new(place, what).advise(Some(advice.to_owned())));
        };
        // Of two that do not go together the one that somebody wrote is to be changed.
        let written = |key: &'static str, other: &'static str| match self.origins[Flag::key(key)] {
            Origin::Default | Origin::Profile(_) => other,
            _ => key,
        };
        if serve.listen.is_empty() && serve.tcp.is_empty() && serve.unix.is_empty() {
            let what = "`serve.listen`, `serve.tcp` and `serve.unix` are all empty, so nobody could connect".to_owned();
            wrong("serve.listen", what, "give at least one address");
        }
        let used = serve.listen.iter().map(|a| ("serve.listen", a)).chain(serve.tcp.iter().map(|a| ("serve.tcp", a)));
        let dialled = dial_in.listen.iter().map(|address| ("dial_in.listen", address));
        let used: Vec<_> = used.chain([("control.listen", &control.listen)]).chain(dialled).collect();
        for (index, (key, address)) in used.iter().enumerate() {
            if let Some((first, _)) = used[..index].iter().find(|(_, other)| address.port() != 0 && other == address) {
                let what = format!("`{key}` names {address}, which `{first}` has already");
                wrong(written(key, first), what, "choose another port");
            }
        }
        let dials_in = |server: &ServerSettings| server.enabled && matches!(server.kind, ServerKind::DialIn(_));
        if let Some((name, _)) = self.settings.servers.iter().find(|(_, server)| dials_in(server))
            && dial_in.listen.is_empty()
        {
            let what = format!("servers.{name} is to dial in, but `dial_in.listen` is empty, so it never could");
            wrong("dial_in.listen", what, "write listen = [\"127.0.0.1:8810\"] below [dial_in]");
        }
        for (name, server) in &self.settings.servers {
            if let Some(what) = gateway.refuses_port(name, server) {
                wrong("gateway.ports", what, "add the port, or correct the URL");
            }
        }
        if serve.sse_endpoint.as_str().is_some() {
            let paths = [
                ("serve.endpoint", serve.endpoint.as_str()),
                ("serve.sse_endpoint", serve.sse_endpoint.as_str().unwrap_or("")),
                ("serve.message_endpoint", serve.message_endpoint.as_str()),
            ];
            for (index, (key, path)) in paths.iter().enumerate() {
                if let Some((first, _)) = paths[..index].iter().find(|(_, other)| other == path) {
                    let what = format!("`{key}` is {path}, which `{first}` is already");
                    wrong(written(key, first), what, "choose another path");
                }
            }
        }
        if let (Some(shards), Some(count)) = (cores.shards.fixed(), cores.list.count())
            && (shards as usize) < count
        {
            let what =
                format!("`cores.shards` is {shards}, but `cores.list` makes {count} cores, and each owns at least one");
            wrong("cores.shards", what, "raise it, or write 0 to have it chosen");
        }
        let mut at_most = |low: (&str, u64), high: (&str, u64)| {
            if low.1 > high.1 {
                let what = format!("`{}` is {}, more than `{}`, which is {}", low.0, low.1, high.0, high.1);
                wrong(low.0, what, &format!("lower `{}` or raise `{}`", low.0, high.0));
            }
        };
        if let (Some(soft), Some(hard)) = (limits.connections_soft.fixed(), limits.connections.fixed()) {
            at_most(("limits.connections_soft", soft), ("limits.connections", hard));
        }
        at_most(("calls.timeout_ms", calls.timeout_ms.ms()), ("calls.timeout_max_ms", calls.timeout_max_ms.ms()));
        at_most(("uring.buffers", uring.buffers.get()), ("uring.buffers_max", uring.buffers_max.get()));
        at_most(("uring.entries", uring.entries.get()), ("uring.cq_entries", uring.cq_entries.get()));
    }

    /// All settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All settings, to be cut up.
    pub fn into_settings(self) -> Settings {
        self.settings
    }

    /// What was set to something other than its default, for the start-up report.
    pub fn non_defaults(&self) -> Vec<NonDefault> {
        let default = Config::default();
        let of = |(key, origin): (&table::Key, &Origin)| {
            let value = (key.get)(&self.settings);
            let changed = value != (key.get)(&default.settings);
            changed.then(|| NonDefault { key: key.path(), value, origin: origin.to_string() })
        };
        KEYS.iter().zip(&self.origins).filter_map(of).chain(self.sections.iter().cloned()).collect()
    }

    /// Valid, but worth a second look: sentences for the start-up report.
    pub fn warnings(&self) -> Vec<String> {
        let Settings { serve, control, dial_in, .. } = &self.settings;
        let mut warnings = Vec::new();
        let http_anywhere = serve.listen.iter().find(|a| a.ip().is_unspecified());
        if let (Some(address), false) = (http_anywhere, serve.allowed_hosts.is_given()) {
            warnings.push(format!(
                "serve.listen names {address} (every interface) but serve.allowed_hosts is empty: only requests that name \
                 localhost are answered; list the names clients use"
            ));
        }
        if serve.allowed_hosts.rules().contains(&crate::proto::http1::HostRule::Any) {
            warnings.push(
                "serve.allowed_hosts accepts every host: DNS rebinding is only kept out by what stands in front".into(),
            );
        }
        for address in serve.tcp.iter().filter(|a| !a.ip().is_loopback()) {
            warnings.push(format!(
                "serve.tcp names {address}, which is not loopback: lines have no Host or Origin to check"
            ));
        }
        if !control.listen.ip().is_loopback() {
            warnings.push(format!("control.listen names {}, which is not loopback, and has no login", control.listen));
        }
        for address in dial_in.listen.iter().filter(|a| !a.ip().is_loopback()) {
            warnings.push(format!(
                "dial_in.listen names {address}, which is not loopback: keys and calls travel in clear; put it behind a \
                 tunnel, or where only the servers can reach it"
            ));
        }
        let by_profile = |origin: &Origin| matches!(origin, Origin::Profile(_));
        if self.settings.profile != Profile::None && !self.origins.iter().any(by_profile) {
            warnings.push(format!(
                "profile is {}, and sets nothing: all that it would set is set by the file, the environment or a flag; take \
                 out what should come from the profile",
                self.settings.profile.as_str()
            ));
        }
        self.warnings_of_servers(&mut warnings);
        warnings
    }

    fn warnings_of_servers(&self, warnings: &mut Vec<String>) {
        let Settings { servers, views, .. } = &self.settings;
        let enabled: Vec<_> = servers.iter().filter(|(_, server)| server.enabled).collect();
        let bare: Vec<_> =
            enabled.iter().filter(|(_, s)| s.prefix.as_str().is_empty()).map(|(n, _)| n.as_str()).collect();
        if bare.len() > 1 {
            warnings.push(format!(
                "servers {} have no prefix: of two tools with the same name only one will be seen",
                bare.join(", ")
            ));
        }
        self.warnings_of_pins(warnings);
        for (name, view) in views {
            for server in view.servers.iter().filter(|server| !enabled.iter().any(|(name, _)| name == *server)) {
                warnings.push(format!("views.{name} names the server {server}, which is not enabled"));
            }
        }
    }

    fn warnings_of_pins(&self, warnings: &mut Vec<String>) {
        let Settings { servers, gateway, control, .. } = &self.settings;
        let quarantines = |server: &ServerSettings| server.pinning(gateway) == Pinning::Quarantine;
        let Some((name, _)) = servers.iter().find(|(_, server)| server.enabled && quarantines(server)) else { return };
        if gateway.pins.as_path().is_none() {
            warnings.push(format!(
                "tools of servers.{name} are quarantined when they change, but gateway.pins is empty: what is approved is \
                 forgotten when the process ends; name a file"
            ));
        }
        if control.socket.as_path().is_none() {
            warnings.push(format!(
                "tools of servers.{name} are quarantined when they change, but control.socket is empty: nobody can \
                 approve them; name a Unix socket"
            ));
        }
    }

    /// The configuration as commented TOML.
    pub fn to_commented_toml(&self) -> String {
        text::print(&self.settings)
    }
}

/// What is wrong with a file whose bytes are no text. What stands around is not shown: it may be a secret.
fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Problem {
    let at = error.utf8_error().valid_up_to();
    let (before, byte) = (String::from_utf8_lossy(&error.as_bytes()[..at]), error.as_bytes()[at]);
    let place = Place::File(FilePlace::new(path, &before, &(at..at), &[])).without_text();
    let what = format!("this is not UTF-8: seen is the byte {byte:#04x}, allowed is TOML, which is UTF-8");
    let advice = "save the file as UTF-8; it may be Latin-1, Windows-1252 or UTF-16 now, or no text at all";
    Problem::new(place, what).advise(Some(advice.to_owned()))
}

impl Origin {
    fn into_place(self) -> Place {
        match self {
            Origin::Default | Origin::Profile(_) => Place::Whole,
            Origin::Env(variable) => Place::Env(variable),
            Origin::File(place) => Place::File(place),
            Origin::Flag(flag) => Place::Flag(flag.to_owned()),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::Env(variable) => f.write_str(variable),
            Origin::File(place) => place.fmt(f),
            Origin::Flag(flag) => f.write_str(flag),
            Origin::Profile(profile) => write!(f, "the profile {}", profile.as_str()),
        }
    }
}

impl fmt::Display for NonDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} (from {})", self.key, self.value, self.origin)
    }
}

#[cfg(test)]
mod section_tests;
#[cfg(test)]
mod tests;
