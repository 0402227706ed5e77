//! `corelane-bench`: the floor, the load generator, the mass runs, and what compares servers and proxies.
//!
//! It is not part of corelane and links none of it: it sees servers as any client does, by their bytes and by /proc.
//!
//! Invariant: nothing here talks to an address that is neither loopback nor named on the command line as allowed.

mod acceptance;
mod answer;
mod choices;
mod compare;
mod dice;
mod drive;
mod flame;
mod fleet;
mod floor;
mod forwarding;
mod gate;
mod history;
mod hlog;
mod judge;
mod knee;
mod ladder;
mod lane;
mod levels;
mod load;
mod mass;
mod message;
mod model;
mod observe;
mod parsers;
mod peers;
mod promise;
mod record;
mod report;
mod ring;
mod rounds;
mod scenario;
mod server;
mod sys;
mod tally;
mod target;
mod upstream;

use clap::Parser;

use judge::Verdict;

/// Why a subcommand ended without a result.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Show what the original promised for a phase beside what was measured here.
    Acceptance(acceptance::Acceptance),
    /// Compare corelane with itself: pinned or not, batch caps, allocators; and two JSON parsers.
    Choices(choices::Choices),
    /// Compare two builds of corelane, round after round: is the second slower.
    Compare(compare::Compare),
    /// Draw a flamegraph of each thread that `perf` sampled, and share its samples out among the parts of the hot path.
    Flame(flame::Flame),
    /// Serve fixed bytes as cheaply as the kernel allows.
    Floor(floor::Floor),
    /// Compare corelane and other proxies before the same server, round after round.
    Forwarding(forwarding::Forwarding),
    /// Count the instructions of the hot paths and the bytes of a session, and hold them against what they were.
    Gate(gate::Gate),
    /// Add records that are kept to the history of latencies, and show it.
    History(history::History),
    /// Open many connections, call once on each, and report the memory of an idle one.
    Idle(mass::Idle),
    /// Find how much a server takes before it bends, and what bends first.
    Knee(knee::Knee),
    /// Compare the floor, corelane and rmcp, round after round.
    Ladder(ladder::Ladder),
    /// Show the service levels of the original beside what was measured: margins, bottleneck, what changed, advice.
    Levels(levels::Levels),
    /// Call a tool over many connections and report rate, latency and cost.
    Load(load::Load),
    /// Compute from the records what other hosts should do.
    Model(model::Model),
    /// Measure one of the service levels of the original.
    NineNines(scenario::nine_nines::NineNines),
    /// Show the records of runs: tables, and one HTML page with plots.
    Report(report::Report),
    /// Take a server through a scenario, and say whether what must hold did.
    Run(scenario::Play),
    /// Compare corelane with other people's servers and gateways, round after round.
    Peers(peers::Peers),
    /// Hold very many sessions at once and show that they live.
    Sessions(mass::Sessions),
    #[command(hide = true)]
    Share(scenario::troop::Process),
    /// Serve MCP as cheaply as the kernel allows, for proxies to stand before.
    Upstream(upstream::Upstream),
}

fn main() -> std::process::ExitCode {
    let ended = match Command::parse() {
        Command::Acceptance(acceptance) => {
            return decided(acceptance.run(), "not all of it was measured: scripts/acceptance.sh --measure");
        }
        Command::Choices(choices) => choices.run(),
        Command::Compare(compare) => {
            return decided(compare.run(), "undecided: more rounds, or a quieter machine");
        }
        Command::Flame(flame) => flame.run(),
        Command::Floor(floor) => floor.run(),
        Command::Forwarding(forwarding) => forwarding.run(),
        Command::Gate(gate) => return decided(gate.run(), "not all of it was counted"),
        Command::History(history) => return judged(history.run().map(|()| true)),
        Command::Idle(idle) => idle.run(),
        Command::Knee(knee) => knee.run(),
        Command::Ladder(ladder) => ladder.run(),
        Command::Levels(levels) => return judged(levels.run()),
        Command::Load(load) => load.run(),
        Command::Model(model) => model.run(),
        Command::Report(report) => return judged(report.run().map(|()| true)),
        Command::NineNines(nine_nines) => return judged(nine_nines.run()),
        Command::Run(play) => return judged(play.run()),
        // Its verdict is told by its status.
        Command::Peers(peers) => return judged(peers.run()),
        Command::Sessions(sessions) => sessions.run(),
        Command::Share(process) => process.run(),
        Command::Upstream(upstream) => upstream.run(),
    };
    match ended {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("corelane-bench: {failure}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Exit code 0 if it held, 1 if it did not, 2 if it could not be measured.
fn judged(held: Result<bool, Failure>) -> std::process::ExitCode {
    match held {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(failure) => broken(&failure),
    }
}

/// The same of a verdict; one that is neither met nor missed was not measured, and `why` says so.
fn decided(verdict: Result<Verdict, Failure>, why: &str) -> std::process::ExitCode {
    judged(verdict.and_then(|verdict| match verdict {
        Verdict::Met => Ok(true),
        Verdict::Missed => Ok(false),
        Verdict::Undecided | Verdict::NotMeasured => Err(why.into()),
    }))
}

/// Exit code 2: nothing was found out, where 1 says that something was and is not as it must be.
fn broken(failure: &Failure) -> std::process::ExitCode {
    eprintln!("corelane-bench: {failure}");
    std::process::ExitCode::from(2)
}
