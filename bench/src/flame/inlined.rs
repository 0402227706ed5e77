//! Functions that the compiler put into others: at a place of the program they have no frame, and are found by its
//! debug information, which in a release has line tables and what was inlined.
//!
//! A name there has no module; the file that it stands in does. What of the standard library was inlined, and closures,
//! are left with their caller. Not here: what a stack is (`samples`).
//!
//! Invariant: a place of which nothing is known gives nothing; no function is made up.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use addr2line::Loader;

use crate::Failure;

/// A program, with what its debug information says.
pub struct Program {
    /// As the last part of a path: where it was when it ran is no matter.
    file_name: String,
    loader: Loader,
    segments: Vec<Segment>,
    known: RefCell<HashMap<u64, Vec<String>>>,
}

/// A part of the file, and at which address it is loaded.
struct Segment {
    offset: u64,
    bytes: u64,
    address: u64,
}

impl Program {
    /// Reads a program of 64 bits.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file_name = path.file_name().ok_or_else(|| format!("{}: no file", path.display()))?;
        let segments = segments(&fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
        Ok(Self {
            file_name: file_name.to_string_lossy().into_owned(),
            loader: Loader::new(path).map_err(|error| format!("{}: {error}", path.display()))?,
            segments: segments.ok_or_else(|| format!("{}: no ELF file of 64 bits", path.display()))?,
            known: RefCell::default(),
        })
    }

    /// Whether `perf` means this program by a path.
    pub fn is(&self, path: &str) -> bool {
        Path::new(path).file_name().is_some_and(|name| name.to_string_lossy() == self.file_name)
    }

    /// What was inlined at an offset into the file, innermost first, without the function that has the frame.
    pub fn at(&self, offset: u64) -> Vec<String> {
        if let Some(known) = self.known.borrow().get(&offset) {
            return known.clone();
        }
        let found = self.look_up(offset).unwrap_or_default();
        self.known.borrow_mut().insert(offset, found.clone());
        found
    }

    fn look_up(&self, offset: u64) -> Option<Vec<String>> {
        let holds = |segment: &&Segment| (segment.offset..segment.offset + segment.bytes).contains(&offset);
        let segment = self.segments.iter().find(holds)?;
        let mut frames = self.loader.find_frames(offset - segment.offset + segment.address).ok()?;
        let mut functions = Vec::new();
        while let Some(frame) = frames.next().ok()? {
            let name = frame.function.as_ref().and_then(|function| Some(function.raw_name().ok()?.into_owned()));
            let file = frame.location.and_then(|location| location.file.map(PathBuf::from));
            functions.push(name.zip(file));
        }
        // The outermost is the one that has the frame.
        functions.pop()?;
        Some(functions.into_iter().flatten().filter_map(|(name, file)| path_of(&name, &file)).collect())
    }
}

/// The path of a function by its name and the file that it stands in; none for the standard library, nor for closures,
/// which have no name.
fn path_of(name: &str, file: &Path) -> Option<String> {
    let file = file.to_str()?;
    if file.starts_with("/rustc/") || file.contains("/library/") || name.starts_with('{') {
        return None;
    }
    let (folder, inside) = file.rsplit_once("/src/").or(file.strip_prefix("src/").map(|inside| ("", inside)))?;
    let folder = folder.rsplit('/').next()?;
    // Other people's crates are kept as NAME-VERSION, wherever that is.
    let version = folder.match_indices('-').find(|(at, _)| folder[at + 1..].starts_with(|c: char| c.is_ascii_digit()));
    let of_crate = match version {
        Some((at, _)) => &folder[..at],
        None if folder == "bench" => "corelane_bench",
        None => "corelane",
    };
    let mut path = of_crate.replace('-', "_");
    let modules = inside.trim_end_matches(".rs").split('/').filter(|module| !["mod", "lib", "main"].contains(module));
    for module in modules {
        path += "::";
        path += module;
    }
    // `f<T>` is `f`.
    let bare = name.find('<').filter(|at| *at > 0).map_or(name, |at| &name[..at]);
    Some(path + "::" + bare)
}

