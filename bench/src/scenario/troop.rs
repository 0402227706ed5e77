//! The threads of a run, in this process or in several: they get the same orders, and what they tell comes together.
//!
//! It knows nothing of what is counted. Processes speak JSON lines: orders on standard input, what is told on standard
//! output. Clocks need no agreement, because the monotonic clock is one for all processes of a machine.
//!
//! Invariant: a thread that cannot go on says why, whichever process it is in; a process that ends without a word is
//! such a failure too.

use std::{
    io::{self, BufRead, BufReader, Write},
    panic::{self, AssertUnwindSafe},
    process::{Child, Command, Stdio},
    sync::{Arc, mpsc},
    thread,
};

use serde::{Deserialize, Serialize};

use crate::{
    Failure,
    fleet::Address,
    message::Script,
    scenario::{
        count::Count,
        file::{Deed, Scenario},
        share::{Order, Part, Share},
    },
    sys,
};

/// What a thread tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// It waits for orders.
    Ready,
    /// What its connections of a group did in a second of a phase.
    Counted {
        group: usize,
        part: usize,
        phase: usize,
        second: u64,
        count: Box<Count>,
    },
    /// It has ended a phase.
    Over,
    Failed(String),
}

/// What all threads of a run must know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Muster {
    pub scenario: Scenario,
    /// As `Address` is written.
    pub targets: Vec<String>,
    /// The server's control address, if it is known.
    pub control: Option<String>,
    pub cpus: Vec<usize>,
    /// Connections per ring at most.
    pub table: usize,
    pub processes: usize,
}

impl Muster {
    /// The parts of all threads of process `process`; those of all processes together are all connections.
    pub fn parts(&self, process: usize) -> Result<Vec<(usize, Part)>, String> {
        let targets = self.targets.iter().map(|target| target.parse()).collect::<Result<Vec<Address>, _>>()?;
        let control = self.control.iter().map(|control| control.parse()).collect::<Result<Vec<Address>, _>>()?;
        let (mut parts, mut first) = (Vec::new(), 0);
        for (place, group) in self.scenario.groups.iter().enumerate() {
            let most = self.scenario.most(place);
            let targets = if group.deed == Deed::Health { &control } else { &targets };
            if targets.is_empty() {
                return Err(format!(
                    "group {:?}: the server's control address is not known; say --control",
                    group.name
                ));
            }
            let of = most.div_ceil(self.table).next_multiple_of(self.processes).max(self.processes);
            for index in 0..of {
                if index % self.processes == process {
                    parts.push((
                        place,
                        Part {
                            group: group.clone(),
                            steps: self.scenario.steps(place),
                            targets: targets.clone(),
                            first_ask: self.scenario.groups[..place].iter().map(|group| group.mix.len()).sum(),
                            index,
                            of,
                            first,
                            seed: self.scenario.seed.wrapping_add((place * 1000 + index) as u64),
                        },
                    ));
                }
                first += most.div_ceil(of);
            }
        }
        Ok(parts)
    }

    fn threads(&self) -> Result<usize, String> {
        (0..self.processes).map(|process| self.parts(process).map(|parts| parts.len())).sum()
    }
}

/// See the module.
pub struct Troop {
    orders: Vec<Box<dyn FnMut(Order) -> bool>>,
    told: mpsc::Receiver<Told>,
    pub threads: usize,
    pub processes: Vec<u32>,
    children: Vec<Child>,
}

impl Troop {
    /// Starts them all and waits until each is ready.
    pub fn muster(muster: &Muster, script: &Arc<Script>) -> Result<Self, Failure> {
        let (tell, told) = mpsc::channel();
        let mut troop = Self {
            orders: Vec::new(),
            told,
            threads: muster.threads()?,
            processes: vec![std::process::id()],
            children: Vec::new(),
        };
        if muster.processes == 1 {
            for order in start(muster, 0, script, &tell)? {
                troop.orders.push(Box::new(move |ordered| order.send(ordered).is_ok()));
            }
        } else {
            for process in 0..muster.processes {
                troop.start_process(muster, process, tell.clone())?;
            }
        }
        drop(tell);
        for _ in 0..troop.threads {
            match troop.hear()? {
                Told::Ready => {}
                other => return Err(format!("a thread of the generator said {other:?} before it was asked").into()),
            }
        }
        Ok(troop)
    }

