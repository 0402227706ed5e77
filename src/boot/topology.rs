//! The host's CPUs: which are online, which of them we were given, which are isolated, and what each shares with
//! others.
//!
//! Not here: choosing among them (`boot::plan`).
//! Invariant: every CPU listed is online, and the list ascends by CPU number.

use std::io;
use std::path::{Path, PathBuf};

use crate::sys::affinity;
use crate::sys::cpu::{Cpu, CpuListError, CpuSet};

/// Where Linux describes its CPUs.
pub const SYSFS_CPUS: &str = "/sys/devices/system/cpu";

/// Why the CPUs of the host are not known.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A file holds what it should not.
    #[error("{} does not hold a list of CPUs: {source}", path.display())]
    List {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: CpuListError,
    },
    /// There is no CPU we could run on.
    #[error(
        "no CPU is both online and in the inherited affinity mask; start corelane without taskset, \
         or with CPUs that {SYSFS_CPUS}/online lists"
    )]
    NoCpus,
    /// A file cannot be read, although it is there.
    #[error("cannot read {}: {source}; corelane needs /sys mounted and readable", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One CPU and its place in the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CpuPlace {
    /// Its number.
    pub cpu: Cpu,
    /// The physical core it is a thread of; the number counts within the package.
    pub physical_core: i32,
    /// The package (socket).
    pub package: i32,
    /// The NUMA node, if the host has any.
    pub node: Option<u16>,
    /// All hardware threads of its physical core, itself included.
    pub siblings: CpuSet,
    /// Kept free of the scheduler's balancing (`isolcpus=`): nothing runs there unless it is put there.
    pub isolated: bool,
    /// In the affinity mask that corelane was started with.
    pub inherited: bool,
}

/// The CPUs of the host that are online.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topology {
    cpus: Vec<CpuPlace>,
}

impl Topology {
    /// The topology of this host, seen from this process. Call it before any thread is pinned.
    ///
    /// # Errors
    /// When /sys is there but cannot be read, or no CPU is left for us.
    pub fn of_this_host() -> Result<Self, TopologyError> {
        Self::read(Path::new(SYSFS_CPUS), &affinity::inherited())
    }

    /// Reads the description under `root`, laid out as [`SYSFS_CPUS`]. Where a file is missing (containers, some
    /// virtual machines) a CPU is taken for a physical core of its own on package 0.
    ///
    /// # Errors
    /// As [`of_this_host`](Self::of_this_host).
    pub fn read(root: &Path, inherited: &CpuSet) -> Result<Self, TopologyError> {
        let online = read_list(&root.join("online"))?.unwrap_or_else(|| inherited.clone());
        let isolated = read_list(&root.join("isolated"))?.unwrap_or_default();
        let cpus = online
            .iter()
            .map(|cpu| {
                let folder = root.join(format!("cpu{cpu}"));
                let topology = folder.join("topology");
                Ok(CpuPlace {
                    cpu,
                    physical_core: read_number(&topology.join("core_id"))?.unwrap_or(i32::from(cpu.number())),
                    package: read_number(&topology.join("physical_package_id"))?.unwrap_or(0),
                    node: node_of(&folder),
                    siblings: read_list(&topology.join("thread_siblings_list"))?
                        .filter(|siblings| siblings.contains(cpu))
                        .unwrap_or_else(|| CpuSet::from_iter([cpu])),
                    isolated: isolated.contains(cpu),
                    inherited: inherited.contains(cpu),
                })
            })
            .collect::<Result<Vec<_>, TopologyError>>()?;
        if !cpus.iter().any(|place| place.inherited || place.isolated) {
            return Err(TopologyError::NoCpus);
        }
        Ok(Self { cpus })
    }

    /// Every CPU that is online, ascending.
    pub fn cpus(&self) -> &[CpuPlace] {
        &self.cpus
    }

    /// The CPU of that number, if it is online.
    pub fn place_of(&self, cpu: Cpu) -> Option<&CpuPlace> {
        self.cpus.binary_search_by_key(&cpu, |place| place.cpu).ok().map(|index| &self.cpus[index])
    }

    /// The CPUs we were given, ascending.
    pub fn inherited(&self) -> CpuSet {
        self.cpus.iter().filter(|place| place.inherited).map(|place| place.cpu).collect()
    }

    /// The CPUs that may be asked for by number: those we were given, and the isolated ones, which no mask holds by
    /// itself.
    pub fn eligible(&self) -> CpuSet {
        self.cpus.iter().filter(|place| place.inherited || place.isolated).map(|place| place.cpu).collect()
    }
}

fn read_text(path: &Path) -> Result<Option<String>, TopologyError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TopologyError::Read { path: path.into(), source }),
    }
}

fn read_list(path: &Path) -> Result<Option<CpuSet>, TopologyError> {
    let Some(text) = read_text(path)? else { return Ok(None) };
    text.parse().map(Some).map_err(|source| TopologyError::List { path: path.into(), source })
}

/// A number that is missing, or is none, is not known; what it would have told is only printed and weighed.
fn read_number(path: &Path) -> Result<Option<i32>, TopologyError> {
    Ok(read_text(path)?.and_then(|text| text.trim().parse().ok()))
}

