//! The plan: which core runs on which CPU, and where the threads that are no cores go.
//!
//! Not here: pinning (`sys::affinity`, called by each thread for itself at launch).
//! Invariant: core `i` is the `i`-th placement, and every CPU named is online and eligible.

use std::collections::BTreeSet;
use std::fmt;

use super::topology::{CpuPlace, Topology};
use crate::ids::CoreId;
use crate::limits::CORES_MAX;
use crate::sys::cpu::{Cpu, CpuSet};

/// The cores an operator asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreRequest {
    /// One per CPU we were given, up to the most there can be.
    All,
    /// So many: on different physical cores first, then on their other threads, then around again.
    Count(usize),
    /// On exactly these CPUs, in this order; isolated ones may be named, and a CPU may be named twice.
    List(Vec<Cpu>),
}

/// Why there is no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// None, or more than there can be.
    #[error("{cores} cores were asked for, 1 to {max} are possible; change `cores`", max = CORES_MAX)]
    CoreCount {
        /// The number asked for.
        cores: usize,
    },
    /// A CPU that was asked for is outside the inherited mask, and not isolated.
    #[error(
        "CPU {cpu} is not among those corelane was given ({eligible}); \
         start it without taskset, widen AllowedCPUs= or CPUAffinity= of its unit, or name other CPUs"
    )]
    NotEligible {
        /// The CPU.
        cpu: Cpu,
        /// Those that may be named.
        eligible: CpuSet,
    },
    /// A CPU that was asked for is offline, or there is none of that number.
    #[error("CPU {cpu} is not online; name CPUs among {eligible}")]
    Offline {
        /// The CPU.
        cpu: Cpu,
        /// Those that may be named.
        eligible: CpuSet,
    },
    /// Only isolated CPUs are left to us, and those are never taken unasked.
    #[error(
        "every CPU corelane could use is isolated ({eligible}); name the ones to use, such as `cores.list = \"{eligible}\"`"
    )]
    OnlyIsolated {
        /// Those that may be named.
        eligible: CpuSet,
    },
}

/// What the operator should know about a plan that works all the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PlanWarning {
    /// Several cores on one CPU: they take turns, so each one's tail is as long as the others' work.
    CpuShared {
        /// The CPU.
        cpu: Cpu,
        /// The cores on it.
        cores: Vec<CoreId>,
    },
    /// There are more CPUs than there can be cores.
    CpusLeftOver {
        /// How many.
        count: usize,
    },
    /// Isolated CPUs exist and none of the cores uses them.
    IsolatedUnused {
        /// Those CPUs.
        cpus: CpuSet,
    },
    /// Cores on several hardware threads of one physical core: together they do less than twice the work of one.
    SiblingsShared {
        /// The CPUs that share a physical core.
        cpus: CpuSet,
    },
}

impl fmt::Display for PlanWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpuShared { cpu, cores } => {
                let cores = cores.iter().map(|core| core.0.to_string()).collect::<Vec<_>>().join(", ");
                write!(f, "cores {cores} take turns on CPU {cpu}; expect longer tails than with one core per CPU")
            }
            Self::CpusLeftOver { count } => {
                write!(f, "{count} CPUs are left over: {CORES_MAX} cores are the most; run a second corelane for them")
            }
            Self::IsolatedUnused { cpus } => {
                write!(f, "CPUs {cpus} are isolated and unused; name them in `cores.list` to run on them")
            }
            Self::SiblingsShared { cpus } => {
                write!(f, "CPUs {cpus} are threads of one physical core; name one of them for a shorter tail")
            }
        }
    }
}

/// A core and the CPU it is pinned to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CorePlacement {
    /// The core.
    pub core: CoreId,
    /// Its CPU.
    pub place: CpuPlace,
}

/// Where the control thread and the offload pool run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SidePlacement {
    /// The CPUs they may run on; the scheduler moves them among these.
    pub cpus: CpuSet,
    /// Whether cores run there too, because no CPU was left free.
    pub shared_with_cores: bool,
}

/// Who runs where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// The cores, in order.
    pub cores: Vec<CorePlacement>,
    /// The control thread.
    pub control: SidePlacement,
    /// The offload pool.
    pub offload: SidePlacement,
    /// What to know about it.
    pub warnings: Vec<PlanWarning>,
}

