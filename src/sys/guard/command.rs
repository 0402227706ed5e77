//! What a child is started with: the program, its arguments, its whole environment, its limits.
//!
//! Not here: where that is configured. Invariant: nothing of this process's environment reaches a child but the names
//! in [`INHERITED`] and what its command says; no shell reads any of it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::spawn_error::SpawnError;
use crate::limits::CHILD_COMMAND_BYTES_MAX;

/// What a child gets of our environment without being given it: what the SDKs of the protocol hand to their servers,
/// and what decides on text and time. Without `TERM`, because nobody's terminal is there.
pub const INHERITED: [&str; 9] = ["HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER"];
/// Where programs are looked for if the environment has no PATH.
pub(super) const PATH_DEFAULT: &str = "/usr/local/bin:/usr/bin:/bin";

/// A command to be executed, without a shell.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandSpec {
    /// The program: a path if there is a slash in it, else a name that is looked for on the PATH of its environment.
    pub program: OsString,
    /// Its arguments, without the program's name.
    pub arguments: Vec<OsString>,
    /// Its environment, all of it: see [`clean_environment`]. A later value of a name counts.
    pub environment: Vec<(OsString, OsString)>,
    /// Where it starts; none is where this process was when its guard was forked.
    pub directory: Option<PathBuf>,
    /// What it may use.
    pub limits: ChildLimits,
    /// Whether a set-user-id program such as sudo works for it. What such a program becomes cannot be killed by us, so
    /// the promise that nothing is left over does not hold for it.
    pub may_gain_privileges: bool,
}

/// What a child may use, for each of its processes. Core dumps are always off: they would hold its secrets.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ChildLimits {
    /// Open files; none leaves what this process was started with.
    pub open_files: Option<u64>,
    /// Bytes of address space, mapped but unused ones included; none leaves what this process was started with.
    pub address_space_bytes: Option<u64>,
}

impl CommandSpec {
    /// This program, without arguments, with what is inherited of our environment.
    pub fn new(program: impl Into<OsString>) -> CommandSpec {
        CommandSpec {
            program: program.into(),
            arguments: Vec::new(),
            environment: clean_environment([]),
            directory: None,
            limits: ChildLimits::default(),
            may_gain_privileges: false,
        }
    }

    /// The PATH on which the program is looked for.
    pub(super) fn path(&self) -> &OsStr {
        let path = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        path.map_or(OsStr::new(PATH_DEFAULT), |(_, value)| value)
    }

    /// Whether it can be said to the kernel at all, and to the guard in one message.
    pub(super) fn check(&self) -> Result<(), SpawnError> {
        let invalid = |text: String| Err(SpawnError::Invalid { text });
        if self.program.is_empty() {
            return invalid("the command is empty".to_owned());
        }
        if has_zero(&self.program) {
            return invalid(format!("the command {:?}", self.program) + ZERO);
        }
        if let Some(argument) = self.arguments.iter().find(|argument| has_zero(argument)) {
            return invalid(format!("the argument {argument:?}") + ZERO);
        }
        if let Some(directory) = self.directory.as_ref().filter(|directory| has_zero(directory.as_os_str())) {
            return invalid(format!("the directory {directory:?}") + ZERO);
        }
        for (name, value) in &self.environment {
            if name.is_empty() || name.as_bytes().contains(&b'=') || has_zero(name) {
                return invalid(format!("{name:?} is no name of a variable: it is empty or holds `=` or a zero byte"));
            }
            // Not the value: it may be a secret.
            if has_zero(value) {
                return invalid(format!("the variable {name:?}") + ZERO);
            }
        }
        let bytes = self.bytes();
        if bytes > CHILD_COMMAND_BYTES_MAX {
            return Err(SpawnError::TooLarge { bytes, most: CHILD_COMMAND_BYTES_MAX });
        }
        Ok(())
    }

