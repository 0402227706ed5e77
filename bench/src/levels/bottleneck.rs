//! Which resource bounds the throughput: the one that was used up, from what its record says was used.
//!
//! Not here: whether it is enough. Invariant: a resource bounds it only if nine tenths of it were used; if none was so
//! far used, none is named.

use std::fmt::Write;

use crate::{Failure, scenario::record::Kept};

/// What may be used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    ServerCpu,
    GeneratorCpu,
    Memory,
}

/// How much of a resource was used.
#[derive(Clone, Debug, PartialEq)]
pub struct Use {
    pub resource: Resource,
    /// 1 is all of it.
    pub share: f64,
    of: String,
}

/// What bounds the throughput.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The server's CPU, most of whose time is spent in user space, or nobody knows where.
    Server,
    /// The server's CPU, half of whose time and more is spent in the kernel.
    Kernel,
    Generator,
    Memory,
    /// Nothing was used up: the two waited for each other.
    Nothing,
}

/// What was used in the throughput run.
pub struct Bottleneck {
    /// The most used first.
    pub uses: Vec<Use>,
    /// Of the server's CPU time, in percent.
    pub kernel_percent: Option<f64>,
    pub bound: Bound,
}

/// From here on a resource is used up.
const USED_UP: f64 = 0.9;

impl Bottleneck {
    /// Of the record of `nine-nines throughput`.
    pub fn of(kept: &Kept) -> Result<Self, Failure> {
        let line = kept.phase("measured", "callers").ok_or("throughput: the record has no measured/callers")?;
        let of_cpus = |resource, percent: Option<f64>, cpus: Option<usize>| {
            let (percent, cpus) = (percent?, cpus?);
            Some(Use { resource, share: percent / 100.0 / cpus as f64, of: format!("{cpus} CPU") })
        };
        let generator_cpus = kept.run.generator_cpus.or(Some(kept.run.threads));
        let memory = kept.run.memory_bytes.zip(line.memory_rss_mib_per_node).map(|(all, used)| {
            let all = all as f64 / 1_048_576.0;
            Use { resource: Resource::Memory, share: used / all, of: format!("{all:.0} MiB") }
        });
        let uses = [
            of_cpus(Resource::ServerCpu, line.cpu_percent, kept.run.server_cpus),
            of_cpus(Resource::GeneratorCpu, line.generator_cpu_percent, generator_cpus),
            memory,
        ];
        let mut uses: Vec<Use> = uses.into_iter().flatten().collect();
        uses.sort_by(|one, other| other.share.total_cmp(&one.share));
        let kernel_percent = line.server_kernel_percent;
        let bound = match uses.first().filter(|most| most.share >= USED_UP).map(|most| most.resource) {
            Some(Resource::ServerCpu) if kernel_percent.is_some_and(|percent| percent >= 50.0) => Bound::Kernel,
            Some(Resource::ServerCpu) => Bound::Server,
            Some(Resource::GeneratorCpu) => Bound::Generator,
            Some(Resource::Memory) => Bound::Memory,
            None => Bound::Nothing,
        };
        Ok(Self { uses, kernel_percent, bound })
    }

    /// The section of the page.
    pub fn page(&self) -> Result<String, Failure> {
        let mut page = String::from("# What bounds the throughput\n\n");
        writeln!(page, "**{}**\n", self.bound.words())?;
        writeln!(page, "| resource | used | of |\n|---|---|---|")?;
        for Use { resource, share, of } in &self.uses {
            writeln!(page, "| {} | {:.1} % | {of} |", resource.words(), 100.0 * share)?;
        }
        let kernel = self.kernel_percent.map_or("not recorded".into(), |percent| format!("{percent:.0} %"));
        writeln!(page, "\nOf the server's CPU time was spent in the kernel: {kernel}.\n")?;
        Ok(page)
    }
}

impl Resource {
    fn words(self) -> &'static str {
        match self {
            Self::ServerCpu => "the server's CPU",
            Self::GeneratorCpu => "the generator's CPU",
            Self::Memory => "memory, by the server",
        }
    }
}

impl Bound {
    /// In a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Self::Server => "The server's CPU: more cores, or less work for a call, bring more.",
            Self::Kernel => "The kernel, on the server's CPU: more calls in a batch, or more cores, bring more.",
            Self::Generator => "The generator's CPU: the server can do more than was asked of it.",
            Self::Memory => "Memory.",
            Self::Nothing => {
                "Nothing was used up: server and generator waited for each other (calls in flight, wake-ups)."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::record::tests::{line, run};

    fn kept(server: f64, generator: f64, kernel: Option<f64>) -> Kept {
        let (mut run, mut line) = (run(), line("measured", "callers"));
        (run.server_cpus, run.generator_cpus, run.memory_bytes) = (Some(1), Some(2), Some(1 << 30));
        (line.cpu_percent, line.generator_cpu_percent) = (Some(server), Some(generator));
        (line.server_kernel_percent, line.memory_rss_mib_per_node) = (kernel, Some(64.0));
        Kept { run, phases: vec![line] }
    }

    #[test]
    fn what_was_used_up_is_the_bottleneck() {
        for (server, generator, kernel, bound) in [
            (98.0, 120.0, None, Bound::Server),
            (98.0, 120.0, Some(30.0), Bound::Server),
            (98.0, 120.0, Some(60.0), Bound::Kernel),
            (60.0, 190.0, Some(60.0), Bound::Generator),
            (92.0, 199.0, None, Bound::Generator),
            (60.0, 120.0, None, Bound::Nothing),
        ] {
            let bottleneck = Bottleneck::of(&kept(server, generator, kernel)).expect("it is there");
            assert_eq!(bottleneck.bound, bound, "{server} {generator} {kernel:?}");
        }
        let mut full = kept(10.0, 10.0, None);
        full.phases[0].memory_rss_mib_per_node = Some(1000.0);
        let bottleneck = Bottleneck::of(&full).expect("it is there");
        assert_eq!(bottleneck.bound, Bound::Memory);
        assert!(bottleneck.page().expect("a page").contains("| memory, by the server | 97.7 % | 1024 MiB |"));
        let mut unseen = kept(98.0, 20.0, None);
        unseen.run.server_cpus = None;
        assert_eq!(Bottleneck::of(&unseen).expect("it is there").bound, Bound::Nothing, "whose CPUs are not known");
    }
}
