//! A server as a request describes it: JSON, with the keys of `[servers.NAME]`.
//!
//! Not who may ask, nor whether the name is free (`boot`). Invariant: it is read by the reader of the file, so the same
//! rules hold, in the same words; and nothing in it names a program, a file or a variable of the environment.

use super::given::{Setting, quoted};
use super::names::ServerName;
use super::sections::{fitting, prefix_is_taken};
use super::servers::ServerSettings;
use super::shapes::key;
use super::{Config, Sources};
use crate::proto::json::{Envelope, Scanner};
use serde_json::{Map, Value};
use std::path::Path;

/// Why a request describes no server that may be taken in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NotRequested {
    /// It is no JSON object: what it is, and what it should be.
    NoObject(String),
    /// It says what only the configuration file may say: the key, and advice.
    OnlyInFile(String),
    /// What is wrong, in the words of the configuration.
    Wrong(Vec<String>),
}

/// Keys that say what is run, and with what.
const OF_CHILDREN: [&str; 6] = ["command", "args", "env", "cwd", "open_files", "address_space_bytes"];

/// Keys that say where a secret is (the one that lets a server in, the one that a proxy is shown), and who is shown it:
/// a proxy is dialled wherever it is.
const OF_SECRETS: [&str; 3] = ["key", "proxy", "proxy_authorization"];

/// Reads the server of this name.
///
/// # Errors
/// All that is wrong with it.
pub fn requested(name: &str, body: &[u8]) -> Result<(ServerName, ServerSettings), NotRequested> {
    let wrong = |what: String| NotRequested::Wrong(vec![what]);
    let Some(named) = ServerName::new(name) else {
        let (name, rule, fit) = (quoted(name), ServerName::RULE, fitting(name));
        return Err(wrong(format!("{name} cannot be the name of a server: allowed is {rule}; call it `{fit}`")));
    };
    let example =
        "write an object with the keys of [servers.NAME], such as {\"kind\":\"http\",\"url\":\"https://host/mcp\"}";
    // Stricter than the reader below: of a key that stands twice it would take one, silently.
    let scanned = Scanner::new().scan(body, &mut Envelope::default()).map_err(|error| error.to_string());
    let read = scanned.and_then(|()| serde_json::from_slice::<Value>(body).map_err(|error| error.to_string()));
    let keys = match read {
        Ok(Value::Object(keys)) => keys,
        Ok(_) => return Err(NotRequested::NoObject(format!("the body is JSON, but no object: {example}"))),
        Err(error) => return Err(NotRequested::NoObject(format!("the body is no JSON text: {error}; {example}"))),
    };
    only_in_file(&named, &keys)?;
    let mut text = format!("[servers.{named}]\n");
    for (name, value) in &keys {
        let literal = literal(&format!("servers.{named}.{name}"), value).map_err(wrong)?;
        text.push_str(&format!("{} = {literal}\n", key(name)));
    }
    let read = Config::from_layers(Some((Path::new("the request"), &text)), &Sources::default());
    let config =
        read.map_err(|error| NotRequested::Wrong(error.problems().iter().map(|one| one.sentence()).collect()))?;
    let Some((name, settings)) = config.into_settings().servers.pop() else {
        return Err(wrong(format!("servers.{named} was not understood: {example}")));
    };
    if !settings.enabled {
        let what = format!("`servers.{name}.enabled` is false: a server that is not used need not be registered");
        return Err(wrong(format!("{what}; leave it out, or remove the server")));
    }
    Ok((name, settings))
}

/// What another server has already that this one wants, in words.
pub fn clash(name: &ServerName, settings: &ServerSettings, others: &[(ServerName, ServerSettings)]) -> Option<String> {
    let others = others.iter().filter(|(other, settings)| other != name && settings.enabled);
    let prefix = settings.prefix.as_str();
    let mut same = others.filter(|(_, other)| !prefix.is_empty() && other.prefix.as_str() == prefix);
    same.next().map(|(first, _)| format!("{}; give one of them another prefix", prefix_is_taken(name, first, prefix)))
}

