//! What the guides tell people to type: every command in them exists, has the options that it is given, and those that
//! need nothing to run against are run.
//!
//! A block of `sh` holds commands, each looked at; a block of `sh run` is run as well, from the project's folder; one
//! of `sh host` is for whoever sets up a host, and is run where it changes none: in a network of its own, with a copy
//! of what is in `/etc`. Not here: what the commands do. Invariant: a command that nobody here knows is an error, not
//! something to pass over; and nothing outside the project's `results` and `target` is changed.

use std::{
    collections::BTreeSet,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

const GUIDES: [&str; 3] = ["docs/optimization.md", "docs/deployment.md", "bench/README.md"];
/// Of the system, and of no interest here.
const SYSTEM: [&str; 8] = ["cat", "cmp", "cp", "install", "mkdir", "systemctl", "tee", "useradd"];
const BENCH: &str = env!("CARGO_BIN_EXE_corelane-bench");

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the project's folder").to_owned()
}

/// What is done with a block.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Looked,
    Run,
    Host,
}

/// A block of commands.
struct Block {
    kind: Kind,
    line: usize,
    text: String,
}

/// Where the programs of this project are built for tests, corelane among them.
fn programs() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let build = || {
        // As the other tests have it, so that there is nothing to do if they have run.
        let words = ["build", "--profile", "test", "--package", "corelane", "--bin", "corelane"];
        let output = Command::new(env!("CARGO")).args(words).current_dir(root()).output().expect("cargo");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Path::new(BENCH).parent().expect("it is in a folder").to_owned()
    };
    BUILT.get_or_init(build).clone()
}

fn blocks(guide: &str) -> Vec<Block> {
    let (mut blocks, mut open) = (Vec::new(), None);
    for (at, line) in guide.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                let known = match kind {
                    "sh" => Some(Kind::Looked),
                    "sh run" => Some(Kind::Run),
                    "sh host" => Some(Kind::Host),
                    _ => None,
                };
                let kind = known.unwrap_or(Kind::Looked);
                open = Some((known.is_some(), Block { kind, line: at + 1, text: String::new() }));
            }
            (Some(_), Some(_)) => blocks.extend(open.take().filter(|(known, _)| *known).map(|(_, block)| block)),
            (Some((_, block)), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the last block is never closed");
    blocks
}

/// The commands of a block, each as its words; what is set before one for its environment is left out.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split(" #").next().unwrap_or_default().trim());
    let simple = lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .flat_map(|line| line.split(" && ").flat_map(|part| part.split(" | ")).map(str::to_owned).collect::<Vec<_>>());
    let set = |word: &&str| {
        word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let words = |command: String| -> Vec<String> {
        let words = command.split_whitespace().skip_while(set).skip_while(|word| *word == "sudo");
        // Where standard output goes is the shell's business.
        words.filter(|word| !word.starts_with('>')).map(str::to_owned).collect()
    };
    simple.map(words).collect()
}

/// What a program says of itself.
fn told(program: &Path, words: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(words).current_dir(root()).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    let text = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    // `perf SUBCOMMAND -h` ends with 129.
    if output.status.success() || output.status.code() == Some(129) {
        Ok(text)
    } else {
        Err(format!("{} {}: {}: {text}", program.display(), words.join(" "), output.status))
    }
}

/// Options among words, up to a lone `--`.
fn options(words: &[String]) -> impl Iterator<Item = &str> {
    let own = words.iter().map(String::as_str).take_while(|word| *word != "--");
    own.filter(|word| word.starts_with('-')).map(|word| word.split('=').next().unwrap_or(word))
}

fn has(help: &str, option: &str) -> bool {
    help.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').any(|word| word == option)
}

