//! Tests of the pool of connections by itself: no core, no time but what is said.

use std::os::unix::net::UnixStream;
use std::task::{Context, Waker};

use super::super::gate::KeyDigest;
use super::*;
use crate::server::alarms::{Alarm, Alarms};
use crate::server::service::LocalFuture;

/// What a core lends, as far as it is needed here.
#[derive(Default)]
struct Lender(RefCell<Vec<LocalFuture<()>>>);

impl Host for Lender {
    fn spawn(&self, future: LocalFuture<()>) {
        self.0.borrow_mut().push(future);
    }

    fn now(&self) -> Nanos {
        0
    }

    fn wake_at(&self, deadline: Nanos, waker: Waker) -> Alarm {
        Alarms::default().set(deadline, waker)
    }

    fn offload(&self, _future: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) {}

    fn blocking(&self, _function: Box<dyn FnOnce() + Send>) {}

    fn count_panic(&self) {}

    fn count_slow_poll(&self) {}

    fn seal(&self, _plain: &[u8]) -> String {
        String::new()
    }

    fn open(&self, _sealed: &str) -> Option<Vec<u8>> {
        None
    }

    fn task_id(&self, _index: u32, _generation: u32) -> String {
        String::new()
    }

    fn open_task_id(&self, _id: &str) -> Option<(u32, u32)> {
        None
    }
}

struct Rig {
    pool: Dialled,
    gate: Arc<Gate>,
    lender: Rc<Lender>,
    /// The other ends, which nobody reads.
    others: Vec<UnixStream>,
}

/// What the pool wished for.
#[derive(Debug, PartialEq)]
enum Wished {
    Adopt(u64),
    Close(u32),
    Send(u32, Vec<u8>),
}

fn link(slot: u32) -> ConnectionId {
    ConnectionId { slot, generation: 1 }
}

impl Rig {
    fn new() -> Rig {
        let gate = Arc::new(Gate::new("w", KeyDigest::of(b"key"), 8));
        let lender = Rc::<Lender>::default();
        let host: Rc<dyn Host> = lender.clone();
        Rig {
            pool: Dialled::new("w", Arc::clone(&gate), &host, 1024, (3, Rc::default())),
            gate,
            lender,
            others: Vec::new(),
        }
    }

    fn wished(&mut self) -> Vec<Wished> {
        let mut wished = Vec::new();
        self.pool.wishes(&mut |wish| {
            wished.push(match wish {
                Wish::Adopt { token, .. } => Wished::Adopt(token),
                Wish::Close(id) => Wished::Close(id.slot),
                Wish::Send(id, bytes) => Wished::Send(id.slot, bytes),
                other => panic!("{other:?}"),
            });
        });
        wished
    }

