//! Samples of one thread out of those of many: from what `perf script` printed to folded stacks.
//!
//! A stack is folded to one line, `thread;outermost;...;innermost count`, in which a function of the kernel ends with
//! `_[k]`, and one that was inlined with `_[i]`. Not here: what functions mean (`breakdown`), what was inlined
//! (`inlined`).
//!
//! Invariant: as many samples come out as the text has of that thread; one whose thread cannot be told is an error,
//! and so is one that the folding would drop.

use std::{fmt, str::FromStr};

use inferno::collapse::{
    Collapse,
    perf::{Folder, Options},
};

use super::inlined::Program;
use crate::Failure;

/// How a function of the kernel ends.
pub const KERNEL: &str = "_[k]";
/// How a function that was inlined ends.
pub const INLINED: &str = "_[i]";
/// Before a thread's name while it is folded.
const MARK: char = '>';

/// Stacks and how many samples each has, in the order of their text.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Folded(Vec<(String, u64)>);

impl Folded {
    /// Each stack with its samples.
    pub fn stacks(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(stack, count)| (stack.as_str(), *count))
    }

    /// All samples.
    pub fn samples(&self) -> u64 {
        self.stacks().map(|(_, count)| count).sum()
    }

    /// Samples that fell into the kernel.
    pub fn kernel_samples(&self) -> u64 {
        self.stacks().filter(|(stack, _)| stack.ends_with(KERNEL)).map(|(_, count)| count).sum()
    }
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.stacks().try_for_each(|(stack, count)| writeln!(f, "{stack} {count}"))
    }
}

impl FromStr for Folded {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut stacks = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let stack = line.rsplit_once(' ').and_then(|(stack, count)| Some((stack.to_owned(), count.parse().ok()?)));
            stacks.push(stack.ok_or_else(|| format!("line {} is no stack and its samples: {line}", at + 1))?);
        }
        stacks.sort_unstable();
        Ok(Self(stacks))
    }
}

/// The thread that a sample's first line names, as `comm pid/tid time: event:`. A thread may be called anything, and
/// be it `7/7 1.0: x`: so what counts is the last place that has this form.
fn thread_of(header: &str) -> Option<(&str, u32)> {
    let is_time = |word: &str| {
        let parts = word.strip_suffix(':').and_then(|time| time.split_once('.'));
        parts.is_some_and(|(s, ns)| {
            [s, ns].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        })
    };
    let thread = |word: &str| {
        let (process, thread) = word.split_once('/')?;
        process.parse::<u32>().ok()?;
        thread.parse().ok()
    };
    let mut found = None;
    let words: Vec<&str> = header.split_ascii_whitespace().collect();
    for pair in words.windows(2) {
        let [ids, time] = pair else { continue };
        if let Some(id) = thread(ids).filter(|_| is_time(time)) {
            let name = &header[..ids.as_ptr().addr() - header.as_ptr().addr()];
            found = Some((name.trim(), id));
        }
    }
    found
}

/// A line of a stack as the folding reads it, below what was inlined there; nothing for the end that `perf` sets below
/// the outermost function.
fn frame(own: &mut String, line: &str, is_innermost: bool, program: Option<&Program>) {
    let line = line.trim_start();
    if line.starts_with("ffffffffffffffff [unknown]") {
        return;
    }
    // The vDSO is the kernel's text but runs as the program's; a program that was replaced is the one that ran.
    let line = line.replace("([vdso])", "(vdso)").replace(" (deleted))", ")");
    let object = line.rsplit_once(" (").map(|(_, object)| object.trim_end_matches(')'));
    if let Some(program) = program.filter(|program| object.is_some_and(|object| program.is(object)))
        && let Some(offset) = line.split(' ').next().and_then(|text| u64::from_str_radix(text, 16).ok())
    {
        // Further out a frame says where it goes on, which may be behind what was inlined.
        for function in program.at(if is_innermost { offset } else { offset.saturating_sub(1) }) {
            own.push_str(&format!("0 {function}{INLINED} (inlined)\n"));
        }
    }
    own.push_str(&line);
    own.push('\n');
}

