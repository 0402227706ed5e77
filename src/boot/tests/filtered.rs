//! A whole process behind the reframing filter: sockets, driver, cores, sessions across cores. Its clients speak
//! plainly, each through a relay of its own that has the other end of the filter.
//!
//! Not here: what the machines do with a filter (`server/tests/filtered`).

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::rig::{Client, Life, Running, alone, server};
use crate::boot::launch::{Doors, Launch};
use crate::boot::on_core::Hooks;
use crate::config::Config;
use crate::server::filter::reframing::Reframing;
use crate::server::filter::{ByteFilter, FilterKind};
use crate::shard::restarts::Intensity;

const PATIENCE: Duration = Duration::from_secs(10);

/// Starts a relay to a filtered listener; plain clients connect to what it returns.
fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("a port");
    std::thread::spawn(move || {
        for plain in listener.incoming() {
            let (Ok(plain), Ok(wire)) = (plain, TcpStream::connect(to)) else { return };
            join(plain, wire);
        }
    });
    address
}

/// Carries bytes between a plain socket and a filtered one until both have ended.
fn join(mut plain: TcpStream, mut wire: TcpStream) {
    for socket in [&plain, &wire] {
        socket.set_nodelay(true).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
    }
    let end = Arc::new(Mutex::new(Reframing::client()));
    let greeting = end.lock().expect("no panic").seal(Vec::new());
    wire.write_all(&greeting).expect("it listens");
    let (mut plain_out, mut wire_in) = (plain.try_clone().expect("a socket"), wire.try_clone().expect("a socket"));
    let opener = Arc::clone(&end);
    // What the greeting held back leaves when its answer has come.
    let mut wire_again = wire.try_clone().expect("a socket");
    std::thread::spawn(move || {
        let mut buffer = [0; 3001];
        while let Ok(read @ 1..) = wire_in.read(&mut buffer) {
            let mut spill = Vec::new();
            let mut end = opener.lock().expect("no panic");
            let clear = end.open(&mut buffer[..read], &mut spill).expect("the server's records").to_vec();
            let words = end.seal(Vec::new());
            let over = end.peer_has_ended();
            drop(end);
            if wire_again.write_all(&words).is_err() || plain_out.write_all(&clear).is_err() || over {
                break;
            }
        }
        let _ = plain_out.shutdown(Shutdown::Write);
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 2003];
        while let Ok(read @ 1..) = plain.read(&mut buffer) {
            let words = end.lock().expect("no panic").seal(buffer[..read].to_vec());
            if wire.write_all(&words).is_err() {
                break;
            }
        }
        let farewell = {
            let mut end = end.lock().expect("no panic");
            end.finish();
            end.seal(Vec::new())
        };
        let _ = wire.write_all(&farewell);
        let _ = wire.shutdown(Shutdown::Write);
    });
}

fn start() -> Running {
    let text = "[serve]\nlisten = [\"127.0.0.1:0\"]\ndrain_deadline_ms = 2000\n[cores]\nlist = 2\n\
                [control]\nlisten = \"127.0.0.1:0\"\n";
    let config = Config::from_toml("test", text).unwrap_or_else(|error| panic!("{error}"));
    let mut launch: Launch<Life> =
        Launch::prepare(server(), config, &Doors::Listeners, Hooks::default(), false).expect("this host serves");
    for slot in &mut launch.slots {
        slot.seed.settings.filters = vec![FilterKind::Reframing];
    }
    Running::launch(launch, Intensity::CORE)
}

#[test]
fn plain_clients_notice_nothing_of_a_filter() {
    alone("filtered::plain_clients_notice_nothing_of_a_filter", || {
        let running = start();
        let address = relay(running.address());
        let mut clients: Vec<Client> = (0..24).map(|_| Client::connect(address)).collect();
        for client in &mut clients {
            client.place().expect("a modern call is answered");
        }
        // Sessions, used from other connections, so from the other core as well.
        let session = clients[0].initialize();
        let homes: Vec<usize> = clients.iter_mut().map(|client| client.place_in(&session).core).collect();
        assert!(homes.windows(2).all(|two| two[0] == two[1]), "a session stays where it is: {homes:?}");
        // A body of many receives, sends and records, each way.
        let text = "x".repeat(700_000);
        assert!(clients[1].call("says", &format!(r#"{{"text":"{text}"}}"#)));
        let answer = clients[1].answer().expect("an answer");
        assert!(answer.status == 200 && answer.text.contains(&text), "{} bytes came back", answer.text.len());
        // A handler that answers later, while another connection goes on.
        assert!(clients[2].call("sleep", r#"{"ms":30}"#));
        clients[3].place().expect("others are served meanwhile");
        assert!(clients[2].answer().expect("an answer").text.contains("slept"));
        drop(clients);
        running.end().expect("drained");
    });
}

#[test]
fn plain_bytes_are_no_records() {
    alone("filtered::plain_bytes_are_no_records", || {
        let running = start();
        let mut stranger = Client::connect(running.address());
        assert!(stranger.call("where", "{}"));
        stranger.sees_its_end();
        Client::connect(relay(running.address())).place().expect("others are served");
        running.end().expect("drained");
    });
}
