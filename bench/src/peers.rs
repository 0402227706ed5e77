//! `corelane-bench peers`: corelane beside other people's servers and gateways, in one run on the same CPUs.
//!
//! It is a sister of the ladder and of forwarding, with the same load, rounds and arithmetic. Who takes part is in
//! `lineup`, how each is started in `start`, how many connections it takes in `trial`, what silent clients cost in
//! `rest`; `target` judges and `render` makes the page, from the record alone. Each kind of comparison leaves a record
//! of its own.
//!
//! Invariant: each round starts a fresh server and a fresh generator on different CPUs, and all peers of a scenario run
//! once before any runs again, every other time in reverse order; whoever was chosen is in the record, with its figures
//! or with what kept it from having any.

mod lineup;
mod render;
mod rest;
mod start;
mod target;
mod trial;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    judge::{self, Verdict},
    message::{Payload, Wire},
    observe::Environment,
    record,
    rounds::{self, Pace, Round, Scenario, Terms},
    tally::Report,
    target::Target,
};
use lineup::{Kind, Part, Peer};
use rest::RestRound;
use start::Served;
use trial::Taken;

/// `corelane-bench peers`.
#[derive(clap::Args)]
// The last one counts: a script has its defaults, and whoever calls it the last word.
#[command(args_override_self = true)]
pub struct Peers {
    #[command(flatten)]
    terms: Terms,
    /// What to compare; all kinds, one after another, without it.
    #[arg(long, value_enum, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Only these peers (names as in the table); targets need corelane.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Seconds that a window may have at most, for peers that are slow.
    #[arg(long, default_value_t = 60.0)]
    longest: f64,
    /// Connection counts of the closed loops; the last one is also that of the open loops.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 1000])]
    connections: Vec<usize>,
    /// Silent clients whose memory is measured; 0 leaves it out.
    #[arg(long, default_value_t = 4000)]
    silent: usize,
    /// Where corelane, rmcp-echo and rmcp-proxy are; beside this program without it.
    #[arg(long)]
    binaries: Option<PathBuf>,
    /// Where `scripts/peers.sh` installed the others.
    #[arg(long, default_value = ".tools/peers")]
    tools: PathBuf,
    /// Where the programs are that those run.
    #[arg(long, default_value = "bench/peers")]
    programs: PathBuf,
    /// Where KIND.json and KIND.md go.
    #[arg(long, default_value = "bench/results/peers")]
    output: PathBuf,
    /// Encoded length of message M.
    #[arg(long, default_value_t = 175)]
    payload: usize,
}

/// Of the slower one's capacity: the rate at which latencies are compared.
const SHARE: f64 = 0.8;
/// Calls of an open loop, if the longest window allows: enough for one in a hundred to be more than one call.
const CALLS_FOR_TAIL: f64 = 400.0;
/// From here on the generator, and not the server, was the slower side of a closed loop.
const GENERATOR_BUSY: f64 = 0.9;

/// Bytes that the floor must know: as corelane's, once it could be asked.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Sizes {
    http: usize,
    legacy: usize,
    session: usize,
}

impl Sizes {
    fn reply(&self, wire: Wire) -> usize {
        if wire == Wire::HttpLegacy { self.legacy } else { self.http }
    }
}

/// One that was chosen.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Chosen {
    name: String,
    /// What it is, with its version.
    what: String,
    /// Whether corelane is judged against it.
    is_judged: bool,
}

/// All that a run of one kind leaves behind; the page needs nothing else.
#[derive(Serialize, Deserialize)]
struct Record {
    environment: Environment,
    kind: Kind,
    rounds_asked: usize,
    seconds: f64,
    longest: f64,
    server_cpu: usize,
    load_cpu: usize,
    connections: Vec<usize>,
    floor: Sizes,
    chosen: Vec<Chosen>,
    /// Who has no figures, and why.
    left_out: Vec<String>,
    taken: Vec<Taken>,
    rounds: Vec<Round>,
    silent: Vec<RestRound>,
    /// Judged from all the above.
    targets: Vec<Target>,
}

impl Record {
    /// How many connections a peer takes of those that a closed loop asks for.
    fn taken(&self, peer: &str, asked: usize) -> Option<&Taken> {
        self.taken.iter().find(|taken| taken.peer == peer && taken.asked == asked)
    }

    /// Calls per second that a peer can serve on one CPU, from its closed loop: what its CPU time allows, and no more
    /// than it did, unless the generator was the slower side.
    fn capacity(&self, peer: &str, asked: usize) -> Option<f64> {
        let served = rounds::figures(&self.rounds, &Scenario::closed(asked), peer, |report| {
            let allowed = 1e6 / judge::cpu(report)?;
            Some(if report.generator_cpu_share < GENERATOR_BUSY {
                allowed.min(report.calls_per_second)
            } else {
                allowed
            })
        });
        judge::median(&judge::values(&served))
    }