/// Folds the samples of the thread `id`; none is no error. What was inlined is known of one program.
pub fn of_thread(script: &str, id: u32, program: Option<&Program>) -> Result<Folded, Failure> {
    let (mut own, mut count) = (String::new(), 0);
    let mut lines = script.lines().enumerate().filter(|(_, line)| !line.starts_with('#'));
    while let Some((at, header)) = lines.next() {
        if header.trim().is_empty() {
            continue;
        }
        let named = thread_of(header).ok_or_else(|| format!("line {} names no thread: {header}", at + 1))?;
        let stack = lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim().is_empty());
        let stack: Vec<&str> = stack.collect();
        if named.1 != id {
            continue;
        }
        count += 1;
        // The folding looks for the ids from the left, where a name of digits would be taken for one.
        let name: String = named.0.chars().map(|c| if c == ';' || c == ' ' { '_' } else { c }).collect();
        own.push_str(&format!("{MARK}{name} {id}/{id} 1.000000: sample:\n"));
        let header_bytes = own.len();
        for (at, line) in stack.into_iter().enumerate() {
            frame(&mut own, line, at == 0, program);
        }
        if own.len() == header_bytes {
            own.push_str("0 [unknown] ([unknown])\n");
        }
        own.push('\n');
    }
    if count == 0 {
        return Ok(Folded::default());
    }
    let mut options = Options::default();
    options.annotate_kernel = true;
    let mut folded = Vec::new();
    Folder::from(options).collapse(own.as_bytes(), &mut folded)?;
    let folded: String = String::from_utf8(folded)?.lines().map(|line| line.replacen(MARK, "", 1) + "\n").collect();
    let folded: Folded = folded.parse()?;
    if folded.samples() != count {
        return Err(format!("thread {id} has {count} samples, and {} after folding", folded.samples()).into());
    }
    Ok(folded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded of two cores under load, shortened; one thread was given a name that looks like another's sample, and
    /// one sample its stack taken.
    const SCRIPT: &str = include_str!("two_threads.txt");

    #[test]
    fn a_header_names_its_thread_whatever_the_thread_is_called() {
        assert_eq!(thread_of("corelane-0  52/53  1.250000: cpu-clock: "), Some(("corelane-0", 53)));
        assert_eq!(thread_of("7/8 1.0: x 52/53 1.250000: cpu-clock:"), Some(("7/8 1.0: x", 53)));
        assert_eq!(thread_of("a b 52/53 [001] 1.250000: cpu-clock:"), None, "another form than was asked for");
        assert_eq!(thread_of("corelane-0 53 1.250000: cpu-clock:"), None);
        assert_eq!(thread_of("\t ffffffff8103ce3b native_safe_halt ([kernel.kallsyms])"), None);
    }

    /// What is expected was folded by another program; 5202 is the process of both, and no thread that was sampled.
    #[test]
    fn a_thread_has_its_own_samples_and_nobody_elses() {
        let folded = |id| of_thread(SCRIPT, id, None).expect("it is what perf printed").to_string();
        assert_eq!(folded(5208), include_str!("thread_5208.folded"));
        assert_eq!(folded(5209), include_str!("thread_5209.folded"));
        for (id, count) in [(5208, 5), (5209, 5), (5202, 0)] {
            assert_eq!(of_thread(SCRIPT, id, None).expect("it is what perf printed").samples(), count, "{id}");
        }
    }

    #[test]
    fn a_sample_that_cannot_be_told_or_folded_is_an_error() {
        let why = |text: &str| of_thread(text, 53, None).expect_err("it must not pass").to_string();
        assert!(why("\t4711 main (program)\n").contains("line 1 names no thread"));
        let skipped = "corelane-0 52/53 1.25: cpu-clock:\n\t4711 (program) (program)\n";
        assert!(why(skipped).contains("has 1 samples, and 0 after folding"), "{}", why(skipped));
    }

    #[test]
    fn a_thread_may_be_called_anything() {
        for name in ["1234", "1/2", "a;b", ">", "x: y"] {
            let text = format!("{name} 52/53 1.25: cpu-clock:\n\t4711 main (program)\n");
            let folded = of_thread(&text, 53, None).expect("one sample").to_string();
            assert_eq!(folded, format!("{};main 1\n", name.replace([';', ' '], "_")));
        }
    }

    #[test]
    fn folded_stacks_are_read_as_they_were_written() {
        let folded: Folded = "b;c 2\na;x y_[k] 3\n".parse().expect("two stacks");
        assert_eq!(folded.to_string(), "a;x y_[k] 3\nb;c 2\n");
        assert_eq!((folded.samples(), folded.kernel_samples()), (5, 3));
        assert!("a;b".parse::<Folded>().is_err() && "a;b c".parse::<Folded>().is_err());
    }
}
