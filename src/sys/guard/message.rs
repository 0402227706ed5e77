//! What corelane, its guard and the keepers say to each other, as bytes.
//!
//! Not here: the socket (`link`). Invariant: what is encoded decodes to itself, and no bytes make decoding panic; both
//! ends are the same program, so bytes that do not decode are a bug.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use super::command::{ChildLimits, CommandSpec};
use super::process::WaitStatus;

/// What is asked of the guard, and of a keeper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request {
    /// Start a child. Only of the guard: a keeper is made for one.
    Spawn { id: u64, command: CommandSpec },
    /// End a child and everything below it: ask it to, and kill after so long what is left.
    Stop { id: u64, grace: Duration },
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It runs. To corelane its pipes come along: its standard input, output and error.
    Started { id: u64, pid: u32 },
    /// It does not; no more will be heard of it.
    Failed { id: u64, failure: Failure },
    /// It has ended, and nothing of it is left; no status if its keeper was killed.
    Ended { id: u64, status: Option<WaitStatus> },
}

/// At what a start failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    pub step: Step,
    /// What the kernel said; 0 if it was not asked.
    pub errno: i32,
}

/// The steps of a start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    Descriptors,
    Directory,
    Execute,
    Fork,
    Group,
    Keeper,
    Limits,
    Privileges,
    /// Pipes and sockets for another child.
    Room,
    Signals,
    TooMany,
}

impl Step {
    const ALL: [Step; 11] = [
        Step::Descriptors,
        Step::Directory,
        Step::Execute,
        Step::Fork,
        Step::Group,
        Step::Keeper,
        Step::Limits,
        Step::Privileges,
        Step::Room,
        Step::Signals,
        Step::TooMany,
    ];

    fn from_code(code: u8) -> Option<Step> {
        Step::ALL.into_iter().find(|step| *step as u8 == code)
    }
}

impl Failure {
    /// That step, refused by the kernel so.
    pub fn new(step: Step, error: &std::io::Error) -> Failure {
        Failure { step, errno: error.raw_os_error().unwrap_or(libc::EINVAL) }
    }

    /// Bytes that are written whole or not at all.
    pub fn to_bytes(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_le_bytes();
        [self.step as u8, a, b, c, d]
    }

    pub fn from_bytes(bytes: [u8; 5]) -> Option<Failure> {
        let [step, errno @ ..] = bytes;
        Some(Failure { step: Step::from_code(step)?, errno: i32::from_le_bytes(errno) })
    }
}

