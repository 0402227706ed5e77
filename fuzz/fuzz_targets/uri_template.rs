//! Any template and any URI: nothing panics, and what matched can be put together again from its variables.
#![no_main]

use corelane::proto::uri_template::{UriTemplate, check_uri, percent_decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (template, uri) = input;
    let _ = check_uri(uri);
    if let Some(decoded) = percent_decode(uri) {
        assert!(decoded.len() <= uri.len());
    }
    let Ok(template) = UriTemplate::parse(template) else { return };
    let Some(captures) = template.matches(uri) else { return };
    let values: Vec<&str> =
        template.names().map(|name| template.value(&captures, uri, name).expect("every variable is captured")).collect();
    assert!(values.iter().all(|value| !value.is_empty() && !value.contains('/')));
    assert_eq!(template.fill(&values).as_deref(), Some(uri));
});
