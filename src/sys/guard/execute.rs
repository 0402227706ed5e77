//! From a command to a running child: the steps between fork and exec.
//!
//! Not here: pipes (the guard makes them) and the child's end (`keeper`). Invariant: a child is either running the
//! program with three descriptors and nothing of ours, or it never was, and the failing step is known.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::command::CommandSpec;
use super::message::{Failure, Step};
use super::process::{self, Forked, Pid};
use super::spawn_error::candidates;
use crate::sys::limits::{self, Limit, Resource};

/// The child's ends of its pipes.
#[derive(Debug)]
pub struct ChildEnds {
    pub stdin: OwnedFd,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
}

/// Starts the child of this process, which has one thread. `open_files` is the limit it gets unless its command says
/// otherwise. Waits until the program has replaced us.
pub fn start(command: &CommandSpec, ends: ChildEnds, open_files: Limit) -> Result<Pid, Failure> {
    let prepared = Prepared::of(command);
    let (mut report, reporter) = io::pipe().map_err(|error| Failure::new(Step::Room, &error))?;
    let keeper = process::own_pid();
    let child = match process::fork() {
        Ok(Forked::Child) => process::end_with(|| {
            let Err(failure) = become_it(command, &prepared, &ends, open_files, keeper);
            // Whoever does not hear it has been killed, and so will this be.
            let _ = (&reporter).write_all(&failure.to_bytes());
            127
        }),
        Ok(Forked::Parent(child)) => child,
        Err(process::ForkError::Kernel(error) | process::ForkError::Proc(error)) => {
            return Err(Failure::new(Step::Fork, &error));
        }
        Err(process::ForkError::Threads(_)) => unreachable!("a keeper starts no threads"),
    };
    drop((reporter, ends));
    let mut said = [0; 5];
    match report.read_exact(&mut said) {
        // The program has replaced us, and with it the pipe was closed.
        Err(_) => Ok(child),
        Ok(()) => {
            process::wait_for(child);
            let unreadable = Failure { step: Step::Execute, errno: libc::EINVAL };
            Err(Failure::from_bytes(said).unwrap_or(unreadable))
        }
    }
}

/// What exec wants, made while memory can still be had.
struct Prepared {
    candidates: Vec<CString>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
}

impl Prepared {
    fn of(command: &CommandSpec) -> Prepared {
        let candidates = candidates(&command.program, command.path());
        let arguments = [&command.program].into_iter().chain(&command.arguments);
        let mut environment: Vec<(&OsStr, &OsStr)> = Vec::new();
        for (name, value) in &command.environment {
            environment.retain(|(known, _)| known != name);
            environment.push((name, value));
        }
        let variables = environment.into_iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
        Prepared {
            candidates: candidates.into_iter().map(|path| text(path.into_os_string().into_vec())).collect(),
            arguments: arguments.map(|argument| text(argument.as_bytes().to_vec())).collect(),
            environment: variables.map(text).collect(),
        }
    }
}

fn text(bytes: Vec<u8>) -> CString {
    CString::new(bytes).expect("no zero byte passes `CommandSpec::check`")
}

/// Runs in the child: becomes the program, or says why not.
fn become_it(
    command: &CommandSpec,
    prepared: &Prepared,
    ends: &ChildEnds,
    open_files: Limit,
    keeper: Pid,
) -> Result<Infallible, Failure> {
    at(Step::Group, process::begin_group())?;
    at(Step::Keeper, process::die_with(keeper))?;
    for (end, number) in [(&ends.stdin, 0), (&ends.stdout, 1), (&ends.stderr, 2)] {
        at(Step::Descriptors, process::name_descriptor(end.as_fd(), number))?;
    }
    at(Step::Descriptors, process::close_all_on_execution())?;
    if let Some(directory) = &command.directory {
        at(Step::Directory, std::env::set_current_dir(directory))?;
    }
    if !command.may_gain_privileges {
        at(Step::Privileges, process::renounce_privileges())?;
    }
    let lists = [&prepared.arguments, &prepared.environment].map(|list| {
        let pointers = list.iter().map(|text| text.as_ptr());
        pointers.chain([std::ptr::null()]).collect::<Vec<_>>()
    });
    at(Step::Limits, limits::confine(Resource::Core, 0))?;
    at(
        Step::Limits,
        match command.limits.open_files {
            Some(most) => limits::confine(Resource::Nofile, most),
            None => limits::set_soft(Resource::Nofile, open_files.soft.min(open_files.hard)).map(drop),
        },
    )?;
    // Last of all: signals that would end a process do so from here on, and memory may be short.
    at(Step::Signals, process::reset_signals())?;
    if let Some(most) = command.limits.address_space_bytes {
        at(Step::Limits, limits::confine(Resource::AddressSpace, most))?;
    }
    let [arguments, environment] = lists;
    let mut refused = libc::ENOENT;
    for candidate in &prepared.candidates {
        let error = process::execute(candidate, &arguments, &environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            // There may be another one further on; if not, this is what there is to say.
            Some(libc::EACCES) => refused = libc::EACCES,
            _ => return Err(Failure::new(Step::Execute, &error)),
        }
    }
    Err(Failure { step: Step::Execute, errno: refused })
}

fn at(step: Step, result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| Failure::new(step, &error))
}