    /// The open loop in which corelane and a peer are compared; the closed loops must have come first.
    fn paced(&self, peer: &str, asked: usize) -> Option<Scenario> {
        let (ours, theirs) = (self.capacity(CORELANE, asked)?, self.capacity(peer, asked)?);
        let (slower, of) = if ours < theirs { (ours, CORELANE) } else { (theirs, peer) };
        let rate = (SHARE * slower).floor().max(1.0);
        let connections = self.taken(peer, asked).map_or(asked, |taken| taken.connections);
        let pace = Some(Pace { rate, of: of.into(), against: peer.into() });
        Some(Scenario { share: Some(SHARE), pace, ..Scenario::closed(connections) })
    }
}

const CORELANE: &str = "corelane";

/// One load on one peer.
#[derive(Clone, Copy)]
struct Asked {
    connections: usize,
    warmup: f64,
    seconds: f64,
    rate: Option<f64>,
}

impl Peers {
    /// Runs, writes the files, prints the pages; true if every target is met.
    pub fn run(&self) -> Result<bool, Failure> {
        match &self.terms.render {
            Some(file) => render_file(file),
            None => self.measure(),
        }
    }

    fn measure(&self) -> Result<bool, Failure> {
        self.terms.check()?;
        if self.connections.contains(&0) {
            return Err("--connections must be above zero".into());
        }
        let kinds = if self.kind.is_empty() { Kind::ALL.to_vec() } else { self.kind.clone() };
        let all = || kinds.iter().flat_map(|kind| kind.peers());
        if let Some(name) = self.peers.iter().find(|name| all().all(|peer| peer.name != **name)) {
            let names: BTreeSet<_> = all().map(|peer| peer.name).collect();
            let names: Vec<_> = names.into_iter().collect();
            return Err(format!("there is no peer {name} here; there are {}", names.join(", ")).into());
        }
        fs::create_dir_all(&self.output)?;
        let mut is_all_met = true;
        for kind in kinds {
            let peers = kind.peers().iter().filter(|peer| self.wants(peer.name)).collect::<Vec<_>>();
            if !peers.is_empty() {
                is_all_met &= self.compare(kind, &peers)?;
            }
        }
        Ok(is_all_met)
    }

    fn wants(&self, name: &str) -> bool {
        self.peers.is_empty() || self.peers.iter().any(|wanted| wanted == name)
    }

    /// One kind; whether its targets are met.
    fn compare(&self, kind: Kind, chosen: &[&Peer]) -> Result<bool, Failure> {
        let described = |peer: &&Peer| Chosen {
            name: peer.name.into(),
            what: match self.version(peer) {
                Some(version) => format!("{version}, {}", peer.what),
                None => peer.what.into(),
            },
            is_judged: peer.part == Part::Mcp,
        };
        let mut record = Record {
            environment: Environment::now(),
            kind,
            rounds_asked: self.terms.rounds,
            seconds: self.terms.seconds,
            longest: self.longest,
            server_cpu: self.terms.server_cpu,
            load_cpu: self.terms.load_cpu,
            connections: self.connections.clone(),
            floor: Sizes { http: 302, legacy: 274, session: 60 },
            chosen: chosen.iter().map(described).collect(),
            left_out: Vec::new(),
            taken: Vec::new(),
            rounds: Vec::new(),
            silent: Vec::new(),
            targets: Vec::new(),
        };
        let peers = self.healthy(&mut record, chosen);
        if peers.is_empty() {
            return Err(format!("nobody is left to run: {}", record.left_out.join("; ")).into());
        }
        eprintln!("{}: the closed loops take about {:.0} minutes", kind.name(), self.minutes(&record).ceil());
        for &asked in &self.connections {
            self.interleave(&mut record, &peers, &Scenario::closed(asked))?;
        }
        let most = *self.connections.last().ok_or("at least one count of connections is needed")?;
        for peer in peers.iter().filter(|peer| peer.part == Part::Mcp) {
            let pair: Vec<_> =
                peers.iter().copied().filter(|one| one.part == Part::Corelane || one.name == peer.name).collect();
            if let Some(scenario) = record.paced(peer.name, most) {
                self.interleave(&mut record, &pair, &scenario)?;
            }
        }
        self.rest(&mut record, &peers)?;
        self.keep(&record)?;
        render_file(&self.file(kind))
    }

    fn file(&self, kind: Kind) -> PathBuf {
        self.output.join(format!("{}.json", kind.name()))
    }

    /// What has been measured survives whatever comes next.
    fn keep(&self, record: &Record) -> Result<(), Failure> {
        record::keep(&self.file(record.kind), record, &record.environment, rounds::named(&record.rounds))
    }

