//! The current thread to the kernel: its name, its id, and the time it has spent on a CPU and waiting for one.
//!
//! Not here: starting threads (`boot`) and pinning them (`sys::affinity`).
//! Invariant: none of this disturbs another thread.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::time::Duration;

/// Most bytes of a thread's name; the kernel cuts the rest.
pub const NAME_BYTES_MAX: usize = 15;

/// Names the current thread, as top, perf and gdb show it. Longer names are cut at a character, after
/// [`NAME_BYTES_MAX`].
///
/// # Errors
/// When the name contains a zero byte.
pub fn set_name(name: &str) -> io::Result<()> {
    let name = CString::new(&name[..name.floor_char_boundary(NAME_BYTES_MAX)])?;
    // SAFETY: needed because the standard library names a thread only at its start. The kernel reads up to 16 bytes,
    // ending with the zero byte, from `name`, which outlives the call.
    let result = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The kernel's id of the current thread: the number in /proc/self/task.
pub fn current_id() -> u32 {
    // SAFETY: needed because the standard library keeps this number to itself. The call takes no arguments and cannot
    // fail.
    let id = unsafe { libc::gettid() };
    id.cast_unsigned()
}

/// How the scheduler has treated a thread since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScheduleStat {
    /// Time on a CPU.
    pub running: Duration,
    /// Time ready to run, waiting for a CPU. On a pinned core it should stand still: it is somebody else's use of our
    /// CPU.
    pub waiting: Duration,
    /// How often it was put on a CPU.
    pub turns: u64,
}

impl ScheduleStat {
    /// Of the thread with that kernel id, which belongs to this process. The figures of a thread that runs at this
    /// moment lag by up to a tick.
    ///
    /// # Errors
    /// When there is no such thread, or the kernel keeps no such figures.
    pub fn of_thread(id: u32) -> io::Result<Self> {
        let text = std::fs::read_to_string(format!("/proc/self/task/{id}/schedstat"))?;
        Self::parse(&text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("schedstat reads {text:?}")))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split_ascii_whitespace().map(|field| field.parse::<u64>().ok());
        Some(Self {
            running: Duration::from_nanos(fields.next()??),
            waiting: Duration::from_nanos(fields.next()??),
            turns: fields.next()??,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_its_name_and_time() {
        let body = || {
            set_name("corelane-core-17").expect("no zero byte");
            let comm = std::fs::read_to_string(format!("/proc/self/task/{}/comm", current_id())).expect("ours");
            assert_eq!(comm.trim_end(), "corelane-core-1");
            set_name("vierzehn-bytesäöü").expect("no zero byte");
            let comm = std::fs::read_to_string(format!("/proc/self/task/{}/comm", current_id())).expect("ours");
            assert_eq!(comm.trim_end(), "vierzehn-bytes", "cut at a character");
            assert!(set_name("a\0b").is_err());

            let before = ScheduleStat::of_thread(current_id()).expect("ours");
            let start = std::time::Instant::now();
            while start.elapsed() < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
            std::thread::sleep(Duration::from_millis(1));
            let after = ScheduleStat::of_thread(current_id()).expect("ours");
            assert!(after.running > before.running && after.turns > before.turns, "{before:?} {after:?}");
        };
        std::thread::spawn(body).join().expect("no panic");
    }

    #[test]
    fn broken_figures_are_none() {
        assert_eq!(ScheduleStat::parse("1 2"), None);
        assert_eq!(ScheduleStat::parse("1 x 3"), None);
        let stat = ScheduleStat::parse("5 6 7\n").expect("three figures");
        assert_eq!((stat.running.as_nanos(), stat.waiting.as_nanos(), stat.turns), (5, 6, 7));
    }
}