/// Why a command is none.
fn wrong(command: &[String]) -> Option<String> {
    let words = command;
    let program = &words[0];
    let help = match program.as_str() {
        "corelane-bench" => match words.get(1) {
            Some(subcommand) => told(Path::new(BENCH), &[subcommand, "--help"]),
            None => return Some("it is given no subcommand".into()),
        },
        "corelane" => match words.get(1) {
            Some(subcommand) => told(&programs().join("corelane"), &[subcommand, "--help"]),
            None => return Some("it is given no subcommand".into()),
        },
        "perf" => match (Command::new("perf").arg("--version").output(), words.get(1)) {
            // Somebody else's program, which need not be here.
            (Err(_), _) => return None,
            (_, Some(subcommand)) => told(Path::new("perf"), &[subcommand, "-h"]),
            (_, None) => return Some("it is given no subcommand".into()),
        },
        "cargo" => return wrong_cargo(&words[1..]),
        system if SYSTEM.contains(&system) => return None,
        path if path.contains('/') && root().join(path).is_file() => told(&root().join(path), &["--help"]),
        _ => return Some("there is no such program".into()),
    };
    let help = match help {
        Ok(help) => help,
        Err(why) => return Some(why),
    };
    options(&words[1..]).find(|option| !has(&help, option)).map(|option| format!("it has no option {option}"))
}

/// Tests and packages that cargo is to find.
fn wrong_cargo(words: &[String]) -> Option<String> {
    for pair in words.windows(2) {
        let name = &pair[1];
        let there = match pair[0].as_str() {
            "--test" => ["tests", "bench/tests"].iter().any(|folder| {
                [format!("{name}.rs"), format!("{name}/main.rs")]
                    .iter()
                    .any(|file| root().join(folder).join(file).is_file())
            }),
            "-p" | "--package" => ["Cargo.toml", "bench/Cargo.toml", "bench/registry/Cargo.toml"].iter().any(|file| {
                fs::read_to_string(root().join(file)).is_ok_and(|text| text.contains(&format!("name = \"{name}\"")))
            }),
            _ => true,
        };
        if !there {
            return Some(format!("there is no {} {name}", pair[0]));
        }
    }
    None
}

fn guide(name: &str) -> String {
    fs::read_to_string(root().join(name)).expect("the guide is there")
}

#[test]
fn every_command_and_option_of_a_guide_exists() {
    for name in GUIDES {
        let blocks = blocks(&guide(name));
        assert!(!blocks.is_empty(), "{name} tells no command");
        for block in blocks {
            for command in commands(&block.text) {
                if let Some(why) = wrong(&command) {
                    panic!("{name}, block at line {}: `{}`: {why}", block.line, command.join(" "));
                }
            }
        }
    }
}

#[test]
fn what_can_be_run_runs() {
    for name in GUIDES {
        for block in blocks(&guide(name)).iter().filter(|block| block.kind == Kind::Run) {
            let (succeeded, said) = ran(&mut Command::new("bash"), &format!("set -euo pipefail\n{}", block.text));
            assert!(succeeded, "{name}, block at line {}: {said}", block.line);
            assert!(!said.trim().is_empty(), "{name}, block at line {}: it said nothing", block.line);
        }
    }
}

/// Runs a script where the guides are read, with this project's programs; whether it succeeded, and what it said.
fn ran(shell: &mut Command, script: &str) -> (bool, String) {
    let mut path = programs().into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let shell = shell.args(["-c", script]).env("PATH", &path).current_dir(root()).stdin(Stdio::null());
    let output = shell.output().expect("a shell");
    (output.status.success(), String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned())
}

/// Before a block that sets up a host: what it changes is the block's alone, and it needs nobody's leave.
const ELSEWHERE: &str = r#"
set -euo pipefail
copy=$(mktemp -d)
mount -t tmpfs tmpfs "$copy"
cp -a /etc "$copy/etc" 2>/dev/null || true
mkdir "$copy/lib"
mount --bind "$copy/etc" /etc
mount --bind "$copy/lib" /var/lib
mount -t tmpfs tmpfs /usr/local/bin
umount -l "$copy" && rmdir "$copy"
ip link set lo up
sudo() { "$@"; }
"#;

