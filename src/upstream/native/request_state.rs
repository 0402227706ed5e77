//! `requestState`: what a modern call remembers from one round to the next, in the client's hands.
//!
//! Not here: the sealing itself (`Host::seal`: encrypted and authenticated).
//! Invariant: a state opens only for the method, name and arguments it was made for, and only until it expires; the
//! layout is checked even so, because a mistake of ours must not become a panic.
//!
//! ```text
//! version u8 | expiry u64 | binding u128 | answers: list | remembered: list     (little endian)
//! list = count u16, then count times: key length u16, key, value length u32, value
//! ```

use std::hash::{BuildHasher, Hash, Hasher, RandomState};

use super::content::JsonText;
use super::exchange::Exchange;
use crate::limits::REQUEST_STATE_BYTES_MAX;
use crate::proto::json::{Outline, Part, Value, ValueKind};
use crate::server::service::Nanos;

const LAYOUT: u8 = 1;

/// Keys for binding states to calls: random per process, so that nobody can look for two calls with one binding.
#[derive(Clone, Default)]
pub(super) struct BindingKeys(RandomState, RandomState);

impl BindingKeys {
    /// Condenses method, name and arguments. The order of an object's members does not count: clients may write
    /// their arguments anew for a retry.
    pub fn bind(&self, method: &str, name: &str, arguments: &[u8]) -> u128 {
        let outline = Outline::of(Value::new(arguments));
        let half = |keys: &RandomState| u128::from(keys.hash_one((method, name, condense(keys, outline.whole()))));
        half(&self.0) << 64 | half(&self.1)
    }
}

/// The depth of a scanned text is bounded, so is this recursion.
fn condense(keys: &RandomState, part: Part<'_, '_>) -> u64 {
    let mut hasher = keys.build_hasher();
    let value = part.value;
    match value.kind() {
        ValueKind::Object => {
            let sum = part.members().fold(0_u64, |sum, (key, member)| {
                let key = key.unescaped().unwrap_or_default();
                sum.wrapping_add(keys.hash_one((key.as_ref(), condense(keys, member))))
            });
            (0_u8, sum).hash(&mut hasher);
        }
        ValueKind::Array => {
            1_u8.hash(&mut hasher);
            part.elements().for_each(|element| condense(keys, element).hash(&mut hasher));
        }
        ValueKind::String => (2_u8, value.as_str().unwrap_or_default()).hash(&mut hasher),
        _ => (3_u8, value.raw()).hash(&mut hasher),
    }
    hasher.finish()
}

/// The state of an attempt that ended with questions; `None` if it is too large.
pub(super) fn write(exchange: &Exchange, expiry: Nanos) -> Option<Vec<u8>> {
    let mut plain = vec![LAYOUT];
    plain.extend_from_slice(&expiry.to_le_bytes());
    plain.extend_from_slice(&exchange.binding.to_le_bytes());
    let used = exchange.used.borrow();
    let answers = exchange.answers.borrow();
    let answers = answers.iter().filter(|(key, _)| used.contains(key));
    write_list(&mut plain, answers.map(|(key, answer)| (key.as_str(), answer.as_bytes())))?;
    let remembered = exchange.remembered.borrow();
    write_list(&mut plain, remembered.iter().map(|(key, value)| (key.as_str(), value.as_slice())))?;
    (plain.len() <= REQUEST_STATE_BYTES_MAX).then_some(plain)
}

fn write_list<'e>(plain: &mut Vec<u8>, entries: impl Iterator<Item = (&'e str, &'e [u8])>) -> Option<()> {
    let at = plain.len();
    plain.extend_from_slice(&[0, 0]);
    let mut count = 0_u16;
    for (key, value) in entries {
        plain.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
        plain.extend_from_slice(key.as_bytes());
        plain.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        plain.extend_from_slice(value);
        count = count.checked_add(1)?;
    }
    plain[at..at + 2].copy_from_slice(&count.to_le_bytes());
    Some(())
}

