//! The configuration as commented TOML.
//!
//! Not a template: it is printed from the table of keys, so it cannot miss one.
//! Invariant: the printed text of a configuration parses to that configuration (a ticket key given in hex excepted,
//! which is never printed).

use super::Settings;
use super::table::{KEYS, Key, SECTIONS};

/// Columns of a printed line.
const WIDTH: usize = 110;

const OPENING: &str = "\
# Corelane configuration.
#
# Every key may be left out; what is written here is what it then is.
# A flag wins over the environment, the environment over this file, this file over the default.
# In the environment a key is CORELANE_, its section, `_` and its name in capitals: CORELANE_LIMITS_BODY_BYTES=65536.
# Lists are separated by commas there: CORELANE_SERVE_LISTEN=127.0.0.1:9000,[::1]:9000. CORELANE_CORES is short for
# CORELANE_CORES_LIST. An unknown key or variable is an error.
";

/// Prints `settings` as commented TOML.
pub(super) fn print(settings: &Settings) -> String {
    let default = Settings::default();
    let mut out = OPENING.to_owned();
    for (section, what) in SECTIONS {
        out.push_str(&format!("\n# {what}\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == *section) {
            out.push_str(&print_key(key, settings, &default));
        }
    }
    out
}

fn print_key(key: &Key, settings: &Settings, default: &Settings) -> String {
    let mut out = "\n".to_owned();
    wrap(&mut out, "", key.what);
    wrap(&mut out, "  unit:    ", key.unit);
    wrap(&mut out, "  allowed: ", &(key.allowed)());
    wrap(&mut out, "  default: ", &(key.get)(default));
    wrap(&mut out, "  memory:  ", key.memory);
    wrap(&mut out, "  wrong:   ", key.wrong);
    out.push_str(&format!("{} = {}\n", key.name, (key.get)(settings)));
    out
}

/// Appends `text` as comment lines; the first begins with `label`, the others are indented as far.
fn wrap(out: &mut String, label: &str, text: &str) {
    let mut line = format!("# {label}");
    let mut empty = true;
    for word in text.split(' ') {
        if !empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = format!("# {:width$}", "", width = label.len());
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(&line);
    out.push('\n');
}
