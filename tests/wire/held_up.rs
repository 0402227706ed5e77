//! How long this host keeps a thread waiting that wants to go on: what a test that times something has to leave to it.
//!
//! Invariant: only what was seen meanwhile is said, so that a host that does nothing else excuses nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The host, watched by a thread that naps.
pub struct Host {
    is_over: Arc<AtomicBool>,
    watcher: JoinHandle<Duration>,
}

impl Host {
    /// From now on.
    pub fn watch() -> Host {
        const NAP: Duration = Duration::from_millis(5);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let watcher = std::thread::spawn(move || {
            let mut longest = Duration::ZERO;
            while !ends.load(Ordering::Relaxed) {
                let began = Instant::now();
                std::thread::sleep(NAP);
                longest = longest.max(began.elapsed().saturating_sub(NAP));
            }
            longest
        });
        Host { is_over, watcher }
    }

    /// The longest that it was.
    pub fn held_up(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.watcher.join().expect("it only naps")
    }
}
