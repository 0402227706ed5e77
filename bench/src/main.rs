//! `corelane-bench`: the floor, the load generator, the mass runs, and what compares servers and proxies.
//!
//! It is not part of corelane and links none of it: it sees servers as any client does, by their bytes and by /proc.
//!
//! Invariant: nothing here talks to an address that is neither loopback nor named on the command line as allowed.

mod answer;
mod choices;
mod dice;
mod drive;
mod fleet;
mod floor;
mod forwarding;
mod judge;
mod ladder;
mod lane;
mod load;
mod mass;
mod message;
mod observe;
mod parsers;
mod peers;
mod record;
mod ring;
mod rounds;
mod server;
mod sys;
mod tally;
mod target;
mod upstream;

use clap::Parser;

/// Why a subcommand ended without a result.
type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Compare corelane with itself: pinned or not, batch caps, allocators; and two JSON parsers.
    Choices(choices::Choices),
    /// Serve fixed bytes as cheaply as the kernel allows.
    Floor(floor::Floor),
    /// Compare corelane and other proxies before the same server, round after round.
    Forwarding(forwarding::Forwarding),
    /// Open many connections, call once on each, and report the memory of an idle one.
    Idle(mass::Idle),
    /// Compare the floor, corelane and rmcp, round after round.
    Ladder(ladder::Ladder),
    /// Call a tool over many connections and report rate, latency and cost.
    Load(load::Load),
    /// Compare corelane with other people's servers and gateways, round after round.
    Peers(peers::Peers),
    /// Hold very many sessions at once and show that they live.
    Sessions(mass::Sessions),
    /// Serve MCP as cheaply as the kernel allows, for proxies to stand before.
    Upstream(upstream::Upstream),
}

fn main() -> std::process::ExitCode {
    let ended = match Command::parse() {
        Command::Choices(choices) => choices.run(),
        Command::Floor(floor) => floor.run(),
        Command::Forwarding(forwarding) => forwarding.run(),
        Command::Idle(idle) => idle.run(),
        Command::Ladder(ladder) => ladder.run(),
        Command::Load(load) => load.run(),
        // Its verdict is told by its status.
        Command::Peers(peers) => return peers.ended(),
        Command::Sessions(sessions) => sessions.run(),
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
