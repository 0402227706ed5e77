//! Where log lines go: standard error, as text or JSON, filtered by level.
//!
//! What happens on cores is counted; little of it is logged. Once the process has threads, lines go through a bounded
//! queue to one that writes them, so that a standard error which nobody reads holds up that thread and nobody else;
//! what finds no room is left out. Invariant: nothing is ever logged to standard output, which in stdio mode belongs to
//! the protocol; after `detach` no thread but the writer waits for standard error.

use crate::config::{LogFormat, LogLevel, LogSettings};
use std::io::{IsTerminal, Write};
use std::sync::OnceLock;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// The variable with a finer filter than a level.
pub const LOG_VARIABLE: &str = "CORELANE_LOG";

/// What a filter may say of how loud it is.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// The format that was set up, or that will be.
static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Something else has set up logging in this process.
    #[error("logging has already been set up in this process")]
    AlreadySet(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The filter in the environment is no filter.
    #[error(
        "environment variable {LOG_VARIABLE}: `{seen}` is no filter; write a level or `module=level,...`, such as `info,corelane::control=debug`"
    )]
    BadFilter {
        /// What the variable holds.
        seen: String,
        /// Why it could not be read.
        source: tracing_subscriber::filter::ParseError,
    },
    /// A word of the filter would be the name of a module, and is all but a level: nothing would be logged.
    #[error(
        "environment variable {LOG_VARIABLE}: `{seen}` is no level; did you mean `{meant}`? A module has a level behind it: `{seen}=debug`"
    )]
    NoLevel {
        /// The word.
        seen: String,
        /// The level it is like.
        meant: &'static str,
    },
}

/// The lines' queue, once they have one.
static QUEUE: OnceLock<NonBlocking> = OnceLock::new();

/// How many lines found no room in the queue so far; none if this process has none.
pub(super) fn lines_dropped() -> Option<usize> {
    QUEUE.get().map(|queue| queue.error_counter().dropped_lines())
}

/// Lines that may wait to be written.
const LINES_MAX: usize = 8 * 1024;

/// Writes what still waits when it is dropped, for as long as that takes a moment.
#[must_use = "dropped at once, it writes nothing later"]
#[derive(Debug)]
pub struct LogGuard(#[expect(dead_code, reason = "its end is what counts")] WorkerGuard);

/// Sets up logging for this process, once. `CORELANE_LOG` wins over the level in `settings`. Panics are logged too,
/// from then on: without a backtrace, which takes a core longer to write than its neighbours should have to wait.
pub fn init(settings: &LogSettings) -> Result<(), LogError> {
    let directives = std::env::var_os(LOG_VARIABLE).map(|value| value.to_string_lossy().into_owned());
    let filter = filter(settings.level, directives.as_deref())?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(line_writer)
        // Whoever read it may be gone. Saying so on the same standard error would panic, and the thread that hears
        // signals would be the first to go.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    match settings.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    }
    .map_err(LogError::AlreadySet)?;
    // Set once, as logging is.
    let _ = FORMAT.set(settings.format);
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        // Threads of a program that embeds this are its own business.
        if !thread.starts_with("corelane") {
            return before(panic);
        }
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let said = panic.payload_as_str().unwrap_or("something that is no text");
        tracing::error!(thread, place, "panicked: {said}");
    }));
    Ok(())
}

/// Where a line goes: into the queue once there is one, else straight to standard error.
fn line_writer() -> Box<dyn Write> {
    match QUEUE.get() {
        Some(queue) => Box::new(queue.clone()),
        None => Box::new(std::io::stderr()),
    }
}

/// From now on a thread of its own writes the lines. To be called when the process may have threads, and before it has
/// cores; none if somebody else has set up logging, or this was called before.
pub fn detach() -> Option<LogGuard> {
    FORMAT.get()?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("corelane-log")
        .finish(std::io::stderr());
    QUEUE.set(writer).ok().map(|()| LogGuard(guard))
}

/// Takes note of the format that `init` will set up, where that is known before the configuration is: what is wrong
/// with the configuration is then said in it.
pub fn foresee(format: LogFormat) {
    // The first word stands: the strongest source has it.
    let _ = FORMAT.set(format);
}

/// Says why the process ends, in the format of the log if that is JSON, whatever its level.
pub fn last_words(why: &dyn std::fmt::Display) {
    match FORMAT.get() {
        Some(LogFormat::Json) => {
            let mut timestamp = String::new();
            // Cannot fail: it is written to memory.
            let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
            let why = why.to_string();
            let line = serde_json::json!({
                "timestamp": timestamp, "level": "ERROR", "message": why, "target": "corelane"
            });
            let _ = writeln!(std::io::stderr(), "{line}");
        }
        Some(LogFormat::Text) | None => drop(writeln!(std::io::stderr(), "corelane: {why}")),
    }
}

/// Our own modules at `level`, those of dependencies no louder than warnings.
fn filter(level: LogLevel, directives: Option<&str>) -> Result<EnvFilter, LogError> {
    match directives.filter(|directives| !directives.is_empty()) {
        Some(seen) => {
            let words =
                seen.split(',').map(str::trim).filter(|word| word.bytes().all(|byte| byte.is_ascii_alphabetic()));
            for word in words {
                let distance = |level: &&str| strsim::damerau_levenshtein(&word.to_ascii_lowercase(), level);
                let meant = LEVELS.into_iter().min_by_key(distance).filter(|level| (1..=2).contains(&distance(level)));
                if let Some(meant) = meant {
                    return Err(LogError::NoLevel { seen: word.to_owned(), meant });
                }
            }
            EnvFilter::try_new(seen).map_err(|source| LogError::BadFilter { seen: seen.to_owned(), source })
        }
        None if level == LogLevel::Error => Ok(EnvFilter::new("error")),
        None => Ok(EnvFilter::new(format!("warn,corelane={}", level.as_str()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_over_the_level() {
        let shown = |level, directives| filter(level, directives).expect("a filter").to_string();
        assert_eq!(shown(LogLevel::Error, None), "error");
        assert!(shown(LogLevel::Debug, None).contains("corelane=debug"));
        assert!(shown(LogLevel::Debug, Some("")).contains("corelane=debug"));
        assert_eq!(shown(LogLevel::Debug, Some("corelane::control=trace")), "corelane::control=trace");
        let error = filter(LogLevel::Info, Some("corelane=loud")).expect_err("no level");
        assert!(error.to_string().contains("`corelane=loud` is no filter"), "{error}");
        for (typo, meant) in [("wran", "warn"), ("debgu,corelane=info", "debug"), ("corelane=info,Trce", "trace")] {
            let error = filter(LogLevel::Info, Some(typo)).expect_err("no level").to_string();
            assert!(error.contains(&format!("did you mean `{meant}`")), "{error}");
        }
        for fine in ["INFO", "off", "glommio", "corelane", "corelane::control"] {
            filter(LogLevel::Info, Some(fine)).expect("a filter");
        }
    }
}