/// Refuses what names something to run, or a file or variable to read.
fn only_in_file(name: &ServerName, keys: &Map<String, Value>) -> Result<(), NotRequested> {
    let refused = |key: &str, instead: &str| {
        Err(NotRequested::OnlyInFile(format!(
            "`servers.{name}.{key}` comes from the configuration file only, never from a request: what is run, which \
             file or variable is read, and which proxy is asked, is for whoever may write that file; {instead}write \
             [servers.{name}] there and `corelane reload`"
        )))
    };
    for (key, value) in keys {
        match (key.as_str(), value) {
            (key, _) if OF_CHILDREN.contains(&key) || OF_SECRETS.contains(&key) => return refused(key, ""),
            ("kind", Value::String(kind)) if kind == "stdio" => return refused("kind = \"stdio\"", ""),
            ("kind", Value::String(kind)) if kind == "dial_in" => return refused("kind = \"dial_in\"", ""),
            ("kind", Value::String(kind)) if kind == "native" => return refused("kind = \"native\"", ""),
            ("roots", Value::String(roots)) if roots.contains('/') => {
                return refused("roots = PATH", "write \"webpki\" or \"native\" here, or ");
            }
            ("headers", Value::Object(fields)) => {
                let is_supplied = |value: &&Value| value.as_object().is_some_and(|value| !value.is_empty());
                if let Some((field, _)) = fields.iter().find(|(_, value)| is_supplied(value)) {
                    return refused(&format!("headers.{field} = {{ ... }}"), "write the value itself here, or ");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A value as TOML writes it; what TOML has no word for is said.
fn literal(path: &str, value: &Value) -> Result<String, String> {
    let within = |items: Vec<Result<String, String>>| items.into_iter().collect::<Result<Vec<_>, _>>();
    Ok(match value {
        Value::Null => return Err(format!("`{path}` cannot be null; leave it out to have its default")),
        Value::Bool(value) => value.write(),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.to_string(),
            (None, Some(number)) => format!("{number:?}"),
            (None, None) => quoted(&number.to_string()),
        },
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            let items = items.iter().map(|item| literal(path, item)).collect();
            format!("[{}]", within(items)?.join(", "))
        }
        Value::Object(entries) => {
            let entry = |(name, value): (&String, &Value)| {
                literal(&format!("{path}.{name}"), value).map(|literal| format!("{} = {literal}", key(name)))
            };
            format!("{{ {} }}", within(entries.iter().map(entry).collect())?.join(", "))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerKind;

    #[test]
    fn a_request_is_read_as_the_file_is() {
        let body = r#"{"kind":"http","url":"http://10.0.0.7:3000/mcp","prefix":"w","timeout_ms":500,
            "headers":{"X-Team":"a \"b\"\\"},"trust_annotations":true,"roots":"webpki",
            "tools":{"include":["get_*"],"rename":{"get_x":"x"},"describe":{"get_x":"Gets\nx \u007f\u00e9"}}}"#;
        let (name, settings) = requested("weather", body.as_bytes()).expect("right");
        let text = "[servers.weather]\nkind = \"http\"\nurl = \"http://10.0.0.7:3000/mcp\"\nprefix = \"w\"\n\
                    timeout_ms = 500\ntrust_annotations = true\nheaders = { X-Team = 'a \"b\"\\' }\n\
                    [servers.weather.tools]\ninclude = [\"get_*\"]\nrename = { get_x = \"x\" }\n\
                    describe = { get_x = \"Gets\\nx \\u007F\u{e9}\" }\n";
        let of_file = Config::from_toml("c.toml", text).expect("right").into_settings().servers;
        assert_eq!(of_file, [(name, settings)]);
    }

    #[test]
    fn what_only_the_file_may_say_is_refused_by_its_name() {
        for (more, key) in [
            (r#""command":"sh""#, "command"),
            (r#""kind":"stdio""#, "kind"),
            (r#""args":[]"#, "args"),
            (r#""kind":"dial_in""#, "kind"),
            (r#""key":{"file":"/etc/shadow"}"#, "key"),
            (r#""env":{"A":"b"}"#, "env"),
            (r#""cwd":null"#, "cwd"),
            (r#""open_files":1024"#, "open_files"),
            (r#""address_space_bytes":1073741824"#, "address_space_bytes"),
            (r#""roots":"/etc/ca.pem""#, "roots"),
            (r#""proxy":"http://10.0.0.5:6379""#, "proxy"),
            (r#""proxy_authorization":{"env":"HOME"}"#, "proxy_authorization"),
            (r#""headers":{"A":{"env":"HOME"}}"#, "headers.A"),
            (r#""headers":{"B":"b","A":{"file":"/etc/shadow"}}"#, "headers.A"),
            (r#""headers":{"A":{"before":"b"}}"#, "headers.A"),
        ] {
            let body = format!(r#"{{"url":"http://10.0.0.7/",{more}}}"#);
            let Err(NotRequested::OnlyInFile(why)) = requested("a", body.as_bytes()) else { panic!("{body} is taken") };
            assert!(why.starts_with(&format!("`servers.a.{key}")) && why.contains("corelane reload"), "{why}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_the_configuration() {
        for (name, body, said) in [
            ("My Server", "{}", "call it `my-server`"),
            ("a", "{}", "[servers.a] has no `kind`; add kind = "),
            ("a", r#"{"kind":"http"}"#, "[servers.a] has no `url`; add url = "),
            ("a", r#"{"kind":"htp","url":"http://10.0.0.7/"}"#, "did you mean \"http\"?"),
            ("a", r#"{"kind":"http","url":"ftp://10.0.0.7/"}"#, "the scheme `ftp` is not spoken"),
            ("a", r#"{"kind":"http","url":"http://169.254.169.254/"}"#, "clouds keep their metadata"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","addresses":"public"}"#, "write \"private\""),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","adresses":"any"}"#, "did you mean `addresses`?"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","timeout_ms":0}"#, "cannot be 0: allowed is"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","timeout_ms":1.5}"#, "cannot be a float"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","timeout_ms":18446744073709551615}"#, "a float"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","prefix":null}"#, "cannot be null; leave it out"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","tools":[1]}"#, "allowed is a table"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","headers":{"A":"***"}}"#, "put the secret back"),
            ("a", r#"{"kind":"http","url":"http://10.0.0.7/","enabled":false}"#, "need not be registered"),
        ] {
            let Err(NotRequested::Wrong(why)) = requested(name, body.as_bytes()) else { panic!("{body} is taken") };
            assert!(why.iter().any(|why| why.contains(said)), "{body}: {why:?}");
        }
        for body in ["", "{", "[]", "3", r#"{"kind":"http","kind":"sse"}"#, "{\"a\":\"\u{0}\"}", &"[".repeat(100)] {
            let Err(NotRequested::NoObject(why)) = requested("a", body.as_bytes()) else { panic!("{body} is taken") };
            assert!(why.contains("write an object"), "{why}");
        }
    }

    #[test]
    fn a_secret_in_a_request_is_in_no_complaint() {
        let body = r#"{"kind":"http","url":"http://me:hunter2@a/?k=hunter2","headers":{"A":"hunter2\n"}}"#;
        let error = requested("a", body.as_bytes()).expect_err("wrong");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn a_prefix_is_one_servers() {
        let server = |name: &str, prefix: &str| {
            let body = format!(r#"{{"kind":"http","url":"http://10.0.0.7/","prefix":"{prefix}"}}"#);
            requested(name, body.as_bytes()).expect("right")
        };
        let others = [server("a", "x"), server("b", "")];
        assert!(matches!(others[0].1.kind, ServerKind::Http(_)));
        let clash = |(name, settings): (ServerName, ServerSettings)| clash(&name, &settings, &others);
        assert_eq!(clash(server("a", "x")), None, "its own");
        assert_eq!(clash(server("c", "")), None, "none is nobody's");
        assert!(clash(server("c", "x")).is_some_and(|why| why.contains("`servers.a` has as well; give one of them")));
    }
}
