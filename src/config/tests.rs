//! Tests of the whole of `config`: layers, precedence, messages, the printed file.

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn from_env(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::load(&Sources { variables: variables(pairs), ..Sources::default() })
}

fn complaint(text: &str) -> String {
    Config::from_toml("corelane.toml", text).expect_err(text).to_string()
}

#[test]
fn of_two_that_do_not_go_together_the_one_that_was_written_is_shown() {
    let text = "[serve]\nendpoint = \"/sse\"\n";
    let said = complaint(text);
    assert!(said.contains(":2:") && said.contains("/sse"), "{said}");
}

#[test]
fn the_printed_default_parses_to_the_default_and_has_every_key() {
    let text = Config::default().to_commented_toml();
    let parsed = Config::from_toml("printed", &text).expect("the printed text is valid");
    assert_eq!(parsed, Config::default());
    assert!(parsed.non_defaults().is_empty());
    let document: toml_edit::DocumentMut = text.parse().expect("TOML");
    for key in KEYS {
        let section = if key.section.is_empty() { document.as_item() } else { &document[key.section] };
        assert!(section.get(key.name).is_some(), "{} is printed", key.path());
    }
    for heading in ["#   unit:", "#   allowed:", "#   default:", "#   memory:", "#   wrong:"] {
        // The row for the kind of a server is explained once, though two examples have it.
        let all = KEYS.len() + rows::SERVER_ROWS.len() + rows::VIEW_ROWS.len();
        assert_eq!(text.lines().filter(|line| line.starts_with(heading)).count(), all, "{heading}");
    }
    assert!(text.lines().all(|line| !line.starts_with('#') || line.chars().count() <= 120), "lines are short");
}

#[test]
fn a_changed_configuration_survives_printing() {
    let text = "[serve]\nlisten = []\ntcp = [\"[::1]:1\"]\nunix = [\"/run/a b\"]\nsse_endpoint = \"\"\nallowed_hosts = [\"X.example:1\"]\n\
                [cores]\nlist = \"0-3,8\"\npin = false\n[limits]\nconnections_per_core = 50\n[log]\nlevel = \"trace\"\n";
    let config = Config::from_toml("t", text).expect("valid");
    assert_ne!(config, Config::default());
    assert_eq!(Config::from_toml("printed", &config.to_commented_toml()).expect("valid"), config);
}

#[test]
fn an_empty_file_is_the_default() {
    assert_eq!(Config::from_toml("empty", "").expect("valid"), Config::default());
    assert_eq!(Config::load(&Sources::default()).expect("valid"), Config::default());
}

#[test]
fn flags_win_over_environment_over_file_over_default() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("c.toml");
    std::fs::write(&file, "[limits]\nbody_bytes = 2000\nline_bytes = 3000\npipeline_depth = 4\n").expect("written");
    let sources = Sources {
        file: Some(file.clone()),
        variables: variables(&[
            ("CORELANE_LIMITS_BODY_BYTES", "4000"),
            ("CORELANE_LIMITS_LINE_BYTES", "5000"),
            ("HOME", "/"),
        ]),
        flags: vec![Flag::word("--body", "limits.body_bytes", "6000")],
    };
    let config = Config::load(&sources).expect("valid");
    let limits = config.settings().limits;
    assert_eq!((limits.body_bytes.get(), limits.line_bytes.get(), limits.pipeline_depth.get()), (6000, 5000, 4));
    assert_eq!(limits.egress_bytes.get(), 262_144);
    let shown: Vec<String> = config.non_defaults().iter().map(ToString::to_string).collect();
    let from_file = format!("limits.pipeline_depth = 4 (from {}:4)", file.display());
    assert_eq!(
        shown,
        [
            "limits.body_bytes = 6000 (from --body)",
            "limits.line_bytes = 5000 (from CORELANE_LIMITS_LINE_BYTES)",
            from_file.as_str()
        ]
    );
}

#[test]
fn the_form_of_the_log_is_known_before_the_file_is() {
    let sources = |flag: Option<&str>, variable: Option<&str>| Sources {
        file: Some("/nowhere/corelane.toml".into()),
        variables: variable.map(|word| ("CORELANE_LOG_FORMAT".into(), word.into())).into_iter().collect(),
        flags: flag.map(|word| Flag::word("--log-format", "log.format", word)).into_iter().collect(),
    };
    for (flag, variable, format) in [
        (None, None, None),
        (Some("json"), None, Some(LogFormat::Json)),
        (None, Some("json"), Some(LogFormat::Json)),
        (Some("text"), Some("json"), Some(LogFormat::Text)),
        (None, Some("jsom"), None),
    ] {
        assert_eq!(sources(flag, variable).log_format(), format, "{flag:?}, {variable:?}");
    }
}