impl Request {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Request::Spawn { id, command } => {
                out.push(1);
                put_u64(&mut out, *id);
                put_text(&mut out, &command.program);
                put_u64(&mut out, command.arguments.len() as u64);
                command.arguments.iter().for_each(|argument| put_text(&mut out, argument));
                put_u64(&mut out, command.environment.len() as u64);
                for (name, value) in &command.environment {
                    put_text(&mut out, name);
                    put_text(&mut out, value);
                }
                put_option(&mut out, command.directory.as_ref(), |out, directory| put_text(out, directory.as_os_str()));
                put_option(&mut out, command.limits.open_files.as_ref(), |out, most| put_u64(out, *most));
                put_option(&mut out, command.limits.address_space_bytes.as_ref(), |out, most| put_u64(out, *most));
                out.push(command.may_gain_privileges.into());
            }
            Request::Stop { id, grace } => {
                out.push(2);
                put_u64(&mut out, *id);
                put_u64(&mut out, u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Request> {
        let mut bytes = Reader(bytes);
        let request = match bytes.u8()? {
            1 => {
                let id = bytes.u64()?;
                let program = bytes.text()?;
                let arguments = (0..bytes.u64()?).map(|_| bytes.text()).collect::<Option<_>>()?;
                let environment =
                    (0..bytes.u64()?).map(|_| Some((bytes.text()?, bytes.text()?))).collect::<Option<_>>()?;
                let directory = bytes.option(Reader::text)?.map(Into::into);
                let open_files = bytes.option(Reader::u64)?;
                let address_space_bytes = bytes.option(Reader::u64)?;
                let limits = ChildLimits { open_files, address_space_bytes };
                let may_gain_privileges = bytes.u8()? == 1;
                let command = CommandSpec { program, arguments, environment, directory, limits, may_gain_privileges };
                Request::Spawn { id, command }
            }
            2 => Request::Stop { id: bytes.u64()?, grace: Duration::from_millis(bytes.u64()?) },
            _ => return None,
        };
        bytes.0.is_empty().then_some(request)
    }
}

impl Answer {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Answer::Started { id, pid } => {
                out.push(1);
                put_u64(&mut out, *id);
                put_u64(&mut out, (*pid).into());
            }
            Answer::Failed { id, failure } => {
                out.push(2);
                put_u64(&mut out, *id);
                out.extend_from_slice(&failure.to_bytes());
            }
            Answer::Ended { id, status } => {
                out.push(3);
                put_u64(&mut out, *id);
                put_option(&mut out, status.as_ref(), |out, status| out.extend_from_slice(&status.to_le_bytes()));
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Option<Answer> {
        let mut bytes = Reader(bytes);
        let answer = match bytes.u8()? {
            1 => Answer::Started { id: bytes.u64()?, pid: bytes.u64()?.try_into().ok()? },
            2 => Answer::Failed { id: bytes.u64()?, failure: Failure::from_bytes(bytes.array()?)? },
            3 => {
                let id = bytes.u64()?;
                let status = bytes.option(|bytes| bytes.array().map(WaitStatus::from_le_bytes))?;
                Answer::Ended { id, status }
            }
            _ => return None,
        };
        bytes.0.is_empty().then_some(answer)
    }
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &OsStr) {
    put_u64(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put_option<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        put(out, value);
    }
}

/// Bytes from the front of which values are taken.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<OsString> {
        let length = self.u64()?.try_into().ok()?;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(OsString::from_vec(text.to_vec()))
    }

    fn option<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        match self.u8()? {
            0 => Some(None),
            1 => Some(Some(take(self)?)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spawn() -> Request {
        let command = CommandSpec {
            program: OsString::from_vec(vec![b'a', 0xff]),
            arguments: vec!["".into(), "two words".into()],
            environment: vec![("KEY".into(), "value".into()), ("EMPTY".into(), "".into())],
            directory: Some("/somewhere".into()),
            limits: ChildLimits { open_files: Some(64), address_space_bytes: None },
            may_gain_privileges: true,
        };
        Request::Spawn { id: 7, command }
    }

    #[test]
    fn what_is_asked_arrives() {
        for request in [spawn(), Request::Stop { id: u64::MAX, grace: Duration::from_millis(1500) }] {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Some(request));
            (0..bytes.len()).for_each(|cut| assert_eq!(Request::decode(&bytes[..cut]), None, "cut at {cut}"));
            assert_eq!(Request::decode(&[&bytes[..], &[0]].concat()), None, "nothing is left over");
        }
    }

    #[test]
    fn what_is_answered_arrives() {
        let failures = Step::ALL.map(|step| Answer::Failed { id: 3, failure: Failure { step, errno: -5 } });
        let answers = [
            Answer::Started { id: 1, pid: 4_000_000 },
            Answer::Ended { id: 2, status: Some(0x0900) },
            Answer::Ended { id: 2, status: None },
        ];
        for answer in answers.into_iter().chain(failures) {
            let bytes = answer.encode();
            assert_eq!(Answer::decode(&bytes), Some(answer));
            (0..bytes.len()).for_each(|cut| assert_eq!(Answer::decode(&bytes[..cut]), None, "cut at {cut}"));
        }
    }

    #[test]
    fn no_bytes_break_it() {
        let bytes = spawn().encode();
        for at in 0..bytes.len() {
            for value in [0, 1, 2, 0x7f, 0xff] {
                let mut broken = bytes.clone();
                broken[at] = value;
                let _ = (Request::decode(&broken), Answer::decode(&broken));
            }
        }
        let endless = [&[1][..], &[0; 8], &[0; 8], &u64::MAX.to_le_bytes()].concat();
        assert_eq!(Request::decode(&endless), None, "a count is no promise");
    }
}