impl Plan {
    /// Places the cores asked for.
    ///
    /// # Errors
    /// When the number is out of bounds, or a CPU named cannot be used.
    pub fn new(topology: &Topology, request: &CoreRequest) -> Result<Self, PlanError> {
        let cpus = match request {
            CoreRequest::All => all(topology)?,
            CoreRequest::Count(count) => spread(topology, *count)?,
            CoreRequest::List(cpus) => cpus.clone(),
        };
        if !(1..=CORES_MAX).contains(&cpus.len()) {
            return Err(PlanError::CoreCount { cores: cpus.len() });
        }
        let place = |(core, cpu): (usize, &Cpu)| {
            Ok(CorePlacement { core: CoreId(core as u16), place: eligible_place(topology, *cpu)?.clone() })
        };
        let cores = cpus.iter().enumerate().map(place).collect::<Result<Vec<_>, _>>()?;
        let beside = beside(topology, &cores);
        let warnings = warnings(topology, request, &cores);
        Ok(Self { cores, control: beside.clone(), offload: beside, warnings })
    }
}

fn eligible_place(topology: &Topology, cpu: Cpu) -> Result<&CpuPlace, PlanError> {
    match topology.place_of(cpu) {
        Some(place) if place.inherited || place.isolated => Ok(place),
        Some(_) => Err(PlanError::NotEligible { cpu, eligible: topology.eligible() }),
        None => Err(PlanError::Offline { cpu, eligible: topology.eligible() }),
    }
}

/// The CPUs used unasked: those of the mask, also isolated ones if the mask was made of them on purpose.
fn given(topology: &Topology) -> Result<Vec<&CpuPlace>, PlanError> {
    let given: Vec<_> = topology.cpus().iter().filter(|place| place.inherited).collect();
    if given.is_empty() { Err(PlanError::OnlyIsolated { eligible: topology.eligible() }) } else { Ok(given) }
}

fn all(topology: &Topology) -> Result<Vec<Cpu>, PlanError> {
    let count = given(topology)?.len();
    spread(topology, count.min(CORES_MAX))
}

/// So many CPUs, ascending: one thread of each physical core before a second of any, then all of them around again.
fn spread(topology: &Topology, count: usize) -> Result<Vec<Cpu>, PlanError> {
    if count > CORES_MAX {
        return Err(PlanError::CoreCount { cores: count });
    }
    let mut given = given(topology)?;
    let rank = |place: &CpuPlace| place.siblings.iter().filter(|cpu| *cpu < place.cpu).count();
    // Stable, so CPUs of equal rank stay in ascending order.
    given.sort_by_key(|place| rank(place));
    let mut first_round: Vec<Cpu> = given.iter().take(count).map(|place| place.cpu).collect();
    first_round.sort_unstable();
    Ok(first_round.iter().copied().cycle().take(count).collect())
}

/// The CPUs no core uses, if there are any; otherwise all we were given. Isolated ones are kept out of it: between them
/// the scheduler does not balance, so a pool would pile up on the first.
fn beside(topology: &Topology, cores: &[CorePlacement]) -> SidePlacement {
    let used: BTreeSet<Cpu> = cores.iter().map(|placement| placement.place.cpu).collect();
    let given = topology.cpus().iter().filter(|place| place.inherited);
    let free: CpuSet =
        given.filter(|place| !place.isolated && !used.contains(&place.cpu)).map(|place| place.cpu).collect();
    if !free.is_empty() {
        return SidePlacement { cpus: free, shared_with_cores: false };
    }
    let inherited = topology.inherited();
    let cpus = if inherited.is_empty() { used.into_iter().collect() } else { inherited };
    SidePlacement { cpus, shared_with_cores: true }
}

fn warnings(topology: &Topology, request: &CoreRequest, cores: &[CorePlacement]) -> Vec<PlanWarning> {
    let mut warnings = Vec::new();
    let used: CpuSet = cores.iter().map(|placement| placement.place.cpu).collect();
    for cpu in used.iter() {
        let on_it: Vec<CoreId> =
            cores.iter().filter(|placement| placement.place.cpu == cpu).map(|placement| placement.core).collect();
        if on_it.len() > 1 {
            warnings.push(PlanWarning::CpuShared { cpu, cores: on_it });
        }
    }
    let mut seen = CpuSet::default();
    for placement in cores {
        let together: CpuSet = placement.place.siblings.iter().filter(|cpu| used.contains(*cpu)).collect();
        if together.count() > 1 && together.iter().all(|cpu| seen.insert(cpu)) {
            warnings.push(PlanWarning::SiblingsShared { cpus: together });
        }
    }
    let isolated: CpuSet = topology.cpus().iter().filter(|place| place.isolated).map(|place| place.cpu).collect();
    if !isolated.is_empty() && !isolated.iter().any(|cpu| used.contains(cpu)) {
        warnings.push(PlanWarning::IsolatedUnused { cpus: isolated });
    }
    let given = topology.inherited().count();
    if *request == CoreRequest::All && given > cores.len() {
        warnings.push(PlanWarning::CpusLeftOver { count: given - cores.len() });
    }
    warnings
}

