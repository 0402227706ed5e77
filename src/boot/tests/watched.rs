//! What is seen of a core from outside while it is held up and after.
//!
//! Not here: the steps of a request (`tests/wire/observed.rs`).
//! Invariant: what is waited for is a state, never a time.

use std::time::Duration;

use super::rig::{Running, alone, until};
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
        assert!(client.call("stalls", r#"{"ms":300}"#));
        until("the request is in the core's hands", || here.buffers_in_use.get() == 1);
        assert!(beside.call_in(&session, "where", "{}"));
        until("a bell was saved, since the core is awake", || there.bells_saved.get() > saved);
        assert!(client.answer().expect("an answer").text.contains("stalled"));
        assert!(beside.answer().expect("an answer").place().is_some());
        until("nothing is read", || here.buffers_in_use.get() == 0);
        let gap = Duration::from_nanos(here.longest_gap_ns.get());
        assert!(gap >= Duration::from_millis(300), "{gap:?} between two turns of the loop");
        drop((client, beside));
        running.end().expect("it drains");
    });
}