/// Puts the contents of an opened state into `exchange`; `None` if it belongs to another call or is too old.
pub(super) fn read(mut plain: &[u8], exchange: &Exchange, now: Nanos) -> Option<()> {
    let rest = &mut plain;
    let layout = take(rest, 1)?[0];
    let expiry = u64::from_le_bytes(take(rest, 8)?.try_into().ok()?);
    let binding = u128::from_le_bytes(take(rest, 16)?.try_into().ok()?);
    if layout != LAYOUT || expiry < now || binding != exchange.binding {
        return None;
    }
    let answers = read_list(rest)?;
    *exchange.answers.borrow_mut() = answers.into_iter().map(|(key, value)| (key, JsonText::new(value))).collect();
    *exchange.remembered.borrow_mut() = read_list(rest)?;
    rest.is_empty().then_some(())
}

fn read_list(rest: &mut &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let count = u16::from_le_bytes(take(rest, 2)?.try_into().ok()?);
    let mut entries = Vec::new();
    for _ in 0..count {
        let length = u16::from_le_bytes(take(rest, 2)?.try_into().ok()?);
        let key = String::from_utf8(take(rest, usize::from(length))?.to_vec()).ok()?;
        let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
        entries.push((key, take(rest, length as usize)?.to_vec()));
    }
    Some(entries)
}

fn take<'p>(rest: &mut &'p [u8], length: usize) -> Option<&'p [u8]> {
    let (head, tail) = rest.split_at_checked(length)?;
    *rest = tail;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::mcp::{Capabilities, Version};
    use crate::upstream::native::exchange::Way;

    fn exchange(binding: u128) -> Exchange {
        Exchange::new(Way::Replay, Version::V2026_07_28, Capabilities::default(), false, binding)
    }

    #[test]
    fn a_binding_ignores_the_order_of_members_and_nothing_else() {
        let keys = BindingKeys::default();
        let bind = |arguments: &str| keys.bind("tools/call", "t", arguments.as_bytes());
        assert_eq!(bind(r#"{"a":1,"b":[true,"x"]}"#), bind(r#"{ "b" : [true, "\u0078"], "a":1 }"#));
        let others = [r#"{"a":2,"b":[true,"x"]}"#, r#"{"a":1,"b":["x",true]}"#, r#"{"a":1}"#, "{}", r#"{"b":1,"a":1}"#];
        for other in others {
            assert_ne!(bind(r#"{"a":1,"b":[true,"x"]}"#), bind(other), "{other}");
        }
        assert_ne!(keys.bind("tools/call", "t", b"{}"), keys.bind("prompts/get", "t", b"{}"));
        assert_ne!(keys.bind("tools/call", "t", b"{}"), keys.bind("tools/call", "u", b"{}"));
    }

    #[test]
    fn how_deep_the_arguments_are_nested_costs_nothing() {
        let passed = |depth: usize| {
            let text =
                format!("{}{}{}", r#"{"a":"#.repeat(depth), " ".repeat(100_000), "1".to_owned() + &"}".repeat(depth));
            crate::proto::json::take_passed();
            BindingKeys::default().bind("tools/call", "t", text.as_bytes());
            crate::proto::json::take_passed()
        };
        let (shallow, deep) = (passed(1), passed(58));
        assert!(deep < 2 * shallow, "{deep} bytes looked at, {shallow} of arguments that are not deep");
    }

    #[test]
    fn a_state_reads_back_for_its_own_call_only() {
        let first = exchange(7);
        first.answers.borrow_mut().push(("used".into(), JsonText::new(*b"{}")));
        first.answers.borrow_mut().push(("extra".into(), JsonText::new(*b"1")));
        first.used.borrow_mut().push("used".into());
        first.remembered.borrow_mut().push(("once".into(), b"2".to_vec()));
        let plain = write(&first, 100).expect("small");

        let second = exchange(7);
        assert_eq!(read(&plain, &second, 100), Some(()));
        assert_eq!(*second.answers.borrow(), [("used".to_owned(), JsonText::new(*b"{}"))]);
        assert_eq!(*second.remembered.borrow(), [("once".to_owned(), b"2".to_vec())]);
        assert_eq!(read(&plain, &exchange(7), 101), None, "too old");
        assert_eq!(read(&plain, &exchange(8), 100), None, "another call");
        for length in 0..plain.len() {
            assert_eq!(read(&plain[..length], &exchange(7), 0), None, "cut at {length}");
        }
    }
}