impl fmt::Display for SidePlacement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.shared_with_cores { "shared with the cores" } else { "free of cores" };
        write!(f, "CPUs {} ({kind})", self.cpus)
    }
}

/// The table printed at start-up.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "core   CPU  physical core  package  NUMA node  SMT siblings  isolated")?;
        for CorePlacement { core, place } in &self.cores {
            let others: CpuSet = place.siblings.iter().filter(|cpu| *cpu != place.cpu).collect();
            let node = place.node.map_or("-".into(), |node| node.to_string());
            let isolated = if place.isolated { "yes" } else { "no" };
            writeln!(
                f,
                "{:>4}  {:>4}  {:>13}  {:>7}  {node:>9}  {others:>12}  {isolated:>8}",
                core.0,
                place.cpu.number(),
                place.physical_core,
                place.package
            )?;
        }
        writeln!(f, "control  {}", self.control)?;
        writeln!(f, "offload  {}", self.offload)?;
        self.warnings.iter().try_for_each(|warning| writeln!(f, "warning: {warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::topology::tests::{FakeHost, TWO_PACKAGES};
    use super::*;
    use crate::sys::cpu::parse_cpu_list;

    const TWO_CPUS: FakeHost =
        FakeHost { online: "0-1", isolated: "", inherited: "0-1", places: &[(0, 0, 0, 0, "0"), (1, 1, 0, 0, "1")] };

    fn plan(host: &FakeHost, request: CoreRequest) -> Result<Plan, PlanError> {
        Plan::new(&host.topology(), &request)
    }

    fn list(text: &str) -> CoreRequest {
        CoreRequest::List(parse_cpu_list(text).expect("valid"))
    }

    fn cpus(plan: &Plan) -> Vec<u16> {
        for (index, placement) in plan.cores.iter().enumerate() {
            assert_eq!(placement.core.index(), index);
        }
        plan.cores.iter().map(|placement| placement.place.cpu.number()).collect()
    }

    #[test]
    fn all_is_one_core_per_cpu() {
        let plan = plan(&TWO_PACKAGES, CoreRequest::All).expect("possible");
        assert_eq!(cpus(&plan), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert!(plan.control.shared_with_cores && plan.offload.shared_with_cores);
        assert_eq!(plan.control.cpus.to_string(), "0-7");
        let pairs: Vec<String> = plan.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(pairs.len(), 4, "{pairs:?}");
        assert!(pairs[0].starts_with("CPUs 0,4 are threads of one physical core"));
    }

    #[test]
    fn a_count_takes_physical_cores_first_and_leaves_room_for_the_rest() {
        let four = plan(&TWO_PACKAGES, CoreRequest::Count(4)).expect("possible");
        assert_eq!(cpus(&four), [0, 1, 2, 3]);
        assert_eq!(four.warnings, []);
        assert_eq!(four.control, SidePlacement { cpus: "4-7".parse().expect("valid"), shared_with_cores: false });
        let five = plan(&TWO_PACKAGES, CoreRequest::Count(5)).expect("possible");
        assert_eq!(cpus(&five), [0, 1, 2, 3, 4]);
        assert_eq!(five.warnings, [PlanWarning::SiblingsShared { cpus: "0,4".parse().expect("valid") }]);
    }

    #[test]
    fn more_cores_than_cpus_go_around_again() {
        let six = plan(&TWO_CPUS, CoreRequest::Count(6)).expect("possible");
        assert_eq!(cpus(&six), [0, 1, 0, 1, 0, 1]);
        let on = |cpu, cores: [u16; 3]| PlanWarning::CpuShared {
            cpu: Cpu::new(cpu).expect("small"),
            cores: cores.map(CoreId).into(),
        };
        assert_eq!(six.warnings, [on(0, [0, 2, 4]), on(1, [1, 3, 5])]);
        let repeated = plan(&TWO_CPUS, list("0,0,1,1")).expect("possible");
        assert_eq!(cpus(&repeated), [0, 0, 1, 1]);
        assert_eq!(repeated.warnings.len(), 2);
    }

    #[test]
    fn a_list_is_taken_as_it_stands_and_may_name_isolated_cpus() {
        let host = FakeHost { isolated: "2-3,6-7", inherited: "0-1,4-5", ..TWO_PACKAGES };
        let plan = plan(&host, list("3,2")).expect("possible");
        assert_eq!(cpus(&plan), [3, 2]);
        assert!(plan.cores.iter().all(|placement| placement.place.isolated));
        assert_eq!(plan.control, SidePlacement { cpus: "0-1,4-5".parse().expect("valid"), shared_with_cores: false });
        assert_eq!(plan.warnings, []);
    }

    #[test]
    fn isolated_cpus_are_not_taken_unasked() {
        let host = FakeHost { isolated: "2-3", inherited: "0-1,4-7", ..TWO_PACKAGES };
        let plan = plan(&host, CoreRequest::All).expect("possible");
        assert_eq!(cpus(&plan), [0, 1, 4, 5, 6, 7]);
        let unused = PlanWarning::IsolatedUnused { cpus: "2-3".parse().expect("valid") };
        assert!(plan.warnings.contains(&unused) && unused.to_string().contains("CPUs 2-3 are isolated and unused"));

        // Started on isolated CPUs on purpose: the mask is made of them.
        let chosen = FakeHost { isolated: "2-3", inherited: "2-3", ..TWO_PACKAGES };
        let plan = Plan::new(&chosen.topology(), &CoreRequest::All).expect("possible");
        assert_eq!(cpus(&plan), [2, 3]);
        assert_eq!(plan.control.cpus.to_string(), "2-3");

        let nothing_else = FakeHost { isolated: "2-3", inherited: "", ..TWO_PACKAGES };
        let topology = nothing_else.topology();
        let error = Plan::new(&topology, &CoreRequest::All).expect_err("never unasked");
        assert!(error.to_string().contains("cores.list = \"2-3\""), "{error}");
        let named = Plan::new(&topology, &list("2")).expect("asked");
        assert_eq!((named.control.cpus.to_string().as_str(), named.control.shared_with_cores), ("2", true));
    }

    #[test]
    fn what_cannot_be_placed_says_what_can() {
        let host = FakeHost { online: "0-6", inherited: "0-3", ..TWO_PACKAGES };
        let offline = plan(&host, list("7")).expect_err("offline");
        assert!(matches!(offline, PlanError::Offline { .. }) && offline.to_string().contains("among 0-3"), "{offline}");
        let foreign = plan(&host, list("0,5")).expect_err("not ours");
        assert!(matches!(foreign, PlanError::NotEligible { .. }), "{foreign}");
        assert_eq!(plan(&host, CoreRequest::Count(0)), Err(PlanError::CoreCount { cores: 0 }));
        assert_eq!(plan(&host, CoreRequest::Count(65)), Err(PlanError::CoreCount { cores: 65 }));
        assert_eq!(plan(&host, list("")), Err(PlanError::CoreCount { cores: 0 }));
    }

    #[test]
    fn a_host_with_more_cpus_than_cores_is_used_in_part() {
        let large = FakeHost { online: "0-99", isolated: "", inherited: "0-99", places: &[] };
        let plan = plan(&large, CoreRequest::All).expect("possible");
        assert_eq!(plan.cores.len(), CORES_MAX);
        assert_eq!(plan.warnings, [PlanWarning::CpusLeftOver { count: 36 }]);
        assert_eq!(plan.control.cpus.to_string(), "64-99");
    }

    #[test]
    fn the_table_names_siblings_nodes_and_warnings() {
        let text = plan(&TWO_PACKAGES, list("0,4,6")).expect("possible").to_string();
        let expected = "\
core   CPU  physical core  package  NUMA node  SMT siblings  isolated
   0     0              0        0          0             4        no
   1     4              0        0          0             0        no
   2     6              0        1          1             2        no
control  CPUs 1-3,5,7 (free of cores)
offload  CPUs 1-3,5,7 (free of cores)
warning: CPUs 0,4 are threads of one physical core; name one of them for a shorter tail
";
        assert_eq!(text, expected);
    }
}
