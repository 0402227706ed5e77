//! The files of the project: everything under its root that no .gitignore leaves out.
//!
//! Not here: git itself, which need not be installed and may distrust the folder.
//! Invariant: a file that would be committed is listed, whatever its form.

use std::fs;
use std::path::{Path, PathBuf};

use super::source::Source;

/// A file, with its text if it has one.
pub struct File {
    /// Its path from the root of the project, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
    /// Its text, if it is UTF-8 and not larger than anything we would read.
    pub text: Option<String>,
}

/// All files.
pub struct Tree {
    root: PathBuf,
    files: Vec<File>,
}

/// Files larger than this are not read; they are too large anyhow.
const READ_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Folders at the root of a file system that exist everywhere, so that a path in one of them says little.
const COMMON_ROOTS: [&str; 6] = ["/opt", "/srv", "/tmp", "/usr", "/var", "/mnt"];

impl File {
    /// A file that need not exist.
    pub fn new(path: &str, text: &str) -> File {
        File { path: path.to_owned(), bytes: text.len() as u64, text: Some(text.to_owned()) }
    }

    /// Whether its name ends so.
    pub fn is(&self, extension: &str) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, end)| end == extension)
    }
}

impl Tree {
    /// Reads the project that this test belongs to.
    pub fn of_this_project() -> Tree {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        let mut ignored = Vec::new();
        walk(&root, "", &mut ignored, &mut files);
        assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the project's root was found");
        Tree { root, files }
    }

    /// Every file.
    pub fn files(&self) -> &[File] {
        &self.files
    }

    /// Every Rust source but those that are tests only.
    pub fn rust(&self) -> Vec<Source> {
        let read = |file: &File| file.text.as_ref().map(|text| Source::new(&file.path, text));
        let sources: Vec<_> = self.files.iter().filter(|file| file.is("rs")).filter_map(read).collect();
        let tests: Vec<String> = sources.iter().flat_map(tests_of).collect();
        let is_test = |path: &str| {
            path.ends_with("_tests.rs")
                || tests.iter().any(|test| path == format!("{test}.rs") || path.starts_with(&format!("{test}/")))
        };
        sources.into_iter().filter(|source| !is_test(&source.path)).collect()
    }

    /// Beginnings of paths that exist on this machine only.
    pub fn private_paths(&self) -> Vec<String> {
        let mut paths = vec![self.root.clone()];
        let parent = self.root.parent().filter(|parent| parent.components().count() > 2);
        paths.extend(
            parent.filter(|parent| !COMMON_ROOTS.iter().any(|root| parent.starts_with(root))).map(PathBuf::from),
        );
        paths.extend(["HOME", "CARGO_HOME", "RUSTUP_HOME"].into_iter().filter_map(std::env::var_os).map(PathBuf::from));
        let text = |path: PathBuf| path.to_str().map(|path| format!("{}/", path.trim_end_matches('/')));
        paths.into_iter().filter_map(text).filter(|path| path.len() > 2).collect()
    }
}

/// Where the modules under `cfg(test)` that this source declares have their files, without extension.
fn tests_of(source: &Source) -> Vec<String> {
    let (folder, name) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let stem = name.trim_end_matches(".rs");
    let home = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { format!("{folder}/{stem}") };
    source.test_modules.iter().map(|module| format!("{home}/{module}")).collect()
}

/// `ignored` holds patterns of the .gitignore files above, each with the folder it stands in.
fn walk(root: &Path, folder: &str, ignored: &mut Vec<(String, String)>, files: &mut Vec<File>) {
    let known = ignored.len();
    if let Ok(text) = fs::read_to_string(root.join(folder).join(".gitignore")) {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        ignored.extend(lines.map(|line| (folder.to_owned(), line.to_owned())));
    }
    let entries = fs::read_dir(root.join(folder)).expect("a folder of the project can be read");
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    for name in names {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if name == ".git" || ignored.iter().any(|(home, pattern)| matches(home, pattern, &path, &name)) {
            continue;
        }
        let Ok(found) = root.join(&path).symlink_metadata() else { continue };
        if found.is_dir() {
            walk(root, &path, ignored, files);
        } else if found.is_file() {
            let bytes = found.len();
            let text = (bytes <= READ_BYTES_MAX).then(|| fs::read_to_string(root.join(&path)).ok()).flatten();
            files.push(File { path, bytes, text });
        }
    }
    ignored.truncate(known);
}

/// The patterns that the project uses: `/anchored`, `name`, `*.extension`, each also as `folder/`.
fn matches(home: &str, pattern: &str, path: &str, name: &str) -> bool {
    assert!(!pattern.starts_with('!'), "tests/tidy/tree.rs does not know the pattern {pattern} of .gitignore");
    let pattern = pattern.trim_end_matches('/');
    let inside = path.strip_prefix(home).unwrap_or(path).trim_start_matches('/');
    if let Some(anchored) = pattern.strip_prefix('/') {
        return inside == anchored;
    }
    if let Some(end) = pattern.strip_prefix('*') {
        return name.ends_with(end);
    }
    if pattern.contains('/') { inside == pattern } else { name == pattern }
}
