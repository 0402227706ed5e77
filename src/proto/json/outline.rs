//! How a judged text is nested: one pass notes where each of its containers ends, so that who goes into all of them
//! passes over one in a step, instead of reading it once for every level that it stands on.
//!
//! Not here: judging, and what is in scalars (`value`). Of text that nobody judged the same holds as there: nothing
//! panics, everything ends. Invariant: members and elements are those that [`Value`] has, in the same order; what all
//! of them cost together is the length of the text, however deep it is.
//!
//! Who wants a few members near the beginning is better off with [`Value`], which needs no memory.

use super::value::{RawStr, Split, Value};
use super::value::{after_bare, after_string, inside, next_element, next_member, note_passed, split_at};

/// Where the containers of one text end.
#[derive(Debug)]
pub struct Outline<'a> {
    whole: Value<'a>,
    /// In the order in which they begin.
    containers: Vec<Container>,
}

#[derive(Clone, Copy, Debug)]
struct Container {
    /// With its brackets; none if it does not end.
    bytes: usize,
    /// The number of the first container behind it.
    next: usize,
}

/// A value within a text that has an outline.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a, 'o> {
    /// The value.
    pub value: Value<'a>,
    containers: &'o [Container],
    /// Its own number if it is a container.
    number: usize,
}

impl<'a> Outline<'a> {
    /// That of a value, which is read once.
    pub fn of(whole: Value<'a>) -> Outline<'a> {
        let text = whole.raw();
        let (mut containers, mut open) = (Vec::new(), Vec::new());
        let mut at = 0;
        while let Some(byte) = text.get(at) {
            match byte {
                b'"' => match after_string(text, at) {
                    Some(end) => {
                        at = end;
                        continue;
                    }
                    None => break,
                },
                b'{' | b'[' => {
                    open.push((containers.len(), at));
                    containers.push(Container { bytes: 0, next: usize::MAX });
                }
                b'}' | b']' => {
                    let Some((number, start)) = open.pop() else { break };
                    containers[number] = Container { bytes: at + 1 - start, next: containers.len() };
                }
                _ => {}
            }
            at += 1;
        }
        note_passed(at);
        Outline { whole, containers }
    }

    /// The value that it is of.
    pub fn whole(&self) -> Part<'a, '_> {
        Part { value: self.whole, containers: &self.containers, number: 0 }
    }
}

impl<'a, 'o> Part<'a, 'o> {
    /// The members of the object it is, in order; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (RawStr<'a>, Part<'a, 'o>)> {
        let (mut rest, mut walk) = (inside(self.value.raw(), b'{', b'}'), self.walk());
        std::iter::from_fn(move || {
            let (key, value) = next_member(&mut rest, |text| walk.split(text))?;
            Some((key, walk.part(value)))
        })
    }

    /// The elements of the array it is, in order; none of anything else.
    pub fn elements(self) -> impl Iterator<Item = Part<'a, 'o>> {
        let (mut rest, mut walk) = (inside(self.value.raw(), b'[', b']'), self.walk());
        std::iter::from_fn(move || {
            let value = next_element(&mut rest, |text| walk.split(text))?;
            Some(walk.part(value))
        })
    }

    fn walk(self) -> Walk<'o> {
        Walk { containers: self.containers, last: self.number, next: self.number + 1 }
    }
}

/// A way through the values of one container.
struct Walk<'o> {
    containers: &'o [Container],
    /// The number of the container that was passed last.
    last: usize,
    /// The number of the one that comes next.
    next: usize,
}

impl<'o> Walk<'o> {
    /// The value that `text` begins with and what follows it; none when there is none or it does not end.
    fn split<'a>(&mut self, text: &'a [u8]) -> Split<'a> {
        let end = match text.first()? {
            b'"' => after_string(text, 0)?,
            b'{' | b'[' => {
                let container = self.containers.get(self.next)?;
                (self.last, self.next) = (self.next, container.next);
                return split_at(text, container.bytes);
            }
            _ => after_bare(text),
        };
        note_passed(end);
        split_at(text, end)
    }

    /// The value that was split off last.
    fn part<'a>(&self, value: Value<'a>) -> Part<'a, 'o> {
        Part { value, containers: self.containers, number: self.last }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::proto::json::value::{UNJUDGED, take_passed};

    /// Everything in a text, by both ways of reading.
    fn agree(value: Value<'_>, part: Part<'_, '_>, depth: usize) {
        assert_eq!(value, part.value);
        // Of text that nobody judged this bounds the stack.
        if depth > 70 {
            return;
        }
        let (mut members, mut elements) = (part.members(), part.elements());
        for (key, value) in value.members() {
            let (same, part) = members.next().unwrap();
            assert_eq!(key, same);
            agree(value, part, depth + 1);
        }
        for value in value.elements() {
            agree(value, elements.next().unwrap(), depth + 1);
        }
        assert!(members.next().is_none() && elements.next().is_none(), "{value:?}");
    }

    fn check(text: &[u8]) {
        let value = Value::new(text);
        agree(value, Outline::of(value).whole(), 0);
    }

    #[test]
    fn what_is_read_is_what_a_value_has() {
        for text in [
            "",
            "7",
            " \"a]\" ",
            "[]",
            r#" { "a" : [1 , {"x":"]}\""} ,"s", [[],{}], {"y":[{}]}] , "\u0062":null,"":-0.5e1, "c":{"d":[]},"e":[3] } "#,
        ] {
            check(text.as_bytes());
        }
    }

    #[test]
    fn text_that_nobody_judged_ends_the_walk() {
        for text in UNJUDGED {
            check(text.as_bytes());
        }
    }

    #[test]
    fn depth_costs_nothing_more() {
        let passed = |depth: usize| {
            let text = format!("{}\"{}\"{}", r#"{"a":["#.repeat(depth), "x".repeat(100_000), "]}".repeat(depth));
            take_passed();
            check_all(Outline::of(Value::new(text.as_bytes())).whole());
            take_passed() as f64 / text.len() as f64
        };
        let (shallow, deep) = (passed(1), passed(30));
        assert!(shallow < 2.1 && deep < 2.1, "{shallow} {deep}");
    }

    fn check_all(part: Part<'_, '_>) {
        part.members().for_each(|(_, part)| check_all(part));
        part.elements().for_each(check_all);
    }

    proptest! {
        #[test]
        fn any_text_is_read_alike(text in r#"[\[\]{}",:1\\ ]{0,40}"#) {
            check(text.as_bytes());
        }
    }
}
