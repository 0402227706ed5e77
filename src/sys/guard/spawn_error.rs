//! Why a child was not started, said so that an operator knows what to change.
//!
//! Not here: how a child ended that was started. Invariant: no value of an environment is in a text.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::command::CommandSpec;
use super::message::{Failure, Step};

/// Why a child was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// Its directory cannot be entered.
    #[error("{} cannot be started in {}: {source}; create that directory or name another", .program.display(), .directory.display())]
    Directory {
        /// The program.
        program: OsString,
        /// Where it was to start.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The guard has ended, and no other can be forked.
    #[error("the guard process has ended, and only it can start children; restart corelane")]
    GuardGone,
    /// The program is there, what it names as its interpreter or loader is not.
    #[error("{} is there, but not what is to execute it: install the interpreter that its first line names", .program.display())]
    Interpreter {
        /// The program.
        program: OsString,
    },
    /// No kernel could be told that.
    #[error("{text}")]
    Invalid {
        /// What is wrong.
        text: String,
    },
    /// The program may not be executed.
    #[error("{} may not be executed: {source}; `chmod +x` it, and see that its folders may be entered and its file system is not mounted noexec", .program.display())]
    NotAllowed {
        /// The program.
        program: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no such program.
    #[error("command `{}` not found on PATH={}; install it, or give its full path", .program.display(), .path.display())]
    NotFound {
        /// The program.
        program: OsString,
        /// Where it was looked for.
        path: OsString,
    },
    /// There is no such file.
    #[error("there is no file {}; install it, or correct the path", .program.display())]
    NoSuchFile {
        /// The program.
        program: OsString,
    },
    /// It is a file, but no program, and a shell is not asked what it makes of it.
    #[error("{} is no program: {source}; a script needs a first line such as `#!/bin/sh`", .program.display())]
    NotAProgram {
        /// The program.
        program: OsString,
        /// What the kernel said.
        source: io::Error,
    },
    /// The host has no room for another process.
    #[error(
        "there is no room for another process ({source}); raise the limit of processes (TasksMax=, ulimit -u) or of open files (ulimit -Hn)"
    )]
    NoRoom {
        /// What the kernel said.
        source: io::Error,
    },
    /// This process has no descriptors for the child's pipes.
    #[error("the pipes of {} do not fit among this process's open files; raise `ulimit -n`, or LimitNOFILE= in the unit", .program.display())]
    NoDescriptors {
        /// The program.
        program: OsString,
    },
    /// A step before the program failed.
    #[error("{} cannot be started: {step} failed: {source}", .program.display())]
    Step {
        /// The program.
        program: OsString,
        /// Which step.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The command is too long.
    #[error(
        "the command, its arguments and its environment take {bytes} bytes, of at most {most}; put long values into a file"
    )]
    TooLarge {
        /// So many.
        bytes: usize,
        /// So many are allowed.
        most: usize,
    },
    /// There are as many children as there may be.
    #[error("{most} children run already, as many as may")]
    TooMany {
        /// So many.
        most: usize,
    },
}

/// What is remembered of a command, to say what went wrong.
#[derive(Clone, Debug)]
pub(super) struct Named {
    program: OsString,
    path: OsString,
    directory: Option<PathBuf>,
}

impl Named {
    pub fn of(command: &CommandSpec) -> Named {
        let (program, path) = (command.program.clone(), command.path().to_owned());
        Named { program, path, directory: command.directory.clone() }
    }

    pub fn no_descriptors(self) -> SpawnError {
        SpawnError::NoDescriptors { program: self.program }
    }

