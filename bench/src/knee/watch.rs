//! Looks at the server and the machine while a step runs.
//!
//! It decides nothing (`limits`), and looks a few times a second from a thread that otherwise sleeps. Invariant: a
//! figure that cannot be read is absent.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use super::limits::{Descriptors, Kernel, Memory};
use crate::{
    Failure,
    observe::{self, CpuTime},
};

/// What was seen in a step.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub kernel: Option<Kernel>,
    pub memory: Option<Memory>,
    pub descriptors: Option<Descriptors>,
    pub server_system: Option<f64>,
    pub listen_overflows: u64,
    pub listen_drops: u64,
}

/// Between two looks, and how many of them a share of a CPU's time is taken over.
const LOOK: Duration = Duration::from_millis(200);
const STRETCH: usize = 5;

/// Runs `step` and looks meanwhile; the counts of the network are those of the server's namespace.
pub fn during<T: Send>(
    server: Option<u32>,
    step: impl FnOnce() -> Result<T, Failure> + Send,
) -> (Result<T, Failure>, Watched) {
    let over = AtomicBool::new(false);
    let counted = |name: &str| observe::tcp_count(server, name);
    let before = [counted("ListenOverflows"), counted("ListenDrops")];
    let ticks_before = server.and_then(observe::ticks);
    let (done, mut watched) = thread::scope(|scope| {
        let looking = scope.spawn(|| look(server, &over));
        let done = step();
        over.store(true, Ordering::Relaxed);
        (done, looking.join().unwrap_or_default())
    });
    let grown =
        |name: &str, before: Option<u64>| counted(name).zip(before).map_or(0, |(now, then)| now.saturating_sub(then));
    watched.listen_overflows = grown("ListenOverflows", before[0]);
    watched.listen_drops = grown("ListenDrops", before[1]);
    let ticks = server.and_then(observe::ticks).zip(ticks_before);
    watched.server_system = ticks.and_then(|(now, then)| now.kernel_percent_since(then)).map(|percent| percent / 100.0);
    (done, watched)
}

fn look(server: Option<u32>, over: &AtomicBool) -> Watched {
    let (mut watched, mut times) = (Watched::default(), Vec::new());
    while !over.load(Ordering::Relaxed) {
        times.extend(observe::cpu_times());
        if let Some((total, available)) = observe::memory() {
            let rss = server.and_then(observe::rss_bytes);
            let seen = watched.memory.unwrap_or(Memory { server: None, available, total });
            let available = seen.available.min(available);
            watched.memory = Some(Memory { server: rss.max(seen.server), available, total });
        }
        if let Some((open, limit)) = server.and_then(observe::open_files) {
            let rings = server.map_or(0, observe::core_threads).max(1);
            let open = watched.descriptors.map_or(0, |seen| seen.open).max(open);
            watched.descriptors = Some(Descriptors { open, limit, rings });
        }
        thread::sleep(LOOK);
    }
    watched.kernel = busiest(&times);
    watched
}

/// Of every stretch of looks and every CPU, the one with most soft interrupts among those that were as busy as any.
fn busiest(times: &[Vec<CpuTime>]) -> Option<Kernel> {
    let stretch = STRETCH.min(times.len().checked_sub(1)?);
    let of = |(first, last): (&Vec<CpuTime>, &Vec<CpuTime>)| -> Vec<Kernel> {
        let share = |(cpu, (then, now)): (usize, (&CpuTime, &CpuTime))| {
            let total = now.total.saturating_sub(then.total);
            let part = |now: u64, then: u64| now.saturating_sub(then) as f64 / total as f64;
            let (idle, soft_interrupts) = (part(now.idle, then.idle), part(now.interrupts, then.interrupts));
            (total > 0).then_some(Kernel { cpu, busy: 1.0 - idle, soft_interrupts })
        };
        first.iter().zip(last).enumerate().filter_map(share).collect()
    };
    let all = times.iter().zip(&times[stretch.max(1).min(times.len() - 1)..]).flat_map(of);
    // Soft interrupts weigh by how busy the CPU was: of an idle one they say nothing.
    all.max_by(|one, other| (one.busy * one.soft_interrupts).total_cmp(&(other.busy * other.soft_interrupts)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_with_most_soft_interrupts_is_found_in_its_busiest_stretch() {
        let at = |idle: [u64; 2], interrupts: [u64; 2], total: u64| -> Vec<CpuTime> {
            idle.into_iter().zip(interrupts).map(|(idle, interrupts)| CpuTime { total, idle, interrupts }).collect()
        };
        // CPU 1 is quiet at first, then works for five looks with half of it in soft interrupts.
        let mut times = vec![at([0, 0], [0, 0], 0), at([10, 20], [0, 0], 20)];
        times.extend((1..=5).map(|look| at([10 + 10 * look, 20], [0, 10 * look], 20 + 20 * look)));
        let found = busiest(&times).expect("there are stretches");
        assert_eq!((found.cpu, found.soft_interrupts, found.busy), (1, 0.5, 1.0));
        assert_eq!(busiest(&times[..1]), None, "one look is no stretch");
        assert_eq!(busiest(&[]), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let (done, watched) = during(Some(std::process::id()), || {
            thread::sleep(LOOK * 3);
            Ok(5)
        });
        assert_eq!(done.expect("it was told"), 5);
        let (memory, files) = (watched.memory.expect("seen"), watched.descriptors.expect("seen"));
        assert!(memory.server.is_some_and(|rss| rss > 100_000) && memory.available < memory.total, "{memory:?}");
        assert!(files.open > 2 && files.open < files.limit && files.rings == 1, "{files:?}");
        assert!(watched.kernel.is_some_and(|kernel| (0.0..=1.0).contains(&kernel.busy)), "{watched:?}");
    }
}
