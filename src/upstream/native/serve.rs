//! Serving a native server from a process of its own.
//!
//! Not here: anything about cores and sockets; this is the door to `boot`.
//! Invariant: none of these returns before the server has stopped.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::builder::Server;
use crate::boot::{self, BootError, Hooks, OnCore, OwnHealth, Registry};
use crate::config::{Config, ConfigError, Flag, Sources};
use crate::control::log::{self, LogError};
use crate::server::service::nanos;

/// Where and how to serve. Every setting of `corelane config --default` can be had by the environment or a file.
#[derive(Clone, Debug, Default)]
pub struct ServeOptions {
    listen: Vec<String>,
    tcp: Vec<String>,
    cores: Option<String>,
    control: Option<String>,
    era: Option<String>,
    file: Option<std::path::PathBuf>,
    hooks: Hooks,
}

/// What `from_args` understands.
const USAGE: &str = "\
Options:
  --listen ADDR    MCP over HTTP on this address; repeatable [default: 127.0.0.1:8808]
  --tcp ADDR       MCP as lines of JSON over TCP on this address; repeatable
  --cores LIST|N   CPUs that get a core: all, a number, or a list such as 0-3,8 [default: all]
  --control ADDR   health and metrics on this address [default: 127.0.0.1:8809]
  --era ERA        revisions to serve: legacy (to 2025-11-25), modern (2026-07-28) or both [default: both]
  --config FILE    configuration file (TOML)
  --help           print this";

impl ServeOptions {
    /// The options that the process was started with: `--listen`, `--tcp`, `--cores`, `--control`, `--era` and
    /// `--config`, each as the method of that name (`--config` as `file`). With `--help` it prints them and ends the
    /// process with 0; an argument it does not know ends the process with 2. A program with arguments of its own reads
    /// them itself and calls the methods.
    pub fn from_args() -> ServeOptions {
        match ServeOptions::parse(std::env::args().skip(1)) {
            Ok(Some(options)) => options,
            Ok(None) => {
                // Whoever asked may be gone already, as `head` is.
                let told = writeln!(std::io::stdout(), "{USAGE}");
                std::process::exit(i32::from(told.is_err()))
            }
            Err(wrong) => {
                drop(writeln!(std::io::stderr(), "{wrong}\n\n{USAGE}"));
                std::process::exit(2)
            }
        }
    }