    /// Says what a failure means.
    pub fn explained(self, failure: Failure) -> SpawnError {
        let source = io::Error::from_raw_os_error(failure.errno);
        let step = match failure.step {
            Step::TooMany => return SpawnError::TooMany { most: crate::limits::CHILDREN_MAX },
            Step::Directory => {
                let directory = self.directory.unwrap_or_default();
                return SpawnError::Directory { program: self.program, directory, source };
            }
            Step::Execute => return self.not_executed(source),
            Step::Room | Step::Fork => return SpawnError::NoRoom { source },
            Step::Descriptors => "handing over its pipes",
            Step::Group => "giving it a process group",
            Step::Keeper => "setting up its keeper",
            Step::Limits => "setting its limits",
            Step::Privileges => "taking its privileges",
            Step::Signals => "resetting its signals",
        };
        SpawnError::Step { program: self.program, step, source }
    }

    fn not_executed(self, source: io::Error) -> SpawnError {
        let program = self.program.clone();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if self.is_there() => SpawnError::Interpreter { program },
            Some(libc::ENOENT | libc::ENOTDIR) if is_path(&program) => SpawnError::NoSuchFile { program },
            Some(libc::ENOENT | libc::ENOTDIR) => SpawnError::NotFound { program, path: self.path },
            Some(libc::EACCES | libc::EPERM) => SpawnError::NotAllowed { program, source },
            Some(libc::ENOEXEC) => SpawnError::NotAProgram { program, source },
            Some(libc::EAGAIN | libc::ENOMEM | libc::ENFILE) => SpawnError::NoRoom { source },
            _ => SpawnError::Step { program, step: "executing it", source },
        }
    }

    /// Whether there is such a file after all.
    fn is_there(&self) -> bool {
        let directory = self.directory.as_deref().unwrap_or(Path::new(""));
        candidates(&self.program, &self.path).iter().any(|candidate| directory.join(candidate).exists())
    }
}

fn is_path(program: &OsStr) -> bool {
    program.as_bytes().contains(&b'/')
}

/// What a program may mean, in order: itself if it is a path, else a file of that name in each folder of PATH. An empty
/// folder, which means wherever one happens to be, is left out.
pub(super) fn candidates(program: &OsStr, path: &OsStr) -> Vec<PathBuf> {
    if is_path(program) {
        return vec![program.into()];
    }
    std::env::split_paths(path)
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(program))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &str, step: Step, errno: i32) -> String {
        let mut command = CommandSpec::new(program);
        command.environment = vec![("PATH".into(), "/nowhere:/bin".into()), ("KEY".into(), "s3cret".into())];
        command.directory = Some("/nowhere/at/all".into());
        Named::of(&command).explained(Failure { step, errno }).to_string()
    }

    #[test]
    fn errors_say_what_to_change() {
        let cases = [
            (said("no-such-command", Step::Execute, libc::ENOENT), "`no-such-command` not found on PATH=/nowhere:/bin"),
            (said("sh", Step::Execute, libc::ENOENT), "its first line"),
            (said("/no/such/file", Step::Execute, libc::ENOENT), "there is no file /no/such/file"),
            (said("/etc/passwd", Step::Execute, libc::EACCES), "chmod +x"),
            (said("/etc/passwd", Step::Execute, libc::ENOEXEC), "#!/bin/sh"),
            (said("cat", Step::Directory, libc::ENOENT), "/nowhere/at/all"),
            (said("cat", Step::Fork, libc::EAGAIN), "limit of processes"),
            (said("cat", Step::TooMany, 0), "1024 children"),
            (said("cat", Step::Limits, libc::EPERM), "setting its limits failed"),
        ];
        for (said, part) in cases {
            assert!(said.contains(part) && !said.contains("s3cret"), "{said:?} has no {part:?}");
        }
    }

    #[test]
    fn a_name_is_looked_for_on_its_path_and_a_path_is_not() {
        let found = |program: &str, path: &str| candidates(OsStr::new(program), OsStr::new(path));
        assert_eq!(found("cat", "/a::/b:"), [PathBuf::from("/a/cat"), PathBuf::from("/b/cat")]);
        assert_eq!(found("./cat", "/a"), [PathBuf::from("./cat")]);
    }
}
