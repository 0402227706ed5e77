//! The pass, the navigator and the writer held against each other, on values nobody thought of.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

/// A JSON value as Rust sees it.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Array(Vec<Model>),
    Bool(bool),
    Integer(i64),
    Null,
    Object(Vec<(String, Model)>),
    String(String),
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,3}",
        any::<String>(),
        "[\\x00-\\x24\\x5a-\\x5e\u{7f}-\u{82}😀]{0,20}",
        prop::sample::select(Key::ALL.to_vec()).prop_map(|key| key.name().to_owned()),
    ]
}

fn model() -> impl Strategy<Value = Model> {
    let scalar = prop_oneof![
        Just(Model::Null),
        any::<bool>().prop_map(Model::Bool),
        any::<i64>().prop_map(Model::Integer),
        text().prop_map(Model::String),
    ];
    scalar.prop_recursive(6, 64, 24, |inner| {
        let members = prop::collection::btree_map(text(), inner.clone(), 0..24);
        prop_oneof![
            prop::collection::vec(inner, 0..8).prop_map(Model::Array),
            members.prop_map(|members| members.into_iter().collect::<Vec<_>>()).prop_shuffle().prop_map(Model::Object),
        ]
    })
}

/// An object whose names are mostly those that are recorded, down to `params._meta`.
fn message() -> impl Strategy<Value = Model> {
    let object = |inner: Option<(&'static str, BoxedStrategy<Model>)>| {
        let members = prop::collection::btree_map(text(), model(), 0..6);
        let inner =
            inner.map_or_else(|| Just(None).boxed(), |(name, it)| it.prop_map(move |it| Some((name, it))).boxed());
        let all = (members, inner).prop_map(|(mut members, inner)| {
            members.extend(inner.map(|(name, value)| (name.to_owned(), value)));
            members.into_iter().collect::<Vec<_>>()
        });
        all.prop_shuffle().prop_map(Model::Object).boxed()
    };
    object(Some(("params", object(Some(("_meta", object(None)))))))
}

impl Model {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(elements) => {
                let mut array = Array::begin(out);
                elements.iter().for_each(|element| element.write(array.element()));
                array.end();
            }
            Self::Bool(value) => raw(out, value.to_string().as_bytes()),
            Self::Integer(value) => integer(out, *value),
            Self::Null => raw(out, b"null"),
            Self::Object(members) => {
                let mut object = Object::begin(out);
                members.iter().for_each(|(name, value)| value.write(object.key(name)));
                object.end();
            }
            Self::String(value) => string(out, value),
        }
    }

    /// As [`Model::write`], but with whitespace and escapes wherever `dice`, in turn, say so.
    fn write_loosely(&self, out: &mut Vec<u8>, dice: &mut impl Iterator<Item = u8>) {
        let space = |out: &mut Vec<u8>, dice: &mut dyn Iterator<Item = u8>| {
            let spaces: &[&[u8]] = &[b"", b"", b" ", b"\n", b"\r\n\t"];
            out.extend_from_slice(spaces[usize::from(dice.next().unwrap()) % spaces.len()]);
        };
        let loose = |value: &str, out: &mut Vec<u8>, dice: &mut dyn Iterator<Item = u8>| {
            out.push(b'"');
            for character in value.chars() {
                let must = character < ' ' || character == '"' || character == '\\';
                if must || dice.next().unwrap().is_multiple_of(4) {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                    }
                } else {
                    out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            out.push(b'"');
        };
        space(out, dice);
        match self {
            Self::Array(elements) => {
                out.push(b'[');
                for (index, element) in elements.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b"," } else { b"" });
                    element.write_loosely(out, dice);
                }
                space(out, dice);
                out.push(b']');
            }
            Self::Object(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.extend_from_slice(if index > 0 { b"," } else { b"" });
                    space(out, dice);
                    loose(name, out, dice);
                    space(out, dice);
                    out.push(b':');
                    value.write_loosely(out, dice);
                }
                space(out, dice);
                out.push(b'}');
            }
            Self::String(value) => loose(value, out, dice),
            scalar => scalar.write(out),
        }
        space(out, dice);
    }

    fn read(value: Value<'_>) -> Self {
        match value.kind() {
            ValueKind::Array => Self::Array(value.elements().map(Self::read).collect()),
            ValueKind::Bool => Self::Bool(value.as_bool().unwrap()),
            ValueKind::Malformed => panic!("{value:?}"),
            ValueKind::Null => Self::Null,
            ValueKind::Number => Self::Integer(value.as_i64().unwrap()),
            ValueKind::Object => {
                let member = |(key, value): (RawStr<'_>, _)| (key.unescaped().unwrap().into_owned(), Self::read(value));
                Self::Object(value.members().map(member).collect())
            }
            ValueKind::String => Self::String(value.as_str().unwrap().into_owned()),
        }
    }
}

