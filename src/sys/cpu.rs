//! CPUs as the operating system numbers them, sets of them, and the list syntax (`0-3,8`) in which they are written.
//!
//! Not here: cores (`ids::CoreId`, our executors) and what a CPU shares with its neighbours (`boot::topology`).
//! Invariant: every CPU number is at most [`CPU_MAX`], so a set of CPUs always fits an affinity mask.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Largest CPU number a Linux kernel can be built for.
pub const CPU_MAX: u16 = 8191;
/// Most entries accepted in one list, repetitions included.
pub const LIST_ENTRIES_MAX: usize = CPU_MAX as usize + 1;

/// A CPU by the number the operating system gives it. Not a core: several cores may share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Cpu(u16);

impl Cpu {
    /// The CPU of that number, if there can be one.
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().filter(|number| *number <= CPU_MAX).map(Self)
    }

    /// The number.
    pub fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a list of CPUs cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CpuListError {
    /// A part is neither a number nor a range.
    #[error("{part:?} is neither a CPU number nor a range; write a list such as 0-3,8,10-11")]
    Part {
        /// The part between two commas.
        part: String,
    },
    /// A range ends before it starts.
    #[error("the range {part} runs backwards; write the smaller CPU first")]
    Backwards {
        /// The range.
        part: String,
    },
    /// A CPU number no kernel has.
    #[error("there is no CPU {number}: the largest number a kernel can have is {CPU_MAX}")]
    Number {
        /// The number.
        number: u64,
    },
    /// More entries than there can be CPUs.
    #[error("the list names more than {LIST_ENTRIES_MAX} CPUs; name each at most a few times")]
    TooLong,
}

/// Reads a list such as `0-3,8,10-11`. Order and repetition are kept: `0,0,1,1` has four entries. Nothing is an empty
/// list.
///
/// # Errors
/// When a part is not a number or an ascending range, or the list is absurdly long.
pub fn parse_cpu_list(text: &str) -> Result<Vec<Cpu>, CpuListError> {
    let mut cpus = Vec::new();
    for part in text.split(',').map(str::trim) {
        if part.is_empty() && text.trim().is_empty() {
            break;
        }
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (parse_cpu(first, part)?, parse_cpu(last, part)?);
        if first > last {
            return Err(CpuListError::Backwards { part: part.into() });
        }
        if cpus.len() + usize::from(last.0 - first.0) >= LIST_ENTRIES_MAX {
            return Err(CpuListError::TooLong);
        }
        cpus.extend((first.0..=last.0).map(Cpu));
    }
    Ok(cpus)
}

fn parse_cpu(digits: &str, part: &str) -> Result<Cpu, CpuListError> {
    // `u64::from_str` would accept a sign.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(CpuListError::Part { part: part.into() });
    }
    let number: u64 = digits.parse().map_err(|_| CpuListError::Number { number: u64::MAX })?;
    u32::try_from(number).ok().and_then(Cpu::new).ok_or(CpuListError::Number { number })
}

/// A set of CPUs, in ascending order.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct CpuSet(BTreeSet<Cpu>);

impl CpuSet {
    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: Cpu) -> bool {
        self.0.contains(&cpu)
    }

    /// How many CPUs there are in the set.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPUs, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Cpu> + '_ {
        self.0.iter().copied()
    }

    /// Adds a CPU; false if it was there.
    pub fn insert(&mut self, cpu: Cpu) -> bool {
        self.0.insert(cpu)
    }
}

impl FromIterator<Cpu> for CpuSet {
    fn from_iter<I: IntoIterator<Item = Cpu>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, CpuListError> {
        parse_cpu_list(text).map(Self::from_iter)
    }
}

/// As the kernel writes it: runs joined by a dash, the rest by commas; `-` for the empty set.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for cpu in self.iter() {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == cpu.0 => *last = cpu.0,
                _ => runs.push((cpu.0, cpu.0)),
            }
        }
        let run = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
        let text = runs.into_iter().map(run).collect::<Vec<_>>().join(",");
        f.pad(if text.is_empty() { "-" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(text: &str) -> Result<Vec<u16>, CpuListError> {
        parse_cpu_list(text).map(|cpus| cpus.into_iter().map(Cpu::number).collect())
    }

    #[test]
    fn lists_keep_order_and_repetition() {
        assert_eq!(numbers("0-3,8,10-11"), Ok(vec![0, 1, 2, 3, 8, 10, 11]));
        assert_eq!(numbers("0,0,1,1"), Ok(vec![0, 0, 1, 1]));
        assert_eq!(numbers(" 3 , 1-1\n"), Ok(vec![3, 1]));
        assert_eq!(numbers("\n"), Ok(vec![]));
        assert_eq!(numbers("8191"), Ok(vec![8191]));
    }

    #[test]
    fn what_is_no_list_is_refused_with_advice() {
        for text in ["a", "1,", ",1", "1,,2", "-", "-1", "1-", "+1", "0x1", "1-2-3", "1 2"] {
            let error = numbers(text).expect_err(text);
            assert!(matches!(error, CpuListError::Part { .. }), "{text}: {error}");
            assert!(error.to_string().contains("0-3,8,10-11"));
        }
        assert_eq!(numbers("3-1"), Err(CpuListError::Backwards { part: "3-1".into() }));
        assert_eq!(numbers("8192"), Err(CpuListError::Number { number: 8192 }));
        assert!(matches!(numbers("99999999999999999999999"), Err(CpuListError::Number { .. })));
        assert_eq!(numbers("0-8191,0"), Err(CpuListError::TooLong));
    }

    #[test]
    fn sets_are_written_as_the_kernel_writes_them() {
        for (read, written) in [("", "-"), ("1,0", "0-1"), ("0-3,8,10-11,3", "0-3,8,10-11"), ("7", "7")] {
            let set: CpuSet = read.parse().expect("valid");
            assert_eq!(set.to_string(), written);
        }
        assert_eq!(format!("{:>4}|", "0-1".parse::<CpuSet>().expect("valid")), " 0-1|");
    }
}