    fn start_process(&mut self, muster: &Muster, process: usize, tell: mpsc::Sender<Told>) -> Result<(), Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["share", "--process", &process.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        sys::confine(&mut command, None);
        let mut child = command.spawn()?;
        let (mut input, output) = (child.stdin.take().ok_or("no pipe")?, child.stdout.take().ok_or("no pipe")?);
        writeln!(input, "{}", serde_json::to_string(muster)?)?;
        self.orders.push(Box::new(move |order: Order| {
            let line = serde_json::to_string(&order).expect("numbers alone");
            writeln!(input, "{line}").and_then(|()| input.flush()).is_ok()
        }));
        self.processes.push(child.id());
        self.children.push(child);
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let told = line.map_err(|error| error.to_string());
                let told =
                    told.and_then(|line| serde_json::from_str(&line).map_err(|error| format!("{error}: {line}")));
                // Whoever hears has gone only when the run has failed already.
                if tell.send(told.unwrap_or_else(Told::Failed)).is_err() {
                    return;
                }
            }
            let _ = tell.send(Told::Failed(format!("process {process} of the generator ended")));
        });
        Ok(())
    }

    /// Gives all the same order.
    pub fn order(&mut self, order: Order) {
        // One that is gone has told why, or will be heard to have ended.
        for give in &mut self.orders {
            let _ = give(order);
        }
    }

    /// The next that is told, within `limit` if there is one.
    pub fn hear_within(&self, limit: std::time::Duration) -> Result<Option<Told>, Failure> {
        match self.told.recv_timeout(limit) {
            Ok(Told::Failed(why)) => Err(why.into()),
            Ok(told) => Ok(Some(told)),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err("every thread of the generator has ended".into()),
        }
    }

    fn hear(&self) -> Result<Told, Failure> {
        self.hear_within(std::time::Duration::from_secs(120))?.ok_or_else(|| "a thread did not get ready".into())
    }
}

impl Drop for Troop {
    fn drop(&mut self) {
        self.orders.clear();
        for child in &mut self.children {
            // It ends when its input does; what it still says is of no use.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts the threads of one process; each is on one of the CPUs.
fn start(
    muster: &Muster,
    process: usize,
    script: &Arc<Script>,
    tell: &mpsc::Sender<Told>,
) -> Result<Vec<mpsc::Sender<Order>>, Failure> {
    let mut orders = Vec::new();
    for (place, (group, part)) in muster.parts(process)?.into_iter().enumerate() {
        let (order, ordered) = mpsc::channel::<Order>();
        orders.push(order);
        let (script, tell) = (script.clone(), tell.clone());
        let cpu = muster.cpus[(place * muster.processes + process) % muster.cpus.len()];
        thread::Builder::new().name(format!("load-{place}")).spawn(move || {
            let serve = || -> Result<(), String> {
                sys::pin(cpu).map_err(|error| format!("CPU {cpu}: {error}"))?;
                let index = part.index;
                let mut share = Share::new(part, &script)?;
                // Who does not hear any more has failed already.
                let _ = tell.send(Told::Ready);
                for order in ordered {
                    share.phase(order, &mut |second, count| {
                        let count = Box::new(count);
                        let counted = Told::Counted { group, part: index, phase: order.phase, second, count };
                        let _ = tell.send(counted);
                    })?;
                    let _ = tell.send(Told::Over);
                }
                Ok(())
            };
            // One that panics has to be heard of, or the run would wait for it.
            let ended = panic::catch_unwind(AssertUnwindSafe(serve));
            if let Err(why) = ended.unwrap_or_else(|_| Err("a thread of the generator panicked".into())) {
                let _ = tell.send(Told::Failed(why));
            }
        })?;
    }
    Ok(orders)
}

/// `corelane-bench share`: one process of several. Not for people.
#[derive(clap::Args)]
pub struct Process {
    #[arg(long)]
    process: usize,
}

impl Process {
    /// Obeys the orders on standard input until it ends.
    pub fn run(&self) -> Result<(), Failure> {
        let mut lines = io::stdin().lock().lines();
        let muster: Muster = serde_json::from_str(&lines.next().ok_or("no orders came")??)?;
        sys::raise_nofile()?;
        let script = Arc::new(super::script(&muster.scenario, &muster.targets)?);
        let (tell, told) = mpsc::channel();
        let orders = start(&muster, self.process, &script, &tell)?;
        thread::spawn(move || {
            let mut output = io::stdout().lock();
            for told in told {
                let line = serde_json::to_string(&told).expect("counts can be written");
                if writeln!(output, "{line}").and_then(|()| output.flush()).is_err() {
                    return;
                }
            }
        });
        for line in lines {
            let order: Order = serde_json::from_str(&line?)?;
            for give in &orders {
                // A thread that is gone has told why.
                let _ = give.send(order);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_all_processes_are_all_connections() {
        let text = r#"
            name = "t"
            about = "a"
            group = [{ name = "a" }, { name = "b" }]
            [[phase]]
            name = "p"
            seconds = 1
            groups = { a = { connections = 1003 }, b = { connections = 2 } }
        "#;
        let scenario = Scenario::parse(text).expect("valid");
        for (processes, table) in [(1, 100), (1, 5000), (3, 100), (4, 5000)] {
            let muster = Muster {
                scenario: scenario.clone(),
                targets: vec!["127.0.0.1:1".into()],
                control: None,
                cpus: vec![0],
                table,
                processes,
            };
            let parts: Vec<_> = (0..processes).flat_map(|process| muster.parts(process).expect("parts")).collect();
            assert_eq!(parts.len(), muster.threads().expect("parts"));
            for (group, all) in [(0, 1003), (1, 2)] {
                let of_group = || parts.iter().filter(|part| part.0 == group).map(|(_, part)| part);
                assert_eq!(of_group().map(|part| part.own(all)).sum::<usize>(), all);
                assert!(of_group().all(|part| part.own(all) <= table));
            }
        }
    }
}