    /// Those that serve, each with how many connections it takes; learns the size of corelane's answers for the floor.
    fn healthy<'a>(&self, record: &mut Record, chosen: &[&'a Peer]) -> Vec<&'a Peer> {
        let mut healthy = Vec::new();
        for peer in chosen {
            match self.tried(record, peer) {
                Ok(taken) => {
                    healthy.push(*peer);
                    record.taken.extend(taken);
                }
                Err(why) => {
                    eprintln!("{} is left out: {why}", peer.name);
                    record.left_out.push(format!("{}: {why}", peer.name));
                }
            }
        }
        healthy
    }

    fn tried(&self, record: &mut Record, peer: &Peer) -> Result<Vec<Taken>, Failure> {
        let (few, report) = self.trial(record, peer, trial::FEW, f64::INFINITY)?;
        if peer.part == Part::Corelane {
            let bytes = report.response_bytes.unwrap_or(0.0).round() as usize;
            match peer.wire {
                Wire::HttpLegacy => (record.floor.legacy, record.floor.session) = (bytes, report.session_bytes),
                _ => record.floor.http = bytes,
            }
        }
        let tried = |&asked: &usize| Ok(self.trial(record, peer, asked, few.calls_per_second)?.0);
        self.connections.iter().map(tried).collect()
    }

    /// About how long the closed loops take.
    fn minutes(&self, record: &Record) -> f64 {
        // Starting and ending a server takes seconds where it is written in Python.
        let run = |taken: &Taken| {
            let asked = self.closed(taken);
            asked.warmup + asked.seconds + 3.0
        };
        self.terms.rounds as f64 * record.taken.iter().map(run).sum::<f64>() / 60.0
    }

    /// The closed loop of a peer: as long as each of its connections needs for its turns.
    fn closed(&self, taken: &Taken) -> Asked {
        let seconds = self.terms.seconds.max(trial::turns(taken.connections, taken.calls_per_second));
        let warmup = self.terms.warmup.max(seconds / trial::LAPS);
        Asked { connections: taken.connections, warmup, seconds, rate: None }
    }

    /// An open loop at a rate: as long as a tail needs, if it may be.
    fn open(&self, scenario: &Scenario, rate: f64) -> Asked {
        let seconds = self.terms.seconds.max((CALLS_FOR_TAIL / rate).min(self.longest));
        Asked { connections: scenario.connections, warmup: self.terms.warmup, seconds, rate: Some(rate) }
    }

    fn interleave(&self, record: &mut Record, peers: &[&Peer], scenario: &Scenario) -> Result<(), Failure> {
        for round in 0..self.terms.rounds {
            for index in rounds::order(peers.len(), round) {
                let peer = peers[index];
                let asked = match (&scenario.pace, record.taken(peer.name, scenario.connections)) {
                    (Some(pace), _) => self.open(scenario, pace.rate),
                    (None, Some(taken)) => self.closed(taken),
                    (None, None) => continue,
                };
                let ran = self.once(record, peer, asked);
                record.rounds.push(Round::ran(scenario, peer.name, round, ran));
            }
            self.keep(record)?;
        }
        Ok(())
    }

    /// One server, one load, one report.
    fn once(&self, record: &Record, peer: &Peer, asked: Asked) -> Result<Report, Failure> {
        let served = Served::start(self, peer, &record.floor)?;
        let mut more = Vec::new();
        let mut say = |option: &str, value: String| more.extend([format!("--{option}"), value]);
        say("connections", asked.connections.to_string());
        say("warmup", asked.warmup.to_string());
        say("seconds", asked.seconds.to_string());
        if let Some(rate) = asked.rate {
            say("rate", rate.to_string());
            more.push("--poisson".into());
        }
        if peer.is_fixed() {
            more.push("--unverified".into());
        }
        if peer.sessions_unasked() {
            more.extend(["--session-bytes".into(), record.floor.session.to_string()]);
        }
        served.front.loaded(peer.wire, self.terms.load_cpu, &served.payload, &more)
    }

    /// Message M for a peer.
    fn payload(&self, peer: &Peer) -> Payload {
        let arguments = r#"{"data":"$PAD"}"#.into();
        Payload { payload: self.payload, tool: "echo".into(), arguments, path: peer.path.into() }
    }
}

fn render_file(file: &Path) -> Result<bool, Failure> {
    let mut record: Record = record::read(file)?;
    record.targets = target::all(&record);
    record::write(file, &record)?;
    record::publish(file, &render::page(&record))?;
    eprintln!("{}", crate::target::summary(&record.targets));
    Ok(record.targets.iter().all(|target| target.verdict == Verdict::Met))
}
