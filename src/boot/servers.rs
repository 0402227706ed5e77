//! Configured servers and views, as `check` shows them: what a child needs of this host, and a line for each.
//!
//! Not here: reaching a server, which is not tried. Invariant: nothing is started or connected to, and nothing shown
//! may be a secret.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::check::{fail, ok};
use super::host::{Finding, Severity};
use super::trust;
use crate::config::{Demonstration, Pinning, Roots, ServerKind, ServerName, ServerSettings, Settings, StdioServer};
use crate::sys::limits::{self, Resource};

/// Whether the programs and folders of the children that would be started are there; `path` is our own PATH.
pub(super) fn findings(settings: &Settings, path: Option<OsString>, findings: &mut Vec<Finding>) {
    for (name, server) in settings.servers.iter().filter(|(_, server)| server.enabled) {
        let stdio = match &server.kind {
            ServerKind::Stdio(stdio) => stdio,
            ServerKind::Http(http) | ServerKind::Sse(http) => {
                if let Roots::File(path) = &http.roots {
                    findings.push(authorities(name, path));
                }
                continue;
            }
            // It has to come, which is not waited for, or is here.
            ServerKind::DialIn(_) | ServerKind::Native => continue,
        };
        // A child looks in its own PATH, if it is given one.
        let own = stdio.env.get("PATH").map(|value| value.value().reveal().into());
        findings.push(program(name, stdio, own.or_else(|| path.clone()).unwrap_or_default().as_os_str()));
        if let Some(cwd) = &stdio.cwd {
            findings.push(folder(name, cwd));
        }
        if let (Some(most), Ok(ours)) = (stdio.open_files, limits::read(Resource::Nofile)) {
            findings.extend(fewer_files(name, most.get(), ours.hard));
        }
    }
}

fn program(name: &ServerName, stdio: &StdioServer, path: &OsStr) -> Finding {
    let candidates: Vec<PathBuf> = match stdio.command.contains('/') {
        true => vec![PathBuf::from(&stdio.command)],
        false => {
            std::env::split_paths(path).filter(|folder| folder.is_absolute()).map(|f| f.join(&stdio.command)).collect()
        }
    };
    let wanted = "a program that may be run";
    if let Some(found) = candidates.iter().find(|candidate| may_be_run(candidate)) {
        return ok("servers", format!("{name}: {}", found.display()), wanted);
    }
    let seen = format!("{name}: {}", stdio.command);
    match candidates.iter().find(|candidate| candidate.exists()) {
        Some(there) => {
            let advice = format!("{} is there but may not be run: chmod +x, or choose another", there.display());
            fail("servers", &seen, wanted, &advice)
        }
        None if stdio.command.contains('/') => {
            fail("servers", &seen, wanted, &format!("there is no such file: correct servers.{name}.command"))
        }
        None => {
            let advice = format!(
                "it is in no folder of the PATH ({}): install it, or write its absolute path into servers.{name}.command",
                path.display()
            );
            fail("servers", &seen, wanted, &advice)
        }
    }
}

fn authorities(name: &ServerName, path: &Path) -> Finding {
    let wanted = "certificate authorities";
    match trust::of_file(path) {
        Ok(store) => ok("servers", format!("{name}: {} in {}", store.len(), path.display()), wanted),
        Err(why) => fail("servers", &format!("{name}: {why}"), wanted, &format!("correct servers.{name}.roots")),
    }
}

fn folder(name: &ServerName, cwd: &Path) -> Finding {
    let seen = format!("{name}: {}", cwd.display());
    let wanted = "a folder";
    match std::fs::metadata(cwd) {
        Ok(found) if found.is_dir() => ok("servers", seen, wanted),
        Ok(_) => fail("servers", &seen, wanted, &format!("it is a file: correct servers.{name}.cwd")),
        Err(error) => fail("servers", &seen, wanted, &format!("{error}: make it, or correct servers.{name}.cwd")),
    }
}

/// What is said of a child that would be allowed fewer open files than it is to have; nothing if it is not.
fn fewer_files(name: &ServerName, most: u64, hard: u64) -> Option<Finding> {
    let advice = format!("it gets {hard}, as many as this process may give: set LimitNOFILE={most} in the unit");
    let (seen, wanted) = (format!("{name}: {hard} allowed"), format!("open_files = {most}"));
    (hard < most).then_some(Finding { name: "servers", severity: Severity::Warn, seen, wanted, advice })
}

fn may_be_run(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// The servers and views of a configuration, a line each; nothing if there are none.
pub(super) struct Shown<'a>(pub &'a Settings);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { servers, views, gateway, .. } = self.0;
        for (name, server) in servers {
            writeln!(f, "server {name}: {}", how(server))?;
        }
        for (name, view) in views {
            let servers: Vec<_> = view.servers.iter().map(ServerName::as_str).collect();
            writeln!(f, "view {name}: {}", servers.join(", "))?;
        }
        if servers.is_empty() {
            return Ok(());
        }
        let has_section = self.0.native().is_some_and(|(_, server)| server.enabled);
        let demonstration = match gateway.demonstration {
            _ if has_section => "with",
            Demonstration::On => "with",
            Demonstration::Auto | Demonstration::Off => "without",
        };
        let pinning = match gateway.pinning {
            Pinning::Off => "accepted",
            Pinning::Quarantine => "kept from callers until approved",
            Pinning::Warn => "logged",
        };
        let lists = gateway.list_ttl_ms.ms();
        writeln!(
            f,
            "servers together: {demonstration} the demonstration server; lists are kept for {lists} ms; a tool that \
             changes is {pinning}"
        )
    }
}

