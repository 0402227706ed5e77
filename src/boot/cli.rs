//! The command line: what can be asked, and how flags become settings.
//!
//! Not validation of values: a flag's words are read by the same settings that read the file, so they are refused with
//! the same advice. Invariant: a flag that sets a key sets it through `config::Flag`, and the variable of that key
//! works as well.

use super::operator::Question;
use crate::config::{Flag, Sources};
use clap::{ArgAction, Args, CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  corelane                                        serve MCP on http://127.0.0.1:8808/mcp
  corelane serve -l 10.0.0.7:8808 --cores 2-7     another address, six pinned cores
  corelane serve --config /etc/corelane.toml      settings from a file
  corelane config --default > corelane.toml       a commented file to start from
  corelane check --config corelane.toml           would it serve here? what is missing?
  corelane check --connections 100000             and would it with so many connections?
  corelane import claude_desktop_config.json      its servers as TOML, to be read before use
  corelane servers                                how the servers behind a running corelane stand
  corelane servers diff weather                   how its tools differ from what was approved
  corelane servers add weather --url http://w/mcp another server, until the process ends
  corelane stdio                                  one client on standard input and output

A flag wins over the environment, the environment over the file, the file over
the profile that one of these may name (`profile`, CORELANE_PROFILE), and that
over the default. In the environment a key is CORELANE_<SECTION>_<KEY>, such as
CORELANE_LIMITS_BODY_BYTES. `corelane config --default` explains every key.

Exit codes: 0 success, 1 failed or would not serve, 2 wrong usage, 3 something
differs (servers diff), 130 ended at once by a second signal.";

/// Route MCP (Model Context Protocol) messages, thread-per-core on io_uring.
///
/// Agents connect over HTTP, TCP, Unix sockets or standard input; every message goes to the core that owns its session.
/// Without a command, `serve` runs with its defaults.
#[derive(Parser, Debug)]
#[command(name = "corelane", version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do; `serve` if nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Log more: -v debug, -vv trace
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,

    /// Form of log lines, on standard error: text or json
    #[arg(long, global = true, value_name = "FORMAT", value_parser = ["text", "json"])]
    pub log_format: Option<String>,
}

