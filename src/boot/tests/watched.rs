//! What is seen of a core from outside while it is held up and after.
//!
//! Not here: the steps of a request (`tests/wire/observed.rs`).
//! Invariant: what is waited for is a state, never a time.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::rig::{GO_ON, Running, alone, until};
use crate::boot::BootError;
use crate::control::CoreState;
use crate::ids::CoreId;
use crate::shard::restarts::Intensity;

#[test]
fn a_core_that_stalls_is_seen_and_what_comes_for_it_meanwhile_rings_no_bell() {
    alone("watched::a_core_that_stalls_is_seen_and_what_comes_for_it_meanwhile_rings_no_bell", || {
        let running = Running::start(Intensity::CORE);
        let (here, there) = (running.metrics[0], running.metrics[1]);
        let (mut client, mut beside) = (running.connect_to(0), running.connect_to(1));
        let session = client.initialize();
        // The session's core is where it was opened.
        assert_eq!(beside.place_in(&session).core, 0);
        assert!(there.bells_rung.get() > 0, "a core that sleeps is woken for a call from another one");
        until("nothing is read", || here.buffers_in_use.get() == 0);

        until("what was answered has left", || here.sends_in_flight.get() == 0);
        assert!(here.receive_buffers.get() > 0, "there are buffers to read into, whoever has them");

        let saved = there.bells_saved.get();
        assert_eq!((here.stalls.get(), running.health.get(CoreId(0))), (0, CoreState::Ready));
        assert!(client.call("stalls", r#"{"ms":1000}"#));
        until("the request is in the core's hands", || here.buffers_in_use.get() == 1);
        assert!(beside.call_in(&session, "where", "{}"));
        until("it is seen to stand still", || running.health.get(CoreId(0)) == CoreState::Stalled);
        assert!(!running.health.is_ready() && running.health.is_alive());
        until("a bell was saved, since the core is awake", || there.bells_saved.get() > saved);
        assert!(client.answer().expect("an answer").text.contains("stalled"));
        assert!(beside.answer().expect("an answer").place().is_some());
        until("nothing is read", || here.buffers_in_use.get() == 0);
        let gap = Duration::from_nanos(here.longest_gap_ns.get());
        assert!(gap >= Duration::from_millis(1000), "{gap:?} between two turns of the loop");
        let long = Duration::from_nanos(here.long_gap_ns.get());
        assert!(long >= gap && here.long_gaps.get() > 0, "{long:?} in all such times together");
        until("it is seen to go on", || running.health.is_ready());
        assert!(here.stalls.get() > 0);
        drop((client, beside));
        running.end().expect("it drains");
    });
}

#[test]
fn a_core_that_does_not_come_back_is_given_up_and_what_moves_is_drained() {
    alone("watched::a_core_that_does_not_come_back_is_given_up_and_what_moves_is_drained", || {
        let running = Running::configured("stall_limit_ms = 400", Intensity::CORE);
        let (mut client, mut beside) = (running.connect_to(0), running.connect_to(1));
        assert!(client.call("stalls", r#"{"ms":600000}"#));
        assert!(beside.call("sleep", r#"{"ms":1000}"#));
        until("it is seen", || running.health.get(CoreId(0)) == CoreState::Stalled);
        assert!(beside.answer().expect("an answer").text.contains("slept"), "what is in flight elsewhere ends well");
        let ended = running.thread.join().expect("the launching thread does not panic");
        let Err(BootError::CoreStalled { core: CoreId(0), lasts }) = ended else { panic!("{ended:?}") };
        assert!(lasts >= Duration::from_millis(400), "{lasts:?}");
    });
}

#[test]
fn a_drain_ends_although_a_core_hangs_that_may_hang_for_ever() {
    alone("watched::a_drain_ends_although_a_core_hangs_that_may_hang_for_ever", || {
        let running = Running::configured("stall_limit_ms = 0", Intensity::CORE);
        let mut client = running.connect_to(1);
        assert!(client.call("stalls", r#"{"ms":600000}"#));
        until("it is seen", || running.health.get(CoreId(1)) == CoreState::Stalled);
        let ended = running.end();
        assert!(matches!(ended, Err(BootError::CoreStalled { core: CoreId(1), .. })), "{ended:?}");
    });
}

#[test]
fn new_connections_go_to_others_while_a_core_stands_still_and_come_back() {
    alone("watched::new_connections_go_to_others_while_a_core_stands_still_and_come_back", || {
        let running = Running::configured("stall_limit_ms = 0", Intensity::CORE);
        let mut client = running.connect_to(0);
        assert!(client.call("stalls", r#"{"ms":600000}"#));
        client.stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
        let lands_beside = || {
            let mut client = running.connect();
            client.stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a socket");
            client.call("where", "{}") && client.stream.read(&mut [0; 16]).is_ok_and(|bytes| bytes > 0)
        };
        until("it is seen", || running.health.get(CoreId(0)) == CoreState::Stalled);
        let since = Instant::now();
        // By chance once in 65,536 times.
        while !(0..16).all(|_| lands_beside()) {
            assert!(since.elapsed() < Duration::from_secs(60), "still they come to where nobody answers");
        }
        // What one core accepts for all is dealt out by these.
        let avoided =
            || running.chimes.iter().map(|chime| chime.is_avoided.load(Ordering::Relaxed)).collect::<Vec<_>>();
        assert_eq!(avoided(), [true, false, false], "the last is the control thread's");
        GO_ON.store(true, Ordering::Relaxed);
        assert!(client.answer().expect("an answer").text.contains("stalled"));
        until("it is seen to go on", || running.health.is_ready());
        until("connections are dealt to it again", || avoided() == [false; 3]);
        running.connect_to(0);
        running.end().expect("it drains");
    });
}