fn how(server: &ServerSettings) -> String {
    let how = match &server.kind {
        ServerKind::Http(http) => format!("Streamable HTTP, {}, {} addresses", http.url, http.addresses),
        ServerKind::Sse(http) => format!("HTTP+SSE, {}, {} addresses", http.url, http.addresses),
        ServerKind::Stdio(stdio) => format!("child process, {}", stdio.command),
        ServerKind::Native => "the one in this process".to_owned(),
        ServerKind::DialIn(dial_in) => format!("dials in, at most {} connections", dial_in.connections.get()),
    };
    if server.enabled { how } else { format!("{how} (not enabled)") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::fs::Permissions;

    fn settings(text: &str) -> Settings {
        Config::from_toml("c.toml", text).expect("valid").into_settings()
    }

    fn found(text: &str, path: &Path) -> Vec<Finding> {
        let mut found = Vec::new();
        findings(&settings(text), Some(path.into()), &mut found);
        found
    }

    #[test]
    fn programs_are_looked_for_where_the_child_would() {
        let folder = tempfile::tempdir().expect("a folder");
        let (program, script) = (folder.path().join("program"), folder.path().join("script"));
        for (path, mode) in [(&program, 0o755), (&script, 0o644)] {
            std::fs::write(path, "").expect("writable");
            std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("ours");
        }
        let child = |command: &str| format!("[servers.a]\nkind = \"stdio\"\ncommand = \"{command}\"\n");
        let judged = |text: &str, path: &Path| {
            let [finding] = found(text, path).try_into().expect("one");
            (finding.severity, finding.advice)
        };
        assert_eq!(judged(&child("program"), folder.path()).0, Severity::Ok);
        assert_eq!(judged(&child(&program.display().to_string()), Path::new("")).0, Severity::Ok);
        let own = format!("{}env = {{ PATH = \"{}\" }}\n", child("program"), folder.path().display());
        assert_eq!(judged(&own, Path::new("/nonexistent")).0, Severity::Ok);
        for (command, path, said) in [
            ("program", Path::new("/nonexistent"), "in no folder of the PATH (/nonexistent)"),
            ("script", folder.path(), "may not be run"),
            ("/nonexistent/x", folder.path(), "correct servers.a.command"),
        ] {
            let (severity, advice) = judged(&child(command), path);
            assert!(severity == Severity::Fail && advice.contains(said), "{command}: {advice}");
        }
        let off = child("none") + "enabled = false\n";
        assert!(found(&off, folder.path()).is_empty(), "what is not enabled needs nothing");
    }

    #[test]
    fn a_file_of_authorities_has_to_hold_some() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ca.pem");
        let text =
            format!("[servers.a]\nkind = \"http\"\nurl = \"https://mcp.example/\"\nroots = \"{}\"\n", path.display());
        let judged = || found(&text, Path::new("")).pop().expect("one for the file");
        assert!(judged().severity == Severity::Fail && judged().advice.contains("correct servers.a.roots"));
        let good = rcgen::generate_simple_self_signed(["mcp.example".to_owned()]).expect("a certificate");
        std::fs::write(&path, good.cert.pem()).expect("writable");
        assert_eq!(judged().severity, Severity::Ok);
    }

    #[test]
    fn a_child_needs_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("writable");
        for (cwd, severity, said) in [
            (folder.path(), Severity::Ok, ""),
            (&file, Severity::Fail, "it is a file"),
            (Path::new("/nonexistent"), Severity::Fail, "correct servers.a.cwd"),
        ] {
            let text = format!("[servers.a]\nkind = \"stdio\"\ncommand = \"/bin/sh\"\ncwd = \"{}\"\n", cwd.display());
            let finding = found(&text, Path::new("")).pop().expect("one for the folder");
            assert!(finding.severity == severity && finding.advice.contains(said), "{finding:?}");
        }
    }

    #[test]
    fn a_child_that_would_get_fewer_files_than_it_is_to_have_is_told() {
        let name = ServerName::new("a").expect("a name");
        assert_eq!(fewer_files(&name, 1024, 1024), None);
        let few = fewer_files(&name, 1025, 1024).expect("one file fewer");
        assert!(few.severity == Severity::Warn && few.advice.contains("LimitNOFILE=1025"), "{few:?}");
        let text = "[servers.a]\nkind = \"stdio\"\ncommand = \"/bin/sh\"\nopen_files = 16\n";
        assert_eq!(found(text, Path::new("")).len(), 1, "any host allows so few");
    }

    #[test]
    fn servers_and_views_are_named_without_secrets() {
        let text = "[servers.a]\nkind = \"http\"\nurl = \"http://10.0.0.7/mcp?key=hunter2\"\n\
                    [servers.b]\nkind = \"stdio\"\ncommand = \"c\"\nargs = [\"--token=hunter2\"]\nenabled = false\n\
                    [views.v]\nservers = [\"a\", \"b\"]\n[gateway]\npinning = \"quarantine\"\n";
        assert_eq!(
            Shown(&settings(text)).to_string(),
            "server a: Streamable HTTP, http://10.0.0.7/mcp?***, private addresses\n\
             server b: child process, c (not enabled)\n\
             view v: a, b\n\
             servers together: without the demonstration server; lists are kept for 5000 ms; a tool that changes is \
             kept from callers until approved\n"
        );
        assert_eq!(Shown(&Settings::default()).to_string(), "");
    }
}