#[test]
fn what_sets_up_a_host_does_so() {
    let mut count = 0;
    for name in GUIDES {
        for block in blocks(&guide(name)).iter().filter(|block| block.kind == Kind::Host) {
            count += 1;
            // What the kernel has only once for all namespaces would be changed for real by root.
            for command in commands(&block.text) {
                let is_real = command[0].ends_with("/apply") && command.iter().any(|word| word == "--yes");
                let is_namespaced = command.windows(2).any(|two| two == ["--groups", "net"]);
                assert!(!is_real || is_namespaced, "{name}, block at line {}: {command:?}", block.line);
                assert_ne!(command[0], "systemctl", "{name}: it would talk to the host's systemd");
            }
            let built = programs().display().to_string();
            let script = format!("{ELSEWHERE}\n{}", block.text.replace("target/release", &built));
            let inside =
                |flags: &[&str]| ran(Command::new("unshare").args(flags).args(["--mount", "--net", "bash"]), &script);
            let before = fs::read("/etc/passwd").expect("there is one");
            // Whoever may not make a namespace may make one of users first.
            let (mut succeeded, mut said) = inside(&["--user", "--map-root-user"]);
            if !succeeded {
                let (as_root, more) = inside(&[]);
                (succeeded, said) = (as_root, format!("{said}\nas root: {more}"));
            }
            assert!(succeeded, "{name}, block at line {}: {said}", block.line);
            assert!(before == fs::read("/etc/passwd").expect("there is one"), "{name}: it was not elsewhere");
        }
    }
    assert!(count > 0, "docs/deployment.md sets up a host");
}

/// Every file and folder of results is explained where one looks for it.
#[test]
fn every_result_is_explained() {
    let readme = guide("bench/README.md");
    let results = fs::read_dir(root().join("bench/results")).expect("there are results");
    let names: BTreeSet<String> = results
        .map(|entry| {
            let entry = entry.expect("an entry");
            let name = entry.file_name().to_string_lossy().into_owned();
            // A table and what it was made from are one.
            let stem = name.split_once('.').map_or(name.clone(), |(stem, _)| stem.to_owned());
            if entry.path().is_dir() { format!("{name}/") } else { stem }
        })
        // What `--quick` leaves decides nothing and is not kept.
        .filter(|name| name != "quick/")
        .collect();
    let missing: Vec<_> = names.iter().filter(|name| !readme.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "bench/README.md does not say how to read {missing:?} of bench/results");
}

/// The rules above can fail.
#[test]
fn what_is_not_there_is_found() {
    for (command, why) in [
        ("corelane-bench flame --no-such", "it has no option --no-such"),
        ("corelane-bench flam --out x", "flam"),
        ("scripts/flamegraph.sh --al", "it has no option --al"),
        ("scripts/no_such --all", "there is no such program"),
        ("cargo test --test no_such", "there is no --test no_such"),
        ("cargo test -p no-such", "there is no -p no-such"),
        ("corelan --help", "there is no such program"),
        ("corelane check --no-such", "it has no option --no-such"),
        ("sudo kernel-tuning/apply --no", "it has no option --no"),
    ] {
        let found = wrong(&commands(command)[0]);
        assert!(found.as_ref().is_some_and(|found| found.contains(why)), "{command}: {found:?}");
    }
    let text = "INSTRUCTIONS_WRITE=1 scripts/test --only \\\n  x # why\n\n# a word\nscripts/check && cat y\n";
    assert_eq!(commands(text), [&["scripts/test", "--only", "x"][..], &["scripts/check"], &["cat", "y"]]);
    assert_eq!(commands("sudo tee x >y && a | sudo b"), [&["tee", "x"][..], &["a"], &["b"]]);
    assert_eq!(wrong(&commands("scripts/flamegraph.sh --all -- --no-such")[0]), None, "what follows is another's");
    let found = blocks("a\n```text\nb\n```\n```sh run\nc\n```\n```sh\nd\n```\n```sh host\ne\n```\n");
    let found: Vec<_> = found.iter().map(|block| (block.kind, block.line, block.text.as_str())).collect();
    assert_eq!(found, [(Kind::Run, 5, "c\n"), (Kind::Looked, 8, "d\n"), (Kind::Host, 11, "e\n")]);
}
