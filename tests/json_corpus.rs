//! Runs the scanner over `tests/json_corpus`: `y_*.json` must be accepted, `n_*.json` refused, whatever stands in it.
//!
//! Texts too large for a file, and what an accepted text must be good for, are here as well.

use std::path::{Path, PathBuf};

use corelane::limits::{JSON_DEPTH_MAX, JSON_TOKENS_MAX};
use corelane::proto::json::{Envelope, ScanError, Scanner, Value, ValueKind, compact};

fn scan(text: &[u8]) -> Result<Envelope, ScanError> {
    let mut envelope = Envelope::default();
    Scanner::new().scan(text, &mut envelope).map(|()| envelope)
}

/// The files whose name begins with `prefix`, with their contents.
fn corpus(prefix: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/json_corpus");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("the corpus is part of the repository")
        .map(|entry| entry.expect("the corpus can be listed").path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("a file of the corpus"))).collect()
}

#[test]
fn good_texts_are_accepted() {
    let files = corpus("y_");
    assert!(files.len() >= 80, "only {} files were found", files.len());
    let refused: Vec<_> =
        files.iter().filter_map(|(path, text)| Some((path.file_name()?, scan(text).err()?))).collect();
    assert!(refused.is_empty(), "refused: {refused:#?}");
}

#[test]
fn bad_texts_are_refused() {
    let files = corpus("n_");
    assert!(files.len() >= 200, "only {} files were found", files.len());
    let accepted: Vec<_> = files.iter().filter(|(_, text)| scan(text).is_ok()).map(|(path, _)| path).collect();
    assert!(accepted.is_empty(), "accepted: {accepted:#?}");
    for (path, text) in &files {
        let error = scan(text).expect_err("checked above");
        assert!(error.at() <= text.len(), "{}: {error}", path.display());
    }
}

/// The name of a file says its class, and its class which refusals are right, so that no file is refused for a
/// reason it was not written for.
#[test]
fn bad_texts_are_refused_for_the_right_reason() {
    for (path, text) in corpus("n_") {
        let error = scan(&text).expect_err("the text is bad");
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        let right = if name.starts_with("n_duplicate") {
            matches!(error, ScanError::DuplicateKey { .. })
        } else if name.starts_with("n_structure_depth") {
            matches!(error, ScanError::DepthExceeded { at } if at % JSON_DEPTH_MAX == 0)
        } else if name.starts_with("n_number_out_of_range") {
            matches!(error, ScanError::NumberOutOfRange { at: 1 })
        } else if name.starts_with("n_string_unclosed") || name.starts_with("n_structure_unclosed") {
            matches!(error, ScanError::Truncated { at, .. } if at == text.len())
        } else if name.starts_with("n_string") {
            matches!(error, ScanError::ControlCharacter { .. })
        } else if name.starts_with("n_utf8_outside") || name.starts_with("n_utf8_cut") {
            matches!(error, ScanError::Syntax { .. } | ScanError::Truncated { .. })
        } else if name.starts_with("n_utf8") {
            matches!(error, ScanError::InvalidUtf8 { .. })
        } else if name.starts_with("n_trailing") {
            matches!(error, ScanError::TrailingBytes { .. })
        } else if matches!(name.as_str(), "n_bom_leading" | "n_bom_alone") {
            matches!(error, ScanError::ByteOrderMark)
        } else if name.starts_with("n_surrogate") {
            matches!(error, ScanError::LoneSurrogate { .. } | ScanError::Syntax { .. })
        } else {
            matches!(error, ScanError::Syntax { .. } | ScanError::Truncated { .. } | ScanError::TrailingBytes { .. })
        };
        assert!(right, "{name}: {error:?}");
    }
}

#[test]
fn good_texts_can_be_read_compacted_and_cut() {
    for (path, text) in corpus("y_") {
        let value = Value::new(&text);
        assert_ne!(value.kind(), ValueKind::Malformed, "{}", path.display());
        for (key, value) in value.members() {
            assert!(key.unescaped().is_some() && scan(value.raw()).is_ok(), "{}", path.display());
        }
        assert!(value.elements().all(|element| scan(element.raw()).is_ok()), "{}", path.display());
        let mut compacted = Vec::new();
        compact(&mut compacted, &text);
        assert!(scan(&compacted).is_ok() && compacted.len() <= text.len(), "{}", path.display());
        if matches!(value.kind(), ValueKind::Array | ValueKind::Object | ValueKind::String) {
            let end = text.len() - text.iter().rev().take_while(|byte| byte.is_ascii_whitespace()).count();
            assert!((0..end).all(|end| scan(&text[..end]).is_err()), "{}", path.display());
        }
    }
}

#[test]
fn texts_too_large_for_a_file() {
    let zeros = |count: usize| format!("[{}]", vec!["0"; count].join(","));
    assert!(scan(zeros(JSON_TOKENS_MAX - 1).as_bytes()).is_ok());
    assert!(matches!(scan(zeros(JSON_TOKENS_MAX).as_bytes()), Err(ScanError::TooManyTokens { .. })));

    // 49,999 keys that begin alike, the last one a repetition of the first in other letters.
    let alike = "the same beginning".repeat(10);
    let mut members: Vec<String> = (0..JSON_TOKENS_MAX / 2 - 2).map(|index| format!("\"{alike}{index}\":0")).collect();
    assert!(scan(format!("{{{}}}", members.join(",")).as_bytes()).is_ok());
    members.push(format!("\"\\u0074{}0\":0", &alike[1..]));
    let repeated = scan(format!("{{{}}}", members.join(",")).as_bytes());
    assert!(matches!(repeated, Err(ScanError::DuplicateKey { .. })), "{repeated:?}");

    let megabyte = "x".repeat(1 << 20);
    assert!(scan(format!("[\"{megabyte}\"]").as_bytes()).is_ok());
    assert!(matches!(scan("9".repeat(1 << 20).as_bytes()), Err(ScanError::NumberOutOfRange { .. })));
    assert!(scan(format!("0.{}", "9".repeat(1 << 20)).as_bytes()).is_ok());
}