    /// One dials in, and has the link of this slot; its line.
    fn arrive(&mut self, now: Nanos, wire: Wire, slot: u32) -> Line {
        let (ours, theirs) = UnixStream::pair().expect("two ends");
        self.others.push(theirs);
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        self.gate.seat().expect("room").take(ours.into(), peer, wire);
        for future in self.lender.0.borrow_mut().iter_mut() {
            assert!(future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        assert!(self.pool.has_news());
        let Some(Heard::Arrived(line)) = self.pool.heard(now) else { panic!("nobody arrived") };
        let token = 3 << 32 | u64::from(line);
        assert_eq!(self.wished(), [Wished::Adopt(token)]);
        assert_eq!(self.pool.connected(now, token, Ok(link(slot))), Some(slot as u16), "a place for each");
        line
    }

    fn ready(&mut self, slot: u32) -> Line {
        let line = self.arrive(0, Wire::Lines(Vec::new()), slot);
        self.pool.ready(line);
        line
    }

    fn request(&mut self, id: u64) {
        self.pool.submit(0, 100 + id as u32, Passage::Request(id), format!("{id}\n").as_bytes());
    }

    fn heard(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.pool.heard(0))
            .map(|heard| match heard {
                Heard::Failed { errand, is_overload, .. } => format!("failed {errand} {is_overload}"),
                Heard::Ended { retry_at, .. } => format!("ended {}", retry_at == NEVER),
                other => format!("{other:?}"),
            })
            .collect()
    }
}

fn web_socket() -> Wire {
    Wire::WebSocket { socket: Box::new(WebSocket::new(16)), early: Vec::new() }
}

#[test]
fn calls_go_where_the_fewest_are_and_what_was_not_sent_moves_on() {
    let mut rig = Rig::new();
    let (first, second) = (rig.ready(0), rig.ready(1));
    rig.request(1);
    rig.request(2);
    assert_eq!(rig.wished(), [Wished::Send(0, b"1\n".to_vec()), Wished::Send(1, b"2\n".to_vec())]);
    rig.request(3);
    rig.pool.submit(0, 9, Passage::Notice(first), b"about 1\n");
    assert_eq!(rig.wished(), [], "one send at a time");
    assert_eq!((rig.pool.outstanding().line_of(3), rig.pool.outstanding().count_on(first)), (Some(first), 2));
    rig.pool.ended(0, 0, link(0), End::Reset);
    assert_eq!(rig.heard(), ["failed 101 false"], "what was sent is lost, and nothing else");
    assert_eq!(rig.wished(), [Wished::Close(0)]);
    rig.pool.sent(1, link(1), Vec::new(), true);
    assert_eq!(rig.wished(), [Wished::Send(1, b"3\n".to_vec())], "without what was about the lost one");
    rig.pool.received(0, 1, link(1), b"{}\n{");
    assert_eq!(rig.heard(), [format!("{:?}", Heard::Message { line: second, text: b"{}".to_vec() })]);
    rig.pool.ended(0, 1, link(1), End::Finished);
    let mut heard = rig.heard();
    heard.sort();
    assert_eq!(heard, ["ended true", "failed 102 false", "failed 103 false"]);
    assert!(rig.pool.is_gone() && rig.pool.connections() == Some(0));
}

#[test]
fn calls_that_come_one_at_a_time_take_equals_in_turn() {
    let mut rig = Rig::new();
    let lines = [rig.ready(0), rig.ready(1), rig.ready(2)];
    let answered = |rig: &mut Rig, id: u64| {
        rig.request(id);
        let line = rig.pool.outstanding().line_of(id).expect("it is in flight");
        assert!(rig.pool.outstanding().answered(id, line).is_some());
        line
    };
    let taken: Vec<Line> = (1..=6).map(|id| answered(&mut rig, id)).collect();
    assert_eq!(taken, [lines, lines].concat());
    // Whoever has more in flight is passed over, and the turn goes on behind the one that was taken.
    rig.request(7);
    assert_eq!(rig.pool.outstanding().line_of(7), Some(lines[0]));
    let taken: Vec<Line> = (8..=11).map(|id| answered(&mut rig, id)).collect();
    assert_eq!(taken, [lines[1], lines[2], lines[1], lines[2]]);
    // One that goes leaves the turn to the others, and one that comes has its own.
    rig.pool.ended(0, 1, link(1), End::Reset);
    rig.wished();
    let fourth = rig.ready(1);
    let taken: Vec<Line> = (12..=14).map(|id| answered(&mut rig, id)).collect();
    assert_eq!(taken, [fourth, lines[2], fourth]);
}

#[test]
fn calls_wait_for_one_that_is_being_greeted() {
    let mut rig = Rig::new();
    rig.ready(0);
    let other = rig.arrive(0, Wire::Lines(Vec::new()), 1);
    assert_eq!(rig.pool.front(), Some(other));
    rig.pool.ended(0, 0, link(0), End::Finished);
    assert_eq!(rig.heard(), Vec::<String>::new(), "there is one still");
    rig.request(1);
    rig.request(2);
    rig.pool.outstanding().drop_errand(101);
    assert_eq!(rig.wished(), [Wished::Close(0)]);
    rig.pool.ready(other);
    assert_eq!(rig.wished(), [Wished::Send(1, b"2\n".to_vec())], "nobody waits for the first any more");
    let third = rig.arrive(0, Wire::Lines(b"{\"early\":1}\n".to_vec()), 0);
    assert_eq!(rig.heard().len(), 1, "what came behind the first line");
    rig.pool.ended(0, 1, link(1), End::Finished);
    assert_eq!(rig.heard(), ["failed 102 false"]);
    rig.request(3);
    rig.pool.refuse(0, third, "speaks another era");
    let mut heard = rig.heard();
    heard.sort();
    assert_eq!(heard, ["ended true", "failed 103 false"]);
}

#[test]
fn the_first_that_is_lost_before_it_was_known_leaves_its_place_to_the_next() {
    let mut rig = Rig::new();
    let (first, second) = (rig.arrive(0, Wire::Lines(Vec::new()), 0), rig.arrive(0, web_socket(), 1));
    assert_eq!(rig.pool.front(), Some(first));
    rig.pool.submit(0, 50, Passage::RequestOn(7, first), b"hello\n");
    rig.pool.ended(0, 0, link(0), End::Finished);
    assert_eq!(rig.heard(), ["failed 50 false", "ended false"], "asked again at once");
    assert_eq!(rig.pool.front(), Some(second));
    rig.pool.submit(0, 51, Passage::RequestOn(8, first), b"hello\n");
    assert_eq!(rig.heard(), ["failed 51 false"], "and not on another");
}

#[test]
fn a_web_socket_that_is_silent_is_asked_and_then_let_go() {
    let mut rig = Rig::new();
    let line = rig.arrive(0, web_socket(), 0);
    rig.pool.ready(line);
    assert_eq!(rig.pool.deadline(), Some(SILENCE));
    rig.pool.tick(SILENCE);
    assert_eq!(rig.wished(), [Wished::Send(0, b"\x89\x00".to_vec())]);
    rig.pool.sent(0, link(0), Vec::new(), true);
    rig.pool.received(SILENCE + 1, 0, link(0), b"\x8a\x80\0\0\0\0");
    assert_eq!(rig.pool.deadline(), Some(2 * SILENCE + 1), "it is there");
    rig.pool.tick(2 * SILENCE + 1);
    assert_eq!(rig.wished(), [Wished::Send(0, b"\x89\x00".to_vec())]);
    rig.pool.tick(3 * SILENCE + 1);
    assert_eq!(rig.heard(), ["ended true"]);
    assert_eq!(rig.wished(), [Wished::Close(0)]);
    let mut rig = Rig::new();
    rig.arrive(0, Wire::Lines(Vec::new()), 0);
    assert_eq!(rig.pool.deadline(), None, "the kernel asks for lines");
}

#[test]
fn nothing_grows_for_one_that_does_not_read() {
    let mut rig = Rig::new();
    let line = rig.arrive(0, web_socket(), 0);
    rig.pool.ready(line);
    let pings = b"\x89\x80\0\0\0\0".repeat(1024);
    // Its first answers are on their way and never arrive.
    rig.pool.received(0, 0, link(0), &pings);
    assert!(matches!(rig.wished()[..], [Wished::Send(0, _)]));
    let most = DIALLED_UNSENT_BYTES_MAX / (2 * 1024) + 2;
    let ended = (0..most).position(|_| {
        rig.pool.received(0, 0, link(0), &pings);
        !rig.heard().is_empty()
    });
    assert!(ended.is_some(), "it was let go");
    let mut rig = Rig::new();
    rig.ready(0);
    let text = vec![b'x'; DIALLED_UNSENT_BYTES_MAX / 2];
    rig.pool.submit(0, 1, Passage::Request(1), &text);
    assert_eq!(rig.wished().len(), 1);
    for id in 2..=3 {
        rig.pool.submit(0, id as u32, Passage::Request(id), &text);
    }
    assert_eq!(rig.heard(), Vec::<String>::new());
    rig.pool.submit(0, 4, Passage::Request(4), &text);
    assert_eq!(rig.heard(), ["failed 4 true"]);
}

#[test]
fn leave_is_taken_and_nobody_is_let_in_any_more() {
    let mut rig = Rig::new();
    rig.ready(0);
    let line = rig.arrive(0, web_socket(), 1);
    rig.pool.ready(line);
    rig.pool.shut(5);
    rig.pool.shut(6);
    assert_eq!(rig.heard(), ["ended true"], "once");
    assert!(rig.gate.seat().is_err() && !rig.pool.is_gone());
    let wished = rig.wished();
    let [Wished::Close(0), Wished::Send(1, words)] = &wished[..] else { panic!("{wished:?}") };
    assert_eq!((words[0], &words[2..4]), (0x88, &1001_u16.to_be_bytes()[..]));
    rig.pool.received(7, 1, link(1), b"\x81\x82\0\0\0\0{}");
    assert_eq!(rig.heard(), Vec::<String>::new(), "nothing is heard any more");
    rig.pool.sent(1, link(1), Vec::new(), true);
    assert!(!rig.pool.is_over());
    assert_eq!(rig.wished(), [Wished::Close(1)]);
    assert!(rig.pool.is_gone() && rig.pool.is_over());
    // One that does not take it has a moment only.
    let mut rig = Rig::new();
    let line = rig.arrive(0, web_socket(), 0);
    rig.pool.ready(line);
    rig.pool.shut(5);
    assert_eq!(rig.wished().len(), 1);
    assert_eq!(rig.pool.deadline(), Some(5 + LAST_WORDS));
    rig.pool.tick(5 + LAST_WORDS);
    assert_eq!(rig.wished(), [Wished::Close(0)]);
    assert!(rig.pool.is_gone());
}

#[test]
fn a_line_that_is_too_long_ends_its_connection() {
    let mut rig = Rig::new();
    rig.ready(0);
    rig.pool.received(0, 0, link(0), &[b'x'; 1024]);
    assert_eq!(rig.heard(), Vec::<String>::new());
    rig.pool.received(0, 0, link(0), b"x");
    assert_eq!(rig.heard(), ["ended true"]);
    // What still comes of it concerns nobody.
    rig.pool.received(0, 0, link(0), b"{}\n");
    rig.pool.sent(0, link(0), Vec::new(), false);
    rig.pool.ended(0, 0, link(0), End::Finished);
    assert_eq!((rig.heard(), rig.wished()), (Vec::new(), vec![Wished::Close(0)]));
}