/// What a pass over `text` should have found for `key`: the same, looked up by walking.
fn walked<'a>(key: Key, text: &'a [u8]) -> Option<Value<'a>> {
    let message = Value::new(text);
    let holder = match key as u8 {
        index if index <= Key::Error as u8 => message,
        index if index <= Key::Context as u8 => message.get("params")?,
        _ => message.get("params")?.get("_meta")?,
    };
    holder.get(key.name())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_written_is_accepted_and_read_back(
model in prop_oneof![model(), message()], dice in prop::collection::vec(any::<u8>(), 1..50),
) {
        let (mut tight, mut loose, mut envelope) = (Vec::new(), Vec::new(), Envelope::default());
        model.write(&mut tight);
        model.write_loosely(&mut loose, &mut dice.into_iter().cycle());
        for text in [&tight, &loose] {
            prop_assert_eq!(Scanner::new().scan(text, &mut envelope), Ok(()));
            prop_assert_eq!(&Model::read(Value::new(text)), &model);
            for key in Key::ALL {
                prop_assert_eq!(envelope.value(key, text), walked(key, text), "{:?}", key);
            }
        }
        let mut compacted = Vec::new();
        compact(&mut compacted, &loose);
        prop_assert!(!has_newline(&compacted));
        prop_assert_eq!(&Model::read(Value::new(&compacted)), &model);
        compacted.clear();
        compact(&mut compacted, &tight);
        prop_assert_eq!(compacted, tight, "the writer leaves nothing to compact");
    }

    #[test]
    fn a_message_cut_off_is_refused(members in prop::collection::btree_map(text(), model(), 0..4)) {
        let mut text = Vec::new();
        Model::Object(members.into_iter().collect()).write(&mut text);
        let mut envelope = Envelope::default();
        for end in 0..text.len() {
            let refused = Scanner::new().scan(&text[..end], &mut envelope);
            let cut_in_a_character = matches!(refused, Err(ScanError::InvalidUtf8 { .. }));
            prop_assert!(cut_in_a_character || matches!(refused, Err(ScanError::Truncated { at, .. }) if at == end), "{refused:?}");
        }
    }

    #[test]
    fn a_repeated_key_is_refused(
        members in prop::collection::btree_map(text(), model(), 1..40), pick in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(), dice in prop::collection::vec(any::<u8>(), 1..50),
    ) {
        let mut members: Vec<(String, Model)> = members.into_iter().collect();
        let twin = (members[pick.index(members.len())].0.clone(), Model::Null);
        members.insert(place.index(members.len() + 1), twin);
        let mut text = Vec::new();
        Model::Array(vec![Model::Object(members)]).write_loosely(&mut text, &mut dice.into_iter().cycle());
        let refused = Scanner::new().scan(&text, &mut Envelope::default());
        prop_assert!(matches!(refused, Err(ScanError::DuplicateKey { .. })), "{refused:?}");
    }

    #[test]
    fn nothing_panics_on_anything(
        text in prop::collection::vec(prop_oneof![4 => prop::sample::select(b"{}[]\",:\\u0eE-+. tn\n".to_vec()), 1 => any::<u8>()], 0..60),
    ) {
        let (mut envelope, mut messages, mut out) = (Envelope::default(), Vec::new(), Vec::new());
        let mut scanner = Scanner::new();
        let accepted = scanner.scan(&text, &mut envelope).is_ok();
        prop_assert!(scanner.scan_batch(&text, &mut messages).is_err() || accepted);
        let value = Value::new(&text);
        let _ = (value.as_str(), value.as_i64(), value.as_u64(), value.as_f64(), value.get("a"));
        prop_assert!(value.members().count() <= text.len() && value.elements().count() <= text.len());
        compact(&mut out, &text);
    }
}
