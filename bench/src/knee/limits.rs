//! What gave way in a step: which resource was at its end, and what came of it.
//!
//! It looks at nothing itself: it decides on figures that `watch` and the load's report have. A resource is named only
//! in a step that did not hold: what is full and serves all calls in time is well used.
//!
//! Invariant: a step that did not hold has at least one limit, and the resources stand before what came of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What can be at its end, and what can be seen of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    GeneratorCpu,
    ServerCpu,
    /// Work of the kernel that is done for nobody in particular: soft interrupts.
    Kernel,
    Memory,
    /// Open files, or slots of a ring.
    Descriptors,
    /// Local ports, so that no further connection has an address of its own.
    Ports,
    /// The queue of connections that wait to be accepted.
    Backlog,
    /// Connections that the server refuses or ends.
    Connections,
    /// Calls that fail.
    Calls,
    Latency,
    /// Calls that were not answered in their time.
    Rate,
}

/// One of them, in words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limit {
    pub resource: Resource,
    pub what: String,
}

/// The kernel's part of the CPU that had most of it, shares of that CPU's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    pub cpu: usize,
    pub busy: f64,
    pub soft_interrupts: f64,
}

/// Bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    pub server: Option<u64>,
    /// Least that was left in the whole step.
    pub available: u64,
    pub total: u64,
}

/// Of the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Descriptors {
    pub open: u64,
    /// The soft limit of open files, which is also the most slots that one ring can have.
    pub limit: u64,
    /// Threads that have a ring of their own; 1 of a server that tells none.
    pub rings: u64,
}

/// All that is known of a step.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub p99_us: Option<f64>,
    pub p99_us_bound: f64,
    /// Calls that were due, and those of them that were answered rightly.
    pub offered: u64,
    pub answered: u64,
    pub connections: usize,
    pub ready: usize,
    pub lost: usize,
    pub errors: BTreeMap<String, u64>,
    /// Shares of one CPU.
    pub generator: f64,
    pub server_busiest: Option<f64>,
    /// Of the server's CPU time, the part that the kernel used for it.
    pub server_system: Option<f64>,
    pub kernel: Option<Kernel>,
    pub memory: Option<Memory>,
    pub descriptors: Option<Descriptors>,
    /// Connections that found the queue of their listener full, and all that were dropped there.
    pub listen_overflows: u64,
    pub listen_drops: u64,
}

/// A share of its time from which on a thread or a CPU counts as busy.
const BUSY: f64 = 0.93;
/// Of a busy CPU's time, the part in soft interrupts from which on it is the kernel that is busy.
const SOFT: f64 = 0.4;
/// Of all memory, what must be left.
const LEFT: f64 = 0.05;
/// Of what there may be, the part from which on it is as good as all: a server keeps some for itself.
const FULL: f64 = 0.95;
/// Of 100 calls that were due so many must have been answered in their window.
const ANSWERED_PERCENT: f64 = 99.0;
const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

impl Observed {
    /// What gave way, resources first; nothing if the step held.
    pub fn limits(&self) -> Vec<Limit> {
        let signs = self.signs();
        if signs.is_empty() {
            return signs;
        }
        let resources = [
            self.generator_cpu(),
            self.server_cpu(),
            self.soft_interrupts(),
            self.memory(),
            self.descriptors(),
            self.ports(),
            self.backlog(),
        ];
        resources.into_iter().flatten().chain(signs).collect()
    }

    /// That it did not hold.
    fn signs(&self) -> Vec<Limit> {
        let mut signs = Vec::new();
        if self.lost > 0 || self.ready < self.connections {
            let what = format!("connections: {} of {} were ready, {} lost", self.ready, self.connections, self.lost);
            signs.push(Limit { resource: Resource::Connections, what });
        }
        if !self.errors.is_empty() {
            let kinds: Vec<String> = self.errors.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            signs.push(Limit { resource: Resource::Calls, what: format!("errors: {}", kinds.join(", ")) });
        }
        match self.p99_us {
            Some(p99) if p99 <= self.p99_us_bound => {}
            Some(p99) => {
                signs.push(Limit { resource: Resource::Latency, what: format!("latency: p99 {:.1} ms", p99 / 1e3) });
            }
            None => signs.push(Limit { resource: Resource::Latency, what: "no call was answered".into() }),
        }
        let answered = 100.0 * self.answered as f64 / self.offered.max(1) as f64;
        if answered < ANSWERED_PERCENT {
            let what = format!("{answered:.1} % of the calls that were due were answered");
            signs.push(Limit { resource: Resource::Rate, what });
        }
        signs
    }

    fn generator_cpu(&self) -> Option<Limit> {
        let percent = self.generator * 100.0;
        let what = format!("the generator, {percent:.0} % of its CPU: another CPU for it may show more");
        (self.generator >= BUSY).then_some(Limit { resource: Resource::GeneratorCpu, what })
    }

