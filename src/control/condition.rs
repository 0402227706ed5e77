//! What a request says of the state that it is a change of: `If-Match` and `If-None-Match` (RFC 9110, 13.1).
//!
//! Not here: what tags stand for. Invariant: nothing is changed by a request that does not say which state it is a
//! change of, or that names another than there is.

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use serde_json::json;

use super::admin::Refused;

/// What a request says of the state before it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Condition {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Tags {
    Any,
    These(Vec<String>),
}

/// The state is not the one that the request is a change of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unmet {
    why: Why,
    /// The tag of what is there, without quotes.
    there: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    Changed,
    Exists,
    Gone,
    Unsaid,
}

impl Tags {
    fn of(fields: &HeaderMap, name: header::HeaderName) -> Option<Tags> {
        let mut values = fields.get_all(name).iter().map(|value| value.to_str().unwrap_or_default()).peekable();
        values.peek()?;
        let tags: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        // A weak tag is equal to none: there is only one form of anything here.
        let strong = |tag: &&str| tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).map(str::to_owned);
        Some(if tags == ["*"] { Tags::Any } else { Tags::These(tags.iter().filter_map(strong).collect()) })
    }

    fn fit(&self, there: Option<&str>) -> bool {
        match self {
            Tags::Any => there.is_some(),
            Tags::These(tags) => there.is_some_and(|there| tags.iter().any(|tag| tag == there)),
        }
    }
}

impl Condition {
    /// What these fields say.
    pub fn of(fields: &HeaderMap) -> Condition {
        let of = |name| Tags::of(fields, name);
        Condition { matches: of(header::IF_MATCH), none_matches: of(header::IF_NONE_MATCH) }
    }

    /// Whether a change may be made of what is there, by its tag; none if nothing is.
    ///
    /// # Errors
    /// If not.
    pub fn judge(&self, there: Option<&str>) -> Result<(), Unmet> {
        let unmet = |why| Err(Unmet { why, there: there.map(str::to_owned) });
        if self.matches.is_none() && self.none_matches.is_none() {
            return unmet(Why::Unsaid);
        }
        if self.matches.as_ref().is_some_and(|tags| !tags.fit(there)) {
            return unmet(if there.is_none() { Why::Gone } else { Why::Changed });
        }
        if self.none_matches.as_ref().is_some_and(|tags| tags.fit(there)) {
            return unmet(Why::Exists);
        }
        Ok(())
    }
}

impl From<Unmet> for Refused {
    fn from(unmet: Unmet) -> Refused {
        let (status, error) = match unmet.why {
            Why::Unsaid => (
                StatusCode::PRECONDITION_REQUIRED,
                "If-Match is needed, with the ETag of what is to be changed; or If-None-Match: * for what is not there \
                 yet",
            ),
            Why::Changed => (StatusCode::PRECONDITION_FAILED, "it was changed meanwhile; look at it and try again"),
            Why::Exists => (
                StatusCode::PRECONDITION_FAILED,
                "it is there already; to change it name its ETag with If-Match (`--replace` of the command)",
            ),
            Why::Gone => (
                StatusCode::PRECONDITION_FAILED,
                "it is not there, or not any more; send If-None-Match: * in place of If-Match to make it",
            ),
        };
        let tag = unmet.there.map(|there| quoted(&there));
        (status, Json(json!({ "error": error, "etag": tag })))
    }
}

/// A tag as it stands in a field.
pub(super) fn quoted(tag: &str) -> String {
    format!("\"{tag}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(fields: &[(header::HeaderName, &str)], there: Option<&str>) -> u16 {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(name, value.parse().expect("a value"));
        }
        match Condition::of(&map).judge(there) {
            Ok(()) => 200,
            Err(unmet) => Refused::from(unmet).0.as_u16(),
        }
    }

    #[test]
    fn a_change_says_of_what() {
        let (matches, none) = (header::IF_MATCH, header::IF_NONE_MATCH);
        for (fields, nothing, one) in [
            (vec![], 428, 428),
            (vec![(matches.clone(), "\"1\"")], 412, 200),
            (vec![(matches.clone(), "\"2\"")], 412, 412),
            (vec![(matches.clone(), "\"2\", \"1\"")], 412, 200),
            (vec![(matches.clone(), "\"2\""), (matches.clone(), "\"1\"")], 412, 200),
            (vec![(matches.clone(), "1")], 412, 412),
            (vec![(matches.clone(), "W/\"1\"")], 412, 412),
            (vec![(matches.clone(), "")], 412, 412),
            (vec![(matches.clone(), "*")], 412, 200),
            (vec![(none.clone(), "*")], 200, 412),
            (vec![(none.clone(), "\"1\"")], 200, 412),
            (vec![(none.clone(), "\"2\"")], 200, 200),
            (vec![(matches.clone(), "*"), (none.clone(), "*")], 412, 412),
        ] {
            assert_eq!((judged(&fields, None), judged(&fields, Some("1"))), (nothing, one), "{fields:?}");
        }
    }
}
