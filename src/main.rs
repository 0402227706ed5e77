//! The `corelane` program: command line to configuration to `boot`, and errors to exit codes.
//!
//! Nothing is served here. Invariant: 0 is success, 1 is "failed or would not serve", 2 is wrong usage, 3 is "something
//! differs"; standard output carries only what was asked for, everything else goes to standard error.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "host")]
mod host {
    use clap::Parser;
    use corelane::boot::operator::{self, OperatorError, Question};
    use corelane::boot::{self, BootError, cli};
    use corelane::config::{self, Config, ConfigError};
    use corelane::control::log::{self, LogError};
    use std::io::{self, Write};
    use std::process::ExitCode;

    /// Why the program ends with a code other than 0.
    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error(transparent)]
        Boot(#[from] BootError),
        #[error("{0}")]
        Config(#[from] ConfigError),
        #[error(transparent)]
        Log(#[from] LogError),
        #[error(transparent)]
        Operator(#[from] OperatorError),
        #[error("something differs")]
        Differs,
        #[error("cannot write to standard output: {0}")]
        Output(#[from] io::Error),
    }

    pub fn main() -> ExitCode {
        let Err(failure) = run(&cli::Cli::parse()) else { return ExitCode::SUCCESS };
        match failure {
            // The reader of a pipe has seen enough.
            Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            // What differs stands on standard output.
            Failure::Differs => return ExitCode::from(3),
            _ => log::last_words(&failure),
        }
        match failure {
            Failure::Config(error) if error.is_usage() => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }

    fn run(cli: &cli::Cli) -> Result<(), Failure> {
        if let Some(format) = cli.sources().log_format() {
            log::foresee(format);
        }
        match &cli.command {
            Some(cli::Command::Completions { shell }) => {
                let mut script = Vec::new();
                cli::write_completions(*shell, &mut script);
                Ok(io::stdout().write_all(&script)?)
            }
            Some(cli::Command::Config(args)) => {
                let config = if args.default { Config::default() } else { Config::load(&cli.sources())? };
                if !args.default {
                    boot::check_environment()?;
                }
                Ok(io::stdout().write_all(config.to_commented_toml().as_bytes())?)
            }
            Some(cli::Command::Import { file }) => Ok(io::stdout().write_all(config::import(file)?.as_bytes())?),
            Some(cli::Command::Check(_)) => Ok(boot::check(configured(cli)?, cli.names_connections())?),
            Some(cli::Command::Stdio(args)) => Ok(boot::stdio(configured(cli)?, &args.view)?),
            Some(cli::Command::Serve(_)) | None => Ok(boot::serve(configured(cli)?)?),
            Some(_) => match cli.question() {
                Some((question, json)) => ask(cli, &question, json),
                None => unreachable!("every other command asks a running corelane"),
            },
        }
    }

    /// Asks a running corelane.
    fn ask(cli: &cli::Cli, question: &Question, json: bool) -> Result<(), Failure> {
        let mut config = Config::load(&cli.sources())?.into_settings();
        if cli.names_control_address() {
            config.control.socket = Default::default();
        }
        let said = operator::ask(&config, question, json)?;
        io::stdout().write_all(said.text.as_bytes())?;
        if said.differs { Err(Failure::Differs) } else { Ok(()) }
    }

    /// Loads the configuration and sets up logging as it says.
    fn configured(cli: &cli::Cli) -> Result<Config, Failure> {
        let config = Config::load(&cli.sources())?;
        log::init(&config.settings().log)?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        Ok(config)
    }
}

#[cfg(feature = "host")]
fn main() -> std::process::ExitCode {
    host::main()
}

/// Without the operating system's half there is only the library.
#[cfg(not(feature = "host"))]
fn main() {
    eprintln!("corelane: built without the feature `host`; only the library is there");
    std::process::exit(1);
}
