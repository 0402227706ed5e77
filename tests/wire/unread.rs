//! A standard error that nobody reads, as clients leave it that start servers: it holds up nobody.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::until;

fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Whatever comes, it does not go on saying much.
struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        // It has ended already, if all went well.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Asks for what is not there, so many times over one connection.
fn refusals(address: SocketAddr, count: usize) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let mut asker = stream.try_clone().expect("a second handle");
    let one = format!("GET /nowhere HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let last = one.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let writer = std::thread::spawn(move || asker.write_all((one.repeat(count - 1) + &last).as_bytes()));
    let mut answers = String::new();
    stream.read_to_string(&mut answers).expect("answers until it is closed");
    writer.join().expect("it does not panic").expect("it is read");
    assert_eq!(answers.matches("HTTP/1.1 404").count(), count);
}

#[test]
fn a_log_that_nobody_reads_holds_up_nobody() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_corelane"));
    // A child that says much to its standard error, of which much goes into the log.
    let mut file = tempfile::NamedTempFile::new().expect("a place for files");
    let says = "while :; do head -c 4000 /dev/zero | tr -c x x; echo; done >&2";
    let section = format!("[servers.loud]\nkind = \"stdio\"\ncommand = \"sh\"\nargs = [\"-c\", \"{says}\"]\n");
    file.write_all(section.as_bytes()).expect("room for a file");
    command.args(["serve", "--listen", "127.0.0.1:0", "--cores", "1", "--config"]).arg(file.path());
    command.env("CORELANE_CONTROL_LISTEN", "127.0.0.1:0").env("CORELANE_LOG", "trace");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = KillOnDrop(command.spawn().expect("the program was built with this test"));
    let mut stderr = BufReader::new(child.0.stderr.take().expect("piped"));
    let (mut control, mut http, mut said) = (None, None, String::new());
    while control.is_none() {
        let mut line = String::new();
        assert!(stderr.read_line(&mut line).expect("text") > 0, "it ended before it listened: {said}");
        said += &line;
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()?.trim().parse().ok());
        match line.split(':').next() {
            Some("MCP over HTTP") => http = address,
            Some("health, metrics") => control = address,
            _ => {}
        }
    }
    let (control, http): (SocketAddr, SocketAddr) = (control.expect("its address"), http.expect("its address"));
    // From here on nobody reads; a pipe holds 64 KiB, and a second's lines of the child are more.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        let answer = get(control, "/readyz").expect("the control thread answers");
        assert!(answer.starts_with("HTTP/1.1 "), "{answer}");
        let page = get(http, "/nowhere").expect("the core answers");
        assert!(page.starts_with("HTTP/1.1 404"), "{page}");
    }
    until("what found no room is counted", || {
        // A line each, and some thousand may wait.
        refusals(http, 1000);
        let page = get(control, "/metrics").expect("the control thread answers");
        let line = page.lines().find(|line| line.starts_with("corelane_log_lines_dropped_total "))?;
        line.rsplit(' ').next()?.parse::<u64>().ok().filter(|&lines| lines > 0)
    });
    let told = Command::new("kill").args(["-TERM", &child.0.id().to_string()]).status();
    assert!(told.expect("kill(1)").success());
    let status = until("the process ends", || child.0.try_wait().expect("our child"));
    assert!(status.success(), "{status}");
}