    /// The same from any arguments; none if help is asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<ServeOptions>, String> {
        let mut options = ServeOptions::default();
        while let Some(argument) = arguments.next() {
            let (name, joined) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let take: fn(ServeOptions, String) -> ServeOptions = match name {
                "--help" | "-h" => return Ok(None),
                "--listen" => ServeOptions::listen,
                "--tcp" => ServeOptions::tcp,
                "--cores" => ServeOptions::cores,
                "--control" => ServeOptions::control,
                "--era" => ServeOptions::era,
                "--config" => ServeOptions::file,
                _ => return Err(format!("unknown argument `{argument}`")),
            };
            let value = joined.or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value"))?;
            options = take(options, value);
        }
        Ok(Some(options))
    }

    /// Listens there for HTTP instead of on `127.0.0.1:8808`. May be called several times.
    pub fn listen(mut self, address: impl Into<String>) -> ServeOptions {
        self.listen.push(address.into());
        self
    }

    /// Listens there for lines of JSON over TCP. May be called several times.
    pub fn tcp(mut self, address: impl Into<String>) -> ServeOptions {
        self.tcp.push(address.into());
        self
    }

    /// Runs on so many cores (`"2"`) or on these CPUs (`"0-3,8"`) instead of on all.
    pub fn cores(mut self, cores: impl Into<String>) -> ServeOptions {
        self.cores = Some(cores.into());
        self
    }

    /// Serves health and metrics there instead of on `127.0.0.1:8809`.
    pub fn control(mut self, address: impl Into<String>) -> ServeOptions {
        self.control = Some(address.into());
        self
    }

    /// Serves clients of one era only: `"legacy"` (2024-11-05 to 2025-11-25) or `"modern"` (2026-07-28), instead of
    /// `"both"`.
    pub fn era(mut self, era: impl Into<String>) -> ServeOptions {
        self.era = Some(era.into());
        self
    }

    /// Reads this configuration file.
    pub fn file(mut self, path: impl Into<std::path::PathBuf>) -> ServeOptions {
        self.file = Some(path.into());
        self
    }

    /// Calls this on each core when it begins, and again when one is restarted: what it spawns runs beside the core's
    /// connections, sees the registry of servers and transports, and can tell subscribers of changes that no call made.
    ///
    /// ```
    /// use std::time::Duration;
    /// use corelane::{Resource, ServeOptions, Server};
    ///
    /// let server = Server::builder("press", "1.0")
    ///     .announces_resource_updates()
    ///     .resource(Resource::new("news://today"), |_, _| "news")
    ///     .build()?;
    /// let options = ServeOptions::default().each_core(|core| {
    ///     let press = core.clone();
    ///     core.spawn(async move {
    ///         loop {
    ///             press.sleep(Duration::from_millis(50)).await;
    ///             press.resource_updated("news://today"); // all subscribers of all cores hear of it
    ///         }
    ///     });
    /// });
    /// # // From here on: served on a port of the kernel's choice and listened to, so that it is known to work.
    /// # use std::io::{BufRead, BufReader, Write};
    /// # let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    /// # let options = options.listen("127.0.0.1:0").control("127.0.0.1:0").cores("1").tcp(&address);
    /// # std::thread::spawn(|| server.serve(options).unwrap());
    /// # let wait = |_: u32| std::thread::sleep(std::time::Duration::from_millis(20));
    /// # let connected = |_: u32| std::net::TcpStream::connect(&address).ok();
    /// # let mut stream = (0..500).inspect(|&n| wait(n)).find_map(connected).expect("it serves");
    /// # let meta = concat!(
    /// #     r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    /// #     r#""io.modelcontextprotocol/clientCapabilities":{}}"#
    /// # );
    /// # let wanted = r#""notifications":{"resourceSubscriptions":["news://today"]}"#;
    /// # let listen = format!(r#""method":"subscriptions/listen","params":{{{wanted},{meta}}}"#);
    /// # writeln!(stream, r#"{{"jsonrpc":"2.0","id":1,{listen}}}"#)?;
    /// # let mut heard = BufReader::new(stream).lines().map_while(Result::ok);
    /// # let updated = heard.find(|line| line.contains("resources/updated")).expect("it is told");
    /// # assert!(updated.contains("news://today"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn each_core(mut self, hook: impl Fn(OnCore) + Send + Sync + 'static) -> ServeOptions {
        self.hooks.each_core = Some(Arc::new(hook));
        self
    }

    /// Hands out the registry of servers and transports for threads that are no core, before the cores start.
    pub fn with_registry(mut self, take: impl Fn(Registry) + Send + Sync + 'static) -> ServeOptions {
        self.hooks.registry = Some(Arc::new(take));
        self
    }

    /// Hands out the health of the server for other threads of the program, before the cores start: what a supervisor
    /// asks for at `/healthz`, without a socket and without a core having to answer.
    ///
    /// ```
    /// use corelane::{CoreState, ServeOptions, Server};
    ///
    /// let server = Server::builder("press", "1.0").build()?;
    /// let (hand, health) = std::sync::mpsc::channel();
    /// let options = ServeOptions::default().with_health(move |health| drop(hand.send(health)));
    /// # let options = options.listen("127.0.0.1:0").control("127.0.0.1:0").cores("1");
    /// std::thread::spawn(move || server.serve(options));
    /// let health = health.recv()?;
    /// while !health.report().ready {
    ///     std::thread::sleep(std::time::Duration::from_millis(10));
    /// }
    /// assert!(health.report().cores.iter().all(|core| *core == CoreState::Ready));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn with_health(mut self, take: impl Fn(OwnHealth) + Send + Sync + 'static) -> ServeOptions {
        self.hooks.health = Some(Arc::new(take));
        self
    }

    /// The mean of the last ten writes to a shard of the registry above which it is alarmed, instead of what
    /// `registry.write_limit_us` says, 10 ms by default. When more than half of the shards are alarmed, new
    /// registrations are refused.
    pub fn registry_write_limit(mut self, limit: Duration) -> ServeOptions {
        self.hooks.write_limit = Some(nanos(limit));
        self
    }

    fn configured(self) -> Result<Config, ServeError> {
        let mut flags = Vec::new();
        if !self.listen.is_empty() {
            flags.push(Flag::words("listen", "serve.listen", self.listen));
        }
        if !self.tcp.is_empty() {
            flags.push(Flag::words("tcp", "serve.tcp", self.tcp));
        }
        if let Some(cores) = self.cores {
            flags.push(Flag::word("cores", "cores.list", cores));
        }
        if let Some(era) = self.era {
            flags.push(Flag::word("era", "serve.era", era));
        }
        if let Some(control) = self.control {
            flags.push(Flag::word("control", "control.listen", control));
        }
        let config = Config::load(&Sources::of_process(self.file, flags))?;
        match log::init(&config.settings().log) {
            // The program logs for itself, or has served before.
            Ok(()) | Err(LogError::AlreadySet(_)) => {}
            Err(error) => return Err(error.into()),
        }
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

/// Why serving ended. Its `Debug` is its `Display`: that is what a `main` prints which returns it.
#[derive(thiserror::Error)]
pub enum ServeError {
    /// It could not start, or could not go on.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// An option, a variable or the file is wrong.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// Logging could not be set up.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl std::fmt::Debug for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl<S: 'static> Server<S> {
    /// Serves over HTTP on every core until the process is told to stop.
    ///
    /// It takes a process for its own: SIGINT, SIGTERM and SIGHUP are its to answer from here on, the soft limits of
    /// open files and locked memory are raised to the hard ones, settings come from `CORELANE_*` of the environment
    /// too, and logging is set up if the program has not done so, with a panic hook for the threads made here. The
    /// calling thread stays in here; threads of the program's own go on beside it.
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn serve(self, options: ServeOptions) -> Result<(), ServeError> {
        let hooks = options.hooks.clone();
        Ok(boot::serve_native(self, options.configured()?, hooks)?)
    }

    /// Serves one client over standard input and output.
    ///
    /// ```no_run
    /// use corelane::{Context, NoArguments, Server, Tool};
    ///
    /// fn main() -> Result<(), Box<dyn std::error::Error>> {
    ///     let hello = |_: NoArguments, _: &Context| "hello";
    ///     Ok(Server::builder("greeter", "1.0").tool(Tool::new("hello"), hello).build()?.serve_stdio()?)
    /// }
    /// ```
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn serve_stdio(self) -> Result<(), ServeError> {
        self.serve_stdio_with(ServeOptions::default())
    }

    /// The same with options. It is one core without addresses, so how many cores there are and where they listen means
    /// nothing to it.
    ///
    /// # Errors
    /// What kept it from serving.
    pub fn serve_stdio_with(self, options: ServeOptions) -> Result<(), ServeError> {
        let hooks = options.hooks.clone();
        Ok(boot::stdio_native(self, options.configured()?, hooks)?)
    }

    /// Another handle to the same definition.
    pub(crate) fn share(&self) -> Server<S> {
        Server { catalog: Arc::clone(&self.catalog) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Option<ServeOptions>, String> {
        ServeOptions::parse(arguments.iter().map(|&argument| argument.to_owned()))
    }

    #[test]
    fn arguments_become_options() {
        let given = ["--listen", "127.0.0.1:1", "--listen=127.0.0.1:2", "--tcp", "127.0.0.1:3", "--cores", "2"];
        let options =
            parse(&[&given[..], &["--control=127.0.0.1:4", "--era", "modern", "--config", "a.toml"]].concat());
        let options = options.expect("right").expect("no help");
        assert_eq!(
            (options.listen, options.tcp),
            (vec!["127.0.0.1:1".into(), "127.0.0.1:2".into()], vec!["127.0.0.1:3".into()])
        );
        assert_eq!((options.cores.as_deref(), options.control.as_deref()), (Some("2"), Some("127.0.0.1:4")));
        assert_eq!(options.era.as_deref(), Some("modern"));
        assert_eq!(options.file.as_deref(), Some(std::path::Path::new("a.toml")));
    }

    #[test]
    fn nothing_is_ignored() {
        assert!(parse(&["--listen", "127.0.0.1:1", "--help"]).expect("right").is_none());
        assert!(parse(&["--port", "1"]).expect_err("unknown").contains("`--port`"));
        assert!(parse(&["127.0.0.1:1"]).expect_err("no flag").contains("`127.0.0.1:1`"));
        assert!(parse(&["--listen"]).expect_err("no value").contains("--listen needs a value"));
    }
}