/// What can be asked.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT; the first drains, the second ends at once; SIGHUP reads the file again
    Serve(ServeArgs),
    /// Say whether `serve` would start on this host, and what is missing
    Check(CheckArgs),
    /// Serve one client on standard input and output
    Stdio(StdioArgs),
    /// Print the configuration as commented TOML
    Config(PrintArgs),
    /// Ask a running corelane how the servers behind it stand
    #[command(args_conflicts_with_subcommands = true)]
    Servers {
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
        /// What else is asked.
        #[command(subcommand)]
        action: Option<ServersAction>,
    },
    /// Ask a running corelane for the transports of its registry
    #[command(args_conflicts_with_subcommands = true)]
    Transports {
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
        /// What else is asked.
        #[command(subcommand)]
        action: Option<TransportsAction>,
    },
    /// Ask a running corelane which transports are bound to which servers
    #[command(args_conflicts_with_subcommands = true)]
    Bindings {
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
        /// What else is asked.
        #[command(subcommand)]
        action: Option<BindingsAction>,
    },
    /// Have a running corelane read its configuration file again: servers, views, gateway settings
    Reload(AskArgs),
    /// Ask a running corelane for its sessions and connections, by core
    Sessions(AskArgs),
    /// Ask a running corelane for the shards of its registry
    Shards(ShardArgs),
    /// Ask a running corelane for its limits on connections: what is taken of each, and who was refused
    Limits(AskArgs),
    /// Ask a running corelane how near its limits it is
    Zones(AskArgs),
    /// Print the servers of another program's configuration (`mcpServers`) as TOML
    Import {
        /// The file: claude_desktop_config.json, .mcp.json or the like
        file: PathBuf,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// What is asked of one server.
#[derive(Subcommand, Debug)]
pub enum ServersAction {
    /// Show how the tools of a server differ from what was approved; ends with 3 if one does
    Diff {
        /// The server
        #[arg(value_name = "NAME")]
        server: String,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Register a server by its URL, until the process ends
    Add {
        /// Its name
        #[arg(value_name = "NAME")]
        server: String,
        /// Where it is
        #[arg(long)]
        url: String,
        /// How it is reached: http (Streamable HTTP), sse (the deprecated HTTP+SSE)
        #[arg(long, default_value = "http")]
        kind: String,
        /// Another key of its section, with a JSON value or a text; repeatable. Others on this host can see it:
        /// secrets belong into the configuration file
        #[arg(long = "set", value_name = "KEY=VALUE")]
        settings: Vec<String>,
        /// Change the one that was registered under this name
        #[arg(long)]
        replace: bool,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Remove a server that was registered; its calls finish
    Remove {
        /// The server
        #[arg(value_name = "NAME")]
        server: String,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Approve changed tools of a server as they are
    Approve {
        /// The server
        #[arg(value_name = "NAME")]
        server: String,
        /// The tools, by the server's own names for them; all that changed if none is named
        #[arg(value_name = "TOOL")]
        tools: Vec<String>,
        /// Approve only what was looked at: `diff` prints the tag
        #[arg(long)]
        tag: Option<String>,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// What is asked of one transport.
#[derive(Subcommand, Debug)]
pub enum TransportsAction {
    /// Register a transport, which the administration owns
    Add {
        /// Its name
        #[arg(value_name = "NAME")]
        transport: String,
        /// Bind it to this server of the registry
        #[arg(long, value_name = "NAME")]
        server: Option<String>,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Remove a transport that the administration owns, and its binding
    Remove {
        /// The transport
        #[arg(value_name = "NAME")]
        transport: String,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// What is asked of one binding.
#[derive(Subcommand, Debug)]
pub enum BindingsAction {
    /// Bind a transport to a server, in place of what it was bound to
    Set {
        /// The transport
        transport: String,
        /// The server
        server: String,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
    /// Unbind a transport
    Remove {
        /// The transport
        transport: String,
        /// Who is asked.
        #[command(flatten)]
        ask: AskArgs,
    },
}

/// Where settings come from.
#[derive(Args, Debug, Default)]
pub struct ConfigArgs {
    /// Configuration file (TOML) [env: CORELANE_CONFIG]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Names the file where no flag does. An empty variable is as good as none, as a shell or a unit file may leave it;
/// clap would take it for a flag without its value.
const CONFIG_VARIABLE: &str = "CORELANE_CONFIG";

/// The flags of `check`.
#[derive(Args, Debug, Default)]
pub struct CheckArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Judge by so many connections at the peak, in place of cores.expected_connections: which shards would be chosen,
    /// and whether tables, limits and memory have room; ends with 1 if they have not
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub connections: Option<String>,
}

/// The flags of `stdio`.
#[derive(Args, Debug, Default)]
pub struct StdioArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Show this server only, or this view (@NAME), instead of all servers
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    pub view: String,
}

/// The flags of `serve`; each replaces what the file says.
#[derive(Args, Debug, Default)]
pub struct ServeArgs {
    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// MCP over HTTP on this address; repeatable [default: 127.0.0.1:8808]
    #[arg(short, long, value_name = "ADDR")]
    pub listen: Vec<String>,

    /// MCP as lines of JSON over TCP on this address; repeatable
    #[arg(long, value_name = "ADDR")]
    pub tcp: Vec<String>,

    /// MCP as lines of JSON on this Unix socket; repeatable
    #[arg(long, value_name = "PATH")]
    pub unix: Vec<String>,

    /// CPUs that get a core: all, a number, or a list such as 0-3,8 [default: all]
    #[arg(long, value_name = "LIST|N", allow_hyphen_values = true)]
    pub cores: Option<String>,

    /// Shards over all cores; 0 chooses [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub shards: Option<String>,

    /// Health, metrics and administration (read only) on this address [default: 127.0.0.1:8809]
    #[arg(long, value_name = "ADDR")]
    pub control: Option<String>,
}

/// Who is asked, and how it is printed.
#[derive(Args, Debug, Default)]
pub struct AskArgs {
    /// The configuration that it runs with says where it is.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// Ask on this Unix socket (control.socket); changes are taken there only
    #[arg(long, value_name = "PATH")]
    pub socket: Option<String>,

    /// Ask at this address (control.listen)
    #[arg(long, value_name = "ADDR", conflicts_with = "socket")]
    pub control: Option<String>,

    /// Print what the API answers, as JSON
    #[arg(long)]
    pub json: bool,
}

/// The flags of `shards`.
#[derive(Args, Debug, Default)]
pub struct ShardArgs {
    /// Who is asked.
    #[command(flatten)]
    pub ask: AskArgs,

    /// Let counts and latencies begin anew first
    #[arg(long)]
    pub reset: bool,

    /// Choose first when registrations are refused: while shards are alarmed (auto), always (on), never (off)
    #[arg(long, value_name = "CHOICE", value_parser = ["auto", "on", "off"])]
    pub admission: Option<String>,
}

/// Which configuration is printed.
#[derive(Args, Debug)]
pub struct PrintArgs {
    /// The default configuration, whatever file and environment say
    #[arg(long, conflicts_with = "config")]
    pub default: bool,

    /// Where settings come from.
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl ServersAction {
    fn question(&self) -> Question {
        match self {
            ServersAction::Add { server, url, kind, settings, replace, .. } => Question::Register {
                server: server.clone(),
                url: url.clone(),
                kind: kind.clone(),
                settings: settings.clone(),
                replace: *replace,
            },
            ServersAction::Approve { server, tools, tag, .. } => {
                Question::Approve { server: server.clone(), tools: tools.clone(), tag: tag.clone() }
            }
            ServersAction::Diff { server, .. } => Question::Diff(server.clone()),
            ServersAction::Remove { server, .. } => Question::Unregister(server.clone()),
        }
    }
}

impl Cli {
    /// Everything the configuration of this command is made of.
    pub fn sources(&self) -> Sources {
        let serve = ServeArgs::default();
        let (file, serve) = match &self.command {
            Some(Command::Serve(args)) => (args.config.config.clone(), args),
            Some(Command::Check(CheckArgs { config: args, .. }) | Command::Stdio(StdioArgs { config: args, .. })) => {
                (args.config.clone(), &serve)
            }
            Some(Command::Config(args)) => (args.config.config.clone(), &serve),
            None => (None, &serve),
            Some(_) => (self.ask_args().and_then(|ask| ask.config.config.clone()), &serve),
        };
        let named = || std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
        Sources::of_process(file.or_else(named), self.flags(serve))
    }

    /// Whether it was asked for so many connections in particular, and not for what the configuration expects.
    pub fn names_connections(&self) -> bool {
        matches!(&self.command, Some(Command::Check(args)) if args.connections.is_some())
    }

    /// Whether a running corelane is to be asked at an address, whatever socket the file names.
    pub fn names_control_address(&self) -> bool {
        self.ask_args().is_some_and(|ask| ask.control.is_some())
    }

    /// What a running corelane is asked, if it is; and whether its answer is to be printed as JSON.
    pub fn question(&self) -> Option<(Question, bool)> {
        let json = self.ask_args()?.json;
        let question = match self.command.as_ref()? {
            Command::Servers { action: None, .. } => Question::Servers,
            Command::Servers { action: Some(action), .. } => action.question(),
            Command::Transports { action: None, .. } => Question::Transports,
            Command::Transports { action: Some(action), .. } => match action {
                TransportsAction::Add { transport, server, .. } => {
                    Question::RegisterTransport { transport: transport.clone(), server: server.clone() }
                }
                TransportsAction::Remove { transport, .. } => Question::UnregisterTransport(transport.clone()),
            },
            Command::Bindings { action: None, .. } => Question::Bindings,
            Command::Bindings { action: Some(action), .. } => match action {
                BindingsAction::Set { transport, server, .. } => {
                    Question::Bind { transport: transport.clone(), server: server.clone() }
                }
                BindingsAction::Remove { transport, .. } => Question::Unbind(transport.clone()),
            },
            Command::Reload(_) => Question::Reload,
            Command::Sessions(_) => Question::Sessions,
            Command::Shards(args) => Question::Shards { reset: args.reset, admission: args.admission.clone() },
            Command::Limits(_) => Question::Limits,
            Command::Zones(_) => Question::Zones,
            _ => return None,
        };
        Some((question, json))
    }

    fn ask_args(&self) -> Option<&AskArgs> {
        match &self.command {
            Some(Command::Servers { action: Some(action), .. }) => Some(match action {
                ServersAction::Add { ask, .. }
                | ServersAction::Approve { ask, .. }
                | ServersAction::Diff { ask, .. }
                | ServersAction::Remove { ask, .. } => ask,
            }),
            Some(Command::Transports { action: Some(action), .. }) => Some(match action {
                TransportsAction::Add { ask, .. } | TransportsAction::Remove { ask, .. } => ask,
            }),
            Some(Command::Bindings { action: Some(action), .. }) => Some(match action {
                BindingsAction::Remove { ask, .. } | BindingsAction::Set { ask, .. } => ask,
            }),
            Some(
                Command::Servers { ask, action: None }
                | Command::Transports { ask, action: None }
                | Command::Bindings { ask, action: None }
                | Command::Sessions(ask)
                | Command::Reload(ask)
                | Command::Shards(ShardArgs { ask, .. })
                | Command::Limits(ask)
                | Command::Zones(ask),
            ) => Some(ask),
            _ => None,
        }
    }

    fn flags(&self, serve: &ServeArgs) -> Vec<Flag> {
        let mut flags = Vec::new();
        let lists = [
            ("--listen", "serve.listen", &serve.listen),
            ("--tcp", "serve.tcp", &serve.tcp),
            ("--unix", "serve.unix", &serve.unix),
        ];
        for (flag, key, words) in lists {
            if !words.is_empty() {
                flags.push(Flag::words(flag, key, words.iter().cloned()));
            }
        }
        let connections = match &self.command {
            Some(Command::Check(args)) => &args.connections,
            _ => &None,
        };
        let level = match self.verbose {
            0 => None,
            1 => Some("debug".to_owned()),
            _ => Some("trace".to_owned()),
        };
        let words = [
            ("--cores", "cores.list", &serve.cores),
            ("--shards", "cores.shards", &serve.shards),
            ("--control", "control.listen", &serve.control),
            ("--connections", "cores.expected_connections", connections),
            ("--log-format", "log.format", &self.log_format),
            ("--verbose", "log.level", &level),
        ];
        let asked = self.ask_args().into_iter().flat_map(|ask| {
            [("--socket", "control.socket", &ask.socket), ("--control", "control.listen", &ask.control)]
        });
        for (flag, key, word) in words.into_iter().chain(asked) {
            flags.extend(word.as_ref().map(|word| Flag::word(flag, key, word)));
        }
        flags
    }
}

/// Writes a completion script.
pub fn write_completions(shell: clap_complete::Shell, out: &mut dyn Write) {
    clap_complete::generate(shell, &mut Cli::command(), "corelane", out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, CoreList, LogFormat, LogLevel};

    fn load(arguments: &[&str]) -> Result<Config, crate::config::ConfigError> {
        let cli = Cli::try_parse_from(std::iter::once(&"corelane").chain(arguments)).expect("usage is right");
        Config::load(&Sources { variables: Vec::new(), ..cli.sources() })
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_everything_is_default() {
        assert_eq!(load(&[]).expect("valid"), Config::default());
        assert_eq!(load(&["serve"]).expect("valid"), Config::default());
    }

    #[test]
    fn flags_become_settings() {
        let arguments =
            ["serve", "--listen", "127.0.0.1:1", "--listen", "[::1]:2", "--tcp", "127.0.0.1:3", "--unix", "/run/a,b"];
        let more = ["--cores", "0-1", "--shards", "8", "-vv", "--log-format", "json"];
        let config = load(&[arguments.as_slice(), &more].concat()).expect("valid");
        let settings = config.settings();
        assert_eq!((settings.serve.listen.len(), settings.serve.tcp.len()), (2, 1));
        assert_eq!(settings.serve.unix[0].as_path(), std::path::Path::new("/run/a,b"));
        assert_eq!(settings.cores.list, CoreList::Cpus(vec![0, 1]));
        assert_eq!(settings.cores.shards.fixed(), Some(8));
        assert_eq!((settings.log.level, settings.log.format), (LogLevel::Trace, LogFormat::Json));
        assert!(config.non_defaults().iter().any(|n| n.to_string() == "cores.shards = 8 (from --shards)"));
    }

    #[test]
    fn connections_to_check_for_are_what_is_expected() {
        let config = load(&["check", "--connections", "50000"]).expect("valid");
        assert_eq!(config.settings().cores.expected_connections.get(), 50_000);
        assert!(load(&["check", "--connections", "0"]).expect_err("none").is_usage());
    }

    #[test]
    fn wrong_flags_are_usage_errors() {
        assert!(load(&["serve", "--listen", "x"]).expect_err("no address").is_usage());
        assert!(load(&["serve", "--cores", "0-99"]).expect_err("too many").is_usage());
        // A number below 0 is a wrong value, and no flag that nobody knows.
        for (command, flag) in [("serve", "--shards"), ("serve", "--cores"), ("check", "--connections")] {
            let refused = load(&[command, flag, "-1"]).expect_err("a number below 0");
            assert!(refused.is_usage() && refused.to_string().contains("allowed is"), "{refused}");
        }
        for arguments in
            [["corelane", "--log-format", "xml"], ["corelane", "serv", ""], ["corelane", "serve", "--port"]]
        {
            assert_eq!(Cli::try_parse_from(arguments).expect_err("wrong usage").exit_code(), 2);
        }
    }

    #[test]
    fn completions_know_the_commands() {
        let mut script = Vec::new();
        write_completions(clap_complete::Shell::Bash, &mut script);
        assert!(String::from_utf8(script).expect("UTF-8").contains("completions"));
    }
}