    fn server_cpu(&self) -> Option<Limit> {
        let busy = self.server_busiest.filter(|&busy| busy >= BUSY)? * 100.0;
        let of =
            self.server_system.map_or(String::new(), |share| format!(", {:.0} % of it in the kernel", share * 100.0));
        Some(Limit { resource: Resource::ServerCpu, what: format!("a core of the server, {busy:.0} % busy{of}") })
    }

    fn soft_interrupts(&self) -> Option<Limit> {
        let Kernel { cpu, busy, soft_interrupts } = self.kernel?;
        let what = format!(
            "the kernel: CPU {cpu} is {:.0} % busy, {:.0} % in soft interrupts",
            busy * 100.0,
            soft_interrupts * 100.0
        );
        (busy >= BUSY && soft_interrupts >= SOFT).then_some(Limit { resource: Resource::Kernel, what })
    }

    /// Whether the kernel said one of these when a connection was made or used.
    fn heard(&self, errnos: &[i32]) -> bool {
        self.errors.keys().any(|kind| {
            let errno = kind.rsplit_once("_errno_").and_then(|(_, errno)| errno.parse().ok());
            errno.is_some_and(|errno| errnos.contains(&errno))
        })
    }

    fn memory(&self) -> Option<Limit> {
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / GIB);
        let seen = self.memory.map(|Memory { server, available, total }| {
            let server = server.map_or(String::new(), |server| format!("the server has {}, ", gib(server)));
            format!("memory: {server}{} of {} are left", gib(available), gib(total))
        });
        let short = self.memory.is_some_and(|memory| (memory.available as f64) < LEFT * memory.total as f64);
        let refused = self.heard(&[libc::ENOMEM, libc::ENOBUFS]);
        let what = seen.unwrap_or_else(|| "memory: the kernel has none for a socket".into());
        (short || refused).then_some(Limit { resource: Resource::Memory, what })
    }

    fn descriptors(&self) -> Option<Limit> {
        let limit = |what: String| Some(Limit { resource: Resource::Descriptors, what });
        if self.heard(&[libc::EMFILE, libc::ENFILE]) {
            return limit("descriptors: the generator may open no further file".into());
        }
        let Descriptors { open, limit: most, rings } = self.descriptors?;
        let full = |count: u64, of: u64| count as f64 >= FULL * of as f64;
        if full(open, most) {
            return limit(format!("descriptors: the server has {open} files open, of {most} that it may"));
        }
        let refuses = self.ready < self.connections || self.lost > 0;
        let slots = most.saturating_mul(rings.max(1));
        if refuses && full(self.ready as u64, slots) {
            let what = format!(
                "descriptors: {} connections, and the server's {rings} rings have {slots} slots at most",
                self.ready
            );
            return limit(what);
        }
        None
    }

    fn ports(&self) -> Option<Limit> {
        let what = "ports: the generator has no further local address (net.ipv4.ip_local_port_range)".into();
        self.heard(&[libc::EADDRNOTAVAIL, libc::EADDRINUSE]).then_some(Limit { resource: Resource::Ports, what })
    }

    fn backlog(&self) -> Option<Limit> {
        let (overflows, drops) = (self.listen_overflows, self.listen_drops);
        let what = format!(
            "the queue of the listener: {overflows} connections found it full, {drops} were dropped (net.core.somaxconn, and the server's backlog)"
        );
        (overflows > 0 || drops > 0).then_some(Limit { resource: Resource::Backlog, what })
    }
}

/// What stopped a load that gave no report, by what it said last.
pub fn of_failure(said: &str) -> Limit {
    let errno =
        |number: i32| said.contains(&format!("os error {number})")) || said.contains(&format!("errno_{number}\""));
    let resource = if errno(libc::EMFILE) || errno(libc::ENFILE) {
        Resource::Descriptors
    } else if errno(libc::EADDRNOTAVAIL) || errno(libc::EADDRINUSE) {
        Resource::Ports
    } else if errno(libc::ENOMEM) || errno(libc::ENOBUFS) {
        Resource::Memory
    } else {
        Resource::Connections
    };
    Limit { resource, what: format!("the load itself: {said}") }
}