/// The node is not a file but a link named after it.
fn node_of(folder: &Path) -> Option<u16> {
    std::fs::read_dir(folder)
        .ok()?
        .find_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::fs;
    use tempfile::TempDir;

    /// A host to pretend: what its files say, by CPU.
    pub(in crate::boot) struct FakeHost {
        pub(in crate::boot) online: &'static str,
        pub(in crate::boot) isolated: &'static str,
        pub(in crate::boot) inherited: &'static str,
        /// CPU, physical core, package, node, siblings.
        pub(in crate::boot) places: &'static [(u16, i32, i32, u16, &'static str)],
    }

    /// Two packages of two physical cores with two threads each; the usual numbering of x86 servers.
    pub(in crate::boot) const TWO_PACKAGES: FakeHost = FakeHost {
        online: "0-7",
        isolated: "",
        inherited: "0-7",
        places: &[
            (0, 0, 0, 0, "0,4"),
            (1, 1, 0, 0, "1,5"),
            (2, 0, 1, 1, "2,6"),
            (3, 1, 1, 1, "3,7"),
            (4, 0, 0, 0, "0,4"),
            (5, 1, 0, 0, "1,5"),
            (6, 0, 1, 1, "2,6"),
            (7, 1, 1, 1, "3,7"),
        ],
    };

    impl FakeHost {
        fn tree(&self) -> TempDir {
            let root = tempfile::tempdir().expect("a folder");
            let write = |path: String, text: String| {
                let path = root.path().join(path);
                fs::create_dir_all(path.parent().expect("under the root")).expect("a folder");
                fs::write(path, text + "\n").expect("a file");
            };
            write("online".into(), self.online.into());
            write("isolated".into(), self.isolated.into());
            for (cpu, core, package, node, siblings) in self.places {
                write(format!("cpu{cpu}/topology/core_id"), core.to_string());
                write(format!("cpu{cpu}/topology/physical_package_id"), package.to_string());
                write(format!("cpu{cpu}/topology/thread_siblings_list"), (*siblings).into());
                fs::create_dir_all(root.path().join(format!("cpu{cpu}/node{node}"))).expect("a folder");
            }
            root
        }

        pub(in crate::boot) fn topology(&self) -> Topology {
            let tree = self.tree();
            Topology::read(tree.path(), &self.inherited.parse().expect("valid")).expect("readable")
        }
    }

    fn cpu(number: u32) -> Cpu {
        Cpu::new(number).expect("small")
    }

    #[test]
    fn a_server_is_read_in_full() {
        let topology = TWO_PACKAGES.topology();
        assert_eq!(topology.cpus().len(), 8);
        let place = topology.place_of(cpu(6)).expect("online");
        assert_eq!((place.physical_core, place.package, place.node), (0, 1, Some(1)));
        assert_eq!(place.siblings.to_string(), "2,6");
        assert!(place.inherited && !place.isolated);
        assert_eq!(topology.place_of(cpu(8)), None);
    }

    #[test]
    fn isolated_cpus_are_eligible_although_no_mask_holds_them() {
        let host = FakeHost { isolated: "2-3", inherited: "0-1", ..TWO_PACKAGES };
        let topology = host.topology();
        assert_eq!(topology.inherited().to_string(), "0-1");
        assert_eq!(topology.eligible().to_string(), "0-3");
        assert!(topology.place_of(cpu(2)).expect("online").isolated);
    }

    #[test]
    fn an_offline_cpu_is_not_listed_and_a_foreign_one_not_eligible() {
        let host = FakeHost { online: "0,2-7", inherited: "0-3", ..TWO_PACKAGES };
        let topology = host.topology();
        assert_eq!(topology.place_of(cpu(1)), None);
        assert_eq!(topology.eligible().to_string(), "0,2-3");
    }

    #[test]
    fn missing_files_make_every_cpu_a_core_of_its_own() {
        let root = tempfile::tempdir().expect("a folder");
        let topology = Topology::read(root.path(), &"0,3".parse().expect("valid")).expect("readable");
        let place = topology.place_of(cpu(3)).expect("inherited");
        assert_eq!((place.physical_core, place.package, place.node, place.siblings.count()), (3, 0, None, 1));
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        let root = tempfile::tempdir().expect("a folder");
        let nobody = Topology::read(root.path(), &CpuSet::default());
        assert!(matches!(nobody, Err(TopologyError::NoCpus)));
        fs::write(root.path().join("online"), "0-x").expect("a file");
        let broken = Topology::read(root.path(), &"0".parse().expect("valid")).expect_err("no list");
        assert!(broken.to_string().contains("online"), "{broken}");
        let elsewhere = FakeHost { online: "0-3", inherited: "4-5", ..TWO_PACKAGES };
        let tree = elsewhere.tree();
        assert!(matches!(Topology::read(tree.path(), &"4-5".parse().expect("valid")), Err(TopologyError::NoCpus)));
    }

    #[test]
    fn this_host_can_be_read() {
        let topology = Topology::of_this_host().expect("readable");
        assert!(!topology.inherited().is_empty());
        for place in topology.cpus() {
            assert!(place.siblings.contains(place.cpu));
        }
    }
}