    /// Its size, with what each part takes beside its text.
    fn bytes(&self) -> usize {
        let texts = [self.program.as_os_str()].into_iter().chain(self.arguments.iter().map(OsString::as_os_str));
        let texts = texts.chain(self.directory.iter().map(|directory| directory.as_os_str()));
        let texts =
            texts.chain(self.environment.iter().flat_map(|(name, value)| [name.as_os_str(), value.as_os_str()]));
        texts.map(|text| text.len() + size_of::<u64>()).sum()
    }
}

/// What an argument or a value may not have.
const ZERO: &str = " holds a zero byte, which no program can be given";

fn has_zero(text: &OsStr) -> bool {
    text.as_bytes().contains(&0)
}

/// Says which variables there are, not what they hold: they are where secrets are.
impl fmt::Debug for CommandSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&OsString> = self.environment.iter().map(|(name, _)| name).collect();
        f.debug_struct("CommandSpec")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .field("environment", &names)
            .field("directory", &self.directory)
            .field("limits", &self.limits)
            .field("may_gain_privileges", &self.may_gain_privileges)
            .finish()
    }
}

/// An environment of what is [`INHERITED`] of ours and what is given, which wins.
pub fn clean_environment(given: impl IntoIterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    merged(|name| std::env::var_os(name), given)
}

fn merged(
    ours: impl Fn(&str) -> Option<OsString>,
    given: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    let inherited = INHERITED.iter().filter_map(|name| Some((OsString::from(name), ours(name)?)));
    // A value that begins so is a function of some shell's, and another shell would execute it.
    let inherited = inherited.filter(|(_, value)| !value.as_bytes().starts_with(b"()"));
    let mut environment: Vec<(OsString, OsString)> = inherited.collect();
    for (name, value) in given {
        environment.retain(|(known, _)| *known != name);
        environment.push((name, value));
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: &str) -> (OsString, OsString) {
        (name.into(), value.into())
    }

    #[test]
    fn an_environment_has_what_is_inherited_and_what_is_given() {
        let ours = |name: &str| match name {
            "HOME" => Some("/h".into()),
            "PATH" => Some("/b".into()),
            "SHELL" => Some("() { :; }; evil".into()),
            "LANG" => None,
            _ => std::env::var_os("NOT_SET_ANYWHERE"),
        };
        let given = [pair("KEY", "1"), pair("PATH", "/c"), pair("KEY", "2")];
        assert_eq!(merged(ours, given), [pair("HOME", "/h"), pair("PATH", "/c"), pair("KEY", "2")]);
        for (name, _) in clean_environment([]) {
            assert!(INHERITED.iter().any(|inherited| name == *inherited), "{name:?}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_refused_with_advice() {
        let refused = |change: fn(&mut CommandSpec)| {
            let mut command = CommandSpec::new("cat");
            change(&mut command);
            command.check().expect_err("cannot be said").to_string()
        };
        assert!(refused(|command| command.program = "".into()).contains("empty"));
        assert!(refused(|command| command.program = "a\0".into()).contains("zero byte"));
        assert!(refused(|command| command.arguments = vec!["a\0".into()]).contains("argument"));
        assert!(refused(|command| command.directory = Some("a\0".into())).contains("directory"));
        assert!(refused(|command| command.environment = vec![pair("A=B", "")]).contains("A=B"));
        assert!(refused(|command| command.environment = vec![pair("", "")]).contains("no name"));
        let secret = refused(|command| command.environment = vec![pair("KEY", "s3cret\0")]);
        assert!(secret.contains("KEY") && !secret.contains("s3cret"), "{secret}");
        let large = refused(|command| command.arguments = vec!["x".repeat(CHILD_COMMAND_BYTES_MAX).into()]);
        assert!(large.contains("65536"), "{large}");
        assert!(CommandSpec::new("cat").check().is_ok());
    }

    #[test]
    fn values_are_not_shown() {
        let mut command = CommandSpec::new("cat");
        command.environment = vec![pair("KEY", "s3cret")];
        let shown = format!("{command:?}");
        assert!(shown.contains("KEY") && !shown.contains("s3cret"), "{shown}");
    }
}