/// As they stand in a line.
pub fn in_words(limits: &[Limit]) -> String {
    limits.iter().map(|limit| limit.what.as_str()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step in which all went well.
    fn well() -> Observed {
        Observed {
            p99_us: Some(900.0),
            p99_us_bound: 50_000.0,
            offered: 1000,
            answered: 1000,
            connections: 64,
            ready: 64,
            generator: 0.4,
            server_busiest: Some(0.5),
            server_system: Some(0.8),
            kernel: Some(Kernel { cpu: 1, busy: 0.5, soft_interrupts: 0.1 }),
            memory: Some(Memory { server: Some(5 << 30), available: 8 << 30, total: 16 << 30 }),
            descriptors: Some(Descriptors { open: 40, limit: 1024, rings: 2 }),
            ..Observed::default()
        }
    }

    /// One that was late.
    fn late() -> Observed {
        Observed { p99_us: Some(80_000.0), ..well() }
    }

    fn named(seen: &Observed) -> Vec<Resource> {
        seen.limits().iter().map(|limit| limit.resource).collect()
    }

    fn errors(kind: &str) -> BTreeMap<String, u64> {
        BTreeMap::from([(kind.to_owned(), 3)])
    }

    #[test]
    fn a_step_that_held_has_no_limit_however_full_all_is() {
        let full = Observed {
            generator: 1.0,
            server_busiest: Some(1.0),
            kernel: Some(Kernel { cpu: 0, busy: 1.0, soft_interrupts: 1.0 }),
            memory: Some(Memory { server: None, available: 0, total: 16 << 30 }),
            listen_overflows: 9,
            ..well()
        };
        assert_eq!((named(&well()), named(&full)), (vec![], vec![]));
    }

    #[test]
    fn each_resource_is_named_by_what_shows_it_and_by_nothing_less() {
        use Resource::{
            Backlog, Descriptors as Files, GeneratorCpu, Kernel as Soft, Latency, Memory as Bytes, ServerCpu,
        };
        let kernel = |busy, soft_interrupts| Some(Kernel { cpu: 1, busy, soft_interrupts });
        let memory = |available| Some(Memory { server: Some(1 << 30), available, total: 100 << 30 });
        let files = |open| Some(Descriptors { open, limit: 1000, rings: 1 });
        for (resource, seen, less) in [
            (GeneratorCpu, Observed { generator: 0.93, ..late() }, Observed { generator: 0.92, ..late() }),
            (
                ServerCpu,
                Observed { server_busiest: Some(0.93), ..late() },
                Observed { server_busiest: Some(0.92), ..late() },
            ),
            (Soft, Observed { kernel: kernel(0.95, 0.4), ..late() }, Observed { kernel: kernel(0.95, 0.39), ..late() }),
            (Soft, Observed { kernel: kernel(0.93, 0.9), ..late() }, Observed { kernel: kernel(0.92, 0.9), ..late() }),
            (Bytes, Observed { memory: memory(4 << 30), ..late() }, Observed { memory: memory(5 << 30), ..late() }),
            (Files, Observed { descriptors: files(950), ..late() }, Observed { descriptors: files(949), ..late() }),
            (Backlog, Observed { listen_overflows: 1, ..late() }, late()),
            (Backlog, Observed { listen_drops: 1, ..late() }, late()),
        ] {
            assert_eq!(named(&seen), [resource, Latency], "{seen:?}");
            assert_eq!(named(&less), [Latency], "{less:?}");
        }
    }

    #[test]
    fn what_the_kernel_said_is_heard() {
        for (kind, resource) in [
            ("connect_errno_99", Resource::Ports),
            ("connect_errno_24", Resource::Descriptors),
            ("connect_errno_12", Resource::Memory),
            ("send_errno_105", Resource::Memory),
        ] {
            let seen = Observed { ready: 61, errors: errors(kind), ..well() };
            assert_eq!(named(&seen), [resource, Resource::Connections, Resource::Calls], "{kind}");
            assert!(in_words(&seen.limits()).contains(&format!("errors: {kind} 3")), "errors stand there by kind");
        }
        let closed = Observed { ready: 61, lost: 3, errors: errors("closed_by_server"), ..well() };
        assert_eq!(named(&closed), [Resource::Connections, Resource::Calls]);
        assert!(in_words(&closed.limits()).starts_with("connections: 61 of 64 were ready, 3 lost; errors: closed"));
    }

    #[test]
    fn a_server_whose_slots_are_all_taken_lacks_descriptors() {
        let slots = Some(Descriptors { open: 40, limit: 1000, rings: 2 });
        let of =
            |ready| Observed { connections: 4000, ready, descriptors: slots, errors: errors("http_503"), ..well() };
        assert!(named(&of(1990)).contains(&Resource::Descriptors));
        assert!(!named(&of(1000)).contains(&Resource::Descriptors), "one ring's worth of two");
        let all = Observed { connections: 1990, ..of(1990) };
        assert!(!named(&all).contains(&Resource::Descriptors), "none was refused");
    }

    #[test]
    fn a_step_without_an_answer_did_not_hold() {
        let none = Observed { p99_us: None, answered: 0, ..well() };
        assert_eq!(named(&none), [Resource::Latency, Resource::Rate]);
        let few = Observed { answered: 989, ..well() };
        assert_eq!(named(&few), [Resource::Rate]);
    }

    #[test]
    fn a_load_that_could_not_run_says_what_it_lacked() {
        for (said, resource) in [
            ("Too many open files (os error 24)", Resource::Descriptors),
            ("no connection could be used: {\"connect_errno_99\": 7}", Resource::Ports),
            ("Cannot allocate memory (os error 12)", Resource::Memory),
            ("after 120s only 3 of 9 connections are ready: {}", Resource::Connections),
        ] {
            assert_eq!(of_failure(said).resource, resource, "{said}");
        }
    }
}