#[test]
fn the_environment_sets_every_shape_of_value() {
    let config = from_env(&[
        ("CORELANE_SERVE_LISTEN", "127.0.0.1:9000,[::1]:9000"),
        ("CORELANE_SERVE_TCP", "127.0.0.1:9001"),
        ("CORELANE_CORES", "0-3"),
        ("CORELANE_CORES_PIN", "false"),
        ("CORELANE_LOG_FORMAT", "json"),
        ("CORELANE_CALLS_TIMEOUT_MS", "1000"),
        ("CORELANE_LOG", "debug"),
        ("CORELANE_DISABLE", "send_zc"),
        ("CORELANE_TEST_ANYTHING", "x"),
    ])
    .expect("valid");
    let Settings { serve, cores, log, calls, .. } = config.into_settings();
    assert_eq!(serve.listen.len(), 2);
    assert_eq!(cores.list, CoreList::Cpus(vec![0, 1, 2, 3]));
    assert!(!cores.pin);
    assert_eq!(log.format, LogFormat::Json);
    assert_eq!(calls.timeout_ms.ms(), 1000);
}

#[test]
fn unknown_variables_are_problems() {
    let error = from_env(&[("CORELANE_SERVE_LISTN", "x"), ("CORELANE_FROBNICATION_RATE", "1")]).expect_err("unknown");
    let text = error.to_string();
    assert!(text.contains("CORELANE_SERVE_LISTN: no such setting\n = did you mean `CORELANE_SERVE_LISTEN`?"), "{text}");
    assert!(text.contains("CORELANE_FROBNICATION_RATE") && text.contains("config --default"), "{text}");
    let short = from_env(&[("CORELANE_FOO", "1")]).expect_err("unknown").to_string();
    assert!(short.contains("config --default") && !short.contains("did you mean"), "{short}");
    let twice = from_env(&[("CORELANE_CORES", "1"), ("CORELANE_CORES_LIST", "2")]).expect_err("twice").to_string();
    assert!(twice.contains("unset one"), "{twice}");
    assert!(!error.is_usage());
}

#[test]
fn unknown_keys_show_their_line_with_a_suggestion() {
    let text = complaint("[serve]\nendpoint = \"/mcp\"\nlisen = [\"127.0.0.1:1\"]\n");
    assert_eq!(
        text,
        "unknown key `lisen` in [serve]\n  --> corelane.toml:3:1\n  |\n3 | lisen = [\"127.0.0.1:1\"]\n  | ^^^^^\n  = did you mean `listen`?"
    );
    assert!(complaint("[serv]\n").contains("did you mean `serve`?"));
    assert!(complaint("body_bytes = 1\n").contains("`body_bytes` belongs into [limits]"));
    assert!(complaint("[serve]\nbody_bytes = 1\n").contains("`body_bytes` belongs into [limits]"));
    assert!(complaint("[serve]\nzzzzzzzz = 1\n").contains("keys of [serve] are listen, tcp"));
    assert!(complaint("serve = 3\n").contains("write [serve] on its own line"));
    assert!(complaint("[[serve]]\nlisten = []\n").contains("allowed is a table"));
    assert!(complaint("[serve.listen]\nx = 1\n").contains("`serve.listen` cannot be a table"));
}

#[test]
fn wrong_values_say_what_was_seen_and_what_is_allowed() {
    let text = complaint("[limits]\nbody_bytes = 99999999999\n");
    assert!(
        text.starts_with(
            "`limits.body_bytes` cannot be 99999999999: allowed is a whole number from 1024 to 16777216\n"
        ),
        "{text}"
    );
    assert!(text.contains("--> corelane.toml:2:14\n"), "{text}");
    assert!(text.contains("2 | body_bytes = 99999999999\n  |              ^^^^^^^^^^^"), "{text}");
    assert!(complaint("[limits]\nbody_bytes = \"2000\"\n").contains("write the number without quotes"));
    assert!(complaint("[limits]\nbody_bytes = 1.5\n").contains("cannot be a float"));
    assert!(complaint("[serve]\nendpoint = 5\n").contains("write it as text in double quotes"));
    assert!(complaint("[serve]\nlisten = \"127.0.0.1:1\"\n").contains("brackets"));
    assert!(complaint("[cores]\npin = \"yes\"\n").contains("allowed is true or false"));
    let element = complaint("[serve]\nlisten = [\"127.0.0.1:1\", \"localhost:2\"]\n");
    assert!(element.contains("corelane.toml:2:26") && element.contains("write \"127.0.0.1:2\""), "{element}");
    assert!(complaint("[log]\nlevel = \"inof\"\n").contains("did you mean \"info\"?"));
}

