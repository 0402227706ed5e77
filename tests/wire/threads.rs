//! Which thread runs where, and who may have the port.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};

use crate::process::{Server, until};

/// The CPUs that each of the process's threads may run on, by thread name.
fn threads(pid: u32) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("the process lives") {
        let status = fs::read_to_string(task.expect("a directory").path().join("status")).unwrap_or_default();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned());
        if let (Some(name), Some(cpus)) = (field("Name:"), field("Cpus_allowed_list:")) {
            found.entry(name).or_default().push(cpus);
        }
    }
    found
}

/// The executor keeps a second thread under the name of its core; it has to stay there too.
fn assert_runs_on(threads: &BTreeMap<String, Vec<String>>, core: usize, cpu: usize) {
    let cpus = threads.get(&format!("corelane-{core}")).map(Vec::as_slice).unwrap_or_default();
    assert!(!cpus.is_empty() && cpus.iter().all(|cpus| *cpus == cpu.to_string()), "core {core}: {threads:?}");
}

/// Where control runs, as the report says.
fn control_cpus(server: &Server) -> String {
    let said = server.said("control").expect("the report says where control runs");
    let (_, rest) = said.split_once("CPUs ").expect("CPUs");
    rest.split(' ').next().expect("a list").to_owned()
}

#[test]
fn each_core_has_the_cpu_that_the_report_says() {
    let server = Server::start();
    let planned: Vec<_> = server.planned().collect();
    assert_eq!(planned.len(), 2);
    let threads = threads(server.pid());
    for (core, cpu) in planned {
        assert_runs_on(&threads, core, cpu);
    }
    // With no CPU to spare control and the pool share the cores' CPUs: all of them, as the report says.
    let shared = control_cpus(&server);
    let pinned = threads.iter().filter(|(name, _)| name.starts_with("corelane-") && name.ends_with(char::is_numeric));
    assert_eq!(pinned.count(), 2);
    let others = threads.iter().filter(|(name, _)| !name.starts_with("corelane-") || !name.ends_with(char::is_numeric));
    for (name, cpus) in others {
        assert!(cpus.iter().all(|cpus| *cpus == shared), "{name}: {cpus:?}, not {shared}");
    }
}

#[test]
fn one_core_leaves_the_other_cpu_to_control() {
    let server = Server::on(1, &[]);
    let planned: Vec<_> = server.planned().collect();
    let threads = threads(server.pid());
    let (core, cpu) = planned[0];
    assert_eq!(planned.len(), 1);
    assert_runs_on(&threads, core, cpu);
    let beside = control_cpus(&server);
    let control = threads.get("corelane-contro").expect("the control thread");
    assert!(control.iter().all(|cpus| *cpus == beside), "{control:?}, not {beside}");
}

#[test]
fn a_port_has_one_owner() {
    let server = Server::start();
    for flag in [["--listen", &server.http.to_string()], ["--tcp", &server.tcp.to_string()]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
        command.arg("serve").args(["--listen", "127.0.0.1:0"]).args(flag).env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let port = flag[1].rsplit(':').next().unwrap();
        assert!(said.contains(port) && said.contains("in use"), "it says what is wrong: {said}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(server.connect().ask(&crate::request::Request::new("OPTIONS", "/mcp")).status, 204, "unimpressed");
}

#[test]
fn of_two_that_start_together_one_has_the_port() {
    for _ in 0..20 {
        let address = std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port");
        let start = || -> Child {
            let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
            command.args(["serve", "--cores", "1", "--listen", &address.to_string()]);
            command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0");
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it was built with this test")
        };
        let mut both = [start(), start()];
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until("one of two gives up", || both.iter_mut().position(|one| one.try_wait().expect("ours").is_some()))
        }));
        let alive: Vec<bool> = both.iter_mut().map(|one| one.try_wait().expect("ours").is_none()).collect();
        let said = both.map(|mut one| {
            // It may have ended.
            let _ = one.kill();
            String::from_utf8_lossy(&one.wait_with_output().expect("ours").stderr).into_owned()
        });
        let ended = ended.unwrap_or_else(|_| panic!("both have {address}: {said:?}"));
        assert!(alive[1 - ended] && said[ended].contains("in use"), "{said:?}");
    }
}