/// The segments that are loaded (PT_LOAD), from the ELF header.
fn segments(file: &[u8]) -> Option<Vec<Segment>> {
    const LOAD: u32 = 1;
    const CLASS_64_LITTLE: [u8; 2] = [2, 1];
    let word = |at: usize| Some(u64::from_le_bytes(file.get(at..at + 8)?.try_into().ok()?));
    let short = |at: usize| Some(usize::from(u16::from_le_bytes(file.get(at..at + 2)?.try_into().ok()?)));
    if !file.starts_with(b"\x7fELF") || file.get(4..6)? != CLASS_64_LITTLE {
        return None;
    }
    let (table, entry_bytes, entries) = (usize::try_from(word(32)?).ok()?, short(54)?, short(56)?);
    let mut segments = Vec::new();
    for at in (0..entries).map(|index| table + index * entry_bytes) {
        if u32::from_le_bytes(file.get(at..at + 4)?.try_into().ok()?) == LOAD {
            segments.push(Segment { offset: word(at + 8)?, address: word(at + 16)?, bytes: word(at + 32)? });
        }
    }
    Some(segments)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far into a function is looked, in bytes.
    const REACH: u64 = 96;

    #[inline(always)]
    fn put_into_another(x: u64) -> u64 {
        std::hint::black_box(x) * 3
    }

    #[inline(never)]
    fn that_has_a_frame(x: u64) -> u64 {
        put_into_another(x) + 1
    }

    /// The offset into this file of a function of it.
    fn offset_of(function: fn(u64) -> u64) -> u64 {
        let address = function as usize as u64;
        let maps = fs::read_to_string("/proc/self/maps").expect("maps");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("a number");
        maps.lines()
            .find_map(|line| {
                let words: Vec<&str> = line.split_ascii_whitespace().collect();
                let (start, end) = words[0].split_once('-').expect("a range");
                let inside = (number(start)..number(end)).contains(&address);
                inside.then(|| address - number(start) + number(words[2]))
            })
            .expect("it is mapped")
    }

    #[test]
    fn what_was_inlined_is_found_in_this_very_program() {
        let path = std::env::current_exe().expect("a program");
        let program = Program::open(&path).expect("it has debug information");
        assert!(program.is("/elsewhere/x") == (program.file_name == "x") && program.is(path.to_str().expect("plain")));
        assert_eq!(that_has_a_frame(1), 4);
        let start = offset_of(that_has_a_frame);
        let found: Vec<_> = (start..start + REACH).map(|offset| program.at(offset)).collect();
        assert!(found[0].is_empty(), "it begins with its own code: {:?}", found[0]);
        let wanted = "corelane_bench::flame::inlined::put_into_another";
        assert!(found.iter().any(|functions| functions == &[wanted]), "{found:?}");
        assert!(found.iter().flatten().all(|function| !function.contains("black_box")), "the standard library's");
        assert!(program.at(u64::MAX).is_empty(), "no place of it");

        // In a stack it stands above the function it was put into; further out, where that function goes on behind it.
        let at = |offset: u64| found[usize::try_from(offset - start).expect("near")] == [wanted];
        let inside = (start..start + REACH).find(|offset| at(*offset)).expect("it was found above");
        let behind = (inside..start + REACH).find(|offset| !at(*offset)).expect("it goes on");
        let text = |stack: &str| format!("c 1/2 1.0: cpu-clock:\n{stack}\n");
        let line = |offset: u64| format!("\t{offset:x} outer ({})\n", path.display());
        let folded = |stack: &str| super::super::samples::of_thread(&text(stack), 2, Some(&program)).expect("a sample");
        assert_eq!(folded(&line(inside)).to_string(), format!("c;outer;{wanted}_[i] 1\n"));
        assert_eq!(folded(&line(behind)).to_string(), "c;outer 1\n");
        let called = format!("\t1 inner (libc.so.6)\n{}", line(behind));
        assert_eq!(folded(&called).to_string(), format!("c;outer;{wanted}_[i];inner 1\n"));
    }

    #[test]
    fn a_file_says_which_module() {
        let path = |name, file| path_of(name, Path::new(file));
        let at = |path: &str| Some(path.to_owned());
        assert_eq!(path("admit<a::B<C>>", "/build/src/server/modern.rs"), at("corelane::server::modern::admit"));
        assert_eq!(path("scan", "src/proto/json/mod.rs"), at("corelane::proto::json::scan"));
        assert_eq!(path("serve", "/build/bench/src/floor.rs"), at("corelane_bench::floor::serve"));
        assert_eq!(path("{closure#0}<T>", "/build/bench/src/floor.rs"), None);
        assert_eq!(path("find<T>", "/rust/deps/hashbrown-0.16.1/src/raw/mod.rs"), at("hashbrown::raw::find"));
        let registry = "/cargo/registry/src/index-1a2b/glommio-ng-0.12.0/src/task/raw.rs";
        assert_eq!(path("run", registry), at("glommio_ng::task::raw::run"));
        assert_eq!(path("eq<u8, u8>", "/rustc/8a/library/core/src/slice/cmp.rs"), None);
        assert_eq!(path("x", "/build/generated.rs"), None);
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        assert!(Program::open(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))).is_err());
        assert!(segments(b"\x7fELF\x02\x01").is_none() && segments(b"").is_none());
    }
}
