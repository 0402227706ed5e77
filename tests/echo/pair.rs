//! Two cores without an operating system: a session that one of them owns, called over a connection of the other.
//!
//! Not here: the rings between cores (`tests/ring_allocations.rs`); a parcel is handed over as it leaves the outbox.

use std::rc::Rc;
use std::sync::LazyLock;

use corelane::ids::CoreId;
use corelane::metrics::Registry;
use corelane::server::connection::Wire;
use corelane::server::core::{Core, Effect, Input};
use corelane::server::outbox::Delivery;
use corelane::server::service::Mailbox;
use corelane::upstream::native::NativeService;
use corelane::upstream::native::demonstration::{Demonstration, server};

use super::machine::{ID, SECOND, core, settings};
use super::{INITIALIZE, Nothing, call_in_session, post};

type EchoCore = Core<NativeService<Demonstration>>;

static COUNTERS: LazyLock<Registry> = LazyLock::new(|| Registry::sharded([1, 1]));

/// See the module. Each core has one connection.
pub struct Pair {
    cores: [EchoCore; 2],
    effects: Vec<Effect>,
    sent: Vec<u8>,
    bytes: Vec<u8>,
    /// Parcels that went from one to the other.
    pub parcels: u64,
}

impl Pair {
    fn new() -> Pair {
        let cores = [0, 1].map(|index| {
            let service = server().expect("a good server").per_core(Rc::<Nothing>::default(), Mailbox::default());
            core(CoreId(index), 2, settings(Wire::Http), service, COUNTERS.core(CoreId(index)))
        });
        let mut pair = Pair { cores, effects: Vec::new(), sent: Vec::new(), bytes: Vec::new(), parcels: 0 };
        for core in 0..2 {
            pair.step(core, Input::Accepted { id: ID, listener: 0, peer: None });
        }
        pair
    }

    /// With a session that the first core owns, and a call in it.
    pub fn with_session(echo: &str) -> (Pair, Vec<u8>) {
        let mut pair = Pair::new();
        pair.say(0, &post("", INITIALIZE));
        let call = call_in_session(&pair.sent, echo);
        (pair, call)
    }

    fn say(&mut self, core: usize, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let mut received = std::mem::take(&mut self.bytes);
        self.step(core, Input::Received { id: ID, bytes: &mut received });
        self.bytes = received;
    }

    fn step(&mut self, core: usize, input: Input<'_>) {
        self.cores[core].step(SECOND, input);
        loop {
            let mut is_idle = true;
            for core in 0..2 {
                let [one, other] = &mut self.cores;
                let (from, to) = if core == 0 { (one, other) } else { (other, one) };
                from.flush_outbox(|_, header, payload| {
                    self.parcels += 1;
                    is_idle = false;
                    to.step(SECOND, Input::Parcel { from: CoreId(core as u16), header: *header, payload });
                    Delivery::Done
                });
                while self.cores[core].has_work() {
                    is_idle = false;
                    self.cores[core].effects(|effect| self.effects.push(effect));
                    for effect in self.effects.drain(..) {
                        if let Effect::Send(id, buffer) = effect {
                            self.sent.extend_from_slice(&buffer);
                            self.cores[core].step(SECOND, Input::Sent { id, buffer, whole: true });
                        }
                    }
                }
            }
            if is_idle {
                return;
            }
        }
    }

    /// Says the same on the second core's connection again and again, and is answered every time.
    pub fn converse(&mut self, bytes: &[u8], times: u64) {
        for _ in 0..times {
            self.sent.clear();
            self.say(1, bytes);
            assert!(self.sent.ends_with(b"}"), "{}", String::from_utf8_lossy(&self.sent));
        }
    }
}
