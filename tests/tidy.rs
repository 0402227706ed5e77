//! Tidiness: the rules of ARCHITECTURE.md that a machine can hold, held over every source file of the project.
//!
//! Not here: what rustfmt, clippy and the compiler see. A failure names the rule, the place, and what to do instead.
//! Invariant: every rule is shown a snippet that breaks it (`tidy/alive.rs`), so none can fall asleep unnoticed.

#[path = "tidy/alive.rs"]
mod alive;
#[path = "tidy/declared.rs"]
mod declared;
#[path = "tidy/files.rs"]
mod files;
#[path = "tidy/imports.rs"]
mod imports;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/tree.rs"]
mod tree;
#[path = "tidy/words.rs"]
mod words;

use std::fmt;
use tree::Tree;

/// A rule that does not hold somewhere.
struct Violation {
    rule: &'static str,
    place: String,
    found: String,
    instead: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.place, self.found)?;
        writeln!(f, "    rule:    {}", self.rule)?;
        write!(f, "    instead: {}", self.instead)
    }
}

fn assert_none(violations: &[Violation]) {
    let list: String = violations.iter().map(|violation| format!("{violation}\n")).collect();
    assert!(violations.is_empty(), "{} places are not tidy:\n{list}", violations.len());
}

#[test]
fn imports_point_one_way() {
    let tree = Tree::of_this_project();
    assert_none(&tree.rust().iter().flat_map(imports::check).collect::<Vec<_>>());
}

#[test]
fn words_stay_where_they_belong() {
    let tree = Tree::of_this_project();
    assert_none(&tree.rust().iter().flat_map(words::check).collect::<Vec<_>>());
}

#[test]
fn what_is_declared_is_used() {
    let tree = Tree::of_this_project();
    assert_none(&declared::check(&tree.rust()));
}

#[test]
fn files_are_tidy() {
    let tree = Tree::of_this_project();
    let mut violations: Vec<_> =
        tree.files().iter().flat_map(|file| files::check(file, &tree.private_paths())).collect();
    violations.extend(files::stale_exceptions(tree.files()));
    assert_none(&violations);
}

/// What an allow-list names must be there, or the list grows stale.
#[test]
fn exceptions_name_files_that_exist() {
    let tree = Tree::of_this_project();
    let named = words::exceptions().chain(imports::exceptions());
    let gone: Vec<_> = named.filter(|path| !tree.files().iter().any(|file| file.path == *path)).collect();
    assert!(gone.is_empty(), "allowed exceptions in files that are gone: {gone:?}; take them off the list");
}
