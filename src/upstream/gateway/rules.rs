//! What of a server is seen, and under which names: rules of the operator's.
//!
//! Not here: prefixes (`merge`). Invariant: a name that is not seen cannot be called either; renaming is undone by
//! `own`, and a name that another took is not reachable under it.

use std::collections::BTreeMap;

use super::flight::ListKind;
use crate::proto::mcp::NamePattern;

/// Which names are seen.
#[derive(Clone, Debug, Default)]
pub struct ListRules {
    /// Those that fit one of these; all if there are none.
    pub include: Vec<NamePattern>,
    /// Of them, not those that fit one of these.
    pub exclude: Vec<NamePattern>,
}

impl ListRules {
    /// Whether a name is seen.
    pub fn admits(&self, name: &str) -> bool {
        let fits = |patterns: &[NamePattern]| patterns.iter().any(|pattern| pattern.matches(name));
        (self.include.is_empty() || fits(&self.include)) && !fits(&self.exclude)
    }

    /// Whether everything is seen.
    pub fn is_empty(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// Which tools are seen, and how. All names are the server's own.
#[derive(Clone, Debug, Default)]
pub struct ToolRules {
    /// Which are seen.
    pub names: ListRules,
    /// Other names for some.
    pub rename: BTreeMap<String, String>,
    /// Other descriptions for some.
    pub describe: BTreeMap<String, String>,
}

impl ToolRules {
    /// The name under which a tool is seen; none if it is not, or if another took that name: a list would have two of
    /// that name, of which one could be called.
    pub fn seen<'a>(&'a self, own: &'a str) -> Option<&'a str> {
        let seen = self.rename.get(own).map_or(own, |name| name.as_str());
        (self.own(seen) == Some(own)).then_some(seen)
    }

    /// The tool's own name, from the one under which it is seen.
    pub fn own<'a>(&'a self, seen: &'a str) -> Option<&'a str> {
        let is_it = |(own, name): &(&String, &String)| *name == seen && self.names.admits(own);
        let renamed = self.rename.iter().find(is_it).map(|(own, _)| own.as_str());
        let own = renamed.or_else(|| (!self.rename.contains_key(seen)).then_some(seen))?;
        self.names.admits(own).then_some(own)
    }

    /// Whether every tool is seen as it is.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty() && self.rename.is_empty() && self.describe.is_empty()
    }
}

/// What callers see of a server, and under which names. All names are the server's own.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Which of its tools, and how.
    pub tools: ToolRules,
    /// Which of its prompts.
    pub prompts: ListRules,
    /// Which of its resources and templates, by URI.
    pub resources: ListRules,
}

impl Rules {
    /// Whether everything is seen as it is.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty() && self.prompts.is_empty() && self.resources.is_empty()
    }

    /// The name under which an item of a list is seen, from the server's own; none if it is not seen.
    pub(super) fn seen<'a>(&'a self, kind: ListKind, own: &'a str) -> Option<&'a str> {
        match kind {
            ListKind::Tools => self.tools.seen(own),
            ListKind::Prompts => self.prompts.admits(own).then_some(own),
            ListKind::Resources | ListKind::Templates => self.resources.admits(own).then_some(own),
        }
    }

    /// The inverse of `seen`.
    pub(super) fn own<'a>(&'a self, kind: ListKind, seen: &'a str) -> Option<&'a str> {
        match kind {
            ListKind::Tools => self.tools.own(seen),
            _ => self.seen(kind, seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<NamePattern> {
        texts.iter().map(|text| NamePattern::new(text).expect("a pattern")).collect()
    }

    #[test]
    fn what_is_not_seen_cannot_be_called() {
        let rules = ToolRules {
            names: ListRules { include: patterns(&["get_*", "put"]), exclude: patterns(&["get_secret"]) },
            rename: [("get_a", "fetch"), ("get_b", "get_a")]
                .map(|(own, seen)| (own.to_owned(), seen.to_owned()))
                .into(),
            describe: BTreeMap::new(),
        };
        for (own, seen) in [("get_a", Some("fetch")), ("get_b", Some("get_a")), ("put", Some("put"))] {
            assert_eq!(rules.seen(own), seen);
            assert_eq!(rules.own(seen.expect("seen")), Some(own));
        }
        assert_eq!((rules.seen("get_secret"), rules.own("get_secret"), rules.own("delete")), (None, None, None));
        assert_eq!(rules.own("get_b"), None, "it is known by another name");
    }

    #[test]
    fn of_tools_that_would_have_one_name_one_is_seen() {
        let renames = [("a", "b"), ("c", "x"), ("d", "x"), ("hidden", "e")];
        let rules = ToolRules {
            names: ListRules { include: Vec::new(), exclude: patterns(&["hidden"]) },
            rename: renames.map(|(own, seen)| (own.to_owned(), seen.to_owned())).into(),
            describe: BTreeMap::new(),
        };
        let seen = ["a", "b", "c", "d", "e", "hidden"].map(|own| rules.seen(own));
        assert_eq!(seen, [Some("b"), None, Some("x"), None, Some("e"), None]);
        assert_eq!(["b", "x", "e"].map(|name| rules.own(name)), [Some("a"), Some("c"), Some("e")]);
    }
}
