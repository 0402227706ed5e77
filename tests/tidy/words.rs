//! Names that belong to few modules, or to none: crates, locks, clocks, sockets, `unsafe`.
//!
//! Not here: our own modules (`imports`).
//! Invariant: an exception is one file with its reason.

use super::Violation;
use super::paths::{self, Named};
use super::source::Source;

/// What is looked for.
enum What {
    /// A path that begins so, such as `std::thread`; one name is a crate.
    Path(&'static [&'static str]),
    /// A name anywhere.
    Name(&'static str),
}

use What::{Name, Path};

/// Where a rule holds.
enum Where {
    /// In all code of the project but these folders and files.
    OutsideOf(&'static [&'static str]),
    /// In these folders.
    Within(&'static [&'static str]),
}

struct Rule {
    rule: &'static str,
    what: &'static [What],
    place: Where,
    /// Files where it does not hold, and why.
    exceptions: &'static [(&'static str, &'static str)],
    instead: &'static str,
}

const PURE: &[&str] = &["src/proto/", "src/shard/", "src/ring/", "src/server/"];
const HOT: &[&str] = &["src/server/", "src/shard/", "src/ring/", "src/proto/", "src/uring/"];
const DRIVE: (&str, &str) =
    ("src/server/drive.rs", "the loop of a core thread: the one part of `server` that is not pure");
const STAND_IN: (&str, &str) = ("src/ring/stand_in.rs", "takes the place of rtrb under loom only");

const RULES: &[Rule] = &[
    Rule {
        rule: "only `runtime` names glommio",
        what: &[Path(&["glommio"]), Path(&["glommio_ng"])],
        place: Where::OutsideOf(&["src/runtime/"]),
        exceptions: &[],
        instead: "use what `runtime` offers, or add to it: the executor must be replaceable in one folder",
    },
    Rule {
        rule: "only `uring` and the benchmarks name io_uring",
        what: &[Path(&["io_uring"])],
        place: Where::OutsideOf(&["src/uring/", "bench/"]),
        exceptions: &[],
        instead: "add an operation to `uring::Driver`: it alone knows when the kernel is done with memory",
    },
    Rule {
        rule: "only `ring` names rtrb",
        what: &[Path(&["rtrb"])],
        place: Where::OutsideOf(&["src/ring/"]),
        exceptions: &[],
        instead: "talk to other cores through a `ring::Port`",
    },
    Rule {
        rule: "no lock on the path of a message",
        what: &[Name("Mutex"), Name("RwLock"), Name("Condvar")],
        place: Where::Within(PURE),
        exceptions: &[STAND_IN],
        instead: "state belongs to one core: own it, lend it by reference, or send a parcel to its owner",
    },
    Rule {
        rule: "no shared count on the path of a message",
        what: &[Name("Arc")],
        place: Where::Within(PURE),
        exceptions: &[
            ("src/ring/mesh.rs", "what all ports share is reached when a ring is made or a port replaced"),
            ("src/ring/port.rs", "each port holds the mesh's shared part; no count is touched per parcel"),
            ("src/ring/spsc.rs", "a ring's two ends share its tally; no count is touched per parcel"),
            ("src/ring/sync.rs", "the one place that chooses between the standard library's and loom's"),
            STAND_IN,
            ("src/server/drive.rs", "`Arc<Orders>` is shared with boot; it is cloned once per core"),
        ],
        instead: "state belongs to one core: own it, lend it by reference, or send a parcel to its owner",
    },
    Rule {
        rule: "no serde_json on the path of a message",
        what: &[Path(&["serde_json"])],
        place: Where::Within(HOT),
        exceptions: &[],
        instead: "use `proto::json`: spans of the text that was judged, and a writer",
    },
    Rule {
        rule: "unsafe code lives in `uring`, `sys` and the audited file of `ring`",
        what: &[Name("unsafe")],
        place: Where::OutsideOf(&["src/uring/", "src/sys/", "src/ring/audited.rs", "bench/", "tests/", "fuzz/"]),
        exceptions: &[],
        instead: "put a safe function into `sys`, or an operation into `uring`, with its SAFETY note",
    },
    Rule {
        rule: "pure modules know no clock",
        what: &[Name("Instant"), Name("SystemTime")],
        place: Where::Within(PURE),
        exceptions: &[DRIVE],
        instead: "take the time as an argument: `now: Nanos`",
    },
    Rule {
        rule: "pure modules know no socket",
        what: &[
            Name("TcpListener"),
            Name("TcpStream"),
            Name("UdpSocket"),
            Name("UnixDatagram"),
            Name("UnixListener"),
            Name("UnixStream"),
            Path(&["socket2"]),
            Path(&["libc"]),
        ],
        place: Where::Within(PURE),
        exceptions: &[],
        instead: "take bytes as an argument and leave effects behind; addresses (`SocketAddr`) are values and allowed",
    },
    Rule {
        rule: "pure modules know no thread",
        what: &[Path(&["std", "thread"]), Path(&["thread"]), Path(&["tokio"])],
        place: Where::Within(PURE),
        exceptions: &[DRIVE],
        instead: "threads are made by `boot`; hand work to the executor or the pool through a trait",
    },
    Rule {
        rule: "pure modules know no randomness",
        what: &[Path(&["fastrand"]), Path(&["getrandom"]), Path(&["rand"]), Name("RandomState")],
        place: Where::Within(PURE),
        exceptions: &[],
        instead: "take entropy as an argument; `boot` draws it from `sys::entropy`",
    },
];

/// Folders of `src` that must not name the runtime or the driver, `drive` apart.
const MACHINES: Rule = Rule {
    rule: "the machines of `server` know neither driver nor executor",
    what: &[Path(&["crate", "runtime"]), Path(&["crate", "uring"]), Path(&["crate", "sys"])],
    place: Where::Within(&["src/server/"]),
    exceptions: &[DRIVE],
    instead: "leave an `Effect` for `server::drive` to perform: the simulator performs it otherwise",
};

fn rules() -> impl Iterator<Item = &'static Rule> {
    RULES.iter().chain([&MACHINES])
}

/// The files named as exceptions.
pub fn exceptions() -> impl Iterator<Item = &'static str> {
    rules().flat_map(|rule| rule.exceptions.iter().map(|(path, _)| *path))
}

/// Holds every rule over one source.
pub fn check(source: &Source) -> Vec<Violation> {
    let named = paths::of(source);
    let mut violations = Vec::new();
    for rule in rules() {
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| source.path.starts_with(prefix));
        let applies = match rule.place {
            Where::OutsideOf(prefixes) => !begins(prefixes),
            Where::Within(prefixes) => begins(prefixes),
        };
        if !applies || rule.exceptions.iter().any(|(path, _)| *path == source.path) {
            continue;
        }
        for named in named.iter().filter(|named| rule.what.iter().any(|what| what.is_in(named))) {
            violations.push(Violation {
                rule: rule.rule,
                place: format!("{}:{}", source.path, named.line),
                found: format!("`{}`", named.text()),
                instead: rule.instead.to_owned(),
            });
        }
    }
    violations
}

impl What {
    fn is_in(&self, named: &Named) -> bool {
        match self {
            // A single name is a crate only where a path goes on behind it: `rand` alone may be a variable.
            Path([_]) if named.segments.len() == 1 => false,
            Path(prefix) => named.begins_with(prefix),
            Name(name) => named.segments.iter().any(|segment| segment == name),
        }
    }
}