#[test]
fn a_wrong_ticket_key_is_not_shown() {
    let text = complaint("[sessions]\nticket_key = \"0011223344\"\n");
    assert!(text.contains("corelane.toml:2:14") && text.contains("openssl rand -hex 32"), "{text}");
    assert!(!text.contains("0011"), "{text}");
}

#[test]
fn all_problems_are_told_at_once() {
    let error = Config::from_toml("x", "[serve]\na = 1\nb = 2\n[cores]\nlist = 0\n").expect_err("three");
    assert_eq!(error.problems().len(), 3);
}

#[test]
fn broken_toml_shows_where() {
    let text = complaint("[serve]\nlisten = [\n");
    assert!(text.contains("not valid TOML") && text.contains("--> corelane.toml:"), "{text}");
    let twice = complaint("[log]\nlevel = \"info\"\nlevel = \"warn\"\n");
    assert!(twice.contains("corelane.toml:3"), "{twice}");
}

#[test]
fn contradictions_name_both_sides() {
    assert!(
        complaint("[calls]\ntimeout_ms = 400000\n")
            .contains("lower `calls.timeout_ms` or raise `calls.timeout_max_ms`")
    );
    assert!(complaint("[uring]\nbuffers = 8192\n").contains("`uring.buffers_max`, which is 4096"));
    assert!(complaint("[uring]\nentries = 32768\n").contains("uring.cq_entries"));
    let soft = complaint("[limits]\nconnections = 200\nconnections_soft = 201\n");
    assert!(soft.contains("lower `limits.connections_soft` or raise `limits.connections`"), "{soft}");
    let with_profile = complaint("profile = \"phase1\"\n[limits]\nconnections_soft = 201\n");
    assert!(with_profile.contains("`limits.connections`, which is 200"), "{with_profile}");
    assert!(complaint("[serve]\nlisten = []\n").contains("nobody could connect"));
    assert!(complaint("[serve]\ntcp = [\"127.0.0.1:8808\"]\n").contains("`serve.listen` has already"));
    assert!(complaint("[control]\nlisten = \"127.0.0.1:8808\"\n").contains("choose another port"));
    assert!(complaint("[serve]\nendpoint = \"/sse\"\n").contains("choose another path"));
    assert!(complaint("[cores]\nlist = 4\nshards = 3\n").contains("makes 4 cores"));
    let free =
        "[serve]\nlisten = [\"127.0.0.1:0\"]\ntcp = [\"127.0.0.1:0\"]\nsse_endpoint = \"\"\nendpoint = \"/message\"\n";
    Config::from_toml("free ports and an unused path", free).expect("no contradiction");
}

#[test]
fn a_missing_file_says_what_to_do() {
    let sources = Sources { file: Some("/nonexistent/c.toml".into()), ..Sources::default() };
    let text = Config::load(&sources).expect_err("missing").to_string();
    assert!(text.contains("/nonexistent/c.toml cannot be read") && text.contains("--config"), "{text}");
}

#[test]
fn a_wrong_flag_is_a_usage_error() {
    let flags = vec![Flag::words("--listen", "serve.listen", ["nonsense".to_owned()])];
    let error = Config::load(&Sources { flags, ..Sources::default() }).expect_err("nonsense");
    assert!(error.is_usage());
    assert!(error.to_string().starts_with("flag --listen: `serve.listen` cannot be `nonsense`"), "{error}");
}

#[test]
fn listening_everywhere_without_hosts_is_warned_about() {
    let config =
        Config::from_toml("t", "[serve]\nlisten = [\"0.0.0.0:8808\"]\ntcp = [\"0.0.0.0:1\"]\n").expect("valid");
    assert_eq!(config.warnings().len(), 2);
    assert!(Config::default().warnings().is_empty());
    let named = "[serve]\nlisten = [\"0.0.0.0:8808\"]\nallowed_hosts = [\"mcp.example\"]\n";
    assert!(Config::from_toml("t", named).expect("valid").warnings().is_empty());
}

#[test]
fn a_file_that_is_not_utf_8_is_shown_its_first_wrong_byte() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("corelane.toml");
    for (bytes, byte, line, column) in [
        (&b"[serve]\n# caf\xc3\xa9, caf\xe9\nlisten = []"[..], "0xe9", 2, 12),
        (b"\xff\xfe[\0s\0", "0xff", 1, 1),
        (b"[serve]\n\xc3", "0xc3", 2, 1),
    ] {
        std::fs::write(&path, bytes).expect("writable");
        let sources = Sources { file: Some(path.clone()), ..Sources::default() };
        let said = Config::load(&sources).expect_err("no text").to_string();
        assert!(said.contains(&format!("--> {}:{line}:{column}", path.display())), "{said}");
        assert!(said.contains(byte) && said.contains("save the file as UTF-8"), "{said}");
        assert!(!said.contains("config --default"), "it could be read: {said}");
    }
}
