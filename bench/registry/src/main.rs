//! `registry-bench`: the registry of servers and transports on real cores, through the real mesh.
//!
//! Unlike the load generator beside it, it links corelane: what it measures has no wire. Workers are local tasks of the
//! cores, as handlers are. Each stage runs in a process of its own, so none finds what another left.
//!
//! Invariant: an operation counts once it was answered; one that is not answered in time, or otherwise than it may be,
//! fails the run.

mod baselines;
mod beside;
mod contention;
mod core_ops;
mod count;
mod facts;
mod health;
#[path = "../../src/hlog.rs"]
mod hlog;
mod ranks;
mod shapes;
mod simple;
mod stage;
mod stress;
mod words;

use clap::Parser;

/// Why a subcommand ended without a result.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// The mix on one registry behind one Mutex, and on one that is reached by messages, beside the real one.
    Baselines(baselines::Baselines),
    /// The contention benchmark on the same two beside the real one: the original's columns for each.
    Beside(beside::Beside),
    /// The contention benchmark: 4 scales, 5 iterations, 22 columns.
    Contention(contention::Contention),
    /// The original's four core operations and its encoding, each on the real component.
    CoreOps(core_ops::CoreOps),
    /// Single figures: bytes of an entry, look-ups and writes of one core, a register across cores, broadcasts.
    Facts(facts::Facts),
    /// The health of the server asked for in process, idle and while a generator floods its cores.
    Health(health::Health),
    /// Sub-shards against flat ones, and replicas against asking the owner.
    Shapes(shapes::Shapes),
    /// The ten stress scenarios, and readers beside writers.
    Stress(stress::Stress),
}

fn main() -> std::process::ExitCode {
    let ended = match Command::parse() {
        Command::Baselines(baselines) => baselines.run(),
        Command::Beside(beside) => beside.run(),
        Command::Contention(contention) => contention.run(),
        Command::CoreOps(core_ops) => core_ops.run(),
        Command::Facts(facts) => facts.run(),
        Command::Health(health) => health.run(),
        Command::Shapes(shapes) => shapes.run(),
        Command::Stress(stress) => stress.run(),
    };
    match ended {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::from(1),
        Err(failure) => {
            eprintln!("registry-bench: {failure}");
            std::process::ExitCode::from(2)
        }
    }
}
