//! What is asked of the process from outside it: signals, and a configuration file that is another.
//!
//! Not here: how it drains, and what the file says. Invariant: the first signal that ends drains, any further one ends
//! at once, whichever life of the control thread heard the first.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Health, Reload};

/// How often the configuration file is looked at.
const FILE_LOOK: Duration = Duration::from_millis(500);

/// What an operator's signal asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// First SIGINT, SIGTERM or SIGHUP (the terminal is gone): finish what is in flight, take nothing new, then end.
    Drain,
    /// Any further one: end at once. The callback is expected to exit the process itself, because whoever would hear
    /// of it elsewhere may be what hangs.
    Now,
}

/// Reads the configuration again, and says what came of it.
async fn read_again(why: &str, reload: &Reload) {
    let reload = Arc::clone(reload);
    match tokio::task::spawn_blocking(move || reload()).await {
        Ok(Ok(changed)) => tracing::info!("{why}: the configuration was read again: {changed}"),
        Ok(Err(wrong)) => tracing::error!("{why}: the configuration stays as it was: {wrong}"),
        // Its panic was printed by the panic hook.
        Err(_) => tracing::error!("{why}: the configuration stays as it was"),
    }
}

/// Which file was read: by its number, length and time.
type Mark = Option<(u64, u64, i64, i64)>;

/// The configuration file, and what reads it again.
pub(super) struct WatchedFile {
    path: PathBuf,
    pub reload: Reload,
    /// The one that was read last, or is being read: another life of the thread goes on from there.
    known: Mutex<Mark>,
}

impl WatchedFile {
    /// Nothing but what is there now was read.
    pub fn new(path: PathBuf, reload: Reload) -> WatchedFile {
        let known = Mutex::new(mark(&path));
        WatchedFile { path, reload, known }
    }

    /// Reads it again whenever it is another; never ends.
    pub async fn watch(&self) {
        let mut seen = mark(&self.path);
        let mut is_missed = false;
        loop {
            tokio::time::sleep(FILE_LOOK).await;
            let now = mark(&self.path);
            // Not between two looks, as an editor may take it away for a moment to write another.
            if now.is_none() && seen.is_none() && !std::mem::replace(&mut is_missed, true) {
                tracing::warn!(
                    "{} is gone, or cannot be looked at: the configuration stays as it was, and a restart would not \
                     find it",
                    self.path.display()
                );
            }
            is_missed &= now.is_none();
            // Read once it has stayed the same for a look: an editor may be in the midst of writing it.
            let is_another = now.is_some() && now == seen && {
                let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::replace(&mut *known, now) != now
            };
            if is_another {
                read_again("the file is another", &self.reload).await;
            }
            seen = now;
        }
    }
}

fn mark(path: &Path) -> Mark {
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.mtime(), found.mtime_nsec()))
}

/// The signals that end the process.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    /// One has asked for a drain already.
    is_heard: Arc<AtomicBool>,
}

impl Signals {
    /// From now on signals are kept for `watch`. `is_heard` is the same for all lives of the thread.
    pub fn new(is_heard: Arc<AtomicBool>) -> io::Result<Signals> {
        Ok(Signals {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            is_heard,
        })
    }

    /// Turns signals into calls, for as long as it is polled.
    pub async fn watch(mut self, health: &Health, reload: Option<Reload>, on_signal: &dyn Fn(Stop)) {
        loop {
            let name = tokio::select! {
                _ = self.hangup.recv() => match &reload {
                    Some(reload) => {
                        // Beside this loop: a signal that ends the process is heard while names are looked up.
                        let reload = Arc::clone(reload);
                        tokio::spawn(async move { read_again("SIGHUP", &reload).await });
                        continue;
                    }
                    None => "SIGHUP",
                },
                _ = self.interrupt.recv() => "SIGINT",
                _ = self.terminate.recv() => "SIGTERM",
            };
            let stop = if self.is_heard.swap(true, Ordering::Relaxed) { Stop::Now } else { Stop::Drain };
            match stop {
                Stop::Drain => tracing::info!(signal = name, "draining; a second signal ends at once"),
                Stop::Now => tracing::warn!(signal = name, "ending at once"),
            }
            health.begin_drain();
            on_signal(stop);
        }
    }
}
