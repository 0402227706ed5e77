//! Rule: the driver does the same with every feature that may be missing switched off.
//!
//! Not here: finding out what is missing (`features`). Invariant: see `tests`.

use std::io::Write;

use super::*;

/// Clients that send lines and half-close; everything comes back, then the end does.
fn echo(disabled: Disabled) {
    const CLIENTS: usize = 12;
    const BYTES: usize = 150_000;
    let (mut rig, _listener, address) = Rig::listening(small(), disabled);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = connect(address);
            std::thread::spawn(move || {
                let mut writer = client.try_clone().expect("a descriptor");
                let thread = std::thread::spawn(move || {
                    writer.write_all(&pattern(BYTES)).expect("read");
                    writer.shutdown(std::net::Shutdown::Write).expect("open");
                });
                let all = read_to_end(&mut client);
                thread.join().expect("no panic");
                assert!(all == pattern(BYTES), "{} bytes came back", all.len());
            })
        })
        .collect();
    let mut waiting: HashMap<ConnectionId, Vec<u8>> = HashMap::new();
    let mut sending: HashMap<ConnectionId, bool> = HashMap::new();
    let start = Instant::now();
    while rig.closed.len() < CLIENTS {
        assert!(start.elapsed() < PATIENCE, "{disabled:?}");
        rig.turn(Some(PATIENCE));
        for (id, bytes) in rig.received.drain() {
            waiting.entry(id).or_default().extend(bytes);
        }
        for (id, _, result) in rig.sent.drain(..) {
            assert_eq!(result, Ok(()));
            sending.insert(id, false);
        }
        for (id, ..) in &rig.accepted {
            if sending.get(id) == Some(&true) || rig.closed.contains(id) {
                continue;
            }
            let bytes = waiting.entry(*id).or_default();
            if !bytes.is_empty() {
                rig.driver.send(*id, std::mem::take(bytes)).expect("open");
                sending.insert(*id, true);
            } else if let Some(why) = rig.ended.get(id) {
                assert_eq!(*why, Ended::Eof);
                rig.driver.close(*id);
            }
        }
    }
    for client in clients {
        client.join().expect("the client was content");
    }
    assert_eq!((rig.driver.open(), rig.driver.leases, rig.driver.memory_in_use().1), (0, 0, 0));
}

#[test]
fn an_echo_is_an_echo_under_each_fallback() {
    let all = Disabled {
        hand_over: true,
        msg_ring: true,
        recv_limit: true,
        recv_multishot: true,
        ring_descriptor: true,
        steering: true,
    };
    let none = Disabled::default();
    for disabled in [
        none,
        Disabled { msg_ring: true, ..none },
        Disabled { recv_limit: true, ..none },
        Disabled { recv_multishot: true, ..none },
        Disabled { ring_descriptor: true, ..none },
        all,
    ] {
        echo(disabled);
    }
}
